/* simd_avx512.h - sixteen floats in one register: the vocabulary in which the *_v16.h files are written, for AVX-512.
 *
 * Every simd_*.h declares the same names with the same results to the last bit (IEEE operations only, no estimates),
 * so a kernel written with them returns the same bits on every tier. Included by files built with this tier's flags. */
#ifndef PIL_KERNEL_SIMD_AVX512_H
#define PIL_KERNEL_SIMD_AVX512_H

#include <immintrin.h>
#include <stddef.h>
#include <stdint.h>

typedef __m512 v16;

static inline __mmask16 v16_first(size_t n) { return (__mmask16)((1u << n) - 1); }

static inline v16 v16_load(const float *p) { return _mm512_loadu_ps(p); }
static inline void v16_store(float *p, v16 v) { _mm512_storeu_ps(p, v); }
/* The first n <= 16 values; the rest is zero, and memory beyond is not touched. */
static inline v16 v16_load_n(const float *p, size_t n) { return _mm512_maskz_loadu_ps(v16_first(n), p); }
static inline void v16_store_n(float *p, v16 v, size_t n) { _mm512_mask_storeu_ps(p, v16_first(n), v); }
static inline v16 v16_set(float x) { return _mm512_set1_ps(x); }

static inline v16 v16_add(v16 a, v16 b) { return _mm512_add_ps(a, b); }
static inline v16 v16_sub(v16 a, v16 b) { return _mm512_sub_ps(a, b); }
static inline v16 v16_mul(v16 a, v16 b) { return _mm512_mul_ps(a, b); }

#endif
