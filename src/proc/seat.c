/* seat.c - a slot of the dispatcher with its worker process: start, frames there and back, end.
 *
 *                 +---- the model is compiled anew ----+
 *                 v                                    |
 *     EMPTY --start()--> STARTING --READY--> SERVING   WAITING <--"my file is stale"-- STARTING
 *       ^                    |                  |
 *       +------ gone(): it has exited, and what it said is read to the end
 *
 * Invariants: (1) a worker is gone only when it has exited and its stream is read to the end, so that no finished
 *             answer is thrown away; but a killed one is not listened to any more. (2) nothing that a worker says is
 *             believed before frame.c has checked it: it must answer its oldest request, in this process' numbers, with
 *             the tags of that request's inputs. (3) what comes from another process of this slot cannot be mistaken
 *             for this one's: each has its own socket, and its generation is in the upper half of its requests' ids.
 * Not here:   which text goes where, and what an end means for texts (sched/). Tests: tests/proc/test_pool.c. */
#include <assert.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/err.h"
#include "base/json.h"
#include "base/limits.h"
#include "base/log.h"
#include "proc/proc_int.h"
#include "sandbox/sandbox.h"

#define ANSWER_ARENA_MAX (512 * PIL_MIB)
#define READY_BYTES_MAX PIL_MIB
#define STARVED_MS 1000   /* below it is too short to tell */
#define STARVED_SHARE 200 /* of a core: at nice 10 one of twenty that compete for it still has more */
#define EXIT_MS 500       /* a process whose stream has ended is about to exit, or has closed it on purpose */

static uint64_t id_of(const pil_seat *s, uint32_t number) { return (uint64_t)s->generation << 32 | number; }

/* The tag of input i of a request: one that no worker can know before it is told (the finalizer of splitmix64). */
static uint32_t tag_of(const pil_seat *s, uint32_t number, size_t i) {
    uint64_t slot = s->index + 1;
    uint64_t x = s->pool->tag_seed + id_of(s, number) * 0x9e3779b97f4a7c15u + (slot << 32 | i) * 0xd1342543de82ef95u;
    x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9u;
    x = (x ^ x >> 27) * 0x94d049bb133111ebu;
    return (uint32_t)(x >> 32);
}

/* ── Its end ────────────────────────────────────────────────────────────────────────────────────────────────── */

static pil_end classify(pil_seat *s, char *why, size_t why_bytes) {
    static const int own[] = {SIGSEGV, SIGABRT, SIGBUS, SIGFPE, SIGILL, SIGSYS, SIGTRAP, SIGXCPU, SIGXFSZ};
    if (s->term_signal == 0) {
        snprintf(why, why_bytes, "exit status %d", s->status);
        if (s->status == PIL_WORKER_CUT_OFF) return PIL_END_OUTSIDE;
        return s->status ? PIL_END_CRASH : PIL_END_EXIT;
    }
    if (s->term_signal == SIGKILL && !s->killed && pil_oom_explains(&s->pool->oom)) {
        snprintf(why, why_bytes, "killed for want of memory");
        return PIL_END_OOM;
    }
    if (s->killed && s->held) {
        snprintf(why, why_bytes, "%s", s->held);
        return PIL_END_STOPPED;
    }
    snprintf(why, why_bytes, "%s", strsignal(s->term_signal));
    for (size_t i = 0; i < sizeof own / sizeof *own; i++)
        if (s->term_signal == own[i]) return PIL_END_CRASH;
    return PIL_END_OUTSIDE;
}

static void tidy_up(pil_seat *s) {
    pil_stream_close(s->stream);
    s->stream = NULL;
    free(s->payload);
    s->payload = NULL;
    pil_page_unmap(s->page);
    s->page = NULL;
    pil_timer_stop(s->timer);
    s->state = PIL_SEAT_EMPTY;
}

