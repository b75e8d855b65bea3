/* conn.c - one connection: reading requests, one at a time, and writing their answers.
 *
 *               +------------------------ next request --------------------------+
 *               v                                                                |
 *   open -> READING --request complete--> BUSY --answer--> WRITING --written--> keep alive?
 *               |                           |                                    | no
 *               | not HTTP, too slow        | client gone: cancel                v
 *               +----------> WRITING        +------------> closed <---------- LINGERING
 *
 * Invariants: (1) at most one exchange; what a client sends ahead waits in `pending`, up to PENDING_BYTES, then the
 *             socket is not read. (2) a connection in READING has no exchange; in BUSY it has one that has not been
 *             answered; after its answer the exchange is empty. (3) the end of what a client sends is a cancel while
 *             BUSY.
 * Lingering:  after the last answer our side is ended and the client's bytes are thrown away for a moment. Closing at
 *             once with unread bytes would make the kernel reset the connection and lose the answer. So do the
 *             connections that are turned away; they have no parser and never had a request.
 * Memory:     count_memory() is the one place that knows what all connections hold: what was received, what a handler
 *             has reserved for the request in hand, what is still to be sent. Only what is large and still grows is
 *             refused, and only by the sum; what is small is bounded by the number of connections.
 * Pace:       a window of time after another must each see enough of a body arrive, or of an answer leave. An average
 *             over the whole would let a client that was fast at first stand still for hours.
 * Tests:      tests/http/test_server.py, tests/http/test_hostile.py, tests/http/test_overload.py,
 *             tests/http/test_pace.py. */
#include <assert.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/heap.h"
#include "base/limits.h"
#include "http/http_int.h"

#define PENDING_BYTES (64 * PIL_KIB)
#define LINGER_MS 2000
#define SWALLOWED_BYTES_MAX (PIL_LIMIT_SMALL_BYTES / 2)
#define LARGE_BYTES PIL_MIB /* in flight: so much leaves its traces in the heap */
#define JSON_BUSY "{\"detail\":\"Too many connections, please retry shortly\"}"

static const char turned_away[] = "HTTP/1.1 503 Service Unavailable\r\nserver: pillion\r\nretry-after: 1\r\n"
                                  "content-type: application/json\r\ncontent-length: 55\r\nconnection: close\r\n\r\n"
                                  JSON_BUSY;
static_assert(sizeof JSON_BUSY - 1 == 55, "content-length above");

typedef enum conn_state { CONN_READING, CONN_BUSY, CONN_WRITING, CONN_LINGERING } conn_state;

struct pil_conn {
    pil_server *server;
    pil_conn *prev, *next;
    pil_stream *stream;
    pil_http_parser *parser;
    conn_state state;
    pil_exchange exchange;
    char *pending;
    size_t pending_bytes;
    bool read_stopped, will_close, peer_ended;
    uint64_t since_ms; /* READING: the first byte of this request, or the end of the last one; else: the state */
    uint64_t window_ms;  /* when the window began in which bytes are counted now */
    size_t window_bytes; /* those of the body, or of the answer, that had passed by then */
    size_t writes_out, answer_bytes;
    size_t counted_bytes; /* this connection's part of the server's in_flight_bytes */
    uint64_t client;
    bool is_unix, is_loopback;
    char local[64];
};

/* ── Memory ─────────────────────────────────────────────────────────────────────────────────────────────────── */

/* Brings the server's sum up to date. False, with nothing changed, when this connection has grown large while the
 * others alone are at the ceiling, so that one request of any size can be had; may_refuse is false where it is too
 * late. */
static bool count_memory(pil_conn *c, bool may_refuse) {
    pil_server *s = c->server;
    size_t parser_bytes = c->parser ? pil_http_parser_memory(c->parser) : 0;
    size_t now = parser_bytes + c->pending_bytes + c->exchange.reserved_bytes + c->answer_bytes;
    bool grows = now > c->counted_bytes && now > PIL_LIMIT_SMALL_BYTES;
    if (may_refuse && grows && s->in_flight_bytes - c->counted_bytes >= s->limits.in_flight_bytes) return false;
    s->in_flight_bytes += now - c->counted_bytes;
    if (s->in_flight_most < s->in_flight_bytes) s->in_flight_most = s->in_flight_bytes;
    c->counted_bytes = now;
    return true;
}

