/* sched_int.h - what the files of this room share.
 *
 *     share.c       who is next: clients, jobs, texts that come back
 *     job.c         a job from submit to its end; deadlines
 *     batch.c       texts into batches for a worker, and what became of them
 *     fleet.c       the life of workers: spawn, canary, stall, death, back-off, breaker
 *     quarantine.c  texts that are known to kill
 *     sched.c       the door: time, actions, state
 *
 * Invariants: (1) a task is in exactly one place: not handed out (NEW), in its share's retries, in one batch (OUT), or
 *             DONE. (2) a batch is in exactly one slot's queue, oldest first, or unused. (3) tasks of one batch share
 *             operation and options. (4) sum(tokens) <= batch_tokens unless the batch is one task. (5) tokens_waiting
 *             of a share is the sum over its tasks that are NEW or in retries. (6) a task to be tried alone is alone
 *             in its batch. (7) every task of a job is DONE when the job is finished. */
#ifndef PIL_SCHED_INT_H
#define PIL_SCHED_INT_H

#include "base/sha256.h"
#include "sched/sched.h"

typedef struct pil_task pil_task;
typedef struct pil_client pil_client;
typedef struct pil_share pil_share;
typedef struct pil_work pil_work;
typedef struct pil_slot pil_slot;

/* ── Lists ──────────────────────────────────────────────────────────────────────────────────────────────────── */

/* A list has `first` and `last`; x is in it by two members of its own, since one object may be in several lists. */
#define PIL_LIST_APPEND(l, x, prev, next)               \
    do {                                                \
        (x)->prev = (l)->last;                          \
        (x)->next = NULL;                               \
        *((l)->last ? &(l)->last->next : &(l)->first) = (x); \
        (l)->last = (x);                                \
    } while (0)
#define PIL_LIST_REMOVE(l, x, prev, next)                              \
    do {                                                               \
        *((x)->prev ? &(x)->prev->next : &(l)->first) = (x)->next;     \
        *((x)->next ? &(x)->next->prev : &(l)->last) = (x)->prev;      \
        (x)->prev = (x)->next = NULL;                                  \
    } while (0)

/* ── Texts ──────────────────────────────────────────────────────────────────────────────────────────────────── */

typedef enum pil_task_place { PIL_TASK_NEW, PIL_TASK_RETRY, PIL_TASK_OUT, PIL_TASK_DONE } pil_task_place;

struct pil_task {
    pil_job *job;
    pil_task *prev, *next; /* RETRY: in share->retries; OUT: in job->out */
    pil_work *batch;       /* OUT; */
    uint32_t seat;         /* its place there */
    uint32_t tokens;       /* estimated */
    uint64_t avoid_life;   /* the worker whose numbers were wrong; 0: none */
    uint8_t place;         /* pil_task_place */
    uint8_t strikes;       /* deaths charged to it: in company, then alone */
    uint8_t losses;        /* workers that lied or left under it when it was alone */
    bool alone;            /* to be tried alone from now on */
};

typedef struct pil_task_list {
    pil_task *first, *last;
} pil_task_list;
void pil_task_push_back(pil_task_list *l, pil_task *t);
void pil_task_push_front(pil_task_list *l, pil_task *t);
void pil_task_unlink(pil_task_list *l, pil_task *t);

/* ── Jobs ───────────────────────────────────────────────────────────────────────────────────────────────────── */

