/* err.c - filling the public pillion_error. Tests: tests/base/test_err.c. */
#include "base/err.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/utf8.h"

/* Names from files and paths end up in messages: whatever they hold, the text stays one line of valid UTF-8. */
static void make_printable(char *text) {
    size_t n = strlen(text);
    for (size_t bad = pil_utf8_valid(text, n); bad < n; bad += pil_utf8_valid(text + bad, n - bad)) text[bad] = '?';
    for (size_t i = 0; i < n; i++)
        if ((unsigned char)text[i] < 0x20 || text[i] == 0x7F) text[i] = '?';
}

/* A text that did not fit loses the sequence that the end cut in two. */
static void drop_cut_sequence(char *text, size_t n) {
    size_t lead = n;
    while (lead > 0 && n - lead < 3 && ((unsigned char)text[lead - 1] & 0xC0) == 0x80) lead--;
    if (lead > 0 && (unsigned char)text[lead - 1] >= 0xC0 && pil_utf8_valid(text + lead - 1, n - lead + 1) == 0)
        text[lead - 1] = '\0';
}

pillion_status(pil_err_set)(pillion_error *err, pillion_status code, const char *fmt, ...) {
    if (!err || err->code != PILLION_OK) return code;
    va_list ap;
    va_start(ap, fmt);
    int n = vsnprintf(err->text, sizeof err->text, fmt, ap);
    va_end(ap);
    if (n >= (int)sizeof err->text) drop_cut_sequence(err->text, sizeof err->text - 1);
    make_printable(err->text);
    err->code = code;
    return code;
}
