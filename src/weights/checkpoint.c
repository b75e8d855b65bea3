/* checkpoint.c - the weights of a Hugging Face directory, in one file or in shards, as one set of named tensors.
 *
 * Flow:       model.safetensors? -> that file alone. Else model.safetensors.index.json -> open_shards() opens each
 *             file that weight_map names once, in the order of their names -> index_tensors() sorts all tensors by name
 *             -> check_map() proves the map.
 * Invariants: a tensor name is in one file only; every name of weight_map is in the file it names.
 * Source:     the layout of `save_pretrained` in the transformers library: {"metadata":…,"weight_map":{tensor:
 *             file}}.
 * Not here:   pickles (pytorch_model.bin), which can run code and are refused.
 * Tests:      tests/weights/test_checkpoint.c. */
#include "weights/checkpoint.h"

#include <assert.h>
#include <limits.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/file.h"
#include "base/json.h"
#include "base/limits.h"

#define SINGLE_FILE "model.safetensors"
#define INDEX_FILE "model.safetensors.index.json"
#define PIECE_BYTES (256 * PIL_KIB) /* of a file at once, between it and the floats */

typedef struct entry {
    const pil_tensor *tensor;
    size_t file; /* index into paths */
} entry;

struct pil_checkpoint {
    char **paths; /* [n_files] */
    pil_safetensors **shards; /* [n_files], headers alone */
    pil_file_stamp *stamps; /* [n_files], of what the headers were read from */
    size_t n_files;
    entry *in_order, *by_name; /* [count] */
    size_t count;
    pil_file_reader reader; /* of the file that was read last: there may be more files than descriptors */
    size_t reader_file;     /* its index, when it is open */
    unsigned char *piece;   /* [PIECE_BYTES] */
    pil_checkpoint_note_fn note; /* while it is being opened */
    void *note_ud;
};

static pillion_status no_memory(const char *dir, pillion_error *err) {
    return pil_err_set(err, PILLION_E_NOMEM, "%s: out of memory", dir);
}

/* The path of the file `name` of dir, which whoever asked for it hears of first. */
static pillion_status path_of(const pil_checkpoint *c, char path[PATH_MAX], const char *dir, const char *name,
                              pillion_error *err) {
    pillion_status st = c->note ? c->note(c->note_ud, name, err) : PILLION_OK;
    return st ? st : pil_file_join(path, PATH_MAX, dir, name, err);
}

static pillion_status add_file(pil_checkpoint *c, const char *dir, const char *path, pillion_error *err) {
    pil_file_reader reader;
    pillion_status st = pil_file_reader_open(&reader, path, err);
    if (!st) st = pil_safetensors_open_header(&c->shards[c->n_files], &reader, path, err);
    pil_file_reader_close(&reader);
    if (st) return st;
    c->stamps[c->n_files] = reader.stamp;
    c->paths[c->n_files] = strdup(path);
    if (!c->paths[c->n_files]) {
        pil_safetensors_close(c->shards[c->n_files]);
        return no_memory(dir, err);
    }
    c->n_files++;
    return PILLION_OK;
}

static pillion_status reserve_files(pil_checkpoint *c, size_t n, const char *dir, pillion_error *err) {
    assert(n > 0);
    c->paths = calloc(n, sizeof *c->paths);
    c->shards = calloc(n, sizeof(pil_safetensors *));
    c->stamps = calloc(n, sizeof *c->stamps);
    c->piece = malloc(PIECE_BYTES);
    return c->paths && c->shards && c->stamps && c->piece ? PILLION_OK : no_memory(dir, err);
}

static int by_text(const void *a, const void *b) { return strcmp(*(const char *const *)a, *(const char *const *)b); }

/* The files that the map names, sorted, each once, in names [pil_json_count(map)]. Their number is at most that of the
 * entries, which is bounded first: what an index says of itself decides how long all of this takes. */
static pillion_status collect_names(const char **names, size_t *n, const char *dir, const pil_json *map,
                                    pillion_error *err) {
    size_t all = 0;
    for (void *it = pil_json_first(map); it; it = pil_json_next(map, it)) {
        const char *name = pil_json_string_or(pil_json_value(it), "");
        if (!*name || strchr(name, '/') || strcmp(name, "..") == 0)
            return pil_err_set(err, PILLION_E_FORMAT,
                               "%s/" INDEX_FILE ": weight_map: \"%.60s\" is not a plain file name", dir, name);
        names[all++] = name;
    }
    qsort(names, all, sizeof *names, by_text);
    *n = 0;
    for (size_t i = 0; i < all; i++)
        if (*n == 0 || strcmp(names[*n - 1], names[i]) != 0) names[(*n)++] = names[i];
    if (*n > PIL_LIMIT_SHARDS)
        return pil_err_set(err, PILLION_E_LIMIT, "%s/" INDEX_FILE ": %zu files, the limit is %d", dir, *n,
                           PIL_LIMIT_SHARDS);
    return PILLION_OK;
}

