/* test_isolation.c - texts that kill: who is suspected, tried alone, convicted, remembered; and who is not. */
#include "sched/world.h"

/* Runs one slot until nothing is left to do; texts whose index is set in poison kill it. Returns the deaths. */
static unsigned run(world *w, const bool *poison, pil_end how) {
    unsigned deaths = 0;
    for (;;) {
        const pil_batch *b = next(w);
        if (!b && !(b = pil_sched_oldest(w->s, 0))) return deaths;
        b = pil_sched_oldest(w->s, 0);
        bool kills = false;
        for (size_t i = 0; i < b->n; i++) kills |= w->sent[0][0][i] && poison[w->sent[0][0][i] - w->inputs];
        if (!kills) {
            answer(w, 0);
            continue;
        }
        deaths++;
        end(w, 0, how);
        up_again(w, 0);
    }
}

static void one_poison_at_any_index_costs_two_workers_and_no_other_text(void **state) {
    world *w = *state;
    for (size_t at = 0; at < 51; at++) {
        bool poison[WORLD_TEXTS] = {false};
        poison[at] = true;
        world_open(w);
        up(w, 0);
        pil_job *j = submit(w, 0, 51, NULL);
        assert_int_equal(run(w, poison, PIL_END_CRASH), 2);
        for (size_t i = 0; i < 51; i++) {
            assert_int_equal(pil_job_item(j, i)->status, i == at ? PILLION_E_POISON : PILLION_OK);
            if (i != at) assert_true(pil_job_item(j, i)->values[0] == (float)i);
        }
        assert_finished(w, j, PIL_JOB_ANSWERED);
        j = submit(w, 0, 51, NULL); /* the second time it is known */
        assert_int_equal(run(w, poison, PIL_END_CRASH), 0);
        assert_int_equal(pil_job_item(j, at)->status, PILLION_E_POISON);
        assert_finished(w, j, PIL_JOB_ANSWERED);
    }
}

static void k_poisons_in_a_batch_cost_one_worker_more(void **state) {
    world *w = *state;
    for (unsigned k = 2; k <= 15; k++) {
        bool poison[WORLD_TEXTS] = {false};
        for (unsigned i = 0; i < k; i++) poison[3 * i] = true;
        world_open(w);
        up(w, 0);
        pil_job *j = submit(w, 0, 51, NULL);
        assert_int_equal(run(w, poison, k % 2 ? PIL_END_CRASH : PIL_END_OOM), 1 + k);
        for (size_t i = 0; i < 51; i++)
            assert_int_equal(pil_job_item(j, i)->status, poison[i] ? PILLION_E_POISON : PILLION_OK);
        assert_finished(w, j, PIL_JOB_ANSWERED);
        assert_int_equal(measure(w).texts_poisoned, k);
    }
}

static void under_too_many_deaths_the_rest_of_a_job_is_given_up(void **state) {
    world *w = *state;
    bool poison[WORLD_TEXTS];
    memset(poison, 1, sizeof poison);
    up(w, 0);
    pil_job *j = submit(w, 0, 51, NULL);
    assert_int_equal(run(w, poison, PIL_END_CRASH), PIL_LIMIT_LOSSES + 1);
    for (size_t i = 0; i < 51; i++)
        assert_int_equal(pil_job_item(j, i)->status, i < PIL_LIMIT_LOSSES ? PILLION_E_POISON : PILLION_E_LOST);
    assert_finished(w, j, PIL_JOB_ANSWERED);
    assert_int_equal(measure(w).texts_lost, 51 - PIL_LIMIT_LOSSES);
    assert_int_equal(measure(w).texts_waiting, 0);
}

static void a_text_that_was_alone_from_the_beginning_gets_a_second_chance(void **state) {
    world *w = *state;
    up(w, 0);
    pil_job *j = submit(w, 0, 1, NULL);
    assert_non_null(next(w));
    end(w, 0, PIL_END_CRASH);
    up_again(w, 0);
    assert_non_null(next(w));
    answer(w, 0);
    assert_int_equal(pil_job_item(j, 0)->status, PILLION_OK);
    assert_finished(w, j, PIL_JOB_ANSWERED);
    assert_int_equal(measure(w).quarantine, 0);
}

