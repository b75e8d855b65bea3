/* parse.h - bytes of a connection to requests, strictly (RFC 9112). llhttp stays behind this door. */
#ifndef PIL_HTTP_PARSE_H
#define PIL_HTTP_PARSE_H

#include <stdbool.h>
#include <stddef.h>

#include "pillion/pillion.h"

typedef struct pil_http_parser pil_http_parser;

/* A request. All strings are borrowed from the parser until pil_http_parser_next(). */
typedef struct pil_http_request {
    const char *method;    /* "GET" */
    const char *path;      /* as sent, without query: "/embed" */
    const char *query;     /* behind the "?", or NULL */
    const char *authority; /* "host:port" of a target in absolute form, else NULL */
    bool is_http_1_0;
    bool keep_alive; /* what the client wishes */
    bool has_body;
    size_t declared_bytes; /* of the body: 0 without one, SIZE_MAX when it comes in chunks */
    size_t n_headers;
    const char *body; /* [body_bytes] once the request is complete */
    size_t body_bytes;
} pil_http_request;

typedef enum pil_http_event {
    PIL_HTTP_MORE,    /* everything was used */
    PIL_HTTP_HEAD,    /* the header is complete; the body, if any, follows */
    PIL_HTTP_REQUEST, /* the request is complete */
    PIL_HTTP_BAD,     /* not HTTP, or over a limit: answer with pil_http_parser_status() and close */
} pil_http_event;

pil_http_parser *pil_http_parser_create(void); /* NULL when memory is exhausted */
void pil_http_parser_destroy(pil_http_parser *p); /* accepts NULL */

/* Takes bytes until something happened; *used says how many. After HEAD and REQUEST the caller goes on with the rest,
 * after REQUEST not before pil_http_parser_next(). After BAD nothing may follow.
 *   Limits   PIL_LIMIT_REQUEST_LINE (414), PIL_LIMIT_HEADER_BYTES and PIL_LIMIT_HEADERS (431), and body_max (413). */
pil_http_event pil_http_parser_feed(pil_http_parser *p, const char *bytes, size_t n, size_t *used);

/* Ceiling of the body of this request: set it after HEAD. PIL_LIMIT_BODY_BYTES until then and for the next request. A
 * declared length above it makes the next feed BAD at once. */
void pil_http_parser_set_body_max(pil_http_parser *p, size_t body_max);
/* After HEAD: whether the declared length, if there is one, is within it. */
bool pil_http_parser_body_fits(const pil_http_parser *p);

const pil_http_request *pil_http_parser_request(const pil_http_parser *p);
/* The value of a header, its name in lower case; NULL when absent. *times (nullable) says how often it came; then the
 * value is the first one. */
const char *pil_http_parser_header(const pil_http_parser *p, const char *name, size_t *times);

/* Body bytes so far, whether nothing of a request has arrived, and whether its header has: for timeouts. */
size_t pil_http_parser_body_bytes(const pil_http_parser *p);
bool pil_http_parser_is_idle(const pil_http_parser *p);
bool pil_http_parser_in_body(const pil_http_parser *p);
/* Bytes of memory that grow with the request. */
size_t pil_http_parser_memory(const pil_http_parser *p);
/* Gives the body's memory to the caller (free): body_bytes of it, NULL if there are none. */
char *pil_http_parser_take_body(pil_http_parser *p);

/* Why BAD: the HTTP status, and a fixed text. */
unsigned pil_http_parser_status(const pil_http_parser *p, const char **text);

/* Forgets the request; its memory is reused. */
void pil_http_parser_next(pil_http_parser *p);

#endif
