/* test_worker.c - the worker's loop and the preparing child on a real, tiny model, spoken to over a socket. */
#include "support/test.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/json.h"
#include "base/limits.h"
#include "proc/frame.h"
#include "proc/proc.h"
#include "sandbox/sandbox.h"
#include "support/files.h"
#include "support/tiny_model.h"

static char dir[PIL_TEST_PATH], compiled[PIL_TEST_PATH];

/* Compiles dir/model by the preparing child's own code into the cache in `home`, and gives the path as it is told. */
static void prepare(char path[PIL_TEST_PATH], const char *home) {
    setenv("XDG_CACHE_HOME", home, 1);
    char source[PIL_TEST_PATH];
    pil_test_path(source, dir, "model");
    int fd[2];
    assert_int_equal(pipe(fd), 0);
    assert_int_equal(pil_prepare_main(source, PILLION_PRECISION_AUTO, fd[1]), 0);
    close(fd[1]);
    char text[8192];
    size_t n = 0;
    for (ssize_t r; (r = read(fd[0], text + n, sizeof text - 1 - n)) > 0;) n += (size_t)r;
    close(fd[0]);
    text[n] = '\0';
    char *last = text; /* progress lines come first */
    for (char *end; (end = strchr(last, '\n')) && end[1];) last = end + 1;
    pil_json *json;
    pillion_error err = {0};
    assert_ok(pil_json_parse(&json, last, strlen(last), NULL, &err), err);
    snprintf(path, PIL_TEST_PATH, "%s", pil_json_string_or(pil_json_get(json, "path"), ""));
    pil_json_free(json);
}

/* A tiny model in a cache of its own. */
static int make_model(void **state) {
    (void)state;
    pil_test_dir_make(dir);
    char source[PIL_TEST_PATH];
    pil_test_path(source, dir, "model");
    pil_tiny_model_write(source, "bert", NULL);
    prepare(compiled, dir);
    assert_int_equal(access(compiled, R_OK), 0);
    return 0;
}

static int remove_model(void **state) {
    (void)state;
    pil_test_dir_remove(dir);
    return 0;
}

typedef struct world {
    pid_t pid;
    int fd;
    pil_buf out;
    pil_arena arena;
    pil_frame_header header;
    void *payload;
} world;

static world *start(const char *file, bool cage) {
    world *w = calloc(1, sizeof *w);
    int fds[2];
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0);
    pil_buf_init(&w->out, 64 * PIL_MIB);
    pil_arena_init(&w->arena, 64 * PIL_MIB);
    w->pid = fork();
    if (w->pid == 0) {
        close(fds[0]);
        pil_child_begin();
        _exit(pil_worker_main(&(pil_worker_options){.file = file, .fd = fds[1], .cage = cage}));
    }
    close(fds[1]);
    w->fd = fds[0];
    return w;
}

/* Ends the worker as the server does, and gives its exit status. */
static int stop(world *w) {
    close(w->fd);
    int status = 0;
    assert_int_equal(waitpid(w->pid, &status, 0), w->pid);
    free(w->payload);
    pil_buf_deinit(&w->out);
    pil_arena_deinit(&w->arena);
    free(w);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
}

static bool read_all(int fd, void *bytes, size_t n) {
    for (size_t at = 0; at < n;) {
        ssize_t r = read(fd, (char *)bytes + at, n - at);
        if (r <= 0) return false;
        at += (size_t)r;
    }
    return true;
}

static void receive(world *w, pil_frame_type type) {
    unsigned char head[PIL_FRAME_HEADER_BYTES];
    pillion_error err = {0};
    assert_true(read_all(w->fd, head, sizeof head));
    assert_ok(pil_frame_get_header(&w->header, head, PIL_LIMIT_FRAME_BYTES, &err), err);
    assert_int_equal(w->header.type, type);
    free(w->payload);
    w->payload = malloc(w->header.payload_bytes + 1);
    assert_true(read_all(w->fd, w->payload, w->header.payload_bytes));
}

