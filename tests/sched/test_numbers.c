/* test_numbers.c - wrong numbers never leave: items that are not finite, and canaries. */
#include "sched/world.h"

static void a_vector_that_is_not_finite_is_computed_again_alone_elsewhere(void **state) {
    world *w = *state;
    up(w, 0);
    up(w, 1);
    pil_job *j = submit(w, 0, 20, NULL);
    uint32_t bad = next(w)->slot;
    assert_non_null(next(w));
    answer(w, !bad);
    answer_with(w, bad, 3);
    const pil_batch *b = next(w);
    assert_int_equal(b->slot, !bad);
    assert_int_equal(b->n, 1);
    answer(w, !bad);
    for (size_t i = 0; i < 20; i++) {
        assert_int_equal(pil_job_item(j, i)->status, PILLION_OK);
        assert_true(pil_job_item(j, i)->values[0] == (float)i);
    }
    assert_finished(w, j, PIL_JOB_ANSWERED);
    assert_int_equal(measure(w).numeric_retries, 1);
}

static void a_batch_that_is_not_finite_at_all_is_computed_again_text_by_text(void **state) {
    world *w = *state;
    up(w, 0);
    up(w, 1);
    pil_job *j = submit(w, 0, 8, NULL);
    uint32_t bad = next(w)->slot;
    uint32_t n = (uint32_t)answer_with(w, bad, ALL_ITEMS);
    for (uint32_t left = 8; left > 0;) {
        const pil_batch *b = next(w);
        assert_non_null(b);
        bool again = w->sent[b->slot][0][0] < w->inputs + n;
        if (again) assert_true(b->n == 1 && b->slot != bad);
        left -= (uint32_t)answer(w, b->slot);
    }
    assert_finished(w, j, PIL_JOB_ANSWERED);
    assert_int_equal(measure(w).numeric_retries, n);
    act_all(w);
    assert_int_equal(w->slot[bad].retired, n >= 3);
}

static void twice_not_finite_is_the_text_s_own_error(void **state) {
    world *w = *state;
    up(w, 0);
    up(w, 1);
    pil_job *j = submit(w, 0, 1, NULL);
    uint32_t first = next(w)->slot;
    answer_with(w, first, 0);
    assert_int_equal(next(w)->slot, !first);
    answer_with(w, !first, 0);
    assert_int_equal(pil_job_item(j, 0)->status, PILLION_E_NUMERIC);
    assert_finished(w, j, PIL_JOB_ANSWERED);
}

static void with_one_worker_alone_it_is_that_one_that_computes_again(void **state) {
    world *w = *state;
    up(w, 0);
    pil_job *j = submit(w, 0, 1, NULL);
    assert_non_null(next(w));
    answer_with(w, 0, 0);
    assert_non_null(next(w));
    answer(w, 0);
    assert_int_equal(pil_job_item(j, 0)->status, PILLION_OK);
    assert_finished(w, j, PIL_JOB_ANSWERED);
}

static void the_express_worker_computes_for_a_bulk_one(void **state) {
    world *w = *state;
    up(w, 0);
    up(w, 1);
    pil_job *j = submit(w, 0, 30, NULL); /* long: not the express worker's usual work */
    const pil_batch *b = next(w);
    assert_int_equal(b->slot, 0);
    answer_with(w, 0, 5);
    b = next(w);
    assert_int_equal(b->slot, 1);
    assert_int_equal(b->n, 1);
    answer(w, 1);
    assert_finished(w, j, PIL_JOB_ANSWERED);
}

static void a_worker_that_a_long_text_avoids_goes_on_with_short_ones(void **state) {
    world *w = *state;
    w->opt.depth = 1;
    w->inputs[0].text_bytes = w->inputs[1].text_bytes = 1000; /* no short jobs */
    world_open(w);
    for (uint32_t i = 0; i < 3; i++) up(w, i);
    submit(w, 0, 1, NULL);
    assert_int_equal(next(w)->slot, 0);
    submit(w, 1, 1, NULL);
    assert_int_equal(next(w)->slot, 1);
    submit(w, 2, 1, NULL);
    assert_int_equal(next(w)->slot, 2);
    answer_with(w, 1, 0);
    assert_null(next(w)); /* it waits for another worker */
    for (size_t i = 3; i < 6; i++) {
        submit(w, i, 1, NULL);
        const pil_batch *b = next(w);
        assert_non_null(b);
        assert_true(b->slot == 1 && batch_has(w, b, i));
        answer(w, 1);
    }
}

