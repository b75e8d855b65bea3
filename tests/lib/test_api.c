/* pillion.h as an application uses it, with the real default model. Vectors against the reference are test_golden.c. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/json.h"
#include "base/limits.h"
#include "support/files.h"
#include "support/test.h"
#include "support/tiny_model.h"

typedef struct fixture {
    char cache[PIL_TEST_PATH], source[PIL_TEST_PATH];
    pillion_model_options options;
    pillion_model *model;
    pillion_session *session;
} fixture;

static int open_model(void **state) {
    fixture *f = calloc(1, sizeof *f);
    const char *models = getenv("PILLION_MODELS");
    snprintf(f->source, sizeof f->source, "%s/minilm", models ? models : ".models");
    pil_test_dir_make(f->cache);
    pillion_model_options_init(&f->options);
    f->options.cache_dir = f->cache;
    *state = f;
    pillion_error err = {0};
    pillion_session_options o;
    pillion_session_options_init(&o);
    o.threads = 2;
    if (pillion_model_open(&f->model, f->source, &f->options, &err) ||
        pillion_session_create(&f->session, f->model, &o, &err)) {
        print_error("cannot open %s: %s\n", f->source, err.text);
        return -1;
    }
    return 0;
}

static int close_model(void **state) {
    fixture *f = *state;
    pillion_session_destroy(f->session);
    pillion_model_close(f->model);
    pil_test_dir_remove(f->cache);
    free(f);
    return 0;
}

static pillion_input text(const char *s) { return (pillion_input){.text = s, .text_bytes = strlen(s)}; }

static const pillion_item *run(pillion_session *s, pillion_op op, const pillion_input *in, size_t n,
                               const pillion_run_options *opt) {
    const pillion_item *items;
    pillion_error err = {0};
    assert_ok(pillion_run(s, op, in, n, opt, &items, &err), err);
    return items;
}

static double dot(const float *a, const float *b, size_t n) {
    double sum = 0;
    for (size_t i = 0; i < n; i++) sum += (double)a[i] * (double)b[i];
    return sum;
}

static void info_describes_the_model(void **state) {
    fixture *f = *state;
    const pillion_info *i = pillion_model_info(f->model);
    assert_string_equal(i->architecture, "bert");
    assert_string_equal(i->tokenizer, "WordPiece");
    assert_string_equal(i->pooling, "mean");
    assert_string_equal(i->precision, "f32");
    assert_int_equal(i->dim, 384);
    assert_int_equal(i->layers, 6);
    assert_int_equal(i->heads, 12);
    assert_int_equal(i->ffn, 1536);
    assert_int_equal(i->vocab, 30522);
    assert_int_equal(i->max_tokens, 256);
    assert_int_equal(i->normalizes, 1);
    assert_in_range(i->parameters, 22000000, 23000000);
    assert_true(i->file_bytes > 4 * i->parameters);
    assert_true(i->fidelity_mean == 1 && i->fidelity_min == 1);
}

static void info_is_also_an_operation(void **state) {
    fixture *f = *state;
    const pillion_item *item = run(f->session, PILLION_OP_INFO, NULL, 0, NULL);
    pil_json *json;
    assert_int_equal(pil_json_parse(&json, item->text, item->text_bytes, NULL, NULL), PILLION_OK);
    assert_int_equal(pil_json_int_or(pil_json_get(json, "dim"), 0), 384);
    assert_string_equal(pil_json_string_or(pil_json_get(json, "architecture"), ""), "bert");
    pil_json_free(json);
}

static void vectors_are_unit_length_and_near_for_near_texts(void **state) {
    fixture *f = *state;
    pillion_input in[] = {text("A man is playing the guitar."), text("Someone plays a guitar."),
                          text("The stock market fell today.")};
    const pillion_item *items = run(f->session, PILLION_OP_EMBED, in, 3, NULL);
    for (size_t i = 0; i < 3; i++) {
        assert_int_equal(items[i].status, PILLION_OK);
        assert_int_equal(items[i].n_values, 384);
        assert_true(fabs(dot(items[i].values, items[i].values, 384) - 1) < 1e-6);
        assert_int_equal(items[i].truncated, 0);
    }
    assert_int_equal(items[0].n_tokens, 9);
    double near = dot(items[0].values, items[1].values, 384), far = dot(items[0].values, items[2].values, 384);
    assert_true(near > 0.8);
    assert_true(far < 0.2);
}

static void one_bad_text_fails_alone(void **state) {
    fixture *f = *state;
    pillion_input in[] = {text("good"), {.text = "bad \xED\xA0\x80", .text_bytes = 7}, text("good")};
    const pillion_item *items = run(f->session, PILLION_OP_EMBED, in, 3, NULL);
    assert_int_equal(items[0].status, PILLION_OK);
    assert_int_equal(items[1].status, PILLION_E_UTF8);
    assert_int_equal(items[1].error_offset, 4);
    assert_null(items[1].values);
    assert_int_equal(items[2].status, PILLION_OK);
    assert_memory_equal(items[0].values, items[2].values, 384 * sizeof(float));
}

static void the_empty_text_has_a_vector(void **state) {
    fixture *f = *state;
    pillion_input in = text("");
    const pillion_item *items = run(f->session, PILLION_OP_EMBED, &in, 1, NULL);
    assert_int_equal(items[0].status, PILLION_OK);
    assert_int_equal(items[0].n_tokens, 2);
}

static void long_texts_are_cut_and_say_so(void **state) {
    fixture *f = *state;
    char words[4001];
    for (size_t i = 0; i < 4000; i += 2) memcpy(words + i, "a ", 2);
    words[4000] = '\0';
    pillion_input in = text(words);
    const pillion_item *items = run(f->session, PILLION_OP_EMBED, &in, 1, NULL);
    assert_int_equal(items[0].truncated, 1);
    assert_int_equal(items[0].n_tokens, 256);
    assert_int_equal(items[0].n_tokens_all, 2002);
    pillion_run_options o;
    pillion_run_options_init(&o);
    o.truncate = PILLION_TRUNCATE_ERROR;
    items = run(f->session, PILLION_OP_EMBED, &in, 1, &o);
    assert_int_equal(items[0].status, PILLION_E_TOO_LONG);
    assert_int_equal(items[0].n_tokens_all, 2002);
    o.truncate = PILLION_TRUNCATE_NONE;
    items = run(f->session, PILLION_OP_TOKENIZE, &in, 1, &o);
    assert_int_equal(items[0].n_tokens, 2002);
    pillion_error err = {0};
    assert_int_equal(pillion_run(f->session, PILLION_OP_EMBED, &in, 1, &o, &items, &err), PILLION_E_ARG);
    assert_null(items);
}

static void tokens_have_ids_and_spellings(void **state) {
    fixture *f = *state;
    pillion_input in = text("Embeddings rock");
    const pillion_item *items = run(f->session, PILLION_OP_TOKENIZE, &in, 1, NULL);
    const char *want[] = {"[CLS]", "em", "##bed", "##ding", "##s", "rock", "[SEP]"};
    assert_int_equal(items[0].n_tokens, 7);
    for (size_t i = 0; i < 7; i++) assert_string_equal(items[0].tokens[i], want[i]);
    assert_int_equal(items[0].ids[0], 101);
    assert_int_equal(items[0].ids[6], 102);
    pillion_run_options o;
    pillion_run_options_init(&o);
    o.skip_special = 1;
    items = run(f->session, PILLION_OP_TOKENIZE, &in, 1, &o);
    assert_int_equal(items[0].n_tokens, 5);
    assert_string_equal(items[0].tokens[0], "em");
}

static void ids_embed_like_the_text_they_came_from(void **state) {
    fixture *f = *state;
    pillion_input in = text("Embeddings rock");
    const pillion_item *items = run(f->session, PILLION_OP_TOKENIZE, &in, 1, NULL);
    int32_t ids[16];
    size_t n = items[0].n_tokens;
    memcpy(ids, items[0].ids, n * sizeof *ids);
    pillion_input both[] = {text("Embeddings rock"), {.ids = ids, .n_ids = n}};
    items = run(f->session, PILLION_OP_EMBED, both, 2, NULL);
    assert_memory_equal(items[0].values, items[1].values, 384 * sizeof(float));
    const int32_t wrong[][1] = {{-1}, {30522}};
    for (size_t i = 0; i < 2; i++) {
        pillion_input bad = {.ids = wrong[i], .n_ids = 1};
        assert_int_equal(run(f->session, PILLION_OP_EMBED, &bad, 1, NULL)[0].status, PILLION_E_ARG);
    }
}

static void decoding_gives_the_text_back(void **state) {
    fixture *f = *state;
    pillion_input in = text("embeddings rock, do they?");
    const pillion_item *items = run(f->session, PILLION_OP_TOKENIZE, &in, 1, NULL);
    int32_t ids[32];
    memcpy(ids, items[0].ids, items[0].n_tokens * sizeof *ids);
    pillion_input two[] = {{.ids = ids, .n_ids = items[0].n_tokens}, {.ids = ids + 1, .n_ids = 4}};
    pillion_run_options o;
    pillion_run_options_init(&o);
    o.skip_special = 1;
    items = run(f->session, PILLION_OP_DECODE, two, 2, &o);
    assert_string_equal(items[0].text, "embeddings rock, do they?");
    assert_string_equal(items[1].text, "embeddings");
    assert_int_equal(items[1].text_bytes, 10);
}

/* In a process that gets 16 MiB more, where the decoder needs 64. What takes its own memory (a sanitizer, coverage)
 * cannot be held to that. */
