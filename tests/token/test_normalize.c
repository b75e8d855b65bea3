/* test_normalize.c - normalizers, seen through a tokenizer of bytes. What each does with every code point is compared
 * with the reference elsewhere (test_golden.c, differential.py); here are the rules that are easy to get wrong. */
#include <stdio.h>
#include <stdlib.h>

#include "base/limits.h"
#include "support.h"

#define BERT(clean, chinese, strip, lower)                                                                      \
    "{`type`:`BertNormalizer`,`clean_text`:" #clean ",`handle_chinese_chars`:" #chinese                         \
    ",`strip_accents`:" #strip ",`lowercase`:" #lower "}"

static void accents_follow_lowercase_unless_said_otherwise(void **state) {
    (void)state;
    assert_becomes(BERT(true, true, null, true), NULL, "\u00c9T\u00c9", "ete");
    assert_becomes(BERT(true, true, null, false), NULL, "\u00c9T\u00c9", "\u00c9T\u00c9");
    assert_becomes(BERT(true, true, false, true), NULL, "\u00c9T\u00c9", "\u00e9t\u00e9");
    assert_becomes(BERT(true, true, true, false), NULL, "\u00c9T\u00c9", "ETE");
}

static void cleaning_drops_controls_and_turns_spaces_into_one_kind(void **state) {
    (void)state;
    assert_becomes(BERT(true, false, false, false), NULL, "a\x0b\x0c\xc2\x85\u200d\u00ad\ufeff\ufffd" "b", "ab");
    assert_becomes(BERT(true, false, false, false), NULL, "a\t\n\r\u00a0\u2028\u3000b", "a      b");
    assert_becomes(BERT(false, false, false, false), NULL, "a\x01\u200d\tb", "a\x01\u200d\tb");
}

static void chinese_characters_stand_alone_but_for_a_gap_in_the_ranges(void **state) {
    (void)state;
    assert_becomes(BERT(true, true, false, false), NULL, "a\u4e2db", "a \u4e2d b");
    assert_becomes(BERT(true, true, false, false), NULL, "\U0002b820\U0002b920", "\U0002b820 \U0002b920 ");
    assert_becomes(BERT(true, true, true, false), NULL, "\uf900", " \u8c48 ");
}

static void stripped_text_is_not_composed_again(void **state) {
    (void)state;
    assert_becomes(BERT(true, true, true, true), NULL, "\uac01\u0301", "\u1100\u1161\u11a8");
    assert_becomes(BERT(true, true, true, true), NULL, "\u0130\u03a3", "i\u03c3");
}

static void what_is_cleaned_away_does_not_part_marks(void **state) {
    (void)state; /* U+1D16D and U+1D171 have classes 226 and 220 and are spacing marks: they stay and change places */
    assert_becomes(BERT(true, true, true, true), NULL, "a\U0001d16d\x19\u200b\U0001d171", "a\U0001d171\U0001d16d");
    assert_becomes(BERT(false, true, true, true), NULL, "a\U0001d16d\x19\U0001d171", "a\U0001d16d\x19\U0001d171");
}

static void replacing_takes_the_leftmost_match_each_time(void **state) {
    (void)state;
    assert_becomes("{`type`:`Replace`,`pattern`:{`String`:`aa`},`content`:`b`}", NULL, "aaaxaa", "baxb");
    assert_becomes("{`type`:`Replace`,`pattern`:{`Regex`:` {2,}`},`content`:`_`}", NULL, " a  b   c ",
                   " a_b_c ");
}

static void stripping_takes_all_white_space_of_a_side(void **state) {
    (void)state;
    assert_becomes("{`type`:`Strip`,`strip_left`:true,`strip_right`:false}", NULL, "\u3000 \na b\u2003 ",
                   "a b\u2003 ");
    assert_becomes("{`type`:`Strip`,`strip_left`:false,`strip_right`:true}", NULL, " a b\u2003 ", " a b");
    assert_becomes("{`type`:`Strip`,`strip_left`:true,`strip_right`:true}", NULL, " \u00a0", "");
}

/* "A" becomes "bc", "B" nothing; two-unit keys are not needed to see how clusters are looked up. */
#define CHARSMAP                                                                                                \
    "{`type`:`Precompiled`,`precompiled_charsmap`:`"                                                            \
    "EAEAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"      \
    "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"      \
    "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"      \
    "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAACAQQUAAEIFAAACAACAYmMAAA=="                              \
    "`}"

