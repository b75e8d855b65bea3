/* test_tensor.c - every element type is read as the f32 it means, from any address. */
#include <math.h>
#include <stdlib.h>

#include "support/test.h"
#include "weights/safetensors.h"

/* A tensor over bytes that start at an odd address. */
static pil_tensor tensor_of(pil_dtype dtype, const void *elements, uint64_t count, unsigned char **block) {
    size_t bytes = (size_t)count * pil_dtype_bytes(dtype);
    *block = malloc(bytes + 1);
    assert_non_null(*block);
    memcpy(*block + 1, elements, bytes);
    return (pil_tensor){.name = "x", .dtype = dtype, .n_dims = 1, .dims = {count}, .data = *block + 1, .bytes = bytes,
                        .count = count};
}

static void f32_and_f64_are_read_from_any_address_and_offset(void **state) {
    (void)state;
    const float f[] = {0.0f, -1.5f, 3.25f, INFINITY};
    const double d[] = {0.1, -2.0, 1e300, 0x1p-160};
    float out[3];
    unsigned char *block;
    pillion_error err = {0};
    pil_tensor t = tensor_of(PIL_DTYPE_F32, f, 4, &block);
    assert_ok(pil_tensor_read_f32(&t, 1, 3, out, &err), err);
    assert_memory_equal(out, f + 1, sizeof out);
    free(block);
    t = tensor_of(PIL_DTYPE_F64, d, 4, &block);
    assert_ok(pil_tensor_read_f32(&t, 0, 3, out, &err), err);
    assert_true(out[0] == 0.1f && out[1] == -2.0f && isinf(out[2]));
    free(block);
}

/* Value of a binary16 by its definition (IEEE 754, section 3.4). */
static double half_by_definition(unsigned h) {
    double sign = h & 0x8000 ? -1 : 1;
    int exponent = (int)(h >> 10 & 31), fraction = (int)(h & 1023);
    if (exponent == 31) return fraction ? NAN : sign * INFINITY;
    if (exponent == 0) return sign * ldexp(fraction, -24);
    return sign * ldexp(1024 + fraction, exponent - 25);
}

static void every_f16_is_exact(void **state) {
    (void)state;
    uint16_t *all = malloc(65536 * sizeof *all);
    float *out = malloc(65536 * sizeof *out);
    for (unsigned i = 0; i < 65536; i++) all[i] = (uint16_t)i;
    unsigned char *block;
    pil_tensor t = tensor_of(PIL_DTYPE_F16, all, 65536, &block);
    pillion_error err = {0};
    assert_ok(pil_tensor_read_f32(&t, 0, 65536, out, &err), err);
    for (unsigned i = 0; i < 65536; i++) {
        double wanted = half_by_definition(i);
        if (isnan(wanted)) assert_true(isnan(out[i]));
        else assert_true((double)out[i] == wanted && !signbit(out[i]) == !(i & 0x8000));
    }
    free(block);
    free(out);
    free(all);
}

static void bf16_is_the_upper_half_of_f32(void **state) {
    (void)state;
    const uint16_t bits[] = {0x3F80, 0xC040, 0x0001, 0x7F80};
    float out[4];
    unsigned char *block;
    pil_tensor t = tensor_of(PIL_DTYPE_BF16, bits, 4, &block);
    pillion_error err = {0};
    assert_ok(pil_tensor_read_f32(&t, 0, 4, out, &err), err);
    assert_true(out[0] == 1.0f && out[1] == -3.0f && out[2] == 0x1p-133f && isinf(out[3]));
    free(block);
}

static void types_without_a_meaning_as_f32_are_refused_by_name(void **state) {
    (void)state;
    static const pil_dtype refused[] = {PIL_DTYPE_I64, PIL_DTYPE_I32, PIL_DTYPE_I8, PIL_DTYPE_U8, PIL_DTYPE_BOOL,
                                        PIL_DTYPE_OTHER};
    float out[1];
    for (size_t i = 0; i < sizeof refused / sizeof *refused; i++) {
        pil_tensor t = {.name = "position_ids", .dtype = refused[i], .data = out, .count = 1};
        pillion_error err = {0};
        assert_int_equal(pil_tensor_read_f32(&t, 0, 1, out, &err), PILLION_E_UNSUPPORTED);
        assert_error(err, PILLION_E_UNSUPPORTED, "position_ids");
        assert_error(err, PILLION_E_UNSUPPORTED, pil_dtype_name(refused[i]));
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(f32_and_f64_are_read_from_any_address_and_offset),
        cmocka_unit_test(every_f16_is_exact),
        cmocka_unit_test(bf16_is_the_upper_half_of_f32),
        cmocka_unit_test(types_without_a_meaning_as_f32_are_refused_by_name),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
