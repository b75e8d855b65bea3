/* compile_steps.c - the normalizers, pre-tokenizer, decoder and post-processor of a tokenizer.json, as flat steps.
 *
 * A Sequence becomes the steps of its parts, one after the other, as the reference runs them. What is not known here is
 * refused by name: a component that is skipped would give other ids than the reference's.
 * Tests: tests/token/test_compile.c. */
#include <string.h>

#include "base/limits.h"
#include "base/utf8.h"
#include "token/compile_int.h"

typedef pillion_status (*add_fn)(pil_tok_compiler *c, const pil_json *v, const char *type);

/* Calls add for v, or for each part when v is a Sequence. Depth is bounded by that of the JSON. */
static pillion_status each(pil_tok_compiler *c, const pil_json *v, const char *component, const char *parts,
                           add_fn add) {
    if (pil_json_typeof(v) == PIL_JSON_NULL) return PILLION_OK;
    const char *type = pil_json_string(pil_json_get(v, "type"), NULL);
    if (!type) return pil_compile_malformed(c, component);
    if (strcmp(type, "Sequence")) return add(c, v, type);
    const pil_json *array = pil_json_get(v, parts);
    if (pil_json_typeof(array) != PIL_JSON_ARRAY) return pil_compile_malformed(c, component);
    for (size_t i = 0; i < pil_json_count(array); i++) {
        pillion_status st = each(c, pil_json_at(array, i), component, parts, add);
        if (st) return st;
    }
    return PILLION_OK;
}

static pillion_status append(pil_tok_compiler *c, pil_tok_step step, uint32_t *count) {
    if (*count == PIL_LIMIT_TOKENIZER_STEPS) return pil_compile_unsupported(c, "a Sequence of so many steps", NULL);
    ++*count;
    return pil_buf_append(&c->sections[PIL_TOK_STEPS], &step, sizeof step);
}

static bool take_bool(const pil_json *v, const char *key, bool *out) {
    const pil_json *b = pil_json_get(v, key);
    *out = pil_json_bool_or(b, false);
    return pil_json_typeof(b) == PIL_JSON_BOOL;
}

/* A string member as text of the blob. False when there is none. */
static bool take_text(pil_tok_compiler *c, const pil_json *v, const char *key, pil_tok_span *out) {
    size_t n;
    const char *s = pil_json_string(pil_json_get(v, key), &n);
    if (s) *out = pil_compile_text(c, s, n);
    return s != NULL;
}

static bool take_char(pil_tok_compiler *c, const pil_json *v, const char *key, pil_tok_span *out) {
    size_t n;
    uint32_t point;
    const char *s = pil_json_string(pil_json_get(v, key), &n);
    return s && n > 0 && pil_utf8_decode(s, &point) == n && take_text(c, v, key, out);
}

/* ── Normalizers ────────────────────────────────────────────────────────────────────────────────────────────── */

static pillion_status bert_flags(pil_tok_compiler *c, const pil_json *v, uint32_t *flags) {
    bool clean, chinese, lower;
    if (!take_bool(v, "clean_text", &clean) || !take_bool(v, "handle_chinese_chars", &chinese) ||
        !take_bool(v, "lowercase", &lower))
        return pil_compile_malformed(c, "normalizer BertNormalizer");
    bool strip = pil_json_bool_or(pil_json_get(v, "strip_accents"), lower); /* null: as lowercase */
    *flags = (clean ? PIL_TOK_BERT_CLEAN : 0) | (chinese ? PIL_TOK_BERT_CHINESE : 0) |
             (strip ? PIL_TOK_BERT_STRIP_ACCENTS : 0) | (lower ? PIL_TOK_BERT_LOWER : 0);
    return PILLION_OK;
}

