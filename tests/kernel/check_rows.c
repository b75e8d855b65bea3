/* check_rows.c - layer norm, activations, pooling and dot of a tier against f64. */
#include "checkasm.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* ── Layer norm ── */

static void check_norm(const pil_kernels *k, size_t rows, size_t n, float offset, float eps) {
    float *x = check_new(rows * n), *out = check_new(rows * n), *weight = check_new(n), *bias = check_new(n);
    for (size_t i = 0; i < rows * n; i++) x[i] = offset + check_float(-2, 2);
    check_fill(weight, n, 2);
    check_fill(bias, n, 1);
    k->layernorm_f32(out, x, weight, bias, eps, rows, n);
    check_digest(out, rows * n);
    for (size_t r = 0; r < rows; r++) {
        double mean = 0, variance = 0;
        for (size_t j = 0; j < n; j++) mean += (double)x[r * n + j] / (double)n;
        for (size_t j = 0; j < n; j++) variance += pow((double)x[r * n + j] - mean, 2) / (double)n;
        double deviation = sqrt(variance + (double)eps), largest = fabs(mean) + 2;
        for (size_t j = 0; j < n; j++) {
            double want = ((double)x[r * n + j] - mean) / deviation * (double)weight[j] + (double)bias[j];
            double bound = 1e-6 * (1 + fabs(want)) + 3e-7 * fabs((double)weight[j]) * largest / deviation;
            if (!check_that(fabs((double)out[r * n + j] - want) <= bound,
                            "%s layernorm %zux%zu: [%zu][%zu] is %.9g, exactly %.9g", k->name, rows, n, r, j,
                            (double)out[r * n + j], want)) {
                break;
            }
        }
    }
    float *alone = check_new(n);
    size_t r = check_size(0, rows - 1);
    k->layernorm_f32(alone, x + r * n, weight, bias, eps, 1, n);
    check_that(check_same(alone, out + r * n, n), "%s layernorm %zux%zu: row %zu differs when alone", k->name, rows, n,
               r);
    k->layernorm_f32(x, x, weight, bias, eps, rows, n);
    check_that(check_same(x, out, rows * n), "%s layernorm %zux%zu: differs in place", k->name, rows, n);
    check_free(x, rows * n);
    check_free(out, rows * n);
    check_free(weight, n);
    check_free(bias, n);
    check_free(alone, n);
}

void check_layernorm(const pil_kernels *k) {
    for (size_t n = 1; n <= 40; n++) check_norm(k, check_size(1, 11), n, 0, 1e-5f);
    static const size_t sizes[] = {64, 127, 312, 384, 768, 1024};
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++)
        check_norm(k, i + 1, sizes[i], i & 1 ? 3.0f : 0, 1e-12f);
    check_norm(k, 3, 768, 100, 1e-12f);
}

/* ── Activations ── */

static double exact_gelu_erf(double x) { return 0.5 * x * erfc(-x * 0.70710678118654752440); }
static double exact_gelu_tanh(double x) {
    double u = 0.79788456080286535588 * (x + 0.044715 * x * x * x);
    return x / (1 + exp(-2 * u));
}
static double exact_relu(double x) { return x > 0 ? x : 0; }

typedef struct activation {
    const char *name;
    void (*run)(float *x, size_t n);
    double (*exact)(double x);
    double absolute, relative; /* the bound is the sum of both, relative to the result */
} activation;

static bool check_one(const pil_kernels *k, const activation *f, float x, float y) {
    double want = f->exact((double)x);
    double bound = f->absolute + f->relative * fabs(want) + 1e-44;
    return check_that(fabs((double)y - want) <= bound, "%s %s(%.9g) is %.9g, exactly %.9g", k->name, f->name, (double)x,
                      (double)y, want);
}

/* Values spread evenly over [-12, 12], then floats of every exponent. */
static void check_range(const pil_kernels *k, const activation *f) {
    enum { N = 200001 };
    float *x = check_new(N), *y = check_new(N);
    for (size_t i = 0; i < N; i++) x[i] = (float)(((double)i / (N - 1) - 0.5) * 24);
    for (size_t i = 1; i < N; i += 5) {
        int exponent = (int)check_size(0, 250) - 149;
        x[i] = ldexpf(check_float(-1, 1), exponent);
    }
    memcpy(y, x, N * sizeof *x);
    f->run(y, N);
    check_digest(y, N);
    for (size_t i = 0; i < N && check_one(k, f, x[i], y[i]); i++) {
    }
    check_free(x, N);
    check_free(y, N);
}

