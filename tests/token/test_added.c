/* test_added.c - added tokens: where they are found, and what they swallow. */
#include <stdlib.h>

#include "support.h"

#define TOKEN(content, options) "{`id`:0,`content`:`" content "`," options "}"
#define RAW "`normalized`:false,`special`:true"
#define LOWER                                                                                                   \
    "{`type`:`BertNormalizer`,`clean_text`:true,`handle_chinese_chars`:true,`strip_accents`:null,"              \
    "`lowercase`:true}"

enum { FIRST = 257, SECOND, THIRD, A = 'a' + 1, B = 'b' + 1, SPACE = ' ' + 1 };

static fixture open_added(const char *normalizer, const char *added) {
    char *json = bytes_json(normalizer, NULL, added);
    fixture f = fixture_open(json);
    free(json);
    return f;
}

static void of_several_the_leftmost_and_longest_is_found(void **state) {
    (void)state;
    fixture f = open_added(NULL, "[" TOKEN("ab", RAW) "," TOKEN("abab", RAW) "," TOKEN("ba", RAW) "]");
    assert_encodes(&f, "aababa", A, SECOND, A);
    assert_encodes(&f, "abaabb", FIRST, A, FIRST, B);
    assert_encodes(&f, "ab", FIRST);
    fixture_close(&f);
}

static void a_single_word_has_no_letters_around_it(void **state) {
    (void)state;
    fixture f = open_added(NULL, "[" TOKEN("ab", RAW ",`single_word`:true") "]");
    assert_encodes(&f, "ab aab", FIRST, SPACE, A, A, B);
    assert_encodes(&f, "ab\u00e9", A, B, 0xC3 + 1, 0xA9 + 1);
    assert_encodes(&f, "(ab)", '(' + 1, FIRST, ')' + 1);
    assert_encodes(&f, "abab", A, B, A, B); /* the first is refused as a whole, and so is the second */
    fixture_close(&f);
}

static void white_space_beside_a_token_is_swallowed_as_asked(void **state) {
    (void)state;
    fixture f = open_added(NULL, "[" TOKEN("<l>", RAW ",`lstrip`:true") "," TOKEN("<r>", RAW ",`rstrip`:true") "]");
    assert_encodes(&f, "a \u3000<l> b", A, FIRST, SPACE, B);
    assert_encodes(&f, "a <r> \nb", A, SPACE, SECOND, B);
    assert_encodes(&f, " <r>  <l> ", SPACE, SECOND, FIRST, SPACE);
    fixture_close(&f);
}

static void a_token_whose_place_was_swallowed_is_dropped(void **state) {
    (void)state;
    fixture f = open_added(NULL, "[" TOKEN(" ", RAW ",`lstrip`:true,`rstrip`:true") "]");
    assert_encodes(&f, "a    b", A, FIRST, B);
    fixture_close(&f);
    f = open_added(NULL, "[" TOKEN(" ", RAW ",`rstrip`:true") "]"); /* but found again without lstrip */
    assert_encodes(&f, "a   b", A, FIRST, FIRST, FIRST, B);
    fixture_close(&f);
}

static void normalized_tokens_are_found_in_normalized_text(void **state) {
    (void)state;
    fixture f = open_added(LOWER, "[" TOKEN("\u00c9A", "`normalized`:true") "," TOKEN("[X]", RAW) "]");
    assert_encodes(&f, "b\u00e9ab", B, FIRST, B);
    assert_encodes(&f, "EA", FIRST);
    assert_encodes(&f, "[X][x]", SECOND, '[' + 1, 'x' + 1, ']' + 1);
    fixture_close(&f);
}

static void ids_come_from_the_vocabulary_not_from_the_file(void **state) {
    (void)state;
    char *json = unigram_json("[`u`,0],[`a`,-1],[`<s>`,0]", NULL, NULL, NULL,
                              "[{`id`:77,`content`:`new`,`special`:false},{`id`:9,`content`:`<s>`,`special`:true},"
                              "{`id`:5,`content`:`newer`,`special`:true},{`id`:5,`content`:``,`special`:true}]");
    fixture f = fixture_open(json);
    assert_encodes(&f, "anew<s>newer", 1, 3, 2, 4);
    assert_int_equal(pil_tokenizer_vocab(f.t), 5);
    assert_false(pil_tokenizer_is_special(f.t, 3));
    assert_true(pil_tokenizer_is_special(f.t, 2));
    assert_true(pil_tokenizer_is_special(f.t, 4));
    fixture_close(&f);
    free(json);
}

static void long_runs_of_near_misses_and_spaces_take_linear_time(void **state) {
    (void)state;
    fixture f = open_added(NULL, "[" TOKEN("<<<<<<<<<<<<<<<>", RAW) ","
                                     TOKEN(" ", RAW ",`lstrip`:true,`rstrip`:true") "]");
    enum { N = 1 << 20 };
    char *text = malloc(N);
    assert_non_null(text);
    pillion_error err = {0};
    pil_tokens tokens;
    memset(text, '<', N);
    assert_ok(pil_tokenizer_encode(f.t, f.s, text, N, 0, false, &tokens, &err), err);
    assert_int_equal(tokens.n, N);
    memset(text, ' ', N);
    assert_ok(pil_tokenizer_encode(f.t, f.s, text, N, 0, false, &tokens, &err), err);
    assert_int_equal(tokens.n, 1);
    free(text);
    fixture_close(&f);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(of_several_the_leftmost_and_longest_is_found),
        cmocka_unit_test(a_single_word_has_no_letters_around_it),
        cmocka_unit_test(white_space_beside_a_token_is_swallowed_as_asked),
        cmocka_unit_test(a_token_whose_place_was_swallowed_is_dropped),
        cmocka_unit_test(normalized_tokens_are_found_in_normalized_text),
        cmocka_unit_test(ids_come_from_the_vocabulary_not_from_the_file),
        cmocka_unit_test(long_runs_of_near_misses_and_spaces_take_linear_time),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
