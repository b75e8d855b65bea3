/* simd_avx512.h - sixteen floats in one register: the vocabulary in which the *_v16.h files are written, for AVX-512.
 *
 * Every simd_*.h declares the same names with the same results to the last bit (IEEE operations only, no estimates, one
 * order for sums), so a kernel written with them returns the same bits on every tier. Included by one kernel_*.c, which
 * is built with this tier's flags; pointers need no alignment. */
#ifndef PIL_KERNEL_SIMD_AVX512_H
#define PIL_KERNEL_SIMD_AVX512_H

#include <immintrin.h>
#include <stddef.h>

typedef __m512 v16;

static inline __mmask16 v16_first(size_t n) { return (__mmask16)((1u << n) - 1); }

static inline v16 v16_load(const float *p) { return _mm512_loadu_ps(p); }
static inline void v16_store(float *p, v16 v) { _mm512_storeu_ps(p, v); }
/* The first n <= 16 values; the rest reads as zero, and memory beyond is not touched. */
static inline v16 v16_load_n(const float *p, size_t n) { return _mm512_maskz_loadu_ps(v16_first(n), p); }
static inline void v16_store_n(float *p, v16 v, size_t n) { _mm512_mask_storeu_ps(p, v16_first(n), v); }
static inline v16 v16_set(float x) { return _mm512_set1_ps(x); }
static inline v16 v16_zero(void) { return _mm512_setzero_ps(); }

static inline v16 v16_add(v16 a, v16 b) { return _mm512_add_ps(a, b); }
static inline v16 v16_sub(v16 a, v16 b) { return _mm512_sub_ps(a, b); }
static inline v16 v16_mul(v16 a, v16 b) { return _mm512_mul_ps(a, b); }
static inline v16 v16_div(v16 a, v16 b) { return _mm512_div_ps(a, b); }
static inline v16 v16_fma(v16 a, v16 b, v16 c) { return _mm512_fmadd_ps(a, b, c); }   /* a * b + c */
static inline v16 v16_nfma(v16 a, v16 b, v16 c) { return _mm512_fnmadd_ps(a, b, c); } /* c - a * b */
/* When either is not a number the result is b (on NEON: not a number). */
static inline v16 v16_max(v16 a, v16 b) { return _mm512_max_ps(a, b); }
static inline v16 v16_min(v16 a, v16 b) { return _mm512_min_ps(a, b); }
static inline v16 v16_abs(v16 a) { return _mm512_abs_ps(a); }
/* The first n values of v, then zeros. */
static inline v16 v16_keep(v16 v, size_t n) { return _mm512_maskz_mov_ps(v16_first(n), v); }
/* a < b ? yes : no, for each value. */
static inline v16 v16_less(v16 a, v16 b, v16 yes, v16 no) {
    return _mm512_mask_blend_ps(_mm512_cmp_ps_mask(a, b, _CMP_LT_OQ), no, yes);
}
/* p * 2^n, where the integer n sits in the low bits of t (see v16_exp); p and the result are normal numbers. */
static inline v16 v16_scale2(v16 p, v16 t) {
    return _mm512_castsi512_ps(_mm512_add_epi32(_mm512_castps_si512(p), _mm512_slli_epi32(_mm512_castps_si512(t), 23)));
}

/* Adds value i + 8 to i, then i + 4, i + 2, i + 1. */
static inline float v16_sum(v16 v) {
    __m256 a = _mm256_add_ps(_mm512_castps512_ps256(v), _mm512_extractf32x8_ps(v, 1));
    __m128 b = _mm_add_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));
    b = _mm_add_ps(b, _mm_movehl_ps(b, b));
    return _mm_cvtss_f32(_mm_add_ss(b, _mm_movehdup_ps(b)));
}

/* out[x * out_row + y] = in[y * in_row + x] * scale for x, y < 4. */
static inline void simd_transpose4(float *out, size_t out_row, const float *in, size_t in_row, float scale) {
    __m128 s = _mm_set1_ps(scale);
    __m128 a = _mm_mul_ps(_mm_loadu_ps(in), s), b = _mm_mul_ps(_mm_loadu_ps(in + in_row), s);
    __m128 c = _mm_mul_ps(_mm_loadu_ps(in + 2 * in_row), s), d = _mm_mul_ps(_mm_loadu_ps(in + 3 * in_row), s);
    _MM_TRANSPOSE4_PS(a, b, c, d);
    _mm_storeu_ps(out, a);
    _mm_storeu_ps(out + out_row, b);
    _mm_storeu_ps(out + 2 * out_row, c);
    _mm_storeu_ps(out + 3 * out_row, d);
}

#endif
