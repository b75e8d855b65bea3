/* family.c - the list of architectures, and what their read_config functions share. Tests: tests/engine/test_family.c.
 */
#include <stdio.h>
#include <string.h>

#include "base/err.h"
#include "base/limits.h"
#include "engine/engine_int.h"

static const pil_family *const families[] = {&pil_family_bert, &pil_family_roberta, &pil_family_mpnet};
#define FAMILIES (sizeof families / sizeof *families)

const pil_family *pil_family_find(const char *model_type) {
    for (size_t i = 0; i < FAMILIES; i++)
        for (const char *const *t = families[i]->model_types; *t; t++)
            if (strcmp(*t, model_type) == 0) return families[i];
    return NULL;
}

void pil_family_list(char *out, size_t out_bytes) {
    size_t at = 0;
    out[0] = '\0';
    for (size_t i = 0; i < FAMILIES; i++)
        for (const char *const *t = families[i]->model_types; *t && at < out_bytes; t++) {
            int n = snprintf(out + at, out_bytes - at, "%s%s", at ? ", " : "", *t);
            at += n > 0 ? (size_t)n : 0;
        }
}

pillion_status pil_family_uint(uint32_t *out, const pil_json *config, const char *key, uint32_t max,
                               pillion_error *err) {
    const pil_json *v = pil_json_get(config, key);
    if (!v) return pil_err_set(err, PILLION_E_FORMAT, "\"%s\" is missing", key);
    int64_t n = pil_json_int_or(v, -1);
    if (n < 1 || n > max)
        return pil_err_set(err, PILLION_E_FORMAT, "\"%s\" must be a whole number from 1 to %u", key, max);
    *out = (uint32_t)n;
    return PILLION_OK;
}

/* A field that may be left out, but not be something else. */
static pillion_status check_type(const pil_json *config, const char *key, pil_json_type type, pillion_error *err) {
    static const char *const names[] = {[PIL_JSON_BOOL] = "true or false", [PIL_JSON_REAL] = "a number",
                                        [PIL_JSON_STRING] = "a string"};
    pil_json_type is = pil_json_typeof(pil_json_get(config, key));
    if (is == PIL_JSON_NULL || is == type || (is == PIL_JSON_INT && type == PIL_JSON_REAL)) return PILLION_OK;
    return pil_err_set(err, PILLION_E_FORMAT, "\"%s\" must be %s", key, names[type]);
}

pillion_status pil_family_activation(pil_activation *out, const pil_json *config, pillion_error *err) {
    static const struct {
        const char *name;
        pil_activation activation;
    } known[] = {
        {"gelu", PIL_ACTIVATION_GELU_ERF},           {"gelu_python", PIL_ACTIVATION_GELU_ERF},
        {"gelu_new", PIL_ACTIVATION_GELU_TANH},      {"gelu_pytorch_tanh", PIL_ACTIVATION_GELU_TANH},
        {"gelu_fast", PIL_ACTIVATION_GELU_TANH},     {"relu", PIL_ACTIVATION_RELU},
    };
    pillion_status st = check_type(config, "hidden_act", PIL_JSON_STRING, err);
    if (st) return st;
    const char *name = pil_json_string_or(pil_json_get(config, "hidden_act"), "gelu");
    for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
        if (strcmp(known[i].name, name) != 0) continue;
        *out = known[i].activation;
        return PILLION_OK;
    }
    return pil_err_set(err, PILLION_E_UNSUPPORTED, "\"hidden_act\" is \"%.40s\"; supported: gelu, gelu_new, relu",
                       name);
}

pillion_status pil_family_encoder_config(pil_config *c, const pil_json *config, double default_eps,
                                         pillion_error *err) {
    pillion_status st = pil_family_uint(&c->hidden, config, "hidden_size", PIL_LIMIT_HIDDEN, err);
    if (!st) st = pil_family_uint(&c->layers, config, "num_hidden_layers", PIL_LIMIT_LAYERS, err);
    if (!st) st = pil_family_uint(&c->heads, config, "num_attention_heads", PIL_LIMIT_HEADS, err);
    if (!st) st = pil_family_uint(&c->ffn, config, "intermediate_size", PIL_LIMIT_FFN, err);
    if (!st) st = pil_family_uint(&c->vocab, config, "vocab_size", PIL_LIMIT_VOCAB, err);
    if (!st) st = pil_family_uint(&c->positions, config, "max_position_embeddings", PIL_LIMIT_POSITIONS, err);
    if (!st) st = pil_family_activation(&c->activation, config, err);
    if (!st) st = check_type(config, "layer_norm_eps", PIL_JSON_REAL, err);
    if (!st) st = check_type(config, "position_embedding_type", PIL_JSON_STRING, err);
    if (!st) st = check_type(config, "is_decoder", PIL_JSON_BOOL, err);
    if (st) return st;
    c->norm_eps = (float)pil_json_real_or(pil_json_get(config, "layer_norm_eps"), default_eps);
    const char *position = pil_json_string_or(pil_json_get(config, "position_embedding_type"), "absolute");
    if (strcmp(position, "absolute") != 0)
        return pil_err_set(err, PILLION_E_UNSUPPORTED, "\"position_embedding_type\" is \"%.40s\"; supported: absolute",
                           position);
    if (pil_json_bool_or(pil_json_get(config, "is_decoder"), false))
        return pil_err_set(err, PILLION_E_UNSUPPORTED, "\"is_decoder\" is true; only encoders are supported");
    return PILLION_OK;
}

pillion_status pil_family_pad_positions(pil_config *c, int64_t pad, pillion_error *err) {
    if (pad < 0 || pad + 1 >= c->positions)
        return pil_err_set(err, PILLION_E_FORMAT, "\"pad_token_id\" leaves none of the %u positions", c->positions);
    c->position = PIL_POSITION_PAD_AWARE;
    c->position_offset = (uint32_t)pad;
    c->max_tokens = c->positions - (uint32_t)pad - 1;
    return PILLION_OK;
}
