/* test_checkpoint.c - one file or shards are one set of tensors; indexes that lie are refused. */
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/err.h"
#include "base/limits.h"
#include "support/files.h"
#include "support/test.h"
#include "weights/checkpoint.h"

/* Writes dir/name with the named F32 tensors of one element each, with values first, first + 1, … */
static void write_shard(const char *dir, const char *name, const char *const *tensors, float first) {
    char path[PIL_TEST_PATH];
    pil_test_path(path, dir, name);
    pil_safetensors_writer *w;
    pillion_error err = {0};
    assert_ok(pil_safetensors_writer_create(&w, path, &err), err);
    const uint64_t one = 1;
    size_t n = 0;
    for (; tensors[n]; n++) assert_ok(pil_safetensors_writer_declare(w, tensors[n], PIL_DTYPE_F32, 1, &one, &err), err);
    assert_ok(pil_safetensors_writer_layout(w, &err), err);
    for (size_t i = 0; i < n; i++) *(float *)pil_safetensors_writer_data(w, i) = first + (float)i;
    assert_ok(pil_safetensors_writer_commit(w, &err), err);
}

static float value_of(pil_checkpoint *c, const char *name) {
    const pil_tensor *t = pil_checkpoint_find(c, name);
    if (!t) fail_msg("no tensor %s", name);
    float v = 0;
    pillion_error err = {0};
    assert_ok(pil_checkpoint_read_f32(c, t, 0, 1, &v, &err), err);
    return v;
}

static pillion_error open_fails(const char *dir) {
    pil_checkpoint *c;
    pillion_error err = {0};
    assert_int_not_equal(pil_checkpoint_open(&c, dir, NULL, NULL, &err), PILLION_OK);
    assert_null(c);
    assert_int_not_equal(err.code, PILLION_OK);
    return err;
}

static const char *const in_one[] = {"a", "b", NULL};
static const char *const in_two[] = {"c", NULL};

/* Appends the names that are noted to a text of 256 bytes. */
static pillion_status see(void *ud, const char *name, pillion_error *err) {
    (void)err;
    char *seen = ud;
    snprintf(seen + strlen(seen), 256 - strlen(seen), "%s ", name);
    return PILLION_OK;
}

static void a_single_file_is_preferred_to_an_index(void **state) {
    (void)state;
    char dir[PIL_TEST_PATH];
    pil_test_dir_make(dir);
    write_shard(dir, "model.safetensors", in_one, 1);
    pil_test_write_text(dir, "model.safetensors.index.json", "{");
    pil_checkpoint *c;
    pillion_error err = {0};
    char seen[256] = "";
    assert_ok(pil_checkpoint_open(&c, dir, see, seen, &err), err);
    assert_string_equal(seen, "model.safetensors ");
    assert_true(value_of(c, "b") == 2.0f);
    pil_checkpoint_close(c);
    pil_test_dir_remove(dir);
}

static void shards_are_one_set_of_tensors(void **state) {
    (void)state;
    char dir[PIL_TEST_PATH];
    pil_test_dir_make(dir);
    write_shard(dir, "model-00001-of-00002.safetensors", in_one, 1);
    write_shard(dir, "model-00002-of-00002.safetensors", in_two, 3);
    pil_test_write_text(dir, "model.safetensors.index.json",
                        "{\"metadata\":{\"total_size\":12},\"weight_map\":{\"a\":\"model-00001-of-00002.safetensors\","
                        "\"c\":\"model-00002-of-00002.safetensors\",\"b\":\"model-00001-of-00002.safetensors\"}}");
    pil_checkpoint *c;
    pillion_error err = {0};
    char seen[256] = "";
    assert_ok(pil_checkpoint_open(&c, dir, see, seen, &err), err);
    assert_string_equal(seen, "model.safetensors model.safetensors.index.json model-00001-of-00002.safetensors "
                              "model-00002-of-00002.safetensors ");
    assert_true(value_of(c, "a") == 1.0f && value_of(c, "b") == 2.0f && value_of(c, "c") == 3.0f);
    assert_null(pil_checkpoint_find(c, "d"));
    assert_int_equal(pil_checkpoint_count(c), 3);
    assert_string_equal(pil_checkpoint_at(c, 2)->name, "c");
    pil_checkpoint_close(c);
    pil_test_dir_remove(dir);
}

