/* fleet.c - the life of workers.
 *
 *     absent --SPAWN--> starting --ready, canary passed--> ready --+
 *       ^                  | KILL, FAILED, death                   | RETIRE, KILL, death
 *       |                  v                                       v
 *       +--- ended ---- ending <-----------------------------------+
 *
 * Restarts:   a worker that has answered a batch is replaced at once, and so is one whose death is charged to a text.
 *             Only deaths before the first answered batch wait (0.1 s doubling to 10 s, with jitter) and count: five
 *             within 30 s open the breaker. While it is open one worker is tried every 10 s; it closes when that one
 *             has answered a batch, or when one is ready and the last 30 s were calm.
 * First:      one worker starts alone, the express one if there is one, then as many at a time as are ready; after
 *             start_apart_ms all that are left. Its one forward pass is under start_ms, as the reading of a model from
 *             a slow disk is, not under stall_ms.
 * Outside:    an unexplained SIGKILL or SIGSTOP, a slow disk or want of a processor says nothing about our workers. It
 *             never counts; the second one in a slot in which no worker has proven itself since the first waits 0.1 s.
 * Canary:     one text whose vector never changes. The first vector is the reference, every other must have its bits.
 *             A reference that only one worker ever gave does not survive a contradiction: both are replaced.
 * Memory:     a worker above the soft cap, or with three strikes for wrong numbers, is replaced between two batches,
 *             one worker at a time.
 * Not here:   which text goes where (batch.c). Tests: tests/sched/test_fleet.c, test_numbers.c. */
#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/limits.h"
#include "sched/sched_int.h"

#define BACKOFF_MIN_MS 100
#define BACKOFF_MAX_MS 10000
#define BUDGET_MS 30000
#define PROBE_MS 10000
#define NUMERIC_STRIKES_MAX 3
#define MISSING_MS 100 /* a replacement takes half of it: until then to wait for it is quicker than a batch elsewhere */

/* ── State of a slot ────────────────────────────────────────────────────────────────────────────────────────── */

bool pil_fleet_is_trusted(const pil_slot *w) {
    return w->cause != PIL_CAUSE_LIED && w->cause != PIL_CAUSE_CANARY && w->cause != PIL_CAUSE_FAILED;
}

bool pil_fleet_is_missing(const pil_sched *s, const pil_slot *w) {
    return w->state != PIL_SLOT_READY && s->now_ms >= w->left_ms + MISSING_MS;
}

bool pil_fleet_is_bulk_missing(const pil_sched *s) {
    for (uint32_t i = 0; i < s->opt.workers; i++)
        if (pil_fleet_is_missing(s, &s->slots[i])) return true;
    return false;
}

static void end_if_nobody_comes(pil_sched *s) {
    if (s->gave_up || (s->breaker.open && s->n_ready == 0)) pil_job_end_all(s, PIL_JOB_UNAVAILABLE);
}

static void set_state(pil_sched *s, pil_slot *w, pil_slot_state state) {
    bool was_ready = w->state == PIL_SLOT_READY;
    s->n_alive += (state != PIL_SLOT_ABSENT) - (w->state != PIL_SLOT_ABSENT);
    w->state = state;
    w->since_ms = s->now_ms;
    s->n_ready += (state == PIL_SLOT_READY) - was_ready;
    if (was_ready) w->left_ms = s->now_ms;
    if (was_ready && s->n_ready == 0) s->unready_ms = s->now_ms;
}

static uint64_t next_random(pil_sched *s) { /* splitmix64 */
    uint64_t z = s->random += 0x9E3779B97F4A7C15u;
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9u;
    z = (z ^ z >> 27) * 0x94D049BB133111EBu;
    return z ^ z >> 31;
}

/* ── Breaker ────────────────────────────────────────────────────────────────────────────────────────────────── */

static bool is_calm(const pil_sched *s) {
    const pil_breaker *b = &s->breaker;
    size_t max = sizeof b->deaths_ms / sizeof *b->deaths_ms;
    return b->n_deaths < max || s->now_ms - b->deaths_ms[b->next_death] >= BUDGET_MS; /* next is the oldest */
}

