/* test_blob.c - opening blobs that are cut, damaged or not blobs at all. */
#include <stdlib.h>

#include "base/limits.h"
#include "support.h"
#include "token/trie.h"

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

/* ── Blobs that were made by somebody ───────────────────────────────────────────────────────────────────────── */

/* The header: 16 bytes of magic and versions, the size of the blob, 40 bytes, then offset and bytes of each section. */
#define BLOB_BYTES 16
#define SECTION(i) (64 + 16 * (size_t)(i))
#define SECTION_ADDED_RAW 5
#define SECTION_TRIE 10

/* The tokenizer with one section exchanged for these bytes, which are put behind all the others. */
static fixture graft(const char *json, size_t section, const void *bytes, size_t n) {
    fixture f = fixture_open(json);
    uint64_t offset = f.blob_bytes, size = n, whole = (f.blob_bytes + n + 63) & ~(uint64_t)63;
    char *blob = aligned_alloc(64, whole);
    assert_non_null(blob);
    memset(blob, 0, whole);
    memcpy(blob, f.blob, f.blob_bytes);
    memcpy(blob + offset, bytes, n);
    memcpy(blob + BLOB_BYTES, &whole, sizeof whole);
    memcpy(blob + SECTION(section), &offset, sizeof offset);
    memcpy(blob + SECTION(section) + 8, &size, sizeof size);
    fixture_close(&f);
    f = (fixture){.blob = blob, .blob_bytes = whole};
    pillion_error err = {0};
    assert_ok(pil_tokenizer_open(&f.t, f.blob, f.blob_bytes, &err), err);
    f.s = pil_token_scratch_create(f.t);
    assert_non_null(f.s);
    return f;
}

/* The tokenizer with a trie of its added tokens that holds one key, for the first of them. */
static fixture with_added_key(const char *json, const char *key, size_t n) {
    pil_buf trie;
    pil_buf_init(&trie, PIL_MIB);
    assert_int_equal(pil_trie_build(&trie, &(pil_trie_key){.s = key, .n = (uint32_t)n}, 1), PILLION_OK);
    fixture f = graft(json, SECTION_ADDED_RAW, trie.bytes, trie.len);
    pil_buf_deinit(&trie);
    return f;
}

/* Texts lie in blocks of exactly their size, so that a sanitizer sees a byte that is read too far. */
static void encode_exactly(const fixture *f, const char *text, const int32_t *ids) {
    size_t n = strlen(text);
    char *copy = malloc(n);
    assert_non_null(copy);
    memcpy(copy, text, n);
    assert_ids(f, copy, n, ids);
    free(copy);
}

/* A key that is the second half of a character would leave its first half as a gap, and begin the next gap in the
 * middle of one. The token that the trie names is another text, so it is not there. */
static void an_added_token_that_a_trie_finds_inside_a_character_is_not_there(void **state) {
    (void)state;
    fixture f = with_added_key("{`added_tokens`:[{`id`:0,`content`:`zz`}],`model`:{`type`:`Unigram`,`unk_id`:0,"
                               "`vocab`:[[`u`,0],[`\u00e9`,-1]]}}", "\xA9", 1);
    encode_exactly(&f, "\u00e9", (const int32_t[]){1, -1});
    encode_exactly(&f, "\u00e9\u00e9zz\u00e9", (const int32_t[]){1, 1, 2, 1, -1});
    fixture_close(&f);
    f = with_added_key("{`added_tokens`:[{`id`:0,`content`:`zz`}],`pre_tokenizer`:{`type`:`BertPreTokenizer`},"
                       "`model`:{`type`:`WordPiece`,`unk_token`:`u`,`continuing_subword_prefix`:`##`,"
                       "`max_input_chars_per_word`:9,`vocab`:{`u`:0,`a`:1}}}", "\xA0", 1);
    encode_exactly(&f, "\u00a0", (const int32_t[]){-1});
    encode_exactly(&f, "a\u00a0a", (const int32_t[]){1, 1, -1});
    fixture_close(&f);
}

/* A vocabulary in which "a" is a token and "aaa...", however long, might still become one: behind the node of "a" is
 * one that leads to itself. (See trie.h for the units.) */
static void a_vocabulary_that_leads_in_a_circle_takes_linear_time(void **state) {
    (void)state;
    static const char *const models[] = {
        "{`model`:{`type`:`Unigram`,`unk_id`:0,`vocab`:[[`u`,0],[`a`,-1]]}}",
        "{`model`:{`type`:`WordPiece`,`unk_token`:`u`,`continuing_subword_prefix`:``,"
        "`max_input_chars_per_word`:4000000,`vocab`:{`u`:0,`a`:1}}}",
    };
    uint32_t units[768] = {[0] = 256u << 10};
    units[256 ^ 'a'] = 'a' | 1u << 8 | ((256u ^ 'a') ^ 512u) << 10;
    units[512] = 1u << 31 | 1;                   /* the id of "a" */
    units[512 ^ 'a'] = 'a' | (unsigned)'a' << 10; /* its children are at 512 as well: itself */
    enum { N = 1 << 20 };
    char *text = malloc(N);
    assert_non_null(text);
    memset(text, 'a', N);
    for (size_t i = 0; i < 2; i++) {
        fixture f = graft(models[i], SECTION_TRIE, units, sizeof units);
        pillion_error err = {0};
        pil_tokens tokens;
        assert_ok(pil_tokenizer_encode(f.t, f.s, text, N, 0, false, &tokens, &err), err);
        assert_int_equal(tokens.n, N);
        assert_int_equal(tokens.ids[N - 1], 1);
        fixture_close(&f);
    }
    free(text);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_blob_is_used_in_place_by_many),
        cmocka_unit_test(a_blob_of_another_length_is_refused),
        cmocka_unit_test(damaged_blobs_are_refused_or_harmless),
        cmocka_unit_test(an_added_token_that_a_trie_finds_inside_a_character_is_not_there),
        cmocka_unit_test(a_vocabulary_that_leads_in_a_circle_takes_linear_time),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
