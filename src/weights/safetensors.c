/* safetensors.c - one safetensors file as read-only named tensors.
 *
 * File:       u64 n (little-endian) | n bytes of JSON
 *             {"__metadata__":{…},"name":{"dtype","shape","data_offsets"},…}, maybe ended by spaces | data. Offsets
 *             count from the end of the JSON.
 * Flow:       read_length() -> read_json() -> read_entries() -> check_layout() sorts by offset and walks ->
 *             index.
 * Invariants: once open, (1) tensors[i] begins where tensors[i-1] ends, the first at 0, the last ends with the file;
 *             (2) bytes == product of dims * element size, computed without overflow; (3) names are unique. So every
 *             tensor lies inside the file and none overlaps another.
 * Memory:     names and metadata are borrowed from the JSON tree, which lives until close.
 * Source:     the checks are those of the reference reader (safetensors crate, `SafeTensors::read_metadata`).
 * Not here:   element types and conversion (tensor.c), writing (safetensors_writer.c).
 * Tests:      tests/weights/test_safetensors.c, fuzz/fuzz_safetensors.c. */
#include "weights/safetensors.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "base/cursor.h"
#include "base/err.h"
#include "base/file.h"
#include "base/json.h"
#include "base/limits.h"

#define LENGTH_BYTES ((size_t)8)

struct pil_safetensors {
    pil_file_map map; /* empty when the memory is the caller's, or only the header was read */
    const unsigned char *bytes; /* [n]; NULL when only the header was read */
    size_t n, data_offset;
    pil_json *header;
    const pil_json *metadata;
    pil_tensor *tensors;        /* [count] in order of offset */
    const pil_tensor **by_name; /* [count] in order of name */
    size_t count;
};

/* Every element type of the format. Types smaller than a byte occur only in tensors whose size is whole bytes. */
static const struct {
    const char *name;
    unsigned bits;
    pil_dtype dtype;
} dtypes[] = {
    {"F32", 32, PIL_DTYPE_F32},       {"F16", 16, PIL_DTYPE_F16},      {"BF16", 16, PIL_DTYPE_BF16},
    {"F64", 64, PIL_DTYPE_F64},       {"I64", 64, PIL_DTYPE_I64},      {"I32", 32, PIL_DTYPE_I32},
    {"I8", 8, PIL_DTYPE_I8},          {"U8", 8, PIL_DTYPE_U8},         {"BOOL", 8, PIL_DTYPE_BOOL},
    {"I16", 16, PIL_DTYPE_OTHER},     {"U16", 16, PIL_DTYPE_OTHER},    {"U32", 32, PIL_DTYPE_OTHER},
    {"U64", 64, PIL_DTYPE_OTHER},     {"C64", 64, PIL_DTYPE_OTHER},    {"F4", 4, PIL_DTYPE_OTHER},
    {"F6_E2M3", 6, PIL_DTYPE_OTHER},  {"F6_E3M2", 6, PIL_DTYPE_OTHER}, {"F8_E4M3", 8, PIL_DTYPE_OTHER},
    {"F8_E5M2", 8, PIL_DTYPE_OTHER},  {"F8_E8M0", 8, PIL_DTYPE_OTHER}, {"F8_E4M3FNUZ", 8, PIL_DTYPE_OTHER},
    {"F8_E5M2FNUZ", 8, PIL_DTYPE_OTHER},
};

static pillion_status bad_tensor(pillion_error *err, const char *name, const char *what) {
    return pil_err_set(err, PILLION_E_FORMAT, "tensor \"%.80s\": %s", name, what);
}

/* A whole number >= 0, as the format's usize. */
static bool read_size(uint64_t *out, const pil_json *v) {
    if (pil_json_typeof(v) != PIL_JSON_INT) return false;
    int64_t i = pil_json_int_or(v, -1);
    *out = (uint64_t)i;
    return i >= 0;
}

/* How long the header is, from the first bytes of the file: as many as LENGTH_BYTES, if it has so many. Sets
 * data_offset. */
