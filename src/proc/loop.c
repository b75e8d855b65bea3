/* loop.c - the server's event loop on libuv; the only file that knows it.
 *
 * Life:       every object is one libuv handle with our fields behind it. close/destroy marks it, asks libuv to close
 *             the handle, and on_closed() frees it in a later turn. Until then libuv may still call us: every
 *             trampoline looks at `closed` first.
 * Invariants: (1) handle.data points to the object. (2) no callback of a closed object is called.
 *             (3) all reads share one buffer of the loop: a read callback has consumed its bytes when it returns.
 * Tests:      tests/proc/test_loop.c. */
#include "proc/loop.h"

#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#ifdef __linux__
#include <linux/sockios.h>
#endif
#include <unistd.h>
#include <uv.h>

#include "base/err.h"

#define READ_BYTES ((size_t)64 * 1024)
#define BACKLOG 1024 /* connections that wait while a turn of the loop lasts */
#define SIGNALS_MAX 8
#define WATCHED_MAX 4096 /* connections, workers and what else is open stay far below */
#define ACCEPT_AGAIN_MS 100

typedef struct signal_watch {
    uv_signal_t handle; /* first */
    pil_signal_fn fn;
    void *ud;
} signal_watch;

struct pil_loop {
    uv_loop_t uv;
    char *read_buffer;
    signal_watch signals[SIGNALS_MAX];
    size_t n_signals;
    bool destroyed; /* writes that are cut off must not call back any more */
};

struct pil_timer {
    uv_timer_t handle; /* first */
    pil_timer_fn fn;
    void *ud;
    bool closed;
};

struct pil_stream {
    union {
        uv_handle_t handle;
        uv_stream_t stream;
        uv_tcp_t tcp;
        uv_pipe_t pipe;
    } uv; /* first */
    pil_loop *loop;
    pil_read_fn on_read;
    pil_written_fn on_written;
    void *ud;
    bool closed;
};

struct pil_listener {
    union {
        uv_handle_t handle;
        uv_stream_t stream;
        uv_tcp_t tcp;
        uv_pipe_t pipe;
    } uv; /* first */
    pil_loop *loop;
    pil_accept_fn fn;
    void *ud;
    pil_timer *again; /* runs while a client waits because there was no memory for it */
    bool closed, is_unix, owns_path;
    unsigned port;
    char host[256];
};

struct pil_watch {
    uv_poll_t handle; /* first */
    void (*fn)(void *ud);
    void *ud;
    bool closed;
};

struct pil_child {
    uv_process_t handle; /* first */
    pil_exit_fn on_exit;
    void *ud;
    bool closed;
};

static pillion_status uv_error(pillion_error *err, const char *doing, int e) {
    return pil_err_set(err, e == UV_ENOMEM ? PILLION_E_NOMEM : PILLION_E_IO, "%s: %s", doing, uv_strerror(e));
}

static void on_closed(uv_handle_t *h) { free(h->data); }

/* ── Threads ────────────────────────────────────────────────────────────────────────────────────────────────── */

typedef struct work_request {
    uv_async_t handle; /* first */
    pthread_t thread;
    pil_work_fn work, done;
    void *ud;
} work_request;

static void *run_work(void *arg) {
    work_request *w = arg;
    w->work(w->ud);
    uv_async_send(&w->handle);
    return NULL;
}

static void finish_work(work_request *w) {
    pthread_join(w->thread, NULL);
    uv_close((uv_handle_t *)&w->handle, on_closed);
    w->done(w->ud);
}

static void on_work_done(uv_async_t *h) {
    if (!uv_is_closing((uv_handle_t *)h)) finish_work(h->data);
}

pillion_status pil_loop_work(pil_loop *l, pil_work_fn work, pil_work_fn done, void *ud) {
    work_request *w = calloc(1, sizeof *w);
    if (!w || uv_async_init(&l->uv, &w->handle, on_work_done) != 0) {
        free(w);
        return PILLION_E_NOMEM;
    }
    w->handle.data = w;
    w->work = work;
    w->done = done;
    w->ud = ud;
    sigset_t all, before; /* signals are for the loop's thread */
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int e = pthread_create(&w->thread, NULL, run_work, w);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (e == 0) return PILLION_OK;
    uv_close((uv_handle_t *)&w->handle, on_closed);
    return PILLION_E_NOMEM;
}