/* Writes a file of tensors only when it is told of it. */
static pillion_status write_now(void *ud, const char *name, pillion_error *err) {
    (void)err;
    if (!strncmp(name, "late", 4)) write_shard(ud, name, in_one, 7);
    if (!strcmp(name, "model.safetensors.index.json"))
        pil_test_write_text(ud, name, "{\"weight_map\":{\"a\":\"late.safetensors\",\"b\":\"late.safetensors\"}}");
    return PILLION_OK;
}

static pillion_status refuse(void *ud, const char *name, pillion_error *err) {
    (void)ud;
    return strstr(name, "late") ? pil_err_set(err, PILLION_E_LIMIT, "enough") : PILLION_OK;
}

static void every_file_is_told_of_before_it_is_looked_for(void **state) {
    (void)state;
    char dir[PIL_TEST_PATH];
    pil_test_dir_make(dir);
    pil_checkpoint *c;
    pillion_error err = {0};
    assert_ok(pil_checkpoint_open(&c, dir, write_now, dir, &err), err);
    assert_true(value_of(c, "b") == 8.0f);
    pil_checkpoint_close(c);
    assert_int_equal(pil_checkpoint_open(&c, dir, refuse, NULL, &err), PILLION_E_LIMIT);
    assert_error(err, PILLION_E_LIMIT, "enough");
    assert_null(c);
    pil_test_dir_remove(dir);
}

static void indexes_that_lie_are_refused(void **state) {
    (void)state;
    static const struct {
        const char *index, *reason;
    } cases[] = {
        {"[]", "no \"weight_map\""},
        {"{}", "no \"weight_map\""},
        {"{\"weight_map\":{}}", "no \"weight_map\""},
        {"{\"weight_map\":{\"a\":1}}", "not a plain file name"},
        {"{\"weight_map\":{\"a\":\"\"}}", "not a plain file name"},
        {"{\"weight_map\":{\"a\":\"..\"}}", "not a plain file name"},
        {"{\"weight_map\":{\"a\":\"../one.safetensors\"}}", "not a plain file name"},
        {"{\"weight_map\":{\"a\":\"/one.safetensors\"}}", "not a plain file name"},
        {"{\"weight_map\":{\"a\":\"x/one.safetensors\"}}", "not a plain file name"},
        {"{\"weight_map\":{\"a\":\"missing.safetensors\"}}", "missing.safetensors"},
        {"{\"weight_map\":{\"a\":\".\"}}", "not a regular file"},
        {"{\"weight_map\":{\"c\":\"one.safetensors\"}}", "\"c\" is not in one.safetensors"},
        {"{\"weight_map\":{\"c\":\"one.safetensors\",\"a\":\"two.safetensors\"}}", "where the index says"},
        {"{\"weight_map\":{\"a\":\"one.safetensors\",\"b\":\"same.safetensors\"}}", "in two shards"},
        {"{\"weight_map\":{\"a\":\"one.safetensors\",\"a\":\"one.safetensors\"}}", "duplicate"},
        {"{\"weight_map\":", "index.json"},
    };
    char dir[PIL_TEST_PATH];
    pil_test_dir_make(dir);
    static const char *const unpadded[] = {"a", NULL};
    write_shard(dir, "one.safetensors", in_one, 1);
    write_shard(dir, "two.safetensors", in_two, 3);
    write_shard(dir, "same.safetensors", unpadded, 3);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        pil_test_write_text(dir, "model.safetensors.index.json", cases[i].index);
        pillion_error err = open_fails(dir);
        if (!strstr(err.text, cases[i].reason))
            fail_msg("case %zu (%s): wanted \"%s\", got \"%s\"", i, cases[i].index, cases[i].reason, err.text);
    }
    pil_test_dir_remove(dir);
}

