/* source_modules.c - the pipeline of modules.json: Transformer, Pooling, then any Dense, then Normalize.
 *
 * A module's type is matched on the last component of its dotted name, because its path changed between versions
 * ("sentence_transformers.models.Pooling", "sentence_transformers.sentence_transformer.modules.pooling.Pooling").
 * Anything that would change a vector and is not built here is refused, never ignored.
 *
 * Source:     sentence-transformers 6: `Pooling`, `Dense`, `Normalize`, `Dropout` (no effect outside training).
 * Tests:      tests/compile/test_source.c. */
#include <stdio.h>
#include <string.h>

#include "base/err.h"
#include "base/json.h"
#include "base/limits.h"
#include "compile/compile_int.h"

/* How far the pipeline has come; modules may only move it on. */
typedef enum stage { STAGE_START, STAGE_TRANSFORMER, STAGE_POOLED, STAGE_NORMALIZED } stage;

/* ── Pooling ────────────────────────────────────────────────────────────────────────────────────────────────── */

static const struct {
    uint32_t bit;
    const char *mode;   /* value of "pooling_mode" */
    const char *legacy; /* key of an older configuration */
} poolings[] = {
    {PIL_POOL_CLS, "cls", "pooling_mode_cls_token"},
    {PIL_POOL_MAX, "max", "pooling_mode_max_tokens"},
    {PIL_POOL_MEAN, "mean", "pooling_mode_mean_tokens"},
    {PIL_POOL_MEAN_SQRT_LEN, "mean_sqrt_len_tokens", "pooling_mode_mean_sqrt_len_tokens"},
    {PIL_POOL_WEIGHTED_MEAN, "weightedmean", "pooling_mode_weightedmean_tokens"},
    {PIL_POOL_LAST, "lasttoken", "pooling_mode_lasttoken"},
};
#define POOLINGS (sizeof poolings / sizeof *poolings)
#define POOLINGS_TEXT "cls, max, mean, mean_sqrt_len_tokens, weightedmean, lasttoken"

/* Adds one mode by name. Vectors are concatenated in the order of the table, so a list must keep to it. */
static pillion_status add_mode(uint32_t *pooling, const pil_json *v, pillion_error *err) {
    const char *mode = pil_json_string(v, NULL);
    if (!mode) return pil_err_set(err, PILLION_E_FORMAT, "\"pooling_mode\" is not a name or a list of names");
    for (size_t i = 0; i < POOLINGS; i++) {
        if (strcmp(mode, poolings[i].mode) != 0) continue;
        if (*pooling >= poolings[i].bit)
            return pil_err_set(err, PILLION_E_UNSUPPORTED,
                               "\"pooling_mode\" has \"%s\" out of order; supported is the order " POOLINGS_TEXT, mode);
        *pooling |= poolings[i].bit;
        return PILLION_OK;
    }
    return pil_err_set(err, PILLION_E_UNSUPPORTED, "\"pooling_mode\" is \"%.40s\"; supported: " POOLINGS_TEXT, mode);
}

static pillion_status read_legacy_modes(uint32_t *pooling, const pil_json *config, pillion_error *err) {
    for (void *it = pil_json_first(config); it; it = pil_json_next(config, it)) {
        const char *key = pil_json_key(it, NULL);
        if (strncmp(key, "pooling_mode_", strlen("pooling_mode_")) != 0 || !pil_json_bool_or(pil_json_value(it), false))
            continue;
        uint32_t bit = 0;
        for (size_t i = 0; i < POOLINGS; i++)
            if (strcmp(key, poolings[i].legacy) == 0) bit = poolings[i].bit;
        if (!bit) return pil_err_set(err, PILLION_E_UNSUPPORTED, "\"%.60s\" is true; supported: " POOLINGS_TEXT, key);
        *pooling |= bit;
    }
    return PILLION_OK;
}

