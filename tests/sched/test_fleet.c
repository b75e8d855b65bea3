/* test_fleet.c - the life of workers: start, stall, back-off, breaker, sleep of the machine, memory, the end. */
#include "sched/world.h"

/* Lets a worker die `how` as soon as it is started, n times; returns the longest pause before a start. */
static uint64_t die_at_start(world *w, uint32_t slot, unsigned n, pil_end how) {
    uint64_t longest = 0;
    for (unsigned i = 0; i < n; i++) {
        uint64_t begin = w->now;
        for (act_all(w); w->slot[slot].spawned == 0; act_all(w)) {
            assert_true(pil_sched_next_ms(w->s) > w->now && w->now - begin < 60000);
            uint64_t ms = pil_sched_next_ms(w->s) - w->now;
            advance(w, ms < 1000 ? ms : 1000);
        }
        if (w->now - begin > longest) longest = w->now - begin;
        w->slot[slot].spawned = 0;
        end(w, slot, how);
    }
    return longest;
}

static void every_slot_is_filled_at_once(void **state) {
    world *w = *state;
    act_all(w);
    for (int i = 0; i < 3; i++) assert_int_equal(w->slot[i].spawned, 1);
    assert_int_equal(measure(w).workers_alive, 3);
    assert_int_equal(measure(w).state, PIL_FLEET_STARTING);
}

static void a_worker_that_has_answered_is_replaced_without_a_pause(void **state) {
    world *w = *state;
    static const pil_end hows[] = {PIL_END_EXIT, PIL_END_CRASH, PIL_END_OOM, PIL_END_OUTSIDE};
    up(w, 0);
    for (size_t i = 0; i < 12; i++) {
        submit(w, i, 1, NULL);
        assert_non_null(next(w));
        answer(w, 0);
        end(w, 0, hows[i % 4]);
        up_again(w, 0); /* no time has passed */
    }
    assert_int_equal(measure(w).restarts, 12);
    assert_int_equal(measure(w).breaker_opened, 0);
}

static void a_worker_that_dies_at_its_start_is_tried_again_after_a_growing_pause(void **state) {
    world *w = *state;
    act_all(w);
    uint64_t want = 100;
    for (int i = 0; i < 4; i++, want *= 2) {
        end(w, 0, PIL_END_CRASH);
        uint64_t pause = pil_sched_next_ms(w->s) - w->now;
        assert_in_range(pause, want * 3 / 4, want * 5 / 4);
        w->slot[0].spawned = 0;
        advance(w, pause - 1);
        act_all(w);
        assert_int_equal(w->slot[0].spawned, 0);
        advance(w, 1);
        act_all(w);
        assert_int_equal(w->slot[0].spawned, 1);
    }
    assert_int_equal(measure(w).breaker_opened, 0);
}

static void five_deaths_at_start_open_the_breaker_with_their_reason(void **state) {
    world *w = *state;
    pil_job *j = submit(w, 0, 1, NULL);
    die_at_start(w, 0, 4, PIL_END_CRASH);
    assert_int_equal(measure(w).state, PIL_FLEET_STARTING);
    assert_null(pil_sched_finished(w->s));
    die_at_start(w, 0, 1, PIL_END_CRASH);
    assert_int_equal(measure(w).state, PIL_FLEET_OPEN);
    assert_string_equal(measure(w).reason, "it died");
    assert_int_equal(pil_job_item(j, 0)->status, PILLION_E_UNAVAILABLE);
    assert_finished(w, j, PIL_JOB_UNAVAILABLE);
    pillion_error err = {0};
    assert_int_equal(try_submit(w, 0, 1, &err), PILLION_E_UNAVAILABLE);
    assert_error(err, PILLION_E_UNAVAILABLE, "it died");
    assert_in_range(pil_sched_retry_after_ms(w->s), 1000, 10000);
}

static void an_open_breaker_lets_one_worker_be_tried_every_ten_seconds(void **state) {
    world *w = *state;
    die_at_start(w, 0, 5, PIL_END_CRASH);
    for (int i = 0; i < 5; i++) assert_in_range(die_at_start(w, 0, 1, PIL_END_CRASH), 9990, 10010);
}

