/* test_safetensors.c - reading safetensors: good files are read exactly, hostile ones are refused with a reason. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/clock.h"
#include "support/files.h"
#include "support/test.h"
#include "weights/safetensors.h"

/* A file from a header text and n data bytes, in a heap block of exactly its size. */
static unsigned char *make_file(const char *header, size_t data_bytes, size_t *n) {
    size_t length = strlen(header);
    *n = 8 + length + data_bytes;
    unsigned char *file = malloc(*n);
    assert_non_null(file);
    for (size_t i = 0; i < 8; i++) file[i] = (unsigned char)((uint64_t)length >> (8 * i));
    memcpy(file + 8, header, length);
    for (size_t i = 0; i < data_bytes; i++) file[8 + length + i] = (unsigned char)i;
    return file;
}

static pillion_error open_header(const char *header, size_t data_bytes) {
    size_t n;
    unsigned char *file = make_file(header, data_bytes, &n);
    pil_safetensors *s;
    pillion_error err = {0};
    pillion_status st = pil_safetensors_open_memory(&s, file, n, &err);
    assert_int_equal(st, err.code);
    if (st) assert_null(s);
    pil_safetensors_close(s);
    free(file);
    return err;
}

static void tensors_are_found_by_name_and_in_order_of_offset(void **state) {
    (void)state;
    size_t n;
    unsigned char *file = make_file("{\"b\":{\"dtype\":\"F32\",\"shape\":[2,3],\"data_offsets\":[4,28]},"
                                    "\"__metadata__\":{\"format\":\"pt\"},"
                                    "\"a\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[0,4]}}  ",
                                    28, &n);
    pil_safetensors *s;
    pillion_error err = {0};
    assert_ok(pil_safetensors_open_memory(&s, file, n, &err), err);
    assert_int_equal(pil_safetensors_count(s), 2);
    assert_string_equal(pil_safetensors_at(s, 0)->name, "a");
    const pil_tensor *b = pil_safetensors_find(s, "b");
    assert_ptr_equal(b, pil_safetensors_at(s, 1));
    assert_int_equal(b->dtype, PIL_DTYPE_F32);
    assert_int_equal(b->n_dims, 2);
    assert_int_equal(b->dims[0], 2);
    assert_int_equal(b->dims[1], 3);
    assert_int_equal(b->count, 6);
    assert_int_equal(b->bytes, 24);
    assert_int_equal(*(const unsigned char *)b->data, 4);
    assert_null(pil_safetensors_find(s, "c"));
    assert_string_equal(pil_safetensors_metadata(s, "format"), "pt");
    assert_null(pil_safetensors_metadata(s, "other"));
    size_t all, data_offset;
    assert_ptr_equal(pil_safetensors_bytes(s, &all, &data_offset), file);
    assert_int_equal(all, n);
    assert_int_equal(data_offset, n - 28);
    pil_safetensors_close(s);
    free(file);
}

static void files_without_tensors_scalars_and_empty_tensors_are_valid(void **state) {
    (void)state;
    assert_int_equal(open_header("{}", 0).code, PILLION_OK);
    assert_int_equal(open_header("{\"s\":{\"dtype\":\"F32\",\"shape\":[],\"data_offsets\":[0,4]}}", 4).code,
                     PILLION_OK);
    assert_int_equal(open_header("{\"s\":{\"dtype\":\"F32\",\"shape\":[0,7],\"data_offsets\":[0,0]},"
                                 "\"t\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]},"
                                 "\"u\":{\"dtype\":\"F32\",\"shape\":[3,0],\"data_offsets\":[4,4]}}",
                                 4).code, PILLION_OK);
}

static void types_not_used_here_are_sized_like_the_others(void **state) {
    (void)state;
    assert_int_equal(open_header("{\"a\":{\"dtype\":\"F8_E4M3\",\"shape\":[3],\"data_offsets\":[0,3]},"
                                 "\"b\":{\"dtype\":\"F4\",\"shape\":[4],\"data_offsets\":[3,5]},"
                                 "\"c\":{\"dtype\":\"C64\",\"shape\":[1],\"data_offsets\":[5,13]}}",
                                 13).code, PILLION_OK);
    pillion_error err = open_header("{\"b\":{\"dtype\":\"F4\",\"shape\":[3],\"data_offsets\":[0,1]}}", 1);
    assert_error(err, PILLION_E_FORMAT, "shape and dtype need");
}

#define TENSOR(name, dtype, shape, offsets) \
    "\"" name "\":{\"dtype\":\"" dtype "\",\"shape\":" shape ",\"data_offsets\":" offsets "}"
#define ONE(dtype, shape, offsets) "{" TENSOR("x", dtype, shape, offsets) "}"

