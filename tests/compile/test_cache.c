/* test_cache.c - the cache compiles once, again when it must, and once for many processes. */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/file.h"
#include "compile/compile.h"
#include "support/files.h"
#include "support/test.h"
#include "support/tiny_model.h"

static char dir[PIL_TEST_PATH], model[PIL_TEST_PATH], cache[PIL_TEST_PATH];

static int make_model(void **state) {
    (void)state;
    pil_test_dir_make(dir);
    pil_test_path(model, dir, "my model");
    pil_test_path(cache, dir, "some/cache");
    pil_tiny_model_write(model, "bert", NULL);
    return 0;
}

static int remove_model(void **state) {
    (void)state;
    pil_test_dir_remove(dir);
    return 0;
}

static void count(uint64_t done, uint64_t total, void *ud) {
    if (done == total) ++*(int *)ud;
}

/* Prepares `from` in `where`; gives how often it was compiled. The path goes to out. */
static int prepare(const char *from, const char *where, char out[PIL_TEST_PATH]) {
    int compiled = 0;
    pillion_error err = {0};
    pillion_model_options opt;
    pillion_model_options_init(&opt);
    opt.cache_dir = where;
    opt.progress = count;
    opt.progress_ud = &compiled;
    assert_ok(pil_cache_prepare(from, &opt, out, PIL_TEST_PATH, &err), err);
    pil_compiled c;
    assert_ok(pil_compiled_open(&c, out, &err), err);
    pil_compiled_close(&c);
    return compiled > 0;
}

static void the_second_time_nothing_is_compiled(void **state) {
    (void)state;
    char a[PIL_TEST_PATH], b[PIL_TEST_PATH];
    struct stat first, second;
    assert_int_equal(prepare(model, cache, a), 1);
    assert_int_equal(stat(a, &first), 0);
    assert_int_equal(prepare(model, cache, b), 0);
    assert_string_equal(a, b);
    assert_int_equal(stat(b, &second), 0);
    assert_int_equal(first.st_ino, second.st_ino);
    assert_ptr_equal(strstr(a, cache), a);
    assert_non_null(strstr(a, "/my_model-"));
    assert_string_equal(a + strlen(a) - strlen(".f32.safetensors"), ".f32.safetensors");
}

static void the_same_directory_by_another_path_is_the_same_model(void **state) {
    (void)state;
    char a[PIL_TEST_PATH], b[PIL_TEST_PATH], link[PIL_TEST_PATH], other[PIL_TEST_PATH];
    pil_test_path(link, dir, "my model/../my model/");
    assert_int_equal(prepare(model, cache, a), 1);
    assert_int_equal(prepare(link, cache, b), 0);
    assert_string_equal(a, b);
    pil_test_path(other, dir, "elsewhere/my model");
    pil_tiny_model_write(other, "bert", NULL);
    assert_int_equal(prepare(other, cache, b), 1);
    assert_string_not_equal(a, b);
}

static void a_changed_source_is_compiled_again(void **state) {
    (void)state;
    char out[PIL_TEST_PATH];
    assert_int_equal(prepare(model, cache, out), 1);
    pil_test_write_text(model, "sentence_bert_config.json", "{\"max_seq_length\":24}");
    assert_int_equal(prepare(model, cache, out), 1);
    pil_compiled c;
    pillion_error err = {0};
    assert_ok(pil_compiled_open(&c, out, &err), err);
    assert_int_equal(c.config.max_tokens, 24);
    pil_compiled_close(&c);
    assert_int_equal(prepare(model, cache, out), 0);
}

static void a_damaged_cut_or_foreign_file_is_compiled_again(void **state) {
    (void)state;
    char out[PIL_TEST_PATH];
    size_t n;
    assert_int_equal(prepare(model, cache, out), 1);
    char *good = pil_test_read(out, &n), *name = strrchr(out, '/') + 1;
    char *bad = malloc(n);
    for (int damage = 0; damage < 5; damage++) {
        size_t keep = n;
        memcpy(bad, good, n);
        switch (damage) {
        case 0: bad[100] ^= 1; break;
        case 1: keep = n / 2; break;
        case 2: keep = 0; break;
        case 3: memset(bad, 'x', n); break;
        case 4: bad[n - 1] ^= 1; break; /* a pad or the canary: not for opening to see */
        }
        pil_test_write(cache, name, bad, keep);
        assert_int_equal(prepare(model, cache, out), damage != 4);
    }
    free(bad);
    free(good);
}