static void the_breaker_closes_when_the_worker_that_was_tried_has_answered(void **state) {
    world *w = *state;
    die_at_start(w, 0, 5, PIL_END_CRASH);
    advance(w, 10000);
    up_again(w, 0);
    assert_int_equal(measure(w).state, PIL_FLEET_READY);
    assert_non_null(measure(w).reason); /* still */
    pil_job *j = submit(w, 0, 1, NULL);
    assert_non_null(next(w));
    answer(w, 0);
    assert_finished(w, j, PIL_JOB_ANSWERED);
    assert_null(measure(w).reason);
}

static void while_one_worker_is_ready_an_open_breaker_refuses_nobody(void **state) {
    world *w = *state;
    up(w, 0);
    act_all(w);
    die_at_start(w, 1, 5, PIL_END_CRASH);
    assert_int_equal(measure(w).breaker_opened, 1);
    assert_int_equal(measure(w).state, PIL_FLEET_READY);
    pil_job *j = submit(w, 0, 1, NULL);
    assert_int_equal(next(w)->slot, 0);
    answer(w, 0);
    assert_finished(w, j, PIL_JOB_ANSWERED);
    assert_non_null(measure(w).reason); /* it was not the one that was tried */
    wait_ms(w, 30000);
    assert_null(measure(w).reason); /* thirty calm seconds */
}

static void processes_that_cannot_be_started_are_deaths_at_start(void **state) {
    world *w = *state;
    for (int i = 0; i < 5; i++) {
        w->slot[0].spawned = 0;
        for (act_all(w); w->slot[0].spawned == 0; act_all(w)) advance(w, pil_sched_next_ms(w->s) - w->now);
        pil_sched_spawn_failed(w->s, 0, "no more processes");
    }
    assert_int_equal(measure(w).state, PIL_FLEET_OPEN);
    assert_string_equal(measure(w).reason, "no more processes");
    advance(w, 10000);
    up_again(w, 0); /* it recovers alone */
}

static void a_model_that_cannot_be_served_opens_the_breaker_at_once(void **state) {
    world *w = *state;
    pil_job *j = submit(w, 0, 1, NULL);
    act_all(w);
    pil_sched_failed(w->s, 0, PILLION_E_FORMAT, "tensor x is missing");
    assert_finished(w, j, PIL_JOB_UNAVAILABLE);
    assert_string_equal(measure(w).reason, "tensor x is missing");
    end(w, 0, PIL_END_CRASH);
    act_all(w);
    assert_int_equal(w->slot[0].spawned, 1);
}

static void a_worker_that_fails_after_it_was_ready_lies(void **state) {
    world *w = *state;
    up(w, 0);
    pil_sched_failed(w->s, 0, PILLION_E_FORMAT, "changed its mind");
    act_all(w);
    assert_int_equal(w->slot[0].killed, 1);
    assert_int_equal(measure(w).state, PIL_FLEET_STARTING);
}

static void a_worker_that_fails_for_want_of_memory_is_tried_again(void **state) {
    world *w = *state;
    act_all(w);
    pil_sched_failed(w->s, 0, PILLION_E_NOMEM, "out of memory");
    end(w, 0, PIL_END_CRASH);
    assert_int_equal(measure(w).state, PIL_FLEET_STARTING);
    advance(w, 200);
    up_again(w, 0);
}

static void kills_from_outside_neither_count_nor_pause_for_long(void **state) {
    world *w = *state;
    pil_job *j = submit(w, 0, 1, NULL);
    assert_int_equal(die_at_start(w, 0, 1, PIL_END_OUTSIDE), 0);
    assert_int_equal(die_at_start(w, 0, 1, PIL_END_OUTSIDE), 0); /* at once after the first */
    for (int i = 0; i < 40; i++) assert_int_equal(die_at_start(w, 0, 1, PIL_END_OUTSIDE), 100);
    assert_int_equal(measure(w).breaker_opened, 0);
    assert_null(pil_sched_finished(w->s));
    advance(w, 100);
    up_again(w, 0);
    assert_non_null(next(w));
    answer(w, 0);
    assert_finished(w, j, PIL_JOB_ANSWERED);
}

