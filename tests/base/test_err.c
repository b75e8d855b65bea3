/* test_err.c - error texts: the first wins, one line, valid UTF-8, whatever was put in. */
#include "base/err.h"
#include "base/utf8.h"
#include "support/test.h"

static void the_first_error_wins_and_the_code_is_returned(void **state) {
    (void)state;
    pillion_error err = {0};
    assert_int_equal(pil_err_set(&err, PILLION_E_FORMAT, "%s: %d", "file", 7), PILLION_E_FORMAT);
    assert_int_equal(pil_err_set(&err, PILLION_E_NOMEM, "later"), PILLION_E_NOMEM);
    assert_int_equal(err.code, PILLION_E_FORMAT);
    assert_string_equal(err.text, "file: 7");
    assert_int_equal(pil_err_set(NULL, PILLION_E_IO, "nobody listens"), PILLION_E_IO);
}

static void control_characters_and_stray_bytes_become_question_marks(void **state) {
    (void)state;
    pillion_error err = {0};
    pil_err_set(&err, PILLION_E_IO, "%s", "a\nb\x7F\x01 \xFF\xFE caf\xC3\xA9 \xC3 \xED\xA0\x80.");
    assert_string_equal(err.text, "a?b?? ?? caf\xC3\xA9 ? ???.");
}

static void a_text_too_long_is_cut_between_characters(void **state) {
    (void)state;
    static const char *const characters[] = {"x", "\xC3\xA9", "\xE2\x98\x95", "\xF0\x9F\x90\xA6"};
    for (size_t c = 0; c < 4; c++)
        for (size_t shift = 0; shift < 4; shift++) {
            char text[1024];
            size_t width = strlen(characters[c]), n = 0;
            pillion_error err = {0};
            for (; n < shift; n++) text[n] = '-';
            for (; n + width < 600; n += width) memcpy(text + n, characters[c], width);
            text[n] = '\0';
            pil_err_set(&err, PILLION_E_IO, "%s", text);
            size_t kept = strlen(err.text);
            assert_int_equal(pil_utf8_valid(err.text, kept), kept);
            assert_true(kept > sizeof err.text - 1 - width && kept < sizeof err.text);
            assert_memory_equal(err.text, text, kept); /* nothing became a question mark */
        }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_first_error_wins_and_the_code_is_returned),
        cmocka_unit_test(control_characters_and_stray_bytes_become_question_marks),
        cmocka_unit_test(a_text_too_long_is_cut_between_characters),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
