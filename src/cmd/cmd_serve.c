/* cmd_serve.c - pillion serve: listen, start the workers, serve, drain, end.
 *
 * Flow:    find the model (nothing is read) -> listen -> pool: compile if need be, workers -> loop -> SIGTERM, SIGINT,
 *          SIGHUP, GET /shutdown or the parent's end -> drain -> stop the workers -> exit.
 * The sidecar's way: started as an interpreter would be, with a script *.py as first argument, the program takes the
 * place of the Python sidecar: another default model, and less time to drain, because that host kills after a second.
 * Standard output is for PROGRESS: lines, each in one write, since their reader splits what it gets at line ends.
 * Tests:   tests/http/test_server.py, tests/http/test_lifecycle.py. */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/err.h"
#include "base/json.h"
#include "base/limits.h"
#include "base/log.h"
#include "base/thread.h"
#include "cmd/builtin.h"
#include "cmd/cmd.h"
#include "cmd/model.h"
#include "cmd/say.h"
#include "http/http.h"
#include "hub/hub.h"

#define PARENT_POLL_MS 250
#define SIDECAR_DRAIN_MS 600 /* with the workers' end, below the second after which its host kills */

static const char who[] = "pillion serve";
static const char *const levels[] = {"error", "warn", "info", "debug", NULL};

typedef struct serve_values {
    pil_model_values model;
    const char *host;
    uint64_t port, workers, drain_s, log_level;
    pil_option_list listen, files_roots, allow_hosts;
    bool with_parent;
} serve_values;

typedef struct serve {
    const serve_values *values;
    const char *model_name;
    pil_hub_model model;
    bool is_sidecar, stopping, was_ready;
    uint64_t started_ns;
    pil_loop *loop;
    pil_server *server;
    pil_pool *pool;
    pil_timer *parent_timer;
    pid_t parent;
    uint32_t workers;
    int status;
} serve;

/* ── What is said ───────────────────────────────────────────────────────────────────────────────────────────── */

/* One PROGRESS line; members are those of "data" behind the model. Nobody reads them at a terminal. */
static void progress(const serve *s, const char *type, const char *members) {
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

/* Where we listen, and a line to try. */
static void say_address(const serve *s, const pil_listener *l, bool first) {
    FILE *out = isatty(STDOUT_FILENO) ? stdout : stderr;
    const char *host = pil_listener_host(l);
    char url[400], where[300] = "";
    bool is_unix = pil_listener_is_unix(l), is_v6 = strchr(host, ':') && !is_unix;
    bool is_any = strcmp(host, "0.0.0.0") == 0 || strcmp(host, "::") == 0;
    if (is_unix) snprintf(where, sizeof where, " --unix-socket %s", host);
    if (is_unix || is_any) snprintf(url, sizeof url, "http://localhost");
    else snprintf(url, sizeof url, "http://%s%s%s", is_v6 ? "[" : "", host, is_v6 ? "]" : "");
    if (!is_unix) snprintf(url + strlen(url), sizeof url - strlen(url), ":%u", pil_listener_port(l));
    if (is_unix) fprintf(out, "pillion %s: %s on unix:%s\n", pillion_version(), s->model_name, host);
    else fprintf(out, "pillion %s: %s on %s\n", pillion_version(), s->model_name, url);
    if (first)
        fprintf(out, "try: curl -s%s %s/embed -H 'content-type: application/json' -d '{\"texts\":[\"hello\"]}'\n",
                where, url);
    if (is_any || (!is_unix && strncmp(host, "127.", 4) != 0 && strcmp(host, "::1") != 0))
        fprintf(out, "note: other machines can reach this server, and nothing asks them for a password\n");
    fflush(out);
}

/* ── The end ────────────────────────────────────────────────────────────────────────────────────────────────── */

static void on_stopped(void *ud) { pil_loop_stop(((serve *)ud)->loop); }

static void on_drained(void *ud) {
    serve *s = ud;
    pil_pool_stop(s->pool, on_stopped, s);
}

static void stop(serve *s, uint64_t drain_ms) {
    if (s->stopping) return;
    s->stopping = true;
    pil_log(PIL_LOG_INFO, "stopping", "drain_ms=%llu", (unsigned long long)drain_ms);
    pil_server_drain(s->server, drain_ms, on_drained, s);
}

static uint64_t drain_ms(const serve *s) {
    uint64_t ms = s->values->drain_s * 1000;
    return s->is_sidecar && ms > SIDECAR_DRAIN_MS ? SIDECAR_DRAIN_MS : ms;
}

static void on_signal(int signum, void *ud) {
    (void)signum;
    serve *s = ud;
    if (s->stopping) pil_loop_stop(s->loop); /* the second time at once */
    else stop(s, drain_ms(s));
}

static void on_shutdown(void *ud) { stop(ud, drain_ms(ud)); }

static void on_parent_poll(void *ud) {
    serve *s = ud;
    if (getppid() != s->parent) stop(s, drain_ms(s));
}

/* ── The model ──────────────────────────────────────────────────────────────────────────────────────────────── */

static void on_pool(void *ud) {
    serve *s = ud;
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
    }
    if (info->state == PIL_POOL_FAILED && !s->stopping) {
        pil_say(who, "%s", info->error.text);
        s->status = pil_exit_of(info->error.code);
        stop(s, SIDECAR_DRAIN_MS);
    }
    pil_server_model_changed(s->server);
}

