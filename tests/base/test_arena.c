/* test_arena.c - arena memory is aligned, separate, bounded, and freed at once. */
#include "base/arena.h"
#include "support/test.h"

static void pieces_are_aligned_and_do_not_overlap(void **state) {
    (void)state;
    pil_arena a;
    unsigned char *pieces[500];
    pil_arena_init(&a, 1 << 26);
    for (size_t i = 0; i < 500; i++) {
        pieces[i] = pil_arena_alloc(&a, i * 37 % 9000);
        assert_non_null(pieces[i]);
        assert_int_equal((uintptr_t)pieces[i] % 64, 0);
        memset(pieces[i], (int)(i % 251), i * 37 % 9000);
    }
    for (size_t i = 0; i < 500; i++)
        for (size_t k = 0; k < i * 37 % 9000; k++) assert_int_equal(pieces[i][k], i % 251);
    assert_true(a.used <= a.limit);
    pil_arena_deinit(&a);
    assert_int_equal(a.used, 0);
    pil_arena_deinit(&a);
}

static void nothing_is_given_beyond_the_limit(void **state) {
    (void)state;
    pil_arena a;
    pil_arena_init(&a, 1 << 20);
    assert_null(pil_arena_alloc(&a, (1 << 20) + 1));
    assert_null(pil_arena_alloc(&a, SIZE_MAX));
    assert_null(pil_arena_alloc(&a, SIZE_MAX - 100));
    assert_null(pil_arena_calloc(&a, SIZE_MAX / 2, 4));
    assert_null(pil_arena_strndup(&a, "x", SIZE_MAX));
    size_t got = 0;
    while (pil_arena_alloc(&a, 1000)) got++;
    assert_true(got >= 900 && got * 1024 <= 1 << 20);
    assert_true(a.used <= a.limit);
    pil_arena_deinit(&a);
    assert_non_null(pil_arena_alloc(&a, 1 << 20)); /* the whole limit in one piece */
    pil_arena_deinit(&a);
}

static void reset_keeps_one_block_for_the_next_round(void **state) {
    (void)state;
    pil_arena a;
    pil_arena_init(&a, 1 << 24);
    for (int i = 0; i < 100; i++) assert_non_null(pil_arena_alloc(&a, 10000));
    pil_arena_reset(&a);
    size_t kept = a.used;
    assert_true(kept > 10000 && kept < 100 * 10000);
    for (int round = 0; round < 50; round++) {
        assert_non_null(pil_arena_alloc(&a, 10000));
        pil_arena_reset(&a);
        assert_int_equal(a.used, kept);
    }
    pil_arena_deinit(&a);
    pil_arena_reset(&a);
    assert_int_equal(a.used, 0);
}

static void calloc_is_zero_also_in_reused_memory_and_strings_are_copied(void **state) {
    (void)state;
    pil_arena a;
    pil_arena_init(&a, 1 << 20);
    memset(pil_arena_alloc(&a, 5000), 0xAA, 5000);
    pil_arena_reset(&a);
    const unsigned char *zero = pil_arena_calloc(&a, 500, 10);
    for (size_t i = 0; i < 5000; i++) assert_int_equal(zero[i], 0);
    char text[] = "text and more";
    char *copy = pil_arena_strndup(&a, text, 4);
    text[0] = 'X';
    assert_string_equal(copy, "text");
    assert_non_null(pil_arena_calloc(&a, 0, 8));
    assert_non_null(pil_arena_calloc(&a, 8, 0));
    pil_arena_deinit(&a);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(pieces_are_aligned_and_do_not_overlap),
        cmocka_unit_test(nothing_is_given_beyond_the_limit),
        cmocka_unit_test(reset_keeps_one_block_for_the_next_round),
        cmocka_unit_test(calloc_is_zero_also_in_reused_memory_and_strings_are_copied),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