static void one_of_many_processes_compiles_and_the_others_wait(void **state) {
    (void)state;
    enum { PROCESSES = 6 };
    int n_compiled = 0;
    for (int i = 0; i < PROCESSES; i++) {
        pid_t pid = fork();
        assert_true(pid >= 0);
        if (pid > 0) continue;
        char out[PIL_TEST_PATH];
        _exit(prepare(model, cache, out) ? 100 : 101);
    }
    for (int i = 0; i < PROCESSES; i++) {
        int status;
        assert_true(wait(&status) > 0);
        assert_true(WIFEXITED(status) && (WEXITSTATUS(status) == 100 || WEXITSTATUS(status) == 101));
        n_compiled += WEXITSTATUS(status) == 100;
    }
    assert_int_equal(n_compiled, 1);
}

static void the_place_is_the_users_cache_unless_one_is_given(void **state) {
    (void)state;
    char out[PIL_TEST_PATH], home[PIL_TEST_PATH], wanted[PIL_TEST_PATH];
    pil_test_path(home, dir, "xdg");
    setenv("XDG_CACHE_HOME", home, 1);
    assert_int_equal(prepare(model, NULL, out), 1);
    pil_test_path(wanted, dir, "xdg/pillion/my_model-");
    assert_ptr_equal(strstr(out, wanted), out);
    setenv("XDG_CACHE_HOME", "not/absolute", 1);
    pil_test_path(home, dir, "home");
    setenv("HOME", home, 1);
    assert_int_equal(prepare(model, NULL, out), 1);
    pil_test_path(wanted, dir, "home/.cache/pillion/my_model-");
    assert_ptr_equal(strstr(out, wanted), out);
    unsetenv("HOME");
    unsetenv("XDG_CACHE_HOME");
    pillion_error err = {0};
    pillion_model_options opt;
    pillion_model_options_init(&opt);
    assert_int_equal(pil_cache_prepare(model, &opt, out, sizeof out, &err), PILLION_E_IO);
    assert_error(err, PILLION_E_IO, "neither XDG_CACHE_HOME nor HOME is an absolute path; compiled models are kept");
}

static void models_of_a_hugging_face_cache_share_one_readable_name(void **state) {
    (void)state;
    char from[PIL_TEST_PATH], out[PIL_TEST_PATH];
    pil_test_path(from, dir, "models--org--some.model/snapshots/0123456789");
    pil_tiny_model_write(from, "bert", NULL);
    prepare(from, cache, out);
    assert_non_null(strstr(out, "/org_some.model-"));
}

static void what_cannot_be_prepared_says_why(void **state) {
    (void)state;
    char out[PIL_TEST_PATH], missing[PIL_TEST_PATH], blocked[PIL_TEST_PATH];
    pillion_error err = {0};
    pillion_model_options opt;
    pillion_model_options_init(&opt);
    opt.cache_dir = cache;
    pil_test_path(missing, dir, "missing");
    assert_int_equal(pil_cache_prepare(missing, &opt, out, sizeof out, &err), PILLION_E_NOT_FOUND);
    assert_error(err, PILLION_E_NOT_FOUND, "missing");
    err = (pillion_error){0};
    assert_int_equal(pil_cache_prepare(model, &opt, out, 8, &err), PILLION_E_LIMIT);
    err = (pillion_error){0};
    pil_test_write_text(dir, "a file", "");
    pil_test_path(blocked, dir, "a file/cache");
    opt.cache_dir = blocked;
    assert_int_equal(pil_cache_prepare(model, &opt, out, sizeof out, &err), PILLION_E_IO);
    assert_error(err, PILLION_E_IO, "a file");
    assert_error(err, PILLION_E_IO, "or use 'pillion compile'");
    err = (pillion_error){0};
    opt.cache_dir = cache;
    pil_test_write_text(model, "config.json", "{\"model_type\":\"gpt5\"}");
    assert_int_equal(pil_cache_prepare(model, &opt, out, sizeof out, &err), PILLION_E_UNSUPPORTED);
    assert_error(err, PILLION_E_UNSUPPORTED, "gpt5");
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, make_model, remove_model)

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(the_second_time_nothing_is_compiled),
        TEST(the_same_directory_by_another_path_is_the_same_model),
        TEST(a_changed_source_is_compiled_again),
        TEST(a_damaged_cut_or_foreign_file_is_compiled_again),
        TEST(one_of_many_processes_compiles_and_the_others_wait),
        TEST(the_place_is_the_users_cache_unless_one_is_given),
        TEST(models_of_a_hugging_face_cache_share_one_readable_name),
        TEST(what_cannot_be_prepared_says_why),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
