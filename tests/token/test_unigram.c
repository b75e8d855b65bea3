/* test_unigram.c - the model Unigram, through the door of the room. */
#include <stdlib.h>

#include "base/limits.h"
#include "support.h"

static fixture open_vocab(const char *vocab) {
    char *json = unigram_json(vocab, NULL, NULL, NULL, NULL);
    fixture f = fixture_open(json);
    free(json);
    return f;
}

static void takes_the_cut_with_the_highest_sum(void **state) {
    (void)state;
    fixture f = open_vocab("[`<unk>`,0],[`a`,0],[`b`,0],[`c`,0],[`d`,0],[`cd`,1],[`ab`,2],[`abc`,5],"
                           "[`abcd`,10]");
    assert_encodes(&f, "abcd", 8);
    assert_encodes(&f, "abcdacd", 8, 1, 5);
    assert_encodes(&f, "abcdacdxx", 8, 1, 5, 0); /* neighbouring unknowns are one token */
    fixture_close(&f);
}

static void of_equal_sums_the_earlier_start_wins(void **state) {
    (void)state;
    fixture f = open_vocab("[`<unk>`,0],[`a`,-1],[`aa`,-2]");
    assert_encodes(&f, "aa", 2);
    assert_encodes(&f, "aaa", 1, 2);
    fixture_close(&f);
}

static void special_tokens_in_the_text_compete_too(void **state) {
    (void)state;
    fixture f = open_vocab("[`<unk>`,0],[`</s>`,0],[`<`,-3],[`/`,-3],[`s`,-3],[`>`,-3]");
    assert_encodes(&f, "s</s>", 4, 1);
    assert_encodes(&f, "<unk>", 0);
    fixture_close(&f);
}

static void of_equal_tokens_the_last_one_counts(void **state) {
    (void)state;
    fixture f = open_vocab("[`<unk>`,0],[`a`,-1],[`b`,-1],[`a`,-2]");
    assert_encodes(&f, "ab", 3, 2);
    fixture_close(&f);
}

static void unknown_characters_are_spelled_in_bytes_if_all_bytes_have_tokens(void **state) {
    (void)state;
    fixture f = fixture_open("{`model`:{`type`:`Unigram`,`unk_id`:0,`byte_fallback`:true,"
                             "`vocab`:[[`u`,0],[`a`,-1],[`<0xC3>`,-1],[`<0xA9>`,-1],[`<0x62>`,-1]]}}");
    assert_encodes(&f, "a\u00e9ba", 1, 2, 3, 4, 1);
    assert_encodes(&f, "a\u00e9ca", 1, 0, 1); /* no <0x63>: the whole stretch is unknown */
    fixture_close(&f);
}

static void a_stretch_of_unknowns_that_is_a_token_becomes_it(void **state) {
    (void)state;
    /* with scores so high that two unknown characters beat their token */
    fixture f = open_vocab("[`<unk>`,100],[`xy`,100]");
    assert_encodes(&f, "xy", 1);
    fixture_close(&f);
}

static void a_megabyte_without_a_space_takes_linear_time(void **state) {
    (void)state;
    fixture f = open_vocab("[`<unk>`,0],[`a`,-1],[`aa`,-1.5],[`aaaaaaaa`,-3]");
    enum { N = 1 << 20 };
    char *text = malloc(N);
    assert_non_null(text);
    memset(text, 'a', N);
    pillion_error err = {0};
    pil_tokens tokens;
    assert_ok(pil_tokenizer_encode(f.t, f.s, text, N, 0, false, &tokens, &err), err);
    assert_int_equal(tokens.n, N / 8);
    memset(text, '?', N);
    assert_ok(pil_tokenizer_encode(f.t, f.s, text, N, 0, false, &tokens, &err), err);
    assert_int_equal(tokens.n, 1);
    free(text);
    fixture_close(&f);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(takes_the_cut_with_the_highest_sum),
        cmocka_unit_test(of_equal_sums_the_earlier_start_wins),
        cmocka_unit_test(special_tokens_in_the_text_compete_too),
        cmocka_unit_test(of_equal_tokens_the_last_one_counts),
        cmocka_unit_test(unknown_characters_are_spelled_in_bytes_if_all_bytes_have_tokens),
        cmocka_unit_test(a_stretch_of_unknowns_that_is_a_token_becomes_it),
        cmocka_unit_test(a_megabyte_without_a_space_takes_linear_time),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
