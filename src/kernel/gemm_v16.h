/* gemm_v16.h - the f32 product: loops around a tier's register tile, and what is added to a finished tile.
 *
 * The including file has defined v16 (simd_*.h), TILE_ROWS, PANEL_TILES and one register tile's product (tile_*.h).
 *
 * Flow:       one block of weights (PANEL_TILES tiles of columns, two chains of k: 192 KiB at 64 columns, so that L2
 *             holds it and its successor) outside, all rows inside: weights come from memory once. Meanwhile each tile
 *             of rows prefetches its share of the next block, evenly: with weights beyond L3 that is worth 20 % of the
 *             speed at 32 rows and 7 % at 128, while prefetching all of it beside the first rows is worth nothing.
 *             Activations are read in place, without packing; c is written once for two chains.
 * Invariant:  an element's value depends on its row of a, its column of w and PIL_CHAIN alone: chains start at zero,
 *             are fused multiply-adds in rising x, and are added in order: ((chain 0 + bias) + residual) + chain 1 +
 *             ... So a row's bits do not depend on m, n or its place, and all tiers but ref return the same bits.
 * Tests:      tests/kernel/checkasm.c; --bench states the share of the machine's limit. */
#ifndef PIL_KERNEL_GEMM_V16_H
#define PIL_KERNEL_GEMM_V16_H

#include <stdbool.h>

#include "kernel/kernel_int.h"

enum { PANEL_WIDTH = PANEL_TILES * PIL_TILE_N, TILE_FLOATS = TILE_ROWS * PANEL_WIDTH };

/* Where a tile of rows and columns of c goes, and what is added to it; bias, add and second may be NULL. */
typedef struct gemm_out {
    float *c; /* row stride ldc, as add */
    size_t ldc, rows, width;
    const float *bias, *add;
    const float *first, *second; /* chains, [rows][PANEL_WIDTH] */
} gemm_out;

/* c = first + bias + add + second for a whole panel. Inlined once for each combination, without tests inside. */
static inline __attribute__((always_inline)) void finish_whole(const gemm_out *o, const float *bias, const float *add,
                                                               const float *second) {
    v16 b[PANEL_TILES];
    for (size_t p = 0; bias && p < PANEL_TILES; p++) b[p] = v16_load(bias + p * 16);
    for (size_t r = 0; r < o->rows; r++) {
        for (size_t p = 0; p < PANEL_TILES; p++) {
            v16 v = v16_load(o->first + r * PANEL_WIDTH + p * 16);
            if (bias) v = v16_add(v, b[p]);
            if (add) v = v16_add(v, v16_load(add + r * o->ldc + p * 16));
            if (second) v = v16_add(v, v16_load(second + r * PANEL_WIDTH + p * 16));
            v16_store(o->c + r * o->ldc + p * 16, v);
        }
    }
}

/* The same for a panel of any width, whose last tile may be cut. */
static void finish_cut(const gemm_out *o) {
    for (size_t r = 0; r < o->rows; r++) {
        for (size_t x = 0; x < o->width; x += 16) {
            size_t left = pil_min(o->width - x, 16);
            v16 v = v16_load(o->first + r * PANEL_WIDTH + x);
            if (o->bias) v = v16_add(v, v16_load_n(o->bias + x, left));
            if (o->add) v = v16_add(v, v16_load_n(o->add + r * o->ldc + x, left));
            if (o->second) v = v16_add(v, v16_load(o->second + r * PANEL_WIDTH + x));
            v16_store_n(o->c + r * o->ldc + x, v, left);
        }
    }
}

static void finish(const gemm_out *o) {
    if (o->width < PANEL_WIDTH) {
        finish_cut(o);
        return;
    }
    switch ((o->bias ? 4 : 0) | (o->add ? 2 : 0) | (o->second ? 1 : 0)) {
    case 0: finish_whole(o, NULL, NULL, NULL); break;
    case 1: finish_whole(o, NULL, NULL, o->second); break;
    case 2: finish_whole(o, NULL, o->add, NULL); break;
    case 3: finish_whole(o, NULL, o->add, o->second); break;
    case 4: finish_whole(o, o->bias, NULL, NULL); break;
    case 5: finish_whole(o, o->bias, NULL, o->second); break;
    case 6: finish_whole(o, o->bias, o->add, NULL); break;
    case 7: finish_whole(o, o->bias, o->add, o->second); break;
    }
}

