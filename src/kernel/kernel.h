/* kernel.h - arithmetic on plain pointers. One table of function pointers for each instruction-set tier: it starts as
 * the portable reference (kernel_ref.c) and each tier overwrites what it improves, as in dav1d and BLIS.
 *
 * No function here allocates, locks or fails; callers have checked every size, and every count is at least 1 unless its
 * comment says otherwise. No pointer may alias another unless the comment says so. Nothing needs alignment beyond that
 * of float, except packed weights and scratch (64 bytes). Nothing is read or written beyond what a comment states.
 *
 * Bits: a result for one row (or sequence) is the same whatever other rows are in the same call: the order of summation
 * never depends on m, n or the place of the row. All vector tiers (avx2, avx512, neon) return the same bits as each
 * other; ref differs by rounding.
 *
 * How bf16 and int8 join. Each is one more product in the table beside gemm_f32, NULL where a tier has none, with its
 * own argument struct of the same shape (m, n, k, bias, residual, f32 c): gemm_bf16 takes rows of bf16 and weights
 * packed [n/16][k/2][16][2]; gemm_u8s8 takes rows of u8 with a scale and a zero point for each row and weights packed
 * [n/16][k/4][16][4] with a scale and a sum for each column. The functions that make such rows (f32 to bf16, f32 to u8
 * with its range) join as row kernels beside layernorm_f32. Instructions beyond a tier are a tier of their own, a
 * bundle added to the list in cpu.c in rising order (avx512 -> avx512vnni -> avx512bf16; neon -> dotprod -> i8mm): its
 * init function inherits the table below it and fills in the new products. A register tile of its own (tile_*.h) is all
 * that a product needs; the loops around it, with their prefetching, are those of gemm_v16.h. Attention, norms and
 * activations stay f32 and are inherited. */
#ifndef PIL_KERNEL_KERNEL_H
#define PIL_KERNEL_KERNEL_H

#include <stddef.h>
#include <stdint.h>

/* Columns in one tile of packed weights: [n/16][k][16] in f32, [n/16][k/2][16][2] in bf16, [n/16][k/4][16][4] in int8.
 * The layout belongs to the file; kernels read as many tiles side by side as suits them. */
#define PIL_TILE_N 16

/* c[i][j] = sum over x of a[i][x] * w[j][x]  + bias[j]  + residual[i][j]. */
typedef struct pil_gemm_f32 {
    size_t m, n, k;
    const float *a; /* [m, k], row stride lda */
    size_t lda;
    const float *w;        /* packed [ceil(n/16)][k][16], 64-byte aligned, columns beyond n are zero */
    const float *bias;     /* [n] or NULL */
    const float *residual; /* [m, n] with row stride ldc, or NULL; may be equal to c */
    float *c;              /* [m, n], row stride ldc */
    size_t ldc;
} pil_gemm_f32;

/* Self-attention of one head of one sequence: out = softmax(scale * q k^T + bias) v, softmax over keys.
 * Source: Vaswani et al., arXiv:1706.03762, section 3.2.1; relative bias as in MPNet (arXiv:2004.09297). */
typedef struct pil_attention_f32 {
    size_t n_tokens, head_dim;
    const float *q, *k, *v; /* [n_tokens, head_dim], row stride ld */
    size_t ld;
    float *out; /* [n_tokens, head_dim], row stride ld_out; may not overlap q, k, v */
    size_t ld_out;
    float scale;
    /* NULL, or rel_bias[j - i] is added for query i and key j, -(n_tokens - 1) <= j - i < n_tokens */
    const float *rel_bias;
    float *scratch; /* pil_kernels.attention_scratch(n_tokens, head_dim) floats, 64-byte aligned */
} pil_attention_f32;

/* One tier. */
typedef struct pil_kernels {
    const char *name; /* "ref", "avx2", "avx512", "neon" */

    /* Matrix product, packed weights. Sums are chains of 384 fused multiply-adds in f32 that are added in order. */
    void (*gemm_f32)(const pil_gemm_f32 *g);

    /* Any head_dim and length; fast for head_dim 32 and 64, and for n_tokens whose scores of 64 queries stay in L2
     * (about 512). Weights of keys carry a relative error of 3e-7 besides that of their scores. */
    void (*attention_f32)(const pil_attention_f32 *a);
    size_t (*attention_scratch)(size_t n_tokens, size_t head_dim); /* floats */

    /* out[r] = (x[r] - mean) / sqrt(variance + eps) * weight + bias, biased variance; out may be x. [rows, n] dense.
     * Source: Ba et al., arXiv:1607.06450. */
    void (*layernorm_f32)(float *out, const float *x, const float *weight, const float *bias, float eps, size_t rows,
                          size_t n);

    /* In place on n >= 0 values. gelu_erf: x * (1 + erf(x / sqrt 2)) / 2, absolute error <= 1e-6 (arXiv:1606.08415).
     * gelu_tanh: the tanh form, absolute error <= 1e-6. tanh: relative error <= 3e-7. NaN stays NaN. */
    void (*gelu_erf_f32)(float *x, size_t n);
    void (*gelu_tanh_f32)(float *x, size_t n);
    void (*relu_f32)(float *x, size_t n);
    void (*tanh_f32)(float *x, size_t n);

    /* out[j] = sum (or maximum) over rows of x[r][j] * (weight ? weight[r] : 1); x is [rows, n] dense, rows >= 1. Rows
     * are added in order. */
    void (*sum_rows_f32)(float *out, const float *x, const float *weight, size_t rows, size_t n);
    void (*max_rows_f32)(float *out, const float *x, size_t rows, size_t n);

    /* Sum of a[i] * b[i], n >= 0, accumulated in f64. */
    double (*dot_f32)(const float *a, const float *b, size_t n);
} pil_kernels;

/* The best table for this machine. PILLION_CPU=ref|avx2|avx512|neon in the environment asks for a lower tier; a tier
 * this machine cannot run is ignored. The table is static and immutable; the first call fills it (thread-safe). */
const pil_kernels *pil_kernels_best(void);

/* The table of one named tier, or NULL when this build or machine lacks it. For tests and benchmarks. */
const pil_kernels *pil_kernels_tier(const char *name);

/* Packs w [n, k] row-major into out [ceil(n/16)][k][16]; columns beyond n become zero. */
void pil_pack_f32(float *out, const float *w, size_t n, size_t k);
/* Floats that pil_pack_f32 writes. */
static inline size_t pil_pack_f32_count(size_t n, size_t k) {
    return (n + PIL_TILE_N - 1) / PIL_TILE_N * PIL_TILE_N * k;
}

#endif