/* ── Loop ───────────────────────────────────────────────────────────────────────────────────────────────────── */

/* libuv keeps a table of watched descriptors, as long as the highest number, and aborts when it cannot grow. It gets
 * its full length now, so that memory that runs out later is the error of a connection and not the server's end. */
static void watch_highest(uv_loop_t *uv) {
    struct rlimit r;
    int ends[2];
    uv_poll_t *poll = malloc(sizeof *poll);
    if (!poll || getrlimit(RLIMIT_NOFILE, &r) != 0 || pipe2(ends, O_CLOEXEC | O_NONBLOCK) != 0) {
        free(poll);
        return;
    }
    int wanted = r.rlim_cur < WATCHED_MAX ? (int)r.rlim_cur : WATCHED_MAX;
    int highest = fcntl(ends[0], F_DUPFD_CLOEXEC, wanted - 1);
    poll->data = poll;
    if (highest >= 0 && uv_poll_init(uv, poll, highest) == 0) {
        uv_poll_start(poll, UV_READABLE, NULL);
        uv_poll_stop(poll);
        uv_close((uv_handle_t *)poll, on_closed);
        uv_run(uv, UV_RUN_NOWAIT);
    } else {
        free(poll);
    }
    if (highest >= 0) close(highest);
    close(ends[0]);
    close(ends[1]);
}

pillion_status pil_loop_create(pil_loop **out, pillion_error *err) {
    *out = NULL;
    pil_loop *l = calloc(1, sizeof *l);
    char *buffer = malloc(READ_BYTES);
    int e = l && buffer ? uv_loop_init(&l->uv) : UV_ENOMEM;
    if (e) {
        free(buffer);
        free(l);
        return uv_error(err, "cannot start the event loop", e);
    }
    signal(SIGPIPE,
           SIG_IGN); /* a write to somebody who has left is an error of that write, not the end of the server */
    l->read_buffer = buffer;
    l->uv.data = l;
    watch_highest(&l->uv);
    *out = l;
    return PILLION_OK;
}

/* Closes a handle that its owner has left open. Signal watches live inside the loop, everything else is freed. */
static void close_leftover(uv_handle_t *h, void *ud) {
    (void)ud;
    if (uv_is_closing(h)) return;
    if (h->type == UV_ASYNC) finish_work(h->data);
    else uv_close(h, h->type == UV_SIGNAL ? NULL : on_closed);
}

void pil_loop_destroy(pil_loop *l) {
    if (!l) return;
    l->destroyed = true;
    uv_walk(&l->uv, close_leftover, NULL);
    while (uv_run(&l->uv, UV_RUN_DEFAULT)) {}
    uv_loop_close(&l->uv);
    free(l->read_buffer);
    free(l);
}

void pil_loop_run(pil_loop *l) { uv_run(&l->uv, UV_RUN_DEFAULT); }
void pil_loop_stop(pil_loop *l) { uv_stop(&l->uv); }
uint64_t pil_loop_now_ms(const pil_loop *l) { return uv_now(&l->uv); }

void pil_loop_program(char *out, size_t out_bytes) {
#ifdef __linux__
    snprintf(out, out_bytes, "/proc/self/exe");
#else
    if (uv_exepath(out, &out_bytes) != 0) *out = '\0';
#endif
}

/* ── Timers and signals ─────────────────────────────────────────────────────────────────────────────────────── */

static void on_timer(uv_timer_t *h) {
    pil_timer *t = h->data;
    if (!t->closed) t->fn(t->ud);
}

pil_timer *pil_timer_create(pil_loop *l, pil_timer_fn fn, void *ud) {
    pil_timer *t = calloc(1, sizeof *t);
    if (!t) return NULL;
    uv_timer_init(&l->uv, &t->handle);
    t->handle.data = t;
    t->fn = fn;
    t->ud = ud;
    return t;
}