bool pil_exchange_reserve(pil_exchange *x, size_t bytes) {
    x->reserved_bytes += bytes;
    if (count_memory(x->conn, true)) return true;
    x->reserved_bytes -= bytes;
    return false;
}

void pil_exchange_release(pil_exchange *x, size_t bytes) {
    x->reserved_bytes -= bytes;
    count_memory(x->conn, false);
}

bool pil_conn_has_room(const pil_conn *c) {
    const pil_server *s = c->server;
    return s->in_flight_bytes < s->limits.in_flight_bytes || c->exchange.body_read ||
           c->exchange.request->declared_bytes <= SWALLOWED_BYTES_MAX;
}

/* ── Exchanges ──────────────────────────────────────────────────────────────────────────────────────────────── */

void pil_exchange_clear(pil_exchange *x) {
    if (x->ticket) pil_pool_cancel(x->server->pool, x->ticket);
    pil_document_cancel(x->document);
    pil_vectors_destroy(x->vectors);
    pil_errand_forget(x->errand);
    pil_json_free(x->json);
    free(x->inputs);
    free(x->chunks);
    free(x->text);
    *x = (pil_exchange){.server = x->server, .conn = x->conn, .parser = x->parser};
}

const char *pil_conn_local_address(const pil_conn *c) { return c->is_unix ? NULL : c->local; }
bool pil_conn_is_loopback(const pil_conn *c) { return c->is_loopback; }
uint64_t pil_conn_client(const pil_conn *c) { return c->client; }
bool pil_conn_will_close(const pil_conn *c) { return c->will_close || c->server->draining; }

/* ── Life ───────────────────────────────────────────────────────────────────────────────────────────────────── */

void pil_conn_close(pil_conn *c) {
    pil_server *s = c->server;
    pil_exchange_clear(&c->exchange);
    pil_stream_close(c->stream);
    s->in_flight_bytes -= c->counted_bytes;
    if (!c->parser) s->n_turned_away--;
    pil_http_parser_destroy(c->parser);
    *(c->prev ? &c->prev->next : &s->conns) = c->next;
    if (c->next) c->next->prev = c->prev;
    s->n_conns--;
    free(c->pending);
    free(c);
}

static void enter(pil_conn *c, conn_state state) {
    c->state = state;
    c->since_ms = c->window_ms = pil_loop_now_ms(c->server->loop);
    c->window_bytes = 0;
}

static void linger(pil_conn *c) {
    if (c->peer_ended) {
        pil_conn_close(c);
        return;
    }
    enter(c, CONN_LINGERING);
    pil_stream_shutdown(c->stream);
    if (c->read_stopped) pil_stream_read_start(c->stream);
    c->read_stopped = false;
}

/* ── Reading ────────────────────────────────────────────────────────────────────────────────────────────────── */

/* Answers a request that never was one. */
static void refuse(pil_conn *c, unsigned status, const char *text) {
    c->exchange.request = pil_http_parser_request(c->parser);
    c->exchange.started_ms = pil_loop_now_ms(c->server->loop);
    c->will_close = true;
    enter(c, CONN_BUSY);
    pil_answer_refuse(&c->exchange, status, text);
}