static void open_breaker(pil_sched *s, const char *why) {
    pil_breaker *b = &s->breaker;
    if (why && why[0] && why != s->reason) snprintf(s->reason, sizeof s->reason, "%s", why);
    else if (!s->reason[0]) snprintf(s->reason, sizeof s->reason, "workers die before they have done anything");
    if (b->open) return;
    b->open = true;
    b->opened_ms = s->now_ms;
    b->probe_ms = s->now_ms + PROBE_MS;
    s->count.breaker_opened++;
}

/* Where workers cannot even start, what others died of lately was not the text: a model's file that was cut, say. */
static void acquit_since(pil_sched *s, uint64_t since_ms) {
    uint64_t from_ms = since_ms > BUDGET_MS ? since_ms - BUDGET_MS : 0;
    pil_quarantine_forget_since(&s->quarantine, from_ms + s->opt.quarantine_ms);
}

static void close_breaker(pil_sched *s) {
    if (s->breaker.open) acquit_since(s, s->breaker.opened_ms);
    s->breaker.open = false;
    if (!s->gave_up) s->reason[0] = '\0';
}

static void count_death(pil_sched *s, const char *why) {
    pil_breaker *b = &s->breaker;
    size_t max = sizeof b->deaths_ms / sizeof *b->deaths_ms;
    b->deaths_ms[b->next_death] = s->now_ms;
    b->next_death = (b->next_death + 1) % max;
    if (b->n_deaths < max) b->n_deaths++;
    if (!is_calm(s)) open_breaker(s, why);
}

static void set_pause(pil_sched *s, pil_slot *w) {
    w->backoff_ms = w->backoff_ms ? 2 * w->backoff_ms : BACKOFF_MIN_MS;
    if (w->backoff_ms > BACKOFF_MAX_MS) w->backoff_ms = BACKOFF_MAX_MS;
    uint64_t jitter = next_random(s) % (w->backoff_ms / 2 + 1); /* three quarters to five quarters of it */
    w->respawn_ms = s->now_ms + w->backoff_ms - w->backoff_ms / 4 + jitter;
}

/* ── Ending a worker ────────────────────────────────────────────────────────────────────────────────────────── */

/* Waiting to be told to retire does not protect from a kill; being told does, unless it takes too long. */
void pil_fleet_kill(pil_sched *s, pil_slot *w, pil_cause cause, const char *why) {
    if (w->state == PIL_SLOT_ABSENT || w->kill_why) return;
    w->kill_batch = w->n_out && !w->out[0]->canary ? w->out[0]->public.id : 0;
    if (w->cause == PIL_CAUSE_NONE || cause == PIL_CAUSE_LIED || cause == PIL_CAUSE_CANARY) w->cause = cause;
    w->kill_why = why;
    w->kill_due = true;
    s->count.kills++;
    if (w->state != PIL_SLOT_ENDING) set_state(s, w, PIL_SLOT_ENDING);
    end_if_nobody_comes(s);
}

void pil_sched_lied(pil_sched *s, uint32_t slot, const char *why) {
    assert(slot < s->n_slots);
    pil_slot *w = &s->slots[slot];
    if (why && !w->why[0]) snprintf(w->why, sizeof w->why, "%s", why);
    pil_fleet_kill(s, w, PIL_CAUSE_LIED, "broke the format");
}

/* Wants to be replaced; when, is decided in advance(). */
static void replace(pil_slot *w, const char *why) {
    if (!w->replace_why) w->replace_why = why;
}

void pil_fleet_numeric_strike(pil_sched *s, uint64_t life) {
    for (uint32_t i = 0; i < s->n_slots; i++) {
        pil_slot *w = &s->slots[i];
        if (w->life != life || w->state != PIL_SLOT_READY) continue;
        if (++w->numeric_strikes >= NUMERIC_STRIKES_MAX) replace(w, "wrong numbers");
    }
}

