/* compile.c - tokenizer.json to one flat blob.
 *
 * Flow:   parse -> model (vocabulary, trie, scores) -> normalizers, pre-tokenizer, decoder -> template -> added tokens
 *         -> sections laid one behind the other.
 * Memory: the parsed JSON lives until the blob is written; spellings are borrowed from it.
 * Not here: "truncation" and "padding" of the file are ignored: the engine decides about lengths and never pads.
 * Tests:  tests/token/test_compile.c, fuzz/fuzz_tokenizer_json.c. */
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/limits.h"
#include "token/compile_int.h"

pillion_status pil_compile_unsupported(pil_tok_compiler *c, const char *component, const char *type) {
    return pil_err_set(c->err, PILLION_E_UNSUPPORTED, "%s%s%s is not supported", component, type ? " " : "",
                       type ? type : "");
}

pillion_status pil_compile_malformed(pil_tok_compiler *c, const char *what) {
    return pil_err_set(c->err, PILLION_E_FORMAT, "%s is malformed", what);
}

pil_tok_span pil_compile_text(pil_tok_compiler *c, const char *s, size_t n) {
    pil_buf *text = &c->sections[PIL_TOK_TEXT];
    pil_tok_span span = {.offset = (uint32_t)text->len, .bytes = (uint32_t)n};
    pil_buf_append(text, s, n);
    return span;
}

static pillion_status put_spellings(pil_tok_compiler *c) {
    pil_buf *offsets = &c->sections[PIL_TOK_SPELLING_OFFSETS], *bytes = &c->sections[PIL_TOK_SPELLINGS];
    pil_buf *flags = &c->sections[PIL_TOK_FLAGS];
    for (uint32_t id = 0; id <= c->config.vocab; id++) {
        uint32_t offset = (uint32_t)bytes->len;
        pil_buf_append(offsets, &offset, sizeof offset);
        if (id == c->config.vocab) break;
        const pil_tok_entry *e = &c->entries[id];
        pil_buf_append(bytes, e->s, e->s ? e->n : 0);
        pil_buf_putc(flags, (char)e->flags);
    }
    return offsets->failed ? offsets->failed : bytes->failed ? bytes->failed : flags->failed;
}

/* One score for each id: added tokens and gaps behind the model's vocabulary never ask for theirs. */
static pillion_status pad_scores(pil_tok_compiler *c) {
    pil_buf *scores = &c->sections[PIL_TOK_SCORES];
    const double none = 0;
    if (c->config.model != PIL_TOK_UNIGRAM) return PILLION_OK;
    while (scores->len < c->config.vocab * sizeof none && !scores->failed) pil_buf_append(scores, &none, sizeof none);
    return scores->failed;
}

static pillion_status assemble(pil_tok_compiler *c, pil_buf *out) {
    static const char zeros[64];
    pil_tok_header h = {.magic = PIL_TOK_MAGIC, .version = PIL_TOK_VERSION, .n_sections = PIL_TOK_SECTION_COUNT};
    size_t start = out->len, at = (sizeof h + 63) & ~(size_t)63;
    for (size_t i = 0; i < PIL_TOK_SECTION_COUNT; i++) {
        if (c->sections[i].failed) return c->sections[i].failed;
        h.sections[i] = (pil_tok_range){.offset = at, .bytes = c->sections[i].len};
        at = (at + c->sections[i].len + 63) & ~(size_t)63;
    }
    h.blob_bytes = at;
    pil_buf_append(out, &h, sizeof h);
    for (size_t i = 0; i < PIL_TOK_SECTION_COUNT && !out->failed; i++) {
        pil_buf_append(out, zeros, h.sections[i].offset - (out->len - start));
        pil_buf_append(out, c->sections[i].bytes, c->sections[i].len);
    }
    if (!out->failed) pil_buf_append(out, zeros, at - (out->len - start));
    return out->failed;
}

static pillion_status compile(pil_tok_compiler *c, pil_buf *out) {
    if (pil_json_typeof(c->root) != PIL_JSON_OBJECT) return pil_compile_malformed(c, "the document");
    pillion_status st = pil_compile_model(c);
    if (!st) st = pil_compile_normalizers(c);
    if (!st) st = pil_compile_pretokenizers(c);
    if (!st) st = pil_compile_decoders(c);
    if (!st) st = pil_compile_template(c);
    if (!st) st = pil_compile_added(c);
    if (!st) st = put_spellings(c);
    if (!st) st = pad_scores(c);
    if (!st) st = pil_buf_append(&c->sections[PIL_TOK_CONFIG], &c->config, sizeof c->config);
    if (!st) st = assemble(c, out);
    return st;
}

pillion_status pil_tokenizer_compile(pil_buf *out, const char *json, size_t json_bytes, pillion_error *err) {
    pil_json *root;
    size_t offset = 0;
    pillion_error why = {0};
    pillion_status st = pil_json_parse_limited(&root, json, json_bytes, PIL_LIMIT_TOKENIZER_VALUES, &offset, &why);
    if (st == PILLION_E_FORMAT) return pil_err_set(err, st, "%s at byte %zu", why.text, offset);
    if (st) return pil_err_set(err, st, "%s", why.text);
    pil_tok_compiler c = {.root = root, .json = json, .json_bytes = json_bytes, .err = err};
    for (size_t i = 0; i < PIL_TOK_SECTION_COUNT; i++) {
        pil_buf_init(&c.sections[i], PIL_LIMIT_TOKENIZER_BYTES);
        pil_buf_reserve(&c.sections[i], 1); /* so that an empty section has an address too; a failure sticks */
    }
    st = compile(&c, out);
    if (st) pil_err_set(err, st, "%s", st == PILLION_E_LIMIT ? "vocabulary is too large" : "out of memory");
    for (size_t i = 0; i < PIL_TOK_SECTION_COUNT; i++) pil_buf_deinit(&c.sections[i]);
    free(c.entries);
    pil_json_free(root);
    return st;
}
