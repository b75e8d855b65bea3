/* test_sched.c - the queue: order, batches, sharing, loss of workers, cancelling, and random schedules against a model
 * of what must come out. Time is a number; workers are this file. */
#include "support/test.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/limits.h"
#include "sched/sched.h"

#define TEXTS_MAX 400

typedef struct world {
    pil_sched *s;
    pillion_run_options options;
    pillion_input inputs[TEXTS_MAX];
    char bytes[4096];
    struct {
        uint64_t id;
        const pillion_input *inputs[TEXTS_MAX];
    } out[1024]; /* what the last batches asked, by id */
} world;

static int setup_with(void **state, uint32_t workers) {
    world *w = calloc(1, sizeof *w);
    pil_sched_options opt;
    pil_sched_options_init(&opt, workers);
    pillion_run_options_init(&w->options);
    memset(w->bytes, 'a', sizeof w->bytes);
    for (size_t i = 0; i < TEXTS_MAX; i++)
        w->inputs[i] = (pillion_input){.text = w->bytes, .text_bytes = 24}; /* 10 tokens */
    *state = w;
    return pil_sched_create(&w->s, &opt, NULL);
}
static int setup(void **state) { return setup_with(state, 2); }
static int setup_one(void **state) { return setup_with(state, 1); }

static int teardown(void **state) {
    world *w = *state;
    pil_sched_destroy(w->s);
    free(w);
    return 0;
}

static pil_job *submit(world *w, size_t first, size_t n, void *ud) {
    pil_job *j;
    pillion_error err = {0};
    assert_ok(pil_sched_submit(w->s, &j, PILLION_OP_EMBED, &w->options, &w->inputs[first], n, 0, ud, &err), err);
    return j;
}

/* The next batch, its inputs written down for answer(). */
static const pil_batch *next(world *w) {
    const pil_batch *b = pil_sched_next(w->s);
    if (!b) return NULL;
    w->out[b->id % 1024].id = b->id;
    for (size_t i = 0; i < b->n; i++) w->out[b->id % 1024].inputs[i] = pil_batch_input(b, i);
    return b;
}

/* Answers the oldest batch of a worker. n_tokens of an item tells its batch and place; error_offset its input, if
 * next() has written it down. */
static size_t answer(world *w, uint32_t worker) {
    const pil_batch *b = pil_sched_oldest(w->s, worker);
    assert_non_null(b);
    size_t n = b->n;
    pil_answer *a = pil_answer_create(PIL_MIB);
    assert_non_null(a);
    a->items = pil_arena_calloc(&a->arena, n, sizeof *a->items);
    a->n = n;
    for (size_t i = 0; i < n; i++) {
        a->items[i].n_tokens = (uint32_t)(b->id * 1000 + i);
        if (w->out[b->id % 1024].id == b->id)
            a->items[i].error_offset = (uint64_t)(w->out[b->id % 1024].inputs[i] - w->inputs);
    }
    pil_sched_answered(w->s, worker, a, 1);
    pil_answer_release(a);
    return n;
}

static size_t input_index(const world *w, const pil_batch *b, size_t i) {
    return (size_t)(pil_batch_input(b, i) - w->inputs);
}

static void assert_finished(world *w, pil_job *job, pil_job_end end) {
    pil_job *j = pil_sched_finished(w->s);
    assert_ptr_equal(j, job);
    assert_int_equal(pil_job_ended(j), end);
    pil_job_destroy(j);
}

static void nothing_is_handed_out_before_a_worker_is_ready(void **state) {
    world *w = *state;
    submit(w, 0, 3, NULL);
    assert_null(pil_sched_next(w->s));
    pil_sched_ready(w->s, 1);
    const pil_batch *b = pil_sched_next(w->s);
    assert_non_null(b);
    assert_int_equal(b->worker, 1);
    assert_int_equal(b->n, 3);
    assert_int_equal(b->op, PILLION_OP_EMBED);
}

static void a_job_finishes_when_every_text_is_answered(void **state) {
    world *w = *state;
    pil_sched_ready(w->s, 0);
    pil_job *j = submit(w, 0, 100, w);
    size_t done = 0;
    while (pil_sched_next(w->s)) {
        assert_null(pil_sched_finished(w->s));
        done += answer(w, 0);
    }
    assert_int_equal(done, 100);
    assert_ptr_equal(pil_job_ud(j), w);
    assert_int_equal(pil_job_count(j), 100);
    assert_int_equal(pil_job_item(j, 0)->n_tokens, 1000); /* first of the first batch */
    assert_finished(w, j, PIL_JOB_ANSWERED);
    assert_null(pil_sched_finished(w->s));
}