static void decoding_without_memory_fails_as_a_whole(void **state) {
    fixture *f = *state;
#ifdef PIL_INSTRUMENTED
    skip_with("an instrumented build");
#endif
    enum { N = 8 << 20 };
    int32_t *ids = calloc(N, sizeof *ids);
    assert_non_null(ids);
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        unsigned long pages = 0;
        FILE *statm = fopen("/proc/self/statm", "r");
        if (!statm || fscanf(statm, "%lu", &pages) != 1) _exit(2);
        rlim_t bytes = (rlim_t)pages * (rlim_t)sysconf(_SC_PAGESIZE) + (16 << 20);
        setrlimit(RLIMIT_AS, &(struct rlimit){bytes, bytes});
        const pillion_item *items;
        pillion_input in = {.ids = ids, .n_ids = N};
        pillion_status st = pillion_run(f->session, PILLION_OP_DECODE, &in, 1, NULL, &items, NULL);
        _exit(st == PILLION_E_NOMEM && !items ? 0 : 1);
    }
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
    free(ids);
}

static void every_token_can_have_its_vector(void **state) {
    fixture *f = *state;
    pillion_input in = text("Embeddings rock");
    const pillion_item *items = run(f->session, PILLION_OP_EMBED_TOKENS, &in, 1, NULL);
    assert_int_equal(items[0].n_tokens, 7);
    assert_int_equal(items[0].n_values, 7 * 384);
    assert_int_equal(items[0].ids[0], 101);
    float mean[384] = {0};
    for (size_t i = 0; i < 7 * 384; i++) mean[i % 384] += items[0].values[i];
    double norm = sqrt(dot(mean, mean, 384));
    items = run(f->session, PILLION_OP_EMBED, &in, 1, NULL);
    for (size_t j = 0; j < 384; j++) assert_float_equal(items[0].values[j], (float)((double)mean[j] / norm), 1e-6f);
}

