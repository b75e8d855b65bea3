/* test_loop.c - timers, listeners, streams and children, and that nothing is called after it was closed. */
#include "support/test.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <netinet/in.h>
#include <unistd.h>

#include "proc/loop.h"

typedef struct world {
    pil_loop *loop;
    pil_timer *timer, *other;
    pil_listener *listener;
    pil_stream *stream;
    pil_child *child;
    int calls, status, term_signal, client;
    size_t bytes, written;
    char data[64];
    bool ended;
} world;

static int setup(void **state) {
    world *w = calloc(1, sizeof *w);
    pillion_error err = {0};
    w->client = -1;
    assert_ok(pil_loop_create(&w->loop, &err), err);
    *state = w;
    return 0;
}

static int teardown(void **state) {
    world *w = *state;
    pil_loop_destroy(w->loop);
    if (w->client >= 0) close(w->client);
    free(w);
    return 0;
}

static void count_to_three(void *ud) {
    world *w = ud;
    if (++w->calls == 3) pil_loop_stop(w->loop);
}

static void never(void *ud) {
    (void)ud;
    fail_msg("called after it was closed");
}

static void a_timer_repeats_until_it_is_stopped(void **state) {
    world *w = *state;
    w->timer = pil_timer_create(w->loop, count_to_three, w);
    pil_timer_start(w->timer, 1, 1);
    pil_loop_run(w->loop);
    assert_int_equal(w->calls, 3);
    pil_timer_stop(w->timer);
    pil_loop_run(w->loop); /* nothing is left to happen */
    assert_int_equal(w->calls, 3);
}

static void a_destroyed_timer_is_silent(void **state) {
    world *w = *state;
    pil_timer *t = pil_timer_create(w->loop, never, w);
    pil_timer_start(t, 0, 0);
    pil_timer_destroy(t);
    pil_timer_destroy(NULL);
    pil_loop_run(w->loop);
}

/* Each takes longer than the pause that it asks for. */
static void take_long(void *ud) {
    world *w = ud;
    usleep(3000);
    if (++w->calls < 200) pil_timer_start(w->timer, 0, 0);
}

static void take_long_too(void *ud) {
    world *w = ud;
    usleep(3000);
    if (++w->calls < 200) pil_timer_start(w->other, 1, 0);
}

static void on_byte(void *ud) {
    world *w = ud;
    w->status = w->calls;
    pil_loop_stop(w->loop);
}

static void timers_that_are_started_again_and_again_keep_nobody_from_the_loop(void **state) {
    world *w = *state;
    int ends[2];
    pil_watch *watch;
    pillion_error err = {0};
    assert_int_equal(pipe(ends), 0);
    assert_int_equal(write(ends[1], "x", 1), 1);
    assert_ok(pil_watch_create(&watch, w->loop, ends[0], on_byte, w, &err), err);
    w->timer = pil_timer_create(w->loop, take_long, w);
    w->other = pil_timer_create(w->loop, take_long_too, w);
    pil_timer_start(w->timer, 0, 0);
    pil_timer_start(w->other, 0, 0);
    pil_loop_run(w->loop);
    assert_in_range(w->status, 0, 2); /* the first turn's */
    pil_watch_destroy(watch);
    close(ends[0]);
    close(ends[1]);
}

static void on_usr1(int signum, void *ud) {
    world *w = ud;
    w->status = signum;
    pil_loop_stop(w->loop);
}

static void signals_arrive_in_the_loop(void **state) {
    world *w = *state;
    pillion_error err = {0};
    assert_ok(pil_loop_signal(w->loop, SIGUSR1, on_usr1, w, &err), err);
    pil_loop_run(w->loop); /* a watched signal alone keeps nothing running */
    pil_timer *t = pil_timer_create(w->loop, count_to_three, w);
    pil_timer_start(t, 1000, 0);
    raise(SIGUSR1);
    pil_loop_run(w->loop);
    assert_int_equal(w->status, SIGUSR1);
}

/* ── Streams ────────────────────────────────────────────────────────────────────────────────────────────────── */

static void on_read(pil_stream *s, const char *bytes, size_t n, void *ud) {
    world *w = ud;
    assert_ptr_equal(s, w->stream);
    if (n == 0) {
        w->ended = true;
        pil_loop_stop(w->loop);
        return;
    }
    for (size_t i = 0; i < n && w->bytes < sizeof w->data; i++) w->data[w->bytes++] = bytes[i];
    char *copy = malloc(n);
    memcpy(copy, bytes, n);
    assert_int_equal(pil_stream_write(s, copy, n), PILLION_OK);
}

static void on_written(pil_stream *s, bool ok, void *ud) {
    (void)s;
    ((world *)ud)->written += ok;
}

