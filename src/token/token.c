/* token.c - opening a tokenizer blob in place, its accessors, and the scratch memory.
 *
 * Invariants: (1) what open() checked is trusted later: header, sections, configuration, steps, template, added tokens,
 *             all of the order of a kilobyte, and the text of the character map. (2) The large arrays are not scanned:
 *             trie walks check each index (trie.h), ids out of tries are compared with vocab, an added token that a
 *             trie finds is compared with its text (added.c), spellings are checked when they are asked for.
 * Not here:   making blobs (compile.c), using them (encode.c, decode.c). Tests: tests/token/test_blob.c. */
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/limits.h"
#include "base/utf8.h"
#include "token/token_int.h"



static pillion_status bad(pillion_error *err, const char *what) {
    return pil_err_set(err, PILLION_E_FORMAT, "tokenizer data is damaged: %s", what);
}

/* ── Opening ────────────────────────────────────────────────────────────────────────────────────────────────── */

static pillion_status check_header(const pil_tok_header *h, size_t blob_bytes, pillion_error *err) {
    if (memcmp(h->magic, PIL_TOK_MAGIC, sizeof h->magic)) return bad(err, "not a tokenizer");
    if (h->version != PIL_TOK_VERSION || h->n_sections != PIL_TOK_SECTION_COUNT) return bad(err, "version");
    if (h->blob_bytes != blob_bytes) return bad(err, "size");
    for (size_t i = 0; i < PIL_TOK_SECTION_COUNT; i++) {
        pil_tok_range r = h->sections[i];
        if (r.offset % 64 || r.offset > blob_bytes || r.bytes > blob_bytes - r.offset) return bad(err, "section table");
    }
    return PILLION_OK;
}

/* A section as an array of n elements; n comes from the configuration. False when the size is another. */
static bool section(const pil_tokenizer *t, pil_tok_section which, size_t n, size_t element_bytes, const void **out) {
    const pil_tok_range *r = &((const pil_tok_header *)t->blob)->sections[which];
    *out = t->blob + r->offset;
    return r->bytes == n * element_bytes;
}

static size_t section_bytes(const pil_tokenizer *t, pil_tok_section which) {
    return ((const pil_tok_header *)t->blob)->sections[which].bytes;
}

static const char *section_start(const pil_tokenizer *t, pil_tok_section which) {
    return t->blob + ((const pil_tok_header *)t->blob)->sections[which].offset;
}

static bool open_trie(pil_trie *out, const pil_tokenizer *t, pil_tok_section which) {
    size_t bytes = section_bytes(t, which);
    *out = (pil_trie){.units = (const uint32_t *)section_start(t, which), .n = (uint32_t)(bytes / 4)};
    return bytes % 4 == 0 && bytes / 4 < 1u << 31;
}

static bool is_text(const pil_tokenizer *t, pil_tok_span s) {
    return s.offset <= t->text_bytes && s.bytes <= t->text_bytes - s.offset &&
           pil_utf8_valid(t->text + s.offset, s.bytes) == s.bytes;
}

static bool is_one_char(const pil_tokenizer *t, pil_tok_span s) {
    uint32_t c;
    return s.bytes > 0 && pil_utf8_decode(pil_tok_text(t, s), &c) == s.bytes;
}

static bool is_step(const pil_tokenizer *t, const pil_tok_step *s, uint32_t first_kind, uint32_t last_kind) {
    if (s->kind < first_kind || s->kind > last_kind || !is_text(t, s->text[0]) || !is_text(t, s->text[1])) return false;
    switch (s->kind) {
    case PIL_TOK_N_REPLACE:
    case PIL_TOK_D_REPLACE: return s->text[0].bytes > 0;
    case PIL_TOK_P_PUNCTUATION:
    case PIL_TOK_P_DIGITS: return s->flags < PIL_TOK_BEHAVIOR_COUNT;
    case PIL_TOK_P_METASPACE:
    case PIL_TOK_D_METASPACE:
    case PIL_TOK_D_STRIP: return is_one_char(t, s->text[0]);
    default: return true;
    }
}