static pil_frame_ready ready(world *w) {
    pil_frame_ready r;
    pillion_error err = {0};
    receive(w, PIL_FRAME_READY);
    assert_ok(pil_frame_get_ready(&r, w->payload, w->header.payload_bytes, &err), err);
    return r;
}

static uint32_t tag_of(uint64_t id, size_t i) { return (uint32_t)(id * 1000 + i); }

static void send_request(world *w, uint64_t id, pillion_op op, const pillion_run_options *opt, const pillion_input *in,
                         size_t n) {
    size_t mark;
    pil_buf_clear(&w->out);
    pil_frame_begin(&w->out, PIL_FRAME_REQUEST, id, &mark);
    pil_frame_put_request(&w->out, op, opt, n);
    for (size_t i = 0; i < n; i++) pil_frame_put_input(&w->out, tag_of(id, i), &in[i]);
    assert_int_equal(pil_frame_end(&w->out, mark), PILLION_OK);
    assert_int_equal(write(w->fd, w->out.bytes, w->out.len), w->out.len);
}

static pil_frame_reply reply(world *w, uint64_t id, pillion_op op, size_t n) {
    pil_frame_reply r;
    pillion_error err = {0};
    receive(w, PIL_FRAME_REPLY);
    assert_int_equal(w->header.id, id);
    uint32_t tags[4];
    for (size_t i = 0; i < n; i++) tags[i] = tag_of(id, i);
    const pil_frame_expect expect = {.op = op, .n = n, .tags = tags, .dim = PIL_TINY_HIDDEN, .hidden = PIL_TINY_HIDDEN};
    assert_ok(pil_frame_get_reply(&r, &w->arena, &expect, w->payload, w->header.payload_bytes, &err), err);
    return r;
}

static void a_worker_says_what_it_serves(void **state) {
    (void)state;
    world *w = start(compiled, false);
    pil_frame_ready r = ready(w);
    assert_int_equal(r.dim, PIL_TINY_HIDDEN);
    assert_int_equal(r.max_tokens, PIL_TINY_MAX_TOKENS);
    assert_memory_equal(r.sandbox, "none", 4);
    pil_json *json;
    pillion_error err = {0};
    assert_ok(pil_json_parse(&json, r.json, r.json_bytes, NULL, &err), err);
    assert_int_equal(pil_json_int_or(pil_json_get(json, "dim"), 0), PIL_TINY_HIDDEN);
    pil_json_free(json);
    assert_int_equal(stop(w), 0);
}

static void every_operation_is_answered(void **state) {
    (void)state;
    world *w = start(compiled, false);
    ready(w);
    pillion_run_options opt;
    pillion_run_options_init(&opt);
    const pillion_input texts[] = {
        {.text = "hello world", .text_bytes = 11}, {.text = "\xff", .text_bytes = 1}, {.text = "", .text_bytes = 0}};
    send_request(w, 1, PILLION_OP_EMBED, &opt, texts, 3);
    pil_frame_reply r = reply(w, 1, PILLION_OP_EMBED, 3);
    assert_int_equal(r.items[0].status, PILLION_OK);
    assert_int_equal(r.items[0].n_tokens, 4);
    assert_int_equal(r.items[1].status, PILLION_E_UTF8);
    assert_int_equal(r.items[2].n_tokens, 2);
    double sum = 0;
    for (size_t i = 0; i < PIL_TINY_HIDDEN; i++) sum += (double)r.items[0].values[i] * (double)r.items[0].values[i];
    assert_true(fabs(sum - 1) < 1e-5);
    send_request(w, 2, PILLION_OP_TOKENIZE, &opt, texts, 1);
    r = reply(w, 2, PILLION_OP_TOKENIZE, 1);
    assert_string_equal(r.items[0].tokens[1], "hello");
    const pillion_input ids = {.ids = r.items[0].ids, .n_ids = r.items[0].n_tokens};
    int32_t copy[4];
    memcpy(copy, ids.ids, sizeof copy);
    send_request(w, 3, PILLION_OP_EMBED_TOKENS, &opt, &(pillion_input){.ids = copy, .n_ids = 4}, 1);
    r = reply(w, 3, PILLION_OP_EMBED_TOKENS, 1);
    assert_int_equal(r.items[0].n_values, 4 * PIL_TINY_HIDDEN);
    opt.skip_special = 1;
    send_request(w, 4, PILLION_OP_DECODE, &opt, &(pillion_input){.ids = copy, .n_ids = 4}, 1);
    r = reply(w, 4, PILLION_OP_DECODE, 1);
    assert_string_equal(r.items[0].text, "hello world");
    assert_int_equal(stop(w), 0);
}

