/* test_pool.c - the pool with workers that crash, hang, lie or never start. This program is its own worker: started
 * with --role=worker it speaks frames and does what the text says. */
#include "support/test.h"

#include <dirent.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/limits.h"
#include "proc/frame.h"
#include "proc/page.h"
#include "proc/proc.h"

#define DIM 4
#define N 64

/* Worker and test are two processes of one program; what happens once is a file that they both know. */
static void note_path(char out[64], int server, const char *what) {
    snprintf(out, 64, "/tmp/pil_pool_%d_%s", server, what);
}

static bool take_note(int server, const char *what) {
    char path[64];
    note_path(path, server, what);
    int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (fd >= 0) close(fd);
    return fd >= 0;
}

static bool is_first_or_second(int server, const char *what) {
    char again[32];
    snprintf(again, sizeof again, "%s2", what);
    return take_note(server, what) || take_note(server, again);
}

static bool has_note(int server, const char *what) {
    char path[64];
    note_path(path, server, what);
    return access(path, F_OK) == 0;
}

/* ── The worker ─────────────────────────────────────────────────────────────────────────────────────────────── */

static pil_page *page;

static void must_write(const void *bytes, size_t n) {
    if (write(PIL_WORKER_FD, bytes, n) != (ssize_t)n) _exit(0);
}

static void must_read(void *bytes, size_t n) {
    for (size_t at = 0; at < n;) {
        ssize_t r = read(PIL_WORKER_FD, (char *)bytes + at, n - at);
        if (r <= 0) _exit(0);
        at += (size_t)r;
    }
}

/* The word that a text is, without "ONCE-" if this is the first time that a worker sees that. */
static bool says(const pillion_input *in, const char *word) {
    static char once[32];
    size_t n = in->text_bytes < sizeof once ? in->text_bytes : 0;
    if (n > 5 && memcmp(in->text, "ONCE-", 5) == 0 && n - 5 == strlen(word) && memcmp(in->text + 5, word, n - 5) == 0) {
        snprintf(once, sizeof once, "%s", word);
        return take_note((int)getppid(), once);
    }
    return in->text_bytes >= strlen(word) && memcmp(in->text, word, strlen(word)) == 0;
}

static void die_with(pid_t parent) {
    while (getppid() == parent) usleep(10000);
    _exit(0);
}

/* In state D, as a process is that waits for the disk: until the child ends, as after vfork(). */
static void wait_in_the_kernel(void) {
    pid_t own = getpid();
    if (syscall(SYS_clone, CLONE_VFORK | SIGCHLD, 0, 0, 0, 0) == 0) die_with(own);
}

/* Computes, where others have nearly all of the processor. */
static void starve(void) {
    pid_t own = getpid();
    cpu_set_t all, one;
    int cpu = 0;
    sched_getaffinity(0, sizeof all, &all);
    while (!CPU_ISSET(cpu, &all)) cpu++;
    CPU_ZERO(&one);
    CPU_SET(cpu, &one);
    sched_setaffinity(0, sizeof one, &one);
    for (int i = 0; i < 2; i++) {
        if (fork() != 0) continue;
        while (getppid() == own) continue;
        _exit(0);
    }
    sched_setscheduler(0, SCHED_IDLE, &(struct sched_param){0});
    for (;;) (void)getppid();
}

