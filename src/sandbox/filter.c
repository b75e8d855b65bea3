/* filter.c - the system-call part of the cage: seccomp filters. libseccomp stays behind this file.
 *
 * Two shapes. A worker is our own code, so its filter lists what is allowed and refuses the rest. A supervisor's filter
 * is inherited by tools that differ with every distribution, so it lists what is refused: network, writing to the file
 * system, looking into or signalling other processes, new namespaces, and the parts of the kernel that bugs live in.
 * Calls newer than this file are refused there as unknown (ENOSYS), for which programs have a fallback.
 *
 * Refusals are errors and not deaths: a program that tries something needless goes on. Where a filter cannot see what
 * it would have to judge (clone3 and openat2 pass pointers), the call is unknown (ENOSYS) and the C library takes the
 * older one. A call of another architecture than the program's kills the process.
 *
 * Rules are tables of names, resolved when the filter is built, so that a call which this machine has not is skipped.
 * Memory: nothing outlives a call. Tests: tests/sandbox/test_sandbox.c. */
#include "sandbox/sandbox_int.h"

#ifdef __linux__

#include <errno.h>
#include <fcntl.h>
#include <linux/seccomp.h>
#include <linux/sockios.h>
#include <sched.h>
#include <seccomp.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/err.h"

/* One rule for a call: unconditional, or on one argument: (argument & mask) == value. */
typedef struct call_rule {
    const char *name;
    bool conditional;
    unsigned arg;
    uint64_t mask, value;
} call_rule;

#define CALL(name) {name, false, 0, 0, 0}
#define CALL_IF(name, arg, mask, value) {name, true, arg, mask, value}
#define WHOLE UINT64_MAX

/* ── What a worker may do ───────────────────────────────────────────────────────────────────────────────────── */

static const call_rule worker_allows[] = {
    /* its descriptors; sendto only without an address, so only to a connected peer */
    CALL("read"), CALL("readv"), CALL("write"), CALL("writev"), CALL("recvfrom"), CALL("recvmsg"), CALL("sendmsg"),
    CALL_IF("sendto", 4, WHOLE, 0), CALL("close"), CALL("shutdown"), CALL("lseek"),
    CALL_IF("ioctl", 1, 0xFFFFFFFF, FIONBIO), CALL_IF("ioctl", 1, 0xFFFFFFFF, FIOCLEX),
    /* of fcntl what signals nobody: F_SETOWN, F_SETSIG and the O_ASYNC of F_SETFL together are a kill() */
    CALL_IF("fcntl", 1, 0xFFFFFFFF, F_GETFD), CALL_IF("fcntl", 1, 0xFFFFFFFF, F_SETFD),
    CALL_IF("fcntl", 1, 0xFFFFFFFF, F_GETFL), CALL_IF("fcntl", 1, 0xFFFFFFFF, F_DUPFD),
    CALL_IF("fcntl", 1, 0xFFFFFFFF, F_DUPFD_CLOEXEC),
    /* waiting */
    CALL("poll"), CALL("ppoll"), CALL("select"), CALL("pselect6"), CALL("epoll_wait"), CALL("epoll_pwait"),
    CALL("epoll_ctl"), CALL("nanosleep"), CALL("clock_nanosleep"), CALL("futex"), CALL("restart_syscall"),
    CALL("sched_yield"),
    /* memory that is never executable */
    CALL("brk"), CALL_IF("mmap", 2, PROT_EXEC, 0), CALL_IF("mprotect", 2, PROT_EXEC, 0), CALL("munmap"),
    CALL("mremap"), CALL("madvise"), CALL("membarrier"),
    /* threads, not processes; signals to itself (the pid is put in when the filter is built) */
    CALL_IF("clone", 0, CLONE_THREAD, CLONE_THREAD), CALL("set_robust_list"), CALL("rseq"), CALL("gettid"),
    CALL("getpid"), CALL("getppid"), CALL("sched_getaffinity"), CALL("getcpu"), CALL("rt_sigaction"),
    CALL("rt_sigprocmask"), CALL("rt_sigreturn"), CALL("sigaltstack"),
    CALL_IF("prctl", 0, 0xFFFFFFFF, PR_SET_NAME), CALL_IF("prctl", 0, 0xFFFFFFFF, PR_SET_VMA),
    /* looking at itself and at the clock */
    CALL("clock_gettime"), CALL("clock_getres"), CALL("gettimeofday"), CALL("time"), CALL("getrusage"),
    CALL("getrandom"), CALL("uname"), CALL("sysinfo"), CALL("getuid"), CALL("geteuid"), CALL("getgid"),
    CALL("getegid"), CALL("getrlimit"), CALL_IF("prlimit64", 0, 0xFFFFFFFF, 0),
    /* the end */
    CALL("exit"), CALL("exit_group"),
};

