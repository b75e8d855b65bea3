/* serve_listen.c - where a server listens, what it says about it, and how it hands that over.
 *
 * Sockets: of the service manager, if it has passed any, and then the options do not count; else of the server whose
 *          place we take, as far as the options name them; else we bind them.
 * Upgrade: until pil_serve_ready() inherited sockets are only kept. From then on we accept on them, so that for a
 *          moment two servers do and never none. If we fail before, the old server has noticed nothing.
 * Tests:   tests/http/test_lifecycle.py, tests/http/test_upgrade.py, tests/http/test_service.py. */
#include <arpa/inet.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/err.h"
#include "base/json.h"
#include "base/limits.h"
#include "base/log.h"
#include "base/utf8.h"
#include "cmd/cmd.h"
#include "cmd/holder.h"
#include "cmd/notify.h"
#include "cmd/serve.h"

extern char **environ;

/* One address of the options: a host and a port, or the path of a Unix socket (port 0). */
typedef struct pil_serve_place {
    char host[256];
    char address[INET6_ADDRSTRLEN]; /* host as a listener tells it: "127.0.0.1" for "localhost" */
    const char *path;               /* NULL: host and port */
    unsigned port;
} place;

/* ── Addresses ──────────────────────────────────────────────────────────────────────────────────────────────── */

/* "HOST:PORT", "[v6]:PORT" or "unix:/path". */
static pillion_status parse_place(place *out, const char *where, pillion_error *err) {
    *out = (place){0};
    if (strncmp(where, "unix:", 5) == 0 && where[5]) {
        out->path = where + 5;
        return PILLION_OK;
    }
    const char *colon = strrchr(where, ':');
    char *end = NULL;
    errno = 0;
    unsigned long port = colon && colon[1] >= '0' && colon[1] <= '9' ? strtoul(colon + 1, &end, 10) : 0;
    size_t n = colon ? (size_t)(colon - where) : 0;
    bool brackets = n > 2 && where[0] == '[' && where[n - 1] == ']';
    if (!end || *end || errno || port > 65535 || n == 0 || n >= sizeof out->host ||
        (!brackets && memchr(where, ':', n)))
        return pil_err_set(err, PILLION_E_ARG, "--listen '%.100s': wanted HOST:PORT, [IPV6]:PORT or unix:/path", where);
    snprintf(out->host, sizeof out->host, "%.*s", (int)(n - 2 * brackets), where + brackets);
    out->port = (unsigned)port;
    return PILLION_OK;
}

static pillion_status place_at(place *out, const pil_serve_values *v, size_t i, pillion_error *err) {
    if (v->listen.n) return parse_place(out, v->listen.items[i], err);
    *out = (place){.port = (unsigned)v->port};
    int n = snprintf(out->host, sizeof out->host, "%s", v->host);
    if ((size_t)n < sizeof out->host) return PILLION_OK;
    return pil_err_set(err, PILLION_E_ARG, "--host '%.60s...': too long", v->host);
}

/* Once: a name that has several addresses may be answered with another one the next time. */
static pillion_status find_places(pil_serve *s, pillion_error *err) {
    if (s->places) return PILLION_OK;
    s->n_places = s->values->listen.n ? s->values->listen.n : 1;
    s->places = calloc(s->n_places, sizeof *s->places);
    if (!s->places) return pil_err_no_memory(err);
    pillion_status st = PILLION_OK;
    for (size_t i = 0; !st && i < s->n_places; i++) {
        place *p = &s->places[i];
        st = place_at(p, s->values, i, err);
        if (!st && !p->path) st = pil_listener_resolve(s->loop, p->host, p->address, sizeof p->address, err);
    }
    return st;
}

static bool is_here_only(const pil_listener *l) {
    const char *host = pil_listener_host(l);
    return pil_listener_is_unix(l) || strncmp(host, "127.", 4) == 0 || strcmp(host, "::1") == 0;
}

/* ── What is said ───────────────────────────────────────────────────────────────────────────────────────────── */

