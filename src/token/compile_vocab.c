/* compile_vocab.c - the model and the added tokens of a tokenizer.json: spellings, tries, scores.
 *
 * Rules of added tokens, as the reference has them: the "id" written in the file is not used; a token whose spelling
 *             is in the model's vocabulary has that id, another one the next free id behind the vocabulary. A token
 *             with "normalized" is looked for by its normalized spelling in normalized text.
 * Tests:      tests/token/test_compile.c. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/limits.h"
#include "token/compile_int.h"

#define UNKNOWN_PENALTY 10.0 /* the reference's cost of an unknown character below the worst token */

pillion_status pil_compile_entry(pil_tok_compiler *c, int64_t id, pil_tok_entry **out) {
    if (id < 0 || id >= PIL_LIMIT_VOCAB)
        return pil_err_set(c->err, PILLION_E_UNSUPPORTED, "token id %lld is not supported", (long long)id);
    size_t n = (size_t)id + 1;
    if (n > c->entries_cap) {
        size_t cap = c->entries_cap ? c->entries_cap : 1024;
        while (cap < n) cap *= 2;
        pil_tok_entry *grown = realloc(c->entries, cap * sizeof *grown);
        if (!grown) return PILLION_E_NOMEM;
        memset(grown + c->entries_cap, 0, (cap - c->entries_cap) * sizeof *grown);
        c->entries = grown;
        c->entries_cap = cap;
    }
    if (n > c->config.vocab) c->config.vocab = (uint32_t)n;
    *out = &c->entries[id];
    return PILLION_OK;
}

pil_trie pil_compile_trie(const pil_tok_compiler *c, pil_tok_section which) {
    const pil_buf *b = &c->sections[which];
    return (pil_trie){.units = (const uint32_t *)b->bytes, .n = (uint32_t)(b->len / 4)};
}

/* ── Models ─────────────────────────────────────────────────────────────────────────────────────────────────── */

/* The trie of the model's tokens; an empty token can never be met and is left out. */
static pillion_status build_trie(pil_tok_compiler *c) {
    pil_trie_key *keys = malloc((c->config.vocab + 1) * sizeof *keys);
    if (!keys) return PILLION_E_NOMEM;
    size_t n = 0;
    pillion_status st = PILLION_OK;
    for (uint32_t id = 0; id < c->config.vocab && !st; id++) {
        const pil_tok_entry *e = &c->entries[id];
        if (!e->s || e->n == 0) continue;
        if (memchr(e->s, 0, e->n)) st = pil_compile_unsupported(c, "a token with U+0000 in it", NULL);
        else if (e->n > PIL_LIMIT_TOKEN_BYTES)
            st = pil_err_set(c->err, PILLION_E_UNSUPPORTED, "token %u has %zu bytes; at most %d are supported", id,
                             e->n, PIL_LIMIT_TOKEN_BYTES);
        keys[n] = (pil_trie_key){.s = e->s, .n = (uint32_t)e->n, .value = id};
        n++;
    }
    if (!st) st = pil_trie_build(&c->sections[PIL_TOK_TRIE], keys, n);
    free(keys);
    return st;
}

static pillion_status add_spelling(pil_tok_compiler *c, int64_t id, const char *s, size_t n) {
    pil_tok_entry *e;
    pillion_status st = pil_compile_entry(c, id, &e);
    if (!st) *e = (pil_tok_entry){.s = s, .n = n, .flags = PIL_TOK_TOKEN_PRESENT};
    return st;
}

