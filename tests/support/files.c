/* files.c - temporary directories and small files for tests. */
#include "support/files.h"

#include <ftw.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/file.h"

void pil_test_dir_make(char out[PIL_TEST_PATH]) {
    const char *tmp = getenv("TMPDIR");
    snprintf(out, PIL_TEST_PATH, "%s/pillion-test.XXXXXX", tmp && *tmp ? tmp : "/tmp");
    if (!mkdtemp(out)) fail_msg("cannot make a directory %s", out);
}

static int remove_one(const char *path, const struct stat *s, int kind, struct FTW *ftw) {
    (void)s, (void)kind, (void)ftw;
    return remove(path);
}

void pil_test_dir_remove(const char *dir) { nftw(dir, remove_one, 16, FTW_DEPTH | FTW_PHYS); }

void pil_test_path(char out[PIL_TEST_PATH], const char *dir, const char *name) {
    int n = snprintf(out, PIL_TEST_PATH, "%s/%s", dir, name);
    assert_true(n > 0 && n < PIL_TEST_PATH);
}

void pil_test_write(const char *dir, const char *name, const void *bytes, size_t n) {
    char path[PIL_TEST_PATH];
    pillion_error err = {0};
    pil_test_path(path, dir, name);
    char *slash = strrchr(path, '/');
    *slash = '\0';
    if (pil_file_mkdirs(path, &err)) fail_msg("%s", err.text);
    *slash = '/';
    FILE *f = fopen(path, "wb");
    if (!f || fwrite(bytes, 1, n, f) != n || fclose(f) != 0) fail_msg("cannot write %s", path);
}

void pil_test_write_text(const char *dir, const char *name, const char *text) {
    pil_test_write(dir, name, text, strlen(text));
}

char *pil_test_read(const char *path, size_t *n) {
    char *bytes;
    pillion_error err = {0};
    if (pil_file_read(&bytes, n, path, SIZE_MAX / 2, &err)) fail_msg("%s", err.text);
    return bytes;
}
