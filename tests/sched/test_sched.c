/* test_sched.c - the queue: order, batches, what comes back from workers, cancelling, admission. */
#include "sched/world.h"

static void nothing_is_handed_out_before_a_worker_is_ready(void **state) {
    world *w = *state;
    submit(w, 0, 3, NULL);
    assert_null(next(w));
    assert_int_equal(w->slot[0].spawned + w->slot[1].spawned, 2);
    up(w, 1);
    const pil_batch *b = next(w);
    assert_non_null(b);
    assert_int_equal(b->slot, 1);
    assert_int_equal(b->n, 3);
    assert_int_equal(b->op, PILLION_OP_EMBED);
}

static void nobody_is_started_before_the_model_is_there(void **state) {
    world *w = *state;
    pil_sched_destroy(w->s);
    assert_int_equal(pil_sched_create(&w->s, &w->opt, NULL), PILLION_OK);
    pil_sched_advance(w->s, w->now);
    submit(w, 0, 1, NULL);
    pil_action a;
    assert_false(pil_sched_next_action(w->s, &a));
    pil_sched_start(w->s);
    assert_true(pil_sched_next_action(w->s, &a));
    assert_int_equal(a.kind, PIL_ACTION_SPAWN);
}

static void a_job_finishes_when_every_text_is_answered(void **state) {
    world *w = *state;
    up(w, 0);
    pil_job *j = submit(w, 0, 100, w);
    size_t done = 0;
    while (next(w)) {
        assert_null(pil_sched_finished(w->s));
        done += answer(w, 0);
    }
    while (pil_sched_oldest(w->s, 0)) done += answer(w, 0);
    assert_int_equal(done, 100);
    assert_ptr_equal(pil_job_ud(j), w);
    assert_int_equal(pil_job_count(j), 100);
    for (size_t i = 0; i < 100; i++) assert_true(pil_job_item(j, i)->values[0] == (float)i);
    assert_finished(w, j, PIL_JOB_ANSWERED);
    assert_null(pil_sched_finished(w->s));
}

static void batches_are_cut_by_estimated_tokens(void **state) {
    world *w = *state;
    up(w, 0);
    submit(w, 0, 60, NULL);
    const pil_batch *b = next(w);
    assert_int_equal(b->n, 51); /* 51 * 10 <= 512 */
    assert_int_equal(b->tokens, 510);
    answer(w, 0);
    assert_int_equal(next(w)->n, 9);
}

static void a_text_over_the_budget_runs_alone(void **state) {
    world *w = *state;
    up(w, 0);
    w->inputs[1].text_bytes = sizeof w->bytes[1];
    submit(w, 0, 3, NULL);
    for (int i = 0; i < 3; i++) {
        assert_int_equal(next(w)->n, 1);
        while (pil_sched_oldest(w->s, 0)) answer(w, 0);
    }
}

static void the_estimate_stops_at_the_model_s_limit(void **state) {
    world *w = *state;
    for (size_t i = 0; i < 4; i++) w->inputs[i].text_bytes = sizeof w->bytes[i];
    submit(w, 0, 2, NULL); /* before the limit is known */
    pil_sched_set_model(w->s, "abc", 128);
    submit(w, 2, 2, NULL);
    assert_int_equal(measure(w).tokens_waiting, 512);
    up(w, 0);
    const pil_batch *b = next(w);
    assert_int_equal(b->n, 4);
    assert_int_equal(b->tokens, 512);
    answer(w, 0);
    for (pil_job *j; (j = pil_sched_finished(w->s));) pil_job_destroy(j);
    assert_int_equal(measure(w).jobs, 0);
}

static void a_small_job_is_shared_by_idle_workers(void **state) {
    world *w = *state;
    up(w, 0);
    up(w, 1);
    submit(w, 0, 20, NULL);
    const pil_batch *a = next(w), *b = next(w);
    assert_int_equal(a->n, 10);
    assert_int_equal(b->n, 10);
    assert_int_not_equal(a->slot, b->slot);
    assert_null(next(w));
}

static void a_busy_worker_gets_a_second_batch_only_when_plenty_waits(void **state) {
    world *w = *state;
    up(w, 0);
    submit(w, 0, 60, NULL);
    assert_non_null(next(w));
    assert_null(next(w)); /* 90 tokens wait */
    submit(w, 60, 60, NULL);
    assert_non_null(next(w));
    assert_null(next(w)); /* depth 2 */
    answer(w, 0);
    answer(w, 0);
}

