/* test_evil.c - the pool with a worker that is not ours: right answers damaged at random, random bytes, wrong lengths,
 * descriptors that nobody asked for. This program is the worker. PIL_EVIL_SECONDS (3) and PIL_EVIL_SEED choose how long
 * and what; the seed is printed.
 *
 * Nothing can be said about the numbers that such a worker sends. The pool must go on, every job must end, what has
 * status OK must be a finite vector, and the server must keep no descriptor and no memory that it did not have. */
#include "support/test.h"

#include <dirent.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/limits.h"
#include "proc/frame.h"
#include "proc/page.h"
#include "proc/proc.h"

#define DIM 4
#define N 6

/* splitmix64 */
static uint64_t next_random(uint64_t *state) {
    uint64_t x = *state += 0x9e3779b97f4a7c15u;
    x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9u;
    x = (x ^ x >> 27) * 0x94d049bb133111ebu;
    return x ^ x >> 31;
}

/* ── The worker ─────────────────────────────────────────────────────────────────────────────────────────────── */

static void must_read(void *bytes, size_t n) {
    for (size_t at = 0; at < n;) {
        ssize_t r = read(PIL_WORKER_FD, (char *)bytes + at, n - at);
        if (r <= 0) _exit(0);
        at += (size_t)r;
    }
}

static void must_write(const char *bytes, size_t n) {
    for (ssize_t w; n > 0; bytes += w, n -= (size_t)w)
        if ((w = write(PIL_WORKER_FD, bytes, n)) <= 0) _exit(0);
}