static pillion_status read_pooling(pil_config *c, const pil_json *config, pillion_error *err) {
    const pil_json *mode = pil_json_get(config, "pooling_mode");
    pillion_status st = PILLION_OK;
    c->pooling = 0;
    if (pil_json_typeof(mode) == PIL_JSON_ARRAY)
        for (size_t i = 0; !st && i < pil_json_count(mode); i++) st = add_mode(&c->pooling, pil_json_at(mode, i), err);
    else if (mode) st = add_mode(&c->pooling, mode, err);
    else st = read_legacy_modes(&c->pooling, config, err);
    if (c->pooling == 0) c->pooling = PIL_POOL_MEAN;
    c->pool_prompt = pil_json_bool_or(pil_json_get(config, "include_prompt"), true);
    return st;
}

/* ── Dense and Normalize ────────────────────────────────────────────────────────────────────────────────────── */

/* Modules that read or write anything but the sentence's vector belong to other kinds of models. */
static pillion_status check_names(const pil_json *config, pillion_error *err) {
    static const char *const keys[] = {"module_input_name", "module_output_name"};
    for (size_t i = 0; i < 2; i++) {
        const char *name = pil_json_string_or(pil_json_get(config, keys[i]), "sentence_embedding");
        if (strcmp(name, "sentence_embedding") != 0)
            return pil_err_set(err, PILLION_E_UNSUPPORTED, "\"%s\" is \"%.40s\"; supported: sentence_embedding",
                               keys[i], name);
    }
    return PILLION_OK;
}

/* Absent means Tanh, as in the reference; null means none. */
static pillion_status read_activation(pil_activation *out, const pil_json *config, pillion_error *err) {
    static const struct {
        const char *name;
        pil_activation activation;
    } known[] = {
        {"torch.nn.modules.linear.Identity", PIL_ACTIVATION_IDENTITY},
        {"torch.nn.modules.activation.Tanh", PIL_ACTIVATION_TANH},
        {"torch.nn.modules.activation.ReLU", PIL_ACTIVATION_RELU},
        {"torch.nn.modules.activation.GELU", PIL_ACTIVATION_GELU_ERF},
    };
    const pil_json *v = pil_json_get(config, "activation_function");
    *out = v ? PIL_ACTIVATION_IDENTITY : PIL_ACTIVATION_TANH;
    if (pil_json_typeof(v) == PIL_JSON_NULL) return PILLION_OK;
    const char *name = pil_json_string_or(v, "");
    for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
        if (strcmp(name, known[i].name) != 0) continue;
        *out = known[i].activation;
        return PILLION_OK;
    }
    return pil_err_set(err, PILLION_E_UNSUPPORTED,
                       "\"activation_function\" is \"%.60s\"; supported: torch.nn's Identity, Tanh, ReLU, GELU", name);
}

static pillion_status read_dense(pil_source *s, const char *folder, const pil_json *config, pillion_error *err) {
    pil_config *c = &s->config;
    if (c->n_dense == PIL_DENSE_MAX)
        return pil_err_set(err, PILLION_E_UNSUPPORTED, "more than %d Dense modules", PIL_DENSE_MAX);
    pil_dense *d = &c->dense[c->n_dense];
    pillion_status st = pil_family_uint(&d->n_in, config, "in_features", 63 * PIL_LIMIT_HIDDEN, err);
    if (!st) st = pil_family_uint(&d->n_out, config, "out_features", PIL_LIMIT_HIDDEN, err);
    if (!st) st = read_activation(&d->activation, config, err);
    if (!st) st = check_names(config, err);
    if (st) return st;
    if (pil_json_bool_or(pil_json_get(config, "use_residual"), false))
        return pil_err_set(err, PILLION_E_UNSUPPORTED, "\"use_residual\" is true; supported: false");
    d->bias = pil_json_bool_or(pil_json_get(config, "bias"), true);
    memcpy(s->dense[c->n_dense++], folder, strlen(folder) + 1);
    return PILLION_OK;
}

/* ── The list ───────────────────────────────────────────────────────────────────────────────────────────────── */

typedef pillion_status (*module_fn)(pil_source *s, const char *folder, const pil_json *config, pillion_error *err);

static pillion_status read_pooling_module(pil_source *s, const char *folder, const pil_json *config,
                                          pillion_error *err) {
    (void)folder;
    return read_pooling(&s->config, config, err);
}

static pillion_status read_normalize(pil_source *s, const char *folder, const pil_json *config, pillion_error *err) {
    (void)folder;
    s->config.normalize = true;
    return check_names(config, err);
}

