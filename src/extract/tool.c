/* tool.c - running poppler's and tesseract's programs: found, caged, fed, drained, and always gone afterwards.
 *
 * Flow:       fork -> child: own process group, death signal, descriptors 0-2, the cage of PIL_SANDBOX_TOOL, exec.
 *             parent: poll on the pipes until all are closed, the deadline has passed or too much came; kill; wait.
 * Invariants: (1) pil_tool_run returns with the child reaped. (2) a tool cannot leave a process behind: seccomp lets it
 *             make none, and without seccomp its process group is killed. (3) when this process is killed, the death
 *             signal kills the tool. (4) nothing that a tool writes grows a buffer beyond its ceiling.
 * The child tells through a third pipe, closed by exec, which layers hold and whether exec failed.
 * Threads:    one, as the cage demands. Not here: what a tool's output means (pdf.c, ocr.c).
 * Tests:      tests/extract/test_extract.c, with stand-ins for the tools in tests/extract/fake_tool.c. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#ifdef __linux__
#include <sys/prctl.h>
#endif

#include "base/clock.h"
#include "base/limits.h"
#include "extract/extract_int.h"

/* ── Finding ────────────────────────────────────────────────────────────────────────────────────────────────── */

static const struct {
    const char *name, *package;
} known[PIL_TOOL_COUNT] = {
    [PIL_TOOL_PDFINFO] = {"pdfinfo", "poppler-utils"},
    [PIL_TOOL_PDFTOTEXT] = {"pdftotext", "poppler-utils"},
    [PIL_TOOL_PDFTOPPM] = {"pdftoppm", "poppler-utils"},
    [PIL_TOOL_TESSERACT] = {"tesseract", "tesseract-ocr"},
};

static bool is_program(const char *path) {
    struct stat s;
    return stat(path, &s) == 0 && S_ISREG(s.st_mode) && access(path, X_OK) == 0;
}

static void find_one(char out[PATH_MAX], const char *name, const char *search_path) {
    out[0] = '\0';
    for (const char *at = search_path; *at && !out[0];) {
        size_t n = strcspn(at, ":");
        char path[PATH_MAX];
        int len = snprintf(path, sizeof path, "%.*s/%s", (int)n, at, name);
        if (n > 0 && at[0] == '/' && len > 0 && (size_t)len < sizeof path && is_program(path) && !realpath(path, out))
            out[0] = '\0';
        at += n + (at[n] == ':');
    }
}

void pil_tools_find(pil_tools *tools, const char *search_path) {
    if (!search_path || !*search_path) search_path = "/usr/local/bin:/usr/bin:/bin";
    for (int i = 0; i < PIL_TOOL_COUNT; i++) find_one(tools->path[i], known[i].name, search_path);
}

bool pil_tools_need(const pil_tools *tools, pil_tool tool, pil_fault *fault) {
    if (tools->path[tool][0]) return true;
    pil_fault_set(fault, PIL_EXTRACT_NOT_INSTALLED, "%s is not installed; it is part of the package %s",
                  known[tool].name, known[tool].package);
    snprintf(fault->package, sizeof fault->package, "%s", known[tool].package);
    return false;
}

bool pil_extract_tool_at(pil_extract_tool *out, size_t i) {
    if (i >= PIL_TOOL_COUNT) return false;
    pil_tools tools;
    pil_tools_find(&tools, getenv("PATH"));
    out->name = known[i].name;
    out->package = known[i].package;
    memcpy(out->path, tools.path[i], sizeof out->path);
    return true;
}

/* ── The cage's paths ───────────────────────────────────────────────────────────────────────────────────────── */

static const char *const common_paths[] = {
    /* libraries and data */
    "/lib", "/lib64", "/usr/lib", "/usr/lib64", "/usr/share", "/usr/local/lib", "/usr/local/share",
    /* their settings */
    "/etc/ld.so.cache", "/etc/localtime", "/etc/fonts", "/var/cache/fontconfig",
    /* where some systems keep all of these */
    "/nix/store", "/gnu/store",
    "/sys/devices/system/cpu", "/dev/null", "/dev/urandom",
};