/* ── What document supervisors and their tools may not do ───────────────────────────────────────────────────── */

static const call_rule documents_refuse[] = {
    /* network, and everything else that reaches another process */
    CALL("socket"), CALL("socketpair"), CALL("socketcall"), CALL("connect"), CALL("bind"), CALL("listen"),
    CALL("accept"), CALL("accept4"), CALL("shmget"), CALL("shmat"), CALL("msgget"), CALL("semget"), CALL("mq_open"),
    CALL("memfd_create"), CALL("memfd_secret"),
    CALL("ptrace"), CALL("process_vm_readv"), CALL("process_vm_writev"), CALL("process_madvise"),
    CALL("process_mrelease"), CALL("kcmp"), CALL("pidfd_open"), CALL("pidfd_getfd"), CALL("pidfd_send_signal"),
    CALL("rt_sigqueueinfo"), CALL("rt_tgsigqueueinfo"), CALL("tkill"), CALL("move_pages"), CALL("migrate_pages"),
    /* whom a descriptor signals, and with what: by it any process of the user can be killed */
    CALL_IF("fcntl", 1, 0xFFFFFFFF, F_SETOWN), CALL_IF("fcntl", 1, 0xFFFFFFFF, F_SETOWN_EX),
    CALL_IF("fcntl", 1, 0xFFFFFFFF, F_SETSIG), CALL_IF("ioctl", 1, 0xFFFFFFFF, FIOSETOWN),
    CALL_IF("ioctl", 1, 0xFFFFFFFF, SIOCSPGRP), CALL_IF("ioctl", 1, 0xFFFFFFFF, FIOASYNC),
    /* writing to the file system, also on a kernel without Landlock */
    CALL("creat"), CALL("truncate"), CALL("truncate64"), CALL("unlink"), CALL("unlinkat"), CALL("rename"),
    CALL("renameat"), CALL("renameat2"), CALL("mkdir"), CALL("mkdirat"), CALL("rmdir"), CALL("mknod"), CALL("mknodat"),
    CALL("link"), CALL("linkat"), CALL("symlink"), CALL("symlinkat"), CALL("chmod"), CALL("fchmod"), CALL("fchmodat"),
    CALL("chown"), CALL("lchown"), CALL("fchown"), CALL("fchownat"), CALL("utime"), CALL("utimes"), CALL("utimensat"),
    CALL("futimesat"), CALL("setxattr"), CALL("lsetxattr"), CALL("fsetxattr"), CALL("removexattr"),
    CALL("lremovexattr"), CALL("fremovexattr"), CALL("open_by_handle_at"), CALL("name_to_handle_at"),
    CALL_IF("open", 1, O_ACCMODE, O_WRONLY), CALL_IF("open", 1, O_ACCMODE, O_RDWR),
    CALL_IF("open", 1, O_ACCMODE, O_ACCMODE), CALL_IF("open", 1, O_CREAT, O_CREAT),
    CALL_IF("open", 1, O_TRUNC, O_TRUNC), CALL_IF("openat", 2, O_ACCMODE, O_WRONLY),
    CALL_IF("openat", 2, O_ACCMODE, O_RDWR), CALL_IF("openat", 2, O_ACCMODE, O_ACCMODE),
    CALL_IF("openat", 2, O_CREAT, O_CREAT), CALL_IF("openat", 2, O_TRUNC, O_TRUNC),
    /* other rights and other worlds */
    CALL("unshare"), CALL("setns"), CALL("mount"), CALL("umount"), CALL("umount2"), CALL("pivot_root"), CALL("chroot"),
    CALL("open_tree"), CALL("move_mount"), CALL("fsopen"), CALL("fsconfig"), CALL("fsmount"), CALL("fspick"),
    CALL("mount_setattr"), CALL("setuid"), CALL("setgid"), CALL("setreuid"), CALL("setregid"), CALL("setresuid"),
    CALL("setresgid"), CALL("setgroups"), CALL("setfsuid"), CALL("setfsgid"), CALL("capset"), CALL("personality"),
    CALL("keyctl"), CALL("add_key"), CALL("request_key"),
    CALL_IF("clone", 0, CLONE_NEWUSER, CLONE_NEWUSER), CALL_IF("clone", 0, CLONE_NEWNS, CLONE_NEWNS),
    CALL_IF("clone", 0, CLONE_NEWNET, CLONE_NEWNET), CALL_IF("clone", 0, CLONE_NEWPID, CLONE_NEWPID),
    CALL_IF("clone", 0, CLONE_NEWIPC, CLONE_NEWIPC), CALL_IF("clone", 0, CLONE_NEWUTS, CLONE_NEWUTS),
    CALL_IF("clone", 0, CLONE_NEWCGROUP, CLONE_NEWCGROUP),
    /* parts of the kernel that no parser of documents needs */
    CALL("bpf"), CALL("perf_event_open"), CALL("userfaultfd"), CALL("io_uring_setup"), CALL("io_uring_enter"),
    CALL("io_uring_register"), CALL("io_setup"), CALL("io_submit"), CALL("fanotify_init"), CALL("inotify_init"),
    CALL("inotify_init1"), CALL("execveat"), CALL("uselib"), CALL("modify_ldt"), CALL("kexec_load"),
    CALL("kexec_file_load"), CALL("init_module"), CALL("finit_module"), CALL("delete_module"), CALL("reboot"),
    CALL("swapon"), CALL("swapoff"), CALL("acct"), CALL("quotactl"), CALL("quotactl_fd"), CALL("syslog"),
    CALL("settimeofday"), CALL("clock_settime"), CALL("clock_adjtime"), CALL("adjtimex"), CALL("sethostname"),
    CALL("setdomainname"), CALL("iopl"), CALL("ioperm"), CALL("vhangup"), CALL("lookup_dcookie"), CALL("nfsservctl"),
    CALL("ioprio_set"), CALL("setpriority"), CALL("sched_setscheduler"), CALL("sched_setattr"),
    CALL("sched_setparam"),
};