/* The promise of pillion_run: bits do not depend on the company, the number of threads, or the batch. */
static void a_text_has_the_same_bits_in_every_company(void **state) {
    fixture *f = *state;
    pillion_input one = text("The same sentence, again and again.");
    float alone[384];
    memcpy(alone, run(f->session, PILLION_OP_EMBED, &one, 1, NULL)[0].values, sizeof alone);
    char words[600];
    pillion_input in[24];
    for (size_t i = 0; i < sizeof words - 1; i++) words[i] = i % 5 == 4 ? ' ' : (char)('a' + i % 23);
    words[sizeof words - 1] = '\0';
    for (size_t i = 0; i < 24; i++) in[i] = (pillion_input){.text = words + i, .text_bytes = 1 + i * 16};
    pillion_session_options o;
    pillion_session_options_init(&o);
    for (unsigned threads = 1; threads <= 3; threads++) {
        o.threads = threads;
        o.batch_tokens = 300 * threads;
        pillion_session *s;
        pillion_error err = {0};
        assert_ok(pillion_session_create(&s, f->model, &o, &err), err);
        for (size_t place = 0; place < 24; place += 5) {
            pillion_input kept = in[place];
            in[place] = one;
            assert_memory_equal(run(s, PILLION_OP_EMBED, in, 24, NULL)[place].values, alone, sizeof alone);
            in[place] = kept;
        }
        pillion_session_destroy(s);
    }
}

static void count_progress(uint64_t done, uint64_t total, void *ud) {
    uint64_t *last = ud;
    assert_true(done >= *last && done <= total);
    *last = done;
}

static void progress_grows_to_the_total(void **state) {
    fixture *f = *state;
    pillion_input in[200];
    for (size_t i = 0; i < 200; i++) in[i] = text("some words to embed, not many");
    pillion_session *s;
    pillion_error err = {0};
    assert_ok(pillion_session_create(&s, f->model, NULL, &err), err);
    uint64_t last = 0;
    pillion_run_options o;
    pillion_run_options_init(&o);
    o.progress = count_progress;
    o.progress_ud = &last;
    run(s, PILLION_OP_EMBED, in, 200, &o);
    assert_int_equal(last, 200);
    pillion_session_destroy(s);
}

