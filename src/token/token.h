/* token.h - UTF-8 to token ids, identical to Hugging Face's `tokenizers` package. Never sees a tensor.
 *
 * A tokenizer.json is compiled once into a flat blob (little-endian, offsets instead of pointers) that is later mapped
 * and used in place. */
#ifndef PIL_TOKEN_TOKEN_H
#define PIL_TOKEN_TOKEN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "pillion/pillion.h"

typedef struct pil_tokenizer pil_tokenizer;

/* tokenizer.json -> blob. E_FORMAT (malformed), E_UNSUPPORTED (names the component and its type), E_NOMEM.
 * out is initialised by the caller with a limit. */
pillion_status pil_tokenizer_compile(pil_buf *out, const char *json, size_t json_bytes, pillion_error *err);

/* Opens a blob in place: borrowed until close, 64-byte aligned. Checks the table of sections and every index that
 * encoding follows, so that a hostile blob gives E_FORMAT, never a crash. out is given, NULL on failure. */
pillion_status pil_tokenizer_open(pil_tokenizer **out, const void *blob, size_t blob_bytes, pillion_error *err);
void pil_tokenizer_close(pil_tokenizer *t); /* accepts NULL */

const char *pil_tokenizer_model(const pil_tokenizer *t);  /* "WordPiece", "Unigram" */
uint32_t pil_tokenizer_vocab(const pil_tokenizer *t);     /* highest id + 1, added tokens included */
uint32_t pil_tokenizer_n_special(const pil_tokenizer *t); /* ids that the template adds to a single text */
bool pil_tokenizer_is_special(const pil_tokenizer *t, int32_t id);
/* Spelling of a token as in the vocabulary ("##ing", "▁the"), not NUL-terminated; NULL when id is out of range. */
const char *pil_tokenizer_spelling(const pil_tokenizer *t, int32_t id, size_t *n);

/* Memory that one thread reuses from text to text. */
typedef struct pil_token_scratch pil_token_scratch;
pil_token_scratch *pil_token_scratch_create(const pil_tokenizer *t); /* NULL when memory is exhausted */
void pil_token_scratch_destroy(pil_token_scratch *s);                /* accepts NULL */

typedef struct pil_tokens {
    const int32_t *ids; /* borrowed from the scratch until its next use */
    size_t n;           /* after truncation, special ids included */
    size_t n_all;       /* before truncation, special ids included */
    size_t error_offset; /* E_UTF8: byte offset of the first invalid byte */
} pil_tokens;

/* Encodes one text.
 *   max_tokens   0: no limit; else content is cut at the right so that at most max_tokens ids remain, special ones
 *                included (as tokenizers' truncation, direction right, strategy longest first).
 *   add_special  apply the template.
 *   Errors       E_UTF8 (error_offset), E_NOMEM, E_LIMIT (text over PIL_LIMIT_TEXT_BYTES). Time and memory are linear
 *                in n for every input. */
pillion_status pil_tokenizer_encode(const pil_tokenizer *t, pil_token_scratch *s, const char *text, size_t n,
                                    size_t max_tokens, bool add_special, pil_tokens *out, pillion_error *err);

/* Ids back to text as tokenizers' decode does with the decoder in tokenizer.json; ids out of range are E_ARG.
 * Appends to out. */
pillion_status pil_tokenizer_decode(const pil_tokenizer *t, const int32_t *ids, size_t n, bool skip_special,
                                    pil_buf *out, pillion_error *err);

#endif
