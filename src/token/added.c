/* added.c - finds added tokens in a text: the leftmost, and of several there the longest.
 *
 * Flow:       skip to a byte that starts some added token -> longest match in the trie -> options single_word, lstrip,
 *             rstrip -> found(); what lies between goes to gap().
 * Quirks kept: a match refused by single_word is skipped as a whole. The search goes on behind the match itself, not
 *             behind the white space that rstrip swallowed, so that another added token may be found inside that space.
 *             A token whose own place was swallowed before is dropped.
 * Invariants: (1) linear: a match attempt costs at most PIL_LIMIT_ADDED_TOKEN_BYTES, white space is scanned once each
 *             way. (2) a match is the text of its token, byte for byte. The tries are not scanned when a blob is
 *             opened, but those texts are, and they are UTF-8: so every gap begins and ends between two characters.
 * Tests:      tests/token/test_added.c. */
#include <string.h>

#include "base/limits.h"
#include "base/utf8.h"
#include "token/token_int.h"

static const char *char_before(const char *start, const char *p) {
    do p--;
    while (p > start && ((unsigned char)*p & 0xC0) == 0x80);
    return p;
}

static bool has_prop(const char *p, uint32_t prop) {
    uint32_t c;
    pil_utf8_decode(p, &c);
    return pil_unicode_props(c) & prop;
}

/* The longest added token at s; NULL if none. What a trie says is only believed when the token's text agrees. */
static const pil_tok_added *longest(const pil_tokenizer *t, const pil_trie *trie, const char *s, size_t n,
                                    size_t *bytes) {
    const pil_tok_added *best = NULL;
    uint32_t at = pil_trie_root(trie);
    if (n > PIL_LIMIT_ADDED_TOKEN_BYTES) n = PIL_LIMIT_ADDED_TOKEN_BYTES;
    for (size_t i = 0; i < n; i++) {
        int32_t value;
        if (s[i] == 0 || !pil_trie_step(trie, &at, (uint8_t)s[i], &value)) break;
        if (value < 0 || (size_t)value >= t->n_added) continue;
        const pil_tok_added *a = &t->added[value];
        if (a->text.bytes != i + 1 || memcmp(pil_tok_text(t, a->text), s, i + 1)) continue;
        best = a;
        *bytes = i + 1;
    }
    return best;
}

static size_t skip_white(const char *s, size_t n, size_t i) {
    while (i < n && has_prop(s + i, PIL_U_WHITE)) {
        uint32_t c;
        i += pil_utf8_decode(s + i, &c);
    }
    return i;
}

static int first_bytes(const pil_trie *trie, uint8_t first[256]) {
    int only = -1, n = 0;
    for (unsigned c = 1; c < 256; c++) {
        uint32_t at = pil_trie_root(trie);
        int32_t value;
        first[c] = pil_trie_step(trie, &at, (uint8_t)c, &value);
        n += first[c];
        if (first[c]) only = (int)c;
    }
    return n == 1 ? only : -1;
}

void pil_added_prepare(pil_tokenizer *t) {
    t->raw_only = first_bytes(&t->added_raw, t->raw_first);
    t->normal_only = first_bytes(&t->added_normal, t->normal_first);
}

/* The next place at or behind i where an added token may start; n if none. */
static size_t next_start(const uint8_t first[256], int only, const char *s, size_t n, size_t i) {
    if (only >= 0) {
        const char *p = memchr(s + i, only, n - i);
        return p ? (size_t)(p - s) : n;
    }
    while (i < n && !first[(unsigned char)s[i]]) i++;
    return i;
}

void pil_added_split(const pil_tokenizer *t, bool normalized, const char *s, size_t n, const pil_added_visitor *v) {
    const pil_trie *trie = normalized ? &t->added_normal : &t->added_raw;
    const uint8_t *first = normalized ? t->normal_first : t->raw_first;
    const int only = normalized ? t->normal_only : t->raw_only;
    size_t done = 0;        /* where the next gap starts */
    size_t white_end = 0;   /* end of the white space that rstrip scanned last */
    size_t white_start = 1; /* and its start; start > end: none yet */
    size_t match;
    for (size_t i = 0; trie->n && i < n;) {
        i = next_start(first, only, s, n, i);
        const pil_tok_added *a = i < n ? longest(t, trie, s + i, n - i, &match) : NULL;
        if (!a) {
            i++;
            continue;
        }
        size_t start = i, stop = i + match;
        i = stop;
        if (a->flags & PIL_TOK_ADDED_SINGLE_WORD) {
            if (start > 0 && has_prop(char_before(s, s + start), PIL_U_WORD)) continue;
            if (stop < n && has_prop(s + stop, PIL_U_WORD)) continue;
        }
        if (a->flags & PIL_TOK_ADDED_LSTRIP) {
            while (start > done) {
                const char *p = char_before(s, s + start);
                if (!has_prop(p, PIL_U_WHITE)) break;
                start = (size_t)(p - s);
            }
            if (start < done) start = done;
        }
        if (a->flags & PIL_TOK_ADDED_RSTRIP) {
            if (stop < white_start || stop > white_end) {
                white_start = stop;
                white_end = skip_white(s, n, stop);
            }
            stop = white_end;
        }
        if (done < start) v->gap(v->ud, done, start - done);
        if (start < stop) v->found(v->ud, a);
        done = stop;
    }
    if (done < n) v->gap(v->ud, done, n - done);
}