static pillion_status add_charsmap(pil_tok_compiler *c, const pil_json *v) {
    pil_buf *units = &c->sections[PIL_TOK_CHARSMAP], *text = &c->sections[PIL_TOK_CHARSMAP_TEXT];
    if (units->len > 0) return pil_compile_unsupported(c, "a second normalizer", "Precompiled");
    size_t n;
    const char *s = pil_json_string(pil_json_get(v, "precompiled_charsmap"), &n);
    pil_buf raw;
    pil_buf_init(&raw, PIL_LIMIT_JSON_FILE);
    bool ok = s && pil_base64_decode(&raw, s, n) && raw.len >= 4;
    uint32_t trie_bytes = 0;
    if (ok) memcpy(&trie_bytes, raw.bytes, 4);
    trie_bytes -= trie_bytes % 4;
    ok = ok && trie_bytes <= raw.len - 4;
    size_t text_bytes = ok ? raw.len - 4 - trie_bytes : 0;
    ok = ok && pil_utf8_valid(raw.bytes + 4 + trie_bytes, text_bytes) == text_bytes;
    if (ok) {
        pil_buf_append(units, raw.bytes + 4, trie_bytes);
        pil_buf_append(text, raw.bytes + 4 + trie_bytes, text_bytes);
    }
    pil_buf_deinit(&raw);
    return ok ? units->failed ? units->failed : text->failed
              : pil_compile_malformed(c, "precompiled_charsmap of the normalizer Precompiled");
}

static pillion_status replace_step(pil_tok_compiler *c, const pil_json *v, pil_tok_step *step) {
    const pil_json *pattern = pil_json_get(v, "pattern");
    const char *regex = pil_json_string(pil_json_get(pattern, "Regex"), NULL);
    if (!take_text(c, v, "content", &step->text[1])) return pil_compile_malformed(c, "Replace");
    if (regex && step->kind == PIL_TOK_N_REPLACE && !strcmp(regex, " {2,}")) {
        step->kind = PIL_TOK_N_REPLACE_SPACES;
        return PILLION_OK;
    }
    if (regex) return pil_compile_unsupported(c, "Replace with the pattern", regex);
    if (!take_text(c, pattern, "String", &step->text[0])) return pil_compile_malformed(c, "Replace");
    return step->text[0].bytes ? PILLION_OK : pil_compile_unsupported(c, "Replace with an empty pattern", NULL);
}

static bool has_bert(const pil_tok_compiler *c) {
    const pil_tok_step *seen = (const pil_tok_step *)(const void *)c->sections[PIL_TOK_STEPS].bytes;
    for (size_t i = 0; i < c->config.n_normalizers; i++)
        if (seen[i].kind == PIL_TOK_N_BERT) return true;
    return false;
}

static pillion_status add_normalizer(pil_tok_compiler *c, const pil_json *v, const char *type) {
    static const struct {
        const char *type;
        uint32_t kind, flags;
    } plain[] = {
        {"StripAccents", PIL_TOK_N_STRIP_ACCENTS, 0},
        {"NFD", PIL_TOK_N_FORM, 0},
        {"NFC", PIL_TOK_N_FORM, PIL_TOK_FORM_COMPOSED},
        {"NFKD", PIL_TOK_N_FORM, PIL_TOK_FORM_COMPATIBILITY},
        {"NFKC", PIL_TOK_N_FORM, PIL_TOK_FORM_COMPATIBILITY | PIL_TOK_FORM_COMPOSED},
        {"Lowercase", PIL_TOK_N_LOWERCASE, 0},
        {"Nmt", PIL_TOK_N_NMT, 0},
    };
    pil_tok_step step = {0};
    pillion_status st = PILLION_OK;
    for (size_t i = 0; i < sizeof plain / sizeof *plain; i++) {
        if (strcmp(type, plain[i].type)) continue;
        step = (pil_tok_step){.kind = plain[i].kind, .flags = plain[i].flags};
        return append(c, step, &c->config.n_normalizers);
    }
    if (!strcmp(type, "BertNormalizer")) {
        if (has_bert(c)) return pil_compile_unsupported(c, "a second normalizer", type);
        step.kind = PIL_TOK_N_BERT;
        st = bert_flags(c, v, &step.flags);
    } else if (!strcmp(type, "Strip")) {
        bool left, right;
        step.kind = PIL_TOK_N_STRIP;
        if (!take_bool(v, "strip_left", &left) || !take_bool(v, "strip_right", &right))
            return pil_compile_malformed(c, "normalizer Strip");
        step.flags = (left ? PIL_TOK_STRIP_LEFT : 0) | (right ? PIL_TOK_STRIP_RIGHT : 0);
    } else if (!strcmp(type, "Precompiled")) {
        step.kind = PIL_TOK_N_PRECOMPILED;
        st = add_charsmap(c, v);
    } else if (!strcmp(type, "Replace")) {
        step.kind = PIL_TOK_N_REPLACE;
        st = replace_step(c, v, &step);
    } else if (!strcmp(type, "Prepend")) {
        step.kind = PIL_TOK_N_PREPEND;
        if (!take_text(c, v, "prepend", &step.text[0])) st = pil_compile_malformed(c, "normalizer Prepend");
    } else {
        st = pil_compile_unsupported(c, "normalizer", type);
    }
    return st ? st : append(c, step, &c->config.n_normalizers);
}

