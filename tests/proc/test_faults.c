/* test_faults.c - the pool with real workers on a tiny model, caged, failing in every way that src/proc/fault.c knows.
 * This program is its own worker and its own compiler. */
#include "support/test.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/limits.h"
#include "proc/proc.h"
#include "sandbox/sandbox.h"
#include "support/files.h"
#include "support/tiny_model.h"

#define N 24

static char dir[PIL_TEST_PATH], seen[PIL_TEST_PATH], compiled[PIL_TEST_PATH];

static int make_model(void **state) {
    (void)state;
    pil_test_dir_make(dir);
    char source[PIL_TEST_PATH];
    pil_test_path(source, dir, "model");
    pil_test_path(seen, dir, "seen");
    pil_tiny_model_write(source, "bert", NULL);
    pillion_model_options o;
    pillion_model_options_init(&o);
    o.cache_dir = dir;
    pillion_error err = {0};
    assert_ok(pillion_prepare(source, &o, compiled, sizeof compiled, &err), err);
    setenv("PILLION_FAULT_STATE", seen, 1);
    setenv("PILLION_SECRET", "of the server", 1);
    return 0;
}

static int remove_model(void **state) {
    (void)state;
    pil_test_dir_remove(dir);
    return 0;
}

static const char *after_equals(const char *arg) { return strchr(arg, '=') + 1; }

/* --role=worker --precision=0 --nice=N --model=FILE */
static int be_worker(char **argv) {
    pil_worker_begin((int)strtol(after_equals(argv[3]), NULL, 10));
    _exit(pil_worker_main(&(pil_worker_options){.file = after_equals(argv[4]), .fd = PIL_WORKER_FD,
                                                .page_fd = PIL_WORKER_PAGE_FD, .cage = !HIDDEN_THREAD}));
}

/* ── The world ──────────────────────────────────────────────────────────────────────────────────────────────── */

typedef struct world {
    pil_loop *loop;
    pil_pool *pool;
    pil_sched_options sched;
    pillion_run_options options;
    pillion_input inputs[N];
    char texts[N][80];
    pillion_status status[N];
    float wanted[N][PIL_TINY_HIDDEN], got[N][PIL_TINY_HIDDEN];
    bool is_done;
} world;

static void too_late(void *ud) {
    (void)ud;
    fprintf(stderr, "no answer within 250 seconds\n");
    abort();
}

static int setup(void **state) {
    world *w = calloc(1, sizeof *w);
    pillion_error err = {0};
    unlink(seen);
    unsetenv("PILLION_FAULT_START");
    assert_ok(pil_loop_create(&w->loop, &err), err);
    pil_timer_start(pil_timer_create(w->loop, too_late, NULL), 250000, 0);
    pillion_run_options_init(&w->options);
    pil_sched_options_init(&w->sched, 2);
    w->sched.express = true;
    *state = w;
    return 0;
}

static int teardown(void **state) {
    world *w = *state;
    pil_pool_destroy(w->pool);
    pil_loop_destroy(w->loop);
    while (waitpid(-1, NULL, 0) > 0) {} /* those that were just killed */
    free(w);
    return 0;
}

static void on_done(const pil_job *job, void *ud) {
    world *w = ud;
    w->is_done = true;
    for (size_t i = 0; i < pil_job_count(job); i++) {
        const pillion_item *it = pil_job_item(job, i);
        w->status[i] = it->status;
        memset(w->got[i], 0, sizeof w->got[i]);
        if (!it->status) memcpy(w->got[i], it->values, sizeof w->got[i]);
    }
    pil_loop_stop(w->loop);
}

static void run(world *w) {
    pil_ticket *t;
    pillion_error err = {0};
    w->is_done = false;
    assert_ok(pil_pool_submit(w->pool, &t, 1, PILLION_OP_EMBED, &w->options, w->inputs, N, on_done, w, &err), err);
    pil_loop_run(w->loop);
    assert_true(w->is_done);
}

/* Text i, with a marker in front of it or none. What follows the marker is as long and as many tokens as its number, so
 * that the vector of a text does not depend on it. */
