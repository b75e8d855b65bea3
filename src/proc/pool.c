/* pool.c - the table of children: one that prepares the model if need be, then one worker in each slot.
 *
 *                  +------------- back-off timer <--------------+
 *                  v                                            |
 *   slot:  absent --start()--> starting --READY--> ready --exit + end of stream--> gone()
 *                                  |                             ^
 *                                  +------- FAILED, death -------+
 *
 *   pool:  PREPARING --first READY--> READY        PREPARING --prepare or model failed, too many deaths--> FAILED
 *
 * Flow:       submit() -> sched -> send_batch(): a batch becomes a frame -> on_bytes(): the reply becomes an answer ->
 *             sched -> deliver(): finished jobs go to their owners.
 * Invariants: (1) a slot is ready for the scheduler exactly while its state is READY. (2) a worker is gone only when it
 *             has exited and its stream is read to the end, so that no finished answer is thrown away and no text is
 *             suspected for what came before its turn. (3) nothing that a worker says is believed before frame.c has
 *             checked it; a worker that breaks the format is killed. (4) on_done is called from deliver() only.
 * Not here:   which text goes where (sched/sched.c). Tests: tests/proc/test_pool.c, tests/http/test_server.py. */
#include <assert.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/clock.h"
#include "base/err.h"
#include "base/json.h"
#include "base/limits.h"
#include "base/log.h"
#include "proc/fault.h"
#include "proc/frame.h"
#include "proc/page.h"
#include "proc/proc.h"

#define BACKOFF_MIN_MS 100
#define BACKOFF_MAX_MS 10000
#define TICK_MS 500
#define STOP_MS 100
#define ANSWER_ARENA_MAX (512 * PIL_MIB)
#define PREPARE_LINE_MAX (64 * PIL_KIB)
#define READY_BYTES_MAX PIL_MIB

extern char **environ;

typedef enum slot_state { SLOT_ABSENT, SLOT_STARTING, SLOT_READY, SLOT_ENDING } slot_state;

typedef struct slot {
    pil_pool *pool;
    uint32_t index;
    slot_state state;
    pil_child *child; /* NULL once it has exited */
    int pid;
    pil_stream *stream; /* NULL once it is closed */
    pil_page *page;     /* NULL while no process is there */
    pil_timer *timer;
    uint64_t backoff_ms;
    bool exited, ended; /* the process; its stream */
    bool killed;        /* by us, because it broke the format */
    bool answered;      /* at least one batch since it was started */
    int status, term_signal;
    char head[PIL_FRAME_HEADER_BYTES];
    size_t head_bytes; /* of head that have arrived */
    pil_frame_header header;
    char *payload; /* being filled; NULL while the header is incomplete */
    size_t payload_bytes;
} slot;

struct pil_ticket {
    pil_ticket *prev, *next;
    pil_job *job;
    pil_done_fn on_done;
    void *ud;
};

struct pil_pool {
    pil_loop *loop;
    pil_sched *sched;
    pil_pool_info info;
    pil_pool_fn on_change, on_stopped;
    void *ud, *stopped_ud;
    char *program, *directory, *file;
    pil_buf model; /* pillion_info as JSON, as the first worker told it; empty until then */
    pillion_precision precision;
    char **prepare_env, **worker_env;
    slot *slots; /* [info.workers] */
    uint64_t tag_seed;     /* random */
    uint32_t start_deaths; /* since the beginning, while no worker was ever ready */
    pil_ticket *tickets;
    pil_timer *tick, *soon, *stop;
    pil_child *prepare;
    pil_stream *prepare_out;
    pil_buf prepare_line;
    bool delivering, stopping;
};

static void start_worker(slot *s);
static void gone(slot *s);

/* ── State ──────────────────────────────────────────────────────────────────────────────────────────────────── */

static void changed(pil_pool *p) {
    if (p->on_change && !p->stopping) p->on_change(p->ud);
}

