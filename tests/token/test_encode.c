/* test_encode.c - the call as a whole: bad text, limits, truncation, the template, what is known about ids. */
#include <stdlib.h>
#include <string.h>

#include "base/limits.h"
#include "support.h"

#define BERT "{`type`:`BertPreTokenizer`}"
enum { UNK, CLS, SEP, A, B };

static fixture open_letters(void) {
    char *json = wordpiece_json((const char *const[]){"a", "##b", NULL}, NULL, BERT,
                                "[{`id`:2,`content`:`[SEP]`,`special`:true}]");
    fixture f = fixture_open(json);
    free(json);
    return f;
}

static void check_cut(const fixture *f, size_t max, size_t n, size_t n_all, const int32_t *ids) {
    pillion_error err = {0};
    pil_tokens got;
    assert_ok(pil_tokenizer_encode(f->t, f->s, "ab a ab", 7, max, true, &got, &err), err);
    assert_int_equal(got.n, n);
    assert_int_equal(got.n_all, n_all);
    for (size_t i = 0; i < n; i++) assert_int_equal(got.ids[i], ids[i]);
}

static void content_is_cut_at_the_right_and_the_template_stays(void **state) {
    (void)state;
    fixture f = open_letters();
    check_cut(&f, 0, 7, 7, (const int32_t[]){CLS, A, B, A, A, B, SEP});
    check_cut(&f, 7, 7, 7, (const int32_t[]){CLS, A, B, A, A, B, SEP});
    check_cut(&f, 6, 6, 7, (const int32_t[]){CLS, A, B, A, A, SEP});
    check_cut(&f, 3, 3, 7, (const int32_t[]){CLS, A, SEP});
    check_cut(&f, 2, 2, 7, (const int32_t[]){CLS, SEP});
    assert_int_equal(pil_tokenizer_n_special(f.t), 2);
    pillion_error err = {0};
    pil_tokens got;
    assert_int_equal(pil_tokenizer_encode(f.t, f.s, "a", 1, 1, true, &got, &err), PILLION_E_ARG);
    assert_error(err, PILLION_E_ARG, "1 tokens do not hold the 2");
    assert_ok(pil_tokenizer_encode(f.t, f.s, "aba", 3, 1, false, &got, &err), err);
    assert_int_equal(got.n, 1);
    fixture_close(&f);
}

static void nothing_is_the_template_alone(void **state) {
    (void)state;
    fixture f = open_letters();
    pillion_error err = {0};
    pil_tokens got;
    assert_ok(pil_tokenizer_encode(f.t, f.s, NULL, 0, 0, true, &got, &err), err);
    assert_int_equal(got.n, 2);
    assert_ok(pil_tokenizer_encode(f.t, f.s, " \n\t", 3, 0, true, &got, &err), err);
    assert_int_equal(got.n, 2);
    assert_ok(pil_tokenizer_encode(f.t, f.s, "", 0, 0, false, &got, &err), err);
    assert_int_equal(got.n, 0);
    assert_non_null(got.ids);
    fixture_close(&f);
}

static void invalid_utf8_is_refused_with_its_offset(void **state) {
    (void)state;
    static const struct {
        const char *text;
        size_t n, offset;
    } cases[] = {
        {"\xFF", 1, 0},
        {"ab\xC3", 3, 2},              /* cut short */
        {"ab\xC0\x80", 4, 2},          /* overlong NUL */
        {"abc\xED\xA0\x80", 6, 3},     /* a lone surrogate */
        {"\xF4\x90\x80\x80", 4, 0},    /* beyond U+10FFFF */
        {"\xE4\xB8\xAD\xE4\xB8", 5, 3},
        {"a\x80", 2, 1},
    };
    fixture f = open_letters();
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        pillion_error err = {0};
        pil_tokens got;
        char *exact = malloc(cases[i].n);
        assert_non_null(exact);
        memcpy(exact, cases[i].text, cases[i].n);
        assert_int_equal(pil_tokenizer_encode(f.t, f.s, exact, cases[i].n, 0, true, &got, &err), PILLION_E_UTF8);
        assert_int_equal(got.error_offset, cases[i].offset);
        assert_int_equal(got.n, 0);
        free(exact);
    }
    fixture_close(&f);
}

static void text_may_hold_nul(void **state) {
    (void)state;
    fixture f = open_letters();
    assert_encodes(&f, "a\0b a", UNK, A);
    fixture_close(&f);
    char *json = bytes_json(NULL, NULL, NULL);
    f = fixture_open(json);
    assert_encodes(&f, "a\0b", 'a' + 1, 1, 'b' + 1);
    fixture_close(&f);
    free(json);
}

static void a_text_beyond_the_limit_is_refused(void **state) {
    (void)state;
    fixture f = open_letters();
    char *text = malloc(PIL_LIMIT_TEXT_BYTES + 1);
    assert_non_null(text);
    memset(text, ' ', PIL_LIMIT_TEXT_BYTES + 1);
    text[PIL_LIMIT_TEXT_BYTES - 1] = 'a';
    pillion_error err = {0};
    pil_tokens got;
    size_t n = PIL_LIMIT_TEXT_BYTES + 1;
    assert_int_equal(pil_tokenizer_encode(f.t, f.s, text, n, 0, true, &got, &err), PILLION_E_LIMIT);
    err = (pillion_error){0};
    assert_ok(pil_tokenizer_encode(f.t, f.s, text, PIL_LIMIT_TEXT_BYTES, 0, true, &got, &err), err);
    assert_int_equal(got.n, 3);
    free(text);
    assert_encodes(&f, "ab", A, B); /* after memory was given back */
    fixture_close(&f);
}

