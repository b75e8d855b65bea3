/* checkasm.c - runs every kernel of every tier this machine has against plain arithmetic in f64, in the manner of
 * dav1d's checkasm.
 *
 * Usage:  checkasm [--seed N] [--tier NAME] [--bench]
 * The seed is printed, so that a failure can be run again. Exit status 0: all checks passed.
 * A second proof beside the tolerances: results on the data of a fixed seed are digested, and the digest must be the
 * same on every vector tier and on every machine (DIGEST below). It changes only when an algorithm does, on purpose. */
#include "checkasm.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define DIGEST 0x05177e3208df5b4eu
#define DIGEST_SEED 1

/* ── Random data ── */

static uint64_t state;

void check_seed(uint64_t seed) { state = seed; }

/* splitmix64: Steele, Lea, Flood, "Fast splittable pseudorandom number generators", OOPSLA 2014. */
uint32_t check_random(void) {
    uint64_t z = (state += 0x9e3779b97f4a7c15u);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return (uint32_t)((z ^ (z >> 31)) >> 32);
}

size_t check_size(size_t low, size_t high) { return low + check_random() % (high - low + 1); }

size_t check_gap(void) {
    size_t gap = check_size(0, 80);
    return gap > 40 ? 0 : gap;
}

float check_float(float low, float high) { return low + (high - low) * (float)(check_random() >> 8) * 0x1p-24f; }

void check_fill(float *x, size_t n, float scale) {
    for (size_t i = 0; i < n; i++) x[i] = check_float(-scale, scale);
}

/* ── Guarded memory ── */

enum { FRONT_BYTES = 256 };

static size_t mapped_bytes(size_t n, size_t *page) {
    *page = (size_t)sysconf(_SC_PAGESIZE);
    return (n * sizeof(float) + FRONT_BYTES + *page - 1) / *page * *page;
}

