/* test_options.c - the parser of command lines, against a table with one option of each kind. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "cmd/options.h"
#include "support/files.h"

typedef struct values {
    bool quiet, verbose;
    const char *prompt, *output;
    uint64_t threads, format, rows;
    pil_option_list listen;
    const char *config;
    pil_command_line line;
} values;

enum { FORMAT_JSON, FORMAT_CSV };
static const char *const formats[] = {"json", "csv", NULL};

static const pil_option options[] = {
    {.name = "quiet", .letter = 'q', .type = PIL_OPTION_FLAG, .field = offsetof(values, quiet),
     .env = "PIL_TEST_QUIET", .help = "x"},
    {.name = "verbose", .letter = 'v', .type = PIL_OPTION_FLAG, .field = offsetof(values, verbose), .help = "x"},
    {.name = "prompt", .type = PIL_OPTION_STRING, .field = offsetof(values, prompt), .value = "NAME", .help = "x"},
    {.name = "output", .letter = 'o', .type = PIL_OPTION_PATH, .field = offsetof(values, output),
     .value = "FILE", .help = "x"},
    {.name = "threads", .type = PIL_OPTION_UINT, .field = offsetof(values, threads), .value = "N", .fallback = "1",
     .min = 0, .max = 64, .env = "PIL_TEST_THREADS", .help = "x"},
    {.name = "rows", .type = PIL_OPTION_UINT, .field = offsetof(values, rows), .value = "N", .min = 1, .help = "x"},
    {.name = "format", .type = PIL_OPTION_CHOICE, .field = offsetof(values, format), .choices = formats,
     .fallback = "csv", .help = "x"},
    {.name = "listen", .letter = 'l', .type = PIL_OPTION_LIST, .field = offsetof(values, listen), .value = "ADDR",
     .env = "PIL_TEST_LISTEN", .help = "x"},
    {.name = "config", .type = PIL_OPTION_PATH, .field = offsetof(values, config), .value = "FILE", .config = true,
     .help = "x"},
    PIL_OPTION_END,
};

static const pil_command command = {
    .name = "try", .args = "[TEXT...]", .summary = "x", .options = options, .values_bytes = sizeof(values),
    .line = offsetof(values, line), .args_max = 2};

/* Parses the words given; the last one is NULL. */
static pillion_status parse(pil_options *out, pillion_error *err, const char *const *words) {
    int n = 0;
    while (words[n]) n++;
    *err = (pillion_error){0};
    return pil_options_parse(out, &command, n, (char **)(uintptr_t)words, err);
}
#define PARSE(out, err, ...) parse(out, err, (const char *const[]){__VA_ARGS__, NULL})
#define PARSE_NOTHING(out, err) parse(out, err, (const char *const[]){NULL})

static void refuses(const char *message_part, const char *const *words) {
    pil_options o;
    pillion_error err;
    assert_int_equal(parse(&o, &err, words), PILLION_E_ARG);
    if (!strstr(err.text, message_part)) fail_msg("'%s' does not contain '%s'", err.text, message_part);
    if (strchr(err.text, '\n')) fail_msg("more than one line: %s", err.text);
    assert_null(o.values);
}
#define REFUSES(part, ...) refuses(part, (const char *const[]){__VA_ARGS__, NULL})

static void defaults_stand_when_nothing_is_given(void **state) {
    (void)state;
    pil_options o;
    pillion_error err;
    assert_int_equal(PARSE_NOTHING(&o, &err), PILLION_OK);
    const values *v = o.values;
    assert_false(v->quiet);
    assert_null(v->prompt);
    assert_int_equal(v->threads, 1);
    assert_int_equal(v->format, FORMAT_CSV);
    assert_int_equal(v->listen.n, 0);
    assert_int_equal(o.n_args, 0);
    pil_options_deinit(&o);
}

static void every_spelling_of_a_value_is_understood(void **state) {
    (void)state;
    pil_options o;
    pillion_error err;
    assert_int_equal(PARSE(&o, &err, "--threads", "3", "--format=json", "-ofile", "--prompt=", "a"), PILLION_OK);
    const values *v = o.values;
    assert_int_equal(v->threads, 3);
    assert_int_equal(v->format, FORMAT_JSON);
    assert_string_equal(v->output, "file");
    assert_string_equal(v->prompt, "");
    assert_int_equal(o.n_args, 1);
    assert_string_equal(o.args[0], "a");
    pil_options_deinit(&o);
    assert_int_equal(PARSE(&o, &err, "-qvo", "x=y", "--threads", "1", "--threads", "2"), PILLION_OK);
    v = o.values;
    assert_true(v->quiet);
    assert_true(v->verbose);
    assert_string_equal(v->output, "x=y");
    assert_int_equal(v->threads, 2); /* the last one counts */
    pil_options_deinit(&o);
}