/* "http://127.0.0.1:8421" as one would type it into curl on this machine. */
static void url_of(const pil_listener *l, char *out, size_t out_bytes) {
    const char *host = pil_listener_host(l);
    bool is_v6 = strchr(host, ':') != NULL;
    bool is_any = strcmp(host, "0.0.0.0") == 0 || strcmp(host, "::") == 0;
    if (pil_listener_is_unix(l)) snprintf(out, out_bytes, "http://localhost");
    else if (is_any) snprintf(out, out_bytes, "http://localhost:%u", pil_listener_port(l));
    else snprintf(out, out_bytes, "http://%s%s%s:%u", is_v6 ? "[" : "", host, is_v6 ? "]" : "", pil_listener_port(l));
}

static FILE *people(void) { return isatty(STDOUT_FILENO) ? stdout : stderr; }

/* Where we listen: work is held until the model is ready. */
static void say_address(const pil_serve *s, const pil_listener *l) {
    FILE *out = people();
    const char *host = pil_listener_host(l);
    char url[400];
    url_of(l, url, sizeof url);
    if (pil_listener_is_unix(l)) fprintf(out, "pillion %s: %s on unix:%s\n", pillion_version(), s->model_name, host);
    else fprintf(out, "pillion %s: %s on %s\n", pillion_version(), s->model_name, url);
    if (!is_here_only(l) && !s->token.text[0])
        fprintf(out, "note: other machines can reach this server, and nothing asks them for a token\n");
    fflush(out);
}

/* A line to try with the first address, once it will be answered. */
static void say_example(const pil_serve *s) {
    FILE *out = people();
    const pil_listener *l = pil_server_listener(s->server, 0);
    char url[400], where[300] = "";
    url_of(l, url, sizeof url);
    if (pil_listener_is_unix(l)) snprintf(where, sizeof where, " --unix-socket %s", pil_listener_host(l));
    fprintf(out, "try: curl -s%s%s %s/embed -H 'content-type: application/json' -d '{\"texts\":[\"hello\"]}'\n", where,
            s->token.text[0] ? " -H \"authorization: bearer $TOKEN\"" : "", url);
    fflush(out);
}

/* An address in use: who has it, and what to do about it. err already says where. */
static void say_holder(const char *host, unsigned port, pillion_error *err) {
    pil_holder holder;
    pil_holder_find(&holder, host, port);
    char who[80] = "", line[2 * sizeof err->text];
    if (holder.pid) snprintf(who, sizeof who, "%s, pid %d", holder.name, holder.pid);
    else if (holder.is_pillion) snprintf(who, sizeof who, "pillion");
    if (!who[0]) return;
    snprintf(line, sizeof line, "%s by %s%s", err->text, who,
             holder.is_pillion ? ": use that server, or start with --replace to take its place" : "");
    pillion_status st = err->code;
    *err = (pillion_error){0};
    pil_err_set(err, st, "%s", line);
}

/* ── Opening ────────────────────────────────────────────────────────────────────────────────────────────────── */

/* Beyond this machine anybody could use the server, and read its files if a root is given. */
static pillion_status check_reach(const pil_serve *s, const pil_listener *l, pillion_error *err) {
    if (is_here_only(l) || s->token.text[0] || s->values->without_token) return PILLION_OK;
    return pil_err_set(err, PILLION_E_ARG,
                       "%s can be reached from other machines, and nothing would ask them for a token: give one with "
                       "--token-file, or --without-token to serve everybody",
                       pil_listener_host(l));
}

pillion_status pil_serve_check_reach(const pil_serve *s, pillion_error *err) {
    const pil_listener *l;
    pillion_status st = PILLION_OK;
    for (size_t i = 0; !st && (l = pil_server_listener(s->server, i)); i++) st = check_reach(s, l, err);
    return st;
}

