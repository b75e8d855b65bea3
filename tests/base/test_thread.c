/* test_thread.c - a team does every task exactly once, on its own threads, run after run. */
#include <stdatomic.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/thread.h"
#include "support/test.h"

#define TASKS_MAX 5000
#define THREADS_MAX 16

typedef struct work {
    atomic_int done[TASKS_MAX];
    atomic_int busy[THREADS_MAX]; /* how many tasks each thread is in: never two */
    atomic_int wrong;
    unsigned n_threads;
    long plain; /* written by task 0 only: must be visible after the run */
} work;

static void task(size_t i, unsigned thread, void *ud) {
    work *w = ud;
    if (thread >= w->n_threads || atomic_fetch_add(&w->busy[thread], 1) != 0) atomic_fetch_add(&w->wrong, 1);
    atomic_fetch_add(&w->done[i], 1);
    if (i == 0) w->plain++;
    if (thread < THREADS_MAX) atomic_fetch_sub(&w->busy[thread], 1);
}

static void every_task_is_done_once_whatever_the_counts(void **state) {
    (void)state;
    static const size_t counts[] = {0, 1, 2, 3, 15, 16, 17, 1000, TASKS_MAX};
    static const unsigned teams[] = {1, 2, 3, 8, THREADS_MAX};
    for (size_t t = 0; t < sizeof teams / sizeof *teams; t++) {
        pil_team *team;
        pillion_error err = {0};
        assert_ok(pil_team_create(&team, teams[t], &err), err);
        for (size_t c = 0; c < sizeof counts / sizeof *counts; c++) {
            work *w = calloc(1, sizeof *w);
            w->n_threads = teams[t];
            pil_team_run(team, counts[c], task, w);
            for (size_t i = 0; i < TASKS_MAX; i++) assert_int_equal(w->done[i], i < counts[c]);
            assert_int_equal(w->wrong, 0);
            assert_int_equal(w->plain, counts[c] > 0);
            free(w);
        }
        pil_team_destroy(team);
    }
    pil_team_destroy(NULL);
}

static void thousands_of_short_runs_lose_nothing(void **state) {
    (void)state;
    pil_team *team;
    pillion_error err = {0};
    work *w = calloc(1, sizeof *w);
    w->n_threads = 4;
    assert_ok(pil_team_create(&team, 4, &err), err);
    for (int run = 1; run <= 3000; run++) {
        pil_team_run(team, 5, task, w);
        for (size_t i = 0; i < 5; i++) assert_int_equal(w->done[i], run);
        assert_int_equal(w->plain, run);
    }
    assert_int_equal(w->wrong, 0);
    pil_team_destroy(team);
    free(w);
}

static void slow_task(size_t i, unsigned thread, void *ud) {
    usleep(thread ? 20000 : 1000); /* the calling thread is done long before its helpers */
    task(i, thread, ud);
}

static void a_run_ends_only_when_the_slowest_task_has(void **state) {
    (void)state;
    pil_team *team;
    pillion_error err = {0};
    work *w = calloc(1, sizeof *w);
    w->n_threads = 4;
    assert_ok(pil_team_create(&team, 4, &err), err);
    for (int run = 1; run <= 10; run++) {
        pil_team_run(team, 12, slow_task, w);
        for (size_t i = 0; i < 12; i++) assert_int_equal(w->done[i], run);
    }
    pil_team_destroy(team);
    free(w);
}

static void a_team_that_never_ran_ends_and_the_machine_has_cores(void **state) {
    (void)state;
    pil_team *team;
    pillion_error err = {0};
    assert_ok(pil_team_create(&team, 8, &err), err);
    pil_team_destroy(team);
    unsigned cores = pil_thread_cores();
    assert_true(cores >= 1 && cores <= (unsigned)sysconf(_SC_NPROCESSORS_CONF));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_task_is_done_once_whatever_the_counts),
        cmocka_unit_test(thousands_of_short_runs_lose_nothing),
        cmocka_unit_test(a_run_ends_only_when_the_slowest_task_has),
        cmocka_unit_test(a_team_that_never_ran_ends_and_the_machine_has_cores),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
