/* serve.h - what the files of `pillion serve` share: the server as a whole, and the parts of its life.
 *
 *   cmd_serve.c      start, model, end, signals
 *   serve_options.c  the table of options
 *   serve_listen.c   addresses, sockets from elsewhere, the hand-over to a successor
 *   serve_reload.c   what may change while it runs */
#ifndef PIL_CMD_SERVE_H
#define PIL_CMD_SERVE_H

#include <limits.h>
#include <sys/types.h>

#include "cmd/handover.h"
#include "cmd/handshake.h"
#include "cmd/model.h"
#include "cmd/options.h"
#include "cmd/token.h"
#include "http/http.h"
#include "hub/hub.h"

typedef struct pil_serve_values {
    pil_model_values model;
    pil_command_line line;
    const char *config, *host, *handshake, *token_file;
    uint64_t port, workers, drain_s, log_level, connections, memory_mib, keep_alive_s;
    pil_option_list listen, files_roots, allow_hosts, allow_origins;
    bool with_parent, with_stdin, replace, generate_token, without_token;
} pil_serve_values;

extern const pil_option pil_serve_options[];

typedef struct pil_serve_place pil_serve_place; /* serve_listen.c */

/* How far a server is: it may serve before its model is ready, but is not there for a service manager until then. */
typedef struct pil_serve {
    const pil_serve_values *values; /* as it was started */
    const pil_serve_values *live;   /* for options that may change: as read last */
    pil_options reloaded;           /* behind live, once something was read again */
    char model_name[PATH_MAX]; /* as it was asked for, and UTF-8: what clients are told */
    pil_hub_model model;
    pil_token token;
    bool is_sidecar, stopping, was_ready;
    uint64_t started_ns;
    pil_loop *loop;
    pil_server *server;
    pil_pool *pool;
    pil_timer *parent_timer, *beat;
    pil_watch *stdin_watch;
    pid_t parent;
    uint32_t workers;
    int status; /* of the exit */
    /* listening */
    pil_serve_place *places; /* [n_places] what the options say about it */
    size_t n_places;
    pil_handshake handshake;
    pil_handover *offer;
    pil_inheritance inherited; /* sockets that we listen on once we are ready */
    int link;                  /* to the server whose place we take; -1: none */
    pil_child *successor;      /* started by SIGUSR2 */
    bool handed_over;          /* another server has our sockets and our handshake file */
} pil_serve;

#define PIL_SERVE_NAME "pillion serve" /* what its messages begin with */

/* Ends: what is in progress has drain_ms more. The second time at once. */
void pil_serve_stop(pil_serve *s, uint64_t drain_ms);
uint64_t pil_serve_drain_ms(const pil_serve *s);
/* What the server is told of its options. Strings are borrowed from s. */
pil_server_options pil_serve_server_options(pil_serve *s);

/* ── serve_listen.c ─────────────────────────────────────────────────────────────────────────────────────────── */

/* With --replace: asks the running server for its sockets and its token. Before the token is read; with the loop. */
pillion_status pil_serve_take_over(pil_serve *s, pillion_error *err);
/* Opens every address, or takes the service manager's sockets. Inherited ones stay with the old server until
 * pil_serve_ready(). Sets s->status when an address is in use. */
pillion_status pil_serve_listen(pil_serve *s, pillion_error *err);
/* Whether every address that is listened on may be, with the token that the server has now. Errors: E_ARG. */
pillion_status pil_serve_check_reach(const pil_serve *s, pillion_error *err);
/* Writes the handshake file anew, unless it is another server's or none is wanted. What fails is logged. */
void pil_serve_tell(pil_serve *s);
/* The first worker is ready: takes the old server's place, and tells the service manager. */
pillion_status pil_serve_ready(pil_serve *s, pillion_error *err);
/* SIGUSR2: starts the program file that is there now with --replace. */
void pil_serve_upgrade(pil_serve *s);
/* Closes and removes what listening has made. */
void pil_serve_leave(pil_serve *s);

/* ── serve_reload.c ─────────────────────────────────────────────────────────────────────────────────────────── */

/* SIGHUP: reads options and token again. What is wrong changes nothing and is said in one line. */
void pil_serve_reload(pil_serve *s);

#endif