/* W8: all of them in the same millisecond, again and again; the job waits. */
static void all_workers_killed_at_once_cost_a_job_nothing(void **state) {
    world *w = *state;
    for (uint32_t i = 0; i < 3; i++) up(w, i);
    pil_job *j = submit(w, 0, 51, NULL);
    for (int round = 0; round < 20; round++) {
        assert_non_null(next(w));
        for (uint32_t i = 0; i < 3; i++) end(w, i, PIL_END_OUTSIDE);
        advance(w, 100);
        for (uint32_t i = 0; i < 3; i++) w->slot[i].spawned = 0;
        pil_action a;
        while (act(w, &a)) assert_int_equal(a.kind, PIL_ACTION_SPAWN);
        for (uint32_t i = 0; i < 3; i++) ready(w, i);
    }
    for (act_all(w); measure(w).jobs; act_all(w))
        for (uint32_t i = 0; i < 3; i++)
            if (pil_sched_oldest(w->s, i)) answer(w, i);
    for (size_t i = 0; i < 51; i++) assert_int_equal(pil_job_item(j, i)->status, PILLION_OK);
    assert_finished(w, j, PIL_JOB_ANSWERED);
    assert_int_equal(measure(w).breaker_opened, 0);
}

static void a_worker_that_is_not_ready_in_time_is_killed(void **state) {
    world *w = *state;
    act_all(w);
    wait_ms(w, 59999);
    act_all(w);
    assert_int_equal(w->slot[0].killed, 0);
    advance(w, 1);
    act_all(w);
    assert_int_equal(w->slot[0].killed, 1);
    assert_string_equal(w->slot[0].why, "not ready in time");
}

static void a_worker_that_stands_still_at_work_is_killed_and_its_text_suspected(void **state) {
    world *w = *state;
    up(w, 0);
    submit(w, 0, 5, NULL);
    assert_non_null(next(w));
    wait_ms(w, 4999);
    act_all(w);
    assert_int_equal(w->slot[0].killed, 0);
    advance(w, 1);
    act_all(w);
    assert_int_equal(w->slot[0].killed, 1);
    assert_string_equal(w->slot[0].why, "no progress");
    assert_int_equal(measure(w).kills, 1);
    end(w, 0, PIL_END_OUTSIDE); /* SIGKILL: ours */
    up_again(w, 0);
    assert_int_equal(next(w)->n, 1);
}

static void a_worker_that_was_stopped_from_outside_brings_no_suspicion(void **state) {
    world *w = *state;
    up(w, 0);
    submit(w, 0, 5, NULL);
    assert_non_null(next(w));
    wait_ms(w, 5000);
    act_all(w);
    assert_int_equal(w->slot[0].killed, 1);
    end(w, 0, PIL_END_STOPPED);
    up_again(w, 0);
    assert_int_equal(next(w)->n, 5);
}

static void a_slow_worker_that_gets_on_is_left_alone(void **state) {
    world *w = *state;
    up(w, 0);
    submit(w, 0, 5, NULL);
    assert_non_null(next(w));
    for (unsigned i = 1; i < 50; i++) {
        pil_sched_progress(w->s, 0, i / 4, 0); /* every four seconds */
        advance(w, 1000);
    }
    act_all(w);
    assert_int_equal(w->slot[0].killed, 0);
}

/* It moves between two looks. That it did so after the first of them is known only at the second. */
static void a_worker_that_moves_is_left_alone_by_little_patience(void **state) {
    world *w = *state;
    w->opt.stall_ms = 1000; /* no longer than the time between two calls of advance */
    world_open(w);
    up(w, 0);
    submit(w, 0, 1, NULL);
    assert_non_null(next(w));
    for (unsigned i = 1; i < 5; i++) {
        pil_sched_progress(w->s, 0, i, 0);
        advance(w, 1000);
        act_all(w);
        assert_int_equal(w->slot[0].killed, 0);
    }
    advance(w, 1000);
    act_all(w);
    assert_int_equal(w->slot[0].killed, 1);
}