/* How row tiles share the prefetching of the next block, which has 64 bytes for each tile and step of k: a row tile
 * takes tiles * 64 / row_tiles bytes a step, whole lines of several streams when there are few row tiles, else a
 * fraction of one line, which the processor merges while the line is on its way. */
static void gemm_share(pil_tile *t, size_t tiles, size_t row_tiles) {
    t->next_streams = row_tiles >= tiles || tiles < PANEL_TILES ? 1 : row_tiles > 1 ? (tiles + 1) / 2 : tiles;
    t->next_bytes = 64;
    while (t->next_streams == 1 && t->next_bytes > 8 && t->next_bytes / 2 * row_tiles >= 64 * tiles) t->next_bytes /= 2;
}

/* All rows against one block of weights: steps of k from x on, one or two chains, and `tiles` tiles from column j on.
 * next is the block that follows, or NULL. */
static void gemm_block(const pil_gemm_f32 *g, size_t x, size_t steps, size_t j, size_t tiles, const float *next) {
    _Alignas(64) float chains[2][TILE_FLOATS];
    /* rows are spread evenly: 128 rows are 18 tiles of 6 and 4 of 5, never a last tile of 1 or 2 */
    size_t row_tiles = (g->m + TILE_ROWS - 1) / TILE_ROWS, each = g->m / row_tiles, more = g->m % row_tiles;
    const float *w = g->w + j * g->k + x * PIL_TILE_N, *add = x ? g->c : g->residual;
    pil_tile t = {.a_row = g->lda, .a_step = 1, .w_tile = g->k * PIL_TILE_N, .acc_row = PANEL_WIDTH};
    gemm_out o = {.ldc = g->ldc,
                  .width = pil_min(g->n - j, tiles * PIL_TILE_N),
                  .first = chains[0],
                  .second = steps > PIL_CHAIN ? chains[1] : NULL,
                  .bias = x == 0 && g->bias ? g->bias + j : NULL};
    gemm_share(&t, tiles, row_tiles);
    size_t done = 0; /* bytes of each step that have been prefetched */
    for (size_t r = 0, i = 0; r < row_tiles; r++) {
        o.rows = each + (r < more);
        o.c = g->c + i * g->ldc + j;
        o.add = add ? add + i * g->ldc + j : NULL;
        bool prefetch = next && done < 64 * tiles;
        const float *from = prefetch ? next + done / 64 * t.w_tile + done % 64 * steps / sizeof *next : NULL;
        for (size_t y = 0; y < steps; y += PIL_CHAIN) {
            t.k = pil_min(steps - y, PIL_CHAIN);
            t.a = g->a + i * g->lda + x + y;
            t.w = w + y * PIL_TILE_N;
            t.acc = chains[y > 0];
            t.next = prefetch ? from + y * t.next_bytes / sizeof *from : NULL;
            tile_multiply(o.rows, tiles, &t);
        }
        finish(&o);
        done += t.next_streams * t.next_bytes;
        i += o.rows;
    }
}

static void gemm_f32(const pil_gemm_f32 *g) {
    for (size_t j = 0; j < g->n; j += PANEL_WIDTH) {
        size_t tiles = (pil_min(g->n - j, PANEL_WIDTH) + PIL_TILE_N - 1) / PIL_TILE_N;
        for (size_t x = 0, steps; x < g->k; x += steps) {
            steps = pil_min(g->k - x, 2 * PIL_CHAIN);
            const float *next = NULL;
            if (x + steps < g->k) {
                next = g->w + j * g->k + (x + steps) * PIL_TILE_N;
            } else if (j + PANEL_WIDTH < g->n) {
                next = g->w + (j + PANEL_WIDTH) * g->k;
            }
            gemm_block(g, x, steps, j, tiles, next);
        }
    }
}

#endif
