/* test_json_values.c - values in, documents that are refused, strings and values out. Exact offsets of errors, and
 * floats, are in test_json.c. */
#include <stdlib.h>

#include "base/json.h"
#include "base/limits.h"
#include "support/files.h"
#include "support/test.h"

static pil_json *parse(const char *text) {
    pil_json *v;
    pillion_error err = {0};
    assert_ok(pil_json_parse(&v, text, strlen(text), NULL, &err), err);
    return v;
}

static void every_type_is_read_and_wrong_types_give_the_fallback(void **state) {
    (void)state;
    pil_json *root =
        parse(" {\"n\":null,\"b\":true,\"i\":-7,\"r\":2.5,\"w\":3.0,\"s\":\"x\\u00e9\\n\",\"a\":[1,[2]],\"o\":{}} ");
    assert_int_equal(pil_json_typeof(root), PIL_JSON_OBJECT);
    assert_int_equal(pil_json_count(root), 8);
    assert_int_equal(pil_json_typeof(pil_json_get(root, "n")), PIL_JSON_NULL);
    assert_true(pil_json_bool_or(pil_json_get(root, "b"), false));
    assert_int_equal(pil_json_int_or(pil_json_get(root, "i"), 0), -7);
    assert_true(pil_json_real_or(pil_json_get(root, "i"), 0) == -7.0);
    assert_true(pil_json_real_or(pil_json_get(root, "r"), 0) == 2.5);
    assert_int_equal(pil_json_int_or(pil_json_get(root, "r"), 99), 99);
    assert_int_equal(pil_json_int_or(pil_json_get(root, "w"), 99), 3);
    size_t n;
    assert_string_equal(pil_json_string(pil_json_get(root, "s"), &n), "x\xC3\xA9\n");
    assert_int_equal(n, 4);
    const pil_json *a = pil_json_get(root, "a");
    assert_int_equal(pil_json_int_or(pil_json_at(pil_json_at(a, 1), 0), 0), 2);
    assert_null(pil_json_at(a, 2));
    assert_null(pil_json_at(root, 0));
    assert_null(pil_json_get(a, "x"));
    assert_null(pil_json_get(root, "missing"));
    assert_int_equal(pil_json_count(pil_json_get(root, "i")), 0);
    assert_null(pil_json_string(a, &n));
    assert_int_equal(n, 0);
    assert_string_equal(pil_json_string_or(a, "other"), "other");
    assert_true(pil_json_bool_or(a, true));
    assert_true(pil_json_real_or(a, 1.5) == 1.5);
    assert_int_equal(pil_json_typeof(NULL), PIL_JSON_NULL);
    assert_int_equal(pil_json_int_or(NULL, 4), 4);
    assert_null(pil_json_first(a));
    assert_null(pil_json_first(NULL));
    pil_json_free(root);
    pil_json_free(NULL);
}

static void objects_are_walked_in_document_order(void **state) {
    (void)state;
    pil_json *root = parse("{\"zz\":0,\"a\":1,\"m\":2,\"\":3}");
    static const char *const keys[] = {"zz", "a", "m", ""};
    int64_t i = 0;
    for (void *it = pil_json_first(root); it; it = pil_json_next(root, it), i++) {
        size_t n;
        assert_string_equal(pil_json_key(it, &n), keys[i]);
        assert_int_equal(n, strlen(keys[i]));
        assert_int_equal(pil_json_int_or(pil_json_value(it), -1), i);
    }
    assert_int_equal(i, 4);
    pil_json_free(root);
}

static void strings_may_hold_nul(void **state) {
    (void)state;
    pil_json *root = parse("[\"a\\u0000b\"]");
    size_t n;
    const char *s = pil_json_string(pil_json_at(root, 0), &n);
    assert_int_equal(n, 3);
    assert_memory_equal(s, "a\0b", 4);
    pil_json_free(root);
}

