/* http_int.h - what the files of this room share: the server, connections, exchanges, answers. */
#ifndef PIL_HTTP_HTTP_INT_H
#define PIL_HTTP_HTTP_INT_H

#include "base/buf.h"
#include "base/json.h"
#include "base/limits.h"
#include "extract/extract.h"
#include "http/http.h"
#include "http/parse.h"
#include "http/validate.h"

typedef struct pil_conn pil_conn;
typedef struct pil_exchange pil_exchange;
typedef struct pil_document pil_document;
typedef struct pil_roots pil_roots;
typedef struct pil_access pil_access;
typedef struct pil_vectors pil_vectors;
typedef struct pil_errand pil_errand;

#define PIL_LISTENERS_MAX 16

struct pil_server {
    pil_loop *loop;
    pil_pool *pool;
    char *model_id;
    pil_access *access;
    pil_server_limits limits; /* none is 0 */
    void (*on_shutdown)(void *ud);
    void *ud;
    pil_listener *listeners[PIL_LISTENERS_MAX];
    size_t n_listeners;
    pil_conn *conns; /* all of them, newest first */
    size_t n_conns, n_turned_away; /* the first with the second */
    size_t in_flight_bytes; /* conn.c counts them */
    size_t in_flight_most;  /* since free memory was given back */
    uint64_t last_client;   /* the number given to the latest connection */
    pil_timer *sweep; /* runs while there are connections, and once more */
    pil_vectors *writing; /* large answers: the one whose turn it is, and so on */
    pil_timer *writer;    /* runs while there are any */
    pil_document *documents; /* running and waiting, in the order of their turns */
    size_t documents_running, recognitions_running; /* the first with the second */
    uint64_t document_turn; /* of the latest that was begun */
    pil_errand *errands; /* those that wait for a thread */
    pil_errand *errands_now[PIL_LIMIT_ERRANDS];
    bool draining, has_successor; /* a successor: idle connections get one more answer */
    bool closing; /* nothing new is begun any more */
    uint64_t drain_end_ms;
    pil_timer *drain_timer;
    void (*on_drained)(void *ud);
    void *drain_ud;
};

/* ── Connections (conn.c) ───────────────────────────────────────────────────────────────────────────────────── */

/* A client has connected; s is taken. */
void pil_conn_open(pil_server *server, pil_stream *s);
/* Closes it now; an exchange in progress is cancelled. */
void pil_conn_close(pil_conn *c);
/* Once a second: what is too slow, or idle for too long, ends. */
void pil_conn_sweep(pil_server *server);
/* While draining: closes what waits for a next request; true when nothing is left to be answered. */
bool pil_conn_drain(pil_server *server);
/* The end of the drain: what is still to be answered gets a 503. */
void pil_conn_abandon(pil_server *server);

const char *pil_conn_local_address(const pil_conn *c); /* NULL on a Unix socket */
bool pil_conn_is_loopback(const pil_conn *c);          /* the client is on this machine */
/* Whose share of the work a request belongs to: each connection of this machine, each address of others. */
uint64_t pil_conn_client(const pil_conn *c);
/* Whether the request, as far as it has been read, need not be refused for want of memory. */
bool pil_conn_has_room(const pil_conn *c);

/* ── Exchanges ──────────────────────────────────────────────────────────────────────────────────────────────── */

/* One request and what is being done about it. Lives in its connection; empty between requests. */
struct pil_exchange {
    pil_server *server;
    pil_conn *conn;
    pil_http_parser *parser;
    const pil_http_request *request;
    uint64_t started_ms;
    bool is_head;        /* the answer has no body */
    bool body_read;      /* the request is complete */
    bool waits_for_model; /* on_model is called when the pool's state changes, or the time to hold has passed */
    void (*on_model)(pil_exchange *x);
    pil_ticket *ticket;     /* work with the pool */
    pil_document *document; /* a document being read, until its child has answered */
    pil_vectors *vectors;   /* an answer being written */
    pil_errand *errand;     /* the body, or what a document holds, being parsed */
    pil_json *json;         /* the parsed body */
    size_t reserved_bytes;  /* by pil_exchange_reserve() */
    pillion_input *inputs;
    char *text; /* of a document, squashed; chunks point into it */
    pil_chunk *chunks;
    size_t n_chunks;
    size_t n_truncated; /* texts that were longer than the model takes: told in a header of the answer */
    bool normalize;
};

