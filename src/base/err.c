/* err.c - filling the public pillion_error. Tests: tests/base/test_err.c. */
#include "base/err.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

pillion_status pil_err_set(pillion_error *err, pillion_status code, const char *fmt, ...) {
    if (!err || err->code != PILLION_OK) return code;
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(err->text, sizeof err->text, fmt, ap);
    va_end(ap);
    err->code = code;
    return code;
}

void pil_err_prefix(pillion_error *err, const char *prefix) {
    if (!err || err->code == PILLION_OK) return;
    char old[sizeof err->text];
    memcpy(old, err->text, sizeof old);
    int n = snprintf(err->text, sizeof err->text, "%s: ", prefix);
    if (n < 0 || (size_t)n >= sizeof err->text) return;
    snprintf(err->text + n, sizeof err->text - (size_t)n, "%s", old);
}