/* The process has exited and everything it said that counts was read. */
static void gone(pil_seat *s) {
    pil_pool *p = s->pool;
    bool was_serving = s->state == PIL_SEAT_SERVING;
    tidy_up(s);
    if (p->stopping) {
        pil_pool_check_stopped(p);
        return;
    }
    if (s->stale && !s->killed) {
        s->state = PIL_SEAT_WAITING; /* for the dispatcher it is still starting */
        if (pil_pool_recompile(p, s->opened)) return;
        s->state = PIL_SEAT_EMPTY;
    }
    if (s->stale) pil_seat_fail(s);
    char why[80];
    pil_end how = classify(s, why, sizeof why);
    if (!s->retired && p->info.state != PIL_POOL_FAILED) /* each death has one line, which names its cause */
        pil_log(PIL_LOG_WARN, "worker died", "worker=%u worker_pid=%d serving=%d status=%d signal=%d reason=\"%s\"",
                s->index, s->pid, was_serving, s->status, s->term_signal, s->killed ? s->cause : why);
    pil_sched_ended(p->sched, s->index, how, why);
}

static void on_exit_of(int status, int term_signal, void *ud) {
    pil_seat *s = ud;
    pil_pool *p = s->pool;
    pil_pool_wake(p);
    s->child = NULL; /* the loop frees it */
    s->exited = true;
    s->status = status;
    s->term_signal = term_signal;
    if (s->ended) gone(s);
    pil_pool_turn(p);
}

void pil_seat_kill(pil_seat *s, const char *cause) {
    if (s->state == PIL_SEAT_EMPTY) return;
    if (s->state == PIL_SEAT_WAITING) { /* there is no process: it takes too long to compile */
        s->state = PIL_SEAT_EMPTY;
        pil_sched_ended(s->pool->sched, s->index, PIL_END_EXIT, "the model is being compiled");
        return;
    }
    pil_seat_look(s); /* could it run? */
    if (!s->killed)
        snprintf(s->cause, sizeof s->cause, "%s%s%s", cause, s->held ? ": " : "", s->held ? s->held : "");
    s->killed = s->ended = true;
    pil_child_kill(s->child, SIGKILL);
    pil_stream_close(s->stream);
    s->stream = NULL;
    if (s->exited) gone(s);
}

static void lied(pil_seat *s, const char *why) {
    pil_sched_lied(s->pool->sched, s->index, why);
    pil_seat_kill(s, why); /* at once: not one word more of it is read */
}

void pil_seat_retire(pil_seat *s) {
    s->retired = true;
    if (s->stream) pil_stream_shutdown(s->stream);
}

static void on_overdue(void *ud) {
    pil_seat *s = ud;
    pil_pool_wake(s->pool);
    if (!s->exited && s->ended) lied(s, "it has closed its channel");
    else if (!s->exited) pil_seat_kill(s, "its channel failed");
    pil_pool_turn(s->pool);
}

/* ── What it is told ────────────────────────────────────────────────────────────────────────────────────────── */

static pillion_status write_request(pil_seat *s, uint32_t number, const pil_batch *b) {
    pil_buf frame;
    size_t mark;
    pil_buf_init(&frame, PIL_LIMIT_FRAME_BYTES + PIL_FRAME_HEADER_BYTES);
    pil_frame_begin(&frame, PIL_FRAME_REQUEST, id_of(s, number), &mark);
    pil_frame_put_request(&frame, b->op, &b->options, b->n);
    for (size_t i = 0; i < b->n; i++) pil_frame_put_input(&frame, tag_of(s, number, i), pil_batch_input(b, i));
    pillion_status st = pil_frame_end(&frame, mark);
    size_t n = frame.len;
    if (!st) st = pil_stream_write(s->stream, pil_buf_steal(&frame), n);
    pil_buf_deinit(&frame);
    return st;
}

void pil_seat_send(pil_seat *s, const pil_batch *b) {
    if (!s->stream) return; /* about to be gone: the dispatcher takes the batch back then */
    uint32_t number = s->next++;
    assert(number - s->first < PIL_PAGE_CANCELS);
    pil_page_cancel(s->page, number, 0);
    pillion_status st = write_request(s, number, b);
    if (!st || st == PILLION_E_IO) return; /* a broken stream ends by itself, or by on_written() */
    s->next--;
    pil_sched_unsent(s->pool->sched, s->index, st);
}

void pil_seat_abandon(pil_seat *s) {
    if (s->page) pil_page_cancel(s->page, s->first, 1);
}

/* ── What it says ───────────────────────────────────────────────────────────────────────────────────────────── */