static void small_jobs_share_a_batch(void **state) {
    world *w = *state;
    up(w, 0);
    pil_job *jobs[5];
    for (size_t i = 0; i < 5; i++) jobs[i] = submit(w, i, 1, NULL);
    const pil_batch *b = next(w);
    assert_int_equal(b->n, 5);
    for (size_t i = 0; i < 5; i++) assert_int_equal(input_index(w, b, i), i);
    answer(w, 0);
    for (size_t i = 0; i < 5; i++) assert_finished(w, jobs[i], PIL_JOB_ANSWERED);
}

static void jobs_with_other_options_do_not_share_a_batch(void **state) {
    world *w = *state;
    up(w, 0);
    submit(w, 0, 1, NULL);
    w->options.normalize = PILLION_NORMALIZE_MODEL;
    submit(w, 1, 1, NULL);
    w->options.prompt_name = "query";
    submit(w, 2, 1, NULL);
    char same[] = "query";
    w->options.prompt_name = same;
    submit(w, 3, 1, NULL);
    assert_int_equal(next(w)->n, 1);
    answer(w, 0);
    const pil_batch *b = next(w);
    assert_int_equal(b->n, 1);
    assert_int_equal(b->options.normalize, PILLION_NORMALIZE_MODEL);
    answer(w, 0);
    b = next(w);
    assert_int_equal(b->n, 2);
    assert_string_equal(b->options.prompt_name, "query");
}

static void texts_of_a_lost_worker_run_again_in_order(void **state) {
    world *w = *state;
    up(w, 0);
    pil_job *j = submit(w, 0, 120, NULL);
    assert_int_equal(next(w)->n, 51);
    assert_int_equal(next(w)->n, 51);
    end(w, 0, PIL_END_OUTSIDE);
    assert_null(pil_sched_oldest(w->s, 0));
    assert_null(next(w));
    up(w, 1);
    const pil_batch *b = next(w);
    assert_int_equal(b->n, 51);
    for (size_t i = 0; i < b->n; i++) assert_int_equal(input_index(w, b, i), i);
    do
        while (pil_sched_oldest(w->s, 1)) answer(w, 1);
    while (next(w));
    for (size_t i = 0; i < 120; i++) assert_true(pil_job_item(j, i)->values[0] == (float)i);
    assert_finished(w, j, PIL_JOB_ANSWERED);
}

static void a_batch_refused_for_its_options_gives_its_texts_the_status(void **state) {
    world *w = *state;
    pil_job *j = submit(w, 0, 2, NULL);
    up(w, 0);
    assert_non_null(next(w));
    refuse(w, 0, PILLION_E_ARG);
    assert_int_equal(pil_job_item(j, 1)->status, PILLION_E_ARG);
    assert_finished(w, j, PIL_JOB_ANSWERED);
}

static void a_batch_refused_for_want_of_memory_is_tried_text_by_text(void **state) {
    world *w = *state;
    pil_job *j = submit(w, 0, 3, NULL);
    up(w, 0);
    assert_int_equal(next(w)->n, 3);
    refuse(w, 0, PILLION_E_NOMEM);
    for (size_t i = 0; i < 3; i++) {
        const pil_batch *b = next(w);
        assert_int_equal(b->n, 1);
        assert_int_equal(input_index(w, b, 0), i);
        if (i == 1) refuse(w, 0, PILLION_E_NOMEM);
        else answer(w, 0);
    }
    for (size_t i = 0; i < 3; i++)
        assert_int_equal(pil_job_item(j, i)->status, i == 1 ? PILLION_E_NOMEM : PILLION_OK);
    assert_finished(w, j, PIL_JOB_ANSWERED);
}

static void what_could_not_be_sent_is_the_newest_batch(void **state) {
    world *w = *state;
    up(w, 0);
    pil_job *j = submit(w, 0, 110, NULL);
    uint64_t first = next(w)->id;
    assert_int_equal(next(w)->n, 51);
    w->n_sent[0]--;
    pil_sched_unsent(w->s, 0, PILLION_E_NOMEM);
    assert_true(pil_sched_oldest(w->s, 0)->id == first);
    answer(w, 0);
    const pil_batch *b = next(w);
    assert_int_equal(b->n, 1); /* each alone now */
    assert_int_equal(input_index(w, b, 0), 51);
    pil_sched_cancel(w->s, j);
}

