/* test_writer.c - what is written is a valid, aligned file that appears all at once. */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <unistd.h>

#include "base/file.h"
#include "base/sha256.h"
#include "support/files.h"
#include "support/test.h"
#include "weights/safetensors.h"

static pil_safetensors_writer *start(const char *path) {
    pil_safetensors_writer *w;
    pillion_error err = {0};
    assert_ok(pil_safetensors_writer_create(&w, path, &err), err);
    return w;
}

static void declare(pil_safetensors_writer *w, const char *name, pil_dtype dtype, uint64_t rows, uint64_t columns) {
    pillion_error err = {0};
    const uint64_t dims[] = {rows, columns};
    assert_ok(pil_safetensors_writer_declare(w, name, dtype, 2, dims, &err), err);
}

static void written_tensors_are_read_back_aligned_with_pads_between(void **state) {
    (void)state;
    char dir[PIL_TEST_PATH], path[PIL_TEST_PATH];
    pil_test_dir_make(dir);
    pil_test_path(path, dir, "m.safetensors");
    pil_safetensors_writer *w = start(path);
    pillion_error err = {0};
    assert_ok(pil_safetensors_writer_metadata(w, "who", "a \"quoted\" é\n", &err), err);
    declare(w, "odd", PIL_DTYPE_F32, 3, 5);
    declare(w, "bytes", PIL_DTYPE_U8, 1, 65);
    declare(w, "even", PIL_DTYPE_F32, 4, 16);
    declare(w, "none", PIL_DTYPE_F32, 0, 16);
    assert_ok(pil_safetensors_writer_layout(w, &err), err);
    float *even = pil_safetensors_writer_data(w, 2), *odd = pil_safetensors_writer_data(w, 0);
    for (int i = 0; i < 64; i++) even[i] = (float)i; /* in any order */
    for (int i = 0; i < 15; i++) odd[i] = (float)-i;
    memset(pil_safetensors_writer_data(w, 1), 7, 65);
    assert_false(pil_file_exists(path));
    assert_ok(pil_safetensors_writer_commit(w, &err), err);

    pil_safetensors *s;
    assert_ok(pil_safetensors_open(&s, path, &err), err);
    size_t n, data_offset;
    pil_safetensors_bytes(s, &n, &data_offset);
    assert_int_equal(data_offset % 4096, 0);
    assert_int_equal(n % 64, 0);
    assert_string_equal(pil_safetensors_metadata(s, "who"), "a \"quoted\" é\n");
    for (size_t i = 0; i < pil_safetensors_count(s); i++) {
        const pil_tensor *t = pil_safetensors_at(s, i);
        if (strncmp(t->name, "__pad.", 6) != 0) {
            assert_int_equal((uintptr_t)t->data % 64, 0);
            continue;
        }
        assert_int_equal(t->dtype, PIL_DTYPE_U8);
        for (size_t b = 0; b < t->bytes; b++) assert_int_equal(((const char *)t->data)[b], 0);
    }
    assert_memory_equal(pil_safetensors_find(s, "odd")->data, ((float[]){0, -1, -2}), 12);
    assert_int_equal(((const char *)pil_safetensors_find(s, "bytes")->data)[64], 7);
    assert_true(((const float *)pil_safetensors_find(s, "even")->data)[63] == 63.0f);
    assert_int_equal(pil_safetensors_find(s, "none")->bytes, 0);
    assert_int_equal(pil_safetensors_count(s), 4 + 2);
    pil_safetensors_close(s);
    pil_test_dir_remove(dir);
}

static void a_file_in_the_making_can_be_opened_and_its_digest_put_in(void **state) {
    (void)state;
    char dir[PIL_TEST_PATH], path[PIL_TEST_PATH], digest[PIL_SHA256_HEX];
    pil_test_dir_make(dir);
    pil_test_path(path, dir, "m.safetensors");
    pil_safetensors_writer *w = start(path);
    pillion_error err = {0};
    memset(digest, '0', 64);
    digest[64] = '\0';
    assert_ok(pil_safetensors_writer_metadata(w, "before", "x", &err), err);
    assert_ok(pil_safetensors_writer_metadata(w, "digest", digest, &err), err);
    declare(w, "t", PIL_DTYPE_F32, 1, 1);
    assert_ok(pil_safetensors_writer_layout(w, &err), err);
    *(float *)pil_safetensors_writer_data(w, 0) = 2.5f;

    size_t n, data_offset;
    const unsigned char *bytes = pil_safetensors_writer_bytes(w, &n, &data_offset);
    pil_safetensors *s;
    assert_ok(pil_safetensors_open_memory(&s, bytes, n, &err), err);
    assert_true(*(const float *)pil_safetensors_find(s, "t")->data == 2.5f);
    pil_safetensors_close(s);
    pil_sha256_of(bytes + data_offset, n - data_offset, digest);
    pil_safetensors_writer_patch(w, "digest", digest);
    assert_ok(pil_safetensors_writer_commit(w, &err), err);

    assert_ok(pil_safetensors_open(&s, path, &err), err);
    assert_string_equal(pil_safetensors_metadata(s, "digest"), digest);
    assert_string_equal(pil_safetensors_metadata(s, "before"), "x");
    pil_safetensors_close(s);
    pil_test_dir_remove(dir);
}