/* pillion_info holds the digest of the weights: equal descriptions are equal models. */
static bool same_model(const pil_pool *p, const pil_frame_ready *r) {
    return r->dim == p->info.dim && r->hidden == p->info.hidden && r->max_tokens == p->info.max_tokens &&
           r->json_bytes == p->model.len && memcmp(r->json, p->model.bytes, r->json_bytes) == 0;
}

static pillion_status keep_model(pil_pool *p, const pil_frame_ready *r, pillion_error *err) {
    pil_json *json;
    pillion_status st = pil_json_parse(&json, r->json, r->json_bytes, NULL, err);
    if (st) return st;
    if (!pil_buf_append(&p->model, r->json, r->json_bytes)) {
        snprintf(p->info.sandbox, sizeof p->info.sandbox, "%.*s", (int)r->sandbox_bytes, r->sandbox);
        p->info.dim = r->dim;
        p->info.hidden = r->hidden;
        p->info.max_tokens = r->max_tokens;
        pil_sched_set_model(p->sched, pil_json_string(pil_json_get(json, "digest"), NULL), r->max_tokens);
    } else {
        st = pil_err_no_memory(err);
    }
    pil_json_free(json);
    return st;
}

static pillion_status take_ready(pil_seat *s, pillion_error *err) {
    pil_pool *p = s->pool;
    pil_frame_ready r;
    pillion_status st = pil_frame_get_ready(&r, s->payload, s->header.payload_bytes, err);
    if (st) return st;
    if (p->model.len == 0) st = keep_model(p, &r, err);
    else if (!same_model(p, &r)) st = pil_err_set(err, PILLION_E_FORMAT, "another model than the first worker's");
    if (st) return st;
    s->state = PIL_SEAT_SERVING;
    p->served = true;
    pil_log(PIL_LOG_DEBUG, "worker ready", "worker=%u worker_pid=%d", s->index, s->pid);
    pil_sched_ready(p->sched, s->index, r.canary, r.dim);
    pil_seat_look(s); /* what it needs from the start is no growth */
    return PILLION_OK;
}

/* Some failures are the model's, and no other worker will do better; some may be over the next time. */
static bool is_model_wrong(pillion_status st) {
    return st != PILLION_E_NOMEM && st != PILLION_E_IO && st != PILLION_E_INTERNAL;
}

void pil_seat_fail(pil_seat *s) {
    pil_pool *p = s->pool;
    if (p->info.state == PIL_POOL_PREPARING && is_model_wrong(s->why.code)) {
        pil_pool_fail(p, s->why.code, s->why.text);
        return;
    }
    pil_log(PIL_LOG_ERROR, "worker cannot serve", "worker=%u reason=\"%s\"", s->index, s->why.text);
    pil_sched_failed(p->sched, s->index, s->why.code, s->why.text);
}

/* It will end by itself. When its compiled file is the reason, that may be made anew; gone() sees to it. */
static pillion_status take_failed(pil_seat *s, pillion_error *err) {
    if (s->why.code) return pil_err_set(err, PILLION_E_FORMAT, "frame: failed twice");
    pillion_status st = pil_frame_get_failed(&s->why, s->payload, s->header.payload_bytes, err);
    if (st) return st;
    s->stale = s->pool->directory && (s->why.code == PILLION_E_NOT_FOUND || s->why.code == PILLION_E_STALE ||
                                      s->why.code == PILLION_E_FORMAT);
    if (s->stale)
        pil_log(PIL_LOG_WARN, "compiled file is not usable", "worker=%u reason=\"%s\"", s->index, s->why.text);
    else pil_seat_fail(s);
    return PILLION_OK;
}

