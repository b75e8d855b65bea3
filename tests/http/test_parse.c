/* test_parse.c - requests in pieces of any size, and the list of things that are not requests. */
#include "support/test.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/limits.h"
#include "http/parse.h"

/* Feeds text in pieces; returns the number of complete requests, or minus the status of the refusal. */
static int feed(pil_http_parser *p, const char *text, size_t n, size_t piece) {
    int requests = 0;
    for (size_t at = 0; at < n;) {
        size_t len = n - at < piece ? n - at : piece, used;
        char *copy = malloc(len); /* exactly its size, so that a sanitizer sees a byte read too far */
        memcpy(copy, text + at, len);
        pil_http_event event = pil_http_parser_feed(p, copy, len, &used);
        if (event == PIL_HTTP_HEAD) { /* a request without a body is complete without another byte */
            at += used;
            event = pil_http_parser_feed(p, copy + used, len - used, &used);
        }
        free(copy);
        at += used;
        if (event == PIL_HTTP_BAD) {
            const char *why;
            unsigned status = pil_http_parser_status(p, &why);
            assert_non_null(why);
            return -(int)status;
        }
        if (event == PIL_HTTP_REQUEST) {
            requests++;
            if (at < n) pil_http_parser_next(p);
        }
    }
    return requests;
}

static int count(const char *text) {
    static const size_t pieces[] = {1, 2, 7, 64, 1 << 20};
    int first = 0;
    for (size_t i = 0; i < sizeof pieces / sizeof *pieces; i++) {
        pil_http_parser *p = pil_http_parser_create();
        int requests = feed(p, text, strlen(text), pieces[i]);
        pil_http_parser_destroy(p);
        if (i == 0) first = requests;
        if (requests != first)
            fail_msg("%d in pieces of %zu, %d in single bytes: %s", requests, pieces[i], first, text);
    }
    return first;
}

static void a_request_is_taken_apart(void **state) {
    (void)state;
    static const char text[] =
        "POST /embed?x=%20&y HTTP/1.1\r\nHost: localhost:8421\r\nContent-Type:  application/json \t\r\n"
        "X-Empty:\r\nContent-Length: 5\r\n\r\nhello";
    for (size_t piece = 1; piece < 40; piece += 3) {
        pil_http_parser *p = pil_http_parser_create();
        assert_true(pil_http_parser_is_idle(p));
        assert_int_equal(feed(p, text, sizeof text - 1, piece), 1);
        assert_false(pil_http_parser_is_idle(p));
        const pil_http_request *r = pil_http_parser_request(p);
        assert_string_equal(r->method, "POST");
        assert_string_equal(r->path, "/embed");
        assert_string_equal(r->query, "x=%20&y");
        assert_null(r->authority);
        assert_true(r->keep_alive && r->has_body && !r->is_http_1_0);
        assert_int_equal(r->n_headers, 4);
        assert_int_equal(r->body_bytes, 5);
        assert_memory_equal(r->body, "hello", 5);
        assert_string_equal(pil_http_parser_header(p, "host", NULL), "localhost:8421");
        assert_string_equal(pil_http_parser_header(p, "content-type", NULL), "application/json");
        assert_string_equal(pil_http_parser_header(p, "x-empty", NULL), "");
        assert_null(pil_http_parser_header(p, "origin", NULL));
        pil_http_parser_next(p);
        assert_true(pil_http_parser_is_idle(p));
        assert_int_equal(feed(p, "GET / HTTP/1.0\r\n\r\n", 18, piece), 1);
        assert_string_equal(pil_http_parser_request(p)->path, "/");
        assert_null(pil_http_parser_request(p)->query);
        assert_false(pil_http_parser_request(p)->keep_alive);
        assert_true(pil_http_parser_request(p)->is_http_1_0);
        pil_http_parser_destroy(p);
    }
}