static void fail_pool(pil_pool *p, pillion_status status, const char *text) {
    if (p->info.state == PIL_POOL_FAILED || p->stopping) return;
    p->info.state = PIL_POOL_FAILED;
    p->info.error = (pillion_error){0};
    pil_err_set(&p->info.error, status, "%s", text);
    pil_sched_give_up(p->sched);
    pil_timer_start(p->soon, 0, 0);
    changed(p);
}

/* ── Delivery ───────────────────────────────────────────────────────────────────────────────────────────────── */

static void ticket_free(pil_pool *p, pil_ticket *t) {
    *(t->prev ? &t->prev->next : &p->tickets) = t->next;
    if (t->next) t->next->prev = t->prev;
    free(t);
}

/* The tag of input i of a batch: one that no worker can know before it is told (the finalizer of splitmix64). */
static uint32_t tag_of(const pil_pool *p, uint64_t id, size_t i) {
    uint64_t x = p->tag_seed + id * 0x9e3779b97f4a7c15u + i * 0xd1342543de82ef95u;
    x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9u;
    x = (x ^ x >> 27) * 0x94d049bb133111ebu;
    return (uint32_t)(x >> 32);
}

/* Turns one batch into a frame and sends it. To a worker that is about to be gone nothing is sent: gone() takes the
 * batch back. */
static void send_batch(pil_pool *p, const pil_batch *b) {
    slot *s = &p->slots[b->worker];
    if (!s->stream) return;
    pil_buf frame;
    size_t mark;
    pil_buf_init(&frame, PIL_LIMIT_FRAME_BYTES + PIL_FRAME_HEADER_BYTES);
    pil_frame_begin(&frame, PIL_FRAME_REQUEST, b->id, &mark);
    pil_frame_put_request(&frame, b->op, &b->options, b->n);
    for (size_t i = 0; i < b->n; i++) pil_frame_put_input(&frame, tag_of(p, b->id, i), pil_batch_input(b, i));
    pillion_status st = pil_frame_end(&frame, mark);
    size_t n = frame.len;
    if (!st) st = pil_stream_write(s->stream, pil_buf_steal(&frame), n);
    pil_buf_deinit(&frame);
    if (st == PILLION_E_IO) pil_child_kill(s->child, SIGKILL);
    else if (st) pil_sched_refused(p->sched, b->worker, st);
}

static void send_all(pil_pool *p) {
    for (const pil_batch *b; !p->stopping && (b = pil_sched_next(p->sched));) send_batch(p, b);
}

/* Hands out work and results until neither is left. An owner may submit or cancel from its on_done. */
static void deliver(pil_pool *p) {
    if (p->delivering) return;
    p->delivering = true;
    send_all(p);
    for (pil_job *j; (j = pil_sched_finished(p->sched)); send_all(p)) {
        pil_ticket *t = pil_job_ud(j);
        pil_done_fn on_done = t->on_done;
        void *ud = t->ud;
        ticket_free(p, t);
        on_done(j, ud);
        pil_job_destroy(j);
    }
    p->delivering = false;
}

static void on_soon(void *ud) { deliver(ud); }

/* Runs only while jobs wait and there is nobody to do them. */
static void on_tick(void *ud) {
    pil_pool *p = ud;
    pil_sched_tick(p->sched, pil_loop_now_ms(p->loop));
    deliver(p);
    pil_sched_load load;
    pil_sched_measure(p->sched, &load);
    if (load.jobs == 0 || load.workers_ready > 0) pil_timer_stop(p->tick);
}

static void watch_hold(pil_pool *p) {
    if (p->info.workers_ready == 0 && !pil_timer_is_running(p->tick)) pil_timer_start(p->tick, TICK_MS, TICK_MS);
}

/* ── What workers say ───────────────────────────────────────────────────────────────────────────────────────── */

static void kill_worker(slot *s, const char *why) {
    pil_log(PIL_LOG_ERROR, "worker killed", "worker=%u worker_pid=%d reason=\"%s\"", s->index, s->pid, why);
    s->killed = true;
    pil_child_kill(s->child, SIGKILL);
    pil_stream_close(s->stream);
    s->stream = NULL;
    s->ended = true;
    if (s->exited) gone(s);
}

