/* document.c - has a child read a document, and takes its answer.
 *
 *   waiting --its turn, and a place is free--> running --child exited, its output read--> digested --> on_done
 *      | too long: on_done                        | deadline, too much output: killed
 *
 * Turns:      a client's documents have one turn after another, those of a new client begin with the turn that is now:
 *             however many one client sends, the others wait for one of its documents at most. A scan takes minutes to
 *             recognise, so one place is kept for what takes seconds.
 * Invariants: (1) at most PIL_LIMIT_DOCUMENTS run. (2) the server's list holds every document that is not done, in the
 *             order of their turns, and within one as they came. (3) on_done is called from the loop, never from start
 *             or cancel. (4) none is begun once the server is closing: the end of one would else start the next, to be
 *             killed in turn.
 * The child's answer comes from a hostile file: it is bounded, parsed strictly, and its types are checked by whoever
 * uses it. Tests: tests/http/test_files.py. */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/limits.h"
#include "base/log.h"
#include "http/http_int.h"

#define GRACE_MS 2000 /* the child keeps the deadline itself; this one is for a child that cannot any more */

struct pil_document {
    pil_errand errand; /* first; it runs when there is an answer, or none will come */
    pil_document *prev, *next;
    uint64_t client, turn;
    char *args[PIL_DOCUMENT_ARGS];
    int fd; /* until the child has it */
    uint64_t deadline_ms;
    pil_digest_fn make;
    pil_digest digest;
    pil_document_fn on_done;
    pil_timer *timer; /* until its turn, then until its deadline */
    pil_child *child;   /* NULL once it has exited */
    pil_stream *output; /* NULL once it has ended */
    pil_buf answer;
    bool is_scan, running, never_began, timed_out, too_large;
    pil_json *json;
    pil_document_result result;
    size_t reserved_bytes; /* for all that comes of the answer */
};

static void run_next(pil_server *s);

/* Its place is another's, and nothing of its child is left. */
static void leave(pil_document *d) {
    pil_server *s = d->errand.server;
    d->errand.exchange->document = NULL;
    *(d->prev ? &d->prev->next : &s->documents) = d->next;
    if (d->next) d->next->prev = d->prev;
    s->documents_running -= d->running;
    s->recognitions_running -= d->running && d->is_scan;
    pil_child_forget(d->child);
    pil_child_kill(d->child, SIGKILL);
    pil_stream_close(d->output);
    pil_timer_destroy(d->timer);
    if (d->fd >= 0) close(d->fd);
}

/* After it has left. */
static void document_free(void *ud) {
    pil_document *d = ud;
    for (size_t i = 0; i < PIL_DOCUMENT_ARGS; i++) free(d->args[i]);
    pil_buf_deinit(&d->answer);
    free(d->digest.text);
    free(d->digest.chunks);
    pil_buf_deinit(&d->digest.body);
    pil_json_free(d->json);
    free(d);
}

/* ── Its answer ─────────────────────────────────────────────────────────────────────────────────────────────── */

/* Of a child that has answered. What comes from a hostile file has no more values than a request may have. */
static pillion_status read_json(pil_document *d) {
    pillion_status st =
        pil_json_parse_limited(&d->json, d->answer.bytes, d->answer.len, PIL_LIMIT_JSON_VALUES, NULL, NULL);
    if (st) return st == PILLION_E_NOMEM ? st : PILLION_OK;
    pil_document_result *r = &d->result;
    const pil_json *error = pil_json_get(d->json, "error");
    if (!error) {
        r->json = d->json;
        return d->make ? d->make(&d->digest, d->json) : PILLION_OK;
    }
    r->code = pil_extract_code_of(pil_json_string(pil_json_get(error, "code"), NULL));
    r->text = pil_json_string_or(pil_json_get(error, "text"), r->text);
    r->package = pil_json_string(pil_json_get(error, "package"), NULL);
    return PILLION_OK;
}

/* Makes of the child's answer what is wanted, or finds words for why there is none. On whichever thread (errand.c). */
static void digest(void *ud) {
    pil_document *d = ud;
    pil_document_result *r = &d->result;
    *r = (pil_document_result){.code = PIL_EXTRACT_INTERNAL, .text = "the document's reader died", .digest = &d->digest,
                               .never_began = d->never_began};
    if (d->timed_out) {
        r->code = PIL_EXTRACT_TIMEOUT;
        r->text = "reading the document took too long";
    } else if (d->too_large) {
        r->code = PIL_EXTRACT_TOO_LARGE;
        r->text = "the document has too much text";
    } else if (d->answer.len > 0) {
        r->status = read_json(d);
    }
    pil_buf_deinit(&d->answer);
}

/* Goes on with the request, which keeps the text. */
static void on_digested(void *ud) {
    pil_document *d = ud;
    pil_exchange_release(d->errand.exchange, d->reserved_bytes - d->digest.text_bytes);
    d->on_done(d->errand.exchange, &d->result);
    document_free(d);
}

/* The answer is there several times while it is digested: as it came, parsed, joined, squashed or written again. */
static void finish(pil_document *d) {
    if (d->child || d->output) return;
    pil_exchange *x = d->errand.exchange;
    pil_server *s = x->server;
    leave(d);
    d->reserved_bytes = 4 * d->answer.len;
    if (pil_exchange_reserve(x, d->reserved_bytes)) {
        pil_errand_run(&d->errand, d->answer.len > PIL_LARGE_BYTES);
    } else {
        document_free(d);
        pil_answer_busy(x, 1000, PIL_TOO_MUCH);
    }
    run_next(s);
}

