/* sched.c - which text runs where.
 *
 * Flow:       submit() puts a job at the end of the ring `waiting` -> next() fills a batch from the retries, else from
 *             the first job of the ring, which then goes to its end -> answered() stores the items -> a job whose last
 *             text is answered moves to `finished`.
 *
 *             task:  waiting --next()--> with a worker --answered()--> done
 *                       ^                     |
 *                       +---- retries <--lost()  (suspects alone; too many losses: done with E_INTERNAL)
 *
 * Invariants: (1) a task is in exactly one place: not handed out (index >= job->next_task), in `retries`, in one batch,
 *             or done. (2) a batch is in exactly one worker's queue, oldest first, or unused. (3) tasks of one batch
 *             share operation and options. (4) sum(tokens) <= batch_tokens unless the batch is one task.
 *             (5) tokens_waiting is the sum over tasks not handed out and retries. (6) a suspect (strikes > 0) is alone
 *             in its batch.
 * Fairness:   the ring gives every job one batch in turn, whatever its size.
 * Not here:   processes (proc/pool.c), wire format (proc/frame.c). Tests: tests/sched/test_sched.c. */
#include "sched/sched.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/limits.h"

/* A worker computes about this many tokens as efficiently as any number; cutting a small job finer only adds frames. */
#define BATCH_TOKENS 512
#define BATCH_TOKENS_MIN 64
#define STRIKES_MAX 2

typedef struct task {
    pil_job *job;
    struct task *next; /* in retries */
    uint32_t index, tokens;
    uint8_t strikes, losses;
} task;

struct pil_job {
    pil_job *prev, *next;           /* in all or finished */
    pil_job *wait_prev, *wait_next; /* in waiting */
    pillion_op op;
    pillion_run_options options;
    const pillion_input *inputs; /* [n], borrowed */
    task *tasks;                 /* [n] */
    pillion_item *items;         /* [n] */
    size_t n, next_task, n_done;
    pil_answer **answers; /* what items point into */
    size_t n_answers, answers_cap;
    uint64_t held_since_ms;
    bool is_waiting, is_finished;
    pil_job_end end;
    void *ud;
};

typedef struct batch {
    pil_batch public; /* first, so that a pil_batch is a batch */
    task **tasks;     /* [batch_tasks_max]; NULL where the job was cancelled */
    bool used;
} batch;

typedef struct worker {
    bool ready;
    uint32_t n_out;
    batch **out; /* [depth], oldest first */
} worker;

typedef struct job_list {
    pil_job *first, *last;
} job_list;

struct pil_sched {
    pil_sched_options opt;
    worker *workers;  /* [opt.workers] */
    batch *batches;   /* [opt.workers * opt.depth] */
    task **task_slots; /* what batches[].tasks point into */
    batch **out_slots; /* what workers[].out point into */
    size_t batch_tasks_max;
    job_list all, waiting, finished;
    task *retries;
    uint64_t next_id, tokens_waiting;
    size_t texts_waiting, n_jobs;
    uint32_t text_tokens_max, n_ready, n_out;
    bool gave_up;
};

/* ── Lists ──────────────────────────────────────────────────────────────────────────────────────────────────── */

static void list_append(job_list *l, pil_job *j) {
    j->prev = l->last;
    j->next = NULL;
    *(l->last ? &l->last->next : &l->first) = j;
    l->last = j;
}

static void list_remove(job_list *l, pil_job *j) {
    *(j->prev ? &j->prev->next : &l->first) = j->next;
    *(j->next ? &j->next->prev : &l->last) = j->prev;
    j->prev = j->next = NULL;
}

static void wait_append(pil_sched *s, pil_job *j) {
    assert(!j->is_waiting);
    j->wait_prev = s->waiting.last;
    j->wait_next = NULL;
    *(s->waiting.last ? &s->waiting.last->wait_next : &s->waiting.first) = j;
    s->waiting.last = j;
    j->is_waiting = true;
}

