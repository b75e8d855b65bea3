/* batch.c - texts into batches for a worker, and what became of them.
 *
 * Flow:       next() takes an idle worker and fills a batch, from the texts that come back first, else from the turn of
 *             fair share -> SEND -> answered(), refused(), or the worker's death: give_back_all().
 * Isolation:  the texts of the batch that a worker died under are suspects. Each is tried alone; one that kills again
 *             is convicted. So k poisons in a batch cost 1 + k workers. A worker that breaks the format or leaves is no
 *             proof against a text, but three in a row under the same text alone are enough to leave it.
 * Bound:      a job under which more than 16 workers have died gets E_LOST for what is left of it.
 * Tests:      tests/sched/test_sched.c, test_isolation.c, test_numbers.c. */
#include <assert.h>
#include <string.h>

#include "base/limits.h"
#include "sched/sched_int.h"

#define STRIKES_MAX 2
#define LOSSES_MAX 3

static const pillion_input canary_input = {.text = PILLION_CANARY_TEXT, .text_bytes = sizeof PILLION_CANARY_TEXT - 1};

/* ── Choice of a worker ─────────────────────────────────────────────────────────────────────────────────────── */

static bool has_room(const pil_slot *w, uint32_t n_out) {
    return w->state == PIL_SLOT_READY && !w->retire && w->n_out == n_out && (n_out == 0 || !w->out[n_out - 1]->suspect);
}

/* Whether another worker than the one of this life could take a text. */
static bool has_other(const pil_sched *s, uint64_t life) {
    for (uint32_t i = 0; i < s->n_slots; i++)
        if (s->slots[i].state == PIL_SLOT_READY && !s->slots[i].retire && s->slots[i].life != life) return true;
    return false;
}

/* What waits is shared among the idle workers, so that a small job alone uses all of them. The express worker has small
 * batches only, whatever they are: who asks next waits for them. */
static uint32_t budget(const pil_sched *s, const pil_slot *w, int share) {
    if (w == &s->slots[s->opt.workers]) return s->shares[PIL_SHARE_SHORT].quantum;
    if (share == PIL_SHARE_SHORT) return s->opt.batch_tokens;
    uint32_t idle = 0;
    for (uint32_t i = 0; i < s->opt.workers; i++) idle += has_room(&s->slots[i], 0);
    uint64_t part = idle > 1 ? (s->shares[share].tokens_waiting + idle - 1) / idle : s->opt.batch_tokens;
    if (part < PIL_BATCH_TOKENS_MIN) part = PIL_BATCH_TOKENS_MIN;
    return part < s->opt.batch_tokens ? (uint32_t)part : s->opt.batch_tokens;
}

/* ── Filling ────────────────────────────────────────────────────────────────────────────────────────────────── */

static bool same_name(const char *a, const char *b) { return a == b || (a && b && strcmp(a, b) == 0); }

static bool same_kind(const pil_job *a, const pil_job *b) {
    return a->op == b->op && a->options.normalize == b->options.normalize &&
           a->options.truncate == b->options.truncate && a->options.skip_special == b->options.skip_special &&
           same_name(a->options.prompt_name, b->options.prompt_name);
}

static bool fits(const pil_sched *s, const pil_work *b, const pil_task *t, uint32_t tokens_max) {
    if (b->public.n == 0) return true;
    const pil_task *first = b->tasks[0];
    bool apart = first->alone || t->alone || (first->job != t->job && (first->job->is_suspect || t->job->is_suspect));
    return !apart && b->public.n < s->batch_tasks_max && b->public.tokens + t->tokens <= tokens_max &&
           same_kind(first->job, t->job);
}

static void put(pil_work *b, pil_task *t) {
    t->place = PIL_TASK_OUT;
    t->batch = b;
    t->seat = (uint32_t)b->public.n;
    pil_task_push_back(&t->job->out, t);
    b->tasks[b->public.n++] = t;
    b->public.tokens += t->tokens;
    b->n_live++;
}