/* What a text does to its worker before it is answered. */
static void act(const pillion_input *in, uint64_t id) {
    if (says(in, "CRASH")) {
        signal(SIGSEGV, SIG_DFL); /* sanitizers would make an exit of it */
        raise(SIGSEGV);
    }
    if (says(in, "EXIT")) _exit(7);
    if (says(in, "KILLED")) kill(getpid(), SIGKILL);
    if (says(in, "SLOW")) usleep(20000);
    while (says(in, "HANG")) usleep(20000);
    if (says(in, "DISK") && is_first_or_second((int)getppid(), "DISK")) wait_in_the_kernel();
    if (says(in, "STARVED") && is_first_or_second((int)getppid(), "STARVED")) starve();
    for (int i = 0; i < 300 && says(in, "PATIENCE"); i++) {
        usleep(20000);
        pil_page_beat(page);
    }
    while (says(in, "UNWANTED") && !page->cancel[id % PIL_PAGE_CANCELS]) {
        usleep(5000);
        pil_page_beat(page);
    }
    if (says(in, "CLOSE")) {
        close(PIL_WORKER_FD);
        pause();
    }
    if (says(in, "RUBBISH")) {
        must_write("this is not a frame at all, but long enough", 43);
        pause();
    }
    if (says(in, "HUGE")) {
        unsigned char head[PIL_FRAME_HEADER_BYTES] = {0xff, 0xff, 0xff, 0x0f, PIL_FRAME_VERSION, 0, PIL_FRAME_REPLY, 0};
        memcpy(head + 8, &id, 8);
        must_write(head, sizeof head);
        pause();
    }
}

/* What it does to the answer. */
static void reply(pil_buf *out, const pil_frame_request *r, uint64_t id, const pillion_item *items) {
    uint32_t *tags = (uint32_t *)(uintptr_t)r->tags;
    bool half = false, twice = false, unwanted = false;
    for (size_t i = 0; i < r->n; i++) {
        if (says(&r->inputs[i], "OTHERTEXT")) tags[i] ^= 1;
        if (says(&r->inputs[i], "OTHERID")) id++;
        if (says(&r->inputs[i], "OLDLIFE")) id -= (uint64_t)1 << 32;
        half |= says(&r->inputs[i], "HALF");
        twice |= says(&r->inputs[i], "TWICE");
        unwanted |= says(&r->inputs[i], "UNWANTED");
    }
    pil_buf_clear(out);
    pil_frame_put_reply(out, id, unwanted ? PILLION_E_CANCELLED : PILLION_OK, items, tags, r->n);
    must_write(out->bytes, half ? out->len / 2 : out->len);
    if (half) _exit(0);
    if (twice) must_write(out->bytes, out->len);
}

static int say_failed(pil_buf *out, pillion_status status, const char *text) {
    pillion_error why = {.code = status};
    snprintf(why.text, sizeof why.text, "%s", text);
    pil_frame_put_failed(out, &why);
    must_write(out->bytes, out->len);
    return 1;
}

static int fake_worker(const char *model) {
    static float values[4096][DIM];
    static pillion_item items[4096];
    int server = (int)getppid();
    pil_buf out;
    pil_arena arena;
    pil_buf_init(&out, 64 * PIL_MIB);
    pil_arena_init(&arena, 64 * PIL_MIB);
    page = pil_page_map(PIL_WORKER_PAGE_FD);
    if (!page) return 10;
    if (strcmp(model, "--model=die") == 0) return 9;
    if (strcmp(model, "--model=diefirst") == 0 && take_note(server, "died")) return 9;
    if (strcmp(model, "--model=hang") == 0) pause();
    if (strcmp(model, "--model=bad") == 0) return say_failed(&out, PILLION_E_FORMAT, "bad: not a model");
    if (strstr(model, "cached")) return say_failed(&out, PILLION_E_FORMAT, "cached: damaged");
    if (strcmp(model, "--model=fresh") == 0 && has_note(server, "gone"))
        return say_failed(&out, PILLION_E_STALE, "fresh: not any more");
    const float canary[DIM] = {sizeof PILLION_CANARY_TEXT - 1, 'P'}; /* as it answers any text */
    pil_frame_put_ready(&out, &(pillion_info){.dim = DIM, .hidden = DIM, .max_tokens = 128}, "{}", 2, "none", canary);
    must_write(out.bytes, out.len);
    for (;;) {
        unsigned char head[PIL_FRAME_HEADER_BYTES];
        pil_frame_header h;
        pil_frame_request r;
        must_read(head, sizeof head);
        if (pil_frame_get_header(&h, head, PIL_LIMIT_FRAME_BYTES, NULL)) return 1;
        void *payload = pil_arena_alloc(&arena, h.payload_bytes);
        must_read(payload, h.payload_bytes);
        pil_page_beat(page);
        if (pil_frame_get_request(&r, &arena, payload, h.payload_bytes, NULL)) return 1;
        for (size_t i = 0; i < r.n; i++) {
            act(&r.inputs[i], h.id);
            values[i][0] = (float)r.inputs[i].text_bytes;
            values[i][1] = (float)(unsigned char)r.inputs[i].text[0];
            items[i] = (pillion_item){.n_tokens = 3, .n_tokens_all = 3, .values = values[i], .n_values = DIM};
            if (says(&r.inputs[i], "NAN")) values[i][0] = 0.0f / 0.0f;
        }
        pil_page_beat(page);
        reply(&out, &r, h.id, items);
        pil_arena_reset(&arena);
    }
}

