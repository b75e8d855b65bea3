/* source.c - what a Hugging Face directory says about its model: network, limits, prompts, and which files said so.
 *
 * Flow:       modules.json first, since it names the folder of the transformer (source_modules.c) -> config.json
 *             there, read by the family -> token limit -> prompts -> the whole configuration is checked.
 * Invariants: every file that is read or looked for goes through pil_source_note before its content is used, so that
 *             the freshness check of a compiled file sees every change, also of files that appear later.
 * Source:     the rules are those of sentence-transformers 6 (`SentenceTransformer.__init__`, `Transformer.load`).
 * Tests:      tests/compile/test_source.c. */
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/file.h"
#include "base/json.h"
#include "base/limits.h"
#include "base/utf8.h"
#include "compile/compile_int.h"

/* ── Files ──────────────────────────────────────────────────────────────────────────────────────────────────── */

pillion_status pil_source_path(char *out, size_t out_bytes, const pil_source *s, const char *folder, const char *name,
                               pillion_error *err) {
    char relative[2 * PIL_SOURCE_NAME_BYTES];
    snprintf(relative, sizeof relative, "%s%s%s", folder, *folder ? "/" : "", name);
    return pil_file_join(out, out_bytes, s->dir, relative, err);
}

pillion_status pil_source_stamp(char out[PIL_STAMP_BYTES], const char *path, pillion_error *err) {
    pil_file_stamp f;
    pillion_error why = {0};
    pillion_status st = pil_file_stat(&f, path, &why);
    out[0] = '\0';
    if (st == PILLION_E_NOT_FOUND) return PILLION_OK;
    if (st) return pil_err_set(err, st, "%s", why.text);
    snprintf(out, PIL_STAMP_BYTES, "%llu %llu %llu", (unsigned long long)f.bytes, (unsigned long long)f.mtime_ns,
             (unsigned long long)f.inode);
    return PILLION_OK;
}

pillion_status pil_source_note(pil_source *s, const char *folder, const char *name, pillion_error *err) {
    if (s->n_files == PIL_SOURCE_FILES_MAX)
        return pil_err_set(err, PILLION_E_LIMIT, "%s: more than %d files", s->dir, PIL_SOURCE_FILES_MAX);
    pil_source_file *f = &s->files[s->n_files];
    int n = snprintf(f->name, sizeof f->name, "%s%s%s", folder, *folder ? "/" : "", name);
    if (n < 0 || (size_t)n >= sizeof f->name)
        return pil_err_set(err, PILLION_E_LIMIT, "%s: file name \"%.60s\" is too long", s->dir, name);
    for (size_t i = 0; i < s->n_files; i++)
        if (strcmp(s->files[i].name, f->name) == 0) return PILLION_OK;
    char path[PATH_MAX];
    pillion_status st = pil_file_join(path, sizeof path, s->dir, f->name, err);
    if (!st) st = pil_source_stamp(f->stamp, path, err);
    if (!st) s->n_files++;
    return st;
}

pillion_status pil_source_unchanged(const pil_source *s, pillion_error *err) {
    for (size_t i = 0; i < s->n_files; i++) {
        char path[PATH_MAX], now[PIL_STAMP_BYTES];
        pillion_status st = pil_file_join(path, sizeof path, s->dir, s->files[i].name, err);
        if (!st) st = pil_source_stamp(now, path, err);
        if (st) return st;
        if (strcmp(now, s->files[i].stamp) != 0)
            return pil_err_set(err, PILLION_E_STALE, "%s changed while it was compiled; try again", path);
    }
    return PILLION_OK;
}

pillion_status pil_source_load(pil_json **out, pil_source *s, const char *folder, const char *name, bool required,
                               pillion_error *err) {
    *out = NULL;
    char path[PATH_MAX];
    pillion_status st = pil_source_note(s, folder, name, err);
    if (!st) st = pil_source_path(path, sizeof path, s, folder, name, err);
    if (st) return st;
    if (!required && !pil_file_exists(path)) return PILLION_OK;
    return pil_json_load(out, path, PIL_LIMIT_CONFIG_FILE, PIL_LIMIT_CONFIG_VALUES, err);
}

pillion_status pil_source_put_files(const pil_source *s, pil_buf *out) {
    pil_buf_putc(out, '[');
    for (size_t i = 0; i < s->n_files; i++) {
        const pil_source_file *f = &s->files[i];
        pil_buf_puts(out, i ? ",{\"name\":" : "{\"name\":");
        pil_json_put_string(out, f->name, strlen(f->name));
        pil_buf_printf(out, ",\"stamp\":\"%s\"}", f->stamp);
    }
    return pil_buf_putc(out, ']');
}

/* ── Name ───────────────────────────────────────────────────────────────────────────────────────────────────── */