static void repeated_headers_are_counted(void **state) {
    (void)state;
    static const char text[] = "GET / HTTP/1.1\r\nHost: a\r\nHOST: b\r\n\r\n";
    pil_http_parser *p = pil_http_parser_create();
    assert_int_equal(feed(p, text, sizeof text - 1, 5), 1);
    size_t times;
    assert_string_equal(pil_http_parser_header(p, "host", &times), "a");
    assert_int_equal(times, 2);
    pil_http_parser_header(p, "cookie", &times);
    assert_int_equal(times, 0);
    pil_http_parser_destroy(p);
}

static void a_target_may_name_the_host(void **state) {
    (void)state;
    static const struct {
        const char *target, *authority, *path, *query;
    } cases[] = {{"http://localhost:1/health?q", "localhost:1", "/health", "q"},
                 {"HTTP://x", "x", "/", NULL},
                 {"http://[::1]:80/", "[::1]:80", "/", NULL},
                 {"/a//b/../c", NULL, "/a//b/../c", NULL},
                 {"/?", NULL, "/", ""}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char text[200];
        snprintf(text, sizeof text, "GET %s HTTP/1.1\r\nHost: x\r\n\r\n", cases[i].target);
        pil_http_parser *p = pil_http_parser_create();
        assert_int_equal(feed(p, text, strlen(text), 3), 1);
        const pil_http_request *r = pil_http_parser_request(p);
        if (cases[i].authority) assert_string_equal(r->authority, cases[i].authority);
        else assert_null(r->authority);
        assert_string_equal(r->path, cases[i].path);
        if (cases[i].query) assert_string_equal(r->query, cases[i].query);
        else assert_null(r->query);
        pil_http_parser_destroy(p);
    }
}

static void chunked_bodies_are_put_together(void **state) {
    (void)state;
    static const char text[] = "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: Chunked\r\n\r\n"
                               "1\r\na\r\n3;name=value\r\nbcd\r\n0\r\nTrailer: Host\r\nHost: evil\r\n\r\n";
    for (size_t piece = 1; piece < 30; piece++) {
        pil_http_parser *p = pil_http_parser_create();
        assert_int_equal(feed(p, text, sizeof text - 1, piece), 1);
        assert_int_equal(pil_http_parser_request(p)->body_bytes, 4);
        assert_memory_equal(pil_http_parser_request(p)->body, "abcd", 4);
        assert_string_equal(pil_http_parser_header(p, "host", NULL), "x"); /* a trailer is no header */
        assert_int_equal(pil_http_parser_request(p)->n_headers, 2);
        pil_http_parser_destroy(p);
    }
}

static void several_requests_follow_each_other(void **state) {
    (void)state;
    assert_int_equal(
        count("GET / HTTP/1.1\r\nHost: x\r\n\r\nPOST / HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\nabGET /b "
              "HTTP/1.1\r\nHost: x\r\n\r\n"),
        3);
    assert_int_equal(count("\r\n\r\nGET / HTTP/1.1\r\nHost: x\r\n\r\n"),
                     1); /* blank lines before a request are usual */
    /* an upgrade is an offer: the request is answered as it is, and what follows is the next request */
    assert_int_equal(count("GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n\r\n"
                           "GET / HTTP/1.1\r\nHost: x\r\n\r\n"),
                     2);
}

#define HOST "Host: x\r\n"