/* /opt/x/bin/tool may read below /opt/x/lib and /opt/x/share. */
static void add_prefix(pil_tool_paths *paths, size_t *n_own, const char *tool_path) {
    static const char *const folders[] = {"lib", "share"};
    size_t n = strlen(tool_path);
    for (int up = 0; up < 2; up++)
        while (n > 0 && tool_path[--n] != '/') continue;
    if (n == 0 || (n == 4 && memcmp(tool_path, "/usr", 4) == 0)) return;
    for (size_t i = 0; i < 2; i++) {
        char *own = paths->own[*n_own];
        int len = snprintf(own, PATH_MAX, "%.*s/%s", (int)n, tool_path, folders[i]);
        if (len < 0 || len >= PATH_MAX) continue;
        paths->read[paths->n_read++] = own;
        ++*n_own;
    }
}

void pil_tool_paths_of(pil_tool_paths *paths, const pil_tools *tools, pil_tool first, pil_tool last) {
    size_t n_common = sizeof common_paths / sizeof *common_paths, n_own = 0;
    memcpy(paths->read, common_paths, sizeof common_paths);
    paths->n_read = n_common;
    paths->n_exec = 0;
    for (pil_tool t = first; t <= last; t++) {
        if (!tools->path[t][0]) continue;
        paths->exec[paths->n_exec++] = tools->path[t];
        add_prefix(paths, &n_own, tools->path[t]);
    }
}

/* ── The child ──────────────────────────────────────────────────────────────────────────────────────────────── */

/* What the child says through the third pipe: once after caging, and once more if exec failed. */
typedef struct child_word {
    enum { CHILD_CAGED, CHILD_NO_CAGE, CHILD_NO_EXEC } kind;
    int error;
    pil_sandbox_report cage;
} child_word;

typedef struct child_pipes {
    int output[2], words[2], status[2]; /* read end, write end; -1: none */
} child_pipes;

static void die_with(pid_t parent) {
#ifdef __linux__
    prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
#endif
    if (getppid() != parent) _exit(127);
}

static void say(int status, child_word word) {
    ssize_t n = write(status, &word, sizeof word);
    if (n != (ssize_t)sizeof word) _exit(127);
}

static pillion_status cage_child(const pil_extraction *x, const pil_tool_job *job, pil_sandbox_report *report) {
    pil_tool_paths paths;
    pil_tool_paths_of(&paths, &x->tools, job->tool, job->tool);
    pil_sandbox_policy policy;
    pil_sandbox_policy_init(&policy, PIL_SANDBOX_TOOL);
    policy.read_paths = paths.read;
    policy.n_read_paths = paths.n_read;
    policy.exec_paths = paths.exec;
    policy.n_exec_paths = paths.n_exec;
    policy.memory_bytes = job->memory_bytes;
    policy.file_bytes = job->file_bytes;
    policy.processes = 0; /* counts threads too: OMP_THREAD_LIMIT keeps the recogniser to one */
    uint64_t now = pil_clock_ns();
    policy.cpu_s = job->deadline_ns > now ? (job->deadline_ns - now) / 1000000000u + 2 : 2;
    return pil_sandbox_apply(&policy, report, NULL);
}

