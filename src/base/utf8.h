/* utf8.h - strict UTF-8 (RFC 3629): no overlong forms, no surrogates, nothing beyond U+10FFFF. */
#ifndef PIL_BASE_UTF8_H
#define PIL_BASE_UTF8_H

#include <stddef.h>
#include <stdint.h>

/* Offset of the first byte that does not belong to a valid sequence, or n when all of it is valid. */
size_t pil_utf8_valid(const char *s, size_t n);

/* Code points in valid UTF-8; of other bytes, those that continue no sequence. */
static inline size_t pil_utf8_count(const char *s, size_t n) {
    size_t count = 0;
    for (size_t i = 0; i < n; i++) count += ((unsigned char)s[i] & 0xC0) != 0x80;
    return count;
}

/* Decodes the sequence at s, which must be valid UTF-8; sets *cp and returns its length, 1 to 4. */
static inline size_t pil_utf8_decode(const char *s, uint32_t *cp) {
    const unsigned char *p = (const unsigned char *)s;
    if (p[0] < 0x80) return *cp = p[0], 1;
    if (p[0] < 0xE0) return *cp = (uint32_t)(p[0] & 0x1F) << 6 | (p[1] & 0x3Fu), 2;
    if (p[0] < 0xF0) return *cp = (uint32_t)(p[0] & 0x0F) << 12 | (uint32_t)(p[1] & 0x3F) << 6 | (p[2] & 0x3Fu), 3;
    return *cp = (uint32_t)(p[0] & 0x07) << 18 | (uint32_t)(p[1] & 0x3F) << 12 | (uint32_t)(p[2] & 0x3F) << 6 |
                 (p[3] & 0x3Fu), 4;
}

/* Encodes a scalar value into out[4]; returns its length. */
static inline size_t pil_utf8_encode(uint32_t cp, char *out) {
    if (cp < 0x80) return out[0] = (char)cp, 1;
    if (cp < 0x800) return out[0] = (char)(0xC0 | cp >> 6), out[1] = (char)(0x80 | (cp & 0x3F)), 2;
    if (cp < 0x10000)
        return out[0] = (char)(0xE0 | cp >> 12), out[1] = (char)(0x80 | (cp >> 6 & 0x3F)),
               out[2] = (char)(0x80 | (cp & 0x3F)), 3;
    return out[0] = (char)(0xF0 | cp >> 18), out[1] = (char)(0x80 | (cp >> 12 & 0x3F)),
           out[2] = (char)(0x80 | (cp >> 6 & 0x3F)), out[3] = (char)(0x80 | (cp & 0x3F)), 4;
}

#endif
