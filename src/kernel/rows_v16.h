/* rows_v16.h - kernels that go over rows once: layer norm, activations, pooling, dot. The including file has defined
 * v16 (simd_*.h). All are bound by loads and stores for data beyond L1.
 *
 * Tails: the last n % 16 values go through v16_load_n and v16_store_n, never beyond the row.
 * Tests: tests/kernel/checkasm.c. */
#ifndef PIL_KERNEL_ROWS_V16_H
#define PIL_KERNEL_ROWS_V16_H

#include <math.h>

#include "kernel/kernel_int.h"
#include "kernel/math_v16.h"

/* LAYERNORM_ROWS rows at a time hide the latency of the sums. A row's sums do not depend on its neighbours. */
enum { LAYERNORM_ROWS = 4 };

static inline __attribute__((always_inline)) void
layernorm_rows(size_t rows, float *out, const float *x, const float *weight, const float *bias, float eps, size_t n) {
    size_t whole = n / 16 * 16, left = n - whole;
    v16 sum[LAYERNORM_ROWS], mean[LAYERNORM_ROWS], scale[LAYERNORM_ROWS];
    for (size_t r = 0; r < rows; r++) sum[r] = left ? v16_load_n(x + r * n + whole, left) : v16_zero();
    for (size_t j = 0; j < whole; j += 16) {
        for (size_t r = 0; r < rows; r++) sum[r] = v16_add(sum[r], v16_load(x + r * n + j));
    }
    for (size_t r = 0; r < rows; r++) {
        mean[r] = v16_set(v16_sum(sum[r]) / (float)n);
        sum[r] = v16_zero();
        if (left) {
            v16 d = v16_keep(v16_sub(v16_load_n(x + r * n + whole, left), mean[r]), left);
            sum[r] = v16_mul(d, d);
        }
    }
    for (size_t j = 0; j < whole; j += 16) {
        for (size_t r = 0; r < rows; r++) {
            v16 d = v16_sub(v16_load(x + r * n + j), mean[r]);
            sum[r] = v16_fma(d, d, sum[r]);
        }
    }
    for (size_t r = 0; r < rows; r++) scale[r] = v16_set(1.0f / sqrtf(v16_sum(sum[r]) / (float)n + eps));
    for (size_t j = 0; j < whole; j += 16) {
        v16 w = v16_load(weight + j), b = v16_load(bias + j);
        for (size_t r = 0; r < rows; r++) {
            v16 d = v16_mul(v16_sub(v16_load(x + r * n + j), mean[r]), scale[r]);
            v16_store(out + r * n + j, v16_fma(d, w, b));
        }
    }
    for (size_t r = 0; left && r < rows; r++) {
        v16 d = v16_mul(v16_sub(v16_load_n(x + r * n + whole, left), mean[r]), scale[r]);
        v16 y = v16_fma(d, v16_load_n(weight + whole, left), v16_load_n(bias + whole, left));
        v16_store_n(out + r * n + whole, y, left);
    }
}

static void layernorm_f32(float *out, const float *x, const float *weight, const float *bias, float eps, size_t rows,
                          size_t n) {
    size_t r = 0;
    for (; r + LAYERNORM_ROWS <= rows; r += LAYERNORM_ROWS) {
        layernorm_rows(LAYERNORM_ROWS, out + r * n, x + r * n, weight, bias, eps, n);
    }
    for (; r < rows; r++) layernorm_rows(1, out + r * n, x + r * n, weight, bias, eps, n);
}

static inline v16 v16_relu(v16 x) { return v16_max(v16_zero(), x); }

/* The chain of multiply-adds of one turn is long, but turns are independent: the processor runs several at once. */
#define ACTIVATION(name, f)                                                                                            \
    static void name(float *x, size_t n) {                                                                             \
        size_t whole = n / 16 * 16, left = n - whole;                                                                  \
        for (size_t i = 0; i < whole; i += 16) v16_store(x + i, f(v16_load(x + i)));                                   \
        if (left) v16_store_n(x + whole, f(v16_load_n(x + whole, left)), left);                                        \
    }
ACTIVATION(gelu_erf_f32, v16_gelu_erf)
ACTIVATION(gelu_tanh_f32, v16_gelu_tanh)
ACTIVATION(relu_f32, v16_relu)
ACTIVATION(tanh_f32, v16_tanh)
#undef ACTIVATION

/* Row after row, the result staying in L1, so that memory is read in its own order. */
static void sum_rows_f32(float *out, const float *x, const float *weight, size_t rows, size_t n) {
    for (size_t r = 0; r < rows; r++, x += n) {
        v16 w = v16_set(weight ? weight[r] : 1.0f);
        for (size_t j = 0; j < n; j += 16) {
            size_t left = pil_min(n - j, 16);
            v16 s = r ? v16_load_n(out + j, left) : v16_zero();
            v16_store_n(out + j, v16_fma(v16_load_n(x + j, left), w, s), left);
        }
    }
}

static void max_rows_f32(float *out, const float *x, size_t rows, size_t n) {
    for (size_t r = 0; r < rows; r++, x += n) {
        for (size_t j = 0; j < n; j += 16) {
            size_t left = pil_min(n - j, 16);
            v16 v = v16_load_n(x + j, left);
            v16_store_n(out + j, r ? v16_max(v16_load_n(out + j, left), v) : v, left);
        }
    }
}

/* Eight sums in f64, value i in sum i % 8, then added as v16_sum does. A product of two floats is exact in f64, so it
 * makes no difference whether the compiler fuses it. */
static double dot_f32(const float *a, const float *b, size_t n) {
    double s[8] = {0};
    size_t i = 0;
    for (; i + 8 <= n; i += 8) {
        for (size_t j = 0; j < 8; j++) s[j] += (double)a[i + j] * (double)b[i + j];
    }
    for (size_t j = 0; i + j < n; j++) s[j] += (double)a[i + j] * (double)b[i + j];
    return ((s[0] + s[4]) + (s[2] + s[6])) + ((s[1] + s[5]) + (s[3] + s[7]));
}

#endif