/* libuv counts ms from the time at which this turn began, and in one turn calls timers until none is due. We count from
 * now, but leave its time as it is and ask for at least 1 ms: then a timer that is started by another, however long
 * that has taken, is not due before the next turn, and everybody else has had theirs. */
void pil_timer_start(pil_timer *t, uint64_t ms, uint64_t repeat_ms) {
    uint64_t due_ms = uv_hrtime() / 1000000 - uv_now(t->handle.loop) + ms;
    uv_timer_start(&t->handle, on_timer, due_ms > 0 ? due_ms : 1, repeat_ms);
}

void pil_timer_stop(pil_timer *t) { uv_timer_stop(&t->handle); }
bool pil_timer_is_running(const pil_timer *t) { return uv_is_active((const uv_handle_t *)&t->handle) != 0; }

void pil_timer_destroy(pil_timer *t) {
    if (!t || t->closed) return;
    t->closed = true;
    uv_close((uv_handle_t *)&t->handle, on_closed);
}

static void on_signal(uv_signal_t *h, int signum) {
    signal_watch *w = h->data;
    w->fn(signum, w->ud);
}

pillion_status pil_loop_signal(pil_loop *l, int signum, pil_signal_fn fn, void *ud, pillion_error *err) {
    if (l->n_signals == SIGNALS_MAX) return pil_err_set(err, PILLION_E_LIMIT, "too many signals are watched");
    signal_watch *w = &l->signals[l->n_signals];
    *w = (signal_watch){.fn = fn, .ud = ud};
    int e = uv_signal_init(&l->uv, &w->handle);
    if (e) return uv_error(err, "cannot watch a signal", e);
    w->handle.data = w;
    l->n_signals++;
    e = uv_signal_start(&w->handle, on_signal, signum);
    uv_unref((uv_handle_t *)&w->handle);
    return e ? uv_error(err, "cannot watch a signal", e) : PILLION_OK;
}

/* ── Streams ────────────────────────────────────────────────────────────────────────────────────────────────── */

static pil_stream *stream_create(pil_loop *l, bool is_pipe) {
    pil_stream *s = calloc(1, sizeof *s);
    if (!s) return NULL;
    if (is_pipe) uv_pipe_init(&l->uv, &s->uv.pipe, 0);
    else uv_tcp_init(&l->uv, &s->uv.tcp);
    s->uv.handle.data = s;
    s->loop = l;
    return s;
}

void pil_stream_watch(pil_stream *s, pil_read_fn on_read, pil_written_fn on_written, void *ud) {
    s->on_read = on_read;
    s->on_written = on_written;
    s->ud = ud;
}

static void on_alloc(uv_handle_t *h, size_t suggested, uv_buf_t *out) {
    (void)suggested;
    *out = uv_buf_init(((pil_stream *)h->data)->loop->read_buffer, (unsigned)READ_BYTES);
}

static void on_read(uv_stream_t *h, ssize_t n, const uv_buf_t *buf) {
    pil_stream *s = h->data;
    if (n == 0 || s->closed) return; /* 0: nothing to read after all */
    if (n < 0) uv_read_stop(h);
    if (s->on_read) s->on_read(s, n > 0 ? buf->base : NULL, n > 0 ? (size_t)n : 0, s->ud);
}

void pil_stream_read_start(pil_stream *s) {
    if (!s->closed) uv_read_start(&s->uv.stream, on_alloc, on_read);
}

void pil_stream_read_stop(pil_stream *s) {
    if (!s->closed) uv_read_stop(&s->uv.stream);
}

typedef struct write_request {
    uv_write_t req; /* first */
    char *bytes;
} write_request;

static void on_write(uv_write_t *req, int status) {
    write_request *w = (write_request *)req;
    pil_stream *s = req->handle->data;
    free(w->bytes);
    free(w);
    if (!s->closed && !s->loop->destroyed && s->on_written) s->on_written(s, status == 0, s->ud);
}

pillion_status pil_stream_write(pil_stream *s, char *bytes, size_t n) {
    write_request *w = s->closed ? NULL : malloc(sizeof *w);
    if (!w) {
        free(bytes);
        return s->closed ? PILLION_E_IO : PILLION_E_NOMEM;
    }
    w->bytes = bytes;
    uv_buf_t buf = {.base = bytes, .len = n};
    if (uv_write(&w->req, &s->uv.stream, &buf, 1, on_write) == 0) return PILLION_OK;
    free(bytes);
    free(w);
    return PILLION_E_IO;
}

