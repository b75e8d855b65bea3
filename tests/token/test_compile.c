/* test_compile.c - what a tokenizer.json may be, and what is refused with which words. */
#include <stdio.h>
#include <stdlib.h>

#include "base/limits.h"
#include "support.h"

#define MODEL "`model`:{`type`:`Unigram`,`unk_id`:0,`vocab`:[[`u`,0],[`a`,-1]]}"

static void check_refused(const char *json, pillion_status code, const char *part) {
    pillion_error err = fixture_refused(json);
    assert_error(err, code, part);
}

static void components_that_are_not_known_are_refused_by_name(void **state) {
    (void)state;
    static const char *const cases[][2] = {
        {"{`model`:{`type`:`BPE`,`vocab`:{},`merges`:[]}}", "model BPE"},
        {"{`model`:{`type`:`WordLevel`,`vocab`:{}}}", "model WordLevel"},
        {"{`model`:{`vocab`:{},`merges`:[]}}", "model of no type"},
        {"{" MODEL ",`normalizer`:{`type`:`ByteLevel`}}", "normalizer ByteLevel"},
        {"{" MODEL ",`normalizer`:{`type`:`Sequence`,`normalizers`:[{`type`:`NFC`},{`type`:`Odd`}]}}",
         "normalizer Odd"},
        {"{" MODEL ",`normalizer`:{`type`:`Replace`,`pattern`:{`Regex`:`a+`},`content`:``}}", "a+"},
        {"{" MODEL ",`normalizer`:{`type`:`Replace`,`pattern`:{`String`:``},`content`:``}}", "empty"},
        {"{" MODEL ",`pre_tokenizer`:{`type`:`ByteLevel`,`add_prefix_space`:false}}", "pre-tokenizer ByteLevel"},
        {"{" MODEL ",`pre_tokenizer`:{`type`:`Punctuation`,`behavior`:`Odd`}}", "behavior Odd"},
        {"{" MODEL ",`pre_tokenizer`:{`type`:`Metaspace`,`replacement`:`_`,`prepend_scheme`:`odd`}}", "odd"},
        {"{" MODEL ",`pre_tokenizer`:{`type`:`Sequence`,`pretokenizers`:[{`type`:`Metaspace`,`replacement`:"
         "`_`},{`type`:`Metaspace`,`replacement`:`_`}]}}", "second pre-tokenizer Metaspace"},
        {"{" MODEL ",`normalizer`:{`type`:`BertNormalizer`,`clean_text`:true,`handle_chinese_chars`:true,"
         "`lowercase`:true},`pre_tokenizer`:{`type`:`Metaspace`,`replacement`:`_`,`prepend_scheme`:`first`}}",
         "first behind BertNormalizer"},
        {"{" MODEL ",`decoder`:{`type`:`CTC`}}", "decoder CTC"},
        {"{" MODEL ",`post_processor`:{`type`:`Odd`}}", "post-processor Odd"},
        {"{" MODEL ",`post_processor`:{`type`:`TemplateProcessing`,`single`:[],`special_tokens`:{}}}", "single"},
        {"{`model`:{`type`:`Unigram`,`unk_id`:null,`vocab`:[[`u`,0]]}}", "without unk_id"},
        {"{`model`:{`type`:`Unigram`,`unk_id`:0,`vocab`:[[`u\\u0000`,0]]}}", "U+0000"},
        {"{" MODEL ",`added_tokens`:[{`id`:1,`content`:`x\\u0000`}]}", "U+0000"},
        {"{" MODEL ",`normalizer`:{`type`:`Lowercase`},`added_tokens`:[{`id`:1,`content`:`X`},"
         "{`id`:1,`content`:`x`}]}", "normalize to the same"},
        {"{" MODEL ",`normalizer`:{`type`:`StripAccents`},`added_tokens`:[{`id`:1,`content`:`\\u0301`}]}",
         "normalizes to nothing"},
        {"{`model`:{`type`:`WordPiece`,`unk_token`:`u`,`continuing_subword_prefix`:`##`,"
         "`max_input_chars_per_word`:9,`vocab`:{`u`:4000000000}}}", "token id 4000000000"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        check_refused(cases[i][0], PILLION_E_UNSUPPORTED, cases[i][1]);
}

static void malformed_documents_are_refused_with_the_place(void **state) {
    (void)state;
    static const char *const cases[][2] = {
        {"", "byte 0"},
        {"{`model`:", "byte"},
        {"[]", "the document"},
        {"{}", "model"},
        {"{`model`:{`type`:`Unigram`,`unk_id`:0,`vocab`:{}}}", "model Unigram"},
        {"{`model`:{`type`:`Unigram`,`unk_id`:0,`vocab`:[]}}", "model Unigram"},
        {"{`model`:{`type`:`Unigram`,`unk_id`:0,`vocab`:[[`a`]]}}", "vocab"},
        {"{`model`:{`type`:`Unigram`,`unk_id`:0,`vocab`:[[1,1]]}}", "vocab"},
        {"{`model`:{`type`:`Unigram`,`unk_id`:1,`vocab`:[[`a`,1]]}}", "unk_id"},
        {"{`model`:{`type`:`WordPiece`,`unk_token`:`u`,`continuing_subword_prefix`:`##`,"
         "`max_input_chars_per_word`:9,`vocab`:{`a`:0}}}", "unk_token"},
        {"{`model`:{`type`:`WordPiece`,`vocab`:{`a`:0}}}", "model WordPiece"},
        {"{" MODEL ",`normalizer`:{}}", "normalizer"},
        {"{" MODEL ",`normalizer`:`NFC`}", "normalizer"},
        {"{" MODEL ",`normalizer`:{`type`:`Sequence`}}", "normalizer"},
        {"{" MODEL ",`normalizer`:{`type`:`BertNormalizer`}}", "BertNormalizer"},
        {"{" MODEL ",`normalizer`:{`type`:`Strip`}}", "Strip"},
        {"{" MODEL ",`normalizer`:{`type`:`Prepend`}}", "Prepend"},
        {"{" MODEL ",`normalizer`:{`type`:`Replace`,`content`:``}}", "Replace"},
        {"{" MODEL ",`normalizer`:{`type`:`Precompiled`,`precompiled_charsmap`:`A`}}", "precompiled_charsmap"},
        {"{" MODEL ",`normalizer`:{`type`:`Precompiled`,`precompiled_charsmap`:`_w==`}}", "precompiled_charsmap"},
        {"{" MODEL ",`normalizer`:{`type`:`Precompiled`,`precompiled_charsmap`:`/////w==`}}", "precompiled"},
        {"{" MODEL ",`normalizer`:{`type`:`Precompiled`,`precompiled_charsmap`:`AAAAAP8=`}}", "precompiled"},
        {"{" MODEL ",`pre_tokenizer`:{`type`:`Metaspace`,`replacement`:`ab`}}", "Metaspace"},
        {"{" MODEL ",`pre_tokenizer`:{`type`:`Metaspace`,`replacement`:`_`,`add_prefix_space`:false,"
         "`prepend_scheme`:`always`}}", "contradicts"},
        {"{" MODEL ",`decoder`:{`type`:`WordPiece`}}", "WordPiece"},
        {"{" MODEL ",`decoder`:{`type`:`Strip`,`content`:` `,`start`:-1,`stop`:0}}", "Strip"},
        {"{" MODEL ",`post_processor`:{`type`:`BertProcessing`,`sep`:[`x`,-2],`cls`:[`y`,1]}}", "Processing"},
        {"{" MODEL ",`post_processor`:{`type`:`TemplateProcessing`,`single`:[{`SpecialToken`:{`id`:`x`}}],"
         "`special_tokens`:{}}}", "TemplateProcessing"},
        {"{" MODEL ",`added_tokens`:{}}", "added_tokens"},
        {"{" MODEL ",`added_tokens`:[{`id`:3}]}", "added_tokens"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) check_refused(cases[i][0], PILLION_E_FORMAT, cases[i][1]);
}

/* -7.4715776443481445 is read by the reference as the double next to the nearest one, and so ties with the sum of the
 * two other tokens; with the nearest double their sum would be higher. */
static void scores_are_read_with_the_arithmetic_of_the_reference(void **state) {
    (void)state;
    fixture f = fixture_open("{`model`:{`vocab`:[[`u`,-20],[`ab`, -7.4715776443481445 ],[`a`,-7.471577644348144],"
                             "[`b`,0e0]],`unk_id`:0,`type`:`Unigram`}}");
    assert_encodes(&f, "ab", 1);
    fixture_close(&f);
}

/* Two tokens tie when their scores are the same double, and then the longer one wins; else the sum of "a" and "b"
 * does. */
static void check_same_score(const char *one, const char *other, bool same) {
    char json[512];
    snprintf(json, sizeof json,
             "{`version`:`1.0`,`x`:[{`a\\`]`:[1,{}]}],`model`:{`type`:`Unigram`,`unk_id`:0,`k`:{`vocab`:[1]},"
             "`vocab`:[[`u\\``,-900],[`ab`,%s],[`a`,%s],[`b`,0]]}}", one, other);
    fixture f = fixture_open(json);
    if (same) assert_encodes(&f, "ab", 1);
    else assert_encodes(&f, "ab", 2, 3);
    fixture_close(&f);
}

static void every_way_of_writing_a_number_is_read(void **state) {
    (void)state;
    check_same_score("-12.5", "-125e-1", true);
    check_same_score("-12.5", "-1.25E+1", true);
    check_same_score("-12.5", "-0.125e2", true);
    check_same_score("-3", "-3.0", true);
    check_same_score("-0.00000000000000000000000000000000000001", "-1e-38", true);
    check_same_score("-12345678901234567890123", "-12345678901234567890000.5", true); /* cut after 64 bits */
    check_same_score("-12345678901234567890999e-30", "-12345678901234567890111e-30", true);
    check_same_score("-1.000000000000000000000999", "-1.000000000000000000000111", true);
    check_same_score("-1e-400", "-0", true);
    check_same_score("-2", "-1", false);
}

static void truncation_and_padding_of_the_file_are_ignored(void **state) {
    (void)state;
    fixture f = fixture_open("{`truncation`:{`max_length`:1},`padding`:{`strategy`:{`Fixed`:8}}," MODEL "}");
    assert_encodes(&f, "aaa", 1, 1, 1);
    fixture_close(&f);
}

static void a_buffer_that_is_too_small_is_a_limit(void **state) {
    (void)state;
    static const char json[] = "{\"model\":{\"type\":\"Unigram\",\"unk_id\":0,\"vocab\":[[\"u\",0]]}}";
    pillion_error err = {0};
    pil_buf out;
    pil_buf_init(&out, 1000);
    assert_int_equal(pil_tokenizer_compile(&out, json, strlen(json), &err), PILLION_E_LIMIT);
    assert_error(err, PILLION_E_LIMIT, "too large");
    pil_buf_deinit(&out);
}

/* JSON of a vocabulary with one token of n times the letter a; free it. */
static char *long_token_json(const char *head, size_t n, const char *tail) {
    size_t bytes = strlen(head) + n + strlen(tail) + 1;
    char *json = malloc(bytes), *a = malloc(n);
    assert_true(json && a);
    memset(a, 'a', n);
    snprintf(json, bytes, "%s%.*s%s", head, (int)n, a, tail);
    free(a);
    return json;
}

static void a_token_of_the_vocabulary_may_be_long_but_not_endless(void **state) {
    (void)state;
    static const char *const models[][2] = {
        {"{`model`:{`type`:`Unigram`,`unk_id`:0,`vocab`:[[`u`,0],[`", "`,-1]]}}"},
        {"{`model`:{`type`:`WordPiece`,`unk_token`:`u`,`continuing_subword_prefix`:`##`,"
         "`max_input_chars_per_word`:999,`vocab`:{`u`:0,`", "`:1}}}"},
    };
    for (size_t i = 0; i < 2; i++) {
        char *json = long_token_json(models[i][0], PIL_LIMIT_TOKEN_BYTES, models[i][1]);
        char *text = long_token_json("", PIL_LIMIT_TOKEN_BYTES, "");
        fixture f = fixture_open(json);
        assert_ids(&f, text, strlen(text), (const int32_t[]){1, -1});
        fixture_close(&f);
        free(text);
        free(json);
        json = long_token_json(models[i][0], PIL_LIMIT_TOKEN_BYTES + 1, models[i][1]);
        check_refused(json, PILLION_E_UNSUPPORTED, "token 1 has 257 bytes; at most 256 are supported");
        free(json);
    }
}

/* Each of them would cost more than a hundred bytes of memory. */
static void values_are_counted_before_they_are_built(void **state) {
    (void)state;
    size_t n = 3 * (size_t)PIL_LIMIT_TOKENIZER_VALUES;
    char *json = malloc(n + 1);
    assert_non_null(json);
    for (size_t i = 0; i < n; i += 3) memcpy(json + i, i ? ",[]" : "[[]", 3);
    json[n] = ']';
    pillion_error err = {0};
    pil_buf out;
    pil_buf_init(&out, PIL_MIB);
    assert_int_equal(pil_tokenizer_compile(&out, json, n + 1, &err), PILLION_E_LIMIT);
    assert_error(err, PILLION_E_LIMIT, "values or more, the limit is 16000000");
    pil_buf_deinit(&out);
    free(json);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(components_that_are_not_known_are_refused_by_name),
        cmocka_unit_test(malformed_documents_are_refused_with_the_place),
        cmocka_unit_test(a_token_of_the_vocabulary_may_be_long_but_not_endless),
        cmocka_unit_test(scores_are_read_with_the_arithmetic_of_the_reference),
        cmocka_unit_test(every_way_of_writing_a_number_is_read),
        cmocka_unit_test(values_are_counted_before_they_are_built),
        cmocka_unit_test(truncation_and_padding_of_the_file_are_ignored),
        cmocka_unit_test(a_buffer_that_is_too_small_is_a_limit),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
