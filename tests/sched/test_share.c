/* test_share.c - who is next: clients, jobs, short jobs and the express worker. */
#include "sched/world.h"

static void work(world *w, uint32_t slot, size_t n_batches) {
    while (n_batches-- > 0) {
        act_all(w);
        if (!pil_sched_oldest(w->s, slot)) return;
        answer(w, slot);
    }
}

/* Has slot 0 do so many batches. Returns how many texts of inputs [first, first + n) were in them; *all: of any. */
static size_t count_sent(world *w, size_t first, size_t n, size_t batches, size_t *all) {
    size_t found = 0;
    *all = 0;
    for (size_t k = 0; k < batches; k++) {
        act_all(w);
        const pil_batch *b = pil_sched_oldest(w->s, 0);
        assert_non_null(b);
        for (size_t i = 0; i < b->n; i++) {
            size_t index = (size_t)(w->sent[0][0][i] - w->inputs);
            found += index >= first && index < first + n;
        }
        *all += b->n;
        answer(w, 0);
    }
    return found;
}

static void a_large_job_does_not_keep_a_small_one_waiting(void **state) {
    world *w = *state;
    up(w, 0);
    submit(w, 0, 300, NULL);
    pil_job *small = submit(w, 300, 1, NULL);
    work(w, 0, 3);
    assert_finished(w, small, PIL_JOB_ANSWERED);
}

static void clients_share_evenly_whatever_they_ask_for(void **state) {
    world *w = *state;
    up(w, 0);
    w->client = 1;
    for (int i = 0; i < 10; i++) submit(w, 0, 100, NULL); /* ten jobs of one */
    w->client = 2;
    submit(w, 100, 300, NULL); /* one of the other */
    size_t all, second = count_sent(w, 100, 300, 10, &all);
    assert_in_range(second, all / 2 - 51, all / 2 + 51);
}

static void jobs_of_one_client_share_evenly(void **state) {
    world *w = *state;
    up(w, 0);
    submit(w, 0, 100, NULL);
    submit(w, 100, 100, NULL);
    submit(w, 200, 100, NULL);
    size_t all, second = count_sent(w, 100, 100, 3, &all);
    assert_in_range(second, 40, 62);
}

static void long_texts_count_by_their_tokens(void **state) {
    world *w = *state;
    for (size_t i = 0; i < 20; i++) w->inputs[i].text_bytes = 3000; /* 1,002 tokens: two quanta */
    up(w, 0);
    w->client = 1;
    submit(w, 0, 20, NULL);
    w->client = 2;
    for (int i = 0; i < 4; i++) submit(w, 100, 300, NULL);
    size_t long_ones = 0, short_ones = 0;
    for (int k = 0; k < 30; k++) {
        act_all(w);
        const pil_batch *b = pil_sched_oldest(w->s, 0);
        bool is_long = w->sent[0][0][0] < w->inputs + 20;
        *(is_long ? &long_ones : &short_ones) += is_long ? 1002 * b->n : 10 * b->n;
        answer(w, 0);
    }
    assert_true(long_ones < short_ones + 1600 && short_ones < long_ones + 1600);
}

/* Estimates are one thing; what a text really cost is charged afterwards. */
static void a_client_whose_texts_cost_more_than_estimated_waits_longer(void **state) {
    world *w = *state;
    up(w, 0);
    w->client = 1;
    for (int i = 0; i < 8; i++) submit(w, 0, 100, NULL);
    w->client = 2;
    for (int i = 0; i < 8; i++) submit(w, 100, 100, NULL);
    size_t cheap = 0, dear = 0;
    for (int k = 0; k < 12; k++) {
        act_all(w);
        const pil_batch *b = pil_sched_oldest(w->s, 0);
        assert_non_null(b);
        pil_answer *a = pil_answer_create(PIL_MIB);
        a->items = pil_arena_calloc(&a->arena, b->n, sizeof *a->items);
        a->n = b->n;
        for (size_t i = 0; i < b->n; i++) {
            bool is_dear = w->sent[0][0][i] < w->inputs + 100;
            a->items[i].n_tokens = is_dear ? 30 : 10;
            *(is_dear ? &dear : &cheap) += 1;
        }
        forget_sent(w, 0);
        pil_sched_answered(w->s, 0, a);
        pil_answer_release(a);
    }
    assert_true(cheap > 2 * dear && cheap < 4 * dear);
}

