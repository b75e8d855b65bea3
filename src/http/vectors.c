/* vectors.c - the answer to texts: chunks, if they are those of a file, and the vectors of a job as JSON. A slice at a
 * time, so that nobody else waits while much is written.
 *
 * Flow:    little is written at once. Of many values the job's are copied, since it goes when its callback returns, and
 *          the answer joins the server's list; in each turn of the loop the first of that list gets a slice and goes to
 *          its end, until the last slice sends the answer.
 * Memory:  the exchange owns what is being written; it was reserved when the texts were submitted.
 * Tests:   tests/http/test_failures.py, tests/http/test_turns.py, tests/http/test_files.py. */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "base/limits.h"
#include "http/http_int.h"

#define SLICE_VALUES 65536 /* some 5 ms */
#define VALUE_BYTES 16     /* of a chunk that are written in the time of a value, or faster */

struct pil_vectors {
    pil_exchange *exchange;
    pil_vectors *next; /* in the server's list */
    pil_buf body, tail; /* tail: what follows the vectors */
    float *values;      /* [n, dim], zeros for a text without a vector */
    bool *is_there;     /* [n] */
    size_t n, dim, next_chunk, next_row;
};

/* ── Errors ─────────────────────────────────────────────────────────────────────────────────────────────────── */

pil_complaint pil_complaint_of(pillion_status st) {
    switch (st) {
    case PILLION_E_INTERNAL:
        return (pil_complaint){"worker_died", "Computing this text ended its worker process", false};
    case PILLION_E_POISON:
        return (pil_complaint){"text_set_aside", "Computing this text ends its worker process: set aside", false};
    case PILLION_E_DEADLINE: return (pil_complaint){"deadline_exceeded", "This text was not computed in time", true};
    case PILLION_E_LOST:
        return (pil_complaint){"workers_lost", "Too many workers died under this request; try again", true};
    case PILLION_E_UNAVAILABLE: return (pil_complaint){"unavailable", "No worker can be started", true};
    case PILLION_E_NUMERIC:
        return (pil_complaint){"numeric_error", "The model's answer to this text is not a finite vector", false};
    case PILLION_E_NOMEM: return (pil_complaint){"out_of_memory", "Not enough memory for this text", true};
    case PILLION_E_CANCELLED: return (pil_complaint){"cancelled", "Computing this text was broken off", true};
    case PILLION_E_TOO_LONG:
    case PILLION_E_LIMIT: return (pil_complaint){"text_too_long", "This text is too long", false};
    case PILLION_E_UTF8: return (pil_complaint){"invalid_utf8", "This text is not valid UTF-8", false};
    case PILLION_OK:
    case PILLION_E_ARG:
    case PILLION_E_IO:
    case PILLION_E_NOT_FOUND:
    case PILLION_E_FORMAT:
    case PILLION_E_UNSUPPORTED:
    case PILLION_E_STALE: break;
    }
    return (pil_complaint){"text_refused", "This text could not be computed", false};
}

/* Behind the vectors: errors:[{index,code,message}] for those that there are none of. */
static void put_tail(pil_buf *out, const pil_job *job) {
    size_t n = pil_job_count(job), told = 0;
    pil_buf_putc(out, ']');
    for (size_t i = 0; i < n; i++) {
        pillion_status st = pil_job_item(job, i)->status;
        if (!st) continue;
        pil_complaint why = pil_complaint_of(st);
        pil_buf_printf(out, "%s{\"index\":%zu,\"code\":\"%s\",\"message\":\"%s\"}", told++ ? "," : ",\"errors\":[", i,
                       why.code, why.words);
    }
    pil_buf_puts(out, told ? "]}" : "}");
}

/* ── Chunks and vectors ─────────────────────────────────────────────────────────────────────────────────────── */

static void put_chunk(pil_buf *out, const pil_exchange *x, size_t i) {
    pil_buf_puts(out, i ? "," : "\"chunks\":[");
    pil_json_put_string(out, x->inputs[i].text, x->inputs[i].text_bytes);
    if (i + 1 == x->n_chunks) pil_buf_puts(out, "],");
}

static void put_row(pil_buf *out, size_t i, const float *values, size_t n) {
    pil_buf_puts(out, i ? "," : "\"vectors\":[");
    if (values) pil_json_put_f32_array(out, values, n);
    else pil_buf_puts(out, "null");
}

static size_t chunk_cost(const pil_exchange *x, size_t i) { return x->inputs[i].text_bytes / VALUE_BYTES; }

