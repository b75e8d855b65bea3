/* sched.c - the door: the scheduler's life, its time, its actions and its state.
 *
 * Time:       now_ms is the driver's clock without the gaps in which this process did not run: while there is work the
 *             driver calls every second, so a longer gap means that it was stopped, and its workers with it. Every
 *             deadline is in now_ms; only what the driver sees is in its clock.
 * Speed:      tokens for each millisecond of a worker over the last batches that were not small, times workers.
 * Not here:   everything that is decided; sched_int.h has the map. Tests: tests/sched/, above all test_schedules.c. */
#include "sched/sched.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/err.h"
#include "base/limits.h"
#include "sched/sched_int.h"

/* A worker computes about this many tokens as efficiently as any number; cutting a small job finer only adds frames. */
#define BATCH_TOKENS 512
#define EXPRESS_TOKENS 256
#define GAP_MS 2000
#define TICK_MS 1000
#define SPEED_WINDOW_MS 20000 /* of one worker's work */
#define SPEED_LEAST_MS 500
#define RETRY_MIN_MS 1000
#define RETRY_MAX_MS 60000

/* ── Life ───────────────────────────────────────────────────────────────────────────────────────────────────── */

void pil_sched_options_init(pil_sched_options *opt, uint32_t workers) {
    *opt = (pil_sched_options){.workers = workers,
                               .depth = 2,
                               .batch_tokens = BATCH_TOKENS,
                               .express_tokens = EXPRESS_TOKENS,
                               .queue_tokens_max = PIL_LIMIT_QUEUE_TOKENS,
                               .queue_bytes_max = PIL_LIMIT_QUEUE_BYTES,
                               .queue_ms = PIL_LIMIT_QUEUE_MS,
                               .hold_ms = PIL_LIMIT_HOLD_MS,
                               .deadline_ms = PIL_LIMIT_DEADLINE_MS,
                               .total_ms = PIL_LIMIT_TOTAL_MS,
                               .stall_ms = PIL_LIMIT_WORKER_STALL_MS,
                               .start_ms = PIL_LIMIT_START_MS,
                               .canary_ms = PIL_LIMIT_CANARY_MS,
                               .retire_ms = PIL_LIMIT_RETIRE_MS,
                               .quarantine_ms = PIL_LIMIT_QUARANTINE_MS,
                               .quarantine_max = PIL_LIMIT_QUARANTINE};
}

pillion_status pil_sched_create(pil_sched **out, const pil_sched_options *opt, pillion_error *err) {
    *out = NULL;
    assert(opt->workers >= 1 && opt->workers <= PIL_LIMIT_WORKERS && opt->depth >= 1 && opt->batch_tokens >= 2);
    pil_sched *s = calloc(1, sizeof *s);
    if (!s) return pil_err_no_memory(err);
    s->opt = *opt;
    s->random = opt->seed;
    s->quarantine.max = opt->quarantine_max;
    s->shares[PIL_SHARE_BULK].quantum = opt->batch_tokens;
    s->shares[PIL_SHARE_SHORT].quantum =
        opt->batch_tokens < PIL_BATCH_TOKENS_MIN ? opt->batch_tokens : PIL_BATCH_TOKENS_MIN;
    s->n_slots = opt->workers + opt->express;
    s->batch_tasks_max = opt->batch_tokens / 2 + 1; /* a text counts at least 2 tokens */
    size_t n_batches = (size_t)s->n_slots * opt->depth;
    s->slots = calloc(s->n_slots, sizeof *s->slots);
    s->batches = calloc(n_batches, sizeof *s->batches);
    s->task_room = calloc(n_batches * s->batch_tasks_max, sizeof(pil_task *));
    s->out_room = calloc(n_batches, sizeof(pil_work *));
    if (!s->slots || !s->batches || !s->task_room || !s->out_room) {
        pil_sched_destroy(s);
        return pil_err_no_memory(err);
    }
    for (size_t i = 0; i < n_batches; i++) s->batches[i].tasks = s->task_room + i * s->batch_tasks_max;
    for (size_t i = 0; i < s->n_slots; i++) s->slots[i].out = s->out_room + i * opt->depth;
    *out = s;
    return PILLION_OK;
}

void pil_sched_destroy(pil_sched *s) {
    if (!s) return;
    for (pil_job *j; (j = s->by_age.first);) pil_sched_cancel(s, j);
    for (pil_job *j; (j = pil_sched_finished(s));) pil_job_destroy(j);
    pil_quarantine_deinit(&s->quarantine);
    free(s->canary);
    free(s->slots);
    free(s->batches);
    free(s->task_room);
    free(s->out_room);
    free(s);
}