static void malformed_documents_are_refused_with_their_offset(void **state) {
    (void)state;
    static const struct {
        const char *text;
        size_t n;
        size_t least, most; /* offset of the complaint */
        const char *says;
    } cases[] = {
        {"", 0, 0, 0, ""},
        {"   ", 3, 0, 3, ""},
        {"{", 1, 1, 1, ""},
        {"[1,]", 4, 3, 4, ""},
        {"[1 2]", 5, 3, 4, ""},
        {"{\"a\":1,}", 8, 7, 8, ""},
        {"{a:1}", 5, 1, 2, ""},
        {"{'a':1}", 7, 1, 2, ""},
        {"[01]", 4, 1, 3, ""},
        {"[+1]", 4, 1, 2, ""},
        {"[.5]", 4, 1, 2, ""},
        {"[1.]", 4, 1, 4, ""},
        {"[NaN]", 5, 1, 4, ""},
        {"[Infinity]", 10, 1, 9, ""},
        {"[tru]", 5, 1, 4, ""},
        {"[] []", 5, 2, 4, ""},
        {"[]x", 3, 2, 3, ""},
        {"// c\n[]", 7, 0, 2, ""},
        {"[\"a\nb\"]", 7, 1, 5, ""},
        {"[\"\\x\"]", 6, 1, 5, ""},
        {"[\"\\u12G4\"]", 10, 1, 9, ""},
        {"[\"\\ud800\"]", 10, 1, 9, ""},
        {"[\"\\ud800\\u0041\"]", 16, 1, 15, ""},
        {"[\"\\udc00\"]", 10, 1, 9, ""},
        {"[\"\xFF\"]", 5, 2, 2, "UTF-8"},
        {"[\"ab\xED\xA0\x80\"]", 9, 4, 4, "UTF-8"},
        {"[\"\xC0\x80\"]", 6, 2, 2, "UTF-8"},
        {"{\"a\":1,\"b\":2,\"a\":3}", 19, 13, 17, "duplicate"},
        {"{\"a\":{\"x\":1,\"x\":1}}", 19, 12, 16, "duplicate"},
        {"{\"a\\u0000\":1}", 13, 1, 11, ""},
        {"[1e400]", 7, 1, 7, ""},
        {"[\"open", 6, 1, 6, ""},
        {"[]\0", 3, 2, 3, ""},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char *exact = malloc(cases[i].n ? cases[i].n : 1); /* of exact size, for sanitizers to see an over-read */
        memcpy(exact, cases[i].text, cases[i].n);
        pil_json *v;
        size_t offset = 9999;
        pillion_error err = {0};
        pillion_status st = pil_json_parse(&v, exact, cases[i].n, &offset, &err);
        if (st != PILLION_E_FORMAT || v || !strstr(err.text, cases[i].says) || !err.text[0] ||
            offset < cases[i].least || offset > cases[i].most)
            fail_msg("case %zu (%s): status %d, offset %zu, \"%s\"", i, cases[i].text, st, offset, err.text);
        free(exact);
    }
}

static void messages_never_echo_the_document(void **state) {
    (void)state;
    static const char text[] = "{\"key\": secretword}";
    pil_json *v;
    pillion_error err = {0};
    assert_int_equal(pil_json_parse(&v, text, strlen(text), NULL, &err), PILLION_E_FORMAT);
    assert_null(strstr(err.text, "secretword"));
}

static void nesting_is_bounded_and_brackets_in_strings_do_not_count(void **state) {
    (void)state;
    char text[512];
    for (int depth = 30; depth < 36; depth++) {
        memset(text, '[', (size_t)depth);
        memset(text + depth, ']', (size_t)depth);
        pil_json *v;
        size_t offset = 0;
        pillion_error err = {0};
        pillion_status st = pil_json_parse(&v, text, 2 * (size_t)depth, &offset, &err);
        assert_int_equal(st, depth > PIL_LIMIT_JSON_DEPTH ? PILLION_E_FORMAT : PILLION_OK);
        if (st) assert_int_equal(offset, PIL_LIMIT_JSON_DEPTH);
        pil_json_free(v);
    }
    pil_json_free(parse("[\"[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[\\\"[[[[[[[[[[[[[[[[[[\"]"));
    size_t deep = 10 * 1000 * 1000; /* far beyond any stack */
    char *hostile = malloc(deep);
    memset(hostile, '[', deep);
    pil_json *v;
    assert_int_equal(pil_json_parse(&v, hostile, deep, NULL, NULL), PILLION_E_FORMAT);
    free(hostile);
}

static void whole_numbers_beyond_64_bits_become_reals(void **state) {
    (void)state;
    pil_json *root = parse("[1000000000000000019884624838656, 9223372036854775807, -9223372036854775808]");
    assert_true(pil_json_real_or(pil_json_at(root, 0), 0) == 1e30);
    assert_int_equal(pil_json_int_or(pil_json_at(root, 0), 5), 5);
    pil_json_free(root);
    root = parse("[9223372036854775807, -9223372036854775808]");
    assert_true(pil_json_int_or(pil_json_at(root, 0), 0) == INT64_MAX);
    assert_true(pil_json_int_or(pil_json_at(root, 1), 0) == INT64_MIN);
    pil_json_free(root);
}