static void wait_remove(pil_sched *s, pil_job *j) {
    if (!j->is_waiting) return;
    *(j->wait_prev ? &j->wait_prev->wait_next : &s->waiting.first) = j->wait_next;
    *(j->wait_next ? &j->wait_next->wait_prev : &s->waiting.last) = j->wait_prev;
    j->wait_prev = j->wait_next = NULL;
    j->is_waiting = false;
}

static void count_waiting(pil_sched *s, const task *t) {
    s->tokens_waiting += t->tokens;
    s->texts_waiting++;
}

static void uncount_waiting(pil_sched *s, const task *t) {
    assert(s->tokens_waiting >= t->tokens && s->texts_waiting > 0);
    s->tokens_waiting -= t->tokens;
    s->texts_waiting--;
}

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

/* Keeps an answer alive as long as the job. */
static bool job_keep(pil_job *j, pil_answer *a) {
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

/* ── Life of the scheduler ──────────────────────────────────────────────────────────────────────────────────── */

void pil_sched_options_init(pil_sched_options *opt, uint32_t workers) {
    *opt = (pil_sched_options){.workers = workers, .depth = 2, .batch_tokens = BATCH_TOKENS,
                               .queue_tokens_max = PIL_LIMIT_QUEUE_TOKENS, .hold_ms = PIL_LIMIT_HOLD_MS};
}

pillion_status pil_sched_create(pil_sched **out, const pil_sched_options *opt, pillion_error *err) {
    *out = NULL;
    assert(opt->workers >= 1 && opt->workers <= PIL_LIMIT_WORKERS && opt->depth >= 1 && opt->batch_tokens >= 2);
    size_t n_batches = (size_t)opt->workers * opt->depth;
    pil_sched *s = calloc(1, sizeof *s);
    if (!s) return pil_err_set(err, PILLION_E_NOMEM, "out of memory");
    s->opt = *opt;
    s->batch_tasks_max = opt->batch_tokens / 2 + 1; /* a text counts at least 2 tokens */
    s->workers = calloc(opt->workers, sizeof *s->workers);
    s->batches = calloc(n_batches, sizeof *s->batches);
    s->task_slots = calloc(n_batches * s->batch_tasks_max, sizeof(task *));
    s->out_slots = calloc(n_batches, sizeof(batch *));
    if (!s->workers || !s->batches || !s->task_slots || !s->out_slots) {
        pil_sched_destroy(s);
        return pil_err_set(err, PILLION_E_NOMEM, "out of memory");
    }
    for (size_t i = 0; i < n_batches; i++) s->batches[i].tasks = s->task_slots + i * s->batch_tasks_max;
    for (size_t i = 0; i < opt->workers; i++) s->workers[i].out = s->out_slots + i * opt->depth;
    *out = s;
    return PILLION_OK;
}

void pil_sched_destroy(pil_sched *s) {
    if (!s) return;
    for (pil_job *j; (j = s->all.first);) {
        list_remove(&s->all, j);
        pil_job_destroy(j);
    }
    for (pil_job *j; (j = s->finished.first);) {
        list_remove(&s->finished, j);
        pil_job_destroy(j);
    }
    free(s->workers);
    free(s->batches);
    free(s->task_slots);
    free(s->out_slots);
    free(s);
}

void pil_sched_set_text_tokens_max(pil_sched *s, uint32_t tokens) { s->text_tokens_max = tokens; }

/* ── Jobs ───────────────────────────────────────────────────────────────────────────────────────────────────── */

static uint32_t estimate(const pil_sched *s, const pillion_input *in) {
    uint64_t tokens = in->text ? 2 + (uint64_t)in->text_bytes / 3 : 2 + (uint64_t)in->n_ids;
    if (s->text_tokens_max && tokens > s->text_tokens_max) tokens = s->text_tokens_max;
    return tokens > UINT32_MAX ? UINT32_MAX : tokens < 2 ? 2 : (uint32_t)tokens;
}

pillion_status pil_sched_submit(pil_sched *s, pil_job **out, pillion_op op, const pillion_run_options *options,
                                const pillion_input *inputs, size_t n, uint64_t now_ms, void *ud, pillion_error *err) {
    assert(n >= 1 && n < UINT32_MAX);
    *out = NULL;
    if (s->tokens_waiting >= s->opt.queue_tokens_max)
        return pil_err_set(err, PILLION_E_LIMIT, "the queue is full: %zu texts wait", s->texts_waiting);
    pil_job *j = calloc(1, sizeof *j);
    if (j) {
        j->tasks = calloc(n, sizeof *j->tasks);
        j->items = calloc(n, sizeof *j->items);
    }
    if (!j || !j->tasks || !j->items) {
        pil_job_destroy(j);
        return pil_err_set(err, PILLION_E_NOMEM, "out of memory");
    }
    j->op = op;
    j->options = *options;
    j->options.progress = NULL;
    j->options.cancel = NULL;
    j->inputs = inputs;
    j->n = n;
    j->held_since_ms = now_ms;
    j->ud = ud;
    *out = j;
    if (s->gave_up) {
        j->end = PIL_JOB_UNAVAILABLE;
        j->is_finished = true;
        list_append(&s->finished, j);
        return PILLION_OK;
    }
    for (size_t i = 0; i < n; i++) {
        j->tasks[i] = (task){.job = j, .index = (uint32_t)i, .tokens = estimate(s, &inputs[i])};
        count_waiting(s, &j->tasks[i]);
    }
    s->n_jobs++;
    list_append(&s->all, j);
    wait_append(s, j);
    return PILLION_OK;
}

/* Takes every trace of a job out of the queue and the batches. The job stays in `all`. */
static void detach(pil_sched *s, pil_job *j) {
    for (size_t i = j->next_task; i < j->n; i++) uncount_waiting(s, &j->tasks[i]);
    j->next_task = j->n;
    wait_remove(s, j);
    task *kept = NULL, *last = NULL;
    for (task *t = s->retries, *next; t; t = next) {
        next = t->next;
        t->next = NULL;
        if (t->job == j) {
            uncount_waiting(s, t);
            continue;
        }
        *(last ? &last->next : &kept) = t;
        last = t;
    }
    s->retries = kept;
    for (size_t b = 0; b < (size_t)s->opt.workers * s->opt.depth; b++)
        for (size_t i = 0; s->batches[b].used && i < s->batches[b].public.n; i++)
            if (s->batches[b].tasks[i] && s->batches[b].tasks[i]->job == j) s->batches[b].tasks[i] = NULL;
}

static void finish(pil_sched *s, pil_job *j, pil_job_end end) {
    j->end = end;
    j->is_finished = true;
    list_remove(&s->all, j);
    list_append(&s->finished, j);
    s->n_jobs--;
}

void pil_sched_cancel(pil_sched *s, pil_job *j) {
    if (j->is_finished) {
        list_remove(&s->finished, j);
    } else {
        detach(s, j);
        list_remove(&s->all, j);
        s->n_jobs--;
    }
    pil_job_destroy(j);
}

pil_job *pil_sched_finished(pil_sched *s) {
    pil_job *j = s->finished.first;
    if (j) list_remove(&s->finished, j);
    return j;
}

pil_job_end pil_job_ended(const pil_job *j) { return j->end; }
void *pil_job_ud(const pil_job *j) { return j->ud; }
size_t pil_job_count(const pil_job *j) { return j->n; }

const pillion_item *pil_job_item(const pil_job *j, size_t i) {
    assert(i < j->n && j->end == PIL_JOB_ANSWERED && j->n_done == j->n);
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

/* ── Handing out ────────────────────────────────────────────────────────────────────────────────────────────── */

static bool same_name(const char *a, const char *b) { return a == b || (a && b && strcmp(a, b) == 0); }

static bool same_kind(const pil_job *a, const pil_job *b) {
    return a->op == b->op && a->options.normalize == b->options.normalize &&
           a->options.truncate == b->options.truncate && a->options.skip_special == b->options.skip_special &&
           same_name(a->options.prompt_name, b->options.prompt_name);
}

/* An idle worker; else, while enough waits for everybody, the ready one with the least to do that has room. */
static worker *pick_worker(pil_sched *s) {
    worker *best = NULL;
    for (uint32_t i = 0; i < s->opt.workers; i++) {
        worker *w = &s->workers[i];
        if (w->ready && w->n_out < s->opt.depth && (!best || w->n_out < best->n_out)) best = w;
    }
    bool plenty = s->tokens_waiting >= (uint64_t)s->opt.batch_tokens * s->n_ready;
    return best && (best->n_out == 0 || plenty) ? best : NULL;
}

/* What waits is shared among the idle workers, so that a small job alone uses all of them. */
static uint32_t budget(const pil_sched *s) {
    uint32_t idle = 0;
    for (uint32_t i = 0; i < s->opt.workers; i++) idle += s->workers[i].ready && s->workers[i].n_out == 0;
    uint64_t share = idle > 1 ? (s->tokens_waiting + idle - 1) / idle : s->opt.batch_tokens;
    if (share < BATCH_TOKENS_MIN) share = BATCH_TOKENS_MIN;
    return share < s->opt.batch_tokens ? (uint32_t)share : s->opt.batch_tokens;
}

static bool fits(const pil_sched *s, const batch *b, const task *t, uint32_t tokens_max) {
    if (b->public.n == 0) return true;
    return b->public.n < s->batch_tasks_max && b->public.tokens + t->tokens <= tokens_max &&
           same_kind(b->tasks[0]->job, t->job) && b->tasks[0]->strikes == 0 && t->strikes == 0;
}

static void put(pil_sched *s, batch *b, task *t) {
    uncount_waiting(s, t);
    b->tasks[b->public.n++] = t;
    b->public.tokens += t->tokens;
}

static void fill_from_retries(pil_sched *s, batch *b, uint32_t tokens_max) {
    while (s->retries && fits(s, b, s->retries, tokens_max)) {
        task *t = s->retries;
        s->retries = t->next;
        t->next = NULL;
        put(s, b, t);
    }
}

static void fill_from_waiting(pil_sched *s, batch *b, uint32_t tokens_max) {
    for (pil_job *j; (j = s->waiting.first);) {
        while (j->next_task < j->n && fits(s, b, &j->tasks[j->next_task], tokens_max))
            put(s, b, &j->tasks[j->next_task++]);
        bool more = j->next_task < j->n;
        if (more && b->tasks[b->public.n - 1]->job != j) return; /* its first text did not fit: it keeps its turn */
        wait_remove(s, j);
        if (!more) continue;
        wait_append(s, j);
        return;
    }
}

const pil_batch *pil_sched_next(pil_sched *s) {
    worker *w = s->texts_waiting ? pick_worker(s) : NULL;
    if (!w) return NULL;
    uint32_t index = (uint32_t)(w - s->workers), tokens_max = budget(s);
    batch *b = NULL;
    for (uint32_t i = 0; i < s->opt.depth && !b; i++)
        if (!s->batches[index * s->opt.depth + i].used) b = &s->batches[index * s->opt.depth + i];
    assert(b);
    b->public = (pil_batch){.id = ++s->next_id, .worker = index};
    if (s->retries) fill_from_retries(s, b, tokens_max);
    else fill_from_waiting(s, b, tokens_max);
    assert(b->public.n > 0);
    b->public.op = b->tasks[0]->job->op;
    b->public.options = b->tasks[0]->job->options;
    b->used = true;
    w->out[w->n_out++] = b;
    s->n_out++;
    return &b->public;
}

const pillion_input *pil_batch_input(const pil_batch *public, size_t i) {
    const batch *b = (const batch *)public;
    assert(i < public->n && b->tasks[i]);
    return &b->tasks[i]->job->inputs[b->tasks[i]->index];
}

/* ── What became of it ──────────────────────────────────────────────────────────────────────────────────────── */

void pil_sched_ready(pil_sched *s, uint32_t index) {
    worker *w = &s->workers[index];
    assert(index < s->opt.workers && !w->ready && w->n_out == 0);
    w->ready = true;
    s->n_ready++;
}

const pil_batch *pil_sched_oldest(const pil_sched *s, uint32_t index) {
    assert(index < s->opt.workers);
    const worker *w = &s->workers[index];
    return w->n_out ? &w->out[0]->public : NULL;
}

static batch *take_oldest(pil_sched *s, uint32_t index) {
    worker *w = &s->workers[index];
    assert(index < s->opt.workers && w->n_out > 0);
    batch *b = w->out[0];
    w->n_out--;
    memmove(w->out, w->out + 1, w->n_out * sizeof *w->out);
    b->used = false;
    s->n_out--;
    return b;
}

static void task_done(pil_sched *s, task *t, const pillion_item *item) {
    pil_job *j = t->job;
    j->items[t->index] = *item;
    if (++j->n_done == j->n) finish(s, j, PIL_JOB_ANSWERED);
}

void pil_sched_answered(pil_sched *s, uint32_t index, pil_answer *answer, uint64_t now_ms) {
    batch *b = take_oldest(s, index);
    assert(answer->n == b->public.n);
    for (size_t i = 0; i < b->public.n; i++) {
        task *t = b->tasks[i];
        if (!t) continue;
        t->job->held_since_ms = now_ms;
        if (job_keep(t->job, answer)) task_done(s, t, &answer->items[i]);
        else task_done(s, t, &(pillion_item){.status = PILLION_E_NOMEM});
    }
}

void pil_sched_refused(pil_sched *s, uint32_t index, pillion_status status) {
    batch *b = take_oldest(s, index);
    for (size_t i = 0; i < b->public.n; i++)
        if (b->tasks[i]) task_done(s, b->tasks[i], &(pillion_item){.status = status});
}

/* Back to the front of the queue, or done when it was lost too often. */
static void give_back(pil_sched *s, task *t, bool lost, bool struck) {
    t->losses = (uint8_t)(t->losses + lost);
    t->strikes = (uint8_t)(t->strikes + struck);
    if (t->strikes >= STRIKES_MAX || t->losses >= PIL_LIMIT_LOSSES) {
        task_done(s, t, &(pillion_item){.status = PILLION_E_INTERNAL});
        return;
    }
    t->next = s->retries;
    s->retries = t;
    count_waiting(s, t);
}

void pil_sched_lost(pil_sched *s, uint32_t index, bool struck) {
    worker *w = &s->workers[index];
    assert(index < s->opt.workers);
    if (w->ready) s->n_ready--;
    w->ready = false;
    while (w->n_out > 0) { /* from the newest to the oldest, so that the oldest ends in front */
        batch *b = w->out[--w->n_out];
        b->used = false;
        s->n_out--;
        bool was_running = w->n_out == 0;
        for (size_t i = b->public.n; i-- > 0;)
            if (b->tasks[i]) give_back(s, b->tasks[i], was_running, was_running && struck);
    }
}

void pil_sched_tick(pil_sched *s, uint64_t now_ms) {
    for (pil_job *j = s->all.first, *next; j; j = next) {
        next = j->next;
        if (s->n_ready) j->held_since_ms = now_ms;
        if (now_ms < j->held_since_ms + s->opt.hold_ms) continue;
        detach(s, j);
        finish(s, j, PIL_JOB_EXPIRED);
    }
}

void pil_sched_give_up(pil_sched *s) {
    s->gave_up = true;
    for (pil_job *j; (j = s->all.first);) {
        detach(s, j);
        finish(s, j, PIL_JOB_UNAVAILABLE);
    }
}

void pil_sched_measure(const pil_sched *s, pil_sched_load *out) {
    *out = (pil_sched_load){.jobs = s->n_jobs, .texts_waiting = s->texts_waiting, .tokens_waiting = s->tokens_waiting,
                            .workers_ready = s->n_ready, .batches_out = s->n_out};
}