static pillion_status compile_wordpiece(pil_tok_compiler *c, const pil_json *model, const pil_json *vocab) {
    size_t unk_bytes, prefix_bytes;
    const char *unk = pil_json_string(pil_json_get(model, "unk_token"), &unk_bytes);
    const char *prefix = pil_json_string(pil_json_get(model, "continuing_subword_prefix"), &prefix_bytes);
    int64_t chars_max = pil_json_int_or(pil_json_get(model, "max_input_chars_per_word"), -1);
    if (!unk || !prefix || chars_max < 0 || pil_json_typeof(vocab) != PIL_JSON_OBJECT)
        return pil_compile_malformed(c, "model WordPiece");
    pillion_status st = PILLION_OK;
    for (void *it = pil_json_first(vocab); it && !st; it = pil_json_next(vocab, it)) {
        size_t n;
        const char *s = pil_json_key(it, &n);
        st = add_spelling(c, pil_json_int_or(pil_json_value(it), -1), s, n);
        c->model_vocab++;
    }
    if (!st) st = build_trie(c);
    if (st) return st;
    pil_trie trie = pil_compile_trie(c, PIL_TOK_TRIE);
    int32_t unk_id = unk_bytes ? pil_trie_find(&trie, unk, unk_bytes) : -1;
    if (unk_id < 0) return pil_compile_malformed(c, "model WordPiece (unk_token is not in its vocabulary)");
    c->config.model = PIL_TOK_WORDPIECE;
    c->config.unk_id = (uint32_t)unk_id;
    c->config.word_chars_max = chars_max > UINT32_MAX ? UINT32_MAX : (uint32_t)chars_max;
    c->config.continuation = pil_compile_text(c, prefix, prefix_bytes);
    return PILLION_OK;
}

static pillion_status add_bytes(pil_tok_compiler *c) {
    pil_trie trie = pil_compile_trie(c, PIL_TOK_TRIE);
    c->config.byte_fallback = 1;
    for (unsigned byte = 0; byte < 256; byte++) {
        static const char hex[] = "0123456789ABCDEF";
        char s[6] = {'<', '0', 'x', hex[byte >> 4], hex[byte & 15], '>'};
        int32_t id = pil_trie_find(&trie, s, sizeof s);
        pil_buf_append(&c->sections[PIL_TOK_BYTES], &id, sizeof id);
    }
    return c->sections[PIL_TOK_BYTES].failed;
}

static pillion_status compile_unigram(pil_tok_compiler *c, const pil_json *model, const pil_json *vocab) {
    size_t n = pil_json_count(vocab);
    int64_t unk_id = pil_json_int_or(pil_json_get(model, "unk_id"), -1);
    if (pil_json_typeof(vocab) != PIL_JSON_ARRAY || n == 0 || n >= PIL_LIMIT_VOCAB)
        return pil_compile_malformed(c, "model Unigram");
    if (pil_json_typeof(pil_json_get(model, "unk_id")) == PIL_JSON_NULL)
        return pil_compile_unsupported(c, "model Unigram without unk_id", NULL);
    if (unk_id < 0 || (uint64_t)unk_id >= n) return pil_compile_malformed(c, "model Unigram (unk_id)");
    pil_buf *section = &c->sections[PIL_TOK_SCORES];
    double *scores = (double *)(void *)pil_buf_reserve(section, n * sizeof *scores);
    if (!scores) return section->failed;
    section->len = n * sizeof *scores;
    pillion_status st = PILLION_OK;
    for (size_t i = 0; i < n && !st; i++) {
        const pil_json *token = pil_json_at(vocab, i);
        size_t bytes;
        const char *s = pil_json_string(pil_json_at(token, 0), &bytes);
        scores[i] = pil_json_real_or(pil_json_at(token, 1), NAN);
        if (!s || isnan(scores[i])) return pil_compile_malformed(c, "model Unigram (vocab)");
        st = add_spelling(c, (int64_t)i, s, bytes);
    }
    if (!st) st = build_trie(c);
    if (st) return st;
    pil_scores_read(scores, n, c->json, c->json_bytes);
    double worst = INFINITY;
    for (size_t i = 0; i < n; i++)
        if (scores[i] < worst) worst = scores[i];
    c->config.model = PIL_TOK_UNIGRAM;
    c->config.unk_id = (uint32_t)unk_id;
    c->config.unk_score = worst - UNKNOWN_PENALTY;
    c->model_vocab = (uint32_t)n;
    return pil_json_bool_or(pil_json_get(model, "byte_fallback"), false) ? add_bytes(c) : PILLION_OK;
}