/* pillion_info holds the digest of the weights: equal descriptions are equal models. */
static bool same_model(const pil_pool *p, const pil_frame_ready *r) {
    return r->dim == p->info.dim && r->hidden == p->info.hidden && r->max_tokens == p->info.max_tokens &&
           r->json_bytes == p->model.len && memcmp(r->json, p->model.bytes, r->json_bytes) == 0;
}

static pillion_status take_ready(slot *s, pillion_error *err) {
    pil_pool *p = s->pool;
    pil_frame_ready r;
    pillion_status st = pil_frame_get_ready(&r, s->payload, s->header.payload_bytes, err);
    if (st) return st;
    if (s->state != SLOT_STARTING) return pil_err_set(err, PILLION_E_FORMAT, "frame: ready twice");
    if (p->model.bytes && !same_model(p, &r))
        return pil_err_set(err, PILLION_E_FORMAT, "another model than the first worker's");
    if (!p->model.bytes) {
        if (pil_buf_append(&p->model, r.json, r.json_bytes)) return pil_err_set(err, PILLION_E_NOMEM, "out of memory");
        snprintf(p->info.sandbox, sizeof p->info.sandbox, "%.*s", (int)r.sandbox_bytes, r.sandbox);
        p->info.dim = r.dim;
        p->info.hidden = r.hidden;
        p->info.max_tokens = r.max_tokens;
        pil_sched_set_text_tokens_max(p->sched, r.max_tokens);
    }
    s->state = SLOT_READY;
    p->info.workers_ready++;
    pil_sched_ready(p->sched, s->index);
    pil_log(PIL_LOG_DEBUG, "worker ready", "worker=%u worker_pid=%d", s->index, s->pid);
    if (p->info.state == PIL_POOL_PREPARING) {
        p->info.state = PIL_POOL_READY;
        changed(p);
    }
    return PILLION_OK;
}

static pillion_status take_failed(slot *s, pillion_error *err) {
    pillion_error why;
    pillion_status st = pil_frame_get_failed(&why, s->payload, s->header.payload_bytes, err);
    if (st) return st;
    if (s->pool->info.state == PIL_POOL_PREPARING) fail_pool(s->pool, why.code, why.text);
    else pil_log(PIL_LOG_ERROR, "worker cannot serve", "worker=%u reason=\"%s\"", s->index, why.text);
    return PILLION_OK;
}

static pillion_status take_reply(slot *s, pillion_error *err) {
    pil_pool *p = s->pool;
    const pil_batch *b = pil_sched_oldest(p->sched, s->index);
    assert(b); /* on_header() has looked */
    pil_answer *a = pil_answer_create(ANSWER_ARENA_MAX);
    if (!a) return pil_err_set(err, PILLION_E_NOMEM, "out of memory");
    a->memory = s->payload;
    s->payload = NULL;
    uint32_t *tags = pil_arena_calloc(&a->arena, b->n, sizeof *tags);
    for (size_t i = 0; tags && i < b->n; i++) tags[i] = tag_of(p, b->id, i);
    const pil_frame_expect expect = {.op = b->op, .n = b->n, .tags = tags, .dim = p->info.dim,
                                     .hidden = p->info.hidden};
    pil_frame_reply r;
    pillion_status st = tags ? PILLION_OK : pil_err_set(err, PILLION_E_NOMEM, "out of memory");
    if (!st) st = pil_frame_get_reply(&r, &a->arena, &expect, a->memory, s->header.payload_bytes, err);
    if (!st) {
        s->answered = true;
        a->items = r.items;
        a->n = b->n;
        if (r.status) pil_sched_refused(p->sched, s->index, r.status);
        else pil_sched_answered(p->sched, s->index, a, pil_loop_now_ms(p->loop));
    }
    pil_answer_release(a);
    return st;
}