static pillion_status open_place(pil_serve *s, const place *p, pillion_error *err) {
    bool in_use;
    const pil_listener *l;
    pillion_status st = pil_server_listen(s->server, p->host, p->port, p->path, &l, &in_use, err);
    if (in_use) s->status = PIL_EXIT_IN_USE;
    if (in_use && !p->path) say_holder(p->address, p->port, err);
    return st ? st : check_reach(s, l, err);
}

static pillion_status adopt(pil_serve *s, int fd, bool owns_path, pillion_error *err) {
    const pil_listener *l;
    pillion_status st = pil_server_adopt(s->server, fd, owns_path, &l, err);
    return st ? st : check_reach(s, l, err);
}

/* Whether a socket listens at a place. */
static bool is_at(int fd, const place *p) {
    struct sockaddr_storage a = {0};
    socklen_t n = sizeof a;
    char host[INET6_ADDRSTRLEN] = "";
    if (getsockname(fd, (struct sockaddr *)&a, &n) != 0) return false;
    if (a.ss_family != AF_UNIX && a.ss_family != AF_INET && a.ss_family != AF_INET6) return false;
    if (a.ss_family == AF_UNIX)
        return p->path && strncmp(((struct sockaddr_un *)&a)->sun_path, p->path,
                                  sizeof((struct sockaddr_un *)&a)->sun_path) == 0;
    bool v4 = a.ss_family == AF_INET;
    const void *address = v4 ? (void *)&((struct sockaddr_in *)&a)->sin_addr
                             : (void *)&((struct sockaddr_in6 *)&a)->sin6_addr;
    unsigned port = ntohs(v4 ? ((struct sockaddr_in *)&a)->sin_port : ((struct sockaddr_in6 *)&a)->sin6_port);
    return !p->path && port == p->port && inet_ntop(a.ss_family, address, host, sizeof host) &&
           strcmp(host, p->address) == 0;
}

static bool is_inherited(const pil_serve *s, const place *p) {
    for (size_t i = 0; i < s->inherited.n_listeners; i++)
        if (is_at(s->inherited.listeners[i].fd, p)) return true;
    return false;
}

/* Sockets at addresses that we are not asked to listen on are no business of ours. */
static void drop_strangers(pil_serve *s) {
    size_t kept = 0;
    for (size_t i = 0; i < s->inherited.n_listeners; i++) {
        bool wanted = false;
        for (size_t k = 0; k < s->n_places && !wanted; k++)
            wanted = is_at(s->inherited.listeners[i].fd, &s->places[k]);
        if (wanted) s->inherited.listeners[kept++] = s->inherited.listeners[i];
        else close(s->inherited.listeners[i].fd);
    }
    s->inherited.n_listeners = kept;
}

/* The options may name addresses that the old server does not have yet: the first one that it has finds it. */
pillion_status pil_serve_take_over(pil_serve *s, pillion_error *err) {
    s->inherited.lock_fd = s->link = -1;
    if (!s->values->replace) return PILLION_OK;
    pillion_status st = find_places(s, err);
    if (st) return st;
    pillion_error why = {0};
    bool asked = false;
    st = PILLION_E_NOT_FOUND;
    for (size_t i = 0; st == PILLION_E_NOT_FOUND && i < s->n_places; i++) {
        const place *p = &s->places[i];
        if (!p->path && p->port == 0) continue;
        const pil_handover_name name = {p->path ? p->path : p->address, p->port};
        why = (pillion_error){0};
        st = pil_handover_take(&s->inherited, &s->link, &name, &why);
        asked = true;
    }
    if (!asked)
        return pil_err_set(err, PILLION_E_ARG, "--replace needs the port of the server whose place is to be taken");
    if (st == PILLION_E_NOT_FOUND) return PILLION_OK; /* the first start of many */
    if (st) return pil_err_set(err, st, "--replace: %s", why.text);
    drop_strangers(s);
    return PILLION_OK;
}

/* ── For those who wait for us ──────────────────────────────────────────────────────────────────────────────── */

