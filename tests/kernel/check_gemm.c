/* check_gemm.c - the f32 product of a tier against its definition: bits, tolerance, bounds of memory, independence of a
 * row from its neighbours; and packing. */
#include "checkasm.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

typedef struct product {
    size_t m, n, k, lda, ldc;
    float *a, *plain, *w, *bias, *residual, *c; /* bias and residual may be NULL */
} product;

static size_t rows_count(size_t m, size_t ld, size_t n) { return (m - 1) * ld + n; }

static product product_new(size_t m, size_t n, size_t k, bool bias, bool residual) {
    product p = {.m = m, .n = n, .k = k, .lda = k + check_gap()};
    p.ldc = n + check_gap();
    p.a = check_new(rows_count(m, p.lda, k));
    p.plain = check_new(n * k);
    p.w = check_new(pil_pack_f32_count(n, k));
    p.bias = bias ? check_new(n) : NULL;
    p.residual = residual ? check_new(rows_count(m, p.ldc, n)) : NULL;
    p.c = check_new(rows_count(m, p.ldc, n));
    for (size_t i = 0; i < m; i++) check_fill(p.a + i * p.lda, k, 2); /* what lies between rows stays NaN */
    check_fill(p.plain, n * k, 1);
    pil_pack_f32(p.w, p.plain, n, k);
    if (bias) check_fill(p.bias, n, 1);
    for (size_t i = 0; residual && i < m; i++) check_fill(p.residual + i * p.ldc, n, 4);
    return p;
}

static void product_free(product *p) {
    check_free(p->a, rows_count(p->m, p->lda, p->k));
    check_free(p->plain, p->n * p->k);
    check_free(p->w, pil_pack_f32_count(p->n, p->k));
    check_free(p->bias, p->n);
    check_free(p->residual, rows_count(p->m, p->ldc, p->n));
    check_free(p->c, rows_count(p->m, p->ldc, p->n));
}

static void product_run(const pil_kernels *k, const product *p, float *c) {
    k->gemm_f32(&(pil_gemm_f32){.m = p->m,
                                .n = p->n,
                                .k = p->k,
                                .a = p->a,
                                .lda = p->lda,
                                .w = p->w,
                                .bias = p->bias,
                                .residual = p->residual,
                                .c = c,
                                .ldc = p->ldc});
}

/* The promised bits of element (i, j): chains of fused multiply-adds, added in order. */
static float promised(const product *p, size_t i, size_t j) {
    float total = 0;
    for (size_t x = 0; x < p->k; x += CHECK_CHAIN) {
        float chain = 0;
        for (size_t y = x; y < p->k && y < x + CHECK_CHAIN; y++) {
            chain = fmaf(p->a[i * p->lda + y], p->plain[j * p->k + y], chain);
        }
        if (x == 0) {
            total = chain;
            if (p->bias) total += p->bias[j];
            if (p->residual) total += p->residual[i * p->ldc + j];
        } else {
            total += chain;
        }
    }
    return total;
}

/* The exact value, and in *bound what rounding may add to it: each addition errs by at most 2^-24 of what it has. */
static double exact(const product *p, size_t i, size_t j, double *bound) {
    double sum = 0, size = 0;
    for (size_t x = 0; x < p->k; x++) {
        double v = (double)p->a[i * p->lda + x] * (double)p->plain[j * p->k + x];
        sum += v;
        size += fabs(v);
    }
    if (p->bias) sum += (double)p->bias[j], size += fabs((double)p->bias[j]);
    if (p->residual) sum += (double)p->residual[i * p->ldc + j], size += fabs((double)p->residual[i * p->ldc + j]);
    double steps = (double)(p->k < CHECK_CHAIN ? p->k : CHECK_CHAIN) + (double)(p->k / CHECK_CHAIN) + 4;
    *bound = 2 * steps * 0x1p-24 * size; /* twice: the reference rounds products as well */
    return sum;
}

static void check_values(const pil_kernels *k, const product *p) {
    bool is_ref = strcmp(k->name, "ref") == 0;
    for (size_t i = 0; i < p->m; i++) {
        for (size_t j = 0; j < p->n; j++) {
            float got = p->c[i * p->ldc + j];
            double bound, want = exact(p, i, j, &bound);
            if (!check_that(fabs((double)got - want) <= bound,
                            "%s gemm %zux%zux%zu: c[%zu][%zu] is %.9g, exactly %.9g +- %.2g", k->name, p->m, p->n, p->k,
                            i, j, (double)got, want, bound)) {
                return;
            }
            if (!is_ref && !check_that(check_bits(got) == check_bits(promised(p, i, j)),
                                       "%s gemm %zux%zux%zu: c[%zu][%zu] has other bits than the chain", k->name, p->m,
                                       p->n, p->k, i, j)) {
                return;
            }
        }
        for (size_t j = p->n; j < p->ldc && i + 1 < p->m; j++) {
            if (!check_that(check_is_guard(p->c[i * p->ldc + j]), "%s gemm %zux%zux%zu: wrote between rows %zu and %zu",
                            k->name, p->m, p->n, p->k, i, i + 1)) {
                return;
            }
        }
        check_digest(p->c + i * p->ldc, p->n);
    }
}

