/* handover.h - one server takes the place of another without a moment in which nobody listens.
 *
 *   old server                                   new server (pillion serve --replace)
 *   offers on a private socket     <--connect--
 *   descriptors and token          ---------->   starts its workers; the old one serves meanwhile
 *                                  <---"R"----   ready, and already accepts on the same sockets
 *   stops accepting, withdraws
 *   its offer                      ----"O"--->   makes an offer of its own
 *   drains, ends
 *
 * A new server that ends before it says "R" leaves everything as it was. There is a private socket for every address
 * that is listened on, with a name made of it, so that a successor finds the server by any address that both have;
 * only a process of the same user is spoken to, on both sides. */
#ifndef PIL_CMD_HANDOVER_H
#define PIL_CMD_HANDOVER_H

#include <stdbool.h>
#include <stddef.h>

#include "cmd/token.h"
#include "proc/loop.h"

#define PIL_HANDOVER_LISTENERS_MAX 16

/* What is handed over. */
typedef struct pil_inheritance {
    struct {
        int fd;
        bool owns_path; /* the file of a Unix socket is to be removed at the end; a service manager's is not */
    } listeners[PIL_HANDOVER_LISTENERS_MAX];
    size_t n_listeners;
    int lock_fd;     /* of the handshake file; -1: none */
    int pid;         /* of the old server */
    pil_token token; /* one that the old server has made; "": none */
} pil_inheritance;

/* ── The old server ─────────────────────────────────────────────────────────────────────────────────────────── */

typedef struct pil_handover pil_handover;

typedef struct pil_handover_fns {
    /* Fills in what there is to hand over; descriptors are borrowed. False: not now. */
    bool (*give)(pil_inheritance *out, void *ud);
    /* The new server serves: stop accepting. Nothing more is called. */
    void (*given)(void *ud);
    /* The new server is gone without having been ready. */
    void (*failed)(void *ud);
    void *ud;
} pil_handover_fns;

/* An address by which a server is found, as pil_listener_host() and pil_listener_port() tell it. */
typedef struct pil_handover_name {
    const char *host; /* borrowed for the call */
    unsigned port;
} pil_handover_name;

/* Offers the sockets under each of n_names <= PIL_HANDOVER_LISTENERS_MAX addresses.
 *   Errors  E_UNSUPPORTED (not Linux), E_IO (a name is taken), E_NOMEM: the server can do without. */
pillion_status pil_handover_offer(pil_handover **out, pil_loop *l, const pil_handover_name *names, size_t n_names,
                                  const pil_handover_fns *fns, pillion_error *err);
void pil_handover_withdraw(pil_handover *h); /* accepts NULL */

/* ── The new server ─────────────────────────────────────────────────────────────────────────────────────────── */

/* Asks the server that listens on this address for what it has. Blocks for seconds at most.
 *   out     descriptors are given.
 *   link    given: the connection, for pil_handover_confirm; close it to leave the old server in its place.
 *   Errors  E_NOT_FOUND: no server offers this address. E_IO: another user's server, one that is ending or being
 *           replaced already, or no answer. E_UNSUPPORTED: not Linux. */
pillion_status pil_handover_take(pil_inheritance *out, int *link, const pil_handover_name *name, pillion_error *err);
/* Tells the old server that we serve, and waits until it has withdrawn its offer. link is taken. */
void pil_handover_confirm(int link);
/* Closes every descriptor that is left (not -1). */
void pil_inheritance_close(pil_inheritance *in);

#endif