static void a_set_cancel_flag_ends_the_call(void **state) {
    fixture *f = *state;
    volatile int cancel = 1;
    pillion_run_options o;
    pillion_run_options_init(&o);
    o.cancel = &cancel;
    pillion_input in = text("never seen");
    const pillion_item *items;
    assert_int_equal(pillion_run(f->session, PILLION_OP_EMBED, &in, 1, &o, &items, NULL), PILLION_E_CANCELLED);
    assert_null(items);
}

static void a_call_can_be_followed(void **state) {
    fixture *f = *state;
    volatile uint64_t heartbeat = 0;
    pillion_run_options o;
    pillion_run_options_init(&o);
    o.heartbeat = &heartbeat;
    pillion_input in[2] = {text("the cat"), text("sat")};
    const pillion_item *items;
    assert_int_equal(pillion_run(f->session, PILLION_OP_TOKENIZE, in, 2, &o, &items, NULL), PILLION_OK);
    assert_int_equal(heartbeat, 2);
    assert_int_equal(pillion_run(f->session, PILLION_OP_EMBED, in, 2, &o, &items, NULL), PILLION_OK);
    assert_true(heartbeat > 2 + 2 + 2); /* two texts more, and some for the two layers */
}

/* The flag is what counts the beats, so that the first one ends the call. */
static void a_long_text_is_not_tokenized_to_its_end_for_nobody(void **state) {
    fixture *f = *state;
    union {
        volatile uint64_t beats;
        volatile int cancel;
    } pulse = {0};
    static char cats[PIL_MIB];
    for (size_t i = 0; i < sizeof cats; i += 4) memcpy(cats + i, "cat ", 4);
    pillion_run_options o;
    pillion_run_options_init(&o);
    o.heartbeat = &pulse.beats;
    o.cancel = &pulse.cancel;
    pillion_input in = {.text = cats, .text_bytes = sizeof cats};
    const pillion_item *items;
    assert_int_equal(pillion_run(f->session, PILLION_OP_TOKENIZE, &in, 1, &o, &items, NULL), PILLION_E_CANCELLED);
    assert_in_range(pulse.beats, 1, 2);
    o.cancel = NULL;
    assert_int_equal(pillion_run(f->session, PILLION_OP_TOKENIZE, &in, 1, &o, &items, NULL), PILLION_OK);
    assert_true(pulse.beats > sizeof cats / (8 * PIL_KIB));
}

static void wrong_calls_are_refused(void **state) {
    fixture *f = *state;
    const pillion_item *items;
    pillion_input in = text("x");
    pillion_error err = {0};
    assert_int_equal(pillion_run(f->session, PILLION_OP_EMBED, NULL, 0, NULL, &items, &err), PILLION_E_ARG);
    assert_int_equal(pillion_run(f->session, (pillion_op)99, &in, 1, NULL, &items, NULL), PILLION_E_ARG);
    pillion_run_options o;
    pillion_run_options_init(&o);
    o.prompt_name = "nonsense";
    err = (pillion_error){0};
    assert_int_equal(pillion_run(f->session, PILLION_OP_EMBED, &in, 1, &o, &items, &err), PILLION_E_ARG);
    assert_error(err, PILLION_E_ARG, "nonsense");
}

/* The stored vector was computed by other code than a session's; what a session gives is compared to the bit. */
static void a_session_proves_its_model(void **state) {
    fixture *f = *state;
    const pillion_input in = {.text = PILLION_CANARY_TEXT, .text_bytes = strlen(PILLION_CANARY_TEXT)};
    const pillion_item *canary, *again;
    pillion_run_options o;
    pillion_error err = {0};
    float first[384];
    pillion_run_options_init(&o);
    o.prompt_name = "";
    assert_ok(pillion_session_check(f->session, NULL, &err), err);
    assert_ok(pillion_session_check(f->session, &canary, &err), err);
    assert_int_equal(canary->n_values, 384);
    memcpy(first, canary->values, sizeof first);
    assert_ok(pillion_run(f->session, PILLION_OP_EMBED, &in, 1, &o, &again, &err), err);
    assert_memory_equal(again->values, first, sizeof first);
}

static void a_missing_model_is_named(void **state) {
    fixture *f = *state;
    pillion_model *m;
    pillion_error err = {0};
    assert_int_equal(pillion_model_open(&m, "/nowhere/at/all", &f->options, &err), PILLION_E_NOT_FOUND);
    assert_null(m);
    assert_error(err, PILLION_E_NOT_FOUND, "/nowhere/at/all");
    f->options.precision = PILLION_PRECISION_INT8;
    err = (pillion_error){0};
    assert_int_equal(pillion_model_open(&m, f->source, &f->options, &err), PILLION_E_UNSUPPORTED);
    f->options.precision = PILLION_PRECISION_AUTO;
}

