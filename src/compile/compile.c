/* compile.c - Hugging Face directory -> compiled file: the one place where weights change their order.
 *
 * Flow:       source and checkpoints are opened -> the tokenizer becomes a blob -> plan() turns the family's rules
 *             into a list of tensors and holds their shapes against the configuration, before a byte of disk is
 *             asked for -> the file is laid out -> fill() packs -> the file in the making is opened as a network and
 *             sings its canary -> digests -> commit.
 * Invariants: (1) nothing is visible before the canary's vector was computed from the very bytes that are committed.
 *             (2) header and tables are what pil_compiled_open checks, because both sides call pil_compiled_tables.
 *             (3) a source file that changed meanwhile fails the compilation.
 * Memory:     weights go piece by piece from the source's files to the mapped output, at most sixteen rows at a time in
 *             between. The source is never mapped: who shortens it meanwhile would end the process.
 * Not here:   reading configurations (source.c), where the file is kept (cache.c).
 * Tests:      tests/compile/test_compile.c. */
#include <assert.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/file.h"
#include "base/json.h"
#include "base/limits.h"
#include "base/sha256.h"
#include "base/utf8.h"
#include "compile/compile_int.h"
#include "weights/checkpoint.h"

#define PARTS_MAX 3
#define COPY_ELEMENTS ((size_t)1 << 20) /* between two calls of progress */

/* One tensor of the compiled file and the one to three tensors whose rows it joins. */
typedef struct item {
    char name[PIL_NAME_BYTES];
    pil_checkpoint *from;
    const pil_tensor *parts[PARTS_MAX];
    size_t n_parts;
    bool packed;
    uint64_t rows, columns; /* joined; a vector is rows of one column */
} item;

typedef struct job {
    pil_source *source;
    pil_checkpoint *weights, *dense[PIL_DENSE_MAX];
    const char *prefix; /* in front of every name of the checkpoint */
    pil_buf tokenizer;
    item *items;
    size_t n_items, cap_items;
    pil_safetensors_writer *writer; /* tensors 0 … n_items - 1, then tokenizer, then canary */
    pillion_progress_fn progress;
    void *progress_ud;
    uint64_t done, total; /* bytes of weights */
} job;

static void close_job(job *j) {
    pil_safetensors_writer_abort(j->writer);
    pil_buf_deinit(&j->tokenizer);
    free(j->items);
    for (size_t i = 0; i < PIL_DENSE_MAX; i++) pil_checkpoint_close(j->dense[i]);
    pil_checkpoint_close(j->weights);
    pil_source_close(j->source);
}

static pillion_status no_memory(const job *j, pillion_error *err) {
    return pil_err_set(err, PILLION_E_NOMEM, "%s: out of memory", j->source->dir);
}

/* ── Inputs ─────────────────────────────────────────────────────────────────────────────────────────────────── */

typedef struct folder_of {
    pil_source *source;
    const char *folder;
} folder_of;

static pillion_status note_weights(void *ud, const char *name, pillion_error *err) {
    const folder_of *f = ud;
    return pil_source_note(f->source, f->folder, name, err);
}

/* Opens the weights in a folder; each of their files is noted before it is opened. */
static pillion_status open_weights(pil_checkpoint **out, pil_source *s, const char *folder, pillion_error *err) {
    char path[PATH_MAX];
    folder_of f = {.source = s, .folder = folder};
    *out = NULL;
    pillion_status st = *folder ? pil_file_join(path, sizeof path, s->dir, folder, err) : PILLION_OK;
    return st ? st : pil_checkpoint_open(out, *folder ? path : s->dir, note_weights, &f, err);
}

/* Whether the normalizer of a tokenizer.json makes letters small. */
static bool lowers_case(const pil_json *normalizer) {
    const char *type = pil_json_string_or(pil_json_get(normalizer, "type"), "");
    if (strcmp(type, "Lowercase") == 0) return true;
    if (strcmp(type, "BertNormalizer") == 0) return pil_json_bool_or(pil_json_get(normalizer, "lowercase"), true);
    const pil_json *list = pil_json_get(normalizer, "normalizers");
    for (size_t i = 0; i < pil_json_count(list); i++)
        if (lowers_case(pil_json_at(list, i))) return true;
    return false;
}