static void on_accept(pil_stream *s, void *ud) {
    world *w = ud;
    w->stream = s;
    pil_stream_watch(s, on_read, on_written, w);
    pil_stream_read_start(s);
    pil_listener_close(w->listener);
}

static void connect_to(world *w, const char *path) {
    if (path) {
        struct sockaddr_un a = {.sun_family = AF_UNIX};
        snprintf(a.sun_path, sizeof a.sun_path, "%s", path);
        w->client = socket(AF_UNIX, SOCK_STREAM, 0);
        assert_int_equal(connect(w->client, (struct sockaddr *)&a, sizeof a), 0);
    } else {
        struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons((uint16_t)pil_listener_port(w->listener)),
                                .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
        w->client = socket(AF_INET, SOCK_STREAM, 0);
        assert_int_equal(connect(w->client, (struct sockaddr *)&a, sizeof a), 0);
    }
}

static void echo(world *w) {
    char back[6] = "";
    assert_int_equal(write(w->client, "hello", 5), 5);
    assert_int_equal(shutdown(w->client, SHUT_WR), 0);
    pil_loop_run(w->loop);
    assert_true(w->ended);
    assert_memory_equal(w->data, "hello", 5);
    assert_int_equal(read(w->client, back, 5), 5);
    assert_memory_equal(back, "hello", 5);
}

static void bytes_go_both_ways_over_tcp(void **state) {
    world *w = *state;
    bool in_use;
    pillion_error err = {0};
    assert_ok(pil_listener_open(&w->listener, w->loop, "localhost", 0, NULL, on_accept, w, &in_use, &err), err);
    assert_string_equal(pil_listener_host(w->listener), "127.0.0.1");
    assert_true(pil_listener_port(w->listener) > 0);
    assert_false(pil_listener_is_unix(w->listener));
    pil_listener *second;
    assert_int_equal(pil_listener_open(&second, w->loop, "127.0.0.1", pil_listener_port(w->listener), NULL, on_accept,
                                       w, &in_use, &err),
                     PILLION_E_IO);
    assert_true(in_use);
    assert_error(err, PILLION_E_IO, "address already in use");
    connect_to(w, NULL);
    echo(w);
    assert_int_equal(w->written, 1);
    char address[64];
    pil_stream_address(w->stream, true, address, sizeof address);
    assert_string_equal(address, "127.0.0.1");
    pil_stream_close(w->stream);
    pil_stream_close(NULL);
    pil_loop_run(w->loop);
}

static void bytes_go_both_ways_over_a_unix_socket(void **state) {
    world *w = *state;
    char path[64];
    struct stat st;
    bool in_use;
    pillion_error err = {0};
    snprintf(path, sizeof path, "/tmp/pil-loop-%d.sock", (int)getpid());
    assert_ok(pil_listener_open(&w->listener, w->loop, NULL, 0, path, on_accept, w, &in_use, &err), err);
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0600);
    connect_to(w, path);
    echo(w);
    assert_int_not_equal(access(path, F_OK), 0); /* the listener is closed, its file gone */
    char address[64] = "x";
    pil_stream_address(w->stream, true, address, sizeof address);
    assert_string_equal(address, "");
}

static void hosts_that_are_none_are_refused(void **state) {
    world *w = *state;
    bool in_use;
    pillion_error err = {0};
    assert_int_equal(
        pil_listener_open(&w->listener, w->loop, "no.such.host.invalid", 1, NULL, on_accept, w, &in_use, &err),
        PILLION_E_ARG);
    assert_null(w->listener);
    assert_false(in_use);
}

static void a_closed_stream_is_silent(void **state) {
    world *w = *state;
    bool in_use;
    pillion_error err = {0};
    assert_ok(pil_listener_open(&w->listener, w->loop, "127.0.0.1", 0, NULL, on_accept, w, &in_use, &err), err);
    connect_to(w, NULL);
    pil_timer *t = pil_timer_create(w->loop, count_to_three, w);
    w->calls = 2;
    pil_timer_start(t, 20, 0);
    pil_loop_run(w->loop);
    assert_non_null(w->stream);
    size_t n = 32 << 20; /* more than the socket takes at once */
    assert_int_equal(pil_stream_write(w->stream, calloc(n, 1), n), PILLION_OK);
    assert_int_equal(write(w->client, "late", 4), 4);
    pil_stream_close(w->stream);
    pil_loop_run(w->loop);
    assert_int_equal(w->bytes, 0);
    assert_int_equal(w->written, 0);
}

/* ── Children ───────────────────────────────────────────────────────────────────────────────────────────────── */

static void on_exit_status(int status, int term_signal, void *ud) {
    world *w = ud;
    w->status = status;
    w->term_signal = term_signal;
    w->child = NULL;
    if (w->ended || !w->stream) pil_loop_stop(w->loop);
}

