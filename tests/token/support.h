/* support.h - what the tests of this room share: tokenizers out of JSON text, and encoding as one assertion.
 *
 * JSON in these tests is written with ` for ", which C would make us escape. */
#ifndef PIL_TESTS_TOKEN_SUPPORT_H
#define PIL_TESTS_TOKEN_SUPPORT_H

#include <stdbool.h>

#include "support/test.h"
#include "token/token.h"

/* A compiled, open tokenizer with scratch memory. */
typedef struct fixture {
    char *blob; /* aligned to 64 bytes */
    size_t blob_bytes;
    pil_tokenizer *t;
    pil_token_scratch *s;
} fixture;

/* Compiles JSON and opens it; fails the test when that fails. */
fixture fixture_open(const char *json);
/* As fixture_open, from JSON as it is, and from a file. */
fixture fixture_open_exact(const char *json);
fixture fixture_open_file(const char *path);
void fixture_close(fixture *b);

/* The error of compiling JSON that must not compile. */
pillion_error fixture_refused(const char *json);

/* The text, of n bytes, must encode to exactly these ids (ended by -1), special ids left out. */
void assert_ids(const fixture *b, const char *text, size_t n, const int32_t *ids);
#define assert_encodes(b, text, ...) assert_ids((b), (text), sizeof(text) - 1, (const int32_t[]){__VA_ARGS__, -1})

/* tokenizer.json of a real model below $PILLION_MODELS; NULL, with a line that says so, when it is not there. */
const char *model_tokenizer(const char *model);

/* A WordPiece tokenizer.json around a list of words, ids from 0: [UNK] [CLS] [SEP] come first. Each part is JSON text
 * or NULL for "null". Free the result. */
char *wordpiece_json(const char *const *words, const char *normalizer, const char *pretokenizer, const char *added);
/* A Unigram tokenizer.json; vocab is the inside of the JSON array, unk_id is 0. */
char *unigram_json(const char *vocab, const char *normalizer, const char *pretokenizer, const char *decoder,
                   const char *added);

/* A tokenizer of the 256 bytes: what it encodes is the bytes of the normalized text. Parts as above, or NULL. Free it.
 * */
char *bytes_json(const char *normalizer, const char *pretokenizer, const char *added);
/* The text must become `wanted` with this normalizer and this pre-tokenizer (either may be NULL). */
void assert_becomes(const char *normalizer, const char *pretokenizer, const char *text, const char *wanted);

#endif
