/* body.c - the body of a request, parsed and checked; a large one by another thread.
 *
 *   small --------------------------------> parsed at once ---------> on_body, or a refusal
 *   large -> waiting -> running (a thread) -> parsed, in the loop --^
 *                 client gone: forgotten; a running one is freed when its thread has ended
 *
 * Parsing takes some 10 ms for each MiB, and nobody else would be served meanwhile. The thread touches this file's
 * object alone: it owns the body, and what it calls is pure.
 * Invariants: (1) at most PIL_LIMIT_PARSING threads; the server knows each. (2) its list holds those that wait, in the
 *             order in which they came. (3) a parsing has an exchange until that is cleared, and a server until that is
 *             destroyed.
 * Tests:      tests/http/test_rows.py, tests/http/test_turns.py. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/limits.h"
#include "http/http_int.h"

#define LARGE_BYTES (256 * PIL_KIB)
#define DETAIL_BYTES_MAX (8 * PIL_MIB) /* a 422 with an error for each of 4,096 texts */
#define JSON_VALUE_BYTES 100           /* that a parsed value costs besides its text */

struct pil_parsing {
    pil_server *server;
    pil_exchange *exchange; /* NULL: nobody waits for it any more */
    pil_parsing *next;      /* of those that wait */
    char *body;
    size_t body_bytes, tree_bytes;
    size_t reserved_bytes; /* of the exchange, until it is parsed; then tree_bytes are */
    char type[128]; /* the content type as far as it matters */
    bool has_type;
    const pil_field *fields;
    size_t n_fields;
    pil_body_fn on_body;
    pil_json *json;
    pil_value values[PIL_FIELDS_MAX];
    pil_buf detail;
    pillion_status status;
};

/* What a JSON text costs when it is parsed, at most. */
static size_t tree_bytes(const char *s, size_t n) {
    size_t values = 1;
    for (size_t i = 0; i < n; i++) values += s[i] == ',' || s[i] == ':' || s[i] == '[' || s[i] == '{';
    if (values > PIL_LIMIT_JSON_VALUES) values = PIL_LIMIT_JSON_VALUES; /* more are refused before they cost anything */
    return n + values * JSON_VALUE_BYTES;
}

static void parsing_free(pil_parsing *p) {
    free(p->body);
    pil_json_free(p->json);
    pil_buf_deinit(&p->detail);
    free(p);
}

/* On whichever thread. */
static void parse(void *ud) {
    pil_parsing *p = ud;
    p->tree_bytes = tree_bytes(p->body, p->body_bytes);
    p->status = pil_validate(&p->json, p->values, p->fields, p->n_fields, p->has_type ? p->type : NULL, p->body,
                             p->body_bytes, PIL_LIMIT_TEXTS, &p->detail);
    free(p->body);
    p->body = NULL;
}

/* Goes on with the request. p is freed. */
static void finish(pil_parsing *p) {
    pil_exchange *x = p->exchange;
    x->parsing = NULL;
    pil_exchange_release(x, p->reserved_bytes - p->tree_bytes);
    x->json = p->json;
    p->json = NULL;
    pil_buf detail = p->detail;
    p->detail = (pil_buf){0};
    pillion_status st = p->status;
    pil_body_fn on_body = p->on_body;
    pil_value values[PIL_FIELDS_MAX];
    memcpy(values, p->values, sizeof values);
    parsing_free(p);
    if (st == PILLION_OK || st == PILLION_E_NOMEM) pil_buf_deinit(&detail);
    if (st == PILLION_OK) on_body(x, values);
    else if (st == PILLION_E_NOMEM) pil_answer_busy(x, 1000, "Out of memory");
    else pil_answer_send(x, st == PILLION_E_LIMIT ? 413 : 422, "application/json", &detail, NULL);
}

static void run_next(pil_server *s);

static void on_parsed(void *ud) {
    pil_parsing *p = ud;
    pil_server *s = p->server;
    for (size_t i = 0; s && i < PIL_LIMIT_PARSING; i++)
        if (s->parsing_now[i] == p) s->parsing_now[i] = NULL;
    if (p->exchange) finish(p);
    else parsing_free(p);
    if (s) run_next(s);
}

static void run_next(pil_server *s) {
    for (size_t i = 0; i < PIL_LIMIT_PARSING; i++) {
        pil_parsing *p = s->parsing_now[i] || s->closing ? NULL : s->parsings;
        if (!p) continue;
        s->parsings = p->next;
        s->parsing_now[i] = p;
        if (pil_loop_work(s->loop, parse, on_parsed, p) == PILLION_OK) continue;
        parse(p); /* no thread can be had */
        on_parsed(p);
    }
}

void pil_body_read(pil_exchange *x, const pil_field *fields, size_t n, pil_body_fn on_body) {
    const pil_http_request *r = x->request;
    pil_server *s = x->server;
    bool is_large = r->body_bytes > LARGE_BYTES; /* then counting its values is the thread's */
    size_t most = r->body_bytes + PIL_LIMIT_JSON_VALUES * JSON_VALUE_BYTES;
    size_t reserved = r->body_bytes + (is_large ? most : tree_bytes(r->body, r->body_bytes));
    if (!pil_exchange_reserve(x, reserved)) {
        pil_answer_busy(x, 1000, PIL_TOO_MUCH);
        return;
    }
    pil_parsing *p = calloc(1, sizeof *p);
    if (!p) {
        pil_answer_busy(x, 1000, "Out of memory");
        return;
    }
    const char *type = pil_http_parser_header(x->parser, "content-type", NULL);
    *p = (pil_parsing){.server = s, .exchange = x, .fields = fields, .n_fields = n, .on_body = on_body,
                       .has_type = type != NULL, .body_bytes = r->body_bytes, .reserved_bytes = reserved};
    snprintf(p->type, sizeof p->type, "%s", type ? type : "");
    p->body = pil_http_parser_take_body(x->parser);
    pil_buf_init(&p->detail, DETAIL_BYTES_MAX);
    x->parsing = p;
    if (!is_large) {
        parse(p);
        finish(p);
        return;
    }
    pil_parsing **last = &s->parsings;
    while (*last) last = &(*last)->next;
    *last = p;
    run_next(s);
}

void pil_body_forget(pil_parsing *p) {
    if (!p) return;
    p->exchange = NULL;
    for (pil_parsing **at = &p->server->parsings; *at; at = &(*at)->next) {
        if (*at != p) continue;
        *at = p->next;
        parsing_free(p);
        return;
    } /* else a thread has it */
}

void pil_body_leave_all(pil_server *s) {
    for (size_t i = 0; i < PIL_LIMIT_PARSING; i++)
        if (s->parsing_now[i]) s->parsing_now[i]->server = NULL;
}
