/* body.c - the body of a request, parsed and checked; a large one by a thread (errand.c).
 *
 * Flow:    pil_body_read() -> parse() -> finish(): on_body, or a refusal.
 * Memory:  what parsing may cost at most is reserved before, and what it did not cost given back.
 * Tests:   tests/http/test_rows.py, tests/http/test_turns.py. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/limits.h"
#include "http/http_int.h"

#define DETAIL_BYTES_MAX (8 * PIL_MIB) /* a 422 with an error for each of 4,096 texts */
#define JSON_VALUE_BYTES 100           /* that a parsed value costs besides its text */

typedef struct parsing {
    pil_errand errand; /* first */
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
} parsing;

/* What a JSON text costs when it is parsed, at most. */
static size_t tree_bytes(const char *s, size_t n) {
    size_t values = 1;
    for (size_t i = 0; i < n; i++) values += s[i] == ',' || s[i] == ':' || s[i] == '[' || s[i] == '{';
    if (values > PIL_LIMIT_JSON_VALUES) values = PIL_LIMIT_JSON_VALUES; /* more are refused before they cost anything */
    return n + values * JSON_VALUE_BYTES;
}

static void parsing_free(void *ud) {
    parsing *p = ud;
    free(p->body);
    pil_json_free(p->json);
    pil_buf_deinit(&p->detail);
    free(p);
}

/* On whichever thread. */
static void parse(void *ud) {
    parsing *p = ud;
    p->tree_bytes = tree_bytes(p->body, p->body_bytes);
    p->status = pil_validate(&p->json, p->values, p->fields, p->n_fields, p->has_type ? p->type : NULL, p->body,
                             p->body_bytes, PIL_LIMIT_TEXTS, &p->detail);
    free(p->body);
    p->body = NULL;
}

/* Goes on with the request. p is freed. */
static void finish(void *ud) {
    parsing *p = ud;
    pil_exchange *x = p->errand.exchange;
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

void pil_body_read(pil_exchange *x, const pil_field *fields, size_t n, pil_body_fn on_body) {
    const pil_http_request *r = x->request;
    bool is_large = r->body_bytes > PIL_LARGE_BYTES; /* then counting its values is the thread's */
    size_t most = r->body_bytes + PIL_LIMIT_JSON_VALUES * JSON_VALUE_BYTES;
    size_t reserved = r->body_bytes + (is_large ? most : tree_bytes(r->body, r->body_bytes));
    if (!pil_exchange_reserve(x, reserved)) {
        pil_answer_busy(x, 1000, PIL_TOO_MUCH);
        return;
    }
    parsing *p = calloc(1, sizeof *p);
    if (!p) {
        pil_answer_busy(x, 1000, "Out of memory");
        return;
    }
    const char *type = pil_http_parser_header(x->parser, "content-type", NULL);
    *p = (parsing){.errand = {.server = x->server, .exchange = x, .work = parse, .done = finish, .free = parsing_free},
                   .fields = fields, .n_fields = n, .on_body = on_body, .has_type = type != NULL,
                   .body_bytes = r->body_bytes, .reserved_bytes = reserved};
    snprintf(p->type, sizeof p->type, "%s", type ? type : "");
    p->body = pil_http_parser_take_body(x->parser);
    pil_buf_init(&p->detail, DETAIL_BYTES_MAX);
    pil_errand_run(&p->errand, is_large);
}
