/* parse.c - bytes of a connection to requests; the only file that knows llhttp.
 *
 * Flow:       llhttp_execute() calls back with fragments -> they are gathered in `head` and `body` -> it is paused
 *             when the header is complete (HEAD) and when the message is (REQUEST).
 * Invariants: (1) head and body never grow beyond their limits: a fragment is counted before it is kept. (2) trailers
 *             and chunk extensions are counted and dropped; they never become headers. (3) after BAD nothing is
 *             parsed, so a request that hides behind a broken one is never seen.
 * llhttp runs in its strict mode: it refuses bare LF, folded headers, two lengths, a length beside a transfer coding,
 * and blanks before a colon. What it lets through and we do not: transfer codings besides "chunked", and those in
 * HTTP/1.0.
 * Tests: tests/http/test_parse.c, tests/http/test_hostile.py, fuzz/fuzz_http.c. */
#include "http/parse.h"

#include <llhttp.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/buf.h"
#include "base/limits.h"

#define EXTRA_BYTES_MAX (4 * PIL_KIB) /* chunk extensions and trailers: nobody we know sends any */
#define KEEP_BYTES (8 * PIL_KIB)      /* memory kept from one request to the next, by each idle connection */

typedef struct header {
    size_t name, value; /* offsets in head, NUL-terminated */
} header;

struct pil_http_parser {
    llhttp_t llhttp;
    llhttp_settings_t settings;
    pil_http_request request;
    pil_buf head; /* the target, then names and values, each NUL-terminated */
    pil_buf body;
    header headers[PIL_LIMIT_HEADERS];
    size_t header_bytes, extra_bytes, body_max;
    bool head_done, done, started;
    unsigned status; /* not 0: BAD */
    const char *text;
};

static int bad(pil_http_parser *p, unsigned status, const char *text) {
    if (!p->status) {
        p->status = status;
        p->text = text;
    }
    return HPE_USER;
}

static int no_memory(pil_http_parser *p) { return bad(p, 503, "Out of memory."); }

/* ── Fragments ──────────────────────────────────────────────────────────────────────────────────────────────── */

static int on_begin(llhttp_t *l) {
    ((pil_http_parser *)l->data)->started = true;
    return 0;
}

static int on_url(llhttp_t *l, const char *at, size_t n) {
    pil_http_parser *p = l->data;
    if (p->head.len + n > PIL_LIMIT_REQUEST_LINE) return bad(p, 414, "Request target is too long.");
    return pil_buf_append(&p->head, at, n) ? no_memory(p) : 0;
}

static int on_url_complete(llhttp_t *l) {
    pil_http_parser *p = l->data;
    if (pil_buf_putc(&p->head, '\0')) return no_memory(p);
    p->headers[0].name = p->head.len;
    return 0;
}

/* Counts what a header costs: its bytes, and the line's own ": " and CRLF. */
static int count_header(pil_http_parser *p, size_t n) {
    if (p->head_done) {
        p->extra_bytes += n;
        return p->extra_bytes > EXTRA_BYTES_MAX ? bad(p, 431, "Trailers are too long.") : 0;
    }
    p->header_bytes += n;
    return p->header_bytes > PIL_LIMIT_HEADER_BYTES ? bad(p, 431, "Request header is too long.") : 0;
}

static int on_field(llhttp_t *l, const char *at, size_t n) {
    pil_http_parser *p = l->data;
    int e = count_header(p, n);
    if (e || p->head_done) return e;
    if (p->request.n_headers == PIL_LIMIT_HEADERS) return bad(p, 431, "Too many request headers.");
    return pil_buf_append(&p->head, at, n) ? no_memory(p) : 0;
}

static int on_field_complete(llhttp_t *l) {
    pil_http_parser *p = l->data;
    int e = count_header(p, 4);
    if (e || p->head_done) return e;
    if (pil_buf_putc(&p->head, '\0')) return no_memory(p);
    p->headers[p->request.n_headers].value = p->head.len;
    return 0;
}

static int on_value(llhttp_t *l, const char *at, size_t n) {
    pil_http_parser *p = l->data;
    int e = count_header(p, n);
    if (e || p->head_done) return e;
    return pil_buf_append(&p->head, at, n) ? no_memory(p) : 0;
}

