/* normalize.c - the normalizers of a tokenizer.json, run one after the other over a stretch of text.
 *
 * Flow:       gap -> step -> scratch text 0 -> step -> scratch text 1 -> step -> scratch text 0 ... -> gap.
 * Origin:     Metaspace with prepend_scheme "first" asks whether a piece of normalized text comes from byte 0 of the
 *             original, by the reference's alignments. Those never decrease, so it is enough to carry how many leading
 *             bytes are aligned with byte 0 through the steps: `origin`. The rules are the reference's, with its
 *             oddities: what replaces a match is aligned with the match's last byte; characters that Precompiled
 *             removes at the very beginning leave their place to the next one.
 * Invariant:  input and output of a step are valid UTF-8. Linear in the text and in the texts of the steps.
 * Tests:      tests/token/test_normalize.c. */
#include <string.h>

#include "base/utf8.h"
#include "token/token_int.h"

static void put(pil_buf *out, uint32_t c) {
    char *p = pil_buf_reserve(out, 4);
    if (p) out->len += pil_utf8_encode(c, p);
}

static pillion_status strip_accents(pil_buf *out, const char *in, size_t n) {
    for (size_t i = 0; i < n && !out->failed;) {
        uint32_t c;
        size_t step = pil_utf8_decode(in + i, &c);
        if (!(pil_unicode_props(c) & PIL_U_MARK)) pil_buf_append(out, in + i, step);
        i += step;
    }
    return out->failed;
}

static pillion_status lowercase(pil_buf *out, const char *in, size_t n) {
    for (size_t i = 0; i < n && !out->failed;) {
        uint32_t c;
        size_t step = pil_utf8_decode(in + i, &c), mapped = 1;
        const uint32_t *v = &c;
        if (pil_unicode_props(c) & PIL_U_LOWER) v = pil_unicode_lower(c, &mapped);
        for (size_t k = 0; k < mapped; k++) put(out, PIL_UNICODE_POINT(v[k]));
        i += step;
    }
    return out->failed;
}

/* The normalizer Nmt: sentencepiece's rules for control characters and spaces. */
static pillion_status nmt(pil_buf *out, const char *in, size_t n) {
    for (size_t i = 0; i < n && !out->failed;) {
        uint32_t c;
        i += pil_utf8_decode(in + i, &c);
        bool removed = (c >= 1 && c <= 8) || c == 0x0B || (c >= 0x0E && c <= 0x1F) || c == 0x7F || c == 0x8F ||
                       c == 0x9F;
        bool space = c == '\t' || c == '\n' || c == '\f' || c == '\r' || c == 0x1680 || (c >= 0x200B && c <= 0x200F) ||
                     c == 0x2028 || c == 0x2029 || c == 0x2581 || c == 0xFEFF || c == 0xFFFD;
        if (!removed) put(out, space ? ' ' : c);
    }
    return out->failed;
}

/* The next match at or behind `from`: its start, and its length in *match; n if there is none. */
static size_t next_match(const pil_tokenizer *t, const pil_tok_step *step, const char *in, size_t n, size_t from,
                         size_t *match) {
    if (step->kind == PIL_TOK_N_REPLACE) {
        const char *p = memmem(in + from, n - from, pil_tok_text(t, step->text[0]), step->text[0].bytes);
        *match = step->text[0].bytes;
        return p ? (size_t)(p - in) : n;
    }
    for (size_t i = from; i + 1 < n; i++) {
        const char *space = memchr(in + i, ' ', n - i);
        if (!space) break;
        i = (size_t)(space - in);
        size_t end = i + 1;
        while (end < n && in[end] == ' ') end++;
        *match = end - i;
        if (*match > 1) return i;
    }
    return n;
}

static pillion_status replace(const pil_tokenizer *t, const pil_tok_step *step, pil_buf *out, const char *in, size_t n,
                              size_t *origin) {
    size_t aligned = 0, match = 0;
    for (size_t i = 0; i < n && !out->failed;) {
        size_t at = next_match(t, step, in, n, i, &match);
        if (i < *origin) aligned += (at < *origin ? at : *origin) - i;
        pil_buf_append(out, in + i, at - i);
        i = at;
        if (at == n) break;
        pil_buf_append(out, pil_tok_text(t, step->text[1]), step->text[1].bytes);
        i += match;
        if (i <= *origin) aligned += step->text[1].bytes;
    }
    *origin = aligned;
    return out->failed;
}

