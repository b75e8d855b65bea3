/* proc.h - the processes of a server: a pool of workers, and what runs inside the children.
 *
 * The server process maps no model and runs no tokenizer. A model directory is compiled by a child ("prepare"), every
 * text is computed by a worker; both are this program again, started with another first argument. */
#ifndef PIL_PROC_PROC_H
#define PIL_PROC_PROC_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "pillion/pillion.h"
#include "proc/loop.h"
#include "sched/sched.h"

/* ── The pool, in the server ────────────────────────────────────────────────────────────────────────────────── */

typedef struct pil_pool pil_pool;
typedef struct pil_ticket pil_ticket;

typedef enum pil_pool_state {
    PIL_POOL_PREPARING, /* the model is being compiled or mapped */
    PIL_POOL_READY,     /* at least one worker has computed its canary; stays so while workers are replaced */
    PIL_POOL_FAILED,    /* the model is wrong and no worker can serve it: pil_pool_info_of()->error says why */
} pil_pool_state;

typedef struct pil_pool_info {
    pil_pool_state state;
    uint32_t workers, express; /* how many there should be, and beside them for short work: 0 or 1 */
    uint32_t workers_ready;    /* of both */
    uint32_t dim, hidden, max_tokens; /* 0 until a worker has been ready once */
    char sandbox[128]; /* what cages the workers: "full", "partial: ..."; "" until then */
    uint64_t deaths; /* workers that ended without being told to */
    uint64_t prepare_done,
        prepare_total; /* while a directory is compiled: bytes of weights; 0 before the first report */
    pillion_error error;
    bool breaker_open; /* workers die too often to start more at once; others may still be ready */
    char reason[160];  /* why, in one line of printable text; "" while the breaker is closed */
} pil_pool_info;

/* Called from the loop when state changes or the compiling of a directory gets on. */
typedef void (*pil_pool_fn)(void *ud);

typedef struct pil_pool_options {
    const char *program;   /* what children execute; NULL: this program */
    const char *directory; /* a Hugging Face directory, which is compiled first; else */
    const char *file;      /* a compiled file; else both are NULL: the program's built-in model */
    pillion_precision precision;
    uint32_t workers;         /* 1 to PIL_LIMIT_WORKERS; there is one more for short work */
    uint32_t batch_tokens;    /* 0: the dispatcher's default */
    bool together;            /* all workers start at once: nobody waits for the first answer */
    const pil_sched_options *sched; /* its options, in place of workers, an express slot, batch_tokens and a cap on a
                                       worker's memory; NULL: those */
    pil_pool_fn on_change;    /* may be NULL */
    void *ud;
} pil_pool_options;

/* Starts the children; they become ready later. Strings are copied.
 *   Errors  E_NOMEM. A child that cannot be started is tried again, with growing pauses. */
pillion_status pil_pool_create(pil_pool **out, pil_loop *l, const pil_pool_options *opt, pillion_error *err);
/* Ends all children: idle ones by closing their channel, busy ones by force, all of them within a tenth of a second.
 * Nothing more is computed; on_stopped is called from the loop when the last one is gone. */
void pil_pool_stop(pil_pool *p, pil_pool_fn on_stopped, void *ud);
/* Forgets all tickets without calling their on_done, and kills what still runs. Accepts NULL. */
void pil_pool_destroy(pil_pool *p);

/* Borrowed; up to date until the loop runs again. */
const pil_pool_info *pil_pool_info_of(const pil_pool *p);

/* The job is over: see pil_job_ended() and pil_job_item(). It is freed after the call. */
typedef void (*pil_done_fn)(const pil_job *job, void *ud);

/* Has n texts computed. Inputs and options as for pil_sched_submit: borrowed until on_done or pil_pool_cancel.
 *   client   whose texts they are: any number, for example that of a connection; clients share the workers evenly.
 *   on_done  called from the loop, never from inside this call.
 *   *out     owned by the pool; not valid any more once on_done has been called.
 *   Errors   E_LIMIT: the queue is full, see pil_pool_retry_after_ms(). E_UNAVAILABLE: nobody is ready and the breaker
 *            is open. E_NOMEM. */
pillion_status pil_pool_submit(pil_pool *p, pil_ticket **out, uint64_t client, pillion_op op,
                               const pillion_run_options *options, const pillion_input *inputs, size_t n,
                               pil_done_fn on_done, void *ud, pillion_error *err);
/* Whether so many bytes of text of that client would most likely be refused for a full queue. */
bool pil_pool_is_full(const pil_pool *p, uint64_t client, uint64_t bytes);
/* What waits, what works, and what has happened so far: counters for /metrics. */
void pil_pool_measure(const pil_pool *p, pil_sched_load *out);
/* When a client that was refused may come again: 1 s to 60 s. */
uint64_t pil_pool_retry_after_ms(const pil_pool *p);
/* on_done will not be called. */
void pil_pool_cancel(pil_pool *p, pil_ticket *t);

/* ── Inside the children ────────────────────────────────────────────────────────────────────────────────────── */

#define PIL_WORKER_FD 3      /* where the frames travel */
#define PIL_WORKER_PAGE_FD 4 /* the page of page.h; closed once it is mapped */

typedef struct pil_worker_options {
    const char *file;   /* a compiled file; NULL: */
    const void *memory; /* a compiled model in memory */
    size_t memory_bytes;
    pillion_precision precision;
    int fd;      /* a socket; PIL_WORKER_FD in a real worker */
    int page_fd; /* PIL_WORKER_PAGE_FD in a real worker; 0: nobody watches. Taken */
    bool cage; /* give up files, network and processes once the model is mapped; the caller then ends with _exit */
} pil_worker_options;

/* The body of a worker: opens the model, computes the canary text, says READY (or FAILED), then answers requests until
 * the other end closes. Blocking, one thread. Returns the exit status: 0 when the other end closed, PIL_WORKER_CUT_OFF
 * when the channel failed, which is no text's fault. */
#define PIL_WORKER_CUT_OFF 3
int pil_worker_main(const pil_worker_options *opt);

/* What a worker does first: it is the one that dies when memory runs out, makes no core file, needs little stack and
 * few descriptors, and gives way to others by `nice` more than its parent, which may do so itself (0: does not). */
void pil_worker_begin(int nice);

/* The body of the child that compiles `directory` if it has to. Writes lines of JSON to fd:
 *     {"done":1048576,"total":90868376}              now and then
 *     {"path":"…/model.f32.safetensors"}             in the end, or
 *     {"error":{"status":-5,"text":"…"}}
 * A path is any bytes and JSON is UTF-8: in "path" each byte that is not printable ASCII, quote, backslash and percent
 * sign stand as %XX.
 * Returns the exit status: 0 with a path. */
int pil_prepare_main(const char *directory, pillion_precision precision, int fd);

#endif
