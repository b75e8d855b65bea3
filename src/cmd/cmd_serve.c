/* cmd_serve.c - pillion serve: listen, start the workers, serve, drain, end.
 *
 * Flow:    find the model (nothing is read) -> listen (serve_listen.c) -> pool: compile if need be, workers -> ready ->
 *          loop -> SIGTERM, SIGINT, GET /shutdown, the parent's end, a successor -> drain -> stop the workers -> exit.
 * Signals: SIGHUP reads the file of options again (serve_reload.c); without one it ends the server, as it ends every
 *          program whose terminal is closed, unless it was ignored from the start (nohup). SIGUSR2 upgrades.
 * The sidecar's way: started as an interpreter would be, with a script *.py as first argument, the program takes the
 * place of the Python sidecar: another default model, and less time to drain, because that host kills after a second.
 * Standard output is for PROGRESS: lines, each in one write, since their reader splits what it gets at line ends.
 * Not here: the table of options (serve_options.c).
 * Tests:   tests/http/test_server.py, tests/http/test_lifecycle.py, tests/http/test_service.py. */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/err.h"
#include "base/heap.h"
#include "base/json.h"
#include "base/limits.h"
#include "base/log.h"
#include "base/thread.h"
#include "cmd/cmd.h"
#include "cmd/notify.h"
#include "cmd/say.h"
#include "cmd/serve.h"

#define PARENT_POLL_MS 250
#define BEAT_MS 10000       /* to a service manager without a watchdog, while the model is compiled */
#define EXTEND_US 30000000u /* what each beat then asks for */
#define SIDECAR_DRAIN_MS 600 /* with the workers' end, below the second after which its host kills */

/* ── What is said ───────────────────────────────────────────────────────────────────────────────────────────── */

/* One PROGRESS line; members are those of "data" behind the model. Nobody reads them at a terminal. */
static void progress(const pil_serve *s, const char *type, const char *members) {
    if (isatty(STDOUT_FILENO)) return;
    pil_buf line;
    pil_buf_init(&line, 64 * PIL_KIB);
    pil_buf_printf(&line, "PROGRESS:{\"type\":\"%s\",\"data\":{\"model\":", type);
    pil_json_put_string(&line, s->model_name, strlen(s->model_name));
    pil_buf_printf(&line, "%s}}\n", members);
    ssize_t ignored = line.failed ? 0 : write(STDOUT_FILENO, line.bytes, line.len);
    (void)ignored; /* a reader that has gone does not keep us from serving */
    pil_buf_deinit(&line);
}

/* ── The end ────────────────────────────────────────────────────────────────────────────────────────────────── */

static void on_stopped(void *ud) { pil_loop_stop(((pil_serve *)ud)->loop); }

static void on_drained(void *ud) {
    pil_serve *s = ud;
    pil_pool_stop(s->pool, on_stopped, s);
}

void pil_serve_stop(pil_serve *s, uint64_t drain_ms) {
    if (s->stopping) return;
    s->stopping = true;
    pil_log(PIL_LOG_INFO, "stopping", "drain_ms=%llu successor=%d", (unsigned long long)drain_ms, s->handed_over);
    if (!s->handed_over) pil_notify("STOPPING=1");
    if (s->handed_over) pil_server_hand_over(s->server, drain_ms, on_drained, s);
    else pil_server_drain(s->server, drain_ms, on_drained, s);
}

uint64_t pil_serve_drain_ms(const pil_serve *s) {
    uint64_t ms = s->live->drain_s * 1000;
    return s->is_sidecar && ms > SIDECAR_DRAIN_MS ? SIDECAR_DRAIN_MS : ms;
}

static void stop(pil_serve *s) { pil_serve_stop(s, pil_serve_drain_ms(s)); }

static void fail(pil_serve *s, const pillion_error *why) {
    pil_say(PIL_SERVE_NAME, "%s", why->text);
    if (!s->status) s->status = pil_exit_of(why->code);
    pil_serve_stop(s, SIDECAR_DRAIN_MS);
}

static void on_signal(int signum, void *ud) {
    pil_serve *s = ud;
    if (signum == SIGUSR2) pil_serve_upgrade(s);
    else if (signum == SIGHUP && s->values->config) pil_serve_reload(s);
    else if (s->stopping) pil_loop_stop(s->loop); /* the second time at once */
    else stop(s);
}