static void put_handshake(const pil_serve *s, pil_buf *out) {
    const pil_listener *l, *tcp = NULL;
    char url[400];
    for (size_t i = 0; !tcp && (l = pil_server_listener(s->server, i)); i++)
        if (!pil_listener_is_unix(l)) tcp = l;
    pil_buf_printf(out, "{\"pid\":%d,\"version\":\"%s\"", (int)getpid(), pillion_version());
    if (tcp) {
        url_of(tcp, url, sizeof url);
        pil_buf_printf(out, ",\"host\":\"%s\",\"port\":%u,\"url\":\"%s\"", pil_listener_host(tcp),
                       pil_listener_port(tcp), url);
    } else {
        pil_buf_puts(out, ",\"host\":null,\"port\":null,\"url\":null");
    }
    pil_buf_puts(out, ",\"unix\":[");
    const char *sep = "";
    for (size_t i = 0; (l = pil_server_listener(s->server, i)); i++) {
        if (!pil_listener_is_unix(l)) continue;
        pil_buf_puts(out, sep);
        pil_json_put_string(out, pil_listener_host(l), strlen(pil_listener_host(l)));
        sep = ",";
    }
    pil_buf_puts(out, "],\"token\":");
    if (s->token.text[0]) pil_json_put_string(out, s->token.text, strlen(s->token.text));
    else pil_buf_puts(out, "null");
    pil_buf_puts(out, ",\"model\":");
    pil_json_put_string(out, s->model_name, strlen(s->model_name));
    pil_buf_puts(out, "}\n");
}

/* Whoever reads the handshake connects to what stands there, so it must be the path and not nearly the path. */
static pillion_status check_paths(const pil_serve *s, pillion_error *err) {
    const pil_listener *l;
    for (size_t i = 0; (l = pil_server_listener(s->server, i)); i++) {
        const char *path = pil_listener_host(l);
        if (pil_utf8_valid(path, strlen(path)) != strlen(path))
            return pil_err_set(err, PILLION_E_ARG, "--handshake: unix:%s is not UTF-8, and JSON cannot tell it", path);
    }
    return PILLION_OK;
}

static pillion_status write_handshake(pil_serve *s, pillion_error *err) {
    if (!s->values->handshake) return PILLION_OK;
    pillion_status st = check_paths(s, err);
    if (st) return st;
    pil_buf json;
    pil_buf_init(&json, 64 * PIL_KIB);
    put_handshake(s, &json);
    st = pil_handshake_write(&s->handshake, &json, err);
    if (json.bytes) explicit_bzero(json.bytes, json.len);
    pil_buf_deinit(&json);
    return st;
}

void pil_serve_tell(pil_serve *s) {
    pillion_error err = {0};
    bool ours = s->link < 0 && !s->handed_over;
    if (ours && write_handshake(s, &err)) pil_log(PIL_LOG_ERROR, "no handshake", "reason=\"%s\"", err.text);
}

/* ── Handing over ───────────────────────────────────────────────────────────────────────────────────────────── */

static bool give(pil_inheritance *out, void *ud) {
    const pil_serve *s = ud;
    if (s->stopping) return false;
    const pil_listener *l;
    for (size_t i = 0; i < PIL_HANDOVER_LISTENERS_MAX && (l = pil_server_listener(s->server, i)); i++) {
        out->listeners[i].fd = pil_listener_fd(l);
        out->listeners[i].owns_path = pil_listener_owns_path(l);
        out->n_listeners++;
    }
    out->lock_fd = s->handshake.lock_fd;
    if (s->values->generate_token) out->token = s->token;
    pil_log(PIL_LOG_INFO, "a successor starts", "listeners=%zu", out->n_listeners);
    return out->n_listeners > 0;
}

static void given(void *ud) {
    pil_serve *s = ud;
    s->handed_over = true;
    pil_serve_stop(s, pil_serve_drain_ms(s));
}

/* In its last moments it may have written the handshake file. */
static void failed(void *ud) {
    pil_serve_tell(ud);
    pil_log(PIL_LOG_ERROR, "the successor ended before it was ready", "serving=on");
}