static pillion_status read_length(pil_safetensors *s, const void *first, pillion_error *err) {
    pil_cursor c = pil_cursor_over(first, s->n < LENGTH_BYTES ? s->n : LENGTH_BYTES);
    uint64_t length = pil_cursor_u64(&c);
    if (c.failed) return pil_err_set(err, PILLION_E_FORMAT, "%zu bytes are too few for a safetensors file", s->n);
    if (length > PIL_LIMIT_SAFETENSORS_HEADER)
        return pil_err_set(err, PILLION_E_FORMAT, "not a safetensors file, or its header is larger than %u bytes",
                           PIL_LIMIT_SAFETENSORS_HEADER);
    if (length > s->n - LENGTH_BYTES)
        return pil_err_set(err, PILLION_E_FORMAT, "cut short: the header ends at byte %llu, the file has %zu",
                           (unsigned long long)length + LENGTH_BYTES, s->n);
    s->data_offset = (size_t)length + LENGTH_BYTES;
    return PILLION_OK;
}

/* text: what is between the length and data_offset. */
static pillion_status read_json(pil_safetensors *s, const char *text, pillion_error *err) {
    size_t length = s->data_offset - LENGTH_BYTES, offset = 0;
    if (length == 0 || text[0] != '{')
        return pil_err_set(err, PILLION_E_FORMAT, "not a safetensors file: no '{' at byte 8");
    pillion_error why = {0};
    pillion_status st = pil_json_parse_limited(&s->header, text, length, PIL_LIMIT_SAFETENSORS_VALUES, &offset, &why);
    if (st) return pil_err_set(err, st, "header, byte %zu: %s", offset + LENGTH_BYTES, why.text);
    return PILLION_OK;
}

static pillion_status check_metadata(const pil_json *metadata, pillion_error *err) {
    if (pil_json_typeof(metadata) != PIL_JSON_OBJECT)
        return pil_err_set(err, PILLION_E_FORMAT, "__metadata__ is not an object");
    for (void *it = pil_json_first(metadata); it; it = pil_json_next(metadata, it))
        if (pil_json_typeof(pil_json_value(it)) != PIL_JSON_STRING)
            return pil_err_set(err, PILLION_E_FORMAT, "__metadata__: \"%.80s\" is not a string",
                               pil_json_key(it, NULL));
    return PILLION_OK;
}

/* Dimensions and their product. As in the reference reader the product must not overflow on the way, zeros included. */
static pillion_status read_shape(pil_tensor *t, const pil_json *shape, pillion_error *err) {
    if (pil_json_typeof(shape) != PIL_JSON_ARRAY) return bad_tensor(err, t->name, "shape is not an array");
    size_t n = pil_json_count(shape);
    if (n > PIL_TENSOR_DIMS)
        return pil_err_set(err, PILLION_E_UNSUPPORTED, "tensor \"%.80s\": %zu dimensions, at most %d are supported",
                           t->name, n, PIL_TENSOR_DIMS);
    t->n_dims = (uint32_t)n;
    t->count = 1;
    for (size_t i = 0; i < n; i++) {
        if (!read_size(&t->dims[i], pil_json_at(shape, i))) return bad_tensor(err, t->name, "shape is not of sizes");
        if (__builtin_mul_overflow(t->count, t->dims[i], &t->count)) return bad_tensor(err, t->name, "shape overflows");
    }
    return PILLION_OK;
}

/* dtype, shape and data_offsets of one entry; where it lies is set from the begin offset, which check_layout() then
 * proves. */
