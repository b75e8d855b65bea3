/* test_sandbox.c - the cage holds what it promises, says what it lacks, and is never smaller than reported. */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "sandbox/sandbox.h"
#include "support/files.h"
#include "support/test.h"
#include "support/tiny_model.h"

/* Runs body in a forked child; gives its exit status, or 128 + the signal that ended it. */
static int in_child(int (*body)(void *ud), void *ud) {
    fflush(NULL);
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) _exit(body(ud));
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

static bool kernel_has(pil_sandbox_layer layer) {
    pil_sandbox_report report;
    pil_sandbox_probe(&report);
    return report.layers >> layer & 1;
}

/* With a layer missing the self-test must say what is open, and then cannot pass: that is what it is for. */
static void check_role(pil_sandbox_role role, size_t at_least) {
    need_one_thread();
    pil_sandbox_check checks[PIL_SANDBOX_CHECKS_MAX];
    size_t n, open = 0, meaningful = 0;
    pillion_error err = {0};
    pillion_status st = pil_sandbox_selftest(role, checks, &n, &err);
    for (size_t i = 0; i < n; i++) {
        if (checks[i].should) assert_true(checks[i].allowed);
        if (!checks[i].should && checks[i].allowed) {
            print_message("not denied: %s\n", checks[i].name);
            open++;
        }
        meaningful += checks[i].allowed_uncaged;
    }
    print_message("%zu checks, %zu of them succeed without the cage\n", n, meaningful);
    assert_true(n >= at_least);
    assert_true(meaningful * 10 >= n * 7);
    if (st) print_message("%s\n", err.text);
    assert_int_equal(st, open ? PILLION_E_INTERNAL : PILLION_OK);
    if (open && !kernel_has(PIL_SANDBOX_LAYER_SECCOMP)) skip_with("this kernel has no seccomp filters");
    if (open && !kernel_has(PIL_SANDBOX_LAYER_LANDLOCK) && role != PIL_SANDBOX_WORKER)
        skip_with("this kernel has no Landlock");
    assert_int_equal(open, 0);
}

static void a_worker_is_denied_everything_but_computing(void **state) {
    (void)state;
    check_role(PIL_SANDBOX_WORKER, 26);
}

static void a_supervisor_of_tools_is_denied_network_writing_and_tracing(void **state) {
    (void)state;
    check_role(PIL_SANDBOX_SUPERVISOR, 20);
}

static void a_tool_is_also_denied_processes_and_signals(void **state) {
    (void)state;
    check_role(PIL_SANDBOX_TOOL, 25);
}

static int report_of_apply(void *ud) {
    pil_sandbox_policy policy;
    pil_sandbox_report report, offered;
    pil_sandbox_probe(&offered);
    pil_sandbox_policy_init(&policy, *(pil_sandbox_role *)ud);
    if (pil_sandbox_apply(&policy, &report, NULL)) return 1;
    return report.layers == offered.layers && report.landlock_abi == offered.landlock_abi ? 0 : 2;
}

static void what_the_kernel_offers_is_what_is_in_force(void **state) {
    (void)state;
    need_one_thread();
    for (pil_sandbox_role role = PIL_SANDBOX_WORKER; role <= PIL_SANDBOX_TOOL; role++)
        assert_int_equal(in_child(report_of_apply, &role), 0);
    pil_sandbox_report report;
    char line[PIL_SANDBOX_LINE];
    pil_sandbox_probe(&report);
    print_message("sandbox here: %s, landlock ABI %d\n", pil_sandbox_describe(&report, line, sizeof line),
                  report.landlock_abi);
}