bool pil_stream_try_write(pil_stream *s, const char *bytes, size_t n) {
    uv_buf_t buf = {.base = (char *)(uintptr_t)bytes, .len = n};
    return !s->closed && uv_try_write(&s->uv.stream, &buf, 1) == (int)n;
}

static void on_shutdown(uv_shutdown_t *req, int status) {
    (void)status;
    free(req);
}

void pil_stream_shutdown(pil_stream *s) {
    uv_shutdown_t *req = s->closed ? NULL : malloc(sizeof *req);
    if (req && uv_shutdown(req, &s->uv.stream, on_shutdown) != 0) free(req);
}

void pil_stream_close(pil_stream *s) {
    if (!s || s->closed) return;
    s->closed = true;
    uv_close(&s->uv.handle, on_closed);
}

static unsigned name_of(const struct sockaddr_storage *a, char *out, size_t out_bytes) {
    *out = '\0';
    if (a->ss_family == AF_INET) {
        const struct sockaddr_in *in = (const struct sockaddr_in *)a;
        uv_ip4_name(in, out, out_bytes);
        return ntohs(in->sin_port);
    }
    if (a->ss_family == AF_INET6) {
        const struct sockaddr_in6 *in = (const struct sockaddr_in6 *)a;
        uv_ip6_name(in, out, out_bytes);
        return ntohs(in->sin6_port);
    }
    return 0;
}

bool pil_stream_is_unix(const pil_stream *s) { return s->uv.handle.type == UV_NAMED_PIPE; }

void pil_stream_address(const pil_stream *s, bool peer, char *out, size_t out_bytes) {
    struct sockaddr_storage a = {0};
    int n = sizeof a;
    *out = '\0';
    if (s->closed || s->uv.handle.type != UV_TCP) return;
    int e = (peer ? uv_tcp_getpeername : uv_tcp_getsockname)(&s->uv.tcp, (struct sockaddr *)&a, &n);
    if (e == 0) name_of(&a, out, out_bytes);
}

size_t pil_stream_unsent(const pil_stream *s) {
    if (s->closed) return 0;
    size_t bytes = uv_stream_get_write_queue_size(&s->uv.stream);
#ifdef SIOCOUTQ
    int in_kernel = 0;
    uv_os_fd_t fd;
    if (uv_fileno(&s->uv.handle, &fd) == 0 && ioctl(fd, SIOCOUTQ, &in_kernel) == 0 && in_kernel > 0)
        bytes += (size_t)in_kernel;
#endif
    return bytes;
}

size_t pil_stream_spare(const pil_stream *s) {
    struct rlimit limit;
    uv_os_fd_t fd;
    if (s->closed || uv_fileno(&s->uv.handle, &fd) != 0 || getrlimit(RLIMIT_NOFILE, &limit) != 0) return 0;
    if (limit.rlim_cur == RLIM_INFINITY || limit.rlim_cur > (rlim_t)fd + SIZE_MAX / 2) return SIZE_MAX / 2;
    return limit.rlim_cur > (rlim_t)fd ? (size_t)(limit.rlim_cur - (rlim_t)fd - 1) : 0;
}

/* ── Listeners ──────────────────────────────────────────────────────────────────────────────────────────────── */

static void on_connection(uv_stream_t *h, int status) {
    pil_listener *l = h->data;
    if (status < 0 || l->closed) return; /* out of descriptors: libuv has already turned the client away */
    pil_stream *s = stream_create(l->loop, l->is_unix);
    if (!s) { /* libuv listens no more until this one is accepted */
        pil_timer_start(l->again, ACCEPT_AGAIN_MS, 0);
        return;
    }
    if (uv_accept(h, &s->uv.stream) != 0) {
        pil_stream_close(s);
        return;
    }
    if (!l->is_unix) uv_tcp_nodelay(&s->uv.tcp, 1);
    l->fn(s, l->ud);
}

