/* safetensors_writer.c - writing one safetensors file in place, through a map of the temporary file.
 *
 * Flow:       metadata() and declare() collect -> layout() chooses offsets, writes the header, reserves every byte
 *             on disk and maps it -> the caller fills tensors -> commit() syncs and renames, abort() leaves nothing
 *             behind.
 * Invariants: (1) data_offset is a multiple of 4096 and every tensor starts at a multiple of 64, so that the kernels
 *             may read the mapped file directly. (2) Blocks are reserved before the map is touched: a full disk is
 *             an error of layout(), not a SIGBUS. (3) Nothing is visible under the final name before commit.
 * Why a map:  packed weights go straight to the page cache, and what was written can be opened, run and digested
 *             before anybody sees it.
 * Tests:      tests/weights/test_writer.c. */
#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/arena.h"
#include "base/buf.h"
#include "base/err.h"
#include "base/file.h"
#include "base/json.h"
#include "base/limits.h"
#include "weights/safetensors.h"

#define DATA_ALIGN ((uint64_t)4096)
#define TENSOR_ALIGN ((uint64_t)64)
#define LENGTH_BYTES ((size_t)8)

typedef struct meta {
    const char *key, *value;
    size_t at; /* of the value in the file, after layout */
} meta;

typedef struct declared {
    const char *name;
    pil_dtype dtype;
    uint32_t n_dims;
    uint64_t dims[PIL_TENSOR_DIMS];
    uint64_t begin, bytes; /* in the data part */
} declared;

struct pil_safetensors_writer {
    pil_file_writer file;
    pil_arena strings;
    meta *metas;
    size_t n_metas, cap_metas;
    declared *tensors;
    size_t n_tensors, cap_tensors;
    uint64_t data_bytes;
    size_t data_offset, n;
    unsigned char *bytes; /* [n], the map; NULL before layout */
};

static uint64_t round_up(uint64_t n, uint64_t align) { return (n + align - 1) / align * align; }

static pillion_status no_memory(const pil_safetensors_writer *w, pillion_error *err) {
    return pil_err_set(err, PILLION_E_NOMEM, "%s: out of memory", w->file.path);
}

/* Makes room for one more element of `size` bytes in a growing array. */
static bool grow(void **array, size_t n, size_t *cap, size_t size) {
    if (n < *cap) return true;
    size_t wanted = *cap ? *cap * 2 : 64;
    void *grown = realloc(*array, wanted * size);
    if (!grown) return false;
    *array = grown;
    *cap = wanted;
    return true;
}

pillion_status pil_safetensors_writer_create(pil_safetensors_writer **out, const char *path, pillion_error *err) {
    *out = NULL;
    pil_safetensors_writer *w = calloc(1, sizeof *w);
    if (!w) return pil_err_set(err, PILLION_E_NOMEM, "%s: out of memory", path);
    pil_arena_init(&w->strings, PIL_LIMIT_SAFETENSORS_HEADER);
    pillion_status st = pil_file_writer_open(&w->file, path, err);
    if (st) pil_safetensors_writer_abort(w);
    else *out = w;
    return st;
}

pillion_status pil_safetensors_writer_metadata(pil_safetensors_writer *w, const char *key, const char *value,
                                               pillion_error *err) {
    assert(!w->bytes);
    meta m = {.key = pil_arena_strndup(&w->strings, key, strlen(key)),
              .value = pil_arena_strndup(&w->strings, value, strlen(value))};
    if (!m.key || !m.value || !grow((void **)&w->metas, w->n_metas, &w->cap_metas, sizeof m)) return no_memory(w, err);
    w->metas[w->n_metas++] = m;
    return PILLION_OK;
}

static pillion_status add_tensor(pil_safetensors_writer *w, const declared *d, pillion_error *err) {
    if (w->n_tensors >= PIL_LIMIT_TENSORS)
        return pil_err_set(err, PILLION_E_LIMIT, "%s: more than %d tensors", w->file.path, PIL_LIMIT_TENSORS);
    declared copy = *d;
    copy.name = pil_arena_strndup(&w->strings, d->name, strlen(d->name));
    if (!copy.name || !grow((void **)&w->tensors, w->n_tensors, &w->cap_tensors, sizeof copy)) return no_memory(w, err);
    w->tensors[w->n_tensors++] = copy;
    return PILLION_OK;
}

pillion_status pil_safetensors_writer_declare(pil_safetensors_writer *w, const char *name, pil_dtype dtype,
                                              uint32_t n_dims, const uint64_t *dims, pillion_error *err) {
    assert(!w->bytes && n_dims <= PIL_TENSOR_DIMS && pil_dtype_bytes(dtype) > 0);
    declared d = {.name = name, .dtype = dtype, .n_dims = n_dims, .bytes = pil_dtype_bytes(dtype)};
    for (uint32_t i = 0; i < n_dims; i++) {
        d.dims[i] = dims[i];
        if (__builtin_mul_overflow(d.bytes, dims[i], &d.bytes)) d.bytes = UINT64_MAX;
    }
    if (d.bytes > INT64_MAX / 2 - w->data_bytes)
        return pil_err_set(err, PILLION_E_LIMIT, "%s: tensor \"%.80s\" is too large", w->file.path, name);
    d.begin = w->data_bytes;
    w->data_bytes += round_up(d.bytes, TENSOR_ALIGN);
    return add_tensor(w, &d, err);
}