/* sentence-transformers puts lower-casing in front of a tokenizer that has none when the module asks for it. */
static pillion_status check_lower_case(const char *path, const char *bytes, size_t n, pillion_error *err) {
    pil_json *json;
    /* Its errors are the tokenizer's to report. */
    pillion_status st = pil_json_parse_limited(&json, bytes, n, PIL_LIMIT_TOKENIZER_VALUES, NULL, NULL);
    if (!st && !lowers_case(pil_json_get(json, "normalizer")))
        st = pil_err_set(
            err, PILLION_E_UNSUPPORTED,
            "%s: \"do_lower_case\" of sentence_bert_config.json is true but the normalizer does not lower-case",
            path);
    else st = PILLION_OK;
    pil_json_free(json);
    return st;
}

static pillion_status compile_tokenizer(job *j, pillion_error *err) {
    pil_source *s = j->source;
    char path[PATH_MAX], *bytes = NULL;
    size_t n = 0;
    pillion_status st = pil_source_note(s, s->transformer, "tokenizer.json", err);
    if (!st) st = pil_source_path(path, sizeof path, s, s->transformer, "tokenizer.json", err);
    if (!st && !pil_file_exists(path))
        st = pil_err_set(err, PILLION_E_NOT_FOUND,
                         "%s is missing; make it once: AutoTokenizer.from_pretrained(…).save_pretrained(…)", path);
    if (!st) st = pil_file_read(&bytes, &n, path, PIL_LIMIT_JSON_FILE, err);
    if (!st && s->lower_case) st = check_lower_case(path, bytes, n, err);
    pillion_error why = {0};
    if (!st) st = pil_tokenizer_compile(&j->tokenizer, bytes, n, &why);
    if (why.code) pil_err_set(err, st, "%s: %s", path, why.text);
    free(bytes);
    return st;
}

static pillion_status open_inputs(job *j, const char *dir, pillion_error *err) {
    pillion_status st = pil_source_open(&j->source, dir, err);
    if (!st) st = compile_tokenizer(j, err);
    if (!st) st = open_weights(&j->weights, j->source, j->source->transformer, err);
    for (uint32_t i = 0; !st && i < j->source->config.n_dense; i++)
        st = open_weights(&j->dense[i], j->source, j->source->dense[i], err);
    return st;
}

/* ── Plan ───────────────────────────────────────────────────────────────────────────────────────────────────── */

/* A name of the checkpoint. LayerNorm weights of old checkpoints are called gamma and beta. */
static const pil_tensor *find_tensor(const pil_checkpoint *c, const char *prefix, const char *name) {
    static const char *const old_names[][2] = {{".LayerNorm.weight", ".LayerNorm.gamma"},
                                               {".LayerNorm.bias", ".LayerNorm.beta"}};
    char full[2 * PIL_NAME_BYTES];
    snprintf(full, sizeof full, "%s%s", prefix, name);
    const pil_tensor *t = pil_checkpoint_find(c, full);
    for (size_t i = 0; !t && i < 2; i++) {
        char *tail = strstr(full, old_names[i][0]);
        if (!tail || strlen(tail) != strlen(old_names[i][0])) continue;
        snprintf(tail, sizeof full - (size_t)(tail - full), "%s", old_names[i][1]);
        t = pil_checkpoint_find(c, full);
    }
    return t;
}

/* The prefix under which the checkpoint has the family's first tensor. */
static pillion_status find_prefix(job *j, pillion_error *err) {
    const pil_family *f = j->source->family;
    for (const char *const *p = f->prefixes; *p; p++) {
        j->prefix = *p;
        if (find_tensor(j->weights, *p, f->rules[0].sources[0])) return PILLION_OK;
    }
    return pil_err_set(err, PILLION_E_FORMAT, "%s: no tensor \"%s\" in the weights, as a %s model has", j->source->dir,
                       f->rules[0].sources[0], f->name);
}

