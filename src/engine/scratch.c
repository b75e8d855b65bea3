/* scratch.c - all memory of a forward pass in one allocation, sized once from the configuration.
 *
 * Invariant: nothing in forward.c or pool.c allocates. Tests: tests/engine/test_forward.c. */
#include <stdlib.h>

#include "base/err.h"
#include "engine/engine_int.h"

#define ALIGN_FLOATS ((size_t)16) /* 64 bytes */

static size_t max_of(size_t a, size_t b) { return a > b ? a : b; }

/* Walks the parts in order. With base NULL it only counts; else it hands out addresses. */
typedef struct layout {
    float *base;
    size_t floats;
} layout;

static float *part(layout *l, size_t floats) {
    float *p = l->base ? l->base + l->floats : NULL;
    l->floats += (floats + ALIGN_FLOATS - 1) / ALIGN_FLOATS * ALIGN_FLOATS;
    return p;
}

static void lay_out(pil_scratch *s, layout *l, const pil_network *n, size_t tokens) {
    const pil_config *c = &n->config;
    size_t widest = pil_config_pooled_dim(c);
    for (uint32_t i = 0; i < c->n_dense; i++) widest = max_of(widest, c->dense[i].n_out);
    s->x = part(l, tokens * c->hidden);
    s->qkv = part(l, tokens * 3 * c->hidden);
    s->context = part(l, tokens * c->hidden);
    s->ffn = part(l, PIL_FFN_BLOCK * (size_t)c->ffn);
    s->attention = part(l, n->kernels->attention_scratch(c->max_tokens, c->hidden / c->heads));
    s->pooled[0] = part(l, widest);
    s->pooled[1] = part(l, widest);
    s->weights = part(l, c->max_tokens);
}

size_t pil_scratch_bytes(const pil_network *n, size_t batch_tokens_max) {
    pil_scratch s;
    layout l = {0};
    lay_out(&s, &l, n, batch_tokens_max);
    return l.floats * sizeof(float);
}

pillion_status pil_scratch_create(pil_scratch **out, const pil_network *n, size_t batch_tokens_max,
                                  pillion_error *err) {
    *out = NULL;
    if (batch_tokens_max < n->config.max_tokens || batch_tokens_max > (size_t)1 << 24)
        return pil_err_set(err, PILLION_E_ARG, "batch of %zu tokens: must be at least the model's %u and at most %d",
                           batch_tokens_max, n->config.max_tokens, 1 << 24);
    pil_scratch *s = calloc(1, sizeof *s);
    void *memory = s ? aligned_alloc(64, pil_scratch_bytes(n, batch_tokens_max)) : NULL;
    if (!memory) {
        free(s);
        return pil_err_set(err, PILLION_E_NOMEM, "no memory for a batch of %zu tokens", batch_tokens_max);
    }
    layout l = {.base = memory};
    lay_out(s, &l, n, batch_tokens_max);
    s->memory = memory;
    s->tokens_max = batch_tokens_max;
    *out = s;
    return PILLION_OK;
}

void pil_scratch_destroy(pil_scratch *s) {
    if (!s) return;
    free(s->memory);
    free(s);
}