static void a_worker_that_is_wrong_three_times_is_replaced(void **state) {
    world *w = *state;
    up(w, 0);
    up(w, 1);
    uint32_t bad = 0;
    for (int i = 0; i < 3; i++) {
        pil_job *j = submit(w, 0, 1, NULL);
        const pil_batch *b = next(w);
        if (b->slot != bad) { /* keep the other one busy with this, so that the next goes to the bad one */
            submit(w, 1, 1, NULL);
            assert_int_equal(next(w)->slot, bad);
            answer_with(w, bad, 0);
            answer(w, !bad);
            assert_int_equal(next(w)->slot, !bad);
            answer(w, !bad);
        } else {
            answer_with(w, bad, 0);
            assert_int_equal(next(w)->slot, !bad);
            answer(w, !bad);
        }
        (void)j;
        for (pil_job *done; (done = pil_sched_finished(w->s));) pil_job_destroy(done);
    }
    act_all(w);
    assert_int_equal(w->slot[bad].retired, 1);
    assert_string_equal(w->slot[bad].why, "wrong numbers");
    assert_int_equal(w->slot[!bad].retired, 0);
    end(w, bad, PIL_END_EXIT);
    assert_int_equal(measure(w).deaths, 0);
    up_again(w, bad);
}

static void a_vector_that_is_not_finite_has_the_worker_s_canary_looked_at(void **state) {
    world *w = *state;
    up(w, 0);
    up(w, 1);
    submit(w, 0, 1, NULL);
    uint32_t bad = next(w)->slot;
    w->slot[bad].canary = 7;
    answer_with(w, bad, 0);
    assert_non_null(next(w)); /* the canary went first, was wrong, and the text is with the other one */
    assert_int_equal(w->slot[bad].killed, 1);
    assert_string_equal(w->slot[bad].why, "canary failed");
    assert_int_equal(measure(w).canary_failures, 1);
}

static void no_text_is_sent_to_a_worker_that_starts_with_another_canary(void **state) {
    world *w = *state;
    up(w, 0);
    up(w, 1);
    end(w, 1, PIL_END_OUTSIDE);
    w->slot[1].canary = 7;
    up_again(w, 1);
    pil_job *j = submit(w, 0, 300, NULL);
    act_all(w);
    assert_null(pil_sched_oldest(w->s, 1));
    assert_int_equal(w->slot[1].killed, 1);
    assert_string_equal(w->slot[1].why, "canary failed");
    assert_int_equal(measure(w).workers_ready, 1);
    pil_sched_cancel(w->s, j);
}

static void a_canary_is_sent_every_minute(void **state) {
    world *w = *state;
    up(w, 0);
    for (int i = 0; i < 3; i++) {
        assert_int_equal(pil_sched_next_ms(w->s), w->now + 60000);
        advance(w, 59999);
        pil_action a;
        assert_false(act(w, &a));
        advance(w, 1);
        assert_true(act(w, &a) && a.kind == PIL_ACTION_SEND && is_canary(w, a.batch));
        answer(w, 0);
    }
}

static void a_bit_that_flips_is_found_by_the_next_canary(void **state) {
    world *w = *state;
    up(w, 0);
    up(w, 1);
    w->slot[1].canary = -0.0f; /* equal, but not the same bits */
    advance(w, 60000);
    act_all(w);
    answer(w, 0);
    answer(w, 1);
    act_all(w);
    assert_int_equal(w->slot[0].killed, 0);
    assert_int_equal(w->slot[1].killed, 1);
    end(w, 1, PIL_END_OUTSIDE);
    assert_int_equal(measure(w).canary_failures, 1);
    assert_int_equal(measure(w).workers_ready, 1);
}

static void a_canary_without_a_vector_fails(void **state) {
    world *w = *state;
    up(w, 0);
    up(w, 1);
    advance(w, 60000);
    act_all(w);
    answer_with(w, 0, 0);
    act_all(w);
    assert_int_equal(w->slot[0].killed, 1);
    refuse(w, 1, PILLION_E_NOMEM);
    act_all(w);
    assert_int_equal(w->slot[1].killed, 1);
    assert_int_equal(measure(w).canary_failures, 2);
    assert_int_equal(measure(w).workers_ready, 0);
}

