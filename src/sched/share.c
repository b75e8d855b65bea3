/* share.c - who is next: deficit round robin over clients, and over the jobs of each client.
 *
 * Source:     M. Shreedhar, G. Varghese, "Efficient fair queueing using deficit round robin", SIGCOMM 1995, in the form
 *             that lets a flow overdraw and pays the debt back on later rounds: a text larger than the quantum needs no
 *             saving up first. Each round gives a flow one quantum; a flow with credit is served until it has none.
 * Flow:       a job with NEW tasks is in its client's ring, a client with such jobs in the share's. next() finds the
 *             head with credit, took() charges it and moves on, correct() settles the difference to the true count.
 * Cost:       a round that serves nobody pays back a quantum of debt for each flow it passes, so next() is amortized
 *             O(1) for each quantum of work.
 * Not here:   what fits into one batch (batch.c). Tests: tests/sched/test_share.c. */
#include <assert.h>
#include <stdlib.h>

#include "sched/sched_int.h"

/* No flow owes more tokens than this, whatever a worker claims to have counted. */
#define DEBT_MAX 262144

/* ── Lists ──────────────────────────────────────────────────────────────────────────────────────────────────── */

void pil_task_push_back(pil_task_list *l, pil_task *t) { PIL_LIST_APPEND(l, t, prev, next); }

void pil_task_push_front(pil_task_list *l, pil_task *t) {
    t->prev = NULL;
    t->next = l->first;
    *(l->first ? &l->first->prev : &l->last) = t;
    l->first = t;
}

void pil_task_unlink(pil_task_list *l, pil_task *t) { PIL_LIST_REMOVE(l, t, prev, next); }

/* ── Clients ────────────────────────────────────────────────────────────────────────────────────────────────── */

static size_t bucket_of(uint64_t id) { return (size_t)(id * 0x9E3779B97F4A7C15u >> 58); }
_Static_assert(PIL_CLIENT_BUCKETS == 64, "bucket_of() keeps six bits");

uint64_t pil_share_waiting(const pil_share *sh, uint64_t id) {
    const pil_client *c = sh->buckets[bucket_of(id)];
    while (c && c->id != id) c = c->bucket_next;
    return c ? c->tokens_waiting : 0;
}

uint64_t pil_share_ahead(const pil_share *sh, uint64_t id, uint64_t pace) {
    uint64_t sum = 0, largest = 0;
    for (size_t i = 0; i < PIL_CLIENT_BUCKETS; i++)
        for (const pil_client *c = sh->buckets[i]; c; c = c->bucket_next) {
            uint64_t part = c->id == id ? 0 : c->tokens_waiting < pace ? c->tokens_waiting : pace;
            sum += part;
            if (part > largest) largest = part;
        }
    return sum - largest;
}

pil_client *pil_share_client(pil_share *sh, uint64_t id) {
    pil_client **at = &sh->buckets[bucket_of(id)];
    pil_client *c = *at;
    while (c && c->id != id) c = c->bucket_next;
    if (!c) {
        c = calloc(1, sizeof *c);
        if (!c) return NULL;
        c->id = id;
        c->bucket_next = *at;
        *at = c;
    }
    c->n_jobs++;
    return c;
}

void pil_share_leave(pil_share *sh, pil_client *c) {
    assert(c->n_jobs > 0);
    if (--c->n_jobs > 0) return;
    assert(!c->in_ring && c->tokens_waiting == 0);
    pil_client **at = &sh->buckets[bucket_of(c->id)];
    while (*at != c) at = &(*at)->bucket_next;
    *at = c->bucket_next;
    free(c);
}

/* ── Waiting ────────────────────────────────────────────────────────────────────────────────────────────────── */

void pil_share_count(pil_task *t) {
    pil_job *j = t->job;
    j->share->tokens_waiting += t->tokens;
    j->share->texts_waiting++;
    j->client->tokens_waiting += t->tokens;
}

void pil_share_uncount(pil_task *t) {
    pil_job *j = t->job;
    assert(j->share->tokens_waiting >= t->tokens && j->share->texts_waiting > 0);
    j->share->tokens_waiting -= t->tokens;
    j->share->texts_waiting--;
    j->client->tokens_waiting -= t->tokens;
}

