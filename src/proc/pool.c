/* pool.c - drives the dispatcher (sched/sched.h): time and events go in, actions become processes, frames and signals,
 * finished jobs go to their owners. It decides nothing itself.
 *
 *   pool:  PREPARING --a worker has passed its canary--> READY
 *          PREPARING --the model cannot be compiled, or a worker says that it is wrong--> FAILED
 *
 * Flow:       a callback of the loop -> wake(): advance -> events -> turn(): actions until there are none, jobs to
 *             their owners, both until neither gives anything -> info, and a timer for the dispatcher's next wish.
 * Invariants: (1) advance() comes before every event. (2) on_done is called from turn() only, never from inside
 *             submit(). (3) while a request is with a worker its page is looked at twice a second; with nothing to do
 *             there is no timer but that of the canary.
 * Not here:   one worker process (seat.c), the compiling child (compiler.c), what to do (sched/).
 * Tests:      tests/proc/test_pool.c, tests/http/test_server.py. */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/err.h"
#include "base/limits.h"
#include "base/log.h"
#include "proc/fault.h"
#include "proc/proc_int.h"

#define DELIVERIES_MAX 64 /* in one turn: an owner that submits again at once must not keep others from the loop */
#define LOOK_MS 500 /* between two looks at the pages of workers that compute */
#define STOP_MS 100
#define RECOMPILE_MS 10000 /* a file that was compiled just now, and that no worker could use, is not compiled again */

extern char **environ;

struct pil_ticket {
    pil_ticket *prev, *next;
    pil_job *job;
    pil_done_fn on_done;
    void *ud;
};

static void changed(pil_pool *p) {
    if (p->on_change && !p->stopping) p->on_change(p->ud);
}

void pil_pool_fail(pil_pool *p, pillion_status status, const char *text) {
    if (p->info.state == PIL_POOL_FAILED || p->stopping) return;
    p->info.state = PIL_POOL_FAILED;
    p->info.error = (pillion_error){0};
    pil_err_set(&p->info.error, status, "%s", text);
    pil_sched_give_up(p->sched, text);
    changed(p);
}

/* ── A turn ─────────────────────────────────────────────────────────────────────────────────────────────────── */

static void start_seat(pil_pool *p, pil_seat *s) {
    pillion_error err = {0};
    if (pil_compiler_is_running(&p->compiler)) s->state = PIL_SEAT_WAITING;
    else if (pil_seat_start(s, &err)) pil_sched_spawn_failed(p->sched, s->index, err.text);
}

static void act(pil_pool *p, const pil_action *a) {
    pil_seat *s = &p->seats[a->slot];
    switch (a->kind) {
    case PIL_ACTION_NONE: break;
    case PIL_ACTION_SPAWN: start_seat(p, s); break;
    case PIL_ACTION_SEND: pil_seat_send(s, a->batch); break;
    case PIL_ACTION_ABANDON: pil_seat_abandon(s); break;
    case PIL_ACTION_RETIRE:
        pil_log(PIL_LOG_INFO, "worker retired", "worker=%u worker_pid=%d reason=\"%s\"", a->slot, s->pid, a->why);
        pil_seat_retire(s);
        break;
    case PIL_ACTION_KILL: pil_seat_kill(s, a->why); break;
    }
}

static void act_all(pil_pool *p) {
    pil_action a;
    while (!p->stopping && pil_sched_next_action(p->sched, &a)) act(p, &a);
}

static void ticket_free(pil_pool *p, pil_ticket *t) {
    *(t->prev ? &t->prev->next : &p->tickets) = t->next;
    if (t->next) t->next->prev = t->prev;
    free(t);
}

/* Keeps only what may stand in a log line and in JSON as it is. */
static void copy_printable(char *out, size_t out_bytes, const char *text) {
    size_t n = 0;
    for (; text[n] && n + 1 < out_bytes; n++)
        out[n] = text[n] < ' ' || text[n] > '~' || text[n] == '"' || text[n] == '\\' ? '?' : text[n];
    out[n] = '\0';
}

