/* tensor.c - element types of tensors, and reading floating-point ones as f32.
 *
 * Nothing here assumes alignment: the data of a file that others wrote starts wherever its header ended, so every
 * element is fetched by memcpy, which compiles to a plain load. Tests: tests/weights/test_tensor.c. */
#include <assert.h>
#include <string.h>

#include "base/err.h"
#include "weights/safetensors.h"

const char *pil_dtype_name(pil_dtype t) {
    switch (t) {
    case PIL_DTYPE_F32: return "F32";
    case PIL_DTYPE_F16: return "F16";
    case PIL_DTYPE_BF16: return "BF16";
    case PIL_DTYPE_F64: return "F64";
    case PIL_DTYPE_I64: return "I64";
    case PIL_DTYPE_I32: return "I32";
    case PIL_DTYPE_I8: return "I8";
    case PIL_DTYPE_U8: return "U8";
    case PIL_DTYPE_BOOL: return "BOOL";
    case PIL_DTYPE_OTHER:
    case PIL_DTYPE_COUNT: break;
    }
    return "OTHER";
}

size_t pil_dtype_bytes(pil_dtype t) {
    switch (t) {
    case PIL_DTYPE_F64:
    case PIL_DTYPE_I64: return 8;
    case PIL_DTYPE_F32:
    case PIL_DTYPE_I32: return 4;
    case PIL_DTYPE_F16:
    case PIL_DTYPE_BF16: return 2;
    case PIL_DTYPE_I8:
    case PIL_DTYPE_U8:
    case PIL_DTYPE_BOOL: return 1;
    case PIL_DTYPE_OTHER:
    case PIL_DTYPE_COUNT: break;
    }
    return 0;
}

static float from_bits(uint32_t bits) {
    float f;
    memcpy(&f, &bits, sizeof f);
    return f;
}

/* IEEE 754 binary16, exact, subnormals, infinities and NaN included. Subnormals go through an integer so that the
 * result does not depend on the processor's denormals-are-zero mode. */
static float from_f16(uint16_t h) {
    uint32_t sign = (uint32_t)(h & 0x8000) << 16, exponent = h >> 10 & 0x1F, fraction = h & 0x3FF;
    if (exponent == 0) {
        float f = (float)fraction * 0x1p-24f;
        return sign ? -f : f;
    }
    if (exponent == 0x1F) return from_bits(sign | 0x7F800000u | fraction << 13);
    return from_bits(sign | (exponent + 112) << 23 | fraction << 13);
}

pillion_status pil_tensor_read_f32(const pil_tensor *t, uint64_t first, size_t count, float *out, pillion_error *err) {
    assert(first <= t->count && count <= t->count - first);
    const unsigned char *p = (const unsigned char *)t->data + first * pil_dtype_bytes(t->dtype);
    uint16_t half;
    double wide;
    switch (t->dtype) {
    case PIL_DTYPE_F32: memcpy(out, p, count * sizeof *out); return PILLION_OK;
    case PIL_DTYPE_F16:
        for (size_t i = 0; i < count; i++) {
            memcpy(&half, p + 2 * i, sizeof half);
            out[i] = from_f16(half);
        }
        return PILLION_OK;
    case PIL_DTYPE_BF16:
        for (size_t i = 0; i < count; i++) {
            memcpy(&half, p + 2 * i, sizeof half);
            out[i] = from_bits((uint32_t)half << 16);
        }
        return PILLION_OK;
    case PIL_DTYPE_F64:
        for (size_t i = 0; i < count; i++) {
            memcpy(&wide, p + 8 * i, sizeof wide);
            out[i] = (float)wide;
        }
        return PILLION_OK;
    case PIL_DTYPE_I64:
    case PIL_DTYPE_I32:
    case PIL_DTYPE_I8:
    case PIL_DTYPE_U8:
    case PIL_DTYPE_BOOL:
    case PIL_DTYPE_OTHER:
    case PIL_DTYPE_COUNT: break;
    }
    return pil_err_set(err, PILLION_E_UNSUPPORTED, "tensor \"%.96s\" has type %s; F32, F16, BF16 and F64 can be read",
                       t->name, pil_dtype_name(t->dtype));
}
