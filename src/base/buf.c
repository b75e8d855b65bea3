/* buf.c - a growing byte buffer that cannot be made without a ceiling. Tests: tests/base/test_buf.c. */
#include "base/buf.h"

#include <assert.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void pil_buf_init(pil_buf *b, size_t limit) {
    assert(limit > 0);
    *b = (pil_buf){.limit = limit};
}

void pil_buf_deinit(pil_buf *b) {
    free(b->bytes);
    b->bytes = NULL;
    b->len = b->cap = 0;
}

void pil_buf_clear(pil_buf *b) {
    b->len = 0;
    b->failed = PILLION_OK;
}

char *pil_buf_reserve(pil_buf *b, size_t n) {
    if (b->failed) return NULL;
    if (n > b->limit - b->len) {
        b->failed = PILLION_E_LIMIT;
        return NULL;
    }
    size_t need = b->len + n;
    if (need > b->cap) {
        size_t cap = b->cap ? b->cap : 256;
        while (cap < need) cap *= 2;
        if (cap > b->limit) cap = b->limit;
        char *grown = realloc(b->bytes, cap);
        if (!grown) {
            b->failed = PILLION_E_NOMEM;
            return NULL;
        }
        b->bytes = grown;
        b->cap = cap;
    }
    return b->bytes + b->len;
}

pillion_status pil_buf_append(pil_buf *b, const void *bytes, size_t n) {
    if (n == 0) return b->failed;
    char *at = pil_buf_reserve(b, n);
    if (!at) return b->failed;
    memcpy(at, bytes, n);
    b->len += n;
    return PILLION_OK;
}

pillion_status pil_buf_puts(pil_buf *b, const char *s) { return pil_buf_append(b, s, strlen(s)); }

pillion_status pil_buf_putc(pil_buf *b, char c) { return pil_buf_append(b, &c, 1); }

pillion_status pil_buf_printf(pil_buf *b, const char *fmt, ...) {
    va_list ap;
    va_start(ap, fmt);
    va_list again;
    va_copy(again, ap);
    int n = vsnprintf(NULL, 0, fmt, ap);
    va_end(ap);
    char *at = n >= 0 ? pil_buf_reserve(b, (size_t)n + 1) : NULL;
    if (at) {
        vsnprintf(at, (size_t)n + 1, fmt, again);
        b->len += (size_t)n;
    }
    va_end(again);
    return b->failed;
}

const char *pil_buf_cstr(pil_buf *b) {
    char *at = pil_buf_reserve(b, 1);
    if (!at) return NULL;
    *at = '\0';
    return b->bytes;
}

char *pil_buf_steal(pil_buf *b) {
    char *bytes = b->bytes;
    *b = (pil_buf){.limit = b->limit};
    return bytes;
}