static void hostile_headers_are_refused_with_a_reason(void **state) {
    (void)state;
    static const struct {
        const char *header;
        size_t data_bytes;
        const char *reason;
    } cases[] = {
        {"", 4, "no '{'"},
        {" {}", 0, "no '{'"},
        {"[]", 0, "no '{'"},
        {"{", 0, "header, byte"},
        {"{}x", 0, "header, byte"},
        {"{\"x\":1}", 0, "not an object"},
        {"{\"x\":\xff}", 0, "invalid UTF-8"},
        {"{\"__metadata__\":[]}", 0, "not an object"},
        {"{\"__metadata__\":{\"a\":1}}", 0, "not a string"},
        {"{\"__metadata__\":{\"a\":\"1\",\"a\":\"2\"}}", 0, "duplicate"},
        {"{" TENSOR("x", "U8", "[1]", "[0,1]") "," TENSOR("x", "U8", "[1]", "[1,2]") "}", 2, "duplicate"},
        {ONE("F31", "[1]", "[0,4]"), 4, "\"F31\" is unknown"},
        {ONE("f32", "[1]", "[0,4]"), 4, "is unknown"},
        {"{\"x\":{\"dtype\":7,\"shape\":[1],\"data_offsets\":[0,4]}}", 4, "is unknown"},
        {"{\"x\":{\"shape\":[1],\"data_offsets\":[0,4]}}", 4, "is unknown"},
        {"{\"x\":{\"dtype\":\"F32\",\"data_offsets\":[0,4]}}", 4, "shape is not an array"},
        {ONE("F32", "{}", "[0,4]"), 4, "shape is not an array"},
        {ONE("F32", "[-1]", "[0,4]"), 4, "shape is not of sizes"},
        {ONE("F32", "[1.5]", "[0,4]"), 4, "shape is not of sizes"},
        {ONE("F32", "[1.0]", "[0,4]"), 4, "shape is not of sizes"},
        {ONE("F32", "[\"1\"]", "[0,4]"), 4, "shape is not of sizes"},
        {ONE("F32", "[99999999999999999999]", "[0,4]"), 4, "shape is not of sizes"},
        {ONE("F32", "[4611686018427387905,4]", "[0,4]"), 4, "overflows"},
        {ONE("F32", "[4294967296,4294967296]", "[0,0]"), 0, "overflows"},
        {ONE("F32", "[4611686018427387904]", "[0,0]"), 0, "overflows"},
        {ONE("F32", "[1,1,1,1,1,1,1,1,1]", "[0,4]"), 4, "9 dimensions"},
        {"{\"x\":{\"dtype\":\"F32\",\"shape\":[1]}}", 4, "data_offsets is not"},
        {ONE("F32", "[1]", "[0]"), 4, "data_offsets is not"},
        {ONE("F32", "[1]", "[0,4,8]"), 4, "data_offsets is not"},
        {ONE("F32", "[1]", "[4,0]"), 4, "data_offsets is not"},
        {ONE("F32", "[1]", "[-4,0]"), 4, "data_offsets is not"},
        {ONE("F32", "[1]", "[0,5]"), 4, "beyond the end"},
        {ONE("F32", "[1]", "[9223372036854775803,9223372036854775807]"), 4, "beyond the end"},
        {ONE("F32", "[2]", "[0,4]"), 4, "need 8 bytes, data_offsets has 4"},
        {ONE("F32", "[1]", "[4,8]"), 8, "hole"},
        {ONE("F32", "[1]", "[0,4]"), 5, "1 bytes behind the last tensor"},
        {"{}", 1, "1 bytes behind the last tensor"},
        {"{" TENSOR("x", "U8", "[4]", "[0,4]") "," TENSOR("y", "U8", "[4]", "[3,7]") "}", 7, "overlaps"},
        {"{" TENSOR("x", "U8", "[4]", "[0,4]") "," TENSOR("y", "U8", "[4]", "[0,4]") "}", 4, "overlaps"},
        {"{" TENSOR("x", "U8", "[4]", "[0,4]") "," TENSOR("y", "U8", "[4]", "[5,9]") "}", 9, "hole"},
        {"{\"x\":[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[0]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]}", 0,
         "nested deeper"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        pillion_error err = open_header(cases[i].header, cases[i].data_bytes);
        if (!err.code || !strstr(err.text, cases[i].reason))
            fail_msg("case %zu (%s): wanted \"%s\", got \"%s\"", i, cases[i].header, cases[i].reason, err.text);
    }
}

static void wrong_header_sizes_are_refused(void **state) {
    (void)state;
    static const uint64_t sizes[] = {0,        1, 3, 100, 1000000, 100000000, 100000001, UINT64_MAX, UINT64_MAX - 7,
                                     INT64_MAX};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        size_t n;
        unsigned char *file = make_file("{}", 0, &n);
        memcpy(file, &sizes[i], 8);
        pil_safetensors *s;
        pillion_error err = {0};
        assert_int_equal(pil_safetensors_open_memory(&s, file, n, &err), PILLION_E_FORMAT);
        assert_null(s);
        free(file);
    }
}

static const char two_tensors[] = "{\"__metadata__\":{\"k\":\"v\"}," TENSOR("x", "F32", "[2,2]", "[0,16]") "," TENSOR(
    "layer.0.weight", "F16", "[3]", "[16,22]") "}";

