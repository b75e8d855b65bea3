/* fuzz_recorded.c - any bytes as a file of recorded batches: refused in one line, or every text of it is in exactly one
 * batch and is valid UTF-8. */
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/utf8.h"
#include "cmd/recorded.h"

static void check(bool holds) {
    if (!holds) __builtin_trap();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    char path[64];
    int fd = memfd_create("batches", MFD_CLOEXEC);
    check(fd >= 0 && write(fd, data, size) == (ssize_t)size);
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    pil_recorded r = {0};
    pillion_error err = {0};
    pillion_status st = pil_recorded_read(&r, path, &err);
    check(st == err.code && (!st || (err.text[0] && !strchr(err.text, '\n'))));
    size_t next = 0;
    for (size_t i = 0; !st && i < r.n_batches; i++) {
        check(r.batches[i].number == i + 1 && r.batches[i].first == next && r.batches[i].n > 0);
        next += r.batches[i].n;
    }
    check(st || (next == r.n_texts && next > 0));
    for (size_t i = 0; !st && i < r.n_texts; i++)
        check(pil_utf8_valid(r.texts[i].text, r.texts[i].text_bytes) == r.texts[i].text_bytes);
    pil_recorded_deinit(&r);
    close(fd);
    return 0;
}
