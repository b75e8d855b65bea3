/* fault.c - faults on demand inside a worker. Compiled into test builds only (cmake --preset faults).
 *
 * A text that contains the byte 1 and then  fault:[once:][after:]KIND[:NUMBER]  does this to the worker that gets it:
 *     segv abort bus fpe ill kill9     it dies of that signal
 *     stack                            it runs out of stack
 *     exit0 exit1                      it ends with that status
 *     hang stuck                       it computes for ever; it sleeps for ever
 *     slow:MS                          it takes so long, with progress every 20 ms
 *     alloc:MB leak:MB                 it uses so much memory until the answer; for ever
 *     nan inf zero                     the text's vector is not a number, infinite, all zero
 *     length                           the text's vector has one value too few
 *     lie                              the text's item has another tag than its text
 *     swap                             the tags of the first and the last item are exchanged
 *     short shortstuck twice badframe  half of the answer and then the end; half of it and then silence; the answer
 *                                      twice; bytes that are no frame
 *     drift                            from now on all vectors of this worker are wrong, though finite and of length 1
 * "once:" does it for the first worker that sees this very text, and for none after that; what was seen is kept in the
 * file named by PILLION_FAULT_STATE, and without it nothing happens. "after:" does it when the answer is computed and
 * not sent yet. The marker ends at the first byte that is no small letter, digit or colon. One marker in a text counts.
 *
 * PILLION_FAULT_START=[first:]KIND does it to each worker (only to the first: needs the file, too) when it starts:
 *     segv abort exit1 kill9 hang stuck slow:MS ...   as above, before the model is opened
 *     fail:STATUS                      it says that the model cannot be served, status -STATUS (fail: E_FORMAT)
 *     request:KIND                     as a text with that KIND, in the forward pass of its start, whose vector READY
 *                                      carries (without tags and counts of its own: lie, swap and length do nothing)
 *
 * PILLION_FAULT_TIMES=NAME=NUMBER,... for the server: its times in milliseconds, hold deadline total stall start canary
 * retire quarantine; soft=MIB caps the memory of a worker.
 *
 * Tests: tests/proc/test_markers.py. */
#include "proc/fault.h"

#include <fcntl.h>
#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "base/err.h"
#include "base/limits.h"

#define MARKER "\x01" "fault:"
#define SEEN_SLOTS ((size_t)131072)
#define SLOW_STEP_MS 20

/* ── Once ───────────────────────────────────────────────────────────────────────────────────────────────────── */

static uint64_t *map_seen(const char *path) {
    int fd = path ? open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600) : -1;
    if (fd < 0) return NULL;
    void *p = MAP_FAILED;
    if (ftruncate(fd, (off_t)(SEEN_SLOTS * sizeof(uint64_t))) == 0)
        p = mmap(NULL, SEEN_SLOTS * sizeof(uint64_t), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    close(fd);
    return p == MAP_FAILED ? NULL : p;
}

/* Whether nobody has asked this of these bytes before. The table is shared by all workers. */
static bool is_first(const pil_fault *f, const char *bytes, size_t n) {
    uint64_t key = 0xcbf29ce484222325u; /* FNV-1a */
    for (size_t i = 0; i < n; i++) key = (key ^ (unsigned char)bytes[i]) * 0x100000001b3u;
    key |= !key;
    for (size_t i = 0; f->seen && i < SEEN_SLOTS; i++) {
        uint64_t none = 0;
        if (__atomic_compare_exchange_n(&f->seen[(key + i) % SEEN_SLOTS], &none, key, false, __ATOMIC_SEQ_CST,
                                        __ATOMIC_SEQ_CST))
            return true;
        if (none == key) return false;
    }
    return false;
}

/* ── What a worker does to itself ───────────────────────────────────────────────────────────────────────────── */

static bool take(const char **at, const char *word) {
    size_t n = strlen(word);
    if (strncmp(*at, word, n) != 0) return false;
    *at += n;
    return true;
}

static bool is(const char *kind, const char *word) {
    size_t n = strlen(word);
    return strncmp(kind, word, n) == 0 && (kind[n] == '\0' || kind[n] == ':');
}

static unsigned long number_of(const char *kind) {
    const char *colon = strchr(kind, ':');
    return colon ? strtoul(colon + 1, NULL, 10) : 0;
}

static void sleep_ms(long ms) { nanosleep(&(struct timespec){ms / 1000, ms % 1000 * 1000000}, NULL); }

static void die_of(int signum) {
    signal(signum, SIG_DFL); /* sanitizers have handlers that would make an exit of it */
    raise(signum);
}

__attribute__((noinline)) static int overflow(const volatile char *above, uint64_t deeper) {
    volatile char page[4096];
    page[0] = (char)(above ? *above : 0);
    return deeper ? overflow(page, deeper - 1) + page[0] : 0;
}