static void batches_are_cut_by_estimated_tokens(void **state) {
    world *w = *state;
    pil_sched_ready(w->s, 0);
    submit(w, 0, 60, NULL);
    const pil_batch *b = pil_sched_next(w->s);
    assert_int_equal(b->n, 51); /* 51 * 10 <= 512 */
    assert_int_equal(b->tokens, 510);
    answer(w, 0);
    assert_int_equal(pil_sched_next(w->s)->n, 9);
}

static void a_text_over_the_budget_runs_alone(void **state) {
    world *w = *state;
    pil_sched_ready(w->s, 0);
    w->inputs[1].text_bytes = sizeof w->bytes;
    submit(w, 0, 3, NULL);
    assert_int_equal(pil_sched_next(w->s)->n, 1);
    answer(w, 0);
    assert_int_equal(pil_sched_next(w->s)->n, 1);
    answer(w, 0);
    assert_int_equal(pil_sched_next(w->s)->n, 1);
}

static void the_estimate_stops_at_the_model_s_limit(void **state) {
    world *w = *state;
    pil_sched_set_text_tokens_max(w->s, 128);
    pil_sched_ready(w->s, 0);
    for (size_t i = 0; i < 4; i++) w->inputs[i].text_bytes = sizeof w->bytes;
    submit(w, 0, 4, NULL);
    const pil_batch *b = pil_sched_next(w->s);
    assert_int_equal(b->n, 4);
    assert_int_equal(b->tokens, 512);
}

static void a_small_job_is_shared_by_idle_workers(void **state) {
    world *w = *state;
    pil_sched_ready(w->s, 0);
    pil_sched_ready(w->s, 1);
    submit(w, 0, 20, NULL);
    const pil_batch *a = pil_sched_next(w->s), *b = pil_sched_next(w->s);
    assert_int_equal(a->n, 10);
    assert_int_equal(b->n, 10);
    assert_int_not_equal(a->worker, b->worker);
    assert_null(pil_sched_next(w->s));
}

static void a_busy_worker_gets_a_second_batch_only_when_plenty_waits(void **state) {
    world *w = *state;
    pil_sched_ready(w->s, 0);
    submit(w, 0, 60, NULL);
    assert_non_null(pil_sched_next(w->s));
    assert_null(pil_sched_next(w->s)); /* 90 tokens wait */
    submit(w, 60, 60, NULL);
    assert_non_null(pil_sched_next(w->s));
    assert_null(pil_sched_next(w->s)); /* depth 2 */
    answer(w, 0);
    answer(w, 0);
}

static void small_jobs_share_a_batch(void **state) {
    world *w = *state;
    pil_sched_ready(w->s, 0);
    pil_job *jobs[5];
    for (size_t i = 0; i < 5; i++) jobs[i] = submit(w, i, 1, NULL);
    const pil_batch *b = pil_sched_next(w->s);
    assert_int_equal(b->n, 5);
    for (size_t i = 0; i < 5; i++) assert_int_equal(input_index(w, b, i), i);
    answer(w, 0);
    for (size_t i = 0; i < 5; i++) assert_finished(w, jobs[i], PIL_JOB_ANSWERED);
}

static void jobs_with_other_options_do_not_share_a_batch(void **state) {
    world *w = *state;
    pil_sched_ready(w->s, 0);
    submit(w, 0, 1, NULL);
    w->options.normalize = PILLION_NORMALIZE_MODEL;
    submit(w, 1, 1, NULL);
    w->options.prompt_name = "query";
    submit(w, 2, 1, NULL);
    char same[] = "query";
    w->options.prompt_name = same;
    submit(w, 3, 1, NULL);
    assert_int_equal(pil_sched_next(w->s)->n, 1);
    answer(w, 0);
    const pil_batch *b = pil_sched_next(w->s);
    assert_int_equal(b->n, 1);
    assert_int_equal(b->options.normalize, PILLION_NORMALIZE_MODEL);
    answer(w, 0);
    b = pil_sched_next(w->s);
    assert_int_equal(b->n, 2);
    assert_string_equal(b->options.prompt_name, "query");
}

