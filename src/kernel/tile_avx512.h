/* tile_avx512.h - the register tile of AVX-512: 6 rows by 64 columns.
 *
 * Registers:  zmm8-31 hold the 24 accumulators, zmm0-3 one step of the weights, zmm4-7 broadcast activations. A step is
 *             24 multiply-adds (12 cycles with two units) for 4 loads and 6 broadcasts, so arithmetic is the limit, and
 *             weights stream from L2 at 21 bytes a cycle.
 * Why asm:    the whole loop over k is one block with fixed registers. From intrinsics gcc 12 spills accumulators, and
 *             clang does after harmless edits; the block runs at 98 % of the limit whatever surrounds it. */
#ifndef PIL_KERNEL_TILE_AVX512_H
#define PIL_KERNEL_TILE_AVX512_H

#include "kernel/kernel_int.h"

enum { TILE_ROWS = 6, PANEL_TILES = 4 };

/* clang-format off */
#define Z(n) "%%zmm" #n
/* x(row, address of its activation, register for it, its four accumulators) for the first rows of the tile */
#define ROWS_1(x) x("(%[a])", 4, 8, 9, 10, 11)
#define ROWS_2(x) ROWS_1(x) x("(%[a],%[ar])", 5, 12, 13, 14, 15)
#define ROWS_3(x) ROWS_2(x) x("(%[a],%[ar],2)", 6, 16, 17, 18, 19)
#define ROWS_4(x) ROWS_3(x) x("(%[b])", 7, 20, 21, 22, 23)
#define ROWS_5(x) ROWS_4(x) x("(%[b],%[ar])", 4, 24, 25, 26, 27)
#define ROWS_6(x) ROWS_5(x) x("(%[b],%[ar],2)", 5, 28, 29, 30, 31)

#define ZERO(c) "vpxord " Z(c) ", " Z(c) ", " Z(c) "\n\t"
#define ZERO_1(at, s, c0, c1, c2, c3) ZERO(c0)
#define ZERO_2(at, s, c0, c1, c2, c3) ZERO(c0) ZERO(c1)
#define ZERO_3(at, s, c0, c1, c2, c3) ZERO(c0) ZERO(c1) ZERO(c2)
#define ZERO_4(at, s, c0, c1, c2, c3) ZERO(c0) ZERO(c1) ZERO(c2) ZERO(c3)

#define LOAD_1 "vmovaps (%[w]), " Z(0) "\n\t"
#define LOAD_2 LOAD_1 "vmovaps (%[w],%[wt]), " Z(1) "\n\t"
#define LOAD_3 LOAD_2 "vmovaps (%[w],%[wt],2), " Z(2) "\n\t"
#define LOAD_4 LOAD_3 "vmovaps (%[w],%[wt3]), " Z(3) "\n\t"

#define NEXT_1 "prefetcht1 (%[next])\n\t"
#define NEXT_2 NEXT_1 "prefetcht1 (%[next],%[wt])\n\t"
#define NEXT_4 NEXT_2 "prefetcht1 (%[next],%[wt],2)\n\tprefetcht1 (%[next],%[wt3])\n\t"

#define SPREAD(at, s) "vbroadcastss " at ", " Z(s) "\n\t"
#define FMA(w, s, c) "vfmadd231ps " Z(w) ", " Z(s) ", " Z(c) "\n\t"
#define STEP_1(at, s, c0, c1, c2, c3) SPREAD(at, s) FMA(0, s, c0)
#define STEP_2(at, s, c0, c1, c2, c3) SPREAD(at, s) FMA(0, s, c0) FMA(1, s, c1)
#define STEP_3(at, s, c0, c1, c2, c3) SPREAD(at, s) FMA(0, s, c0) FMA(1, s, c1) FMA(2, s, c2)
#define STEP_4(at, s, c0, c1, c2, c3) SPREAD(at, s) FMA(0, s, c0) FMA(1, s, c1) FMA(2, s, c2) FMA(3, s, c3)

