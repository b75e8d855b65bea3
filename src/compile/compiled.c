/* compiled.c - opening a compiled file, and saying whether it is whole, fresh and still sings.
 *
 * Flow:       safetensors checks every offset -> format version -> checksum of header and tokenizer tables ->
 *             configuration, tokenizer and network are bound, each with its own checks. No weight is touched.
 * Invariants: what opening does not prove (single weights) the canary and the full digest do: pil_compiled_sing is a
 *             short forward pass, pil_compiled_verify reads every byte.
 * Tests:      tests/compile/test_compiled.c, fuzz/fuzz_compiled.c. */
#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/file.h"
#include "base/json.h"
#include "base/limits.h"
#include "base/sha256.h"
#include "compile/checksum.h"
#include "compile/compile_int.h"

/* How far a component of the canary's unit vector may move between processors: kernels of different tiers sum in
 * different orders (about 1e-6); a damaged weight that matters moves it by far more. */
#define CANARY_TOLERANCE 1e-4f

/* Behind what is wrong with a file that was named as a model. */
#define GIVE_A_MODEL ": give a model's directory, or a whole file that pillion compile has made of one"

/* ── Digests ────────────────────────────────────────────────────────────────────────────────────────────────── */

pillion_status pil_compiled_tables(const pil_safetensors *file, char out[PIL_CHECKSUM_HEX], pillion_error *err) {
    static const char key[] = "\"" PIL_META_TABLES "\":\"";
    size_t n, header;
    const unsigned char *bytes = pil_safetensors_bytes(file, &n, &header);
    const pil_tensor *tokenizer = pil_safetensors_find(file, "tokenizer");
    const unsigned char *at = memmem(bytes, header, key, strlen(key));
    size_t begin = at ? (size_t)(at - bytes) + strlen(key) : header, end = begin + PIL_CHECKSUM_HEX - 1;
    if (end > header || !tokenizer)
        return pil_err_set(err, PILLION_E_FORMAT,
                           "not a compiled file of pillion, or damaged: no checksum or no tokenizer");
    uint64_t sum = pil_checksum(bytes, begin, 0);
    sum = pil_checksum(bytes + end, header - end, sum);
    sum = pil_checksum(tokenizer->data, tokenizer->bytes, sum);
    snprintf(out, PIL_CHECKSUM_HEX, "%016llx", (unsigned long long)sum);
    return PILLION_OK;
}

static pillion_status check_identity(const pil_safetensors *file, pillion_error *err) {
    const char *format = pil_safetensors_metadata(file, PIL_META_FORMAT);
    if (!format) return pil_err_set(err, PILLION_E_FORMAT, "not a compiled file of pillion" GIVE_A_MODEL);
    if (strcmp(format, PIL_COMPILED_FORMAT) != 0)
        return pil_err_set(err, PILLION_E_STALE, "compiled in format %.16s, this version reads " PIL_COMPILED_FORMAT
                           "; compile it again", format);
    char tables[PIL_CHECKSUM_HEX];
    pillion_status st = pil_compiled_tables(file, tables, err);
    if (st) return st;
    const char *stored = pil_safetensors_metadata(file, PIL_META_TABLES);
    if (!stored || strcmp(stored, tables) != 0)
        return pil_err_set(err, PILLION_E_FORMAT, "damaged: header or tokenizer differ from their checksum");
    return PILLION_OK;
}

/* ── Opening ────────────────────────────────────────────────────────────────────────────────────────────────── */

static pillion_status read_config(pil_compiled *c, pillion_error *err) {
    const char *text = pil_safetensors_metadata(c->file, PIL_META_CONFIG);
    if (!text) return pil_err_set(err, PILLION_E_FORMAT, "no configuration");
    pil_json *json;
    pillion_status st = pil_json_parse_limited(&json, text, strlen(text), PIL_LIMIT_CONFIG_VALUES, NULL, err);
    if (!st) st = pil_config_from_json(&c->config, json, err);
    pil_json_free(json);
    return st;
}

static pillion_status open_tokenizer(pil_compiled *c, pillion_error *err) {
    const pil_tensor *t = pil_safetensors_find(c->file, "tokenizer");
    if (!t || t->dtype != PIL_DTYPE_U8 || (uintptr_t)t->data % 64 != 0)
        return pil_err_set(err, PILLION_E_FORMAT, "tensor \"tokenizer\" is missing or not aligned bytes");
    return pil_tokenizer_open(&c->tokenizer, t->data, t->bytes, err);
}

static pillion_status check_canary(const pil_compiled *c, pillion_error *err) {
    const pil_tensor *t = pil_safetensors_find(c->file, "canary");
    if (!t || t->dtype != PIL_DTYPE_F32 || t->n_dims != 1 || t->dims[0] != pil_config_dim(&c->config))
        return pil_err_set(err, PILLION_E_FORMAT, "tensor \"canary\" is missing or of another shape");
    return PILLION_OK;
}

