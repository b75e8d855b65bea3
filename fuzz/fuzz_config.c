/* fuzz_config.c - any JSON as the configuration of a model: as config.json by each family, and as the metadata of a
 * compiled file. It is refused with a reason, or its numbers are within limits and survive being written. */
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "base/limits.h"
#include "engine/engine.h"

static void check(bool holds) {
    if (!holds) __builtin_trap();
}

/* What the compiler adds to a family's half, so that the whole can be checked. */
static void complete(pil_config *c) {
    memcpy(c->family, "bert", sizeof "bert");
    c->pooling = PIL_POOL_MEAN;
    c->default_prompt = -1;
}

static void check_sound(const pil_config *c) {
    check(c->hidden >= 1 && c->hidden <= PIL_LIMIT_HIDDEN && c->heads >= 1 && c->hidden % c->heads == 0);
    check(c->layers >= 1 && c->layers <= PIL_LIMIT_LAYERS && c->ffn <= PIL_LIMIT_FFN && c->vocab <= PIL_LIMIT_VOCAB);
    check(c->max_tokens >= 1 && c->max_tokens <= c->positions && c->positions <= PIL_LIMIT_POSITIONS);
    check(c->norm_eps > 0 && c->pooling != 0 && pil_config_dim(c) >= 1);
    check(c->n_dense <= PIL_DENSE_MAX && c->n_prompts <= PIL_PROMPTS_MAX && c->default_prompt < (int32_t)c->n_prompts);
}

static void write_and_read_back(const pil_config *c) {
    pil_buf once, twice;
    pil_json *json;
    pil_config *back = malloc(sizeof *back);
    pil_buf_init(&once, PIL_MIB);
    pil_buf_init(&twice, PIL_MIB);
    check(back && pil_config_put_json(c, &once) == PILLION_OK);
    check(pil_json_parse(&json, once.bytes, once.len, NULL, NULL) == PILLION_OK);
    check(pil_config_from_json(back, json, NULL) == PILLION_OK);
    check(pil_config_put_json(back, &twice) == PILLION_OK);
    check(once.len == twice.len && memcmp(once.bytes, twice.bytes, once.len) == 0);
    pil_json_free(json);
    pil_buf_deinit(&once);
    pil_buf_deinit(&twice);
    free(back);
}

static void take(pil_config *c, const pil_json *json) {
    static const char *const types[] = {"bert", "roberta", "xlm-roberta", "mpnet"};
    pillion_error err = {0};
    for (size_t i = 0; i < sizeof types / sizeof *types; i++) {
        const pil_family *family = pil_family_find(types[i]);
        if (!family) continue;
        *c = (pil_config){0};
        err = (pillion_error){0};
        pillion_status st = family->read_config(c, json, &err);
        if (!st) {
            complete(c);
            st = pil_config_check(c, &err);
        }
        check(st == err.code && (!st || err.text[0]));
        if (st) continue;
        check_sound(c);
        write_and_read_back(c);
    }
    err = (pillion_error){0};
    pillion_status st = pil_config_from_json(c, json, &err);
    check(st == err.code && (!st || err.text[0]));
    if (st) return;
    check_sound(c);
    write_and_read_back(c);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    pil_json *json;
    pil_config *c = malloc(sizeof *c);
    check(c != NULL);
    if (!pil_json_parse(&json, (const char *)data, size, NULL, NULL)) {
        take(c, json);
        pil_json_free(json);
    }
    free(c);
    return 0;
}
