/* test_say.c - numbers and names as people and JSON are told them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "cmd/say.h"

static void counts_have_commas_between_thousands(void **state) {
    (void)state;
    static const struct {
        uint64_t n;
        const char *text;
    } cases[] = {{0, "0"}, {7, "7"}, {999, "999"}, {1000, "1,000"}, {12345, "12,345"}, {999999, "999,999"},
                 {1234567, "1,234,567"}, {UINT64_MAX, "18,446,744,073,709,551,615"}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char out[PIL_SAY_COUNT_BYTES];
        assert_string_equal(pil_say_count(out, cases[i].n), cases[i].text);
    }
}

static void bytes_that_are_not_utf8_become_question_marks(void **state) {
    (void)state;
    static const struct {
        const char *name, *text;
    } cases[] = {{"", ""}, {"caf\xc3\xa9", "caf\xc3\xa9"}, {"caf\xe9", "caf?"}, {"\xff/\xc3\xfe", "?/??"},
                 {"\xed\xa0\x80 \xe8\xaa\x9e", "??? \xe8\xaa\x9e"}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char name[64];
        snprintf(name, sizeof name, "%s", cases[i].name);
        pil_say_utf8(name);
        assert_string_equal(name, cases[i].text);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(counts_have_commas_between_thousands),
        cmocka_unit_test(bytes_that_are_not_utf8_become_question_marks),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
