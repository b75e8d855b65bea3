/* builtin.c - the model that is linked into the program, between the two symbols of builtin/model.S or builtin/none.S.
 *
 * Tests: every test of tests/cmd that embeds without --model. */
#include "cmd/builtin.h"

#include <stdint.h>

extern const unsigned char pil_builtin_begin[], pil_builtin_end[];

const void *pil_builtin_model(size_t *bytes) {
    *bytes = (size_t)((uintptr_t)pil_builtin_end - (uintptr_t)pil_builtin_begin);
    return *bytes ? pil_builtin_begin : NULL;
}
