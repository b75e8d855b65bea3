/* test_unicode.c - the lookups, normal forms and grapheme clusters. All code points are compared with the reference in
 * differential.py; here is what the rules and the linear time rest on. */
#include <stdlib.h>

#include "base/limits.h"
#include "support/test.h"
#include "token/unicode.h"

static void check_form(const char *in, const char *wanted, bool compatibility, bool composed) {
    pil_buf out;
    pil_marks marks = {0};
    pil_buf_init(&out, PIL_MIB);
    assert_int_equal(pil_unicode_normalize(&out, &marks, in, strlen(in), compatibility, composed), PILLION_OK);
    assert_string_equal(pil_buf_cstr(&out), wanted);
    pil_buf_deinit(&out);
    pil_marks_deinit(&marks);
}

static void normal_forms_decompose_order_and_compose(void **state) {
    (void)state;
    check_form("\u1e69", "s\u0323\u0307", false, false);
    check_form("s\u0307\u0323", "\u1e69", false, true);
    check_form("\ufb01\u00bd", "fi1\u20442", true, true);
    check_form("\ufb01", "\ufb01", false, true);
    check_form("a\u0315\u0300\u05ae\u0300b", "\u00e0\u05ae\u0300\u0315b", false, true); /* the second is blocked */
    check_form("\u0958", "\u0915\u093c", false, true); /* an exclusion */
}

static void hangul_is_computed(void **state) {
    (void)state;
    check_form("\uac01\uac00", "\u1100\u1161\u11a8\u1100\u1161", false, false);
    check_form("\u1100\u1161\u11a8", "\uac01", false, true);
    check_form("\uac00\u11a7", "\uac00\u11a7", false, true); /* U+11A7 is no trailing consonant */
}

static void many_marks_are_sorted_in_linear_time(void **state) {
    (void)state;
    enum { N = 400000 };
    static const char *const two[] = {"\u0301", "\u0316"}; /* classes 230 and 220 */
    pil_buf in, out;
    pil_marks marks = {0};
    pil_buf_init(&in, 4 * PIL_MIB);
    pil_buf_init(&out, 4 * PIL_MIB);
    for (int i = 0; i < N; i++) pil_buf_append(&in, two[i & 1], 2);
    assert_int_equal(pil_unicode_normalize(&out, &marks, in.bytes, in.len, false, false), PILLION_OK);
    assert_int_equal(out.len, in.len);
    assert_memory_equal(out.bytes, "\u0316", 2);
    assert_memory_equal(out.bytes + out.len / 2 - 2, "\u0316\u0301", 4);
    pil_buf_deinit(&in);
    pil_buf_deinit(&out);
    pil_marks_deinit(&marks);
}

static void check_clusters(const char *s, const size_t *sizes) {
    size_t n = strlen(s), at = 0;
    for (size_t i = 0; sizes[i]; i++) {
        size_t got = pil_unicode_cluster(s + at, n - at);
        if (got != sizes[i]) fail_msg("cluster %zu of `%s` has %zu bytes, not %zu", i, s, got, sizes[i]);
        at += got;
    }
    assert_int_equal(at, n);
}
#define CLUSTERS(s, ...) check_clusters((s), (const size_t[]){__VA_ARGS__, 0})

static void clusters_end_where_annex_29_says(void **state) {
    (void)state;
    CLUSTERS("ab", 1, 1);
    CLUSTERS("\r\n\n\r", 2, 1, 1);
    CLUSTERS("e\u0301\u0302x", 5, 1);
    CLUSTERS("\u0301a", 2, 1);
    CLUSTERS("a\u200d\u0903\n\u0301", 7, 1, 2);
    CLUSTERS("\u0600a", 3);
    CLUSTERS("\u1100\u1161\u11a8\u1100", 9, 3);
    CLUSTERS("\uac00\u11a8\uac01\u1161", 6, 3, 3);
    CLUSTERS("\U0001f1e6\U0001f1e7\U0001f1e8", 8, 4);
    CLUSTERS("\U0001f468\u200d\U0001f469\ufe0f\u200d\U0001f467x", 21, 1);
    CLUSTERS("a\u200d\U0001f469", 4, 4);
    CLUSTERS("\u0915\u094d\u0937\u0915", 9, 3);
    CLUSTERS("\u0915\u093c\u0937", 6, 3);
}

static void properties_beyond_the_table_are_runs(void **state) {
    (void)state;
    assert_true(pil_unicode_props(0xF0000) & PIL_U_DROP); /* private use */
    assert_false(pil_unicode_props(0x50000) & PIL_U_DROP);
    assert_int_equal(PIL_U_CLUSTER(pil_unicode_props(0xE0100)), PIL_CLUSTER_CONJUNCT_EXTEND); /* a variation selector */
    assert_int_equal(pil_unicode_props(PIL_UNICODE_RUNS), pil_unicode_props(PIL_UNICODE_RUNS + 1));
    assert_true(pil_unicode_is_white(0x3000));
    assert_false(pil_unicode_is_white(0x200B));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(normal_forms_decompose_order_and_compose),
        cmocka_unit_test(hangul_is_computed),
        cmocka_unit_test(many_marks_are_sorted_in_linear_time),
        cmocka_unit_test(clusters_end_where_annex_29_says),
        cmocka_unit_test(properties_beyond_the_table_are_runs),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