/* Frees what an exchange owns and cancels what it waits for. */
void pil_exchange_clear(pil_exchange *x);
/* Counts memory that this exchange will need, until it is cleared. False when the others have too much already: answer
 * with pil_answer_busy(). A request of any legal size is taken while their sum is below the ceiling. */
bool pil_exchange_reserve(pil_exchange *x, size_t bytes);
void pil_exchange_release(pil_exchange *x, size_t bytes); /* a part of it is not needed any more */

/* ── Answers (answer.c) ─────────────────────────────────────────────────────────────────────────────────────── */

/* Ends the exchange. body is taken (its memory, whatever happens); content_type NULL: none. headers: more header lines,
 * each ending with CRLF, or NULL. */
void pil_answer_send(pil_exchange *x, unsigned status, const char *content_type, pil_buf *body, const char *headers);
/* The same with a JSON text. */
void pil_answer_json(pil_exchange *x, unsigned status, const char *json);
/* {"detail":"…"} */
__attribute__((format(printf, 3, 4))) void pil_answer_detail(pil_exchange *x, unsigned status, const char *fmt, ...);
/* 503 with the time after which to try again. */
void pil_answer_busy(pil_exchange *x, uint64_t retry_after_ms, const char *detail);
/* For the parser's refusals: text/plain, and the connection is closed. */
void pil_answer_refuse(pil_exchange *x, unsigned status, const char *text);

/* conn.c's half: head and body go out; both are taken. */
void pil_conn_send(pil_conn *c, char *head, size_t head_bytes, char *body, size_t body_bytes, bool close);
bool pil_conn_will_close(const pil_conn *c); /* after this answer, whoever decided it */

/* What a text is told whose vector there is none of. */
typedef struct pil_complaint {
    const char *code, *words; /* stable; clients compare the code */
    bool again;               /* it was not the text's fault: another try may succeed */
} pil_complaint;
pil_complaint pil_complaint_of(pillion_status st);

/* Ends the exchange with {"chunks":["…",…],"vectors":[[…],null,…],"errors":[{index,code,message}…]}: chunks are there
 * for a file, errors if any vector is null.
 *   job   borrowed for the call; a large one is answered some turns of the loop later. */
void pil_vectors_answer(pil_exchange *x, const pil_job *job);
/* Writes a slice of one of the answers that are being written. */
void pil_vectors_turn(pil_server *s);
void pil_vectors_destroy(pil_vectors *v); /* accepts NULL */

/* ── What a thread does (errand.c) ──────────────────────────────────────────────────────────────────────────── */

#define PIL_LARGE_BYTES (256 * PIL_KIB) /* of JSON: parsing more keeps others waiting for milliseconds */

/* The first member of what is worked on, which all three functions get. */
struct pil_errand {
    pil_server *server;
    pil_exchange *exchange; /* NULL: nobody waits for it any more */
    pil_errand *next;       /* of those that wait */
    pil_work_fn work;       /* on whichever thread: pure */
    pil_work_fn done;       /* in the loop, unless nobody waits: goes on with the exchange, and frees it */
    pil_work_fn free;
};

/* Runs it, now or, when it is large, by a thread; then done is called some turns of the loop later. */
void pil_errand_run(pil_errand *e, bool is_large);
void pil_errand_forget(pil_errand *e); /* done will not be called; accepts NULL */
/* The server is about to be freed, and all exchanges are cleared; threads may still run. */
void pil_errand_leave_all(pil_server *s);

/* ── Bodies (body.c) ────────────────────────────────────────────────────────────────────────────────────────────── */

#define PIL_TOO_MUCH "Too much is in progress, please retry shortly"

/* The body fits its table: x->json and values[n], which are borrowed for the call, point into it. */
typedef void (*pil_body_fn)(pil_exchange *x, const pil_value *values);

/* Parses the request's body and checks it against fields[n], n <= PIL_FIELDS_MAX. Calls on_body, perhaps some turns of
 * the loop later, or answers what is wrong: 422 in FastAPI's shape, 413, 503. */
void pil_body_read(pil_exchange *x, const pil_field *fields, size_t n, pil_body_fn on_body);

/* ── Routes (route.c) ───────────────────────────────────────────────────────────────────────────────────────── */