static void put(world *w, size_t i, const char *fault) {
    snprintf(w->texts[i], sizeof w->texts[i], "%s%s the cat sat on the mat number %zu", fault ? "\x01" "fault:" : "",
             fault ? fault : "", i);
    w->inputs[i] = (pillion_input){.text = w->texts[i], .text_bytes = strlen(w->texts[i])};
}

static void start(world *w) {
    pillion_error err = {0};
    const pil_pool_options o = {.file = compiled, .workers = w->sched.workers, .sched = &w->sched};
    assert_ok(pil_pool_create(&w->pool, w->loop, &o, &err), err);
    for (size_t i = 0; i < N; i++) put(w, i, NULL);
    run(w);
    for (size_t i = 0; i < N; i++) assert_int_equal(w->status[i], PILLION_OK);
    memcpy(w->wanted, w->got, sizeof w->wanted);
}

static uint64_t deaths(const world *w) { return pil_pool_info_of(w->pool)->deaths; }

/* Every text but number `but` (N: none is excepted) has its own vector. */
static void assert_fine_but(const world *w, size_t but, const char *what) {
    for (size_t i = 0; i < N; i++) {
        if (i == but) continue;
        if (w->status[i]) fail_msg("%s: text %zu has status %d", what, i, (int)w->status[i]);
        if (memcmp(w->got[i], w->wanted[i], sizeof w->got[i]) != 0)
            fail_msg("%s: text %zu has another vector", what, i);
    }
}

/* ── Deaths ─────────────────────────────────────────────────────────────────────────────────────────────────── */

static void every_way_of_dying_costs_two_workers_and_one_text(void **state) {
    static const char *const kinds[] = {"segv", "abort", "bus", "fpe", "ill", "stack", "exit1", "after:segv"};
    world *w = *state;
    start(w);
    for (size_t k = 0; k < sizeof kinds / sizeof *kinds; k++) {
        size_t at = k * 5 % N;
        uint64_t before = deaths(w);
        put(w, at, kinds[k]);
        for (int again = 0; again < 2; again++) {
            run(w);
            assert_fine_but(w, at, kinds[k]);
            assert_int_equal(w->status[at], PILLION_E_POISON);
        }
        if (deaths(w) - before != 2) fail_msg("%s: %d deaths", kinds[k], (int)(deaths(w) - before));
        put(w, at, NULL);
    }
}

static void what_happens_once_is_invisible(void **state) {
    static const char *const kinds[] = {"once:segv", "once:after:abort", "once:kill9",      "once:after:kill9",
                                        "once:exit0", "once:stack",      "once:short",      "once:shortstuck",
                                        "once:lie",   "once:swap",       "once:twice",      "once:badframe",
                                        "once:length", "once:nan",       "once:after:exit0"};
    world *w = *state;
    w->sched.stall_ms = 3000;
    start(w);
    for (size_t k = 0; k < sizeof kinds / sizeof *kinds; k++) {
        size_t at = (k * 7 + 3) % N;
        put(w, at, kinds[k]);
        run(w);
        assert_fine_but(w, at, kinds[k]);
        if (w->status[at]) fail_msg("%s: status %d", kinds[k], (int)w->status[at]);
        run(w); /* what the answer was twice for is seen now */
        assert_fine_but(w, at, kinds[k]);
        put(w, at, NULL);
    }
}

static void wrong_numbers_never_leave(void **state) {
    static const char *const kinds[] = {"nan", "inf", "zero"};
    world *w = *state;
    start(w);
    for (size_t k = 0; k < sizeof kinds / sizeof *kinds; k++) {
        put(w, 7 + k, kinds[k]);
        run(w);
        assert_fine_but(w, 7 + k, kinds[k]);
        assert_int_equal(w->status[7 + k], PILLION_E_NUMERIC);
        put(w, 7 + k, NULL);
    }
}