#define STORE_1(at, s, c0, c1, c2, c3) "vmovaps " Z(c0) ", " at "\n\t"
#define STORE_2(at, s, c0, c1, c2, c3) STORE_1(at, s, c0, c1, c2, c3) "vmovaps " Z(c1) ", 64" at "\n\t"
#define STORE_3(at, s, c0, c1, c2, c3) STORE_2(at, s, c0, c1, c2, c3) "vmovaps " Z(c2) ", 128" at "\n\t"
#define STORE_4(at, s, c0, c1, c2, c3) STORE_3(at, s, c0, c1, c2, c3) "vmovaps " Z(c3) ", 192" at "\n\t"

/* a and b point to rows 0 and 3 of the activations in the loop, then of the accumulators */
#define TILE(rows, tiles, streams)                                                                                     \
    static void tile_##rows##x##tiles##_##streams(const pil_tile *t) {                                                 \
        const float *a = t->a, *b = a + 3 * t->a_row, *w = t->w, *next = t->next ? t->next : t->w;                     \
        size_t k = t->k, row = t->a_row * sizeof *a;                                                                   \
        __asm__ volatile(                                                                                              \
            ROWS_##rows(ZERO_##tiles)                                                                                  \
            ".p2align 5\n"                                                                                             \
            "1:\n\t"                                                                                                   \
            LOAD_##tiles                                                                                               \
            NEXT_##streams                                                                                             \
            ROWS_##rows(STEP_##tiles)                                                                                  \
            "add %[as], %[a]\n\t"                                                                                      \
            "add %[as], %[b]\n\t"                                                                                      \
            "add $64, %[w]\n\t"                                                                                        \
            "add %[ns], %[next]\n\t"                                                                                   \
            "dec %[k]\n\t"                                                                                             \
            "jnz 1b\n\t"                                                                                               \
            "mov %[acc], %[a]\n\t"                                                                                     \
            "mov %[accr], %[ar]\n\t"                                                                                   \
            "lea (%[a],%[ar],2), %[b]\n\t"                                                                             \
            "add %[ar], %[b]\n\t"                                                                                      \
            ROWS_##rows(STORE_##tiles)                                                                                 \
            : [a] "+r"(a), [b] "+r"(b), [w] "+r"(w), [k] "+r"(k), [next] "+r"(next), [ar] "+r"(row)                    \
            : [as] "r"(t->a_step * sizeof *a), [wt] "r"(t->w_tile * sizeof *w), [wt3] "r"(3 * t->w_tile * sizeof *w),  \
              [ns] "r"(t->next ? t->next_bytes : 0), [acc] "rm"(t->acc), [accr] "rm"(t->acc_row * sizeof *a)           \
            : "cc", "memory", "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9", "xmm10", \
              "xmm11", "xmm12", "xmm13", "xmm14", "xmm15", "xmm16", "xmm17", "xmm18", "xmm19", "xmm20", "xmm21",       \
              "xmm22", "xmm23", "xmm24", "xmm25", "xmm26", "xmm27", "xmm28", "xmm29", "xmm30", "xmm31");               \
    }
#define TILES(rows) \
    TILE(rows, 1, 1) TILE(rows, 2, 1) TILE(rows, 3, 1) TILE(rows, 4, 1) TILE(rows, 4, 2) TILE(rows, 4, 4)
TILES(1) TILES(2) TILES(3) TILES(4) TILES(5) TILES(6)

static void tile_multiply(size_t rows, size_t tiles, const pil_tile *t) {
    #define SHAPES(r) {tile_##r##x1_1, tile_##r##x2_1, tile_##r##x3_1, tile_##r##x4_1, tile_##r##x4_2, tile_##r##x4_4}
    static void (*const by_shape[TILE_ROWS][6])(const pil_tile *t) = {
        SHAPES(1), SHAPES(2), SHAPES(3), SHAPES(4), SHAPES(5), SHAPES(6),
    };
    size_t many_streams = !t->next || t->next_streams == 1 ? 0 : t->next_streams == 2 ? 1 : 2;
    by_shape[rows - 1][tiles - 1 + many_streams](t);
}
/* clang-format on */

#undef Z
#undef ZERO
#undef SPREAD
#undef FMA
#undef TILE
#undef TILES
#undef SHAPES

#endif