/* A compiler that finds a file in the cache says nothing but its path. Of a cursed directory every file is damaged. */
static int fake_cache(const char *source) {
    char path[64];
    note_path(path, (int)getppid(), "cached");
    bool was_there = has_note((int)getppid(), "cached"), cursed = strcmp(source, "--source=cursed") == 0;
    if (cursed) take_note((int)getppid(), "cached");
    if (!was_there) puts("{\"done\":10,\"total\":10}");
    printf("{\"path\":\"%s\"}\n", was_there || cursed ? path : "good");
    return fflush(stdout);
}

static int fake_prepare(const char *source) {
    if (strcmp(source, "--source=cached") == 0 || strcmp(source, "--source=cursed") == 0) return fake_cache(source);
    puts("{\"done\":5,\"total\":10}");
    puts("neither JSON nor of use");
    if (strcmp(source, "--source=aging") == 0)
        puts(has_note((int)getppid(), "gone") ? "{\"path\":\"good\"}" : "{\"path\":\"fresh\"}");
    else if (strcmp(source, "--source=broken") == 0)
        puts("{\"error\":{\"status\":-6,\"text\":\"broken: no such architecture\"}}");
    else if (strcmp(source, "--source=escaped") == 0) puts("{\"path\":\"%62a%64\"}");
    else if (strcmp(source, "--source=misspelt") == 0) puts("{\"path\":\"good%6\"}");
    else if (strcmp(source, "--source=good") == 0) puts("{\"path\":\"good\"}");
    fflush(stdout);
    if (strcmp(source, "--source=crash") == 0) raise(SIGSEGV);
    return strcmp(source, "--source=broken") == 0;
}

/* ── The tests ──────────────────────────────────────────────────────────────────────────────────────────────── */

typedef struct world {
    pil_loop *loop;
    pil_pool *pool;
    pillion_run_options options;
    pillion_input inputs[N];
    char texts[N][24];
    pil_sched_options sched;
    size_t expected, done;
    pillion_status status[N];
    pil_job_end end;
    bool wrong;
} world;

static void too_late(void *ud) {
    (void)ud;
    fprintf(stderr, "no answer within 200 seconds\n");
    abort();
}

static int setup(void **state) {
    world *w = calloc(1, sizeof *w);
    pillion_error err = {0};
    assert_ok(pil_loop_create(&w->loop, &err), err);
    pil_timer_start(pil_timer_create(w->loop, too_late, NULL), 200000, 0);
    pillion_run_options_init(&w->options);
    pil_sched_options_init(&w->sched, 2);
    w->sched.express = true;
    for (size_t i = 0; i < N; i++) {
        snprintf(w->texts[i], sizeof w->texts[i], "%c%.*s", (char)('a' + i % 26), (int)(i % 11), "xxxxxxxxxxxxx");
        w->inputs[i] = (pillion_input){.text = w->texts[i], .text_bytes = strlen(w->texts[i])};
    }
    *state = w;
    return 0;
}

