/* cpu.c - what this processor can run, and the table of kernels that goes with it.
 *
 * Invariants: (1) Tiers are bundles of features, in rising order; a tier is usable when the processor has the whole
 *             bundle and the operating system saves its registers. (2) tables[] is written once, under pthread_once,
 *             and constant afterwards. (3) No file with vector flags is entered for a tier the machine lacks.
 * Tests: tests/kernel/checkasm.c. */
#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "kernel/kernel_int.h"

typedef struct tier {
    const char *name;
    void (*init)(pil_kernels *k);
    bool (*usable)(void);
} tier;

static bool always(void) { return true; }

#if defined(__x86_64__)

#include <cpuid.h>

/* Bits of CPUID and XCR0: Intel SDM, volume 2A (CPUID) and volume 1, section 13.3 (XSAVE-managed state). */
enum {
    LEAF1_ECX_FMA = 1 << 12,
    LEAF1_ECX_OSXSAVE = 1 << 27,
    LEAF1_ECX_AVX = 1 << 28,
    LEAF1_ECX_F16C = 1 << 29,
    LEAF7_EBX_AVX2 = 1 << 5,
    LEAF7_EBX_AVX512F = 1 << 16,
    LEAF7_EBX_AVX512DQ = 1 << 17,
    LEAF7_EBX_AVX512BW = 1 << 30,
    XCR0_YMM = 1 << 1 | 1 << 2,
    XCR0_ZMM = XCR0_YMM | 1 << 5 | 1 << 6 | 1 << 7,
};
#define LEAF7_EBX_AVX512VL (1u << 31)

/* The vector state that the operating system saves, or 0 when it cannot be asked. */
static unsigned os_state(void) {
    unsigned a, b, c, d, low, high;
    if (!__get_cpuid(1, &a, &b, &c, &d) || !(c & LEAF1_ECX_OSXSAVE)) return 0;
    __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    return low;
}

static bool has(unsigned value, unsigned bits) { return (value & bits) == bits; }

static bool has_avx2(void) {
    unsigned a, b, c, d, b7;
    if (!__get_cpuid_count(7, 0, &a, &b7, &c, &d) || !__get_cpuid(1, &a, &b, &c, &d)) return false;
    return has(c, LEAF1_ECX_FMA | LEAF1_ECX_AVX | LEAF1_ECX_F16C) && has(b7, LEAF7_EBX_AVX2) &&
           has(os_state(), XCR0_YMM);
}

static bool has_avx512(void) {
    unsigned a, b, c, d;
    if (!has_avx2() || !__get_cpuid_count(7, 0, &a, &b, &c, &d)) return false;
    return has(b, LEAF7_EBX_AVX512F | LEAF7_EBX_AVX512DQ | LEAF7_EBX_AVX512BW | LEAF7_EBX_AVX512VL) &&
           has(os_state(), XCR0_ZMM);
}

static const tier tiers[] = {
    {"ref", pil_kernel_init_ref, always},
    {"avx2", pil_kernel_init_avx2, has_avx2},
    {"avx512", pil_kernel_init_avx512, has_avx512},
};

#elif defined(__aarch64__)

/* Advanced SIMD with f32 and f64 arithmetic is part of every AArch64 processor that runs a general operating system. */
static const tier tiers[] = {
    {"ref", pil_kernel_init_ref, always},
    {"neon", pil_kernel_init_neon, always},
};

#else

static const tier tiers[] = {
    {"ref", pil_kernel_init_ref, always},
};

#endif

enum { N_TIERS = sizeof tiers / sizeof tiers[0] };

static pil_kernels tables[N_TIERS];
static size_t n_usable;
static const pil_kernels *best;
static pthread_once_t once = PTHREAD_ONCE_INIT;

static void fill(void) {
    for (n_usable = 0; n_usable < N_TIERS && tiers[n_usable].usable(); n_usable++) {
        pil_kernels *k = &tables[n_usable];
        if (n_usable) *k = tables[n_usable - 1];
        tiers[n_usable].init(k);
        k->name = tiers[n_usable].name;
    }
    best = &tables[n_usable - 1];
    const char *wish = getenv("PILLION_CPU");
    for (size_t i = 0; wish && i < n_usable; i++) {
        if (strcmp(wish, tables[i].name) == 0) best = &tables[i];
    }
}

const pil_kernels *pil_kernels_best(void) {
    pthread_once(&once, fill);
    return best;
}

const pil_kernels *pil_kernels_tier(const char *name) {
    pthread_once(&once, fill);
    for (size_t i = 0; i < n_usable; i++) {
        if (strcmp(name, tables[i].name) == 0) return &tables[i];
    }
    return NULL;
}
