/* config.c - checking a model's configuration and keeping it as JSON in the compiled file.
 *
 * Invariant: a pil_config that passed pil_config_check makes every product of sizes in this room fit in 63 bits, and
 *            every division by one of its fields is by something positive.
 * Tests: tests/engine/test_config.c. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/err.h"
#include "base/limits.h"
#include "engine/engine.h"

static const char *const activation_names[] = {
    [PIL_ACTIVATION_GELU_ERF] = "gelu", [PIL_ACTIVATION_GELU_TANH] = "gelu_tanh", [PIL_ACTIVATION_RELU] = "relu",
    [PIL_ACTIVATION_TANH] = "tanh",     [PIL_ACTIVATION_IDENTITY] = "identity",
};
#define ACTIVATIONS (sizeof activation_names / sizeof *activation_names)

static const char *const position_names[] = {
    [PIL_POSITION_ABSOLUTE] = "absolute", [PIL_POSITION_PAD_AWARE] = "pad_aware"};
#define POSITIONS (sizeof position_names / sizeof *position_names)

static const struct {
    uint32_t bit;
    const char *name;
} poolings[] = {
    {PIL_POOL_CLS, "cls"},
    {PIL_POOL_MAX, "max"},
    {PIL_POOL_MEAN, "mean"},
    {PIL_POOL_MEAN_SQRT_LEN, "mean_sqrt_len"},
    {PIL_POOL_WEIGHTED_MEAN, "weightedmean"},
    {PIL_POOL_LAST, "lasttoken"},
};
#define POOLINGS (sizeof poolings / sizeof *poolings)

void pil_config_pooling_name(uint32_t pooling, char *out, size_t out_bytes) {
    size_t at = 0;
    out[0] = '\0';
    for (size_t i = 0; i < POOLINGS; i++) {
        if (!(pooling & poolings[i].bit) || at >= out_bytes) continue;
        int n = snprintf(out + at, out_bytes - at, "%s%s", at ? "+" : "", poolings[i].name);
        at += n > 0 ? (size_t)n : 0;
    }
}

uint32_t pil_config_pooled_dim(const pil_config *c) {
    uint32_t ways = 0;
    for (size_t i = 0; i < POOLINGS; i++) ways += (c->pooling & poolings[i].bit) != 0;
    return ways * c->hidden;
}

uint32_t pil_config_dim(const pil_config *c) {
    return c->n_dense ? c->dense[c->n_dense - 1].n_out : pil_config_pooled_dim(c);
}

void pil_config_shape(const pil_config *c, pil_shape shape, uint64_t dims[2]) {
    const uint32_t sizes[][2] = {
        [PIL_SHAPE_HIDDEN] = {c->hidden, 0},
        [PIL_SHAPE_FFN] = {c->ffn, 0},
        [PIL_SHAPE_WORDS] = {c->vocab, c->hidden},
        [PIL_SHAPE_POSITIONS] = {c->positions, c->hidden},
        [PIL_SHAPE_TYPES] = {c->types, c->hidden},
        [PIL_SHAPE_BUCKETS] = {32, c->heads},
        [PIL_SHAPE_SQUARE] = {c->hidden, c->hidden},
        [PIL_SHAPE_UP] = {c->ffn, c->hidden},
        [PIL_SHAPE_DOWN] = {c->hidden, c->ffn},
    };
    dims[0] = sizes[shape][0];
    dims[1] = sizes[shape][1];
}

static pillion_status check_range(const char *field, uint32_t v, uint32_t min, uint32_t max, pillion_error *err) {
    if (v >= min && v <= max) return PILLION_OK;
    return pil_err_set(err, PILLION_E_FORMAT, "%s is %u, must be %u to %u", field, v, min, max);
}

static pillion_status check_dense(const pil_config *c, pillion_error *err) {
    uint32_t n_in = pil_config_pooled_dim(c);
    for (uint32_t i = 0; i < c->n_dense; i++) {
        const pil_dense *d = &c->dense[i];
        if (d->n_in != n_in)
            return pil_err_set(err, PILLION_E_FORMAT, "dense module %u takes %u values, the step before gives %u", i,
                               d->n_in, n_in);
        pillion_status st = check_range("dense module's output size", d->n_out, 1, PIL_LIMIT_HIDDEN, err);
        if (st) return st;
        if ((size_t)d->activation >= ACTIVATIONS) return pil_err_set(err, PILLION_E_FORMAT, "unknown dense activation");
        n_in = d->n_out;
    }
    return PILLION_OK;
}

pillion_status pil_config_check(const pil_config *c, pillion_error *err) {
    pillion_status st = check_range("hidden_size", c->hidden, 1, PIL_LIMIT_HIDDEN, err);
    if (!st) st = check_range("num_hidden_layers", c->layers, 1, PIL_LIMIT_LAYERS, err);
    if (!st) st = check_range("num_attention_heads", c->heads, 1, PIL_LIMIT_HEADS, err);
    if (!st) st = check_range("intermediate_size", c->ffn, 1, PIL_LIMIT_FFN, err);
    if (!st) st = check_range("vocab_size", c->vocab, 1, PIL_LIMIT_VOCAB, err);
    if (!st) st = check_range("max_position_embeddings", c->positions, 1, PIL_LIMIT_POSITIONS, err);
    if (!st) st = check_range("type_vocab_size", c->types, 0, 65536, err);
    if (!st) st = check_range("maximum number of tokens", c->max_tokens, 1, c->positions, err);
    if (!st) st = check_range("pooling", c->pooling, 1, 63, err);
    if (!st) st = check_range("number of dense modules", c->n_dense, 0, PIL_DENSE_MAX, err);
    if (!st) st = check_range("number of prompts", c->n_prompts, 0, PIL_PROMPTS_MAX, err);
    if (st) return st;
    if (c->hidden % c->heads != 0)
        return pil_err_set(err, PILLION_E_FORMAT, "hidden_size %u is not a multiple of num_attention_heads %u",
                           c->hidden, c->heads);
    if (!(c->norm_eps > 0 && c->norm_eps < 1))
        return pil_err_set(err, PILLION_E_FORMAT, "layer_norm_eps is %g, must be between 0 and 1", (double)c->norm_eps);
    if ((size_t)c->activation >= ACTIVATIONS || (size_t)c->position >= POSITIONS)
        return pil_err_set(err, PILLION_E_FORMAT, "unknown activation or position scheme");
    uint32_t reserved = c->position_offset + (c->position == PIL_POSITION_PAD_AWARE ? 1 : 0);
    if (c->position_offset >= c->positions || c->max_tokens > c->positions - reserved)
        return pil_err_set(err, PILLION_E_FORMAT, "%u tokens do not fit in %u positions from %u on", c->max_tokens,
                           c->positions, reserved);
    if (c->default_prompt < -1 || c->default_prompt >= (int32_t)c->n_prompts)
        return pil_err_set(err, PILLION_E_FORMAT, "default prompt is not among the prompts");
    return check_dense(c, err);
}

/* ── JSON ───────────────────────────────────────────────────────────────────────────────────────────────────── */

