/* test_file_writer.c - a file that is written is complete or invisible, whatever happens in between. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <dirent.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include <cmocka.h>

#include "base/file.h"

typedef struct place {
    char dir[64], path[128];
} place;

static int make_place(void **state) {
    place *p = calloc(1, sizeof *p);
    if (!p) return -1;
    snprintf(p->dir, sizeof p->dir, "/tmp/pil_writer_XXXXXX");
    if (!mkdtemp(p->dir)) return -1;
    snprintf(p->path, sizeof p->path, "%s/out", p->dir);
    *state = p;
    return 0;
}

static int remove_place(void **state) {
    place *p = *state;
    unlink(p->path);
    int r = rmdir(p->dir); /* fails when a test left anything else behind */
    free(p);
    return r;
}

static size_t files_in(const char *dir) {
    DIR *d = opendir(dir);
    assert_non_null(d);
    size_t n = 0;
    for (struct dirent *e; (e = readdir(d));) n += e->d_name[0] != '.';
    closedir(d);
    return n;
}

static void write_all(const place *p, const char *text) {
    pil_file_writer w;
    pillion_error err = {0};
    assert_int_equal(pil_file_writer_open(&w, p->path, &err), PILLION_OK);
    fputs(text, w.f);
    assert_int_equal(pil_file_writer_commit(&w, &err), PILLION_OK);
}

static void assert_holds(const place *p, const char *text) {
    char *bytes;
    size_t n;
    assert_int_equal(pil_file_read(&bytes, &n, p->path, 1000, NULL), PILLION_OK);
    assert_string_equal(bytes, text);
    free(bytes);
}

static void commit_replaces_the_file_and_follows_the_umask(void **state) {
    const place *p = *state;
    mode_t old = umask(027);
    write_all(p, "one");
    write_all(p, "two");
    umask(old);
    assert_holds(p, "two");
    assert_int_equal(files_in(p->dir), 1);
    struct stat s;
    assert_int_equal(stat(p->path, &s), 0);
    assert_int_equal(s.st_mode & 0777, 0640);
}

static void abort_keeps_what_was_there(void **state) {
    const place *p = *state;
    write_all(p, "one");
    pil_file_writer w;
    assert_int_equal(pil_file_writer_open(&w, p->path, NULL), PILLION_OK);
    fputs("two", w.f);
    pil_file_writer_abort(&w);
    pil_file_writer_abort(&w); /* a second time does nothing */
    assert_holds(p, "one");
    assert_int_equal(files_in(p->dir), 1);
}

static void two_writers_of_one_path_do_not_meet(void **state) {
    const place *p = *state;
    pil_file_writer a, b;
    assert_int_equal(pil_file_writer_open(&a, p->path, NULL), PILLION_OK);
    assert_int_equal(pil_file_writer_open(&b, p->path, NULL), PILLION_OK);
    fputs("a", a.f);
    fputs("b", b.f);
    assert_int_equal(pil_file_writer_commit(&a, NULL), PILLION_OK);
    assert_holds(p, "a");
    assert_int_equal(pil_file_writer_commit(&b, NULL), PILLION_OK);
    assert_holds(p, "b");
}

static void a_killed_process_leaves_nothing_where_the_system_can(void **state) {
    const place *p = *state;
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        pil_file_writer w;
        if (pil_file_writer_open(&w, p->path, NULL)) _exit(1);
        bool is_named = w.is_named;
        fputs("half", w.f);
        fflush(w.f);
        if (is_named) { /* a system without unnamed files: nothing to show */
            pil_file_writer_abort(&w);
            _exit(0);
        }
        kill(getpid(), SIGKILL);
    }
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFSIGNALED(status) || WEXITSTATUS(status) == 0);
    assert_int_equal(files_in(p->dir), 0);
}

static void a_place_that_cannot_be_written_is_named(void **state) {
    (void)state;
    pil_file_writer w;
    pillion_error err = {0};
    assert_int_equal(pil_file_writer_open(&w, "/nonexistent/dir/file", &err), PILLION_E_NOT_FOUND);
    assert_non_null(strstr(err.text, "/nonexistent/dir/file: cannot create"));
}

int main(void) {
#define WITH_PLACE(f) cmocka_unit_test_setup_teardown(f, make_place, remove_place)
    const struct CMUnitTest tests[] = {
        WITH_PLACE(commit_replaces_the_file_and_follows_the_umask),
        WITH_PLACE(abort_keeps_what_was_there),
        WITH_PLACE(two_writers_of_one_path_do_not_meet),
        WITH_PLACE(a_killed_process_leaves_nothing_where_the_system_can),
        cmocka_unit_test(a_place_that_cannot_be_written_is_named),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
