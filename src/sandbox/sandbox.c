/* sandbox.c - putting the cage together: the order of the layers, limits, capabilities, the report.
 *
 * Order:      capabilities and no_new_privs first (the others need the second), then Landlock, which opens paths, then
 *             seccomp, which would forbid that, and the limits last: building the filter needs memory.
 * Invariants: (1) a bit of report->layers is set only after the kernel said yes. (2) a layer that the kernel has and
 *             that cannot be built is a failure, never a smaller report.
 * Threads:    the calling one must be the only one, unless it is about to exec. Memory: nothing outlives a call.
 * Not here:   landlock.c, filter.c, selftest.c. Tests: tests/sandbox/test_sandbox.c. */
#include "sandbox/sandbox.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#ifdef __linux__
#include <linux/capability.h>
#include <linux/securebits.h>
#include <sys/prctl.h>
#endif

#include "base/err.h"
#include "sandbox/sandbox_int.h"

static unsigned bit(pil_sandbox_layer layer) { return 1u << layer; }

/* ── The report ─────────────────────────────────────────────────────────────────────────────────────────────── */

pil_sandbox_state pil_sandbox_state_of(const pil_sandbox_report *report) {
    if (report->layers == bit(PIL_SANDBOX_LAYER_COUNT) - 1) return PIL_SANDBOX_FULL;
    unsigned strong = bit(PIL_SANDBOX_LAYER_LANDLOCK) | bit(PIL_SANDBOX_LAYER_SECCOMP);
    return report->layers & strong ? PIL_SANDBOX_PARTIAL : PIL_SANDBOX_NONE;
}

const char *pil_sandbox_describe(const pil_sandbox_report *report, char *out, size_t out_bytes) {
#define PIL_SANDBOX_LAYER_TEXT(name, text) text,
    static const char *const names[] = {PIL_SANDBOX_LAYER_MAP(PIL_SANDBOX_LAYER_TEXT)};
#undef PIL_SANDBOX_LAYER_TEXT
    static const char *const states[] = {"none", "partial", "full"};
    pil_sandbox_state state = pil_sandbox_state_of(report);
    int at = snprintf(out, out_bytes, "%s", states[state]);
    if (state != PIL_SANDBOX_PARTIAL) return out;
    const char *before = ": no ";
    for (int i = 0; i < PIL_SANDBOX_LAYER_COUNT; i++) {
        if (report->layers & bit((pil_sandbox_layer)i) || at < 0 || (size_t)at >= out_bytes) continue;
        at += snprintf(out + at, out_bytes - (size_t)at, "%s%s", before, names[i]);
        before = ", ";
    }
    return out;
}

/* ── Privileges ─────────────────────────────────────────────────────────────────────────────────────────────── */

#ifdef __linux__

typedef struct cap_sets {
    struct __user_cap_header_struct head;
    struct __user_cap_data_struct data[_LINUX_CAPABILITY_U32S_3];
} cap_sets;

static bool has_capabilities(void) {
    cap_sets now = {.head = {.version = _LINUX_CAPABILITY_VERSION_3}};
    if (syscall(__NR_capget, &now.head, now.data) != 0) return true;
    return (now.data[0].permitted | now.data[1].permitted | now.data[0].effective | now.data[1].effective) != 0;
}

/* The bounding set and the securebits keep root from getting them back by exec; both need rights that an ordinary user
 * has not, and such a user has nothing to lose. */
static bool drop_capabilities(void) {
    if (has_capabilities()) {
        unsigned long bits = SECBIT_NOROOT | SECBIT_NOROOT_LOCKED;
        for (unsigned long cap = 0; prctl(PR_CAPBSET_READ, cap, 0, 0, 0) >= 0; cap++)
            prctl(PR_CAPBSET_DROP, cap, 0, 0, 0);
        prctl(PR_SET_SECUREBITS, bits, 0, 0, 0);
    }
    prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0);
    cap_sets none = {.head = {.version = _LINUX_CAPABILITY_VERSION_3}};
    syscall(__NR_capset, &none.head, none.data);
    return !has_capabilities();
}

static bool drop_privileges(void) { return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0; }

/* Landlock cages the calling thread alone: a second one would keep its rights. (That of a tool ends with exec.) */
static unsigned count_threads(void) {
    DIR *tasks = opendir("/proc/self/task");
    if (!tasks) return 1;
    unsigned n = 0;
    for (struct dirent *e; (e = readdir(tasks));) n += e->d_name[0] != '.';
    closedir(tasks);
    return n;
}

