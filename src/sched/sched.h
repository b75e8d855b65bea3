/* sched.h - which text runs where: a queue of jobs, batches cut by tokens, one answer for each text. Pure state.
 *
 * A job is the texts of one request. Its owner submits it, and gets it back from pil_sched_finished() when every text
 * has an answer or none can be had any more. Whoever drives the workers asks pil_sched_next() for batches and reports
 * what became of them. Nothing here reads a clock, opens a file or calls back: time is a parameter. One thread. */
#ifndef PIL_SCHED_SCHED_H
#define PIL_SCHED_SCHED_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/arena.h"
#include "pillion/pillion.h"

typedef struct pil_sched pil_sched;
typedef struct pil_job pil_job;

typedef struct pil_sched_options {
    uint32_t workers;          /* slots, 1 to PIL_LIMIT_WORKERS; all are absent at first */
    uint32_t depth; /* batches that may be with one worker at once: 2 keeps it busy while an answer travels */
    uint32_t batch_tokens;     /* estimated tokens of one batch; a longer text runs alone */
    uint64_t queue_tokens_max; /* no job is admitted while this many estimated tokens wait */
    uint64_t hold_ms;          /* how long a job waits while no worker is ready at all */
} pil_sched_options;

/* Depth 2, batches of 512 tokens, the queue and hold of limits.h. */
void pil_sched_options_init(pil_sched_options *opt, uint32_t workers);

pillion_status pil_sched_create(pil_sched **out, const pil_sched_options *opt, pillion_error *err);
/* Destroys every job that is still known to it. Accepts NULL. */
void pil_sched_destroy(pil_sched *s);

/* Estimates are min(limit, 2 + bytes/3) for a text; 0 (the default) means no limit is known. */
void pil_sched_set_text_tokens_max(pil_sched *s, uint32_t tokens);

/* ── Jobs ───────────────────────────────────────────────────────────────────────────────────────────────────── */

typedef enum pil_job_end {
    PIL_JOB_ANSWERED,    /* every text has an item, good or bad */
    PIL_JOB_EXPIRED,     /* no worker became ready within hold_ms */
    PIL_JOB_UNAVAILABLE, /* pil_sched_give_up() */
} pil_job_end;

/* Queues a job.
 *   inputs    [n], n >= 1; the array and what it points to are borrowed until the job is finished or cancelled.
 *   options   copied; prompt_name borrowed like the inputs; progress and cancel are ignored.
 *   ud        handed back by pil_job_ud().
 *   Errors    E_LIMIT: the queue is full. A job of any size is admitted while the queue is below its limit. E_NOMEM.
 *   *out      owned by the scheduler until pil_sched_finished() gives it away. */
pillion_status pil_sched_submit(pil_sched *s, pil_job **out, pillion_op op, const pillion_run_options *options,
                                const pillion_input *inputs, size_t n, uint64_t now_ms, void *ud, pillion_error *err);

/* Forgets a job that pil_sched_finished() has not given away: what waits is dropped, what is with a worker is ignored
 * when it comes back. */
void pil_sched_cancel(pil_sched *s, pil_job *job);

/* The next finished job, or NULL. Given: pil_job_destroy(). */
pil_job *pil_sched_finished(pil_sched *s);

pil_job_end pil_job_ended(const pil_job *job);
void *pil_job_ud(const pil_job *job);
size_t pil_job_count(const pil_job *job);
/* Item i of an answered job, borrowed from it. */
const pillion_item *pil_job_item(const pil_job *job, size_t i);
void pil_job_destroy(pil_job *job); /* accepts NULL; only for finished ones */

/* ── Workers ────────────────────────────────────────────────────────────────────────────────────────────────── */

/* What a worker answered to one batch. Items of several jobs point into it, so it is counted. */
typedef struct pil_answer {
    size_t refs; /* starts at 1, for who made it */
    pil_arena arena;
    pillion_item *items; /* [n]; everything they point to lives in arena or memory */
    size_t n;
    void *memory; /* freed with the answer; may be NULL */
} pil_answer;

pil_answer *pil_answer_create(size_t arena_bytes_max); /* NULL when memory is exhausted */
void pil_answer_release(pil_answer *a);                /* accepts NULL */

typedef struct pil_batch {
    uint64_t id; /* never twice */
    uint32_t worker;
    pillion_op op;
    pillion_run_options options;
    size_t n;
    uint32_t tokens; /* estimated */
} pil_batch;

/* A worker took its place and can be given work. */
void pil_sched_ready(pil_sched *s, uint32_t worker);

/* The next batch for a ready worker that has room, idle ones first; NULL when there is nothing to hand out. The batch
 * is then with its worker: borrowed until it is answered or the worker is lost. Its inputs are borrowed from their jobs
 * and are sure to live only until the next call of any function here. */
const pil_batch *pil_sched_next(pil_sched *s);
const pillion_input *pil_batch_input(const pil_batch *batch, size_t i);

/* The oldest batch with a worker, which is the one that its next answer belongs to; NULL when there is none. */
const pil_batch *pil_sched_oldest(const pil_sched *s, uint32_t worker);

/* That batch is answered. answer->n equals its n (the caller has checked); the answer is shared, not taken. */
void pil_sched_answered(pil_sched *s, uint32_t worker, pil_answer *answer, uint64_t now_ms);
/* That batch failed as a whole for a reason that is not the worker's death: its texts get this status. */
void pil_sched_refused(pil_sched *s, uint32_t worker, pillion_status status);

/* A worker is gone. Its texts go back to the front of the queue.
 *   struck   it died by its own doing, or broke the format: the texts of its oldest batch are suspects and will be
 *            tried one by one. A text that kills a worker when alone gets E_INTERNAL, as does one lost
 *            PIL_LIMIT_LOSSES times. */
void pil_sched_lost(pil_sched *s, uint32_t worker, bool struck);

/* Ends the jobs that have waited for a worker for too long. */
void pil_sched_tick(pil_sched *s, uint64_t now_ms);
/* Ends all jobs, and every later one at once: there will be no worker. */
void pil_sched_give_up(pil_sched *s);

typedef struct pil_sched_load {
    size_t jobs;            /* not finished */
    size_t texts_waiting;   /* not with a worker */
    uint64_t tokens_waiting;
    uint32_t workers_ready;
    uint32_t batches_out;   /* with workers */
} pil_sched_load;
void pil_sched_measure(const pil_sched *s, pil_sched_load *out);

#endif
