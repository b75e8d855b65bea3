/* harness.h - one extraction in a test: a document in a file, the arguments of the role, the answer parsed. */
#ifndef PIL_TESTS_EXTRACT_HARNESS_H
#define PIL_TESTS_EXTRACT_HARNESS_H

#include "support/test.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/json.h"
#include "base/limits.h"
#include "extract/extract.h"
#include "sandbox/sandbox.h"
#include "support/files.h"

typedef struct answer {
    int status; /* exit status; 128 + the signal of a child that was killed */
    pil_json *root;
    double ms;
} answer;

/* A file without a name that holds these bytes, open for reading only. */
static inline int document_of(const void *bytes, size_t n) {
    char path[] = "/tmp/pillion-document-XXXXXX";
    int out = mkstemp(path);
    assert_true(out >= 0);
    for (size_t at = 0; at < n;) {
        ssize_t w = write(out, (const char *)bytes + at, n - at);
        assert_true(w > 0);
        at += (size_t)w;
    }
    int in = open(path, O_RDONLY | O_CLOEXEC);
    assert_true(in >= 0);
    close(out);
    unlink(path);
    return in;
}

/* arguments: words separated by one space each. */
static inline int split_arguments(char *arguments, char *argv[16]) {
    int argc = 0;
    argv[argc++] = (char *)(uintptr_t)"pillion";
    while (*arguments && argc < 15) {
        argv[argc++] = arguments;
        arguments += strcspn(arguments, " ");
        if (*arguments) *arguments++ = '\0';
    }
    argv[argc] = NULL;
    return argc;
}

static inline pil_json *parse_answer(const char *bytes, size_t n) {
    pil_json *root;
    pillion_error err = {0};
    if (pil_json_parse(&root, bytes, n, NULL, &err)) fail_msg("%s in: %.*s", err.text, (int)(n < 300 ? n : 300), bytes);
    return root;
}

/* The work in this process: coverage and leak checks see it. */
static inline answer run_here(const char *arguments, int document) {
    char words[256], *argv[16];
    snprintf(words, sizeof words, "%s", arguments);
    int argc = split_arguments(words, argv);
    pil_buf out;
    pil_buf_init(&out, PIL_LIMIT_EXTRACT_RESULT);
    uint64_t start = pil_clock_ns();
    answer a = {.status = pil_extract_run(&out, document, argc, argv)};
    a.ms = pil_clock_ms(start);
    a.root = parse_answer(out.bytes, out.len);
    pil_buf_deinit(&out);
    assert_int_equal(waitpid(-1, NULL, WNOHANG), -1); /* no child is left, not even a zombie */
    assert_int_equal(errno, ECHILD);
    return a;
}

/* Forks the role itself; *answers is the reading end of its descriptor 1. */
static inline pid_t start_child(const char *arguments, int document, int *answers) {
    char words[256], *argv[16];
    int ends[2];
    snprintf(words, sizeof words, "%s", arguments);
    int argc = split_arguments(words, argv);
    assert_int_equal(pipe(ends), 0);
    fflush(NULL);
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        dup2(document, 0);
        dup2(ends[1], 1);
        _exit(pil_extract_main(argc, argv));
    }
    close(ends[1]);
    *answers = ends[0];
    return child;
}

/* The whole role, as the server runs it. */
static inline answer run_child(const char *arguments, int document) {
    int answers, status;
    uint64_t start = pil_clock_ns();
    pid_t child = start_child(arguments, document, &answers);
    pil_buf out;
    pil_buf_init(&out, PIL_LIMIT_EXTRACT_RESULT);
    for (ssize_t n = 1; n > 0;) {
        char *at = pil_buf_reserve(&out, 65536);
        assert_non_null(at);
        n = read(answers, at, 65536);
        if (n > 0) out.len += (size_t)n;
    }
    close(answers);
    assert_int_equal(waitpid(child, &status, 0), child);
    answer a = {.status = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status), .ms = pil_clock_ms(start)};
    a.root = parse_answer(out.bytes, out.len);
    pil_buf_deinit(&out);
    return a;
}

static inline answer run_on(const char *arguments, const void *bytes, size_t n) {
    int document = document_of(bytes, n);
    answer a = run_here(arguments, document);
    close(document);
    return a;
}

static inline answer run_on_text(const char *arguments, const char *text) {
    return run_on(arguments, text, strlen(text));
}

static inline const char *answer_string(const answer *a, const char *key) {
    const char *s = pil_json_string(pil_json_get(a->root, key), NULL);
    return s ? s : "(none)";
}

static inline const char *answer_page(const answer *a, size_t i) {
    const char *s = pil_json_string(pil_json_at(pil_json_get(a->root, "pages"), i), NULL);
    return s ? s : "(none)";
}

static inline const char *answer_code(const answer *a) {
    const char *s = pil_json_string(pil_json_get(pil_json_get(a->root, "error"), "code"), NULL);
    return s ? s : "(none)";
}

static inline const char *answer_package(const answer *a) {
    const char *s = pil_json_string(pil_json_get(pil_json_get(a->root, "error"), "package"), NULL);
    return s ? s : "(none)";
}

/* The number of the i-th page that is reported as failed; 0 when there is none. */
static inline int64_t answer_failed_page(const answer *a, size_t i) {
    return pil_json_int_or(pil_json_at(pil_json_get(a->root, "failed_pages"), i), 0);
}

static inline void free_answer(answer *a) {
    pil_json_free(a->root);
    a->root = NULL;
}

static inline void expect_code(answer a, const char *code) {
    assert_string_equal(answer_code(&a), code);
    assert_int_equal(a.status, 1);
    assert_non_null(pil_json_string(pil_json_get(pil_json_get(a.root, "error"), "text"), NULL));
    assert_null(pil_json_get(a.root, "pages"));
    free_answer(&a);
}

static inline void expect_pages(answer a, size_t n, const char *const *pages) {
    if (a.status != 0) fail_msg("%s: %s", answer_code(&a),
                                pil_json_string(pil_json_get(pil_json_get(a.root, "error"), "text"), NULL));
    assert_int_equal(pil_json_int_or(pil_json_get(a.root, "page_count"), -1), n);
    assert_int_equal(pil_json_count(pil_json_get(a.root, "pages")), n);
    for (size_t i = 0; i < n; i++) assert_string_equal(answer_page(&a, i), pages[i]);
    free_answer(&a);
}

#endif