/* The next header's name begins where this value ends. */
static int on_value_complete(llhttp_t *l) {
    pil_http_parser *p = l->data;
    if (p->head_done) return 0;
    while (p->head.len > p->headers[p->request.n_headers].value &&
           (p->head.bytes[p->head.len - 1] == ' ' || p->head.bytes[p->head.len - 1] == '\t'))
        p->head.len--;
    if (pil_buf_putc(&p->head, '\0')) return no_memory(p);
    p->request.n_headers++;
    if (p->request.n_headers < PIL_LIMIT_HEADERS) p->headers[p->request.n_headers].name = p->head.len;
    return 0;
}

static int on_extension(llhttp_t *l, const char *at, size_t n) {
    (void)at;
    pil_http_parser *p = l->data;
    p->extra_bytes += n;
    return p->extra_bytes > EXTRA_BYTES_MAX ? bad(p, 400, "Chunk extensions are too long.") : 0;
}

static int on_body(llhttp_t *l, const char *at, size_t n) {
    pil_http_parser *p = l->data;
    if (n > p->body_max || p->body.len > p->body_max - n) return bad(p, 413, "Request body is too large.");
    return pil_buf_append(&p->body, at, n) ? no_memory(p) : 0;
}

/* ── The two stops ──────────────────────────────────────────────────────────────────────────────────────────── */

/* Splits the target, in place, into authority, path and query. */
static int split_target(pil_http_parser *p) {
    char *target = p->head.bytes;
    pil_http_request *r = &p->request;
    r->query = NULL;
    r->authority = NULL;
    if (strncasecmp(target, "http://", 7) == 0) {
        char *authority = target + 7, *slash = authority + strcspn(authority, "/?");
        if (slash == authority) return bad(p, 400, "Invalid request target.");
        if (*slash == '?') return bad(p, 400, "Invalid request target.");
        /* move the authority one to the left, so that a NUL fits between it and the path */
        memmove(authority - 1, authority, (size_t)(slash - authority));
        slash[-1] = '\0';
        r->authority = authority - 1;
        target = slash;
        if (*target == '\0') {
            r->path = "/";
            return 0;
        }
    } else if (*target != '/' && strcmp(target, "*") != 0 && strcmp(r->method, "CONNECT") != 0) {
        return bad(p, 400, "Invalid request target.");
    }
    r->path = target;
    char *query = strchr(target, '?');
    if (query) {
        *query = '\0';
        r->query = query + 1;
    }
    return 0;
}

static int on_head(llhttp_t *l) {
    pil_http_parser *p = l->data;
    p->head_done = true;
    l->upgrade = 0; /* an offer of another protocol is not taken up: the request is an ordinary one */
    p->request.method = llhttp_method_name((llhttp_method_t)l->method);
    p->request.is_http_1_0 = l->http_major == 1 && l->http_minor == 0;
    if (l->http_major != 1 || l->http_minor > 1) return bad(p, 505, "Only HTTP/1.0 and HTTP/1.1 are spoken here.");
    p->request.keep_alive = llhttp_should_keep_alive(l) != 0;
    p->request.has_body = (l->flags & F_CHUNKED) || l->content_length > 0;
    p->request.declared_bytes = (l->flags & F_CHUNKED) ? SIZE_MAX : l->content_length;
    int e = split_target(p);
    if (e) return e;
    size_t times;
    const char *coding = pil_http_parser_header(p, "transfer-encoding", &times);
    if (coding && (times > 1 || strcasecmp(coding, "chunked") != 0 || p->request.is_http_1_0))
        return bad(p, 400, "Invalid transfer coding.");
    return HPE_PAUSED;
}

static int on_complete(llhttp_t *l) {
    pil_http_parser *p = l->data;
    p->done = true;
    p->request.body = p->body.bytes;
    p->request.body_bytes = p->body.len;
    return HPE_PAUSED;
}

/* ── The door ───────────────────────────────────────────────────────────────────────────────────────────────── */