static pillion_status read_entry(pil_tensor *t, const char *name, const pil_json *entry, const pil_safetensors *s,
                                 pillion_error *err) {
    *t = (pil_tensor){.name = name, .dtype = PIL_DTYPE_COUNT};
    if (pil_json_typeof(entry) != PIL_JSON_OBJECT) return bad_tensor(err, name, "entry is not an object");
    const char *dtype = pil_json_string_or(pil_json_get(entry, "dtype"), "");
    unsigned bits = 0;
    for (size_t i = 0; i < sizeof dtypes / sizeof *dtypes; i++) {
        if (strcmp(dtype, dtypes[i].name) != 0) continue;
        t->dtype = dtypes[i].dtype;
        bits = dtypes[i].bits;
    }
    if (!bits) return pil_err_set(err, PILLION_E_FORMAT, "tensor \"%.80s\": dtype \"%.32s\" is unknown", name, dtype);
    pillion_status st = read_shape(t, pil_json_get(entry, "shape"), err);
    if (st) return st;

    const pil_json *offsets = pil_json_get(entry, "data_offsets");
    uint64_t begin, end, size_bits;
    if (pil_json_typeof(offsets) != PIL_JSON_ARRAY || pil_json_count(offsets) != 2 ||
        !read_size(&begin, pil_json_at(offsets, 0)) || !read_size(&end, pil_json_at(offsets, 1)) || begin > end)
        return bad_tensor(err, name, "data_offsets is not [begin, end]");
    if (end > s->n - s->data_offset) return bad_tensor(err, name, "data lies beyond the end of the file");
    if (__builtin_mul_overflow(t->count, (uint64_t)bits, &size_bits)) return bad_tensor(err, name, "shape overflows");
    if (size_bits % 8 || size_bits / 8 != end - begin)
        return pil_err_set(err, PILLION_E_FORMAT,
                           "tensor \"%.80s\": shape and dtype need %llu bytes, data_offsets has %llu", name,
                           (unsigned long long)(size_bits / 8), (unsigned long long)(end - begin));
    t->bytes = (size_t)(end - begin);
    t->offset = s->data_offset + begin;
    t->data = s->bytes ? s->bytes + t->offset : NULL;
    return PILLION_OK;
}

static pillion_status read_entries(pil_safetensors *s, pillion_error *err) {
    size_t n = pil_json_count(s->header);
    if (n > PIL_LIMIT_TENSORS)
        return pil_err_set(err, PILLION_E_LIMIT, "%zu tensors, the limit is %d", n, PIL_LIMIT_TENSORS);
    s->tensors = calloc(n + 1, sizeof *s->tensors);
    s->by_name = calloc(n + 1, sizeof *s->by_name);
    if (!s->tensors || !s->by_name) return pil_err_no_memory(err);
    pillion_status st = PILLION_OK;
    for (void *it = pil_json_first(s->header); it && !st; it = pil_json_next(s->header, it)) {
        const char *name = pil_json_key(it, NULL);
        if (strcmp(name, "__metadata__") == 0) {
            s->metadata = pil_json_value(it);
            st = check_metadata(s->metadata, err);
        } else {
            st = read_entry(&s->tensors[s->count], name, pil_json_value(it), s, err);
            if (!st) s->count++;
        }
    }
    return st;
}

/* Empty tensors may share an offset: they come before the one that has bytes there. */
static int by_offset(const void *a, const void *b) {
    const pil_tensor *x = a, *y = b;
    if (x->offset != y->offset) return x->offset < y->offset ? -1 : 1;
    if (x->bytes != y->bytes) return x->bytes < y->bytes ? -1 : 1;
    return strcmp(x->name, y->name);
}

static int by_name(const void *a, const void *b) {
    const pil_tensor *const *x = a, *const *y = b;
    return strcmp((*x)->name, (*y)->name);
}

static pillion_status check_layout(pil_safetensors *s, pillion_error *err) {
    qsort(s->tensors, s->count, sizeof *s->tensors, by_offset);
    uint64_t at = s->data_offset;
    for (size_t i = 0; i < s->count; i++) {
        const pil_tensor *t = &s->tensors[i];
        if (t->offset != at)
            return bad_tensor(err, t->name, "data overlaps or leaves a hole behind the tensor before it");
        at += t->bytes;
    }
    if (at != s->n)
        return pil_err_set(err, PILLION_E_FORMAT, "%zu bytes behind the last tensor belong to none",
                           (size_t)(s->n - at));
    for (size_t i = 0; i < s->count; i++) s->by_name[i] = &s->tensors[i];
    qsort(s->by_name, s->count, sizeof *s->by_name, by_name);
    return PILLION_OK;
}

