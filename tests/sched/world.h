/* world.h - a driver of the dispatcher for tests: time is a number, workers are what the test says they do. */
#ifndef PIL_TESTS_SCHED_WORLD_H
#define PIL_TESTS_SCHED_WORLD_H

#include "support/test.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/limits.h"
#include "sched/sched.h"

#define WORLD_TEXTS 400
#define WORLD_SLOTS 8

typedef struct world {
    pil_sched *s;
    pil_sched_options opt;
    pillion_run_options options;
    pillion_input inputs[WORLD_TEXTS]; /* each with bytes of its own, 10 tokens */
    char bytes[WORLD_TEXTS][4096];
    uint64_t client, now;
    struct {
        unsigned spawned, killed, retired, abandoned; /* actions so far */
        const char *why;
        float canary; /* the value it answers a canary with */
    } slot[WORLD_SLOTS];
    const pillion_input *sent[WORLD_SLOTS][2][WORLD_TEXTS]; /* of the batches with a worker, oldest first */
    size_t n_sent[WORLD_SLOTS];
} world;

static inline void world_open(world *w) {
    pillion_error err = {0};
    pil_sched_destroy(w->s);
    memset(w->slot, 0, sizeof w->slot);
    memset(w->n_sent, 0, sizeof w->n_sent);
    assert_ok(pil_sched_create(&w->s, &w->opt, &err), err);
    pil_sched_advance(w->s, w->now);
    pil_sched_start(w->s);
}

static inline int world_create(void **state, uint32_t workers, bool express) {
    world *w = calloc(1, sizeof *w);
    pillion_run_options_init(&w->options);
    for (size_t i = 0; i < WORLD_TEXTS; i++) {
        memset(w->bytes[i], 'a', sizeof w->bytes[i]);
        memcpy(w->bytes[i], &i, sizeof i);
        w->inputs[i] = (pillion_input){.text = w->bytes[i], .text_bytes = 24};
    }
    pil_sched_options_init(&w->opt, workers);
    w->opt.express = express;
    w->now = 1000000;
    *state = w;
    world_open(w);
    return 0;
}

static inline int world_destroy(void **state) {
    world *w = *state;
    pil_sched_destroy(w->s);
    free(w);
    return 0;
}

static inline int one_worker(void **state) { return world_create(state, 1, false); }
static inline int two_workers(void **state) { return world_create(state, 2, false); }
static inline int one_and_express(void **state) { return world_create(state, 1, true); }
static inline int two_and_express(void **state) { return world_create(state, 2, true); }

/* ── Jobs ── */

static inline pil_job *submit(world *w, size_t first, size_t n, void *ud) {
    pil_job *j;
    pillion_error err = {0};
    const pillion_input *in = &w->inputs[first];
    assert_ok(pil_sched_submit(w->s, &j, w->client, PILLION_OP_EMBED, &w->options, in, n, ud, &err), err);
    return j;
}

static inline pillion_status try_submit(world *w, size_t first, size_t n, pillion_error *err) {
    pil_job *j;
    pillion_status st =
        pil_sched_submit(w->s, &j, w->client, PILLION_OP_EMBED, &w->options, &w->inputs[first], n, NULL, err);
    assert_true((st == PILLION_OK) == (j != NULL));
    return st;
}

static inline void assert_finished(world *w, pil_job *job, pil_job_end end) {
    pil_job *j = pil_sched_finished(w->s);
    assert_ptr_equal(j, job);
    assert_int_equal(pil_job_ended(j), end);
    pil_job_destroy(j);
}

static inline pil_sched_load measure(const world *w) {
    pil_sched_load load;
    pil_sched_measure(w->s, &load);
    return load;
}

/* ── Workers ── */

static inline bool is_canary(const world *w, const pil_batch *b) {
    const pillion_input *in = pil_batch_input(b, 0);
    return in < w->inputs || in >= w->inputs + WORLD_TEXTS;
}

static inline void forget_sent(world *w, uint32_t slot) {
    if (w->n_sent[slot] == 0) return;
    w->n_sent[slot]--;
    memmove(w->sent[slot][0], w->sent[slot][1], sizeof w->sent[slot][0]);
}

#define NO_ITEM SIZE_MAX
#define ALL_ITEMS (SIZE_MAX - 1)

/* Answers the oldest batch of a worker: the value of each vector is the index of its input, or the worker's canary.
 * bad: an item that is not finite, or one of the above. Returns the number of texts. */