/* The count of a worker is not trusted without bound. */
static void an_absurd_count_of_tokens_does_not_shut_a_client_out(void **state) {
    world *w = *state;
    up(w, 0);
    w->client = 1;
    submit(w, 0, 300, NULL);
    act_all(w);
    const pil_batch *b = pil_sched_oldest(w->s, 0);
    pil_answer *a = pil_answer_create(PIL_MIB);
    a->items = pil_arena_calloc(&a->arena, b->n, sizeof *a->items);
    a->n = b->n;
    for (size_t i = 0; i < b->n; i++) a->items[i].n_tokens = UINT32_MAX;
    forget_sent(w, 0);
    pil_sched_answered(w->s, 0, a);
    pil_answer_release(a);
    w->client = 2;
    submit(w, 300, 100, NULL);
    size_t all, first = count_sent(w, 0, 300, 4, &all);
    assert_true(first > 0);
}

static void a_short_job_goes_to_the_express_worker(void **state) {
    world *w = *state;
    for (uint32_t i = 0; i < 3; i++) up(w, i);
    submit(w, 0, 300, NULL);
    act_all(w);
    assert_non_null(pil_sched_oldest(w->s, 0));
    assert_non_null(pil_sched_oldest(w->s, 1));
    assert_null(pil_sched_oldest(w->s, 2)); /* kept free while nobody is missing */
    pil_job *j = submit(w, 300, 5, NULL);
    const pil_batch *b = next(w);
    assert_int_equal(b->slot, 2);
    assert_int_equal(b->n, 5);
    answer(w, 2);
    assert_finished(w, j, PIL_JOB_ANSWERED);
}

static void an_idle_bulk_worker_takes_a_short_job_when_the_express_one_is_busy(void **state) {
    world *w = *state;
    for (uint32_t i = 0; i < 3; i++) up(w, i);
    submit(w, 0, 2, NULL);
    assert_int_equal(next(w)->slot, 2);
    submit(w, 2, 2, NULL);
    assert_int_equal(next(w)->slot, 0);
    submit(w, 4, 2, NULL);
    assert_int_equal(next(w)->slot, 1);
    submit(w, 6, 2, NULL);
    assert_int_equal(next(w)->slot, 2); /* behind its first */
    submit(w, 8, 2, NULL);
    assert_null(next(w));
}

static void short_jobs_do_not_starve_long_ones(void **state) {
    world *w = *state;
    up(w, 0);
    w->client = 1;
    submit(w, 0, 40, NULL);
    size_t bulk = 0;
    for (int round = 0; round < 20; round++) { /* the express worker never comes; short jobs never end */
        w->client = 2;
        for (int i = 0; i < 4; i++) submit(w, 300, 25, NULL);
        act_all(w);
        if (w->sent[0][0][0] < w->inputs + 300) {
            bulk++;
            w->client = 1;
            submit(w, 0, 40, NULL);
        }
        answer(w, 0);
    }
    assert_in_range(bulk, 9, 11); /* turn and turn about */
}

/* Two batches are with the worker, and one turn is before the other's: each of them small. */
static void a_client_with_many_short_jobs_keeps_another_waiting_for_some_lines_only(void **state) {
    world *w = *state;
    up(w, 2); /* nobody else */
    w->client = 1;
    for (size_t i = 0; i < 200; i++) submit(w, i, 1, NULL);
    act_all(w);
    w->client = 2;
    submit(w, 300, 1, NULL);
    size_t lines = 0;
    for (; !batch_has(w, pil_sched_oldest(w->s, 2), 300); act_all(w)) lines += answer(w, 2);
    assert_in_range(lines, 12, 20);
}

/* The opposite: with plenty of long jobs no worker is ever idle. */
static void long_jobs_do_not_starve_short_ones(void **state) {
    world *w = *state;
    for (uint32_t i = 0; i < 2; i++) up(w, i);
    w->client = 1;
    for (int i = 0; i < 20; i++) submit(w, 0, 300, NULL);
    act_all(w);
    advance(w, 100); /* the express worker is not just being replaced */
    w->client = 2;
    size_t n_short = 0;
    for (int round = 0; round < 10; round++) {
        for (int i = 0; i < 4; i++) submit(w, 300, 25, NULL);
        for (uint32_t i = 0; i < 2; i++) {
            n_short += w->sent[i][0][0] >= w->inputs + 300;
            answer(w, i);
            act_all(w);
            assert_int_equal(w->n_sent[i], 2);
        }
    }
    assert_in_range(n_short, 8, 10); /* turn and turn about, once two are done that were there before */
}

static void the_express_worker_stands_in_while_a_bulk_worker_is_missing(void **state) {
    world *w = *state;
    for (uint32_t i = 0; i < 3; i++) up(w, i);
    end(w, 0, PIL_END_OUTSIDE);
    pil_job *j = submit(w, 0, 150, NULL);
    act_all(w);
    assert_non_null(pil_sched_oldest(w->s, 1));
    assert_null(pil_sched_oldest(w->s, 2)); /* the other one is usually back at once */
    assert_int_equal(pil_sched_next_ms(w->s), w->now + 100);
    advance(w, 100);
    act_all(w);
    assert_int_equal(pil_sched_oldest(w->s, 2)->n, 6); /* and a short job does not wait long even now */
    ready(w, 0);
    answer(w, 2);
    act_all(w);
    assert_null(pil_sched_oldest(w->s, 2)); /* free again */
    pil_sched_cancel(w->s, j);
}