/* The header is complete: what may follow it now, and how much? */
static pillion_status on_header(slot *s, pillion_error *err) {
    pil_pool *p = s->pool;
    size_t bytes_max = READY_BYTES_MAX;
    const pil_batch *b = pil_sched_oldest(p->sched, s->index);
    if (s->state == SLOT_READY) {
        if (!b) return pil_err_set(err, PILLION_E_FORMAT, "frame: an answer to nothing");
        bytes_max = PIL_LIMIT_FRAME_BYTES;
        if (b->op == PILLION_OP_EMBED) bytes_max = 64 + b->n * (64 + (size_t)p->info.dim * sizeof(float));
    }
    pillion_status st = pil_frame_get_header(&s->header, s->head, bytes_max, err);
    if (st) return st;
    bool fits = s->state == SLOT_READY ? s->header.type == PIL_FRAME_REPLY && s->header.id == b->id
                                       : s->header.type == PIL_FRAME_READY || s->header.type == PIL_FRAME_FAILED;
    if (!fits) return pil_err_set(err, PILLION_E_FORMAT, "frame: not what was asked for");
    s->payload = malloc(s->header.payload_bytes + 1); /* never NULL for an empty payload */
    s->payload_bytes = 0;
    return s->payload ? PILLION_OK : pil_err_set(err, PILLION_E_NOMEM, "out of memory");
}

static pillion_status on_frame(slot *s, pillion_error *err) {
    switch (s->header.type) {
    case PIL_FRAME_READY: return take_ready(s, err);
    case PIL_FRAME_FAILED: return take_failed(s, err);
    case PIL_FRAME_REPLY: return take_reply(s, err);
    case PIL_FRAME_REQUEST: break;
    }
    return pil_err_set(err, PILLION_E_FORMAT, "frame: not what was asked for");
}

/* Takes what it can use of n bytes: a part of a header, or a part of a payload. */
static pillion_status feed(slot *s, const char *bytes, size_t n, size_t *used, pillion_error *err) {
    bool in_head = !s->payload;
    size_t want = in_head ? sizeof s->head - s->head_bytes : s->header.payload_bytes - s->payload_bytes;
    size_t take = n < want ? n : want;
    memcpy(in_head ? s->head + s->head_bytes : s->payload + s->payload_bytes, bytes, take);
    *(in_head ? &s->head_bytes : &s->payload_bytes) += take;
    *used = take;
    pillion_status st = PILLION_OK;
    if (in_head && s->head_bytes == sizeof s->head) st = on_header(s, err);
    if (!st && s->payload && s->payload_bytes == s->header.payload_bytes) {
        st = on_frame(s, err);
        free(s->payload);
        s->payload = NULL;
        s->head_bytes = 0;
    }
    return st;
}

static void on_bytes(pil_stream *stream, const char *bytes, size_t n, void *ud) {
    (void)stream;
    slot *s = ud;
    pil_pool *p = s->pool;
    if (n == 0) {
        s->ended = true;
        if (!s->exited && s->state != SLOT_ENDING)
            pil_child_kill(s->child, SIGKILL); /* without its stream it is of no use */
        if (s->exited) gone(s);
        deliver(p);
        return;
    }
    for (size_t used; n > 0 && s->stream; bytes += used, n -= used) {
        pillion_error err = {0};
        if (feed(s, bytes, n, &used, &err)) {
            kill_worker(s, err.text);
            break;
        }
    }
    deliver(p);
}

/* ── Life of a worker ───────────────────────────────────────────────────────────────────────────────────────── */

/* Whether a process died of what it was doing. A kill from outside says nothing about the text at work. */
static bool is_crash(int status, int term_signal) {
    static const int crashes[] = {SIGSEGV, SIGABRT, SIGBUS, SIGFPE, SIGILL, SIGSYS, SIGTRAP};
    for (size_t i = 0; i < sizeof crashes / sizeof *crashes; i++)
        if (term_signal == crashes[i]) return true;
    return term_signal == 0 && status != 0;
}

static void check_stopped(pil_pool *p) {
    if (!p->stopping || p->prepare) return;
    for (uint32_t i = 0; i < p->info.workers; i++)
        if (p->slots[i].child) return;
    pil_timer_stop(p->tick);
    pil_timer_stop(p->stop);
    if (p->on_stopped) p->on_stopped(p->stopped_ud);
    p->on_stopped = NULL;
}

