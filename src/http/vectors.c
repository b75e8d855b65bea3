/* vectors.c - the vectors of a job as JSON, a slice at a time, so that nobody else waits while many are written.
 *
 * Flow:    few values are written at once. Of many the job's are copied, since it goes when its callback returns; a
 *          timer then writes a slice in each turn of the loop, and the last one sends the answer.
 * Memory:  the exchange owns what is being written; it was reserved when the texts were submitted.
 * Tests:   tests/http/test_failures.py, tests/http/test_turns.py. */
#include <stdlib.h>
#include <string.h>

#include "base/limits.h"
#include "http/http_int.h"

#define SLICE_VALUES 65536 /* some 5 ms */
#define PAUSE_MS 1         /* with 0 a timer would run again before anybody else has had a turn */

struct pil_vectors {
    pil_exchange *exchange;
    pil_timer *timer;
    pil_buf body, tail; /* tail: what follows the vectors */
    float *values;      /* [n, dim], zeros for a text without a vector */
    bool *is_there;     /* [n] */
    size_t n, dim, next;
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

/* ── Vectors ────────────────────────────────────────────────────────────────────────────────────────────────── */

static void put_row(pil_buf *out, size_t i, const float *values, size_t n) {
    if (i) pil_buf_putc(out, ',');
    if (values) pil_json_put_f32_array(out, values, n);
    else pil_buf_puts(out, "null");
}

void pil_vectors_destroy(pil_vectors *v) {
    if (!v) return;
    pil_timer_destroy(v->timer);
    pil_buf_deinit(&v->body);
    pil_buf_deinit(&v->tail);
    free(v->values);
    free(v->is_there);
    free(v);
}

static void on_slice(void *ud) {
    pil_vectors *v = ud;
    for (size_t written = 0; v->next < v->n && written < SLICE_VALUES; v->next++, written += v->dim)
        put_row(&v->body, v->next, v->is_there[v->next] ? v->values + v->next * v->dim : NULL, v->dim);
    if (v->next < v->n && !v->body.failed) {
        pil_timer_start(v->timer, PAUSE_MS, 0);
        return;
    }
    pil_buf_append(&v->body, v->tail.bytes, v->tail.len);
    pil_buf body = v->body;
    v->body = (pil_buf){0};
    pil_answer_send(v->exchange, 200, "application/json", &body, NULL); /* which clears the exchange, and v with it */
}

/* Takes over what is written so far. False when there is no memory for it. */
static bool start(pil_exchange *x, const pil_job *job, pil_buf *body, size_t dim) {
    size_t n = pil_job_count(job);
    pil_vectors *v = calloc(1, sizeof *v);
    x->vectors = v;
    if (!v) return false;
    *v = (pil_vectors){.exchange = x, .n = n, .dim = dim, .timer = pil_timer_create(x->server->loop, on_slice, v),
                       .values = calloc(n, dim * sizeof(float)), .is_there = calloc(n, sizeof(bool))};
    pil_buf_init(&v->tail, PIL_LIMIT_ANSWER_BYTES);
    put_tail(&v->tail, job);
    if (!v->timer || !v->values || !v->is_there || v->tail.failed) return false;
    for (size_t i = 0; i < n; i++) {
        const pillion_item *it = pil_job_item(job, i);
        v->is_there[i] = !it->status;
        if (!it->status) memcpy(v->values + i * dim, it->values, dim * sizeof(float));
    }
    v->body = *body;
    *body = (pil_buf){0};
    pil_timer_start(v->timer, PAUSE_MS, 0);
    return true;
}

void pil_vectors_answer(pil_exchange *x, const pil_job *job, pil_buf *body) {
    size_t n = pil_job_count(job), dim = 0;
    bool even = true; /* rows of one width; others are never seen, and are written at once */
    for (size_t i = 0; i < n; i++) {
        const pillion_item *it = pil_job_item(job, i);
        if (it->status) continue;
        even = even && (dim == 0 || dim == it->n_values);
        dim = it->n_values;
    }
    pil_buf_puts(body, "\"vectors\":[");
    if (even && n * dim > SLICE_VALUES) {
        if (start(x, job, body, dim)) return;
        pil_buf_deinit(body);
        pil_answer_busy(x, 1000, "Out of memory");
        return;
    }
    for (size_t i = 0; i < n; i++) {
        const pillion_item *it = pil_job_item(job, i);
        put_row(body, i, it->status ? NULL : it->values, it->n_values);
    }
    put_tail(body, job);
    pil_answer_send(x, 200, "application/json", body, NULL);
}