static void the_description_names_what_is_missing(void **state) {
    (void)state;
    char line[PIL_SANDBOX_LINE];
    unsigned all = (1u << PIL_SANDBOX_LAYER_COUNT) - 1;
    pil_sandbox_report r = {.layers = all};
    assert_string_equal(pil_sandbox_describe(&r, line, sizeof line), "full");
    r.layers = all & ~(1u << PIL_SANDBOX_LAYER_LANDLOCK);
    assert_string_equal(pil_sandbox_describe(&r, line, sizeof line), "partial: no landlock");
    assert_int_equal(pil_sandbox_state_of(&r), PIL_SANDBOX_PARTIAL);
    r.layers = 1u << PIL_SANDBOX_LAYER_SECCOMP;
    assert_string_equal(pil_sandbox_describe(&r, line, sizeof line),
                        "partial: no no_new_privs, capability-drop, rlimits, landlock");
    r.layers = 1u << PIL_SANDBOX_LAYER_LIMITS;
    assert_string_equal(pil_sandbox_describe(&r, line, sizeof line), "none");
    assert_string_equal(pil_sandbox_describe(&r, line, 3), "no");
    r.layers = all & ~(1u << PIL_SANDBOX_LAYER_LANDLOCK);
    assert_string_equal(pil_sandbox_describe(&r, line, 13), "partial: no ");
}

static void *wait_for_release(void *ud) {
    pthread_mutex_lock(ud);
    pthread_mutex_unlock(ud);
    return NULL;
}

static int apply_with_two_threads(void *ud) {
    (void)ud;
    pthread_mutex_t gate = PTHREAD_MUTEX_INITIALIZER;
    pthread_t thread;
    pthread_mutex_lock(&gate);
    if (pthread_create(&thread, NULL, wait_for_release, &gate)) return 1;
    pil_sandbox_policy policy;
    pil_sandbox_policy_init(&policy, PIL_SANDBOX_WORKER);
    pillion_error err = {0};
    pillion_status st = pil_sandbox_apply(&policy, NULL, &err);
    pthread_mutex_unlock(&gate);
    pthread_join(thread, NULL);
    return st == PILLION_E_INTERNAL && strstr(err.text, "one thread") ? 0 : 2;
}

static void a_process_with_two_threads_is_refused(void **state) {
    (void)state;
    need_one_thread();
    assert_int_equal(in_child(apply_with_two_threads, NULL), 0);
}

static void a_worker_may_not_be_given_paths(void **state) {
    (void)state;
    const char *paths[] = {"/usr"};
    pil_sandbox_policy policy;
    pil_sandbox_policy_init(&policy, PIL_SANDBOX_WORKER);
    policy.read_paths = paths;
    policy.n_read_paths = 1;
    pillion_error err = {0};
    assert_int_equal(pil_sandbox_apply(&policy, NULL, &err), PILLION_E_ARG);
}

static int read_below_given_paths_only(void *ud) {
    (void)ud;
    const char *paths[] = {"/usr/share", "/nowhere/at/all", "/etc/hostname"};
    pil_sandbox_policy policy;
    pil_sandbox_policy_init(&policy, PIL_SANDBOX_SUPERVISOR);
    policy.read_paths = paths;
    policy.n_read_paths = 3;
    if (pil_sandbox_apply(&policy, NULL, NULL)) return 1;
    if (open("/usr/share", O_RDONLY | O_DIRECTORY) < 0) return 2;
    if (access("/etc/hostname", F_OK) == 0 && open("/etc/hostname", O_RDONLY) < 0) return 3;
    if (open("/etc/passwd", O_RDONLY) >= 0) return 4;
    if (open("/usr/share/../../etc/passwd", O_RDONLY) >= 0) return 5;
    if (open("/proc/self/root/etc/passwd", O_RDONLY) >= 0) return 6;
    if (open("/usr", O_RDONLY | O_DIRECTORY) >= 0) return 7;
    return 0;
}

static void only_what_lies_below_the_given_paths_is_read(void **state) {
    (void)state;
    need_one_thread();
    if (!kernel_has(PIL_SANDBOX_LAYER_LANDLOCK)) skip_with("this kernel has no Landlock");
    assert_int_equal(in_child(read_below_given_paths_only, NULL), 0);
}

