/* kernel_int.h - what the files of this room share; not included from outside. */
#ifndef PIL_KERNEL_INT_H
#define PIL_KERNEL_INT_H

#include "kernel/kernel.h"

/* Steps of k in one chain of a product. Longer sums are cut into chains of this length, which are added in order. The
 * value is part of the result (it fixes the order of summation), so all tiers share it: 384 steps of a 64-column panel
 * are 96 KiB, which leaves room in an L2 cache for the next panel, and 384 steps of a 16-column one are 24 KiB of L1.
 * */
#define PIL_CHAIN 384

/* Each overwrites the entries its tier improves. Order: ref, avx2, avx512; or ref, neon. */
void pil_kernel_init_ref(pil_kernels *k);
#if defined(__x86_64__)
void pil_kernel_init_avx2(pil_kernels *k);
void pil_kernel_init_avx512(pil_kernels *k);
#elif defined(__aarch64__)
void pil_kernel_init_neon(pil_kernels *k);
#endif

/* One small product on a tier's register tile: acc[i][j] = sum over x < k of a[i][x] * w[x][j], as one chain of fused
 * multiply-adds from zero. Strides in floats. */
typedef struct pil_tile {
    size_t k;
    const float *a; /* element (i, x) at a[i * a_row + x * a_step] */
    size_t a_row, a_step;
    const float *w; /* tiles of 16 columns: element (x, j) at w[j / 16 * w_tile + x * 16 + j % 16]; 64-byte aligned */
    size_t w_tile;
    float *acc; /* element (i, j) at acc[i * acc_row + j]; 64-byte aligned, acc_row a multiple of 16 */
    size_t acc_row;
    /* What will be wanted soon: each step of k prefetches the line at next in each of next_streams streams, which lie
     * w_tile apart, and advances by next_bytes. NULL for none. */
    const float *next;
    size_t next_streams, next_bytes;
} pil_tile;

static inline size_t pil_min(size_t a, size_t b) { return a < b ? a : b; }

#endif
