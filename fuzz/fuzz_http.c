/* fuzz_http.c - any bytes as what a connection sends: they are the same requests however they are cut into pieces, no
 * limit is passed, and every body is checked against fields of each type with an answer that is JSON. */
#include <stdlib.h>
#include <string.h>

#include "base/limits.h"
#include "base/utf8.h"
#include "http/parse.h"
#include "http/validate.h"

static void check(bool holds) {
    if (!holds) __builtin_trap();
}

static const char *const words[] = {"mean", "cls", "max", NULL};
static const pil_field fields[] = {
    {.name = "texts", .type = PIL_FIELD_TEXTS, .required = true},
    {.name = "path", .type = PIL_FIELD_STRING, .fallback_text = "x"},
    {.name = "normalize", .type = PIL_FIELD_BOOL, .fallback = 1},
    {.name = "pooling", .type = PIL_FIELD_CHOICE, .choices = words, .fallback_text = "mean"},
    {.name = "batch_size", .type = PIL_FIELD_INT, .fallback = 16, .is_above = true, .min = 0, .max = 128},
};
#define N_FIELDS (sizeof fields / sizeof *fields)

static void validate(const char *type, const char *body, size_t n) {
    pil_value values[N_FIELDS];
    pil_json *root;
    pil_buf detail;
    pil_buf_init(&detail, 64 * PIL_MIB);
    pillion_status st = pil_validate(&root, values, fields, N_FIELDS, type, body, n, 100, &detail);
    check((st == PILLION_OK) == (root != NULL));
    if (st) {
        pil_json *answer;
        check(st == PILLION_E_FORMAT || st == PILLION_E_LIMIT);
        check(pil_json_parse(&answer, detail.bytes, detail.len, NULL, NULL) == PILLION_OK);
        check(pil_json_get(answer, "detail") != NULL);
        pil_json_free(answer);
    } else {
        size_t texts = pil_json_count(values[0].texts);
        check(texts >= 1 && texts <= 100 && values[1].text && values[3].text);
        check(values[2].number == 0 || values[2].number == 1);
        check(values[4].number > 0 && values[4].number <= 128);
    }
    pil_json_free(root);
    pil_buf_deinit(&detail);
}

/* What a stream of bytes comes to: a sum over all requests, and how it ended. */
typedef struct outcome {
    size_t requests;
    unsigned status;
    uint64_t sum;
} outcome;

static void add(outcome *o, const char *s, size_t n) {
    for (size_t i = 0; i < n; i++) o->sum = (o->sum ^ (unsigned char)s[i]) * 1099511628211u;
}

static void take_request(outcome *o, const pil_http_parser *p, bool with_bodies) {
    const pil_http_request *r = pil_http_parser_request(p);
    size_t times;
    const char *type = pil_http_parser_header(p, "content-type", &times);
    check(strlen(r->path) + (r->query ? strlen(r->query) : 0) <= PIL_LIMIT_REQUEST_LINE);
    check(r->n_headers <= PIL_LIMIT_HEADERS && r->body_bytes <= PIL_LIMIT_BODY_BYTES && times <= r->n_headers);
    o->requests++;
    add(o, r->method, strlen(r->method));
    add(o, r->path, strlen(r->path));
    if (r->query) add(o, r->query, strlen(r->query));
    if (r->authority) add(o, r->authority, strlen(r->authority));
    if (type) add(o, type, strlen(type));
    add(o, r->body, r->body_bytes);
    if (with_bodies) validate(type, r->body, r->body_bytes);
}

static outcome run(const uint8_t *data, size_t size, size_t piece, bool with_bodies) {
    outcome o = {0};
    pil_http_parser *p = pil_http_parser_create();
    check(p != NULL);
    for (size_t at = 0; at < size && !o.status;) {
        size_t len = size - at < piece ? size - at : piece;
        char *exact = malloc(len);
        check(exact != NULL);
        memcpy(exact, data + at, len);
        at += len;
        for (size_t used, done = 0;; done += used) {
            pil_http_event event = pil_http_parser_feed(p, exact + done, len - done, &used);
            check(used <= len - done);
            if (event == PIL_HTTP_MORE) break;
            if (event == PIL_HTTP_BAD) {
                const char *text;
                o.status = pil_http_parser_status(p, &text);
                check(o.status >= 400 && text);
                break;
            }
            if (event == PIL_HTTP_REQUEST) {
                take_request(&o, p, with_bodies);
                pil_http_parser_next(p);
            }
        }
        free(exact);
    }
    pil_http_parser_destroy(p);
    return o;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    outcome whole = run(data, size, size ? size : 1, true), pieces = run(data, size, 1 + size % 7, false);
    check(whole.requests == pieces.requests && whole.status == pieces.status && whole.sum == pieces.sum);
    size_t split = 0; /* and as a body alone, the type in front of it */
    while (split < size && data[split] != '\n') split++;
    char type[64] = "application/json";
    if (split > 0 && split < sizeof type) {
        memcpy(type, data, split);
        type[split] = '\0';
    }
    char *body = malloc(size ? size : 1);
    check(body != NULL);
    size_t n = split < size ? size - split - 1 : 0;
    if (n) memcpy(body, data + split + 1, n);
    validate(type, body, n);
    free(body);
    return 0;
}