static void files_are_loaded_and_their_errors_name_them(void **state) {
    (void)state;
    char dir[PIL_TEST_PATH], path[PIL_TEST_PATH];
    pil_json *v;
    pillion_error err = {0};
    pil_test_dir_make(dir);
    pil_test_write_text(dir, "x.json", "{\"a\":[1,2}");
    pil_test_path(path, dir, "x.json");
    assert_int_equal(pil_json_load(&v, path, 100, 9, &err), PILLION_E_FORMAT);
    assert_error(err, PILLION_E_FORMAT, "x.json: byte ");
    err = (pillion_error){0};
    assert_int_equal(pil_json_load(&v, path, 9, 9, &err), PILLION_E_LIMIT);
    pil_test_write_text(dir, "x.json", "{\"a\":[1,2]}");
    err = (pillion_error){0};
    assert_ok(pil_json_load(&v, path, 100, 9, &err), err);
    assert_int_equal(pil_json_count(pil_json_get(v, "a")), 2);
    pil_json_free(v);
    assert_int_equal(pil_json_load(&v, path, 100, 3, &err), PILLION_E_LIMIT);
    assert_error(err, PILLION_E_LIMIT, "x.json: 5 values or more, the limit is 3");
    pil_test_dir_remove(dir);
    err = (pillion_error){0};
    assert_int_equal(pil_json_load(&v, path, 100, 9, &err), PILLION_E_NOT_FOUND);
    assert_null(v);
}

static void written_strings_are_escaped_and_read_back_the_same(void **state) {
    (void)state;
    char all[300];
    size_t n = 0;
    for (int c = 0; c < 128; c++) all[n++] = (char)c;
    memcpy(all + n, "caf\xC3\xA9 \xF0\x9F\x90\xA6", 10);
    n += 10;
    pil_buf b;
    pil_buf_init(&b, 4096);
    assert_int_equal(pil_json_put_string(&b, all, n), PILLION_OK);
    for (size_t i = 0; i < b.len; i++) assert_true((unsigned char)b.bytes[i] >= 0x20 && b.bytes[i] != 0x7F);
    pil_json *v;
    pillion_error err = {0};
    assert_ok(pil_json_parse(&v, b.bytes, b.len, NULL, &err), err);
    size_t back;
    const char *s = pil_json_string(v, &back);
    assert_int_equal(back, n);
    assert_memory_equal(s, all, n);
    pil_json_free(v);
    pil_buf_deinit(&b);
}

static void arrays_of_floats_are_written_whole(void **state) {
    (void)state;
    pil_buf b;
    pil_buf_init(&b, 1000);
    pil_json_put_f32_array(&b, (float[]){1.5f, -2.5f, 0.25f}, 3);
    assert_string_equal(pil_buf_cstr(&b), "[1.5,-2.5,0.25]");
    pil_buf_clear(&b);
    pil_json_put_f32_array(&b, NULL, 0);
    assert_string_equal(pil_buf_cstr(&b), "[]");
    pil_buf_deinit(&b);
}

static void a_parsed_value_is_written_compactly(void **state) {
    (void)state;
    pil_json *v = parse(" { \"b\" : [ 1 , 2.5 , null , true ] , \"a\" : \"x\\ty\" } ");
    pil_buf b;
    pil_buf_init(&b, 1000);
    assert_int_equal(pil_json_put(&b, v), PILLION_OK);
    assert_string_equal(pil_buf_cstr(&b), "{\"b\":[1,2.5,null,true],\"a\":\"x\\ty\"}");
    pil_buf_clear(&b);
    assert_int_equal(pil_json_put(&b, NULL), PILLION_OK);
    assert_string_equal(pil_buf_cstr(&b), "null");
    pil_buf_deinit(&b);
    pil_buf_init(&b, 10);
    assert_int_equal(pil_json_put(&b, v), PILLION_E_LIMIT);
    pil_buf_deinit(&b);
    pil_json_free(v);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_type_is_read_and_wrong_types_give_the_fallback),
        cmocka_unit_test(objects_are_walked_in_document_order),
        cmocka_unit_test(strings_may_hold_nul),
        cmocka_unit_test(malformed_documents_are_refused_with_their_offset),
        cmocka_unit_test(messages_never_echo_the_document),
        cmocka_unit_test(nesting_is_bounded_and_brackets_in_strings_do_not_count),
        cmocka_unit_test(whole_numbers_beyond_64_bits_become_reals),
        cmocka_unit_test(files_are_loaded_and_their_errors_name_them),
        cmocka_unit_test(written_strings_are_escaped_and_read_back_the_same),
        cmocka_unit_test(arrays_of_floats_are_written_whole),
        cmocka_unit_test(a_parsed_value_is_written_compactly),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