pillion_status pil_compile_normalizers(pil_tok_compiler *c) {
    return each(c, pil_json_get(c->root, "normalizer"), "normalizer", "normalizers", add_normalizer);
}

/* ── Pre-tokenizers ─────────────────────────────────────────────────────────────────────────────────────────── */

static pillion_status metaspace_step(pil_tok_compiler *c, const pil_json *v, pil_tok_step *step) {
    if (!take_char(c, v, "replacement", &step->text[0])) return pil_compile_malformed(c, "Metaspace");
    bool no_prefix = !pil_json_bool_or(pil_json_get(v, "add_prefix_space"), true); /* the older way of saying "never" */
    const char *scheme = pil_json_string_or(pil_json_get(v, "prepend_scheme"), no_prefix ? "never" : "always");
    if (!strcmp(scheme, "always")) step->flags = PIL_TOK_META_ALWAYS;
    else if (!strcmp(scheme, "first")) step->flags = PIL_TOK_META_FIRST;
    else if (strcmp(scheme, "never")) return pil_compile_unsupported(c, "Metaspace with the prepend_scheme", scheme);
    if (no_prefix && step->flags)
        return pil_compile_malformed(c, "Metaspace (add_prefix_space contradicts prepend_scheme)");
    if (pil_json_bool_or(pil_json_get(v, "split"), true)) step->flags |= PIL_TOK_META_SPLIT;
    return PILLION_OK;
}

static pillion_status take_behavior(pil_tok_compiler *c, const char *name, uint32_t *out) {
    static const char *const names[PIL_TOK_BEHAVIOR_COUNT] = {
        [PIL_TOK_REMOVED] = "Removed",
        [PIL_TOK_ISOLATED] = "Isolated",
        [PIL_TOK_CONTIGUOUS] = "Contiguous",
        [PIL_TOK_MERGED_WITH_PREVIOUS] = "MergedWithPrevious",
        [PIL_TOK_MERGED_WITH_NEXT] = "MergedWithNext",
    };
    for (uint32_t i = 0; i < PIL_TOK_BEHAVIOR_COUNT; i++) {
        if (strcmp(name, names[i])) continue;
        *out = i;
        return PILLION_OK;
    }
    return pil_compile_unsupported(c, "Punctuation with the behavior", name);
}

static pillion_status add_pretokenizer(pil_tok_compiler *c, const pil_json *v, const char *type) {
    pil_tok_step step = {0};
    pillion_status st = PILLION_OK;
    if (!strcmp(type, "BertPreTokenizer")) {
        step.kind = PIL_TOK_P_BERT;
    } else if (!strcmp(type, "WhitespaceSplit")) {
        step.kind = PIL_TOK_P_WHITESPACE_SPLIT;
    } else if (!strcmp(type, "Whitespace")) {
        step.kind = PIL_TOK_P_WHITESPACE;
    } else if (!strcmp(type, "Punctuation")) {
        step.kind = PIL_TOK_P_PUNCTUATION;
        st = take_behavior(c, pil_json_string_or(pil_json_get(v, "behavior"), "Isolated"), &step.flags);
    } else if (!strcmp(type, "Digits")) {
        bool individual;
        step.kind = PIL_TOK_P_DIGITS;
        if (!take_bool(v, "individual_digits", &individual)) st = pil_compile_malformed(c, "pre-tokenizer Digits");
        step.flags = individual ? PIL_TOK_ISOLATED : PIL_TOK_CONTIGUOUS;
    } else if (!strcmp(type, "Metaspace")) {
        const pil_tok_step *seen = (const pil_tok_step *)c->sections[PIL_TOK_STEPS].bytes + c->config.n_normalizers;
        for (size_t i = 0; i < c->config.n_pretokenizers; i++)
            if (seen[i].kind == PIL_TOK_P_METASPACE) return pil_compile_unsupported(c, "a second pre-tokenizer", type);
        step.kind = PIL_TOK_P_METASPACE;
        st = metaspace_step(c, v, &step);
    } else {
        st = pil_compile_unsupported(c, "pre-tokenizer", type);
    }
    /* "first" follows the reference's alignments, which no carried count follows through that normalizer's reordering
     * */
    if (!st && step.kind == PIL_TOK_P_METASPACE && step.flags & PIL_TOK_META_FIRST && has_bert(c))
        st = pil_compile_unsupported(c, "Metaspace with the prepend_scheme first behind BertNormalizer", NULL);
    return st ? st : append(c, step, &c->config.n_pretokenizers);
}