static int teardown(void **state) {
    world *w = *state;
    pil_pool_destroy(w->pool);
    pil_loop_destroy(w->loop);
    free(w);
    char path[64];
    static const char *const notes[] = {"died", "gone", "RUBBISH", "HUGE", "CLOSE", "OTHERTEXT", "OTHERID", "OLDLIFE",
                                        "HALF", "DISK", "DISK2", "STARVED", "STARVED2", "cached"};
    for (size_t i = 0; i < sizeof notes / sizeof *notes; i++) {
        note_path(path, (int)getpid(), notes[i]);
        unlink(path);
    }
    return 0;
}

static void start(world *w, uint32_t workers, const char *directory, const char *file, pil_pool_fn on_change) {
    pillion_error err = {0};
    w->sched.workers = workers;
    pil_pool_options o = {.directory = directory, .file = file, .workers = workers, .sched = &w->sched,
                          .on_change = on_change, .ud = w};
    assert_ok(pil_pool_create(&w->pool, w->loop, &o, &err), err);
}

static void say(world *w, size_t i, const char *text) {
    snprintf(w->texts[i], sizeof w->texts[i], "%s", text);
    w->inputs[i].text_bytes = strlen(text);
}

static void on_done(const pil_job *job, void *ud) {
    world *w = ud;
    w->end = pil_job_ended(job);
    for (size_t i = 0; i < pil_job_count(job); i++) {
        const pillion_item *it = pil_job_item(job, i);
        w->status[i] = it->status;
        if (!it->status && (it->values[0] != (float)w->inputs[i].text_bytes ||
                            it->values[1] != (float)(unsigned char)w->texts[i][0]))
            w->wrong = true;
    }
    if (++w->done == w->expected) pil_loop_stop(w->loop);
}

static pil_ticket *submit(world *w, size_t n) {
    pil_ticket *t;
    pillion_error err = {0};
    assert_ok(pil_pool_submit(w->pool, &t, 1, PILLION_OP_EMBED, &w->options, w->inputs, n, on_done, w, &err), err);
    w->expected++;
    return t;
}

static void assert_all_fine(world *w, size_t n) {
    assert_int_equal(w->end, PIL_JOB_ANSWERED);
    assert_false(w->wrong);
    for (size_t i = 0; i < n; i++) assert_int_equal(w->status[i], PILLION_OK);
}

static void work_given_before_the_workers_are_ready_is_done(void **state) {
    world *w = *state;
    start(w, 2, NULL, NULL, NULL);
    assert_int_equal(pil_pool_info_of(w->pool)->state, PIL_POOL_PREPARING);
    for (int i = 0; i < 20; i++) submit(w, N);
    assert_int_equal(w->done, 0);
    pil_loop_run(w->loop);
    assert_int_equal(w->done, 20);
    assert_all_fine(w, N);
    const pil_pool_info *info = pil_pool_info_of(w->pool);
    assert_int_equal(info->state, PIL_POOL_READY);
    assert_int_equal(info->dim, DIM);
    assert_int_equal(info->max_tokens, 128);
    assert_int_equal(info->deaths, 0);
}

/* Calls fn for every living child of this process; returns how many there are. */
static size_t each_child(void (*fn)(int pid)) {
    size_t n = 0;
    DIR *d = opendir("/proc");
    assert_non_null(d);
    for (struct dirent *e; (e = readdir(d));) {
        char path[300], state = 0;
        int parent = 0, pid = (int)strtol(e->d_name, NULL, 10);
        snprintf(path, sizeof path, "/proc/%s/stat", e->d_name);
        FILE *f = pid > 0 ? fopen(path, "r") : NULL;
        if (!f) continue;
        if (fscanf(f, "%*d (%*[^)]) %c %d", &state, &parent) == 2 && parent == (int)getpid() && state != 'Z') {
            n++;
            if (fn) fn(pid);
        }
        fclose(f);
    }
    closedir(d);
    return n;
}

