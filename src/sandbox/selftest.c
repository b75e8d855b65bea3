/* selftest.c - proof that the cage holds: each thing that a role must not do, and some that it must, is tried.
 *
 * Flow:    for each probe: fork a child, cage it, try, and let its exit status tell; then again without the cage, which
 *          shows whether the attempt could have succeeded at all on this machine.
 * Rules:   a probe harms nothing when it succeeds: signal 0, a file that is removed, a peer that is not listening.
 *          Probes use system calls directly where the C library would decide something itself.
 * Memory:  none kept. Threads: one. Tests: tests/sandbox/test_sandbox.c. */
#include "sandbox/sandbox.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <netinet/in.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#ifdef __linux__
#include <linux/sockios.h>
#include <sched.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/uio.h>
#endif

#include "base/err.h"
#include "sandbox/sandbox_int.h"

/* What is made before the cage closes, for probes that need a partner. */
typedef struct surroundings {
    pid_t parent, sibling; /* the process that runs the self-test, and a child of it that only waits */
    int tcp, udp;          /* unconnected sockets */
    int program;           /* an open file that can be executed */
    int pipe_write;
    const char *home;
    char scratch[64];             /* a file name that does not exist, */
    char home_scratch[PATH_MAX]; /* and one in the home folder */
} surroundings;

/* Each returns whether it succeeded. */
typedef bool (*probe_fn)(const surroundings *s);

static bool opens(const char *path, int flags) {
    int fd = open(path, flags | O_CLOEXEC, 0600);
    if (fd >= 0) close(fd);
    return fd >= 0;
}

static bool read_file(const surroundings *s) { return (void)s, opens("/etc/passwd", O_RDONLY); }
static bool read_folder(const surroundings *s) { return (void)s, opens("/", O_RDONLY | O_DIRECTORY); }
static bool read_process(const surroundings *s) { return (void)s, opens("/proc/1/status", O_RDONLY); }
static bool see_file(const surroundings *s) {
    struct stat st;
    return (void)s, stat("/etc/passwd", &st) == 0;
}
static bool write_file(const surroundings *s) {
    bool made = opens(s->scratch, O_WRONLY | O_CREAT | O_EXCL);
    if (made) unlink(s->scratch);
    return made;
}
static bool write_in_home(const surroundings *s) {
    bool made = opens(s->home_scratch, O_WRONLY | O_CREAT | O_EXCL);
    if (made) unlink(s->home_scratch);
    return made;
}
static bool read_home(const surroundings *s) { return opens(s->home, O_RDONLY | O_DIRECTORY); }
static bool read_own_environment(const surroundings *s) { return (void)s, opens("/proc/self/environ", O_RDONLY); }
static bool make_folder(const surroundings *s) {
    bool made = mkdir(s->scratch, 0700) == 0;
    if (made) rmdir(s->scratch);
    return made;
}
static bool change_file(const surroundings *s) { return (void)s, opens("/dev/null", O_WRONLY); }

