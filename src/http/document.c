/* document.c - has a child read a document, and takes its answer.
 *
 *   waiting --its turn, and a place is free--> running --child exited, its output read--> on_done
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

#define ARGS_MAX 4
#define GRACE_MS 2000 /* the child keeps the deadline itself; this one is for a child that cannot any more */

struct pil_document {
    pil_exchange *exchange;
    pil_document *prev, *next;
    uint64_t client, turn;
    char *args[ARGS_MAX + 1];
    int fd; /* until the child has it */
    uint64_t deadline_ms;
    pil_document_fn on_done;
    pil_timer *timer; /* until its turn, then until its deadline */
    pil_child *child;   /* NULL once it has exited */
    pil_stream *output; /* NULL once it has ended */
    pil_buf answer;
    bool is_scan, running, never_began, timed_out, too_large;
};

static void run_next(pil_server *s);

static void document_free(pil_document *d) {
    pil_server *s = d->exchange->server;
    d->exchange->document = NULL;
    *(d->prev ? &d->prev->next : &s->documents) = d->next;
    if (d->next) d->next->prev = d->prev;
    s->documents_running -= d->running;
    s->recognitions_running -= d->running && d->is_scan;
    pil_child_forget(d->child);
    pil_child_kill(d->child, SIGKILL);
    pil_stream_close(d->output);
    pil_timer_destroy(d->timer);
    if (d->fd >= 0) close(d->fd);
    for (size_t i = 0; i < ARGS_MAX; i++) free(d->args[i]);
    pil_buf_deinit(&d->answer);
    free(d);
}

/* Reads the child's answer, or finds words for why there is none. */
static void read_answer(const pil_document *d, pil_json **json, pil_document_result *result) {
    *json = NULL;
    *result = (pil_document_result){.code = PIL_EXTRACT_INTERNAL, .text = "the document's reader died"};
    if (d->never_began) {
        result->never_began = true;
    } else if (d->timed_out) {
        result->code = PIL_EXTRACT_TIMEOUT;
        result->text = "reading the document took too long";
    } else if (d->too_large) {
        result->code = PIL_EXTRACT_TOO_LARGE;
        result->text = "the document has too much text";
    } else if (pil_json_parse(json, d->answer.bytes, d->answer.len, NULL, NULL) == PILLION_OK) {
        const pil_json *error = pil_json_get(*json, "error");
        if (!error) {
            result->json = *json;
            return;
        }
        result->code = pil_extract_code_of(pil_json_string(pil_json_get(error, "code"), NULL));
        result->text = pil_json_string_or(pil_json_get(error, "text"), result->text);
        result->package = pil_json_string(pil_json_get(error, "package"), NULL);
    }
}

static void finish(pil_document *d) {
    if (d->child || d->output) return;
    pil_json *json;
    pil_document_result result;
    read_answer(d, &json, &result);
    pil_exchange *x = d->exchange;
    pil_server *s = x->server;
    pil_document_fn on_done = d->on_done;
    document_free(d);
    on_done(x, &result);
    pil_json_free(json);
    run_next(s);
}

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
    const char *const argv[] = {"pillion", "--role=extract", d->args[0], d->args[1], d->args[2], d->args[3], NULL};
    const pil_child_spec spec = {.program = program, .argv = argv, .envp = env, .stdin_fd = d->fd, .out = &d->output,
                                 .on_exit = on_exit_of, .ud = d};
    pil_server *s = d->exchange->server;
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
    pil_server *s = d->exchange->server;
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

pillion_status pil_document_start(pil_exchange *x, int fd, const char *const *args, uint64_t deadline_ms,
                                  pil_document_fn on_done) {
    pil_server *s = x->server;
    pil_document *d = calloc(1, sizeof *d);
    if (d) d->timer = pil_timer_create(s->loop, on_timer, d);
    if (!d || !d->timer) {
        free(d);
        close(fd);
        return PILLION_E_NOMEM;
    }
    d->exchange = x;
    d->client = pil_conn_client(x->conn);
    d->fd = fd;
    d->deadline_ms = deadline_ms;
    d->is_scan = deadline_ms > PIL_LIMIT_EXTRACT_MS;
    d->on_done = on_done;
    pil_buf_init(&d->answer, PIL_LIMIT_EXTRACT_RESULT);
    queue(d);
    bool copied = true;
    for (size_t i = 0; i < ARGS_MAX && args[i]; i++) copied = (d->args[i] = strdup(args[i])) && copied;
    if (!copied) {
        document_free(d);
        return PILLION_E_NOMEM;
    }
    x->document = d;
    pil_timer_start(d->timer, s->limits.document_ms, 0);
    run_next(s);
    return PILLION_OK;
}

void pil_document_cancel(pil_document *d) {
    if (!d) return;
    pil_server *s = d->exchange->server;
    document_free(d);
    run_next(s);
}