static void every_truncation_is_refused(void **state) {
    (void)state;
    size_t n;
    unsigned char *file = make_file(two_tensors, 22, &n);
    for (size_t cut = 0; cut < n; cut++) {
        unsigned char *part = malloc(cut ? cut : 1);
        memcpy(part, file, cut);
        pil_safetensors *s;
        pillion_error err = {0};
        assert_int_equal(pil_safetensors_open_memory(&s, part, cut, &err), PILLION_E_FORMAT);
        assert_true(err.text[0] != '\0');
        free(part);
    }
    free(file);
}

/* A changed byte may leave a valid file (a name, a metadata value) but never a tensor outside the file. */
static void every_changed_byte_leaves_all_tensors_inside(void **state) {
    (void)state;
    size_t n;
    unsigned char *file = make_file(two_tensors, 22, &n);
    for (size_t i = 0; i < n - 22; i++) {
        unsigned char old = file[i];
        for (unsigned value = 0; value < 256; value++) {
            file[i] = (unsigned char)value;
            pil_safetensors *s;
            if (pil_safetensors_open_memory(&s, file, n, NULL)) continue;
            size_t sum = 0;
            for (size_t t = 0; t < pil_safetensors_count(s); t++) {
                const pil_tensor *x = pil_safetensors_at(s, t);
                const unsigned char *begin = x->data;
                assert_true(begin >= file && begin + x->bytes <= file + n);
                sum += x->bytes;
            }
            assert_int_equal(sum, 22);
            pil_safetensors_close(s);
        }
        file[i] = old;
    }
    free(file);
}

static void the_path_stands_in_every_error_of_a_file(void **state) {
    (void)state;
    char dir[PIL_TEST_PATH], path[PIL_TEST_PATH];
    pil_test_dir_make(dir);
    pil_test_path(path, dir, "x.safetensors");
    pil_safetensors *s;
    pillion_error err = {0};
    assert_int_equal(pil_safetensors_open(&s, path, &err), PILLION_E_NOT_FOUND);
    assert_non_null(strstr(err.text, path));
    assert_null(s);
    pil_test_write(dir, "x.safetensors", "", 0);
    err = (pillion_error){0};
    assert_int_equal(pil_safetensors_open(&s, path, &err), PILLION_E_FORMAT);
    assert_non_null(strstr(err.text, path));
    pil_test_write_text(dir, "x.safetensors", "This is no tensor file at all.");
    err = (pillion_error){0};
    assert_int_equal(pil_safetensors_open(&s, path, &err), PILLION_E_FORMAT);
    assert_error(err, PILLION_E_FORMAT, "x.safetensors: not a safetensors file");
    pil_test_dir_remove(dir);
}

static unsigned char *make_many(int n_tensors, size_t *n) {
    char *header = NULL;
    size_t header_bytes;
    FILE *f = open_memstream(&header, &header_bytes);
    fprintf(f, "{\"__metadata__\":{\"format\":\"pt\"}");
    for (int i = 0; i < n_tensors; i++)
        fprintf(f, ",\"roberta.encoder.layer.%d.attention.output.LayerNorm.weight\":{\"dtype\":\"F32\",\"shape\":"
                   "[1,2],\"data_offsets\":[%d,%d]}", i, 8 * i, 8 * i + 8);
    fprintf(f, "}");
    fclose(f);
    unsigned char *file = make_file(header, 8 * (size_t)n_tensors, n);
    free(header);
    return file;
}

static double open_ms(const unsigned char *file, size_t n, size_t n_tensors) {
    uint64_t begin = pil_clock_ns();
    pil_safetensors *s;
    pillion_error err = {0};
    assert_ok(pil_safetensors_open_memory(&s, file, n, &err), err);
    assert_int_equal(pil_safetensors_count(s), n_tensors);
    pil_safetensors_close(s);
    return pil_clock_ms(begin);
}

/* In turns, so that both see the same machine; the best of each counts. */
static void the_time_to_open_grows_as_the_number_of_tensors(void **state) {
    (void)state;
    size_t few_bytes, many_bytes;
    unsigned char *few = make_many(200, &few_bytes), *many = make_many(4000, &many_bytes);
    double few_ms = 1e9, many_ms = 1e9;
    for (int round = 0; round < 20; round++) {
        few_ms = fmin(few_ms, open_ms(few, few_bytes, 200));
        many_ms = fmin(many_ms, open_ms(many, many_bytes, 4000));
    }
    free(few);
    free(many);
    print_message("200 tensors open in %.3f ms, 4,000 in %.3f ms\n", few_ms, many_ms);
    assert_true(many_ms < 100 * few_ms); /* 20 times is in proportion, 400 times is its square */
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(tensors_are_found_by_name_and_in_order_of_offset),
        cmocka_unit_test(files_without_tensors_scalars_and_empty_tensors_are_valid),
        cmocka_unit_test(types_not_used_here_are_sized_like_the_others),
        cmocka_unit_test(hostile_headers_are_refused_with_a_reason),
        cmocka_unit_test(wrong_header_sizes_are_refused),
        cmocka_unit_test(every_truncation_is_refused),
        cmocka_unit_test(every_changed_byte_leaves_all_tensors_inside),
        cmocka_unit_test(the_path_stands_in_every_error_of_a_file),
        cmocka_unit_test(the_time_to_open_grows_as_the_number_of_tensors),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