/* The process has exited and everything it said was read. */
static void gone(slot *s) {
    pil_pool *p = s->pool;
    bool was_ready = s->state == SLOT_READY, struck = was_ready && (s->killed || is_crash(s->status, s->term_signal));
    bool was_busy = was_ready && (s->answered || pil_sched_oldest(p->sched, s->index));
    pil_stream_close(s->stream);
    s->stream = NULL;
    free(s->payload);
    s->payload = NULL;
    pil_page_unmap(s->page);
    s->page = NULL;
    s->state = SLOT_ABSENT;
    if (p->stopping) {
        check_stopped(p);
        return;
    }
    if (p->info.state == PIL_POOL_FAILED) return;
    p->info.deaths++;
    pil_log(PIL_LOG_WARN, "worker died", "worker=%u status=%d signal=%d ready=%d", s->index, s->status, s->term_signal,
            was_ready);
    if (was_ready) {
        pil_sched_tick(p->sched, pil_loop_now_ms(p->loop)); /* from now on jobs wait; until now they did not */
        p->info.workers_ready--;
        pil_sched_lost(p->sched, s->index, struck);
        watch_hold(p);
    } else if (p->info.state == PIL_POOL_PREPARING && ++p->start_deaths >= PIL_LIMIT_STARTS * p->info.workers) {
        char text[120];
        snprintf(text, sizeof text, "workers die before they are ready (exit status %d, signal %d)", s->status,
                 s->term_signal);
        fail_pool(p, PILLION_E_INTERNAL, text);
    }
    if (p->info.state == PIL_POOL_FAILED) return;
    if (was_busy) s->backoff_ms = 0; /* what it died of is charged to the text, which is not tried for ever */
    else s->backoff_ms = s->backoff_ms ? 2 * s->backoff_ms : BACKOFF_MIN_MS;
    if (s->backoff_ms > BACKOFF_MAX_MS) s->backoff_ms = BACKOFF_MAX_MS;
    pil_timer_start(s->timer, s->backoff_ms, 0);
}

static void on_worker_exit(int status, int term_signal, void *ud) {
    slot *s = ud;
    pil_pool *p = s->pool;
    s->child = NULL; /* the loop frees it */
    s->exited = true;
    s->status = status;
    s->term_signal = term_signal;
    if (s->ended) gone(s);
    deliver(p);
}

static pillion_status spawn(slot *s, pillion_error *err) {
    pil_pool *p = s->pool;
    char precision[32], nice[32], model[4200];
    snprintf(precision, sizeof precision, "--precision=%d", (int)p->precision);
    snprintf(nice, sizeof nice, "--nice=%d", PIL_WORKER_NICE);
    snprintf(model, sizeof model, "--model=%s", p->file ? p->file : "");
    int page_fd;
    pillion_status st = pil_page_create(&s->page, &page_fd, err);
    if (st) return st;
    const char *const argv[] = {"pillion", "--role=worker", precision, nice, p->file ? model : NULL, NULL};
    const pil_child_spec spec = {.program = p->program,
                                 .argv = argv,
                                 .envp = (const char *const *)p->worker_env,
                                 .stdin_fd = -1,
                                 .shared_fd = page_fd,
                                 .channel = &s->stream,
                                 .on_exit = on_worker_exit,
                                 .ud = s};
    st = pil_child_start(&s->child, p->loop, &spec, err);
    close(page_fd);
    return st;
}

static void start_worker(slot *s) {
    s->exited = s->ended = s->killed = s->answered = false;
    s->head_bytes = 0;
    s->state = SLOT_STARTING;
    pillion_error err = {0};
    if (spawn(s, &err)) {
        pil_log(PIL_LOG_ERROR, "worker not started", "worker=%u reason=\"%s\"", s->index, err.text);
        s->status = -1;
        s->term_signal = 0;
        gone(s);
        return;
    }
    s->pid = pil_child_pid(s->child);
    pil_stream_watch(s->stream, on_bytes, NULL, s);
    pil_stream_read_start(s->stream);
}