/* A text that was convicted under another job while this one waited. */
static void answer_convicted(pil_sched *s, pil_task *t) {
    s->count.texts_quarantined++;
    pil_job_task_status(s, t, PILLION_E_POISON);
}

/* avoiding: only those that another worker computed wrongly. */
static void fill_from_retries(pil_sched *s, const pil_slot *w, pil_share *sh, pil_work *b, uint32_t tokens_max,
                              bool avoiding) {
    for (pil_task *t = sh->retries.first, *next; t; t = next) {
        next = t->next;
        if (avoiding && !t->avoid_life) continue;
        if (t->avoid_life == w->life && has_other(s, w->life)) continue;
        if (pil_job_convicted(s, t)) {
            pil_share_take_back(t);
            answer_convicted(s, t);
            continue;
        }
        if (!fits(s, b, t, tokens_max)) return;
        pil_share_take_back(t);
        put(b, t);
        if (t->alone) return;
    }
}

static void fill_from_new(pil_sched *s, pil_share *sh, pil_work *b, uint32_t tokens_max) {
    for (pil_task *t; (t = pil_share_next(sh));) {
        bool convicted = pil_job_convicted(s, t);
        if (!convicted && !fits(s, b, t, tokens_max)) {
            pil_share_pass(t);
            return;
        }
        pil_share_uncount(t);
        pil_share_took(t, !convicted);
        if (convicted) answer_convicted(s, t);
        else put(b, t);
    }
}

static pil_work *unused_batch(pil_sched *s, pil_slot *w) {
    size_t index = (size_t)(w - s->slots);
    for (uint32_t i = 0; i < s->opt.depth; i++)
        if (!s->batches[index * s->opt.depth + i].used) return &s->batches[index * s->opt.depth + i];
    assert(!"a slot has as many batches as it may have out");
    return NULL;
}

static const pil_batch *hand_out(pil_sched *s, pil_slot *w, pil_work *b) {
    b->used = true;
    b->abandoned = false;
    b->public.id = ++s->next_id;
    b->public.slot = (uint32_t)(w - s->slots);
    if (w->n_out == 0) w->moved_ms = w->began_ms = s->now_ms;
    w->out[w->n_out++] = b;
    s->n_out++;
    return &b->public;
}

static const pil_batch *try_fill(pil_sched *s, pil_slot *w, int share, bool avoiding) {
    pil_share *sh = &s->shares[share];
    pil_work *b = unused_batch(s, w);
    uint32_t tokens_max = budget(s, w, share);
    b->public = (pil_batch){0};
    b->n_live = 0;
    fill_from_retries(s, w, sh, b, tokens_max, avoiding);
    if (b->public.n == 0 && !avoiding) fill_from_new(s, sh, b, tokens_max);
    if (b->public.n == 0) return NULL;
    b->public.op = b->tasks[0]->job->op;
    b->public.options = b->tasks[0]->job->options;
    b->canary = false;
    b->suspect = b->tasks[0]->strikes > 0 || b->tasks[0]->losses > 0;
    w->last_short = share == PIL_SHARE_SHORT;
    return hand_out(s, w, b);
}

static const pil_batch *next_canary(pil_sched *s) {
    for (uint32_t i = 0; i < s->n_slots; i++) {
        pil_slot *w = &s->slots[i];
        if (w->state != PIL_SLOT_READY || w->retire) continue;
        if (w->canary_out || w->n_out == s->opt.depth || s->now_ms < w->canary_due_ms) continue;
        pil_work *b = unused_batch(s, w);
        b->public = (pil_batch){.op = PILLION_OP_EMBED, .n = 1, .tokens = PIL_BATCH_TOKENS_MIN};
        pillion_run_options_init(&b->public.options);
        b->public.options.prompt_name = "";
        b->tasks[0] = NULL;
        b->n_live = 0;
        b->canary = true;
        b->suspect = false;
        w->canary_out = true;
        return hand_out(s, w, b);
    }
    return NULL;
}

