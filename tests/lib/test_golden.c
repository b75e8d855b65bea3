/* test_golden.c - ids and vectors of the default model against those that sentence-transformers made.
 *
 * Flow:   tests/golden/minilm.json holds 46 texts (23 sentences of as many languages, 23 hostile strings) with ids and
 *         whole f32 vectors; make_golden.py beside it made them.
 * Needs   minilm/ in $PILLION_MODELS; skipped without. The reference tier does the short texts only: it is slow.
 * Not here: other models (tests/models/compare.py). */
#include "support/test.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/json.h"
#include "support/files.h"

#define GOLDEN PIL_TEST_GOLDEN "/minilm.json"
#define TOLERANCE 1e-5
#define REF_TOKENS_MAX 20 /* of the texts that the reference tier does */

typedef struct golden {
    char cache[PIL_TEST_PATH];
    pillion_model *model;
    pil_json *json;
    size_t n, dim;
    pillion_input *inputs;        /* [n] */
    const pil_json **items;       /* [n] */
    float *vectors;               /* [n, dim], the reference's */
} golden;

static void read_vector(float *out, size_t dim, const pil_json *item) {
    size_t n;
    const char *hex = pil_json_string(pil_json_get(item, "vector"), &n);
    assert_non_null(hex);
    assert_int_equal(n, dim * 8);
    for (size_t i = 0; i < dim; i++) {
        uint32_t bits = 0;
        for (unsigned b = 0; b < 4; b++) { /* little-endian bytes, two digits each */
            const char digits[3] = {hex[i * 8 + b * 2], hex[i * 8 + b * 2 + 1], 0};
            bits |= (uint32_t)strtoul(digits, NULL, 16) << (8 * b);
        }
        memcpy(&out[i], &bits, sizeof bits);
    }
}

static void read_golden(golden *g) {
    pillion_error err = {0};
    assert_ok(pil_json_load(&g->json, GOLDEN, 1 << 20, SIZE_MAX, &err), err);
    g->dim = (size_t)pil_json_int_or(pil_json_get(g->json, "dim"), 0);
    assert_int_equal(g->dim, pillion_model_info(g->model)->dim);
    const pil_json *items = pil_json_get(g->json, "items");
    size_t count = pil_json_count(items);
    assert_true(count >= 40);
    g->inputs = calloc(count, sizeof *g->inputs);
    g->items = calloc(count, sizeof *g->items);
    g->vectors = calloc(count * g->dim, sizeof *g->vectors);
    assert_true(g->inputs && g->items && g->vectors);
    bool slow = !strcmp(pillion_model_info(g->model)->kernels, "ref");
    for (size_t i = 0; i < count; i++) {
        const pil_json *item = pil_json_at(items, i);
        if (slow && pil_json_count(pil_json_get(item, "ids")) > REF_TOKENS_MAX) continue;
        g->inputs[g->n].text = pil_json_string(pil_json_get(item, "text"), &g->inputs[g->n].text_bytes);
        g->items[g->n] = item;
        read_vector(g->vectors + g->n * g->dim, g->dim, item);
        g->n++;
    }
}

static int open_model(void **state) {
    const char *models = getenv("PILLION_MODELS");
    char dir[PIL_TEST_PATH], config[PIL_TEST_PATH];
    pil_test_path(dir, models ? models : ".models", "minilm");
    pil_test_path(config, dir, "config.json");
    FILE *f = fopen(config, "r");
    if (!f) {
        print_message("no model in %s: skipped\n", dir);
        return 0;
    }
    fclose(f);
    golden *g = calloc(1, sizeof *g);
    assert_non_null(g);
    pil_test_dir_make(g->cache);
    pillion_error err = {0};
    pillion_model_options options;
    pillion_model_options_init(&options);
    options.precision = PILLION_PRECISION_F32;
    options.cache_dir = g->cache;
    assert_ok(pillion_model_open(&g->model, dir, &options, &err), err);
    read_golden(g);
    *state = g;
    return 0;
}

static int close_model(void **state) {
    golden *g = *state;
    if (!g) return 0;
    pil_json_free(g->json);
    free(g->inputs);
    free(g->items);
    free(g->vectors);
    pillion_model_close(g->model);
    pil_test_dir_remove(g->cache);
    free(g);
    return 0;
}

/* A session of so many threads and batch tokens (0: as the library likes). */
static pillion_session *session_of(const golden *g, uint32_t threads, uint32_t batch_tokens) {
    pillion_error err = {0};
    pillion_session_options options;
    pillion_session_options_init(&options);
    options.threads = threads;
    options.batch_tokens = batch_tokens;
    pillion_session *session;
    assert_ok(pillion_session_create(&session, g->model, &options, &err), err);
    return session;
}

static const pillion_item *run(pillion_session *session, pillion_op op, const pillion_input *inputs, size_t n) {
    pillion_error err = {0};
    const pillion_item *items;
    assert_ok(pillion_run(session, op, inputs, n, NULL, &items, &err), err);
    for (size_t i = 0; i < n; i++) assert_int_equal(items[i].status, PILLION_OK);
    return items;
}

