/* fake_server.c - the listener with a pool that computes nothing: for tests of what http does by itself.
 *
 * It is given short times and low ceilings (NAME=VALUE arguments, see set()), and texts tell the pool what to do:
 *     "fail:poison"   this text fails with that status (statuses[] below)
 *     "wait:500"      the request is answered after so many milliseconds
 *     "full", "broken", "expire"   the request is refused: queue full (for this client, until it has one taken), no
 *                                  worker; held for too long
 *     "state:loading", "state:ready", "state:none", "state:half", "state:open", "state:failed"   what the pool says of
 *     itself from now on
 * Every other text gets a vector: its length in bytes, then numbers of 17 digits. Documents are read by real readers,
 * for which this program stands in as well; one that begins with "stop" stops its reader.
 * The functions of proc/proc.h and sched/sched.h that http calls are defined here, in place of the real ones. */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"
#include "extract/extract.h"
#include "http/http.h"
#include "sandbox/sandbox.h"

#define NAMES_MAX 8

typedef struct names {
    const char *items[NAMES_MAX];
    size_t n;
} names;

struct pil_job {
    pil_job_end ended;
    size_t n;
    pillion_item *items;
    float *values;
};

struct pil_ticket {
    pil_pool *pool;
    pil_ticket *next;
    pil_timer *timer;
    pil_job job;
    pil_done_fn on_done;
    void *ud;
};

struct pil_pool {
    pil_loop *loop;
    pil_ticket *tickets;
    pil_pool_info info;
    uint64_t full_for; /* the client that was told so last; 0: it was taken since */
};

typedef struct fake {
    pil_loop *loop;
    pil_server *server;
    pil_pool pool;
    names hosts, origins, roots;
    pil_server_options options;
    const char *address;
} fake;

/* ── The pool ───────────────────────────────────────────────────────────────────────────────────────────────── */

static const struct {
    const char *name;
    pillion_status status;
} statuses[] = {
    {"internal", PILLION_E_INTERNAL}, {"poison", PILLION_E_POISON},
    {"deadline", PILLION_E_DEADLINE}, {"lost", PILLION_E_LOST},
    {"numeric", PILLION_E_NUMERIC},   {"nomem", PILLION_E_NOMEM},
    {"long", PILLION_E_TOO_LONG},     {"unavailable", PILLION_E_UNAVAILABLE},
    {"io", PILLION_E_IO},             {"cancelled", PILLION_E_CANCELLED},
};

static const char *after(const char *text, const char *prefix) {
    size_t n = strlen(prefix);
    return strncmp(text, prefix, n) == 0 ? text + n : NULL;
}

const pil_pool_info *pil_pool_info_of(const pil_pool *p) { return &p->info; }
pil_job_end pil_job_ended(const pil_job *job) { return job->ended; }
size_t pil_job_count(const pil_job *job) { return job->n; }
const pillion_item *pil_job_item(const pil_job *job, size_t i) { return &job->items[i]; }

static void unlink_ticket(pil_ticket *t) {
    pil_ticket **at = &t->pool->tickets;
    while (*at != t) at = &(*at)->next;
    *at = t->next;
    pil_timer_destroy(t->timer);
}

static void free_ticket(pil_ticket *t) {
    free(t->job.items);
    free(t->job.values);
    free(t);
}

static void on_answer(void *ud) {
    pil_ticket *t = ud;
    unlink_ticket(t);
    t->on_done(&t->job, t->ud);
    free_ticket(t);
}

void pil_pool_cancel(pil_pool *p, pil_ticket *t) {
    (void)p;
    unlink_ticket(t);
    free_ticket(t);
}

static void compute(pil_ticket *t, const pillion_input *input, pillion_item *item, float *values) {
    const char *name = after(input->text, "fail:");
    *item = (pillion_item){.values = values, .n_values = t->pool->info.dim};
    for (size_t i = 0; name && i < sizeof statuses / sizeof *statuses; i++)
        if (strcmp(name, statuses[i].name) == 0) *item = (pillion_item){.status = statuses[i].status};
    values[0] = (float)input->text_bytes;
    for (uint32_t i = 1; i < t->pool->info.dim; i++) values[i] = 0.12345678f / (float)i;
}

