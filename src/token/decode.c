/* decode.c - ids back to text: the decoders of a tokenizer.json, run one after the other over a list of tokens.
 *
 * Flow:       ids -> list of spellings -> decoder -> list -> decoder ... -> the tokens joined. The list is one buffer
 *             of bytes and one of ends; a step writes a new pair.
 * Tests:      tests/token/test_decode.c. */
#include <string.h>

#include "base/err.h"
#include "base/hex.h"
#include "base/limits.h"
#include "base/utf8.h"
#include "token/token_int.h"

typedef struct list {
    pil_buf bytes;
    pil_buf ends; /* uint32: where each token ends */
} list;

static size_t count(const list *l) { return l->ends.len / sizeof(uint32_t); }

static const char *token(const list *l, size_t i, size_t *n) {
    const uint32_t *ends = (const uint32_t *)(const void *)l->ends.bytes;
    uint32_t start = i ? ends[i - 1] : 0;
    *n = ends[i] - start;
    return l->bytes.bytes ? l->bytes.bytes + start : ""; /* empty tokens alone allocate nothing */
}

static void end_token(list *l) {
    uint32_t end = (uint32_t)l->bytes.len;
    pil_buf_append(&l->ends, &end, sizeof end);
}

static void add_token(list *l, const char *s, size_t n) {
    pil_buf_append(&l->bytes, s, n);
    end_token(l);
}

static void list_init(list *l) {
    pil_buf_init(&l->bytes, PIL_LIMIT_NORMALIZED_BYTES);
    pil_buf_init(&l->ends, PIL_LIMIT_NORMALIZED_BYTES);
}

static void list_deinit(list *l) {
    pil_buf_deinit(&l->bytes);
    pil_buf_deinit(&l->ends);
}

/* ── Steps ──────────────────────────────────────────────────────────────────────────────────────────────────── */

static void replace_all(pil_buf *out, const char *s, size_t n, const char *from, size_t from_bytes, const char *to,
                        size_t to_bytes) {
    const char *end = s + n, *hit;
    while (s < end && (hit = memmem(s, (size_t)(end - s), from, from_bytes)) && !out->failed) {
        pil_buf_append(out, s, (size_t)(hit - s));
        pil_buf_append(out, to, to_bytes);
        s = hit + from_bytes;
    }
    pil_buf_append(out, s, (size_t)(end - s));
}

/* The reference's clean-up of English spacing, on one token at the end of out, from byte `start` on. */
static void clean_up(pil_buf *out, size_t start, pil_buf *tmp) {
    static const char *const rules[][2] = {{" .", "."}, {" ?", "?"}, {" !", "!"}, {" ,", ","}, {" ' ", "'"},
                                           {" n't", "n't"}, {" 'm", "'m"}, {" do not", " don't"}, {" 's", "'s"},
                                           {" 've", "'ve"}, {" 're", "'re"}};
    for (size_t i = 0; i < sizeof rules / sizeof *rules && !out->failed && out->len > start; i++) {
        if (!memmem(out->bytes + start, out->len - start, rules[i][0], strlen(rules[i][0]))) continue;
        pil_buf_clear(tmp);
        pil_buf_append(tmp, out->bytes + start, out->len - start);
        out->len = start;
        replace_all(out, tmp->bytes, tmp->len, rules[i][0], strlen(rules[i][0]), rules[i][1], strlen(rules[i][1]));
        if (tmp->failed) out->failed = tmp->failed;
    }
}

static void decode_wordpiece(const pil_tokenizer *t, const pil_tok_step *step, const list *in, list *out) {
    pil_buf tmp;
    pil_buf_init(&tmp, PIL_LIMIT_NORMALIZED_BYTES);
    const char *prefix = pil_tok_text(t, step->text[0]);
    for (size_t i = 0; i < count(in); i++) {
        size_t n, start = out->bytes.len, prefix_bytes = step->text[0].bytes;
        const char *s = token(in, i, &n);
        if (i > 0 && n >= prefix_bytes && !memcmp(s, prefix, prefix_bytes)) s += prefix_bytes, n -= prefix_bytes;
        else if (i > 0) pil_buf_putc(&out->bytes, ' ');
        pil_buf_append(&out->bytes, s, n);
        if (step->flags) clean_up(&out->bytes, start, &tmp);
        end_token(out);
    }
    pil_buf_deinit(&tmp);
}

static void decode_metaspace(const pil_tokenizer *t, const pil_tok_step *step, const list *in, list *out) {
    bool drops_first = step->flags & (PIL_TOK_META_ALWAYS | PIL_TOK_META_FIRST);
    for (size_t i = 0; i < count(in); i++) {
        size_t n;
        const char *s = token(in, i, &n);
        replace_all(&out->bytes, s, n, pil_tok_text(t, step->text[0]), step->text[0].bytes, " ",
                    i == 0 && drops_first ? 0 : 1);
        end_token(out);
    }
}

/* The byte that <0xXX> stands for, -1 for other tokens. (The reference's number parser also takes "+X".) */
static int byte_of(const char *s, size_t n) {
    if (n != 6 || memcmp(s, "<0x", 3) || s[5] != '>') return -1;
    return s[3] == '+' ? pil_hex_digit(s[4]) : pil_hex_byte(s + 3);
}

