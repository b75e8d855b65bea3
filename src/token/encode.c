/* encode.c - one text to ids: added tokens, normalizers, pre-tokenizer, model, truncation, template.
 *
 * Flow:       validated text -> added tokens looked for in the raw text -> each gap between them is normalized -> added
 *             tokens looked for in that -> each gap left is split into pieces -> the model appends their ids.
 * Invariants: (1) the text is valid UTF-8 before anything decodes it. (2) errors behind that point are sticky in
 *             s->failed and end the work at the next piece.
 * Watch:      looked at after each normalizer, each few KiB of pieces, and within a long piece of Unigram; what is left
 *             between two looks takes tens of milliseconds for the longest text.
 * Tests:      tests/token/test_encode.c, tests/token/differential.py. */
#include <assert.h>
#include <stdlib.h>

#include "base/err.h"
#include "base/limits.h"
#include "base/utf8.h"
#include "token/token_int.h"

/* Memory beyond this is given back after a call: one huge text must not make the process big for ever. */
#define SCRATCH_KEEP_BYTES PIL_MIB

typedef struct encoding {
    const pil_tokenizer *t;
    pil_token_scratch *s;
    const char *text;
    pil_tok_gap normalized;
} encoding;

static void push_added(void *ud, const pil_tok_added *added) { pil_token_push(((encoding *)ud)->s, added->id); }

static void normalized_gap(void *ud, size_t start, size_t n) {
    encoding *e = ud;
    if (e->s->failed) return;
    size_t origin = e->normalized.origin > start ? e->normalized.origin - start : 0;
    pil_tok_gap gap = {.s = e->normalized.s + start, .n = n, .origin = origin};
    pil_pretokenize(e->t, e->s, &gap);
}

static void raw_gap(void *ud, size_t start, size_t n) {
    encoding *e = ud;
    if (e->s->failed) return;
    pil_tok_gap gap = {.s = e->text + start, .n = n};
    uint32_t c;
    if (start == 0) gap.origin = pil_utf8_decode(gap.s, &c);
    pillion_status st = pil_normalize(e->t, e->s, &gap);
    if (st) {
        e->s->failed = st;
        return;
    }
    if (gap.n == 0) return;
    e->normalized = gap;
    pil_added_visitor v = {.found = push_added, .gap = normalized_gap, .ud = e};
    pil_added_split(e->t, true, gap.s, gap.n, &v);
}

static void give_back(pil_token_scratch *s) {
    pil_buf *bufs[] = {&s->text[0], &s->text[1], &s->piece};
    for (size_t i = 0; i < sizeof bufs / sizeof *bufs; i++)
        if (bufs[i]->cap > SCRATCH_KEEP_BYTES) pil_buf_deinit(bufs[i]);
    if (s->nodes_cap * sizeof *s->nodes > SCRATCH_KEEP_BYTES) {
        free(s->nodes);
        s->nodes = NULL;
        s->nodes_cap = 0;
    }
    if (s->marks.cap * sizeof *s->marks.v > SCRATCH_KEEP_BYTES) pil_marks_deinit(&s->marks);
}

pillion_status pil_tokenizer_encode(const pil_tokenizer *t, pil_token_scratch *s, const char *text, size_t n,
                                    size_t max_tokens, bool add_special, pil_tokens *out, pillion_error *err) {
    assert(s->owner == t);
    *out = (pil_tokens){0};
    size_t n_before = add_special ? t->config.n_before : 0, n_behind = add_special ? t->config.n_behind : 0;
    if (n > PIL_LIMIT_TEXT_BYTES)
        return pil_err_set(err, PILLION_E_LIMIT, "text of %zu bytes is over the limit of %zu", n, PIL_LIMIT_TEXT_BYTES);
    if (max_tokens > 0 && max_tokens < n_before + n_behind)
        return pil_err_set(err, PILLION_E_ARG, "%zu tokens do not hold the %zu that the model adds to every text",
                           max_tokens, n_before + n_behind);
    size_t valid = pil_utf8_valid(text, n);
    if (valid < n) {
        out->error_offset = valid;
        return pil_err_set(err, PILLION_E_UTF8, "text is not valid UTF-8 at byte %zu", valid);
    }
    if (s->ids_cap * sizeof *s->ids > SCRATCH_KEEP_BYTES) { /* the last call's ids are not borrowed any more */
        free(s->ids);
        s->ids = NULL;
        s->ids_cap = 0;
    }
    s->n_ids = 0;
    s->unwatched = 0;
    s->failed = PILLION_OK;
    pil_token_reserve(s, n_before + n_behind + 1); /* so that ids is never NULL */
    for (size_t i = 0; i < n_before; i++) pil_token_push(s, t->template_ids[i]);
    encoding e = {.t = t, .s = s, .text = text};
    pil_added_visitor v = {.found = push_added, .gap = raw_gap, .ud = &e};
    pil_added_split(t, false, text, n, &v);
    give_back(s);
    size_t n_all = s->n_ids + n_behind;
    if (max_tokens > 0 && n_all > max_tokens) s->n_ids = max_tokens - n_behind;
    for (size_t i = 0; i < n_behind; i++) pil_token_push(s, t->template_ids[t->config.n_before + i]);
    if (s->failed)
        return pil_err_set(err, s->failed, "%s", s->failed == PILLION_E_LIMIT ? "text grows too long when normalized"
                                                                              : pillion_status_text(s->failed));
    out->ids = s->ids;
    out->n = s->n_ids;
    out->n_all = n_all;
    return PILLION_OK;
}
