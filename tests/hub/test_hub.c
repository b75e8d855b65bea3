/* test_hub.c - finding models: paths, the built-in one, every cache layout, names that try to escape. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "hub/hub.h"

typedef struct world {
    char root[64];
} world;

static const char *const variables[] = {
    "HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "HF_HOME", "SENTENCE_TRANSFORMERS_HOME", "XDG_CACHE_HOME", "TORCH_HOME"};

/* A fresh home directory, and none of the variables set. */
static int setup(void **state) {
    world *w = calloc(1, sizeof *w);
    snprintf(w->root, sizeof w->root, "/tmp/pil-hub-XXXXXX");
    if (!mkdtemp(w->root)) return -1;
    for (size_t i = 0; i < sizeof variables / sizeof *variables; i++) unsetenv(variables[i]);
    setenv("HOME", w->root, 1);
    *state = w;
    return chdir(w->root);
}

static int teardown(void **state) {
    world *w = *state;
    char command[128];
    snprintf(command, sizeof command, "rm -rf '%s'", w->root);
    int rc = chdir("/") == 0 ? system(command) : -1;
    free(w);
    return rc;
}

static void put(const world *w, const char *path, const char *text) {
    char full[512], dir[512];
    snprintf(full, sizeof full, "%s/%s", w->root, path);
    snprintf(dir, sizeof dir, "%s", full);
    *strrchr(dir, '/') = '\0';
    assert_int_equal(pil_file_mkdirs(dir, NULL), PILLION_OK);
    FILE *f = fopen(full, "w");
    assert_non_null(f);
    fputs(text, f);
    fclose(f);
}

/* A snapshot of models--FOLDER in the cache `cache`, named by refs/main. */
static void put_snapshot(const world *w, const char *cache, const char *folder, const char *commit) {
    char path[256];
    snprintf(path, sizeof path, "%s/models--%s/snapshots/%s/config.json", cache, folder, commit);
    put(w, path, "{}");
    snprintf(path, sizeof path, "%s/models--%s/snapshots/%s/model.safetensors", cache, folder, commit);
    put(w, path, "weights");
    snprintf(path, sizeof path, "%s/models--%s/refs/main", cache, folder);
    put(w, path, commit);
}

static void assert_found(const world *w, const char *name, const char *relative) {
    pil_hub_model m;
    pillion_error err = {0};
    char want[512];
    snprintf(want, sizeof want, "%s/%s", w->root, relative);
    pillion_status st = pil_hub_find(&m, name, true, &err);
    if (st) print_error("%s: %s\n", name, err.text);
    assert_int_equal(st, PILLION_OK);
    assert_int_equal(m.kind, PIL_HUB_DIRECTORY);
    assert_string_equal(m.path, want);
}

static void no_name_is_the_built_in_model(void **state) {
    (void)state;
    pil_hub_model m;
    assert_int_equal(pil_hub_find(&m, NULL, true, NULL), PILLION_OK);
    assert_int_equal(m.kind, PIL_HUB_BUILTIN);
    assert_int_equal(pil_hub_find(&m, "", true, NULL), PILLION_OK);
    assert_int_equal(m.kind, PIL_HUB_BUILTIN);
    assert_int_equal(pil_hub_find(&m, "all-MiniLM-L6-v2", true, NULL), PILLION_OK);
    assert_int_equal(m.kind, PIL_HUB_BUILTIN);
}

static void a_program_without_model_looks_for_the_default_in_the_caches(void **state) {
    world *w = *state;
    pil_hub_model m;
    assert_int_equal(pil_hub_find(&m, NULL, false, NULL), PILLION_E_NOT_FOUND);
    put_snapshot(w, ".cache/huggingface/hub", "sentence-transformers--all-MiniLM-L6-v2", "c1");
    assert_int_equal(pil_hub_find(&m, NULL, false, NULL), PILLION_OK);
    assert_int_equal(m.kind, PIL_HUB_DIRECTORY);
}