static inline size_t answer_with(world *w, uint32_t slot, size_t bad) {
    const pil_batch *b = pil_sched_oldest(w->s, slot);
    assert_non_null(b);
    size_t n = b->n;
    pil_answer *a = pil_answer_create(PIL_MIB);
    assert_non_null(a);
    a->items = pil_arena_calloc(&a->arena, n, sizeof *a->items);
    float *values = pil_arena_calloc(&a->arena, n, sizeof *values);
    a->n = n;
    for (size_t i = 0; i < n; i++) {
        const pillion_input *in = w->sent[slot][0][i];
        values[i] = in ? (float)(in - w->inputs) : w->slot[slot].canary;
        uint32_t n_tokens = in ? 2 + (uint32_t)in->text_bytes / 3 : 10; /* just as estimated */
        a->items[i] = (pillion_item){.n_tokens = n_tokens, .values = &values[i], .n_values = 1};
        if (i == bad || bad == ALL_ITEMS) a->items[i] = (pillion_item){.status = PILLION_E_NUMERIC};
    }
    forget_sent(w, slot);
    pil_sched_answered(w->s, slot, a);
    pil_answer_release(a);
    return n;
}
static inline size_t answer(world *w, uint32_t slot) { return answer_with(w, slot, NO_ITEM); }

static inline void refuse(world *w, uint32_t slot, pillion_status st) {
    forget_sent(w, slot);
    pil_sched_refused(w->s, slot, st);
}

static inline void end(world *w, uint32_t slot, pil_end how) {
    w->n_sent[slot] = 0;
    pil_sched_ended(w->s, slot, how, "it died");
}

/* One action; false when there is none. */
static inline bool act(world *w, pil_action *a) {
    if (!pil_sched_next_action(w->s, a)) return false;
    assert_true(a->slot < WORLD_SLOTS);
    switch (a->kind) {
    case PIL_ACTION_NONE: fail(); break;
    case PIL_ACTION_SPAWN: w->slot[a->slot].spawned++; break;
    case PIL_ACTION_ABANDON: w->slot[a->slot].abandoned++; break;
    case PIL_ACTION_KILL:
        w->slot[a->slot].killed++;
        w->slot[a->slot].why = a->why;
        break;
    case PIL_ACTION_RETIRE:
        w->slot[a->slot].retired++;
        w->slot[a->slot].why = a->why;
        break;
    case PIL_ACTION_SEND:
        for (size_t i = 0; i < a->batch->n; i++)
            w->sent[a->slot][w->n_sent[a->slot]][i] = is_canary(w, a->batch) ? NULL : pil_batch_input(a->batch, i);
        w->n_sent[a->slot]++;
        break;
    }
    return true;
}

/* Carries out what is asked for until a batch of texts is sent, which is returned, or nothing is left to do. Canaries
 * are answered if nothing is in front of them. */
static inline const pil_batch *next(world *w) {
    for (pil_action a; act(w, &a);) {
        if (a.kind != PIL_ACTION_SEND) continue;
        if (!is_canary(w, a.batch)) return a.batch;
        if (pil_sched_oldest(w->s, a.slot) == a.batch) answer(w, a.slot);
    }
    return NULL;
}

/* Whether anything but batches is asked for. */
static inline void act_all(world *w) {
    for (pil_action a; act(w, &a);) {}
}

static inline void advance(world *w, uint64_t ms) {
    w->now += ms;
    pil_sched_advance(w->s, w->now);
}

/* Lets time pass second by second, as it does for a driver with work. What is asked for meanwhile is left. */
static inline void wait_ms(world *w, uint64_t ms) {
    for (uint64_t until = w->now + ms; w->now < until;) advance(w, until - w->now < 1000 ? until - w->now : 1000);
}

static inline void ready(world *w, uint32_t slot) { pil_sched_ready(w->s, slot, &w->slot[slot].canary, 1); }

/* Has a worker spawned and ready. A batch of texts may be sent to others meanwhile only if none waits. */
static inline void up(world *w, uint32_t slot) {
    pil_action a;
    while (w->slot[slot].spawned == 0 && act(w, &a)) assert_int_not_equal(a.kind, PIL_ACTION_SEND);
    assert_true(w->slot[slot].spawned > 0);
    ready(w, slot);
}

static inline void up_again(world *w, uint32_t slot) {
    w->slot[slot].spawned = 0;
    for (pil_action a; w->slot[slot].spawned == 0;) assert_true(act(w, &a));
    up(w, slot);
}

static inline size_t input_index(const world *w, const pil_batch *b, size_t i) {
    return (size_t)(pil_batch_input(b, i) - w->inputs);
}

static inline bool batch_has(const world *w, const pil_batch *b, size_t index) {
    for (size_t i = 0; i < b->n; i++)
        if (input_index(w, b, i) == index) return true;
    return false;
}

#endif
