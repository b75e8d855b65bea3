/* test_file.c - reading, mapping, directories and paths. Writing is in test_file_writer.c. */
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <unistd.h>

#include "base/file.h"
#include "support/files.h"
#include "support/test.h"

static char dir[PIL_TEST_PATH], path[PIL_TEST_PATH];

static int make_dir(void **state) {
    (void)state;
    pil_test_dir_make(dir);
    pil_test_write(dir, "f", "a\0b\n", 4);
    pil_test_path(path, dir, "f");
    return 0;
}

static int remove_dir(void **state) {
    (void)state;
    pil_test_dir_remove(dir);
    return 0;
}

static void whole_files_are_read_up_to_the_limit(void **state) {
    (void)state;
    char *bytes;
    size_t n;
    pillion_error err = {0};
    assert_ok(pil_file_read(&bytes, &n, path, 4, &err), err);
    assert_int_equal(n, 4);
    assert_memory_equal(bytes, "a\0b\n", 5); /* and a NUL behind it */
    free(bytes);
    assert_int_equal(pil_file_read(&bytes, &n, path, 3, &err), PILLION_E_LIMIT);
    assert_error(err, PILLION_E_LIMIT, path);
    assert_null(bytes);
    pil_test_write(dir, "empty", "", 0);
    pil_test_path(path, dir, "empty");
    err = (pillion_error){0};
    assert_ok(pil_file_read(&bytes, &n, path, 0, &err), err);
    assert_int_equal(n, 0);
    assert_string_equal(bytes, "");
    free(bytes);
}

static void what_is_no_regular_file_is_refused_without_waiting(void **state) {
    (void)state;
    char fifo[PIL_TEST_PATH], missing[PIL_TEST_PATH];
    pil_test_path(fifo, dir, "fifo");
    pil_test_path(missing, dir, "f/missing");
    assert_int_equal(mkfifo(fifo, 0600), 0);
    static const pillion_status wanted[] = {PILLION_E_IO, PILLION_E_IO, PILLION_E_NOT_FOUND};
    const char *const paths[] = {dir, fifo, missing};
    for (size_t i = 0; i < 3; i++) {
        char *bytes;
        size_t n;
        pil_file_map map;
        pil_file_stamp stamp;
        pillion_error err = {0};
        assert_int_equal(pil_file_read(&bytes, &n, paths[i], 100, &err), wanted[i]);
        assert_error(err, wanted[i], paths[i]);
        assert_int_equal(pil_file_map_open(&map, paths[i], NULL), wanted[i]);
        assert_null(map.data);
        assert_int_equal(pil_file_stat(&stamp, paths[i], NULL), wanted[i]);
        pil_file_map_close(&map);
    }
}

static void a_stamp_tells_size_time_and_inode(void **state) {
    (void)state;
    pil_file_stamp a, b;
    struct stat s;
    pillion_error err = {0};
    assert_int_equal(utimes(path, (struct timeval[]){{1000, 250000}, {1000, 250000}}), 0);
    assert_ok(pil_file_stat(&a, path, &err), err);
    assert_int_equal(stat(path, &s), 0);
    assert_int_equal(a.bytes, 4);
    assert_int_equal(a.mtime_ns, 1000250000000u);
    assert_int_equal(a.inode, s.st_ino);
    pil_test_write(dir, "f", "longer", 6);
    assert_ok(pil_file_stat(&b, path, &err), err);
    assert_int_equal(b.bytes, 6);
    assert_int_not_equal(b.mtime_ns, a.mtime_ns);
    assert_int_equal(b.inode, a.inode);
}

static void maps_show_the_file_and_empty_ones_nothing(void **state) {
    (void)state;
    pil_file_map map;
    pillion_error err = {0};
    assert_ok(pil_file_map_open(&map, path, &err), err);
    assert_int_equal(map.bytes, 4);
    assert_memory_equal(map.data, "a\0b\n", 4);
    pil_file_map_close(&map);
    pil_file_map_close(&map);
    pil_test_write(dir, "f", "", 0);
    assert_ok(pil_file_map_open(&map, path, &err), err);
    assert_null(map.data);
    assert_int_equal(map.bytes, 0);
}