static void every_cache_is_looked_into(void **state) {
    world *w = *state;
    char dir[128];
    put_snapshot(w, ".cache/huggingface/hub", "org--a", "c1");
    assert_found(w, "org/a", ".cache/huggingface/hub/models--org--a/snapshots/c1");
    put_snapshot(w, "xdg/huggingface/hub", "org--b", "c1");
    snprintf(dir, sizeof dir, "%s/xdg", w->root);
    setenv("XDG_CACHE_HOME", dir, 1);
    assert_found(w, "org/b", "xdg/huggingface/hub/models--org--b/snapshots/c1");
    put_snapshot(w, "st", "org--c", "c1");
    snprintf(dir, sizeof dir, "%s/st", w->root);
    setenv("SENTENCE_TRANSFORMERS_HOME", dir, 1);
    assert_found(w, "org/c", "st/models--org--c/snapshots/c1");
    put_snapshot(w, "hf", "org--d", "c1");
    snprintf(dir, sizeof dir, "%s/hf", w->root);
    setenv("HF_HOME", dir, 1);
    assert_found(w, "org/d", "hf/models--org--d/snapshots/c1");
    put_snapshot(w, "hf/hub", "org--d", "c2"); /* hub/ comes before HF_HOME itself */
    assert_found(w, "org/d", "hf/hub/models--org--d/snapshots/c2");
    put_snapshot(w, "cache", "org--d", "c3");
    snprintf(dir, sizeof dir, "%s/cache", w->root);
    setenv("HF_HUB_CACHE", dir, 1);
    assert_found(w, "org/d", "cache/models--org--d/snapshots/c3");
    put(w, ".cache/torch/sentence_transformers/org_e/modules.json", "[]");
    put(w, ".cache/torch/sentence_transformers/org_e/0_Transformer/model.safetensors", "weights");
    assert_found(w, "org/e", ".cache/torch/sentence_transformers/org_e");
}

static void a_plain_name_gets_the_usual_organisation(void **state) {
    world *w = *state;
    put_snapshot(w, ".cache/huggingface/hub", "plain", "c0");
    assert_found(w, "plain", ".cache/huggingface/hub/models--plain/snapshots/c0");
    put_snapshot(w, ".cache/huggingface/hub", "sentence-transformers--plain", "c1");
    assert_found(w, "plain", ".cache/huggingface/hub/models--sentence-transformers--plain/snapshots/c1");
}

static void a_revision_is_a_ref_or_a_commit(void **state) {
    world *w = *state;
    put_snapshot(w, ".cache/huggingface/hub", "org--a", "c1");
    put(w, ".cache/huggingface/hub/models--org--a/snapshots/c2/config.json", "{}");
    put(w, ".cache/huggingface/hub/models--org--a/snapshots/c2/model.safetensors", "weights");
    put(w, ".cache/huggingface/hub/models--org--a/refs/pr/1", "c2\n");
    assert_found(w, "org/a", ".cache/huggingface/hub/models--org--a/snapshots/c1");
    assert_found(w, "org/a@c2", ".cache/huggingface/hub/models--org--a/snapshots/c2");
    assert_found(w, "org/a@pr/1", ".cache/huggingface/hub/models--org--a/snapshots/c2");
    pil_hub_model m;
    assert_int_equal(pil_hub_find(&m, "org/a@v9", true, NULL), PILLION_E_NOT_FOUND);
}

static void a_lost_ref_falls_back_to_a_complete_snapshot(void **state) {
    world *w = *state;
    put_snapshot(w, ".cache/huggingface/hub", "org--a", "c1");
    put(w, ".cache/huggingface/hub/models--org--a/refs/main", "gone");
    assert_found(w, "org/a", ".cache/huggingface/hub/models--org--a/snapshots/c1");
}