static void a_request_that_makes_no_sense_fails_as_a_whole(void **state) {
    (void)state;
    world *w = start(compiled, false);
    ready(w);
    pillion_run_options opt;
    pillion_run_options_init(&opt);
    opt.prompt_name = "no such prompt";
    const pillion_input in = {.text = "x", .text_bytes = 1};
    send_request(w, 9, PILLION_OP_EMBED, &opt, &in, 1);
    assert_int_equal(reply(w, 9, PILLION_OP_EMBED, 1).status, PILLION_E_ARG);
    opt.prompt_name = NULL;
    send_request(w, 10, PILLION_OP_EMBED, &opt, &in, 1);
    assert_int_equal(reply(w, 10, PILLION_OP_EMBED, 1).status, PILLION_OK);
    assert_int_equal(stop(w), 0);
}

/* Memory of a process that is its own, in kB. */
static long own_memory_kb(pid_t pid) {
    char path[64], line[256];
    long kb = -1;
    snprintf(path, sizeof path, "/proc/%d/status", (int)pid);
    FILE *f = fopen(path, "r");
    assert_non_null(f);
    while (kb < 0 && fgets(line, sizeof line, f))
        if (strncmp(line, "RssAnon:", 8) == 0) kb = strtol(line + 8, NULL, 10);
    fclose(f);
    return kb;
}

static void a_large_request_gives_its_memory_back(void **state) {
    (void)state;
    world *w = start(compiled, false);
    ready(w);
    long before_kb = own_memory_kb(w->pid), after_first_kb = 0;
    size_t n = 8 * PIL_MIB;
    char *text = malloc(n);
    memset(text, 'a', n);
    pillion_run_options opt;
    pillion_run_options_init(&opt);
    pil_buf_deinit(&w->out);
    const pillion_input in[2] = {{.text = text, .text_bytes = PIL_LIMIT_TEXT_BYTES}, {.text = text, .text_bytes = 5}};
    for (uint64_t id = 1; id < 4; id++) {
        pid_t writer = fork(); /* the socket's buffer is smaller than the request */
        if (writer == 0) {
            send_request(w, id, PILLION_OP_EMBED, &opt, in, 2);
            _exit(0);
        }
        pil_frame_reply r = reply(w, id, PILLION_OP_EMBED, 2);
        assert_int_equal(r.items[1].status, PILLION_OK);
        waitpid(writer, NULL, 0);
        send_request(w, 9, PILLION_OP_TOKENIZE, &opt, &in[1], 1); /* when it is answered, the large one is tidied up */
        reply(w, 9, PILLION_OP_TOKENIZE, 1);
        if (id == 1) after_first_kb = own_memory_kb(w->pid);
    }
    /* the tokenizer keeps its scratch; the buffers of the request must be gone, and nothing may pile up */
    print_message("own memory: %ld kB, then %ld, then %ld\n", before_kb, after_first_kb, own_memory_kb(w->pid));
#ifndef __SANITIZE_ADDRESS__ /* which keeps freed memory to find its late uses */
    assert_true(own_memory_kb(w->pid) < after_first_kb + 1024);
#endif
    free(text);
    assert_int_equal(stop(w), 0);
}

static void what_is_not_a_request_ends_the_worker(void **state) {
    (void)state;
    static const char *const junk[] = {"0123456789abcdef0123456789abcdef", "\x04\0\0\0\x03\0\x04\0id______xxxx",
                                       "\xff\xff\xff\xff\x03\0\x03\0id______", "\x04\0\0\0\x03\0\x03\0id______xxxx"};
    static const size_t bytes[] = {32, 20, 16, 20};
    for (size_t i = 0; i < 4; i++) {
        world *w = start(compiled, false);
        ready(w);
        assert_int_equal(write(w->fd, junk[i], bytes[i]), bytes[i]);
        char byte;
        assert_true(read(w->fd, &byte, 1) <= 0);
        assert_int_equal(stop(w), 1);
    }
}