static void an_idle_worker_may_stand_still(void **state) {
    world *w = *state;
    up(w, 0);
    advance(w, 50000);
    act_all(w);
    assert_int_equal(w->slot[0].killed, 0);
    submit(w, 0, 1, NULL);
    assert_non_null(next(w));
    advance(w, 1000);
    act_all(w);
    assert_int_equal(w->slot[0].killed, 0);
}

/* L6: the laptop sleeps, or the whole tree is stopped. */
static void time_in_which_nobody_ran_is_held_against_nobody(void **state) {
    world *w = *state;
    up(w, 0);
    pil_job *j = submit(w, 0, 5, NULL);
    assert_non_null(next(w));
    act_all(w); /* the second worker is starting */
    wait_ms(w, 3000);
    for (int i = 0; i < 10; i++) {
        advance(w, 3600000);
        act_all(w);
        assert_int_equal(w->slot[0].killed, 0);
        assert_int_equal(w->slot[1].killed, 0);
        assert_null(pil_sched_finished(w->s));
        assert_in_range(pil_sched_next_ms(w->s), w->now + 1, w->now + 1000);
    }
    wait_ms(w, 2000); /* what was left of its time */
    act_all(w);
    assert_int_equal(w->slot[0].killed, 1);
    pil_sched_cancel(w->s, j);
}

static void a_worker_that_is_starting_is_not_blamed_for_a_sleep_either(void **state) {
    world *w = *state;
    act_all(w);
    for (int i = 0; i < 100; i++) advance(w, 2500);
    act_all(w);
    assert_int_equal(w->slot[0].killed, 0);
    up(w, 0);
}

static void while_there_is_work_the_time_is_wanted_every_second(void **state) {
    world *w = *state;
    for (uint32_t i = 0; i < 2; i++) up(w, i);
    assert_true(pil_sched_next_ms(w->s) - w->now == 60000); /* idle: the next canary */
    submit(w, 0, 1, NULL);
    assert_true(pil_sched_next_ms(w->s) - w->now == 1000);
}

/* A batch for each of n idle workers, all answered. */
static void work_for_all(world *w, uint32_t n) {
    pil_job *j = submit(w, 0, 10 * n, NULL);
    for (uint32_t i = 0; i < n; i++) assert_non_null(next(w));
    for (uint32_t i = 0; i < n; i++) answer(w, i);
    assert_finished(w, j, PIL_JOB_ANSWERED);
}

static void a_worker_that_has_grown_is_replaced_between_batches_one_at_a_time(void **state) {
    world *w = *state;
    w->opt.memory_soft_bytes = 1000;
    world_open(w);
    up(w, 0);
    up(w, 1);
    for (uint32_t i = 0; i < 2; i++) pil_sched_progress(w->s, i, 0, 700);
    work_for_all(w, 2);
    pil_job *j = submit(w, 0, 20, NULL);
    assert_non_null(next(w));
    assert_non_null(next(w));
    for (uint32_t i = 0; i < 2; i++) pil_sched_progress(w->s, i, 1, 1001);
    act_all(w);
    assert_int_equal(w->slot[0].retired + w->slot[1].retired, 0); /* at work */
    answer(w, 0);
    answer(w, 1);
    assert_finished(w, j, PIL_JOB_ANSWERED);
    act_all(w);
    assert_int_equal(w->slot[0].retired, 1);
    assert_int_equal(w->slot[1].retired, 0);
    end(w, 0, PIL_END_EXIT);
    w->slot[0].spawned = 0;
    act_all(w);
    assert_int_equal(w->slot[1].retired, 0); /* until the first is replaced */
    up(w, 0);
    act_all(w);
    assert_int_equal(w->slot[1].retired, 1);
    assert_int_equal(measure(w).deaths, 0);
    assert_int_equal(measure(w).retired, 2);
}

