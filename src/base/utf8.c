/* utf8.c - strict UTF-8 validation (RFC 3629, table 3-7 of the Unicode standard). Tests: tests/base/test_utf8.c. */
#include "base/utf8.h"

#include <string.h>

/* Length of the valid multi-byte sequence at p, or 0. */
static size_t sequence(const unsigned char *p, size_t n) {
    unsigned char lead = p[0];
    if (lead >= 0xC2 && lead <= 0xDF) return n >= 2 && (p[1] & 0xC0) == 0x80 ? 2 : 0;
    if (lead >= 0xE0 && lead <= 0xEF) {
        unsigned char low = lead == 0xE0 ? 0xA0 : 0x80, high = lead == 0xED ? 0x9F : 0xBF;
        return n >= 3 && p[1] >= low && p[1] <= high && (p[2] & 0xC0) == 0x80 ? 3 : 0;
    }
    if (lead >= 0xF0 && lead <= 0xF4) {
        unsigned char low = lead == 0xF0 ? 0x90 : 0x80, high = lead == 0xF4 ? 0x8F : 0xBF;
        return n >= 4 && p[1] >= low && p[1] <= high && (p[2] & 0xC0) == 0x80 && (p[3] & 0xC0) == 0x80 ? 4 : 0;
    }
    return 0;
}

size_t pil_utf8_valid(const char *s, size_t n) {
    const unsigned char *p = (const unsigned char *)s;
    size_t i = 0;
    while (i < n) {
        uint64_t word;
        while (n - i >= sizeof word) { /* eight ASCII bytes at a time */
            memcpy(&word, p + i, sizeof word);
            if (word & 0x8080808080808080u) break;
            i += sizeof word;
        }
        if (i == n) break;
        size_t step = p[i] < 0x80 ? 1 : sequence(p + i, n - i);
        if (!step) return i;
        i += step;
    }
    return n;
}
