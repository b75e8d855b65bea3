/* sched.h - the dispatcher: which text runs where, and which workers there are. A pure state machine.
 *
 * A job is the texts of one request. Its owner submits it, and gets it back from pil_sched_finished() when every text
 * has its vector or a typed error. Workers live in slots. Whoever owns the processes (the driver) tells what happened
 * to them and carries out what pil_sched_next_action() asks for. Nothing here reads a clock, opens a file or calls
 * back. One thread.
 *
 *     events:   advance, submit, cancel, ready, progress, answered, ended, ...       (calls)
 *     actions:  SPAWN, SEND, ABANDON, RETIRE, KILL                                   (pil_sched_next_action)
 *     results:  jobs                                                                 (pil_sched_finished)
 *
 * The driver's turn, after every wake: advance(now); the events; then all actions, and all finished jobs, until
 * neither gives anything more; sleep until pil_sched_next_ms(). */
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
    uint32_t workers;           /* bulk slots 0 .. workers-1; 1 to PIL_LIMIT_WORKERS */
    bool express;               /* one more slot, index `workers`: short jobs at once; it is also the warm standby */
    uint32_t depth;             /* batches with one worker at once: 2 keeps it busy while an answer travels */
    uint32_t batch_tokens;      /* estimated tokens of one batch; a longer text runs alone */
    uint32_t express_tokens;    /* a job of at most this many estimated tokens is short; without express none is */
    uint64_t queue_tokens_max;  /* no job is admitted while this many estimated tokens wait. Short jobs are counted
                                   apart, here and in the next two */
    uint64_t queue_bytes_max;   /* or while the texts of all unfinished jobs have this many bytes; an eighth if short */
    uint64_t queue_ms;          /* or while its client and all others but the one with most have this much work at the
                                   measured speed that is served before it; 0: not measured */
    uint64_t hold_ms;           /* how long a job waits while no worker is ready at all */
    uint64_t deadline_ms;       /* without any answer for that job: its unfinished texts get E_DEADLINE */
    uint64_t total_ms;          /* the same, since it was submitted */
    uint64_t stall_ms;          /* a worker at work whose counter stands still for so long is killed */
    uint64_t start_ms;          /* from SPAWN to ready, else killed */
    uint64_t start_apart_ms;    /* how long after pil_sched_start() a first worker waits for others; 0: not at all */
    uint64_t canary_ms;         /* between two canaries of one worker */
    uint64_t retire_ms;         /* from RETIRE to its end, else killed */
    uint64_t quarantine_ms;     /* how long a poison text is remembered */
    uint32_t quarantine_max;    /* how many are; the oldest leaves */
    uint64_t memory_soft_bytes; /* a worker that has grown above it is replaced between two batches; 0: never */
    uint64_t seed;              /* of the jitter in pauses */
} pil_sched_options;

/* Depth 2, batches of 512 tokens, no express slot, all workers started at once, no memory cap, everything else from
 * limits.h. */
void pil_sched_options_init(pil_sched_options *opt, uint32_t workers);

/*  Errors  E_NOMEM. */
pillion_status pil_sched_create(pil_sched **out, const pil_sched_options *opt, pillion_error *err);
/* Destroys every job that is still known to it. Accepts NULL. */
void pil_sched_destroy(pil_sched *s);

/* Processes can be started from now on (the model is compiled). Before it there is no SPAWN, and jobs wait. */
void pil_sched_start(pil_sched *s);
/* What the first worker told about the model. digest (copied, may be NULL) is part of what quarantine remembers.
 * Estimates are min(text_tokens_max, 2 + bytes/3) for a text; 0 means that no limit is known. */
void pil_sched_set_model(pil_sched *s, const char *digest, uint32_t text_tokens_max);
/* There will be no worker, because of `why` (copied): all jobs end, and later ones are refused, with it. Workers that
 * there are get a RETIRE. */
void pil_sched_give_up(pil_sched *s, const char *why);

/* ── Time ───────────────────────────────────────────────────────────────────────────────────────────────────── */

/* Tells the time (monotonic, any origin) and does what has become due. Call it before reporting events, so that they
 * happen at their time. While there is work, calls are expected every second; a gap of more than 2 s means that this
 * process itself was stopped (a laptop slept), and that time is not held against anybody. */
void pil_sched_advance(pil_sched *s, uint64_t now_ms);
/* When advance is wanted next, whatever else happens; UINT64_MAX: never. At most a second ahead while there is work.
 * Report pil_sched_progress() for all workers before that call. */
uint64_t pil_sched_next_ms(const pil_sched *s);