/* Puts the layer number for the "%u" of a rule's name. */
static void name_of_layer(char out[PIL_NAME_BYTES], const char *pattern, uint32_t layer) {
    const char *at = strstr(pattern, "%u");
    if (at) snprintf(out, PIL_NAME_BYTES, "%.*s%u%s", (int)(at - pattern), pattern, layer, at + 2);
    else snprintf(out, PIL_NAME_BYTES, "%s", pattern);
}

/* "[64, 32]" */
static void put_shape(char out[64], uint32_t n_dims, const uint64_t *dims) {
    if (n_dims == 1) snprintf(out, 64, "[%llu]", (unsigned long long)dims[0]);
    else if (n_dims == 2) snprintf(out, 64, "[%llu, %llu]", (unsigned long long)dims[0], (unsigned long long)dims[1]);
    else snprintf(out, 64, "of %u dimensions", n_dims);
}

/* Every part of an item must have these rows and columns (0: it is a vector); sets those of the item. */
static pillion_status join_shape(const job *j, item *x, const uint64_t dims[2], pillion_error *err) {
    const uint32_t n_dims = dims[1] ? 2 : 1;
    for (size_t i = 0; i < x->n_parts; i++) {
        const pil_tensor *t = x->parts[i];
        if (t->n_dims == n_dims && t->dims[0] == dims[0] && (n_dims == 1 || t->dims[1] == dims[1])) continue;
        char is[64], wanted[64];
        put_shape(is, t->n_dims, t->dims);
        put_shape(wanted, n_dims, dims);
        return pil_err_set(
            err, PILLION_E_FORMAT,
            "%s: weights and configuration do not belong together: tensor \"%.80s\" has shape %s, not %s",
            j->source->dir, t->name, is, wanted);
    }
    x->rows = x->n_parts * dims[0];
    x->columns = dims[1] ? dims[1] : 1;
    return PILLION_OK;
}

static pillion_status add_item(job *j, const item *x, const uint64_t dims[2], pillion_error *err) {
    if (j->n_items == j->cap_items) {
        size_t cap = j->cap_items ? 2 * j->cap_items : 256;
        item *grown = realloc(j->items, cap * sizeof *grown);
        if (!grown) return no_memory(j, err);
        j->items = grown;
        j->cap_items = cap;
    }
    j->items[j->n_items] = *x;
    pillion_status st = join_shape(j, &j->items[j->n_items], dims, err);
    if (!st) j->n_items++;
    return st;
}

static pillion_status add_rule(job *j, const pil_tensor_rule *rule, uint32_t layer, pillion_error *err) {
    item x = {.packed = pil_shape_is_packed(rule->shape), .from = j->weights};
    uint64_t dims[2];
    name_of_layer(x.name, rule->canonical, layer);
    for (; x.n_parts < PARTS_MAX && rule->sources[x.n_parts]; x.n_parts++) {
        char name[PIL_NAME_BYTES];
        name_of_layer(name, rule->sources[x.n_parts], layer);
        x.parts[x.n_parts] = find_tensor(j->weights, j->prefix, name);
        if (!x.parts[x.n_parts])
            return pil_err_set(err, PILLION_E_FORMAT, "%s: tensor \"%s%s\" is missing in the weights", j->source->dir,
                               j->prefix, name);
    }
    pil_config_shape(&j->source->config, rule->shape, dims);
    return add_item(j, &x, dims, err);
}

static pillion_status add_dense(job *j, uint32_t i, const char *part, bool packed, pillion_error *err) {
    char source[32];
    item x = {.packed = packed, .from = j->dense[i], .n_parts = 1};
    snprintf(source, sizeof source, "linear.%s", part);
    snprintf(x.name, sizeof x.name, "dense.%u.%s", i, part);
    x.parts[0] = pil_checkpoint_find(j->dense[i], source);
    if (!x.parts[0])
        return pil_err_set(err, PILLION_E_FORMAT, "%s/%s: tensor \"%s\" is missing in the weights", j->source->dir,
                           j->source->dense[i], source);
    const pil_dense *d = &j->source->config.dense[i];
    return add_item(j, &x, (uint64_t[]){d->n_out, packed ? d->n_in : 0}, err);
}

