/* pretokenize.c - splits normalized text into the pieces that the model sees.
 *
 * Flow:       a gap goes through the steps of the pre-tokenizer one below the other: a step hands each of its pieces
 *             to the next step, the last one to the model. No list of pieces is kept.
 * Invariants: (1) the depth of calls is the number of steps, not a matter of the text. (2) a piece is never empty.
 *             (3) at most one step is a Metaspace, which rewrites its piece into s->piece.
 * Tests:      tests/token/test_pretokenize.c. */
#include <string.h>

#include "base/utf8.h"
#include "token/token_int.h"

typedef struct splitter {
    const pil_tokenizer *t;
    pil_token_scratch *s;
    const pil_tok_gap *gap;
} splitter;

static void run(const splitter *p, size_t step, const char *s, size_t n);

static void emit(const splitter *p, size_t step, const char *s, size_t n) {
    if (n == 0 || p->s->failed) return;
    if (step < p->t->config.n_pretokenizers) {
        run(p, step, s, n);
        return;
    }
    if (p->t->config.model == PIL_TOK_WORDPIECE) pil_wordpiece_encode(p->t, p->s, s, n);
    else pil_unigram_encode(p->t, p->s, s, n);
    pil_token_went_on(p->s, n);
}

/* Words between white space; with punctuation also each punctuation character by itself. */
static void split_words(const splitter *p, size_t next, const char *s, size_t n, bool punctuation) {
    const uint32_t ends = punctuation ? PIL_U_WHITE | PIL_U_PUNCT : PIL_U_WHITE;
    size_t start = 0;
    for (size_t i = 0; i < n;) {
        uint32_t c;
        size_t step = pil_utf8_decode(s + i, &c);
        uint32_t props = pil_unicode_props(c) & ends;
        if (props) {
            emit(p, next, s + start, i - start);
            if (!(props & PIL_U_WHITE)) emit(p, next, s + i, step);
            start = i + step;
        }
        i += step;
    }
    emit(p, next, s + start, n - start);
}

/* \w+|[^\w\s]+ */
static void split_classes(const splitter *p, size_t next, const char *s, size_t n) {
    size_t start = 0;
    uint32_t running = PIL_U_WHITE; /* class of s[start, i) */
    for (size_t i = 0; i < n;) {
        uint32_t c;
        size_t step = pil_utf8_decode(s + i, &c);
        uint32_t props = pil_unicode_props(c);
        uint32_t class = props & PIL_U_WORD ? PIL_U_WORD : props & PIL_U_WHITE;
        if (class != running) {
            if (running != PIL_U_WHITE) emit(p, next, s + start, i - start);
            start = i;
            running = class;
        }
        i += step;
    }
    if (running != PIL_U_WHITE) emit(p, next, s + start, n - start);
}

/* Splits at each delimiter; behavior says where the delimiter goes. A delimiter is one character. */
static void split_at(const splitter *p, size_t next, const char *s, size_t n, uint32_t delimiters, uint32_t behavior) {
    size_t start = 0;
    bool previous = false; /* was the character before a delimiter? */
    for (size_t i = 0; i < n;) {
        uint32_t c;
        size_t step = pil_utf8_decode(s + i, &c);
        bool is_delimiter = pil_unicode_props(c) & delimiters;
        bool cut = false; /* between the character before and this one */
        switch ((pil_tok_behavior)behavior) {
        case PIL_TOK_REMOVED:
        case PIL_TOK_ISOLATED: cut = is_delimiter || previous; break;
        case PIL_TOK_CONTIGUOUS: cut = is_delimiter != previous; break;
        case PIL_TOK_MERGED_WITH_PREVIOUS: cut = previous; break;
        case PIL_TOK_MERGED_WITH_NEXT: cut = is_delimiter; break;
        case PIL_TOK_BEHAVIOR_COUNT: break;
        }
        if (cut) {
            if (!(behavior == PIL_TOK_REMOVED && previous)) emit(p, next, s + start, i - start);
            start = i;
        }
        previous = is_delimiter;
        i += step;
    }
    if (!(behavior == PIL_TOK_REMOVED && previous)) emit(p, next, s + start, n - start);
}

/* Rewrites a piece: spaces become the replacement, and one is put in front if the scheme says so. False: no memory. */
static bool rewrite(const splitter *p, const pil_tok_step *step, const char *s, size_t n) {
    const char *mark = pil_tok_text(p->t, step->text[0]);
    size_t mark_bytes = step->text[0].bytes;
    pil_buf *out = &p->s->piece;
    pil_buf_clear(out);
    bool starts = s[0] == ' ' || (n >= mark_bytes && !memcmp(s, mark, mark_bytes));
    bool first = step->flags & PIL_TOK_META_FIRST && (size_t)(s - p->gap->s) < p->gap->origin;
    if (!starts && (step->flags & PIL_TOK_META_ALWAYS || first)) pil_buf_append(out, mark, mark_bytes);
    for (size_t i = 0; i < n && !out->failed;) {
        const char *space = memchr(s + i, ' ', n - i);
        size_t end = space ? (size_t)(space - s) : n;
        pil_buf_append(out, s + i, end - i);
        if (space) pil_buf_append(out, mark, mark_bytes);
        i = end + 1;
    }
    if (out->failed && !p->s->failed) p->s->failed = out->failed;
    return !out->failed;
}

/* The next place at or behind s where the mark stands; end if none. (memmem prepares for long needles each time.) */
static const char *find_mark(const char *s, const char *end, const char *mark, size_t mark_bytes) {
    while (s < end && (s = memchr(s, mark[0], (size_t)(end - s)))) {
        if ((size_t)(end - s) >= mark_bytes && !memcmp(s, mark, mark_bytes)) return s;
        s++;
    }
    return end;
}

static void metaspace(const splitter *p, size_t next, const pil_tok_step *step, const char *s, size_t n) {
    if (!rewrite(p, step, s, n)) return;
    const char *mark = pil_tok_text(p->t, step->text[0]);
    size_t mark_bytes = step->text[0].bytes;
    const char *text = p->s->piece.bytes, *end = text + p->s->piece.len;
    if (!(step->flags & PIL_TOK_META_SPLIT)) {
        emit(p, next, text, (size_t)(end - text));
        return;
    }
    while (text < end) { /* pieces that begin with the mark */
        const char *cut = find_mark(text + 1, end, mark, mark_bytes); /* no mark starts within a character */
        emit(p, next, text, (size_t)(cut - text));
        text = cut;
    }
}

static void run(const splitter *p, size_t i, const char *s, size_t n) {
    const pil_tok_step *step = &p->t->pretokenizers[i];
    switch (step->kind) {
    case PIL_TOK_P_BERT: split_words(p, i + 1, s, n, true); break;
    case PIL_TOK_P_WHITESPACE_SPLIT: split_words(p, i + 1, s, n, false); break;
    case PIL_TOK_P_WHITESPACE: split_classes(p, i + 1, s, n); break;
    case PIL_TOK_P_PUNCTUATION: split_at(p, i + 1, s, n, PIL_U_PUNCT, step->flags); break;
    case PIL_TOK_P_DIGITS: split_at(p, i + 1, s, n, PIL_U_NUMERIC, step->flags); break;
    case PIL_TOK_P_METASPACE: metaspace(p, i + 1, step, s, n); break;
    default: break;
    }
}

void pil_pretokenize(const pil_tokenizer *t, pil_token_scratch *s, const pil_tok_gap *gap) {
    splitter p = {.t = t, .s = s, .gap = gap};
    emit(&p, 0, gap->s, gap->n);
}
