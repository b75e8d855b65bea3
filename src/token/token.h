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
#include "base/watch.h"
#include "pillion/pillion.h"

typedef struct pil_tokenizer pil_tokenizer;

/* tokenizer.json -> blob, whose size is a multiple of 64. E_FORMAT (malformed), E_UNSUPPORTED (names the component and
 * its type), E_LIMIT, E_NOMEM. out is initialised by the caller with a limit. What is known:
 *   models          WordPiece, Unigram (byte_fallback too)
 *   normalizers     BertNormalizer, Precompiled, NFC, NFD, NFKC, NFKD, Lowercase, StripAccents, Strip, Prepend, Nmt,
 *                   Replace (a string, or the pattern " {2,}"), Sequence
 *   pre-tokenizers  BertPreTokenizer, WhitespaceSplit, Whitespace, Punctuation, Digits, Metaspace (once), Sequence
 *   processors      TemplateProcessing, RobertaProcessing, BertProcessing, ByteLevel (moves offsets only), Sequence
 *   decoders        WordPiece, Metaspace, Replace, ByteFallback, Fuse, Strip, Sequence */
pillion_status pil_tokenizer_compile(pil_buf *out, const char *json, size_t json_bytes, pillion_error *err);

/* Opens a blob in place: borrowed until close, 64-byte aligned. Takes some tens of microseconds: header, settings,
 * steps and added tokens are checked now (E_FORMAT), indices in the large arrays when they are followed, so that a
 * hostile blob may give other ids but never a crash or an id out of range. E_ARG (not aligned), E_NOMEM. out is given,
 * NULL on failure. */
pillion_status pil_tokenizer_open(pil_tokenizer **out, const void *blob, size_t blob_bytes, pillion_error *err);
void pil_tokenizer_close(pil_tokenizer *t); /* accepts NULL */

const char *pil_tokenizer_model(const pil_tokenizer *t);  /* "WordPiece", "Unigram" */
uint32_t pil_tokenizer_vocab(const pil_tokenizer *t);     /* highest id + 1, added tokens included */
uint32_t pil_tokenizer_n_special(const pil_tokenizer *t); /* ids that the template adds to a single text */
bool pil_tokenizer_is_special(const pil_tokenizer *t, int32_t id);
/* Spelling of a token as in the vocabulary ("##ing", "▁the"), not NUL-terminated; NULL when id is out of range. */
const char *pil_tokenizer_spelling(const pil_tokenizer *t, int32_t id, size_t *n);

/* Memory that one thread reuses from text to text, for this tokenizer only: half a megabyte of words seen before, and
 * buffers that shrink again after a very long text. */
typedef struct pil_token_scratch pil_token_scratch;
pil_token_scratch *pil_token_scratch_create(const pil_tokenizer *t); /* NULL when memory is exhausted */
void pil_token_scratch_destroy(pil_token_scratch *s);                /* accepts NULL */

typedef struct pil_tokens {
    const int32_t *ids; /* borrowed from the scratch until its next use; never NULL on success */
    size_t n;           /* after truncation, special ids included */
    size_t n_all;       /* before truncation, special ids included */
    size_t error_offset; /* E_UTF8: byte offset of the first invalid byte */
} pil_tokens;

/* Who follows the calls with this scratch from now on, and can end them; *watch is copied, its pointers are borrowed
 * until the next call of this. At first nobody. */
void pil_token_scratch_watch(pil_token_scratch *s, const pil_watch *watch);

/* Encodes one text. A beat for each few KiB, and no more once nobody waits.
 *   max_tokens   0: no limit; else content is cut at the right so that at most max_tokens ids remain, special ones
 *                included (as tokenizers' truncation, direction right, strategy longest first).
 *   add_special  apply the template.
 *   Errors       E_UTF8 (error_offset), E_NOMEM, E_CANCELLED, E_LIMIT (text over PIL_LIMIT_TEXT_BYTES, or
 *                over PIL_LIMIT_NORMALIZED_BYTES when normalized), E_ARG (max_tokens below the number of special ids).
 *                Time and memory are linear in n for every input. text may be NULL when n is 0. */
pillion_status pil_tokenizer_encode(const pil_tokenizer *t, pil_token_scratch *s, const char *text, size_t n,
                                    size_t max_tokens, bool add_special, pil_tokens *out, pillion_error *err);

/* Ids back to text as tokenizers' decode does with the decoder in tokenizer.json; ids out of range are E_ARG.
 * Appends to out. */
pillion_status pil_tokenizer_decode(const pil_tokenizer *t, const int32_t *ids, size_t n, bool skip_special,
                                    pil_buf *out, pillion_error *err);

#endif
