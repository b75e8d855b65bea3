/* validate.h - the body of a request against a table of fields, with the errors of FastAPI 0.115 and pydantic 2.9.
 *
 * The clients of the sidecar protocol have seen these errors and these leniencies for years: a number may come as "16"
 * or 16.0, a truth value as "yes" or 1. A protocol's handler describes its fields in a table, in the order in which
 * errors are told, and gets plain values back. */
#ifndef PIL_HTTP_VALIDATE_H
#define PIL_HTTP_VALIDATE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/json.h"
#include "pillion/pillion.h"

typedef enum pil_field_type {
    PIL_FIELD_TEXTS,  /* a list of at least one string */
    PIL_FIELD_STRING,
    PIL_FIELD_BOOL,
    PIL_FIELD_INT,    /* min or above <= value <= max */
    PIL_FIELD_CHOICE, /* one of the words */
} pil_field_type;

#define PIL_FIELDS_MAX 8 /* of one table */

typedef struct pil_field {
    const char *name;
    pil_field_type type;
    bool required;
    const char *fallback_text;  /* STRING, CHOICE */
    int64_t fallback;           /* BOOL, INT */
    bool is_above;              /* INT: value > min instead of value >= min */
    int64_t min, max;           /* INT */
    const char *const *choices; /* CHOICE: NULL-terminated, 2 to 8 words */
} pil_field;

/* The value of one field: what the client sent, or the table's fallback. Borrowed from the body and the table. */
typedef struct pil_value {
    const pil_json *texts; /* TEXTS: an array of strings */
    const char *text;      /* STRING, CHOICE; NUL-terminated, but may hold NUL within text_bytes */
    size_t text_bytes;
    int64_t number; /* BOOL: 0 or 1; INT */
} pil_value;

/* Parses a body and checks it against fields[n].
 *   content_type  the header's value, or NULL.
 *   root          given (pil_json_free), NULL on failure.
 *   values        [n], filled on success.
 *   detail        on E_FORMAT the body of a 422 answer is appended: {"detail":[{"type","loc","msg","input","ctx"?}…]}.
 *                 Input is echoed as JSON of at most PIL_LIMIT_ECHO_BYTES; what is longer is cut and made a string.
 *   Errors        E_FORMAT, E_LIMIT (a list of more than texts_max; detail says so in its own words), E_NOMEM. */
pillion_status pil_validate(pil_json **root, pil_value *values, const pil_field *fields, size_t n,
                            const char *content_type, const char *body, size_t body_bytes, size_t texts_max,
                            pil_buf *detail);

/* One more error in that shape, for what is found out later: {"detail":[{"type":type,"loc":["body",field,index],
 * "msg":msg,"input":…}]}. text is the input, cut as above; NULL leaves it out. */
pillion_status pil_validate_put_item(pil_buf *detail, const char *type, const char *field, size_t index,
                                     const char *msg, const char *text, size_t text_bytes);

#endif
