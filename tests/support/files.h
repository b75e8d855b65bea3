/* files.h - temporary directories and small files for tests. Everything here fails the running test when it cannot do
 * its work, so that a test never has to check. */
#ifndef PIL_TESTS_FILES_H
#define PIL_TESTS_FILES_H

#include <stddef.h>

#define PIL_TEST_PATH 1024

/* Makes a fresh directory below $TMPDIR (or /tmp); its path goes to out. Remove it with pil_test_dir_remove. */
void pil_test_dir_make(char out[PIL_TEST_PATH]);
/* Removes a directory and everything in it. */
void pil_test_dir_remove(const char *dir);

/* Writes dir/name, making the directories in name. */
void pil_test_write(const char *dir, const char *name, const void *bytes, size_t n);
void pil_test_write_text(const char *dir, const char *name, const char *text);
/* Reads a whole file; free the result. */
char *pil_test_read(const char *path, size_t *n);
/* dir/name into out. */
void pil_test_path(char out[PIL_TEST_PATH], const char *dir, const char *name);

#endif