static void on_restart(void *ud) {
    slot *s = ud;
    if (s->state == SLOT_ABSENT && !s->pool->stopping && s->pool->info.state != PIL_POOL_FAILED) start_worker(s);
}

static void start_workers(pil_pool *p) {
    for (uint32_t i = 0; i < p->info.workers; i++) start_worker(&p->slots[i]);
}

/* ── Preparing ──────────────────────────────────────────────────────────────────────────────────────────────── */

static void on_prepare_line(pil_pool *p, const char *line, size_t n) {
    pil_json *json;
    if (pil_json_parse(&json, line, n, NULL, NULL)) return;
    const char *path = pil_json_string(pil_json_get(json, "path"), NULL);
    const pil_json *error = pil_json_get(json, "error");
    if (path && !p->file) {
        p->file = strdup(path);
    } else if (error) {
        int64_t status = pil_json_int_or(pil_json_get(error, "status"), PILLION_E_INTERNAL);
        if (status >= 0 || status < PILLION_E_UNAVAILABLE) status = PILLION_E_INTERNAL;
        fail_pool(p, (pillion_status)status,
                  pil_json_string_or(pil_json_get(error, "text"), "the model cannot be compiled"));
    } else {
        int64_t done = pil_json_int_or(pil_json_get(json, "done"), -1),
                total = pil_json_int_or(pil_json_get(json, "total"), -1);
        if (done >= 0 && total >= done) {
            p->info.prepare_done = (uint64_t)done;
            p->info.prepare_total = (uint64_t)total;
            changed(p);
        }
    }
    pil_json_free(json);
}

static void on_prepare_bytes(pil_stream *stream, const char *bytes, size_t n, void *ud) {
    pil_pool *p = ud;
    if (pil_buf_append(&p->prepare_line, bytes, n) || n == 0) {
        pil_stream_close(stream);
        p->prepare_out = NULL;
        if (!p->prepare && p->file && !p->stopping) start_workers(p);
        else if (!p->prepare && !p->file)
            fail_pool(p, PILLION_E_INTERNAL, "the model could not be compiled: its compiler died");
        return;
    }
    for (char *end; (end = memchr(p->prepare_line.bytes, '\n', p->prepare_line.len));) {
        size_t line = (size_t)(end - p->prepare_line.bytes);
        on_prepare_line(p, p->prepare_line.bytes, line);
        p->prepare_line.len -= line + 1;
        memmove(p->prepare_line.bytes, end + 1, p->prepare_line.len);
    }
}

static void on_prepare_exit(int status, int term_signal, void *ud) {
    pil_pool *p = ud;
    p->prepare = NULL;
    if (p->stopping) {
        check_stopped(p);
        return;
    }
    if (status || term_signal) {
        char text[120];
        snprintf(text, sizeof text, "the model could not be compiled: exit status %d, signal %d", status, term_signal);
        if (!p->prepare_out || term_signal) fail_pool(p, PILLION_E_INTERNAL, text);
    } else if (!p->prepare_out) {
        if (p->file) start_workers(p);
        else fail_pool(p, PILLION_E_INTERNAL, "the model could not be compiled: no answer");
    }
}

static pillion_status start_prepare(pil_pool *p, pillion_error *err) {
    char precision[32], source[4200];
    snprintf(precision, sizeof precision, "--precision=%d", (int)p->precision);
    snprintf(source, sizeof source, "--source=%s", p->directory);
    const char *const argv[] = {"pillion", "--role=prepare", precision, source, NULL};
    const pil_child_spec spec = {.program = p->program,
                                 .argv = argv,
                                 .envp = (const char *const *)p->prepare_env,
                                 .stdin_fd = -1,
                                 .out = &p->prepare_out,
                                 .on_exit = on_prepare_exit,
                                 .ud = p};
    pillion_status st = pil_child_start(&p->prepare, p->loop, &spec, err);
    if (st) return st;
    pil_stream_watch(p->prepare_out, on_prepare_bytes, NULL, p);
    pil_stream_read_start(p->prepare_out);
    return PILLION_OK;
}