pillion_status pil_compile_pretokenizers(pil_tok_compiler *c) {
    return each(c, pil_json_get(c->root, "pre_tokenizer"), "pre-tokenizer", "pretokenizers", add_pretokenizer);
}

/* ── Decoders ───────────────────────────────────────────────────────────────────────────────────────────────── */

static pillion_status add_decoder(pil_tok_compiler *c, const pil_json *v, const char *type) {
    pil_tok_step step = {0};
    pillion_status st = PILLION_OK;
    if (!strcmp(type, "WordPiece")) {
        bool cleanup;
        step.kind = PIL_TOK_D_WORDPIECE;
        if (!take_text(c, v, "prefix", &step.text[0]) || !take_bool(v, "cleanup", &cleanup))
            return pil_compile_malformed(c, "decoder WordPiece");
        step.flags = cleanup;
    } else if (!strcmp(type, "Metaspace")) {
        step.kind = PIL_TOK_D_METASPACE;
        st = metaspace_step(c, v, &step);
    } else if (!strcmp(type, "Replace")) {
        step.kind = PIL_TOK_D_REPLACE;
        st = replace_step(c, v, &step);
    } else if (!strcmp(type, "Fuse")) {
        step.kind = PIL_TOK_D_FUSE;
    } else if (!strcmp(type, "ByteFallback")) {
        step.kind = PIL_TOK_D_BYTE_FALLBACK;
    } else if (!strcmp(type, "Strip")) {
        step.kind = PIL_TOK_D_STRIP;
        int64_t start = pil_json_int_or(pil_json_get(v, "start"), -1);
        int64_t stop = pil_json_int_or(pil_json_get(v, "stop"), -1);
        bool ok = start >= 0 && stop >= 0 && start <= INT32_MAX && stop <= INT32_MAX;
        if (!ok || !take_char(c, v, "content", &step.text[0]))
            return pil_compile_malformed(c, "decoder Strip");
        step.a = (uint32_t)start;
        step.b = (uint32_t)stop;
    } else {
        st = pil_compile_unsupported(c, "decoder", type);
    }
    return st ? st : append(c, step, &c->config.n_decoders);
}

pillion_status pil_compile_decoders(pil_tok_compiler *c) {
    const pil_json *v = pil_json_get(c->root, "decoder");
    c->config.has_decoder = pil_json_typeof(v) != PIL_JSON_NULL;
    return each(c, v, "decoder", "decoders", add_decoder);
}

/* ── Post-processors ────────────────────────────────────────────────────────────────────────────────────────── */

