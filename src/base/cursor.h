/* cursor.h - reading little-endian values from bytes with an end and a sticky first error. */
#ifndef PIL_BASE_CURSOR_H
#define PIL_BASE_CURSOR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

/* Once a read runs past the end, failed stays true, at stays where it was, and every later read gives zero or NULL. */
typedef struct pil_cursor {
    const unsigned char *bytes;
    size_t len, at;
    bool failed;
} pil_cursor;

static inline pil_cursor pil_cursor_over(const void *bytes, size_t len) {
    return (pil_cursor){.bytes = bytes, .len = len};
}

/* n bytes in place, or NULL. Offset plus length is tested by subtraction, so no sum can overflow. */
static inline const void *pil_cursor_take(pil_cursor *c, size_t n) {
    if (c->failed || n > c->len - c->at) {
        c->failed = true;
        return NULL;
    }
    const void *p = c->bytes + c->at;
    c->at += n;
    return p;
}

static inline uint64_t pil_cursor_uint(pil_cursor *c, size_t n) {
    const unsigned char *p = pil_cursor_take(c, n);
    uint64_t v = 0;
    for (size_t i = 0; p && i < n; i++) v |= (uint64_t)p[i] << (8 * i);
    return v;
}
static inline uint8_t pil_cursor_u8(pil_cursor *c) { return (uint8_t)pil_cursor_uint(c, 1); }
static inline uint32_t pil_cursor_u32(pil_cursor *c) { return (uint32_t)pil_cursor_uint(c, 4); }
static inline uint64_t pil_cursor_u64(pil_cursor *c) { return pil_cursor_uint(c, 8); }

#endif