/* Short jobs go to the express worker, else to one that is idle, or behind what it does if the express one is missing;
 * but not twice in a row while long jobs wait, unless `again`. */
static const pil_batch *next_short(pil_sched *s, uint32_t n_out, bool again) {
    pil_slot *express = &s->slots[s->opt.workers];
    const pil_batch *b = NULL;
    if (has_room(express, n_out)) b = try_fill(s, express, PIL_SHARE_SHORT, false);
    bool avoiding = s->shares[PIL_SHARE_SHORT].n_avoiding > 0, open = n_out == 0 || pil_fleet_is_missing(s, express);
    for (uint32_t i = 0; i < s->opt.workers && !b && (open || avoiding); i++) {
        pil_slot *w = &s->slots[i];
        bool turn = open && (again || !w->last_short || s->shares[PIL_SHARE_BULK].texts_waiting == 0);
        if (has_room(w, n_out) && (turn || avoiding)) b = try_fill(s, w, PIL_SHARE_SHORT, !turn);
    }
    return b;
}

/* A busy worker gets a second batch only while enough waits for everybody. The express worker helps while a bulk
 * worker is missing and not just being replaced, and where it is the only other one for wrong numbers. */
static const pil_batch *next_bulk(pil_sched *s, uint32_t n_out) {
    const pil_share *sh = &s->shares[PIL_SHARE_BULK];
    const pil_batch *b = NULL;
    bool plenty = sh->tokens_waiting >= (uint64_t)s->opt.batch_tokens * s->n_ready;
    for (uint32_t i = 0; i < s->opt.workers && !b && (n_out == 0 || plenty); i++)
        if (has_room(&s->slots[i], n_out)) b = try_fill(s, &s->slots[i], PIL_SHARE_BULK, false);
    if (b || !s->opt.express || !has_room(&s->slots[s->opt.workers], n_out)) return b;
    bool helps = n_out == 0 && pil_fleet_is_bulk_missing(s);
    if (!helps && sh->n_avoiding == 0) return NULL;
    return try_fill(s, &s->slots[s->opt.workers], PIL_SHARE_BULK, !helps);
}

/* A worker whose turn it is to do long work may get none: what waits avoids it, or was convicted meanwhile. Before it
 * rests it does short work again. */
const pil_batch *pil_batch_next(pil_sched *s) {
    const pil_batch *b = next_canary(s);
    const pil_share *shorts = &s->shares[PIL_SHARE_SHORT], *bulk = &s->shares[PIL_SHARE_BULK];
    for (uint32_t n_out = 0; n_out < s->opt.depth && !b; n_out++) {
        if (shorts->texts_waiting) b = next_short(s, n_out, false);
        if (!b && bulk->texts_waiting) b = next_bulk(s, n_out);
        if (!b && shorts->texts_waiting && n_out == 0) b = next_short(s, n_out, true);
    }
    return b;
}

const pillion_input *pil_batch_input(const pil_batch *public, size_t i) {
    const pil_work *b = (const pil_work *)public;
    if (b->canary) return &canary_input;
    assert(i < public->n && b->tasks[i]);
    const pil_task *t = b->tasks[i];
    return &t->job->inputs[t - t->job->tasks];
}

/* ── What became of it ──────────────────────────────────────────────────────────────────────────────────────── */

const pil_batch *pil_sched_oldest(const pil_sched *s, uint32_t slot) {
    assert(slot < s->n_slots);
    const pil_slot *w = &s->slots[slot];
    return w->n_out ? &w->out[0]->public : NULL;
}

bool pil_batch_abandon_due(const pil_slot *w) {
    const pil_work *b = w->n_out ? w->out[0] : NULL;
    return b && w->state == PIL_SLOT_READY && !b->canary && b->n_live == 0 && !b->abandoned;
}

static pil_work *pop(pil_sched *s, pil_slot *w) {
    pil_work *b = w->out[0];
    w->n_out--;
    memmove(w->out, w->out + 1, w->n_out * sizeof(pil_work *));
    w->moved_ms = w->began_ms = s->now_ms;
    b->used = false;
    s->n_out--;
    return b;
}