static pillion_status find_model(serve *s, pillion_error *err) {
    size_t builtin_bytes;
    bool has_builtin = pil_builtin_model(&builtin_bytes) != NULL;
    const char *name = s->values->model.model;
    if ((!name || !*name) && s->is_sidecar) name = PIL_HUB_SIDECAR_NAME;
    s->model_name = name && *name ? name : PIL_HUB_BUILTIN_NAME;
    pillion_status st = pil_hub_find(&s->model, name, has_builtin, err);
    if (st) return st;
    uint64_t precision = s->values->model.precision;
    if (s->model.kind == PIL_HUB_BUILTIN && precision != PILLION_PRECISION_AUTO && precision != PILLION_PRECISION_F32)
        return pil_err_set(err, PILLION_E_UNSUPPORTED, "the built-in model computes in f32, not in %s",
                           pil_precisions[precision]);
    return PILLION_OK;
}

static pillion_status start_pool(serve *s, pillion_error *err) {
    pil_pool_options o = {.directory = s->model.kind == PIL_HUB_DIRECTORY ? s->model.path : NULL,
                          .file = s->model.kind == PIL_HUB_FILE ? s->model.path : NULL,
                          .precision = (pillion_precision)s->values->model.precision, .workers = s->workers,
                          .on_change = on_pool, .ud = s};
    pillion_status st = pil_pool_create(&s->pool, s->loop, &o, err);
    if (!st) pil_server_set_pool(s->server, s->pool);
    return st;
}

/* ── Listening ──────────────────────────────────────────────────────────────────────────────────────────────── */

static pillion_status listen_on(serve *s, const char *host, unsigned port, const char *path, bool first,
                                pillion_error *err) {
    bool in_use;
    const pil_listener *l;
    pillion_status st = pil_server_listen(s->server, host, port, path, &l, &in_use, err);
    if (in_use) s->status = PIL_EXIT_IN_USE;
    if (!st) say_address(s, l, first);
    return st;
}