static void a_half_downloaded_model_does_not_hide_a_whole_one(void **state) {
    world *w = *state;
    char dir[128];
    snprintf(dir, sizeof dir, "%s/hf", w->root);
    setenv("HF_HOME", dir, 1);
    put(w, "hf/hub/models--org--a/snapshots/c1/config.json", "{}");
    put(w, "hf/hub/models--org--a/refs/main", "c1");
    pil_hub_model m;
    pillion_error err = {0};
    assert_int_equal(pil_hub_find(&m, "org/a", true, &err), PILLION_E_NOT_FOUND);
    assert_non_null(strstr(err.text, "not complete"));
    put_snapshot(w, ".cache/huggingface/hub", "org--a", "c1");
    assert_found(w, "org/a", ".cache/huggingface/hub/models--org--a/snapshots/c1");
}

static void an_existing_path_wins_over_a_name(void **state) {
    world *w = *state;
    put(w, "org/a/config.json", "{}");
    put_snapshot(w, ".cache/huggingface/hub", "org--a", "c1");
    pil_hub_model m;
    assert_int_equal(pil_hub_find(&m, "org/a", true, NULL), PILLION_OK);
    assert_string_equal(m.path, "org/a");
    assert_found(w, "~/org/a", "org/a");
    put(w, "model.f32.safetensors", "x");
    assert_int_equal(pil_hub_find(&m, "model.f32.safetensors", true, NULL), PILLION_OK);
    assert_int_equal(m.kind, PIL_HUB_FILE);
}

static void a_missing_path_says_so(void **state) {
    world *w = *state;
    pil_hub_model m;
    pillion_error err = {0};
    assert_int_equal(pil_hub_find(&m, "./nothing", true, &err), PILLION_E_NOT_FOUND);
    assert_string_equal(err.text, "./nothing: no such model directory or file");
    put(w, "empty/readme", "");
    err = (pillion_error){0};
    assert_int_equal(pil_hub_find(&m, "./empty", true, &err), PILLION_E_NOT_FOUND);
    assert_non_null(strstr(err.text, "no config.json"));
    err = (pillion_error){0};
    assert_int_equal(pil_hub_find(&m, "/dev/null", true, &err), PILLION_E_ARG);
}

static void a_missing_model_names_where_it_was_looked_for(void **state) {
    (void)state;
    pil_hub_model m;
    pillion_error err = {0};
    setenv("HF_HOME", "/nonexistent/hf", 1);
    assert_int_equal(pil_hub_find(&m, "org/missing", true, &err), PILLION_E_NOT_FOUND);
    assert_non_null(strstr(err.text, "org/missing"));
    assert_non_null(strstr(err.text, "/nonexistent/hf/hub"));
    assert_non_null(strstr(err.text, "~/.cache/huggingface/hub"));
    assert_null(strchr(err.text, '\n'));
}

static void names_that_escape_are_refused(void **state) {
    (void)state;
    static const char *const bad[] = {"a/../b",     "a/b/c",      "a/.b",   ".a/b", "a b", "a/",   "a//b",
                                      "org/a@../x", "org/a@/etc", "org/a@", "a\nb", "@",   "--/x", "org/a@v 1"};
    pil_hub_model m;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        pillion_status st = pil_hub_find(&m, bad[i], true, NULL);
        if (st != PILLION_E_ARG) print_error("%s\n", bad[i]);
        assert_int_equal(st, PILLION_E_ARG);
    }
    char longest[5000];
    memset(longest, 'a', sizeof longest - 1);
    longest[sizeof longest - 1] = '\0';
    assert_int_not_equal(pil_hub_find(&m, longest, true, NULL), PILLION_OK);
}

int main(void) {
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        T(no_name_is_the_built_in_model),
        T(a_program_without_model_looks_for_the_default_in_the_caches),
        T(every_cache_is_looked_into),
        T(a_plain_name_gets_the_usual_organisation),
        T(a_revision_is_a_ref_or_a_commit),
        T(a_lost_ref_falls_back_to_a_complete_snapshot),
        T(a_half_downloaded_model_does_not_hide_a_whole_one),
        T(an_existing_path_wins_over_a_name),
        T(a_missing_path_says_so),
        T(a_missing_model_names_where_it_was_looked_for),
        T(names_that_escape_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