/* Besides: a tool makes no process, signals nobody, stays in its group and keeps its parent's death signal. */
static const call_rule tools_refuse[] = {
    CALL("fork"), CALL("vfork"), CALL_IF("clone", 0, CLONE_THREAD, 0), CALL("kill"), CALL("setsid"), CALL("setpgid"),
    CALL_IF("prctl", 0, 0xFFFFFFFF, PR_SET_PDEATHSIG),
};

static const call_rule unknown_calls[] = {CALL("clone3"), CALL("openat2")};

/* From 424 on, numbers are the same on every architecture. The first that no table above names, and the last before
 * those of the x32 ABI. */
enum { NEW_CALLS_FIRST = 451, NEW_CALLS_LAST = 511 };

/* ── Building ───────────────────────────────────────────────────────────────────────────────────────────────── */

static int add_rules(scmp_filter_ctx filter, uint32_t action, const call_rule *rules, size_t n) {
    int failed = 0;
    for (size_t i = 0; !failed && i < n; i++) {
        int number = seccomp_syscall_resolve_name(rules[i].name);
        if (number < 0) continue;
        struct scmp_arg_cmp when = {rules[i].arg, SCMP_CMP_MASKED_EQ, rules[i].mask, rules[i].value};
        failed = seccomp_rule_add_array(filter, action, number, rules[i].conditional ? 1 : 0, &when);
    }
    return failed;
}