static void arguments_and_options_may_be_mixed_until_two_dashes(void **state) {
    (void)state;
    pil_options o;
    pillion_error err;
    assert_int_equal(PARSE(&o, &err, "-", "-q", "--", "--quiet"), PILLION_OK);
    assert_int_equal(o.n_args, 2);
    assert_string_equal(o.args[0], "-");
    assert_string_equal(o.args[1], "--quiet");
    assert_true(((const values *)o.values)->quiet);
    pil_options_deinit(&o);
}

static void a_list_keeps_its_order(void **state) {
    (void)state;
    pil_options o;
    pillion_error err;
    assert_int_equal(PARSE(&o, &err, "--listen", "b", "-la", "--listen=b"), PILLION_OK);
    const pil_option_list *l = &((const values *)o.values)->listen;
    assert_int_equal(l->n, 3);
    assert_string_equal(l->items[0], "b");
    assert_string_equal(l->items[1], "a");
    assert_string_equal(l->items[2], "b");
    pil_options_deinit(&o);
}

static void help_ends_the_parse_and_asks_for_nothing_else(void **state) {
    (void)state;
    pil_options o;
    pillion_error err;
    assert_int_equal(PARSE(&o, &err, "-h", "--nonsense"), PILLION_OK);
    assert_true(o.help);
    pil_options_deinit(&o);
    assert_int_equal(PARSE(&o, &err, "--help"), PILLION_OK);
    assert_true(o.help);
    pil_options_deinit(&o);
}

static void errors_name_the_option_and_what_is_allowed(void **state) {
    (void)state;
    REFUSES("--threads: '65' is not a whole number from 0 to 64", "--threads", "65");
    REFUSES("--threads: '-1' is not", "--threads", "-1");
    REFUSES("--threads: '1.5' is not", "--threads=1.5");
    REFUSES("--threads: '' is not", "--threads=");
    REFUSES("--threads: ' 1' is not", "--threads= 1");
    REFUSES("--threads: '18446744073709551617' is not", "--threads", "18446744073709551617");
    REFUSES("--rows: '0' is not a whole number of at least 1", "--rows=0");
    REFUSES("--format: 'xml' is not json or csv", "--format", "xml");
    REFUSES("-o (--output) needs a value", "-o");
    REFUSES("--output needs a value", "--output");
    REFUSES("--output: the file name is empty", "--output=");
    REFUSES("--quiet takes no value", "--quiet=1");
    REFUSES("unknown option '--theads=2'; did you mean --threads?", "--theads=2");
    REFUSES("unknown option '--hlep'; did you mean --help?", "--hlep");
    REFUSES("unknown option '--zzzzzz'; --help lists", "--zzzzzz");
    REFUSES("unknown option '-qx'", "-qx");
    REFUSES("-- stands before arguments that begin with '-'", "-5 degrees");
    REFUSES("unexpected argument 'c'", "a", "b", "c");
}

static void a_monstrous_argument_stays_one_short_line(void **state) {
    (void)state;
    char *big = malloc(100001);
    assert_non_null(big);
    memset(big, 'x', 100000);
    big[100000] = '\0';
    memcpy(big, "--", 2);
    REFUSES("unknown option '--xxx", big);
    memcpy(big, "--threads=", 10);
    REFUSES("--threads: 'xxx", big);
    free(big);
}

static void the_environment_stands_in_only_for_what_was_not_given(void **state) {
    (void)state;
    pil_options o;
    pillion_error err;
    setenv("PIL_TEST_THREADS", "7", 1);
    setenv("PIL_TEST_QUIET", "yes", 1);
    setenv("PIL_TEST_LISTEN", "a,,b", 1);
    assert_int_equal(PARSE(&o, &err, "--listen", "c"), PILLION_OK);
    const values *v = o.values;
    assert_int_equal(v->threads, 7);
    assert_true(v->quiet);
    assert_int_equal(v->listen.n, 1);
    pil_options_deinit(&o);
    setenv("PIL_TEST_QUIET", "FALSE", 1);
    assert_int_equal(PARSE(&o, &err, "--threads", "2"), PILLION_OK);
    v = o.values;
    assert_int_equal(v->threads, 2);
    assert_false(v->quiet);
    assert_int_equal(v->listen.n, 2);
    assert_string_equal(v->listen.items[1], "b");
    pil_options_deinit(&o);
    setenv("PIL_TEST_THREADS", "many", 1);
    REFUSES("PIL_TEST_THREADS (environment, for --threads): 'many' is not a whole number", "-v");
    setenv("PIL_TEST_THREADS", "", 1); /* empty counts as unset */
    assert_int_equal(PARSE_NOTHING(&o, &err), PILLION_OK);
    assert_int_equal(((const values *)o.values)->threads, 1);
    pil_options_deinit(&o);
    unsetenv("PIL_TEST_THREADS");
    unsetenv("PIL_TEST_QUIET");
    unsetenv("PIL_TEST_LISTEN");
}