static void *use_memory(size_t mib) {
    volatile char *p = malloc(mib * PIL_MIB + 1); /* else the compiler sees that nobody reads it */
    for (size_t i = 0; p && i < mib * PIL_MIB; i += 4096) p[i] = (char)i;
    return (void *)(uintptr_t)p;
}

/* True when the kind is one of those that happen to the process, and it has survived it. */
static bool act(pil_fault *f, const char *kind) {
    static const struct {
        const char *kind;
        int signum;
    } signals[] = {{"segv", SIGSEGV}, {"abort", SIGABRT}, {"bus", SIGBUS},
                   {"fpe", SIGFPE},   {"ill", SIGILL},    {"kill9", SIGKILL}};
    for (size_t i = 0; i < sizeof signals / sizeof *signals; i++)
        if (is(kind, signals[i].kind)) die_of(signals[i].signum);
    if (is(kind, "stack")) _exit(overflow(NULL, UINT64_MAX));
    if (is(kind, "exit0")) _exit(0);
    if (is(kind, "exit1")) _exit(1);
    if (is(kind, "hang"))
        for (volatile unsigned n = 0;;) n++;
    while (is(kind, "stuck")) sleep_ms(1000);
    if (is(kind, "slow")) {
        for (unsigned long ms = number_of(kind); ms > 0; ms -= ms < SLOW_STEP_MS ? ms : SLOW_STEP_MS) {
            pil_page_beat(f->page);
            sleep_ms(ms < SLOW_STEP_MS ? (long)ms : SLOW_STEP_MS);
        }
    } else if (is(kind, "alloc")) {
        free(f->held);
        f->held = use_memory(number_of(kind));
    } else if (is(kind, "leak")) {
        void *volatile leaked = use_memory(number_of(kind));
        (void)leaked;
    } else if (is(kind, "drift")) {
        f->drifted = true;
    } else {
        return false;
    }
    return true;
}

/* ── Start ──────────────────────────────────────────────────────────────────────────────────────────────────── */

bool pil_fault_is_variable(const char *assignment) { return strncmp(assignment, "PILLION_FAULT_", 14) == 0; }

pillion_status pil_fault_start(pil_fault *f, pil_page *page, pillion_error *err) {
    const char *kind = getenv("PILLION_FAULT_START");
    *f = (pil_fault){.page = page, .seen = map_seen(getenv("PILLION_FAULT_STATE"))};
    if (!kind) return PILLION_OK;
    if (take(&kind, "first:") && !is_first(f, "start", 5)) return PILLION_OK;
    if (take(&kind, "request:")) {
        f->start = kind;
        return PILLION_OK;
    }
    if (!is(kind, "fail")) {
        act(f, kind);
        return PILLION_OK;
    }
    int status = -(int)number_of(kind);
    return pil_err_set(err, status ? (pillion_status)status : PILLION_E_FORMAT, "a fault was asked for");
}

void pil_fault_times(pil_sched_options *o) {
    const struct {
        const char *name;
        uint64_t *to;
        uint64_t unit;
    } times[] = {{"hold=", &o->hold_ms, 1},
                 {"deadline=", &o->deadline_ms, 1},
                 {"total=", &o->total_ms, 1},
                 {"stall=", &o->stall_ms, 1},
                 {"start=", &o->start_ms, 1},
                 {"canary=", &o->canary_ms, 1},
                 {"retire=", &o->retire_ms, 1},
                 {"quarantine=", &o->quarantine_ms, 1},
                 {"soft=", &o->memory_soft_bytes, PIL_MIB}};
    for (const char *at = getenv("PILLION_FAULT_TIMES"); at && *at; at += strcspn(at, ","), at += *at == ',')
        for (size_t i = 0; i < sizeof times / sizeof *times; i++)
            if (strncmp(at, times[i].name, strlen(times[i].name)) == 0)
                *times[i].to = strtoull(at + strlen(times[i].name), NULL, 10) * times[i].unit;
}

/* ── Requests ───────────────────────────────────────────────────────────────────────────────────────────────── */

/* The kind that an input asks for, with "after:" in front if it was there. False: it asks for none, or not again. */
static bool kind_of(const pil_fault *f, const pillion_input *in, char out[64]) {
    const char *at = in->text ? memmem(in->text, in->text_bytes, MARKER, strlen(MARKER)) : NULL;
    if (!at) return false;
    at += strlen(MARKER);
    size_t left = (size_t)(in->text + in->text_bytes - at), n = 0;
    while (n < left && n < 63 && strchr("abcdefghijklmnopqrstuvwxyz0123456789:", at[n] ? at[n] : ' ')) n++;
    memcpy(out, at, n);
    out[n] = '\0';
    const char *kind = out;
    if (!take(&kind, "once:")) return true;
    if (!is_first(f, in->text, in->text_bytes)) return false;
    memmove(out, kind, strlen(kind) + 1);
    return true;
}

