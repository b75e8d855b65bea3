/* job.c - a job from its submission to its end.
 *
 *     task:  NEW --handed out--> OUT --answered--> DONE       NEW, RETRY, OUT --deadline, poison, no worker--> DONE
 *                    ^            |
 *                    +-- RETRY <--+  its worker died, lied, or computed wrong numbers
 *
 * Flow:       submit() -> client's ring (share.c) -> batches (batch.c) -> task_done() for each text -> finished.
 * Deadlines:  all jobs have the same times, so two lists in order of age and of last progress need a look at their
 *             heads only.
 * Memory:     a job owns its tasks and items; items point into answers that the job keeps alive.
 * Tests:      tests/sched/test_sched.c, test_deadlines.c. */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "sched/sched_int.h"

/* Short jobs have this part of the bytes beside what the others have: most of them are a line. */
#define SHORT_BYTES_PART 8

/* ── Answers ────────────────────────────────────────────────────────────────────────────────────────────────── */

pil_answer *pil_answer_create(size_t arena_bytes_max) {
    pil_answer *a = calloc(1, sizeof *a);
    if (!a) return NULL;
    a->refs = 1;
    pil_arena_init(&a->arena, arena_bytes_max);
    return a;
}

void pil_answer_release(pil_answer *a) {
    if (!a || --a->refs > 0) return;
    pil_arena_deinit(&a->arena);
    free(a->memory);
    free(a);
}

bool pil_job_keep(pil_job *j, pil_answer *a) {
    if (j->n_answers > 0 && j->answers[j->n_answers - 1] == a) return true;
    if (j->n_answers == j->answers_cap) {
        size_t cap = j->answers_cap ? 2 * j->answers_cap : 4;
        pil_answer **grown = realloc(j->answers, cap * sizeof(pil_answer *));
        if (!grown) return false;
        j->answers = grown;
        j->answers_cap = cap;
    }
    a->refs++;
    j->answers[j->n_answers++] = a;
    return true;
}

/* ── Submission ─────────────────────────────────────────────────────────────────────────────────────────────── */

static uint64_t tokens_of(uint64_t text_bytes) { return 2 + text_bytes / 3; }

static uint32_t estimate(const pil_sched *s, const pillion_input *in) {
    uint64_t tokens = in->text ? tokens_of(in->text_bytes) : 2 + (uint64_t)in->n_ids;
    if (s->text_tokens_max && tokens > s->text_tokens_max) tokens = s->text_tokens_max;
    return tokens > UINT32_MAX ? UINT32_MAX : tokens < 2 ? 2 : (uint32_t)tokens;
}

static uint64_t bytes_of(const pillion_input *in) {
    return in->text ? in->text_bytes : in->n_ids * sizeof *in->ids;
}

/* What a job would wait for at the measured speed must not outlast its client's patience: what the client waits for
 * already, and what fair share serves of others before the job is done. Of each other client that is as much as of this
 * one, and a quantum more; the one that has most does not count, so that nobody is shut out by a single other one. */
static bool is_queue_full(const pil_sched *s, const pil_share *sh, uint64_t client, uint64_t tokens) {
    bool is_short = sh == &s->shares[PIL_SHARE_SHORT];
    uint64_t bytes_max = is_short ? s->opt.queue_bytes_max / SHORT_BYTES_PART : s->opt.queue_bytes_max;
    if (sh->tokens_waiting >= s->opt.queue_tokens_max || sh->bytes >= bytes_max) return true;
    uint64_t rate = pil_sched_tokens_per_s(s);
    if (rate == 0 || s->opt.queue_ms == 0) return false;
    uint64_t most = rate * s->opt.queue_ms / 1000, least = (uint64_t)8 * s->n_slots * s->opt.batch_tokens;
    if (most < least) most = least;
    uint64_t own = pil_share_waiting(sh, client);
    return own + pil_share_ahead(sh, client, own + tokens + sh->quantum) >= most;
}

bool pil_sched_is_full(const pil_sched *s, uint64_t client, uint64_t bytes) {
    return is_queue_full(s, &s->shares[PIL_SHARE_BULK], client, tokens_of(bytes));
}

static pillion_status admit(const pil_sched *s, const pil_share *sh, uint64_t client, uint64_t tokens,
                            pillion_error *err) {
    if (s->gave_up || (s->breaker.open && s->n_ready == 0))
        return pil_err_set(err, PILLION_E_UNAVAILABLE, "%s", s->reason);
    if (is_queue_full(s, sh, client, tokens))
        return pil_err_set(err, PILLION_E_LIMIT, "the queue is full: %zu texts wait",
                           s->shares[PIL_SHARE_BULK].texts_waiting + s->shares[PIL_SHARE_SHORT].texts_waiting);
    return PILLION_OK;
}

