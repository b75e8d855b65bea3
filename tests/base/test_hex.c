/* test_hex.c - every character is a digit or none, two of them are a byte, and no byte behind an end is read. */
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/hex.h"
#include "support/test.h"

static void every_character_is_judged_as_the_c_library_judges_it(void **state) {
    (void)state;
    for (int c = 0; c < 256; c++) {
        char digit[] = {(char)c, '\0'};
        int expected = isxdigit(c) ? (int)strtol(digit, NULL, 16) : -1;
        if (pil_hex_digit((char)c) != expected) fail_msg("character %02X is %d", c, pil_hex_digit((char)c));
    }
}

static void every_byte_comes_back_from_its_two_digits(void **state) {
    (void)state;
    for (unsigned byte = 0; byte < 256; byte++) {
        char digits[3];
        snprintf(digits, sizeof digits, "%02X", byte);
        assert_int_equal(pil_hex_byte(digits), byte);
        snprintf(digits, sizeof digits, "%02x", byte);
        assert_int_equal(pil_hex_byte(digits), byte);
    }
}

static void what_is_not_two_digits_is_no_byte(void **state) {
    (void)state;
    static const char *const none[] = {"g0", "0g", "+1", "-1", " 1", "1 ", "0x", "%4", "\xC3\xA4"};
    for (size_t i = 0; i < sizeof none / sizeof *none; i++) assert_int_equal(pil_hex_byte(none[i]), -1);
}

static void a_string_that_ends_too_early_is_not_read_beyond_its_end(void **state) {
    (void)state;
    for (size_t n = 0; n < 2; n++) {
        char *s = calloc(n + 1, 1); /* of exact size, for sanitizers to see an over-read */
        memset(s, '4', n);
        assert_int_equal(pil_hex_byte(s), -1);
        free(s);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_character_is_judged_as_the_c_library_judges_it),
        cmocka_unit_test(every_byte_comes_back_from_its_two_digits),
        cmocka_unit_test(what_is_not_two_digits_is_no_byte),
        cmocka_unit_test(a_string_that_ends_too_early_is_not_read_beyond_its_end),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
