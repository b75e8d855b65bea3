/* check_attention.c - attention of a tier against softmax in f64: lengths around every block, any head_dim, the
 * relative bias, large and equal scores, bounds of memory. */
#include "checkasm.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

typedef struct heads {
    size_t t, dim, ld, ld_out, scratch_count;
    float *qkv, *out, *bias, *scratch; /* bias is NULL or [2 t - 1], its middle is offset 0 */
    float scale;
} heads;

static size_t qkv_count(const heads *h) { return (h->t - 1) * h->ld + 3 * h->dim; }
static size_t out_count(const heads *h) { return (h->t - 1) * h->ld_out + h->dim; }

static heads heads_new(const pil_kernels *k, size_t t, size_t dim, bool bias, float spread) {
    heads h = {.t = t, .dim = dim, .ld = 3 * dim + check_gap(), .scale = 1 / sqrtf((float)dim)};
    h.ld_out = dim + check_gap();
    h.scratch_count = (k->attention_scratch(t, dim) + 15) / 16 * 16;
    h.qkv = check_new(qkv_count(&h));
    h.out = check_new(out_count(&h));
    h.scratch = check_new(h.scratch_count);
    h.bias = bias ? check_new(2 * t - 1) : NULL;
    for (size_t i = 0; i < t; i++) check_fill(h.qkv + i * h.ld, 3 * dim, spread);
    if (bias) check_fill(h.bias, 2 * t - 1, 3);
    return h;
}

static void heads_free(heads *h) {
    check_free(h->qkv, qkv_count(h));
    check_free(h->out, out_count(h));
    check_free(h->scratch, h->scratch_count);
    check_free(h->bias, 2 * h->t - 1);
}

static void heads_run(const pil_kernels *k, const heads *h, float *out) {
    k->attention_f32(&(pil_attention_f32){.n_tokens = h->t,
                                          .head_dim = h->dim,
                                          .q = h->qkv,
                                          .k = h->qkv + h->dim,
                                          .v = h->qkv + 2 * h->dim,
                                          .ld = h->ld,
                                          .out = out,
                                          .ld_out = h->ld_out,
                                          .scale = h->scale,
                                          .rel_bias = h->bias ? h->bias + h->t - 1 : NULL,
                                          .scratch = h->scratch});
}

/* One row in f64. Returns the largest score, by which the allowed error grows: a score of size s is rounded by s 2^-24.
 * */
static double exact_row(const heads *h, size_t i, double *p, double *out) {
    const float *q = h->qkv + i * h->ld;
    double max = -INFINITY, sum = 0, largest = 0;
    for (size_t j = 0; j < h->t; j++) {
        const float *key = h->qkv + j * h->ld + h->dim;
        double s = 0, size = 0;
        for (size_t x = 0; x < h->dim; x++) {
            s += (double)q[x] * (double)key[x];
            size += fabs((double)q[x] * (double)key[x]);
        }
        p[j] = s * (double)h->scale + (h->bias ? (double)h->bias[h->t - 1 + j - i] : 0);
        largest = fmax(largest, size * (double)h->scale);
        max = fmax(max, p[j]);
    }
    for (size_t j = 0; j < h->t; j++) sum += p[j] = exp(p[j] - max);
    for (size_t x = 0; x < h->dim; x++) {
        out[x] = 0;
        for (size_t j = 0; j < h->t; j++) out[x] += p[j] / sum * (double)h->qkv[j * h->ld + 2 * h->dim + x];
    }
    return largest;
}

static void check_rows(const pil_kernels *k, const heads *h, float spread, size_t every) {
    double *p = malloc(h->t * sizeof *p), *want = malloc(h->dim * sizeof *want);
    for (size_t i = 0; p && want && i < h->t; i++) {
        if (i % every == 0) {
            double largest = exact_row(h, i, p, want);
            double bound = (double)spread * (1e-6 + 4e-7 * largest + 6e-8 * sqrt((double)h->t));
            for (size_t x = 0; x < h->dim; x++) {
                double got = (double)h->out[i * h->ld_out + x];
                if (!check_that(fabs(got - want[x]) <= bound,
                                "%s attention %zux%zu%s: out[%zu][%zu] is %.9g, exactly %.9g", k->name, h->t, h->dim,
                                h->bias ? " with bias" : "", i, x, got, want[x])) {
                    i = h->t - 1;
                    break;
                }
            }
        }
        for (size_t x = h->dim; x < h->ld_out && i + 1 < h->t; x++) {
            check_that(check_is_guard(h->out[i * h->ld_out + x]), "%s attention %zux%zu: wrote between rows", k->name,
                       h->t, h->dim);
        }
        check_digest(h->out + i * h->ld_out, h->dim);
    }
    check_that(p && want, "no memory");
    free(p);
    free(want);
}