void pil_share_give_back(pil_task *t) {
    pil_job *j = t->job;
    t->place = PIL_TASK_RETRY;
    pil_task_push_front(&j->share->retries, t);
    j->share->n_avoiding += t->avoid_life != 0;
    j->n_retries++;
    pil_share_count(t);
}

void pil_share_take_back(pil_task *t) {
    pil_job *j = t->job;
    assert(t->place == PIL_TASK_RETRY && j->n_retries > 0);
    pil_task_unlink(&j->share->retries, t);
    j->share->n_avoiding -= t->avoid_life != 0;
    j->n_retries--;
    pil_share_uncount(t);
}

/* ── Rings ──────────────────────────────────────────────────────────────────────────────────────────────────── */

void pil_share_enter_ring(pil_job *j) {
    pil_client *c = j->client;
    assert(!j->in_ring);
    PIL_LIST_APPEND(&c->ring, j, ring_prev, ring_next);
    j->in_ring = true;
    if (c->in_ring) return;
    PIL_LIST_APPEND(&j->share->ring, c, prev, next);
    c->in_ring = true;
}

/* Credit that was not used is gone; debt stays as long as the flow is known. */
void pil_share_leave_ring(pil_job *j) {
    pil_client *c = j->client;
    if (!j->in_ring) return;
    PIL_LIST_REMOVE(&c->ring, j, ring_prev, ring_next);
    j->in_ring = j->has_turn = false;
    if (j->deficit > 0) j->deficit = 0;
    if (c->ring.first) return;
    PIL_LIST_REMOVE(&j->share->ring, c, prev, next);
    c->in_ring = c->has_turn = false;
    if (c->deficit > 0) c->deficit = 0;
}

static void rotate_job(pil_client *c, pil_job *j) {
    j->has_turn = false;
    PIL_LIST_REMOVE(&c->ring, j, ring_prev, ring_next);
    PIL_LIST_APPEND(&c->ring, j, ring_prev, ring_next);
}

static void rotate_client(pil_share *sh, pil_client *c) {
    c->has_turn = false;
    PIL_LIST_REMOVE(&sh->ring, c, prev, next);
    PIL_LIST_APPEND(&sh->ring, c, prev, next);
}

/* A turn begins with one more quantum; true if the flow has credit then. */
static bool has_credit(int64_t *deficit, bool *has_turn, uint32_t quantum) {
    if (!*has_turn) *deficit += quantum;
    *has_turn = true;
    return *deficit > 0;
}

pil_task *pil_share_next(pil_share *sh) {
    for (pil_client *c; (c = sh->ring.first);) {
        if (!has_credit(&c->deficit, &c->has_turn, sh->quantum)) {
            rotate_client(sh, c);
            continue;
        }
        pil_job *j = c->ring.first;
        pil_task *t = pil_job_next_task(j);
        assert(t); /* else it would have left the ring */
        if (has_credit(&j->deficit, &j->has_turn, sh->quantum)) return t;
        rotate_job(c, j);
    }
    return NULL;
}

static void charge(pil_job *j, int64_t tokens) {
    pil_client *c = j->client;
    c->deficit -= tokens;
    j->deficit -= tokens;
    if (c->deficit < -DEBT_MAX) c->deficit = -DEBT_MAX;
    if (j->deficit < -DEBT_MAX) j->deficit = -DEBT_MAX;
}

void pil_share_took(pil_task *t, bool charged) {
    pil_job *j = t->job;
    pil_client *c = j->client;
    j->next_task++;
    j->tokens_new -= t->tokens;
    if (charged) charge(j, t->tokens);
    if (!pil_job_next_task(j)) pil_share_leave_ring(j);
    if (j->in_ring && j->deficit <= 0) rotate_job(c, j);
    if (c->in_ring && c->deficit <= 0) rotate_client(j->share, c);
}

void pil_share_pass(pil_task *t) {
    pil_job *j = t->job;
    pil_client *c = j->client;
    if (j->deficit < t->tokens) rotate_job(c, j);
    if (c->deficit < t->tokens) rotate_client(j->share, c);
}

void pil_share_correct(pil_task *t, uint32_t true_tokens) {
    uint64_t most = 4 * (uint64_t)t->tokens + 16; /* a worker's word is not worth more */
    charge(t->job, (int64_t)(true_tokens < most ? true_tokens : most) - (int64_t)t->tokens);
}