void pil_batch_forget_task(pil_task *t) {
    pil_work *b = t->batch;
    assert(t->place == PIL_TASK_OUT && b->tasks[t->seat] == t && b->n_live > 0);
    b->tasks[t->seat] = NULL;
    b->n_live--;
    t->batch = NULL;
    pil_task_unlink(&t->job->out, t);
}

static void give_back(pil_sched *s, pil_task *t) {
    pil_batch_forget_task(t);
    s->count.retries++;
    pil_share_give_back(t);
}

/* From the last to the first, so that the first ends in front. */
static void give_back_batch(pil_sched *s, pil_work *b, bool alone) {
    for (size_t i = b->public.n; i-- > 0;)
        if (b->tasks[i]) {
            b->tasks[i]->alone |= alone;
            give_back(s, b->tasks[i]);
        }
}

static void settle(pil_sched *s, pil_slot *w, pil_task *t, pil_answer *a, const pillion_item *said) {
    pil_job *j = t->job;
    if (said->status == PILLION_E_NUMERIC && !t->avoid_life) {
        t->alone = true;
        pil_batch_forget_task(t);
        t->avoid_life = w->life;
        pil_share_give_back(t);
        s->count.numeric_retries++;
        w->canary_due_ms = s->now_ms; /* is it the worker? */
        return;
    }
    pillion_item item = *said;
    if (item.status <= PILLION_E_POISON || item.status == PILLION_E_CANCELLED || item.status > PILLION_OK)
        item = (pillion_item){.status = PILLION_E_INTERNAL}; /* those are not a worker's to say */
    if (t->avoid_life && item.status != PILLION_E_NUMERIC) pil_fleet_numeric_strike(s, t->avoid_life);
    pil_batch_forget_task(t);
    pil_job_progress(s, j);
    if (item.n_tokens) pil_share_correct(t, item.n_tokens);
    if (pil_job_keep(j, a)) pil_job_task_done(s, t, &item);
    else pil_job_task_status(s, t, PILLION_E_NOMEM);
}

void pil_sched_answered(pil_sched *s, uint32_t slot, pil_answer *a) {
    assert(slot < s->n_slots);
    pil_slot *w = &s->slots[slot];
    if (w->n_out == 0 || a->n != w->out[0]->public.n) {
        pil_sched_lied(s, slot, "an answer to nothing");
        return;
    }
    uint64_t took_ms = s->now_ms - w->began_ms;
    pil_work *b = pop(s, w);
    if (b->canary) {
        w->canary_out = false;
        pil_fleet_canary_answered(s, w, &a->items[0]);
        return;
    }
    if (!pil_fleet_is_trusted(w)) {
        give_back_batch(s, b, false);
        return;
    }
    pil_fleet_answered(s, w);
    pil_sched_measure_batch(s, b->public.tokens, took_ms);
    for (size_t i = 0; i < b->public.n; i++)
        if (b->tasks[i]) settle(s, w, b->tasks[i], a, &a->items[i]);
}

static void give_back_fatal(pil_sched *s, pil_work *b, bool strike);

/* The worker stopped as if told to. It was, if an ABANDON is unanswered: that may have met the wrong batch. */
static void take_cancelled(pil_sched *s, pil_slot *w, pil_work *b) {
    bool explained = w->cancels > 0;
    if (explained) w->cancels--;
    if (b->canary) w->canary_due_ms = s->now_ms;
    else if (explained) give_back_batch(s, b, false);
    else give_back_fatal(s, b, false);
    if (!explained) pil_sched_lied(s, b->public.slot, "cancelled what nobody cancelled");
}

