/* test_blob.c - opening blobs that are cut, damaged or not blobs at all. */
#include <stdlib.h>

#include "base/limits.h"
#include "support.h"

/* A tokenizer with every section filled. */
static fixture open_small(void) {
    return fixture_open(
        "{`added_tokens`:[{`id`:0,`content`:`<s>`,`special`:true},{`id`:0,`content`:`zz`}],"
        "`normalizer`:{`type`:`Sequence`,`normalizers`:[{`type`:`Precompiled`,`precompiled_charsmap`:"
        "`CAAAAAAAAAAAAAAAYQA=`},{`type`:`Replace`,`pattern`:{`String`:`q`},`content`:`r`}]},"
        "`pre_tokenizer`:{`type`:`Metaspace`,`replacement`:`_`},`decoder`:{`type`:`ByteFallback`},"
        "`post_processor`:{`type`:`BertProcessing`,`sep`:[`x`,2],`cls`:[`y`,1]},`model`:{`type`:"
        "`Unigram`,`unk_id`:0,`byte_fallback`:true,`vocab`:[[`u`,0],[`_`,-2],[`_a`,-1],[`b`,-1],"
        "[`<0x41>`,-3],[`\\u00e9`,-2]]}}");
}

static void use(const pil_tokenizer *t) {
    static const char text[] = "a b<s>zz \u00e9q\u0301\u4e2d_A ";
    pil_token_scratch *s = pil_token_scratch_create(t);
    assert_non_null(s);
    pil_tokens tokens;
    pil_buf out;
    pil_buf_init(&out, 16 * PIL_MIB);
    if (!pil_tokenizer_encode(t, s, text, sizeof text - 1, 0, true, &tokens, NULL)) {
        for (size_t i = 0; i < tokens.n; i++)
            assert_true(tokens.ids[i] >= 0 && (uint32_t)tokens.ids[i] < pil_tokenizer_vocab(t));
        pillion_status st = pil_tokenizer_decode(t, tokens.ids, tokens.n, false, &out, NULL);
        assert_true(st == PILLION_OK || st == PILLION_E_LIMIT);
    }
    for (int32_t id = 0; id < (int32_t)pil_tokenizer_vocab(t) && id < 100; id++) {
        size_t n;
        pil_tokenizer_spelling(t, id, &n);
    }
    pil_buf_deinit(&out);
    pil_token_scratch_destroy(s);
}

static void a_blob_is_used_in_place_by_many(void **state) {
    (void)state;
    fixture f = open_small();
    assert_int_equal(f.blob_bytes % 64, 0);
    char *before = malloc(f.blob_bytes);
    assert_non_null(before);
    memcpy(before, f.blob, f.blob_bytes);
    pil_tokenizer *second;
    pillion_error err = {0};
    assert_ok(pil_tokenizer_open(&second, f.blob, f.blob_bytes, &err), err);
    use(f.t);
    use(second);
    assert_memory_equal(before, f.blob, f.blob_bytes);
    pil_tokenizer_close(second);
    pil_tokenizer_close(NULL);
    pil_token_scratch_destroy(NULL);
    free(before);
    fixture_close(&f);
}

static void a_blob_of_another_length_is_refused(void **state) {
    (void)state;
    fixture f = open_small();
    for (size_t n = 0; n <= f.blob_bytes; n += n < 1024 ? 1 : 61) {
        char *cut = aligned_alloc(64, (n + 64) & ~(size_t)63);
        assert_non_null(cut);
        memcpy(cut, f.blob, n);
        pil_tokenizer *t;
        pillion_error err = {0};
        pillion_status st = pil_tokenizer_open(&t, cut, n, &err);
        assert_int_equal(st, n == f.blob_bytes ? PILLION_OK : PILLION_E_FORMAT);
        if (st) assert_null(t);
        pil_tokenizer_close(t);
        free(cut);
    }
    pil_tokenizer *t;
    pillion_error err = {0};
    assert_int_equal(pil_tokenizer_open(&t, f.blob + 8, f.blob_bytes - 8, &err), PILLION_E_ARG);
    fixture_close(&f);
}

/* Each byte in turn is set to several values; what still opens must work without a crash and stay in range. */
static void damaged_blobs_are_refused_or_harmless(void **state) {
    (void)state;
    fixture f = open_small();
    static const unsigned char values[] = {0x00, 0x01, 0x7F, 0x80, 0xFF};
    size_t refused = 0, opened = 0;
    for (size_t i = 0; i < f.blob_bytes; i++) {
        char kept = f.blob[i];
        for (size_t k = 0; k < sizeof values; k++) {
            f.blob[i] = (char)values[k];
            pil_tokenizer *t;
            pillion_error err = {0};
            pillion_status st = pil_tokenizer_open(&t, f.blob, f.blob_bytes, &err);
            if (st) assert_error(err, PILLION_E_FORMAT, "damaged");
            else use(t);
            refused += st != PILLION_OK;
            opened += st == PILLION_OK;
            pil_tokenizer_close(t);
        }
        f.blob[i] = kept;
    }
    assert_true(refused > 500 && opened > 500);
    use(f.t);
    fixture_close(&f);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_blob_is_used_in_place_by_many),
        cmocka_unit_test(a_blob_of_another_length_is_refused),
        cmocka_unit_test(damaged_blobs_are_refused_or_harmless),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