static void a_large_job_does_not_keep_a_small_one_waiting(void **state) {
    world *w = *state;
    pil_sched_ready(w->s, 0);
    submit(w, 0, 300, NULL);
    pil_job *small = submit(w, 300, 1, NULL);
    assert_non_null(pil_sched_next(w->s));
    answer(w, 0);
    assert_non_null(pil_sched_next(w->s)); /* its turn comes after one batch of the large one */
    answer(w, 0);
    assert_finished(w, small, PIL_JOB_ANSWERED);
}

static void texts_of_a_lost_worker_run_again_in_order(void **state) {
    world *w = *state;
    pil_sched_ready(w->s, 0);
    pil_job *j = submit(w, 0, 120, NULL);
    assert_int_equal(pil_sched_next(w->s)->n, 51);
    assert_int_equal(pil_sched_next(w->s)->n, 51);
    pil_sched_lost(w->s, 0, false);
    assert_null(pil_sched_oldest(w->s, 0));
    assert_null(pil_sched_next(w->s));
    pil_sched_ready(w->s, 1);
    const pil_batch *b = pil_sched_next(w->s);
    assert_int_equal(b->n, 51);
    for (size_t i = 0; i < b->n; i++) assert_int_equal(input_index(w, b, i), i);
    answer(w, 1);
    while (pil_sched_next(w->s)) answer(w, 1);
    assert_finished(w, j, PIL_JOB_ANSWERED);
}

static void a_text_that_kills_its_worker_fails_alone(void **state) {
    world *w = *state;
    pil_job *j = submit(w, 0, 30, NULL);
    unsigned deaths = 0;
    pil_sched_ready(w->s, 0);
    for (const pil_batch *b; (b = pil_sched_next(w->s));) {
        bool poison = false;
        for (size_t i = 0; i < b->n; i++) poison |= input_index(w, b, i) == 17 || input_index(w, b, i) == 4;
        if (!poison) {
            answer(w, 0);
            continue;
        }
        deaths++;
        pil_sched_lost(w->s, 0, true);
        pil_sched_ready(w->s, 0);
    }
    assert_int_equal(deaths, 3); /* 1 + one for each poison */
    for (size_t i = 0; i < 30; i++)
        assert_int_equal(pil_job_item(j, i)->status, i == 17 || i == 4 ? PILLION_E_INTERNAL : PILLION_OK);
    assert_finished(w, j, PIL_JOB_ANSWERED);
}

static void deaths_from_outside_are_not_charged_to_a_text(void **state) {
    world *w = *state;
    pil_job *j = submit(w, 0, 1, NULL);
    for (int i = 0; i < PIL_LIMIT_LOSSES - 1; i++) {
        pil_sched_ready(w->s, 0);
        assert_non_null(pil_sched_next(w->s));
        pil_sched_lost(w->s, 0, false);
    }
    assert_null(pil_sched_finished(w->s));
    pil_sched_ready(w->s, 0);
    assert_non_null(pil_sched_next(w->s));
    answer(w, 0);
    assert_int_equal(pil_job_item(j, 0)->status, PILLION_OK);
    assert_finished(w, j, PIL_JOB_ANSWERED);
}

static void nothing_is_tried_for_ever(void **state) {
    world *w = *state;
    pil_job *j = submit(w, 0, 1, NULL);
    for (int i = 0; i < PIL_LIMIT_LOSSES; i++) {
        pil_sched_ready(w->s, 0);
        assert_non_null(pil_sched_next(w->s));
        pil_sched_lost(w->s, 0, false);
    }
    assert_int_equal(pil_job_item(j, 0)->status, PILLION_E_INTERNAL);
    assert_finished(w, j, PIL_JOB_ANSWERED);
}

static void a_refused_batch_gives_its_texts_the_status(void **state) {
    world *w = *state;
    pil_job *j = submit(w, 0, 2, NULL);
    pil_sched_ready(w->s, 0);
    assert_non_null(pil_sched_next(w->s));
    pil_sched_refused(w->s, 0, PILLION_E_ARG);
    assert_int_equal(pil_job_item(j, 1)->status, PILLION_E_ARG);
    assert_finished(w, j, PIL_JOB_ANSWERED);
}