/* The unsigned fields, so that writing and reading cannot drift apart. */
#define UINT_FIELDS(X)                                                                                       \
    X(hidden) X(layers) X(heads) X(ffn) X(vocab) X(positions) X(types) X(position_offset) X(max_tokens) X(pooling)

pillion_status pil_config_put_json(const pil_config *c, pil_buf *out) {
    pil_buf_puts(out, "{\"name\":");
    pil_json_put_string(out, c->name, strlen(c->name));
    pil_buf_puts(out, ",\"family\":");
    pil_json_put_string(out, c->family, strlen(c->family));
#define PUT(field) pil_buf_printf(out, ",\"" #field "\":%u", c->field);
    UINT_FIELDS(PUT)
#undef PUT
    pil_buf_printf(out, ",\"norm_eps\":%.9g,\"activation\":\"%s\",\"position\":\"%s\"", (double)c->norm_eps,
                   activation_names[c->activation], position_names[c->position]);
    pil_buf_printf(out, ",\"relative_bias\":%s,\"pool_prompt\":%s,\"normalize\":%s,\"default_prompt\":%d",
                   c->relative_bias ? "true" : "false", c->pool_prompt ? "true" : "false",
                   c->normalize ? "true" : "false", c->default_prompt);
    pil_buf_puts(out, ",\"dense\":[");
    for (uint32_t i = 0; i < c->n_dense; i++)
        pil_buf_printf(out, "%s{\"in\":%u,\"out\":%u,\"bias\":%s,\"activation\":\"%s\"}", i ? "," : "",
                       c->dense[i].n_in, c->dense[i].n_out, c->dense[i].bias ? "true" : "false",
                       activation_names[c->dense[i].activation]);
    pil_buf_puts(out, "],\"prompts\":[");
    for (uint32_t i = 0; i < c->n_prompts; i++) {
        pil_buf_puts(out, i ? ",{\"name\":" : "{\"name\":");
        pil_json_put_string(out, c->prompts[i].name, strlen(c->prompts[i].name));
        pil_buf_puts(out, ",\"text\":");
        pil_json_put_string(out, c->prompts[i].text, strlen(c->prompts[i].text));
        pil_buf_putc(out, '}');
    }
    return pil_buf_puts(out, "]}");
}

