/* test_cursor.c - little-endian reads stop at the end and stay stopped; the clock does not go back. */
#include <stdlib.h>

#include "base/clock.h"
#include "base/cursor.h"
#include "support/test.h"

static void values_are_little_endian_and_consecutive(void **state) {
    (void)state;
    static const unsigned char bytes[] = {0xFE, 1, 2, 3, 0x84, 1, 2, 3, 4, 5, 6, 7, 0x88, 'a', 'b'};
    pil_cursor c = pil_cursor_over(bytes, sizeof bytes);
    assert_int_equal(pil_cursor_u8(&c), 0xFE);
    assert_int_equal(pil_cursor_u32(&c), 0x84030201u);
    assert_int_equal(pil_cursor_u64(&c), 0x8807060504030201u);
    assert_ptr_equal(pil_cursor_take(&c, 2), bytes + 13);
    assert_false(c.failed);
    assert_int_equal(c.at, sizeof bytes);
    assert_non_null(pil_cursor_take(&c, 0));
}

static void a_read_past_the_end_fails_for_good_and_moves_nothing(void **state) {
    (void)state;
    unsigned char *bytes = malloc(7); /* of exact size, for sanitizers to see an over-read */
    memset(bytes, 1, 7);
    for (size_t at = 0; at < 8; at++) {
        pil_cursor c = pil_cursor_over(bytes, 7);
        assert_non_null(pil_cursor_take(&c, at));
        assert_int_equal(pil_cursor_u64(&c), 0);
        assert_true(c.failed);
        assert_int_equal(c.at, at);
        assert_int_equal(pil_cursor_u8(&c), 0);
        assert_null(pil_cursor_take(&c, 0));
    }
    pil_cursor c = pil_cursor_over(bytes, 7);
    assert_non_null(pil_cursor_take(&c, 3));
    assert_null(pil_cursor_take(&c, SIZE_MAX));
    assert_int_equal(c.at, 3);
    free(bytes);
}

static void the_clock_goes_forward(void **state) {
    (void)state;
    uint64_t last = pil_clock_ns();
    for (int i = 0; i < 10000; i++) {
        uint64_t now = pil_clock_ns();
        assert_true(now >= last);
        last = now;
    }
    assert_true(pil_clock_ms(last) >= 0 && pil_clock_ms(last) < 60000);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(values_are_little_endian_and_consecutive),
        cmocka_unit_test(a_read_past_the_end_fails_for_good_and_moves_nothing),
        cmocka_unit_test(the_clock_goes_forward),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
