/* server.c - the listeners, and the life of the server as a whole.
 *
 * Drain:   the listeners close; every few milliseconds connections without a request are closed, until none with one is
 *          left or the time is over.
 * Tests:   tests/http/test_server.py, tests/http/test_lifecycle.py. */
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/heap.h"
#include "base/limits.h"
#include "http/http_int.h"

#define DRAIN_STEP_MS 5

static void on_sweep(void *ud) { pil_conn_sweep(ud); }
static void on_write(void *ud) { pil_vectors_turn(ud); }

static void end_drain(pil_server *s) {
    pil_timer_stop(s->drain_timer);
    void (*on_drained)(void *ud) = s->on_drained;
    s->on_drained = NULL;
    if (on_drained) on_drained(s->drain_ud);
}

static void on_drain_step(void *ud) {
    pil_server *s = ud;
    if (pil_conn_drain(s)) {
        end_drain(s);
    } else if (pil_loop_now_ms(s->loop) >= s->drain_end_ms) {
        s->closing = true;
        pil_conn_abandon(s);
        end_drain(s);
    }
}

static size_t or_default(size_t given, size_t fallback) { return given ? given : fallback; }

static void set_limits(pil_server *s, const pil_server_limits *given) {
    s->limits = (pil_server_limits){.connections = or_default(given->connections, PIL_LIMIT_CONNECTIONS),
                                    .in_flight_bytes = or_default(given->in_flight_bytes, PIL_LIMIT_IN_FLIGHT_BYTES),
                                    .header_ms = or_default(given->header_ms, PIL_LIMIT_HEADER_MS),
                                    .stall_ms = or_default(given->stall_ms, PIL_LIMIT_STALL_MS),
                                    .idle_ms = or_default(given->idle_ms, PIL_LIMIT_IDLE_MS),
                                    .document_ms = or_default(given->document_ms, PIL_LIMIT_DOCUMENT_WAIT_MS)};
}

pillion_status pil_server_create(pil_server **out, pil_loop *l, const pil_server_options *opt, pillion_error *err) {
    *out = NULL;
    pil_server *s = calloc(1, sizeof *s);
    if (!s) return pil_err_no_memory(err);
    s->loop = l;
    s->on_shutdown = opt->on_shutdown;
    s->ud = opt->ud;
    s->model_id = strdup(opt->model_id);
    s->sweep = pil_timer_create(l, on_sweep, s);
    s->writer = pil_timer_create(l, on_write, s);
    s->drain_timer = pil_timer_create(l, on_drain_step, s);
    set_limits(s, &opt->limits);
    pil_heap_keep_one();
    pillion_status st = PILLION_OK;
    if (!s->model_id || !s->sweep || !s->writer || !s->drain_timer) st = pil_err_no_memory(err);
    if (!st) st = pil_access_create(&s->access, opt, err);
    if (st) {
        pil_server_destroy(s);
        return st;
    }
    *out = s;
    return PILLION_OK;
}

pillion_status pil_server_reconfigure(pil_server *s, const pil_server_options *opt, pillion_error *err) {
    pil_access *access;
    pillion_status st = pil_access_create(&access, opt, err);
    if (st) return st;
    pil_access_destroy(s->access);
    s->access = access;
    return PILLION_OK;
}

void pil_server_destroy(pil_server *s) {
    if (!s) return;
    s->closing = true;
    for (size_t i = 0; i < s->n_listeners; i++) pil_listener_close(s->listeners[i]);
    while (s->conns) pil_conn_close(s->conns);
    pil_errand_leave_all(s);
    pil_timer_destroy(s->sweep);
    pil_timer_destroy(s->writer);
    pil_timer_destroy(s->drain_timer);
    pil_access_destroy(s->access);
    free(s->model_id);
    free(s);
}

void pil_server_set_pool(pil_server *s, pil_pool *pool) { s->pool = pool; }

static void on_accept(pil_stream *stream, void *ud) { pil_conn_open(ud, stream); }

pillion_status pil_server_listen(pil_server *s, const char *host, unsigned port, const char *path,
                                 const pil_listener **listener, bool *in_use, pillion_error *err) {
    *in_use = false;
    *listener = NULL;
    if (s->n_listeners == PIL_LISTENERS_MAX)
        return pil_err_set(err, PILLION_E_LIMIT, "more than %d addresses to listen on", PIL_LISTENERS_MAX);
    pil_listener *l;
    pillion_status st = pil_listener_open(&l, s->loop, host, port, path, on_accept, s, in_use, err);
    if (st) return st;
    s->listeners[s->n_listeners++] = l;
    *listener = l;
    return PILLION_OK;
}

pillion_status pil_server_adopt(pil_server *s, int fd, bool owns_path, const pil_listener **listener,
                                pillion_error *err) {
    *listener = NULL;
    if (s->n_listeners == PIL_LISTENERS_MAX)
        return pil_err_set(err, PILLION_E_LIMIT, "more than %d addresses to listen on", PIL_LISTENERS_MAX);
    pil_listener *l;
    pillion_status st = pil_listener_adopt(&l, s->loop, fd, owns_path, on_accept, s, err);
    if (st) return st;
    s->listeners[s->n_listeners++] = l;
    *listener = l;
    return PILLION_OK;
}

const pil_listener *pil_server_listener(const pil_server *s, size_t i) {
    return i < s->n_listeners ? s->listeners[i] : NULL;
}

static void drain(pil_server *s, uint64_t drain_ms, void (*on_drained)(void *ud), void *ud) {
    s->draining = true;
    s->on_drained = on_drained;
    s->drain_ud = ud;
    s->drain_end_ms = pil_loop_now_ms(s->loop) + drain_ms;
    s->n_listeners = 0;
    pil_timer_start(s->drain_timer, 0, DRAIN_STEP_MS);
}

void pil_server_drain(pil_server *s, uint64_t drain_ms, void (*on_drained)(void *ud), void *ud) {
    for (size_t i = 0; i < s->n_listeners; i++) pil_listener_close(s->listeners[i]);
    drain(s, drain_ms, on_drained, ud);
}

void pil_server_hand_over(pil_server *s, uint64_t drain_ms, void (*on_drained)(void *ud), void *ud) {
    for (size_t i = 0; i < s->n_listeners; i++) pil_listener_leave(s->listeners[i]);
    s->has_successor = true;
    drain(s, drain_ms, on_drained, ud);
}