static int execute_given_program(void *ud) {
    const char *given = ud;
    const char *read[] = {"/lib", "/lib64", "/usr/lib", "/usr/lib64", "/etc/ld.so.cache"};
    pil_sandbox_policy policy;
    pil_sandbox_policy_init(&policy, PIL_SANDBOX_TOOL);
    policy.read_paths = read;
    policy.n_read_paths = sizeof read / sizeof *read;
    policy.exec_paths = &given;
    policy.n_exec_paths = 1;
    policy.memory_bytes = 256 << 20;
    policy.processes = 0;
    if (pil_sandbox_apply(&policy, NULL, NULL)) return 100;
    execl("/bin/false", "false", (char *)NULL);
    return errno == EACCES ? 101 : 102;
}

static void only_the_given_program_is_executed(void **state) {
    (void)state;
    need_one_thread();
    if (!kernel_has(PIL_SANDBOX_LAYER_LANDLOCK)) skip_with("this kernel has no Landlock");
    assert_int_equal(in_child(execute_given_program, (void *)(uintptr_t)"/bin/false"), 1);
    assert_int_equal(in_child(execute_given_program, (void *)(uintptr_t)"/bin/true"), 101);
}

static int limits_in_force(void *ud) {
    (void)ud;
    pil_sandbox_policy policy;
    pil_sandbox_policy_init(&policy, PIL_SANDBOX_SUPERVISOR);
    policy.cpu_s = 7;
    policy.file_bytes = 4096;
    policy.files = 12;
    policy.processes = 3;
    struct rlimit l;
    getrlimit(RLIMIT_AS, &l);
    rlim_t memory_before = l.rlim_max;
    if (pil_sandbox_apply(&policy, NULL, NULL)) return 1;
    getrlimit(RLIMIT_CORE, &l);
    if (l.rlim_cur != 0 || l.rlim_max != 0) return 2;
    getrlimit(RLIMIT_CPU, &l);
    if (l.rlim_cur != 7 || l.rlim_max != 7) return 3;
    getrlimit(RLIMIT_FSIZE, &l);
    if (l.rlim_max != 4096) return 4;
    getrlimit(RLIMIT_NOFILE, &l);
    if (l.rlim_max != 12) return 5;
    getrlimit(RLIMIT_NPROC, &l);
    if (l.rlim_max != 3) return 6;
    getrlimit(RLIMIT_AS, &l);
    if (l.rlim_max != memory_before) return 7;
    policy.cpu_s = 1000; /* a second cage never raises what the first has lowered */
    if (pil_sandbox_apply(&policy, NULL, NULL)) return 8;
    getrlimit(RLIMIT_CPU, &l);
    return l.rlim_max == 7 ? 0 : 9;
}

static void limits_are_lowered_and_never_raised(void **state) {
    (void)state;
    need_one_thread();
    assert_int_equal(in_child(limits_in_force, NULL), 0);
}

static int burn(void *ud) {
    (void)ud;
    pil_sandbox_policy policy;
    pil_sandbox_policy_init(&policy, PIL_SANDBOX_WORKER);
    policy.cpu_s = 1;
    if (pil_sandbox_apply(&policy, NULL, NULL)) return 1;
    for (volatile uint64_t i = 0; i < UINT64_MAX; i++) continue;
    return 2;
}

static void a_process_over_its_cpu_time_is_killed(void **state) {
    (void)state;
    need_one_thread();
    assert_true(in_child(burn, NULL) > 128);
}

static int abort_in_cage(void *ud) {
    pil_sandbox_policy policy;
    pil_sandbox_policy_init(&policy, *(pil_sandbox_role *)ud);
    if (pil_sandbox_apply(&policy, NULL, NULL)) return 1;
    abort();
}

