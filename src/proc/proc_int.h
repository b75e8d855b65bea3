/* proc_int.h - what the files of the pool share: the pool, a seat with its worker process, the child that compiles.
 *
 *   pool.c      drives the dispatcher (sched/sched.h): its actions become calls of seat.c, what seats see its events
 *   seat.c      a slot of the dispatcher with its worker process: start, frames there and back, exit
 *   compiler.c  the child that makes a compiled file of a directory
 *   oom.c       whether a process that was killed was killed for want of memory */
#ifndef PIL_PROC_PROC_INT_H
#define PIL_PROC_PROC_INT_H

#include "base/buf.h"
#include "proc/frame.h"
#include "proc/page.h"
#include "proc/proc.h"

/* ── Killed for want of memory? ─────────────────────────────────────────────────────────────────────────────── */

typedef struct pil_oom {
    char path[512];     /* of a file with a line "oom_kill N"; "": there is none */
    uint64_t explained; /* N of it so far belong to a death, or to somebody else */
    uint64_t surplus_ms; /* since when there are more; 0: there are none */
} pil_oom;

/* Looks for a counter: the system's, else that of our cgroup. path: a file to take instead, or NULL. */
void pil_oom_init(pil_oom *o, const char *path);
/* A process of ours was just killed by a SIGKILL that we did not send: whether the kernel says that it kills. */
bool pil_oom_explains(pil_oom *o);
/* Now and then: what nobody has claimed for seconds was not one of ours. */
void pil_oom_settle(pil_oom *o, uint64_t now_ms);

/* ── The child that compiles ────────────────────────────────────────────────────────────────────────────────── */

typedef struct pil_compiler {
    pil_pool *pool;
    pil_child *child; /* NULL: none is running */
    pil_stream *output;
    pil_buf line;
    char *path;          /* what it has made; NULL: nothing yet */
    pillion_error error; /* what it has said */
    int status, term_signal;
} pil_compiler;

pillion_status pil_compiler_start(pil_compiler *c, pillion_error *err);
bool pil_compiler_is_running(const pil_compiler *c);
void pil_compiler_deinit(pil_compiler *c); /* kills it; accepts a zeroed one */

/* ── Seats ──────────────────────────────────────────────────────────────────────────────────────────────────── */

typedef enum pil_seat_state {
    PIL_SEAT_EMPTY,
    PIL_SEAT_WAITING,  /* wanted, and started when the model is compiled anew */
    PIL_SEAT_STARTING, /* has not said READY */
    PIL_SEAT_SERVING,
} pil_seat_state;

typedef struct pil_seat {
    pil_pool *pool;
    uint32_t index;
    pil_seat_state state;
    uint32_t generation; /* of the process: how many there were in this slot */
    pil_child *child;    /* NULL once it has exited */
    int pid;
    pil_stream *stream; /* NULL once it is closed */
    pil_page *page;
    pil_timer *timer;   /* runs when its stream has ended: it must be gone soon */
    bool exited, ended; /* the process; its stream */
    bool killed, retired; /* by us */
    const char *held;     /* what kept it from running when it was looked at last; NULL: nothing but itself */
    uint64_t progress, moved_ms, moved_cpu_ms; /* its counter, and when a look first saw that; its CPU time then */
    bool slept;           /* a look has seen it asleep since */
    char cause[160];      /* why it was killed */
    bool stale;         /* it said that its compiled file does not serve any more: */
    uint32_t opened;    /* the compilation that the file is of */
    pillion_error why;
    int status, term_signal;
    uint32_t first, next; /* numbers of its oldest request, and of its next one */
    char head[PIL_FRAME_HEADER_BYTES];
    size_t head_bytes; /* of head that have arrived */
    pil_frame_header header;
    char *payload; /* being filled; NULL while the header is incomplete */
    size_t payload_bytes;
} pil_seat;

pillion_status pil_seat_init(pil_seat *s, pil_pool *p, uint32_t index, pillion_error *err);
/* Its worker cannot serve, as seat->why says: the model's fault, or a reason to try again later. */
void pil_seat_fail(pil_seat *s);
void pil_seat_deinit(pil_seat *s); /* kills what is there without telling anybody; accepts a zeroed one */
/* Starts a process. A failure leaves the seat empty. */
pillion_status pil_seat_start(pil_seat *s, pillion_error *err);
void pil_seat_send(pil_seat *s, const pil_batch *b);
void pil_seat_abandon(pil_seat *s); /* its oldest request */
void pil_seat_retire(pil_seat *s);
/* Kills the process. Nothing that it has said or will say is read any more. */
void pil_seat_kill(pil_seat *s, const char *cause);
/* Tells the dispatcher how far the process is. */
void pil_seat_look(pil_seat *s);

/* ── The pool ───────────────────────────────────────────────────────────────────────────────────────────────── */

struct pil_pool {
    pil_loop *loop;
    pil_sched *sched;
    pil_pool_info info;
    pil_pool_fn on_change, on_stopped;
    void *ud, *stopped_ud;
    char *program, *directory, *file;
    pil_buf model; /* pillion_info as JSON, as the first worker told it; empty until then */
    pillion_precision precision;
    char **compiler_env, **worker_env;
    uint64_t tag_seed; /* random */
    pil_seat *seats;   /* [n_seats]: info.workers, and the express one if there is one */
    uint32_t n_seats;
    pil_compiler compiler;
    uint32_t compilations; /* that gave a file */
    uint64_t compiled_ms; /* when the last compilation ended; 0: the file was there already */
    bool served;          /* a worker has opened what it made */
    pil_oom oom;
    pil_ticket *tickets;
    pil_timer *tick, *soon, *stop;
    uint64_t looked_ms; /* when the pages of workers were looked at */
    bool started; /* the dispatcher may start workers */
    bool turning, stopping;
};

/* Tells the dispatcher the time: before every event. */
void pil_pool_wake(pil_pool *p);
/* After events: carries out what the dispatcher wants, and hands out what is finished. */
void pil_pool_turn(pil_pool *p);
/* The model cannot be served, whoever starts: for ever. */
void pil_pool_fail(pil_pool *p, pillion_status status, const char *text);
/* Has the model compiled again for the seats that wait, because a worker found wanting what compilation number `opened`
 * had made; a newer file is used as it is. The old one is removed, because what is wrong with it may be where opening
 * does not look: in the weights. False when one was made just now and nobody could use it, or it cannot be removed. */
bool pil_pool_recompile(pil_pool *p, uint32_t opened);
void pil_pool_compiled(pil_pool *p, bool progress); /* the compiler has ended, or only got on */
void pil_pool_check_stopped(pil_pool *p);

#endif
