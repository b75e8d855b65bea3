/* replay.c - runs a fuzz target over the files of its corpus, in place of libFuzzer's main.
 *
 *     replay_NAME [FILE|DIRECTORY…]      directories are not searched deeper
 *
 * The empty input is always among them. A finding is what the target makes of it: a trap, or a sanitizer's report. */
#include <dirent.h>
#include <limits.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/file.h"
#include "base/limits.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* 1 when the file was replayed. */
static int replay_file(const char *path) {
    char *bytes;
    size_t n;
    pillion_error err = {0};
    if (pil_file_read(&bytes, &n, path, 64 * PIL_MIB, &err)) {
        fprintf(stderr, "%s\n", err.text);
        exit(1);
    }
    LLVMFuzzerTestOneInput((const uint8_t *)bytes, n);
    free(bytes);
    return 1;
}

static int replay_directory(const char *path) {
    int done = 0;
    DIR *dir = opendir(path);
    for (struct dirent *entry; dir && (entry = readdir(dir));) {
        char file[PATH_MAX];
        if (entry->d_name[0] == '.' || pil_file_join(file, sizeof file, path, entry->d_name, NULL)) continue;
        if (!pil_file_is_dir(file)) done += replay_file(file);
    }
    if (dir) closedir(dir);
    return done;
}

int main(int argc, char **argv) {
    int done = 1;
    LLVMFuzzerTestOneInput((const uint8_t *)"", 0);
    for (int i = 1; i < argc; i++) done += pil_file_is_dir(argv[i]) ? replay_directory(argv[i]) : replay_file(argv[i]);
    printf("%d inputs\n", done);
    return 0;
}
