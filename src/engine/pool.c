/* pool.c - from the hidden states of one sequence to its vector: pooling, dense modules, normalisation.
 *
 * Source: Reimers and Gurevych, Sentence-BERT (arXiv:1908.10084), section 3, and the modules of sentence-transformers,
 *         whose order and constants are kept: several poolings are concatenated in the order cls, max, mean,
 *         mean_sqrt_len, weightedmean, lasttoken; Normalize divides by max(norm, 1e-12).
 * Tests:  tests/engine/test_forward.c. */
#include <assert.h>
#include <math.h>
#include <string.h>

#include "engine/engine_int.h"

void pil_activate(const pil_kernels *k, pil_activation a, float *values, size_t n) {
    switch (a) {
    case PIL_ACTIVATION_GELU_ERF: k->gelu_erf_f32(values, n); return;
    case PIL_ACTIVATION_GELU_TANH: k->gelu_tanh_f32(values, n); return;
    case PIL_ACTIVATION_RELU: k->relu_f32(values, n); return;
    case PIL_ACTIVATION_TANH: k->tanh_f32(values, n); return;
    case PIL_ACTIVATION_IDENTITY: return;
    }
}

static void divide(float *v, size_t n, float by) {
    for (size_t i = 0; i < n; i++) v[i] /= by;
}

/* Weights 1, 2, … over all tokens of the sequence: a skipped prompt still counts positions. */
static void weighted_mean(const pil_network *n, pil_scratch *s, const float *x, size_t tokens, size_t skip,
                          float *out) {
    float sum = 0;
    for (size_t i = 0; i < tokens; i++) {
        s->weights[i] = (float)(skip + i + 1);
        sum += s->weights[i];
    }
    n->kernels->sum_rows_f32(out, x, s->weights, tokens, n->config.hidden);
    divide(out, n->config.hidden, sum);
}

/* Fills [pooled_dim]; hidden is the whole sequence. cls is the first token behind a skipped prompt, as the reference
 * has it. */
static void pool(const pil_network *n, pil_scratch *s, const float *hidden, size_t n_tokens, size_t skip, float *out) {
    const pil_kernels *k = n->kernels;
    size_t h = n->config.hidden, tokens = n_tokens - skip;
    uint32_t pooling = n->config.pooling;
    const float *x = hidden + skip * h;
    if (pooling & PIL_POOL_CLS) {
        memcpy(out, x, h * sizeof *out);
        out += h;
    }
    if (pooling & PIL_POOL_MAX) {
        k->max_rows_f32(out, x, tokens, h);
        out += h;
    }
    if (pooling & PIL_POOL_MEAN) {
        k->sum_rows_f32(out, x, NULL, tokens, h);
        divide(out, h, (float)tokens);
        out += h;
    }
    if (pooling & PIL_POOL_MEAN_SQRT_LEN) {
        k->sum_rows_f32(out, x, NULL, tokens, h);
        divide(out, h, sqrtf((float)tokens));
        out += h;
    }
    if (pooling & PIL_POOL_WEIGHTED_MEAN) {
        weighted_mean(n, s, x, tokens, skip, out);
        out += h;
    }
    if (pooling & PIL_POOL_LAST) memcpy(out, hidden + (n_tokens - 1) * h, h * sizeof *out);
}

static void normalize_vector(const pil_kernels *k, float *v, size_t n) {
    double norm = sqrt(k->dot_f32(v, v, n));
    divide(v, n, (float)(norm > 1e-12 ? norm : 1e-12));
}

void pil_network_pool(const pil_network *n, pil_scratch *s, const float *hidden, size_t n_tokens, size_t skip,
                      bool normalize, float *out) {
    assert(skip < n_tokens);
    float *v = s->pooled[0];
    pool(n, s, hidden, n_tokens, skip, v);
    for (uint32_t i = 0; i < n->config.n_dense; i++) {
        float *next = s->pooled[(i + 1) % 2];
        const pil_linear *l = &n->dense[i];
        pil_gemm_f32 g = {.m = 1, .n = l->n, .k = l->k, .a = v, .lda = l->k, .w = l->weight, .bias = l->bias, .c = next,
                          .ldc = l->n};
        n->kernels->gemm_f32(&g);
        pil_activate(n->kernels, n->config.dense[i].activation, next, l->n);
        v = next;
    }
    uint32_t dim = pil_config_dim(&n->config);
    memcpy(out, v, dim * sizeof *out);
    if (normalize) normalize_vector(n->kernels, out, dim);
}
