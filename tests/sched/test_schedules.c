/* test_schedules.c - random schedules of faults against the dispatcher, in virtual time with workers made of nothing.
 *
 * One schedule is a seed. From it follow the options, the jobs, which texts are poison, which faults there are and
 * when: workers that crash, hang, lie, compute NaN or a wrong canary, say FAILED, die before they are ready, are killed
 * from outside, grow, are paused one by one and released in random order; processes that cannot be started; clients
 * that leave; hours in which the whole tree was stopped. After each event everything that the dispatcher promises is
 * checked, so that no worker rests while texts wait; at the end every text of every job must be answered once, with the
 * vector of its own text or an error that the injected faults justify, and nothing may be left.
 *
 *     test_schedules              a million schedules, or as many as fit into the time below
 *     test_schedules N            N schedules (also: PILLION_SCHEDULES=N)
 *     test_schedules 1 SEED       one schedule again, told step by step */
#include "support/test.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "sched/sched.h"

#define SLOTS_MAX 4
#define DEPTH_MAX 2
#define CLIENTS 3
#define CONTENTS 64
#define CONTENT_BYTES 96
#define JOBS_MAX 12
#define TEXTS_MAX 40
#define BATCH_MAX 65
#define BATCH_MS_MAX 40 /* of one that is not slow */
#define NEVER UINT64_MAX
#define DEFAULT_SCHEDULES 1000000
#ifdef PIL_INSTRUMENTED
#define DEFAULT_SECONDS 10
#else
#define DEFAULT_SECONDS 60 /* a million take 20 s on a machine that has nothing else to do */
#endif

enum fault {
    FAULT_CRASH = 1 << 0,      /* a worker dies of itself while it computes */
    FAULT_HANG = 1 << 1,       /* it stops getting on */
    FAULT_LIE = 1 << 2,        /* it breaks the format */
    FAULT_EXIT = 1 << 3,       /* it leaves with status 0 */
    FAULT_NAN = 1 << 4,        /* one item is not finite */
    FAULT_POISON = 1 << 5,     /* some texts kill, some of them by hanging */
    FAULT_OUTSIDE = 1 << 6,    /* kill -9 */
    FAULT_SPAWN = 1 << 7,      /* no process can be started */
    FAULT_START = 1 << 8,      /* it dies, hangs or says FAILED before it is ready */
    FAULT_CANCEL = 1 << 9,     /* clients leave */
    FAULT_JUMP = 1 << 10,      /* everything is stopped for a while */
    FAULT_MEMORY = 1 << 11,    /* workers grow */
    FAULT_SWIZZLE = 1 << 12,   /* workers are paused one by one, released in random order */
    FAULT_CANARY = 1 << 13,    /* a worker's numbers are wrong from some moment on */
    FAULT_REFUSE = 1 << 14,    /* a batch fails as a whole */
    FAULT_SLOW = 1 << 15,      /* a batch takes seconds, but gets on */
    FAULT_BROKEN = 1 << 16,    /* no worker ever becomes ready, for a while */
    FAULT_GIVE_UP = 1 << 17,   /* told in the middle that there will be no worker any more */
    FAULT_COUNT = 18,
};

typedef struct sent {
    uint64_t id;
    size_t n;
    bool canary, abandoned;
    uint8_t contents[BATCH_MAX], jobs[BATCH_MAX];
} sent;

typedef enum worker_state { W_NONE, W_STARTING, W_UP, W_DYING } worker_state;
typedef enum plan { PLAN_ANSWER, PLAN_CRASH, PLAN_HANG, PLAN_LIE, PLAN_EXIT, PLAN_REFUSE, PLAN_NAN } plan;

typedef struct fake {
    worker_state state;
    uint64_t at_ms;       /* its next event; NEVER: none */
    uint64_t paused_until; /* NEVER: until released */
    uint64_t spawned_ms, died_ms;
    uint64_t counter, own_bytes;
    sent out[DEPTH_MAX];
    size_t n_out;
    plan plan;            /* for out[0] */
    int start;            /* what becomes of its start: 0 ready, 1 dies, 2 hangs, 3 says FAILED */
    pil_end end;
    bool killed, retiring, proven, answered, wrong, cancel, paused, told_lie, canary_failed, counted, slow;
} fake;

typedef struct client_job {
    pil_job *job;
    uint64_t client, submit_ms, submitted_ms, cancel_ms, tokens;
    uint64_t progress_ms; /* its last answer, or since it was submitted */
    uint64_t passed_ms;   /* since then: nobody had a text of it, and there was a worker that could have */
    size_t n, n_out;      /* n_out: texts with workers */
    bool is_short;
    int state; /* 0 not yet, 1 running, 2 over */
    pillion_run_options options;
    pillion_input inputs[TEXTS_MAX];
    uint8_t contents[TEXTS_MAX];
} client_job;

typedef struct sim {
    uint64_t seed, random;
    bool loud;
    unsigned faults;
    pil_sched *s;
    pil_sched_options opt;
    uint32_t n_slots;
    uint64_t now, told_ms, skipped, pause_ms, outside_ms, jump_ms, give_up_ms, broken_until, spawn_bad_until;
    bool just_jumped, gave_up;
    fake workers[SLOTS_MAX];
    client_job jobs[JOBS_MAX];
    size_t n_jobs;
    uint8_t poison[CONTENTS];  /* 1 crashes, 2 hangs */
    uint8_t hits[CONTENTS];    /* charged deaths under it */
    uint8_t company_hits[CONTENTS];
    uint8_t nans[CONTENTS], refusals[CONTENTS];
    uint32_t deaths, company, lies, early, counted, failed_said;
    uint64_t counted_ms[256];
    uint64_t steps;
} sim;

/* What all schedules together have met: a test that never sees a fault proves nothing. */
static struct totals {
    uint64_t schedules, steps, deaths, jobs, texts, cancelled, refused, full, ends[3], statuses[32];
    pil_sched_load load;
} total;

static char contents[CONTENTS][CONTENT_BYTES];
static uint8_t content_bytes[CONTENTS];

/* ── Chance, and what to say ────────────────────────────────────────────────────────────────────────────────── */