static _Noreturn void child_main(const pil_extraction *x, const pil_tool_job *job, const child_pipes *p, pid_t parent) {
    char *environment[] = {(char[]){"LC_ALL=C.UTF-8"}, (char[]){"HOME=/nonexistent"},
                           (char[]){"XDG_CACHE_HOME=/nonexistent"}, (char[]){"OMP_THREAD_LIMIT=1"}, NULL};
    char *argv[sizeof job->args / sizeof *job->args + 2] = {(char *)(uintptr_t)known[job->tool].name};
    for (size_t i = 0; job->args[i]; i++) argv[i + 1] = (char *)(uintptr_t)job->args[i];
    die_with(parent);
    setpgid(0, 0);
    signal(SIGPIPE, SIG_DFL);
    sigset_t none;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    int output = job->output_file >= 0 ? job->output_file : p->output[1];
    if (dup2(job->input, 0) < 0 || dup2(output, 1) < 0 || dup2(p->words[1], 2) < 0) _exit(127);
    pil_child_close_from(3, true);
    child_word word = {.kind = CHILD_CAGED};
    if (cage_child(x, job, &word.cage)) word.kind = CHILD_NO_CAGE;
    say(p->status[1], word);
    if (word.kind == CHILD_CAGED) {
        execve(x->tools.path[job->tool], argv, environment);
        say(p->status[1], (child_word){.kind = CHILD_NO_EXEC, .error = errno});
    }
    _exit(127);
}

/* ── The parent ─────────────────────────────────────────────────────────────────────────────────────────────── */

static void close_pipe(int ends[2]) {
    for (int i = 0; i < 2; i++)
        if (ends[i] >= 0) close(ends[i]);
    ends[0] = ends[1] = -1;
}

static void close_one(int *fd) {
    if (*fd >= 0) close(*fd);
    *fd = -1;
}

/* Above 2, so that none of them is in the way of the child's descriptors 0 to 2. */
static bool open_pipe(int ends[2]) {
    if (pipe(ends) != 0) {
        ends[0] = ends[1] = -1;
        return false;
    }
    for (int i = 0; i < 2; i++) {
        int high = fcntl(ends[i], F_DUPFD_CLOEXEC, 3);
        close(ends[i]);
        ends[i] = high;
    }
    return ends[0] >= 0 && ends[1] >= 0;
}

/* Reads what is there. False at the end, which closes the descriptor. keep: what does not fit is dropped, and is no
 * flood. */
static bool drain(int *fd, pil_buf *into, bool keep, bool *flood) {
    char bytes[16384];
    ssize_t n = read(*fd, bytes, sizeof bytes);
    if (n < 0 && (errno == EINTR || errno == EAGAIN)) return true;
    if (n <= 0) {
        close_one(fd);
        return false;
    }
    size_t room = into->limit - into->len, take = keep && (size_t)n > room ? room : (size_t)n;
    if (pil_buf_append(into, bytes, take)) *flood = true;
    return true;
}

static int ms_until(uint64_t deadline_ns) {
    uint64_t now = pil_clock_ns();
    if (now >= deadline_ns) return 0;
    uint64_t ms = (deadline_ns - now) / 1000000u + 1;
    return ms > 60000 ? 60000 : (int)ms;
}

/* Until every pipe is closed. Otherwise sets result->end to DEADLINE or FLOOD and returns false. */
static bool collect(child_pipes *p, uint64_t deadline_ns, pil_tool_result *result, pil_buf *status) {
    bool flood = false;
    while (p->output[0] >= 0 || p->words[0] >= 0 || p->status[0] >= 0) {
        struct pollfd fds[3] = {{p->output[0], POLLIN, 0}, {p->words[0], POLLIN, 0}, {p->status[0], POLLIN, 0}};
        int n = poll(fds, 3, ms_until(deadline_ns));
        if (n < 0 && errno != EINTR) flood = true; /* cannot happen with these arguments; ends the tool if it does */
        if (n > 0 && fds[0].revents) drain(&p->output[0], &result->output, false, &flood);
        if (n > 0 && fds[1].revents) drain(&p->words[0], &result->words, true, &flood);
        if (n > 0 && fds[2].revents) drain(&p->status[0], status, true, &flood);
        if (flood) return result->end = PIL_TOOL_FLOOD, false;
        if (pil_clock_ns() >= deadline_ns) return result->end = PIL_TOOL_DEADLINE, false;
    }
    return true;
}