static void what_is_no_request_is_refused(void **state) {
    (void)state;
    static const struct {
        const char *text;
        int status;
    } cases[] = {
        {"hello\r\n\r\n", 400},
        {"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400},
        {"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505},
        {"GET / HTTP/2.0\r\n" HOST "\r\n", 505},
        {"GET / HTTP/1.2\r\n" HOST "\r\n", 505},
        {"get / HTTP/1.1\r\n" HOST "\r\n", 400},
        {"GETX / HTTP/1.1\r\n" HOST "\r\n", 400},
        {"GET /\r\n\r\n", 505},
        {"GET / HTTP/1.1\n" HOST "\r\n", 400},
        {"GET / HTTP/1.1\r\nHost: x\nA: b\r\n\r\n", 400},
        {"GET / HTTP/1.1\r\nHost: x\r\r\n\r\n", 400},
        {"GET / HTTP/1.1\r\nHost : x\r\n\r\n", 400},
        {"GET / HTTP/1.1\r\n Host: x\r\n\r\n", 400},
        {"GET / HTTP/1.1\r\nHost: x\r\nA: b\r\n c\r\n\r\n", 400},
        {"GET / HTTP/1.1\r\nno colon\r\n\r\n", 400},
        {"GET / HTTP/1.1\r\n: empty\r\n\r\n", 400},
        {"GET / HTTP/1.1\r\nA: \x01\r\n\r\n", 400},
        {"GET /\x01 HTTP/1.1\r\n" HOST "\r\n", 400},
        {"GET health HTTP/1.1\r\n" HOST "\r\n", 400},
        {"GET http:// HTTP/1.1\r\n" HOST "\r\n", 400},
        {"GET http://x?y HTTP/1.1\r\n" HOST "\r\n", 400},
        {"GET ftp://x/ HTTP/1.1\r\n" HOST "\r\n", 400},
        {"POST / HTTP/1.1\r\n" HOST "Content-Length: 5\r\nContent-Length: 5\r\n\r\nhello", 400},
        {"POST / HTTP/1.1\r\n" HOST "Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello", 400},
        {"POST / HTTP/1.1\r\n" HOST "Content-Length: 5, 5\r\n\r\nhello", 400},
        {"POST / HTTP/1.1\r\n" HOST "Content-Length: +5\r\n\r\nhello", 400},
        {"POST / HTTP/1.1\r\n" HOST "Content-Length: 0x5\r\n\r\nhello", 400},
        {"POST / HTTP/1.1\r\n" HOST "Content-Length: -1\r\n\r\nhello", 400},
        {"POST / HTTP/1.1\r\n" HOST "Content-Length: 99999999999999999999\r\n\r\nhello", 400},
        {"POST / HTTP/1.1\r\n" HOST "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400},
        {"POST / HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n", 400},
        {"POST / HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n", 400},
        {"POST / HTTP/1.1\r\n" HOST "Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", 400},
        {"POST / HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400},
        {"POST / HTTP/1.1\r\n" HOST "Transfer-Encoding:\tchunked\x0b\r\n\r\n0\r\n\r\n", 400},
        {"POST / HTTP/1.0\r\n" HOST "Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400},
        {"POST / HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked\r\n\r\nFFFFFFFFFFFFFFFF1\r\n", 400},
        {"POST / HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked\r\n\r\nx\r\n", 400},
        {"POST / HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked\r\n\r\n1\r\nab\r\n", 400},
        {"POST / HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked\r\n\r\n1\na\r\n0\r\n\r\n", 400},
    };
    int n_wrong = 0;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        int got = count(cases[i].text);
        if (got != -cases[i].status) print_error("%d, not %d: %s\n", -got, cases[i].status, cases[i].text);
        n_wrong += got != -cases[i].status;
    }
    assert_int_equal(n_wrong, 0);
}

static void nothing_behind_a_broken_request_is_seen(void **state) {
    (void)state;
    pil_http_parser *p = pil_http_parser_create();
    static const char bad[] = "GET / HTTP/1.1\r\nA : b\r\n\r\n", good[] = "GET / HTTP/1.1\r\nHost: x\r\n\r\n";
    assert_int_equal(feed(p, bad, sizeof bad - 1, 1000), -400);
    assert_int_equal(feed(p, good, sizeof good - 1, 1000), -400);
    pil_http_parser_destroy(p);
}

/* A request with n bytes at the place of the %s. */
static int with_bytes(const char *before, size_t n, const char *after) {
    size_t total = strlen(before) + n + strlen(after);
    char *text = malloc(total + 1);
    memset(text, 'a', total);
    memcpy(text, before, strlen(before));
    memcpy(text + total - strlen(after), after, strlen(after) + 1);
    pil_http_parser *p = pil_http_parser_create();
    int got = feed(p, text, total, 4096);
    pil_http_parser_destroy(p);
    free(text);
    return got;
}

static void everything_has_a_ceiling(void **state) {
    (void)state;
    assert_int_equal(with_bytes("GET /", PIL_LIMIT_REQUEST_LINE - 1, " HTTP/1.1\r\nHost: x\r\n\r\n"), 1);
    assert_int_equal(with_bytes("GET /", PIL_LIMIT_REQUEST_LINE, " HTTP/1.1\r\nHost: x\r\n\r\n"), -414);
    assert_int_equal(with_bytes("GET / HTTP/1.1\r\nA: ", PIL_LIMIT_HEADER_BYTES - 5, "\r\n\r\n"), 1);
    assert_int_equal(with_bytes("GET / HTTP/1.1\r\nA: ", PIL_LIMIT_HEADER_BYTES - 4, "\r\n\r\n"), -431);
    assert_int_equal(with_bytes("GET / HTTP/1.1\r\n", PIL_LIMIT_HEADER_BYTES + 1, ": b\r\n\r\n"), -431);
    assert_int_equal(
        with_bytes("POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n1;", 1 << 20, "\r\na\r\n0\r\n\r\n"), -400);
    assert_int_equal(with_bytes("POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nA: ", 1 << 20, "\r\n\r\n"),
                     -431);
    for (int n = PIL_LIMIT_HEADERS; n <= PIL_LIMIT_HEADERS + 1; n++) {
        char text[4096] = "GET / HTTP/1.1\r\n";
        for (int i = 0; i < n; i++) snprintf(text + strlen(text), sizeof text - strlen(text), "A: %d\r\n", i);
        snprintf(text + strlen(text), sizeof text - strlen(text), "\r\n");
        assert_int_equal(count(text), n == PIL_LIMIT_HEADERS ? 1 : -431);
    }
}

static void a_body_over_its_ceiling_is_refused_before_it_comes(void **state) {
    (void)state;
    static const char *const heads[] = {"POST / HTTP/1.1\r\nContent-Length: 101\r\n\r\n",
                                        "POST / HTTP/1.1\r\nContent-Length: 9999999999999\r\n\r\n"};
    for (size_t i = 0; i < 2; i++) {
        pil_http_parser *p = pil_http_parser_create();
        size_t used;
        const char *why;
        assert_int_equal(pil_http_parser_feed(p, heads[i], strlen(heads[i]), &used), PIL_HTTP_HEAD);
        pil_http_parser_set_body_max(p, 100);
        assert_int_equal(pil_http_parser_feed(p, "", 0, &used), PIL_HTTP_BAD);
        assert_int_equal(pil_http_parser_status(p, &why), 413);
        pil_http_parser_destroy(p);
    }
    for (size_t extra = 0; extra < 2; extra++) { /* a chunked one says nothing beforehand */
        static const char head[] = "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n";
        char text[200];
        pil_http_parser *p = pil_http_parser_create();
        size_t used;
        assert_int_equal(pil_http_parser_feed(p, head, sizeof head - 1, &used), PIL_HTTP_HEAD);
        pil_http_parser_set_body_max(p, 100);
        snprintf(text, sizeof text, "%zx\r\n%.*s\r\n0\r\n\r\n", 100 + extra, (int)(100 + extra),
                 "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
                 "aaaaaa");
        pil_http_event event = pil_http_parser_feed(p, text, strlen(text), &used);
        assert_int_equal(event, extra ? PIL_HTTP_BAD : PIL_HTTP_REQUEST);
        pil_http_parser_destroy(p);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_request_is_taken_apart),
        cmocka_unit_test(repeated_headers_are_counted),
        cmocka_unit_test(a_target_may_name_the_host),
        cmocka_unit_test(chunked_bodies_are_put_together),
        cmocka_unit_test(several_requests_follow_each_other),
        cmocka_unit_test(what_is_no_request_is_refused),
        cmocka_unit_test(nothing_behind_a_broken_request_is_seen),
        cmocka_unit_test(everything_has_a_ceiling),
        cmocka_unit_test(a_body_over_its_ceiling_is_refused_before_it_comes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