static pillion_status plan(job *j, pillion_error *err) {
    const pil_config *c = &j->source->config;
    pillion_status st = find_prefix(j, err);
    for (const pil_tensor_rule *r = j->source->family->rules; !st && r->canonical; r++) {
        uint32_t layers = strstr(r->canonical, "%u") ? c->layers : 1;
        for (uint32_t i = 0; !st && i < layers; i++) st = add_rule(j, r, i, err);
    }
    for (uint32_t i = 0; !st && i < c->n_dense; i++) {
        st = add_dense(j, i, "weight", true, err);
        if (!st && c->dense[i].bias) st = add_dense(j, i, "bias", false, err);
    }
    return st;
}

/* ── Layout ─────────────────────────────────────────────────────────────────────────────────────────────────── */

static pillion_status declare_item(job *j, const item *x, pillion_error *err) {
    uint64_t dims[3] = {x->rows, x->columns, PIL_TILE_N};
    uint32_t n_dims = x->parts[0]->n_dims;
    if (x->packed) {
        dims[0] = (x->rows + PIL_TILE_N - 1) / PIL_TILE_N;
        n_dims = 3;
    }
    for (size_t i = 0; i < x->n_parts; i++) j->total += x->parts[i]->count * sizeof(float);
    return pil_safetensors_writer_declare(j->writer, x->name, PIL_DTYPE_F32, n_dims, dims, err);
}

static pillion_status declare_all(job *j, pillion_error *err) {
    const uint64_t blob = j->tokenizer.len, dim = pil_config_dim(&j->source->config);
    pillion_status st = PILLION_OK;
    for (size_t i = 0; !st && i < j->n_items; i++) st = declare_item(j, &j->items[i], err);
    if (!st) st = pil_safetensors_writer_declare(j->writer, "tokenizer", PIL_DTYPE_U8, 1, &blob, err);
    if (!st) st = pil_safetensors_writer_declare(j->writer, "canary", PIL_DTYPE_F32, 1, &dim, err);
    return st;
}

/* A metadata value that is built in a buffer. */
static pillion_status put_buffer(job *j, const char *key, pil_buf *value, pillion_error *err) {
    const char *text = pil_buf_cstr(value);
    return text ? pil_safetensors_writer_metadata(j->writer, key, text, err) : no_memory(j, err);
}

/* Where the file comes from. A model that was given a name is made to travel: it says nothing about this machine. */
static pillion_status put_origin(job *j, bool named, pillion_error *err) {
    char dir[PATH_MAX];
    bool known = !named && realpath(j->source->dir, dir) && pil_utf8_valid(dir, strlen(dir)) == strlen(dir);
    pil_buf files;
    pil_buf_init(&files, PIL_MIB);
    if (named) pil_buf_puts(&files, "[]");
    else pil_source_put_files(j->source, &files);
    pillion_status st = pil_safetensors_writer_metadata(j->writer, PIL_META_SOURCE, known ? dir : "", err);
    if (!st) st = put_buffer(j, PIL_META_FILES, &files, err);
    pil_buf_deinit(&files);
    return st;
}

/* The digests are placeholders of their final length, which pil_safetensors_writer_patch replaces. */
static pillion_status put_metadata(job *j, bool named, pillion_error *err) {
    static const char zeros[] = "0000000000000000000000000000000000000000000000000000000000000000";
    pil_buf config;
    pil_buf_init(&config, PIL_MIB);
    pil_config_put_json(&j->source->config, &config);
    pillion_status st = pil_safetensors_writer_metadata(j->writer, PIL_META_FORMAT, PIL_COMPILED_FORMAT, err);
    if (!st) st = pil_safetensors_writer_metadata(j->writer, PIL_META_PRECISION, "f32", err);
    if (!st) st = put_buffer(j, PIL_META_CONFIG, &config, err);
    if (!st) st = put_origin(j, named, err);
    if (!st) st = pil_safetensors_writer_metadata(j->writer, PIL_META_TABLES, zeros + 64 - (PIL_CHECKSUM_HEX - 1), err);
    if (!st) st = pil_safetensors_writer_metadata(j->writer, PIL_META_DATA, zeros, err);
    pil_buf_deinit(&config);
    return st;
}

