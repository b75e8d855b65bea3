/* thread.h - a team of threads that runs one function over a range of tasks. */
#ifndef PIL_BASE_THREAD_H
#define PIL_BASE_THREAD_H

#include <stddef.h>

#include "pillion/pillion.h"

typedef struct pil_team pil_team;

/* Does task number `task` of the current run on thread number `thread` (0 is the calling thread). */
typedef void (*pil_team_fn)(size_t task, unsigned thread, void *ud);

/* n_threads >= 1, the calling thread included: n_threads - 1 threads are started and sleep until a run. */
pillion_status pil_team_create(pil_team **out, unsigned n_threads, pillion_error *err);
void pil_team_destroy(pil_team *t); /* accepts NULL */

/* Runs fn for every task in [0, n_tasks), each exactly once, tasks handed out in order; returns when all are done.
 * Everything done in tasks happens before the return. */
void pil_team_run(pil_team *t, size_t n_tasks, pil_team_fn fn, void *ud);

/* Cores, or parts of them, that the quota of our cgroup (version 2) allows; 0 when there is none. */
double pil_thread_quota(void);
/* Cores this process may run on (its affinity mask and that quota, rounded up), at least 1. */
unsigned pil_thread_cores(void);

#endif