/* ── Life of the pool ───────────────────────────────────────────────────────────────────────────────────────── */

/* A worker knows nothing of our environment but which instructions to use. The child that compiles needs to know where
 * caches are, and the runtime of a sanitizer or of coverage has its own needs. Borrows from environ. */
static bool is_passed_on(const char *assignment, bool to_worker) {
    static const char *const kept[] = {"HOME=", "XDG_CACHE_HOME=", "TMPDIR=", "LD_LIBRARY_PATH="};
#ifdef PIL_INSTRUMENTED
    static const char *const runtime[] = {"ASAN_OPTIONS=", "UBSAN_OPTIONS=", "TSAN_OPTIONS=",     "LSAN_OPTIONS=",
                                          "GCOV_PREFIX=",  "GCOV_PREFIX_", "LLVM_PROFILE_FILE="};
    for (size_t i = 0; i < sizeof runtime / sizeof *runtime; i++)
        if (strncmp(assignment, runtime[i], strlen(runtime[i])) == 0) return true;
#endif
    for (size_t i = 0; !to_worker && i < sizeof kept / sizeof *kept; i++)
        if (strncmp(assignment, kept[i], strlen(kept[i])) == 0) return true;
    return strncmp(assignment, "PILLION_CPU=", 12) == 0 || pil_fault_is_variable(assignment);
}

static char **environment_of(bool worker) {
    size_t n = 0;
    while (environ[n]) n++;
    char **env = calloc(n + 1, sizeof *env);
    n = 0;
    for (char **e = environ; env && *e; e++)
        if (is_passed_on(*e, worker)) env[n++] = *e;
    return env;
}

static pillion_status create_slots(pil_pool *p, uint32_t workers, pillion_error *err) {
    p->slots = calloc(workers, sizeof *p->slots);
    if (!p->slots) return pil_err_set(err, PILLION_E_NOMEM, "out of memory");
    p->info.workers = workers;
    for (uint32_t i = 0; i < workers; i++) {
        p->slots[i] = (slot){.pool = p, .index = i, .timer = pil_timer_create(p->loop, on_restart, &p->slots[i])};
        if (!p->slots[i].timer) return pil_err_set(err, PILLION_E_NOMEM, "out of memory");
    }
    return PILLION_OK;
}

static void on_stop_timer(void *ud) {
    pil_pool *p = ud;
    pil_child_kill(p->prepare, SIGKILL);
    for (uint32_t i = 0; i < p->info.workers; i++) pil_child_kill(p->slots[i].child, SIGKILL);
}

pillion_status pil_pool_create(pil_pool **out, pil_loop *l, const pil_pool_options *opt, pillion_error *err) {
    *out = NULL;
    pil_pool *p = calloc(1, sizeof *p);
    if (!p) return pil_err_set(err, PILLION_E_NOMEM, "out of memory");
    p->loop = l;
    p->on_change = opt->on_change;
    p->ud = opt->ud;
    p->precision = opt->precision;
    if (getentropy(&p->tag_seed, sizeof p->tag_seed) != 0) p->tag_seed = pil_clock_ns();
    pil_buf_init(&p->prepare_line, PREPARE_LINE_MAX);
    pil_buf_init(&p->model, PIL_LIMIT_FRAME_BYTES);
    char self[4096];
    pil_loop_program(self, sizeof self);
    p->program = strdup(opt->program ? opt->program : self);
    p->directory = opt->directory ? strdup(opt->directory) : NULL;
    p->file = opt->file ? strdup(opt->file) : NULL;
    p->prepare_env = environment_of(false);
    p->worker_env = environment_of(true);
    p->tick = pil_timer_create(l, on_tick, p);
    p->soon = pil_timer_create(l, on_soon, p);
    p->stop = pil_timer_create(l, on_stop_timer, p);
    pil_sched_options so;
    pil_sched_options_init(&so, opt->workers);
    if (opt->batch_tokens) so.batch_tokens = opt->batch_tokens;
    pillion_status st = pil_sched_create(&p->sched, &so, err);
    if (!st && (!p->program || !p->prepare_env || !p->worker_env || !p->tick || !p->soon || !p->stop ||
                (opt->directory && !p->directory) || (opt->file && !p->file)))
        st = pil_err_set(err, PILLION_E_NOMEM, "out of memory");
    if (!st) st = create_slots(p, opt->workers, err);
    if (!st && p->directory) st = start_prepare(p, err);
    if (st) {
        pil_pool_destroy(p);
        return st;
    }
    if (!p->directory) start_workers(p);
    *out = p;
    return PILLION_OK;
}