static void a_cancelled_job_leaves_no_trace(void **state) {
    world *w = *state;
    pil_sched_ready(w->s, 0);
    pil_job *a = submit(w, 0, 1, NULL);
    pil_job *b = submit(w, 1, 1, NULL);
    pil_job *waiting = submit(w, 2, 300, NULL);
    assert_int_equal(pil_sched_next(w->s)->n, 51);
    pil_sched_cancel(w->s, a);
    pil_sched_cancel(w->s, waiting);
    pil_sched_load load;
    pil_sched_measure(w->s, &load);
    assert_int_equal(load.jobs, 1);
    assert_int_equal(load.texts_waiting, 0);
    assert_int_equal(load.tokens_waiting, 0);
    assert_null(pil_sched_next(w->s));
    answer(w, 0);
    assert_finished(w, b, PIL_JOB_ANSWERED);
    assert_null(pil_sched_finished(w->s));
}

static void a_cancelled_job_is_not_run_again(void **state) {
    world *w = *state;
    pil_sched_ready(w->s, 0);
    pil_job *a = submit(w, 0, 2, NULL);
    pil_job *b = submit(w, 2, 2, NULL);
    assert_int_equal(pil_sched_next(w->s)->n, 4);
    pil_sched_lost(w->s, 0, false);
    pil_sched_cancel(w->s, a);
    pil_sched_ready(w->s, 0);
    assert_int_equal(pil_sched_next(w->s)->n, 2);
    answer(w, 0);
    assert_finished(w, b, PIL_JOB_ANSWERED);
}

static void jobs_wait_for_a_worker_only_so_long(void **state) {
    world *w = *state;
    pil_job *j = submit(w, 0, 2, NULL);
    pil_sched_tick(w->s, PIL_LIMIT_HOLD_MS - 1);
    assert_null(pil_sched_finished(w->s));
    pil_sched_tick(w->s, PIL_LIMIT_HOLD_MS);
    assert_finished(w, j, PIL_JOB_EXPIRED);
    j = submit(w, 0, 2, NULL);
    pil_sched_ready(w->s, 0);
    pil_sched_tick(w->s, 10 * PIL_LIMIT_HOLD_MS); /* with a worker there is no such limit */
    assert_null(pil_sched_finished(w->s));
    pil_sched_lost(w->s, 0, false);
    pil_sched_tick(w->s, 11 * PIL_LIMIT_HOLD_MS);
    assert_finished(w, j, PIL_JOB_EXPIRED);
}

static void giving_up_ends_everything_and_all_that_comes(void **state) {
    world *w = *state;
    pil_job *j = submit(w, 0, 2, NULL);
    pil_sched_give_up(w->s);
    assert_finished(w, j, PIL_JOB_UNAVAILABLE);
    j = submit(w, 0, 2, NULL);
    assert_finished(w, j, PIL_JOB_UNAVAILABLE);
}

/* A client may leave after its job has ended and before it hears of it. */
static void a_finished_job_may_be_cancelled(void **state) {
    world *w = *state;
    pil_job *a = submit(w, 0, 2, NULL), *b = submit(w, 2, 2, NULL);
    pil_sched_give_up(w->s);
    pil_job *late = submit(w, 4, 2, NULL);
    pil_sched_cancel(w->s, a);
    pil_sched_cancel(w->s, late);
    pil_sched_load load;
    pil_sched_measure(w->s, &load);
    assert_int_equal(load.jobs, 0);
    assert_finished(w, b, PIL_JOB_UNAVAILABLE);
    assert_null(pil_sched_finished(w->s));
}

static void a_full_queue_refuses_and_says_so(void **state) {
    world *w = *state;
    pil_sched_options opt;
    pil_sched_options_init(&opt, 1);
    opt.queue_tokens_max = 100;
    pil_sched_destroy(w->s);
    pillion_error err = {0};
    assert_ok(pil_sched_create(&w->s, &opt, &err), err);
    submit(w, 0, 9, NULL);
    submit(w, 0, 200, NULL); /* any size is admitted while the queue is below its limit */
    pil_job *j;
    assert_int_equal(pil_sched_submit(w->s, &j, PILLION_OP_EMBED, &w->options, w->inputs, 1, 0, NULL, &err),
                     PILLION_E_LIMIT);
    assert_null(j);
    assert_error(err, PILLION_E_LIMIT, "queue is full");
}