static pillion_status open_shards(pil_checkpoint *c, const char *dir, const pil_json *map, pillion_error *err) {
    size_t n = pil_json_count(map);
    if (pil_json_typeof(map) != PIL_JSON_OBJECT || n == 0)
        return pil_err_set(err, PILLION_E_FORMAT, "%s/" INDEX_FILE ": no \"weight_map\" with tensors", dir);
    if (n > PIL_LIMIT_TENSORS)
        return pil_err_set(err, PILLION_E_LIMIT, "%s/" INDEX_FILE ": %zu tensors, the limit is %d", dir, n,
                           PIL_LIMIT_TENSORS);
    const char **names = malloc(n * sizeof *names);
    if (!names) return no_memory(dir, err);
    pillion_status st = collect_names(names, &n, dir, map, err);
    if (!st) st = reserve_files(c, n, dir, err);
    for (size_t i = 0; i < n && !st; i++) {
        char path[PATH_MAX];
        st = path_of(c, path, dir, names[i], err);
        if (!st) st = add_file(c, dir, path, err);
    }
    free(names);
    return st;
}

static int by_name(const void *a, const void *b) {
    const entry *x = a, *y = b;
    return strcmp(x->tensor->name, y->tensor->name);
}

static pillion_status index_tensors(pil_checkpoint *c, const char *dir, pillion_error *err) {
    size_t n = 0;
    for (size_t f = 0; f < c->n_files; f++) n += pil_safetensors_count(c->shards[f]);
    c->in_order = calloc(n + 1, sizeof *c->in_order);
    c->by_name = calloc(n + 1, sizeof *c->by_name);
    if (!c->in_order || !c->by_name) return no_memory(dir, err);
    for (size_t f = 0; f < c->n_files; f++) {
        for (size_t i = 0; i < pil_safetensors_count(c->shards[f]); i++) {
            const pil_tensor *t = pil_safetensors_at(c->shards[f], i);
            if (strncmp(t->name, PIL_TENSOR_PAD, strlen(PIL_TENSOR_PAD)) != 0)
                c->in_order[c->count++] = (entry){.tensor = t, .file = f};
        }
    }
    memcpy(c->by_name, c->in_order, c->count * sizeof *c->by_name);
    qsort(c->by_name, c->count, sizeof *c->by_name, by_name);
    for (size_t i = 1; i < c->count; i++)
        if (by_name(&c->by_name[i - 1], &c->by_name[i]) == 0)
            return pil_err_set(err, PILLION_E_FORMAT, "%s: tensor \"%.80s\" is in two shards", dir,
                               c->by_name[i].tensor->name);
    return PILLION_OK;
}

static const entry *find_entry(const pil_checkpoint *c, const char *name) {
    pil_tensor wanted = {.name = name};
    entry key = {.tensor = &wanted};
    return bsearch(&key, c->by_name, c->count, sizeof *c->by_name, by_name);
}

static pillion_status check_map(const pil_checkpoint *c, const char *dir, const pil_json *map, pillion_error *err) {
    for (void *it = pil_json_first(map); it; it = pil_json_next(map, it)) {
        const char *name = pil_json_key(it, NULL), *file = pil_json_string_or(pil_json_value(it), "");
        const entry *e = find_entry(c, name);
        if (!e || strcmp(strrchr(c->paths[e->file], '/') + 1, file) != 0)
            return pil_err_set(err, PILLION_E_FORMAT,
                               "%s: tensor \"%.60s\" is not in %.60s, where the index says it is", dir, name, file);
    }
    return PILLION_OK;
}

static pillion_status open_sharded(pil_checkpoint *c, const char *dir, const char *index_path, pillion_error *err) {
    pil_json *index;
    pillion_status st = pil_json_load(&index, index_path, PIL_LIMIT_INDEX_FILE, PIL_LIMIT_INDEX_VALUES, err);
    const pil_json *map = pil_json_get(index, "weight_map");
    if (!st) st = open_shards(c, dir, map, err);
    if (!st) st = index_tensors(c, dir, err);
    if (!st) st = check_map(c, dir, map, err);
    pil_json_free(index);
    return st;
}

