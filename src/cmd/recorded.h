/* recorded.h - batches of texts that were recorded as JSON, in the shapes that applications write them. */
#ifndef PIL_CMD_RECORDED_H
#define PIL_CMD_RECORDED_H

#include <stddef.h>

#include "base/json.h"
#include "pillion/pillion.h"

/* Texts that were sent together. */
typedef struct pil_recorded_batch {
    const char *file; /* borrowed from the caller of pil_recorded_read */
    size_t number;    /* in that file, from 1 */
    size_t first, n;  /* its texts, n >= 1 */
} pil_recorded_batch;

typedef struct pil_recorded {
    pil_json **documents; /* the texts point into them */
    size_t n_documents;
    pillion_input *texts;
    size_t n_texts;
    pil_recorded_batch *batches;
    size_t n_batches;
    size_t open; /* the first text that belongs to no batch yet */
} pil_recorded;

/* Adds the batches of a file to those that are there; *r is zeroed at first. What is understood:
 *   a text    a string, or an object with a string "text", "content", "chunk" or "prompt".
 *   a batch   texts that follow one another in an array or on the lines of the file; or one text by itself.
 *   wrapping  an object whose member "texts", "input", "inputs", "batch", "batches", "chunks", "documents", "data",
 *             "request", "body" or "payload" (the first of them that holds anything) is one of these, to any depth.
 *   file      one JSON document, or one on each line. A byte order mark is skipped.
 * Nothing is left out silently: what is neither a text nor holds texts is an error.
 *   path    borrowed as long as *r.
 *   Errors  one line that names the file and the place. E_NOT_FOUND, E_IO, E_NOMEM; E_LIMIT (a file beyond
 *           PIL_LIMIT_JSON_FILE or PIL_LIMIT_RECORDED_VALUES), E_FORMAT (malformed, or no text in it). */
PILLION_MUST_USE pillion_status pil_recorded_read(pil_recorded *r, const char *path, pillion_error *err);
void pil_recorded_deinit(pil_recorded *r); /* accepts a zeroed one */

#endif