/* The first request of the process is what the environment may be about. */
static bool request_kind(pil_fault *f, const pil_frame_request *r, size_t i, char out[64]) {
    if (f->start && !f->requested && i == 0) {
        snprintf(out, 64, "%s", f->start);
        return true;
    }
    return kind_of(f, &r->inputs[i], out);
}

typedef enum wish { WISH_NONE, WISH_NAN, WISH_INF, WISH_ZERO, WISH_LENGTH, WISH_LIE, WISH_SWAP, WISH_COUNT } wish;

static wish wish_of(const char *kind) {
    static const char *const names[WISH_COUNT] = {"", "nan", "inf", "zero", "length", "lie", "swap"};
    for (int i = WISH_NONE + 1; i < WISH_COUNT; i++)
        if (is(kind, names[i])) return (wish)i;
    return WISH_NONE;
}

/* What concerns the answer is remembered until there is one; of several that concern all of it, the last. */
void pil_fault_before(pil_fault *f, const pil_frame_request *r) {
    static const char *const of_frames[] = {"short", "shortstuck", "twice", "badframe"};
    free(f->wishes);
    f->wishes = calloc(r->n, 1);
    for (size_t i = 0; f->wishes && i < r->n; i++) {
        char text[64];
        const char *kind = text;
        if (!request_kind(f, r, i, text)) continue;
        bool after = take(&kind, "after:");
        if (!after && act(f, kind)) continue;
        for (size_t k = 0; k < sizeof of_frames / sizeof *of_frames; k++) after |= is(kind, of_frames[k]);
        if (after) snprintf(f->after, sizeof f->after, "%s", kind);
        else f->wishes[i] = (unsigned char)wish_of(kind);
    }
    f->requested = true;
}

/* Writes what is wished over a vector and tells how long it is then. */
static size_t spoil(const pil_fault *f, wish w, float *values, size_t n) {
    if (f->drifted) values[0] = -values[0];
    if (w == WISH_NAN) values[n / 2] = NAN;
    if (w == WISH_INF) values[n - 1] = INFINITY;
    if (w == WISH_ZERO) memset(values, 0, n * sizeof *values);
    return w == WISH_LENGTH ? n - 1 : n;
}

static void exchange(uint32_t *a, uint32_t *b) {
    uint32_t old = *a;
    *a = *b;
    *b = old;
}

void pil_fault_after(pil_fault *f, pil_frame_request *r, const pillion_item **items) {
    bool wanted = f->drifted;
    size_t n_values = 0;
    for (size_t i = 0; f->wishes && i < r->n; i++) {
        wanted |= f->wishes[i] != WISH_NONE;
        n_values += (*items)[i].n_values;
    }
    if (!wanted) return;
    free(f->items);
    free(f->values);
    f->items = calloc(r->n, sizeof *f->items);
    f->values = calloc(n_values + 1, sizeof *f->values);
    if (!f->items || !f->values) return;
    uint32_t *tags = (uint32_t *)(uintptr_t)r->tags; /* they live in the worker's own arena */
    float *at = f->values;
    for (size_t i = 0; i < r->n; i++) {
        wish w = (wish)f->wishes[i];
        f->items[i] = (*items)[i];
        if (w == WISH_LIE) tags[i]++;
        if (w == WISH_SWAP) exchange(&tags[0], &tags[r->n - 1]);
        size_t n = f->items[i].n_values;
        if (n == 0) continue;
        memcpy(at, f->items[i].values, n * sizeof *at);
        f->items[i].values = at;
        f->items[i].n_values = spoil(f, w, at, n);
        at += n;
    }
    *items = f->items;
}

static void write_now(int fd, const char *bytes, size_t n) {
    for (ssize_t w; n > 0 && (w = write(fd, bytes, n)) > 0; bytes += w, n -= (size_t)w) {}
}

void pil_fault_send(pil_fault *f, pil_buf *frame, int fd) {
    const char *kind = f->after;
    free(f->held);
    f->held = NULL;
    if (*kind == '\0') return;
    if (is(kind, "short") || is(kind, "shortstuck")) {
        write_now(fd, frame->bytes, frame->len / 2);
        if (is(kind, "short")) _exit(0);
        for (;;) sleep_ms(1000);
    }
    if (is(kind, "twice")) write_now(fd, frame->bytes, frame->len);
    else if (is(kind, "badframe")) memset(frame->bytes, 0xa5, frame->len);
    else act(f, kind);
    f->after[0] = '\0';
}