/* Takes over file, whatever happens. */
static pillion_status open_file(pil_compiled *out, pil_safetensors *file, pillion_error *err) {
    *out = (pil_compiled){.file = file};
    pillion_status st = check_identity(file, err);
    if (!st) st = read_config(out, err);
    if (!st) st = open_tokenizer(out, err);
    if (!st) st = pil_network_create(&out->network, &out->config, file, err);
    if (!st) st = check_canary(out, err);
    if (!st) {
        const char *source = pil_safetensors_metadata(file, PIL_META_SOURCE);
        out->source = source ? source : "";
        out->precision = pil_safetensors_metadata(file, PIL_META_PRECISION);
        if (!out->precision) st = pil_err_set(err, PILLION_E_FORMAT, "no precision");
    }
    if (st) pil_compiled_close(out);
    return st;
}

pillion_status pil_compiled_open(pil_compiled *out, const char *path, pillion_error *err) {
    *out = (pil_compiled){0};
    pil_safetensors *file;
    pillion_error why = {0};
    pillion_status st = pil_safetensors_open(&file, path, &why);
    if (st == PILLION_E_FORMAT) return pil_err_set(err, st, "%s" GIVE_A_MODEL, why.text);
    if (st) return pil_err_set(err, st, "%s", why.text);
    st = open_file(out, file, &why);
    if (st) pil_err_set(err, st, "%s: %s", path, why.text);
    return st;
}

pillion_status pil_compiled_open_memory(pil_compiled *out, const void *bytes, size_t n, pillion_error *err) {
    *out = (pil_compiled){0};
    if ((uintptr_t)bytes % 64 != 0)
        return pil_err_set(err, PILLION_E_ARG, "a model in memory must be aligned to 64 bytes");
    pil_safetensors *file;
    pillion_status st = pil_safetensors_open_memory(&file, bytes, n, err);
    return st ? st : open_file(out, file, err);
}

void pil_compiled_close(pil_compiled *c) {
    pil_network_destroy(c->network);
    pil_tokenizer_close(c->tokenizer);
    pil_safetensors_close(c->file);
    *c = (pil_compiled){0};
}

/* ── Freshness ──────────────────────────────────────────────────────────────────────────────────────────────── */

static pillion_status check_file(const char *dir, const pil_json *entry, pillion_error *err) {
    char path[PATH_MAX], now[PIL_STAMP_BYTES] = "";
    const char *name = pil_json_string_or(pil_json_get(entry, "name"), "");
    const char *then = pil_json_string_or(pil_json_get(entry, "stamp"), "");
    pillion_status st = pil_file_join(path, sizeof path, dir, name, err);
    if (!st) st = pil_source_stamp(now, path, err);
    if (st || strcmp(now, then) == 0) return st;
    return pil_err_set(err, PILLION_E_STALE, "%s %s since the model was compiled", path,
                       !*now ? "disappeared" : *then ? "changed" : "appeared");
}

pillion_status pil_compiled_fresh(const pil_compiled *c, const char *dir, pillion_error *err) {
    const char *text = pil_safetensors_metadata(c->file, PIL_META_FILES);
    pil_json *files = NULL;
    if (!text || pil_json_parse_limited(&files, text, strlen(text), PIL_LIMIT_CONFIG_VALUES, NULL, NULL) ||
        pil_json_count(files) == 0) {
        pil_json_free(files);
        return pil_err_set(err, PILLION_E_STALE, "%s: the compiled file does not say what it was made from", dir);
    }
    pillion_status st = PILLION_OK;
    for (size_t i = 0; !st && i < pil_json_count(files); i++) st = check_file(dir, pil_json_at(files, i), err);
    pil_json_free(files);
    return st;
}

/* ── Proofs ─────────────────────────────────────────────────────────────────────────────────────────────────── */

pillion_status pil_compiled_heard(const pil_compiled *c, const float *v, pillion_error *err) {
    const float *then = pil_safetensors_find(c->file, "canary")->data;
    for (uint32_t i = 0; i < pil_config_dim(&c->config); i++)
        if (!(fabsf(v[i] - then[i]) <= CANARY_TOLERANCE))
            return pil_err_set(err, PILLION_E_FORMAT, "damaged: the canary text's vector is not the stored one");
    return PILLION_OK;
}

pillion_status pil_compiled_sing(const pil_compiled *c, pillion_error *err) {
    uint32_t dim = pil_config_dim(&c->config);
    float *now = calloc(dim, sizeof *now);
    if (!now) return pil_err_no_memory(err);
    pillion_error why = {0};
    pillion_status st = pil_canary_embed(c->network, &c->config, c->tokenizer, now, &why);
    if (st) st = pil_err_set(err, st == PILLION_E_NOMEM ? st : PILLION_E_FORMAT, "damaged: %s", why.text);
    else st = pil_compiled_heard(c, now, err);
    free(now);
    return st;
}

pillion_status pil_compiled_verify(const pil_compiled *c, pillion_error *err) {
    size_t n, header;
    const unsigned char *bytes = pil_safetensors_bytes(c->file, &n, &header);
    const char *stored = pil_safetensors_metadata(c->file, PIL_META_DATA);
    char now[PIL_SHA256_HEX];
    pil_sha256_of(bytes + header, n - header, now);
    if (!stored || strcmp(stored, now) != 0)
        return pil_err_set(err, PILLION_E_FORMAT, "damaged: the data differ from their SHA-256 digest");
    return pil_compiled_sing(c, err);
}