static void kill_it(int pid) { kill(pid, SIGKILL); }

static void deaths_from_outside_are_invisible(void **state) {
    world *w = *state;
    start(w, 2, NULL, NULL, NULL);
    say(w, 3, "SLOW");
    for (int i = 0; i < 30; i++) submit(w, N);
    w->expected = 1; /* stop the loop after every answer, and kill all workers after every third; some come together */
    for (size_t next = 1; w->done < 30;) {
        pil_loop_run(w->loop);
        w->expected = w->done + 1;
        if (w->done < next) continue;
        each_child(kill_it);
        next = w->done + 3;
    }
    assert_int_equal(w->done, 30);
    assert_all_fine(w, N);
    assert_true(pil_pool_info_of(w->pool)->deaths > 0);
}

static uint64_t deaths(const world *w) { return pil_pool_info_of(w->pool)->deaths; }

static void run_one(world *w, size_t n) {
    w->done = w->expected = 0;
    submit(w, n);
    pil_loop_run(w->loop);
}

/* Two deaths for one poison: one in company, one alone; none when it comes again. */
static void a_poison_text_hurts_only_itself(void **state) {
    world *w = *state;
    start(w, 2, NULL, NULL, NULL);
    for (size_t at = 0; at < N; at++) {
        char old[24];
        memcpy(old, w->texts[at], sizeof old);
        snprintf(w->texts[at], sizeof w->texts[at], "%s %zu", at % 2 ? "EXIT" : "CRASH", at);
        w->inputs[at].text_bytes = strlen(w->texts[at]);
        for (int again = 0; again < 2; again++) {
            uint64_t before = deaths(w);
            run_one(w, N);
            assert_int_equal(w->end, PIL_JOB_ANSWERED);
            assert_false(w->wrong);
            for (size_t i = 0; i < N; i++) assert_int_equal(w->status[i], i == at ? PILLION_E_POISON : PILLION_OK);
            if (deaths(w) - before != (again ? 0 : 2))
                fail_msg("index %zu, round %d: %d deaths", at, again, (int)(deaths(w) - before));
        }
        say(w, at, old);
    }
}

static void a_text_under_which_workers_vanish_ends_too(void **state) {
    world *w = *state;
    w->sched.deadline_ms = 1500; /* such deaths are no text's fault, so it is tried for as long as there is time */
    start(w, 2, NULL, NULL, NULL);
    say(w, 0, "KILLED");
    run_one(w, 1);
    assert_int_equal(w->status[0], PILLION_E_DEADLINE);
    assert_true(deaths(w) >= 2);
}

static void a_worker_that_lies_is_replaced_and_its_texts_are_computed(void **state) {
    static const char *const lies[] = {"ONCE-RUBBISH",   "ONCE-HUGE",    "ONCE-CLOSE", "ONCE-OTHERTEXT",
                                       "ONCE-OTHERID", "ONCE-OLDLIFE", "ONCE-HALF"};
    world *w = *state;
    start(w, 1, NULL, NULL, NULL);
    for (size_t i = 0; i < sizeof lies / sizeof *lies; i++) {
        say(w, 5, lies[i]);
        run_one(w, N);
        assert_all_fine(w, N);
        if (deaths(w) != i + 1) fail_msg("%s: %d deaths", lies[i], (int)deaths(w));
    }
}

static void an_answer_that_comes_twice_counts_once(void **state) {
    world *w = *state;
    start(w, 1, NULL, NULL, NULL);
    say(w, 0, "TWICE");
    for (unsigned i = 0; i < 3; i++) {
        run_one(w, N);
        assert_all_fine(w, N);
    }
    run_one(w, N);
    assert_true(deaths(w) >= 1);
}

