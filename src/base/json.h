/* json.h - strict JSON (RFC 8259) in, compact JSON out. jansson stays behind this door.
 *
 * Refused besides syntax errors: nesting deeper than asked, duplicate keys, invalid UTF-8, lone surrogates. "\u0000" in
 * a string is allowed: strings have a length. */
#ifndef PIL_BASE_JSON_H
#define PIL_BASE_JSON_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "pillion/pillion.h"

typedef struct pil_json pil_json; /* one value; everything but the parsed root is borrowed from that root */

typedef enum pil_json_type {
    PIL_JSON_NULL,
    PIL_JSON_BOOL,
    PIL_JSON_INT,
    PIL_JSON_REAL,
    PIL_JSON_STRING,
    PIL_JSON_ARRAY,
    PIL_JSON_OBJECT,
} pil_json_type;

/* Parses exactly one value of any type.
 *   out     given: free with pil_json_free; NULL on failure.
 *   offset  nullable; on E_FORMAT the byte offset of the error: where the token begins that does not fit.
 *   Errors  E_FORMAT (err says what, in lower case, without the offset), E_NOMEM.
 * A whole number beyond 64 bits turns every number of the document into a real. */
pillion_status pil_json_parse(pil_json **out, const char *bytes, size_t n, size_t *offset, pillion_error *err);
/* The same for bytes of strangers: E_LIMIT when there are more than values_max values (commas and brackets are counted
 * before anything is built, since one byte of text can cost a hundred of memory). */
pillion_status pil_json_parse_limited(pil_json **out, const char *bytes, size_t n, size_t values_max, size_t *offset,
                                      pillion_error *err);
/* Reads a whole file of at most bytes_max bytes and parses it, at most values_max values; errors name the path. */
pillion_status pil_json_load(pil_json **out, const char *path, size_t bytes_max, size_t values_max, pillion_error *err);
void pil_json_free(pil_json *root);

pil_json_type pil_json_typeof(const pil_json *v); /* NULL counts as PIL_JSON_NULL */

/* Accessors. All accept NULL and values of another type, and then give the fallback, 0 or NULL. */
const pil_json *pil_json_get(const pil_json *object, const char *key);
const pil_json *pil_json_at(const pil_json *array, size_t i);
size_t pil_json_count(const pil_json *array_or_object);
const char *pil_json_string(const pil_json *v, size_t *n); /* NUL-terminated; n nullable */
const char *pil_json_string_or(const pil_json *v, const char *fallback);
int64_t pil_json_int_or(const pil_json *v, int64_t fallback); /* a real with a whole value counts */
double pil_json_real_or(const pil_json *v, double fallback);  /* an integer counts */
bool pil_json_bool_or(const pil_json *v, bool fallback);

/* Walks an object in document order: for (void *it = pil_json_first(o); it; it = pil_json_next(o, it)) … */
void *pil_json_first(const pil_json *object);
void *pil_json_next(const pil_json *object, void *it);
const char *pil_json_key(void *it, size_t *n); /* NUL-terminated */
const pil_json *pil_json_value(void *it);

/* Writing. A string with its quotes, escaped; s must be valid UTF-8 (control characters become \u00XX). */
pillion_status pil_json_put_string(pil_buf *b, const char *s, size_t n);
/* A decimal of at most 9 digits that reads back as the same float, also through a double; always with a point or an
 * exponent, as Python writes floats. v must be finite. */
pillion_status pil_json_put_f32(pil_buf *b, float v);
/* [v0,v1,…] of n values. */
pillion_status pil_json_put_f32_array(pil_buf *b, const float *v, size_t n);
/* A parsed value, written compactly again. */
pillion_status pil_json_put(pil_buf *b, const pil_json *v);

#endif
