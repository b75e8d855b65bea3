/* texts.h - where the texts of a command come from: its arguments, a file, or standard input, in blocks. */
#ifndef PIL_CMD_TEXTS_H
#define PIL_CMD_TEXTS_H

#include <stddef.h>
#include <stdint.h>

#include "pillion/pillion.h"

typedef enum pil_texts_format {
    PIL_TEXTS_AUTO,  /* JSONL when the first line that is not blank holds a JSON object, else LINES */
    PIL_TEXTS_LINES, /* every line is a text, empty ones too, so that text i is line i + 1 */
    PIL_TEXTS_JSONL, /* every line that is not blank is an object with a string "text" */
} pil_texts_format;

extern const char *const pil_texts_formats[]; /* names in that order, NULL-terminated */

typedef struct pil_texts pil_texts;

/* Exactly one source is used: the arguments when there are any (a single "-" means standard input), else the file
 * `input` ("-" means standard input), else standard input.
 *   args         [n_args], borrowed until close.
 *   block_texts  at most this many texts in one block.
 *   Errors       E_ARG (arguments and a file; or no texts while standard input is a terminal: the message says what to
 *                do), E_NOT_FOUND, E_IO, E_NOMEM. *out is NULL then. */
PILLION_MUST_USE pillion_status pil_texts_open(pil_texts **out, char **args, size_t n_args, const char *input,
                                               pil_texts_format format, size_t block_texts, pillion_error *err);
void pil_texts_close(pil_texts *t); /* accepts NULL */

/* The next block, in the order of the source; *n is 0 at the end. A block ends early when the source pauses, so that
 * whoever writes one line sees its vector before the next.
 *   in      [*n], borrowed until the next call. All are valid UTF-8 of at most PIL_LIMIT_TEXT_BYTES bytes.
 *   Errors  one line that names the source, the line, and for UTF-8 the byte. E_UTF8, E_FORMAT (JSON), E_LIMIT: the
 *           text is to blame; E_IO, E_NOMEM. Texts before the wrong one that were not handed out yet are dropped. */
PILLION_MUST_USE pillion_status pil_texts_next(pil_texts *t, const pillion_input **in, size_t *n, pillion_error *err);

/* The member "id" of the i-th text of the last block, as JSON: a string or a whole number that came with it in a JSON
 * line. NULL when there is none. Borrowed until the next block. */
const char *pil_texts_id(const pil_texts *t, size_t i);

/* "notes.txt", "standard input", "arguments". */
const char *pil_texts_name(const pil_texts *t);

/* How much of the source is read once `done` of the n texts of the current block are dealt with: 0 to 1, or a negative
 * number while the source's length is unknown (a pipe). */
double pil_texts_fraction(const pil_texts *t, size_t done, size_t n);

#endif