void pil_sched_progress(pil_sched *s, uint32_t slot, uint64_t counter, uint64_t own_bytes) {
    assert(slot < s->n_slots);
    pil_slot *w = &s->slots[slot];
    if (counter != w->counter) {
        w->counter = counter;
        w->has_moved = true;
    }
    if (w->state != PIL_SLOT_READY || own_bytes == 0) return;
    w->own_bytes = own_bytes;
    if (!w->base_bytes || own_bytes < w->base_bytes) w->base_bytes = own_bytes;
    bool grown = own_bytes - w->base_bytes > w->base_bytes / 4; /* a model that starts above the cap is not replaced */
    if (s->opt.memory_soft_bytes && own_bytes > s->opt.memory_soft_bytes && grown && w->answered)
        replace(w, "memory above its soft cap");
}

/* ── Proof ──────────────────────────────────────────────────────────────────────────────────────────────────── */

static void proven(pil_sched *s, pil_slot *w) {
    s->count.proof_ms = s->clock_ms;
    w->canary_due_ms = s->now_ms + s->opt.canary_ms;
    w->was_killed = false;
    if (w->state == PIL_SLOT_STARTING) set_state(s, w, PIL_SLOT_READY);
    if (s->breaker.open && is_calm(s)) close_breaker(s);
}

static void fail_canary(pil_sched *s, pil_slot *w) {
    s->count.canary_failures++;
    pil_fleet_kill(s, w, PIL_CAUSE_CANARY, "canary failed");
}

/* The reference is one worker's word against another's. */
static void drop_reference(pil_sched *s) {
    free(s->canary);
    s->canary = NULL;
    s->canary_votes = 0;
    for (uint32_t i = 0; i < s->n_slots; i++) {
        if (s->slots[i].vouches && s->slots[i].state == PIL_SLOT_READY) fail_canary(s, &s->slots[i]);
        s->slots[i].vouches = false;
    }
}

void pil_fleet_canary_answered(pil_sched *s, pil_slot *w, const pillion_item *item) {
    if (w->state != PIL_SLOT_STARTING && w->state != PIL_SLOT_READY) return;
    size_t bytes = item ? item->n_values * sizeof *item->values : 0;
    if (!item || item->status || bytes == 0) {
        fail_canary(s, w);
        return;
    }
    if (!s->canary && (s->canary = malloc(bytes))) {
        memcpy(s->canary, item->values, bytes);
        s->canary_values = item->n_values;
        s->canary_votes = 0;
    }
    if (s->canary && (item->n_values != s->canary_values || memcmp(item->values, s->canary, bytes) != 0)) {
        fail_canary(s, w);
        if (s->canary_votes < 2) drop_reference(s);
        return;
    }
    if (!w->vouches && s->canary_votes < 2) s->canary_votes++;
    w->vouches = true;
    proven(s, w);
}

void pil_fleet_answered(pil_sched *s, pil_slot *w) {
    s->count.proof_ms = s->clock_ms;
    w->backoff_ms = 0;
    w->answered = true;
    if (s->breaker.open && s->n_ready > 0 && w->spawned_ms >= s->breaker.opened_ms) close_breaker(s);
}

/* ── Start ──────────────────────────────────────────────────────────────────────────────────────────────────── */

static void spawn(pil_sched *s, pil_slot *w) {
    s->count.restarts += w->was_spawned;
    pil_work **out = w->out;
    *w = (pil_slot){.out = out,
                    .life = ++s->lives,
                    .spawned_ms = s->now_ms,
                    .left_ms = w->left_ms,
                    .moved_ms = s->now_ms,
                    .backoff_ms = w->backoff_ms,
                    .last_short = w->last_short,
                    .was_killed = w->was_killed,
                    .was_spawned = true};
    set_state(s, w, PIL_SLOT_STARTING);
}

static bool may_spawn(const pil_sched *s) { return s->started && !s->gave_up; }

static uint32_t count_starting(const pil_sched *s) {
    uint32_t n = 0;
    for (uint32_t i = 0; i < s->n_slots; i++) n += s->slots[i].state == PIL_SLOT_STARTING;
    return n;
}