static void a_cancelled_job_leaves_no_trace(void **state) {
    world *w = *state;
    up(w, 0);
    pil_job *a = submit(w, 0, 1, NULL);
    pil_job *b = submit(w, 1, 1, NULL);
    pil_job *waiting = submit(w, 2, 300, NULL);
    assert_int_equal(next(w)->n, 51);
    pil_sched_cancel(w->s, a);
    pil_sched_cancel(w->s, waiting);
    pil_sched_load load = measure(w);
    assert_int_equal(load.jobs, 1);
    assert_int_equal(load.texts_waiting, 0);
    assert_int_equal(load.tokens_waiting, 0);
    assert_int_equal(load.bytes, 24);
    assert_null(next(w));
    assert_int_equal(w->slot[0].abandoned, 0); /* b is still in it */
    answer(w, 0);
    assert_finished(w, b, PIL_JOB_ANSWERED);
    assert_null(pil_sched_finished(w->s));
}

static void a_cancelled_job_is_not_run_again(void **state) {
    world *w = *state;
    up(w, 0);
    pil_job *a = submit(w, 0, 2, NULL);
    pil_job *b = submit(w, 2, 2, NULL);
    assert_int_equal(next(w)->n, 4);
    end(w, 0, PIL_END_OUTSIDE);
    pil_sched_cancel(w->s, a);
    up_again(w, 0);
    assert_int_equal(next(w)->n, 2);
    answer(w, 0);
    assert_finished(w, b, PIL_JOB_ANSWERED);
}

static void a_batch_that_nobody_waits_for_is_abandoned(void **state) {
    world *w = *state;
    up(w, 0);
    pil_job *a = submit(w, 0, 51, NULL), *b = submit(w, 100, 51, NULL), *c = submit(w, 200, 51, NULL);
    const pil_batch *first = next(w), *second = next(w);
    assert_true(first->n == 51 && second->n >= 50);
    pil_sched_cancel(w->s, b); /* its batch is the second one: its turn has not come */
    act_all(w);
    assert_int_equal(w->slot[0].abandoned, 0);
    pil_sched_cancel(w->s, a);
    act_all(w);
    assert_int_equal(w->slot[0].abandoned, 1);
    act_all(w);
    assert_int_equal(w->slot[0].abandoned, 1); /* once is enough */
    refuse(w, 0, PILLION_E_CANCELLED);
    const pil_batch *left = pil_sched_oldest(w->s, 0);
    assert_ptr_equal(left, second);
    pil_sched_cancel(w->s, c);
    act_all(w);
    assert_int_equal(w->slot[0].abandoned, 2);
    answer(w, 0); /* it was too quick for that */
    assert_int_equal(measure(w).batches_out, 0);
    assert_int_equal(measure(w).batches_abandoned, 2);
}

/* The flag of a worker may be seen when it has begun the next batch already. */
static void a_cancel_that_meets_the_wrong_batch_costs_only_time(void **state) {
    world *w = *state;
    up(w, 0);
    pil_job *a = submit(w, 0, 51, NULL), *b = submit(w, 100, 102, NULL);
    assert_non_null(next(w));
    assert_non_null(next(w));
    pil_sched_cancel(w->s, a);
    act_all(w);
    answer(w, 0);
    refuse(w, 0, PILLION_E_CANCELLED);
    do
        while (pil_sched_oldest(w->s, 0)) answer(w, 0);
    while (next(w));
    for (size_t i = 0; i < 102; i++) assert_int_equal(pil_job_item(b, i)->status, PILLION_OK);
    assert_finished(w, b, PIL_JOB_ANSWERED);
    assert_int_equal(w->slot[0].killed, 0);
}

static void a_worker_that_cancels_of_its_own_will_is_not_believed(void **state) {
    world *w = *state;
    up(w, 0);
    submit(w, 0, 2, NULL);
    assert_non_null(next(w));
    refuse(w, 0, PILLION_E_CANCELLED);
    act_all(w);
    assert_int_equal(w->slot[0].killed, 1);
}

static void a_text_that_every_worker_cancels_is_left_in_the_end(void **state) {
    world *w = *state;
    up(w, 0);
    pil_job *j = submit(w, 0, 1, NULL), *other;
    for (int i = 0; i < 3; i++) {
        assert_null(pil_sched_finished(w->s));
        assert_non_null(next(w));
        refuse(w, 0, PILLION_E_CANCELLED);
        act_all(w);
        end(w, 0, PIL_END_OUTSIDE);
        wait_ms(w, 2000);
        up_again(w, 0);
    }
    assert_int_equal(pil_job_item(j, 0)->status, PILLION_E_LOST);
    assert_finished(w, j, PIL_JOB_ANSWERED);
    other = submit(w, 1, 1, NULL);
    assert_non_null(next(w));
    answer(w, 0);
    assert_finished(w, other, PIL_JOB_ANSWERED);
}