static pillion_status take_reply(pil_seat *s, pillion_error *err) {
    pil_pool *p = s->pool;
    const pil_batch *b = pil_sched_oldest(p->sched, s->index);
    pil_answer *a = b ? pil_answer_create(ANSWER_ARENA_MAX) : NULL;
    uint32_t *tags = a ? pil_arena_calloc(&a->arena, b->n, sizeof *tags) : NULL;
    if (!tags) {
        pil_answer_release(a);
        return pil_err_no_memory(err);
    }
    for (size_t i = 0; i < b->n; i++) tags[i] = tag_of(s, s->first, i);
    a->memory = s->payload;
    s->payload = NULL;
    const pil_frame_expect expect = {.op = b->op, .n = b->n, .tags = tags, .dim = p->info.dim,
                                     .hidden = p->info.hidden};
    pil_frame_reply r;
    pillion_status st = pil_frame_get_reply(&r, &a->arena, &expect, a->memory, s->header.payload_bytes, err);
    if (!st) {
        s->first++;
        a->items = r.items;
        a->n = b->n;
        if (r.status) pil_sched_refused(p->sched, s->index, r.status);
        else pil_sched_answered(p->sched, s->index, a);
    }
    pil_answer_release(a);
    return st;
}

/* The header is complete: what may follow it now, and how much? */
static pillion_status on_header(pil_seat *s, pillion_error *err) {
    pil_pool *p = s->pool;
    size_t bytes_max = READY_BYTES_MAX;
    const pil_batch *b = pil_sched_oldest(p->sched, s->index);
    if (s->state == PIL_SEAT_SERVING) {
        if (!b || s->first == s->next) return pil_err_set(err, PILLION_E_FORMAT, "frame: an answer to nothing");
        bytes_max = PIL_LIMIT_FRAME_BYTES;
        if (b->op == PILLION_OP_EMBED) bytes_max = 64 + b->n * (64 + (size_t)p->info.dim * sizeof(float));
    }
    pillion_status st = pil_frame_get_header(&s->header, s->head, bytes_max, err);
    if (st) return st;
    bool fits = s->state == PIL_SEAT_SERVING
                    ? s->header.type == PIL_FRAME_REPLY && s->header.id == id_of(s, s->first)
                    : s->header.type == PIL_FRAME_READY || s->header.type == PIL_FRAME_FAILED;
    if (!fits) return pil_err_set(err, PILLION_E_FORMAT, "frame: not what was asked for");
    s->payload = malloc(s->header.payload_bytes + 1); /* never NULL for an empty payload */
    s->payload_bytes = 0;
    return s->payload ? PILLION_OK : pil_err_no_memory(err);
}

static pillion_status on_frame(pil_seat *s, pillion_error *err) {
    switch (s->header.type) {
    case PIL_FRAME_READY: return take_ready(s, err);
    case PIL_FRAME_FAILED: return take_failed(s, err);
    case PIL_FRAME_REPLY: return take_reply(s, err);
    case PIL_FRAME_REQUEST: break;
    }
    return pil_err_set(err, PILLION_E_FORMAT, "frame: not what was asked for");
}

/* Takes what it can use of n bytes: a part of a header, or a part of a payload. */
static pillion_status feed(pil_seat *s, const char *bytes, size_t n, size_t *used, pillion_error *err) {
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
    pil_seat *s = ud;
    pil_pool *p = s->pool;
    pil_pool_wake(p);
    if (n == 0) {
        s->ended = true;
        if (s->exited) gone(s);
        else pil_timer_start(s->timer, EXIT_MS, 0);
    }
    for (size_t used; n > 0 && !s->ended; bytes += used, n -= used) {
        pillion_error err = {0};
        if (feed(s, bytes, n, &used, &err)) lied(s, err.text);
    }
    pil_pool_turn(p);
}

static void on_written(pil_stream *stream, bool ok, void *ud) {
    (void)stream;
    pil_seat *s = ud;
    /* Mostly it has just died and we shall hear of it. If not, it would wait for a batch that we wait for. */
    if (!ok && !s->ended) pil_timer_start(s->timer, EXIT_MS, 0);
}

/* ── Its start ──────────────────────────────────────────────────────────────────────────────────────────────── */

static pillion_status spawn(pil_seat *s, pillion_error *err) {
    pil_pool *p = s->pool;
    char precision[32], nice[32], model[4200];
    snprintf(precision, sizeof precision, "--precision=%d", (int)p->precision);
    snprintf(nice, sizeof nice, "--nice=%d", s->index < p->info.workers ? PIL_CHILD_NICE : 0);
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
                                 .on_exit = on_exit_of,
                                 .ud = s};
    st = pil_child_start(&s->child, p->loop, &spec, err);
    close(page_fd);
    return st;
}

