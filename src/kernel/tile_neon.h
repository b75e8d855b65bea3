/* tile_neon.h - the register tile of Arm's Advanced SIMD: 6 rows by 16 columns.
 *
 * Registers:  v8-31 hold the 24 accumulators, v0-3 one step of the weights, v4-7 activations. A step is 24
 *             multiply-adds for 2 paired loads and 6 scalar ones; the multiply-add takes its scalar from an element of
 *             a register, so nothing is broadcast.
 * Why asm:    from intrinsics gcc 12 writes the weights to the stack in every step. */
#ifndef PIL_KERNEL_TILE_NEON_H
#define PIL_KERNEL_TILE_NEON_H

#include "kernel/kernel_int.h"

enum { TILE_ROWS = 6, PANEL_TILES = 1 };

/* clang-format off */
/* x(pointer to the row's activation, register for it, its four accumulators) for the first rows of the tile */
#define ROWS_1(x) x("%[a0]", 4, 8, 9, 10, 11)
#define ROWS_2(x) ROWS_1(x) x("%[a1]", 5, 12, 13, 14, 15)
#define ROWS_3(x) ROWS_2(x) x("%[a2]", 6, 16, 17, 18, 19)
#define ROWS_4(x) ROWS_3(x) x("%[a3]", 7, 20, 21, 22, 23)
#define ROWS_5(x) ROWS_4(x) x("%[a4]", 4, 24, 25, 26, 27)
#define ROWS_6(x) ROWS_5(x) x("%[a5]", 5, 28, 29, 30, 31)
#define ZERO_ONE(c) "movi v" #c ".4s, #0\n\t"
#define ZERO(a, s, c0, c1, c2, c3) ZERO_ONE(c0) ZERO_ONE(c1) ZERO_ONE(c2) ZERO_ONE(c3)
#define LOAD(a, s, c0, c1, c2, c3) "ldr s" #s ", [" a "]\n\tadd " a ", " a ", %[as]\n\t"
#define FMA(w, s, c) "fmla v" #c ".4s, v" #w ".4s, v" #s ".s[0]\n\t"
#define STEP(a, s, c0, c1, c2, c3) LOAD(a, s, c0, c1, c2, c3) FMA(0, s, c0) FMA(1, s, c1) FMA(2, s, c2) FMA(3, s, c3)
#define STORE(a, s, c0, c1, c2, c3) \
    "stp q" #c0 ", q" #c1 ", [%[acc]]\n\tstp q" #c2 ", q" #c3 ", [%[acc], #32]\n\tadd %[acc], %[acc], %[accr]\n\t"

#define TILE(rows)                                                                                                     \
    static void tile_##rows(const pil_tile *t) {                                                                       \
        const float *a0 = t->a, *a1 = a0 + t->a_row, *a2 = a1 + t->a_row, *a3 = a2 + t->a_row, *a4 = a3 + t->a_row;    \
        const float *a5 = a4 + t->a_row, *w = t->w, *next = t->next ? t->next : t->w;                                  \
        float *acc = t->acc;                                                                                           \
        size_t k = t->k;                                                                                               \
        __asm__ volatile(                                                                                              \
            ROWS_##rows(ZERO)                                                                                          \
            "1:\n\t"                                                                                                   \
            "ldp q0, q1, [%[w]]\n\t"                                                                                   \
            "ldp q2, q3, [%[w], #32]\n\t"                                                                              \
            "add %[w], %[w], #64\n\t"                                                                                  \
            "prfm pldl2keep, [%[next]]\n\t"                                                                            \
            "add %[next], %[next], %[ns]\n\t"                                                                          \
            ROWS_##rows(STEP)                                                                                          \
            "subs %[k], %[k], #1\n\t"                                                                                  \
            "b.ne 1b\n\t"                                                                                              \
            ROWS_##rows(STORE)                                                                                         \
            : [a0] "+r"(a0), [a1] "+r"(a1), [a2] "+r"(a2), [a3] "+r"(a3), [a4] "+r"(a4), [a5] "+r"(a5), [w] "+r"(w),   \
              [k] "+r"(k), [next] "+r"(next), [acc] "+r"(acc)                                                          \
            : [as] "r"(t->a_step * sizeof *w), [ns] "r"(t->next ? t->next_bytes : 0),                                  \
              [accr] "r"(t->acc_row * sizeof *acc)                                                                     \
            : "cc", "memory", "v0", "v1", "v2", "v3", "v4", "v5", "v6", "v7", "v8", "v9", "v10", "v11", "v12", "v13",  \
              "v14", "v15", "v16", "v17", "v18", "v19", "v20", "v21", "v22", "v23", "v24", "v25", "v26", "v27", "v28", \
              "v29", "v30", "v31");                                                                                    \
    }
TILE(1) TILE(2) TILE(3) TILE(4) TILE(5) TILE(6)
    /* clang-format on */

    static void tile_multiply(size_t rows, size_t tiles, const pil_tile *t) {
    static void (*const by_rows[TILE_ROWS])(const pil_tile *t) = {tile_1, tile_2, tile_3, tile_4, tile_5, tile_6};
    (void)tiles;
    by_rows[rows - 1](t);
}

#undef ZERO_ONE
#undef ZERO
#undef LOAD
#undef FMA
#undef STEP
#undef STORE
#undef TILE

#endif