static void statuses_that_are_not_a_worker_s_to_give_become_internal_errors(void **state) {
    world *w = *state;
    up(w, 0);
    pil_job *j = submit(w, 0, 2, NULL);
    assert_non_null(next(w));
    pil_answer *a = pil_answer_create(PIL_MIB);
    a->items = pil_arena_calloc(&a->arena, 2, sizeof *a->items);
    a->n = 2;
    a->items[0].status = PILLION_E_POISON;
    a->items[1].status = PILLION_E_TOO_LONG;
    pil_sched_answered(w->s, 0, a);
    pil_answer_release(a);
    assert_int_equal(pil_job_item(j, 0)->status, PILLION_E_INTERNAL);
    assert_int_equal(pil_job_item(j, 1)->status, PILLION_E_TOO_LONG);
    assert_int_equal(measure(w).quarantine, 0);
    assert_finished(w, j, PIL_JOB_ANSWERED);
}

static void giving_up_ends_everything_and_all_that_comes(void **state) {
    world *w = *state;
    pil_job *j = submit(w, 0, 2, NULL);
    pil_sched_give_up(w->s, "the model is broken");
    assert_int_equal(pil_job_item(j, 1)->status, PILLION_E_UNAVAILABLE);
    assert_finished(w, j, PIL_JOB_UNAVAILABLE);
    pillion_error err = {0};
    assert_int_equal(try_submit(w, 0, 2, &err), PILLION_E_UNAVAILABLE);
    assert_error(err, PILLION_E_UNAVAILABLE, "the model is broken");
    assert_string_equal(measure(w).reason, "the model is broken");
    assert_int_equal(measure(w).state, PIL_FLEET_OPEN);
}

/* A client may leave after its job has ended and before it hears of it. */
static void a_finished_job_may_be_cancelled(void **state) {
    world *w = *state;
    pil_job *a = submit(w, 0, 2, NULL), *b = submit(w, 2, 2, NULL);
    pil_sched_give_up(w->s, "no");
    pil_sched_cancel(w->s, a);
    assert_int_equal(measure(w).jobs, 0);
    assert_finished(w, b, PIL_JOB_UNAVAILABLE);
    assert_null(pil_sched_finished(w->s));
}

static void a_full_queue_refuses_and_says_so(void **state) {
    world *w = *state;
    w->opt.queue_tokens_max = 100;
    world_open(w);
    submit(w, 0, 9, NULL);
    submit(w, 0, 200, NULL); /* any size is admitted while the queue is below its limit */
    pillion_error err = {0};
    assert_int_equal(try_submit(w, 0, 1, &err), PILLION_E_LIMIT);
    assert_error(err, PILLION_E_LIMIT, "queue is full");
}

static void bytes_count_until_a_job_is_finished(void **state) {
    world *w = *state;
    w->opt.queue_bytes_max = 100;
    world_open(w);
    up(w, 0);
    pil_job *a = submit(w, 0, 4, NULL);
    submit(w, 4, 1, NULL);
    pillion_error err = {0};
    assert_int_equal(try_submit(w, 5, 1, &err), PILLION_E_LIMIT);
    assert_non_null(next(w)); /* with a worker they are still in memory */
    assert_int_equal(try_submit(w, 5, 1, &err), PILLION_E_LIMIT);
    answer(w, 0);
    assert_int_equal(measure(w).bytes, 0);
    assert_int_equal(try_submit(w, 5, 1, NULL), PILLION_OK);
    assert_finished(w, a, PIL_JOB_ANSWERED);
}

/* 510 tokens in 510 ms, until that is known. */
static void measure_speed(world *w) {
    for (int i = 0; i < 20; i++) {
        pil_job *j = submit(w, 300, 51, NULL);
        assert_non_null(next(w));
        advance(w, 510);
        answer(w, 0);
        assert_finished(w, j, PIL_JOB_ANSWERED);
    }
    assert_in_range(measure(w).tokens_per_s, 990, 1010);
}

static void the_queue_holds_what_the_measured_speed_can_do_in_time(void **state) {
    world *w = *state;
    up(w, 0);
    measure_speed(w);
    assert_int_equal(pil_sched_retry_after_ms(w->s), 1000);
    for (int i = 0; i < 4; i++) submit(w, 0, 300, NULL); /* 12,000 tokens: 12 s */
    assert_in_range(pil_sched_retry_after_ms(w->s), 11800, 12200);
    pillion_error err = {0};
    assert_int_equal(try_submit(w, 0, 1, &err), PILLION_E_LIMIT);
}