/* A tool that has closed its pipes is about to end; one that does not is killed at the deadline. */
static void reap(pid_t child, uint64_t deadline_ns, bool kill_now, pil_tool_result *result) {
    int status = 0;
    for (;;) {
        if (kill_now) {
            kill(-child, SIGKILL);
            kill(child, SIGKILL);
        }
        pid_t got = waitpid(child, &status, kill_now ? 0 : WNOHANG);
        if (got == child || (got < 0 && errno != EINTR)) break;
        if (!kill_now && pil_clock_ns() >= deadline_ns) {
            result->end = PIL_TOOL_DEADLINE;
            kill_now = true;
        }
        if (!kill_now) nanosleep(&(struct timespec){0, 500000}, NULL);
    }
    if (kill_now) return;
    result->end = WIFSIGNALED(status) ? PIL_TOOL_KILLED : PIL_TOOL_EXITED;
    result->value = WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status);
}

/* The last word decides; what the cage lacked is kept in the extraction. */
static void understand(pil_extraction *x, const pil_buf *status, pil_tool_result *result) {
    child_word word = {.kind = CHILD_NO_CAGE};
    for (size_t at = 0; at + sizeof word <= status->len; at += sizeof word) {
        memcpy(&word, status->bytes + at, sizeof word);
        if (word.kind == CHILD_CAGED) x->cage.layers &= word.cage.layers;
    }
    if (result->end == PIL_TOOL_DEADLINE || result->end == PIL_TOOL_FLOOD || word.kind == CHILD_CAGED) return;
    result->end = word.kind == CHILD_NO_CAGE ? PIL_TOOL_NO_CAGE : PIL_TOOL_NO_START;
    result->value = word.error;
}

void pil_tool_run(pil_extraction *x, const pil_tool_job *job, pil_tool_result *result) {
    child_pipes p = {{-1, -1}, {-1, -1}, {-1, -1}};
    pil_buf status;
    pil_buf_init(&status, 4 * sizeof(child_word));
    pil_buf_init(&result->words, PIL_LIMIT_TOOL_WORDS);
    result->end = PIL_TOOL_NO_START;
    bool ok = (job->output_file >= 0 || open_pipe(p.output)) && open_pipe(p.words) && open_pipe(p.status) &&
              lseek(job->input, 0, SEEK_SET) == 0;
    pid_t parent = getpid(), child = ok ? fork() : -1;
    if (child == 0) child_main(x, job, &p, parent);
    result->value = errno;
    if (child > 0) {
        close_one(&p.output[1]);
        close_one(&p.words[1]);
        close_one(&p.status[1]);
        bool done = collect(&p, job->deadline_ns, result, &status);
        reap(child, job->deadline_ns, !done, result);
        understand(x, &status, result);
    }
    close_pipe(p.output);
    close_pipe(p.words);
    close_pipe(p.status);
    pil_buf_deinit(&status);
}

bool pil_tool_said(const pil_tool_result *result, const char *words) {
    return result->words.len > 0 && memmem(result->words.bytes, result->words.len, words, strlen(words)) != NULL;
}

/* poppler goes on without what it had no memory for, and ends with 0. */
bool pil_tool_did_well(const pil_tool_result *result) {
    return result->end == PIL_TOOL_EXITED && result->value == 0 && !pil_tool_said(result, "Out of memory");
}

bool pil_tool_check(const pil_tool_job *job, const pil_tool_result *result, pil_fault *fault) {
    const char *name = known[job->tool].name;
    switch (result->end) {
    case PIL_TOOL_EXITED:
    case PIL_TOOL_KILLED:
    case PIL_TOOL_FLOOD: return true;
    case PIL_TOOL_DEADLINE: return pil_fault_set(fault, PIL_EXTRACT_TIMEOUT, "%s was not done by the deadline", name);
    case PIL_TOOL_NO_CAGE: return pil_fault_set(fault, PIL_EXTRACT_SANDBOX, "the cage for %s could not be built", name);
    case PIL_TOOL_NO_START:
        return pil_fault_set(fault, PIL_EXTRACT_INTERNAL, "%s could not be started: %s", name, strerror(result->value));
    }
    return true;
}
