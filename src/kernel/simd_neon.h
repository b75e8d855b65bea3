/* simd_neon.h - sixteen floats in four registers: the vocabulary of simd_avx512.h, which documents it, for Arm. */
#ifndef PIL_KERNEL_SIMD_NEON_H
#define PIL_KERNEL_SIMD_NEON_H

#include <arm_neon.h>
#include <stddef.h>
#include <string.h>

typedef struct v16 {
    float32x4_t a, b, c, d;
} v16;

#define EACH(f, x) ((v16){f((x).a), f((x).b), f((x).c), f((x).d)})
#define EACH2(f, x, y) ((v16){f((x).a, (y).a), f((x).b, (y).b), f((x).c, (y).c), f((x).d, (y).d)})
#define EACH3(f, x, y, z)                                                                                              \
    ((v16){f((x).a, (y).a, (z).a), f((x).b, (y).b, (z).b), f((x).c, (y).c, (z).c), f((x).d, (y).d, (z).d)})

static inline v16 v16_load(const float *p) {
    return (v16){vld1q_f32(p), vld1q_f32(p + 4), vld1q_f32(p + 8), vld1q_f32(p + 12)};
}
static inline void v16_store(float *p, v16 v) {
    vst1q_f32(p, v.a);
    vst1q_f32(p + 4, v.b);
    vst1q_f32(p + 8, v.c);
    vst1q_f32(p + 12, v.d);
}
static inline v16 v16_load_n(const float *p, size_t n) {
    float t[16] = {0};
    memcpy(t, p, n * sizeof *p);
    return v16_load(t);
}
static inline void v16_store_n(float *p, v16 v, size_t n) {
    float t[16];
    v16_store(t, v);
    memcpy(p, t, n * sizeof *p);
}
static inline v16 v16_set(float x) { return (v16){vdupq_n_f32(x), vdupq_n_f32(x), vdupq_n_f32(x), vdupq_n_f32(x)}; }
static inline v16 v16_zero(void) { return v16_set(0); }

static inline v16 v16_add(v16 a, v16 b) { return EACH2(vaddq_f32, a, b); }
static inline v16 v16_sub(v16 a, v16 b) { return EACH2(vsubq_f32, a, b); }
static inline v16 v16_mul(v16 a, v16 b) { return EACH2(vmulq_f32, a, b); }
static inline v16 v16_div(v16 a, v16 b) { return EACH2(vdivq_f32, a, b); }
static inline v16 v16_fma(v16 a, v16 b, v16 c) { return EACH3(vfmaq_f32, c, a, b); }
static inline v16 v16_nfma(v16 a, v16 b, v16 c) { return EACH3(vfmsq_f32, c, a, b); }
static inline v16 v16_max(v16 a, v16 b) { return EACH2(vmaxq_f32, a, b); }
static inline v16 v16_min(v16 a, v16 b) { return EACH2(vminq_f32, a, b); }
static inline v16 v16_abs(v16 a) { return EACH(vabsq_f32, a); }
static inline v16 v16_keep(v16 v, size_t n) {
    float t[16];
    v16_store(t, v);
    return v16_load_n(t, n);
}
static inline float32x4_t v4_less(float32x4_t a, float32x4_t b, float32x4_t yes, float32x4_t no) {
    return vbslq_f32(vcltq_f32(a, b), yes, no);
}
static inline v16 v16_less(v16 a, v16 b, v16 yes, v16 no) {
    return (v16){v4_less(a.a, b.a, yes.a, no.a), v4_less(a.b, b.b, yes.b, no.b), v4_less(a.c, b.c, yes.c, no.c),
                 v4_less(a.d, b.d, yes.d, no.d)};
}
static inline float32x4_t v4_scale2(float32x4_t p, float32x4_t t) {
    return vreinterpretq_f32_s32(vaddq_s32(vreinterpretq_s32_f32(p), vshlq_n_s32(vreinterpretq_s32_f32(t), 23)));
}
static inline v16 v16_scale2(v16 p, v16 t) { return EACH2(v4_scale2, p, t); }

static inline float v16_sum(v16 v) {
    float32x4_t q = vaddq_f32(vaddq_f32(v.a, v.c), vaddq_f32(v.b, v.d));
    float32x2_t p = vadd_f32(vget_low_f32(q), vget_high_f32(q));
    return vget_lane_f32(p, 0) + vget_lane_f32(p, 1);
}

static inline void simd_transpose4(float *out, size_t out_row, const float *in, size_t in_row, float scale) {
    float32x4_t a = vmulq_n_f32(vld1q_f32(in), scale), b = vmulq_n_f32(vld1q_f32(in + in_row), scale);
    float32x4_t c = vmulq_n_f32(vld1q_f32(in + 2 * in_row), scale), d = vmulq_n_f32(vld1q_f32(in + 3 * in_row), scale);
    float32x4x2_t ab = vtrnq_f32(a, b), cd = vtrnq_f32(c, d);
    vst1q_f32(out, vcombine_f32(vget_low_f32(ab.val[0]), vget_low_f32(cd.val[0])));
    vst1q_f32(out + out_row, vcombine_f32(vget_low_f32(ab.val[1]), vget_low_f32(cd.val[1])));
    vst1q_f32(out + 2 * out_row, vcombine_f32(vget_high_f32(ab.val[0]), vget_high_f32(cd.val[0])));
    vst1q_f32(out + 3 * out_row, vcombine_f32(vget_high_f32(ab.val[1]), vget_high_f32(cd.val[1])));
}

#undef EACH
#undef EACH2
#undef EACH3

#endif