static void a_mapped_letter_loses_its_mark_in_a_short_cluster_only(void **state) {
    (void)state;
    assert_becomes(CHARSMAP, NULL, "xAyBz", "xbcyz");
    assert_becomes(CHARSMAP, NULL, "A\u0301\u0302", "bc");                             /* 5 bytes */
    assert_becomes(CHARSMAP, NULL, "A\u0301\u0302\u0303", "bc\u0301\u0302\u0303");     /* 7 bytes */
    assert_becomes(CHARSMAP, NULL, "\u0600" "A\u0301", "\u0600" "bc\u0301"); /* a cluster that starts with no key */
}

/* "bc" for "A" comes from byte 0 as a whole; for a letter and its mark, "c" comes from the mark. */
static void a_replaced_cluster_is_aligned_character_by_character(void **state) {
    (void)state;
    static const char normalizer[] = "{`type`:`Sequence`,`normalizers`:[" CHARSMAP
                                     ",{`type`:`Replace`,`pattern`:{`String`:`b`},`content`:` `}]}";
    static const char first[] = "{`type`:`Sequence`,`pretokenizers`:[{`type`:`WhitespaceSplit`},{`type`:`Metaspace`,"
                                "`replacement`:`_`,`prepend_scheme`:`first`,`split`:true}]}";
    assert_becomes(normalizer, first, "A", "_c");
    assert_becomes(normalizer, first, "A\u0301", "c");
    assert_becomes(normalizer, first, "A\u0301\u0302\u0303", "_c\u0301\u0302\u0303");
}

static void normal_forms_and_lowercase_work_in_sequence(void **state) {
    (void)state;
    assert_becomes("{`type`:`Sequence`,`normalizers`:[{`type`:`NFKD`},{`type`:`StripAccents`},"
                   "{`type`:`Lowercase`},{`type`:`Prepend`,`prepend`:`_`}]}", NULL,
                   "\u1e68\ufb01\u00bd", "_sfi1\u20442");
    assert_becomes("{`type`:`Sequence`,`normalizers`:[{`type`:`Nmt`},{`type`:`NFC`}]}", NULL,
                   "a\x01\u0301\u2028\ufeff", "\u00e1  ");
}

static void text_that_grows_beyond_all_measure_is_refused(void **state) {
    (void)state;
    char content[2001], normalizer[2200];
    memset(content, 'x', 2000);
    content[2000] = '\0';
    snprintf(normalizer, sizeof normalizer, "{`type`:`Replace`,`pattern`:{`String`:`a`},`content`:`%s`}", content);
    char *json = bytes_json(normalizer, NULL, NULL), *text = malloc(50000);
    assert_non_null(text);
    memset(text, 'a', 50000);
    fixture f = fixture_open(json);
    pillion_error err = {0};
    pil_tokens got;
    assert_int_equal(pil_tokenizer_encode(f.t, f.s, text, 50000, 0, false, &got, &err), PILLION_E_LIMIT);
    assert_error(err, PILLION_E_LIMIT, "normalized");
    assert_encodes(&f, "b", 'b' + 1); /* and the scratch is as good as before */
    fixture_close(&f);
    free(text);
    free(json);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(accents_follow_lowercase_unless_said_otherwise),
        cmocka_unit_test(cleaning_drops_controls_and_turns_spaces_into_one_kind),
        cmocka_unit_test(chinese_characters_stand_alone_but_for_a_gap_in_the_ranges),
        cmocka_unit_test(stripped_text_is_not_composed_again),
        cmocka_unit_test(what_is_cleaned_away_does_not_part_marks),
        cmocka_unit_test(replacing_takes_the_leftmost_match_each_time),
        cmocka_unit_test(stripping_takes_all_white_space_of_a_side),
        cmocka_unit_test(a_mapped_letter_loses_its_mark_in_a_short_cluster_only),
        cmocka_unit_test(a_replaced_cluster_is_aligned_character_by_character),
        cmocka_unit_test(normal_forms_and_lowercase_work_in_sequence),
        cmocka_unit_test(text_that_grows_beyond_all_measure_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