void pil_pool_stop(pil_pool *p, pil_pool_fn on_stopped, void *ud) {
    p->stopping = true;
    p->on_stopped = on_stopped;
    p->stopped_ud = ud;
    pil_child_kill(p->prepare, SIGKILL);
    for (uint32_t i = 0; i < p->info.workers; i++) {
        slot *s = &p->slots[i];
        pil_timer_stop(s->timer);
        if (s->state != SLOT_READY || pil_sched_oldest(p->sched, i)) pil_child_kill(s->child, SIGKILL);
        pil_stream_close(s->stream);
        s->stream = NULL;
        s->ended = true;
        if (s->child) s->state = SLOT_ENDING;
    }
    pil_timer_stop(p->soon);
    pil_timer_start(p->stop, STOP_MS, 0);
    check_stopped(p);
}

void pil_pool_destroy(pil_pool *p) {
    if (!p) return;
    for (uint32_t i = 0; p->slots && i < p->info.workers; i++) {
        slot *s = &p->slots[i];
        pil_child_forget(s->child);
        pil_child_kill(s->child, SIGKILL);
        pil_stream_close(s->stream);
        pil_timer_destroy(s->timer);
        free(s->payload);
        pil_page_unmap(s->page);
    }
    pil_child_forget(p->prepare);
    pil_child_kill(p->prepare, SIGKILL);
    pil_stream_close(p->prepare_out);
    pil_timer_destroy(p->tick);
    pil_timer_destroy(p->soon);
    pil_timer_destroy(p->stop);
    while (p->tickets) ticket_free(p, p->tickets); /* NOLINT(clang-analyzer-unix.Malloc): the first has no prev */
    pil_sched_destroy(p->sched);
    pil_buf_deinit(&p->prepare_line);
    free(p->slots);
    free(p->prepare_env);
    free(p->worker_env);
    free(p->program);
    free(p->directory);
    free(p->file);
    pil_buf_deinit(&p->model);
    free(p);
}

const pil_pool_info *pil_pool_info_of(const pil_pool *p) { return &p->info; }

pillion_status pil_pool_submit(pil_pool *p, pil_ticket **out, uint64_t client, pillion_op op,
                               const pillion_run_options *options, const pillion_input *inputs, size_t n,
                               pil_done_fn on_done, void *ud, pillion_error *err) {
    *out = NULL;
    (void)client; /* the scheduler does not know them yet */
    pil_ticket *t = calloc(1, sizeof *t);
    if (!t) return pil_err_set(err, PILLION_E_NOMEM, "out of memory");
    t->on_done = on_done;
    t->ud = ud;
    pillion_status st = pil_sched_submit(p->sched, &t->job, op, options, inputs, n, pil_loop_now_ms(p->loop), t, err);
    if (st) {
        free(t);
        return st;
    }
    t->next = p->tickets;
    if (t->next) t->next->prev = t;
    p->tickets = t;
    *out = t;
    send_all(p);
    if (!p->stopping) pil_timer_start(p->soon, 0, 0); /* a job may be finished already; its owner hears of it later */
    watch_hold(p);
    return PILLION_OK;
}

uint64_t pil_pool_retry_after_ms(const pil_pool *p) {
    (void)p;
    return 1000;
}

void pil_pool_cancel(pil_pool *p, pil_ticket *t) {
    pil_sched_cancel(p->sched, t->job);
    ticket_free(p, t);
}