pillion_status pil_seat_start(pil_seat *s, pillion_error *err) {
    s->exited = s->ended = s->killed = s->retired = s->slept = s->stale = false;
    s->progress = s->moved_cpu_ms = 0;
    s->moved_ms = pil_loop_now_ms(s->pool->loop);
    s->why = (pillion_error){0};
    s->status = s->term_signal = 0;
    s->head_bytes = 0;
    s->first = s->next = 1;
    s->generation++;
    s->opened = s->pool->compilations;
    pillion_status st = spawn(s, err);
    if (st) {
        pil_log(PIL_LOG_ERROR, "worker not started", "worker=%u reason=\"%s\"", s->index, err->text);
        tidy_up(s);
        return st;
    }
    s->state = PIL_SEAT_STARTING;
    s->pid = pil_child_pid(s->child);
    pil_stream_watch(s->stream, on_bytes, on_written, s);
    pil_stream_read_start(s->stream);
    return PILLION_OK;
}

pillion_status pil_seat_init(pil_seat *s, pil_pool *p, uint32_t index, pillion_error *err) {
    *s = (pil_seat){.pool = p, .index = index};
    s->timer = pil_timer_create(p->loop, on_overdue, s);
    return s->timer ? PILLION_OK : pil_err_no_memory(err);
}

void pil_seat_deinit(pil_seat *s) {
    if (!s->pool) return;
    pil_child_forget(s->child);
    pil_child_kill(s->child, SIGKILL);
    pil_stream_close(s->stream);
    pil_timer_destroy(s->timer);
    pil_page_unmap(s->page);
    free(s->payload);
}

/* ── How far it is ──────────────────────────────────────────────────────────────────────────────────────────── */

/* The value of a line of /proc/PID/status, or NULL. */
static const char *value_of(const char *text, const char *name) {
    const char *line = strstr(text, name);
    return line ? line + strlen(name) + strspn(line + strlen(name), "\t ") : NULL;
}

/* Where it cannot be told it is as if the process had a core to itself. */
static uint64_t cpu_ms_of(int pid) {
#ifdef __linux__
    clockid_t clock;
    struct timespec used;
    if (clock_getcpuclockid(pid, &clock) == 0 && clock_gettime(clock, &used) == 0)
        return (uint64_t)used.tv_sec * 1000 + (uint64_t)used.tv_nsec / 1000000;
#endif
    (void)pid;
    return pil_clock_ns() / 1000000;
}

/* What keeps a process in this state (proc(5)) from getting on. A worker that sleeps has only itself to blame: it works
 * on one thread and waits for nobody. */
static const char *held_by(const pil_seat *s, char state, uint64_t now_ms, uint64_t cpu_ms) {
    uint64_t still_ms = now_ms - s->moved_ms, used_ms = cpu_ms - s->moved_cpu_ms;
    if (state == 'T' || state == 't') return "stopped from outside";
    if (state == 'D') return "waiting for the disk";
    if (state == 'R' && !s->slept && still_ms >= STARVED_MS && used_ms < still_ms / STARVED_SHARE)
        return "without a processor";
    return NULL;
}

void pil_seat_look(pil_seat *s) {
    char path[48], text[4096];
    s->held = NULL;
    if (!s->child || !s->page) return;
    snprintf(path, sizeof path, "/proc/%d/status", s->pid);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t n = fd >= 0 ? read(fd, text, sizeof text - 1) : -1;
    if (fd >= 0) close(fd);
    text[n > 0 ? n : 0] = '\0';
    const char *own_kib = value_of(text, "\nRssAnon:"), *state = value_of(text, "\nState:");
    uint64_t progress = pil_page_progress(s->page), now_ms = pil_loop_now_ms(s->pool->loop), cpu_ms = cpu_ms_of(s->pid);
    if (progress != s->progress) {
        s->progress = progress;
        s->moved_ms = now_ms;
        s->moved_cpu_ms = cpu_ms;
        s->slept = false;
    }
    s->slept |= state && *state == 'S';
    s->held = state ? held_by(s, *state, now_ms, cpu_ms) : NULL;
    pil_sched_progress(s->pool->sched, s->index, progress,
                       own_kib ? strtoull(own_kib, NULL, 10) * PIL_KIB : 0);
}
