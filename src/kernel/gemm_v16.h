/* gemm_v16.h - the loops around a tier's matrix tile: panels, chains of k, rows, and what is added to a finished tile.
 *
 * The including file has defined v16 (simd_*.h), TILE_ROWS, PANEL_TILES and
 *     static void tile_multiply(size_t rows, size_t tiles, const pil_tile *t);
 * which computes acc[i][j] = chain over x < k of a[i][x] * w[x][j] for rows <= TILE_ROWS and 16 * tiles columns.
 *
 * Order: one panel of weights outside, all rows inside, so that weights are read from memory once and from L2
 * afterwards, while the tiles of the panel's first rows prefetch the next panel. Activations are read in place.
 * Invariant: an element's value depends on its row of a, its column of w and PIL_CHAIN alone: chains start at zero, are
 * fused multiply-adds in rising x, and are added in order, ((chain 0 + bias) + residual) + chain 1 + ... */
#ifndef PIL_KERNEL_GEMM_V16_H
#define PIL_KERNEL_GEMM_V16_H

#include "kernel/kernel_int.h"

static inline void gemm_finish(const pil_gemm_f32 *g, const float *acc, size_t rows, size_t tiles, size_t i, size_t j,
                               int first) {
    size_t width = tiles * PIL_TILE_N;
    for (size_t r = 0; r < rows; r++) {
        float *c = g->c + (i + r) * g->ldc + j;
        const float *residual = first ? g->residual : g->c;
        const float *s = acc + r * width;
        for (size_t x = 0; x < width; x += PIL_TILE_N) {
            v16 v = v16_load(s + x);
            size_t left = g->n - j - x;
            if (left >= PIL_TILE_N) {
                if (first && g->bias) v = v16_add(v, v16_load(g->bias + j + x));
                if (residual) v = v16_add(v, v16_load(residual + (i + r) * g->ldc + j + x));
                v16_store(c + x, v);
            } else {
                if (first && g->bias) v = v16_add(v, v16_load_n(g->bias + j + x, left));
                if (residual) v = v16_add(v, v16_load_n(residual + (i + r) * g->ldc + j + x, left));
                v16_store_n(c + x, v, left);
            }
        }
    }
}

static void gemm_f32(const pil_gemm_f32 *g) {
    _Alignas(64) float acc[TILE_ROWS * PANEL_TILES * PIL_TILE_N];
    size_t n_tiles = (g->n + PIL_TILE_N - 1) / PIL_TILE_N;
    size_t row_tiles = (g->m + TILE_ROWS - 1) / TILE_ROWS;
    for (size_t p = 0; p < n_tiles; p += PANEL_TILES) {
        size_t tiles = pil_min(n_tiles - p, PANEL_TILES);
        for (size_t x = 0; x < g->k; x += PIL_CHAIN) {
            pil_tile t = {.k = pil_min(g->k - x, PIL_CHAIN), .a = g->a + x, .a_row = g->lda, .a_step = 1, .acc = acc};
            t.w = g->w + (p * g->k + x) * PIL_TILE_N;
            t.w_tile = g->k * PIL_TILE_N;
            const float *next = x + PIL_CHAIN < g->k ? t.w + PIL_CHAIN * PIL_TILE_N : t.w + tiles * t.w_tile - x * PIL_TILE_N;
            for (size_t r = 0, i = 0; r < row_tiles; r++) {
                /* rows spread evenly: 128 rows are 18 tiles of 6 and 4 of 5, never a last tile of 1 or 2 */
                size_t rows = g->m / row_tiles + (r < g->m % row_tiles);
                t.a = g->a + i * g->lda + x;
                t.next = r < tiles ? next + r * t.w_tile : NULL;
                tile_multiply(rows, tiles, &t);
                gemm_finish(g, acc, rows, tiles, i, p * PIL_TILE_N, x == 0);
                i += rows;
            }
        }
    }
}

#endif
