/* test_memory.c - each allocation of the dispatcher fails once: what comes of it is a typed error and nothing else. */
#include "sched/world.h"

#if defined(__has_feature)
#if __has_feature(address_sanitizer)
#define OWN_ALLOCATOR 1
#endif
#elif defined(__SANITIZE_ADDRESS__)
#define OWN_ALLOCATOR 1
#endif
#if defined(__GLIBC__) && !defined(OWN_ALLOCATOR) && !HIDDEN_THREAD
#define CAN_FAIL 1
#else
#define CAN_FAIL 0
#endif

static int countdown; /* to the allocation that fails; 0: none */
static bool armed;

#if CAN_FAIL
/* The C library's own, under the names that it offers for this. */
void *__libc_malloc(size_t n);
void *__libc_calloc(size_t n, size_t size);
void *__libc_realloc(void *p, size_t n);

static bool fails_now(void) { return armed && countdown > 0 && --countdown == 0; }
__attribute__((visibility("default"))) void *malloc(size_t n) { return fails_now() ? NULL : __libc_malloc(n); }
__attribute__((visibility("default"))) void *calloc(size_t n, size_t size) {
    return fails_now() ? NULL : __libc_calloc(n, size);
}
__attribute__((visibility("default"))) void *realloc(void *p, size_t n) {
    return fails_now() ? NULL : __libc_realloc(p, n);
}
#endif

#define TEXTS 6
static pillion_input inputs[TEXTS];
static char bytes[TEXTS][32];

/* Answers the oldest batch of slot 0; text 2 kills its worker instead. */
static void work(pil_sched *s) {
    const pil_batch *b = pil_sched_oldest(s, 0);
    bool canary = pil_batch_input(b, 0) < inputs || pil_batch_input(b, 0) >= inputs + TEXTS, kills = false;
    for (size_t i = 0; i < b->n && !canary; i++) kills |= pil_batch_input(b, i) == &inputs[2];
    if (kills) {
        pil_sched_ended(s, 0, PIL_END_CRASH, "it died");
        return;
    }
    armed = false; /* the answer is the driver's to make */
    pil_answer *a = pil_answer_create(PIL_MIB);
    a->items = pil_arena_calloc(&a->arena, b->n, sizeof *a->items);
    float *values = pil_arena_calloc(&a->arena, b->n, sizeof *values);
    a->n = b->n;
    for (size_t i = 0; i < b->n; i++) {
        values[i] = canary ? 0.5f : (float)(pil_batch_input(b, i) - inputs);
        a->items[i] = (pillion_item){.values = &values[i], .n_values = 1};
    }
    armed = true;
    pil_sched_answered(s, 0, a);
    pil_answer_release(a);
}

static void drive(pil_sched *s) {
    pil_action a;
    while (pil_sched_next_action(s, &a)) {
        if (a.kind == PIL_ACTION_SPAWN) pil_sched_ready(s, a.slot, &(float){0.5f}, 1);
        if (a.kind == PIL_ACTION_SEND) work(s);
    }
}

static void check_job(pil_job *j, unsigned *n_poison) {
    for (size_t i = 0; i < pil_job_count(j); i++) {
        const pillion_item *it = pil_job_item(j, i);
        *n_poison += it->status == PILLION_E_POISON;
        if (it->status == PILLION_OK) assert_true(it->values[0] == (float)i);
        else assert_true(it->status == PILLION_E_NOMEM || (i == 2 && it->status == PILLION_E_POISON));
    }
    pil_job_destroy(j);
}

/* One life of a dispatcher in which the n-th allocation fails. */
static void live(int n) {
    pil_sched_options opt;
    pil_sched_options_init(&opt, 1);
    pil_sched *s;
    pillion_error err = {0};
    pillion_run_options options;
    pillion_run_options_init(&options);
    countdown = n;
    armed = true;
    pillion_status st = pil_sched_create(&s, &opt, &err);
    if (st) {
        assert_int_equal(st, PILLION_E_NOMEM);
        assert_null(s);
        return;
    }
    pil_sched_advance(s, 1);
    pil_sched_start(s);
    unsigned n_poison = 0, n_admitted = 0;
    for (int round = 0; round < 2; round++) {
        pil_job *j;
        st = pil_sched_submit(s, &j, 1, PILLION_OP_EMBED, &options, inputs, TEXTS, NULL, &err);
        assert_true(st ? st == PILLION_E_NOMEM && !j : j != NULL);
        n_admitted += !st;
        drive(s);
        for (pil_job *done; (done = pil_sched_finished(s));) check_job(done, &n_poison);
    }
    assert_int_equal(n_poison, n_admitted);
    pil_sched_load load;
    pil_sched_measure(s, &load);
    assert_int_equal(load.jobs, 0);
    assert_int_equal(load.tokens_waiting, 0);
    assert_int_equal(load.bytes, 0);
    pil_sched_destroy(s);
}

static void any_allocation_may_fail(void **state) {
    (void)state;
    if (!CAN_FAIL) skip_with("this C library or sanitizer keeps its allocator to itself");
    for (size_t i = 0; i < TEXTS; i++) {
        memset(bytes[i], 'a' + (int)i, sizeof bytes[i]);
        inputs[i] = (pillion_input){.text = bytes[i], .text_bytes = sizeof bytes[i]};
    }
    int n = 1;
    for (bool reached = true; reached && n < 1000; n++) {
        live(n);
        reached = countdown == 0;
        armed = false;
    }
    assert_in_range(n, 12, 999); /* there were some, and they came to an end */
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(any_allocation_may_fail)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