/* Until when the first worker of a slot waits for others that are starting. Nobody is answered before one is ready, and
 * on few cores they hinder each other: one starts alone, then as many at a time as are ready. */
static uint64_t first_spawn_ms(const pil_sched *s) {
    uint32_t n_starting = count_starting(s);
    return n_starting > 0 && n_starting >= s->n_ready ? s->started_ms + s->opt.start_apart_ms : 0;
}

static pil_slot *slot_to_spawn(pil_sched *s) {
    if (!may_spawn(s) || s->n_alive == s->n_slots) return NULL;
    pil_breaker *b = &s->breaker;
    if (b->open && (s->now_ms < b->probe_ms || count_starting(s) > 0)) return NULL;
    pil_slot *best = NULL; /* the one that has waited longest */
    uint64_t first_ms = first_spawn_ms(s);
    for (uint32_t i = 0; i < s->n_slots; i++) {
        pil_slot *w = &s->slots[i];
        if (w->state != PIL_SLOT_ABSENT || (!b->open && s->now_ms < w->respawn_ms)) continue;
        if (!w->was_spawned && s->now_ms < first_ms) continue;
        bool first = best && w->respawn_ms == best->respawn_ms && i == s->opt.workers; /* express */
        if (!best || w->respawn_ms < best->respawn_ms || first) best = w;
    }
    if (best && b->open) b->probe_ms = s->now_ms + PROBE_MS;
    return best;
}

void pil_sched_ready(pil_sched *s, uint32_t slot, const float *canary, size_t n) {
    assert(slot < s->n_slots);
    pil_slot *w = &s->slots[slot];
    if (w->state != PIL_SLOT_STARTING) {
        pil_sched_lied(s, slot, "ready twice");
        return;
    }
    pil_fleet_canary_answered(s, w, &(pillion_item){.values = canary, .n_values = n});
}

void pil_sched_failed(pil_sched *s, uint32_t slot, pillion_status status, const char *why) {
    assert(slot < s->n_slots);
    pil_slot *w = &s->slots[slot];
    if (w->state != PIL_SLOT_STARTING) {
        pil_sched_lied(s, slot, "failed after it was ready");
        return;
    }
    w->cause = PIL_CAUSE_FAILED;
    snprintf(w->why, sizeof w->why, "%s", why ? why : "");
    set_state(s, w, PIL_SLOT_ENDING);
    if (status != PILLION_E_NOMEM) acquit_since(s, s->now_ms);
    if (status == PILLION_E_NOMEM || s->n_ready > 0) return; /* it may be otherwise next time; its end is counted */
    open_breaker(s, why);
    for (uint32_t i = 0; i < s->n_slots; i++) /* those that had not begun yet try at once, one after the other */
        if (!s->slots[i].was_spawned) s->breaker.probe_ms = s->now_ms;
    end_if_nobody_comes(s);
}

void pil_sched_spawn_failed(pil_sched *s, uint32_t slot, const char *why) {
    assert(slot < s->n_slots);
    pil_slot *w = &s->slots[slot];
    assert(w->state == PIL_SLOT_STARTING || w->state == PIL_SLOT_ENDING);
    set_state(s, w, PIL_SLOT_ABSENT);
    s->count.deaths++;
    set_pause(s, w);
    count_death(s, why);
    end_if_nobody_comes(s);
}

/* ── End ────────────────────────────────────────────────────────────────────────────────────────────────────── */

/* What a worker's end means. */
typedef struct verdict {
    bool strike; /* charged to the text at work */
    bool lost;   /* not charged, but its text is tried alone */
    bool outside, expected;
} verdict;