static void obey(pil_pool *p, pil_ticket *t, const char *text, uint64_t *wait_ms, pillion_status *status) {
    static const struct {
        const char *name;
        pil_pool_state state;
        uint32_t ready;
        bool open;
    } states[] = {{"loading", PIL_POOL_PREPARING, 0, false}, {"ready", PIL_POOL_READY, 2, false},
                  {"none", PIL_POOL_READY, 0, false},        {"failed", PIL_POOL_FAILED, 0, false},
                  {"half", PIL_POOL_READY, 1, true},         {"open", PIL_POOL_READY, 0, true}};
    const char *value = after(text, "wait:");
    if (value) *wait_ms = strtoul(value, NULL, 10);
    if (strcmp(text, "full") == 0) *status = PILLION_E_LIMIT;
    if (strcmp(text, "broken") == 0) *status = PILLION_E_UNAVAILABLE;
    if (strcmp(text, "expire") == 0) t->job.ended = PIL_JOB_EXPIRED;
    value = after(text, "state:");
    for (size_t i = 0; value && i < sizeof states / sizeof *states; i++) {
        if (strcmp(value, states[i].name) != 0) continue;
        p->info.state = states[i].state;
        p->info.workers_ready = states[i].ready;
        p->info.breaker_open = states[i].open;
        snprintf(p->info.reason, sizeof p->info.reason, "%s", states[i].open ? "5 workers died within 30 s" : "");
    }
}

void pil_pool_measure(const pil_pool *p, pil_sched_load *out) {
    *out = (pil_sched_load){.deaths = 3, .restarts = 2, .retries = 5, .texts_poisoned = 1};
    for (const pil_ticket *t = p->tickets; t; t = t->next) out->texts_waiting += t->job.n;
}

bool pil_pool_is_full(const pil_pool *p, uint64_t client, uint64_t bytes) { return bytes && p->full_for == client; }

uint64_t pil_pool_retry_after_ms(const pil_pool *p) {
    (void)p;
    return 7000;
}

pillion_status pil_pool_submit(pil_pool *p, pil_ticket **out, uint64_t client, pillion_op op,
                               const pillion_run_options *options, const pillion_input *inputs, size_t n,
                               pil_done_fn on_done, void *ud, pillion_error *err) {
    (void)op, (void)options, (void)err;
    pil_ticket *t = calloc(1, sizeof *t);
    pillion_status status = PILLION_OK;
    uint64_t wait_ms = 0;
    *t = (pil_ticket){.pool = p, .on_done = on_done, .ud = ud, .job.n = n, .job.items = calloc(n, sizeof(pillion_item)),
                      .job.values = calloc(n * p->info.dim, sizeof(float))};
    for (size_t i = 0; i < n; i++) {
        compute(t, &inputs[i], &t->job.items[i], t->job.values + i * p->info.dim);
        obey(p, t, inputs[i].text, &wait_ms, &status);
    }
    if (status == PILLION_E_LIMIT) p->full_for = client;
    else if (p->full_for == client) p->full_for = 0;
    if (status) {
        free_ticket(t);
        return status;
    }
    t->timer = pil_timer_create(p->loop, on_answer, t);
    t->next = p->tickets;
    p->tickets = t;
    pil_timer_start(t->timer, wait_ms, 0);
    *out = t;
    return PILLION_OK;
}

/* ── The program ────────────────────────────────────────────────────────────────────────────────────────────── */

static void add(names *list, const char *name) {
    if (list->n < NAMES_MAX) list->items[list->n++] = name;
}

