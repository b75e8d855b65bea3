/* gemm_avx512.c - f32 matrix product for AVX-512: a tile of 6 rows by 64 columns.
 *
 * Registers:  zmm8-31 hold the 24 accumulators, zmm0-3 one step of the weights, zmm4-7 broadcast activations. A step is 24
 *             multiply-adds (12 cycles with two units), 4 loads and 6 broadcasts, so arithmetic is the limit.
 * Why asm:    the whole loop over k is one block with fixed registers. From intrinsics gcc 12 spills accumulators and
 *             clang does so after harmless edits; the block reaches 97 % of the limit whatever surrounds it.
 * Tolerance:  none against the definition: bits are those of the chain in gemm_v16.h.
 * Tests:      tests/kernel/checkasm.c; its --bench states the share of the machine's limit. */
#include "kernel/simd_avx512.h"

#include "kernel/kernel_int.h"

enum { TILE_ROWS = 6, PANEL_TILES = 4 };

/* clang-format off */
#define Z(n) "%%zmm" #n
/* one row of the tile: broadcast the activation at `at` into b, multiply it into the row's accumulators */
#define ROW_1(at, b, c0, c1, c2, c3) "vbroadcastss " at ", " Z(b) "\n\tvfmadd231ps " Z(0) ", " Z(b) ", " Z(c0) "\n\t"
#define ROW_2(at, b, c0, c1, c2, c3) ROW_1(at, b, c0, c1, c2, c3) "vfmadd231ps " Z(1) ", " Z(b) ", " Z(c1) "\n\t"
#define ROW_3(at, b, c0, c1, c2, c3) ROW_2(at, b, c0, c1, c2, c3) "vfmadd231ps " Z(2) ", " Z(b) ", " Z(c2) "\n\t"
#define ROW_4(at, b, c0, c1, c2, c3) ROW_3(at, b, c0, c1, c2, c3) "vfmadd231ps " Z(3) ", " Z(b) ", " Z(c3) "\n\t"
#define ROWS_1(row) row("(%[a])", 4, 8, 9, 10, 11)
#define ROWS_2(row) ROWS_1(row) row("(%[a],%[ar])", 5, 12, 13, 14, 15)
#define ROWS_3(row) ROWS_2(row) row("(%[a],%[ar],2)", 6, 16, 17, 18, 19)
#define ROWS_4(row) ROWS_3(row) row("(%[a3])", 7, 20, 21, 22, 23)
#define ROWS_5(row) ROWS_4(row) row("(%[a3],%[ar])", 4, 24, 25, 26, 27)
#define ROWS_6(row) ROWS_5(row) row("(%[a3],%[ar],2)", 5, 28, 29, 30, 31)
/* one step of the weights */
#define LOAD_1 "vmovaps (%[w]), " Z(0) "\n\t"
#define LOAD_2 LOAD_1 "vmovaps (%[w],%[wt]), " Z(1) "\n\t"
#define LOAD_3 LOAD_2 "vmovaps (%[w],%[wt],2), " Z(2) "\n\t"
#define LOAD_4 LOAD_3 "vmovaps (%[w],%[wt3]), " Z(3) "\n\t"
/* accumulators to zero, and to memory */
#define ZERO_1(at, c0, c1, c2, c3) "vpxord " Z(c0) ", " Z(c0) ", " Z(c0) "\n\t"
#define ZERO_2(at, c0, c1, c2, c3) ZERO_1(at, c0, c1, c2, c3) "vpxord " Z(c1) ", " Z(c1) ", " Z(c1) "\n\t"
#define ZERO_3(at, c0, c1, c2, c3) ZERO_2(at, c0, c1, c2, c3) "vpxord " Z(c2) ", " Z(c2) ", " Z(c2) "\n\t"
#define ZERO_4(at, c0, c1, c2, c3) ZERO_3(at, c0, c1, c2, c3) "vpxord " Z(c3) ", " Z(c3) ", " Z(c3) "\n\t"
#define STORE_1(r, c0, c1, c2, c3) "vmovaps " Z(c0) ", " #r "*64(%[acc])\n\t"
#define STORE_2(r, c0, c1, c2, c3) "vmovaps " Z(c0) ", " #r "*128(%[acc])\n\tvmovaps " Z(c1) ", " #r "*128+64(%[acc])\n\t"
#define STORE_3(r, c0, c1, c2, c3) "vmovaps " Z(c0) ", " #r "*192(%[acc])\n\tvmovaps " Z(c1) ", " #r "*192+64(%[acc])\n\t" \
    "vmovaps " Z(c2) ", " #r "*192+128(%[acc])\n\t"