static bool make_socket(int family) {
    int fd = socket(family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd >= 0) close(fd);
    return fd >= 0;
}
static bool make_inet_socket(const surroundings *s) { return (void)s, make_socket(AF_INET); }
static bool make_unix_socket(const surroundings *s) { return (void)s, make_socket(AF_UNIX); }
static bool use_inherited_socket(const surroundings *s) {
    struct sockaddr_in nobody = {
        .sin_family = AF_INET, .sin_port = htons(9), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    return connect(s->tcp, (struct sockaddr *)&nobody, sizeof nobody) == 0 || errno == ECONNREFUSED;
}

static bool listen_on_inherited_socket(const surroundings *s) {
    struct sockaddr_in any = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    return bind(s->tcp, (struct sockaddr *)&any, sizeof any) == 0 && listen(s->tcp, 1) == 0;
}
static bool send_to_an_address(const surroundings *s) {
    struct sockaddr_in nobody = {
        .sin_family = AF_INET, .sin_port = htons(9), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    return sendto(s->udp, "x", 1, MSG_NOSIGNAL, (struct sockaddr *)&nobody, sizeof nobody) == 1;
}

static bool make_process(const surroundings *s) {
    (void)s;
    pid_t child = fork();
    if (child == 0) _exit(0);
    return child > 0 && waitpid(child, NULL, 0) == child;
}
static bool execute(const surroundings *s) {
    (void)s;
    execl("/bin/true", "true", (char *)NULL); /* on success it ends with 0, as a probe that succeeded */
    return false;
}
static bool execute_open_file(const surroundings *s) {
    char *const argv[] = {(char *)(uintptr_t)"true", NULL}, *const envp[] = {NULL};
    fexecve(s->program, argv, envp);
    return false;
}
static bool signal_parent(const surroundings *s) { return kill(s->parent, 0) == 0; }
static bool signal_sibling(const surroundings *s) { return kill(s->sibling, 0) == 0; }
static bool signal_itself(const surroundings *s) {
    (void)s;
    signal(SIGUSR1, SIG_IGN);
    return raise(SIGUSR1) == 0;
}
static bool leave_session(const surroundings *s) { return (void)s, setsid() > 0; }

static bool raise_limit(const surroundings *s) {
    (void)s;
    struct rlimit now;
    if (getrlimit(RLIMIT_CORE, &now) != 0) return false;
    if (now.rlim_max == RLIM_INFINITY) return true;
    now.rlim_max++;
    return setrlimit(RLIMIT_CORE, &now) == 0;
}

static bool use_memory(const surroundings *s) {
    (void)s;
    void *p = mmap(NULL, 1 << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (p == MAP_FAILED) return false;
    memset(p, 1, 1 << 20);
    return munmap(p, 1 << 20) == 0;
}
static bool write_pipe(const surroundings *s) { return write(s->pipe_write, "x", 1) == 1; }
static bool look_at_clock(const surroundings *s) {
    struct timespec now, pause = {0, 1000};
    return (void)s, clock_gettime(CLOCK_MONOTONIC, &now) == 0 && nanosleep(&pause, NULL) == 0;
}
static void *thread_body(void *ud) { return ud; }
static bool make_thread(const surroundings *s) {
    pthread_t thread;
    return (void)s, pthread_create(&thread, NULL, thread_body, NULL) == 0 && pthread_join(thread, NULL) == 0;
}

static bool make_memory_executable(const surroundings *s) {
    (void)s;
    void *p = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    return p != MAP_FAILED && mprotect(p, 4096, PROT_READ | PROT_EXEC) == 0;
}

#ifdef __linux__
static bool trace_sibling(const surroundings *s) { return ptrace(PTRACE_SEIZE, s->sibling, NULL, NULL) == 0; }
static bool read_sibling_memory(const surroundings *s) {
    char byte;
    struct iovec here = {&byte, 1}, there = {(void *)(uintptr_t)s, 1}; /* a fork: the same address exists there */
    return process_vm_readv(s->sibling, &here, 1, &there, 1, 0) == 1;
}
static bool make_namespace(const surroundings *s) { return (void)s, unshare(CLONE_NEWUSER) == 0; }
static bool make_memory_file(const surroundings *s) { return (void)s, memfd_create("probe", MFD_CLOEXEC) >= 0; }
static bool drop_death_signal(const surroundings *s) { return (void)s, prctl(PR_SET_PDEATHSIG, 0, 0, 0, 0) == 0; }
/* O_ASYNC and that are a kill of whom one likes. What is set is seen by every process that shares the descriptor. */
static bool aim_descriptor(const surroundings *s) {
    return fcntl(s->udp, F_SETOWN, s->parent) == 0 && fcntl(s->udp, F_SETOWN, 0) == 0;
}
static bool aim_descriptor_by_ioctl(const surroundings *s) {
    int nobody = 0;
    return ioctl(s->udp, FIOSETOWN, &s->parent) == 0 && ioctl(s->udp, FIOSETOWN, &nobody) == 0;
}
static bool choose_signal_of_descriptor(const surroundings *s) { return fcntl(s->udp, F_SETSIG, 0) == 0; }
static bool move_sibling(const surroundings *s) {
    cpu_set_t same;
    return sched_getaffinity(s->sibling, sizeof same, &same) == 0 &&
           sched_setaffinity(s->sibling, sizeof same, &same) == 0;
}
/* EFAULT comes from looking at the arguments, so the call itself was let through. */
static bool use_io_uring(const surroundings *s) {
    return (void)s, syscall(__NR_io_uring_setup, 1, NULL) >= 0 || errno == EFAULT;
}
#else
static bool aim_descriptor(const surroundings *s) { return (void)s, false; }
static bool aim_descriptor_by_ioctl(const surroundings *s) { return (void)s, false; }
static bool choose_signal_of_descriptor(const surroundings *s) { return (void)s, false; }
static bool move_sibling(const surroundings *s) { return (void)s, false; }
static bool trace_sibling(const surroundings *s) { return (void)s, false; }
static bool read_sibling_memory(const surroundings *s) { return (void)s, false; }
static bool make_namespace(const surroundings *s) { return (void)s, false; }
static bool make_memory_file(const surroundings *s) { return (void)s, false; }
static bool drop_death_signal(const surroundings *s) { return (void)s, false; }
static bool use_io_uring(const surroundings *s) { return (void)s, false; }
#endif

/* ── The table ──────────────────────────────────────────────────────────────────────────────────────────────── */

enum { W = 1u << PIL_SANDBOX_WORKER, S = 1u << PIL_SANDBOX_SUPERVISOR, T = 1u << PIL_SANDBOX_TOOL };

typedef struct probe {
    const char *name;
    probe_fn try;
    unsigned denied, allowed; /* the roles it is checked for */
    int landlock_abi;         /* denied in a supervisor only from this ABI on */
} probe;

static const probe probes[] = {
    {"read a file", read_file, W | S | T, 0, 0},
    {"read a folder", read_folder, W | S | T, 0, 0},
    {"read another process in /proc", read_process, W | S | T, 0, 0},
    {"read its own environment in /proc", read_own_environment, W | S | T, 0, 0},
    {"read the home folder", read_home, W | S | T, 0, 0},
    {"see whether a file exists", see_file, W, 0, 0},
    {"create a file", write_file, W | S | T, 0, 0},
    {"create a file in the home folder", write_in_home, W | S | T, 0, 0},
    {"create a folder", make_folder, W | S | T, 0, 0},
    {"open a file for writing", change_file, W | S | T, 0, 0},
    {"make an internet socket", make_inet_socket, W | S | T, 0, 0},
    {"make a local socket", make_unix_socket, W | S | T, 0, 0},
    {"connect an inherited socket", use_inherited_socket, W | S | T, 0, 0},
    {"listen on an inherited socket", listen_on_inherited_socket, W | S | T, 0, 0},
    {"send to an address", send_to_an_address, W, 0, 0},
    {"make a process", make_process, W | T, S, 0},
    {"execute a program", execute, W | S | T, 0, 0},
    {"execute an open file", execute_open_file, W | S | T, 0, 0},
    {"signal the parent", signal_parent, W | S | T, 0, 6},
    {"signal a sibling", signal_sibling, W | S | T, 0, 6},
    {"aim a descriptor's signals", aim_descriptor, W | S | T, 0, 0},
    {"aim them by ioctl", aim_descriptor_by_ioctl, W | S | T, 0, 0},
    {"choose a descriptor's signal", choose_signal_of_descriptor, W | S | T, 0, 0},
    {"move a sibling to other cores", move_sibling, W | S | T, 0, 0},
    {"signal itself", signal_itself, 0, W | S | T, 0},
    {"leave the session", leave_session, W | T, 0, 0},
    {"drop the death signal", drop_death_signal, W | T, 0, 0},
    {"trace a sibling", trace_sibling, W | S | T, 0, 0},
    {"read a sibling's memory", read_sibling_memory, W | S | T, 0, 0},
    {"make a namespace", make_namespace, W | S | T, 0, 0},
    {"make a memory file", make_memory_file, W | S | T, 0, 0},
    {"use io_uring", use_io_uring, W | S | T, 0, 0},
    {"raise a limit", raise_limit, W | S | T, 0, 0},
    {"make memory executable", make_memory_executable, W, S | T, 0},
    {"use memory", use_memory, 0, W | S | T, 0},
    {"write to an open pipe", write_pipe, 0, W | S | T, 0},
    {"look at the clock", look_at_clock, 0, W | S | T, 0},
    {"make a thread", make_thread, 0, W | S | T, 0},
};
_Static_assert(sizeof probes / sizeof *probes <= PIL_SANDBOX_CHECKS_MAX, "the caller's array holds every check");

/* ── Running ────────────────────────────────────────────────────────────────────────────────────────────────── */

enum { EXIT_ALLOWED = 0, EXIT_DENIED = 1, EXIT_NO_CAGE = 2 };

static _Noreturn void probe_child(const probe *p, const surroundings *s, const pil_sandbox_policy *policy) {
    if (policy && pil_sandbox_apply(policy, NULL, NULL)) _exit(EXIT_NO_CAGE);
    _exit(p->try(s) ? EXIT_ALLOWED : EXIT_DENIED);
}

/* policy NULL: without a cage. A child that a signal ended was denied. */
static pillion_status run_probe(const probe *p, const surroundings *s, const pil_sandbox_policy *policy, bool *allowed,
                                pillion_error *err) {
    pid_t child = fork();
    if (child < 0) return pil_err_set(err, PILLION_E_IO, "fork: %s", strerror(errno));
    if (child == 0) probe_child(p, s, policy);
    int status = 0;
    while (waitpid(child, &status, 0) < 0 && errno == EINTR) continue;
    if (WIFEXITED(status) && WEXITSTATUS(status) == EXIT_NO_CAGE)
        return pil_err_set(err, PILLION_E_INTERNAL, "the cage cannot be built");
    *allowed = WIFEXITED(status) && WEXITSTATUS(status) == EXIT_ALLOWED;
    return PILLION_OK;
}

static pillion_status run_probes(pil_sandbox_role role, const surroundings *s, pil_sandbox_check *checks, size_t *n,
                                 pillion_error *err) {
    pil_sandbox_policy policy;
    pil_sandbox_policy_init(&policy, role);
    unsigned me = 1u << role;
    for (size_t i = 0; i < sizeof probes / sizeof *probes; i++) {
        const probe *p = &probes[i];
        if (!((p->denied | p->allowed) & me)) continue;
        if (role == PIL_SANDBOX_SUPERVISOR && p->landlock_abi > pil_landlock_abi()) continue;
        pil_sandbox_check *check = &checks[*n];
        *check = (pil_sandbox_check){.name = p->name, .should = (p->allowed & me) != 0};
        pillion_status st = run_probe(p, s, &policy, &check->allowed, err);
        if (!st) st = run_probe(p, s, NULL, &check->allowed_uncaged, err);
        if (st) return st;
        ++*n;
    }
    for (size_t i = 0; i < *n; i++)
        if (checks[i].allowed != checks[i].should)
            return pil_err_set(err, PILLION_E_INTERNAL, "sandbox: \"%s\" was %s", checks[i].name,
                               checks[i].allowed ? "not denied" : "denied");
    return PILLION_OK;
}

pillion_status pil_sandbox_selftest(pil_sandbox_role role, pil_sandbox_check checks[PIL_SANDBOX_CHECKS_MAX], size_t *n,
                                    pillion_error *err) {
    *n = 0;
    int ends[2];
    surroundings s = {.parent = getpid()};
    if (pipe(ends) != 0) return pil_err_set(err, PILLION_E_IO, "pipe: %s", strerror(errno));
    s.pipe_write = ends[1];
    s.tcp = socket(AF_INET, SOCK_STREAM, 0);
    s.udp = socket(AF_INET, SOCK_DGRAM, 0);
    s.program = open("/bin/true", O_RDONLY);
    s.home = getenv("HOME");
    if (!s.home || s.home[0] != '/') s.home = "/";
    snprintf(s.home_scratch, sizeof s.home_scratch, "%.3000s/.pillion-selftest-%d", s.home, (int)getpid());
    snprintf(s.scratch, sizeof s.scratch, "/tmp/pillion-selftest-%d", (int)getpid());
    s.sibling = fork();
    if (s.sibling == 0) {
        close(ends[1]);
        for (char byte; read(ends[0], &byte, 1) > 0;) continue; /* ends when the self-test does */
        _exit(0);
    }
    pillion_status st = s.sibling < 0 ? pil_err_set(err, PILLION_E_IO, "fork: %s", strerror(errno))
                                      : run_probes(role, &s, checks, n, err);
    if (s.tcp >= 0) close(s.tcp);
    if (s.udp >= 0) close(s.udp);
    if (s.program >= 0) close(s.program);
    close(ends[0]);
    close(ends[1]);
    if (s.sibling > 0) waitpid(s.sibling, NULL, 0);
    return st;
}
