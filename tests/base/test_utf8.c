/* test_utf8.c - validation agrees with the definition of UTF-8 for every scalar value and every short byte string. */
#include <stdbool.h>
#include <stdlib.h>

#include "base/utf8.h"
#include "support/test.h"

/* Length of the valid sequence at p by RFC 3629, section 3: decode by the bit pattern, then refuse what is not
 * shortest, not a scalar value, or too short. */
static size_t by_definition(const unsigned char *p, size_t n) {
    static const uint32_t least[] = {0, 0, 0x80, 0x800, 0x10000};
    size_t length = p[0] < 0x80 ? 1 : p[0] >> 5 == 6 ? 2 : p[0] >> 4 == 14 ? 3 : p[0] >> 3 == 30 ? 4 : 0;
    if (length == 1) return 1;
    if (length == 0 || n < length) return 0;
    uint32_t cp = p[0] & (0x7Fu >> length);
    for (size_t i = 1; i < length; i++) {
        if (p[i] >> 6 != 2) return 0;
        cp = cp << 6 | (p[i] & 0x3Fu);
    }
    bool scalar = cp <= 0x10FFFF && !(cp >= 0xD800 && cp <= 0xDFFF);
    return cp >= least[length] && scalar ? length : 0;
}

static size_t valid_by_definition(const unsigned char *p, size_t n) {
    size_t i = 0;
    for (size_t step; i < n; i += step) {
        step = by_definition(p + i, n - i);
        if (!step) return i;
    }
    return n;
}

static void every_scalar_value_goes_there_and_back(void **state) {
    (void)state;
    char bytes[4];
    for (uint32_t cp = 0; cp <= 0x10FFFF; cp++) {
        if (cp >= 0xD800 && cp <= 0xDFFF) continue;
        uint32_t back = 0;
        size_t n = pil_utf8_encode(cp, bytes);
        if (pil_utf8_valid(bytes, n) != n || pil_utf8_decode(bytes, &back) != n || back != cp)
            fail_msg("code point %X comes back as %X", cp, back);
    }
}

static void every_string_of_up_to_three_bytes_is_judged_by_the_definition(void **state) {
    (void)state;
    unsigned char p[3];
    for (unsigned v = 0; v < 1u << 24; v++) {
        p[0] = (unsigned char)(v >> 16), p[1] = (unsigned char)(v >> 8), p[2] = (unsigned char)v;
        size_t n = v >> 16 ? 3 : v >> 8 ? 2 : 1;
        if (pil_utf8_valid((const char *)p + 3 - n, n) != valid_by_definition(p + 3 - n, n)) fail_msg("bytes %06X", v);
    }
}

static void sequences_of_four_bytes_are_judged_at_every_edge(void **state) {
    (void)state;
    static const unsigned char edges[] = {0x00, 0x7F, 0x80, 0x8F, 0x90, 0x9F, 0xA0, 0xBF, 0xC0, 0xFF};
    for (unsigned lead = 0xEE; lead <= 0xFF; lead++)
        for (unsigned i = 0; i < 1000; i++) {
            unsigned char p[] = {(unsigned char)lead, edges[i / 100], edges[i / 10 % 10], edges[i % 10]};
            for (size_t n = 1; n <= 4; n++)
                assert_int_equal(pil_utf8_valid((const char *)p, n), valid_by_definition(p, n));
        }
}

static void the_offset_of_the_first_bad_byte_is_given_wherever_it_stands(void **state) {
    (void)state;
    for (size_t at = 0; at < 40; at++) {
        char *p = malloc(40); /* of exact size, for sanitizers to see an over-read */
        memset(p, 'a', 40);
        p[at] = '\xFF';
        assert_int_equal(pil_utf8_valid(p, 40), at);
        p[at] = '\xE2'; /* begins a sequence that does not go on, or is cut by the end */
        assert_int_equal(pil_utf8_valid(p, 40), at);
        free(p);
    }
    assert_int_equal(pil_utf8_valid("", 0), 0);
    assert_int_equal(pil_utf8_valid("\0\0", 2), 2);
}

static void code_points_are_counted_and_of_other_bytes_those_that_begin_something(void **state) {
    (void)state;
    static const char text[] = "a\xC3\xBC\xE9\x95\xB7\xF0\x9F\x98\x80\0z";
    assert_int_equal(pil_utf8_count(text, sizeof text - 1), 6);
    assert_int_equal(pil_utf8_count(text, 2), 2); /* cut within its second one */
    assert_int_equal(pil_utf8_count("\x80\xFF\xBF", 3), 1);
    assert_int_equal(pil_utf8_count("", 0), 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_scalar_value_goes_there_and_back),
        cmocka_unit_test(every_string_of_up_to_three_bytes_is_judged_by_the_definition),
        cmocka_unit_test(sequences_of_four_bytes_are_judged_at_every_edge),
        cmocka_unit_test(the_offset_of_the_first_bad_byte_is_given_wherever_it_stands),
        cmocka_unit_test(code_points_are_counted_and_of_other_bytes_those_that_begin_something),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
