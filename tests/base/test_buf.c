/* test_buf.c - buffers grow to their ceiling and no further, and remember the first failure. */
#include <stdlib.h>

#include "base/buf.h"
#include "support/test.h"

static void bytes_are_appended_in_order_through_many_growths(void **state) {
    (void)state;
    pil_buf b;
    pil_buf_init(&b, 1 << 20);
    for (int i = 0; i < 5000; i++) {
        assert_int_equal(pil_buf_append(&b, &(char){(char)i}, 1), PILLION_OK);
        assert_int_equal(pil_buf_puts(&b, "ab"), PILLION_OK);
    }
    assert_int_equal(b.len, 15000);
    for (size_t i = 0; i < 5000; i++) {
        assert_int_equal(b.bytes[3 * i], (char)i);
        assert_memory_equal(b.bytes + 3 * i + 1, "ab", 2);
    }
    pil_buf_clear(&b);
    assert_int_equal(b.len, 0);
    assert_int_equal(pil_buf_printf(&b, "%05d|%s", 42, "x"), PILLION_OK);
    assert_string_equal(pil_buf_cstr(&b), "00042|x");
    assert_int_equal(b.len, 7);
    pil_buf_deinit(&b);
    pil_buf_deinit(&b);
}

static void what_does_not_fit_fails_for_good_and_leaves_what_was_there(void **state) {
    (void)state;
    pil_buf b;
    pil_buf_init(&b, 10);
    assert_int_equal(pil_buf_append(&b, "0123456789", 10), PILLION_OK);
    assert_int_equal(pil_buf_append(&b, "", 0), PILLION_OK);
    assert_int_equal(pil_buf_putc(&b, 'x'), PILLION_E_LIMIT);
    assert_int_equal(b.len, 10);
    assert_memory_equal(b.bytes, "0123456789", 10);
    pil_buf_clear(&b);
    assert_int_equal(pil_buf_puts(&b, "ab"), PILLION_OK);
    assert_int_equal(pil_buf_printf(&b, "%s", "0123456789"), PILLION_E_LIMIT);
    assert_int_equal(pil_buf_putc(&b, 'x'), PILLION_E_LIMIT); /* it would fit, but the failure stays */
    assert_null(pil_buf_reserve(&b, 1));
    assert_null(pil_buf_cstr(&b));
    assert_int_equal(b.len, 2);
    pil_buf_deinit(&b);
}

static void reserved_room_counts_only_once_it_is_added(void **state) {
    (void)state;
    pil_buf b;
    pil_buf_init(&b, 1 << 16);
    char *room = pil_buf_reserve(&b, 1000);
    assert_non_null(room);
    memset(room, 'r', 1000);
    assert_int_equal(b.len, 0);
    b.len += 1000;
    pil_buf_putc(&b, 's');
    assert_int_equal(b.bytes[999], 'r');
    assert_int_equal(b.bytes[1000], 's');
    assert_null(pil_buf_reserve(&b, SIZE_MAX));
    assert_int_equal(b.failed, PILLION_E_LIMIT);
    pil_buf_deinit(&b);
}

static void stolen_memory_is_the_callers_and_the_buffer_starts_anew(void **state) {
    (void)state;
    pil_buf b;
    pil_buf_init(&b, 100);
    pil_buf_puts(&b, "mine");
    assert_string_equal(pil_buf_cstr(&b), "mine");
    char *mine = pil_buf_steal(&b);
    assert_string_equal(mine, "mine");
    assert_null(b.bytes);
    assert_int_equal(b.len, 0);
    assert_int_equal(pil_buf_puts(&b, "next"), PILLION_OK);
    free(mine);
    pil_buf_deinit(&b);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bytes_are_appended_in_order_through_many_growths),
        cmocka_unit_test(what_does_not_fit_fails_for_good_and_leaves_what_was_there),
        cmocka_unit_test(reserved_room_counts_only_once_it_is_added),
        cmocka_unit_test(stolen_memory_is_the_callers_and_the_buffer_starts_anew),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
