/* gemm_v16.h - the f32 product: loops around a tier's register tile, and what is added to a finished tile.
 *
 * The including file has defined v16 (simd_*.h), TILE_ROWS, PANEL_TILES and
 *     static void tile_multiply(size_t rows, size_t tiles, const pil_tile *t);   rows <= TILE_ROWS, tiles <=
 *     PANEL_TILES
 *
 * Flow:       one panel of weights (PANEL_TILES tiles of columns, PIL_CHAIN steps of k) outside, all rows inside, so
 *             that weights come from memory once and from the cache after that. Meanwhile each tile of rows prefetches
 *             its share of the next panel, evenly: with weights beyond L3 that is worth 20 % at 32 rows and 7 % at 128,
 *             and all of it in the first tile is worth nothing. Activations are read in place, without packing.
 * Invariant:  an element's value depends on its row of a, its column of w and PIL_CHAIN alone: chains start at zero,
 *             are fused multiply-adds in rising x, and are added in order: ((chain 0 + bias) + residual) + chain 1 +
 *             ... So a row's bits do not depend on m, n or its place, and all tiers but ref return the same bits.
 * Tests:      tests/kernel/checkasm.c; --bench states the share of the machine's limit. */
#ifndef PIL_KERNEL_GEMM_V16_H
#define PIL_KERNEL_GEMM_V16_H

#include "kernel/kernel_int.h"

/* Adds rows x width of acc to what belongs to them and writes them to c, from row i and column j on. */
static void gemm_finish(const pil_gemm_f32 *g, const float *acc, size_t rows, size_t width, size_t i, size_t j,
                        int first) {
    const float *bias = first ? g->bias : NULL;
    const float *add = first ? g->residual : g->c;
    for (size_t r = 0; r < rows; r++, acc += width) {
        size_t at = (i + r) * g->ldc + j;
        for (size_t x = 0; x < width; x += PIL_TILE_N) {
            v16 v = v16_load(acc + x);
            size_t left = g->n - j - x;
            if (left >= PIL_TILE_N) {
                if (bias) v = v16_add(v, v16_load(bias + j + x));
                if (add) v = v16_add(v, v16_load(add + at + x));
                v16_store(g->c + at + x, v);
            } else {
                if (bias) v = v16_add(v, v16_load_n(bias + j + x, left));
                if (add) v = v16_add(v, v16_load_n(add + at + x, left));
                v16_store_n(g->c + at + x, v, left);
            }
        }
    }
}

/* The share of the next panel block (its first tile at next) that row tile r of row_tiles prefetches. A block has 64
 * bytes for each tile and step of k, so a row tile takes tiles * 64 / row_tiles bytes a step: whole lines of several
 * streams when there are few row tiles, else a fraction of one, which the processor merges while the line is on its
 * way. */
static void gemm_prefetch(pil_tile *t, const float *next, size_t tiles, size_t r, size_t row_tiles) {
    t->next = NULL;
    t->next_streams = row_tiles >= tiles || tiles < PANEL_TILES ? 1 : row_tiles > 1 ? (tiles + 1) / 2 : tiles;
    t->next_bytes = 64;
    while (t->next_streams == 1 && t->next_bytes > 8 && t->next_bytes / 2 * row_tiles >= 64 * tiles) t->next_bytes /= 2;
    size_t done = r * t->next_streams * t->next_bytes; /* bytes of each step that earlier row tiles have taken */
    if (next && done < 64 * tiles) t->next = next + done / 64 * t->w_tile + done % 64 * t->k / sizeof *next;
}

static void gemm_f32(const pil_gemm_f32 *g) {
    _Alignas(64) float acc[TILE_ROWS * PANEL_TILES * PIL_TILE_N];
    size_t n_tiles = (g->n + PIL_TILE_N - 1) / PIL_TILE_N, row_tiles = (g->m + TILE_ROWS - 1) / TILE_ROWS;
    pil_tile t = {.a_row = g->lda, .a_step = 1, .w_tile = g->k * PIL_TILE_N, .acc = acc};
    for (size_t p = 0; p < n_tiles; p += PANEL_TILES) {
        size_t tiles = pil_min(n_tiles - p, PANEL_TILES);
        t.acc_row = tiles * PIL_TILE_N;
        for (size_t x = 0; x < g->k; x += PIL_CHAIN) {
            t.k = pil_min(g->k - x, PIL_CHAIN);
            t.w = g->w + p * t.w_tile + x * PIL_TILE_N;
            const float *next = x + t.k < g->k        ? t.w + t.k * PIL_TILE_N
                                : p + tiles < n_tiles ? g->w + (p + tiles) * t.w_tile
                                                      : NULL;
            for (size_t r = 0, i = 0; r < row_tiles; r++) {
                /* rows are spread evenly: 128 rows are 18 tiles of 6 and 4 of 5, never a last tile of 1 or 2 */
                size_t rows = g->m / row_tiles + (r < g->m % row_tiles);
                t.a = g->a + i * g->lda + x;
                gemm_prefetch(&t, next, tiles, r, row_tiles);
                tile_multiply(rows, tiles, &t);
                gemm_finish(g, acc, rows, t.acc_row, i, p * PIL_TILE_N, x == 0);
                i += rows;
            }
        }
    }
}

#endif
