/* charsmap.c - the normalizer Precompiled: sentencepiece's character map, applied the way the reference applies it.
 *
 * Quirk kept: sentencepiece replaces the longest match of the byte stream. The reference goes by extended grapheme
 *             clusters: a cluster shorter than 6 bytes is looked up, and the first, that is the shortest, key that it
 *             starts with replaces the whole cluster, so that a mapped letter loses its combining mark; otherwise its
 *             characters are looked up one by one, in the same way.
 * Invariant:  the map is foreign data: indices are checked (trie.h), and a value that points outside the replacements
 *             or into the middle of a character counts as no match.
 * Tests:      tests/token/test_normalize.c. */
#include <string.h>

#include "base/utf8.h"
#include "token/token_int.h"

#define CLUSTER_BYTES_MAX 6 /* clusters of at least this are looked up by character */

/* The replacement for the shortest key that s starts with; NULL if none. */
static const char *look_up(const pil_tokenizer *t, const char *s, size_t n, size_t *replacement_bytes) {
    uint32_t at = pil_trie_root(&t->charsmap);
    for (size_t i = 0; i < n; i++) {
        int32_t value;
        if (s[i] == 0 || !pil_trie_step(&t->charsmap, &at, (uint8_t)s[i], &value)) return NULL;
        if (value < 0) continue;
        if ((size_t)value > t->charsmap_text_bytes) return NULL;
        const char *r = t->charsmap_text + value;
        size_t left = t->charsmap_text_bytes - (size_t)value;
        if (left > 0 && ((unsigned char)*r & 0xC0) == 0x80) return NULL;
        const char *end = memchr(r, 0, left);
        *replacement_bytes = end ? (size_t)(end - r) : left;
        return r;
    }
    return NULL;
}

void pil_charsmap_prepare(pil_tokenizer *t) {
    for (unsigned c = 0; c < 128; c++) {
        char s = (char)c;
        size_t bytes;
        t->charsmap_plain[c] = c != '\r' && !look_up(t, &s, 1, &bytes); /* CR may be half of a cluster */
    }
}

/* ASCII from i on that is not mapped and in no longer cluster: where it ends. */
static size_t skip_plain(const pil_tokenizer *t, const char *in, size_t n, size_t i) {
    size_t start = i;
    while (i < n && !((unsigned char)in[i] & 0x80) && t->charsmap_plain[(unsigned char)in[i]]) i++;
    bool may_be_extended = i > start && i < n && (unsigned char)in[i] & 0x80;
    return may_be_extended ? i - 1 : i;
}

/* What stays as it is waits in in[*kept, at) and is copied when something mapped follows it. */
static void put_mapped(pil_buf *out, const char *in, size_t *kept, size_t at, size_t step, const char *r,
                       size_t bytes) {
    pil_buf_append(out, in + *kept, at - *kept);
    pil_buf_append(out, r, bytes);
    *kept = at + step;
}

pillion_status pil_charsmap_normalize(const pil_tokenizer *t, pil_buf *out, const char *in, size_t n) {
    size_t kept = 0, bytes;
    for (size_t i = skip_plain(t, in, n, 0); i < n && !out->failed; i = skip_plain(t, in, n, i)) {
        size_t end = i + pil_unicode_cluster(in + i, n - i);
        const char *r = end - i < CLUSTER_BYTES_MAX ? look_up(t, in + i, end - i, &bytes) : NULL;
        if (r) {
            put_mapped(out, in, &kept, i, end - i, r, bytes);
            i = end;
        }
        while (i < end) {
            uint32_t c;
            size_t step = pil_utf8_decode(in + i, &c);
            r = look_up(t, in + i, step, &bytes);
            if (r) put_mapped(out, in, &kept, i, step, r, bytes);
            i += step;
        }
    }
    return pil_buf_append(out, in + kept, n - kept);
}

/* Where the first `points` characters of s end. */
static size_t bytes_of_points(const char *s, size_t n, size_t points) {
    size_t i = 0;
    for (uint32_t c; points > 0 && i < n; points--) i += pil_utf8_decode(s + i, &c);
    return i;
}

/* A replaced cluster is aligned character by character; what the replacement has more belongs to the last one. */
size_t pil_charsmap_aligned(const pil_tokenizer *t, const char *in, size_t n, size_t origin) {
    size_t aligned = 0, bytes;
    for (size_t i = 0; i < n && i < origin;) {
        size_t end = i + pil_unicode_cluster(in + i, n - i);
        const char *r = end - i < CLUSTER_BYTES_MAX ? look_up(t, in + i, end - i, &bytes) : NULL;
        if (r) {
            aligned += end <= origin ? bytes : bytes_of_points(r, bytes, pil_utf8_count(in + i, origin - i));
            i = end;
        }
        while (i < end && i < origin) {
            uint32_t c;
            size_t step = pil_utf8_decode(in + i, &c);
            aligned += look_up(t, in + i, step, &bytes) ? bytes : step;
            i += step;
        }
    }
    return aligned;
}