#else

static bool drop_capabilities(void) { return false; }
static bool drop_privileges(void) { return false; }
static unsigned count_threads(void) { return 1; }

#endif

/* ── Limits ─────────────────────────────────────────────────────────────────────────────────────────────────── */

static pillion_status lower(int resource, const char *name, uint64_t to, pillion_error *err) {
    struct rlimit now;
    if (to == PIL_SANDBOX_UNLIMITED) return PILLION_OK;
    int failed = getrlimit(resource, &now);
    if (!failed) {
        rlim_t limit = now.rlim_max == RLIM_INFINITY || to < now.rlim_max ? (rlim_t)to : now.rlim_max;
        failed = setrlimit(resource, &(struct rlimit){limit, limit});
    }
    return failed ? pil_err_set(err, PILLION_E_INTERNAL, "rlimit %s: %s", name, strerror(errno)) : PILLION_OK;
}

static pillion_status apply_limits(const pil_sandbox_policy *p, pillion_error *err) {
    pillion_status st = lower(RLIMIT_CORE, "core", 0, err);
    if (!st) st = lower(RLIMIT_CPU, "cpu", p->cpu_s, err);
    if (!st) st = lower(RLIMIT_FSIZE, "fsize", p->file_bytes, err);
    if (!st) st = lower(RLIMIT_NOFILE, "nofile", p->files, err);
#ifdef RLIMIT_NPROC
    if (!st) st = lower(RLIMIT_NPROC, "nproc", p->processes, err);
#endif
    if (!st) st = lower(RLIMIT_AS, "as", p->memory_bytes, err);
    return st;
}

/* ── The whole ──────────────────────────────────────────────────────────────────────────────────────────────── */

void pil_sandbox_policy_init(pil_sandbox_policy *policy, pil_sandbox_role role) {
    *policy = (pil_sandbox_policy){
        .role = role,
        .memory_bytes = PIL_SANDBOX_UNLIMITED,
        .cpu_s = PIL_SANDBOX_UNLIMITED,
        .file_bytes = PIL_SANDBOX_UNLIMITED,
        .files = role == PIL_SANDBOX_WORKER ? 16 : 64,
        .processes = PIL_SANDBOX_UNLIMITED,
    };
}

void pil_sandbox_probe(pil_sandbox_report *report) {
    *report = (pil_sandbox_report){.landlock_abi = pil_landlock_abi()};
#ifdef __linux__
    report->layers = bit(PIL_SANDBOX_LAYER_PRIVILEGES) | bit(PIL_SANDBOX_LAYER_CAPABILITIES);
#endif
    report->layers |= bit(PIL_SANDBOX_LAYER_LIMITS);
    if (report->landlock_abi > 0) report->layers |= bit(PIL_SANDBOX_LAYER_LANDLOCK);
    if (pil_filter_available()) report->layers |= bit(PIL_SANDBOX_LAYER_SECCOMP);
}

pillion_status pil_sandbox_apply(const pil_sandbox_policy *policy, pil_sandbox_report *report, pillion_error *err) {
    pil_sandbox_report unused;
    if (!report) report = &unused;
    *report = (pil_sandbox_report){.landlock_abi = pil_landlock_abi()};
    if (policy->role == PIL_SANDBOX_WORKER && policy->n_read_paths + policy->n_exec_paths > 0)
        return pil_err_set(err, PILLION_E_ARG, "a caged worker has no paths");
    if (policy->role != PIL_SANDBOX_TOOL && count_threads() != 1)
        return pil_err_set(err, PILLION_E_INTERNAL, "only a process with one thread can be caged");

    bool landlock = false, filter = false;
    if (drop_capabilities()) report->layers |= bit(PIL_SANDBOX_LAYER_CAPABILITIES);
    if (drop_privileges()) report->layers |= bit(PIL_SANDBOX_LAYER_PRIVILEGES);
    pillion_status st = pil_landlock_apply(policy, &landlock, err);
    if (!st) st = pil_filter_apply(policy->role, &filter, err);
    if (!st) st = apply_limits(policy, err);
    if (st) return st;
    report->layers |= bit(PIL_SANDBOX_LAYER_LIMITS);
    if (landlock) report->layers |= bit(PIL_SANDBOX_LAYER_LANDLOCK);
    if (filter) report->layers |= bit(PIL_SANDBOX_LAYER_SECCOMP);
    return PILLION_OK;
}