/* ── Jobs ───────────────────────────────────────────────────────────────────────────────────────────────────── */

typedef enum pil_job_end {
    PIL_JOB_ANSWERED,    /* every text has an item of its own, good or bad */
    PIL_JOB_EXPIRED,     /* no worker became ready within hold_ms; texts without an item have E_UNAVAILABLE */
    PIL_JOB_UNAVAILABLE, /* no worker can be started; the same */
} pil_job_end;

/* Queues a job.
 *   client    whose it is: clients share the workers evenly, and so do the jobs of one client.
 *   inputs    [n], n >= 1; the array and what it points to are borrowed until the job is finished or cancelled.
 *   options   copied; prompt_name borrowed like the inputs; progress and cancel are ignored.
 *   ud        handed back by pil_job_ud().
 *   Errors    E_LIMIT: the queue is full (a job of any size is admitted while the queue is below its limit);
 *             E_UNAVAILABLE: no worker is ready and none can be started (err has the reason), or we gave up; E_NOMEM.
 *   *out      owned by the scheduler until pil_sched_finished() gives it away. It may be finished at once. */
pillion_status pil_sched_submit(pil_sched *s, pil_job **out, uint64_t client, pillion_op op,
                                const pillion_run_options *options, const pillion_input *inputs, size_t n, void *ud,
                                pillion_error *err);

/* Whether a job of that client with so many bytes of text, too many for a short one, would be refused with E_LIMIT. */
bool pil_sched_is_full(const pil_sched *s, uint64_t client, uint64_t bytes);

/* Forgets a job that pil_sched_finished() has not given away: what waits is dropped, what is with a worker is ignored
 * when it comes back, and abandoned if nobody else waits for it. */
void pil_sched_cancel(pil_sched *s, pil_job *job);

/* The next finished job, or NULL. Given: pil_job_destroy(). */
pil_job *pil_sched_finished(pil_sched *s);

pil_job_end pil_job_ended(const pil_job *job);
void *pil_job_ud(const pil_job *job);
size_t pil_job_count(const pil_job *job);
/* Item i of a finished job, borrowed from it. Besides what a worker says its status may be E_POISON, E_DEADLINE,
 * E_LOST, E_UNAVAILABLE, E_NUMERIC or E_NOMEM. */
const pillion_item *pil_job_item(const pil_job *job, size_t i);
void pil_job_destroy(pil_job *job); /* accepts NULL; only for finished ones */

/* When a refused client may come again: what waits at the measured speed, 1 s to 60 s. */
uint64_t pil_sched_retry_after_ms(const pil_sched *s);

/* ── Actions ────────────────────────────────────────────────────────────────────────────────────────────────── */

typedef struct pil_batch {
    uint64_t id; /* never twice */
    uint32_t slot;
    pillion_op op;
    pillion_run_options options;
    size_t n;
    uint32_t tokens; /* estimated */
} pil_batch;
/* Borrowed from the jobs and sure to live only until the next call of any other function here. */
const pillion_input *pil_batch_input(const pil_batch *batch, size_t i);

typedef enum pil_action_kind {
    PIL_ACTION_NONE,
    PIL_ACTION_SPAWN,   /* start a process in the (empty) slot; report spawn_failed, or what it says and its end */
    PIL_ACTION_SEND,    /* send it `batch`, which may also be a canary of our own */
    PIL_ACTION_ABANDON, /* nobody waits for `batch`, which it is computing: set its cancel flag. It answers as always,
                           or refuses with E_CANCELLED */
    PIL_ACTION_RETIRE,  /* close its channel: it ends by itself. It has no batch */
    PIL_ACTION_KILL,    /* SIGKILL */
} pil_action_kind;

typedef struct pil_action {
    pil_action_kind kind;
    uint32_t slot;
    const pil_batch *batch; /* SEND, ABANDON: borrowed until it is answered, refused or its worker has ended */
    const char *why;        /* RETIRE, KILL: static text for the log; else NULL */
} pil_action;

/* The next thing to do; false when there is nothing. From here on it counts as done. */
bool pil_sched_next_action(pil_sched *s, pil_action *out);

/* ── Events of workers ──────────────────────────────────────────────────────────────────────────────────────────
 * slot: absent --SPAWN--> starting --ready, canary passed--> ready --RETIRE, KILL, death--> ending
 *       absent <--------------------------- ended ---------------------------------------------------------+
 * What cannot be in a slot's state (an answer to nothing, ready twice) is treated as pil_sched_lied(). */