static void on_again(void *ud) { on_connection(&((pil_listener *)ud)->uv.stream, 0); }

/* The first address of host:port. */
static pillion_status resolve(pil_loop *l, const char *host, unsigned port, struct sockaddr_storage *out,
                              pillion_error *err) {
    if (strcmp(host, "localhost") == 0) host = "127.0.0.1";
    if (uv_ip4_addr(host, (int)port, (struct sockaddr_in *)out) == 0) return PILLION_OK;
    if (uv_ip6_addr(host, (int)port, (struct sockaddr_in6 *)out) == 0) return PILLION_OK;
    uv_getaddrinfo_t req;
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE};
    char service[16];
    snprintf(service, sizeof service, "%u", port);
    if (uv_getaddrinfo(&l->uv, &req, NULL, host, service, &hints) != 0 || !req.addrinfo)
        return pil_err_set(err, PILLION_E_ARG, "%.100s: no such host to listen on", host);
    memcpy(out, req.addrinfo->ai_addr, req.addrinfo->ai_addrlen);
    uv_freeaddrinfo(req.addrinfo);
    return PILLION_OK;
}

pillion_status pil_listener_resolve(pil_loop *l, const char *host, char *out, size_t out_bytes, pillion_error *err) {
    struct sockaddr_storage address = {0};
    pillion_status st = resolve(l, host, 0, &address, err);
    if (!st) name_of(&address, out, out_bytes);
    return st;
}

static bool is_socket(const char *path) {
    struct stat st;
    return lstat(path, &st) == 0 && S_ISSOCK(st.st_mode);
}

/* Whether nobody answers on a Unix socket whose file is there: its server is dead. */
static bool is_dead_socket(const char *path) {
    if (!is_socket(path)) return false;
    struct sockaddr_un a = {.sun_family = AF_UNIX};
    if (strlen(path) >= sizeof a.sun_path) return false;
    memcpy(a.sun_path, path, strlen(path));
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0) return false;
    bool refused = connect(fd, (struct sockaddr *)&a, sizeof a) != 0 && errno == ECONNREFUSED;
    close(fd);
    return refused;
}

/* libuv would remove the file whenever it closes the socket, also when a successor listens on it: hence by hand. */
static int listen_unix(pil_listener *l, const char *path) {
    struct sockaddr_un a = {.sun_family = AF_UNIX};
    if (strlen(path) >= sizeof a.sun_path) return UV_ENAMETOOLONG;
    memcpy(a.sun_path, path, strlen(path));
    if (is_dead_socket(path)) unlink(path);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0) return uv_translate_sys_error(errno);
    mode_t old = umask(0177); /* the file must never be open to others, not even between bind and chmod */
    int e = bind(fd, (struct sockaddr *)&a, sizeof a) == 0 ? 0 : uv_translate_sys_error(errno);
    umask(old);
    l->owns_path = e == 0;
    if (!e) e = uv_pipe_open(&l->uv.pipe, fd);
    if (e) close(fd);
    return e;
}

static pil_listener *listener_create(pil_loop *loop, bool is_unix, pil_accept_fn fn, void *ud) {
    pil_listener *l = calloc(1, sizeof *l);
    if (l) l->again = pil_timer_create(loop, on_again, l);
    if (!l || !l->again) {
        free(l);
        return NULL;
    }
    l->loop = loop;
    l->fn = fn;
    l->ud = ud;
    l->is_unix = is_unix;
    if (is_unix) uv_pipe_init(&loop->uv, &l->uv.pipe, 0);
    else uv_tcp_init(&loop->uv, &l->uv.tcp);
    l->uv.handle.data = l;
    return l;
}