static void pieces_are_read_until_the_file_is_too_short(void **state) {
    (void)state;
    pil_file_reader r;
    pil_file_stamp now;
    char two[2] = "";
    pillion_error err = {0};
    assert_ok(pil_file_reader_open(&r, path, &err), err);
    assert_ok(pil_file_stat(&now, path, &err), err);
    assert_memory_equal(&r.stamp, &now, sizeof now);
    assert_ok(pil_file_reader_read(&r, path, 1, two, 2, &err), err);
    assert_memory_equal(two, "\0b", 2);
    assert_ok(pil_file_reader_read(&r, path, 9, two, 0, &err), err);
    assert_int_equal(pil_file_reader_read(&r, path, 3, two, 2, &err), PILLION_E_STALE);
    assert_error(err, PILLION_E_STALE, "/f: became shorter while it was read");
    pil_file_reader_close(&r);
    pil_file_reader_close(&r);
    err = (pillion_error){0};
    assert_int_equal(pil_file_reader_open(&r, dir, &err), PILLION_E_IO);
    assert_int_equal(r.fd, -1);
}

static void directories_are_made_with_their_parents_for_this_user_alone(void **state) {
    (void)state;
    char deep[PIL_TEST_PATH];
    struct stat s;
    pillion_error err = {0};
    pil_test_path(deep, dir, "a/b//c/");
    assert_false(pil_file_is_dir(deep));
    assert_ok(pil_file_mkdirs(deep, &err), err);
    assert_true(pil_file_is_dir(deep));
    assert_int_equal(stat(deep, &s), 0);
    assert_int_equal(s.st_mode & 0777, 0700);
    assert_ok(pil_file_mkdirs(deep, &err), err);
    pil_test_path(deep, dir, "f/x");
    assert_int_not_equal(pil_file_mkdirs(deep, &err), PILLION_OK);
    err = (pillion_error){0};
    assert_int_equal(pil_file_mkdirs(path, &err), PILLION_E_IO); /* it exists and is a file */
    assert_int_equal(pil_file_mkdirs("", NULL), PILLION_E_ARG);
}

static void existence_and_kind_are_told(void **state) {
    (void)state;
    assert_true(pil_file_exists(path) && pil_file_exists(dir));
    assert_true(pil_file_is_dir(dir) && !pil_file_is_dir(path));
    assert_int_equal(unlink(path), 0);
    assert_false(pil_file_exists(path) || pil_file_is_dir(path));
}

static void joined_paths_have_one_slash_and_fit_or_fail(void **state) {
    (void)state;
    char out[8];
    pillion_error err = {0};
    assert_ok(pil_file_join(out, sizeof out, "ab", "cd", &err), err);
    assert_string_equal(out, "ab/cd");
    assert_ok(pil_file_join(out, sizeof out, "ab/", "cd", &err), err);
    assert_string_equal(out, "ab/cd");
    assert_ok(pil_file_join(out, sizeof out, "abcd", "ef", &err), err);
    assert_int_equal(pil_file_join(out, sizeof out, "abcd", "efg", &err), PILLION_E_LIMIT);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, make_dir, remove_dir)

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(whole_files_are_read_up_to_the_limit),
        TEST(what_is_no_regular_file_is_refused_without_waiting),
        TEST(a_stamp_tells_size_time_and_inode),
        TEST(maps_show_the_file_and_empty_ones_nothing),
        TEST(pieces_are_read_until_the_file_is_too_short),
        TEST(directories_are_made_with_their_parents_for_this_user_alone),
        TEST(existence_and_kind_are_told),
        TEST(joined_paths_have_one_slash_and_fit_or_fail),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
