/* test_decode.c - ids back to text with each decoder. */
#include <stdlib.h>

#include "base/limits.h"
#include "support.h"

static void check_decodes(const fixture *f, const int32_t *ids, size_t n, bool skip_special, const char *wanted) {
    pillion_error err = {0};
    pil_buf out;
    pil_buf_init(&out, PIL_MIB);
    assert_ok(pil_tokenizer_decode(f->t, ids, n, skip_special, &out, &err), err);
    assert_string_equal(pil_buf_cstr(&out), wanted);
    pil_buf_deinit(&out);
}
#define DECODES(f, wanted, ...)                                                                                 \
    check_decodes((f), (const int32_t[]){__VA_ARGS__}, sizeof((const int32_t[]){__VA_ARGS__}) / sizeof(int32_t), \
                  false, (wanted))

static void wordpiece_joins_pieces_and_tidies_english(void **state) {
    (void)state;
    char *json = wordpiece_json((const char *const[]){"the", "##y", "do", "n't", ".", "'s", "do not", NULL}, NULL, NULL,
                                "[{`id`:1,`content`:`[CLS]`,`special`:true}]");
    fixture f = fixture_open(json);
    enum { THE = 3, Y, DO, NT, DOT, S, DO_NOT };
    DECODES(&f, "[CLS] they don't.'s [UNK]", 1, THE, Y, DO, NT, DOT, S, 0);
    DECODES(&f, "##y they", Y, THE, Y); /* the first token keeps its prefix */
    DECODES(&f, "the don't", THE, DO_NOT);
    check_decodes(&f, (const int32_t[]){1, THE, Y}, 3, true, "they"); /* special tokens left out before joining */
    check_decodes(&f, NULL, 0, false, "");
    fixture_close(&f);
    free(json);
}

#define VOCAB                                                                                                   \
    "[`<unk>`,0],[`_a`,-1],[`_`,-1],[`b_`,-1],[`<0xE4>`,-1],[`<0xB8>`,-1],[`<0xAD>`,-1],"                       \
    "[`<0x41>`,-1],[``,-1]"
enum { UNK, MARK_A, MARK, B_MARK, E4, B8, AD, X41, EMPTY };

static fixture open_decoder(const char *decoder) {
    char *json = unigram_json(VOCAB, NULL, NULL, decoder, NULL);
    fixture f = fixture_open(json);
    free(json);
    return f;
}

static void metaspace_turns_marks_into_spaces_but_the_first(void **state) {
    (void)state;
    fixture f = open_decoder("{`type`:`Metaspace`,`replacement`:`_`,`prepend_scheme`:`always`}");
    DECODES(&f, "a ab ", MARK_A, MARK_A, B_MARK);
    DECODES(&f, " a", MARK, MARK_A);
    fixture_close(&f);
    f = open_decoder("{`type`:`Metaspace`,`replacement`:`_`,`prepend_scheme`:`never`}");
    DECODES(&f, " a a", MARK_A, MARK_A);
    fixture_close(&f);
}

static void bytes_become_characters_or_replacement_characters(void **state) {
    (void)state;
    fixture f = open_decoder("{`type`:`ByteFallback`}");
    DECODES(&f, "A\u4e2d_a", X41, E4, B8, AD, MARK_A);
    DECODES(&f, "\ufffd\ufffd_aA", E4, B8, MARK_A, X41);
    fixture_close(&f);
}

static void decoders_work_in_sequence(void **state) {
    (void)state;
    fixture f = open_decoder("{`type`:`Sequence`,`decoders`:[{`type`:`Replace`,`pattern`:{`String`:`_`},"
                             "`content`:` `},{`type`:`ByteFallback`},{`type`:`Fuse`},{`type`:`Strip`,"
                             "`content`:` `,`start`:1,`stop`:0}]}");
    DECODES(&f, "a ab A", MARK_A, MARK_A, B_MARK, X41);
    fixture_close(&f);
}

static void without_a_decoder_tokens_stand_apart(void **state) {
    (void)state;
    fixture f = open_decoder(NULL);
    DECODES(&f, "_a  b_", MARK_A, EMPTY, B_MARK);
    DECODES(&f, "", EMPTY);
    fixture_close(&f);
}

static void ids_out_of_range_are_refused(void **state) {
    (void)state;
    fixture f = open_decoder(NULL);
    pil_buf out;
    pil_buf_init(&out, PIL_MIB);
    static const int32_t bad[] = {0, EMPTY + 1, -1};
    for (size_t i = 1; i < 3; i++) {
        pillion_error err = {0};
        assert_int_equal(pil_tokenizer_decode(f.t, &bad[i], 1, false, &out, &err), PILLION_E_ARG);
        assert_error(err, PILLION_E_ARG, "index 0");
    }
    assert_int_equal(out.len, 0);
    pil_buf_deinit(&out);
    fixture_close(&f);
}

static void what_does_not_fit_is_a_limit(void **state) {
    (void)state;
    fixture f = open_decoder(NULL);
    pil_buf out;
    pil_buf_init(&out, 1);
    assert_int_equal(pil_tokenizer_decode(f.t, (const int32_t[]){MARK_A}, 1, false, &out, NULL), PILLION_E_LIMIT);
    pil_buf_deinit(&out);
    fixture_close(&f);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(wordpiece_joins_pieces_and_tidies_english),
        cmocka_unit_test(metaspace_turns_marks_into_spaces_but_the_first),
        cmocka_unit_test(bytes_become_characters_or_replacement_characters),
        cmocka_unit_test(decoders_work_in_sequence),
        cmocka_unit_test(without_a_decoder_tokens_stand_apart),
        cmocka_unit_test(ids_out_of_range_are_refused),
        cmocka_unit_test(what_does_not_fit_is_a_limit),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