static void crashes_charged_to_texts_do_not_count_for_the_breaker(void **state) {
    world *w = *state;
    bool poison[WORLD_TEXTS];
    memset(poison, 1, sizeof poison);
    up(w, 0);
    for (size_t i = 0; i < 8; i++) {
        submit(w, i, 1, NULL);
        assert_int_equal(run(w, poison, PIL_END_CRASH), 2); /* 16 in no time, and no pause in between */
    }
    assert_int_equal(measure(w).breaker_opened, 0);
    assert_int_equal(measure(w).deaths, 16);
}

static void kills_from_outside_are_never_charged_to_a_text(void **state) {
    world *w = *state;
    up(w, 0);
    pil_job *j = submit(w, 0, 1, NULL);
    for (int i = 0; i < 40; i++) {
        assert_non_null(next(w));
        end(w, 0, PIL_END_OUTSIDE);
        up_again(w, 0);
    }
    assert_non_null(next(w));
    answer(w, 0);
    assert_int_equal(pil_job_item(j, 0)->status, PILLION_OK);
    assert_finished(w, j, PIL_JOB_ANSWERED);
    assert_int_equal(measure(w).breaker_opened, 0);
}

static void a_worker_that_lies_or_leaves_is_no_proof_against_a_text(void **state) {
    world *w = *state;
    up(w, 0);
    pil_job *j = submit(w, 0, 2, NULL);
    assert_int_equal(next(w)->n, 2);
    pil_sched_lied(w->s, 0, "half a frame");
    act_all(w);
    assert_int_equal(w->slot[0].killed, 1);
    end(w, 0, PIL_END_OUTSIDE);
    for (int i = 0; i < 3; i++) { /* under the first text alone they leave every time: then it is left */
        wait_ms(w, 2000);
        up_again(w, 0);
        assert_int_equal(next(w)->n, 1);
        end(w, 0, PIL_END_EXIT);
    }
    wait_ms(w, 2000);
    up_again(w, 0);
    assert_int_equal(next(w)->n, 1);
    answer(w, 0);
    assert_int_equal(pil_job_item(j, 0)->status, PILLION_E_LOST);
    assert_int_equal(pil_job_item(j, 1)->status, PILLION_OK);
    assert_finished(w, j, PIL_JOB_ANSWERED);
    assert_int_equal(measure(w).quarantine, 0);
}

static void an_answer_that_came_before_the_kill_acquits(void **state) {
    world *w = *state;
    up(w, 0);
    pil_job *a = submit(w, 0, 51, NULL), *b = submit(w, 51, 102, NULL);
    assert_non_null(next(w));
    assert_non_null(next(w));
    for (int i = 0; i < 6; i++) advance(w, 1000);
    act_all(w);
    assert_int_equal(w->slot[0].killed, 1);
    answer(w, 0); /* it was in the pipe */
    end(w, 0, PIL_END_OUTSIDE);
    assert_finished(w, a, PIL_JOB_ANSWERED);
    up_again(w, 0);
    assert_true(next(w)->n > 1); /* nobody is suspected */
    pil_sched_cancel(w->s, b);
}

static void the_job_of_a_poison_shares_no_batch_with_others(void **state) {
    world *w = *state;
    up(w, 0);
    submit(w, 0, 3, NULL);
    assert_int_equal(next(w)->n, 3);
    end(w, 0, PIL_END_CRASH);
    submit(w, 10, 3, NULL);
    up_again(w, 0);
    for (size_t i = 0; i < 3; i++) {
        const pil_batch *b = next(w);
        assert_int_equal(b->n, 1);
        assert_int_equal(input_index(w, b, 0), i);
        answer(w, 0);
    }
    assert_int_equal(next(w)->n, 3);
}

/* Nobody has to wait behind a text that may take the worker with it. */
static void no_batch_is_sent_behind_a_suspect(void **state) {
    world *w = *state;
    up(w, 0);
    submit(w, 0, 3, NULL);
    assert_int_equal(next(w)->n, 3);
    end(w, 0, PIL_END_CRASH);
    submit(w, 100, 200, NULL);
    up_again(w, 0);
    for (int i = 0; i < 3; i++) {
        assert_int_equal(next(w)->n, 1);
        assert_null(next(w));
        answer(w, 0);
    }
    assert_true(next(w)->n > 1 && next(w)->n > 1);
}