static void a_half_sent_request_ends_it_too(void **state) {
    (void)state;
    world *w = start(compiled, false);
    ready(w);
    assert_int_equal(write(w->fd, "\x04\0\0\0\x03\0\x03\0id______xx", 18), 18);
    assert_int_equal(stop(w), 0);
}

static void a_model_that_cannot_be_opened_is_told(void **state) {
    (void)state;
    static const char *const files[] = {"/nonexistent/model.safetensors", "/etc/hostname"};
    for (size_t i = 0; i < 2; i++) {
        world *w = start(files[i], false);
        pillion_error why, err = {0};
        receive(w, PIL_FRAME_FAILED);
        assert_ok(pil_frame_get_failed(&why, w->payload, w->header.payload_bytes, &err), err);
        assert_true(why.code < 0);
        assert_non_null(strstr(why.text, files[i]));
        assert_int_equal(stop(w), 1);
    }
}

static void a_caged_worker_computes_the_same(void **state) {
    (void)state;
    need_one_thread();
    pillion_run_options opt;
    pillion_run_options_init(&opt);
    const pillion_input in = {.text = "the cat sat on the mat", .text_bytes = 22};
    float values[2][PIL_TINY_HIDDEN];
    for (int cage = 0; cage < 2; cage++) {
        world *w = start(compiled, cage);
        ready(w);
        send_request(w, 1, PILLION_OP_EMBED, &opt, &in, 1);
        memcpy(values[cage], reply(w, 1, PILLION_OP_EMBED, 1).items[0].values, sizeof values[cage]);
        assert_int_equal(stop(w), 0);
    }
    assert_memory_equal(values[0], values[1], sizeof values[0]);
}

static void what_cannot_be_prepared_is_told(void **state) {
    (void)state;
    int fd[2];
    char text[4096];
    assert_int_equal(pipe(fd), 0);
    assert_int_equal(pil_prepare_main("/nonexistent/\"model\"", PILLION_PRECISION_AUTO, fd[1]), 1);
    close(fd[1]);
    ssize_t n = read(fd[0], text, sizeof text - 1);
    close(fd[0]);
    assert_true(n > 0);
    pil_json *json;
    pillion_error err = {0};
    assert_ok(pil_json_parse(&json, text, (size_t)n, NULL, &err), err);
    const pil_json *error = pil_json_get(json, "error");
    assert_int_equal(pil_json_int_or(pil_json_get(error, "status"), 0), PILLION_E_NOT_FOUND);
    assert_non_null(strstr(pil_json_string_or(pil_json_get(error, "text"), ""), "/nonexistent/\"model\""));
    pil_json_free(json);
}

static void a_path_of_any_bytes_is_told_in_ascii(void **state) {
    (void)state;
    char home[PIL_TEST_PATH], path[PIL_TEST_PATH];
    pil_test_path(home, dir, "caf\xe9 \"100%\" \xc3\xa9");
    prepare(path, home);
    assert_non_null(strstr(path, "/caf%E9 %22100%25%22 %C3%A9/pillion/"));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_worker_says_what_it_serves),
        cmocka_unit_test(every_operation_is_answered),
        cmocka_unit_test(a_request_that_makes_no_sense_fails_as_a_whole),
        cmocka_unit_test(a_large_request_gives_its_memory_back),
        cmocka_unit_test(what_is_not_a_request_ends_the_worker),
        cmocka_unit_test(a_half_sent_request_ends_it_too),
        cmocka_unit_test(a_model_that_cannot_be_opened_is_told),
        cmocka_unit_test(a_caged_worker_computes_the_same),
        cmocka_unit_test(what_cannot_be_prepared_is_told),
        cmocka_unit_test(a_path_of_any_bytes_is_told_in_ascii),
    };
    return cmocka_run_group_tests(tests, make_model, remove_model);
}