static pillion_status open_steps(pil_tokenizer *t, pillion_error *err) {
    const pil_tok_config *c = &t->config;
    if (c->n_normalizers > PIL_LIMIT_TOKENIZER_STEPS || c->n_pretokenizers > PIL_LIMIT_TOKENIZER_STEPS ||
        c->n_decoders > PIL_LIMIT_TOKENIZER_STEPS)
        return bad(err, "steps");
    const void *steps;
    size_t n = c->n_normalizers + c->n_pretokenizers + c->n_decoders;
    if (!section(t, PIL_TOK_STEPS, n, sizeof(pil_tok_step), &steps)) return bad(err, "steps");
    t->normalizers = steps;
    t->pretokenizers = t->normalizers + c->n_normalizers;
    t->decoders = t->pretokenizers + c->n_pretokenizers;
    unsigned n_metaspaces = 0, n_berts = 0;
    for (size_t i = 0; i < c->n_normalizers; i++) {
        const pil_tok_step *s = &t->normalizers[i];
        if (!is_step(t, s, PIL_TOK_N_BERT, PIL_TOK_N_PREPEND)) return bad(err, "normalizer");
        if (s->kind == PIL_TOK_N_BERT && ++n_berts > 1) return bad(err, "normalizer");
    }
    pil_normalize_prepare(t);
    for (size_t i = 0; i < c->n_pretokenizers; i++) {
        if (!is_step(t, &t->pretokenizers[i], PIL_TOK_P_BERT, PIL_TOK_P_METASPACE)) return bad(err, "pre-tokenizer");
        if (t->pretokenizers[i].kind != PIL_TOK_P_METASPACE) continue;
        if (++n_metaspaces > 1) return bad(err, "pre-tokenizer");
        t->needs_origin = t->pretokenizers[i].flags & PIL_TOK_META_FIRST;
    }
    for (size_t i = 0; i < c->n_decoders; i++)
        if (!is_step(t, &t->decoders[i], PIL_TOK_D_WORDPIECE, PIL_TOK_D_STRIP)) return bad(err, "decoder");
    return PILLION_OK;
}

static pillion_status open_added(pil_tokenizer *t, pillion_error *err) {
    const void *added;
    t->n_added = section_bytes(t, PIL_TOK_ADDED) / sizeof(pil_tok_added);
    if (!section(t, PIL_TOK_ADDED, t->n_added, sizeof(pil_tok_added), &added)) return bad(err, "added tokens");
    t->added = added;
    for (size_t i = 0; i < t->n_added; i++) {
        const pil_tok_added *a = &t->added[i];
        if (a->id < 0 || (uint32_t)a->id >= t->config.vocab || !is_text(t, a->text)) return bad(err, "added tokens");
        if (i > 0 && a->id <= t->added[i - 1].id) return bad(err, "added tokens");
    }
    if (!open_trie(&t->added_raw, t, PIL_TOK_ADDED_RAW) || !open_trie(&t->added_normal, t, PIL_TOK_ADDED_NORMAL))
        return bad(err, "added tokens");
    pil_added_prepare(t);
    return PILLION_OK;
}

static pillion_status open_vocab(pil_tokenizer *t, pillion_error *err) {
    const pil_tok_config *c = &t->config;
    const void *flags, *offsets, *scores, *bytes;
    size_t vocab = c->vocab;
    if (!section(t, PIL_TOK_FLAGS, vocab, 1, &flags) || !section(t, PIL_TOK_SPELLING_OFFSETS, vocab + 1, 4, &offsets) ||
        !open_trie(&t->trie, t, PIL_TOK_TRIE))
        return bad(err, "vocabulary");
    t->flags = flags;
    t->spelling_offsets = offsets;
    t->spellings = section_start(t, PIL_TOK_SPELLINGS);
    t->spellings_bytes = section_bytes(t, PIL_TOK_SPELLINGS);
    if (c->unk_id >= vocab) return bad(err, "unknown token");
    if (c->model == PIL_TOK_WORDPIECE) {
        if (!is_text(t, c->continuation)) return bad(err, "continuation prefix");
        t->continuation = pil_trie_walk(&t->trie, pil_tok_text(t, c->continuation), c->continuation.bytes);
        return PILLION_OK;
    }
    if (!section(t, PIL_TOK_SCORES, vocab, sizeof(double), &scores)) return bad(err, "scores");
    t->scores = scores;
    if (c->byte_fallback) {
        if (!section(t, PIL_TOK_BYTES, 256, sizeof(int32_t), &bytes)) return bad(err, "bytes");
        t->bytes = bytes;
        for (size_t i = 0; i < 256; i++)
            if (t->bytes[i] < -1 || t->bytes[i] >= (int64_t)vocab) return bad(err, "bytes");
    }
    return PILLION_OK;
}

static pillion_status open_sections(pil_tokenizer *t, pillion_error *err) {
    const void *config, *ids;
    if (!section(t, PIL_TOK_CONFIG, 1, sizeof t->config, &config)) return bad(err, "configuration");
    memcpy(&t->config, config, sizeof t->config);
    const pil_tok_config *c = &t->config;
    if (c->model != PIL_TOK_WORDPIECE && c->model != PIL_TOK_UNIGRAM) return bad(err, "model");
    if (c->vocab == 0 || c->vocab > PIL_LIMIT_VOCAB) return bad(err, "vocabulary size");
    t->text = section_start(t, PIL_TOK_TEXT);
    t->text_bytes = section_bytes(t, PIL_TOK_TEXT);
    if (c->n_before > PIL_LIMIT_TEMPLATE || c->n_behind > PIL_LIMIT_TEMPLATE ||
        !section(t, PIL_TOK_TEMPLATE, c->n_before + c->n_behind, sizeof(int32_t), &ids))
        return bad(err, "template");
    t->template_ids = ids;
    for (size_t i = 0; i < c->n_before + c->n_behind; i++)
        if (t->template_ids[i] < 0 || (uint32_t)t->template_ids[i] >= c->vocab) return bad(err, "template");
    t->charsmap_text = section_start(t, PIL_TOK_CHARSMAP_TEXT);
    t->charsmap_text_bytes = section_bytes(t, PIL_TOK_CHARSMAP_TEXT);
    if (!open_trie(&t->charsmap, t, PIL_TOK_CHARSMAP) ||
        pil_utf8_valid(t->charsmap_text, t->charsmap_text_bytes) != t->charsmap_text_bytes)
        return bad(err, "character map");
    pillion_status st = open_vocab(t, err);
    if (!st) st = open_steps(t, err);
    if (!st) st = open_added(t, err);
    return st;
}

