/* simd_avx2.h - sixteen floats in two registers: the vocabulary of simd_avx512.h, which documents it, for AVX2. */
#ifndef PIL_KERNEL_SIMD_AVX2_H
#define PIL_KERNEL_SIMD_AVX2_H

#include <immintrin.h>
#include <stddef.h>
#include <stdint.h>

typedef struct v16 {
    __m256 lo, hi;
} v16;

/* All bits set in the first n values of lo and hi together. */
static inline void v16_first(size_t n, __m256i *lo, __m256i *hi) {
    static const int32_t ones[32] = {-1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1};
    *lo = _mm256_loadu_si256((const __m256i *)(const void *)(ones + 16 - n));
    *hi = _mm256_loadu_si256((const __m256i *)(const void *)(ones + 24 - n));
}

static inline v16 v16_load(const float *p) { return (v16){_mm256_loadu_ps(p), _mm256_loadu_ps(p + 8)}; }
static inline void v16_store(float *p, v16 v) {
    _mm256_storeu_ps(p, v.lo);
    _mm256_storeu_ps(p + 8, v.hi);
}
static inline v16 v16_load_n(const float *p, size_t n) {
    __m256i lo, hi;
    v16_first(n, &lo, &hi);
    return (v16){_mm256_maskload_ps(p, lo), _mm256_maskload_ps(p + 8, hi)};
}
static inline void v16_store_n(float *p, v16 v, size_t n) {
    __m256i lo, hi;
    v16_first(n, &lo, &hi);
    _mm256_maskstore_ps(p, lo, v.lo);
    _mm256_maskstore_ps(p + 8, hi, v.hi);
}
static inline v16 v16_set(float x) { return (v16){_mm256_set1_ps(x), _mm256_set1_ps(x)}; }
static inline v16 v16_zero(void) { return (v16){_mm256_setzero_ps(), _mm256_setzero_ps()}; }

static inline v16 v16_add(v16 a, v16 b) { return (v16){_mm256_add_ps(a.lo, b.lo), _mm256_add_ps(a.hi, b.hi)}; }
static inline v16 v16_sub(v16 a, v16 b) { return (v16){_mm256_sub_ps(a.lo, b.lo), _mm256_sub_ps(a.hi, b.hi)}; }
static inline v16 v16_mul(v16 a, v16 b) { return (v16){_mm256_mul_ps(a.lo, b.lo), _mm256_mul_ps(a.hi, b.hi)}; }
static inline v16 v16_div(v16 a, v16 b) { return (v16){_mm256_div_ps(a.lo, b.lo), _mm256_div_ps(a.hi, b.hi)}; }
static inline v16 v16_fma(v16 a, v16 b, v16 c) {
    return (v16){_mm256_fmadd_ps(a.lo, b.lo, c.lo), _mm256_fmadd_ps(a.hi, b.hi, c.hi)};
}
static inline v16 v16_nfma(v16 a, v16 b, v16 c) {
    return (v16){_mm256_fnmadd_ps(a.lo, b.lo, c.lo), _mm256_fnmadd_ps(a.hi, b.hi, c.hi)};
}
static inline v16 v16_max(v16 a, v16 b) { return (v16){_mm256_max_ps(a.lo, b.lo), _mm256_max_ps(a.hi, b.hi)}; }
static inline v16 v16_min(v16 a, v16 b) { return (v16){_mm256_min_ps(a.lo, b.lo), _mm256_min_ps(a.hi, b.hi)}; }
static inline v16 v16_abs(v16 a) {
    __m256 sign = _mm256_set1_ps(-0.0f);
    return (v16){_mm256_andnot_ps(sign, a.lo), _mm256_andnot_ps(sign, a.hi)};
}
static inline v16 v16_keep(v16 v, size_t n) {
    __m256i lo, hi;
    v16_first(n, &lo, &hi);
    return (v16){_mm256_and_ps(v.lo, _mm256_castsi256_ps(lo)), _mm256_and_ps(v.hi, _mm256_castsi256_ps(hi))};
}
static inline v16 v16_less(v16 a, v16 b, v16 yes, v16 no) {
    return (v16){_mm256_blendv_ps(no.lo, yes.lo, _mm256_cmp_ps(a.lo, b.lo, _CMP_LT_OQ)),
                 _mm256_blendv_ps(no.hi, yes.hi, _mm256_cmp_ps(a.hi, b.hi, _CMP_LT_OQ))};
}
static inline __m256 v8_scale2(__m256 p, __m256 t) {
    return _mm256_castsi256_ps(_mm256_add_epi32(_mm256_castps_si256(p), _mm256_slli_epi32(_mm256_castps_si256(t), 23)));
}
static inline v16 v16_scale2(v16 p, v16 t) { return (v16){v8_scale2(p.lo, t.lo), v8_scale2(p.hi, t.hi)}; }

static inline float v16_sum(v16 v) {
    __m256 a = _mm256_add_ps(v.lo, v.hi);
    __m128 b = _mm_add_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));
    b = _mm_add_ps(b, _mm_movehl_ps(b, b));
    return _mm_cvtss_f32(_mm_add_ss(b, _mm_movehdup_ps(b)));
}

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
