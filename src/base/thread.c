/* thread.c - a team of threads that runs one function over a range of tasks.
 *
 * Flow:       run() publishes fn under the lock and wakes the sleepers; everyone draws task numbers from one atomic
 *             counter; the last helper to finish wakes the caller.
 * Invariants: (1) helpers touch fn, ud and n_tasks only between `generation` changing and n_busy reaching 0.
 *             (2) run() returns only when n_busy is 0. Tests: tests/base/test_thread.c. */
#include "base/thread.h"

#include <math.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
#ifdef __linux__
#include <sched.h>
#endif

#include "base/err.h"

struct pil_team {
    unsigned n_threads;
    pthread_t *helpers; /* [n_threads - 1] */
    pthread_mutex_t lock;
    pthread_cond_t wake, done;
    unsigned long generation;
    unsigned n_busy, n_started;
    bool stop;
    pil_team_fn fn;
    void *ud;
    size_t n_tasks;
    atomic_size_t next;
};

static void drain(pil_team *t, unsigned thread) {
    for (size_t i; (i = atomic_fetch_add(&t->next, 1)) < t->n_tasks;) t->fn(i, thread, t->ud);
}

static void *helper(void *arg) {
    pil_team *t = arg;
    pthread_mutex_lock(&t->lock);
    unsigned thread = ++t->n_started;
    unsigned long seen = 0;
    for (;;) {
        while (!t->stop && t->generation == seen) pthread_cond_wait(&t->wake, &t->lock);
        if (t->stop) break;
        seen = t->generation;
        pthread_mutex_unlock(&t->lock);
        drain(t, thread);
        pthread_mutex_lock(&t->lock);
        if (--t->n_busy == 0) pthread_cond_signal(&t->done);
    }
    pthread_mutex_unlock(&t->lock);
    return NULL;
}

pillion_status pil_team_create(pil_team **out, unsigned n_threads, pillion_error *err) {
    *out = NULL;
    pil_team *t = calloc(1, sizeof *t);
    if (!t) return pil_err_no_memory(err);
    pthread_mutex_init(&t->lock, NULL);
    pthread_cond_init(&t->wake, NULL);
    pthread_cond_init(&t->done, NULL);
    t->n_threads = 1;
    t->helpers = calloc(n_threads, sizeof *t->helpers);
    pillion_status st = t->helpers ? PILLION_OK : pil_err_no_memory(err);
    for (unsigned i = 0; !st && i + 1 < n_threads; i++) {
        if (pthread_create(&t->helpers[i], NULL, helper, t) != 0)
            st = pil_err_set(err, PILLION_E_NOMEM, "cannot start thread %u of %u", i + 2, n_threads);
        else t->n_threads++;
    }
    if (st) {
        pil_team_destroy(t);
        return st;
    }
    *out = t;
    return PILLION_OK;
}

void pil_team_destroy(pil_team *t) {
    if (!t) return;
    pthread_mutex_lock(&t->lock);
    t->stop = true;
    pthread_cond_broadcast(&t->wake);
    pthread_mutex_unlock(&t->lock);
    for (unsigned i = 0; i + 1 < t->n_threads; i++) pthread_join(t->helpers[i], NULL);
    pthread_cond_destroy(&t->wake);
    pthread_cond_destroy(&t->done);
    pthread_mutex_destroy(&t->lock);
    free(t->helpers);
    free(t);
}

void pil_team_run(pil_team *t, size_t n_tasks, pil_team_fn fn, void *ud) {
    if (t->n_threads == 1 || n_tasks <= 1) {
        for (size_t i = 0; i < n_tasks; i++) fn(i, 0, ud);
        return;
    }
    pthread_mutex_lock(&t->lock);
    t->fn = fn;
    t->ud = ud;
    t->n_tasks = n_tasks;
    atomic_store(&t->next, 0);
    t->n_busy = t->n_threads - 1;
    t->generation++;
    pthread_cond_broadcast(&t->wake);
    pthread_mutex_unlock(&t->lock);
    drain(t, 0);
    pthread_mutex_lock(&t->lock);
    while (t->n_busy) pthread_cond_wait(&t->done, &t->lock);
    pthread_mutex_unlock(&t->lock);
}

double pil_thread_quota(void) {
    double quota = 0, period = 0;
    FILE *f = fopen("/sys/fs/cgroup/cpu.max", "re");
    if (f) {
        if (fscanf(f, "%lf %lf", &quota, &period) != 2) quota = 0; /* "max 100000" is no quota */
        fclose(f);
    }
    return quota > 0 && period > 0 ? quota / period : 0;
}

unsigned pil_thread_cores(void) {
    long n = sysconf(_SC_NPROCESSORS_ONLN);
#ifdef __linux__
    cpu_set_t set;
    if (sched_getaffinity(0, sizeof set, &set) == 0) n = CPU_COUNT(&set);
#endif
    unsigned cores = n > 0 ? (unsigned)n : 1;
    double quota = pil_thread_quota();
    return quota > 0 && quota < cores ? (unsigned)ceil(quota) : cores;
}