/* Bytes that come with copies of our descriptors. */
static void write_with_files(const char *bytes, size_t n) {
    char control[CMSG_SPACE(8 * sizeof(int))] = {0};
    struct iovec part = {(void *)(uintptr_t)bytes, n};
    struct msghdr m = {.msg_iov = &part, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
    struct cmsghdr *c = CMSG_FIRSTHDR(&m);
    *c = (struct cmsghdr){.cmsg_len = CMSG_LEN(8 * sizeof(int)), .cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS};
    for (size_t i = 0; i < 8; i++) memcpy(CMSG_DATA(c) + i * sizeof(int), &(int){(int)i % 3}, sizeof(int));
    if (sendmsg(PIL_WORKER_FD, &m, 0) != (ssize_t)n) _exit(0);
}

/* One way of being evil with a frame that is right so far. */
static void send_evil(pil_buf *frame, uint64_t *seed) {
    uint64_t r = next_random(seed);
    size_t at = r >> 32, n = frame->len;
    switch (r % 10) {
    case 0: frame->bytes[at % n] ^= (char)(1u << (r >> 8 & 7)); break;
    case 1: frame->bytes[at % (n < 64 ? n : 64)] = (char)(r >> 8); break;
    case 2: memset(frame->bytes + at % n, (int)(r >> 8 & 0xff), n - at % n); break;
    case 3: must_write(frame->bytes, at % n); _exit((int)(r >> 8 & 1));
    case 4: must_write(frame->bytes, n); break; /* twice */
    case 5: memcpy(frame->bytes, &(uint32_t){(uint32_t)at}, 4); break;
    case 6:
        for (size_t i = 0; i < n; i++) frame->bytes[i] = (char)next_random(seed);
        break;
    case 7: write_with_files(frame->bytes, n); return;
    case 8:
        for (size_t i = 0; i < n; i++) must_write(frame->bytes + i, 1); /* right, but a byte at a time */
        return;
    case 9: memcpy(frame->bytes + at / 4 * 4 % (n - 4), &(uint32_t){UINT32_MAX}, 4); break;
    }
    must_write(frame->bytes, n);
}

static int evil_worker(bool from_the_start, uint64_t seed) {
    pil_buf out;
    pil_arena arena;
    pil_buf_init(&out, 64 * PIL_MIB);
    pil_arena_init(&arena, 64 * PIL_MIB);
    pil_page *page = pil_page_map(PIL_WORKER_PAGE_FD);
    if (!page || ftruncate(PIL_WORKER_PAGE_FD, 0) == 0) return 1;
    static const float vector[DIM] = {0.5f, 0.5f, -0.5f, 0.5f};
    pil_frame_put_ready(&out, &(pillion_info){.dim = DIM, .hidden = DIM, .max_tokens = 128}, "{}", 2, "none", vector);
    if (from_the_start) send_evil(&out, &seed);
    else must_write(out.bytes, out.len);
    for (unsigned n = 0;; n++) {
        char head[PIL_FRAME_HEADER_BYTES];
        pil_frame_header h;
        pil_frame_request r;
        must_read(head, sizeof head);
        if (pil_frame_get_header(&h, head, PIL_LIMIT_FRAME_BYTES, NULL)) return 1;
        void *payload = pil_arena_alloc(&arena, h.payload_bytes);
        must_read(payload, h.payload_bytes);
        if (pil_frame_get_request(&r, &arena, payload, h.payload_bytes, NULL)) return 1;
        pillion_item *items = pil_arena_calloc(&arena, r.n, sizeof *items);
        for (size_t i = 0; i < r.n; i++)
            items[i] = (pillion_item){.n_tokens = 3, .n_tokens_all = 3, .values = vector, .n_values = DIM};
        pil_buf_clear(&out);
        pil_frame_put_reply(&out, h.id, PILLION_OK, items, r.tags, r.n);
        memset(page, (int)next_random(&seed), PIL_PAGE_BYTES); /* it may write what it likes there */
        if (n == 0 && !from_the_start) must_write(out.bytes, out.len); /* a batch that proves it */
        else send_evil(&out, &seed);
        pil_arena_reset(&arena);
    }
}

/* ── The tests ──────────────────────────────────────────────────────────────────────────────────────────────── */

typedef struct client client;

typedef struct world {
    pil_loop *loop;
    pil_pool *pool;
    pillion_run_options options;
    size_t asked, done, running, fine;
    uint64_t end_ns; /* by the clock: what is in quarantine is answered within the same turn of the loop */
} world;

/* One that asks again as soon as it is answered. */
struct client {
    world *w;
    pillion_input inputs[N];
    char texts[N][32];
};

static void ask(client *c);

static void on_done(const pil_job *job, void *ud) {
    client *c = ud;
    world *w = c->w;
    w->done++;
    w->running--;
    for (size_t i = 0; i < pil_job_count(job); i++) {
        const pillion_item *it = pil_job_item(job, i);
        if (it->status) continue;
        assert_int_equal(it->n_values, DIM);
        for (size_t v = 0; v < DIM; v++) assert_true(isfinite(it->values[v]));
        w->fine++;
    }
    if (pil_clock_ns() < w->end_ns) ask(c);
    else if (w->running == 0) pil_loop_stop(w->loop);
}

static void ask(client *c) {
    world *w = c->w;
    pil_ticket *t;
    pillion_error err = {0};
    w->asked++;
    for (size_t i = 0; i < N; i++) {
        int n = snprintf(c->texts[i], sizeof c->texts[i], "text %zu of %zu", i, w->asked / 4);
        c->inputs[i] = (pillion_input){.text = c->texts[i], .text_bytes = (size_t)n};
    }
    pillion_status st =
        pil_pool_submit(w->pool, &t, w->done % 3, PILLION_OP_EMBED, &w->options, c->inputs, N, on_done, c, &err);
    if (!st) w->running++;
    else if (w->running == 0) pil_loop_stop(w->loop);
}

static size_t count_files(void) {
    size_t n = 0;
    DIR *d = opendir("/proc/self/fd");
    assert_non_null(d);
    while (readdir(d)) n++;
    closedir(d);
    return n;
}

static void run(world *w, const char *file, double seconds) {
    pillion_error err = {0};
    const pil_pool_options o = {.file = file, .workers = 2};
    assert_ok(pil_pool_create(&w->pool, w->loop, &o, &err), err);
    w->end_ns = pil_clock_ns() + (uint64_t)(seconds * 1e9);
    client clients[4];
    for (int i = 0; i < 4; i++) {
        clients[i].w = w;
        ask(&clients[i]);
    }
    pil_loop_run(w->loop);
    pil_sched_load load;
    pil_pool_measure(w->pool, &load);
    print_message("%zu jobs, %zu texts answered, %d deaths, %d kills\n", w->done, w->fine, (int)load.deaths,
                  (int)load.kills);
    assert_int_equal(w->running, 0);
    assert_true(load.deaths > 0);
}

static void nothing_that_a_worker_sends_harms_the_server(void **state) {
    (void)state;
    const char *seconds = getenv("PIL_EVIL_SECONDS"), *seed = getenv("PIL_EVIL_SEED");
    uint64_t start = seed ? strtoull(seed, NULL, 10) : (uint64_t)time(NULL);
    print_message("PIL_EVIL_SEED=%llu\n", (unsigned long long)start);
    static const char *const manners[] = {"late", "early"};
    size_t files = 0; /* the first loop leaves some for signals */
    for (size_t i = 0; i < 2; i++) {
        world w = {0};
        pillion_error err = {0};
        char file[64];
        assert_ok(pil_loop_create(&w.loop, &err), err);
        pil_loop_destroy(w.loop);
        files = count_files();
        assert_ok(pil_loop_create(&w.loop, &err), err);
        pillion_run_options_init(&w.options);
        snprintf(file, sizeof file, "%s:%llu", manners[i], (unsigned long long)start);
        run(&w, file, (seconds ? strtod(seconds, NULL) : 3) / 2);
        if (i == 0) assert_true(w.fine > 0);
        pil_pool_destroy(w.pool);
        pil_loop_destroy(w.loop);
        assert_int_equal(count_files(), files);
    }
}

int main(int argc, char **argv) {
    if (argc == 5 && strcmp(argv[1], "--role=worker") == 0) {
        const char *how = strchr(argv[4], '=') + 1;
        return evil_worker(strncmp(how, "early", 5) == 0,
                           strtoull(strchr(how, ':') + 1, NULL, 10) + (uint64_t)getpid() * 1000003u);
    }
    const struct CMUnitTest tests[] = {cmocka_unit_test(nothing_that_a_worker_sends_harms_the_server)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
