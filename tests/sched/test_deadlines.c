/* test_deadlines.c - no job lasts for ever: hold, progress, total; and what is given up with it. */
#include "sched/world.h"

static void jobs_wait_for_a_worker_only_so_long(void **state) {
    world *w = *state;
    pil_job *j = submit(w, 0, 2, NULL);
    wait_ms(w, PIL_LIMIT_HOLD_MS - 1);
    assert_null(pil_sched_finished(w->s));
    advance(w, 1);
    assert_int_equal(pil_job_item(j, 0)->status, PILLION_E_UNAVAILABLE);
    assert_finished(w, j, PIL_JOB_EXPIRED);
    up(w, 0);
    j = submit(w, 0, 2, NULL);
    wait_ms(w, PIL_LIMIT_HOLD_MS); /* with a worker there is no such limit */
    assert_null(pil_sched_finished(w->s));
    end(w, 0, PIL_END_OUTSIDE);
    wait_ms(w, PIL_LIMIT_HOLD_MS - 1);
    assert_null(pil_sched_finished(w->s));
    advance(w, 1);
    assert_finished(w, j, PIL_JOB_EXPIRED);
}

/* Workers that come and go without ever being ready are no reason to wait longer. */
static void starts_that_fail_do_not_prolong_the_wait(void **state) {
    world *w = *state;
    pil_job *j = submit(w, 0, 2, NULL);
    for (uint64_t begin = w->now; w->now < begin + PIL_LIMIT_HOLD_MS - 100;) {
        act_all(w);
        end(w, 0, PIL_END_OUTSIDE);
        advance(w, 100);
        assert_null(pil_sched_finished(w->s));
    }
    advance(w, 100);
    assert_finished(w, j, PIL_JOB_EXPIRED);
}

/* A worker that is slow but gets on: what it has done stays, the rest is too late. */
static void a_job_without_progress_keeps_what_it_has(void **state) {
    world *w = *state;
    up(w, 0);
    pil_job *j = submit(w, 0, 60, NULL);
    assert_int_equal(next(w)->n, 51);
    for (unsigned i = 0; i < 50; i++) {
        pil_sched_progress(w->s, 0, i, 0);
        advance(w, 1000);
    }
    answer(w, 0);
    assert_int_equal(next(w)->n, 9);
    for (unsigned i = 50; i < 109; i++) {
        pil_sched_progress(w->s, 0, i, 0);
        advance(w, 1000);
    }
    assert_null(pil_sched_finished(w->s));
    pil_sched_progress(w->s, 0, 109, 0);
    advance(w, 1000);
    for (size_t i = 0; i < 60; i++)
        assert_int_equal(pil_job_item(j, i)->status, i < 51 ? PILLION_OK : PILLION_E_DEADLINE);
    assert_true(pil_job_item(j, 50)->values[0] == 50.0f);
    assert_finished(w, j, PIL_JOB_ANSWERED);
    act_all(w);
    assert_int_equal(w->slot[0].abandoned, 1);
    refuse(w, 0, PILLION_E_CANCELLED);
    assert_int_equal(measure(w).texts_expired, 9);
    assert_int_equal(measure(w).deaths, 0);
}

static void no_job_lasts_longer_than_ten_minutes(void **state) {
    world *w = *state;
    up(w, 0);
    pil_job *j = submit(w, 0, 300, NULL);
    for (unsigned i = 0; measure(w).jobs; i++) { /* a batch in two minutes */
        if (i % 50 == 49) answer(w, 0);
        act_all(w);
        pil_sched_progress(w->s, 0, i, 0);
        w->n_sent[0] = w->n_sent[0] > 1 ? 1 : w->n_sent[0];
        advance(w, 1000);
        assert_true(i < 601);
    }
    assert_finished(w, j, PIL_JOB_ANSWERED);
}

static void a_job_that_waits_behind_others_has_a_deadline_too(void **state) {
    world *w = *state;
    up(w, 0);
    for (int i = 0; i < 2; i++) submit(w, 0, 51, NULL);
    act_all(w);
    pil_job *late = submit(w, 51, 1, NULL);
    for (unsigned i = 0; i < 60; i++) {
        pil_sched_progress(w->s, 0, i, 0);
        assert_true(measure(w).jobs == 3);
        advance(w, 1000);
    }
    for (pil_job *j; (j = pil_sched_finished(w->s));) {
        if (j == late) assert_int_equal(pil_job_item(j, 0)->status, PILLION_E_DEADLINE);
        pil_job_destroy(j);
    }
    assert_int_equal(measure(w).jobs, 0);
    assert_int_equal(measure(w).tokens_waiting, 0);
}

static void a_batch_shared_with_a_living_job_is_not_abandoned_at_a_deadline(void **state) {
    world *w = *state;
    up(w, 0);
    pil_job *a = submit(w, 0, 2, NULL);
    assert_non_null(next(w)); /* a alone */
    for (unsigned i = 0; i < 30; i++) {
        pil_sched_progress(w->s, 0, i, 0);
        advance(w, 1000);
    }
    end(w, 0, PIL_END_OUTSIDE);
    pil_job *b = submit(w, 2, 2, NULL);
    up_again(w, 0);
    assert_int_equal(next(w)->n, 2); /* what comes back goes first */
    for (unsigned i = 30; i < 60; i++) {
        pil_sched_progress(w->s, 0, i, 0);
        advance(w, 1000);
    }
    assert_finished(w, a, PIL_JOB_ANSWERED);
    act_all(w);
    assert_int_equal(w->slot[0].abandoned, 1);
    answer(w, 0);
    assert_int_equal(next(w)->n, 2);
    answer(w, 0);
    assert_int_equal(pil_job_item(b, 0)->status, PILLION_OK);
    assert_finished(w, b, PIL_JOB_ANSWERED);
}

static void the_next_time_is_never_in_the_past(void **state) {
    world *w = *state;
    submit(w, 0, 60, NULL);
    act_all(w);
    for (int i = 0; i < 200; i++) {
        uint64_t next_ms = pil_sched_next_ms(w->s);
        assert_true(next_ms > w->now);
        advance(w, next_ms - w->now);
        act_all(w);
        for (pil_job *j; (j = pil_sched_finished(w->s));) pil_job_destroy(j);
        if (w->slot[0].killed) { /* it is never ready */
            w->slot[0].killed = 0;
            end(w, 0, PIL_END_OUTSIDE);
            act_all(w);
        }
    }
}

int main(void) {
#define T(name) cmocka_unit_test_setup_teardown(name, one_worker, world_destroy)
    const struct CMUnitTest tests[] = {
        T(jobs_wait_for_a_worker_only_so_long),
        T(starts_that_fail_do_not_prolong_the_wait),
        T(a_job_without_progress_keeps_what_it_has),
        T(no_job_lasts_longer_than_ten_minutes),
        T(a_job_that_waits_behind_others_has_a_deadline_too),
        T(a_batch_shared_with_a_living_job_is_not_abandoned_at_a_deadline),
        T(the_next_time_is_never_in_the_past),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