pillion_status pil_tokenizer_open(pil_tokenizer **out, const void *blob, size_t blob_bytes, pillion_error *err) {
    *out = NULL;
    if ((uintptr_t)blob % 64) return pil_err_set(err, PILLION_E_ARG, "tokenizer data is not aligned to 64 bytes");
    if (blob_bytes < sizeof(pil_tok_header)) return bad(err, "too short");
    pillion_status st = check_header(blob, blob_bytes, err);
    if (st) return st;
    pil_tokenizer *t = calloc(1, sizeof *t);
    if (!t) return pil_err_no_memory(err);
    t->blob = blob;
    st = open_sections(t, err);
    if (st) {
        pil_tokenizer_close(t);
        t = NULL;
    }
    *out = t;
    return st;
}

void pil_tokenizer_close(pil_tokenizer *t) { free(t); }

/* ── Accessors ──────────────────────────────────────────────────────────────────────────────────────────────── */

const char *pil_tokenizer_model(const pil_tokenizer *t) {
    return t->config.model == PIL_TOK_WORDPIECE ? "WordPiece" : "Unigram";
}

uint32_t pil_tokenizer_vocab(const pil_tokenizer *t) { return t->config.vocab; }

uint32_t pil_tokenizer_n_special(const pil_tokenizer *t) { return t->config.n_before + t->config.n_behind; }

bool pil_tokenizer_is_special(const pil_tokenizer *t, int32_t id) {
    return id >= 0 && (uint32_t)id < t->config.vocab && t->flags[id] & PIL_TOK_TOKEN_SPECIAL;
}

const char *pil_tokenizer_spelling(const pil_tokenizer *t, int32_t id, size_t *n) {
    *n = 0;
    if (id < 0 || (uint32_t)id >= t->config.vocab || !(t->flags[id] & PIL_TOK_TOKEN_PRESENT)) return NULL;
    uint32_t begin = t->spelling_offsets[id], end = t->spelling_offsets[id + 1];
    if (begin > end || end > t->spellings_bytes) return NULL;
    const char *s = t->spellings + begin;
    if (pil_utf8_valid(s, end - begin) != end - begin) return NULL;
    *n = end - begin;
    return s;
}

/* ── Scratch ────────────────────────────────────────────────────────────────────────────────────────────────── */

pil_token_scratch *pil_token_scratch_create(const pil_tokenizer *t) {
    pil_token_scratch *s = calloc(1, sizeof *s);
    if (!s) return NULL;
    s->owner = t;
    s->words = aligned_alloc(64, PIL_TOK_WORDS * sizeof *s->words);
    if (!s->words) {
        pil_token_scratch_destroy(s);
        return NULL;
    }
    memset(s->words, 0, PIL_TOK_WORDS * sizeof *s->words);
    pil_buf_init(&s->text[0], PIL_LIMIT_NORMALIZED_BYTES);
    pil_buf_init(&s->text[1], PIL_LIMIT_NORMALIZED_BYTES);
    pil_buf_init(&s->piece, PIL_LIMIT_NORMALIZED_BYTES);
    return s;
}

void pil_token_scratch_destroy(pil_token_scratch *s) {
    if (!s) return;
    free(s->words);
    free(s->ids);
    free(s->nodes);
    pil_buf_deinit(&s->text[0]);
    pil_buf_deinit(&s->text[1]);
    pil_buf_deinit(&s->piece);
    pil_marks_deinit(&s->marks);
    free(s);
}

void pil_token_scratch_watch(pil_token_scratch *s, const pil_watch *watch) { s->watch = *watch; }

void pil_token_look(pil_token_scratch *s) {
    s->unwatched = 0;
    pil_watch_beat(&s->watch);
    if (pil_watch_cancelled(&s->watch) && !s->failed) s->failed = PILLION_E_CANCELLED;
}

bool pil_token_reserve(pil_token_scratch *s, size_t n) {
    if (s->failed) return false;
    if (n <= s->ids_cap - s->n_ids) return true;
    size_t cap = s->ids_cap ? s->ids_cap : 512;
    while (cap - s->n_ids < n) cap *= 2;
    int32_t *grown = realloc(s->ids, cap * sizeof *grown);
    if (!grown) {
        s->failed = PILLION_E_NOMEM;
        return false;
    }
    s->ids = grown;
    s->ids_cap = cap;
    return true;
}