static pillion_status nothing_there(const char *dir, pillion_error *err) {
    static const char *const pickles[] = {"pytorch_model.bin", "pytorch_model.bin.index.json"};
    char path[PATH_MAX];
    for (size_t i = 0; i < sizeof pickles / sizeof *pickles; i++)
        if (pil_file_join(path, sizeof path, dir, pickles[i], err) == PILLION_OK && pil_file_exists(path))
            return pil_err_set(
                err, PILLION_E_NOT_FOUND,
                "%s: only pytorch_model.bin, a pickle, which can run code and is refused; convert it once: "
                "AutoModel.from_pretrained(…).save_pretrained(…)",
                dir);
    if (!pil_file_is_dir(dir)) return pil_err_set(err, PILLION_E_NOT_FOUND, "%s: no such directory", dir);
    return pil_err_set(err, PILLION_E_NOT_FOUND, "%s: neither " SINGLE_FILE " nor " INDEX_FILE " is there", dir);
}

static pillion_status open_files(pil_checkpoint *c, const char *dir, pillion_error *err) {
    char path[PATH_MAX];
    pillion_status st = path_of(c, path, dir, SINGLE_FILE, err);
    if (st) return st;
    if (pil_file_exists(path)) {
        st = reserve_files(c, 1, dir, err);
        if (!st) st = add_file(c, dir, path, err);
        if (!st) st = index_tensors(c, dir, err);
        return st;
    }
    st = path_of(c, path, dir, INDEX_FILE, err);
    if (st) return st;
    return pil_file_exists(path) ? open_sharded(c, dir, path, err) : nothing_there(dir, err);
}

pillion_status pil_checkpoint_open(pil_checkpoint **out, const char *dir, pil_checkpoint_note_fn note, void *note_ud,
                                   pillion_error *err) {
    *out = NULL;
    pil_checkpoint *c = calloc(1, sizeof *c);
    if (!c) return no_memory(dir, err);
    c->reader.fd = -1;
    c->note = note;
    c->note_ud = note_ud;
    pillion_status st = open_files(c, dir, err);
    if (st) pil_checkpoint_close(c);
    else *out = c;
    return st;
}

void pil_checkpoint_close(pil_checkpoint *c) {
    if (!c) return;
    for (size_t i = 0; i < c->n_files; i++) {
        pil_safetensors_close(c->shards[i]);
        free(c->paths[i]);
    }
    pil_file_reader_close(&c->reader);
    free(c->paths);
    free(c->shards);
    free(c->stamps);
    free(c->piece);
    free(c->in_order);
    free(c->by_name);
    free(c);
}

size_t pil_checkpoint_count(const pil_checkpoint *c) { return c->count; }

const pil_tensor *pil_checkpoint_at(const pil_checkpoint *c, size_t i) { return c->in_order[i].tensor; }

const pil_tensor *pil_checkpoint_find(const pil_checkpoint *c, const char *name) {
    const entry *e = find_entry(c, name);
    return e ? e->tensor : NULL;
}

/* Makes reader that of one file, if it still is the file whose header was read. */
static pillion_status use_file(pil_checkpoint *c, size_t file, pillion_error *err) {
    if (c->reader.fd >= 0 && c->reader_file == file) return PILLION_OK;
    pil_file_reader_close(&c->reader);
    pillion_status st = pil_file_reader_open(&c->reader, c->paths[file], err);
    const pil_file_stamp *now = &c->reader.stamp, *then = &c->stamps[file];
    c->reader_file = file;
    if (st || (now->bytes == then->bytes && now->mtime_ns == then->mtime_ns && now->inode == then->inode)) return st;
    pil_file_reader_close(&c->reader);
    return pil_err_set(err, PILLION_E_STALE, "%s: changed while it was read", c->paths[file]);
}

pillion_status pil_checkpoint_read_f32(pil_checkpoint *c, const pil_tensor *t, uint64_t first, size_t count, float *out,
                                       pillion_error *err) {
    const entry *e = find_entry(c, t->name);
    assert(e && e->tensor == t && first <= t->count && count <= t->count - first);
    size_t size = pil_dtype_bytes(t->dtype);
    pillion_status st = use_file(c, e->file, err);
    while (!st && count > 0) {
        size_t n = size ? PIECE_BYTES / size : count;
        if (n > count) n = count;
        const pil_tensor piece = {.name = t->name, .dtype = t->dtype, .data = c->piece, .count = n};
        st = pil_file_reader_read(&c->reader, c->paths[e->file], t->offset + first * size, c->piece, n * size, err);
        if (!st) st = pil_tensor_read_f32(&piece, 0, n, out, err);
        first += n;
        out += n;
        count -= n;
    }
    return st;
}