/* Cuts the last component off path and gives it; "" when none is left. */
static char *cut_component(char *path) {
    char *slash = strrchr(path, '/');
    if (!slash) return path + strlen(path);
    *slash = '\0';
    return slash + 1;
}

void pil_source_name(char *out, size_t out_bytes, const char *dir) {
    static const char prefix[] = "models--";
    char path[PATH_MAX], *name;
    if (realpath(dir, path)) {
        name = cut_component(path);
        char *snapshots = cut_component(path), *repo = cut_component(path);
        if (strcmp(snapshots, "snapshots") == 0 && strncmp(repo, prefix, strlen(prefix)) == 0) {
            name = repo + strlen(prefix);
            char *dashes = strstr(name, "--");
            if (dashes) {
                *dashes = '/';
                memmove(dashes + 1, dashes + 2, strlen(dashes + 2) + 1);
            }
        }
    } else {
        snprintf(path, sizeof path, "%s", dir);
        name = cut_component(path);
    }
    bool usable = *name && pil_utf8_valid(name, strlen(name)) == strlen(name) && strlen(name) < out_bytes;
    snprintf(out, out_bytes, "%s", usable ? name : "model");
}

/* ── Network ────────────────────────────────────────────────────────────────────────────────────────────────── */

static pillion_status read_family(pil_source *s, const pil_json *config, pillion_error *err) {
    char known[128];
    pil_family_list(known, sizeof known);
    const char *type = pil_json_string(pil_json_get(config, "model_type"), NULL);
    if (!type) return pil_err_set(err, PILLION_E_FORMAT, "\"model_type\" is missing; supported: %s", known);
    s->family = pil_family_find(type);
    if (!s->family)
        return pil_err_set(err, PILLION_E_UNSUPPORTED, "\"model_type\" is \"%.40s\"; supported: %s", type, known);
    snprintf(s->config.family, sizeof s->config.family, "%s", type);
    return s->family->read_config(&s->config, config, err);
}

static pillion_status read_network(pil_source *s, pillion_error *err) {
    char path[PATH_MAX];
    pil_json *config;
    pillion_status st = pil_source_path(path, sizeof path, s, s->transformer, "config.json", err);
    if (!st) st = pil_source_load(&config, s, s->transformer, "config.json", true, err);
    if (st) return st;
    pillion_error why = {0};
    st = read_family(s, config, &why);
    if (st) pil_err_set(err, st, "%s: %s", path, why.text);
    pil_json_free(config);
    return st;
}

/* ── Token limit ────────────────────────────────────────────────────────────────────────────────────────────── */

/* The limit of the transformer module; 0 when it has none. The file is called after the family in old models. */
static pillion_status read_module_limit(pil_source *s, double *limit, pillion_error *err) {
    static const char *const names[] = {"bert",   "roberta",     "distilbert", "camembert",
                                        "albert", "xlm-roberta", "xlnet"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        char file[64];
        snprintf(file, sizeof file, "sentence_%s_config.json", names[i]);
        pil_json *json;
        pillion_status st = pil_source_load(&json, s, s->transformer, file, false, err);
        if (st) return st;
        if (pil_json_count(json) == 0) {
            pil_json_free(json);
            continue;
        }
        const pil_json *v = pil_json_get(json, "max_seq_length");
        *limit = pil_json_real_or(v, 0);
        bool fine = pil_json_typeof(v) == PIL_JSON_NULL || *limit >= 1;
        s->lower_case = pil_json_bool_or(pil_json_get(json, "do_lower_case"), false);
        pil_json_free(json);
        if (!fine)
            return pil_err_set(err, PILLION_E_FORMAT, "%s/%s: \"max_seq_length\" must be a number from 1 up or null",
                               s->dir, file);
        return PILLION_OK;
    }
    return PILLION_OK;
}

/* Absent, null and "practically unlimited" (1e30) all mean that only the positions limit. */
static pillion_status read_tokenizer_limit(pil_source *s, double *limit, pillion_error *err) {
    pil_json *json;
    pillion_status st = pil_source_load(&json, s, s->transformer, "tokenizer_config.json", false, err);
    if (st) return st;
    *limit = pil_json_real_or(pil_json_get(json, "model_max_length"), 0);
    pil_json_free(json);
    return PILLION_OK;
}

/* config.max_tokens holds what the positions allow; a smaller limit of the module, else of the tokenizer, lowers it. */
static pillion_status read_limit(pil_source *s, bool has_modules, pillion_error *err) {
    double limit = 0;
    pillion_status st = has_modules ? read_module_limit(s, &limit, err) : PILLION_OK;
    if (!st && limit == 0) st = read_tokenizer_limit(s, &limit, err);
    if (!st && limit >= 1 && limit < s->config.max_tokens) s->config.max_tokens = (uint32_t)limit;
    return st;
}