/* Ends a run of bytes: one token if they are UTF-8, else U+FFFD for each. */
static void flush_bytes(list *out, pil_buf *run) {
    if (run->len == 0) return;
    if (pil_utf8_valid(run->bytes, run->len) == run->len) add_token(out, run->bytes, run->len);
    else for (size_t i = 0; i < run->len; i++) add_token(out, "\xEF\xBF\xBD", 3);
    pil_buf_clear(run);
}

static void decode_bytes(const list *in, list *out) {
    pil_buf run;
    pil_buf_init(&run, PIL_LIMIT_NORMALIZED_BYTES);
    for (size_t i = 0; i < count(in); i++) {
        size_t n;
        const char *s = token(in, i, &n);
        int byte = byte_of(s, n);
        if (byte >= 0) {
            pil_buf_putc(&run, (char)byte);
            continue;
        }
        flush_bytes(out, &run);
        add_token(out, s, n);
    }
    flush_bytes(out, &run);
    if (run.failed) out->bytes.failed = run.failed;
    pil_buf_deinit(&run);
}

static void decode_strip(const pil_tokenizer *t, const pil_tok_step *step, const list *in, list *out) {
    const char *c = pil_tok_text(t, step->text[0]);
    size_t bytes = step->text[0].bytes;
    for (size_t i = 0; i < count(in); i++) {
        size_t n, whole;
        const char *s = token(in, i, &whole);
        n = whole;
        size_t cut = 0;
        for (uint32_t k = 0; k < step->a && n - cut >= bytes && !memcmp(s + cut, c, bytes); k++) cut += bytes;
        for (uint32_t k = 0; k < step->b && n - cut >= bytes && !memcmp(s + n - bytes, c, bytes); k++) n -= bytes;
        add_token(out, s + cut, n - cut);
    }
}

static void run_step(const pil_tokenizer *t, const pil_tok_step *step, const list *in, list *out) {
    switch (step->kind) {
    case PIL_TOK_D_WORDPIECE: decode_wordpiece(t, step, in, out); break;
    case PIL_TOK_D_METASPACE: decode_metaspace(t, step, in, out); break;
    case PIL_TOK_D_BYTE_FALLBACK: decode_bytes(in, out); break;
    case PIL_TOK_D_STRIP: decode_strip(t, step, in, out); break;
    case PIL_TOK_D_FUSE: add_token(out, in->bytes.bytes, in->bytes.len); break;
    case PIL_TOK_D_REPLACE:
        for (size_t i = 0; i < count(in); i++) {
            size_t n;
            const char *s = token(in, i, &n);
            replace_all(&out->bytes, s, n, pil_tok_text(t, step->text[0]), step->text[0].bytes,
                        pil_tok_text(t, step->text[1]), step->text[1].bytes);
            end_token(out);
        }
        break;
    default: break;
    }
}

/* ── All together ───────────────────────────────────────────────────────────────────────────────────────────── */

/* What an id decodes from: its spelling, or for some added tokens the normalized form. NULL when it has no token. */
static const char *decoded_spelling(const pil_tokenizer *t, int32_t id, size_t *n) {
    size_t low = 0, high = t->n_added;
    while (low < high) {
        size_t mid = low + (high - low) / 2;
        const pil_tok_added *a = &t->added[mid];
        if (a->id == id) {
            if (!(a->flags & PIL_TOK_ADDED_DECODED)) break;
            *n = a->text.bytes;
            return pil_tok_text(t, a->text);
        }
        if (a->id < id) low = mid + 1;
        else high = mid;
    }
    return pil_tokenizer_spelling(t, id, n);
}

static pillion_status collect(const pil_tokenizer *t, const int32_t *ids, size_t n, bool skip_special, list *out,
                              pillion_error *err) {
    for (size_t i = 0; i < n; i++) {
        if (ids[i] < 0 || (uint32_t)ids[i] >= t->config.vocab)
            return pil_err_set(err, PILLION_E_ARG, "id %d at index %zu is not below the vocabulary's size of %u",
                               ids[i], i, t->config.vocab);
        size_t bytes;
        const char *s = decoded_spelling(t, ids[i], &bytes);
        if (s && !(skip_special && pil_tokenizer_is_special(t, ids[i]))) add_token(out, s, bytes);
    }
    return PILLION_OK;
}

pillion_status pil_tokenizer_decode(const pil_tokenizer *t, const int32_t *ids, size_t n, bool skip_special,
                                    pil_buf *out, pillion_error *err) {
    list lists[2];
    list_init(&lists[0]);
    list_init(&lists[1]);
    unsigned which = 0;
    pillion_status st = collect(t, ids, n, skip_special, &lists[0], err);
    for (size_t i = 0; i < t->config.n_decoders && !st; i++) {
        list *in = &lists[which], *next = &lists[which ^ 1];
        pil_buf_clear(&next->bytes);
        pil_buf_clear(&next->ends);
        run_step(t, &t->decoders[i], in, next);
        st = next->bytes.failed ? next->bytes.failed : next->ends.failed;
        which ^= 1;
    }
    const list *done = &lists[which];
    if (!st) st = done->bytes.failed ? done->bytes.failed : done->ends.failed;
    for (size_t i = 0; i < count(done) && !st; i++) {
        size_t bytes;
        const char *s = token(done, i, &bytes);
        if (i > 0 && !t->config.has_decoder) pil_buf_putc(out, ' ');
        st = pil_buf_append(out, s, bytes);
    }
    list_deinit(&lists[0]);
    list_deinit(&lists[1]);
    return st ? pil_err_set(err, st, "%s", st == PILLION_E_LIMIT ? "text is too long" : "out of memory") : PILLION_OK;
}