static pillion_status lay_out(job *j, const char *path, bool named, pillion_error *err) {
    pillion_status st = pil_safetensors_writer_create(&j->writer, path, err);
    if (!st) st = put_metadata(j, named, err);
    if (!st) st = declare_all(j, err);
    return st ? st : pil_safetensors_writer_layout(j->writer, err);
}

/* ── Data ───────────────────────────────────────────────────────────────────────────────────────────────────── */

static void advance(job *j, uint64_t elements) {
    j->done += elements * sizeof(float);
    if (j->progress) j->progress(j->done, j->total, j->progress_ud);
}

static pillion_status copy_plain(job *j, const item *x, float *out, pillion_error *err) {
    for (size_t i = 0; i < x->n_parts; i++) {
        const pil_tensor *t = x->parts[i];
        for (uint64_t at = 0; at < t->count;) {
            size_t n = t->count - at < COPY_ELEMENTS ? (size_t)(t->count - at) : COPY_ELEMENTS;
            pillion_status st = pil_checkpoint_read_f32(x->from, t, at, n, out, err);
            if (st) return st;
            at += n;
            out += n;
            advance(j, n);
        }
    }
    return PILLION_OK;
}

/* Rows [first, first + n) of the joined parts. */
static pillion_status read_rows(const item *x, uint64_t first, uint64_t n, float *out, pillion_error *err) {
    for (size_t i = 0; i < x->n_parts && n; i++) {
        const pil_tensor *t = x->parts[i];
        if (first >= t->dims[0]) {
            first -= t->dims[0];
            continue;
        }
        uint64_t take = t->dims[0] - first < n ? t->dims[0] - first : n;
        pillion_status st =
            pil_checkpoint_read_f32(x->from, t, first * x->columns, (size_t)(take * x->columns), out, err);
        if (st) return st;
        out += take * x->columns;
        n -= take;
        first = 0;
    }
    return PILLION_OK;
}

/* Tile by tile: sixteen rows of the source are one tile of the packed matrix. */
static pillion_status copy_packed(job *j, const item *x, float *out, pillion_error *err) {
    float *rows = malloc(PIL_TILE_N * x->columns * sizeof *rows);
    pillion_status st = rows ? PILLION_OK : no_memory(j, err);
    for (uint64_t at = 0; !st && at < x->rows; at += PIL_TILE_N) {
        uint64_t n = x->rows - at < PIL_TILE_N ? x->rows - at : PIL_TILE_N;
        st = read_rows(x, at, n, rows, err);
        if (st) break;
        pil_pack_f32(out, rows, (size_t)n, (size_t)x->columns);
        out += PIL_TILE_N * x->columns;
        j->done += n * x->columns * sizeof *rows;
    }
    free(rows);
    if (!st) advance(j, 0);
    return st;
}

static pillion_status fill(job *j, pillion_error *err) {
    for (size_t i = 0; i < j->n_items; i++) {
        const item *x = &j->items[i];
        float *out = pil_safetensors_writer_data(j->writer, i);
        pillion_error why = {0};
        pillion_status st = x->packed ? copy_packed(j, x, out, &why) : copy_plain(j, x, out, &why);
        if (st) return pil_err_set(err, st, "%s: %s", j->source->dir, why.text);
    }
    memcpy(pil_safetensors_writer_data(j->writer, j->n_items), j->tokenizer.bytes, j->tokenizer.len);
    return PILLION_OK;
}

/* ── Canary and digests ─────────────────────────────────────────────────────────────────────────────────────── */

static pillion_status check_room(const job *j, const pil_tokenizer *t, pillion_error *err) {
    if (j->source->config.max_tokens > pil_tokenizer_n_special(t)) return PILLION_OK;
    return pil_err_set(err, PILLION_E_FORMAT,
                       "a limit of %u tokens leaves no room beside the tokenizer's %u special ones",
                       j->source->config.max_tokens, pil_tokenizer_n_special(t));
}

