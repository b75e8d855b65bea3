/* test_pretokenize.c - pre-tokenizers, seen through a tokenizer of bytes: a Metaspace that does not split marks where
 * each piece starts. */
#include <stdlib.h>

#include "support.h"

#define MARKED(step)                                                                                            \
    "{`type`:`Sequence`,`pretokenizers`:[" step ",{`type`:`Metaspace`,`replacement`:`_`,"                       \
    "`prepend_scheme`:`always`,`split`:false}]}"
#define PUNCTUATION(behavior) MARKED("{`type`:`Punctuation`,`behavior`:`" behavior "`}")
#define META(scheme, split)                                                                                     \
    "{`type`:`Metaspace`,`replacement`:`_`,`prepend_scheme`:`" scheme "`,`split`:" #split "}"

static void bert_parts_words_and_each_punctuation(void **state) {
    (void)state;
    assert_becomes(NULL, MARKED("{`type`:`BertPreTokenizer`}"), "  it's\u3000$5\u2014ok\u20ac ",
                   "_it_'_s_$_5_\u2014_ok\u20ac");
    assert_becomes(NULL, MARKED("{`type`:`BertPreTokenizer`}"), " \n ", "");
}

static void white_space_splits_and_goes(void **state) {
    (void)state;
    assert_becomes(NULL, MARKED("{`type`:`WhitespaceSplit`}"), " a,\tb\u2029c ", "_a,_b_c");
    assert_becomes(NULL, MARKED("{`type`:`Whitespace`}"), "a_b, c!?\u0301d", "_a_b_,_c_!?_\u0301d");
}

static void punctuation_goes_where_its_behavior_says(void **state) {
    (void)state;
    assert_becomes(NULL, PUNCTUATION("Isolated"), "a--b-", "_a_-_-_b_-");
    assert_becomes(NULL, PUNCTUATION("Removed"), "a--b-", "_a_b");
    assert_becomes(NULL, PUNCTUATION("Contiguous"), "-a--b", "_-_a_--_b");
    assert_becomes(NULL, PUNCTUATION("MergedWithPrevious"), "a--b-", "_a-_-_b-");
    assert_becomes(NULL, PUNCTUATION("MergedWithNext"), "a--b-", "_a_-_-b_-");
}

static void digits_stand_alone_or_together(void **state) {
    (void)state;
    assert_becomes(NULL, MARKED("{`type`:`Digits`,`individual_digits`:true}"), "a12\u00bdb", "_a_1_2_\u00bd_b");
    assert_becomes(NULL, MARKED("{`type`:`Digits`,`individual_digits`:false}"), "a12\u00bdb", "_a_12\u00bd_b");
}

static void metaspace_marks_spaces_and_the_start(void **state) {
    (void)state;
    assert_becomes(NULL, META("always", false), "a b  c", "_a_b__c");
    assert_becomes(NULL, META("always", false), " a", "_a");
    assert_becomes(NULL, META("always", false), "_a", "_a");
    assert_becomes(NULL, META("never", true), "a b", "a_b");
}

static void the_scheme_first_marks_only_what_starts_at_byte_0(void **state) {
    (void)state;
    char *json = bytes_json("{`type`:`Strip`,`strip_left`:true,`strip_right`:true}", META("first", true),
                            "[{`id`:0,`content`:`<s>`,`normalized`:false,`special`:true}]");
    fixture f = fixture_open(json);
    enum { S = 257, A = 'a' + 1, MARK = '_' + 1 };
    assert_encodes(&f, "a<s>a", MARK, A, S, A);
    assert_encodes(&f, "<s>a", S, A);
    assert_encodes(&f, " a", A); /* what was stripped stood at byte 0 */
    fixture_close(&f);
    free(json);
    assert_becomes(NULL, "{`type`:`Sequence`,`pretokenizers`:[{`type`:`WhitespaceSplit`}," META("first", true) "]}",
                   "a b", "_ab");
}

/* Where Metaspace splits is seen by a word that would otherwise be one token. */
static void metaspace_splits_before_each_mark(void **state) {
    (void)state;
    const char *vocab = "[`u`,0],[`_`,-9],[`_a`,-1],[`a_a`,-1],[`_a_a`,-1]";
    for (int split = 0; split < 2; split++) {
        char *json = unigram_json(vocab, NULL, split ? META("always", true) : META("always", false), NULL, NULL);
        fixture f = fixture_open(json);
        if (split) assert_encodes(&f, "a a", 2, 2);
        else assert_encodes(&f, "a a", 4);
        if (split) assert_encodes(&f, "a  a ", 2, 1, 2, 1);
        fixture_close(&f);
        free(json);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bert_parts_words_and_each_punctuation),
        cmocka_unit_test(white_space_splits_and_goes),
        cmocka_unit_test(punctuation_goes_where_its_behavior_says),
        cmocka_unit_test(digits_stand_alone_or_together),
        cmocka_unit_test(metaspace_marks_spaces_and_the_start),
        cmocka_unit_test(the_scheme_first_marks_only_what_starts_at_byte_0),
        cmocka_unit_test(metaspace_splits_before_each_mark),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