static pil_job *job_create(const pillion_input *inputs, size_t n) {
    pil_job *j = calloc(1, sizeof *j);
    if (!j) return NULL;
    j->n = n;
    j->inputs = inputs;
    j->tasks = calloc(n, sizeof *j->tasks);
    j->items = calloc(n, sizeof *j->items);
    if (j->tasks && j->items) return j;
    pil_job_destroy(j);
    return NULL;
}

/* Texts known to kill are answered at once. */
static void answer_quarantined(pil_sched *s, pil_job *j) {
    j->quarantine_seen = s->quarantine.changes;
    if (s->quarantine.n == 0) return;
    for (size_t i = 0; i < j->n && !j->is_finished; i++) {
        if (!pil_quarantine_has(&s->quarantine, j, i)) continue;
        pil_task *t = &j->tasks[i];
        pil_share_uncount(t);
        j->tokens_new -= t->tokens;
        s->count.texts_quarantined++;
        pil_job_task_status(s, t, PILLION_E_POISON);
    }
}

pillion_status pil_sched_submit(pil_sched *s, pil_job **out, uint64_t client, pillion_op op,
                                const pillion_run_options *options, const pillion_input *inputs, size_t n, void *ud,
                                pillion_error *err) {
    assert(n >= 1 && n < UINT32_MAX);
    *out = NULL;
    uint64_t tokens = 0, bytes = 0;
    for (size_t i = 0; i < n; i++) {
        tokens += estimate(s, &inputs[i]);
        bytes += bytes_of(&inputs[i]);
    }
    bool is_short = s->opt.express && tokens <= s->opt.express_tokens;
    pil_share *sh = &s->shares[is_short ? PIL_SHARE_SHORT : PIL_SHARE_BULK];
    pillion_status st = admit(s, sh, client, tokens, err);
    if (st) return st;
    pil_job *j = job_create(inputs, n);
    if (j) j->client = pil_share_client(sh, client);
    if (!j || !j->client) {
        pil_job_destroy(j);
        return pil_err_no_memory(err);
    }
    j->op = op;
    j->options = *options;
    j->options.progress = NULL;
    j->options.cancel = NULL;
    j->share = sh;
    j->tokens_new = tokens;
    j->bytes = bytes;
    j->submitted_ms = j->progress_ms = s->now_ms;
    j->ud = ud;
    for (size_t i = 0; i < n; i++) {
        j->tasks[i] = (pil_task){.job = j, .tokens = estimate(s, &inputs[i])};
        pil_share_count(&j->tasks[i]);
    }
    s->n_jobs++;
    sh->bytes += bytes;
    PIL_LIST_APPEND(&s->by_age, j, prev, next);
    PIL_LIST_APPEND(&s->by_progress, j, step_prev, step_next);
    pil_share_enter_ring(j);
    answer_quarantined(s, j);
    *out = j;
    return PILLION_OK;
}

void pil_sched_set_model(pil_sched *s, const char *digest, uint32_t text_tokens_max) {
    strncpy(s->quarantine.model, digest ? digest : "", sizeof s->quarantine.model - 1);
    s->text_tokens_max = text_tokens_max;
    for (pil_job *j = s->by_age.first; j; j = j->next) /* those that came before the limit was known */
        for (size_t i = 0; i < j->n; i++) {
            pil_task *t = &j->tasks[i];
            uint32_t tokens = estimate(s, &j->inputs[i]);
            if (t->place != PIL_TASK_NEW || tokens >= t->tokens) continue;
            pil_share_uncount(t);
            j->tokens_new -= t->tokens - tokens;
            t->tokens = tokens;
            pil_share_count(t);
        }
}

/* ── End ────────────────────────────────────────────────────────────────────────────────────────────────────── */

/* Takes every trace of a job out of the queue and the batches: linear in its own texts and in the retries. */
static void detach(pil_job *j) {
    pil_share_leave_ring(j);
    for (pil_task *t; (t = pil_job_next_task(j)); j->next_task++) {
        pil_share_uncount(t);
        j->tokens_new -= t->tokens;
        t->place = PIL_TASK_DONE;
    }
    for (pil_task *t = j->share->retries.first, *next; t && j->n_retries > 0; t = next) {
        next = t->next;
        if (t->job != j) continue;
        pil_share_take_back(t);
        t->place = PIL_TASK_DONE;
    }
    for (pil_task *t; (t = j->out.first);) {
        pil_batch_forget_task(t);
        t->place = PIL_TASK_DONE;
    }
}

static void forget(pil_sched *s, pil_job *j) {
    PIL_LIST_REMOVE(&s->by_age, j, prev, next);
    PIL_LIST_REMOVE(&s->by_progress, j, step_prev, step_next);
    s->n_jobs--;
    j->share->bytes -= j->bytes;
    pil_share_leave(j->share, j->client);
    j->client = NULL;
}

static void finish(pil_sched *s, pil_job *j, pil_job_end end) {
    assert(!j->is_finished && !j->out.first && j->n_retries == 0 && j->tokens_new == 0);
    pil_share_leave_ring(j);
    forget(s, j);
    j->end = end;
    j->is_finished = true;
    PIL_LIST_APPEND(&s->finished, j, prev, next);
}

