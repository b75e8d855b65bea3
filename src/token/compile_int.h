/* compile_int.h - what the files that turn a tokenizer.json into a blob share. */
#ifndef PIL_TOKEN_COMPILE_INT_H
#define PIL_TOKEN_COMPILE_INT_H

#include "base/json.h"
#include "token/token_int.h"

/* A token of the vocabulary under construction; bytes are borrowed from the parsed JSON. */
typedef struct pil_tok_entry {
    const char *s; /* NULL: the id has no token */
    size_t n;
    uint8_t flags; /* PIL_TOK_TOKEN_ bits */
} pil_tok_entry;

typedef struct pil_tok_compiler {
    const pil_json *root;
    const char *json; /* the text that root was parsed from, for the numbers whose digits matter (scores.c) */
    size_t json_bytes;
    pil_tok_config config;
    pil_buf sections[PIL_TOK_SECTION_COUNT];
    pil_tok_entry *entries; /* [config.vocab], grown by pil_compile_entry */
    size_t entries_cap;
    uint32_t model_vocab; /* entries of the model: the id of the first added token that is not among them */
    pillion_error *err;
} pil_tok_compiler;

/* "<component> <type> is not supported" and the like; type may be NULL. */
pillion_status pil_compile_unsupported(pil_tok_compiler *c, const char *component, const char *type);
pillion_status pil_compile_malformed(pil_tok_compiler *c, const char *what);

/* Makes room for id and gives its entry. E_UNSUPPORTED when it is out of range, E_NOMEM. */
pillion_status pil_compile_entry(pil_tok_compiler *c, int64_t id, pil_tok_entry **out);

/* A copy of s in PIL_TOK_TEXT. A failure sticks in that section's buffer. */
pil_tok_span pil_compile_text(pil_tok_compiler *c, const char *s, size_t n);

pillion_status pil_compile_normalizers(pil_tok_compiler *c);
pillion_status pil_compile_pretokenizers(pil_tok_compiler *c);
pillion_status pil_compile_decoders(pil_tok_compiler *c);
pillion_status pil_compile_template(pil_tok_compiler *c);
pillion_status pil_compile_model(pil_tok_compiler *c);
pillion_status pil_compile_added(pil_tok_compiler *c);

/* The scores of a Unigram vocabulary in the reference's arithmetic, which differs from strtod in the last bit.
 *   json    a text that is known to be valid JSON.
 *   out     [n]; unchanged where the text holds something unexpected. */
void pil_scores_read(double *out, size_t n, const char *json, size_t json_bytes);

/* The trie in a section of the compiler. */
pil_trie pil_compile_trie(const pil_tok_compiler *c, pil_tok_section which);

/* base64 with padding, strict; appends to out. False when it is malformed. */
bool pil_base64_decode(pil_buf *out, const char *s, size_t n);

#endif