/* A batch without an answer: its texts alone, unless it is not about them. */
static void refuse(pil_sched *s, pil_work *b, pillion_status status) {
    if (b->public.n > 1 && status != PILLION_E_ARG && status != PILLION_E_UNSUPPORTED) {
        give_back_batch(s, b, true);
        return;
    }
    for (size_t i = 0; i < b->public.n; i++) {
        pil_task *t = b->tasks[i];
        if (!t) continue;
        pil_batch_forget_task(t);
        pil_job_progress(s, t->job);
        pil_job_task_status(s, t, status);
    }
}

void pil_sched_refused(pil_sched *s, uint32_t slot, pillion_status status) {
    assert(slot < s->n_slots);
    pil_slot *w = &s->slots[slot];
    if (w->n_out == 0 || status >= PILLION_OK || status <= PILLION_E_POISON) {
        pil_sched_lied(s, slot, "refused nothing");
        return;
    }
    pil_work *b = pop(s, w);
    if (b->canary) w->canary_out = false;
    if (status == PILLION_E_CANCELLED) {
        take_cancelled(s, w, b);
        return;
    }
    if (b->canary) {
        pil_fleet_canary_answered(s, w, NULL);
        return;
    }
    pil_fleet_answered(s, w);
    refuse(s, b, status);
}

void pil_sched_unsent(pil_sched *s, uint32_t slot, pillion_status status) {
    assert(slot < s->n_slots && s->slots[slot].n_out > 0);
    pil_slot *w = &s->slots[slot];
    pil_work *b = w->out[--w->n_out];
    b->used = false;
    s->n_out--;
    if (b->canary) {
        w->canary_out = false;
        pil_fleet_canary_answered(s, w, NULL);
    } else {
        refuse(s, b, status);
    }
}

/* ── Death ──────────────────────────────────────────────────────────────────────────────────────────────────── */

/* The job whose texts alone were in a batch, or NULL: a death in company of others is not held against a job. */
static pil_job *only_job(const pil_work *b) {
    pil_job *only = NULL;
    for (size_t i = 0; i < b->public.n; i++) {
        if (!b->tasks[i]) continue;
        if (only && only != b->tasks[i]->job) return NULL;
        only = b->tasks[i]->job;
    }
    return only;
}

static void convict(pil_sched *s, pil_task *t) {
    pil_job *j = t->job;
    pil_quarantine_add(&s->quarantine, j, (size_t)(t - j->tasks), s->now_ms + s->opt.quarantine_ms);
    s->count.texts_poisoned++;
    pil_batch_forget_task(t);
    pil_job_progress(s, j);
    pil_job_task_status(s, t, PILLION_E_POISON);
}

/* The batch that a worker ended under. */
static void give_back_fatal(pil_sched *s, pil_work *b, bool strike) {
    bool was_alone = b->public.n == 1;
    pil_job *job = only_job(b);
    if (job) job->deaths++;
    for (size_t i = b->public.n; i-- > 0;) {
        pil_task *t = b->tasks[i];
        if (!t) continue;
        assert(t->job); /* a task has one for as long as it is in a batch */
        t->alone = true;
        if (strike) {
            t->strikes++;
            t->job->is_suspect = true;
        } else if (was_alone) {
            t->losses++;
        }
        if (t->strikes >= STRIKES_MAX) {
            convict(s, t);
        } else if (t->losses >= LOSSES_MAX) {
            pil_batch_forget_task(t);
            s->count.texts_lost++;
            pil_job_task_status(s, t, PILLION_E_LOST);
        } else {
            give_back(s, t);
        }
    }
    if (job && job->deaths > PIL_LIMIT_LOSSES && !job->is_finished)
        pil_job_end_rest(s, job, PILLION_E_LOST, PIL_JOB_ANSWERED);
}

void pil_batch_give_back_all(pil_sched *s, pil_slot *w, bool strike, bool lost) {
    while (w->n_out > 0) {
        pil_work *b = w->out[--w->n_out];
        b->used = false;
        s->n_out--;
        if (b->canary) continue;
        if (w->n_out == 0 && (strike || lost)) give_back_fatal(s, b, strike);
        else give_back_batch(s, b, false);
    }
}