/* Random events in, and at the end every job must have finished exactly once with every item answered in its place. */
static void any_schedule_answers_every_text_once(void **state) {
    world *w = *state;
    unsigned seed = 20261122;
    for (int round = 0; round < 300; round++) {
        pil_sched_options opt;
        pil_sched_options_init(&opt, 1 + (uint32_t)round % 3);
        opt.batch_tokens = 40 + (uint32_t)round;
        pil_sched_destroy(w->s);
        assert_int_equal(pil_sched_create(&w->s, &opt, NULL), PILLION_OK);
        bool ready[3] = {false};
        pil_job *live[32];
        size_t n_live = 0, n_submitted = 0, n_ended = 0;
        for (int step = 0; step < 400 || n_ended < n_submitted; step++) {
            unsigned r = (unsigned)rand_r(&seed) >> 4, worker = r / 16 % opt.workers;
            switch (step < 400 ? r % 8 : 3 + r % 4) {
            case 0:
            case 1:
                if (n_live == 32) break;
                live[n_live++] = submit(w, r % 100, 1 + r / 128 % 200, &w->inputs[r % 100]);
                n_submitted++;
                break;
            case 2:
                if (n_live == 0) break;
                pil_sched_cancel(w->s, live[r / 16 % n_live]);
                live[r / 16 % n_live] = live[n_live - 1];
                n_live--;
                n_ended++;
                break;
            case 3:
                if (!ready[worker]) pil_sched_ready(w->s, worker);
                ready[worker] = true;
                break;
            case 4:
            case 5:
                if (pil_sched_oldest(w->s, worker)) answer(w, worker);
                break;
            case 6:
                while (next(w)) {}
                break;
            case 7:
                if (ready[worker] && r % 5 == 0) {
                    pil_sched_lost(w->s, worker, false);
                    ready[worker] = false;
                }
                break;
            }
            for (pil_job *j; (j = pil_sched_finished(w->s)); pil_job_destroy(j)) {
                size_t at = 0;
                while (at < n_live && live[at] != j) at++;
                assert_true(at < n_live);
                live[at] = live[--n_live];
                n_ended++;
                size_t first = (size_t)((const pillion_input *)pil_job_ud(j) - w->inputs);
                for (size_t i = 0; i < pil_job_count(j); i++) {
                    assert_true(pil_job_item(j, i)->n_tokens >= 1000);
                    assert_int_equal(pil_job_item(j, i)->error_offset, first + i);
                }
            }
        }
        pil_sched_load load;
        pil_sched_measure(w->s, &load);
        assert_int_equal(load.jobs, 0);
        assert_int_equal(load.texts_waiting, 0);
        assert_int_equal(load.tokens_waiting, 0);
    }
}

int main(void) {
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
#define T1(name) cmocka_unit_test_setup_teardown(name, setup_one, teardown)
    const struct CMUnitTest tests[] = {
        T(nothing_is_handed_out_before_a_worker_is_ready),
        T(a_job_finishes_when_every_text_is_answered),
        T(batches_are_cut_by_estimated_tokens),
        T(a_text_over_the_budget_runs_alone),
        T(the_estimate_stops_at_the_model_s_limit),
        T(a_small_job_is_shared_by_idle_workers),
        T1(a_busy_worker_gets_a_second_batch_only_when_plenty_waits),
        T(small_jobs_share_a_batch),
        T(jobs_with_other_options_do_not_share_a_batch),
        T(a_large_job_does_not_keep_a_small_one_waiting),
        T(texts_of_a_lost_worker_run_again_in_order),
        T(a_text_that_kills_its_worker_fails_alone),
        T(deaths_from_outside_are_not_charged_to_a_text),
        T(nothing_is_tried_for_ever),
        T(a_refused_batch_gives_its_texts_the_status),
        T(a_cancelled_job_leaves_no_trace),
        T(a_cancelled_job_is_not_run_again),
        T(jobs_wait_for_a_worker_only_so_long),
        T(giving_up_ends_everything_and_all_that_comes),
        T(a_finished_job_may_be_cancelled),
        T(a_full_queue_refuses_and_says_so),
        T(any_schedule_answers_every_text_once),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
