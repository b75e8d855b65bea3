/* loop.h - the server's event loop: timers, signals, listeners, streams and children. libuv stays behind this door.
 *
 * One thread. A callback is never called after its object was closed or destroyed, and never from inside a call that
 * returns an error. Objects are freed by the loop once it has let go of them, so a
 * closed pointer must not be used again. */
#ifndef PIL_PROC_LOOP_H
#define PIL_PROC_LOOP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "pillion/pillion.h"

typedef struct pil_loop pil_loop;

/* SIGPIPE is ignored from now on, in this process but not in its children. */
pillion_status pil_loop_create(pil_loop **out, pillion_error *err);
/* Closes what is still open, without calling back, and frees everything. Accepts NULL. */
void pil_loop_destroy(pil_loop *l);
/* Runs until pil_loop_stop(), or until nothing is left that could happen. */
void pil_loop_run(pil_loop *l);
void pil_loop_stop(pil_loop *l);
/* Milliseconds of the monotonic clock, as of the current turn of the loop. */
uint64_t pil_loop_now_ms(const pil_loop *l);

/* What pil_child_start() takes to start this very program again, even if its file was replaced meanwhile. */
void pil_loop_program(char *out, size_t out_bytes);

/* ── Timers and signals ─────────────────────────────────────────────────────────────────────────────────────── */

typedef struct pil_timer pil_timer;
typedef void (*pil_timer_fn)(void *ud);

/* Stopped at first. NULL when memory is exhausted. */
pil_timer *pil_timer_create(pil_loop *l, pil_timer_fn fn, void *ud);
/* Calls fn after ms, but never in this turn of the loop; then every repeat_ms unless that is 0. Starting a running one
 * starts it anew. */
void pil_timer_start(pil_timer *t, uint64_t ms, uint64_t repeat_ms);
void pil_timer_stop(pil_timer *t);
bool pil_timer_is_running(const pil_timer *t);
void pil_timer_destroy(pil_timer *t); /* accepts NULL */

typedef void (*pil_signal_fn)(int signum, void *ud);
/* Watches a signal until the loop is destroyed; does not keep the loop running. */
pillion_status pil_loop_signal(pil_loop *l, int signum, pil_signal_fn fn, void *ud, pillion_error *err);

/* ── Threads ────────────────────────────────────────────────────────────────────────────────────────────────── */

typedef void (*pil_work_fn)(void *ud);

/* Has work(ud) run by a thread of its own, then calls done(ud) from the loop; if the loop ends before, done is called
 * by pil_loop_destroy(). work must be pure: it uses what ud points to, which nobody else looks at meanwhile.
 *   Errors  E_NOMEM: no thread can be had; neither is called. */
pillion_status pil_loop_work(pil_loop *l, pil_work_fn work, pil_work_fn done, void *ud);

/* ── Streams ────────────────────────────────────────────────────────────────────────────────────────────────── */

typedef struct pil_stream pil_stream;

/* n bytes arrived (borrowed for the call); n == 0: the other side has ended, or the stream failed. After that nothing
 * more is read. */
typedef void (*pil_read_fn)(pil_stream *s, const char *bytes, size_t n, void *ud);
/* A write is over; ok is false when the stream failed. */
typedef void (*pil_written_fn)(pil_stream *s, bool ok, void *ud);

/* Who is told about this stream. Either may be NULL. */
void pil_stream_watch(pil_stream *s, pil_read_fn on_read, pil_written_fn on_written, void *ud);
void pil_stream_read_start(pil_stream *s);
void pil_stream_read_stop(pil_stream *s);
/* Sends n bytes in order after earlier writes. bytes is taken (freed with free). on_written follows, once for each
 * write, unless E_NOMEM or E_IO is returned. */
pillion_status pil_stream_write(pil_stream *s, char *bytes, size_t n);
/* Sends n bytes now if they fit the socket's buffer; false otherwise, with none or a part of them sent. */
bool pil_stream_try_write(pil_stream *s, const char *bytes, size_t n);
/* Ends our side after all writes; the other side may still send. */
void pil_stream_shutdown(pil_stream *s);
void pil_stream_close(pil_stream *s); /* accepts NULL; drops what is not written yet */

bool pil_stream_is_unix(const pil_stream *s);
/* Address of our end or of the other one, without port: "127.0.0.1", "::1"; "" for a Unix socket, and when it cannot be
 * told, as that of a client which has reset its connection. */
void pil_stream_address(const pil_stream *s, bool peer, char *out, size_t out_bytes);