static void on_output(pil_stream *s, const char *bytes, size_t n, void *ud) {
    world *w = ud;
    for (size_t i = 0; i < n && w->bytes < sizeof w->data; i++) w->data[w->bytes++] = bytes[i];
    if (n > 0) return;
    w->ended = true;
    pil_stream_close(s);
    if (!w->child) pil_loop_stop(w->loop);
}

static void run_shell(world *w, const char *script, int stdin_fd) {
    const char *const argv[] = {"sh", "-c", script, NULL}, *const env[] = {"ONLY=this", NULL};
    const pil_child_spec spec = {.program = "/bin/sh",
                                 .argv = argv,
                                 .envp = env,
                                 .stdin_fd = stdin_fd,
                                 .out = &w->stream,
                                 .on_exit = on_exit_status,
                                 .ud = w};
    pillion_error err = {0};
    w->ended = false;
    w->bytes = 0;
    assert_ok(pil_child_start(&w->child, w->loop, &spec, &err), err);
    pil_stream_watch(w->stream, on_output, NULL, w);
    pil_stream_read_start(w->stream);
}

static void a_child_has_the_input_and_environment_it_was_given(void **state) {
    world *w = *state;
    run_shell(w, "read x; echo \"$x $ONLY ${HOME-none}\"; exit 7", -1);
    pil_loop_run(w->loop);
    assert_int_equal(w->status, 7);
    assert_memory_equal(w->data, " this none\n", 11);
    int fd[2];
    assert_int_equal(pipe(fd), 0);
    assert_int_equal(write(fd[1], "input\n", 6), 6);
    close(fd[1]);
    run_shell(w, "cat", fd[0]);
    close(fd[0]);
    pil_loop_run(w->loop);
    assert_int_equal(w->status, 0);
    assert_memory_equal(w->data, "input\n", 6);
}

static void a_killed_child_tells_its_signal(void **state) {
    world *w = *state;
    run_shell(w, "exec sleep 100", -1);
    assert_true(pil_child_pid(w->child) > 0);
    pil_child_kill(w->child, SIGKILL);
    pil_child_kill(NULL, SIGKILL);
    pil_loop_run(w->loop);
    assert_int_equal(w->term_signal, SIGKILL);
}

static void a_forgotten_child_is_silent(void **state) {
    world *w = *state;
    run_shell(w, "exit 3", -1);
    pil_stream_close(w->stream);
    pil_child_forget(w->child);
    pil_child_forget(NULL);
    w->status = -1;
    pil_loop_run(w->loop);
    assert_int_equal(w->status, -1);
}

static void a_program_that_is_not_there_is_an_error(void **state) {
    world *w = *state;
    const char *const argv[] = {"x", NULL}, *const env[] = {NULL};
    const pil_child_spec spec = {.program = "/nonexistent/program",
                                 .argv = argv,
                                 .envp = env,
                                 .stdin_fd = -1,
                                 .out = &w->stream,
                                 .on_exit = on_exit_status,
                                 .ud = w};
    pillion_error err = {0};
    assert_int_equal(pil_child_start(&w->child, w->loop, &spec, &err), PILLION_E_IO);
    assert_error(err, PILLION_E_IO, "no such file");
    assert_null(w->child);
    pil_loop_run(w->loop);
}

static void the_end_of_a_loop_closes_everything(void **state) {
    world *w = *state;
    bool in_use;
    pillion_error err = {0};
    pil_timer_start(pil_timer_create(w->loop, never, w), 0, 1);
    assert_ok(pil_listener_open(&w->listener, w->loop, "127.0.0.1", 0, NULL, on_accept, w, &in_use, &err), err);
    assert_ok(pil_loop_signal(w->loop, SIGUSR2, on_usr1, w, &err), err);
    run_shell(w, "exec sleep 0.1", -1);
    /* teardown destroys the loop; the leak checker looks for what is left */
}

int main(void) {
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        T(a_timer_repeats_until_it_is_stopped),
        T(a_destroyed_timer_is_silent),
        T(timers_that_are_started_again_and_again_keep_nobody_from_the_loop),
        T(signals_arrive_in_the_loop),
        T(bytes_go_both_ways_over_tcp),
        T(bytes_go_both_ways_over_a_unix_socket),
        T(hosts_that_are_none_are_refused),
        T(a_closed_stream_is_silent),
        T(a_child_has_the_input_and_environment_it_was_given),
        T(a_killed_child_tells_its_signal),
        T(a_forgotten_child_is_silent),
        T(a_program_that_is_not_there_is_an_error),
        T(the_end_of_a_loop_closes_everything),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
