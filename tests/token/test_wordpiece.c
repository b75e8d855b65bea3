/* test_wordpiece.c - the model WordPiece, through the door of the room. */
#include <stdlib.h>

#include "support.h"

#define BERT "{`type`:`BertPreTokenizer`}"

static fixture open_words(const char *const *words) {
    char *json = wordpiece_json(words, NULL, BERT, NULL);
    fixture b = fixture_open(json);
    free(json);
    return b;
}

enum { UNK, CLS, SEP, UN, AFFABLE, AFF, ABLE, HASH, E_ACUTE };
static const char *const words[] = {"un", "##affable", "##aff", "##able", "#", "é", NULL};

static void takes_the_longest_piece_first(void **state) {
    (void)state;
    fixture b = open_words(words);
    assert_encodes(&b, "unaffable", UN, AFFABLE);
    assert_encodes(&b, "unaffaff", UN, AFF, AFF);
    fixture_close(&b);
}

static void keeps_unknown_words_whole(void **state) {
    (void)state;
    fixture b = open_words(words);
    assert_encodes(&b, "unaffablex", UNK);
    assert_encodes(&b, "affable un", UNK, UN); /* ##affable does not start a word */
    fixture_close(&b);
}

static void punctuation_is_a_word_so_the_prefix_cannot_be_written(void **state) {
    (void)state;
    fixture b = open_words(words);
    assert_encodes(&b, "##able", HASH, HASH, UNK);
    fixture_close(&b);
}

static void counts_code_points_against_the_longest_word(void **state) {
    (void)state;
    fixture b = open_words((const char *const[]){"é", "##é", NULL});
    char text[64] = "";
    int32_t ids[32];
    for (size_t i = 0; i < 20; i++) memcpy(text + 2 * i, "é", 3), ids[i] = i ? 4 : 3;
    ids[20] = -1;
    assert_ids(&b, text, 40, ids); /* 40 bytes, but 20 code points are allowed */
    memcpy(text + 40, "é", 3);
    assert_ids(&b, text, 42, (const int32_t[]){UNK, -1});
    fixture_close(&b);
}

static void gives_the_same_ids_again_from_its_cache(void **state) {
    (void)state;
    fixture b = open_words(words);
    assert_encodes(&b, "unaffable un unaffable affx unaffable affx", UN, AFFABLE, UN, UN, AFFABLE, UNK, UN,
                   AFFABLE, UNK);
    fixture_close(&b);
}

static void takes_models_that_do_not_name_their_type(void **state) {
    (void)state;
    fixture b = fixture_open("{`model`:{`unk_token`:`u`,`continuing_subword_prefix`:`##`,"
                         "`max_input_chars_per_word`:100,`vocab`:{`a`:0,`##b`:1,`u`:7}}}");
    assert_string_equal(pil_tokenizer_model(b.t), "WordPiece");
    assert_int_equal(pil_tokenizer_vocab(b.t), 8);
    assert_encodes(&b, "abb", 0, 1, 1);
    assert_encodes(&b, "b", 7);
    fixture_close(&b);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(takes_the_longest_piece_first),
        cmocka_unit_test(keeps_unknown_words_whole),
        cmocka_unit_test(punctuation_is_a_word_so_the_prefix_cannot_be_written),
        cmocka_unit_test(counts_code_points_against_the_longest_word),
        cmocka_unit_test(gives_the_same_ids_again_from_its_cache),
        cmocka_unit_test(takes_models_that_do_not_name_their_type),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