static size_t entries_of(const char *dir) {
    char command[PIL_TEST_PATH + 32];
    snprintf(command, sizeof command, "ls -A '%s' | wc -l", dir);
    FILE *p = popen(command, "r");
    size_t n = 99;
    assert_int_equal(fscanf(p, "%zu", &n), 1);
    pclose(p);
    return n;
}

static void abort_leaves_nothing_and_keeps_what_was_there(void **state) {
    (void)state;
    char dir[PIL_TEST_PATH], path[PIL_TEST_PATH];
    pil_test_dir_make(dir);
    pil_test_path(path, dir, "m.safetensors");
    pil_safetensors_writer_abort(start(path));
    assert_int_equal(entries_of(dir), 0);
    pil_test_write_text(dir, "m.safetensors", "old");
    pil_safetensors_writer *w = start(path);
    pillion_error err = {0};
    declare(w, "t", PIL_DTYPE_F32, 1, 1);
    assert_ok(pil_safetensors_writer_layout(w, &err), err);
    pil_safetensors_writer_abort(w);
    pil_safetensors_writer_abort(NULL);
    size_t n;
    char *old = pil_test_read(path, &n);
    assert_string_equal(old, "old");
    free(old);
    assert_int_equal(entries_of(dir), 1);
    pil_test_dir_remove(dir);
}

static void a_disk_without_room_is_an_error_of_layout(void **state) {
    (void)state;
    char dir[PIL_TEST_PATH], path[PIL_TEST_PATH];
    pil_test_dir_make(dir);
    pil_test_path(path, dir, "m.safetensors");
    pil_safetensors_writer *w = start(path);
    pillion_error err = {0};
    declare(w, "t", PIL_DTYPE_F32, 1024, 1024);
    struct rlimit old, small = {.rlim_cur = 1 << 20, .rlim_max = RLIM_INFINITY};
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &old), 0);
    small.rlim_max = old.rlim_max;
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
    void (*handler)(int) = signal(SIGXFSZ, SIG_IGN);
    pillion_status st = pil_safetensors_writer_layout(w, &err);
    setrlimit(RLIMIT_FSIZE, &old);
    signal(SIGXFSZ, handler);
    assert_int_equal(st, PILLION_E_IO);
    assert_error(err, PILLION_E_IO, "cannot reserve");
    pil_safetensors_writer_abort(w);
    assert_int_equal(entries_of(dir), 0);
    pil_test_dir_remove(dir);
}

static void impossible_sizes_and_places_are_refused(void **state) {
    (void)state;
    char dir[PIL_TEST_PATH], path[PIL_TEST_PATH];
    pil_test_dir_make(dir);
    pil_test_path(path, dir, "m.safetensors");
    pil_safetensors_writer *w = start(path);
    const uint64_t dims[] = {UINT64_MAX / 2, UINT64_MAX / 2};
    pillion_error err = {0};
    assert_int_equal(pil_safetensors_writer_declare(w, "t", PIL_DTYPE_F32, 2, dims, &err), PILLION_E_LIMIT);
    pil_safetensors_writer_abort(w);
    err = (pillion_error){0};
    assert_int_equal(pil_safetensors_writer_create(&w, "/no/such/place/m.safetensors", &err), PILLION_E_NOT_FOUND);
    assert_null(w);
    pil_test_dir_remove(dir);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(written_tensors_are_read_back_aligned_with_pads_between),
        cmocka_unit_test(a_file_in_the_making_can_be_opened_and_its_digest_put_in),
        cmocka_unit_test(abort_leaves_nothing_and_keeps_what_was_there),
        cmocka_unit_test(a_disk_without_room_is_an_error_of_layout),
        cmocka_unit_test(impossible_sizes_and_places_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