static void put_entry(pil_buf *b, const declared *d) {
    pil_json_put_string(b, d->name, strlen(d->name));
    pil_buf_printf(b, ":{\"dtype\":\"%s\",\"shape\":[", pil_dtype_name(d->dtype));
    for (uint32_t i = 0; i < d->n_dims; i++) pil_buf_printf(b, "%s%llu", i ? "," : "", (unsigned long long)d->dims[i]);
    pil_buf_printf(b, "],\"data_offsets\":[%llu,%llu]}", (unsigned long long)d->begin,
                   (unsigned long long)(d->begin + d->bytes));
}

/* What stands between the tensor's end and the next multiple of 64. */
static void put_pad(pil_buf *b, const declared *d, size_t index) {
    uint64_t begin = d->begin + d->bytes, pad = round_up(begin, TENSOR_ALIGN) - begin;
    char name[32];
    snprintf(name, sizeof name, PIL_TENSOR_PAD "%zu", index);
    declared p = {.name = name, .dtype = PIL_DTYPE_U8, .n_dims = 1, .dims = {pad}, .begin = begin, .bytes = pad};
    if (!pad) return;
    pil_buf_putc(b, ',');
    put_entry(b, &p);
}

static void put_header(pil_safetensors_writer *w, pil_buf *b) {
    pil_buf_append(b, "\0\0\0\0\0\0\0", LENGTH_BYTES); /* the length goes here once it is known */
    pil_buf_puts(b, "{\"__metadata__\":{");
    for (size_t i = 0; i < w->n_metas; i++) {
        meta *m = &w->metas[i];
        if (i) pil_buf_putc(b, ',');
        pil_json_put_string(b, m->key, strlen(m->key));
        pil_buf_putc(b, ':');
        m->at = b->len + 1;
        pil_json_put_string(b, m->value, strlen(m->value));
    }
    pil_buf_putc(b, '}');
    for (size_t i = 0; i < w->n_tensors; i++) {
        pil_buf_putc(b, ',');
        put_entry(b, &w->tensors[i]);
        put_pad(b, &w->tensors[i], i);
    }
    pil_buf_putc(b, '}');
    while (!b->failed && b->len % DATA_ALIGN) pil_buf_putc(b, ' ');
    uint64_t length = b->len - LENGTH_BYTES;
    for (size_t i = 0; i < LENGTH_BYTES && !b->failed; i++) b->bytes[i] = (char)(length >> (8 * i));
}

/* Gives the file its blocks. Where posix_fallocate is missing (macOS) the size alone is set. */
static int reserve(int fd, size_t n) {
#ifdef __APPLE__
    return ftruncate(fd, (off_t)n) == 0 ? 0 : errno;
#else
    int e;
    do e = posix_fallocate(fd, 0, (off_t)n);
    while (e == EINTR);
    return e;
#endif
}

pillion_status pil_safetensors_writer_layout(pil_safetensors_writer *w, pillion_error *err) {
    assert(!w->bytes);
    pil_buf header;
    pil_buf_init(&header, PIL_LIMIT_SAFETENSORS_HEADER);
    put_header(w, &header);
    pillion_status st = header.failed;
    if (st) pil_err_set(err, st, "%s: cannot build the header", w->file.path);
    if (!st) {
        w->data_offset = header.len;
        w->n = header.len + (size_t)w->data_bytes;
        int fd = fileno(w->file.f), e = reserve(fd, w->n);
        void *p = MAP_FAILED;
        if (!e && (p = mmap(NULL, w->n, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0)) == MAP_FAILED) e = errno;
        if (e)
            st = pil_err_set(err, PILLION_E_IO, "%s: cannot reserve %zu bytes: %s", w->file.path, w->n, strerror(e));
        else w->bytes = p;
    }
    if (!st) memcpy(w->bytes, header.bytes, header.len);
    pil_buf_deinit(&header);
    return st;
}

void *pil_safetensors_writer_data(const pil_safetensors_writer *w, size_t i) {
    assert(w->bytes && i < w->n_tensors);
    return w->bytes + w->data_offset + w->tensors[i].begin;
}

const void *pil_safetensors_writer_bytes(const pil_safetensors_writer *w, size_t *n, size_t *data_offset) {
    assert(w->bytes);
    if (n) *n = w->n;
    if (data_offset) *data_offset = w->data_offset;
    return w->bytes;
}

void pil_safetensors_writer_patch(pil_safetensors_writer *w, const char *key, const char *value) {
    assert(w->bytes);
    for (size_t i = 0; i < w->n_metas; i++) {
        const meta *m = &w->metas[i];
        if (strcmp(m->key, key) != 0) continue;
        assert(strlen(value) == strlen(m->value));
        memcpy(w->bytes + m->at, value, strlen(value));
        return;
    }
    assert(!"a key that was declared");
}

pillion_status pil_safetensors_writer_commit(pil_safetensors_writer *w, pillion_error *err) {
    assert(w->bytes);
    pillion_status st = PILLION_OK;
    if (msync(w->bytes, w->n, MS_SYNC) != 0)
        st = pil_err_set(err, PILLION_E_IO, "%s: cannot write: %s", w->file.path, strerror(errno));
    if (!st) st = pil_file_writer_commit(&w->file, err);
    pil_safetensors_writer_abort(w);
    return st;
}

void pil_safetensors_writer_abort(pil_safetensors_writer *w) {
    if (!w) return;
    if (w->bytes) munmap(w->bytes, w->n);
    pil_file_writer_abort(&w->file);
    pil_arena_deinit(&w->strings);
    free(w->metas);
    free(w->tensors);
    free(w);
}