static uint64_t next_random(sim *m) {
    uint64_t z = m->random += 0x9E3779B97F4A7C15u;
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9u;
    z = (z ^ z >> 27) * 0x94D049BB133111EBu;
    return z ^ z >> 31;
}
static uint64_t below(sim *m, uint64_t n) { return next_random(m) % n; }
static uint64_t between(sim *m, uint64_t a, uint64_t b) { return a + below(m, b - a + 1); }
static uint64_t min_of(uint64_t a, uint64_t b) { return a < b ? a : b; }
static bool chance(sim *m, unsigned percent) { return below(m, 100) < percent; }
static bool has(const sim *m, unsigned fault) { return (m->faults & fault) != 0; }

__attribute__((format(printf, 2, 3))) static void tell(const sim *m, const char *fmt, ...) {
    if (!m->loud) return;
    va_list args;
    va_start(args, fmt);
    printf("%8" PRIu64 "  ", m->now);
    vprintf(fmt, args);
    printf("\n");
    va_end(args);
}

#define CHECK(m, cond, ...)                                                                                       \
    do {                                                                                                          \
        if (!(cond)) {                                                                                            \
            printf("seed %" PRIu64 ", at %" PRIu64 " ms, faults %x: %s: ", (m)->seed, (m)->now, (m)->faults, #cond); \
            printf(__VA_ARGS__);                                                                                  \
            printf("\n");                                                                                         \
            fflush(stdout);                                                                                       \
            fail_msg("replay it with: test_schedules 1 %" PRIu64, (m)->seed);                                     \
        }                                                                                                         \
    } while (0)

/* ── Workers ────────────────────────────────────────────────────────────────────────────────────────────────── */

/* What becomes of the oldest batch is decided when the worker comes to it. */
static void begin_batch(sim *m, fake *w) {
    const sent *b = &w->out[0];
    uint64_t ms = between(m, 1, BATCH_MS_MAX);
    w->plan = PLAN_ANSWER;
    if (has(m, FAULT_SLOW) && chance(m, 5)) ms = between(m, 1000, 6000);
    w->slow = ms > BATCH_MS_MAX;
    if (has(m, FAULT_CRASH) && chance(m, 4)) w->plan = PLAN_CRASH;
    if (has(m, FAULT_HANG) && chance(m, 3)) w->plan = PLAN_HANG;
    if (has(m, FAULT_LIE) && chance(m, 4)) w->plan = PLAN_LIE;
    if (has(m, FAULT_EXIT) && chance(m, 3)) w->plan = PLAN_EXIT;
    if (has(m, FAULT_REFUSE) && chance(m, 6)) w->plan = PLAN_REFUSE;
    if (has(m, FAULT_NAN) && chance(m, 8)) w->plan = PLAN_NAN;
    for (size_t i = 0; i < b->n && !b->canary; i++)
        if (m->poison[b->contents[i]]) w->plan = m->poison[b->contents[i]] == 1 ? PLAN_CRASH : PLAN_HANG;
    w->at_ms = w->plan == PLAN_HANG ? NEVER : m->now + ms;
}

/* A batch of texts left its worker. */
static void note_out(sim *m, const sent *b, bool is_answered) {
    for (size_t i = 0; i < b->n && !b->canary; i++) {
        client_job *c = &m->jobs[b->jobs[i]];
        c->n_out--;
        c->passed_ms = is_answered ? 0 : c->passed_ms;
        c->progress_ms = is_answered ? m->now - m->skipped : c->progress_ms;
    }
}

/* Whether its counter has moved whenever it is looked at. */
static bool gets_on(const fake *w) {
    return w->state == W_UP && w->n_out && !w->paused && w->plan != PLAN_HANG && !w->told_lie;
}

static void end_worker(sim *m, fake *w, pil_end how, uint64_t delay) {
    w->state = W_DYING;
    w->end = how;
    w->at_ms = m->now + delay;
}

/* Bookkeeping of a death, before the scheduler hears of it. */
static void note_death(sim *m, uint32_t slot) {
    fake *w = &m->workers[slot];
    const sent *b = w->n_out ? &w->out[0] : NULL;
    bool real = b && !b->canary;
    bool charged = real && !w->retiring && !w->told_lie && !w->canary_failed &&
                   (w->end == PIL_END_CRASH || w->end == PIL_END_OOM);
    if (w->retiring) return;
    m->deaths++;
    if (charged) {
        m->company += b->n > 1;
        for (size_t i = 0; i < b->n; i++)
            if (m->hits[b->contents[i]] < 255) m->hits[b->contents[i]]++;
        for (size_t i = 0; i < b->n && b->n > 1; i++)
            if (m->company_hits[b->contents[i]] < 255) m->company_hits[b->contents[i]]++;
    }
    m->lies += w->told_lie || w->end == PIL_END_EXIT;
    bool outside = w->end == PIL_END_STOPPED || (w->end == PIL_END_OUTSIDE && !w->killed);
    w->counted = !w->answered && !charged && !outside;
    w->died_ms = m->now;
    m->early += !charged && !outside; /* its last answer may not have been believed */
    if (w->counted) m->counted_ms[m->counted++ % 256] = m->now - m->skipped;
    /* The budget: five open the breaker; those on their way then may die as well; then one each 10 s. A breaker that
     * closes because its probe has answered a batch lets all slots start once more. */
    uint32_t most = 5 + 3 + 4 * m->n_slots;
    if (m->counted > most && m->counted < 256)
        CHECK(m, m->counted_ms[m->counted - 1] - m->counted_ms[m->counted - 1 - most] >= 30000,
              "%u workers died within 30 s before they had answered", most + 1);
}

static void report_end(sim *m, uint32_t slot) {
    fake *w = &m->workers[slot];
    note_death(m, slot);
    tell(m, "worker %u ended (%d)%s", slot, (int)w->end, w->killed ? " by our kill" : "");
    while (w->n_out > 0) note_out(m, &w->out[--w->n_out], false);
    w->state = W_NONE;
    w->at_ms = NEVER;
    pil_sched_ended(m->s, slot, w->end, "it died");
}

static void pop_batch(sim *m, fake *w, bool is_answered) {
    note_out(m, &w->out[0], is_answered && !w->told_lie && !w->canary_failed);
    w->n_out--;
    memmove(&w->out[0], &w->out[1], w->n_out * sizeof w->out[0]);
    w->at_ms = NEVER;
    if (w->n_out && w->state == W_UP) begin_batch(m, w);
}

static void answer_batch(sim *m, uint32_t slot, bool with_nan) {
    fake *w = &m->workers[slot];
    sent b = w->out[0];
    tell(m, "worker %u answers batch %" PRIu64 "%s", slot, b.id, b.canary ? " (canary)" : "");
    const pil_batch *oldest = pil_sched_oldest(m->s, slot);
    CHECK(m, oldest && oldest->id == b.id && oldest->n == b.n, "the oldest batch is another");
    pil_answer *a = pil_answer_create(64);
    a->memory = malloc(b.n * (sizeof(pillion_item) + sizeof(float)));
    assert_true(a && a->memory);
    a->items = a->memory;
    a->n = b.n;
    float *values = (float *)(a->items + b.n);
    size_t bad = with_nan ? below(m, b.n) : b.n;
    for (size_t i = 0; i < b.n; i++) {
        values[i] = b.canary ? (w->wrong ? -2.0f : -1.0f) : (float)b.contents[i];
        a->items[i] = (pillion_item){.n_tokens = 3, .values = &values[i], .n_values = 1};
        if (i != bad) continue;
        a->items[i] = (pillion_item){.status = PILLION_E_NUMERIC};
        if (!b.canary && m->nans[b.contents[i]] < 255) m->nans[b.contents[i]]++;
    }
    if (!b.canary) w->answered |= !w->canary_failed;
    pop_batch(m, w, !with_nan);
    pil_sched_answered(m->s, slot, a);
    pil_answer_release(a);
}

static void refuse_batch(sim *m, uint32_t slot, pillion_status st) {
    fake *w = &m->workers[slot];
    const sent b = w->out[0];
    tell(m, "worker %u refuses batch %" PRIu64 " with %d", slot, b.id, st);
    for (size_t i = 0; i < b.n && !b.canary && st != PILLION_E_CANCELLED; i++)
        if (m->refusals[b.contents[i]] < 255) m->refusals[b.contents[i]]++;
    if (!b.canary && st != PILLION_E_CANCELLED) w->answered = true;
    pop_batch(m, w, false);
    pil_sched_refused(m->s, slot, st);
}

static void lie(sim *m, uint32_t slot) {
    fake *w = &m->workers[slot];
    tell(m, "worker %u breaks the format", slot);
    w->told_lie = true;
    w->at_ms = NEVER;
    pil_sched_lied(m->s, slot, "rubbish");
}

static void work_event(sim *m, uint32_t slot) {
    fake *w = &m->workers[slot];
    static const pillion_status refusals[] = {PILLION_E_NOMEM, PILLION_E_INTERNAL, PILLION_E_LIMIT, PILLION_E_ARG};
    if (w->cancel) { /* set for an older batch perhaps: the race of the real thing */
        w->cancel = false;
        if (w->out[0].abandoned || chance(m, 50)) {
            refuse_batch(m, slot, PILLION_E_CANCELLED);
            return;
        }
    }
    switch (w->plan) {
    case PLAN_ANSWER: answer_batch(m, slot, false); break;
    case PLAN_NAN: answer_batch(m, slot, true); break;
    case PLAN_CRASH: end_worker(m, w, chance(m, 80) ? PIL_END_CRASH : PIL_END_OOM, below(m, 5)); break;
    case PLAN_EXIT: end_worker(m, w, PIL_END_EXIT, below(m, 5)); break;
    case PLAN_LIE: lie(m, slot); break;
    case PLAN_REFUSE: refuse_batch(m, slot, refusals[below(m, 4)]); break;
    case PLAN_HANG: w->at_ms = NEVER; break;
    }
}

static void start_event(sim *m, uint32_t slot) {
    fake *w = &m->workers[slot];
    if (w->start == 1) {
        end_worker(m, w, chance(m, 70) ? PIL_END_CRASH : PIL_END_EXIT, 0);
    } else if (w->start == 3) {
        tell(m, "worker %u says FAILED", slot);
        m->failed_said++;
        end_worker(m, w, PIL_END_CRASH, between(m, 1, 20));
        pil_sched_failed(m->s, slot, chance(m, 50) ? PILLION_E_FORMAT : PILLION_E_NOMEM, "cannot serve");
    } else {
        tell(m, "worker %u is ready", slot);
        w->state = W_UP;
        w->at_ms = NEVER;
        w->proven = true; /* a wrong one as well, if it is the first of all */
        pil_sched_ready(m->s, slot, &(float){w->wrong ? -2.0f : -1.0f}, 1);
    }
}

static void worker_event(sim *m, uint32_t slot) {
    fake *w = &m->workers[slot];
    switch (w->state) {
    case W_NONE: w->at_ms = NEVER; break;
    case W_STARTING: start_event(m, slot); break;
    case W_UP: work_event(m, slot); break;
    case W_DYING: report_end(m, slot); break;
    }
}

/* When a worker does something next. One that is paused does nothing but die. */
static uint64_t worker_due(const fake *w) {
    if (!w->paused || w->state == W_DYING || w->at_ms == NEVER) return w->at_ms;
    return w->paused_until == NEVER || w->paused_until > w->at_ms ? w->paused_until : w->at_ms;
}

/* ── What the dispatcher asks for ───────────────────────────────────────────────────────────────────────────── */

static void do_spawn(sim *m, uint32_t slot) {
    fake *w = &m->workers[slot];
    CHECK(m, w->state == W_NONE, "a second process in slot %u", slot);
    CHECK(m, !w->counted || m->now - m->skipped + 1 >= w->died_ms + 75 - m->skipped || m->skipped > 0,
          "slot %u was filled again without a pause", slot);
    bool bad = has(m, FAULT_SPAWN) && (m->now < m->spawn_bad_until || chance(m, 5));
    bool broken = m->now < m->broken_until;
    *w = (fake){.state = W_STARTING, .spawned_ms = m->now, .at_ms = m->now + between(m, 5, 60)};
    if (bad) {
        w->end = PIL_END_EXIT;
        note_death(m, slot);
        w->state = W_NONE;
        w->at_ms = NEVER;
        pil_sched_spawn_failed(m->s, slot, "no process");
        return;
    }
    if (has(m, FAULT_START) && chance(m, 15)) w->start = (int)between(m, 1, 3);
    if (broken) w->start = 1;
    if (w->start == 2) w->at_ms = NEVER;
    w->own_bytes = 1000;
    w->wrong = has(m, FAULT_CANARY) && chance(m, 8);
}

static void do_send(sim *m, const pil_action *a) {
    fake *w = &m->workers[a->slot];
    const pil_batch *b = a->batch;
    CHECK(m, w->state == W_UP || w->state == W_DYING, "a batch for a worker that is not ready");
    CHECK(m, w->n_out < m->opt.depth && b->n >= 1 && b->n < BATCH_MAX, "%zu batches, %zu texts", w->n_out, b->n);
    CHECK(m, b->n == 1 || b->tokens <= m->opt.batch_tokens, "%u tokens in a batch", b->tokens);
    sent *out = &w->out[w->n_out];
    *out = (sent){.id = b->id, .n = b->n};
    for (size_t i = 0; i < b->n; i++) {
        const pillion_input *in = pil_batch_input(b, i);
        size_t at = (size_t)(in->text - contents[0]);
        out->canary = at >= sizeof contents;
        out->contents[i] = out->canary ? 0 : (uint8_t)(at / CONTENT_BYTES);
        if (out->canary) continue;
        out->jobs[i] = (uint8_t)(((uintptr_t)in - (uintptr_t)m->jobs) / sizeof m->jobs[0]);
        m->jobs[out->jobs[i]].n_out++;
    }
    tell(m, "batch %" PRIu64 " of %zu texts to worker %u%s", b->id, b->n, a->slot, out->canary ? " (canary)" : "");
    CHECK(m, w->proven, "work for worker %u, which has not proven itself", a->slot);
    w->n_out++;
    if (w->n_out == 1 && w->state == W_UP) begin_batch(m, w);
}

static void do_kill(sim *m, const pil_action *a) {
    fake *w = &m->workers[a->slot];
    CHECK(m, w->state != W_NONE, "kill of nobody");
    bool for_time = strcmp(a->why, "no progress") == 0 || strcmp(a->why, "not ready in time") == 0;
    CHECK(m, !m->just_jumped || !for_time, "worker %u killed (%s) because everything stood still", a->slot, a->why);
    tell(m, "worker %u killed: %s", a->slot, a->why);
    w->retiring |= strcmp(a->why, "stopping") == 0;
    CHECK(m, strcmp(a->why, "no progress") != 0 || !gets_on(w), "worker %u killed although it gets on", a->slot);
    bool finishes = gets_on(w) && w->plan == PLAN_ANSWER && chance(m, 25);
    w->killed = true;
    w->canary_failed = strcmp(a->why, "canary failed") == 0;
    if (finishes) answer_batch(m, a->slot, false);
    if (w->state != W_DYING) end_worker(m, w, PIL_END_OUTSIDE, below(m, 20));
    if (for_time && !finishes) w->end = w->paused ? PIL_END_STOPPED : PIL_END_CRASH;
}

static void act(sim *m, const pil_action *a) {
    fake *w = &m->workers[a->slot];
    CHECK(m, a->slot < m->n_slots, "slot %u", a->slot);
    switch (a->kind) {
    case PIL_ACTION_NONE: CHECK(m, false, "an action that is none"); break;
    case PIL_ACTION_SPAWN:
        tell(m, "spawn %u", a->slot);
        do_spawn(m, a->slot);
        break;
    case PIL_ACTION_SEND: do_send(m, a); break;
    case PIL_ACTION_ABANDON:
        tell(m, "abandon batch %" PRIu64 " of worker %u", a->batch->id, a->slot);
        CHECK(m, w->n_out && (w->out[0].id == a->batch->id), "abandoned what is not at work");
        w->out[0].abandoned = true;
        w->cancel = true;
        if (w->state == W_UP && w->plan != PLAN_HANG && w->at_ms > m->now + 10 && !w->paused)
            w->at_ms = m->now + below(m, 10);
        break;
    case PIL_ACTION_RETIRE:
        tell(m, "retire worker %u: %s", a->slot, a->why);
        CHECK(m, w->n_out == 0, "retired at work");
        w->retiring = true;
        if (w->state == W_UP && !w->paused && !chance(m, 5)) end_worker(m, w, PIL_END_EXIT, below(m, 30));
        break;
    case PIL_ACTION_KILL: do_kill(m, a); break;
    }
}

/* ── Clients ────────────────────────────────────────────────────────────────────────────────────────────────── */

/* Whether a job may be refused for a full queue. What waits of each client is at most what it has running; of the two
 * others only the one that has less counts. */
static bool is_full(const sim *m, const client_job *c, const pil_sched_load *load) {
    uint64_t bytes_max = c->is_short ? m->opt.queue_bytes_max / 8 : m->opt.queue_bytes_max;
    if (load->tokens_waiting >= m->opt.queue_tokens_max || load->bytes >= bytes_max) return true;
    uint64_t most = load->tokens_per_s * m->opt.queue_ms / 1000, least = (uint64_t)8 * m->n_slots * m->opt.batch_tokens;
    uint64_t running[CLIENTS] = {0};
    for (size_t i = 0; i < m->n_jobs; i++)
        if (m->jobs[i].state == 1 && m->jobs[i].is_short == c->is_short)
            running[(m->jobs[i].client - c->client + CLIENTS) % CLIENTS] += m->jobs[i].tokens;
    uint64_t pace = running[0] + c->tokens + m->opt.batch_tokens, other = min_of(min_of(running[1], running[2]), pace);
    uint64_t waiting = min_of(load->tokens_waiting, running[0] + other);
    return load->tokens_per_s > 0 && waiting >= most && waiting >= least;
}

static void submit(sim *m, client_job *c) {
    pillion_error err = {0};
    pil_sched_load load;
    pil_sched_measure(m->s, &load);
    bool full = is_full(m, c, &load);
    c->state = 1;
    c->submitted_ms = c->progress_ms = m->now - m->skipped;
    pillion_status st =
        pil_sched_submit(m->s, &c->job, c->client, PILLION_OP_EMBED, &c->options, c->inputs, c->n, c, &err);
    tell(m, "job %td of %zu texts: %d", c - m->jobs, c->n, st);
    bool above = load.tokens_waiting >= m->opt.queue_tokens_max || load.bytes >= m->opt.queue_bytes_max;
    CHECK(m, st || !above || m->opt.express, "%" PRIu64 " tokens, %" PRIu64 " bytes, and more is taken",
          load.tokens_waiting, load.bytes);
    if (!st) return;
    c->state = 2;
    total.refused++;
    total.full += st == PILLION_E_LIMIT;
    bool justified = st == PILLION_E_LIMIT && full;
    if (st == PILLION_E_UNAVAILABLE) justified = m->early >= 5 || m->failed_said || m->gave_up;
    CHECK(m, justified && err.text[0], "refused with %d: %s", st, err.text);
}

/* How long the others may have workers in good order before a job. Each of their texts is answered once, and so is each
 * canary; nobody counts the time in which everything stood still. */
static uint64_t patience_ms(const sim *m, const client_job *c) {
    uint64_t batches = m->n_slots * (m->opt.deadline_ms / m->opt.canary_ms + 2);
    for (size_t i = 0; i < m->n_jobs; i++) batches += &m->jobs[i] == c ? 0 : m->jobs[i].n;
    return batches * BATCH_MS_MAX + 1000;
}

static void check_item(sim *m, const client_job *c, size_t i, uint64_t age) {
    const pillion_item *it = pil_job_item(c->job, i);
    uint8_t what = c->contents[i];
    bool quiet = !has(m, FAULT_CRASH | FAULT_HANG);
    switch ((int)it->status) {
    case PILLION_OK:
        CHECK(m, it->n_values == 1 && it->values[0] == (float)what, "text %zu has another's vector", i);
        break;
    case PILLION_E_POISON:
        CHECK(m, m->hits[what] >= 2, "text %zu (%u) convicted after %u deaths", i, what, m->hits[what]);
        CHECK(m, m->poison[what] || !quiet, "an innocent text convicted");
        break;
    case PILLION_E_DEADLINE:
        CHECK(m, age >= m->opt.total_ms || m->now - m->skipped - c->progress_ms >= m->opt.deadline_ms,
              "deadline after %" PRIu64 " ms, the last answer at %" PRIu64, age, c->progress_ms);
        CHECK(m, has(m, FAULT_NAN) || c->passed_ms <= patience_ms(m, c),
              "too late, and for %" PRIu64 " ms a worker was there that others had", c->passed_ms);
        break;
    case PILLION_E_LOST:
        CHECK(m, m->deaths > 16 || m->lies >= 3, "lost after %u deaths, %u lies", m->deaths, m->lies);
        break;
    case PILLION_E_NUMERIC:
        CHECK(m, m->nans[what] >= 2, "numeric after %u times", m->nans[what]);
        break;
    case PILLION_E_UNAVAILABLE:
        CHECK(m, pil_job_ended(c->job) != PIL_JOB_ANSWERED, "no worker, and yet answered");
        break;
    default: CHECK(m, m->refusals[what] > 0, "text %zu has status %d", i, it->status); break;
    }
}

static size_t take_finished(sim *m) {
    size_t n = 0;
    for (pil_job *j; (j = pil_sched_finished(m->s)); pil_job_destroy(j), n++) {
        client_job *c = pil_job_ud(j);
        uint64_t age = m->now - m->skipped - c->submitted_ms;
        CHECK(m, c->state == 1 && c->job == j && pil_job_count(j) == c->n, "a job finished twice, or after its cancel");
        c->state = 2;
        tell(m, "job %td finished (%d)", c - m->jobs, (int)pil_job_ended(j));
        CHECK(m, age <= m->opt.total_ms + 1, "a job of %" PRIu64 " ms", age);
        if (pil_job_ended(j) == PIL_JOB_EXPIRED) CHECK(m, age >= m->opt.hold_ms, "expired after %" PRIu64 " ms", age);
        if (pil_job_ended(j) == PIL_JOB_UNAVAILABLE)
            CHECK(m, m->early >= 5 || m->failed_said || m->gave_up, "unavailable after %u deaths", m->early);
        for (size_t i = 0; i < c->n; i++) check_item(m, c, i, age);
        for (size_t i = 0; i < c->n; i++) total.statuses[-pil_job_item(j, i)->status]++;
        total.ends[pil_job_ended(j)]++;
        total.jobs++;
        total.texts += c->n;
    }
    return n;
}

/* ── Things that happen from outside ────────────────────────────────────────────────────────────────────────── */

static void kill_somebody(sim *m) {
    m->outside_ms = m->now + between(m, 1, chance(m, 20) ? 20 : 600);
    fake *w = &m->workers[below(m, m->n_slots)];
    if (w->state != W_STARTING && w->state != W_UP) return;
    tell(m, "worker %td killed from outside", w - m->workers);
    end_worker(m, w, PIL_END_OUTSIDE, below(m, 3));
}

/* Swizzle-clog: pause one more, or release one. */
static void pause_or_release(sim *m) {
    m->pause_ms = m->now + between(m, 10, m->opt.stall_ms / 2);
    fake *w = &m->workers[below(m, m->n_slots)];
    if (w->state == W_NONE || w->state == W_DYING) return;
    w->paused = !w->paused;
    w->paused_until = w->paused ? (chance(m, 30) ? NEVER : m->now + between(m, 10, m->opt.stall_ms * 2)) : 0;
    tell(m, "worker %td %s", w - m->workers, w->paused ? "paused" : "released");
    if (!w->paused && w->at_ms != NEVER && w->at_ms < m->now) w->at_ms = m->now;
}

/* The whole tree stands still while there is work: nothing happens to anybody, and nobody may be blamed. */
static void jump(sim *m) {
    bool work = false;
    for (size_t i = 0; i < m->n_jobs; i++) work |= m->jobs[i].state == 1;
    if (!work) {
        m->jump_ms = m->now + 20;
        return;
    }
    uint64_t ms = chance(m, 50) ? between(m, 2001, 20000) : between(m, 60000, 3600000);
    m->jump_ms = NEVER;
    uint64_t *at[] = {&m->pause_ms, &m->outside_ms, &m->give_up_ms, &m->broken_until, &m->spawn_bad_until};
    for (size_t i = 0; i < sizeof at / sizeof *at; i++)
        if (*at[i] != NEVER) *at[i] += ms;
    for (uint32_t i = 0; i < m->n_slots; i++) {
        if (m->workers[i].at_ms != NEVER) m->workers[i].at_ms += ms;
        if (m->workers[i].paused_until != NEVER) m->workers[i].paused_until += ms;
    }
    for (size_t i = 0; i < m->n_jobs; i++) {
        m->jobs[i].submit_ms += m->jobs[i].state == 0 ? ms : 0;
        if (m->jobs[i].cancel_ms != NEVER) m->jobs[i].cancel_ms += ms;
    }
    tell(m, "everything stands still for %" PRIu64 " ms", ms);
    m->skipped += m->now - m->told_ms + ms; /* and what passed since it was last told the time */
    m->now += ms;
    m->just_jumped = true;
}

static void report_progress(sim *m) {
    for (uint32_t i = 0; i < m->n_slots; i++) {
        fake *w = &m->workers[i];
        if (w->state != W_UP && w->state != W_STARTING) continue;
        if (w->paused && w->paused_until <= m->now) w->paused = false;
        bool moves = gets_on(w);
        w->counter += moves && !m->just_jumped;
        if (has(m, FAULT_MEMORY) && moves && chance(m, 20)) w->own_bytes += 200;
        pil_sched_progress(m->s, i, w->counter, w->own_bytes);
    }
}

/* ── One schedule ───────────────────────────────────────────────────────────────────────────────────────────── */

static unsigned choose_faults(sim *m) {
    static const unsigned alone[] = {0, FAULT_POISON, FAULT_POISON | FAULT_CANCEL, FAULT_OUTSIDE, FAULT_LIE, FAULT_NAN};
    if (chance(m, 40)) return alone[below(m, sizeof alone / sizeof *alone)];
    unsigned all = (1u << FAULT_COUNT) - 1, faults = (unsigned)next_random(m) & all;
    if (chance(m, 60)) faults &= (unsigned)next_random(m);
    if (chance(m, 80)) faults &= ~(unsigned)(FAULT_BROKEN | FAULT_GIVE_UP);
    return faults;
}

static void make_options(sim *m) {
    pil_sched_options_init(&m->opt, (uint32_t)between(m, 1, SLOTS_MAX - 1));
    m->opt.express = chance(m, 50);
    m->opt.depth = (uint32_t)between(m, 1, DEPTH_MAX);
    m->opt.batch_tokens = (uint32_t)between(m, 20, 128);
    m->opt.express_tokens = (uint32_t)between(m, 10, 60);
    if (chance(m, 10)) m->opt.queue_tokens_max = between(m, 50, 500);
    if (chance(m, 5)) m->opt.queue_bytes_max = between(m, 100, 2000);
    if (chance(m, 20)) m->opt.queue_ms = between(m, 10, 500);
    m->opt.hold_ms = 6000;
    m->opt.deadline_ms = 8000;
    m->opt.total_ms = 20000;
    m->opt.stall_ms = between(m, 1000, 3000);
    m->opt.start_ms = 3000;
    m->opt.start_apart_ms = chance(m, 50) ? below(m, 2000) : 0;
    m->opt.canary_ms = between(m, 500, 5000);
    m->opt.retire_ms = 500;
    m->opt.quarantine_ms = 5000;
    m->opt.quarantine_max = (uint32_t)between(m, 1, 8);
    m->opt.memory_soft_bytes = 2000;
    m->opt.seed = next_random(m);
    m->n_slots = m->opt.workers + m->opt.express;
}

static void make_jobs(sim *m) {
    m->n_jobs = between(m, 1, chance(m, 20) ? JOBS_MAX : 4);
    for (size_t k = 0; k < m->n_jobs; k++) {
        client_job *c = &m->jobs[k];
        c->client = below(m, CLIENTS);
        c->submit_ms = below(m, chance(m, 70) ? 300 : 4000);
        c->cancel_ms = has(m, FAULT_CANCEL) && chance(m, 40) ? c->submit_ms + below(m, 400) : NEVER;
        c->n = between(m, 1, chance(m, 30) ? TEXTS_MAX : 10);
        c->state = 0;
        c->tokens = c->passed_ms = c->n_out = 0;
        pillion_run_options_init(&c->options);
        if (chance(m, 10)) c->options.normalize = PILLION_NORMALIZE_MODEL;
        for (size_t i = 0; i < c->n; i++) {
            uint8_t what = c->contents[i] = (uint8_t)below(m, CONTENTS);
            c->inputs[i] = (pillion_input){.text = contents[what], .text_bytes = content_bytes[what]};
            c->tokens += 2 + content_bytes[what] / 3;
        }
        c->is_short = m->opt.express && c->tokens <= m->opt.express_tokens;
    }
}

static void make(sim *m, uint64_t seed, bool loud) {
    size_t kept = offsetof(sim, jobs); /* jobs are overwritten where they are used */
    memset(m, 0, kept);
    memset(&m->n_jobs, 0, sizeof *m - offsetof(sim, n_jobs));
    m->seed = m->random = seed;
    m->loud = loud;
    next_random(m);
    m->faults = choose_faults(m);
    make_options(m);
    make_jobs(m);
    for (int i = 0; has(m, FAULT_POISON) && i < (int)between(m, 1, 6); i++)
        m->poison[m->jobs[below(m, m->n_jobs)].contents[0]] = chance(m, 80) ? 1 : 2;
    for (int i = 0; has(m, FAULT_POISON) && i < (int)below(m, 4); i++) m->poison[below(m, CONTENTS)] = 1;
    for (uint32_t i = 0; i < SLOTS_MAX; i++) m->workers[i].at_ms = NEVER;
    m->outside_ms = has(m, FAULT_OUTSIDE) ? below(m, 300) : NEVER;
    m->pause_ms = has(m, FAULT_SWIZZLE) ? below(m, 300) : NEVER;
    m->jump_ms = has(m, FAULT_JUMP) ? below(m, 1000) : NEVER;
    m->give_up_ms = has(m, FAULT_GIVE_UP) ? below(m, 1000) : NEVER;
    m->broken_until = has(m, FAULT_BROKEN) ? below(m, 30000) : 0;
    m->spawn_bad_until = has(m, FAULT_SPAWN) ? below(m, 4000) : 0;
    m->now = 1;
}

static bool is_over(const sim *m) {
    for (size_t i = 0; i < m->n_jobs; i++)
        if (m->jobs[i].state != 2) return false;
    return true;
}

static uint64_t next_ms(sim *m) {
    uint64_t next = pil_sched_next_ms(m->s);
    CHECK(m, next > m->now, "it wants to be woken at %" PRIu64 ", again and again", next);
    next = min_of(next, min_of(min_of(m->outside_ms, m->pause_ms), min_of(m->jump_ms, m->give_up_ms)));
    for (uint32_t i = 0; i < m->n_slots; i++) next = min_of(next, worker_due(&m->workers[i]));
    for (size_t i = 0; i < m->n_jobs; i++) {
        if (m->jobs[i].state == 0) next = min_of(next, m->jobs[i].submit_ms);
        if (m->jobs[i].state == 1) next = min_of(next, m->jobs[i].cancel_ms);
    }
    return next < m->now ? m->now : next;
}

static void drain_actions(sim *m) {
    pil_action a;
    for (int i = 0; pil_sched_next_action(m->s, &a); i++) {
        CHECK(m, i < 1000, "actions without end");
        act(m, &a);
    }
}

static void stop_sending_faults(sim *m) { m->outside_ms = m->pause_ms = m->jump_ms = m->give_up_ms = NEVER; }

/* Whether a worker may be given work, as far as it and we know. */
static bool is_at_hand(const fake *w) {
    return w->state == W_UP && w->proven && !w->killed && !w->retiring && !w->told_lie;
}

/* No worker is idle while texts wait that may not be those that avoid it; what does not wait is with a worker. */
static void check_nobody_is_forgotten(sim *m) {
    pil_sched_load load;
    pil_sched_measure(m->s, &load);
    bool is_all_short = true;
    for (const client_job *c = m->jobs; c < m->jobs + m->n_jobs; c++) {
        if (c->state != 1) continue;
        is_all_short &= c->is_short;
        CHECK(m, c->n_out > 0 || load.texts_waiting > 0, "job %td does not wait, and nobody has it", c - m->jobs);
    }
    for (uint32_t i = 0; i < m->n_slots && load.texts_waiting > load.numeric_retries; i++) {
        bool may_rest = i == m->opt.workers && !is_all_short;
        CHECK(m, may_rest || m->workers[i].n_out > 0 || !is_at_hand(&m->workers[i]),
              "worker %u rests while %zu texts wait", i, load.texts_waiting);
    }
}

/* Time passes in which workers in good order do something for others than those that have waited. */
static void note_waiting(sim *m, uint64_t ms) {
    bool has_worker = false;
    for (uint32_t i = 0; i < m->opt.workers; i++) {
        const fake *w = &m->workers[i];
        has_worker |= is_at_hand(w) && !w->paused && (w->n_out == 0 || (w->plan == PLAN_ANSWER && !w->slow));
    }
    for (size_t i = 0; i < m->n_jobs && has_worker; i++)
        if (m->jobs[i].state == 1 && m->jobs[i].n_out == 0) m->jobs[i].passed_ms += ms;
}

static void step(sim *m) {
    uint64_t next = next_ms(m);
    note_waiting(m, next - m->now);
    m->now = next;
    m->just_jumped = false;
    if (m->now >= m->jump_ms) jump(m);
    report_progress(m);
    pil_sched_advance(m->s, m->now);
    m->told_ms = m->now;
    take_finished(m);
    drain_actions(m);
    m->just_jumped = false;
    for (uint32_t i = 0; i < m->n_slots; i++)
        if (worker_due(&m->workers[i]) <= m->now) {
            m->workers[i].paused = false;
            worker_event(m, i);
        }
    if (m->now >= m->outside_ms) kill_somebody(m);
    if (m->now >= m->pause_ms) pause_or_release(m);
    if (m->now >= m->give_up_ms) {
        m->give_up_ms = NEVER;
        m->gave_up = true;
        pil_sched_give_up(m->s, "there will be no worker");
    }
    for (size_t i = 0; i < m->n_jobs; i++) {
        client_job *c = &m->jobs[i];
        if (c->state == 0 && m->now >= c->submit_ms) submit(m, c);
        if (c->state == 1 && m->now >= c->cancel_ms) {
            tell(m, "job %zu cancelled", i);
            c->state = 2;
            total.cancelled++;
            pil_sched_cancel(m->s, c->job);
        }
    }
    do drain_actions(m); /* which may also finish a job: its last text is known to kill */
    while (take_finished(m) > 0);
    check_nobody_is_forgotten(m);
}

static void check_empty(sim *m) {
    pil_sched_load load;
    pil_sched_measure(m->s, &load);
    CHECK(m, load.jobs == 0 && load.texts_waiting == 0 && load.tokens_waiting == 0 && load.bytes == 0,
          "%zu jobs, %zu texts, %" PRIu64 " tokens, %" PRIu64 " bytes are left", load.jobs, load.texts_waiting,
          load.tokens_waiting, load.bytes);
    CHECK(m, load.batches_out == 0 && load.workers_alive == 0 && load.workers_ready == 0,
          "%u batches, %u workers are left", load.batches_out, load.workers_alive);
    CHECK(m, load.deaths == m->deaths, "%" PRIu64 " deaths counted, %u happened", load.deaths, m->deaths);
    total.schedules++;
    total.steps += m->steps;
    total.deaths += m->deaths;
    total.load.kills += load.kills;
    total.load.retired += load.retired;
    total.load.retries += load.retries;
    total.load.texts_quarantined += load.texts_quarantined;
    total.load.numeric_retries += load.numeric_retries;
    total.load.canary_failures += load.canary_failures;
    total.load.batches_abandoned += load.batches_abandoned;
    total.load.breaker_opened += load.breaker_opened;
}

static void tell_totals(double seconds) {
    const struct totals *t = &total;
    printf("%" PRIu64 " schedules, %" PRIu64 " steps in %.1f s\n", t->schedules, t->steps, seconds);
    printf("jobs: %" PRIu64 " finished (%" PRIu64 " expired, %" PRIu64 " unavailable), %" PRIu64 " cancelled, %" PRIu64
           " refused (%" PRIu64 " by a full queue); texts: %" PRIu64 "\n", t->jobs, t->ends[PIL_JOB_EXPIRED],
           t->ends[PIL_JOB_UNAVAILABLE], t->cancelled, t->refused, t->full, t->texts);
    for (int i = 0; i < 32; i++)
        if (t->statuses[i]) printf("  %-55s %" PRIu64 "\n", pillion_status_text((pillion_status)-i), t->statuses[i]);
    printf("workers: %" PRIu64 " deaths, %" PRIu64 " kills, %" PRIu64 " retired, %" PRIu64
           " canary failures; breaker opened %" PRIu64 " times\n",
           t->deaths, t->load.kills, t->load.retired, t->load.canary_failures, t->load.breaker_opened);
    printf("texts retried %" PRIu64 ", for their numbers %" PRIu64 ", answered from quarantine %" PRIu64
           "; batches abandoned %" PRIu64 "\n", t->load.retries, t->load.numeric_retries, t->load.texts_quarantined,
           t->load.batches_abandoned);
}

/* B3 where poison is the only fault: 1 + k deaths for k poisons in a batch, 2 for a poison that was alone from the
 * beginning. A batch dies in company once, each of its poisons once more alone. */
static void check_poison(sim *m) {
    if (m->faults & ~(unsigned)FAULT_POISON) return;
    uint32_t k = 0, most = m->company;
    for (size_t j = 0; j < m->n_jobs; j++)
        for (size_t i = 0; i < m->jobs[j].n; i++) k += m->poison[m->jobs[j].contents[i]] != 0;
    for (size_t j = 0; j < m->n_jobs; j++)
        for (size_t i = 0; i < m->jobs[j].n; i++) {
            uint8_t what = m->jobs[j].contents[i];
            if (m->poison[what]) most += 2;
            if (m->poison[what] && m->company_hits[what]) {
                most--;
                m->company_hits[what]--;
            }
        }
    CHECK(m, m->deaths <= most, "%u deaths, %u of them in company, for %u poisons", m->deaths, m->company, k);
    if (k == 1) CHECK(m, m->deaths <= 2, "%u deaths for one poison", m->deaths);
}

static void run_schedule(sim *m, uint64_t seed, bool loud) {
    make(m, seed, loud);
    pillion_error err = {0};
    assert_ok(pil_sched_create(&m->s, &m->opt, &err), err);
    tell(m, "faults %x, %u workers%s, depth %u, batches of %u tokens", m->faults, m->opt.workers,
         m->opt.express ? " and an express one" : "", m->opt.depth, m->opt.batch_tokens);
    pil_sched_advance(m->s, m->now);
    pil_sched_start(m->s);
    drain_actions(m);
    while (!is_over(m)) {
        step(m);
        CHECK(m, ++m->steps < 20000, "it never ends");
    }
    check_poison(m);
    stop_sending_faults(m);
    pil_sched_give_up(m->s, "it is over");
    drain_actions(m);
    for (pil_sched_load load; pil_sched_measure(m->s, &load), load.workers_alive > 0; step(m))
        CHECK(m, ++m->steps < 21000, "it never ends");
    check_empty(m);
    pil_sched_destroy(m->s);
}

/* ── The test ───────────────────────────────────────────────────────────────────────────────────────────────── */

static uint64_t wanted, first_seed;
static bool has_seed;

static void every_schedule_keeps_every_promise(void **state) {
    (void)state;
    static sim m;
    for (size_t i = 0; i < CONTENTS; i++) {
        content_bytes[i] = (uint8_t)(3 + i * 7 % (CONTENT_BYTES - 3));
        memset(contents[i], 'a' + (int)(i % 26), CONTENT_BYTES);
        contents[i][0] = (char)i;
    }
    struct timespec begin, now;
    clock_gettime(CLOCK_MONOTONIC, &begin);
    now = begin;
    if (!has_seed) first_seed = ((uint64_t)begin.tv_sec * 1000000000u + (uint64_t)begin.tv_nsec) & 0xFFFFFFFFFF;
    printf("first seed %" PRIu64 "\n", first_seed);
    uint64_t most = wanted ? wanted : DEFAULT_SCHEDULES;
    for (uint64_t n = 0; n < most && (wanted || now.tv_sec - begin.tv_sec < DEFAULT_SECONDS); n++) {
        run_schedule(&m, first_seed + n, has_seed && wanted == 1);
        if (n % 64 == 0) clock_gettime(CLOCK_MONOTONIC, &now);
    }
    clock_gettime(CLOCK_MONOTONIC, &now);
    tell_totals((double)(now.tv_sec - begin.tv_sec) + (double)(now.tv_nsec - begin.tv_nsec) / 1e9);
}

int main(int argc, char **argv) {
    const char *count = argc > 1 ? argv[1] : getenv("PILLION_SCHEDULES");
    const char *seed = argc > 2 ? argv[2] : getenv("PILLION_SEED");
    if (count) wanted = strtoull(count, NULL, 10);
    if (seed) first_seed = strtoull(seed, NULL, 10);
    has_seed = seed != NULL;
    const struct CMUnitTest tests[] = {cmocka_unit_test(every_schedule_keeps_every_promise)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