/* Opens the file in the making. */
static pillion_status open_draft(const job *j, pil_safetensors **file, pil_network **network, pillion_error *err) {
    size_t n;
    const void *bytes = pil_safetensors_writer_bytes(j->writer, &n, NULL);
    pillion_error why = {0};
    *network = NULL;
    pillion_status st = pil_safetensors_open_memory(file, bytes, n, &why);
    if (!st) st = pil_network_create(network, &j->source->config, *file, &why);
    if (!st) return PILLION_OK;
    pil_safetensors_close(*file);
    *file = NULL;
    return pil_err_set(err, st, "%s: weights and config.json do not belong together: %s", j->source->dir, why.text);
}

static pillion_status add_canary(job *j, pillion_error *err) {
    pil_safetensors *file;
    pil_network *network;
    pil_tokenizer *tokenizer = NULL;
    pillion_status st = open_draft(j, &file, &network, err);
    if (st) return st;
    pillion_error why = {0};
    st = pil_tokenizer_open(&tokenizer, pil_safetensors_writer_data(j->writer, j->n_items), j->tokenizer.len, &why);
    if (!st) st = check_room(j, tokenizer, &why);
    if (!st)
        st = pil_canary_embed(network, &j->source->config, tokenizer,
                              pil_safetensors_writer_data(j->writer, j->n_items + 1), &why);
    if (st) pil_err_set(err, st, "%s: %s", j->source->dir, why.text);
    pil_tokenizer_close(tokenizer);
    pil_network_destroy(network);
    pil_safetensors_close(file);
    return st;
}

static pillion_status add_digests(job *j, pillion_error *err) {
    size_t n, header;
    const unsigned char *bytes = pil_safetensors_writer_bytes(j->writer, &n, &header);
    char data[PIL_SHA256_HEX], tables[PIL_CHECKSUM_HEX];
    pil_safetensors *file;
    pil_sha256_of(bytes + header, n - header, data);
    pil_safetensors_writer_patch(j->writer, PIL_META_DATA, data); /* first: the checksum of the header covers it */
    pillion_status st = pil_safetensors_open_memory(&file, bytes, n, err);
    if (!st) st = pil_compiled_tables(file, tables, err);
    pil_safetensors_close(file);
    if (st) return st;
    pil_safetensors_writer_patch(j->writer, PIL_META_TABLES, tables);
    return PILLION_OK;
}

/* ── All of it ──────────────────────────────────────────────────────────────────────────────────────────────── */

static pillion_status check_arguments(const char *name, pillion_precision precision, pillion_error *err) {
    if (precision != PILLION_PRECISION_AUTO && precision != PILLION_PRECISION_F32)
        return pil_err_set(err, PILLION_E_UNSUPPORTED,
                           "this version computes in f32 only; ask for precision f32 or auto");
    if (name && (!*name || strlen(name) >= PIL_NAME_BYTES || pil_utf8_valid(name, strlen(name)) != strlen(name)))
        return pil_err_set(err, PILLION_E_ARG, "a model's name must have 1 to %d bytes of UTF-8", PIL_NAME_BYTES - 1);
    return PILLION_OK;
}

pillion_status pil_compile(const char *dir, const char *path, const char *name, pillion_precision precision,
                           pillion_progress_fn progress, void *ud, pillion_error *err) {
    job j = {.progress = progress, .progress_ud = ud};
    pillion_status st = check_arguments(name, precision, err);
    if (st) return st;
    pil_buf_init(&j.tokenizer, PIL_LIMIT_JSON_FILE);
    st = open_inputs(&j, dir, err);
    if (!st && name) snprintf(j.source->config.name, sizeof j.source->config.name, "%s", name);
    if (!st) st = plan(&j, err);
    if (!st) st = lay_out(&j, path, name != NULL, err);
    if (!st) st = fill(&j, err);
    if (!st) st = add_canary(&j, err);
    if (!st) st = add_digests(&j, err);
    if (!st) st = pil_source_unchanged(j.source, err);
    if (!st) {
        st = pil_safetensors_writer_commit(j.writer, err);
        j.writer = NULL;
    }
    close_job(&j);
    return st;
}