/* Row i alone gives the bits it has among the others, and so do the first columns alone. */
static void check_independence(const pil_kernels *k, const product *p) {
    float *c = check_new(p->n);
    size_t i = check_size(0, p->m - 1), n = check_size(1, p->n);
    product row = *p;
    row.m = 1;
    row.a = p->a + i * p->lda;
    row.residual = p->residual ? p->residual + i * p->ldc : NULL;
    product_run(k, &row, c);
    check_that(check_same(c, p->c + i * p->ldc, p->n), "%s gemm %zux%zux%zu: row %zu differs when alone", k->name, p->m,
               p->n, p->k, i);
    row.n = n;
    product_run(k, &row, c);
    check_that(check_same(c, p->c + i * p->ldc, n), "%s gemm %zux%zux%zu: row %zu differs with %zu columns", k->name,
               p->m, p->n, p->k, i, n);
    check_free(c, p->n);
}

/* The residual may be the result itself. */
static void check_in_place(const pil_kernels *k, const product *p) {
    size_t count = rows_count(p->m, p->ldc, p->n);
    float *c = check_new(count);
    memcpy(c, p->residual, count * sizeof *c);
    product in_place = *p;
    in_place.residual = c;
    product_run(k, &in_place, c);
    for (size_t i = 0; i < p->m; i++) {
        check_that(check_same(c + i * p->ldc, p->c + i * p->ldc, p->n), "%s gemm %zux%zux%zu: row %zu differs in place",
                   k->name, p->m, p->n, p->k, i);
    }
    check_free(c, count);
}

static void check_shape(const pil_kernels *k, size_t m, size_t n, size_t kk, bool bias, bool residual) {
    product p = product_new(m, n, kk, bias, residual);
    product_run(k, &p, p.c);
    check_values(k, &p);
    check_independence(k, &p);
    if (residual) check_in_place(k, &p);
    product_free(&p);
}

void check_gemm(const pil_kernels *k) {
    /* every height up to twice the tallest tile and some, every count of column tiles up to twice the widest panel */
    for (size_t m = 1; m <= 26; m++) {
        size_t n = 16 * check_size(1, 9);
        check_shape(k, m, n, check_size(1, 40), m & 1, m & 2);
    }
    for (size_t n = 1; n <= 144; n += check_size(1, 5)) {
        size_t m = check_size(1, 13);
        check_shape(k, m, n, check_size(1, 20), n & 1, n & 2);
    }
    /* lengths around one, two and three chains */
    static const size_t lengths[] = {1, 2, 3, 383, 384, 385, 767, 768, 769, 1151, 1152, 1153};
    for (size_t i = 0; i < sizeof lengths / sizeof lengths[0]; i++) {
        size_t m = check_size(1, 8);
        check_shape(k, m, check_size(1, 40), lengths[i], i & 1, i & 2);
    }
    for (size_t i = 0; i < 20; i++) {
        size_t m = check_size(1, 40), n = check_size(1, 200);
        check_shape(k, m, n, check_size(1, 500), i & 1, i & 2);
    }
}

/* Every packed value is where kernel.h says, and columns beyond n are zero. */
void check_pack(void) {
    for (size_t i = 0; i < 20; i++) {
        size_t n = check_size(1, 70), k = check_size(1, 50), count = pil_pack_f32_count(n, k);
        float *w = check_new(n * k), *out = check_new(count);
        check_fill(w, n * k, 1);
        pil_pack_f32(out, w, n, k);
        bool ok = count == (n + 15) / 16 * 16 * k;
        for (size_t j = 0; ok && j < (n + 15) / 16 * 16; j++) {
            for (size_t x = 0; x < k; x++) {
                ok = ok && check_bits(out[j / 16 * 16 * k + x * 16 + j % 16]) == check_bits(j < n ? w[j * k + x] : 0);
            }
        }
        check_that(ok, "pack %zux%zu: a value is out of place", n, k);
        check_free(w, n * k);
        check_free(out, count);
    }
}