static void strip(const pil_tok_step *step, pil_tok_gap *gap) {
    uint32_t c;
    while (step->flags & PIL_TOK_STRIP_LEFT && gap->n > 0) {
        size_t bytes = pil_utf8_decode(gap->s, &c);
        if (!pil_unicode_is_white(c)) break;
        gap->s += bytes;
        gap->n -= bytes;
        gap->origin -= gap->origin < bytes ? gap->origin : bytes;
    }
    while (step->flags & PIL_TOK_STRIP_RIGHT && gap->n > 0) {
        size_t bytes = 1;
        while (((unsigned char)gap->s[gap->n - bytes] & 0xC0) == 0x80) bytes++;
        pil_utf8_decode(gap->s + gap->n - bytes, &c);
        if (!pil_unicode_is_white(c)) break;
        gap->n -= bytes;
    }
}

/* Steps that map characters: without Replace, Strip and Prepend. */
static pillion_status map(const pil_tokenizer *t, pil_token_scratch *s, const pil_tok_step *step, pil_buf *out,
                          const char *in, size_t n) {
    switch (step->kind) {
    case PIL_TOK_N_BERT: return pil_bert_normalize(t, s, step->flags, out, in, n);
    case PIL_TOK_N_STRIP_ACCENTS: return strip_accents(out, in, n);
    case PIL_TOK_N_LOWERCASE: return lowercase(out, in, n);
    case PIL_TOK_N_NMT: return nmt(out, in, n);
    case PIL_TOK_N_PRECOMPILED: return pil_charsmap_normalize(t, out, in, n);
    case PIL_TOK_N_FORM:
        return pil_unicode_normalize(out, &s->marks, in, n, step->flags & PIL_TOK_FORM_COMPATIBILITY,
                                     step->flags & PIL_TOK_FORM_COMPOSED);
    default: return PILLION_E_INTERNAL;
    }
}

static pillion_status map_gap(const pil_tokenizer *t, pil_token_scratch *s, const pil_tok_step *step, pil_buf *out,
                              pil_tok_gap *gap) {
    size_t aligned = 0;
    if (t->needs_origin && step->kind == PIL_TOK_N_PRECOMPILED) {
        aligned = pil_charsmap_aligned(t, gap->s, gap->n, gap->origin);
    } else if (t->needs_origin && gap->origin > 0) { /* what the aligned bytes become by themselves */
        pillion_status st = map(t, s, step, out, gap->s, gap->origin);
        if (st) return st;
        aligned = out->len;
        pil_buf_clear(out);
    }
    pillion_status st = map(t, s, step, out, gap->s, gap->n);
    if (st) return st;
    if (step->kind == PIL_TOK_N_PRECOMPILED && gap->origin > 0 && aligned == 0 && out->len > 0) {
        uint32_t c;
        aligned = pil_utf8_decode(out->bytes, &c);
    }
    if (aligned > out->len) aligned = out->len;
    while (aligned < out->len && ((unsigned char)out->bytes[aligned] & 0xC0) == 0x80) aligned++; /* marks were moved */
    *gap = (pil_tok_gap){.s = out->bytes, .n = out->len, .origin = aligned};
    return PILLION_OK;
}

pillion_status pil_normalize(const pil_tokenizer *t, pil_token_scratch *s, pil_tok_gap *gap) {
    pillion_status st = PILLION_OK;
    unsigned which = 0;
    for (size_t i = 0; i < t->config.n_normalizers && !st && gap->n > 0; i++) {
        const pil_tok_step *step = &t->normalizers[i];
        if (step->kind == PIL_TOK_N_STRIP) {
            strip(step, gap);
            continue;
        }
        pil_buf *out = &s->text[which];
        which ^= 1;
        pil_buf_clear(out);
        if (step->kind == PIL_TOK_N_PREPEND) {
            pil_buf_append(out, pil_tok_text(t, step->text[0]), step->text[0].bytes);
            st = pil_buf_append(out, gap->s, gap->n);
            *gap = (pil_tok_gap){.s = out->bytes, .n = out->len,
                                 .origin = gap->origin > 0 ? gap->origin + step->text[0].bytes : 0};
        } else if (step->kind == PIL_TOK_N_REPLACE || step->kind == PIL_TOK_N_REPLACE_SPACES) {
            size_t origin = gap->origin;
            st = replace(t, step, out, gap->s, gap->n, &origin);
            *gap = (pil_tok_gap){.s = out->bytes, .n = out->len, .origin = origin};
        } else {
            st = map_gap(t, s, step, out, gap);
        }
        pil_token_went_on(s, gap->n);
        if (!st) st = s->failed;
    }
    return st;
}

void pil_normalize_prepare(pil_tokenizer *t) {
    pil_charsmap_prepare(t);
    for (size_t i = 0; i < t->config.n_normalizers; i++)
        for (unsigned c = 0; c < 128 && t->normalizers[i].kind == PIL_TOK_N_BERT; c++)
            t->bert_ascii[c] = pil_bert_ascii(t->normalizers[i].flags, (uint8_t)c);
}