void pil_sched_start(pil_sched *s) {
    s->started = true;
    s->started_ms = s->now_ms;
    for (uint32_t i = 0; i < s->n_slots; i++) s->slots[i].left_ms = s->now_ms;
}

void pil_sched_give_up(pil_sched *s, const char *why) {
    s->gave_up = true;
    snprintf(s->reason, sizeof s->reason, "%s", why);
    pil_job_end_all(s, PIL_JOB_UNAVAILABLE);
}

/* ── Time ───────────────────────────────────────────────────────────────────────────────────────────────────── */

void pil_sched_advance(pil_sched *s, uint64_t now_ms) {
    if (now_ms > s->clock_ms) {
        uint64_t passed = now_ms - s->clock_ms;
        bool stopped = passed > GAP_MS && pil_sched_is_busy(s);
        s->clock_ms = now_ms;
        if (stopped) s->skipped_ms += passed;
        s->now_ms = s->clock_ms - s->skipped_ms;
    }
    pil_fleet_advance(s);
    pil_job_advance(s);
    pil_quarantine_expire(&s->quarantine, s->now_ms);
}

uint64_t pil_sched_next_ms(const pil_sched *s) {
    uint64_t next = pil_fleet_next_ms(s), job = pil_job_next_ms(s), text = pil_quarantine_next_ms(&s->quarantine);
    if (job < next) next = job;
    if (text < next) next = text;
    if (next > s->now_ms + TICK_MS && pil_sched_is_busy(s)) next = s->now_ms + TICK_MS;
    return next == UINT64_MAX ? next : next + s->skipped_ms;
}

/* A batch took so long. A small one says more about frames than about speed. */
void pil_sched_measure_batch(pil_sched *s, uint32_t tokens, uint64_t ms) {
    if (tokens < s->opt.batch_tokens / 4) return;
    s->done_tokens += tokens;
    s->busy_ms += ms;
    if (s->busy_ms < SPEED_WINDOW_MS) return;
    s->busy_ms /= 2;
    s->done_tokens /= 2;
}

uint64_t pil_sched_tokens_per_s(const pil_sched *s) {
    if (s->busy_ms < SPEED_LEAST_MS) return 0;
    uint32_t n = s->n_ready < s->opt.workers ? s->n_ready : s->opt.workers;
    return s->done_tokens * 1000 / s->busy_ms * (n ? n : 1);
}

uint64_t pil_sched_retry_after_ms(const pil_sched *s) {
    if (s->breaker.open && s->n_ready == 0)
        return s->breaker.probe_ms > s->now_ms + RETRY_MIN_MS ? s->breaker.probe_ms - s->now_ms : RETRY_MIN_MS;
    uint64_t waiting = s->shares[PIL_SHARE_BULK].tokens_waiting + s->shares[PIL_SHARE_SHORT].tokens_waiting;
    uint64_t rate = pil_sched_tokens_per_s(s);
    uint64_t ms = rate ? waiting * 1000 / rate : RETRY_MIN_MS;
    return ms < RETRY_MIN_MS ? RETRY_MIN_MS : ms > RETRY_MAX_MS ? RETRY_MAX_MS : ms;
}

/* ── Actions and state ──────────────────────────────────────────────────────────────────────────────────────── */

bool pil_sched_next_action(pil_sched *s, pil_action *out) {
    if (pil_fleet_next_action(s, out)) return true;
    const pil_batch *b = pil_batch_next(s);
    *out = (pil_action){.kind = b ? PIL_ACTION_SEND : PIL_ACTION_NONE, .slot = b ? b->slot : 0, .batch = b};
    return b != NULL;
}

void pil_sched_measure(const pil_sched *s, pil_sched_load *out) {
    const pil_share *a = &s->shares[PIL_SHARE_BULK], *b = &s->shares[PIL_SHARE_SHORT];
    *out = s->count;
    out->state = s->n_ready                      ? PIL_FLEET_READY
                 : s->breaker.open || s->gave_up ? PIL_FLEET_OPEN
                                                 : PIL_FLEET_STARTING;
    out->reason = s->breaker.open || s->gave_up ? s->reason : NULL;
    out->jobs = s->n_jobs;
    out->texts_waiting = a->texts_waiting + b->texts_waiting;
    out->tokens_waiting = a->tokens_waiting + b->tokens_waiting;
    out->bytes = a->bytes + b->bytes;
    out->workers_ready = s->n_ready;
    out->workers_alive = s->n_alive;
    out->batches_out = s->n_out;
    out->tokens_per_s = pil_sched_tokens_per_s(s);
    out->quarantine = s->quarantine.n;
}
