/* bert.c - BertNormalizer: cleaning, spaces around Chinese characters, stripping accents, lower case, in one pass.
 *
 * The reference does these as four passes over the text; done character by character the result is the same, because
 * only canonical ordering (part of NFD, which stripping accents begins with) looks at neighbours, and for that
 * non-starters wait in s->marks. Nonspacing marks are deleted right after NFD, so that those need not even wait; a
 * nonspacing mark that is a starter still ends the run before it.
 * Quirks kept: the range 2B920-2CEAF (Unicode's block begins at 2B820); nothing is composed again, so Hangul stays as
 *             jamo; no special case for the final sigma.
 * Tests:      tests/token/test_normalize.c, tests/token/differential.py. */
#include "base/utf8.h"
#include "token/token_int.h"

/* The most bytes one code point can become: space, four decomposed parts, each two code points in lower case, space. */
#define POINT_BYTES_MAX 64

typedef struct bert {
    pil_buf *out;
    pil_marks *marks;
    bool lower, out_of_memory;
} bert;

uint8_t pil_bert_ascii(uint32_t flags, uint8_t c) {
    if (flags & PIL_TOK_BERT_CLEAN) {
        if (c == '\t' || c == '\n' || c == '\r') return ' ';
        if (c < ' ' || c == 0x7F) return 0;
    }
    return flags & PIL_TOK_BERT_LOWER && c >= 'A' && c <= 'Z' ? (uint8_t)(c | 0x20) : c;
}

static bool is_chinese(uint32_t c) {
    return (c >= 0x4E00 && c <= 0x9FFF) || (c >= 0x3400 && c <= 0x4DBF) || (c >= 0x20000 && c <= 0x2A6DF) ||
           (c >= 0x2A700 && c <= 0x2B73F) || (c >= 0x2B740 && c <= 0x2B81F) || (c >= 0x2B920 && c <= 0x2CEAF) ||
           (c >= 0xF900 && c <= 0xFAFF) || (c >= 0x2F800 && c <= 0x2FA1F);
}

static void put(bert *b, uint32_t c) {
    if (b->out->cap - b->out->len < 8 && !pil_buf_reserve(b->out, 8)) return;
    char *p = b->out->bytes + b->out->len;
    size_t n = 1;
    const uint32_t *v = &c;
    if (b->lower && pil_unicode_props(c) & PIL_U_LOWER) v = pil_unicode_lower(c, &n);
    for (size_t i = 0; i < n; i++) {
        size_t bytes = pil_utf8_encode(PIL_UNICODE_POINT(v[i]), p);
        p += bytes;
        b->out->len += bytes;
    }
}

static void flush(bert *b) {
    if (b->marks->n == 0) return;
    pil_marks_sort(b->marks);
    for (size_t i = 0; i < b->marks->n; i++) put(b, PIL_UNICODE_POINT(b->marks->v[i]));
    b->marks->n = 0;
}

/* One code point of NFD, its combining class in the upper 8 bits. */
static void put_stripped(bert *b, uint32_t v) {
    bool is_nonspacing = pil_unicode_props(PIL_UNICODE_POINT(v)) & PIL_U_NONSPACING;
    if (v >> 24) {
        if (!is_nonspacing && !pil_marks_push(b->marks, v)) b->out_of_memory = true;
        return;
    }
    flush(b);
    if (!is_nonspacing) put(b, v);
}

static void strip_accents(bert *b, uint32_t c, uint32_t props) {
    uint32_t cluster = PIL_U_CLUSTER(props);
    if (props & PIL_U_NFD) {
        size_t n;
        const uint32_t *v = pil_unicode_nfd(c, &n);
        for (size_t i = 0; i < n; i++) put_stripped(b, v[i]);
    } else if (cluster == PIL_CLUSTER_LV || cluster == PIL_CLUSTER_LVT) {
        uint32_t s = c - 0xAC00, tail = s % 28;
        flush(b);
        put(b, 0x1100 + s / 588);
        put(b, 0x1161 + s / 28 % 21);
        if (tail) put(b, 0x11A7 + tail);
    } else {
        put_stripped(b, props & PIL_U_NONSTARTER ? c | (uint32_t)pil_unicode_ccc_of(c) << 24 : c);
    }
}

static void put_point(bert *b, uint32_t flags, uint32_t c) {
    uint32_t props = pil_unicode_props(c);
    if (flags & PIL_TOK_BERT_CLEAN) {
        if (props & PIL_U_DROP) return;
        if (props & PIL_U_WHITE) c = ' ', props = pil_unicode_props(' ');
    }
    bool chinese = flags & PIL_TOK_BERT_CHINESE && is_chinese(c);
    if (chinese) {
        flush(b);
        pil_buf_putc(b->out, ' ');
    }
    if (flags & PIL_TOK_BERT_STRIP_ACCENTS) strip_accents(b, c, props);
    else put(b, c);
    if (chinese) pil_buf_putc(b->out, ' ');
}

/* Bytes of ASCII at the start of in, translated; returns how many were read. out has room for n bytes. */
static size_t put_ascii(const pil_tokenizer *t, pil_buf *out, bool keeps_all, const char *in, size_t n) {
    char *p = out->bytes + out->len;
    size_t i = 0;
    for (; i < n && !((unsigned char)in[i] & 0x80); i++) {
        uint8_t c = t->bert_ascii[(unsigned char)in[i]];
        *p = (char)c;
        p += c != 0 || keeps_all; /* without cleaning nothing is removed, and 0 means U+0000 itself */
    }
    out->len = (size_t)(p - out->bytes);
    return i;
}

pillion_status pil_bert_normalize(const pil_tokenizer *t, pil_token_scratch *s, uint32_t flags, pil_buf *out,
                                  const char *in, size_t n) {
    bert b = {.out = out, .marks = &s->marks, .lower = flags & PIL_TOK_BERT_LOWER};
    s->marks.n = 0;
    for (size_t i = 0; i < n && !b.out_of_memory;) {
        if (out->cap - out->len < n - i + POINT_BYTES_MAX && !pil_buf_reserve(out, n - i + POINT_BYTES_MAX)) break;
        if ((unsigned char)in[i] < 0x80) {
            if (b.marks->n > 0 && flags & PIL_TOK_BERT_CLEAN && !t->bert_ascii[(unsigned char)in[i]]) {
                i++; /* what is cleaned away does not end a run of marks */
                continue;
            }
            flush(&b);
            if (!pil_buf_reserve(out, n - i)) break;
            i += put_ascii(t, out, !(flags & PIL_TOK_BERT_CLEAN), in + i, n - i);
        } else {
            uint32_t c;
            i += pil_utf8_decode(in + i, &c);
            put_point(&b, flags, c);
        }
    }
    flush(&b);
    return b.out_of_memory ? PILLION_E_NOMEM : out->failed;
}