pillion_status pil_compile_model(pil_tok_compiler *c) {
    const pil_json *model = pil_json_get(c->root, "model"), *vocab = pil_json_get(model, "vocab");
    if (pil_json_typeof(model) != PIL_JSON_OBJECT) return pil_compile_malformed(c, "model");
    const char *type = pil_json_string(pil_json_get(model, "type"), NULL);
    if (!type) { /* older files do not name it */
        bool is_wordpiece = pil_json_get(model, "max_input_chars_per_word") && !pil_json_get(model, "merges");
        type = is_wordpiece ? "WordPiece" : pil_json_get(model, "unk_id") ? "Unigram" : "of no type";
    }
    if (!strcmp(type, "WordPiece")) return compile_wordpiece(c, model, vocab);
    if (!strcmp(type, "Unigram")) return compile_unigram(c, model, vocab);
    return pil_compile_unsupported(c, "model", type);
}

/* ── Added tokens ───────────────────────────────────────────────────────────────────────────────────────────── */

typedef struct added {
    const char *s; /* as written, borrowed from the JSON */
    size_t n;
    pil_tok_added record; /* text: what is looked for */
    bool normalized, special;
} added;

typedef struct added_list {
    added *v;
    size_t n;
    uint32_t next_id;
} added_list;

static pillion_status add_token(pil_tok_compiler *c, added_list *list, const pil_json *json) {
    added a = {.special = pil_json_bool_or(pil_json_get(json, "special"), false)};
    a.s = pil_json_string(pil_json_get(json, "content"), &a.n);
    if (!a.s) return pil_compile_malformed(c, "added_tokens");
    if (a.n == 0) return PILLION_OK;
    if (a.n > PIL_LIMIT_ADDED_TOKEN_BYTES || memchr(a.s, 0, a.n))
        return pil_compile_unsupported(c, "an added token that is so long or has U+0000 in it", NULL);
    a.normalized = pil_json_bool_or(pil_json_get(json, "normalized"), !a.special);
    a.record.flags = (pil_json_bool_or(pil_json_get(json, "single_word"), false) ? PIL_TOK_ADDED_SINGLE_WORD : 0) |
                     (pil_json_bool_or(pil_json_get(json, "lstrip"), false) ? PIL_TOK_ADDED_LSTRIP : 0) |
                     (pil_json_bool_or(pil_json_get(json, "rstrip"), false) ? PIL_TOK_ADDED_RSTRIP : 0);
    pil_trie trie = pil_compile_trie(c, PIL_TOK_TRIE);
    a.record.id = pil_trie_find(&trie, a.s, a.n);
    size_t at = 0;
    while (at < list->n && (list->v[at].n != a.n || memcmp(list->v[at].s, a.s, a.n))) at++;
    if (at < list->n) { /* the same token again: its options are the later ones */
        a.record.id = list->v[at].record.id;
        a.special |= list->v[at].special;
    } else if (a.record.id < 0) {
        a.record.id = (int32_t)list->next_id++;
    }
    pil_tok_entry *e;
    pillion_status st = pil_compile_entry(c, a.record.id, &e);
    if (st) return st;
    *e = (pil_tok_entry){.s = a.s, .n = a.n, .flags = PIL_TOK_TOKEN_PRESENT | (a.special ? PIL_TOK_TOKEN_SPECIAL : 0)};
    list->v[at] = a;
    list->n += at == list->n;
    return PILLION_OK;
}