#define STORE_4(r, c0, c1, c2, c3) "vmovaps " Z(c0) ", " #r "*256(%[acc])\n\tvmovaps " Z(c1) ", " #r "*256+64(%[acc])\n\t" \
    "vmovaps " Z(c2) ", " #r "*256+128(%[acc])\n\tvmovaps " Z(c3) ", " #r "*256+192(%[acc])\n\t"
#define EACH_1(x) x(0, 8, 9, 10, 11)
#define EACH_2(x) EACH_1(x) x(1, 12, 13, 14, 15)
#define EACH_3(x) EACH_2(x) x(2, 16, 17, 18, 19)
#define EACH_4(x) EACH_3(x) x(3, 20, 21, 22, 23)
#define EACH_5(x) EACH_4(x) x(4, 24, 25, 26, 27)
#define EACH_6(x) EACH_5(x) x(5, 28, 29, 30, 31)

#define TILE(rows, tiles)                                                                                              \
    static void tile_##rows##x##tiles(const pil_tile *t) {                                                             \
        const float *a = t->a, *a3 = a + 3 * t->a_row, *w = t->w, *next = t->next ? t->next : t->acc;                  \
        size_t k = t->k, next_step = t->next ? 64 : 0;                                                                 \
        __asm__ volatile(EACH_##rows(ZERO_##tiles)                                                                     \
            ".p2align 5\n"                                                                                             \
            "1:\n\t" LOAD_##tiles                                                                                      \
            "prefetcht1 (%[next])\n\t"                                                                                 \
            "add %[ns], %[next]\n\t"                                                                                   \
            ROWS_##rows(ROW_##tiles)                                                                                   \
            "add %[as], %[a]\n\t"                                                                                      \
            "add %[as], %[a3]\n\t"                                                                                     \
            "add $64, %[w]\n\t"                                                                                        \
            "dec %[k]\n\t"                                                                                             \
            "jnz 1b\n\t"                                                                                               \
            EACH_##rows(STORE_##tiles)                                                                                 \
            : [a] "+r"(a), [a3] "+r"(a3), [w] "+r"(w), [k] "+r"(k), [next] "+r"(next)                                  \
            : [ar] "r"(t->a_row * sizeof *a), [as] "r"(t->a_step * sizeof *a), [wt] "r"(t->w_tile * sizeof *w),        \
              [wt3] "r"(3 * t->w_tile * sizeof *w), [ns] "r"(next_step), [acc] "r"(t->acc)                             \
            : "cc", "memory", "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9", "xmm10", \
              "xmm11", "xmm12", "xmm13", "xmm14", "xmm15", "xmm16", "xmm17", "xmm18", "xmm19", "xmm20", "xmm21",       \
              "xmm22", "xmm23", "xmm24", "xmm25", "xmm26", "xmm27", "xmm28", "xmm29", "xmm30", "xmm31");               \
    }
#define TILES(rows) TILE(rows, 1) TILE(rows, 2) TILE(rows, 3) TILE(rows, 4)
TILES(1) TILES(2) TILES(3) TILES(4) TILES(5) TILES(6)
/* clang-format on */

static void tile_multiply(size_t rows, size_t tiles, const pil_tile *t) {
    static void (*const by_shape[TILE_ROWS][PANEL_TILES])(const pil_tile *t) = {
        {tile_1x1, tile_1x2, tile_1x3, tile_1x4}, {tile_2x1, tile_2x2, tile_2x3, tile_2x4},
        {tile_3x1, tile_3x2, tile_3x3, tile_3x4}, {tile_4x1, tile_4x2, tile_4x3, tile_4x4},
        {tile_5x1, tile_5x2, tile_5x3, tile_5x4}, {tile_6x1, tile_6x2, tile_6x3, tile_6x4},
    };
    by_shape[rows - 1][tiles - 1](t);
}

#include "kernel/gemm_v16.h"

void pil_kernel_init_avx512(pil_kernels *k) { k->gemm_f32 = gemm_f32; }