static void a_vector_that_is_no_number_is_an_error_of_its_text(void **state) {
    world *w = *state;
    start(w, 2, NULL, NULL, NULL);
    say(w, 1, "NAN");
    run_one(w, 3);
    assert_int_equal(w->status[0], PILLION_OK);
    assert_int_equal(w->status[1], PILLION_E_NUMERIC);
    assert_int_equal(w->status[2], PILLION_OK);
    pil_sched_load load;
    pil_pool_measure(w->pool, &load);
    assert_int_equal(load.numeric_retries, 1);
}

static void a_worker_that_hangs_is_killed_and_one_that_is_slow_is_not(void **state) {
    world *w = *state;
    w->sched.stall_ms = 3000;
    start(w, 1, NULL, NULL, NULL);
    say(w, 3, "PATIENCE");
    run_one(w, 8);
    assert_all_fine(w, 8);
    assert_int_equal(deaths(w), 0);
    say(w, 3, "HANG");
    run_one(w, 8);
    for (size_t i = 0; i < 8; i++) assert_int_equal(w->status[i], i == 3 ? PILLION_E_POISON : PILLION_OK);
    assert_int_equal(deaths(w), 2);
}

static void stop_it(int pid) { kill(pid, SIGSTOP); }

static void workers_that_were_stopped_are_replaced(void **state) {
    world *w = *state;
    w->sched.stall_ms = 2000;
    start(w, 2, NULL, NULL, NULL);
    run_one(w, N);
    for (int i = 0; i < 2; i++) {
        each_child(stop_it);
        run_one(w, N);
        assert_all_fine(w, N);
    }
    assert_true(deaths(w) >= 2);
}

/* Two kills under one text would convict it. */
static void a_text_is_not_charged_with_a_slow_disk_or_a_lack_of_processors(void **state) {
    world *w = *state;
    w->sched.stall_ms = 2000;
    start(w, 1, NULL, NULL, NULL);
    say(w, 3, "DISK");
    run_one(w, 8);
    assert_all_fine(w, 8);
    assert_int_equal(deaths(w), 2);
    say(w, 3, "STARVED");
    run_one(w, 8);
    assert_all_fine(w, 8);
    assert_true(deaths(w) >= 4); /* those beside it may starve too */
}

static void what_nobody_waits_for_is_not_finished(void **state) {
    world *w = *state;
    w->sched.express = false;
    start(w, 1, NULL, NULL, NULL);
    run_one(w, 1);
    say(w, 0, "UNWANTED"); /* is computed until it is cancelled */
    pil_ticket *t = submit(w, 1);
    pil_pool_cancel(w->pool, t);
    say(w, 0, "wanted");
    run_one(w, 1);
    assert_all_fine(w, 1);
    assert_int_equal(deaths(w), 0);
    pil_sched_load load;
    pil_pool_measure(w->pool, &load);
    assert_int_equal(load.batches_abandoned, 1);
}

static void stop_when_decided(void *ud) {
    world *w = ud;
    if (pil_pool_info_of(w->pool)->state != PIL_POOL_PREPARING) pil_loop_stop(w->loop);
}

static void assert_fails(world *w, const char *directory, const char *file, pillion_status status, const char *part) {
    start(w, 2, directory, file, stop_when_decided);
    submit(w, 1);
    w->expected = 2; /* the answer to this one does not stop the loop */
    pil_loop_run(w->loop);
    assert_int_equal(pil_pool_info_of(w->pool)->state, PIL_POOL_FAILED);
    assert_error(pil_pool_info_of(w->pool)->error, status, part);
    w->expected = 1;
    if (w->done < 1) pil_loop_run(w->loop);
    assert_int_equal(w->end, PIL_JOB_UNAVAILABLE);
    assert_int_equal(w->status[0], PILLION_E_UNAVAILABLE);
    pil_ticket *t; /* and one that comes later */
    pillion_error err = {0};
    assert_int_equal(pil_pool_submit(w->pool, &t, 1, PILLION_OP_EMBED, &w->options, w->inputs, 1, on_done, w, &err),
                     PILLION_E_UNAVAILABLE);
    assert_error(err, PILLION_E_UNAVAILABLE, part);
}