static void a_file_gives_what_neither_command_line_nor_environment_say(void **state) {
    (void)state;
    char dir[PIL_TEST_PATH], path[PIL_TEST_PATH];
    pil_options o;
    pillion_error err;
    pil_test_dir_make(dir);
    pil_test_write_text(dir, "c", "# a remark\n\n  threads = 2\nprompt=a = b \r\nlisten = x\nlisten = y\nquiet = yes\n"
                                  "verbose = no\nrows = 7");
    pil_test_path(path, dir, "c");
    setenv("PIL_TEST_THREADS", "3", 1);
    assert_int_equal(PARSE(&o, &err, "--config", path, "--rows", "9", "-v"), PILLION_OK);
    const values *v = o.values;
    assert_int_equal(v->threads, 3);
    assert_int_equal(v->rows, 9);
    assert_string_equal(v->prompt, "a = b");
    assert_true(v->quiet);
    assert_true(v->verbose);
    assert_int_equal(v->listen.n, 2);
    assert_string_equal(v->listen.items[1], "y");
    assert_int_equal(v->line.argc, 5);
    pil_options_deinit(&o);
    unsetenv("PIL_TEST_THREADS");
    assert_int_equal(PARSE(&o, &err, "--config", path, "-l", "z"), PILLION_OK);
    v = o.values;
    assert_int_equal(v->threads, 2);
    assert_int_equal(v->listen.n, 1); /* a list is taken as a whole */
    pil_options_deinit(&o);
    pil_test_dir_remove(dir);
}

static void a_wrong_line_of_a_file_is_named_even_if_something_beats_it(void **state) {
    (void)state;
    char dir[PIL_TEST_PATH], path[PIL_TEST_PATH];
    pil_test_dir_make(dir);
    pil_test_path(path, dir, "c");
    pil_test_write_text(dir, "c", "quiet = 1\nthreads = many\n");
    REFUSES("/c:2: threads: 'many' is not a whole number from 0 to 64", "--config", path, "--threads", "1");
    pil_test_write_text(dir, "c", "thread = 1");
    REFUSES("/c:1: unknown option 'thread'; did you mean threads?", "--config", path);
    pil_test_write_text(dir, "c", "quiet");
    REFUSES("/c:1: 'quiet' is not name = value", "--config", path);
    pil_test_write_text(dir, "c", "quiet = perhaps");
    REFUSES("/c:1: quiet: 'perhaps' is not yes or no", "--config", path);
    pil_test_write_text(dir, "c", "config = d");
    REFUSES("/c:1: unknown option 'config'", "--config", path);
    pil_test_dir_remove(dir);
}

static void values_are_compared_as_the_table_says(void **state) {
    (void)state;
    pil_options a, b;
    pillion_error err;
    assert_int_equal(PARSE(&a, &err, "-q", "--prompt", "p", "--rows", "2", "-l", "x", "-l", "y"), PILLION_OK);
    assert_int_equal(PARSE(&b, &err, "-q", "--prompt=p", "--rows", "3", "-l", "x", "-l", "z"), PILLION_OK);
    for (const pil_option *o = options; o->name; o++) {
        bool differs = strcmp(o->name, "rows") == 0 || strcmp(o->name, "listen") == 0;
        assert_int_equal(pil_options_same(o, a.values, b.values), !differs);
        assert_true(pil_options_same(o, a.values, a.values));
    }
    pil_options_deinit(&a);
    pil_options_deinit(&b);
}

static void only_near_words_are_suggested(void **state) {
    (void)state;
    static const char *const words[] = {"embed", "similarity", "show", "serve", NULL};
    assert_string_equal(pil_options_nearest("embde", words), "embed");
    assert_string_equal(pil_options_nearest("sim", words), "similarity");
    assert_string_equal(pil_options_nearest("sreve", words), "serve");
    assert_null(pil_options_nearest("download", words));
    assert_null(pil_options_nearest("", words));
    assert_null(pil_options_nearest("a-word-that-is-much-longer-than-any-command-of-ours", words));
}

static void too_few_arguments_show_the_usage(void **state) {
    (void)state;
    pil_command two = command;
    two.args_min = 2;
    char *words[] = {"a"};
    pil_options o;
    pillion_error err = {0};
    assert_int_equal(pil_options_parse(&o, &two, 1, words, &err), PILLION_E_ARG);
    assert_string_equal(err.text, "an argument is missing: pillion try [TEXT...]");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(defaults_stand_when_nothing_is_given),
        cmocka_unit_test(every_spelling_of_a_value_is_understood),
        cmocka_unit_test(arguments_and_options_may_be_mixed_until_two_dashes),
        cmocka_unit_test(a_list_keeps_its_order),
        cmocka_unit_test(help_ends_the_parse_and_asks_for_nothing_else),
        cmocka_unit_test(errors_name_the_option_and_what_is_allowed),
        cmocka_unit_test(a_monstrous_argument_stays_one_short_line),
        cmocka_unit_test(the_environment_stands_in_only_for_what_was_not_given),
        cmocka_unit_test(a_file_gives_what_neither_command_line_nor_environment_say),
        cmocka_unit_test(a_wrong_line_of_a_file_is_named_even_if_something_beats_it),
        cmocka_unit_test(values_are_compared_as_the_table_says),
        cmocka_unit_test(only_near_words_are_suggested),
        cmocka_unit_test(too_few_arguments_show_the_usage),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
