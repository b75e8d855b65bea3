/* math_v16.h - exp, the activations and tanh on sixteen floats (v16 of simd_*.h), without branches or tables.
 *
 * The polynomials are weighted minimax fits printed by tools/fit_kernel_math.py. Bounds are the largest errors measured
 * by tests/kernel/checkasm.c over the whole range, which holds each tier to them. */
#ifndef PIL_KERNEL_MATH_V16_H
#define PIL_KERNEL_MATH_V16_H

/* exp(x) with relative error <= 1.5e-7 for -87 <= x <= 88; beyond, the value at the nearer end. exp(0) is 1 exactly.
 * x = n ln 2 + r with |r| <= ln(2) / 2: exp(x) = 2^n exp(r). Adding 1.5 * 2^23 rounds x / ln 2 to the integer n and
 * leaves it in the low bits; ln 2 is subtracted in two parts, of which the first has 9 zero bits at its end. */
static inline v16 v16_exp(v16 x) {
    const v16 magic = v16_set(12582912.0f);
    x = v16_min(v16_set(88.0f), v16_max(v16_set(-87.0f), x));
    v16 t = v16_fma(x, v16_set(1.44269504f), magic);
    v16 n = v16_sub(t, magic);
    v16 r = v16_nfma(n, v16_set(0.693145752f), x);
    r = v16_nfma(n, v16_set(1.42860677e-6f), r);
    v16 p = v16_fma(v16_set(0.00139504753f), r, v16_set(0.00836888235f));
    p = v16_fma(p, r, v16_set(0.041666206f));
    p = v16_fma(p, r, v16_set(0.166665196f));
    p = v16_fma(p, r, v16_set(0.5f));
    p = v16_fma(p, r, v16_set(1.0f));
    p = v16_fma(p, r, v16_set(1.0f));
    return v16_scale2(p, t);
}

/* x (1 + erf(x / sqrt 2)) / 2 = max(x, 0) - |x| h(|x|), where h(a) = erfc(a / sqrt 2) / 2 falls from 1/2 to 0 and is
 * near 1e-7 at a = 5.25. Absolute error <= 5e-7, below |x| = 1 <= 1e-7: the polynomial's own error is 6e-8, the rest is
 * the rounding of f32. Neither exp nor a division is needed. */
static inline v16 v16_gelu_erf(v16 x) {
    v16 a = v16_min(v16_set(5.25f), v16_abs(x));
    v16 t = v16_fma(a, v16_set(0.380952381f), v16_set(-1.0f));
    v16 h = v16_fma(v16_set(-0.00392049691f), t, v16_set(0.00583432289f));
    h = v16_fma(h, t, v16_set(0.0174538679f));
    h = v16_fma(h, t, v16_set(-0.037589021f));
    h = v16_fma(h, t, v16_set(-0.0166363828f));
    h = v16_fma(h, t, v16_set(0.0985839069f));
    h = v16_fma(h, t, v16_set(-0.0632996261f));
    h = v16_fma(h, t, v16_set(-0.0956717953f));
    h = v16_fma(h, t, v16_set(0.196744278f));
    h = v16_fma(h, t, v16_set(-0.0976790264f));
    h = v16_fma(h, t, v16_set(-0.120997921f));
    h = v16_fma(h, t, v16_set(0.257113516f));
    h = v16_fma(h, t, v16_set(-0.225942299f));
    h = v16_fma(h, t, v16_set(0.115075573f));
    h = v16_fma(h, t, v16_set(-0.0334012695f));
    h = v16_fma(h, t, v16_set(0.00433245813f));
    return v16_nfma(a, h, v16_max(v16_zero(), x));
}

/* x (1 + tanh u) / 2 = x / (1 + exp(-2 u)) with u = sqrt(2 / pi) (x + 0.044715 x^3). Absolute error <= 5e-7. Below -16,
 * where it is zero in f32, the numerator stands still: exp is bounded and would lose to it. */
static inline v16 v16_gelu_tanh(v16 x) {
    v16 s = v16_mul(x, x);
    v16 u = v16_mul(x, v16_fma(s, v16_set(-0.0713548163f), v16_set(-1.59576912f))); /* -2 u */
    return v16_div(v16_max(v16_set(-16.0f), x), v16_add(v16_set(1.0f), v16_exp(u)));
}

/* tanh(x) with relative error <= 3e-7: an odd polynomial below 0.625, above it 1 - 2 / (exp(2 |x|) + 1). */
static inline v16 v16_tanh(v16 x) {
    v16 a = v16_abs(x), s = v16_mul(x, x);
    v16 p = v16_fma(v16_set(-0.00572163798f), s, v16_set(0.020655226f));
    p = v16_fma(p, s, v16_set(-0.0537451468f));
    p = v16_fma(p, s, v16_set(0.133315146f));
    p = v16_fma(p, s, v16_set(-0.333332837f));
    p = v16_fma(v16_mul(x, s), p, x);
    v16 e = v16_add(v16_exp(v16_add(a, a)), v16_set(1.0f));
    v16 q = v16_sub(v16_set(1.0f), v16_div(v16_set(2.0f), e));
    q = v16_less(x, v16_zero(), v16_sub(v16_zero(), q), q);
    return v16_less(a, v16_set(0.625f), p, q);
}

#endif
