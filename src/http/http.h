/* http.h - the listener: requests in, answers out, whatever protocol they are of.
 *
 * One thread, on a pil_loop. Texts are computed by a pil_pool, documents are read by children; nothing of a request but
 * HTTP and JSON is looked at in this process.
 *
 * A client that ends its side of the connection (FIN) before it has its answer has cancelled the request, as with
 * nginx; so has one that sends several requests ahead and then ends its side: what is not answered yet is dropped.
 * What cannot be taken now is refused with 503 and Retry-After, before its body is read where that is possible. */
#ifndef PIL_HTTP_HTTP_H
#define PIL_HTTP_HTTP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "pillion/pillion.h"
#include "proc/loop.h"
#include "proc/proc.h"

typedef struct pil_server pil_server;

/* Of each, 0 stands for the value of base/limits.h. */
typedef struct pil_server_limits {
    size_t connections;     /* beyond it clients are turned away */
    size_t in_flight_bytes; /* of all requests and answers in memory; checked before something large is taken */
    uint64_t header_ms;     /* for a request's header; also the window in which its body's rate is measured */
    uint64_t stall_ms;      /* the window in which the rate is measured at which an answer is read */
    uint64_t idle_ms;       /* between two requests of a connection; clients are told 5 s less */
    uint64_t document_ms;   /* that a document waits for its turn to be read */
} pil_server_limits;

typedef struct pil_server_options {
    const char *model_id;          /* as the user named it, in UTF-8: /info tells it verbatim */
    const char *const *allow_hosts; /* [n_allow_hosts] names that a Host header may carry besides the usual ones */
    size_t n_allow_hosts;
    const char *const *allow_origins; /* [n_allow_origins] pages that may ask: exactly "scheme://host[:port]" */
    size_t n_allow_origins;
    const char *token; /* that "Authorization: Bearer" must carry: printable ASCII, no blanks; NULL or "": none */
    const char *const *files_roots; /* [n_files_roots] folders below which /embed-file and /ocr may read; none: off */
    size_t n_files_roots;
    pil_server_limits limits;
    void (*on_shutdown)(void *ud); /* somebody asked for the end by GET /shutdown; called from the loop */
    void *ud;
} pil_server_options;

/* Strings are copied. pool may be NULL for now: give it with pil_server_set_pool before the first request is read.
 *   Errors  E_NOT_FOUND, E_IO: a files root that cannot be opened. E_ARG: an origin or token that is none. E_NOMEM. */
pillion_status pil_server_create(pil_server **out, pil_loop *l, const pil_server_options *opt, pillion_error *err);
/* Exchanges hosts, origins, token and files roots for those of opt, whose other fields are not looked at. Requests in
 * progress go on. On failure everything stays as it was.  Errors  as above. */
pillion_status pil_server_reconfigure(pil_server *s, const pil_server_options *opt, pillion_error *err);
/* Closes every connection at once and forgets its work. Call it before the pool is destroyed. Accepts NULL. */
void pil_server_destroy(pil_server *s);

/* The workers. Call pil_server_model_changed() from the pool's on_change: requests wait for it. */
void pil_server_set_pool(pil_server *s, pil_pool *pool);
void pil_server_model_changed(pil_server *s);

/* Listens on one more address; see pil_listener_open(). The listener is borrowed: its host and port can be asked. */
pillion_status pil_server_listen(pil_server *s, const char *host, unsigned port, const char *path,
                                 const pil_listener **listener, bool *in_use, pillion_error *err);

/* Listens on a socket that is open already; see pil_listener_adopt(). */
pillion_status pil_server_adopt(pil_server *s, int fd, bool owns_path, const pil_listener **listener,
                                pillion_error *err);
/* The listeners in the order in which they were opened; NULL beyond the last. Borrowed until the drain. */
const pil_listener *pil_server_listener(const pil_server *s, size_t i);

/* Stops listening, closes idle connections, and calls on_drained (once, from the loop) when the last request is
 * answered or drain_ms have passed; what is not answered by then gets a 503. */
void pil_server_drain(pil_server *s, uint64_t drain_ms, void (*on_drained)(void *ud), void *ud);
/* The same for the sake of a successor that listens on the same sockets: those stay open with it. A connection that is
 * idle gets one more answer, which ends it, unless the time is over before: no client meets a closed door. */
void pil_server_hand_over(pil_server *s, uint64_t drain_ms, void (*on_drained)(void *ud), void *ud);

#endif
