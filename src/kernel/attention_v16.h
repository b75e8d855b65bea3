/* attention_v16.h - softmax(scale q k^T + bias) v for one head of one sequence, on the tier's register tile.
 *
 * The including file has defined v16 (simd_*.h), math_v16.h and the tile (tile_*.h).
 *
 * Flow:       for each block of QUERIES queries: q is transposed (and scaled) into packed tiles; scores = keys x
 *             queries are products of the rows of k with them; softmax goes down the columns, so that lanes are queries
 *             and nothing is summed across a register; then out = scores^T v, where the tile reads the scores with
 *             stride.
 * Invariants: (1) a query's result depends on its row of q, on k, v and bias alone: lanes do not meet, and all sums go
 *             up in j: the scores' chains over x, the weights' sum in two parts (even and odd j), the chains over j of
 *             PIL_CHAIN.
 *             (2) all tiers but ref return the same bits.
 * Memory:     scratch holds, in this order: v in tiles [dim/16][t][16], the scores [t][QUERIES], one block of q
 *             [QUERIES/16][dim][16], the reversed bias [2 t + QUERIES]. Lanes beyond the last query hold scores of
 *             zeros (finite), columns of v beyond dim are zero.
 * Tests:      tests/kernel/checkasm.c. */
#ifndef PIL_KERNEL_ATTENTION_V16_H
#define PIL_KERNEL_ATTENTION_V16_H

#include <string.h>

#include "kernel/kernel_int.h"
#include "kernel/math_v16.h"

/* Queries in a block: 64 make full use of the widest tile, and 128 keys' scores (32 KiB) still fit in L1. */
enum { QUERIES = 64 };

static size_t round_up_16(size_t n) { return (n + 15) / 16 * 16; }

static size_t attention_scratch(size_t n_tokens, size_t head_dim) {
    return n_tokens * round_up_16(head_dim) + n_tokens * QUERIES + QUERIES * head_dim +
           round_up_16(2 * n_tokens + QUERIES);
}

/* out[dim/16][t][16] from v [t, dim], row stride ld. */
static void attention_pack_v(float *out, const float *v, size_t ld, size_t t, size_t dim) {
    for (size_t x = 0; x < dim; x += 16, out += t * 16) {
        size_t left = pil_min(dim - x, 16);
        for (size_t j = 0; j < t; j++) {
            v16_store(out + j * 16, left == 16 ? v16_load(v + j * ld + x) : v16_load_n(v + j * ld + x, left));
        }
    }
}

/* out[dim][16] = the first n <= 16 rows of q, transposed and scaled; the other lanes are zero. */
static void attention_pack_q(float *out, const float *q, size_t ld, size_t n, size_t dim, float scale) {
    size_t lanes = n / 4 * 4, columns = dim / 4 * 4;
    if (n < 16) memset(out, 0, dim * 16 * sizeof *out);
    for (size_t i = 0; i < lanes; i += 4) {
        for (size_t x = 0; x < columns; x += 4) simd_transpose4(out + x * 16 + i, 16, q + i * ld + x, ld, scale);
    }
    for (size_t i = 0; i < n; i++) {
        for (size_t x = i < lanes ? columns : 0; x < dim; x++) out[x * 16 + i] = q[i * ld + x] * scale;
    }
}

/* Softmax without its division, down one column of 16 queries: s[j] becomes exp(s[j] + bias - maximum), the sum is
 * returned. bias, unless NULL, is the reversed row such that key j adds bias[-j ... -j + 15]. */
static v16 attention_softmax(float *s, size_t t, const float *bias) {
    v16 max = v16_load(s);
    if (bias) {
        max = v16_add(max, v16_load(bias));
        v16_store(s, max);
        for (size_t j = 1; j < t; j++) {
            v16 v = v16_add(v16_load(s + j * QUERIES), v16_load(bias - j));
            v16_store(s + j * QUERIES, v);
            max = v16_max(max, v);
        }
    } else {
        for (size_t j = 1; j < t; j++) max = v16_max(max, v16_load(s + j * QUERIES));
    }
    v16 even = v16_zero(), odd = v16_zero();
    size_t j = 0;
    for (; j + 2 <= t; j += 2) {
        float *e = s + j * QUERIES, *o = e + QUERIES;
        v16 x = v16_exp(v16_sub(v16_load(e), max)), y = v16_exp(v16_sub(v16_load(o), max));
        v16_store(e, x);
        v16_store(o, y);
        even = v16_add(even, x);
        odd = v16_add(odd, y);
    }
    if (j < t) {
        v16 x = v16_exp(v16_sub(v16_load(s + j * QUERIES), max));
        v16_store(s + j * QUERIES, x);
        even = v16_add(even, x);
    }
    return v16_add(even, odd);
}