/* Without it the server works as well, but for --replace. */
static void offer(pil_serve *s) {
    pil_handover_name names[PIL_HANDOVER_LISTENERS_MAX];
    const pil_listener *l;
    size_t n = 0;
    for (size_t i = 0; n < PIL_HANDOVER_LISTENERS_MAX && (l = pil_server_listener(s->server, i)); i++)
        if (pil_listener_host(l)[0]) /* an abstract Unix socket has none */
            names[n++] = (pil_handover_name){pil_listener_host(l), pil_listener_port(l)};
    if (n == 0) return;
    const pil_handover_fns fns = {.give = give, .given = given, .failed = failed, .ud = s};
    pillion_error err = {0};
    if (pil_handover_offer(&s->offer, s->loop, names, n, &fns, &err))
        pil_log(PIL_LOG_WARN, "no successor can take over", "reason=\"%s\"", err.text);
}

static void on_successor_exit(int status, int term_signal, void *ud) {
    pil_serve *s = ud;
    s->successor = NULL;
    if (!s->handed_over)
        pil_log(PIL_LOG_ERROR, "the successor ended", "status=%d signal=%d serving=on", status, term_signal);
}

/* The path of this program; a file that was replaced meanwhile is what we want. */
static bool program_path(char out[PATH_MAX]) {
    static const char deleted[] = " (deleted)";
    ssize_t n = readlink("/proc/self/exe", out, PATH_MAX - 1);
    if (n <= 0) return false;
    out[n] = '\0';
    size_t m = sizeof deleted - 1;
    if ((size_t)n > m && strcmp(out + n - m, deleted) == 0) out[(size_t)n - m] = '\0';
    return true;
}

/* "--listen" and the real address of each listener, behind n arguments; the texts are given (free). */
static char *put_places(const pil_serve *s, const char **argv, int *n) {
    enum { PLACE_BYTES = 320 };
    char *texts = calloc(PIL_HANDOVER_LISTENERS_MAX, PLACE_BYTES);
    const pil_listener *l;
    for (size_t i = 0; texts && i < PIL_HANDOVER_LISTENERS_MAX && (l = pil_server_listener(s->server, i)); i++) {
        char *text = texts + i * PLACE_BYTES;
        const char *host = pil_listener_host(l);
        bool is_v6 = strchr(host, ':') != NULL;
        if (pil_listener_is_unix(l)) snprintf(text, PLACE_BYTES, "unix:%s", host);
        else snprintf(text, PLACE_BYTES, "%s%s%s:%u", is_v6 ? "[" : "", host, is_v6 ? "]" : "", pil_listener_port(l));
        argv[(*n)++] = "--listen";
        argv[(*n)++] = text;
    }
    return texts;
}

static const char *why_no_upgrade(const pil_serve *s) {
    if (s->stopping) return "this server is ending";
    if (s->successor) return "a successor is starting";
    if (s->values->with_parent || s->values->with_stdin) return "a successor would not be a child of our parent";
    return s->offer ? NULL : "this server cannot be replaced";
}

void pil_serve_upgrade(pil_serve *s) {
    const pil_command_line *line = &s->values->line;
    char program[PATH_MAX], *places = NULL;
    const char *refusal = why_no_upgrade(s);
    const char **argv = calloc((size_t)line->argc + 2 * PIL_HANDOVER_LISTENERS_MAX + 4, sizeof *argv);
    if (!refusal && (!argv || !program_path(program))) refusal = "the program is not found";
    if (refusal) {
        pil_log(PIL_LOG_ERROR, "no upgrade", "reason=\"%s\"", refusal);
        free(argv);
        return;
    }
    int n = 0;
    argv[n++] = program;
    if (!s->is_sidecar) argv[n++] = "serve";
    for (int i = 0; i < line->argc; i++) argv[n++] = line->argv[i];
    argv[n++] = "--replace";
    if (s->values->listen.n == 0) places = put_places(s, argv, &n); /* port 0 has become a real one */
    const pil_child_spec spec = {.program = program, .argv = argv, .envp = (const char *const *)environ,
                                 .stdin_fd = -1, .on_exit = on_successor_exit, .ud = s};
    pillion_error err = {0};
    if (pil_child_start(&s->successor, s->loop, &spec, &err))
        pil_log(PIL_LOG_ERROR, "no upgrade", "reason=\"%s\"", err.text);
    free(places);
    free(argv);
}

