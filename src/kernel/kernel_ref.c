/* kernel_ref.c - the portable tier: complete, in plain C, and what the tests hold every other tier against.
 *
 * It is written to be read. Sums that decide accuracy run in f64 and exp, erf and tanh are the C library's, so that a
 * difference between this tier and another one is the other's error. Only the product keeps f32 and the shared order of
 * summation (kernel_int.h), with separate multiply and add.
 * Tests: tests/kernel/checkasm.c. */
#include <math.h>
#include <string.h>

#include "kernel/kernel_int.h"

/* One row times one tile of 16 columns, over k steps. */
static void chain(float *sum, const float *a, const float *w, size_t k) {
    for (size_t j = 0; j < PIL_TILE_N; j++) sum[j] = 0;
    for (size_t x = 0; x < k; x++) {
        for (size_t j = 0; j < PIL_TILE_N; j++) sum[j] += a[x] * w[x * PIL_TILE_N + j];
    }
}

static void gemm_f32(const pil_gemm_f32 *g) {
    for (size_t i = 0; i < g->m; i++) {
        const float *a = g->a + i * g->lda;
        for (size_t tile = 0; tile < g->n; tile += PIL_TILE_N) {
            size_t columns = pil_min(g->n - tile, PIL_TILE_N);
            const float *w = g->w + tile * g->k;
            float *c = g->c + i * g->ldc + tile;
            float total[PIL_TILE_N], sum[PIL_TILE_N];
            chain(total, a, w, pil_min(g->k, PIL_CHAIN));
            for (size_t j = 0; j < columns; j++) {
                if (g->bias) total[j] += g->bias[tile + j];
                if (g->residual) total[j] += g->residual[i * g->ldc + tile + j];
            }
            for (size_t x = PIL_CHAIN; x < g->k; x += PIL_CHAIN) {
                chain(sum, a + x, w + x * PIL_TILE_N, pil_min(g->k - x, PIL_CHAIN));
                for (size_t j = 0; j < PIL_TILE_N; j++) total[j] += sum[j];
            }
            memcpy(c, total, columns * sizeof *c);
        }
    }
}

static double dot_f32(const float *a, const float *b, size_t n) {
    double sum = 0;
    for (size_t i = 0; i < n; i++) sum += (double)a[i] * (double)b[i];
    return sum;
}

static size_t attention_scratch(size_t n_tokens, size_t head_dim) {
    (void)head_dim;
    return n_tokens;
}

static void attention_f32(const pil_attention_f32 *a) {
    size_t t = a->n_tokens, d = a->head_dim;
    float *p = a->scratch; /* [t], one query's scores, then its weights */
    for (size_t i = 0; i < t; i++) {
        float max = -INFINITY;
        for (size_t j = 0; j < t; j++) {
            double s = dot_f32(a->q + i * a->ld, a->k + j * a->ld, d) * (double)a->scale;
            if (a->rel_bias) s += (double)a->rel_bias[(ptrdiff_t)j - (ptrdiff_t)i];
            p[j] = (float)s;
            if (p[j] > max) max = p[j];
        }
        double sum = 0;
        for (size_t j = 0; j < t; j++) {
            p[j] = expf(p[j] - max);
            sum += (double)p[j];
        }
        for (size_t x = 0; x < d; x++) {
            double o = 0;
            for (size_t j = 0; j < t; j++) o += (double)p[j] * (double)a->v[j * a->ld + x];
            a->out[i * a->ld_out + x] = (float)(o / sum);
        }
    }
}

static void layernorm_f32(float *out, const float *x, const float *weight, const float *bias, float eps, size_t rows,
                          size_t n) {
    for (size_t r = 0; r < rows; r++, x += n, out += n) {
        double mean = 0, variance = 0;
        for (size_t j = 0; j < n; j++) mean += (double)x[j];
        mean /= (double)n;
        for (size_t j = 0; j < n; j++) variance += ((double)x[j] - mean) * ((double)x[j] - mean);
        variance /= (double)n;
        double scale = 1 / sqrt(variance + (double)eps);
        for (size_t j = 0; j < n; j++) {
            out[j] = (float)(((double)x[j] - mean) * scale * (double)weight[j] + (double)bias[j]);
        }
    }
}

static void gelu_erf_f32(float *x, size_t n) {
    for (size_t i = 0; i < n; i++) x[i] = (float)(0.5 * (double)x[i] * (1 + erf((double)x[i] * 0.70710678118654752)));
}

static void gelu_tanh_f32(float *x, size_t n) {
    for (size_t i = 0; i < n; i++) {
        double v = (double)x[i];
        x[i] = (float)(0.5 * v * (1 + tanh(0.79788456080286536 * (v + 0.044715 * v * v * v))));
    }
}

static void relu_f32(float *x, size_t n) {
    for (size_t i = 0; i < n; i++) x[i] = x[i] < 0 ? 0 : x[i]; /* NaN stays */
}

static void tanh_f32(float *x, size_t n) {
    for (size_t i = 0; i < n; i++) x[i] = tanhf(x[i]);
}

static void sum_rows_f32(float *out, const float *x, const float *weight, size_t rows, size_t n) {
    for (size_t j = 0; j < n; j++) out[j] = weight ? x[j] * weight[0] : x[j];
    for (size_t r = 1; r < rows; r++) {
        for (size_t j = 0; j < n; j++) out[j] += weight ? x[r * n + j] * weight[r] : x[r * n + j];
    }
}

static void max_rows_f32(float *out, const float *x, size_t rows, size_t n) {
    memcpy(out, x, n * sizeof *out);
    for (size_t r = 1; r < rows; r++) {
        for (size_t j = 0; j < n; j++) out[j] = x[r * n + j] > out[j] ? x[r * n + j] : out[j];
    }
}

void pil_kernel_init_ref(pil_kernels *k) {
    *k = (pil_kernels){
        .name = "ref",
        .gemm_f32 = gemm_f32,
        .attention_f32 = attention_f32,
        .attention_scratch = attention_scratch,
        .layernorm_f32 = layernorm_f32,
        .gelu_erf_f32 = gelu_erf_f32,
        .gelu_tanh_f32 = gelu_tanh_f32,
        .relu_f32 = relu_f32,
        .tanh_f32 = tanh_f32,
        .sum_rows_f32 = sum_rows_f32,
        .max_rows_f32 = max_rows_f32,
        .dot_f32 = dot_f32,
    };
}
