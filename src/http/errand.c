/* errand.c - what would keep everybody waiting, done by a thread: parsing a large body, digesting a large document.
 *
 *   small --------------------------------------> work, done at once
 *   large -> waiting -> running (a thread) -> work, done in the loop
 *                 client gone: forgotten; a running one is freed when its thread has ended
 *
 * Parsing takes some 10 ms for each MiB. The thread touches the errand's object alone: it owns what it works on, and
 * what it calls is pure.
 * Invariants: (1) at most PIL_LIMIT_ERRANDS threads; the server knows each. (2) its list holds those that wait, in the
 *             order in which they came. (3) an errand has an exchange until that is cleared, and a server until that is
 *             destroyed.
 * Tests:      tests/http/test_turns.py. */
#include "base/limits.h"
#include "http/http_int.h"

/* Goes on with the request; e is freed by it. */
static void finish(pil_errand *e) {
    e->exchange->errand = NULL;
    e->done(e);
}

static void run_next(pil_server *s);

static void on_worked(void *ud) {
    pil_errand *e = ud;
    pil_server *s = e->server;
    for (size_t i = 0; s && i < PIL_LIMIT_ERRANDS; i++)
        if (s->errands_now[i] == e) s->errands_now[i] = NULL;
    if (e->exchange) finish(e);
    else e->free(e);
    if (s) run_next(s);
}

static void run_next(pil_server *s) {
    for (size_t i = 0; i < PIL_LIMIT_ERRANDS; i++) {
        pil_errand *e = s->errands_now[i] || s->closing ? NULL : s->errands;
        if (!e) continue;
        s->errands = e->next;
        s->errands_now[i] = e;
        if (pil_loop_work(s->loop, e->work, on_worked, e) == PILLION_OK) continue;
        e->work(e); /* no thread can be had */
        on_worked(e);
    }
}

void pil_errand_run(pil_errand *e, bool is_large) {
    e->exchange->errand = e;
    if (!is_large) {
        e->work(e);
        finish(e);
        return;
    }
    pil_errand **last = &e->server->errands;
    while (*last) last = &(*last)->next;
    *last = e;
    run_next(e->server);
}

void pil_errand_forget(pil_errand *e) {
    if (!e) return;
    e->exchange = NULL;
    for (pil_errand **at = &e->server->errands; *at; at = &(*at)->next) {
        if (*at != e) continue;
        *at = e->next;
        e->free(e);
        return;
    } /* else a thread has it */
}

void pil_errand_leave_all(pil_server *s) {
    for (size_t i = 0; i < PIL_LIMIT_ERRANDS; i++)
        if (s->errands_now[i]) s->errands_now[i]->server = NULL;
}