static void refresh(pil_pool *p) {
    pil_sched_load load;
    pil_sched_measure(p->sched, &load);
    pil_pool_info *info = &p->info;
    bool open = load.reason && info->state != PIL_POOL_FAILED, is_new = open != info->breaker_open;
    info->workers_ready = load.workers_ready;
    info->deaths = load.deaths;
    info->breaker_open = open;
    copy_printable(info->reason, sizeof info->reason, open ? load.reason : "");
    if (is_new && open) pil_log(PIL_LOG_ERROR, "workers cannot be started", "reason=\"%s\"", info->reason);
    if (is_new && !open) pil_log(PIL_LOG_WARN, "workers can be started again", "ready=%u", info->workers_ready);
    if (info->state == PIL_POOL_PREPARING && load.workers_ready > 0) {
        info->state = PIL_POOL_READY;
        is_new = true;
    }
    if (is_new) changed(p);
    uint64_t now_ms = pil_loop_now_ms(p->loop), next_ms = pil_sched_next_ms(p->sched);
    if (p->stopping || next_ms == UINT64_MAX) {
        pil_timer_stop(p->tick);
        return;
    }
    if (load.batches_out > 0 && next_ms > p->looked_ms + LOOK_MS) next_ms = p->looked_ms + LOOK_MS;
    pil_timer_start(p->tick, next_ms > now_ms ? next_ms - now_ms : 0, 0);
}

/* How far workers are is looked at by whatever wakes us, so that a steady stream of events does not put it off. */
void pil_pool_wake(pil_pool *p) {
    uint64_t now_ms = pil_loop_now_ms(p->loop);
    if (now_ms >= p->looked_ms + LOOK_MS) {
        p->looked_ms = now_ms;
        for (uint32_t i = 0; i < p->n_seats; i++) pil_seat_look(&p->seats[i]);
        pil_oom_settle(&p->oom, now_ms);
    }
    pil_sched_advance(p->sched, now_ms);
}

/* An owner may submit or cancel from its on_done: what comes of it is done in the same turn, but not for ever. */
void pil_pool_turn(pil_pool *p) {
    if (p->turning) return;
    p->turning = true;
    act_all(p);
    pil_job *j = NULL;
    for (int given = 0; given < DELIVERIES_MAX && (j = pil_sched_finished(p->sched)); given++, act_all(p)) {
        pil_ticket *t = pil_job_ud(j);
        pil_done_fn on_done = t->on_done;
        void *ud = t->ud;
        ticket_free(p, t);
        on_done(j, ud);
        pil_job_destroy(j);
    }
    p->turning = false;
    refresh(p);
    if (j && !p->stopping) pil_timer_start(p->soon, 0, 0);
}

static void on_timer(void *ud) {
    pil_pool_wake(ud);
    pil_pool_turn(ud);
}

/* ── Compiling ──────────────────────────────────────────────────────────────────────────────────────────────── */

static void start_waiting(pil_pool *p) {
    for (uint32_t i = 0; i < p->n_seats; i++)
        if (p->seats[i].state == PIL_SEAT_WAITING) start_seat(p, &p->seats[i]);
}

bool pil_pool_recompile(pil_pool *p, uint32_t opened) {
    if (pil_compiler_is_running(&p->compiler)) return true;
    if (opened != p->compilations) { /* it was started before the last one had ended */
        start_waiting(p);
        return true;
    }
    if (!p->served && p->compiled_ms && pil_loop_now_ms(p->loop) < p->compiled_ms + RECOMPILE_MS) return false;
    p->served = false;
    if (unlink(p->file) != 0 && errno != ENOENT) {
        pil_log(PIL_LOG_ERROR, "compiled file not removed", "file=\"%s\" reason=\"%s\"", p->file, strerror(errno));
        return false;
    }
    pillion_error err = {0};
    if (!pil_compiler_start(&p->compiler, &err)) return true;
    pil_log(PIL_LOG_ERROR, "compiler not started", "reason=\"%s\"", err.text);
    return false;
}

/* Those that wait find no file: for them it is as if their worker had said so. */
static void fail_waiting(pil_pool *p, const pillion_error *why) {
    for (uint32_t i = 0; i < p->n_seats; i++) {
        pil_seat *s = &p->seats[i];
        if (s->state != PIL_SEAT_WAITING) continue;
        s->state = PIL_SEAT_EMPTY;
        s->why = *why;
        pil_seat_fail(s);
        pil_sched_ended(p->sched, i, PIL_END_EXIT, why->text);
    }
}