pillion_status pil_listener_open(pil_listener **out, pil_loop *loop, const char *host, unsigned port, const char *path,
                                 pil_accept_fn fn, void *ud, bool *in_use, pillion_error *err) {
    *out = NULL;
    *in_use = false;
    struct sockaddr_storage address = {0};
    if (!path) {
        pillion_status st = resolve(loop, host, port, &address, err);
        if (st) return st;
    }
    pil_listener *l = listener_create(loop, path != NULL, fn, ud);
    if (!l) return pil_err_no_memory(err);
    int e = path ? listen_unix(l, path) : uv_tcp_bind(&l->uv.tcp, (struct sockaddr *)&address, 0);
    if (path) snprintf(l->host, sizeof l->host, "%s", path);
    if (!e) e = uv_listen(&l->uv.stream, BACKLOG, on_connection);
    if (e) {
        pil_listener_close(l);
        if (path && e == UV_EADDRINUSE && !is_socket(path))
            return pil_err_set(err, PILLION_E_ARG, "cannot listen on %.140s: it is there, and is not a socket", path);
        *in_use = e == UV_EADDRINUSE;
        char where[320];
        if (path) snprintf(where, sizeof where, "cannot listen on %.200s", path);
        else snprintf(where, sizeof where, "cannot listen on %.200s:%u", host, port);
        return uv_error(err, where, e);
    }
    if (!path) {
        int n = sizeof address;
        uv_tcp_getsockname(&l->uv.tcp, (struct sockaddr *)&address, &n);
        l->port = name_of(&address, l->host, sizeof l->host);
    }
    *out = l;
    return PILLION_OK;
}

pillion_status pil_listener_adopt(pil_listener **out, pil_loop *loop, int fd, bool owns_path, pil_accept_fn fn,
                                  void *ud, pillion_error *err) {
    *out = NULL;
    struct sockaddr_storage address = {0};
    socklen_t n = sizeof address, option_bytes = sizeof(int);
    int listens = 0;
    bool known = getsockname(fd, (struct sockaddr *)&address, &n) == 0 &&
                 getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listens, &option_bytes) == 0 && listens;
    sa_family_t family = address.ss_family;
    known = known && (family == AF_INET || family == AF_INET6 || family == AF_UNIX);
    pil_listener *l = known ? listener_create(loop, family == AF_UNIX, fn, ud) : NULL;
    if (!l) {
        close(fd);
        return known ? pil_err_no_memory(err)
                     : pil_err_set(err, PILLION_E_ARG, "descriptor %d is not a listening socket", fd);
    }
    if (l->is_unix) {
        const struct sockaddr_un *un = (const struct sockaddr_un *)&address;
        size_t path_bytes = n - offsetof(struct sockaddr_un, sun_path);
        snprintf(l->host, sizeof l->host, "%.*s", (int)path_bytes, un->sun_path); /* abstract: "" */
        l->owns_path = owns_path && l->host[0];
    } else {
        l->port = name_of(&address, l->host, sizeof l->host);
    }
    int e = l->is_unix ? uv_pipe_open(&l->uv.pipe, fd) : uv_tcp_open(&l->uv.tcp, fd);
    if (e) close(fd); /* otherwise closing the handle does it */
    else e = uv_listen(&l->uv.stream, BACKLOG, on_connection);
    if (e) {
        pil_listener_leave(l);
        return uv_error(err, "cannot listen on a socket that was handed over", e);
    }
    *out = l;
    return PILLION_OK;
}

const char *pil_listener_host(const pil_listener *l) { return l->host; }
unsigned pil_listener_port(const pil_listener *l) { return l->port; }
bool pil_listener_is_unix(const pil_listener *l) { return l->is_unix; }
bool pil_listener_owns_path(const pil_listener *l) { return l->owns_path; }

int pil_listener_fd(const pil_listener *l) {
    uv_os_fd_t fd;
    return uv_fileno(&l->uv.handle, &fd) == 0 ? fd : -1;
}

void pil_listener_leave(pil_listener *l) {
    if (!l || l->closed) return;
    l->closed = true;
    pil_timer_destroy(l->again);
    uv_close(&l->uv.handle, on_closed);
}

void pil_listener_close(pil_listener *l) {
    if (l && !l->closed && l->owns_path) unlink(l->host);
    pil_listener_leave(l);
}

/* ── Descriptors that are not streams ───────────────────────────────────────────────────────────────────────── */

static void on_watch(uv_poll_t *h, int status, int events) {
    (void)status, (void)events; /* an error shows when the owner reads */
    pil_watch *w = h->data;
    if (!w->closed) w->fn(w->ud);
}