struct pil_job {
    pil_job *prev, *next;           /* in by_age, oldest first, or in finished */
    pil_job *step_prev, *step_next; /* in by_progress, longest without progress first */
    pil_job *ring_prev, *ring_next; /* in its client's ring while it has NEW tasks */
    pil_share *share;
    pil_client *client;
    int64_t deficit;
    pillion_op op;
    pillion_run_options options;
    const pillion_input *inputs; /* [n], borrowed */
    pil_task *tasks;             /* [n] */
    pillion_item *items;         /* [n] */
    size_t n, next_task, n_done, n_retries;
    uint64_t tokens_new; /* of its NEW tasks */
    uint64_t bytes;
    pil_task_list out;
    uint64_t submitted_ms, progress_ms;
    uint64_t quarantine_seen; /* s->quarantine.changes when its texts were looked up */
    uint32_t deaths;          /* charged to this job alone */
    pil_answer **answers;     /* what items point into */
    size_t n_answers, answers_cap;
    bool in_ring, has_turn, is_finished;
    bool is_suspect; /* a worker died under it: it shares no batch with other jobs */
    pil_job_end end;
    void *ud;
};

typedef struct pil_job_list {
    pil_job *first, *last;
} pil_job_list;

/* ── Shares ─────────────────────────────────────────────────────────────────────────────────────────────────── */

#define PIL_CLIENT_BUCKETS 64

struct pil_client {
    pil_client *bucket_next;
    pil_client *prev, *next; /* in the share's ring while it has jobs in its own */
    uint64_t id;
    int64_t deficit;
    pil_job_list ring; /* jobs with NEW tasks, in turn */
    size_t n_jobs;     /* unfinished */
    uint64_t tokens_waiting;
    bool in_ring, has_turn;
};

typedef struct pil_client_list {
    pil_client *first, *last;
} pil_client_list;

/* Everything of one kind that waits: short jobs, or the others. */
struct pil_share {
    pil_client *buckets[PIL_CLIENT_BUCKETS];
    pil_client_list ring;
    pil_task_list retries;
    uint32_t quantum; /* tokens of one turn */
    uint64_t tokens_waiting;
    uint64_t bytes; /* of all unfinished jobs */
    size_t texts_waiting;
    size_t n_avoiding; /* tasks in retries that avoid a worker */
};

enum { PIL_SHARE_BULK, PIL_SHARE_SHORT, PIL_SHARE_COUNT };

/* A batch is not cut smaller to keep all workers busy: below it a frame costs more than it brings. Down to it a token
 * costs the same (measured with lines of 15 tokens: 64 a batch take 5 % less than 512), so that short work is done in
 * batches of this size, and turns as long. */
#define PIL_BATCH_TOKENS_MIN 64

/* ── Batches and slots ──────────────────────────────────────────────────────────────────────────────────────── */

struct pil_work {
    pil_batch public;  /* first, so that a pil_batch is a pil_work */
    pil_task **tasks;  /* [batch_tasks_max]; NULL where nobody waits any more */
    size_t n_live;     /* tasks that are not NULL */
    bool used, canary, suspect, abandoned; /* abandoned: the action was given */
};

typedef enum pil_slot_state {
    PIL_SLOT_ABSENT,
    PIL_SLOT_STARTING,
    PIL_SLOT_READY,
    PIL_SLOT_ENDING,
} pil_slot_state;

/* Why we ended a worker. */
typedef enum pil_cause {
    PIL_CAUSE_NONE,
    PIL_CAUSE_RETIRED, /* told to end, and may take its time */
    PIL_CAUSE_FAILED,  /* it said so itself */
    PIL_CAUSE_STALL,
    PIL_CAUSE_START,
    PIL_CAUSE_LIED,
    PIL_CAUSE_CANARY,
    PIL_CAUSE_LATE, /* did not end when told to */
} pil_cause;

