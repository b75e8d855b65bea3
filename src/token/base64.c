/* base64.c - base64 (RFC 4648, section 4) with padding, as precompiled_charsmap has it.
 * Tests: tests/token/test_compile.c. */
#include "token/compile_int.h"

static int digit(char c) {
    if (c >= 'A' && c <= 'Z') return c - 'A';
    if (c >= 'a' && c <= 'z') return c - 'a' + 26;
    if (c >= '0' && c <= '9') return c - '0' + 52;
    return c == '+' ? 62 : c == '/' ? 63 : -1;
}

bool pil_base64_decode(pil_buf *out, const char *s, size_t n) {
    if (n % 4) return false;
    size_t padding = n && s[n - 1] == '=' ? 1 + (s[n - 2] == '=') : 0;
    char *p = pil_buf_reserve(out, n / 4 * 3 + 1);
    if (!p) return false;
    uint32_t bits = 0;
    for (size_t i = 0; i < n; i++) {
        int v = i < n - padding ? digit(s[i]) : 0;
        if (v < 0) return false;
        bits = bits << 6 | (uint32_t)v;
        if (i % 4 != 3) continue;
        *p++ = (char)(bits >> 16);
        *p++ = (char)(bits >> 8);
        *p++ = (char)bits;
    }
    out->len += n / 4 * 3 - padding;
    return true;
}
