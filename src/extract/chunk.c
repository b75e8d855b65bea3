/* chunk.c - text without its superfluous white space, cut into overlapping pieces of so many code points.
 *
 * Source: the sidecar protocol that this server speaks, whose reference is Python: bytes.decode("utf-8",
 * errors="ignore"), " ".join(text.split()), and slices of a str, which count code points. Both ends of a chunk move on
 * by the same number of code points, so the whole is one pass over the text.
 *
 * Memory: results are given to the caller. Threads: pure functions. Tests: tests/extract/test_chunk.c. */
#include <assert.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/utf8.h"
#include "extract/extract.h"
#include "extract/extract_int.h"

/* Python's str.isspace() as str.split() uses it: bidirectional class WS, B or S, or category Zs (Unicode 6.3 and later,
 * in which U+180E is none). */
static bool is_space(uint32_t cp) {
    if (cp < 0x80) return cp == ' ' || (cp >= 0x09 && cp <= 0x0D) || (cp >= 0x1C && cp <= 0x1F);
    return cp == 0x85 || cp == 0xA0 || cp == 0x1680 || (cp >= 0x2000 && cp <= 0x200A) || cp == 0x2028 || cp == 0x2029 ||
           cp == 0x202F || cp == 0x205F || cp == 0x3000;
}

/* A byte that starts no valid sequence is dropped alone: what follows it in a broken sequence are continuation bytes,
 * which start none either, so the result is that of dropping the sequence as a whole. */
size_t pil_text_drop_invalid(char *text, size_t n) {
    size_t kept = 0, at = 0;
    while (at < n) {
        size_t run = pil_utf8_valid(text + at, n - at);
        memmove(text + kept, text + at, run);
        kept += run;
        at += run + 1;
    }
    return kept;
}

void pil_text_trim(const char **text, size_t *n) {
    size_t first = *n, last = 0;
    uint32_t cp;
    for (size_t at = 0, len; at < *n; at += len) {
        len = pil_utf8_decode(*text + at, &cp);
        if (is_space(cp)) continue;
        if (first == *n) first = at;
        last = at + len;
    }
    *text += first;
    *n = last > first ? last - first : 0;
}

pillion_status pil_chunk_squash(char **out, size_t *out_bytes, const char *bytes, size_t n, pillion_error *err) {
    *out_bytes = 0;
    *out = malloc(n + 1);
    if (!*out) return pil_err_no_memory(err);
    if (n > 0) memcpy(*out, bytes, n);
    char *text = *out;
    size_t valid = pil_text_drop_invalid(text, n), kept = 0;
    bool gap = false;
    for (size_t at = 0, len; at < valid; at += len) {
        uint32_t cp;
        len = pil_utf8_decode(text + at, &cp);
        if (is_space(cp)) {
            gap = kept > 0;
            continue;
        }
        if (gap) text[kept++] = ' '; /* fits: at least one byte of white space was passed over */
        gap = false;
        memmove(text + kept, text + at, len);
        kept += len;
    }
    text[kept] = '\0';
    *out_bytes = kept;
    return PILLION_OK;
}

/* The byte offset `count` code points after `at`, or n. */
static size_t walk(const char *text, size_t n, size_t at, size_t count) {
    uint32_t cp;
    while (count-- > 0 && at < n) at += pil_utf8_decode(text + at, &cp);
    return at;
}

pillion_status pil_chunk_split(pil_chunk **chunks, size_t *n_chunks, const char *text, size_t n, size_t size,
                               size_t overlap, size_t max_chunks, pillion_error *err) {
    *chunks = NULL;
    *n_chunks = 0;
    if (size == 0 || max_chunks == 0) return pil_err_set(err, PILLION_E_ARG, "chunk size and count must be at least 1");
    if (pil_utf8_valid(text, n) != n) return pil_err_set(err, PILLION_E_UTF8, "the text to chunk is not valid UTF-8");
    if (n == 0) return PILLION_OK;

    size_t step = overlap < size ? size - overlap : 1, cap = 0;
    size_t start = 0, end = walk(text, n, 0, size);
    for (;;) {
        if (*n_chunks == cap) {
            cap = cap ? cap * 2 : 16;
            pil_chunk *grown = realloc(*chunks, cap * sizeof *grown);
            if (!grown) {
                free(*chunks);
                *chunks = NULL;
                *n_chunks = 0;
                return pil_err_no_memory(err);
            }
            *chunks = grown;
        }
        assert(start < end);
        (*chunks)[(*n_chunks)++] = (pil_chunk){.offset = start, .bytes = end - start};
        if (end == n || *n_chunks == max_chunks) return PILLION_OK;
        start = walk(text, n, start, step);
        end = walk(text, n, end, step);
    }
}