/* The header is complete. False when the connection's request was answered already. */
static bool on_head(pil_conn *c) {
    pil_exchange *x = &c->exchange;
    const char *expect = pil_http_parser_header(c->parser, "expect", NULL);
    x->request = pil_http_parser_request(c->parser);
    x->started_ms = c->window_ms = pil_loop_now_ms(c->server->loop);
    x->is_head = strcmp(x->request->method, "HEAD") == 0;
    if (!x->request->keep_alive) c->will_close = true;
    pil_http_parser_set_body_max(c->parser, pil_route_body_max(x));
    if (x->request->is_http_1_0) expect = NULL;
    if (expect && strcasecmp(expect, "100-continue") != 0) {
        refuse(c, 417, "Only 100-continue can be expected.");
        return false;
    }
    /* A small body is read although it is for nothing: then the connection can go on. */
    if ((expect || x->request->declared_bytes > SWALLOWED_BYTES_MAX) && pil_route_refuses(x)) {
        c->will_close = true;
        enter(c, CONN_BUSY);
        pil_route_run(x);
        return false;
    }
    static const char go_on[] = "HTTP/1.1 100 Continue\r\n\r\n";
    if (expect && x->request->has_body && pil_http_parser_body_fits(c->parser))
        pil_stream_try_write(c->stream, go_on, sizeof go_on - 1);
    return true;
}

/* Keeps what came too early. False when there is no memory for it, and the connection is closed. */
static bool keep_pending(pil_conn *c, const char *bytes, size_t n) {
    if (n == 0) return true;
    char *grown = realloc(c->pending, c->pending_bytes + n);
    if (!grown) {
        pil_conn_close(c);
        return false;
    }
    memcpy(grown + c->pending_bytes, bytes, n);
    c->pending = grown;
    c->pending_bytes += n;
    count_memory(c, false);
    if (c->pending_bytes >= PENDING_BYTES) pil_stream_read_stop(c->stream);
    c->read_stopped = c->pending_bytes >= PENDING_BYTES;
    return true;
}

/* Parses until a request is complete or the bytes are used up. The connection may be closed when this returns. */
static void feed(pil_conn *c, const char *bytes, size_t n) {
    if (pil_http_parser_is_idle(c->parser)) c->since_ms = pil_loop_now_ms(c->server->loop);
    for (;;) {
        size_t used;
        pil_http_event event = pil_http_parser_feed(c->parser, bytes, n, &used);
        bytes += used;
        n -= used;
        if (event == PIL_HTTP_MORE) {
            if (count_memory(c, true)) return;
            free(pil_http_parser_take_body(c->parser));
            refuse(c, 503, "Too much is in progress.");
            return;
        }
        if (event == PIL_HTTP_HEAD) {
            if (!on_head(c)) return;
            continue;
        }
        if (event == PIL_HTTP_BAD) {
            const char *text;
            unsigned status = pil_http_parser_status(c->parser, &text);
            refuse(c, status, text);
            return;
        }
        if (!keep_pending(c, bytes, n)) return; /* before the answer, which may close the connection */
        c->exchange.body_read = true;
        count_memory(c, false);
        enter(c, CONN_BUSY);
        pil_route_run(&c->exchange);
        return;
    }
}

static void on_read(pil_stream *s, const char *bytes, size_t n, void *ud) {
    (void)s;
    pil_conn *c = ud;
    if (n == 0) c->peer_ended = true;
    switch (c->state) {
    case CONN_READING:
        if (n > 0) feed(c, bytes, n);
        else if (pil_http_parser_is_idle(c->parser)) pil_conn_close(c);
        else refuse(c, 400, "The request ended too early.");
        return;
    case CONN_BUSY:
        if (n == 0) pil_conn_close(c);
        else keep_pending(c, bytes, n);
        return;
    case CONN_WRITING:
        if (n > 0) keep_pending(c, bytes, n);
        return;
    case CONN_LINGERING:
        if (n == 0) pil_conn_close(c);
        return;
    }
}

/* ── Writing ────────────────────────────────────────────────────────────────────────────────────────────────── */

void pil_conn_send(pil_conn *c, char *head, size_t head_bytes, char *body, size_t body_bytes, bool close) {
    assert(c->state == CONN_BUSY);
    enter(c, CONN_WRITING);
    c->will_close = close;
    c->answer_bytes = head_bytes + body_bytes;
    count_memory(c, false);
    c->writes_out = 1;
    pillion_status st = pil_stream_write(c->stream, head, head_bytes);
    if (!st && body) {
        c->writes_out++;
        st = pil_stream_write(c->stream, body, body_bytes);
    } else {
        free(body);
    }
    if (st) pil_conn_close(c);
}