static void on_shutdown(void *ud) { stop(ud); }

static void on_parent_poll(void *ud) {
    pil_serve *s = ud;
    if (getppid() != s->parent) stop(s);
}

static void on_stdin(void *ud) {
    pil_serve *s = ud;
    char thrown_away[4096];
    ssize_t n = read(STDIN_FILENO, thrown_away, sizeof thrown_away);
    if (n > 0 || (n < 0 && (errno == EAGAIN || errno == EINTR))) return;
    pil_watch_destroy(s->stdin_watch);
    s->stdin_watch = NULL;
    stop(s);
}

/* A service manager hears that the loop turns and somebody computes; or that the model takes its time. */
static void on_beat(void *ud) {
    pil_serve *s = ud;
    const pil_pool_info *info = pil_pool_info_of(s->pool);
    if (info->state == PIL_POOL_PREPARING) pil_notify("EXTEND_TIMEOUT_USEC=%u", EXTEND_US);
    else if (info->workers_ready > 0) pil_notify("WATCHDOG=1");
}

/* ── The model ──────────────────────────────────────────────────────────────────────────────────────────────── */

static void on_pool(void *ud) {
    pil_serve *s = ud;
    const pil_pool_info *info = pil_pool_info_of(s->pool);
    if (info->state == PIL_POOL_READY && !s->was_ready) {
        char members[200];
        double ms = pil_clock_ms(s->started_ns);
        snprintf(members, sizeof members,
                 ",\"dimensions\":%u,\"load_time_ms\":%.1f,\"total_time_ms\":%.1f,\"from_cache\":true", info->dim, ms,
                 ms);
        s->was_ready = true;
        progress(s, "model_loaded", members);
        pil_log(PIL_LOG_INFO, "ready", "dim=%u workers=%u sandbox=\"%s\" ms=%.1f", info->dim, info->workers,
                info->sandbox, ms);
        pillion_error err = {0};
        if (!s->stopping && pil_serve_ready(s, &err)) fail(s, &err);
    }
    if (info->state == PIL_POOL_FAILED && !s->stopping) fail(s, &info->error);
    if (s->link >= 0 && info->breaker_open && !s->stopping) { /* the server before us does it better */
        pillion_error err = {0};
        pil_err_set(&err, PILLION_E_UNAVAILABLE, "no worker can be started: %s", info->reason);
        fail(s, &err);
    }
    pil_server_model_changed(s->server);
}

static pillion_status find_model(pil_serve *s, pillion_error *err) {
    const char *name = s->values->model.model;
    if ((!name || !*name) && s->is_sidecar) name = PIL_HUB_SIDECAR_NAME;
    snprintf(s->model_name, sizeof s->model_name, "%s", name && *name ? name : PIL_HUB_BUILTIN_NAME);
    pil_say_utf8(s->model_name);
    return pil_model_find(&s->model, name, s->values->model.precision, err);
}

static pillion_status start_pool(pil_serve *s, pillion_error *err) {
    pil_pool_options o = {.directory = s->model.kind == PIL_HUB_DIRECTORY ? s->model.path : NULL,
                          .file = s->model.kind == PIL_HUB_FILE ? s->model.path : NULL,
                          .precision = (pillion_precision)s->values->model.precision, .workers = s->workers,
                          .together = s->link >= 0, .on_change = on_pool, .ud = s};
    pillion_status st = pil_pool_create(&s->pool, s->loop, &o, err);
    if (!st) pil_server_set_pool(s->server, s->pool);
    return st;
}

/* ── Start ──────────────────────────────────────────────────────────────────────────────────────────────────── */

/* Every connection is a descriptor; the usual soft limit of 1,024 is all of them and none for the workers. */
static void raise_descriptors(const pil_serve *s) {
    struct rlimit r;
    if (getrlimit(RLIMIT_NOFILE, &r) != 0) return;
    rlim_t wanted = 2 * (rlim_t)s->values->connections + 4 * PIL_LIMIT_WORKERS;
    if (r.rlim_cur != RLIM_INFINITY && r.rlim_cur < wanted) {
        r.rlim_cur = r.rlim_max == RLIM_INFINITY || r.rlim_max > wanted ? wanted : r.rlim_max;
        setrlimit(RLIMIT_NOFILE, &r);
    }
}