/* ── Its child ──────────────────────────────────────────────────────────────────────────────────────────────── */

static void on_exit_of(int status, int term_signal, void *ud) {
    pil_document *d = ud;
    d->child = NULL;
    if (term_signal || status > 1)
        pil_log(PIL_LOG_WARN, "document reader died", "kind=%s status=%d signal=%d", d->args[0], status, term_signal);
    finish(d);
}

static void on_output(pil_stream *stream, const char *bytes, size_t n, void *ud) {
    pil_document *d = ud;
    bool failed = n > 0 && pil_buf_append(&d->answer, bytes, n) != PILLION_OK;
    if (n > 0 && !failed) return;
    d->too_large = failed;
    if (failed) pil_child_kill(d->child, SIGKILL);
    pil_stream_close(stream);
    d->output = NULL;
    finish(d);
}

/* It was not its turn in time; or the deadline of a child; or the next turn of the loop, when no child could be had. */
static void on_timer(void *ud) {
    pil_document *d = ud;
    d->never_began = !d->running;
    d->timed_out = d->child != NULL;
    pil_child_kill(d->child, SIGKILL);
    if (!d->child) finish(d);
}

static void run(pil_document *d) {
    static const char *const no_path = "PATH=/usr/local/bin:/usr/bin:/bin";
    char program[4096], path[4096];
    const char *user_path = getenv("PATH");
    pil_loop_program(program, sizeof program);
    if (!user_path || snprintf(path, sizeof path, "PATH=%s", user_path) >= (int)sizeof path) user_path = NULL;
    const char *const env[] = {user_path ? path : no_path, NULL};
    const char *const argv[] = {"pillion", "--role=extract", d->args[0], d->args[1], d->args[2], NULL};
    const pil_child_spec spec = {.program = program, .argv = argv, .envp = env, .stdin_fd = d->fd, .out = &d->output,
                                 .on_exit = on_exit_of, .ud = d};
    pil_server *s = d->errand.server;
    d->running = true;
    s->documents_running++;
    s->recognitions_running += d->is_scan;
    if (s->document_turn < d->turn) s->document_turn = d->turn;
    pillion_error err = {0};
    if (pil_child_start(&d->child, s->loop, &spec, &err)) {
        pil_log(PIL_LOG_ERROR, "document reader not started", "reason=\"%s\"", err.text);
        pil_timer_start(d->timer, 0, 0);
        return;
    }
    close(d->fd);
    d->fd = -1;
    pil_timer_start(d->timer, d->deadline_ms + GRACE_MS, 0);
    pil_stream_watch(d->output, on_output, NULL, d);
    pil_stream_read_start(d->output);
}

static void run_next(pil_server *s) {
    for (pil_document *d = s->documents; d && !s->closing && s->documents_running < PIL_LIMIT_DOCUMENTS; d = d->next)
        if (!d->running && !(d->is_scan && s->recognitions_running == PIL_LIMIT_RECOGNITIONS)) run(d);
}

/* Finds its turn and its place in the list. */
static void queue(pil_document *d) {
    pil_server *s = d->errand.server;
    pil_document *before = NULL, *e;
    d->turn = s->document_turn;
    for (e = s->documents; e; e = e->next)
        if (e->client == d->client && e->turn >= d->turn) d->turn = e->turn + 1;
    for (e = s->documents; e && e->turn <= d->turn; e = e->next) before = e;
    d->prev = before;
    d->next = e;
    if (e) e->prev = d;
    *(before ? &before->next : &s->documents) = d;
}

pillion_status pil_document_start(pil_exchange *x, int fd, const pil_document_spec *spec) {
    pil_server *s = x->server;
    pil_document *d = calloc(1, sizeof *d);
    if (d) d->timer = pil_timer_create(s->loop, on_timer, d);
    if (!d || !d->timer) {
        free(d);
        close(fd);
        return PILLION_E_NOMEM;
    }
    d->errand = (pil_errand){.server = s, .exchange = x, .work = digest, .done = on_digested, .free = document_free};
    d->client = pil_conn_client(x->conn);
    d->fd = fd;
    d->deadline_ms = spec->deadline_ms;
    d->is_scan = spec->deadline_ms > PIL_LIMIT_EXTRACT_MS;
    d->make = spec->digest;
    d->digest = spec->wanted;
    d->on_done = spec->on_done;
    pil_buf_init(&d->answer, PIL_LIMIT_EXTRACT_RESULT);
    queue(d);
    x->document = d;
    bool copied = true;
    for (size_t i = 0; i < PIL_DOCUMENT_ARGS && spec->args[i]; i++)
        copied = (d->args[i] = strdup(spec->args[i])) && copied;
    if (!copied) {
        leave(d);
        document_free(d);
        return PILLION_E_NOMEM;
    }
    pil_timer_start(d->timer, s->limits.document_ms, 0);
    run_next(s);
    return PILLION_OK;
}

void pil_document_cancel(pil_document *d) {
    if (!d) return;
    pil_server *s = d->errand.server;
    leave(d);
    document_free(d);
    run_next(s);
}
