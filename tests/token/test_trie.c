/* test_trie.c - building and walking double-array tries. */
#include <stdio.h>
#include <stdlib.h>

#include "base/limits.h"
#include "support/test.h"
#include "token/trie.h"

static pil_trie build(pil_buf *out, pil_trie_key *keys, size_t n) {
    pil_buf_init(out, 64 * PIL_MIB);
    assert_int_equal(pil_trie_build(out, keys, n), PILLION_OK);
    return (pil_trie){.units = (const uint32_t *)(void *)out->bytes, .n = (uint32_t)(out->len / 4)};
}

static void finds_every_key_and_nothing_else(void **state) {
    (void)state;
    enum { N = 20000 };
    static char words[N][16];
    pil_trie_key *keys = malloc(N * sizeof *keys);
    assert_non_null(keys);
    uint32_t seed = 1;
    for (uint32_t i = 0; i < N; i++) { /* each word has an upper case letter at its end only, so no two are prefixes */
        int n = snprintf(words[i], sizeof words[i], "%x%cZ", i * 2654435761u >> (i % 13), 'a' + (int)(i % 26));
        seed = seed * 1664525 + 1013904223;
        keys[i] = (pil_trie_key){.s = words[i], .n = (uint32_t)n, .value = i};
    }
    pil_buf out;
    pil_trie trie = build(&out, keys, N);
    for (uint32_t i = 0; i < N; i++) {
        int32_t found = pil_trie_find(&trie, words[i], strlen(words[i]));
        assert_true(found >= (int32_t)i && !strcmp(words[found], words[i])); /* of equal words the later one */
        assert_int_equal(pil_trie_find(&trie, words[i], strlen(words[i]) - 1), -1);
    }
    assert_int_equal(pil_trie_find(&trie, "", 0), -1);
    assert_int_equal(pil_trie_find(&trie, "zzzzZ", 5), -1);
    assert_int_equal(pil_trie_find(&trie, "0aZ\0", 4), -1);
    free(keys);
    pil_buf_deinit(&out);
}

static void tells_a_key_that_is_a_prefix_of_another(void **state) {
    (void)state;
    pil_trie_key keys[] = {{"abc", 3, 7}, {"a", 1, 0}, {"ab\xFF", 3, 9}, {"\xE4\xB8\xAD", 3, 1}};
    pil_buf out;
    pil_trie trie = build(&out, keys, 4);
    uint32_t at = pil_trie_root(&trie);
    int32_t value;
    assert_true(pil_trie_step(&trie, &at, 'a', &value));
    assert_int_equal(value, 0);
    assert_true(pil_trie_step(&trie, &at, 'b', &value));
    assert_int_equal(value, -1);
    assert_true(pil_trie_step(&trie, &at, 0xFF, &value));
    assert_int_equal(value, 9);
    assert_false(pil_trie_step(&trie, &at, 'c', &value));
    assert_int_equal(pil_trie_walk(&trie, "x", 1), PIL_TRIE_NONE);
    pil_buf_deinit(&out);
}

static void an_empty_trie_has_nothing(void **state) {
    (void)state;
    pil_buf out;
    pil_trie trie = build(&out, NULL, 0);
    assert_int_equal(trie.n, 0);
    assert_int_equal(pil_trie_find(&trie, "a", 1), -1);
    assert_int_equal(pil_trie_walk(&trie, "a", 1), PIL_TRIE_NONE);
    pil_buf_deinit(&out);
}

static void walks_any_units_without_leaving_them(void **state) {
    (void)state;
    enum { N = 300 };
    uint32_t *units = malloc(N * sizeof *units); /* exact, so that a sanitizer sees one unit too far */
    assert_non_null(units);
    uint32_t seed = 8421;
    for (int round = 0; round < 200; round++) {
        for (uint32_t i = 0; i < N; i++) {
            seed = seed * 1664525 + 1013904223;
            units[i] = seed >> 8 & 1 ? seed : (i & 0xFF) | (seed & 0x3FF00);
        }
        pil_trie trie = {.units = units, .n = N};
        for (unsigned c = 0; c < 256; c++) {
            char word[8];
            for (size_t k = 0; k < sizeof word; k++) word[k] = (char)(c * (k + 1));
            pil_trie_find(&trie, word, sizeof word);
        }
    }
    free(units);
}

static void reports_a_limit(void **state) {
    (void)state;
    pil_trie_key key = {"a", 1, 0};
    pil_buf out;
    pil_buf_init(&out, 100);
    assert_int_equal(pil_trie_build(&out, &key, 1), PILLION_E_LIMIT);
    pil_buf_deinit(&out);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(finds_every_key_and_nothing_else), cmocka_unit_test(tells_a_key_that_is_a_prefix_of_another),
        cmocka_unit_test(an_empty_trie_has_nothing),        cmocka_unit_test(walks_any_units_without_leaving_them),
        cmocka_unit_test(reports_a_limit),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