/* A token of our own making stays the same for those who came by our predecessor. */
static pillion_status find_token(pil_serve *s, pillion_error *err) {
    const pil_serve_values *v = s->values;
    pillion_status st = pil_token_read(&s->token, v->token_file, err);
    if (st || !v->generate_token) return st;
    if (s->token.text[0])
        return pil_err_set(err, PILLION_E_ARG, "--generate-token: there is a token already, by --token-file or "
                                               "PILLION_TOKEN");
    if (!v->handshake)
        return pil_err_set(err, PILLION_E_ARG, "--generate-token needs --handshake: nobody would know the token");
    s->token = s->inherited.token;
    return s->token.text[0] ? PILLION_OK : pil_token_make(&s->token, err);
}

pil_server_options pil_serve_server_options(pil_serve *s) {
    const pil_serve_values *v = s->live;
    return (pil_server_options){.model_id = s->model_name,
                                .allow_hosts = v->allow_hosts.items,
                                .n_allow_hosts = v->allow_hosts.n,
                                .allow_origins = v->allow_origins.items,
                                .n_allow_origins = v->allow_origins.n,
                                .token = s->token.text,
                                .limits = {.connections = s->values->connections,
                                           .in_flight_bytes = s->values->memory_mib * PIL_MIB,
                                           .idle_ms = s->values->keep_alive_s * 1000},
                                .files_roots = v->files_roots.items,
                                .n_files_roots = v->files_roots.n,
                                .on_shutdown = on_shutdown,
                                .ud = s};
}

/* Before anybody can know that we are here. */
static pillion_status watch_signals(pil_serve *s, pillion_error *err) {
    static const int signals[] = {SIGTERM, SIGINT, SIGUSR2, SIGHUP};
    pillion_status st = PILLION_OK;
    for (size_t i = 0; !st && i < sizeof signals / sizeof *signals; i++) {
        struct sigaction now;
        bool ignored = signals[i] == SIGHUP && !s->values->config && sigaction(SIGHUP, NULL, &now) == 0 &&
                       now.sa_handler == SIG_IGN;
        if (!ignored) st = pil_loop_signal(s->loop, signals[i], on_signal, s, err);
    }
    return st;
}

static pillion_status start_timer(pil_serve *s, pil_timer **out, void (*fn)(void *ud), uint64_t ms,
                                  pillion_error *err) {
    *out = pil_timer_create(s->loop, fn, s);
    if (!*out) return pil_err_no_memory(err);
    pil_timer_start(*out, ms, ms);
    return PILLION_OK;
}

/* Those who may end us or want to hear from us. */
static pillion_status watch_others(pil_serve *s, pillion_error *err) {
    pillion_status st = PILLION_OK;
    if (s->values->with_parent) st = start_timer(s, &s->parent_timer, on_parent_poll, PARENT_POLL_MS, err);
    pillion_error why = {0};
    if (!st && s->values->with_stdin && pil_watch_create(&s->stdin_watch, s->loop, STDIN_FILENO, on_stdin, s, &why))
        st = pil_err_set(err, PILLION_E_ARG, "--with-stdin: standard input is not a pipe or a socket");
    uint64_t beat_ms = pil_notify_watchdog_ms(s->link >= 0) / 3;
    if (!beat_ms || beat_ms > BEAT_MS) beat_ms = BEAT_MS;
    if (!st && pil_notify_is_wanted()) st = start_timer(s, &s->beat, on_beat, beat_ms, err);
    return st;
}

/* ── The command ────────────────────────────────────────────────────────────────────────────────────────────── */

static pillion_status start(pil_serve *s, pillion_error *err) {
    raise_descriptors(s);
    pil_heap_return_large_blocks();
    pillion_status st = pil_loop_create(&s->loop, err);
    if (!st) st = pil_serve_take_over(s, err);
    if (!st) st = find_token(s, err);
    const pil_server_options so = pil_serve_server_options(s);
    if (!st) st = pil_server_create(&s->server, s->loop, &so, err);
    if (!st) st = watch_signals(s, err);
    if (!st) st = watch_others(s, err);
    if (!st) st = pil_serve_listen(s, err);
    if (!st) progress(s, "model_cached", "");
    if (!st) st = start_pool(s, err);
    return st;
}