/* The header is complete: the ceiling of the body. */
size_t pil_route_body_max(const pil_exchange *x);
/* Whether the request would be refused whatever its body: then that need not be read. */
bool pil_route_refuses(const pil_exchange *x);
/* The request is complete: does what it asks for. */
void pil_route_run(pil_exchange *x);

/* Whether texts would be refused at once, since nobody can compute them. */
bool pil_sidecar_refuses(const pil_pool_info *info);

#define PIL_QUEUE_FULL "Too much work is waiting, please retry shortly"

/* Handlers of protocols. */
void pil_sidecar_health(pil_exchange *x);
void pil_sidecar_info(pil_exchange *x);
void pil_sidecar_embed(pil_exchange *x);
void pil_sidecar_embed_file(pil_exchange *x);
void pil_sidecar_ocr_detect(pil_exchange *x);
void pil_sidecar_ocr_extract(pil_exchange *x);
void pil_sidecar_shutdown(pil_exchange *x);

/* ── Who may ask (access.c) ─────────────────────────────────────────────────────────────────────────────────────── */

/* Copies hosts, origins and token of opt and opens its roots. Errors as pil_server_create. */
pillion_status pil_access_create(pil_access **out, const pil_server_options *opt, pillion_error *err);
void pil_access_destroy(pil_access *a);                /* accepts NULL */
const pil_roots *pil_access_roots(const pil_access *a); /* NULL: reading files is off */

/* Host, Origin and Sec-Fetch-Site: 0, or the status of the refusal and its words. */
unsigned pil_access_check(const pil_exchange *x, const char **why);
/* Whether the request carries the token, or none is asked. */
bool pil_access_has_token(const pil_exchange *x);
/* The Origin of the request if it is an allowed one of another site, else NULL. */
const char *pil_access_origin(const pil_exchange *x);

/* ── Files and documents (files.c, document.c) ──────────────────────────────────────────────────────────────── */

pillion_status pil_roots_open(pil_roots **out, const char *const *folders, size_t n, pillion_error *err);
void pil_roots_close(pil_roots *r); /* accepts NULL */
/* Opens a regular file below one of the roots for reading; *fd is given.
 *   Errors  E_ARG: not below a root, whether it exists or not, or a link. E_NOT_FOUND.
 *           E_UNSUPPORTED: not a regular file. E_IO: not readable. */
pillion_status pil_roots_open_file(const pil_roots *r, const char *path, int *fd);

/* What is made of a document by a thread, as far as the request wants it. */
typedef struct pil_digest {
    size_t chunk_size, chunk_overlap, max_chunks; /* wanted */
    char *text; /* squashed; NULL, or: */
    size_t text_bytes;
    pil_chunk *chunks; /* which point into it */
    size_t n_chunks;
    pil_buf body; /* of the answer */
} pil_digest;
/* Pure: looks at the child's answer and fills d. */
typedef pillion_status (*pil_digest_fn)(pil_digest *d, const pil_json *json);

typedef struct pil_document_result {
    pillion_status status; /* of digesting: E_NOMEM */
    const pil_json *json;  /* the child's answer; NULL when it failed: */
    pil_extract_code code;
    const char *text;
    const char *package; /* or NULL */
    bool never_began;    /* it was not its turn in time: another try may succeed */
    pil_digest *digest;  /* what is taken out of it is not freed */
} pil_document_result;
typedef void (*pil_document_fn)(pil_exchange *x, const pil_document_result *result);

#define PIL_DOCUMENT_ARGS 3

typedef struct pil_document_spec {
    const char *args[PIL_DOCUMENT_ARGS]; /* what follows --role=extract; NULL after the last; copied */
    uint64_t deadline_ms;
    pil_digest_fn digest; /* or NULL */
    pil_digest wanted;
    pil_document_fn on_done;
} pil_document_spec;

/* Has a child read the document in fd (taken) for x, as extract.h says. At most PIL_LIMIT_DOCUMENTS run at once, of
 * which PIL_LIMIT_RECOGNITIONS may take longer than PIL_LIMIT_EXTRACT_MS; others wait, clients in turn. on_done is
 * called from the loop unless the document is cancelled, or the answer does not fit into memory: then x is answered.
 *   Errors   E_NOMEM. */
pillion_status pil_document_start(pil_exchange *x, int fd, const pil_document_spec *spec);
void pil_document_cancel(pil_document *d); /* while it is read: kills the child; accepts NULL */

#endif