static void what_stands_still_is_killed_and_what_is_slow_is_not(void **state) {
    static const char *const kinds[] = {"hang", "stuck", "shortstuck"};
    world *w = *state;
    w->sched.stall_ms = 3000;
    start(w);
    put(w, 3, "slow:6000");
    run(w);
    assert_fine_but(w, 3, "slow");
    assert_int_equal(w->status[3], PILLION_OK);
    assert_int_equal(deaths(w), 0);
    for (size_t k = 0; k < sizeof kinds / sizeof *kinds; k++) {
        put(w, 3, kinds[k]);
        run(w);
        assert_fine_but(w, 3, kinds[k]);
        assert_int_equal(w->status[3], PILLION_E_POISON);
        assert_int_equal(deaths(w), 2 * (k + 1));
    }
}

/* ── Starts ─────────────────────────────────────────────────────────────────────────────────────────────────── */

static void a_start_that_fails_once_is_invisible(void **state) {
    static const char *const starts[] = {"first:segv", "first:exit1", "first:kill9", "first:request:abort",
                                         "first:request:nan", "first:request:badframe", "first:slow:100"};
    world *w = *state;
    for (size_t k = 0; k < sizeof starts / sizeof *starts; k++) {
        setenv("PILLION_FAULT_START", starts[k], 1);
        unlink(seen);
        start(w);
        pil_pool_destroy(w->pool);
        w->pool = NULL;
    }
}

static void stop_when_open(void *ud) {
    world *w = ud;
    if (pil_pool_info_of(w->pool)->breaker_open) pil_loop_stop(w->loop);
}

static void a_canary_that_always_kills_opens_the_breaker(void **state) {
    world *w = *state;
    setenv("PILLION_FAULT_START", "request:segv", 1);
    pillion_error err = {0};
    const pil_pool_options o = {.file = compiled, .workers = 2, .sched = &w->sched, .on_change = stop_when_open,
                                .ud = w};
    assert_ok(pil_pool_create(&w->pool, w->loop, &o, &err), err);
    pil_loop_run(w->loop);
    assert_int_equal(pil_pool_info_of(w->pool)->workers_ready, 0);
    assert_true(deaths(w) <= 8);
    assert_true(*pil_pool_info_of(w->pool)->reason);
}

/* ── What only shows in time ────────────────────────────────────────────────────────────────────────────────── */

static bool keep_asking(world *w, bool (*is_enough)(const pil_sched_load *load)) {
    pil_sched_load load;
    for (int i = 0; i < 20000; i++) {
        run(w);
        pil_pool_measure(w->pool, &load);
        if (is_enough(&load)) return true;
        usleep(2000);
    }
    return false;
}

static bool has_failed_canary(const pil_sched_load *load) { return load->canary_failures > 0; }
static bool has_retired(const pil_sched_load *load) { return load->retired > 0; }
static bool has_all(const pil_sched_load *load) { return load->workers_ready == 3; }

static void a_worker_that_drifts_is_found_by_its_canary(void **state) {
    world *w = *state;
    w->sched.canary_ms = 200;
    start(w);
    put(w, 5, "once:drift");
    run(w);
    put(w, 5, NULL);
    assert_true(keep_asking(w, has_failed_canary));
    run(w);
    assert_fine_but(w, N, "after the drift");
}

static void a_worker_that_grows_is_replaced_between_batches(void **state) {
    world *w = *state;
    w->sched.memory_soft_bytes = 256 * PIL_MIB;
    start(w);
    put(w, 5, "once:leak:300");
    assert_true(keep_asking(w, has_retired));
    assert_fine_but(w, 5, "leak");
    assert_int_equal(deaths(w), 0);
}

/* ── What a worker has ──────────────────────────────────────────────────────────────────────────────────────── */

static void read_file(char *out, size_t out_bytes, int pid, const char *name) {
    char path[64];
    snprintf(path, sizeof path, "/proc/%d/%s", pid, name);
    FILE *f = fopen(path, "r");
    assert_non_null(f);
    out[fread(out, 1, out_bytes - 1, f)] = '\0';
    fclose(f);
}

static size_t count_files(int pid) {
    char path[64];
    size_t n = 0;
    snprintf(path, sizeof path, "/proc/%d/fd", pid);
    DIR *d = opendir(path);
    assert_non_null(d);
    for (struct dirent *e; (e = readdir(d));) n += e->d_name[0] != '.';
    closedir(d);
    return n;
}