static void a_bad_model_fails_the_pool_with_its_reason(void **state) {
    assert_fails(*state, NULL, "bad", PILLION_E_FORMAT, "bad: not a model");
}

static void stop_when_open(void *ud) {
    world *w = ud;
    if (pil_pool_info_of(w->pool)->breaker_open) pil_loop_stop(w->loop);
}

/* A crash may be over the next time: the pool goes on trying, seldom, and says why nothing is computed. */
static void workers_that_never_start_open_the_breaker(void **state) {
    world *w = *state;
    start(w, 2, NULL, "die", stop_when_open);
    submit(w, 1);
    w->expected = 2;
    pil_loop_run(w->loop);
    const pil_pool_info *info = pil_pool_info_of(w->pool);
    assert_int_equal(info->state, PIL_POOL_PREPARING);
    assert_non_null(strstr(info->reason, "exit status 9"));
    assert_true(info->deaths >= 5 && info->deaths <= 8);
    w->expected = 1;
    if (w->done < 1) pil_loop_run(w->loop);
    assert_int_equal(w->end, PIL_JOB_UNAVAILABLE);
    pil_ticket *t;
    pillion_error err = {0};
    assert_int_equal(pil_pool_submit(w->pool, &t, 1, PILLION_OP_EMBED, &w->options, w->inputs, 1, on_done, w, &err),
                     PILLION_E_UNAVAILABLE);
    assert_error(err, PILLION_E_UNAVAILABLE, "exit status 9");
}

static void a_death_at_the_first_start_is_invisible(void **state) {
    world *w = *state;
    w->sched.express = false; /* the only one there is dies */
    start(w, 1, NULL, "diefirst", NULL);
    run_one(w, N);
    assert_all_fine(w, N);
    assert_int_equal(deaths(w), 1);
}

static void a_program_that_cannot_be_started_opens_the_breaker(void **state) {
    world *w = *state;
    pillion_error err = {0};
    pil_pool_options o = {.program = "/nonexistent/pillion", .workers = 1, .on_change = stop_when_open, .ud = w};
    assert_ok(pil_pool_create(&w->pool, w->loop, &o, &err), err);
    pil_loop_run(w->loop);
    assert_non_null(strstr(pil_pool_info_of(w->pool)->reason, "no such file"));
}

static void a_compiled_file_that_went_stale_is_made_again(void **state) {
    world *w = *state;
    start(w, 1, "aging", NULL, NULL);
    run_one(w, N);
    assert_all_fine(w, N);
    assert_true(take_note((int)getpid(), "gone"));
    each_child(kill_it);
    run_one(w, N);
    assert_all_fine(w, N);
    assert_in_range(deaths(w), 1, 2); /* those that were killed: that a file is stale is nobody's death */
}

static void a_file_of_the_cache_whose_canary_fails_is_made_again(void **state) {
    world *w = *state;
    assert_true(take_note((int)getpid(), "cached"));
    start(w, 2, "cached", NULL, NULL);
    run_one(w, N);
    assert_all_fine(w, N);
    assert_false(has_note((int)getpid(), "cached"));
    assert_int_equal(deaths(w), 0);
}

static void a_file_that_is_damaged_again_is_not_made_for_ever(void **state) {
    assert_true(take_note((int)getpid(), "cached"));
    assert_fails(*state, "cursed", NULL, PILLION_E_FORMAT, "cached: damaged");
}

static void a_directory_is_prepared_first(void **state) {
    world *w = *state;
    start(w, 1, "good", NULL, NULL);
    submit(w, N);
    pil_loop_run(w->loop);
    assert_all_fine(w, N);
    assert_int_equal(pil_pool_info_of(w->pool)->prepare_total, 10);
}

static void a_directory_that_cannot_be_prepared_fails_the_pool(void **state) {
    assert_fails(*state, "broken", NULL, PILLION_E_UNSUPPORTED, "no such architecture");
}

