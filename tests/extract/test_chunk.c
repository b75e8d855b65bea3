/* test_chunk.c - white space and chunks are those of Python, whose own answers make_chunk_cases.py wrote down. */
#include "support/test.h"

#include <stdbool.h>
#include <stdlib.h>

#include "base/json.h"
#include "base/limits.h"
#include "base/utf8.h"
#include "extract/extract.h"

static pil_json *load_cases(void) {
    pil_json *root;
    pillion_error err = {0};
    assert_ok(pil_json_load(&root, PIL_TEST_DATA "/extract/chunk_cases.json", PIL_LIMIT_JSON_FILE, SIZE_MAX, &err),
              err);
    return root;
}

static size_t from_hex(const char *hex, char *out) {
    size_t n = strlen(hex) / 2;
    for (size_t i = 0; i < n; i++) {
        char pair[3] = {hex[2 * i], hex[2 * i + 1], 0};
        out[i] = (char)strtoul(pair, NULL, 16);
    }
    return n;
}

/* The input lies in a block of exactly its size, so that a sanitizer sees a byte read beyond it. */
static char *exact_copy(const char *bytes, size_t n) {
    char *copy = malloc(n ? n : 1);
    assert_non_null(copy);
    memcpy(copy, bytes, n);
    return copy;
}

static size_t offset_of(const char *text, size_t n, int64_t code_points) {
    size_t at = 0;
    uint32_t cp;
    while (code_points-- > 0 && at < n) at += pil_utf8_decode(text + at, &cp);
    return at;
}

static void check_split(const char *text, size_t n, const pil_json *wanted) {
    size_t size = (size_t)pil_json_int_or(pil_json_get(wanted, "size"), 0);
    size_t overlap = (size_t)pil_json_int_or(pil_json_get(wanted, "overlap"), 0);
    size_t max_chunks = (size_t)pil_json_int_or(pil_json_get(wanted, "max_chunks"), 0);
    const pil_json *spans = pil_json_get(wanted, "chunks");
    pil_chunk *chunks;
    size_t n_chunks;
    pillion_error err = {0};
    char *copy = exact_copy(text, n);
    assert_ok(pil_chunk_split(&chunks, &n_chunks, copy, n, size, overlap, max_chunks, &err), err);
    assert_int_equal(n_chunks, pil_json_count(spans));
    for (size_t i = 0; i < n_chunks; i++) {
        const pil_json *span = pil_json_at(spans, i);
        int64_t first = pil_json_int_or(pil_json_at(span, 0), -1), count = pil_json_int_or(pil_json_at(span, 1), -1);
        size_t begin = offset_of(text, n, first), end = offset_of(text, n, first + count);
        assert_int_equal(chunks[i].offset, begin);
        assert_int_equal(chunks[i].bytes, end - begin);
    }
    free(chunks);
    free(copy);
}

static void text_is_squashed_and_cut_as_python_does(void **state) {
    (void)state;
    pil_json *root = load_cases();
    const pil_json *cases = pil_json_get(root, "cases");
    assert_true(pil_json_count(cases) >= 40);
    size_t n_splits = 0;
    for (size_t i = 0; i < pil_json_count(cases); i++) {
        const pil_json *one = pil_json_at(cases, i), *splits = pil_json_get(one, "split");
        const char *hex = pil_json_string(pil_json_get(one, "hex"), NULL);
        char *raw = malloc(strlen(hex) / 2 + 1);
        assert_non_null(raw);
        size_t n_raw = from_hex(hex, raw), n, n_wanted;
        char *copy = exact_copy(raw, n_raw), *text;
        pillion_error err = {0};
        assert_ok(pil_chunk_squash(&text, &n, copy, n_raw, &err), err);
        const char *wanted = pil_json_string(pil_json_get(one, "squashed"), &n_wanted);
        if (n != n_wanted || memcmp(text, wanted, n) != 0)
            fail_msg("%s", pil_json_string(pil_json_get(one, "name"), NULL));
        assert_int_equal(text[n], 0);
        for (size_t k = 0; k < pil_json_count(splits); k++, n_splits++) check_split(text, n, pil_json_at(splits, k));
        free(text);
        free(copy);
        free(raw);
    }
    print_message("%zu texts, %zu ways of cutting them\n", pil_json_count(cases), n_splits);
    pil_json_free(root);
}

static void white_space_is_that_of_python_for_every_code_point(void **state) {
    (void)state;
    pil_json *root = load_cases();
    const pil_json *spaces = pil_json_get(root, "spaces");
    assert_int_equal(pil_json_count(spaces), 29);
    size_t at = 0;
    for (uint32_t cp = 0; cp < 0x110000; cp++) {
        if (cp >= 0xD800 && cp < 0xE000) continue;
        char in[8] = "a", *text;
        size_t len = pil_utf8_encode(cp, in + 1), n;
        in[1 + len] = 'b';
        assert_int_equal(pil_chunk_squash(&text, &n, in, len + 2, NULL), PILLION_OK);
        bool space = n == 3 && memcmp(text, "a b", 3) == 0,
             expected = (int64_t)cp == pil_json_int_or(pil_json_at(spaces, at), -1);
        if (space != (expected || cp == ' ')) fail_msg("U+%04X", cp);
        if (!space) assert_memory_equal(text, in, len + 2);
        at += expected;
        free(text);
    }
    assert_int_equal(at, 29);
    pil_json_free(root);
}

static void wrong_arguments_are_refused(void **state) {
    (void)state;
    pil_chunk *chunks = (pil_chunk *)1;
    size_t n = 9;
    pillion_error err = {0};
    assert_int_equal(pil_chunk_split(&chunks, &n, "abc", 3, 0, 0, 5, &err), PILLION_E_ARG);
    assert_null(chunks);
    assert_int_equal(n, 0);
    assert_int_equal(pil_chunk_split(&chunks, &n, "abc", 3, 5, 0, 0, NULL), PILLION_E_ARG);
    assert_int_equal(pil_chunk_split(&chunks, &n, "ab\xff", 3, 5, 0, 5, NULL), PILLION_E_UTF8);
    assert_int_equal(pil_chunk_split(&chunks, &n, "ab\xc3", 3, 5, 0, 5, NULL), PILLION_E_UTF8);
    assert_int_equal(pil_chunk_split(&chunks, &n, "", 0, 5, 0, 5, NULL), PILLION_OK);
    assert_null(chunks);
    assert_int_equal(n, 0);
}

static void a_large_overlap_costs_one_pass_and_not_one_for_each_chunk(void **state) {
    (void)state;
    enum { N = 1 << 20 };
    char *text = malloc(N);
    assert_non_null(text);
    memset(text, 'x', N);
    pil_chunk *chunks;
    size_t n;
    pillion_error err = {0};
    /* walked anew for each chunk, this would be 4 * 10^9 steps and the test would run into its time limit */
    assert_ok(pil_chunk_split(&chunks, &n, text, N, 4000, 5000, N, &err), err);
    assert_int_equal(n, N - 4000 + 1);
    assert_int_equal(chunks[n - 1].offset, N - 4000);
    assert_int_equal(chunks[n - 1].bytes, 4000);
    free(chunks);
    free(text);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(text_is_squashed_and_cut_as_python_does),
        cmocka_unit_test(white_space_is_that_of_python_for_every_code_point),
        cmocka_unit_test(wrong_arguments_are_refused),
        cmocka_unit_test(a_large_overlap_costs_one_pass_and_not_one_for_each_chunk),
    };
    return cmocka_run_group_tests_name("chunk", tests, NULL, NULL);
}