static void check_case(const pil_kernels *k, size_t t, size_t dim, bool bias, float spread) {
    heads h = heads_new(k, t, dim, bias, spread);
    heads_run(k, &h, h.out);
    check_rows(k, &h, spread, t > 600 ? 37 : 1);
    /* again, into scratch that now holds other things: the same bits */
    size_t n = out_count(&h);
    float *again = check_new(n);
    heads_run(k, &h, again);
    check_that(check_same(again, h.out, n), "%s attention %zux%zu: depends on what scratch held", k->name, t, dim);
    check_free(again, n);
    heads_free(&h);
}

/* A query's bits depend on its row and on k and v alone: a query put into another place keeps them. */
static void check_place(const pil_kernels *k, size_t dim) {
    size_t t = 70;
    heads h = heads_new(k, t, dim, false, 1);
    size_t from = check_size(0, t - 1);
    for (size_t i = 0; i < t; i++) memcpy(h.qkv + i * h.ld, h.qkv + from * h.ld, dim * sizeof *h.qkv);
    heads_run(k, &h, h.out);
    for (size_t i = 1; i < t; i++) {
        check_that(check_same(h.out, h.out + i * h.ld_out, dim), "%s attention %zux%zu: query %zu differs by its place",
                   k->name, t, dim, i);
    }
    heads_free(&h);
}

/* The error of exp itself: two keys with scores 0 and x, values 0 and 1, give exp(x) / (1 + exp(x)). */
static void check_exp(const pil_kernels *k) {
    float *scratch = check_new((k->attention_scratch(2, 1) + 15) / 16 * 16), worst_at = 0;
    double worst = 0;
    for (size_t i = 0; i <= 20000; i++) {
        float x = -86.0f * (float)i / 20000, q[2] = {1, 1}, key[2] = {0, x}, v[2] = {0, 1}, out[2];
        k->attention_f32(&(pil_attention_f32){.n_tokens = 2,
                                              .head_dim = 1,
                                              .q = q,
                                              .k = key,
                                              .v = v,
                                              .ld = 1,
                                              .out = out,
                                              .ld_out = 1,
                                              .scale = 1,
                                              .scratch = scratch});
        double want = exp((double)x) / (1 + exp((double)x)), error = fabs((double)out[0] / want - 1);
        if (error > worst) worst = error, worst_at = x;
        check_digest(out, 2);
    }
    check_that(worst <= 3e-7, "%s attention: exp(%.9g) is off by %.2g of itself", k->name, (double)worst_at, worst);
    check_free(scratch, (k->attention_scratch(2, 1) + 15) / 16 * 16);
}

void check_attention(const pil_kernels *k) {
    check_exp(k);
    for (size_t t = 1; t <= 20; t++) check_case(k, t, t & 1 ? 32 : 64, t & 2, 1);
    static const size_t lengths[] = {31, 32, 33, 47, 63, 64, 65, 96, 127, 128, 129, 200};
    for (size_t i = 0; i < sizeof lengths / sizeof lengths[0]; i++)
        check_case(k, lengths[i], i & 1 ? 64 : 32, i & 2, 1);
    for (size_t dim = 1; dim <= 40; dim += check_size(1, 3)) check_case(k, check_size(1, 40), dim, dim & 1, 1);
    check_case(k, 17, 128, false, 1);
    check_case(k, 19, 80, true, 1);
    check_case(k, 40, 64, false, 20);     /* one key takes nearly all the weight; most weights underflow */
    check_case(k, 40, 64, false, 1e-20f); /* all weights equal */
    check_case(k, 385, 16, true, 1);      /* more than one chain of keys */
    check_case(k, 1100, 8, false, 1);
    check_place(k, 64);
    check_place(k, 20);
}