static verdict judge(const pil_slot *w, pil_end how) {
    verdict v = {0};
    bool at_work = w->n_out > 0 && !w->out[0]->canary;
    bool same_batch = at_work && w->kill_batch == w->out[0]->public.id; /* its answer may have come after the kill */
    bool unkilled = w->kill_due && w->cause != PIL_CAUSE_LIED && w->cause != PIL_CAUSE_FAILED &&
                    w->cause != PIL_CAUSE_RETIRED; /* it died before our KILL was given: of something else */
    switch (unkilled ? PIL_CAUSE_NONE : w->cause) {
    case PIL_CAUSE_NONE:
        v.strike = at_work && (how == PIL_END_CRASH || how == PIL_END_OOM);
        v.lost = at_work && how == PIL_END_EXIT;
        v.outside = how == PIL_END_OUTSIDE;
        break;
    case PIL_CAUSE_START: v.outside = how == PIL_END_STOPPED; break;
    case PIL_CAUSE_STALL:
        v.outside = how == PIL_END_STOPPED;
        v.strike = same_batch && !v.outside;
        break;
    case PIL_CAUSE_LIED: v.lost = same_batch; break;
    case PIL_CAUSE_RETIRED: v.expected = true; break;
    case PIL_CAUSE_LATE:
    case PIL_CAUSE_FAILED:
    case PIL_CAUSE_CANARY: break;
    }
    return v;
}

void pil_sched_ended(pil_sched *s, uint32_t slot, pil_end how, const char *why) {
    assert(slot < s->n_slots);
    pil_slot *w = &s->slots[slot];
    if (w->state == PIL_SLOT_ABSENT) return;
    verdict v = judge(w, how);
    bool answered = w->answered;
    w->kill_due = false;
    w->vouches = false;
    set_state(s, w, PIL_SLOT_ABSENT);
    w->respawn_ms = s->now_ms;
    if (!v.expected) {
        s->count.deaths++;
        if (v.outside && !answered) {
            w->respawn_ms += w->was_killed ? BACKOFF_MIN_MS : 0;
            w->was_killed = true;
        } else if (!answered && !v.strike) {
            set_pause(s, w);
            count_death(s, w->why[0] ? w->why : w->kill_why ? w->kill_why : why);
        }
    }
    pil_batch_give_back_all(s, w, v.strike, v.lost);
    end_if_nobody_comes(s);
}

/* ── Time ───────────────────────────────────────────────────────────────────────────────────────────────────── */

/* When a slot's patience ends; UINT64_MAX: never. */
static uint64_t slot_due_ms(const pil_sched *s, const pil_slot *w) {
    switch (w->state) {
    case PIL_SLOT_ABSENT: return UINT64_MAX;
    case PIL_SLOT_STARTING: return w->since_ms + s->opt.start_ms;
    case PIL_SLOT_READY: return w->n_out ? w->moved_ms + s->opt.stall_ms : UINT64_MAX;
    case PIL_SLOT_ENDING: return w->kill_why ? UINT64_MAX : w->since_ms + s->opt.retire_ms;
    }
    return UINT64_MAX;
}

static void fire(pil_sched *s, pil_slot *w) {
    if (w->state == PIL_SLOT_STARTING) pil_fleet_kill(s, w, PIL_CAUSE_START, "not ready in time");
    else if (w->state == PIL_SLOT_ENDING) pil_fleet_kill(s, w, PIL_CAUSE_LATE, "did not end when told to");
    else pil_fleet_kill(s, w, PIL_CAUSE_STALL, "no progress");
}

/* Who is to retire: everybody at the end, else one worker at a time, when no other is just being replaced. */
static void choose_retiring(pil_sched *s) {
    bool all = s->gave_up, one = false;
    for (uint32_t i = 0; i < s->n_slots && !all; i++) {
        const pil_slot *w = &s->slots[i];
        if (w->state == PIL_SLOT_ABSENT) one |= !s->breaker.open;
        else one |= w->state == PIL_SLOT_STARTING || w->retire;
    }
    for (uint32_t i = 0; i < s->n_slots; i++) {
        pil_slot *w = &s->slots[i];
        if (all && w->state == PIL_SLOT_STARTING) pil_fleet_kill(s, w, PIL_CAUSE_RETIRED, "stopping");
        if (w->state != PIL_SLOT_READY || w->retire || (!all && (one || !w->replace_why))) continue;
        if (!w->replace_why) w->replace_why = "stopping";
        w->retire = one = true;
    }
}