/* Loads the config.json of a module's folder and gives it to fn, whose errors get the file's name. */
static pillion_status with_config(pil_source *s, const char *folder, bool required, module_fn fn, pillion_error *err) {
    pil_json *config;
    pillion_status st = pil_source_load(&config, s, folder, "config.json", required, err);
    if (st) return st;
    pillion_error why = {0};
    st = config && pil_json_typeof(config) != PIL_JSON_OBJECT
             ? pil_err_set(&why, PILLION_E_FORMAT, "not an object")
             : fn(s, folder, config, &why);
    if (st) pil_err_set(err, st, "%s%sconfig.json: %s", folder, *folder ? "/" : "", why.text);
    pil_json_free(config);
    return st;
}

/* A folder inside the directory. */
static pillion_status check_folder(const char *folder, pillion_error *err) {
    bool fine = folder && strlen(folder) < PIL_SOURCE_NAME_BYTES - 64 && folder[0] != '/' &&
                strcmp(folder, "..") != 0 && strncmp(folder, "../", 3) != 0 && !strstr(folder, "/../");
    size_t n = folder ? strlen(folder) : 0;
    if (n >= 3 && strcmp(folder + n - 3, "/..") == 0) fine = false;
    return fine ? PILLION_OK
                : pil_err_set(err, PILLION_E_FORMAT, "\"path\" is \"%.60s\", must be a folder inside the directory",
                              folder ? folder : "");
}

static pillion_status read_module(pil_source *s, const pil_json *module, stage *at, pillion_error *err) {
    const char *type = pil_json_string_or(pil_json_get(module, "type"), "");
    const char *folder = pil_json_string(pil_json_get(module, "path"), NULL);
    const char *dot = strrchr(type, '.'), *name = dot ? dot + 1 : type;
    pillion_status st = check_folder(folder, err);
    if (st) return st;
    if (strcmp(name, "Transformer") == 0 && *at == STAGE_START) {
        memcpy(s->transformer, folder, strlen(folder) + 1);
        *at = STAGE_TRANSFORMER;
        return PILLION_OK;
    }
    if (strcmp(name, "Pooling") == 0 && *at == STAGE_TRANSFORMER) {
        *at = STAGE_POOLED;
        return with_config(s, folder, true, read_pooling_module, err);
    }
    if (strcmp(name, "Dense") == 0 && *at == STAGE_POOLED) return with_config(s, folder, true, read_dense, err);
    if (strcmp(name, "Normalize") == 0 && *at >= STAGE_POOLED) {
        *at = STAGE_NORMALIZED;
        return with_config(s, folder, false, read_normalize, err);
    }
    if (strcmp(name, "Dropout") == 0 && *at >= STAGE_POOLED) return PILLION_OK;
    return pil_err_set(err, PILLION_E_UNSUPPORTED,
                       "type is \"%.80s\"; supported, in this order: Transformer, Pooling, Dense, Normalize", type);
}

static pillion_status read_list(pil_source *s, const pil_json *list, pillion_error *err) {
    if (pil_json_typeof(list) != PIL_JSON_ARRAY) return pil_err_set(err, PILLION_E_FORMAT, "not an array of modules");
    stage at = STAGE_START;
    for (size_t i = 0; i < pil_json_count(list); i++) {
        pillion_error why = {0};
        pillion_status st = read_module(s, pil_json_at(list, i), &at, &why);
        if (st) return pil_err_set(err, st, "module %zu: %s", i, why.text);
    }
    if (at < STAGE_POOLED)
        return pil_err_set(err, PILLION_E_UNSUPPORTED, "no %s module; a Transformer and a Pooling are needed",
                           at == STAGE_START ? "Transformer" : "Pooling");
    return PILLION_OK;
}

pillion_status pil_source_modules(pil_source *s, bool *has_modules, pillion_error *err) {
    pil_json *list;
    pillion_status st = pil_source_load(&list, s, "", "modules.json", false, err);
    if (st) return st;
    *has_modules = list != NULL;
    s->config.pooling = PIL_POOL_MEAN;
    pillion_error why = {0};
    if (list) st = read_list(s, list, &why);
    if (st) pil_err_set(err, st, "%s/modules.json: %s", s->dir, why.text);
    pil_json_free(list);
    return st;
}
