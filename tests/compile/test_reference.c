/* test_reference.c - tiny models of every family, pooling, module and weight type give the vectors of
 * sentence-transformers: the whole way from a Hugging Face directory to values.
 *
 * The values are in tests/golden/tiny.txt, made by make_tiny.py there, which has this program write the models:
 *     compile_test_reference --write DIR        writes DIR/0, DIR/1, … */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "support/files.h"
#include "support/test.h"
#include "support/tiny_model.h"

#define LEGACY(mode)                                                                                                 \
    "{\"word_embedding_dimension\":32,\"pooling_mode_mean_tokens\":false,\"pooling_mode_" mode "\":true}"
#define ALL_POOLINGS "[\"cls\",\"max\",\"mean\",\"mean_sqrt_len_tokens\",\"weightedmean\",\"lasttoken\"]"
#define NO_PROMPT(mode) "{\"embedding_dimension\":32,\"pooling_mode\":" mode ",\"include_prompt\":false}"
#define PROMPTS "{\"prompts\":{\"query\":\"the cat: \",\"none\":\"\"},\"default_prompt_name\":\"query\"}"

/* The number of a variant is its place here: append only, or make the values again. */
static const struct {
    const char *family;
    pil_tiny_options options;
} variants[] = {
    {"bert", {.seed = 1}},
    {"xlm-roberta", {.seed = 2}},
    {"mpnet", {.seed = 3}},
    {"bert", {.seed = 4, .pooling = LEGACY("cls_token"), .no_normalize = true}},
    {"bert",
     {.seed = 5, .pooling = "{\"embedding_dimension\":32,\"pooling_mode\":" ALL_POOLINGS "}", .no_normalize = true}},
    {"xlm-roberta", {.seed = 6, .dtype = PIL_DTYPE_F16, .dense = 32}},
    {"mpnet", {.seed = 7, .dtype = PIL_DTYPE_BF16, .sharded = true, .pooling = LEGACY("lasttoken")}},
    {"bert", {.seed = 8, .dense = 64, .no_normalize = true, .prefix = "bert."}},
    {"bert", {.seed = 9, .pipeline = PROMPTS}},
    {"xlm-roberta", {.seed = 10, .pipeline = PROMPTS, .no_normalize = true, .pooling = NO_PROMPT(ALL_POOLINGS)}},
};
#define VARIANTS (sizeof variants / sizeof *variants)

/* Also in make_tiny.py. The third is longer than the model takes. */
static const char *const texts[] = {
    "Hello world, the CAT sat on the mat!",
    "x",
    "one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen",
    "",
    "caf\xC3\xA9 \xE2\x98\x95 na\xC3\xAFve cats",
};
#define TEXTS (sizeof texts / sizeof *texts)

static void check_item(const pillion_item *item, size_t variant, size_t text, const float *wanted, size_t n) {
    assert_int_equal(item->status, PILLION_OK);
    assert_int_equal(item->n_values, n);
    assert_int_equal(item->truncated, text == 2);
    for (size_t i = 0; i < n; i++)
        if (!(fabsf(item->values[i] - wanted[i]) <= 1e-5f * fmaxf(1, fabsf(wanted[i]))))
            fail_msg("variant %zu, text %zu, value %zu: wanted %.9g, got %.9g", variant, text, i, (double)wanted[i],
                     (double)item->values[i]);
}

/* One line of the file for each text: variant, text, values. */
static size_t read_line(FILE *golden, size_t variant, size_t text, float *values, size_t max) {
    char *line = NULL, *at;
    size_t cap = 0, n = 0;
    assert_true(getline(&line, &cap, golden) > 0);
    assert_int_equal(strtoul(line, &at, 10), variant);
    assert_int_equal(strtoul(at, &at, 10), text);
    for (char *end; n < max; at = end) {
        float v = strtof(at, &end);
        if (end == at) break;
        values[n++] = v;
    }
    free(line);
    return n;
}

static void vectors_of_every_variant_are_those_of_sentence_transformers(void **state) {
    (void)state;
    FILE *golden = fopen(PIL_TEST_GOLDEN "/tiny.txt", "r");
    assert_non_null(golden);
    for (size_t v = 0; v < VARIANTS; v++) {
        char dir[PIL_TEST_PATH];
        pillion_error err = {0};
        pillion_model *model;
        pillion_session *session;
        pillion_input in[TEXTS] = {{0}};
        const pillion_item *items;
        pillion_model_options options;
        pillion_run_options run;
        pil_test_dir_make(dir);
        pil_tiny_model_write(dir, variants[v].family, &variants[v].options);
        pillion_model_options_init(&options);
        options.cache_dir = dir;
        pillion_run_options_init(&run);
        run.normalize = PILLION_NORMALIZE_MODEL;
        for (size_t t = 0; t < TEXTS; t++) in[t] = (pillion_input){.text = texts[t], .text_bytes = strlen(texts[t])};
        assert_ok(pillion_model_open(&model, dir, &options, &err), err);
        assert_ok(pillion_session_create(&session, model, NULL, &err), err);
        assert_ok(pillion_run(session, PILLION_OP_EMBED, in, TEXTS, &run, &items, &err), err);
        for (size_t t = 0; t < TEXTS; t++) {
            float wanted[256];
            size_t n = read_line(golden, v, t, wanted, 256);
            check_item(&items[t], v, t, wanted, n);
        }
        pillion_session_destroy(session);
        pillion_model_close(model);
        pil_test_dir_remove(dir);
    }
    fclose(golden);
}

static int write_models(const char *dir) {
    for (size_t v = 0; v < VARIANTS; v++) {
        char path[PIL_TEST_PATH];
        snprintf(path, sizeof path, "%s/%zu", dir, v);
        pil_tiny_model_write(path, variants[v].family, &variants[v].options);
    }
    return 0;
}

int main(int argc, char **argv) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(vectors_of_every_variant_are_those_of_sentence_transformers),
    };
    if (argc == 3 && strcmp(argv[1], "--write") == 0) return write_models(argv[2]);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