/* Every short length: same bits wherever a value stands, nothing written beyond, infinity and NaN go through. */
static void check_tails(const pil_kernels *k, const activation *f) {
    float ends[] = {INFINITY, -3e38f, NAN, 0.0f, -0.0f};
    f->run(ends, 5);
    check_that((double)ends[0] == f->exact(INFINITY) && fabs((double)ends[1] - f->exact(-1e30)) < 1e-6 &&
                   ends[2] != ends[2] && ends[3] == 0 && ends[4] == 0,
               "%s %s: inf, -3e38, nan, 0, -0 became %g, %g, %g, %g, %g", k->name, f->name, (double)ends[0],
               (double)ends[1], (double)ends[2], (double)ends[3], (double)ends[4]);
    for (size_t n = 0; n <= 70; n++) {
        float *x = check_new(n + 1), *y = check_new(n), one;
        check_fill(x, n, 6);
        memcpy(y, x, n * sizeof *x);
        f->run(y, n);
        for (size_t i = 0; i < n; i++) {
            one = x[i];
            f->run(&one, 1);
            check_that(check_bits(one) == check_bits(y[i]), "%s %s: value %zu of %zu differs by its place", k->name,
                       f->name, i, n);
        }
        f->run(x, n);
        check_that(check_is_guard(x[n]), "%s %s: wrote beyond %zu values", k->name, f->name, n);
        check_free(x, n + 1);
        check_free(y, n);
    }
}

void check_activations(const pil_kernels *k) {
    const activation all[] = {
        {"gelu_erf", k->gelu_erf_f32, exact_gelu_erf, 5e-7, 1e-7},
        {"gelu_tanh", k->gelu_tanh_f32, exact_gelu_tanh, 5e-7, 3e-7},
        {"relu", k->relu_f32, exact_relu, 0, 0},
        {"tanh", k->tanh_f32, tanh, 0, 3e-7},
    };
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++) {
        check_range(k, &all[i]);
        check_tails(k, &all[i]);
    }
}

/* ── Pooling and dot ── */

static void check_sums(const pil_kernels *k, size_t rows, size_t n, bool weighted) {
    float *x = check_new(rows * n), *w = weighted ? check_new(rows) : NULL, *sum = check_new(n), *max = check_new(n);
    check_fill(x, rows * n, 3);
    if (w) check_fill(w, rows, 2);
    k->sum_rows_f32(sum, x, w, rows, n);
    k->max_rows_f32(max, x, rows, n);
    check_digest(sum, n);
    check_digest(max, n);
    for (size_t j = 0; j < n; j++) {
        double s = 0, size = 0;
        float m = -INFINITY;
        for (size_t r = 0; r < rows; r++) {
            double v = (double)x[r * n + j] * (w ? (double)w[r] : 1);
            s += v;
            size += fabs(v);
            m = fmaxf(m, x[r * n + j]);
        }
        double bound = 2 * (double)(rows + 1) * 0x1p-24 * size;
        check_that(fabs((double)sum[j] - s) <= bound, "%s sum_rows %zux%zu: [%zu] is %.9g, exactly %.9g", k->name, rows,
                   n, j, (double)sum[j], s);
        check_that(max[j] == m, "%s max_rows %zux%zu: [%zu] is %.9g, not %.9g", k->name, rows, n, j, (double)max[j],
                   (double)m);
    }
    check_free(x, rows * n);
    check_free(w, rows);
    check_free(sum, n);
    check_free(max, n);
}

static void check_dot(const pil_kernels *k, size_t n) {
    float *a = check_new(n), *b = check_new(n);
    check_fill(a, n, 2);
    check_fill(b, n, 2);
    long double want = 0, size = 0;
    for (size_t i = 0; i < n; i++) {
        want += (long double)a[i] * (long double)b[i];
        size += fabsl((long double)a[i] * (long double)b[i]);
    }
    double got = k->dot_f32(a, b, n);
    check_that(fabsl((long double)got - want) <= (long double)n * 0x1p-52L * size,
               "%s dot of %zu is %.17g, exactly %.17Lg", k->name, n, got, want);
    float rounded = (float)got;
    check_digest(&rounded, 1);
    check_free(a, n);
    check_free(b, n);
}

void check_pooling(const pil_kernels *k) {
    for (size_t n = 1; n <= 70; n += check_size(1, 3)) check_sums(k, check_size(1, 30), n, n & 1);
    check_sums(k, 128, 384, false);
    check_sums(k, 512, 768, true);
    for (size_t n = 0; n <= 40; n++) check_dot(k, n);
    check_dot(k, 768);
}