pil_http_parser *pil_http_parser_create(void) {
    pil_http_parser *p = calloc(1, sizeof *p);
    if (!p) return NULL;
    llhttp_settings_init(&p->settings);
    p->settings.on_message_begin = on_begin;
    p->settings.on_url = on_url;
    p->settings.on_url_complete = on_url_complete;
    p->settings.on_header_field = on_field;
    p->settings.on_header_field_complete = on_field_complete;
    p->settings.on_header_value = on_value;
    p->settings.on_header_value_complete = on_value_complete;
    p->settings.on_headers_complete = on_head;
    p->settings.on_chunk_extension_name = on_extension;
    p->settings.on_chunk_extension_value = on_extension;
    p->settings.on_body = on_body;
    p->settings.on_message_complete = on_complete;
    llhttp_init(&p->llhttp, HTTP_REQUEST, &p->settings);
    p->llhttp.data = p;
    pil_buf_init(&p->head, PIL_LIMIT_REQUEST_LINE + 2 * PIL_LIMIT_HEADER_BYTES);
    pil_buf_init(&p->body, PIL_LIMIT_BODY_BYTES);
    p->body_max = PIL_LIMIT_BODY_BYTES;
    return p;
}

void pil_http_parser_destroy(pil_http_parser *p) {
    if (!p) return;
    pil_buf_deinit(&p->head);
    pil_buf_deinit(&p->body);
    free(p);
}

static void set_reason(pil_http_parser *p, llhttp_errno_t e) {
    bool known = p->llhttp.http_major == 1 && p->llhttp.http_minor <= 1; /* then it is the line's end that is wrong */
    if ((e == HPE_INVALID_VERSION && !known) || e == HPE_PAUSED_H2_UPGRADE)
        bad(p, 505, "Only HTTP/1.0 and HTTP/1.1 are spoken here.");
    else bad(p, 400, "Invalid HTTP request received.");
}

pil_http_event pil_http_parser_feed(pil_http_parser *p, const char *bytes, size_t n, size_t *used) {
    *used = n;
    if (p->status) return PIL_HTTP_BAD;
    if (p->head_done && !pil_http_parser_body_fits(p)) {
        bad(p, 413, "Request body is too large.");
        return PIL_HTTP_BAD;
    }
    if (llhttp_get_errno(&p->llhttp) == HPE_PAUSED) llhttp_resume(&p->llhttp);
    llhttp_errno_t e = llhttp_execute(&p->llhttp, bytes, n);
    if (e == HPE_OK) return PIL_HTTP_MORE;
    if (e != HPE_PAUSED) {
        set_reason(p, e);
        return PIL_HTTP_BAD;
    }
    *used = (size_t)(llhttp_get_error_pos(&p->llhttp) - bytes);
    return p->done ? PIL_HTTP_REQUEST : PIL_HTTP_HEAD;
}

void pil_http_parser_set_body_max(pil_http_parser *p, size_t body_max) { p->body_max = body_max; }

/* llhttp counts content_length down, and for chunks it is that of the current one. */
bool pil_http_parser_body_fits(const pil_http_parser *p) {
    return (p->llhttp.flags & F_CHUNKED) || p->llhttp.content_length <= p->body_max;
}

const pil_http_request *pil_http_parser_request(const pil_http_parser *p) { return &p->request; }

const char *pil_http_parser_header(const pil_http_parser *p, const char *name, size_t *times) {
    const char *found = NULL;
    size_t count = 0;
    for (size_t i = 0; i < p->request.n_headers; i++) {
        if (strcasecmp(p->head.bytes + p->headers[i].name, name) != 0) continue;
        if (count++ == 0) found = p->head.bytes + p->headers[i].value;
    }
    if (times) *times = count;
    return found;
}

size_t pil_http_parser_body_bytes(const pil_http_parser *p) { return p->body.len; }
bool pil_http_parser_is_idle(const pil_http_parser *p) { return !p->started; }
bool pil_http_parser_in_body(const pil_http_parser *p) { return p->head_done; }
size_t pil_http_parser_memory(const pil_http_parser *p) { return p->head.cap + p->body.cap; }

char *pil_http_parser_take_body(pil_http_parser *p) {
    p->request.body = NULL;
    return pil_buf_steal(&p->body);
}

unsigned pil_http_parser_status(const pil_http_parser *p, const char **text) {
    *text = p->text;
    return p->status;
}

void pil_http_parser_next(pil_http_parser *p) {
    pil_buf_clear(&p->head);
    pil_buf_clear(&p->body);
    if (p->head.cap > KEEP_BYTES) pil_buf_deinit(&p->head);
    if (p->body.cap > KEEP_BYTES) pil_buf_deinit(&p->body);
    p->request = (pil_http_request){0};
    p->header_bytes = p->extra_bytes = 0;
    p->body_max = PIL_LIMIT_BODY_BYTES;
    p->head_done = p->done = p->started = false;
}