/* ── The whole ──────────────────────────────────────────────────────────────────────────────────────────────── */

static pillion_status adopt_passed(pil_serve *s, bool *any, pillion_error *err) {
    int fds[PIL_HANDOVER_LISTENERS_MAX];
    size_t n = pil_notify_sockets(fds, PIL_HANDOVER_LISTENERS_MAX);
    *any = n > 0;
    pillion_status st = PILLION_OK;
    for (size_t i = 0; i < n; i++) {
        if (st) close(fds[i]);
        else st = adopt(s, fds[i], false, err);
    }
    return st;
}

static pillion_status open_handshake(pil_serve *s, pillion_error *err) {
    if (!s->values->handshake) return PILLION_OK;
    bool in_use;
    int inherited = s->inherited.lock_fd;
    s->inherited.lock_fd = -1;
    pillion_status st = pil_handshake_open(&s->handshake, s->values->handshake, inherited, &in_use, err);
    if (in_use) s->status = PIL_EXIT_IN_USE;
    return st;
}

/* All sockets are open: whoever should know is told. */
static void announce(pil_serve *s) {
    const pil_listener *l;
    offer(s);
    for (size_t i = 0; (l = pil_server_listener(s->server, i)); i++) say_address(s, l);
}

pillion_status pil_serve_listen(pil_serve *s, pillion_error *err) {
    bool passed = false;
    pillion_status st = s->link < 0 ? open_handshake(s, err) : PILLION_OK;
    if (!st) st = adopt_passed(s, &passed, err);
    if (!st && !passed) st = find_places(s, err);
    for (size_t i = 0; !st && !passed && i < s->n_places; i++)
        if (!is_inherited(s, &s->places[i])) st = open_place(s, &s->places[i], err);
    if (st || s->link >= 0) return st; /* with a predecessor the rest waits until we are ready */
    st = write_handshake(s, err);
    if (!st) announce(s);
    return st;
}

/* On failure the old server goes on: the sockets and the handshake file are its own. */
static pillion_status replace_old(pil_serve *s, pillion_error *err) {
    pillion_status st = PILLION_OK;
    s->handed_over = true;
    for (size_t i = 0; !st && i < s->inherited.n_listeners; i++) {
        st = adopt(s, s->inherited.listeners[i].fd, s->inherited.listeners[i].owns_path, err);
        s->inherited.listeners[i].fd = -1;
    }
    if (!st) st = open_handshake(s, err);
    if (!st) st = write_handshake(s, err);
    if (st) return st;
    s->handed_over = false;
    pil_handover_confirm(s->link);
    s->link = -1;
    pil_inheritance_close(&s->inherited);
    pil_log(PIL_LOG_INFO, "took over", "from_pid=%d", s->inherited.pid);
    announce(s);
    return PILLION_OK;
}

pillion_status pil_serve_ready(pil_serve *s, pillion_error *err) {
    pillion_status st = s->link >= 0 ? replace_old(s, err) : PILLION_OK;
    if (st) return st;
    say_example(s);
    pil_notify("READY=1\nMAINPID=%d\nSTATUS=Serving %s", (int)getpid(), s->model_name);
    return PILLION_OK;
}

void pil_serve_leave(pil_serve *s) {
    bool not_ours = s->handed_over || s->link >= 0;
    if (s->link >= 0) close(s->link);
    s->link = -1;
    pil_handover_withdraw(s->offer);
    s->offer = NULL;
    pil_inheritance_close(&s->inherited);
    free(s->places);
    s->places = NULL;
    if (not_ours) pil_handshake_leave(&s->handshake);
    else pil_handshake_close(&s->handshake);
}