static int set(fake *f, const char *argument) {
    const struct {
        const char *name;
        size_t *size;
        uint64_t *number;
    } limits[] = {{"connections=", &f->options.limits.connections, NULL},
                  {"in_flight=", &f->options.limits.in_flight_bytes, NULL},
                  {"header_ms=", NULL, &f->options.limits.header_ms},
                  {"stall_ms=", NULL, &f->options.limits.stall_ms},
                  {"idle_ms=", NULL, &f->options.limits.idle_ms},
                  {"document_ms=", NULL, &f->options.limits.document_ms}};
    const char *value;
    for (size_t i = 0; i < sizeof limits / sizeof *limits; i++) {
        value = after(argument, limits[i].name);
        if (value && limits[i].size) *limits[i].size = strtoul(value, NULL, 10);
        if (value && limits[i].number) *limits[i].number = strtoul(value, NULL, 10);
        if (value) return 0;
    }
    if ((value = after(argument, "token="))) f->options.token = value;
    else if ((value = after(argument, "host="))) add(&f->hosts, value);
    else if ((value = after(argument, "origin="))) add(&f->origins, value);
    else if ((value = after(argument, "root="))) add(&f->roots, value);
    else if ((value = after(argument, "listen="))) f->address = value;
    else if ((value = after(argument, "dim="))) f->pool.info.dim = (uint32_t)strtoul(value, NULL, 10);
    else return fprintf(stderr, "fake_server: unknown argument %s\n", argument), 2;
    return 0;
}

static _Noreturn void read_document(int argc, char **argv) {
    char first[4];
    pil_child_begin(); /* a stopped one ends with the server as well */
    if (pread(STDIN_FILENO, first, sizeof first, 0) == sizeof first && memcmp(first, "stop", sizeof first) == 0)
        raise(SIGSTOP);
    _exit(pil_extract_main(argc, argv));
}

static void on_drained(void *ud) { pil_loop_stop(((fake *)ud)->loop); }
static void on_shutdown(void *ud) { pil_server_drain(((fake *)ud)->server, 2000, on_drained, ud); }

static void on_signal(int signum, void *ud) {
    (void)signum;
    on_shutdown(ud);
}

int main(int argc, char **argv) {
    fake f = {.address = "127.0.0.1",
              .pool.info = {.state = PIL_POOL_READY, .workers = 2, .workers_ready = 2, .dim = 8, .max_tokens = 256,
                            .sandbox = "full"}};
    if (argc > 1 && strcmp(argv[1], "--role=extract") == 0) read_document(argc, argv);
    int failed = 0;
    for (int i = 1; !failed && i < argc; i++) failed = set(&f, argv[i]);
    if (failed) return failed;
    pil_log_init(PIL_LOG_ERROR, "server");
    f.options.model_id = "fake/model";
    f.options.allow_hosts = f.hosts.items;
    f.options.n_allow_hosts = f.hosts.n;
    f.options.allow_origins = f.origins.items;
    f.options.n_allow_origins = f.origins.n;
    f.options.files_roots = f.roots.items;
    f.options.n_files_roots = f.roots.n;
    f.options.on_shutdown = on_shutdown;
    f.options.ud = &f;
    pillion_error err = {0};
    const pil_listener *l;
    bool in_use;
    pillion_status st = pil_loop_create(&f.loop, &err);
    if (!st) st = pil_server_create(&f.server, f.loop, &f.options, &err);
    if (!st) st = pil_loop_signal(f.loop, SIGTERM, on_signal, &f, &err);
    if (!st) st = pil_server_listen(f.server, f.address, 0, NULL, &l, &in_use, &err);
    if (!st) {
        f.pool.loop = f.loop;
        pil_server_set_pool(f.server, &f.pool);
        fprintf(stderr, "fake on http://127.0.0.1:%u\n", pil_listener_port(l));
        pil_loop_run(f.loop);
    } else {
        fprintf(stderr, "fake_server: %s\n", err.text);
    }
    pil_server_destroy(f.server);
    while (f.pool.tickets) pil_pool_cancel(&f.pool, f.pool.tickets);
    pil_loop_destroy(f.loop);
    return st ? 2 : 0;
}