struct pil_slot {
    pil_slot_state state;
    pil_cause cause;
    uint32_t n_out;
    pil_work **out;      /* [depth], oldest first */
    uint64_t life;       /* number of this worker, never twice */
    uint64_t since_ms;   /* in this state */
    uint64_t spawned_ms;
    uint64_t left_ms;    /* when a worker of this slot was READY last; before that: since when one is awaited */
    uint64_t moved_ms, counter; /* last sign of progress */
    uint64_t began_ms;   /* the oldest batch became that */
    uint64_t own_bytes, base_bytes;
    uint64_t canary_due_ms;
    uint64_t kill_batch; /* the oldest batch when we killed it; 0: none */
    uint64_t respawn_ms;
    uint32_t backoff_ms;
    uint32_t numeric_strikes;
    uint32_t cancels; /* ABANDONs given that no E_CANCELLED has answered */
    const char *replace_why; /* wants to be replaced; NULL: no */
    const char *kill_why;
    char why[120]; /* what it said, or what was found, when it failed or lied; "": nothing */
    bool has_moved; /* since the last advance */
    bool answered; /* a batch that is not a canary */
    bool canary_out, vouches; /* vouches: the canary's reference is its own vector */
    bool retire;              /* takes no more work; RETIRE when it is empty */
    bool kill_due;            /* a KILL to be given */
    bool was_spawned, last_short;
    bool was_killed; /* from outside, and no worker of this slot has proven itself since */
};

typedef struct pil_breaker {
    uint64_t deaths_ms[5]; /* ring of the last counted deaths */
    size_t n_deaths, next_death;
    uint64_t opened_ms, probe_ms;
    bool open;
} pil_breaker;

/* ── Quarantine ─────────────────────────────────────────────────────────────────────────────────────────────── */

typedef struct pil_quarantined {
    char digest[PIL_SHA256_HEX];
    uint64_t key; /* cheap hash; most texts differ in it already */
    uint64_t until_ms;
    uint32_t bucket_next; /* index + 1; 0: none */
} pil_quarantined;

/* A ring of the most recent ones; all live equally long, so the oldest is the first to leave. */
typedef struct pil_quarantine {
    pil_quarantined *ring; /* [max], allocated with the first one */
    uint32_t *buckets;     /* [max], index + 1 */
    uint32_t max, first, n;
    uint64_t changes; /* additions since the beginning */
    char model[PIL_SHA256_HEX];
} pil_quarantine;

void pil_quarantine_deinit(pil_quarantine *q);
/* Remembers text i of a job. Without memory it does not. */
void pil_quarantine_add(pil_quarantine *q, const pil_job *j, size_t i, uint64_t until_ms);
void pil_quarantine_forget_since(pil_quarantine *q, uint64_t until_ms); /* what would stay until then or longer */
bool pil_quarantine_has(const pil_quarantine *q, const pil_job *j, size_t i);
void pil_quarantine_expire(pil_quarantine *q, uint64_t now_ms);
uint64_t pil_quarantine_next_ms(const pil_quarantine *q); /* when the oldest leaves; UINT64_MAX: never */

/* ── The whole ──────────────────────────────────────────────────────────────────────────────────────────────── */

struct pil_sched {
    pil_sched_options opt;
    uint32_t n_slots;
    pil_slot *slots;      /* [n_slots] */
    pil_work *batches;    /* [n_slots * depth] */
    pil_task **task_room; /* what batches[].tasks point into */
    pil_work **out_room;  /* what slots[].out point into */
    size_t batch_tasks_max;
    pil_share shares[PIL_SHARE_COUNT];
    pil_job_list by_age, by_progress, finished;
    pil_quarantine quarantine;
    pil_breaker breaker;
    float *canary; /* [canary_values], the reference; NULL: none yet */
    size_t canary_values;
    uint32_t canary_votes;        /* workers that gave it */
    uint64_t clock_ms, skipped_ms; /* what the driver said last; how much of it did not count */
    uint64_t now_ms;               /* clock_ms - skipped_ms */
    uint64_t started_ms;           /* when processes could be started */
    uint64_t unready_ms;           /* since when nobody is ready */
    uint64_t next_id, lives, random;
    uint64_t done_tokens, busy_ms; /* of the last while, for the measured speed */
    size_t n_jobs;
    uint32_t n_ready, n_out;
    uint32_t n_alive;
    uint32_t text_tokens_max;
    bool started, gave_up;
    char reason[160];
    pil_sched_load count; /* the counters */
};

