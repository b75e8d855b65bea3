/* tile_neon.h - the register tile of Arm's Advanced SIMD: 6 rows by 16 columns.
 *
 * Registers:  24 accumulators, 4 for one step of the weights, up to 4 for activations: 32. Each step is 24
 *             multiply-adds for 4 loads and 6 scalar loads; the multiply-add takes its scalar from an element of a
 *             register, so nothing is broadcast. Intrinsics suffice here: with 32 registers, both compilers keep the
 *             tile in them. */
#ifndef PIL_KERNEL_TILE_NEON_H
#define PIL_KERNEL_TILE_NEON_H

#include <arm_neon.h>

#include "kernel/kernel_int.h"

enum { TILE_ROWS = 6, PANEL_TILES = 1 };

static inline __attribute__((always_inline)) void tile_rows(size_t rows, const pil_tile *t) {
    float32x4_t c[TILE_ROWS][4];
    for (size_t r = 0; r < rows; r++) c[r][0] = c[r][1] = c[r][2] = c[r][3] = vdupq_n_f32(0);
    const float *a = t->a, *w = t->w;
    const char *next = (const char *)(t->next ? t->next : t->w);
    size_t next_bytes = t->next ? t->next_bytes : 0;
    for (size_t k = t->k; k; k--, a += t->a_step, w += PIL_TILE_N, next += next_bytes) {
        float32x4_t w0 = vld1q_f32(w), w1 = vld1q_f32(w + 4), w2 = vld1q_f32(w + 8), w3 = vld1q_f32(w + 12);
        __builtin_prefetch(next, 0, 2);
        for (size_t r = 0; r < rows; r++) {
            float s = a[r * t->a_row];
            c[r][0] = vfmaq_n_f32(c[r][0], w0, s);
            c[r][1] = vfmaq_n_f32(c[r][1], w1, s);
            c[r][2] = vfmaq_n_f32(c[r][2], w2, s);
            c[r][3] = vfmaq_n_f32(c[r][3], w3, s);
        }
    }
    for (size_t r = 0; r < rows; r++) {
        for (size_t j = 0; j < 4; j++) vst1q_f32(t->acc + r * t->acc_row + 4 * j, c[r][j]);
    }
}

static void tile_multiply(size_t rows, size_t tiles, const pil_tile *t) {
    (void)tiles;
    switch (rows) {
    case 1: tile_rows(1, t); break;
    case 2: tile_rows(2, t); break;
    case 3: tile_rows(3, t); break;
    case 4: tile_rows(4, t); break;
    case 5: tile_rows(5, t); break;
    case 6: tile_rows(6, t); break;
    }
}

#endif