static void a_model_that_starts_above_the_soft_cap_is_not_replaced_for_ever(void **state) {
    world *w = *state;
    w->opt.memory_soft_bytes = 1000;
    world_open(w);
    up(w, 0);
    pil_sched_progress(w->s, 0, 0, 5000);
    work_for_all(w, 1);
    pil_sched_progress(w->s, 0, 1, 5500);
    act_all(w);
    assert_int_equal(w->slot[0].retired, 0);
    pil_sched_progress(w->s, 0, 1, 6300);
    act_all(w);
    assert_int_equal(w->slot[0].retired, 1);
}

static void a_worker_that_does_not_retire_is_killed(void **state) {
    world *w = *state;
    up(w, 0);
    pil_sched_give_up(w->s, "the model is gone");
    act_all(w);
    assert_int_equal(w->slot[0].retired, 1);
    advance(w, 999);
    act_all(w);
    assert_int_equal(w->slot[0].killed, 0);
    advance(w, 1);
    act_all(w);
    assert_int_equal(w->slot[0].killed, 1);
    end(w, 0, PIL_END_OUTSIDE);
    act_all(w);
    assert_int_equal(measure(w).workers_alive, 0);
    assert_int_equal(measure(w).deaths, 0); /* it was told to */
}

static void an_answer_to_nothing_is_a_lie(void **state) {
    world *w = *state;
    up(w, 0);
    pil_answer *a = pil_answer_create(64);
    pil_sched_answered(w->s, 0, a);
    pil_answer_release(a);
    act_all(w);
    assert_int_equal(w->slot[0].killed, 1);
}

static void a_refusal_of_nothing_is_a_lie(void **state) {
    world *w = *state;
    up(w, 0);
    pil_sched_refused(w->s, 0, PILLION_E_NOMEM);
    act_all(w);
    assert_int_equal(w->slot[0].killed, 1);
    pil_sched_lied(w->s, 0, "once more");
    pil_action a;
    assert_false(act(w, &a)); /* one kill is enough */
    end(w, 0, PIL_END_OUTSIDE);
    assert_int_equal(measure(w).deaths, 1);
}

static unsigned spawned(const world *w) {
    unsigned n = 0;
    for (uint32_t i = 0; i < WORLD_SLOTS; i++) n += w->slot[i].spawned;
    return n;
}

static void the_first_worker_starts_alone_then_as_many_as_are_ready(void **state) {
    world *w = *state;
    w->opt.workers = WORLD_SLOTS;
    w->opt.start_apart_ms = 1000;
    world_open(w);
    act_all(w);
    assert_int_equal(spawned(w), 1);
    ready(w, 0);
    act_all(w);
    assert_int_equal(spawned(w), 2);
    ready(w, 1);
    act_all(w);
    assert_int_equal(spawned(w), 4);
    end(w, 0, PIL_END_OUTSIDE); /* one that is replaced does not wait */
    act_all(w);
    assert_int_equal(w->slot[0].spawned, 2);
    assert_int_equal(spawned(w), 5);
    ready(w, 2);
    ready(w, 3);
    act_all(w);
    assert_int_equal(spawned(w), 7);
}

static void the_others_do_not_wait_for_a_first_worker_that_is_slow(void **state) {
    world *w = *state;
    w->opt.start_apart_ms = 300;
    world_open(w);
    act_all(w);
    assert_int_equal(spawned(w), 1);
    assert_int_equal(pil_sched_next_ms(w->s), w->now + 300);
    advance(w, 300);
    act_all(w);
    assert_int_equal(spawned(w), 3);
}

static void the_express_worker_is_the_first(void **state) {
    world *w = *state;
    w->opt.start_apart_ms = 1000;
    world_open(w);
    act_all(w);
    assert_int_equal(w->slot[2].spawned, 1);
    assert_int_equal(spawned(w), 1);
    pil_job *j = submit(w, 0, 60, NULL); /* and does what there is until the others are there */
    ready(w, 2);
    act_all(w);
    assert_null(pil_sched_oldest(w->s, 2));
    advance(w, 100);
    act_all(w);
    assert_non_null(pil_sched_oldest(w->s, 2));
    pil_sched_cancel(w->s, j);
}