/* ── Prompts ────────────────────────────────────────────────────────────────────────────────────────────────── */

static pillion_status copy_text(char *out, size_t out_bytes, const char *s, size_t n, const char *what,
                                pillion_error *err) {
    if (n >= out_bytes || strlen(s) != n)
        return pil_err_set(err, PILLION_E_UNSUPPORTED,
                           "a prompt's %s has %zu bytes or holds NUL; at most %zu bytes are supported", what, n,
                           out_bytes - 1);
    memcpy(out, s, n + 1);
    return PILLION_OK;
}

static pillion_status read_prompt(pil_config *c, void *it, pillion_error *err) {
    size_t name_bytes, text_bytes = 0;
    const char *name = pil_json_key(it, &name_bytes), *text = "";
    const pil_json *v = pil_json_value(it);
    if (pil_json_typeof(v) != PIL_JSON_NULL) text = pil_json_string(v, &text_bytes);
    if (!text) return pil_err_set(err, PILLION_E_FORMAT, "prompt \"%.60s\" is not a string", name);
    if (c->n_prompts == PIL_PROMPTS_MAX)
        return pil_err_set(err, PILLION_E_UNSUPPORTED, "\"prompts\" has more than %d entries", PIL_PROMPTS_MAX);
    pil_prompt *p = &c->prompts[c->n_prompts++];
    pillion_status st = copy_text(p->name, sizeof p->name, name, name_bytes, "name", err);
    return st ? st : copy_text(p->text, sizeof p->text, text, text_bytes, "text", err);
}

static pillion_status read_prompts(pil_config *c, const pil_json *json, pillion_error *err) {
    const pil_json *prompts = pil_json_get(json, "prompts");
    if (prompts && pil_json_typeof(prompts) != PIL_JSON_OBJECT && pil_json_typeof(prompts) != PIL_JSON_NULL)
        return pil_err_set(err, PILLION_E_FORMAT, "\"prompts\" is not an object");
    pillion_status st = PILLION_OK;
    for (void *it = pil_json_first(prompts); it && !st; it = pil_json_next(prompts, it)) st = read_prompt(c, it, err);
    if (st) return st;
    const char *name = pil_json_string(pil_json_get(json, "default_prompt_name"), NULL);
    for (uint32_t i = 0; name && i < c->n_prompts; i++)
        if (strcmp(c->prompts[i].name, name) == 0) c->default_prompt = (int32_t)i;
    if (name && c->default_prompt < 0)
        return pil_err_set(err, PILLION_E_FORMAT, "\"default_prompt_name\" is \"%.60s\", which is not in \"prompts\"",
                           name);
    if (pil_json_typeof(pil_json_get(json, "truncate_dim")) != PIL_JSON_NULL)
        return pil_err_set(err, PILLION_E_UNSUPPORTED, "\"truncate_dim\" is set; only whole vectors are supported");
    return PILLION_OK;
}

static pillion_status read_pipeline(pil_source *s, pillion_error *err) {
    static const char file[] = "config_sentence_transformers.json";
    pil_json *json;
    pillion_status st = pil_source_load(&json, s, "", file, false, err);
    if (st) return st;
    pillion_error why = {0};
    st = read_prompts(&s->config, json, &why);
    if (st) pil_err_set(err, st, "%s/%s: %s", s->dir, file, why.text);
    pil_json_free(json);
    return st;
}

/* ── All of it ──────────────────────────────────────────────────────────────────────────────────────────────── */

static pillion_status read_source(pil_source *s, pillion_error *err) {
    pil_config *c = &s->config;
    bool has_modules;
    if (!pil_file_is_dir(s->dir)) return pil_err_set(err, PILLION_E_NOT_FOUND, "%s: no such directory", s->dir);
    c->default_prompt = -1;
    c->pool_prompt = true;
    pil_source_name(c->name, sizeof c->name, s->dir);
    pillion_status st = pil_source_modules(s, &has_modules, err);
    if (!st) st = read_network(s, err);
    if (!st) st = read_limit(s, has_modules, err);
    if (!st && has_modules) st = read_pipeline(s, err);
    if (st) return st;
    pillion_error why = {0};
    st = pil_config_check(c, &why);
    if (st) pil_err_set(err, st, "%s: %s", s->dir, why.text);
    return st;
}

pillion_status pil_source_open(pil_source **out, const char *dir, pillion_error *err) {
    *out = NULL;
    pil_source *s = calloc(1, sizeof *s);
    if (!s) return pil_err_set(err, PILLION_E_NOMEM, "%s: out of memory", dir);
    s->dir = dir;
    pillion_status st = read_source(s, err);
    if (st) pil_source_close(s);
    else *out = s;
    return st;
}

void pil_source_close(pil_source *s) { free(s); }