void pil_pool_compiled(pil_pool *p, bool progress) {
    if (progress) {
        changed(p);
        return;
    }
    if (p->stopping) {
        pil_pool_check_stopped(p);
        return;
    }
    pil_pool_wake(p);
    bool was_there = p->compiler.path && p->compilations == 0 && p->info.prepare_total == 0;
    if (!was_there) p->compiled_ms = pil_loop_now_ms(p->loop);
    if (p->compiler.path) {
        free(p->file);
        p->file = p->compiler.path;
        p->compiler.path = NULL;
        p->compilations++;
        if (!p->started) pil_sched_start(p->sched);
        p->started = true;
        start_waiting(p);
    } else {
        if (p->info.state == PIL_POOL_PREPARING) pil_pool_fail(p, p->compiler.error.code, p->compiler.error.text);
        fail_waiting(p, &p->compiler.error);
    }
    pil_pool_turn(p);
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

static pillion_status create_sched(pil_pool *p, const pil_pool_options *opt, pillion_error *err) {
    pil_sched_options o;
    pil_sched_options_init(&o, opt->workers);
    o.express = true;
    o.start_apart_ms = opt->together ? 0 : PIL_LIMIT_START_APART_MS;
    o.memory_soft_bytes = PIL_LIMIT_WORKER_MEMORY;
    if (opt->batch_tokens) o.batch_tokens = opt->batch_tokens;
    if (opt->sched) o = *opt->sched;
    if (getentropy(&o.seed, sizeof o.seed) != 0) o.seed = pil_clock_ns();
    pil_fault_times(&o);
    p->info.workers = o.workers;
    p->info.express = o.express;
    p->n_seats = o.workers + o.express;
    return pil_sched_create(&p->sched, &o, err);
}

static pillion_status create_seats(pil_pool *p, pillion_error *err) {
    p->seats = calloc(p->n_seats, sizeof *p->seats);
    if (!p->seats) return pil_err_no_memory(err);
    pillion_status st = PILLION_OK;
    for (uint32_t i = 0; !st && i < p->n_seats; i++) st = pil_seat_init(&p->seats[i], p, i, err);
    return st;
}

static void on_stop_timer(void *ud) {
    pil_pool *p = ud;
    pil_child_kill(p->compiler.child, SIGKILL);
    for (uint32_t i = 0; i < p->n_seats; i++) pil_child_kill(p->seats[i].child, SIGKILL);
}

static pillion_status copy_options(pil_pool *p, const pil_pool_options *opt, pillion_error *err) {
    char self[4096];
    pil_loop_program(self, sizeof self);
    p->on_change = opt->on_change;
    p->ud = opt->ud;
    p->precision = opt->precision;
    p->program = strdup(opt->program ? opt->program : self);
    p->directory = opt->directory ? strdup(opt->directory) : NULL;
    p->file = opt->file ? strdup(opt->file) : NULL;
    p->compiler_env = environment_of(false);
    p->worker_env = environment_of(true);
    p->tick = pil_timer_create(p->loop, on_timer, p);
    p->soon = pil_timer_create(p->loop, on_timer, p);
    p->stop = pil_timer_create(p->loop, on_stop_timer, p);
    bool strings = p->program && (p->directory || !opt->directory) && (p->file || !opt->file);
    if (strings && p->compiler_env && p->worker_env && p->tick && p->soon && p->stop) return PILLION_OK;
    return pil_err_no_memory(err);
}

pillion_status pil_pool_create(pil_pool **out, pil_loop *l, const pil_pool_options *opt, pillion_error *err) {
    *out = NULL;
    pil_pool *p = calloc(1, sizeof *p);
    if (!p) return pil_err_no_memory(err);
    p->loop = l;
    p->compiler.pool = p;
    pil_buf_init(&p->model, PIL_LIMIT_FRAME_BYTES);
    pil_oom_init(&p->oom, NULL);
    if (getentropy(&p->tag_seed, sizeof p->tag_seed) != 0) p->tag_seed = pil_clock_ns();
    pillion_status st = copy_options(p, opt, err);
    if (!st) st = create_sched(p, opt, err);
    if (!st) st = create_seats(p, err);
    if (!st && p->directory) st = pil_compiler_start(&p->compiler, err);
    if (st) {
        pil_pool_destroy(p);
        return st;
    }
    pil_pool_wake(p);
    if (!p->directory) {
        pil_sched_start(p->sched);
        p->started = true;
        act_all(p);
    }
    pil_timer_start(p->soon, 0, 0);
    *out = p;
    return PILLION_OK;
}

void pil_pool_check_stopped(pil_pool *p) {
    if (!p->stopping || p->compiler.child) return;
    for (uint32_t i = 0; i < p->n_seats; i++)
        if (p->seats[i].child) return;
    pil_timer_stop(p->stop);
    if (p->on_stopped) p->on_stopped(p->stopped_ud);
    p->on_stopped = NULL;
}

void pil_pool_stop(pil_pool *p, pil_pool_fn on_stopped, void *ud) {
    p->stopping = true;
    p->on_stopped = on_stopped;
    p->stopped_ud = ud;
    pil_child_kill(p->compiler.child, SIGKILL);
    for (uint32_t i = 0; i < p->n_seats; i++) {
        pil_seat *s = &p->seats[i];
        if (s->state != PIL_SEAT_SERVING || pil_sched_oldest(p->sched, i)) pil_child_kill(s->child, SIGKILL);
        pil_stream_close(s->stream);
        s->stream = NULL;
        s->ended = true;
        pil_timer_stop(s->timer);
    }
    pil_timer_stop(p->soon);
    pil_timer_stop(p->tick);
    pil_timer_start(p->stop, STOP_MS, 0);
    pil_pool_check_stopped(p);
}

void pil_pool_destroy(pil_pool *p) {
    if (!p) return;
    for (uint32_t i = 0; p->seats && i < p->n_seats; i++) pil_seat_deinit(&p->seats[i]);
    pil_compiler_deinit(&p->compiler);
    pil_timer_destroy(p->tick);
    pil_timer_destroy(p->soon);
    pil_timer_destroy(p->stop);
    while (p->tickets) ticket_free(p, p->tickets); /* NOLINT(clang-analyzer-unix.Malloc): the first has no prev */
    pil_sched_destroy(p->sched);
    pil_buf_deinit(&p->model);
    free(p->seats);
    free(p->compiler_env);
    free(p->worker_env);
    free(p->program);
    free(p->directory);
    free(p->file);
    free(p);
}

const pil_pool_info *pil_pool_info_of(const pil_pool *p) { return &p->info; }
void pil_pool_measure(const pil_pool *p, pil_sched_load *out) { pil_sched_measure(p->sched, out); }
bool pil_pool_is_full(const pil_pool *p, uint64_t client, uint64_t bytes) {
    return pil_sched_is_full(p->sched, client, bytes);
}
uint64_t pil_pool_retry_after_ms(const pil_pool *p) { return pil_sched_retry_after_ms(p->sched); }

pillion_status pil_pool_submit(pil_pool *p, pil_ticket **out, uint64_t client, pillion_op op,
                               const pillion_run_options *options, const pillion_input *inputs, size_t n,
                               pil_done_fn on_done, void *ud, pillion_error *err) {
    *out = NULL;
    pil_ticket *t = calloc(1, sizeof *t);
    if (!t) return pil_err_no_memory(err);
    t->on_done = on_done;
    t->ud = ud;
    pil_pool_wake(p);
    pillion_status st = pil_sched_submit(p->sched, &t->job, client, op, options, inputs, n, t, err);
    if (st) {
        free(t);
        return st;
    }
    t->next = p->tickets;
    if (t->next) t->next->prev = t;
    p->tickets = t;
    *out = t;
    if (p->turning || p->stopping) return PILLION_OK;
    act_all(p);
    pil_timer_start(p->soon, 0, 0); /* a job may be finished already; its owner hears of it later */
    return PILLION_OK;
}

void pil_pool_cancel(pil_pool *p, pil_ticket *t) {
    pil_pool_wake(p);
    pil_sched_cancel(p->sched, t->job);
    ticket_free(p, t);
    if (!p->turning && !p->stopping) pil_timer_start(p->soon, 0, 0); /* something may be to be abandoned */
}