float *check_new(size_t n) {
    size_t page, bytes = mapped_bytes(n, &page);
    char *map = mmap(NULL, bytes + page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (map == MAP_FAILED || mprotect(map + bytes, page, PROT_NONE) != 0) {
        fprintf(stderr, "checkasm: no memory for %zu floats\n", n);
        exit(2);
    }
    uint32_t guard = CHECK_GUARD;
    for (size_t i = 0; i < bytes; i += sizeof guard) memcpy(map + i, &guard, sizeof guard);
    return (float *)(void *)(map + bytes) - n;
}

bool check_is_guard(float x) { return check_bits(x) == CHECK_GUARD; }

void check_free(float *x, size_t n) {
    if (!x) return;
    size_t page, bytes = mapped_bytes(n, &page);
    bool intact = true;
    for (float *p = x - FRONT_BYTES / sizeof *x; p < x; p++) intact = intact && check_is_guard(*p);
    munmap((char *)(x + n) - bytes, bytes + page);
    check_that(intact, "something was written before the start of a buffer of %zu floats", n);
}

/* ── Verdicts ── */

enum { PRINTED_MAX = 20 };
static size_t failures;
static uint64_t digest;

bool check_that(bool ok, const char *format, ...) {
    if (ok) return true;
    if (failures++ < PRINTED_MAX) {
        va_list args;
        va_start(args, format);
        printf("  FAILED: ");
        vprintf(format, args);
        printf("\n");
        va_end(args);
    }
    return false;
}

size_t check_failures(void) { return failures; }

uint32_t check_bits(float x) {
    uint32_t u;
    memcpy(&u, &x, sizeof u);
    return u;
}

bool check_same(const float *a, const float *b, size_t n) { return memcmp(a, b, n * sizeof *a) == 0; }

/* FNV-1a on words; a negative zero counts as zero and every NaN is one, since their signs are not promised. */
void check_digest(const float *x, size_t n) {
    for (size_t i = 0; i < n; i++) {
        uint32_t u = x[i] != x[i] ? 0x7fc00000u : x[i] == 0 ? 0 : check_bits(x[i]);
        digest = (digest ^ u) * 0x100000001b3u;
    }
}

/* ── Program ── */

static const char *const tier_names[] = {"ref", "avx2", "avx512", "neon"};
enum { N_TIERS = sizeof tier_names / sizeof tier_names[0] };

/* What a fresh process chooses when PILLION_CPU is wish: the choice is made once in each. */
static bool chooses(const char *wish, const char *expected) {
    int status = 1;
    pid_t child = fork();
    if (child == 0) {
        setenv("PILLION_CPU", wish, 1);
        _exit(strcmp(pil_kernels_best()->name, expected) != 0);
    }
    return child > 0 && waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

/* PILLION_CPU lowers the tier; a tier this machine lacks, and any other word, is ignored. Must run before the first use
 * of kernels in this process. */
static void check_choice(void) {
    bool chosen[N_TIERS], nonsense[N_TIERS];
    for (size_t i = 0; i < N_TIERS; i++) {
        chosen[i] = chooses(tier_names[i], tier_names[i]);
        nonsense[i] = chooses("pentium", tier_names[i]);
    }
    for (size_t i = 0; i < N_TIERS; i++) {
        bool usable = pil_kernels_tier(tier_names[i]) != NULL;
        check_that(chosen[i] == usable, "PILLION_CPU=%s %s", tier_names[i], usable ? "is not obeyed" : "is obeyed");
        check_that(nonsense[i] == (pil_kernels_best() == pil_kernels_tier(tier_names[i])),
                   "PILLION_CPU=pentium does not choose the best tier");
    }
    check_that(pil_kernels_tier("pentium") == NULL, "there is a tier pentium");
}

static void check_tier(const pil_kernels *k) {
    check_gemm(k);
    check_attention(k);
    check_layernorm(k);
    check_activations(k);
    check_pooling(k);
}

static void run_tier(const pil_kernels *k, uint64_t seed) {
    size_t before = failures;
    check_seed(DIGEST_SEED);
    digest = 0xcbf29ce484222325u;
    check_tier(k);
    if (strcmp(k->name, "ref") != 0) {
        check_that(digest == DIGEST, "%s: digest 0x%016llx, expected 0x%016llx: other bits than the other vector tiers",
                   k->name, (unsigned long long)digest, (unsigned long long)DIGEST);
    }
    check_seed(seed);
    check_tier(k);
    printf("%-8s %s\n", k->name, failures == before ? "ok" : "FAILED");
}

int main(int argc, char **argv) {
    uint64_t seed = (uint64_t)time(NULL) ^ (uint64_t)getpid() << 32;
    const char *only = NULL;
    bool bench = false;
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--bench") == 0) {
            bench = true;
        } else if (strcmp(argv[i], "--seed") == 0 && i + 1 < argc) {
            seed = strtoull(argv[++i], NULL, 0);
        } else if (strcmp(argv[i], "--tier") == 0 && i + 1 < argc) {
            only = argv[++i];
        } else {
            fprintf(stderr, "usage: checkasm [--seed N] [--tier ref|avx2|avx512|neon] [--bench]\n");
            return 2;
        }
    }
    unsetenv("PILLION_CPU");
    if (!bench) check_choice();
    printf("checkasm --seed %llu, best tier %s\n", (unsigned long long)seed, pil_kernels_best()->name);
    size_t run = 0;
    if (!bench) check_pack();
    for (size_t i = 0; i < N_TIERS; i++) {
        const pil_kernels *k = pil_kernels_tier(tier_names[i]);
        if (!k || (only && strcmp(only, tier_names[i]) != 0)) continue;
        run++;
        if (bench) {
            check_bench(k);
        } else {
            run_tier(k, seed);
        }
        fflush(stdout);
    }
    if (!run) {
        fprintf(stderr, "checkasm: this machine has no tier %s\n", only ? only : "");
        return 2;
    }
    if (failures) printf("%zu checks failed with --seed %llu\n", failures, (unsigned long long)seed);
    return failures ? 1 : 0;
}