static void a_prepared_file_opens_without_its_directory(void **state) {
    fixture *f = *state;
    char path[PIL_TEST_PATH];
    pillion_error err = {0};
    assert_ok(pillion_prepare(f->source, &f->options, path, sizeof path, &err), err);
    pillion_model *m;
    assert_ok(pillion_model_open(&m, path, NULL, &err), err);
    assert_int_equal(pillion_model_info(m)->dim, 384);
    assert_ok(pillion_model_verify(m, &err), err);
    pillion_model_close(m);
}

/* The rename makes the tokenizer's post-processor a field that nobody knows: no special tokens are added. */
static void a_text_without_a_token_has_no_vector_and_fails_alone(void **state) {
    fixture *f = *state;
    char dir[PIL_TEST_PATH], path[PIL_TEST_PATH];
    pil_test_dir_make(dir);
    pil_tiny_model_write(dir, "bert", NULL);
    pil_test_path(path, dir, "tokenizer.json");
    size_t n;
    char *json = pil_test_read(path, &n), *name = strstr(json, "\"post_processor\"");
    assert_non_null(name);
    memcpy(name, "\"past_processor\"", strlen("\"past_processor\""));
    pil_test_write(dir, "tokenizer.json", json, n);
    free(json);
    pillion_model *m;
    pillion_session *s;
    pillion_error err = {0};
    assert_ok(pillion_model_open(&m, dir, &f->options, &err), err);
    assert_ok(pillion_session_create(&s, m, NULL, &err), err);
    pillion_input in[] = {text("cat"), text(""), text(" "), {.ids = (const int32_t[]){0}, .n_ids = 0}};
    static const pillion_status wanted[] = {PILLION_OK, PILLION_E_NUMERIC, PILLION_E_NUMERIC, PILLION_E_ARG};
    const pillion_item *items = run(s, PILLION_OP_EMBED, in, 4, NULL);
    for (size_t i = 0; i < 4; i++) {
        assert_int_equal(items[i].status, wanted[i]);
        assert_int_equal(items[i].n_values, i == 0 ? PIL_TINY_HIDDEN : 0);
    }
    items = run(s, PILLION_OP_TOKENIZE, in, 2, NULL);
    assert_true(!items[1].status && items[1].n_tokens == 0);
    pillion_session_destroy(s);
    pillion_model_close(m);
    pil_test_dir_remove(dir);
}

static void every_status_has_a_text(void **state) {
    (void)state;
    assert_string_equal(pillion_status_text(PILLION_OK), "success");
    for (int s = PILLION_E_INTERNAL; s < 0; s++) assert_true(strlen(pillion_status_text((pillion_status)s)) > 3);
    assert_string_equal(pillion_status_text((pillion_status)77), "unknown status");
    assert_string_equal(pillion_version(), PILLION_VERSION);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(info_describes_the_model),
        cmocka_unit_test(info_is_also_an_operation),
        cmocka_unit_test(vectors_are_unit_length_and_near_for_near_texts),
        cmocka_unit_test(one_bad_text_fails_alone),
        cmocka_unit_test(the_empty_text_has_a_vector),
        cmocka_unit_test(long_texts_are_cut_and_say_so),
        cmocka_unit_test(tokens_have_ids_and_spellings),
        cmocka_unit_test(ids_embed_like_the_text_they_came_from),
        cmocka_unit_test(decoding_gives_the_text_back),
        cmocka_unit_test(decoding_without_memory_fails_as_a_whole),
        cmocka_unit_test(every_token_can_have_its_vector),
        cmocka_unit_test(a_text_has_the_same_bits_in_every_company),
        cmocka_unit_test(progress_grows_to_the_total),
        cmocka_unit_test(a_set_cancel_flag_ends_the_call),
        cmocka_unit_test(a_long_text_is_not_tokenized_to_its_end_for_nobody),
        cmocka_unit_test(a_call_can_be_followed),
        cmocka_unit_test(wrong_calls_are_refused),
        cmocka_unit_test(a_session_proves_its_model),
        cmocka_unit_test(a_missing_model_is_named),
        cmocka_unit_test(a_prepared_file_opens_without_its_directory),
        cmocka_unit_test(a_text_without_a_token_has_no_vector_and_fails_alone),
        cmocka_unit_test(every_status_has_a_text),
    };
    return cmocka_run_group_tests(tests, open_model, close_model);
}