/* What others wait for is served beside a client's own work, not before it. */
static void one_client_s_giant_request_shuts_nobody_out(void **state) {
    world *w = *state;
    for (size_t i = 0; i < 300; i++) w->inputs[i].text_bytes = sizeof w->bytes[i];
    up(w, 0);
    measure_speed(w);
    w->client = 1;
    submit(w, 0, 300, NULL); /* 400,000 tokens: seven minutes */
    assert_int_equal(try_submit(w, 300, 1, NULL), PILLION_E_LIMIT);
    w->client = 2;
    assert_int_equal(try_submit(w, 300, 1, NULL), PILLION_OK);
    assert_false(pil_sched_is_full(w->s, 2, 10000));
    assert_int_equal(try_submit(w, 0, 20, NULL), PILLION_OK); /* of any size */
    assert_int_equal(try_submit(w, 300, 1, NULL), PILLION_E_LIMIT);
    assert_true(pil_sched_is_full(w->s, 2, 10000));
    w->client = 3; /* the others have a turn each before it: a second */
    assert_int_equal(try_submit(w, 300, 1, NULL), PILLION_OK);
    assert_true(pil_sched_is_full(w->s, 3, 100000)); /* and with so much, as much as itself */
}

static void many_clients_with_one_request_each_wait_no_longer_than_one_does(void **state) {
    world *w = *state;
    up(w, 0);
    measure_speed(w);
    for (w->client = 1; w->client <= 100; w->client++) {
        bool admitted = try_submit(w, 0, 100, NULL) == PILLION_OK; /* 1,000 tokens: a second */
        assert_true(admitted == (w->client <= 11));
    }
    assert_int_equal(measure(w).tokens_waiting, 11000);
}

/* A thousand questions of one line say nothing about how fast a book is done. */
static void small_batches_do_not_make_the_queue_small(void **state) {
    world *w = *state;
    up(w, 0);
    for (int i = 0; i < 1000; i++) {
        pil_job *j = submit(w, 0, 1, NULL);
        assert_non_null(next(w));
        advance(w, 20);
        answer(w, 0);
        assert_finished(w, j, PIL_JOB_ANSWERED);
    }
    assert_int_equal(measure(w).tokens_per_s, 0);
    for (int i = 0; i < 100; i++) submit(w, 0, 300, NULL);
}

int main(void) {
#define T(name) cmocka_unit_test_setup_teardown(name, two_workers, world_destroy)
#define T1(name) cmocka_unit_test_setup_teardown(name, one_worker, world_destroy)
    const struct CMUnitTest tests[] = {
        T(nothing_is_handed_out_before_a_worker_is_ready),
        T(nobody_is_started_before_the_model_is_there),
        T(a_job_finishes_when_every_text_is_answered),
        T(batches_are_cut_by_estimated_tokens),
        T(a_text_over_the_budget_runs_alone),
        T(the_estimate_stops_at_the_model_s_limit),
        T(a_small_job_is_shared_by_idle_workers),
        T1(a_busy_worker_gets_a_second_batch_only_when_plenty_waits),
        T(small_jobs_share_a_batch),
        T(jobs_with_other_options_do_not_share_a_batch),
        T(texts_of_a_lost_worker_run_again_in_order),
        T(a_batch_refused_for_its_options_gives_its_texts_the_status),
        T(a_batch_refused_for_want_of_memory_is_tried_text_by_text),
        T1(what_could_not_be_sent_is_the_newest_batch),
        T(a_cancelled_job_leaves_no_trace),
        T1(a_cancelled_job_is_not_run_again),
        T1(a_batch_that_nobody_waits_for_is_abandoned),
        T1(a_cancel_that_meets_the_wrong_batch_costs_only_time),
        T(a_worker_that_cancels_of_its_own_will_is_not_believed),
        T1(a_text_that_every_worker_cancels_is_left_in_the_end),
        T(statuses_that_are_not_a_worker_s_to_give_become_internal_errors),
        T(giving_up_ends_everything_and_all_that_comes),
        T(a_finished_job_may_be_cancelled),
        T(a_full_queue_refuses_and_says_so),
        T1(bytes_count_until_a_job_is_finished),
        T1(small_batches_do_not_make_the_queue_small),
        T1(the_queue_holds_what_the_measured_speed_can_do_in_time),
        T1(one_client_s_giant_request_shuts_nobody_out),
        T1(many_clients_with_one_request_each_wait_no_longer_than_one_does),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