static pillion_status read_file(pil_safetensors *s, const void *bytes, size_t n, pillion_error *err) {
    s->bytes = bytes;
    s->n = n;
    pillion_status st = read_length(s, bytes, err);
    if (!st) st = read_json(s, (const char *)bytes + LENGTH_BYTES, err);
    if (!st) st = read_entries(s, err);
    if (!st) st = check_layout(s, err);
    return st;
}

/* As read_file(), in pieces. */
static pillion_status read_header(pil_safetensors *s, const pil_file_reader *r, const char *path, pillion_error *err) {
    char first[LENGTH_BYTES], *text = NULL;
    s->n = r->stamp.bytes;
    pillion_error why = {0};
    pillion_status st = s->n < LENGTH_BYTES ? PILLION_OK : pil_file_reader_read(r, path, 0, first, sizeof first, err);
    if (!st) st = read_length(s, first, &why);
    if (!st && !(text = malloc(s->data_offset))) st = pil_err_no_memory(&why);
    if (!st) st = pil_file_reader_read(r, path, LENGTH_BYTES, text, s->data_offset - LENGTH_BYTES, err);
    if (!st) st = read_json(s, text, &why);
    free(text);
    if (!st) st = read_entries(s, &why);
    if (!st) st = check_layout(s, &why);
    if (why.code) pil_err_set(err, st, "%s: %s", path, why.text);
    return st;
}

pillion_status pil_safetensors_open_header(pil_safetensors **out, const pil_file_reader *r, const char *path,
                                           pillion_error *err) {
    *out = NULL;
    pil_safetensors *s = calloc(1, sizeof *s);
    if (!s) return pil_err_set(err, PILLION_E_NOMEM, "%s: out of memory", path);
    pillion_status st = read_header(s, r, path, err);
    if (st) pil_safetensors_close(s);
    else *out = s;
    return st;
}

pillion_status pil_safetensors_open(pil_safetensors **out, const char *path, pillion_error *err) {
    *out = NULL;
    pil_safetensors *s = calloc(1, sizeof *s);
    if (!s) return pil_err_set(err, PILLION_E_NOMEM, "%s: out of memory", path);
    pillion_error why = {0};
    pillion_status st = pil_file_map_open(&s->map, path, err);
    if (!st) st = read_file(s, s->map.data, s->map.bytes, &why);
    if (why.code) pil_err_set(err, st, "%s: %s", path, why.text);
    if (st) pil_safetensors_close(s);
    else *out = s;
    return st;
}

pillion_status pil_safetensors_open_memory(pil_safetensors **out, const void *bytes, size_t n, pillion_error *err) {
    *out = NULL;
    pil_safetensors *s = calloc(1, sizeof *s);
    if (!s) return pil_err_no_memory(err);
    pillion_status st = read_file(s, bytes, n, err);
    if (st) pil_safetensors_close(s);
    else *out = s;
    return st;
}

void pil_safetensors_close(pil_safetensors *s) {
    if (!s) return;
    free(s->tensors);
    free(s->by_name);
    pil_json_free(s->header);
    pil_file_map_close(&s->map);
    free(s);
}

size_t pil_safetensors_count(const pil_safetensors *s) { return s->count; }

const pil_tensor *pil_safetensors_at(const pil_safetensors *s, size_t i) { return &s->tensors[i]; }

const pil_tensor *pil_safetensors_find(const pil_safetensors *s, const char *name) {
    pil_tensor wanted = {.name = name};
    const pil_tensor *key = &wanted, **hit = bsearch(&key, s->by_name, s->count, sizeof *s->by_name, by_name);
    return hit ? *hit : NULL;
}

const char *pil_safetensors_metadata(const pil_safetensors *s, const char *key) {
    return pil_json_string_or(pil_json_get(s->metadata, key), NULL);
}

const void *pil_safetensors_bytes(const pil_safetensors *s, size_t *n, size_t *data_offset) {
    if (n) *n = s->n;
    if (data_offset) *data_offset = s->data_offset;
    return s->bytes;
}