#define ADD(filter, action, rules) add_rules(filter, action, rules, sizeof(rules) / sizeof *(rules))

/* tgkill(own process, …) is how abort() and raise() end a process; the process id is kept across exec. */
static int add_own_signals(scmp_filter_ctx filter, uint32_t action, enum scmp_compare compare) {
    struct scmp_arg_cmp own = {0, compare, (scmp_datum_t)getpid(), 0};
    return seccomp_rule_add_array(filter, action, SCMP_SYS(tgkill), 1, &own);
}

static int build_worker(scmp_filter_ctx filter) {
    int failed = ADD(filter, SCMP_ACT_ALLOW, worker_allows);
    if (!failed) failed = add_own_signals(filter, SCMP_ACT_ALLOW, SCMP_CMP_EQ);
    if (!failed) failed = add_rules(filter, SCMP_ACT_ERRNO(ENOSYS), unknown_calls, 1);
    return failed;
}

static int build_documents(scmp_filter_ctx filter, bool tool) {
    int failed = ADD(filter, SCMP_ACT_ERRNO(EPERM), documents_refuse);
    if (!failed) failed = ADD(filter, SCMP_ACT_ERRNO(ENOSYS), unknown_calls);
    static const int of_a_process[] = {SCMP_SYS(prlimit64), SCMP_SYS(sched_setaffinity)}; /* 0 is the caller */
    struct scmp_arg_cmp another = {0, SCMP_CMP_NE, 0, 0};
    for (size_t i = 0; !failed && i < sizeof of_a_process / sizeof *of_a_process; i++)
        failed = seccomp_rule_add_array(filter, SCMP_ACT_ERRNO(EPERM), of_a_process[i], 1, &another);
    for (int number = NEW_CALLS_FIRST; !failed && number <= NEW_CALLS_LAST; number++)
        failed = seccomp_rule_add_array(filter, SCMP_ACT_ERRNO(ENOSYS), number, 0, NULL);
    if (!failed && tool) failed = ADD(filter, SCMP_ACT_ERRNO(EPERM), tools_refuse);
    if (!failed && tool) failed = add_own_signals(filter, SCMP_ACT_ERRNO(EPERM), SCMP_CMP_NE);
    return failed;
}

bool pil_filter_available(void) {
    uint32_t action = SECCOMP_RET_ERRNO;
    return syscall(__NR_seccomp, SECCOMP_GET_ACTION_AVAIL, 0, &action) == 0;
}

pillion_status pil_filter_apply(pil_sandbox_role role, bool *applied, pillion_error *err) {
    *applied = false;
    if (!pil_filter_available()) return PILLION_OK;
    bool worker = role == PIL_SANDBOX_WORKER;
    scmp_filter_ctx filter = seccomp_init(worker ? SCMP_ACT_ERRNO(EPERM) : SCMP_ACT_ALLOW);
    if (!filter) return pil_err_set(err, PILLION_E_INTERNAL, "seccomp: out of memory");
    int failed = seccomp_attr_set(filter, SCMP_FLTATR_CTL_OPTIMIZE, 2); /* a tree of calls, not a list */
    if (!failed) failed = seccomp_attr_set(filter, SCMP_FLTATR_ACT_BADARCH, SCMP_ACT_KILL_PROCESS);
    if (!failed) failed = worker ? build_worker(filter) : build_documents(filter, role == PIL_SANDBOX_TOOL);
    if (!failed) failed = seccomp_load(filter);
    seccomp_release(filter);
    if (failed) return pil_err_set(err, PILLION_E_INTERNAL, "seccomp: filter: %s", strerror(-failed));
    *applied = true;
    return PILLION_OK;
}

#else

bool pil_filter_available(void) { return false; }

pillion_status pil_filter_apply(pil_sandbox_role role, bool *applied, pillion_error *err) {
    (void)role, (void)err;
    *applied = false;
    return PILLION_OK;
}

#endif