static void knows_spellings_and_special_ids(void **state) {
    (void)state;
    fixture f = open_letters();
    size_t n;
    const char *s = pil_tokenizer_spelling(f.t, B, &n);
    assert_int_equal(n, 3);
    assert_memory_equal(s, "##b", 3);
    assert_null(pil_tokenizer_spelling(f.t, -1, &n));
    assert_null(pil_tokenizer_spelling(f.t, (int32_t)pil_tokenizer_vocab(f.t), &n));
    assert_true(pil_tokenizer_is_special(f.t, SEP));
    assert_false(pil_tokenizer_is_special(f.t, A));
    assert_false(pil_tokenizer_is_special(f.t, 1000));
    assert_false(pil_tokenizer_is_special(f.t, -1));
    fixture_close(&f);
}

static void templates_and_chains_of_processors_put_ids_around(void **state) {
    (void)state;
    fixture f = fixture_open(
        "{`model`:{`type`:`Unigram`,`unk_id`:0,`vocab`:[[`u`,0],[`a`,-1]]},`post_processor`:{`type`:"
        "`Sequence`,`processors`:[{`type`:`ByteLevel`,`trim_offsets`:true},{`type`:`RobertaProcessing`,"
        "`sep`:[`s`,5],`cls`:[`c`,4],`trim_offsets`:true,`add_prefix_space`:false},"
        "{`type`:`TemplateProcessing`,`single`:[{`SpecialToken`:{`id`:`x`,`type_id`:0}},"
        "{`Sequence`:{`id`:`A`,`type_id`:0}},{`SpecialToken`:{`id`:`y`,`type_id`:0}}],`pair`:[],"
        "`special_tokens`:{`x`:{`id`:`x`,`ids`:[7,8],`tokens`:[`x`,`x`]},"
        "`y`:{`id`:`y`,`ids`:[9],`tokens`:[`y`]}}}]}}");
    pillion_error err = {0};
    pil_tokens got;
    assert_ok(pil_tokenizer_encode(f.t, f.s, "a", 1, 0, true, &got, &err), err);
    static const int32_t wanted[] = {7, 8, 4, 1, 5, 9};
    assert_int_equal(got.n, 6);
    assert_memory_equal(got.ids, wanted, sizeof wanted);
    assert_int_equal(pil_tokenizer_n_special(f.t), 5);
    assert_int_equal(pil_tokenizer_vocab(f.t), 10);
    size_t n;
    assert_null(pil_tokenizer_spelling(f.t, 9, &n)); /* an id without a token */
    fixture_close(&f);
}

/* Ends the work at the first beat: the flag is what counts the beats. */
typedef union pulse {
    volatile uint64_t beats;
    volatile int cancel;
} pulse;

static void check_watched(char *json, const char *unit) {
    fixture f = fixture_open(json);
    free(json);
    size_t n = 64 * strlen(unit) * PIL_KIB;
    char *text = malloc(n);
    assert_non_null(text);
    for (size_t i = 0; i < n; i += strlen(unit)) memcpy(text + i, unit, strlen(unit));
    pulse p = {0};
    pil_tokens got;
    pil_token_scratch_watch(f.s, &(pil_watch){.heartbeat = &p.beats});
    assert_int_equal(pil_tokenizer_encode(f.t, f.s, text, 20, 0, true, &got, NULL), PILLION_OK);
    assert_int_equal(p.beats, 0); /* what is short is left to the caller */
    assert_int_equal(pil_tokenizer_encode(f.t, f.s, text, n, 0, true, &got, NULL), PILLION_OK);
    assert_in_range(p.beats, n / (8 * PIL_KIB), n / PIL_KIB);
    p.beats = 0;
    pil_token_scratch_watch(f.s, &(pil_watch){.heartbeat = &p.beats, .cancel = &p.cancel});
    assert_int_equal(pil_tokenizer_encode(f.t, f.s, text, n, 0, true, &got, NULL), PILLION_E_CANCELLED);
    assert_in_range(p.beats, 1, 2); /* one more where a piece ends early */
    pil_token_scratch_watch(f.s, &(pil_watch){0});
    assert_int_equal(pil_tokenizer_encode(f.t, f.s, text, n, 0, true, &got, NULL), PILLION_OK);
    free(text);
    fixture_close(&f);
}

static void a_long_text_is_followed_and_can_be_ended(void **state) {
    (void)state;
    check_watched(wordpiece_json((const char *const[]){"cat", NULL}, NULL, BERT, NULL), "cat ");
    check_watched(unigram_json("[`<unk>`,0],[`a`,-1],[`aa`,-1]", NULL, NULL, NULL, NULL), "a"); /* one piece */
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(content_is_cut_at_the_right_and_the_template_stays),
        cmocka_unit_test(nothing_is_the_template_alone),
        cmocka_unit_test(invalid_utf8_is_refused_with_its_offset),
        cmocka_unit_test(text_may_hold_nul),
        cmocka_unit_test(a_text_beyond_the_limit_is_refused),
        cmocka_unit_test(knows_spellings_and_special_ids),
        cmocka_unit_test(templates_and_chains_of_processors_put_ids_around),
        cmocka_unit_test(a_long_text_is_followed_and_can_be_ended),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
