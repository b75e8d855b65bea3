/* answer.c - status line, header and body of an answer.
 *
 * Every answer has a content length, so that a connection can go on; a HEAD gets the header of the GET. No header is
 * made of what a client sent, but for the path and query of a redirect, which the parser has checked for control
 * characters, and an origin that equals an allowed one.
 * Tests: tests/http/test_server.py, tests/http/test_access.py. */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/limits.h"
#include "base/log.h"
#include "base/utf8.h"
#include "http/http_int.h"

#define HEAD_BYTES_MAX (2 * PIL_KIB + PIL_LIMIT_REQUEST_LINE)

static const char *reason_of(unsigned status) {
    static const struct {
        unsigned status;
        const char *reason;
    } reasons[] = {{200, "OK"},
                   {307, "Temporary Redirect"},
                   {400, "Bad Request"},
                   {401, "Unauthorized"},
                   {403, "Forbidden"},
                   {404, "Not Found"},
                   {405, "Method Not Allowed"},
                   {408, "Request Timeout"},
                   {413, "Content Too Large"},
                   {414, "URI Too Long"},
                   {415, "Unsupported Media Type"},
                   {417, "Expectation Failed"},
                   {422, "Unprocessable Entity"},
                   {431, "Request Header Fields Too Large"},
                   {500, "Internal Server Error"},
                   {501, "Not Implemented"},
                   {503, "Service Unavailable"},
                   {504, "Gateway Timeout"},
                   {505, "HTTP Version Not Supported"}};
    for (size_t i = 0; i < sizeof reasons / sizeof *reasons; i++)
        if (reasons[i].status == status) return reasons[i].reason;
    return "Unknown";
}

static void put_date(pil_buf *out) {
    time_t now = time(NULL);
    struct tm utc;
    char text[64];
    gmtime_r(&now, &utc);
    strftime(text, sizeof text, "%a, %d %b %Y %H:%M:%S GMT", &utc);
    pil_buf_printf(out, "date: %s\r\n", text);
}

/* What clients are told about idle connections: less than is true, so that none is used in the moment of its end. */
static unsigned long long told_idle_s(const pil_server *s) {
    uint64_t idle_s = s->limits.idle_ms / 1000;
    return idle_s > 5 ? idle_s - 5 : 1;
}

void pil_answer_send(pil_exchange *x, unsigned status, const char *content_type, pil_buf *body, const char *headers) {
    pil_conn *c = x->conn;
    if (body->failed) { /* larger than an answer may be, or no memory for it */
        pil_buf_deinit(body);
        pil_buf_init(body, PIL_KIB);
        pil_buf_puts(body, "{\"detail\":\"Not enough memory for the answer\"}");
        status = 503;
        content_type = "application/json";
        headers = "retry-after: 1\r\n";
    }
    bool close = pil_conn_will_close(c);
    pil_buf head;
    pil_buf_init(&head, HEAD_BYTES_MAX);
    pil_buf_printf(&head, "HTTP/1.1 %u %s\r\n", status, reason_of(status));
    put_date(&head);
    pil_buf_printf(&head, "server: pillion\r\ncontent-length: %zu\r\n", body->len);
    if (content_type) pil_buf_printf(&head, "content-type: %s\r\n", content_type);
    if (headers) pil_buf_puts(&head, headers);
    const char *origin = pil_access_origin(x);
    if (origin) pil_buf_printf(&head, "access-control-allow-origin: %s\r\nvary: origin\r\n", origin);
    bool tells_cut = x->n_truncated && status == 200;
    if (tells_cut) pil_buf_printf(&head, "x-pillion-truncated: %zu\r\n", x->n_truncated);
    if (tells_cut && origin) pil_buf_puts(&head, "access-control-expose-headers: x-pillion-truncated\r\n");
    if (close) pil_buf_puts(&head, "connection: close\r\n");
    else pil_buf_printf(&head, "keep-alive: timeout=%llu\r\n", told_idle_s(x->server));
    if (!close && x->request->is_http_1_0) pil_buf_puts(&head, "connection: keep-alive\r\n");
    pil_buf_puts(&head, "\r\n");
    if (x->request && x->request->method)
        pil_log(PIL_LOG_DEBUG, "request", "method=%s status=%u bytes_in=%zu bytes_out=%zu ms=%llu", x->request->method,
                status, x->request->body_bytes, body->len,
                (unsigned long long)(pil_loop_now_ms(x->server->loop) - x->started_ms));
    size_t body_bytes = x->is_head ? 0 : body->len;
    bool together = body_bytes <= PIL_LIMIT_REQUEST_LINE; /* one packet for the small ones */
    if (together) pil_buf_append(&head, body->bytes, body_bytes);
    if (head.failed) {
        pil_buf_deinit(&head);
        pil_buf_deinit(body);
        pil_conn_close(c);
        return;
    }
    char *body_memory = together ? NULL : pil_buf_steal(body);
    pil_buf_deinit(body);
    size_t head_bytes = head.len;
    pil_exchange_clear(x);
    pil_conn_send(c, pil_buf_steal(&head), head_bytes, body_memory, together ? 0 : body_bytes, close);
}

void pil_answer_json(pil_exchange *x, unsigned status, const char *json) {
    pil_buf body;
    pil_buf_init(&body, 64 * PIL_KIB);
    pil_buf_puts(&body, json);
    pil_answer_send(x, status, "application/json", &body, NULL);
}

void pil_answer_detail(pil_exchange *x, unsigned status, const char *fmt, ...) {
    char text[1024];
    va_list ap;
    va_start(ap, fmt);
    int n = vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    pil_buf body;
    pil_buf_init(&body, 64 * PIL_KIB);
    pil_buf_puts(&body, "{\"detail\":");
    pil_json_put_string(&body, text, n > 0 ? pil_utf8_valid(text, strlen(text)) : 0); /* it may have been cut */
    pil_buf_putc(&body, '}');
    pil_answer_send(x, status, "application/json", &body, NULL);
}

void pil_answer_busy(pil_exchange *x, uint64_t retry_after_ms, const char *detail) {
    char header[48];
    snprintf(header, sizeof header, "retry-after: %llu\r\n", (unsigned long long)(retry_after_ms + 999) / 1000);
    pil_buf body;
    pil_buf_init(&body, PIL_KIB);
    pil_buf_printf(&body, "{\"detail\":\"%s\"}", detail);
    pil_answer_send(x, 503, "application/json", &body, header);
}

void pil_answer_refuse(pil_exchange *x, unsigned status, const char *text) {
    pil_buf body;
    pil_buf_init(&body, 64 * PIL_KIB);
    pil_buf_puts(&body, text);
    pil_answer_send(x, status, "text/plain; charset=utf-8", &body, status == 503 ? "retry-after: 1\r\n" : NULL);
}