/* What the sidecar's host asks of its interpreter before it starts the server. */
static int check_deps(void) {
    printf("{\"all_present\":true,\"python_version\":\"pillion %s\",\"deps\":{},\"missing\":[]}\n", pillion_version());
    return fflush(stdout) == 0 ? PIL_EXIT_OK : PIL_EXIT_FAILURE;
}

static void end(pil_serve *s) {
    pil_serve_leave(s);
    pil_timer_destroy(s->parent_timer);
    pil_timer_destroy(s->beat);
    pil_watch_destroy(s->stdin_watch);
    pil_server_destroy(s->server);
    pil_pool_destroy(s->pool);
    pil_loop_destroy(s->loop);
    pil_options_deinit(&s->reloaded);
    explicit_bzero(&s->token, sizeof s->token);
}

static int run(const void *values, char **args, size_t n_args) {
    pil_serve s = {.values = values, .live = values, .started_ns = pil_clock_ns(), .parent = getppid(), .link = -1,
                   .inherited.lock_fd = -1, .handshake.lock_fd = -1};
    s.is_sidecar = n_args > 0 && pil_ends_with(args[0], ".py");
    if (s.is_sidecar && pil_ends_with(args[0], "check_deps.py")) return check_deps();
    if (n_args > 0 && !s.is_sidecar) {
        pil_say(PIL_SERVE_NAME, "unexpected argument '%.100s'; options begin with --", args[0]);
        return PIL_EXIT_USAGE;
    }
    pil_log_init((pil_log_level)s.values->log_level, "server");
    s.workers = s.values->workers ? (uint32_t)s.values->workers : pil_thread_cores();
    if (s.workers > PIL_LIMIT_WORKERS) s.workers = PIL_LIMIT_WORKERS;
    pillion_error err = {0};
    pillion_status st = find_model(&s, &err);
    if (!st) st = start(&s, &err);
    if (st) {
        pil_say(PIL_SERVE_NAME, "%s", err.text);
        if (!s.status) s.status = pil_exit_of(st);
    } else {
        pil_loop_run(s.loop);
    }
    end(&s);
    return s.status;
}

const pil_command pil_cmd_serve = {
    .name = "serve",
    .args = "",
    .summary = "serve vectors over HTTP",
    .text =
        "Listens on 127.0.0.1:8421 and speaks the protocol of the Python embedding sidecar: POST /embed with "
        "{\"texts\":[...]} gives {\"vectors\":[[...]]}; GET /health and /info, POST /embed-file and /ocr/..., GET "
        "/shutdown. /livez and /readyz are for supervisors.\n\n"
        "Texts are computed by worker processes. One that dies is replaced, and its texts are computed again. A "
        "model directory is compiled on first use; requests wait meanwhile.\n\n"
        "Started with a script as its first argument, as in \"pillion embed_server.py --port 8421\", it takes the "
        "place of that script's interpreter: the default model is then "
        "paraphrase-multilingual-mpnet-base-v2.\n\n"
        "SIGTERM, SIGINT and GET /shutdown end it when the requests in progress are answered; a second signal ends it "
        "at once. SIGHUP reads the --config file and the --token-file again: log-level, drain, allow-host, "
        "allow-origin, files-root and the token change at once, other options at the next start; a file with an error "
        "changes nothing. The --handshake file tells a new token. Without --config SIGHUP ends the server.\n\n"
        "An upgrade loses no request: start the new program with --replace, or send SIGUSR2 after exchanging the "
        "program's file. The new server takes over the listening sockets when it is ready; if it fails before, the old "
        "one goes on.\n\n"
        "Under systemd it takes the sockets of a socket unit in place of its own options, and reports readiness, its "
        "end and, for a watchdog, that a worker is well.",
    .examples = "pillion serve\n"
                "pillion serve --model ./all-mpnet-base-v2 --port 9000\n"
                "pillion serve --listen 127.0.0.1:8421 --listen unix:/run/pillion.sock\n"
                "pillion serve --port 0 --handshake ./pillion.json --generate-token --with-stdin\tfor a program that "
                "starts its own server",
    .options = pil_serve_options,
    .values_bytes = sizeof(pil_serve_values),
    .line = offsetof(pil_serve_values, line),
    .args_max = SIZE_MAX,
    .run = run,
};
