/* say.c - what the commands say on standard error, and small outputs on standard output. The only file of the commands
 * that writes messages there besides progress.c. Tests: tests/cmd/test_say.c, tests/cmd/test_usage.py. */
#include "cmd/say.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/utf8.h"
#include "cmd/cmd.h"

void pil_say(const char *who, const char *fmt, ...) {
    char line[1024];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(line, sizeof line, fmt, ap);
    va_end(ap);
    for (char *c = line; *c; c++)
        if ((unsigned char)*c < 0x20 || *c == 0x7F) *c = '?';
    fprintf(stderr, "%s: %s\n", who, line);
}

void pil_say_utf8(char *text) {
    size_t n = strlen(text);
    for (size_t bad = pil_utf8_valid(text, n); bad < n; bad += pil_utf8_valid(text + bad, n - bad)) text[bad] = '?';
}

const char *pil_say_count(char out[PIL_SAY_COUNT_BYTES], uint64_t n) {
    char digits[24];
    size_t len = (size_t)snprintf(digits, sizeof digits, "%llu", (unsigned long long)n), at = 0;
    for (size_t i = 0; i < len; i++) {
        if (i && (len - i) % 3 == 0) out[at++] = ',';
        out[at++] = digits[i];
    }
    out[at] = '\0';
    return out;
}

int pil_say_output(const char *who, const pil_buf *out) {
    if (out->failed) {
        pil_say(who, "out of memory");
        return PIL_EXIT_FAILURE;
    }
    size_t written = fwrite(out->bytes, 1, out->len, stdout);
    if (written == out->len && fflush(stdout) == 0) return PIL_EXIT_OK;
    pil_say(who, "standard output: cannot write: %s", strerror(errno));
    return PIL_EXIT_FAILURE;
}