/* Fills record.text of every token, normalized where asked. */
static pillion_status fill_texts(pil_tok_compiler *c, added_list *list) {
    pil_tokenizer t = {.config = c->config, .charsmap = pil_compile_trie(c, PIL_TOK_CHARSMAP),
                       .charsmap_text = c->sections[PIL_TOK_CHARSMAP_TEXT].bytes,
                       .charsmap_text_bytes = c->sections[PIL_TOK_CHARSMAP_TEXT].len,
                       .normalizers = (const pil_tok_step *)(void *)c->sections[PIL_TOK_STEPS].bytes};
    pil_normalize_prepare(&t);
    pil_token_scratch *s = pil_token_scratch_create(&t);
    if (!s) return PILLION_E_NOMEM;
    pillion_status st = PILLION_OK;
    for (size_t i = 0; i < list->n && !st; i++) {
        added *a = &list->v[i];
        pil_tok_gap gap = {.s = a->s, .n = a->n};
        t.text = c->sections[PIL_TOK_TEXT].bytes; /* moves as texts are added */
        if (a->normalized) st = pil_normalize(&t, s, &gap);
        if (st) break;
        if (gap.n != a->n || memcmp(gap.s, a->s, a->n)) {
            a->record.flags |= PIL_TOK_ADDED_DECODED;
            c->entries[a->record.id].flags &= (uint8_t)~PIL_TOK_TOKEN_SPECIAL; /* so the reference's decode sees it */
        }
        if (gap.n == 0 || gap.n > PIL_LIMIT_ADDED_TOKEN_BYTES || memchr(gap.s, 0, gap.n))
            st = pil_compile_unsupported(c, "an added token that normalizes to nothing or too much:", a->s);
        else a->record.text = pil_compile_text(c, gap.s, gap.n);
    }
    pil_token_scratch_destroy(s);
    return st;
}

static int by_id(const void *a, const void *b) {
    int32_t x = ((const added *)a)->record.id, y = ((const added *)b)->record.id;
    return x < y ? -1 : x > y;
}

/* The trie of those added tokens that are, or are not, looked for in normalized text. */
static pillion_status build_added_trie(pil_tok_compiler *c, const added_list *list, bool normalized) {
    pil_tok_section which = normalized ? PIL_TOK_ADDED_NORMAL : PIL_TOK_ADDED_RAW;
    pil_trie_key *keys = malloc((list->n + 1) * sizeof *keys);
    if (!keys) return PILLION_E_NOMEM;
    const char *text = c->sections[PIL_TOK_TEXT].bytes;
    size_t n = 0;
    for (size_t i = 0; i < list->n; i++) {
        pil_tok_span span = list->v[i].record.text;
        if (list->v[i].normalized != normalized) continue;
        keys[n] = (pil_trie_key){.s = text + span.offset, .n = span.bytes, .value = (uint32_t)i};
        n++;
    }
    pillion_status st = pil_trie_build(&c->sections[which], keys, n);
    free(keys);
    pil_trie trie = pil_compile_trie(c, which);
    for (size_t i = 0; i < list->n && !st; i++) {
        pil_tok_span span = list->v[i].record.text;
        if (list->v[i].normalized != normalized) continue;
        if (pil_trie_find(&trie, text + span.offset, span.bytes) != (int32_t)i)
            st = pil_compile_unsupported(c, "two added tokens that normalize to the same:", list->v[i].s);
    }
    return st;
}

pillion_status pil_compile_added(pil_tok_compiler *c) {
    const pil_json *array = pil_json_get(c->root, "added_tokens");
    if (pil_json_typeof(array) == PIL_JSON_NULL) return PILLION_OK;
    size_t n = pil_json_count(array);
    if (pil_json_typeof(array) != PIL_JSON_ARRAY) return pil_compile_malformed(c, "added_tokens");
    if (n > PIL_LIMIT_ADDED_TOKENS) return pil_compile_unsupported(c, "so long a list of added_tokens", NULL);
    added_list list = {.v = malloc((n + 1) * sizeof *list.v), .next_id = c->model_vocab};
    if (!list.v) return PILLION_E_NOMEM;
    pillion_status st = PILLION_OK;
    for (size_t i = 0; i < n && !st; i++) st = add_token(c, &list, pil_json_at(array, i));
    qsort(list.v, list.n, sizeof *list.v, by_id);
    for (size_t i = 1; i < list.n && !st; i++) /* possible when the model's ids have gaps */
        if (list.v[i].record.id == list.v[i - 1].record.id)
            st = pil_compile_unsupported(c, "two added tokens with the same id:", list.v[i].s);
    if (!st) st = fill_texts(c, &list);
    if (!st) st = build_added_trie(c, &list, false);
    if (!st) st = build_added_trie(c, &list, true);
    for (size_t i = 0; i < list.n && !st; i++)
        st = pil_buf_append(&c->sections[PIL_TOK_ADDED], &list.v[i].record, sizeof list.v[i].record);
    free(list.v);
    return st;
}