/* "Max core file size        0        0       bytes" */
static void assert_limit(const char *limits, const char *name, unsigned long most) {
    const char *line = strstr(limits, name);
    assert_non_null(line);
    assert_true(strtoul(line + strlen(name), NULL, 10) <= most);
}

static void check_worker(int pid, int *nices) {
    char text[8192];
    assert_in_range(count_files(pid), 1, 4);
    read_file(text, sizeof text, pid, "environ"); /* NUL-separated: the first assignment, and what a test build adds */
    assert_true(*text == '\0' || strncmp(text, "PILLION_", 8) == 0 || strstr(text, "SAN_OPTIONS"));
    FILE *f = fopen((snprintf(text, sizeof text, "/proc/%d/environ", pid), text), "r");
    size_t n = fread(text, 1, sizeof text, f);
    fclose(f);
    assert_null(memmem(text, n, "SECRET", 6));
    assert_null(memmem(text, n, "PATH=", 5));
    assert_null(memmem(text, n, "HOME=", 5));
    read_file(text, sizeof text, pid, "oom_score_adj");
    assert_int_equal(strtol(text, NULL, 10), 800);
    read_file(text, sizeof text, pid, "limits");
    assert_limit(text, "Max core file size", 0);
    assert_limit(text, "Max open files", 16);
    int own = getpriority(PRIO_PROCESS, 0), bulk = own + PIL_CHILD_NICE < 19 ? own + PIL_CHILD_NICE : 19;
    nices[0] += getpriority(PRIO_PROCESS, (id_t)pid) == own;
    nices[1] += getpriority(PRIO_PROCESS, (id_t)pid) == bulk;
}

static void a_worker_has_four_descriptors_and_no_environment(void **state) {
    world *w = *state;
    need_one_thread();
    setpriority(PRIO_PROCESS, 0, getpriority(PRIO_PROCESS, 0) + 5); /* a server may have been started with nice */
    start(w);
    assert_true(keep_asking(w, has_all));
    int nices[2] = {0}, n = 0;
    char path[64], text[512];
    DIR *d = opendir("/proc");
    assert_non_null(d);
    for (struct dirent *e; (e = readdir(d));) {
        int pid = (int)strtol(e->d_name, NULL, 10), parent = 0;
        snprintf(path, sizeof path, "/proc/%d/stat", pid);
        FILE *f = pid > 0 ? fopen(path, "r") : NULL;
        if (!f) continue;
        char *behind = fgets(text, sizeof text, f) ? strrchr(text, ')') : NULL; /* "PID (NAME) STATE PARENT …" */
        fclose(f);
        if (behind && behind[2] != 'Z') parent = (int)strtol(behind + 4, NULL, 10);
        if (parent != (int)getpid()) continue;
        n++;
        check_worker(pid, nices);
    }
    closedir(d);
    assert_int_equal(n, 3);
    if (getpriority(PRIO_PROCESS, 0) < 19) { /* the one for short work, and the two for the rest */
        assert_int_equal(nices[0], 1);
        assert_int_equal(nices[1], 2);
    }
}

int main(int argc, char **argv) {
    if (argc == 5 && strcmp(argv[1], "--role=worker") == 0) return be_worker(argv);
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        T(every_way_of_dying_costs_two_workers_and_one_text),
        T(what_happens_once_is_invisible),
        T(wrong_numbers_never_leave),
        T(what_stands_still_is_killed_and_what_is_slow_is_not),
        T(a_start_that_fails_once_is_invisible),
        T(a_canary_that_always_kills_opens_the_breaker),
        T(a_worker_that_drifts_is_found_by_its_canary),
        T(a_worker_that_grows_is_replaced_between_batches),
        T(a_worker_has_four_descriptors_and_no_environment),
    };
    if (getenv("PIL_TEST")) cmocka_set_test_filter(getenv("PIL_TEST"));
    return cmocka_run_group_tests(tests, make_model, remove_model);
}