/* Puts ids around what the processors so far have put around the content. */
static pillion_status wrap(pil_tok_compiler *c, const int32_t *before, size_t n_before, const int32_t *behind,
                           size_t n_behind) {
    pil_buf *ids = &c->sections[PIL_TOK_TEMPLATE];
    if (c->config.n_before + n_before > PIL_LIMIT_TEMPLATE || c->config.n_behind + n_behind > PIL_LIMIT_TEMPLATE)
        return pil_compile_unsupported(c, "a template of so many ids", NULL);
    size_t old_bytes = ids->len;
    char *p = pil_buf_reserve(ids, (n_before + n_behind) * sizeof *before);
    if (!p) return ids->failed;
    memmove(ids->bytes + n_before * sizeof *before, ids->bytes, old_bytes);
    memcpy(ids->bytes, before, n_before * sizeof *before);
    memcpy(ids->bytes + n_before * sizeof *before + old_bytes, behind, n_behind * sizeof *behind);
    ids->len += (n_before + n_behind) * sizeof *before;
    c->config.n_before += (uint32_t)n_before;
    c->config.n_behind += (uint32_t)n_behind;
    pillion_status st = PILLION_OK;
    pil_tok_entry *e;
    for (size_t i = 0; i < n_before && !st; i++) st = pil_compile_entry(c, before[i], &e);
    for (size_t i = 0; i < n_behind && !st; i++) st = pil_compile_entry(c, behind[i], &e);
    return st;
}

static bool take_id(const pil_json *v, int32_t *out) {
    int64_t id = pil_json_int_or(v, -1);
    *out = (int32_t)id;
    return id >= 0 && id < PIL_LIMIT_VOCAB;
}

/* RobertaProcessing and BertProcessing: cls before, sep behind, each as [spelling, id]. */
static pillion_status add_pair_processor(pil_tok_compiler *c, const pil_json *v, const char *type) {
    int32_t cls, sep;
    if (!take_id(pil_json_at(pil_json_get(v, "cls"), 1), &cls) ||
        !take_id(pil_json_at(pil_json_get(v, "sep"), 1), &sep))
        return pil_compile_malformed(c, type);
    return wrap(c, &cls, 1, &sep, 1);
}

static pillion_status add_template(pil_tok_compiler *c, const pil_json *v) {
    int32_t ids[2][PIL_LIMIT_TEMPLATE];
    size_t n[2] = {0}, n_contents = 0;
    const pil_json *single = pil_json_get(v, "single"), *specials = pil_json_get(v, "special_tokens");
    if (pil_json_typeof(single) != PIL_JSON_ARRAY) return pil_compile_malformed(c, "TemplateProcessing");
    for (size_t i = 0; i < pil_json_count(single); i++) {
        const pil_json *piece = pil_json_at(single, i), *sequence = pil_json_get(piece, "Sequence");
        if (sequence) {
            bool is_a = !strcmp(pil_json_string_or(pil_json_get(sequence, "id"), ""), "A");
            if (!is_a || ++n_contents > 1)
                return pil_compile_unsupported(c, "TemplateProcessing with such a single", NULL);
            continue;
        }
        const char *name = pil_json_string(pil_json_get(pil_json_get(piece, "SpecialToken"), "id"), NULL);
        const pil_json *list = name ? pil_json_get(pil_json_get(specials, name), "ids") : NULL;
        if (pil_json_typeof(list) != PIL_JSON_ARRAY) return pil_compile_malformed(c, "TemplateProcessing");
        size_t side = n_contents > 0;
        for (size_t k = 0; k < pil_json_count(list); k++) {
            if (n[side] == PIL_LIMIT_TEMPLATE) return pil_compile_unsupported(c, "a template of so many ids", NULL);
            if (!take_id(pil_json_at(list, k), &ids[side][n[side]++]))
                return pil_compile_malformed(c, "TemplateProcessing");
        }
    }
    if (n_contents != 1) return pil_compile_unsupported(c, "TemplateProcessing with such a single", NULL);
    return wrap(c, ids[0], n[0], ids[1], n[1]);
}

static pillion_status add_processor(pil_tok_compiler *c, const pil_json *v, const char *type) {
    if (!strcmp(type, "TemplateProcessing")) return add_template(c, v);
    if (!strcmp(type, "RobertaProcessing") || !strcmp(type, "BertProcessing")) return add_pair_processor(c, v, type);
    if (!strcmp(type, "ByteLevel")) return PILLION_OK; /* moves offsets only */
    return pil_compile_unsupported(c, "post-processor", type);
}

pillion_status pil_compile_template(pil_tok_compiler *c) {
    return each(c, pil_json_get(c->root, "post_processor"), "post-processor", "processors", add_processor);
}