/* "HOST:PORT", "[v6]:PORT" or "unix:/path". */
static pillion_status listen_at(serve *s, const char *where, bool first, pillion_error *err) {
    if (strncmp(where, "unix:", 5) == 0 && where[5]) return listen_on(s, NULL, 0, where + 5, first, err);
    const char *colon = strrchr(where, ':');
    char host[256];
    char *end = NULL;
    errno = 0;
    unsigned long port = colon && colon[1] >= '0' && colon[1] <= '9' ? strtoul(colon + 1, &end, 10) : 0;
    size_t n = colon ? (size_t)(colon - where) : 0;
    bool brackets = n > 2 && where[0] == '[' && where[n - 1] == ']';
    if (!end || *end || errno || port > 65535 || n == 0 || n >= sizeof host || (!brackets && memchr(where, ':', n)))
        return pil_err_set(err, PILLION_E_ARG, "--listen '%.100s': wanted HOST:PORT, [IPV6]:PORT or unix:/path", where);
    snprintf(host, sizeof host, "%.*s", (int)(n - 2 * brackets), where + brackets);
    return listen_on(s, host, (unsigned)port, NULL, first, err);
}

static pillion_status listen_all(serve *s, pillion_error *err) {
    const serve_values *v = s->values;
    if (v->listen.n == 0) return listen_on(s, v->host, (unsigned)v->port, NULL, true, err);
    pillion_status st = PILLION_OK;
    for (size_t i = 0; !st && i < v->listen.n; i++) st = listen_at(s, v->listen.items[i], i == 0, err);
    return st;
}

/* Every connection is a descriptor; the usual soft limit of 1,024 is all of them and none for the workers. */
static void raise_descriptors(void) {
    struct rlimit r;
    if (getrlimit(RLIMIT_NOFILE, &r) != 0) return;
    rlim_t wanted = 2 * PIL_LIMIT_CONNECTIONS + 4 * PIL_LIMIT_WORKERS;
    if (r.rlim_cur != RLIM_INFINITY && r.rlim_cur < wanted) {
        r.rlim_cur = r.rlim_max == RLIM_INFINITY || r.rlim_max > wanted ? wanted : r.rlim_max;
        setrlimit(RLIMIT_NOFILE, &r);
    }
}

/* ── The command ────────────────────────────────────────────────────────────────────────────────────────────── */

static pillion_status start(serve *s, pillion_error *err) {
    const serve_values *v = s->values;
    const pil_server_options so = {.model_id = s->model_name, .allow_hosts = v->allow_hosts.items,
                                   .n_allow_hosts = v->allow_hosts.n, .files_roots = v->files_roots.items,
                                   .n_files_roots = v->files_roots.n, .on_shutdown = on_shutdown, .ud = s};
    raise_descriptors();
    pil_return_large_blocks();
    pillion_status st = pil_loop_create(&s->loop, err);
    if (!st) st = pil_server_create(&s->server, s->loop, &so, err);
    static const int signals[] = {SIGTERM, SIGINT, SIGHUP}; /* before anybody can know that we are here */
    for (size_t i = 0; !st && i < sizeof signals / sizeof *signals; i++)
        st = pil_loop_signal(s->loop, signals[i], on_signal, s, err);
    if (!st) st = listen_all(s, err);
    if (!st) progress(s, "model_cached", "");
    if (!st) st = start_pool(s, err);
    if (!st && v->with_parent) {
        s->parent_timer = pil_timer_create(s->loop, on_parent_poll, s);
        if (s->parent_timer) pil_timer_start(s->parent_timer, PARENT_POLL_MS, PARENT_POLL_MS);
        else st = pil_err_set(err, PILLION_E_NOMEM, "out of memory");
    }
    return st;
}

/* What the sidecar's host asks of its interpreter before it starts the server. */
static int check_deps(void) {
    printf("{\"all_present\":true,\"python_version\":\"pillion %s\",\"deps\":{},\"missing\":[]}\n", pillion_version());
    return fflush(stdout) == 0 ? PIL_EXIT_OK : PIL_EXIT_FAILURE;
}

static bool ends_with(const char *s, const char *end) {
    size_t n = strlen(s), m = strlen(end);
    return n >= m && strcmp(s + n - m, end) == 0;
}