pil_task *pil_job_next_task(pil_job *j) {
    while (j->next_task < j->n && j->tasks[j->next_task].place != PIL_TASK_NEW) j->next_task++;
    return j->next_task < j->n ? &j->tasks[j->next_task] : NULL;
}

void pil_job_task_done(pil_sched *s, pil_task *t, const pillion_item *item) {
    pil_job *j = t->job;
    assert(t->place != PIL_TASK_DONE && !t->batch);
    t->place = PIL_TASK_DONE;
    j->items[t - j->tasks] = *item;
    if (++j->n_done == j->n) finish(s, j, PIL_JOB_ANSWERED);
}

void pil_job_task_status(pil_sched *s, pil_task *t, pillion_status status) {
    pil_job_task_done(s, t, &(pillion_item){.status = status});
}

void pil_job_progress(pil_sched *s, pil_job *j) {
    if (j->progress_ms == s->now_ms) return; /* its place is with the others of this moment */
    j->progress_ms = s->now_ms;
    PIL_LIST_REMOVE(&s->by_progress, j, step_prev, step_next);
    PIL_LIST_APPEND(&s->by_progress, j, step_prev, step_next);
}

void pil_job_end_rest(pil_sched *s, pil_job *j, pillion_status status, pil_job_end end) {
    for (size_t i = 0; i < j->n; i++) {
        if (j->tasks[i].place == PIL_TASK_DONE) continue;
        j->items[i] = (pillion_item){.status = status};
        j->n_done++;
        s->count.texts_expired += status == PILLION_E_DEADLINE;
        s->count.texts_lost += status == PILLION_E_LOST;
    }
    detach(j);
    finish(s, j, end);
}

void pil_job_end_all(pil_sched *s, pil_job_end end) {
    for (pil_job *j; (j = s->by_age.first);) pil_job_end_rest(s, j, PILLION_E_UNAVAILABLE, end);
}

bool pil_job_convicted(pil_sched *s, pil_task *t) {
    pil_job *j = t->job;
    if (j->quarantine_seen == s->quarantine.changes) return false;
    return pil_quarantine_has(&s->quarantine, j, (size_t)(t - j->tasks));
}

void pil_sched_cancel(pil_sched *s, pil_job *j) {
    if (j->is_finished) {
        PIL_LIST_REMOVE(&s->finished, j, prev, next);
    } else {
        detach(j);
        forget(s, j);
    }
    pil_job_destroy(j);
}

pil_job *pil_sched_finished(pil_sched *s) {
    pil_job *j = s->finished.first;
    if (j) PIL_LIST_REMOVE(&s->finished, j, prev, next);
    return j;
}

pil_job_end pil_job_ended(const pil_job *j) { return j->end; }
void *pil_job_ud(const pil_job *j) { return j->ud; }
size_t pil_job_count(const pil_job *j) { return j->n; }

const pillion_item *pil_job_item(const pil_job *j, size_t i) {
    assert(i < j->n && j->tasks[i].place == PIL_TASK_DONE);
    return &j->items[i];
}

void pil_job_destroy(pil_job *j) {
    if (!j) return;
    for (size_t i = 0; i < j->n_answers; i++) pil_answer_release(j->answers[i]);
    free(j->answers);
    free(j->tasks);
    free(j->items);
    free(j);
}

/* ── Deadlines ──────────────────────────────────────────────────────────────────────────────────────────────── */

static uint64_t hold_until(const pil_sched *s, const pil_job *j) {
    return (j->submitted_ms > s->unready_ms ? j->submitted_ms : s->unready_ms) + s->opt.hold_ms;
}

void pil_job_advance(pil_sched *s) {
    for (pil_job *j; (j = s->by_progress.first) && s->now_ms >= j->progress_ms + s->opt.deadline_ms;)
        pil_job_end_rest(s, j, PILLION_E_DEADLINE, PIL_JOB_ANSWERED);
    for (pil_job *j; (j = s->by_age.first) && s->now_ms >= j->submitted_ms + s->opt.total_ms;)
        pil_job_end_rest(s, j, PILLION_E_DEADLINE, PIL_JOB_ANSWERED);
    for (pil_job *j; s->n_ready == 0 && (j = s->by_age.first) && s->now_ms >= hold_until(s, j);)
        pil_job_end_rest(s, j, PILLION_E_UNAVAILABLE, PIL_JOB_EXPIRED);
}

uint64_t pil_job_next_ms(const pil_sched *s) {
    if (!s->by_age.first) return UINT64_MAX;
    uint64_t next = s->by_progress.first->progress_ms + s->opt.deadline_ms;
    uint64_t total = s->by_age.first->submitted_ms + s->opt.total_ms;
    if (total < next) next = total;
    if (s->n_ready == 0 && hold_until(s, s->by_age.first) < next) next = hold_until(s, s->by_age.first);
    return next;
}