static void on_written(pil_stream *s, bool ok, void *ud) {
    (void)s;
    pil_conn *c = ud;
    if (c->state != CONN_WRITING) return;
    if (!ok) {
        pil_conn_close(c);
        return;
    }
    if (--c->writes_out > 0) return;
    c->answer_bytes = 0;
    count_memory(c, false);
    bool leaving = c->server->draining && !c->server->has_successor; /* else it was told that it may ask again */
    if (c->will_close || c->peer_ended || leaving) {
        linger(c);
        return;
    }
    pil_http_parser_next(c->parser);
    count_memory(c, false);
    enter(c, CONN_READING);
    if (c->read_stopped) pil_stream_read_start(c->stream);
    c->read_stopped = false;
    if (c->pending_bytes == 0) return;
    char *bytes = c->pending;
    size_t n = c->pending_bytes;
    c->pending = NULL;
    c->pending_bytes = 0;
    feed(c, bytes, n);
    free(bytes);
}

/* ── The first moment ───────────────────────────────────────────────────────────────────────────────────────── */

/* Both ends' addresses. False when one cannot be told: then the client has already gone, and what it has sent must not
 * pass for something from this machine. */
static bool find_addresses(pil_conn *c, const pil_stream *s, char *peer, size_t peer_bytes) {
    c->is_unix = pil_stream_is_unix(s);
    pil_stream_address(s, false, c->local, sizeof c->local);
    pil_stream_address(s, true, peer, peer_bytes);
    c->is_loopback = c->is_unix || strncmp(peer, "127.", 4) == 0 || strcmp(peer, "::1") == 0 ||
                     strncmp(peer, "::ffff:127.", 11) == 0;
    return c->is_unix || (*c->local && *peer);
}

static uint64_t client_of(pil_server *s, const char *peer, bool is_loopback) {
    if (is_loopback) return ++s->last_client;
    uint64_t hash = 0xcbf29ce484222325u; /* FNV-1a */
    for (; *peer; peer++) hash = (hash ^ (unsigned char)*peer) * 0x100000001b3u;
    return hash | (uint64_t)1 << 63;
}

/* Whether one more connection can be had; else why not does not matter to the client. */
static bool has_place(const pil_server *server, const pil_stream *s) {
    return server->n_conns - server->n_turned_away < server->limits.connections &&
           pil_stream_spare(s) >= PIL_LIMIT_SPARE_DESCRIPTORS;
}

static bool has_place_to_linger(const pil_server *server, const pil_stream *s) {
    return server->n_turned_away < PIL_LIMIT_TURNED_AWAY && pil_stream_spare(s) >= PIL_LIMIT_SPARE_DESCRIPTORS / 2;
}

void pil_conn_open(pil_server *server, pil_stream *s) {
    bool placed = has_place(server, s);
    pil_conn *c = placed || has_place_to_linger(server, s) ? calloc(1, sizeof *c) : NULL;
    if (c && placed) c->parser = pil_http_parser_create();
    if (!c || !c->parser) pil_stream_try_write(s, turned_away, sizeof turned_away - 1);
    char peer[64];
    if (!c || !find_addresses(c, s, peer, sizeof peer)) {
        if (c) pil_http_parser_destroy(c->parser);
        free(c);
        pil_stream_close(s);
        return;
    }
    c->server = server;
    c->stream = s;
    c->exchange = (pil_exchange){.server = server, .conn = c, .parser = c->parser};
    c->client = client_of(server, peer, c->is_loopback);
    c->next = server->conns;
    if (c->next) c->next->prev = c;
    server->conns = c;
    if (server->n_conns++ == 0) pil_timer_start(server->sweep, PIL_LIMIT_SWEEP_MS, PIL_LIMIT_SWEEP_MS);
    if (!c->parser) server->n_turned_away++;
    enter(c, CONN_READING);
    pil_stream_watch(s, on_read, on_written, c);
    pil_stream_read_start(s);
    if (!c->parser) linger(c);
}