pillion_status pil_watch_create(pil_watch **out, pil_loop *l, int fd, void (*fn)(void *ud), void *ud,
                                pillion_error *err) {
    *out = NULL;
    pil_watch *w = calloc(1, sizeof *w);
    if (!w) return pil_err_no_memory(err);
    int e = uv_poll_init(&l->uv, &w->handle, fd);
    if (e) { /* nothing of the handle is in the loop */
        free(w);
        return uv_error(err, "cannot wait for a descriptor", e);
    }
    w->handle.data = w;
    w->fn = fn;
    w->ud = ud;
    uv_poll_start(&w->handle, UV_READABLE | UV_DISCONNECT, on_watch);
    uv_unref((uv_handle_t *)&w->handle);
    *out = w;
    return PILLION_OK;
}

void pil_watch_destroy(pil_watch *w) {
    if (!w || w->closed) return;
    w->closed = true;
    uv_close((uv_handle_t *)&w->handle, on_closed);
}

/* ── Children ───────────────────────────────────────────────────────────────────────────────────────────────── */

static void on_exit_status(uv_process_t *h, int64_t status, int term_signal) {
    pil_child *c = h->data;
    if (!c->closed && c->on_exit) c->on_exit((int)status, term_signal, c->ud);
    c->closed = true;
    if (!uv_is_closing((uv_handle_t *)h)) uv_close((uv_handle_t *)h, on_closed);
}

pillion_status pil_child_start(pil_child **out, pil_loop *l, const pil_child_spec *spec, pillion_error *err) {
    *out = NULL;
    pil_child *c = calloc(1, sizeof *c);
    pil_stream *output = spec->out ? stream_create(l, true) : NULL;
    pil_stream *channel = spec->channel ? stream_create(l, true) : NULL;
    uv_stdio_container_t stdio[5] = {{.flags = UV_IGNORE}, {.flags = UV_IGNORE}, {.flags = UV_INHERIT_FD, .data.fd = 2},
                                     {.flags = UV_IGNORE}, {.flags = UV_INHERIT_FD, .data.fd = spec->shared_fd}};
    int e = c && (output || !spec->out) && (channel || !spec->channel) ? 0 : UV_ENOMEM;
    if (!e) {
        c->on_exit = spec->on_exit;
        c->ud = spec->ud;
        c->handle.data = c;
        if (spec->stdin_fd >= 0) stdio[0] = (uv_stdio_container_t){.flags = UV_INHERIT_FD, .data.fd = spec->stdin_fd};
        if (output)
            stdio[1] = (uv_stdio_container_t){.flags = UV_CREATE_PIPE | UV_WRITABLE_PIPE,
                                              .data.stream = &output->uv.stream};
        if (channel)
            stdio[3] = (uv_stdio_container_t){.flags = UV_CREATE_PIPE | UV_READABLE_PIPE | UV_WRITABLE_PIPE,
                                              .data.stream = &channel->uv.stream};
        uv_process_options_t o = {.exit_cb = on_exit_status,
                                  .file = spec->program,
                                  .args = (char **)(uintptr_t)spec->argv,
                                  .env = (char **)(uintptr_t)spec->envp,
                                  .stdio = stdio,
                                  .stdio_count = !channel ? 3 : spec->shared_fd > 0 ? 5 : 4};
        e = uv_spawn(&l->uv, &c->handle, &o);
    }
    if (e) {
        if (c && c->handle.data) {
            c->closed = true;
            uv_close((uv_handle_t *)&c->handle, on_closed); /* uv_spawn initialises the handle even when it fails */
        } else {
            free(c);
        }
        pil_stream_close(output);
        pil_stream_close(channel);
        return uv_error(err, "cannot start a process", e);
    }
    if (spec->out) *spec->out = output;
    if (spec->channel) *spec->channel = channel;
    *out = c;
    return PILLION_OK;
}

int pil_child_pid(const pil_child *c) { return c->handle.pid; }

void pil_child_kill(pil_child *c, int signum) {
    if (c && !c->closed) uv_process_kill(&c->handle, signum);
}

void pil_child_forget(pil_child *c) {
    if (c) c->on_exit = NULL;
}