static int run(const void *values, char **args, size_t n_args) {
    serve s = {.values = values, .started_ns = pil_clock_ns(), .parent = getppid()};
    s.is_sidecar = n_args > 0 && ends_with(args[0], ".py");
    if (s.is_sidecar && ends_with(args[0], "check_deps.py")) return check_deps();
    if (n_args > 0 && !s.is_sidecar) {
        pil_say(who, "unexpected argument '%.100s'; options begin with --", args[0]);
        return PIL_EXIT_USAGE;
    }
    pil_log_init((pil_log_level)s.values->log_level, "server");
    s.workers = s.values->workers ? (uint32_t)s.values->workers : pil_thread_cores();
    if (s.workers > PIL_LIMIT_WORKERS) s.workers = PIL_LIMIT_WORKERS;
    pillion_error err = {0};
    pillion_status st = find_model(&s, &err);
    if (!st) st = start(&s, &err);
    if (st) {
        pil_say(who, "%s", err.text);
        if (!s.status) s.status = pil_exit_of(st);
    } else {
        pil_loop_run(s.loop);
    }
    pil_timer_destroy(s.parent_timer);
    pil_server_destroy(s.server);
    pil_pool_destroy(s.pool);
    pil_loop_destroy(s.loop);
    return s.status;
}

static const pil_option options[] = {
    {.name = "host",
     .type = PIL_OPTION_STRING,
     .field = offsetof(serve_values, host),
     .value = "HOST",
     .fallback = "127.0.0.1",
     .env = "EMBED_HOST",
     .help = "address to listen on"},
    {.name = "port",
     .type = PIL_OPTION_UINT,
     .field = offsetof(serve_values, port),
     .value = "PORT",
     .fallback = "8421",
     .max = 65535,
     .env = "EMBED_PORT",
     .help = "port to listen on, 0 for any that is free"},
    {.name = "listen",
     .type = PIL_OPTION_LIST,
     .field = offsetof(serve_values, listen),
     .value = "ADDRESS",
     .help = "HOST:PORT or unix:/path to listen on instead of --host and --port"},
    PIL_MODEL_OPTIONS(serve_values, model),
    {.name = "workers",
     .type = PIL_OPTION_UINT,
     .field = offsetof(serve_values, workers),
     .value = "N",
     .fallback = "0",
     .max = PIL_LIMIT_WORKERS,
     .help = "processes that compute, 0 for one on each core"},
    {.name = "files-root",
     .type = PIL_OPTION_LIST,
     .field = offsetof(serve_values, files_roots),
     .value = "FOLDER",
     .env = "EMBED_FILE_ROOTS",
     .files = true,
     .help = "let /embed-file and /ocr read files below this folder; without it they read none"},
    {.name = "allow-host",
     .type = PIL_OPTION_LIST,
     .field = offsetof(serve_values, allow_hosts),
     .value = "NAME",
     .help = "serve requests for this host name too, besides localhost and the address that is listened on"},
    {.name = "with-parent",
     .type = PIL_OPTION_FLAG,
     .field = offsetof(serve_values, with_parent),
     .help = "end when the process that started this one ends"},
    {.name = "drain",
     .type = PIL_OPTION_UINT,
     .field = offsetof(serve_values, drain_s),
     .value = "SECONDS",
     .fallback = "10",
     .max = 3600,
     .help = "time for requests in progress to end after SIGTERM"},
    {.name = "log-level",
     .type = PIL_OPTION_CHOICE,
     .field = offsetof(serve_values, log_level),
     .value = "LEVEL",
     .choices = levels,
     .fallback = "warn",
     .help = "what is logged on standard error"},
    PIL_OPTION_END,
};

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
        "at once.",
    .examples = "pillion serve\n"
                "pillion serve --model ./all-mpnet-base-v2 --port 9000\n"
                "pillion serve --listen 127.0.0.1:8421 --listen unix:/run/pillion.sock",
    .options = options,
    .values_bytes = sizeof(serve_values),
    .args_max = SIZE_MAX,
    .run = run,
};