static void a_canary_that_could_not_be_sent_proves_nothing(void **state) {
    world *w = *state;
    up(w, 0);
    advance(w, 60000);
    pil_action a;
    do assert_true(act(w, &a));
    while (a.kind != PIL_ACTION_SEND);
    pil_sched_unsent(w->s, 0, PILLION_E_NOMEM);
    assert_int_equal(measure(w).workers_ready, 0);
    act_all(w);
    assert_int_equal(w->slot[0].killed, 1);
}

/* One worker's word against another's: neither is believed. */
static void a_reference_that_one_worker_alone_gave_does_not_survive_a_contradiction(void **state) {
    world *w = *state;
    w->slot[0].canary = 9;
    up(w, 0);
    up(w, 1);
    act_all(w);
    assert_int_equal(w->slot[0].killed, 1);
    assert_int_equal(w->slot[1].killed, 1);
    end(w, 0, PIL_END_OUTSIDE);
    end(w, 1, PIL_END_OUTSIDE);
    w->slot[0].canary = 0;
    advance(w, 1000);
    w->slot[0].spawned = w->slot[1].spawned = 0;
    up(w, 0);
    up(w, 1);
    assert_int_equal(measure(w).workers_ready, 2);
    end(w, 0, PIL_END_CRASH); /* from now on two have confirmed it */
    w->slot[0].canary = 9;
    advance(w, 1000);
    up_again(w, 0);
    act_all(w);
    assert_int_equal(w->slot[0].killed, 2);
    assert_int_equal(w->slot[1].killed, 1);
}

static void what_a_worker_says_after_a_failed_canary_is_not_believed(void **state) {
    world *w = *state;
    up(w, 0);
    up(w, 1);
    advance(w, 60000);
    w->slot[0].canary = 3;
    pil_job *j = submit(w, 0, 300, NULL);
    act_all(w); /* the canaries, and behind each a batch */
    answer(w, 0);
    act_all(w);
    assert_int_equal(w->slot[0].killed, 1);
    assert_int_equal(measure(w).texts_waiting, 198);
    answer(w, 0);
    assert_int_equal(measure(w).texts_waiting, 249); /* 51 have come back */
    end(w, 0, PIL_END_OUTSIDE);
    for (answer(w, 1); pil_sched_oldest(w->s, 1); act_all(w)) answer(w, 1);
    for (size_t i = 0; i < 300; i++) assert_int_equal(pil_job_item(j, i)->status, PILLION_OK);
    assert_finished(w, j, PIL_JOB_ANSWERED);
}

int main(void) {
#define T(name) cmocka_unit_test_setup_teardown(name, two_workers, world_destroy)
#define T1(name) cmocka_unit_test_setup_teardown(name, one_worker, world_destroy)
    const struct CMUnitTest tests[] = {
        T(a_vector_that_is_not_finite_is_computed_again_alone_elsewhere),
        T(a_batch_that_is_not_finite_at_all_is_computed_again_text_by_text),
        T(twice_not_finite_is_the_text_s_own_error),
        T1(with_one_worker_alone_it_is_that_one_that_computes_again),
        cmocka_unit_test_setup_teardown(the_express_worker_computes_for_a_bulk_one, one_and_express, world_destroy),
        cmocka_unit_test_setup_teardown(a_worker_that_a_long_text_avoids_goes_on_with_short_ones, two_and_express,
                                        world_destroy),
        T(a_worker_that_is_wrong_three_times_is_replaced),
        T(a_vector_that_is_not_finite_has_the_worker_s_canary_looked_at),
        T(no_text_is_sent_to_a_worker_that_starts_with_another_canary),
        T1(a_canary_is_sent_every_minute),
        T(a_bit_that_flips_is_found_by_the_next_canary),
        T(a_canary_without_a_vector_fails),
        T(a_canary_that_could_not_be_sent_proves_nothing),
        T(a_reference_that_one_worker_alone_gave_does_not_survive_a_contradiction),
        T(what_a_worker_says_after_a_failed_canary_is_not_believed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