/* ── All of them ────────────────────────────────────────────────────────────────────────────────────────────── */

/* Whether a window is over and has seen fewer than its share of the bytes that have passed by now; if it is over and
 * has seen enough, the next one begins. */
static bool is_too_slow(pil_conn *c, uint64_t now_ms, uint64_t window_ms, size_t passed, size_t bytes_per_ms) {
    if (now_ms - c->window_ms <= window_ms) return false;
    if (passed < c->window_bytes + window_ms * bytes_per_ms) return true;
    c->window_ms = now_ms;
    c->window_bytes = passed;
    return false;
}

static void sweep_reading(pil_conn *c, uint64_t now_ms) {
    const pil_server_limits *limits = &c->server->limits;
    uint64_t age_ms = now_ms - c->since_ms;
    if (pil_http_parser_is_idle(c->parser)) {
        if (age_ms > limits->idle_ms) pil_conn_close(c);
        return;
    }
    size_t passed = pil_http_parser_body_bytes(c->parser);
    bool slow = pil_http_parser_in_body(c->parser)
                    ? is_too_slow(c, now_ms, limits->header_ms, passed, PIL_LIMIT_BODY_BYTES_PER_MS)
                    : age_ms > limits->header_ms;
    if (slow) refuse(c, 408, "The request took too long.");
}

static void sweep_writing(pil_conn *c, uint64_t now_ms) {
    size_t unsent = pil_stream_unsent(c->stream);
    size_t passed = unsent < c->answer_bytes ? c->answer_bytes - unsent : 0;
    if (is_too_slow(c, now_ms, c->server->limits.stall_ms, passed, PIL_LIMIT_ANSWER_BYTES_PER_MS)) pil_conn_close(c);
}

static void sweep_one(pil_conn *c, uint64_t now_ms) {
    uint64_t age_ms = now_ms - c->since_ms;
    switch (c->state) {
    case CONN_READING: sweep_reading(c, now_ms); return;
    case CONN_BUSY:
        if (c->exchange.waits_for_model && age_ms > PIL_LIMIT_HOLD_MS) c->exchange.on_model(&c->exchange);
        return;
    case CONN_WRITING: sweep_writing(c, now_ms); return;
    case CONN_LINGERING:
        if (age_ms > LINGER_MS) pil_conn_close(c);
        return;
    }
}

void pil_conn_sweep(pil_server *server) {
    uint64_t now_ms = pil_loop_now_ms(server->loop);
    for (pil_conn *c = server->conns, *next; c; c = next) {
        next = c->next;
        sweep_one(c, now_ms);
    }
    if (server->in_flight_most > LARGE_BYTES && server->in_flight_bytes < server->in_flight_most / 2) {
        pil_heap_return_free_memory();
        server->in_flight_most = server->in_flight_bytes;
    }
    if (server->n_conns == 0) pil_timer_stop(server->sweep);
}

void pil_server_model_changed(pil_server *server) {
    for (pil_conn *c = server->conns, *next; c; c = next) {
        next = c->next;
        if (c->state == CONN_BUSY && c->exchange.waits_for_model) c->exchange.on_model(&c->exchange);
    }
}

bool pil_conn_drain(pil_server *server) {
    bool done = true;
    for (pil_conn *c = server->conns, *next; c; c = next) {
        next = c->next;
        bool idle = c->state == CONN_READING && pil_http_parser_is_idle(c->parser);
        if (idle && !server->has_successor) pil_conn_close(c);
        else if (c->state != CONN_LINGERING) done = false;
    }
    return done;
}

void pil_conn_abandon(pil_server *server) {
    for (pil_conn *c = server->conns, *next; c; c = next) {
        next = c->next;
        if (c->state == CONN_BUSY) pil_answer_detail(&c->exchange, 503, "The server is shutting down");
    }
}