/* share.c */
/* NULL when memory is exhausted. The job is counted until pil_share_leave(). */
pil_client *pil_share_client(pil_share *sh, uint64_t id);
uint64_t pil_share_waiting(const pil_share *sh, uint64_t id); /* tokens of that client */
/* Tokens of the other clients that are served before so many of this one, without those of the one that has most. */
uint64_t pil_share_ahead(const pil_share *sh, uint64_t id, uint64_t pace);
void pil_share_leave(pil_share *sh, pil_client *c);
void pil_share_enter_ring(pil_job *j);
void pil_share_leave_ring(pil_job *j);
void pil_share_count(pil_task *t);   /* it waits */
void pil_share_uncount(pil_task *t); /* it does not any more */
void pil_share_give_back(pil_task *t); /* DONE or OUT (and unlinked) -> in front of retries */
void pil_share_take_back(pil_task *t); /* out of retries */
/* The NEW task whose turn it is, or NULL. It stays so until pil_share_took() or pil_share_pass(). */
pil_task *pil_share_next(pil_share *sh);
void pil_share_took(pil_task *t, bool charged); /* it is not NEW any more: the job goes on to its next one */
void pil_share_pass(pil_task *t);  /* it does not fit: others may go first if its turn is nearly over */
void pil_share_correct(pil_task *t, uint32_t true_tokens); /* what it really cost */

/* job.c */
pil_task *pil_job_next_task(pil_job *j); /* NEW; NULL: none */
void pil_job_task_done(pil_sched *s, pil_task *t, const pillion_item *item); /* t is in no list; may finish the job */
void pil_job_task_status(pil_sched *s, pil_task *t, pillion_status status);
bool pil_job_keep(pil_job *j, pil_answer *a); /* keeps an answer alive as long as the job */
void pil_job_progress(pil_sched *s, pil_job *j);
void pil_job_end_rest(pil_sched *s, pil_job *j, pillion_status status, pil_job_end end); /* what is not DONE */
void pil_job_end_all(pil_sched *s, pil_job_end end);
void pil_job_advance(pil_sched *s);
uint64_t pil_job_next_ms(const pil_sched *s);
bool pil_job_convicted(pil_sched *s, pil_task *t); /* in quarantine since it was submitted */

/* batch.c */
const pil_batch *pil_batch_next(pil_sched *s); /* the next to be sent, or NULL */
void pil_batch_forget_task(pil_task *t); /* OUT -> in no list; nobody waits for it in its batch */
/* The worker is gone, or not to be believed: all its texts go back. strike, lost: what that means for its oldest. */
void pil_batch_give_back_all(pil_sched *s, pil_slot *w, bool strike, bool lost);
bool pil_batch_abandon_due(const pil_slot *w);

/* fleet.c */
void pil_fleet_advance(pil_sched *s);
uint64_t pil_fleet_next_ms(const pil_sched *s);
bool pil_fleet_next_action(pil_sched *s, pil_action *out);
void pil_fleet_canary_answered(pil_sched *s, pil_slot *w, const pillion_item *item); /* NULL: refused */
void pil_fleet_answered(pil_sched *s, pil_slot *w); /* a real batch */
void pil_fleet_numeric_strike(pil_sched *s, uint64_t life);
void pil_fleet_kill(pil_sched *s, pil_slot *w, pil_cause cause, const char *why);
bool pil_fleet_is_missing(const pil_sched *s, const pil_slot *w); /* not READY, and not just being replaced */
bool pil_fleet_is_bulk_missing(const pil_sched *s);
bool pil_fleet_is_trusted(const pil_slot *w); /* what it says counts */
void pil_sched_measure_batch(pil_sched *s, uint32_t tokens, uint64_t ms);
uint64_t pil_sched_tokens_per_s(const pil_sched *s);
bool pil_sched_is_busy(const pil_sched *s);

#endif
