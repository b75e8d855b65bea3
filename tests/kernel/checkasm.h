/* checkasm.h - what the files of the kernel test share: seeded random data, guarded memory, verdicts.
 *
 * The test is a plain C program without a test library, so that the cross compiler can build it for a processor of
 * which nothing but libc is installed. Every check function tests one tier and returns its number of failures. */
#ifndef PIL_TESTS_KERNEL_CHECKASM_H
#define PIL_TESTS_KERNEL_CHECKASM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "kernel/kernel.h"

/* The chain length of products that kernel_int.h fixes: part of what kernels promise, so repeated here. */
#define CHECK_CHAIN 384

/* ── Random data: one stream for each seed, the same on every machine (so never two calls in one expression) ── */
void check_seed(uint64_t seed);
uint32_t check_random(void);
size_t check_size(size_t low, size_t high);       /* uniform in [low, high] */
size_t check_gap(void);                           /* 0, or a little more: what a row's stride adds to its length */
float check_float(float low, float high);         /* uniform */
void check_fill(float *x, size_t n, float scale); /* uniform in [-scale, scale] */

/* ── Guarded memory ──
 * n floats that end at an unreadable page; bytes before them hold a pattern. With n not a multiple of 16 the pointer is
 * misaligned, with a multiple of 16 it is aligned to 64 bytes. Contents: a signalling pattern (CHECK_GUARD). */
#define CHECK_GUARD 0xffbadbadu
float *check_new(size_t n);
/* Fails the run when the bytes before x have been written to. Frees x; NULL is accepted. */
void check_free(float *x, size_t n);
bool check_is_guard(float x);

/* ── Verdicts ── */
/* Prints one line for the first failures of a run, counts all. Returns ok. */
bool check_that(bool ok, const char *format, ...) __attribute__((format(printf, 2, 3)));
size_t check_failures(void);
/* Bits of a float, so that -0, NaN and rounding are seen. */
uint32_t check_bits(float x);
/* All n floats have the same bits. */
bool check_same(const float *a, const float *b, size_t n);
/* Adds results to the digest of this tier's run; every vector tier must arrive at the same one. */
void check_digest(const float *x, size_t n);

/* ── The checks, one file for each group of kernels ── */
void check_gemm(const pil_kernels *k);
void check_pack(void);
void check_attention(const pil_kernels *k);
void check_layernorm(const pil_kernels *k);
void check_activations(const pil_kernels *k);
void check_pooling(const pil_kernels *k);

/* ── Speed ── */
/* Multiply-adds from registers only, the most this core does with a tier's vectors: GFLOP/s of one short run. */
double check_limit_gflops(const char *tier);
void check_bench(const pil_kernels *k);

#endif
