/* forward.c - the encoder: ids of many sequences laid end to end -> hidden states. Start reading here.
 *
 * One post-norm transformer serves every family (Vaswani et al., arXiv:1706.03762, section 3.1, as BERT arranges it):
 *     x = LN(word[id] + type[0] + position[p])
 *     for each layer:   x = LN(attention(x) Wo + bo + x);   x = LN(gelu(x Wi + bi) W2 + b2 + x)
 * What differs (position scheme, relative bias, activation, sizes) is data in pil_config.
 *
 * Invariants: (1) no allocation, lock or system call. (2) no padding: products run over the real tokens of all
 * sequences, attention over one sequence at a time. (3) a token's result depends on its own sequence alone, to the last
 *             bit: every kernel promises it for its rows, and the FFN's blocks only group rows.
 * Threads:    one scratch, one thread. Tests: tests/engine/test_forward.c, tests/lib/test_golden.c. */
#include <math.h>
#include <assert.h>

#include "engine/engine_int.h"

static void linear(const pil_kernels *k, const pil_linear *l, size_t m, const float *a, const float *residual,
                   float *c) {
    pil_gemm_f32 g = {.m = m, .n = l->n, .k = l->k, .a = a, .lda = l->k, .w = l->weight, .bias = l->bias,
                      .residual = residual, .c = c, .ldc = l->n};
    k->gemm_f32(&g);
}

static void norm(const pil_network *n, const pil_norm *w, float *x, size_t tokens) {
    n->kernels->layernorm_f32(x, x, w->weight, w->bias, n->config.norm_eps, tokens, n->config.hidden);
}

/* Sums in the order of the reference (word + type, then + position), which fixes the last bit. */
static void embed_sequence(const pil_network *n, const int32_t *ids, size_t tokens, float *x) {
    const pil_config *c = &n->config;
    uint32_t seen = 0; /* ids so far that are not the pad id */
    for (size_t t = 0; t < tokens; t++) {
        size_t row = t + c->position_offset;
        if (c->position == PIL_POSITION_PAD_AWARE) {
            bool pad = (uint32_t)ids[t] == c->position_offset;
            seen += !pad;
            row = pad ? c->position_offset : c->position_offset + seen;
        }
        const float *word = n->word + (size_t)ids[t] * c->hidden;
        const float *position = n->position + row * c->hidden;
        float *out = x + t * c->hidden;
        if (n->type)
            for (size_t j = 0; j < c->hidden; j++) out[j] = (word[j] + n->type[j]) + position[j];
        else
            for (size_t j = 0; j < c->hidden; j++) out[j] = word[j] + position[j];
    }
}

static void attend(const pil_network *n, pil_scratch *s, const uint32_t *starts, size_t n_sequences,
                   const pil_watch *watch) {
    const pil_config *c = &n->config;
    size_t h = c->hidden, d = h / c->heads, span = 2 * (size_t)c->max_tokens - 1;
    for (size_t i = 0; i < n_sequences; i++) {
        const float *qkv = s->qkv + starts[i] * 3 * h; /* [tokens, q | k | v] */
        for (uint32_t head = 0; head < c->heads; head++) {
            pil_attention_f32 a = {
                .n_tokens = starts[i + 1] - starts[i],
                .head_dim = d,
                .q = qkv + head * d,
                .k = qkv + h + head * d,
                .v = qkv + 2 * h + head * d,
                .ld = 3 * h,
                .out = s->context + starts[i] * h + head * d,
                .ld_out = h,
                .scale = 1.0f / sqrtf((float)d),
                .rel_bias = n->rel_bias ? n->rel_bias + head * span + c->max_tokens - 1 : NULL,
                .scratch = s->attention,
            };
            n->kernels->attention_f32(&a);
        }
        pil_watch_beat(watch);
    }
}

/* In blocks of rows, so that the wide intermediate stays near the core. */
static void feed_forward(const pil_network *n, pil_scratch *s, const pil_layer *layer, size_t tokens,
                         const pil_watch *watch) {
    const pil_config *c = &n->config;
    for (size_t at = 0; at < tokens; at += PIL_FFN_BLOCK) {
        size_t rows = tokens - at < PIL_FFN_BLOCK ? tokens - at : PIL_FFN_BLOCK;
        float *x = s->x + at * c->hidden;
        linear(n->kernels, &layer->ffn_up, rows, x, NULL, s->ffn);
        pil_activate(n->kernels, c->activation, s->ffn, rows * c->ffn);
        linear(n->kernels, &layer->ffn_down, rows, s->ffn, x, x);
        norm(n, &layer->ffn_norm, x, rows);
        pil_watch_beat(watch);
    }
}

pillion_status pil_network_forward(const pil_network *n, pil_scratch *s, const int32_t *ids, const uint32_t *starts,
                                   size_t n_sequences, const pil_watch *watch, const float **hidden) {
    size_t tokens = starts[n_sequences];
    assert(tokens <= s->tokens_max);
    for (size_t i = 0; i < n_sequences; i++) {
        size_t length = starts[i + 1] - starts[i];
        assert(length >= 1 && length <= n->config.max_tokens);
        embed_sequence(n, ids + starts[i], length, s->x + starts[i] * (size_t)n->config.hidden);
    }
    norm(n, &n->embedding_norm, s->x, tokens);
    for (uint32_t i = 0; i < n->config.layers; i++) {
        if (pil_watch_cancelled(watch)) return PILLION_E_CANCELLED;
        pil_watch_beat(watch);
        const pil_layer *layer = &n->layers[i];
        linear(n->kernels, &layer->qkv, tokens, s->x, NULL, s->qkv);
        attend(n, s, starts, n_sequences, watch);
        linear(n->kernels, &layer->attention_out, tokens, s->context, s->x, s->x);
        norm(n, &layer->attention_norm, s->x, tokens);
        feed_forward(n, s, layer, tokens, watch);
    }
    *hidden = s->x;
    return PILLION_OK;
}