/* s[j][i] for all keys j and the lanes of q's tiles. */
static void attention_scores(float *s, const pil_attention_f32 *a, const float *q, size_t tiles) {
    size_t row_tiles = (a->n_tokens + TILE_ROWS - 1) / TILE_ROWS;
    pil_tile t = {.k = a->head_dim, .a_row = a->ld, .a_step = 1, .w_tile = a->head_dim * 16, .acc_row = QUERIES};
    for (size_t r = 0, j = 0; r < row_tiles; r++) {
        size_t rows = a->n_tokens / row_tiles + (r < a->n_tokens % row_tiles);
        t.a = a->k + j * a->ld;
        for (size_t p = 0; p < tiles; p += PANEL_TILES) {
            t.w = q + p * t.w_tile;
            t.acc = s + j * QUERIES + p * 16;
            tile_multiply(rows, pil_min(tiles - p, PANEL_TILES), &t);
        }
        j += rows;
    }
}

/* out[i][x] = sum over j of s[j][i] v[j][x], times inverse[i], for n queries. */
static void attention_values(float *out, const pil_attention_f32 *a, const float *s, const float *v,
                             const float *inverse, size_t n) {
    _Alignas(64) float acc[TILE_ROWS * PANEL_TILES * 16], part[TILE_ROWS * PANEL_TILES * 16];
    size_t tiles = (a->head_dim + 15) / 16, row_tiles = (n + TILE_ROWS - 1) / TILE_ROWS;
    pil_tile t = {.a_row = 1, .a_step = QUERIES, .w_tile = a->n_tokens * 16, .acc_row = PANEL_TILES * 16};
    for (size_t p = 0; p < tiles; p += PANEL_TILES) {
        size_t width = pil_min(tiles - p, PANEL_TILES);
        for (size_t r = 0, i = 0; r < row_tiles; r++) {
            size_t rows = n / row_tiles + (r < n % row_tiles);
            for (size_t j = 0; j < a->n_tokens; j += PIL_CHAIN) {
                t.k = pil_min(a->n_tokens - j, PIL_CHAIN);
                t.a = s + j * QUERIES + i;
                t.w = v + p * t.w_tile + j * 16;
                t.acc = j ? part : acc;
                tile_multiply(rows, width, &t);
                for (size_t x = 0; j && x < rows * t.acc_row; x += 16) {
                    v16_store(acc + x, v16_add(v16_load(acc + x), v16_load(part + x)));
                }
            }
            for (size_t y = 0; y < rows; y++, i++) {
                for (size_t x = 0; x < width * 16; x += 16) {
                    v16 o = v16_mul(v16_load(acc + y * t.acc_row + x), v16_set(inverse[i]));
                    v16_store_n(out + i * a->ld_out + p * 16 + x, o, pil_min(a->head_dim - p * 16 - x, 16));
                }
            }
        }
    }
}

static void attention_f32(const pil_attention_f32 *a) {
    size_t t = a->n_tokens, dim = a->head_dim;
    float *v = a->scratch, *s = v + t * round_up_16(dim), *q = s + t * QUERIES, *bias = q + QUERIES * dim;
    attention_pack_v(v, a->v, a->ld, t, dim);
    if (a->rel_bias) { /* bias[t - 1 + i - j] is what query i adds for key j */
        for (size_t x = 0; x < 2 * t - 1; x++) bias[x] = a->rel_bias[(ptrdiff_t)(t - 1) - (ptrdiff_t)x];
        memset(bias + 2 * t - 1, 0, (QUERIES + 1) * sizeof *bias);
    }
    for (size_t i = 0; i < t; i += QUERIES) {
        _Alignas(64) float inverse[QUERIES];
        size_t n = pil_min(t - i, QUERIES), tiles = (n + 15) / 16;
        for (size_t p = 0; p < tiles; p++) {
            attention_pack_q(q + p * dim * 16, a->q + (i + p * 16) * a->ld, a->ld, pil_min(n - p * 16, 16), dim,
                             a->scale);
        }
        attention_scores(s, a, q, tiles);
        for (size_t p = 0; p < tiles; p++) {
            v16 sum = attention_softmax(s + p * 16, t, a->rel_bias ? bias + t - 1 + i + p * 16 : NULL);
            v16_store(inverse + p * 16, v16_div(v16_set(1.0f), sum));
        }
        attention_values(a->out + i * a->ld_out, a, s, v, inverse, n);
    }
}

#endif
