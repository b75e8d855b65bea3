/* limit.c - the machine's f32 limit: fused multiply-adds on registers alone, on as many threads as asked.
 *
 *   limit [THREADS [SECONDS]]      prints {"isa":"avx512","threads":2,"f32_gflops":455.1}
 *
 * Sixteen independent accumulators hide the latency of two multiply-add units; nothing is loaded or stored, so this is
 * what no matrix product can exceed. One multiply-add counts as two operations. Every benchmark measures it in the same
 * run and states its result as a share of it, which holds across machines where texts per second do not. */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#define THREADS_MAX 256
#define ACCUMULATORS 16
#define STEPS 20000 /* of all accumulators between two looks at the clock: well below a millisecond */

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

/* One run of STEPS. In assembly, because a compiler is free to keep the accumulators in memory, and does. */
typedef void (*fma_run)(void);

#define EIGHT(OP) OP(0) OP(1) OP(2) OP(3) OP(4) OP(5) OP(6) OP(7)
#define SIXTEEN(OP) EIGHT(OP) OP(8) OP(9) OP(10) OP(11) OP(12) OP(13) OP(14) OP(15)
#if defined(__x86_64__)
#define CLOBBERS                                                                                                  \
    "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9", "xmm10", "xmm11", "xmm12",    \
        "xmm13", "xmm14", "xmm15", "cc"
#define FMA512(n) "vfmadd231ps %%zmm16, %%zmm17, %%zmm" #n "\n"
#define FMA256(n) "vfmadd231ps %%ymm" #n ", %%ymm" #n ", %%ymm" #n "\n"
#define ZERO256(n) "vxorps %%xmm" #n ", %%xmm" #n ", %%xmm" #n "\n"

static void run_avx512(void) {
    long steps = STEPS;
    __asm__ volatile(SIXTEEN(ZERO256) "vpxorq %%zmm16, %%zmm16, %%zmm16\n vpxorq %%zmm17, %%zmm17, %%zmm17\n"
                     "1:\n" SIXTEEN(FMA512) "dec %0\n jnz 1b\n vzeroupper\n"
                     : "+r"(steps)::CLOBBERS);
}

static void run_avx2(void) { /* x = x * x + x on zeros: all sixteen registers are accumulators */
    long steps = STEPS;
    __asm__ volatile(SIXTEEN(ZERO256) "1:\n" SIXTEEN(FMA256) "dec %0\n jnz 1b\n vzeroupper\n"
                     : "+r"(steps)::CLOBBERS);
}
#elif defined(__aarch64__)
#define FMA128(n) "fmla v" #n ".4s, v16.4s, v17.4s\n"
static void run_neon(void) {
    long steps = STEPS;
    __asm__ volatile("movi v16.4s, #0\n movi v17.4s, #0\n"
                     "1:\n" SIXTEEN(FMA128) "subs %0, %0, #1\n b.ne 1b\n"
                     : "+r"(steps)::"v0", "v1", "v2", "v3", "v4", "v5", "v6", "v7", "v8", "v9", "v10", "v11", "v12",
                       "v13", "v14", "v15", "v16", "v17", "cc");
}
#endif

typedef struct isa {
    const char *name;
    fma_run run;
    double lanes;
} isa;

static isa best_isa(void) {
#if defined(__x86_64__)
    if (__builtin_cpu_supports("avx512f")) return (isa){"avx512", run_avx512, 16};
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) return (isa){"avx2", run_avx2, 8};
#elif defined(__aarch64__)
    return (isa){"neon", run_neon, 4};
#endif
    return (isa){"none", NULL, 0};
}

typedef struct worker {
    pthread_t thread;
    isa isa;
    double seconds;
    double flops_per_s;
} worker;

static void *work(void *ud) {
    worker *w = ud;
    double end;
    size_t runs = 0;
    w->isa.run(); /* wakes the vector units up */
    double start = now();
    do {
        w->isa.run();
        runs++;
        end = now();
    } while (end - start < w->seconds);
    w->flops_per_s = (double)runs * STEPS * ACCUMULATORS * w->isa.lanes * 2 / (end - start);
    return NULL;
}

int main(int argc, char **argv) {
    long threads = argc > 1 ? strtol(argv[1], NULL, 10) : 1;
    double seconds = argc > 2 ? strtod(argv[2], NULL) : 0.4;
    static worker workers[THREADS_MAX];
    isa isa = best_isa();
    if (threads < 1 || threads > THREADS_MAX || !isa.run) {
        fprintf(stderr, "limit: 1 to %d threads, on a machine with AVX2, AVX-512 or NEON\n", THREADS_MAX);
        return 2;
    }
    double total = 0;
    for (long i = 0; i < threads; i++) {
        workers[i].isa = isa;
        workers[i].seconds = seconds;
        if (pthread_create(&workers[i].thread, NULL, work, &workers[i])) return 1;
    }
    for (long i = 0; i < threads; i++) {
        pthread_join(workers[i].thread, NULL);
        total += workers[i].flops_per_s;
    }
    printf("{\"isa\":\"%s\",\"threads\":%ld,\"f32_gflops\":%.1f}\n", isa.name, threads, total / 1e9);
    return 0;
}