/* Bytes written that the other side has not taken yet, as far as the system tells. */
size_t pil_stream_unsent(const pil_stream *s);
/* How many descriptors with a higher number than that of s this process may have. Since the lowest free one is always
 * given, few means that few are free. */
size_t pil_stream_spare(const pil_stream *s);

/* ── Listeners ──────────────────────────────────────────────────────────────────────────────────────────────── */

typedef struct pil_listener pil_listener;
/* s is given: close it. */
typedef void (*pil_accept_fn)(pil_stream *s, void *ud);

/* Listens on host:port (port 0: any), or on the Unix socket path when path is not NULL: the socket belongs to the user
 * alone (mode 0600), and a dead socket file in its place is replaced.
 *   host     an address or a name; "localhost" is 127.0.0.1.
 *   in_use   set when somebody else listens there.
 *   Errors   E_IO (with the system's words), E_ARG (no such host), E_NOMEM. */
pillion_status pil_listener_open(pil_listener **out, pil_loop *l, const char *host, unsigned port, const char *path,
                                 pil_accept_fn fn, void *ud, bool *in_use, pillion_error *err);
/* The address that pil_listener_open() takes for a host, in the words of pil_listener_host(). Errors: E_ARG. */
pillion_status pil_listener_resolve(pil_loop *l, const char *host, char *out, size_t out_bytes, pillion_error *err);
/* "127.0.0.1", port 8421; or the path and port 0. */
const char *pil_listener_host(const pil_listener *l);
unsigned pil_listener_port(const pil_listener *l);
bool pil_listener_is_unix(const pil_listener *l);
/* Listens on a socket that is open and listens already: a service manager's, or that of the server before us.
 *   fd         taken, also on failure.
 *   owns_path  the file of a Unix socket is ours to remove when we close it.
 *   Errors     E_ARG (not a listening TCP or Unix stream socket), E_IO, E_NOMEM. */
pillion_status pil_listener_adopt(pil_listener **out, pil_loop *l, int fd, bool owns_path, pil_accept_fn fn, void *ud,
                                  pillion_error *err);
int pil_listener_fd(const pil_listener *l); /* borrowed: to be handed to a successor */
bool pil_listener_owns_path(const pil_listener *l);
void pil_listener_close(pil_listener *l);   /* accepts NULL; the file of a Unix socket that owns it is removed */
/* Closes it here, while somebody else goes on with the same socket: the file of a Unix socket stays. */
void pil_listener_leave(pil_listener *l);

/* ── Descriptors that are not streams ───────────────────────────────────────────────────────────────────────── */

typedef struct pil_watch pil_watch;
/* Calls fn whenever fd can be read or its other side has ended. Does not keep the loop running.
 *   fd      borrowed; stays open until pil_watch_destroy. It becomes non-blocking.
 *   Errors  E_IO: a kind of file that cannot be waited for. E_NOMEM. */
pillion_status pil_watch_create(pil_watch **out, pil_loop *l, int fd, void (*fn)(void *ud), void *ud,
                                pillion_error *err);
void pil_watch_destroy(pil_watch *w); /* accepts NULL */

/* ── Children ───────────────────────────────────────────────────────────────────────────────────────────────── */

typedef struct pil_child pil_child;
/* The child is gone: exit status, or the signal that ended it (else 0). The object is freed after the call. */
typedef void (*pil_exit_fn)(int status, int term_signal, void *ud);

typedef struct pil_child_spec {
    const char *program;
    const char *const *argv; /* NULL-terminated, argv[0] included */
    const char *const *envp; /* NULL-terminated */
    int stdin_fd;            /* the child's descriptor 0; -1: /dev/null */
    pil_stream **out;        /* receives the child's descriptor 1 for reading; NULL: its output goes to /dev/null */
    int shared_fd;           /* becomes the child's descriptor 4, and stays ours as well; 0: none. Needs a channel */
    pil_stream **channel;    /* receives the other end of the child's descriptor 3, both ways; NULL: none */
    pil_exit_fn on_exit;
    void *ud;
} pil_child_spec;

/* Starts a program. Its descriptor 2 is ours; it inherits nothing else. Streams are given.
 *   Errors  E_IO with the system's words, E_NOMEM. No stream is given then. */
pillion_status pil_child_start(pil_child **out, pil_loop *l, const pil_child_spec *spec, pillion_error *err);
int pil_child_pid(const pil_child *c);
void pil_child_kill(pil_child *c, int signum); /* accepts NULL */
/* Lets go of a child without killing it: on_exit is not called, the loop still reaps it. Accepts NULL. */
void pil_child_forget(pil_child *c);

#endif