static void a_second_copy_that_waits_is_answered_with_the_first(void **state) {
    world *w = *state;
    w->inputs[5] = w->inputs[0];
    bool poison[WORLD_TEXTS] = {[0] = true, [5] = true};
    up(w, 0);
    pil_job *j = submit(w, 0, 10, NULL);
    assert_int_equal(run(w, poison, PIL_END_CRASH), 2);
    assert_int_equal(pil_job_item(j, 0)->status, PILLION_E_POISON);
    assert_int_equal(pil_job_item(j, 5)->status, PILLION_E_POISON);
    assert_int_equal(pil_job_item(j, 9)->status, PILLION_OK);
    assert_finished(w, j, PIL_JOB_ANSWERED);
    assert_int_equal(measure(w).texts_quarantined, 1);
}

static void a_conviction_leaves_no_worker_idle_beside_a_short_text(void **state) {
    world *w = *state;
    w->opt.depth = 1;
    w->inputs[0].text_bytes = 1000; /* no short job */
    w->inputs[1] = w->inputs[0];
    world_open(w);
    for (uint32_t i = 0; i < 3; i++) up(w, i);
    submit(w, 0, 1, NULL);
    assert_int_equal(next(w)->slot, 0);
    submit(w, 2, 1, NULL);
    assert_int_equal(next(w)->slot, 2);
    submit(w, 3, 1, NULL);
    assert_int_equal(next(w)->slot, 1);
    end(w, 0, PIL_END_CRASH);
    up_again(w, 0);
    assert_int_equal(next(w)->slot, 0);
    pil_job *copy = submit(w, 1, 1, NULL);
    submit(w, 4, 1, NULL);
    assert_null(next(w));
    end(w, 0, PIL_END_CRASH); /* convicts the copy as well, which is all that waits of long jobs */
    answer(w, 1);
    const pil_batch *b = next(w);
    assert_non_null(b);
    assert_true(b->slot == 1 && batch_has(w, b, 4));
    assert_int_equal(pil_job_item(copy, 0)->status, PILLION_E_POISON);
}

static void convict_text(world *w, size_t index) {
    bool poison[WORLD_TEXTS] = {false};
    poison[index] = true;
    pil_job *j = submit(w, index, 1, NULL);
    assert_int_equal(run(w, poison, PIL_END_CRASH), 2);
    assert_finished(w, j, PIL_JOB_ANSWERED);
}

static void assert_known(world *w, size_t index, bool known) {
    pil_job *j = submit(w, index, 1, NULL), *done = pil_sched_finished(w->s);
    assert_int_equal(done == j, known);
    if (known) pil_job_destroy(j);
    else pil_sched_cancel(w->s, j);
}

static void quarantine_knows_a_text_under_the_same_model_and_options_alone(void **state) {
    world *w = *state;
    pil_sched_set_model(w->s, "abc", 0);
    up(w, 0);
    convict_text(w, 0);
    assert_known(w, 0, true);
    assert_known(w, 1, false);
    w->options.prompt_name = "query";
    assert_known(w, 0, false);
    w->options.prompt_name = NULL;
    w->options.truncate = PILLION_TRUNCATE_ERROR;
    assert_known(w, 0, false);
    pillion_run_options_init(&w->options);
    assert_known(w, 0, true);
    w->inputs[0].text_bytes--;
    assert_known(w, 0, false);
    w->inputs[0] = (pillion_input){.ids = (const int32_t *)(const void *)w->bytes[0], .n_ids = 6};
    assert_known(w, 0, false); /* the same bytes as ids */
    w->inputs[0] = (pillion_input){.text = w->bytes[0], .text_bytes = 24};
    assert_known(w, 0, true);
    pil_sched_set_model(w->s, "abd", 0);
    assert_known(w, 0, false);
}