void pil_fleet_advance(pil_sched *s) {
    for (uint32_t i = 0; i < s->n_slots; i++) {
        pil_slot *w = &s->slots[i];
        if (w->has_moved) w->moved_ms = s->now_ms; /* it was told before the time */
        w->has_moved = false;
        if (s->now_ms >= slot_due_ms(s, w)) fire(s, w);
    }
    if (s->breaker.open && s->n_ready > 0 && is_calm(s)) close_breaker(s);
}

/* When the express worker will begin to stand in for one that is just being replaced; UINT64_MAX: it need not. */
static uint64_t help_ms(const pil_sched *s) {
    uint64_t next = UINT64_MAX;
    bool wanted = s->opt.express && s->shares[PIL_SHARE_BULK].texts_waiting > 0;
    for (uint32_t i = 0; i < s->opt.workers && wanted; i++) {
        uint64_t at = s->slots[i].left_ms + MISSING_MS;
        if (s->slots[i].state != PIL_SLOT_READY && at > s->now_ms && at < next) next = at;
    }
    return next;
}

uint64_t pil_fleet_next_ms(const pil_sched *s) {
    uint64_t next = help_ms(s), first_ms = first_spawn_ms(s);
    bool absent = false;
    for (uint32_t i = 0; i < s->n_slots; i++) {
        const pil_slot *w = &s->slots[i];
        uint64_t due = slot_due_ms(s, w);
        bool canary = w->state == PIL_SLOT_READY && !w->canary_out && !w->retire && w->n_out < s->opt.depth;
        if (canary && w->canary_due_ms < due) due = w->canary_due_ms;
        if (w->state == PIL_SLOT_ABSENT && may_spawn(s) && !s->breaker.open)
            due = w->was_spawned ? w->respawn_ms : first_ms;
        absent |= w->state == PIL_SLOT_ABSENT;
        if (due < next) next = due;
    }
    if (!s->breaker.open || !may_spawn(s)) return next;
    uint64_t probe = s->breaker.probe_ms, calm = s->breaker.deaths_ms[s->breaker.next_death] + BUDGET_MS;
    if (absent && count_starting(s) == 0 && probe < next) next = probe;
    if (s->n_ready > 0 && calm < next) next = calm;
    return next;
}

bool pil_sched_is_busy(const pil_sched *s) {
    if (s->n_jobs > 0 || s->n_out > 0) return true;
    for (uint32_t i = 0; i < s->n_slots; i++)
        if (s->slots[i].state != PIL_SLOT_ABSENT && s->slots[i].state != PIL_SLOT_READY) return true;
    return false;
}

/* ── Actions ────────────────────────────────────────────────────────────────────────────────────────────────── */

static bool act_on(pil_sched *s, pil_slot *w, pil_action *out) {
    *out = (pil_action){.slot = (uint32_t)(w - s->slots)};
    if (w->kill_due) {
        w->kill_due = false;
        out->kind = PIL_ACTION_KILL;
        out->why = w->kill_why;
    } else if (w->retire && w->state == PIL_SLOT_READY && w->n_out == 0) {
        set_state(s, w, PIL_SLOT_ENDING);
        w->cause = PIL_CAUSE_RETIRED;
        s->count.retired += !s->gave_up;
        out->kind = PIL_ACTION_RETIRE;
        out->why = w->replace_why;
        end_if_nobody_comes(s);
    } else if (pil_batch_abandon_due(w)) {
        w->out[0]->abandoned = true;
        w->cancels++;
        s->count.batches_abandoned++;
        out->kind = PIL_ACTION_ABANDON;
        out->batch = &w->out[0]->public;
    }
    return out->kind != PIL_ACTION_NONE;
}

bool pil_fleet_next_action(pil_sched *s, pil_action *out) {
    choose_retiring(s);
    for (uint32_t i = 0; i < s->n_slots; i++)
        if (act_on(s, &s->slots[i], out)) return true;
    pil_slot *w = slot_to_spawn(s);
    if (!w) return false;
    spawn(s, w);
    *out = (pil_action){.kind = PIL_ACTION_SPAWN, .slot = (uint32_t)(w - s->slots)};
    return true;
}