void pil_sched_spawn_failed(pil_sched *s, uint32_t slot, const char *why); /* why: copied, here and below */
/* It said READY, and that was checked; canary [n]: its vector of PILLION_CANARY_TEXT, copied. */
void pil_sched_ready(pil_sched *s, uint32_t slot, const float *canary, size_t n);
/* It said FAILED: it cannot serve this model, and will end. */
void pil_sched_failed(pil_sched *s, uint32_t slot, pillion_status status, const char *why);
/* Its counter of progress, which counts as moved at the next advance, and its own memory (RssAnon; 0: not known). */
void pil_sched_progress(pil_sched *s, uint32_t slot, uint64_t counter, uint64_t own_bytes);

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

/* The oldest batch with a worker, which is the one that its next answer belongs to; NULL when there is none. */
const pil_batch *pil_sched_oldest(const pil_sched *s, uint32_t slot);
/* That batch is answered. The answer is shared, not taken. */
void pil_sched_answered(pil_sched *s, uint32_t slot, pil_answer *answer);
/* That batch failed as a whole, in words that keep to the format. E_CANCELLED of a batch that somebody waits for: it
 * is done again. E_ARG, E_UNSUPPORTED: its texts get that status. Else each of them is tried alone first. */
void pil_sched_refused(pil_sched *s, uint32_t slot, pillion_status status);
/* The batch of the last SEND to that slot never left us: it was too large for a frame, or memory was exhausted. As if
 * refused. */
void pil_sched_unsent(pil_sched *s, uint32_t slot, pillion_status status);
/* It broke the format or otherwise cannot be believed: KILL follows, its texts are tried again elsewhere. */
void pil_sched_lied(pil_sched *s, uint32_t slot, const char *why);

typedef enum pil_end {
    PIL_END_EXIT,    /* it exited with status 0 */
    PIL_END_CRASH,   /* a signal of its own (SEGV, ABRT, BUS, FPE, ILL, SYS, TRAP), or an exit status that is not 0 */
    PIL_END_OOM,     /* killed for want of memory */
    PIL_END_OUTSIDE, /* KILL, TERM and the like that nobody here sent; or a channel that broke */
    PIL_END_STOPPED, /* our KILL found it stopped by a signal or a debugger, or waiting for the disk or a processor: not
                        its own doing */
} pil_end;
/* The process is gone and its stream is read to the end. After a KILL of ours only STOPPED makes a difference. */
void pil_sched_ended(pil_sched *s, uint32_t slot, pil_end how, const char *why);

/* ── State ──────────────────────────────────────────────────────────────────────────────────────────────────── */

typedef enum pil_fleet_state {
    PIL_FLEET_STARTING, /* nobody is ready, and somebody will be */
    PIL_FLEET_READY,    /* at least one worker has passed its canary */
    PIL_FLEET_OPEN,     /* the breaker is open and nobody is ready: jobs are refused */
} pil_fleet_state;

typedef struct pil_sched_load {
    pil_fleet_state state;
    const char *reason;    /* why the breaker is open (also while others are ready), or we gave up; else NULL. Borrowed
                              until the next event */
    size_t jobs;           /* not finished */
    size_t texts_waiting;  /* not with a worker */
    uint64_t tokens_waiting, bytes; /* bytes: of all unfinished jobs */
    uint32_t workers_ready; /* express included */
    uint32_t workers_alive; /* slots that are not empty */
    uint32_t batches_out;   /* with workers, canaries included */
    uint64_t tokens_per_s;  /* measured while busy, estimated tokens; 0: not yet */
    uint64_t proof_ms;      /* when a worker last answered a batch or a canary; 0: never */
    /* Counters since the beginning. */
    uint64_t deaths;          /* workers that ended without being told to RETIRE */
    uint64_t restarts;        /* SPAWNs but the first of each slot */
    uint64_t kills;           /* of ours */
    uint64_t retired;         /* told to RETIRE, but for the end of it all */
    uint64_t retries;         /* texts given back to the queue */
    uint64_t texts_poisoned;  /* texts convicted */
    uint64_t texts_quarantined; /* answered from quarantine */
    uint64_t texts_expired;   /* E_DEADLINE */
    uint64_t texts_lost;      /* E_LOST */
    uint64_t numeric_retries; /* texts computed again because of their numbers */
    uint64_t canary_failures;
    uint64_t batches_abandoned;
    uint64_t breaker_opened;
    size_t quarantine;        /* digests remembered now */
} pil_sched_load;
void pil_sched_measure(const pil_sched *s, pil_sched_load *out);

#endif