/* Writes the whole of it now. */
static void answer_at_once(pil_exchange *x, const pil_job *job) {
    pil_buf body;
    pil_buf_init(&body, PIL_LIMIT_ANSWER_BYTES);
    pil_buf_putc(&body, '{');
    for (size_t i = 0; i < x->n_chunks; i++) put_chunk(&body, x, i);
    for (size_t i = 0; i < pil_job_count(job); i++) {
        const pillion_item *it = pil_job_item(job, i);
        put_row(&body, i, it->status ? NULL : it->values, it->n_values);
    }
    put_tail(&body, job);
    pil_answer_send(x, 200, "application/json", &body, NULL);
}

/* ── Slices ─────────────────────────────────────────────────────────────────────────────────────────────────── */

static void leave(pil_vectors *v) {
    pil_vectors **at = &v->exchange->server->writing;
    while (*at && *at != v) at = &(*at)->next;
    if (*at) *at = v->next;
    v->next = NULL;
}

static void join(pil_vectors *v) {
    pil_vectors **at = &v->exchange->server->writing;
    while (*at) at = &(*at)->next;
    *at = v;
}

void pil_vectors_destroy(pil_vectors *v) {
    if (!v) return;
    leave(v);
    pil_buf_deinit(&v->body);
    pil_buf_deinit(&v->tail);
    free(v->values);
    free(v->is_there);
    free(v);
}

/* False when that was the last one. */
static bool write_slice(pil_vectors *v) {
    const pil_exchange *x = v->exchange;
    size_t written = 0;
    for (; v->next_chunk < x->n_chunks && written < SLICE_VALUES; v->next_chunk++) {
        put_chunk(&v->body, x, v->next_chunk);
        written += chunk_cost(x, v->next_chunk);
    }
    for (; v->next_row < v->n && written < SLICE_VALUES; v->next_row++, written += v->dim)
        put_row(&v->body, v->next_row, v->is_there[v->next_row] ? v->values + v->next_row * v->dim : NULL, v->dim);
    return v->next_row < v->n && !v->body.failed;
}

void pil_vectors_turn(pil_server *s) {
    pil_vectors *v = s->writing;
    if (!v) return;
    leave(v);
    if (write_slice(v)) {
        join(v);
    } else {
        pil_buf_append(&v->body, v->tail.bytes, v->tail.len);
        pil_buf body = v->body;
        v->body = (pil_buf){0};
        pil_answer_send(v->exchange, 200, "application/json", &body, NULL); /* which clears it, and v with it */
    }
    if (s->writing) pil_timer_start(s->writer, 0, 0);
}

static pillion_status start(pil_exchange *x, const pil_job *job, size_t dim) {
    size_t n = pil_job_count(job);
    assert(n > 0);
    size_t row = dim ? dim : 1; /* 0: every text has failed, and their chunks are long */
    pil_vectors *v = calloc(1, sizeof *v);
    x->vectors = v;
    if (!v) return PILLION_E_NOMEM;
    *v = (pil_vectors){.exchange = x, .n = n, .dim = dim, .values = calloc(n, row * sizeof(float)),
                       .is_there = calloc(n, sizeof(bool))};
    pil_buf_init(&v->body, PIL_LIMIT_ANSWER_BYTES);
    pil_buf_putc(&v->body, '{');
    pil_buf_init(&v->tail, PIL_LIMIT_ANSWER_BYTES);
    put_tail(&v->tail, job);
    if (!v->values || !v->is_there || v->tail.failed) return PILLION_E_NOMEM;
    for (size_t i = 0; i < n; i++) {
        const pillion_item *it = pil_job_item(job, i);
        v->is_there[i] = !it->status;
        if (!it->status) memcpy(v->values + i * dim, it->values, dim * sizeof(float));
    }
    join(v);
    if (!pil_timer_is_running(x->server->writer)) pil_timer_start(x->server->writer, 0, 0);
    return PILLION_OK;
}

void pil_vectors_answer(pil_exchange *x, const pil_job *job) {
    size_t n = pil_job_count(job), dim = 0, cost = 0;
    bool even = true; /* rows of one width; others are never seen, and are written at once */
    for (size_t i = 0; i < n; i++) {
        const pillion_item *it = pil_job_item(job, i);
        if (it->status) continue;
        even = even && (dim == 0 || dim == it->n_values);
        dim = it->n_values;
        cost += dim;
    }
    for (size_t i = 0; i < x->n_chunks; i++) cost += chunk_cost(x, i);
    if (!even || cost <= SLICE_VALUES) answer_at_once(x, job);
    else if (start(x, job, dim)) pil_answer_busy(x, 1000, "Out of memory");
}