static pillion_status get_uint(uint32_t *out, const pil_json *json, const char *key, pillion_error *err) {
    int64_t v = pil_json_int_or(pil_json_get(json, key), -1);
    if (v < 0 || v > UINT32_MAX) return pil_err_set(err, PILLION_E_FORMAT, "configuration lacks \"%s\"", key);
    *out = (uint32_t)v;
    return PILLION_OK;
}

static pillion_status get_string(char *out, size_t out_bytes, const pil_json *json, const char *key,
                                 pillion_error *err) {
    size_t n;
    const char *s = pil_json_string(pil_json_get(json, key), &n);
    if (!s || n >= out_bytes || strlen(s) != n)
        return pil_err_set(err, PILLION_E_FORMAT, "configuration lacks \"%s\"", key);
    memcpy(out, s, n + 1);
    return PILLION_OK;
}

/* Index of the named value, or count when the name is unknown. */
static size_t name_index(const char *const *names, size_t count, const pil_json *v) {
    const char *s = pil_json_string_or(v, "");
    size_t i = 0;
    while (i < count && strcmp(names[i], s) != 0) i++;
    return i;
}

static pillion_status get_dense(pil_config *c, const pil_json *list, pillion_error *err) {
    size_t n = pil_json_count(list);
    if (n > PIL_DENSE_MAX) return pil_err_set(err, PILLION_E_FORMAT, "more than %d dense modules", PIL_DENSE_MAX);
    for (c->n_dense = 0; c->n_dense < n; c->n_dense++) {
        const pil_json *item = pil_json_at(list, c->n_dense);
        pil_dense *d = &c->dense[c->n_dense];
        pillion_status st = get_uint(&d->n_in, item, "in", err);
        if (!st) st = get_uint(&d->n_out, item, "out", err);
        if (st) return st;
        d->bias = pil_json_bool_or(pil_json_get(item, "bias"), false);
        size_t a = name_index(activation_names, ACTIVATIONS, pil_json_get(item, "activation"));
        if (a == ACTIVATIONS) return pil_err_set(err, PILLION_E_FORMAT, "unknown dense activation");
        d->activation = (pil_activation)a;
    }
    return PILLION_OK;
}

static pillion_status get_prompts(pil_config *c, const pil_json *list, pillion_error *err) {
    size_t n = pil_json_count(list);
    if (n > PIL_PROMPTS_MAX) return pil_err_set(err, PILLION_E_FORMAT, "more than %d prompts", PIL_PROMPTS_MAX);
    for (c->n_prompts = 0; c->n_prompts < n; c->n_prompts++) {
        const pil_json *item = pil_json_at(list, c->n_prompts);
        pil_prompt *p = &c->prompts[c->n_prompts];
        pillion_status st = get_string(p->name, sizeof p->name, item, "name", err);
        if (!st) st = get_string(p->text, sizeof p->text, item, "text", err);
        if (st) return st;
    }
    return PILLION_OK;
}

pillion_status pil_config_from_json(pil_config *out, const pil_json *json, pillion_error *err) {
    *out = (pil_config){0};
    pillion_status st = get_string(out->name, sizeof out->name, json, "name", err);
    if (!st) st = get_string(out->family, sizeof out->family, json, "family", err);
#define GET(field) \
    if (!st) st = get_uint(&out->field, json, #field, err);
    UINT_FIELDS(GET)
#undef GET
    if (!st) st = get_dense(out, pil_json_get(json, "dense"), err);
    if (!st) st = get_prompts(out, pil_json_get(json, "prompts"), err);
    if (st) return st;
    out->norm_eps = (float)pil_json_real_or(pil_json_get(json, "norm_eps"), 0);
    out->activation = (pil_activation)name_index(activation_names, ACTIVATIONS, pil_json_get(json, "activation"));
    out->position = (pil_position)name_index(position_names, POSITIONS, pil_json_get(json, "position"));
    out->relative_bias = pil_json_bool_or(pil_json_get(json, "relative_bias"), false);
    out->pool_prompt = pil_json_bool_or(pil_json_get(json, "pool_prompt"), true);
    out->normalize = pil_json_bool_or(pil_json_get(json, "normalize"), false);
    out->default_prompt = (int32_t)pil_json_int_or(pil_json_get(json, "default_prompt"), -1);
    return pil_config_check(out, err);
}