static void weights_are_read_in_pieces_and_only_from_the_file_that_was_opened(void **state) {
    (void)state;
    char dir[PIL_TEST_PATH], path[PIL_TEST_PATH];
    pil_test_dir_make(dir);
    pil_test_path(path, dir, "model.safetensors");
    const uint64_t count = 300001; /* more than a piece, and not a multiple of one */
    pil_safetensors_writer *w;
    pillion_error err = {0};
    assert_ok(pil_safetensors_writer_create(&w, path, &err), err);
    assert_ok(pil_safetensors_writer_declare(w, "x", PIL_DTYPE_F64, 1, &count, &err), err);
    assert_ok(pil_safetensors_writer_layout(w, &err), err);
    double *values = pil_safetensors_writer_data(w, 0);
    for (uint64_t i = 0; i < count; i++) values[i] = (double)i;
    assert_ok(pil_safetensors_writer_commit(w, &err), err);
    pil_checkpoint *c;
    assert_ok(pil_checkpoint_open(&c, dir, NULL, NULL, &err), err);
    const pil_tensor *t = pil_checkpoint_find(c, "x");
    float *out = calloc(count, sizeof *out);
    assert_true(t && out && !t->data);
    assert_ok(pil_checkpoint_read_f32(c, t, 1, count - 1, out, &err), err);
    for (uint64_t i = 0; i < count - 1; i++) assert_true(out[i] == (float)(i + 1));
    assert_int_equal(truncate(path, 100000), 0);
    assert_int_equal(pil_checkpoint_read_f32(c, t, 0, count, out, &err), PILLION_E_STALE);
    assert_error(err, PILLION_E_STALE, "model.safetensors: became shorter");
    pil_checkpoint_close(c);
    err = (pillion_error){0};
    assert_int_equal(pil_checkpoint_open(&c, dir, NULL, NULL, &err), PILLION_E_FORMAT);
    free(out);
    pil_test_dir_remove(dir);
}

static void an_index_of_endless_values_is_refused(void **state) {
    (void)state;
    char dir[PIL_TEST_PATH];
    pil_test_dir_make(dir);
    size_t n = 3 * (size_t)PIL_LIMIT_INDEX_VALUES;
    char *text = malloc(n + 1);
    assert_non_null(text);
    for (size_t i = 0; i < n; i += 3) memcpy(text + i, i ? ",[]" : "[[]", 3);
    text[n] = ']';
    pil_test_write(dir, "model.safetensors.index.json", text, n + 1);
    free(text);
    pillion_error err = open_fails(dir);
    assert_error(err, PILLION_E_LIMIT, "index.json: 524289 values or more, the limit is 262144");
    pil_test_dir_remove(dir);
}

/* An index of n tensors in n_files files. */
static void write_index(const char *dir, size_t n, size_t n_files) {
    char *text = NULL;
    size_t bytes;
    FILE *f = open_memstream(&text, &bytes);
    fprintf(f, "{\"weight_map\":{");
    for (size_t i = 0; i < n; i++) fprintf(f, "%s\"%zu\":\"%zu\"", i ? "," : "", i, i % n_files);
    fprintf(f, "}}");
    fclose(f);
    pil_test_write(dir, "model.safetensors.index.json", text, bytes);
    free(text);
}

static void an_index_of_too_many_tensors_or_files_is_refused_before_a_file_is_opened(void **state) {
    (void)state;
    char dir[PIL_TEST_PATH];
    pil_test_dir_make(dir);
    write_index(dir, PIL_LIMIT_TENSORS + 1, 1);
    pillion_error err = open_fails(dir);
    assert_error(err, PILLION_E_LIMIT, "index.json: 65537 tensors, the limit is 65536");
    write_index(dir, PIL_LIMIT_TENSORS, PIL_LIMIT_SHARDS + 1);
    err = open_fails(dir);
    assert_error(err, PILLION_E_LIMIT, "index.json: 1025 files, the limit is 1024");
    pil_test_dir_remove(dir);
}

static void what_is_missing_is_named_and_pickles_are_refused(void **state) {
    (void)state;
    char dir[PIL_TEST_PATH];
    pil_test_dir_make(dir);
    pillion_error err = open_fails(dir);
    assert_error(err, PILLION_E_NOT_FOUND, "neither model.safetensors nor");
    pil_test_write_text(dir, "pytorch_model.bin", "x");
    err = open_fails(dir);
    assert_error(err, PILLION_E_NOT_FOUND, "pickle");
    assert_error(err, PILLION_E_NOT_FOUND, "save_pretrained");
    pil_test_dir_remove(dir);
    err = open_fails(dir);
    assert_error(err, PILLION_E_NOT_FOUND, "no such directory");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_single_file_is_preferred_to_an_index),
        cmocka_unit_test(shards_are_one_set_of_tensors),
        cmocka_unit_test(every_file_is_told_of_before_it_is_looked_for),
        cmocka_unit_test(indexes_that_lie_are_refused),
        cmocka_unit_test(weights_are_read_in_pieces_and_only_from_the_file_that_was_opened),
        cmocka_unit_test(an_index_of_endless_values_is_refused),
        cmocka_unit_test(an_index_of_too_many_tensors_or_files_is_refused_before_a_file_is_opened),
        cmocka_unit_test(what_is_missing_is_named_and_pickles_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