static void a_first_worker_that_fails_does_not_keep_the_others_from_trying(void **state) {
    world *w = *state;
    w->opt.start_apart_ms = 1000;
    world_open(w);
    act_all(w);
    pil_sched_failed(w->s, 2, PILLION_E_IO, "cannot read");
    end(w, 2, PIL_END_CRASH);
    act_all(w);
    assert_int_equal(w->slot[0].spawned, 1);
    ready(w, 0);
    act_all(w);
    assert_int_equal(measure(w).state, PIL_FLEET_READY);
    assert_null(measure(w).reason);
    assert_int_equal(w->slot[1].spawned, 1);
}

static void ready_twice_is_a_lie(void **state) {
    world *w = *state;
    up(w, 0);
    ready(w, 0);
    act_all(w);
    assert_int_equal(w->slot[0].killed, 1);
    assert_int_equal(measure(w).workers_ready, 0);
}

static void what_an_ended_worker_left_is_taken_back_before_it_counts(void **state) {
    world *w = *state;
    up(w, 0);
    submit(w, 0, 30, NULL);
    assert_non_null(next(w));
    end(w, 0, PIL_END_EXIT);
    pil_sched_load load = measure(w);
    assert_int_equal(load.texts_waiting, 30);
    assert_int_equal(load.tokens_waiting, 300);
    assert_int_equal(load.batches_out, 0);
    assert_int_equal(load.retries, 30);
    assert_int_equal(load.deaths, 1);
}

int main(void) {
#define T1(name) cmocka_unit_test_setup_teardown(name, one_worker, world_destroy)
#define T2(name) cmocka_unit_test_setup_teardown(name, two_workers, world_destroy)
#define T3(name) cmocka_unit_test_setup_teardown(name, two_and_express, world_destroy)
    const struct CMUnitTest tests[] = {
        T3(every_slot_is_filled_at_once),
        T1(a_worker_that_has_answered_is_replaced_without_a_pause),
        T1(a_worker_that_dies_at_its_start_is_tried_again_after_a_growing_pause),
        T1(five_deaths_at_start_open_the_breaker_with_their_reason),
        T1(an_open_breaker_lets_one_worker_be_tried_every_ten_seconds),
        T1(the_breaker_closes_when_the_worker_that_was_tried_has_answered),
        T2(while_one_worker_is_ready_an_open_breaker_refuses_nobody),
        T1(processes_that_cannot_be_started_are_deaths_at_start),
        T1(a_model_that_cannot_be_served_opens_the_breaker_at_once),
        T1(a_worker_that_fails_after_it_was_ready_lies),
        T1(a_worker_that_fails_for_want_of_memory_is_tried_again),
        T1(kills_from_outside_neither_count_nor_pause_for_long),
        T3(all_workers_killed_at_once_cost_a_job_nothing),
        T1(a_worker_that_is_not_ready_in_time_is_killed),
        T1(a_worker_that_stands_still_at_work_is_killed_and_its_text_suspected),
        T1(a_worker_that_was_stopped_from_outside_brings_no_suspicion),
        T1(a_slow_worker_that_gets_on_is_left_alone),
        T1(a_worker_that_moves_is_left_alone_by_little_patience),
        T1(an_idle_worker_may_stand_still),
        T2(time_in_which_nobody_ran_is_held_against_nobody),
        T1(a_worker_that_is_starting_is_not_blamed_for_a_sleep_either),
        T2(while_there_is_work_the_time_is_wanted_every_second),
        T2(a_worker_that_has_grown_is_replaced_between_batches_one_at_a_time),
        T1(a_model_that_starts_above_the_soft_cap_is_not_replaced_for_ever),
        T1(a_worker_that_does_not_retire_is_killed),
        T1(an_answer_to_nothing_is_a_lie),
        T1(a_refusal_of_nothing_is_a_lie),
        T2(the_first_worker_starts_alone_then_as_many_as_are_ready),
        T3(the_others_do_not_wait_for_a_first_worker_that_is_slow),
        T3(the_express_worker_is_the_first),
        T3(a_first_worker_that_fails_does_not_keep_the_others_from_trying),
        T1(ready_twice_is_a_lie),
        T1(what_an_ended_worker_left_is_taken_back_before_it_counts),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
