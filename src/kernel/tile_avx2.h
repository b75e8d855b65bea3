/* tile_avx2.h - the register tile of AVX2: 6 rows by 16 columns.
 *
 * Registers:  ymm4-15 hold the 12 accumulators, ymm0-1 one step of the weights, ymm2-3 broadcast activations. A step is
 *             12 multiply-adds (6 cycles with two units) for 2 loads and 6 broadcasts: arithmetic is the limit, loads
 *             are at two thirds of theirs.
 * Why asm:    as in tile_avx512.h. */
#ifndef PIL_KERNEL_TILE_AVX2_H
#define PIL_KERNEL_TILE_AVX2_H

#include "kernel/kernel_int.h"

enum { TILE_ROWS = 6, PANEL_TILES = 1 };

/* clang-format off */
#define Y(n) "%%ymm" #n
/* x(address of the row's activation, register for it, its two accumulators) for the first rows of the tile */
#define ROWS_1(x) x("(%[a])", 2, 4, 5)
#define ROWS_2(x) ROWS_1(x) x("(%[a],%[ar])", 3, 6, 7)
#define ROWS_3(x) ROWS_2(x) x("(%[a],%[ar],2)", 2, 8, 9)
#define ROWS_4(x) ROWS_3(x) x("(%[b])", 3, 10, 11)
#define ROWS_5(x) ROWS_4(x) x("(%[b],%[ar])", 2, 12, 13)
#define ROWS_6(x) ROWS_5(x) x("(%[b],%[ar],2)", 3, 14, 15)
#define ZERO(at, s, c0, c1) \
    "vxorps " Y(c0) ", " Y(c0) ", " Y(c0) "\n\tvxorps " Y(c1) ", " Y(c1) ", " Y(c1) "\n\t"
#define FMA(w, s, c) "vfmadd231ps " Y(w) ", " Y(s) ", " Y(c) "\n\t"
#define STEP(at, s, c0, c1) "vbroadcastss " at ", " Y(s) "\n\t" FMA(0, s, c0) FMA(1, s, c1)
#define STORE(at, s, c0, c1) "vmovaps " Y(c0) ", " at "\n\tvmovaps " Y(c1) ", 32" at "\n\t"

/* a and b point to rows 0 and 3 of the activations in the loop, then of the accumulators */
#define TILE(rows)                                                                                                     \
    static void tile_##rows(const pil_tile *t) {                                                                       \
        const float *a = t->a, *b = a + 3 * t->a_row, *w = t->w, *next = t->next ? t->next : t->w;                     \
        size_t k = t->k, row = t->a_row * sizeof *a;                                                                   \
        __asm__ volatile(                                                                                              \
            ROWS_##rows(ZERO)                                                                                          \
            ".p2align 5\n"                                                                                             \
            "1:\n\t"                                                                                                   \
            "vmovaps (%[w]), " Y(0) "\n\t"                                                                             \
            "vmovaps 32(%[w]), " Y(1) "\n\t"                                                                           \
            "prefetcht1 (%[next])\n\t"                                                                                 \
            ROWS_##rows(STEP)                                                                                          \
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
            ROWS_##rows(STORE)                                                                                         \
            : [a] "+r"(a), [b] "+r"(b), [w] "+r"(w), [k] "+r"(k), [next] "+r"(next), [ar] "+r"(row)                    \
            : [as] "r"(t->a_step * sizeof *a), [ns] "r"(t->next ? t->next_bytes : 0), [acc] "rm"(t->acc),              \
              [accr] "rm"(t->acc_row * sizeof *a)                                                                      \
            : "cc", "memory", "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9", "xmm10", \
              "xmm11", "xmm12", "xmm13", "xmm14", "xmm15");                                                            \
    }
TILE(1) TILE(2) TILE(3) TILE(4) TILE(5) TILE(6)
    /* clang-format on */

    static void tile_multiply(size_t rows, size_t tiles, const pil_tile *t) {
    static void (*const by_rows[TILE_ROWS])(const pil_tile *t) = {tile_1, tile_2, tile_3, tile_4, tile_5, tile_6};
    (void)tiles;
    by_rows[rows - 1](t);
}

#undef Y
#undef ZERO
#undef STEP
#undef FMA
#undef STORE
#undef TILE

#endif
