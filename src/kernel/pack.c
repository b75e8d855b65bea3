/* pack.c - weights into the order that the products read, and the two 16-bit float formats.
 *
 * Packing runs when a model is compiled, once, so it is plain C for every machine.
 * Tests: tests/kernel/checkasm.c. */
#include "kernel/kernel.h"

#include <string.h>

void pil_pack_f32(float *out, const float *w, size_t n, size_t k) {
    for (size_t tile = 0; tile < n; tile += PIL_TILE_N) {
        size_t columns = n - tile < PIL_TILE_N ? n - tile : PIL_TILE_N;
        float *o = out + tile * k;
        if (columns < PIL_TILE_N) memset(o, 0, PIL_TILE_N * k * sizeof *o);
        for (size_t c = 0; c < columns; c++) {
            const float *row = w + (tile + c) * k;
            for (size_t x = 0; x < k; x++) o[x * PIL_TILE_N + c] = row[x];
        }
    }
}

float pil_f16_to_f32(uint16_t h) {
    uint32_t sign = (uint32_t)(h & 0x8000u) << 16, exponent = (h >> 10) & 31u, fraction = h & 0x3ffu;
    union {
        uint32_t u;
        float f;
    } v;
    if (exponent == 31) {
        v.u = sign | 0x7f800000u | fraction << 13;
    } else if (exponent) {
        v.u = sign | (exponent + 112) << 23 | fraction << 13;
    } else { /* zero or subnormal: fraction * 2^-24 is exact in f32 */
        v.f = (float)fraction * 0x1p-24f;
        v.u |= sign;
    }
    return v.f;
}