static void ids_are_those_of_the_reference(void **state) {
    golden *g = *state;
    if (!g) skip();
    pillion_session *session = session_of(g, 1, 0);
    const pillion_item *items = run(session, PILLION_OP_TOKENIZE, g->inputs, g->n);
    for (size_t i = 0; i < g->n; i++) {
        const pil_json *ids = pil_json_get(g->items[i], "ids");
        if (items[i].n_tokens != pil_json_count(ids))
            fail_msg("text %zu has %u ids, the reference %zu", i, items[i].n_tokens, pil_json_count(ids));
        for (size_t k = 0; k < items[i].n_tokens; k++)
            if (items[i].ids[k] != pil_json_int_or(pil_json_at(ids, k), -1))
                fail_msg("text %zu, token %zu: id %d differs", i, k, items[i].ids[k]);
    }
    pillion_session_destroy(session);
}

static void a_text_over_the_limit_is_cut_and_says_so(void **state) {
    golden *g = *state;
    if (!g) skip();
    pillion_session *session = session_of(g, 1, 0);
    const pillion_item *items = run(session, PILLION_OP_EMBED, g->inputs, g->n);
    for (size_t i = 0; i < g->n; i++) {
        int64_t all = pil_json_int_or(pil_json_get(g->items[i], "tokens_all"), 0);
        size_t kept = pil_json_count(pil_json_get(g->items[i], "ids"));
        assert_int_equal(items[i].n_tokens, kept);
        assert_int_equal(items[i].n_tokens_all, all);
        assert_int_equal(items[i].truncated, (size_t)all > kept);
    }
    pillion_session_destroy(session);
}

static void vectors_are_within_1e_5_of_the_reference(void **state) {
    golden *g = *state;
    if (!g) skip();
    pillion_session *session = session_of(g, 1, 0);
    const pillion_item *items = run(session, PILLION_OP_EMBED, g->inputs, g->n);
    double worst = 0;
    for (size_t i = 0; i < g->n; i++) {
        assert_int_equal(items[i].n_values, g->dim);
        for (size_t k = 0; k < g->dim; k++) {
            double difference = fabs((double)items[i].values[k] - (double)g->vectors[i * g->dim + k]);
            if (!(difference <= TOLERANCE)) fail_msg("text %zu, value %zu: off by %g", i, k, difference);
            if (difference > worst) worst = difference;
        }
    }
    const char *kernels = pillion_model_info(g->model)->kernels;
    print_message("kernels %s, %zu texts: largest difference %.2e\n", kernels, g->n, worst);
    pillion_session_destroy(session);
}

static float *vectors_of(const golden *g, const pillion_item *items) {
    float *out = calloc(g->n * g->dim, sizeof *out);
    assert_non_null(out);
    for (size_t i = 0; i < g->n; i++) memcpy(out + i * g->dim, items[i].values, g->dim * sizeof *out);
    return out;
}

/* The same texts, every step-th one after the other, in this kind of session: every bit must be as in `wanted`. */
static void expect_same_bits(const golden *g, const float *wanted, uint32_t threads, uint32_t batch_tokens,
                             size_t step) {
    pillion_session *session = session_of(g, threads, batch_tokens);
    pillion_input *shuffled = calloc(g->n, sizeof *shuffled);
    size_t *from = calloc(g->n, sizeof *from);
    assert_true(shuffled && from);
    for (size_t i = 0, at = 0; i < g->n; i++, at = (at + step) % g->n) {
        from[i] = at;
        shuffled[i] = g->inputs[at];
    }
    const pillion_item *items = run(session, PILLION_OP_EMBED, shuffled, g->n);
    for (size_t i = 0; i < g->n; i++)
        if (memcmp(items[i].values, wanted + from[i] * g->dim, g->dim * sizeof *wanted))
            fail_msg("text %zu differs: %u threads, %u batch tokens, step %zu", from[i], threads, batch_tokens, step);
    free(shuffled);
    free(from);
    pillion_session_destroy(session);
}

static void a_vector_is_bit_identical_in_any_company(void **state) {
    golden *g = *state;
    if (!g) skip();
    pillion_session *session = session_of(g, 1, 0);
    float *together = vectors_of(g, run(session, PILLION_OP_EMBED, g->inputs, g->n));
    for (size_t i = 0; i < g->n; i++) {
        const pillion_item *alone = run(session, PILLION_OP_EMBED, &g->inputs[i], 1);
        if (memcmp(alone->values, together + i * g->dim, g->dim * sizeof *together))
            fail_msg("text %zu differs alone", i);
    }
    pillion_session_destroy(session);
    expect_same_bits(g, together, 1, 256, g->n - 1); /* backwards, in the smallest batches */
    expect_same_bits(g, together, 1, 777, 1);
    expect_same_bits(g, together, 3, 0, g->n - 1);
    free(together);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ids_are_those_of_the_reference),
        cmocka_unit_test(a_text_over_the_limit_is_cut_and_says_so),
        cmocka_unit_test(vectors_are_within_1e_5_of_the_reference),
        cmocka_unit_test(a_vector_is_bit_identical_in_any_company),
    };
    return cmocka_run_group_tests(tests, open_model, close_model);
}