static void a_path_is_any_bytes(void **state) {
    assert_fails(*state, "escaped", NULL, PILLION_E_FORMAT, "bad: not a model"); /* what the worker called "bad" says */
}

static void a_path_that_is_misspelt_is_no_answer(void **state) {
    assert_fails(*state, "misspelt", NULL, PILLION_E_INTERNAL, "said nothing");
}

static void a_crash_while_preparing_fails_the_pool(void **state) {
    assert_fails(*state, "crash", NULL, PILLION_E_INTERNAL, "could not be compiled");
}

static void a_compiler_without_an_answer_fails_the_pool(void **state) {
    assert_fails(*state, "silent", NULL, PILLION_E_INTERNAL, "could not be compiled");
}

static void a_cancelled_ticket_is_never_called(void **state) {
    world *w = *state;
    start(w, 1, NULL, NULL, NULL);
    pil_ticket *t = submit(w, N);
    submit(w, 1);
    pil_pool_cancel(w->pool, t);
    w->expected = 1;
    pil_loop_run(w->loop);
    assert_int_equal(w->done, 1);
    t = submit(w, N); /* now with the worker already at it */
    pil_pool_cancel(w->pool, t);
    submit(w, 2);
    w->expected = 2;
    pil_loop_run(w->loop);
    assert_int_equal(w->done, 2);
}

static void stopped(void *ud) { pil_loop_stop(((world *)ud)->loop); }

static void stopping_leaves_no_child(void **state) {
    world *w = *state;
    start(w, 3, NULL, NULL, stop_when_decided);
    pil_loop_run(w->loop);
    say(w, 0, "RUBBISH"); /* a busy worker, too */
    submit(w, N);
    pil_pool_stop(w->pool, stopped, w);
    uint64_t before = pil_loop_now_ms(w->loop);
    pil_loop_run(w->loop);
    assert_true(pil_loop_now_ms(w->loop) - before < 1000);
    assert_int_equal(each_child(NULL), 0);
}

int main(int argc, char **argv) {
    if (argc > 1 && strcmp(argv[1], "--role=worker") == 0) return fake_worker(argc > 4 ? argv[4] : "");
    if (argc > 1 && strcmp(argv[1], "--role=prepare") == 0) return fake_prepare(argv[3]);
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        T(work_given_before_the_workers_are_ready_is_done),
        T(deaths_from_outside_are_invisible),
        T(a_poison_text_hurts_only_itself),
        T(a_text_under_which_workers_vanish_ends_too),
        T(a_worker_that_lies_is_replaced_and_its_texts_are_computed),
        T(an_answer_that_comes_twice_counts_once),
        T(a_worker_that_hangs_is_killed_and_one_that_is_slow_is_not),
        T(workers_that_were_stopped_are_replaced),
        T(a_text_is_not_charged_with_a_slow_disk_or_a_lack_of_processors),
        T(what_nobody_waits_for_is_not_finished),
        T(a_vector_that_is_no_number_is_an_error_of_its_text),
        T(a_bad_model_fails_the_pool_with_its_reason),
        T(workers_that_never_start_open_the_breaker),
        T(a_death_at_the_first_start_is_invisible),
        T(a_program_that_cannot_be_started_opens_the_breaker),
        T(a_compiled_file_that_went_stale_is_made_again),
        T(a_file_of_the_cache_whose_canary_fails_is_made_again),
        T(a_file_that_is_damaged_again_is_not_made_for_ever),
        T(a_directory_is_prepared_first),
        T(a_directory_that_cannot_be_prepared_fails_the_pool),
        T(a_path_is_any_bytes),
        T(a_path_that_is_misspelt_is_no_answer),
        T(a_crash_while_preparing_fails_the_pool),
        T(a_compiler_without_an_answer_fails_the_pool),
        T(a_cancelled_ticket_is_never_called),
        T(stopping_leaves_no_child),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