static void ids_are_quarantined_like_texts(void **state) {
    world *w = *state;
    static const int32_t ids[] = {101, 7592, 102};
    w->inputs[0] = (pillion_input){.ids = ids, .n_ids = 3};
    up(w, 0);
    convict_text(w, 0);
    assert_known(w, 0, true);
    w->inputs[0].n_ids = 2;
    assert_known(w, 0, false);
}

static void quarantine_ends_after_a_day(void **state) {
    world *w = *state;
    up(w, 0);
    convict_text(w, 0);
    advance(w, 86400000 - 1);
    assert_known(w, 0, true);
    advance(w, 2);
    assert_known(w, 0, false);
    assert_int_equal(measure(w).quarantine, 0);
}

/* A file that is cut in place kills whoever touches it; then no worker can start. */
static void what_died_while_the_model_was_damaged_is_not_held_against_texts(void **state) {
    world *w = *state;
    up(w, 0);
    convict_text(w, 0);
    wait_ms(w, 40000);
    convict_text(w, 1);
    assert_int_equal(measure(w).quarantine, 2);
    end(w, 0, PIL_END_OUTSIDE);
    w->slot[0].spawned = 0;
    for (pil_action a; w->slot[0].spawned == 0;) assert_true(act(w, &a));
    pil_sched_failed(w->s, 0, PILLION_E_FORMAT, "data lies beyond the end of the file");
    assert_int_equal(measure(w).quarantine, 1);
    end(w, 0, PIL_END_EXIT);
    wait_ms(w, 10000);
    up_again(w, 0);
    assert_known(w, 0, true);
    assert_known(w, 1, false);
}

static void quarantine_is_bounded_and_the_oldest_leaves(void **state) {
    world *w = *state;
    w->opt.quarantine_max = 4;
    world_open(w);
    up(w, 0);
    for (size_t i = 0; i < 10; i++) convict_text(w, i);
    assert_int_equal(measure(w).quarantine, 4);
    for (size_t i = 0; i < 10; i++) assert_known(w, i, i >= 6);
}

/* A thousand jobs with the same poison: two deaths, and no worker hears of the others. */
static void a_poison_repeated_a_thousand_times_kills_no_more(void **state) {
    world *w = *state;
    up(w, 0);
    convict_text(w, 0);
    for (int i = 0; i < 1000; i++) {
        pil_job *j = submit(w, 0, 1, NULL);
        assert_int_equal(pil_job_item(j, 0)->status, PILLION_E_POISON);
        assert_finished(w, j, PIL_JOB_ANSWERED);
    }
    assert_null(next(w));
    assert_int_equal(measure(w).deaths, 2);
    assert_int_equal(measure(w).jobs, 0);
}

int main(void) {
#define T(name) cmocka_unit_test_setup_teardown(name, one_worker, world_destroy)
    const struct CMUnitTest tests[] = {
        T(one_poison_at_any_index_costs_two_workers_and_no_other_text),
        T(k_poisons_in_a_batch_cost_one_worker_more),
        T(under_too_many_deaths_the_rest_of_a_job_is_given_up),
        T(a_text_that_was_alone_from_the_beginning_gets_a_second_chance),
        T(crashes_charged_to_texts_do_not_count_for_the_breaker),
        T(kills_from_outside_are_never_charged_to_a_text),
        T(a_worker_that_lies_or_leaves_is_no_proof_against_a_text),
        T(an_answer_that_came_before_the_kill_acquits),
        T(the_job_of_a_poison_shares_no_batch_with_others),
        T(no_batch_is_sent_behind_a_suspect),
        T(a_second_copy_that_waits_is_answered_with_the_first),
        cmocka_unit_test_setup_teardown(a_conviction_leaves_no_worker_idle_beside_a_short_text, two_and_express,
                                        world_destroy),
        T(quarantine_knows_a_text_under_the_same_model_and_options_alone),
        T(ids_are_quarantined_like_texts),
        T(quarantine_ends_after_a_day),
        T(what_died_while_the_model_was_damaged_is_not_held_against_texts),
        T(quarantine_is_bounded_and_the_oldest_leaves),
        T(a_poison_repeated_a_thousand_times_kills_no_more),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
