/* check_bench.c - checkasm --bench: the speed of each kernel, as a share of what this core can do.
 *
 * The limit is measured in the same run, between the timings: multiply-adds on registers alone, with the vectors of the
 * tier under test. Every figure is the median of many short runs in processor time, kernel and limit alike. Weights of
 * products rotate through 64 MiB, beyond the caches, as they do in a real model; "hot" is the same without. */
#include "checkasm.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { ROUNDS = 40, WEIGHT_BYTES = 64 << 20, BLOCK_TOKENS = 128 };

/* This thread's processor time: other processes on a busy machine take turns, not a share of the figure. */
static double now_s(void) {
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* ── The limit ── */

enum { LIMIT_TURNS = 20000, LIMIT_FMAS = 12 };

#if defined(__x86_64__)

/* clang-format off */
#define FMA(reg, n) "vfmadd231ps %%" reg "0, %%" reg "1, %%" reg #n "\n\t"
#define FMAS(reg) FMA(reg, 4) FMA(reg, 5) FMA(reg, 6) FMA(reg, 7) FMA(reg, 8) FMA(reg, 9) FMA(reg, 10) FMA(reg, 11) \
    FMA(reg, 12) FMA(reg, 13) FMA(reg, 14) FMA(reg, 15)
#define LOOP(reg) \
    __asm__ volatile("vxorps %%ymm0, %%ymm0, %%ymm0\n\tvxorps %%ymm1, %%ymm1, %%ymm1\n\t" \
                     ".p2align 5\n1:\n\t" FMAS(reg) "dec %0\n\tjnz 1b\n\tvzeroupper" \
                     : "+r"(turns) : : "cc", "xmm0", "xmm1", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9", "xmm10", \
                     "xmm11", "xmm12", "xmm13", "xmm14", "xmm15")
/* clang-format on */

double check_limit_gflops(const char *tier) {
    size_t turns = LIMIT_TURNS, lanes = strcmp(tier, "avx512") == 0 ? 16 : 8;
    if (!pil_kernels_tier("avx2")) return 0;
    double start = now_s();
    if (lanes == 16) {
        LOOP("zmm");
    } else {
        LOOP("ymm");
    }
    return (double)(LIMIT_TURNS * LIMIT_FMAS * lanes * 2) / (now_s() - start) * 1e-9;
}

#elif defined(__aarch64__)

#define FMA(n) "fmla v" #n ".4s, v0.4s, v1.4s\n\t"

double check_limit_gflops(const char *tier) {
    (void)tier;
    size_t turns = LIMIT_TURNS;
    double start = now_s();
    __asm__ volatile("movi v0.4s, #0\n\tmovi v1.4s, #0\n1:\n\t" FMA(16) FMA(17) FMA(18) FMA(19) FMA(20) FMA(21) FMA(22)
                         FMA(23) FMA(24) FMA(25) FMA(26) FMA(27) "subs %0, %0, #1\n\tb.ne 1b"
                     : "+r"(turns)
                     :
                     : "cc", "v0", "v1", "v16", "v17", "v18", "v19", "v20", "v21", "v22", "v23", "v24", "v25", "v26",
                       "v27");
    return (double)(LIMIT_TURNS * LIMIT_FMAS * 4 * 2) / (now_s() - start) * 1e-9;
}

#else

double check_limit_gflops(const char *tier) {
    (void)tier;
    return 0;
}

#endif

/* ── Timing ── */

typedef struct timing {
    const pil_kernels *k;
    double limit; /* GFLOP/s */
    float *weights, *x, *y, *scratch;
    size_t weights_used; /* floats, rotating */
} timing;

enum { X_FLOATS = 512 * 4096 };

static float *filled(size_t n) {
    float *x = aligned_alloc(64, n * sizeof *x);
    if (!x) exit(2);
    check_fill(x, n, 1);
    return x;
}

static int by_size(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y;
}

static double median(double *x, size_t n) {
    qsort(x, n, sizeof *x, by_size);
    return x[n / 2];
}

/* Seconds of one call of run(t, ud): the median of ROUNDS, each long enough for the clock. Between them t->limit is
 * measured. */
static double typical_s(timing *t, void (*run)(timing *t, const void *ud), const void *ud) {
    double start = now_s(), s[ROUNDS], limit[ROUNDS];
    run(t, ud);
    size_t calls = (size_t)(1e-3 / (now_s() - start + 1e-9)) + 1, n = 0;
    do {
        limit[n] = check_limit_gflops(t->k->name);
        start = now_s();
        for (size_t j = 0; j < calls; j++) run(t, ud);
        s[n] = (now_s() - start) / (double)calls;
    } while (s[n++] < 0.1 && n < ROUNDS); /* the reference tier: once is enough */
    t->limit = median(limit, n);
    return median(s, n);
}

/* ── Products ── */

typedef struct shape {
    size_t m, n, k;
    bool hot, residual;
} shape;

static void run_gemm(timing *t, const void *ud) {
    const shape *s = ud;
    size_t count = s->n * s->k;
    if (!s->hot) t->weights_used += count;
    if (s->hot || t->weights_used + count > WEIGHT_BYTES / sizeof(float)) t->weights_used = 0;
    t->k->gemm_f32(&(pil_gemm_f32){.m = s->m,
                                   .n = s->n,
                                   .k = s->k,
                                   .a = t->x,
                                   .lda = s->k,
                                   .w = t->weights + t->weights_used,
                                   .bias = t->weights,
                                   .residual = s->residual ? t->y : NULL,
                                   .c = t->y,
                                   .ldc = s->n});
}

static void bench_gemm(timing *t) {
    static const size_t sizes[][2] = {{1152, 384}, {384, 384}, {1536, 384}, {384, 1536},
                                      {2304, 768}, {768, 768}, {3072, 768}, {768, 3072}};
    static const size_t heights[] = {1, 10, 32, 64, 128, 512};
    enum { SIZES = sizeof sizes / sizeof sizes[0], HEIGHTS = sizeof heights / sizeof heights[0] };
    printf("  gemm_f32, share of the limit in %%: weights from memory / hot\n  %10s", "N x K");
    for (size_t j = 0; j < HEIGHTS; j++) printf("   M = %-6zu", heights[j]);
    printf("\n");
    for (size_t i = 0; i < SIZES; i++) {
        printf("  %5zux%-4zu", sizes[i][0], sizes[i][1]);
        for (size_t j = 0; j < HEIGHTS; j++) {
            shape s = {.m = heights[j], .n = sizes[i][0], .k = sizes[i][1]};
            double work = 2e-9 * (double)(s.m * s.n * s.k), cold = typical_s(t, run_gemm, &s);
            s.hot = true;
            double hot = typical_s(t, run_gemm, &s);
            printf("  %5.1f /%5.1f", 100 * work / cold / t->limit, 100 * work / hot / t->limit);
            fflush(stdout);
        }
        printf("\n");
    }
}

/* ── Attention ── */

typedef struct head {
    size_t t, dim;
    bool bias;
} head;

static void run_attention(timing *t, const void *ud) {
    const head *h = ud;
    t->k->attention_f32(&(pil_attention_f32){.n_tokens = h->t,
                                             .head_dim = h->dim,
                                             .q = t->x,
                                             .k = t->x + h->dim * 12,
                                             .v = t->x + h->dim * 24,
                                             .ld = h->dim * 36,
                                             .out = t->y,
                                             .ld_out = h->dim * 12,
                                             .scale = 0.125f,
                                             .rel_bias = h->bias ? t->weights + h->t : NULL,
                                             .scratch = t->scratch});
}

static void bench_attention(timing *t) {
    static const size_t lengths[] = {10, 32, 64, 128, 256, 512};
    printf("  attention_f32, one head of 12, share of the limit in %% (both products, without softmax's own work)\n");
    for (size_t dim = 32; dim <= 64; dim += 32) {
        for (int bias = 0; bias < 2; bias++) {
            printf("    dim %zu%s", dim, bias ? " bias" : "     ");
            for (size_t i = 0; i < sizeof lengths / sizeof lengths[0]; i++) {
                head h = {.t = lengths[i], .dim = dim, .bias = bias};
                double s = typical_s(t, run_attention, &h);
                printf("  T %zu: %.1f", h.t, 100 * 4e-9 * (double)(h.t * h.t * dim) / s / t->limit);
            }
            printf("\n");
        }
    }
}

/* ── Rows ── */

static void run_layernorm(timing *t, const void *ud) {
    const shape *s = ud;
    t->k->layernorm_f32(t->y, t->x, t->weights, t->weights, 1e-5f, s->m, s->n);
}
static void run_gelu_erf(timing *t, const void *ud) {
    t->k->gelu_erf_f32(t->y, ((const shape *)ud)->m * ((const shape *)ud)->n);
}
static void run_gelu_tanh(timing *t, const void *ud) {
    t->k->gelu_tanh_f32(t->y, ((const shape *)ud)->m * ((const shape *)ud)->n);
}
static void run_relu(timing *t, const void *ud) {
    t->k->relu_f32(t->y, ((const shape *)ud)->m * ((const shape *)ud)->n);
}
static void run_tanh(timing *t, const void *ud) {
    t->k->tanh_f32(t->y, ((const shape *)ud)->m * ((const shape *)ud)->n);
}
static void run_sum(timing *t, const void *ud) {
    t->k->sum_rows_f32(t->y, t->x, NULL, ((const shape *)ud)->m, ((const shape *)ud)->n);
}
static void run_max(timing *t, const void *ud) {
    t->k->max_rows_f32(t->y, t->x, ((const shape *)ud)->m, ((const shape *)ud)->n);
}
static volatile double dot_result;
static void run_dot(timing *t, const void *ud) {
    dot_result = t->k->dot_f32(t->x, t->y, ((const shape *)ud)->m * ((const shape *)ud)->n);
}

static void bench_rows(timing *t) {
    static const struct {
        const char *name;
        void (*run)(timing *t, const void *ud);
    } all[] = {{"layernorm_f32", run_layernorm}, {"gelu_erf_f32", run_gelu_erf},
               {"gelu_tanh_f32", run_gelu_tanh}, {"relu_f32", run_relu},
               {"tanh_f32", run_tanh},           {"sum_rows_f32", run_sum},
               {"max_rows_f32", run_max},        {"dot_f32", run_dot}};
    printf("  values for each ns, and multiply-adds of the limit that fit into the time of one value: 8 x 768 (L1), "
           "128 x 768\n");
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++) {
        printf("    %-14s", all[i].name);
        for (size_t m = 8; m <= 128; m *= 16) {
            shape s = {.m = m, .n = 768};
            check_fill(t->y, s.m * s.n, 4);
            double ns = 1e9 * typical_s(t, all[i].run, &s) / (double)(s.m * s.n);
            printf("  %6.2f (%5.1f)", 1 / ns, ns * t->limit / 2);
        }
        printf("\n");
    }
}

/* ── One layer ── */

/* The parts of one encoder layer over a block of tokens, one text: what share of the time is not matrix product. */
static void bench_layer(timing *t, size_t hidden, size_t heads) {
    size_t m = BLOCK_TOKENS;
    const shape products[] = {{.m = m, .n = 3 * hidden, .k = hidden},
                              {.m = m, .n = hidden, .k = hidden, .residual = true},
                              {.m = m, .n = 4 * hidden, .k = hidden},
                              {.m = m, .n = hidden, .k = 4 * hidden, .residual = true}};
    shape norm = {.m = m, .n = hidden}, gelu = {.m = m, .n = 4 * hidden};
    head h = {.t = m, .dim = hidden / heads};
    double product = 0, work = 0;
    for (size_t i = 0; i < 4; i++) {
        product += typical_s(t, run_gemm, &products[i]);
        work += 2e-9 * (double)(m * products[i].n * products[i].k);
    }
    check_fill(t->y, gelu.m * gelu.n, 4);
    double attention = (double)heads * typical_s(t, run_attention, &h), norms = 2 * typical_s(t, run_layernorm, &norm);
    check_fill(t->y, gelu.m * gelu.n, 4);
    double act = typical_s(t, run_gelu_erf, &gelu);
    double rest = attention + norms + act;
    printf("  layer of %zu x %zu heads, %zu tokens: gemm %.0f us (%.1f %% of the limit); attention %.1f %% of gemm, "
           "layernorm "
           "%.1f %%, gelu %.1f %%: all that is not gemm %.1f %%\n",
           hidden, heads, m, 1e6 * product, 100 * work / product / t->limit, 100 * attention / product,
           100 * norms / product, 100 * act / product, 100 * rest / product);
}

void check_bench(const pil_kernels *k) {
    timing t = {.k = k, .weights = filled(WEIGHT_BYTES / sizeof(float)), .x = filled(X_FLOATS), .y = filled(X_FLOATS)};
    t.scratch = filled((k->attention_scratch(512, 64) + 15) / 16 * 16);
    double limit[ROUNDS];
    for (size_t i = 0; i < ROUNDS; i++) limit[i] = check_limit_gflops(k->name);
    printf("%s: limit of one core %.1f GFLOP/s\n", k->name, median(limit, ROUNDS));
    if (strcmp(k->name, "ref") != 0) bench_gemm(&t);
    bench_attention(&t);
    bench_rows(&t);
    bench_layer(&t, 384, 12);
    bench_layer(&t, 768, 12);
    free(t.weights);
    free(t.x);
    free(t.y);
    free(t.scratch);
}