static void without_its_express_worker_short_jobs_are_done_by_the_others(void **state) {
    world *w = *state;
    up(w, 0);
    pil_job *j = submit(w, 0, 1, NULL);
    assert_int_equal(next(w)->slot, 0);
    answer(w, 0);
    assert_finished(w, j, PIL_JOB_ANSWERED);
}

static void a_full_queue_of_long_jobs_refuses_no_short_one(void **state) {
    world *w = *state;
    for (uint32_t i = 0; i < 3; i++) up(w, i);
    for (int i = 0; i < 30; i++) {
        pil_job *j = submit(w, 0, 102, NULL);
        act_all(w);
        advance(w, 500);
        for (uint32_t k = 0; k < 3; k++)
            while (pil_sched_oldest(w->s, k)) answer(w, k);
        assert_finished(w, j, PIL_JOB_ANSWERED);
    }
    pillion_error err = {0};
    unsigned n = 0;
    while (n < 100 && !try_submit(w, 0, 300, &err)) n++;
    assert_int_equal(err.code, PILLION_E_LIMIT);
    assert_int_equal(try_submit(w, 0, 2, NULL), PILLION_OK);
}

/* A short job may have many bytes: its model reads their beginning only. */
static void a_memory_full_of_long_jobs_refuses_no_short_one(void **state) {
    world *w = *state;
    w->opt.queue_bytes_max = 8000;
    world_open(w);
    pil_sched_set_model(w->s, NULL, 200);
    for (size_t i = 0; i < 6; i++) w->inputs[i].text_bytes = i < 3 ? 4000 : 600;
    pil_job *j = submit(w, 0, 3, NULL);
    assert_int_equal(try_submit(w, 10, 300, NULL), PILLION_E_LIMIT);
    assert_int_equal(try_submit(w, 3, 1, NULL), PILLION_OK);
    assert_int_equal(try_submit(w, 4, 1, NULL), PILLION_OK);
    assert_int_equal(measure(w).bytes, 13200);
    assert_int_equal(try_submit(w, 5, 1, NULL), PILLION_E_LIMIT); /* but short ones are too many as well some time */
    pil_sched_cancel(w->s, j);
    assert_int_equal(try_submit(w, 5, 1, NULL), PILLION_E_LIMIT);
    assert_int_equal(try_submit(w, 10, 300, NULL), PILLION_OK);
}

/* Thousands of clients come and go. */
static void clients_leave_nothing_behind(void **state) {
    world *w = *state;
    up(w, 0);
    for (uint64_t i = 0; i < 5000; i++) {
        w->client = i * 7919;
        pil_job *j = submit(w, i % 300, 1 + i % 3, NULL);
        if (i % 3 == 0) {
            pil_sched_cancel(w->s, j);
            continue;
        }
        act_all(w);
        while (pil_sched_oldest(w->s, 0)) answer(w, 0);
        for (pil_job *f; (f = pil_sched_finished(w->s));) pil_job_destroy(f);
    }
    assert_int_equal(measure(w).jobs, 0);
    assert_int_equal(measure(w).tokens_waiting, 0);
}

int main(void) {
#define T1(name) cmocka_unit_test_setup_teardown(name, one_worker, world_destroy)
#define T1E(name) cmocka_unit_test_setup_teardown(name, one_and_express, world_destroy)
#define T2E(name) cmocka_unit_test_setup_teardown(name, two_and_express, world_destroy)
    const struct CMUnitTest tests[] = {
        T1(a_large_job_does_not_keep_a_small_one_waiting),
        T1(clients_share_evenly_whatever_they_ask_for),
        T1(jobs_of_one_client_share_evenly),
        T1(long_texts_count_by_their_tokens),
        T1(a_client_whose_texts_cost_more_than_estimated_waits_longer),
        T1(an_absurd_count_of_tokens_does_not_shut_a_client_out),
        T2E(a_short_job_goes_to_the_express_worker),
        T2E(an_idle_bulk_worker_takes_a_short_job_when_the_express_one_is_busy),
        T1E(short_jobs_do_not_starve_long_ones),
        T2E(a_client_with_many_short_jobs_keeps_another_waiting_for_some_lines_only),
        T2E(long_jobs_do_not_starve_short_ones),
        T2E(the_express_worker_stands_in_while_a_bulk_worker_is_missing),
        T1E(without_its_express_worker_short_jobs_are_done_by_the_others),
        T2E(a_full_queue_of_long_jobs_refuses_no_short_one),
        T2E(a_memory_full_of_long_jobs_refuses_no_short_one),
        T1(clients_leave_nothing_behind),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
