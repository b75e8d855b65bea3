/* pack.c - weights into the order that the products read.
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