static void a_caged_process_can_still_abort(void **state) {
    (void)state;
    need_one_thread();
    for (pil_sandbox_role role = PIL_SANDBOX_WORKER; role <= PIL_SANDBOX_TOOL; role++)
        assert_int_equal(in_child(abort_in_cage, &role), 128 + SIGABRT);
}

/* ── The engine in a worker's cage ──────────────────────────────────────────────────────────────────────────── */

typedef struct embedding {
    const pillion_model *model;
    uint32_t threads;
    bool caged;
    int result; /* pipe for the vector */
} embedding;

static int embed_in_child(void *ud) {
    const embedding *e = ud;
    if (e->caged) {
        pil_sandbox_policy policy;
        pil_sandbox_policy_init(&policy, PIL_SANDBOX_WORKER);
        if (pil_sandbox_apply(&policy, NULL, NULL)) return 1;
    }
    pillion_session_options options;
    pillion_session_options_init(&options);
    options.threads = e->threads;
    pillion_session *session;
    if (pillion_session_create(&session, e->model, &options, NULL)) return 2;
    pillion_input in[2] = {{.text = "the cat sat on the mat", .text_bytes = 22}, {.text = "hello", .text_bytes = 5}};
    const pillion_item *items;
    for (int round = 0; round < 3; round++)
        if (pillion_run(session, PILLION_OP_EMBED, in, 2, NULL, &items, NULL)) return 3;
    for (int i = 0; i < 2; i++) {
        size_t bytes = items[i].n_values * sizeof(float);
        if (items[i].status || write(e->result, items[i].values, bytes) != (ssize_t)bytes) return 4;
    }
    pillion_session_destroy(session);
    return 0;
}

static void a_mapped_model_computes_the_same_in_the_cage(void **state) {
    (void)state;
    need_one_thread();
    char dir[PIL_TEST_PATH], cache[PIL_TEST_PATH];
    pillion_error err = {0};
    pillion_model_options options;
    pillion_model *model;
    pil_test_dir_make(dir);
    pil_tiny_model_write(dir, "bert", NULL);
    pil_test_path(cache, dir, "cache");
    pillion_model_options_init(&options);
    options.cache_dir = cache;
    assert_ok(pillion_model_open(&model, dir, &options, &err), err);
    float vectors[4][2 * PIL_TINY_HIDDEN];
    for (int i = 0; i < 4; i++) { /* one thread and two, free and caged */
        int ends[2];
        assert_int_equal(pipe(ends), 0);
        embedding e = {.model = model, .threads = i < 2 ? 1 : 2, .caged = i % 2 == 1, .result = ends[1]};
        assert_int_equal(in_child(embed_in_child, &e), 0);
        assert_int_equal(read(ends[0], vectors[i], sizeof vectors[i]), sizeof vectors[i]);
        close(ends[0]);
        close(ends[1]);
        assert_memory_equal(vectors[i], vectors[0], sizeof vectors[i]);
    }
    pillion_model_close(model);
    pil_test_dir_remove(dir);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_worker_is_denied_everything_but_computing),
        cmocka_unit_test(a_supervisor_of_tools_is_denied_network_writing_and_tracing),
        cmocka_unit_test(a_tool_is_also_denied_processes_and_signals),
        cmocka_unit_test(what_the_kernel_offers_is_what_is_in_force),
        cmocka_unit_test(the_description_names_what_is_missing),
        cmocka_unit_test(a_process_with_two_threads_is_refused),
        cmocka_unit_test(a_worker_may_not_be_given_paths),
        cmocka_unit_test(only_what_lies_below_the_given_paths_is_read),
        cmocka_unit_test(only_the_given_program_is_executed),
        cmocka_unit_test(limits_are_lowered_and_never_raised),
        cmocka_unit_test(a_process_over_its_cpu_time_is_killed),
        cmocka_unit_test(a_caged_process_can_still_abort),
        cmocka_unit_test(a_mapped_model_computes_the_same_in_the_cage),
    };
    return cmocka_run_group_tests_name("sandbox", tests, NULL, NULL);
}
