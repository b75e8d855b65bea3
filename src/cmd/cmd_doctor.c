/* cmd_doctor.c - pillion doctor: one page about this machine and whether the program can work on it.
 *
 * Every line is one finding: ok; a warning, when something works less well; or a failure, when `pillion serve` with the
 * same options would not work. Failures decide the exit status.
 * Order:   whatever forks (the sandbox's self-test, tesseract) before the model, which may start threads.
 * Tests:   tests/cmd/test_doctor.py. */
#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/file.h"
#include "base/json.h"
#include "base/limits.h"
#include "base/thread.h"
#include "cmd/builtin.h"
#include "cmd/cmd.h"
#include "cmd/holder.h"
#include "cmd/say.h"
#include "compile/compile.h"
#include "extract/extract.h"
#include "sandbox/sandbox.h"

#define LOW_MEMORY (512 * PIL_MIB) /* less than a base-size model with its workers */
#define LOW_DISK (PIL_GIB)         /* less than some models, compiled */

static const char who[] = "pillion doctor";

typedef struct doctor_values {
    const char *host;
    uint64_t port;
    bool json;
} doctor_values;

typedef enum state { FINE, WARNING, FAILURE } state;
static const char *const state_words[] = {"ok", "warning", "failure"};

typedef struct doctor {
    const doctor_values *values;
    pil_buf text, json;
    unsigned found[3]; /* findings of each state */
} doctor;

/* One finding. */
__attribute__((format(printf, 4, 5))) static void find(doctor *d, const char *name, state s, const char *fmt, ...) {
    char detail[PATH_MAX + 256];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(detail, sizeof detail, fmt, ap);
    va_end(ap);
    for (char *c = detail; *c; c++)
        if ((unsigned char)*c < 0x20 || *c == 0x7F) *c = '?';
    pil_say_utf8(detail);
    static const char *const shown[] = {"ok", "WARNING", "FAILURE"};
    pil_buf_printf(&d->text, "  %-8s %-12s %s\n", shown[s], name, detail);
    pil_buf_printf(&d->json, "%s{\"name\":\"%s\",\"state\":\"%s\",\"detail\":", d->json.len ? "," : "", name,
                   state_words[s]);
    pil_json_put_string(&d->json, detail, strlen(detail));
    pil_buf_putc(&d->json, '}');
    d->found[s]++;
}

/* ── The machine ────────────────────────────────────────────────────────────────────────────────────────────── */

/* The first number behind key in a small file of the kernel ("" : at its beginning); false without one. */
static bool number_in(const char *path, const char *key, uint64_t *out) {
    FILE *f = fopen(path, "re");
    char line[256];
    bool found = false;
    size_t n = strlen(key);
    while (f && !found && fgets(line, sizeof line, f)) {
        char *end;
        if (strncmp(line, key, n) != 0) continue;
        *out = strtoull(line + n, &end, 10);
        found = end != line + n;
    }
    if (f) fclose(f);
    return found;
}

static void check_processor(doctor *d) {
    long online = sysconf(_SC_NPROCESSORS_ONLN);
    unsigned usable = pil_thread_cores();
    double quota = pil_thread_quota();
    char limit[80] = "";
    if (quota > 0) snprintf(limit, sizeof limit, ", of which the cgroup allows %.2f", quota);
    find(d, "processor", FINE, "%u of %ld cores can be used%s: so many workers unless --workers says otherwise", usable,
         online, limit);
}

static void check_memory(doctor *d) {
    uint64_t total = 0, available = 0, limit = 0;
    number_in("/proc/meminfo", "MemTotal:", &total);
    number_in("/proc/meminfo", "MemAvailable:", &available);
    bool limited = number_in("/sys/fs/cgroup/memory.max", "", &limit) ||
                   number_in("/sys/fs/cgroup/memory/memory.limit_in_bytes", "", &limit);
    char cgroup[64] = "";
    limited = limited && limit < total * PIL_KIB;
    if (limited) snprintf(cgroup, sizeof cgroup, "; the cgroup allows %llu MiB", (unsigned long long)(limit / PIL_MIB));
    bool low = available * PIL_KIB < LOW_MEMORY || (limited && limit < LOW_MEMORY);
    find(d, "memory", low ? WARNING : FINE, "%llu of %llu MiB are free%s", (unsigned long long)(available / PIL_KIB),
         (unsigned long long)(total / PIL_KIB), cgroup);
}

static void check_limits(doctor *d) {
    struct rlimit files, processes;
    getrlimit(RLIMIT_NOFILE, &files);
    getrlimit(RLIMIT_NPROC, &processes);
    unsigned wanted = 2 * PIL_LIMIT_CONNECTIONS + 4 * PIL_LIMIT_WORKERS;
    bool low = files.rlim_max != RLIM_INFINITY && files.rlim_max < wanted;
    char count[32] = "any number of";
    if (processes.rlim_cur != RLIM_INFINITY)
        snprintf(count, sizeof count, "%llu", (unsigned long long)processes.rlim_cur);
    find(d, "limits", low ? WARNING : FINE, "%llu open files%s, %s processes", (unsigned long long)files.rlim_max,
         low ? " (fewer clients at once than --max-connections says)" : "", count);
}

/* ── The cache ──────────────────────────────────────────────────────────────────────────────────────────────── */

static void sum_models(const char *folder, unsigned *n, uint64_t *bytes) {
    DIR *dir = opendir(folder);
    *n = 0;
    *bytes = 0;
    for (struct dirent *e; dir && (e = readdir(dir));) {
        struct stat s;
        if (!pil_ends_with(e->d_name, ".safetensors") || fstatat(dirfd(dir), e->d_name, &s, 0) != 0) continue;
        ++*n;
        *bytes += (uint64_t)s.st_size;
    }
    if (dir) closedir(dir);
}

/* A file is really written: permissions alone say little about read-only mounts and full disks. */
static bool can_write(const char *folder, pillion_error *err) {
    char path[PATH_MAX];
    pil_file_writer w;
    if (pil_file_mkdirs(folder, err) || pil_file_join(path, sizeof path, folder, "doctor", err)) return false;
    if (pil_file_writer_open(&w, path, err)) return false;
    fputs("x", w.f);
    bool ok = fflush(w.f) == 0;
    if (!ok) snprintf(err->text, sizeof err->text, "%s", strerror(errno));
    pil_file_writer_abort(&w);
    return ok;
}

/* The built-in model and compiled files do not need it: hence warnings. */
static void check_cache(doctor *d) {
    char folder[PATH_MAX];
    pillion_error err = {0};
    struct statvfs disk;
    unsigned n;
    uint64_t bytes;
    if (pil_cache_dir(folder, sizeof folder, &err) || !can_write(folder, &err)) {
        find(d, "cache", WARNING, "model directories cannot be used: %s", err.text);
        return;
    }
    sum_models(folder, &n, &bytes);
    uint64_t room = statvfs(folder, &disk) == 0 ? (uint64_t)disk.f_bavail * disk.f_frsize : 0;
    find(d, "cache", room < LOW_DISK ? WARNING : FINE, "%s: %u compiled models of %llu MiB, room for %llu MiB more",
         folder, n, (unsigned long long)(bytes / PIL_MIB), (unsigned long long)(room / PIL_MIB));
}

/* ── The sandbox ────────────────────────────────────────────────────────────────────────────────────────────── */

enum { ROLES = 3 };
static const char *const role_names[ROLES] = {"worker", "documents", "tools"};

/* One role's checks; gives how many went wrong. */
typedef struct cage {
    pil_sandbox_check checks[PIL_SANDBOX_CHECKS_MAX];
    size_t n;
    unsigned wrong, unproven;
    pillion_error err;
} cage;

static void test_cage(cage *c, pil_sandbox_role role) {
    pillion_status st = pil_sandbox_selftest(role, c->checks, &c->n, &c->err);
    for (size_t i = 0; i < c->n; i++) {
        c->wrong += c->checks[i].allowed != c->checks[i].should;
        c->unproven += !c->checks[i].should && !c->checks[i].allowed_uncaged;
    }
    if (st && !c->wrong) c->wrong = 1; /* it could not be tested */
}

static const pil_sandbox_check *check_of(const cage *c, const char *name) {
    for (size_t i = 0; i < c->n; i++)
        if (strcmp(c->checks[i].name, name) == 0) return &c->checks[i];
    return NULL;
}

static const char *word_of(const pil_sandbox_check *c) {
    if (!c) return "-";
    if (c->allowed) return c->should ? "allowed" : "ALLOWED";
    if (c->should) return "DENIED";
    return c->allowed_uncaged ? "denied" : "denied*";
}

/* Names of the checks of all roles, each once, in their order. */
static size_t names_of(const cage cages[ROLES], const char *names[ROLES * PIL_SANDBOX_CHECKS_MAX]) {
    size_t n = 0;
    for (int role = 0; role < ROLES; role++) {
        for (size_t i = 0; i < cages[role].n; i++) {
            size_t k = 0;
            while (k < n && strcmp(names[k], cages[role].checks[i].name) != 0) k++;
            if (k == n) names[n++] = cages[role].checks[i].name;
        }
    }
    return n;
}

static void put_table(pil_buf *out, const cage cages[ROLES]) {
    const char *names[ROLES * PIL_SANDBOX_CHECKS_MAX];
    size_t n = names_of(cages, names);
    pil_buf_printf(out, "\n  %-34s %-10s %-10s %s\n", "what the cage denies", role_names[0], role_names[1],
                   role_names[2]);
    for (size_t i = 0; i < n; i++) {
        pil_buf_printf(out, "  %-34s", names[i]);
        for (int role = 0; role < ROLES; role++)
            pil_buf_printf(out, role + 1 < ROLES ? " %-10s" : " %s", word_of(check_of(&cages[role], names[i])));
        pil_buf_putc(out, '\n');
    }
    for (int role = 0; role < ROLES; role++) {
        if (!cages[role].unproven) continue;
        pil_buf_puts(out, "  * it fails without the cage as well, so it proves nothing on this machine\n");
        return;
    }
}

static void put_checks_json(pil_buf *out, const cage cages[ROLES]) {
    for (int role = 0; role < ROLES; role++) {
        pil_buf_printf(out, "%s\"%s\":[", role ? "," : "", role_names[role]);
        for (size_t i = 0; i < cages[role].n; i++) {
            const pil_sandbox_check *c = &cages[role].checks[i];
            pil_buf_printf(out, "%s{\"attempt\":\"%s\",\"allowed\":%s,\"expected\":%s,\"allowed_uncaged\":%s}",
                           i ? "," : "", c->name, c->allowed ? "true" : "false", c->should ? "true" : "false",
                           c->allowed_uncaged ? "true" : "false");
        }
        pil_buf_putc(out, ']');
    }
}

static void check_sandbox(doctor *d, cage cages[ROLES]) {
    pil_sandbox_report report;
    char line[PIL_SANDBOX_LINE];
    pil_sandbox_probe(&report);
    bool full = pil_sandbox_state_of(&report) == PIL_SANDBOX_FULL;
    find(d, "sandbox", full ? FINE : WARNING, "%s; Landlock ABI %d", pil_sandbox_describe(&report, line, sizeof line),
         report.landlock_abi);
    for (int role = 0; role < ROLES; role++) {
        cage *c = &cages[role];
        test_cage(c, (pil_sandbox_role)role);
        state s = c->wrong == 0 ? FINE : full ? FAILURE : WARNING; /* a kernel that lacks a layer denies less */
        if (c->wrong)
            find(d, role_names[role], s, "%u of %zu checks of its cage are wrong: %s", c->wrong, c->n, c->err.text);
        else find(d, role_names[role], s, "all %zu checks of its cage hold", c->n);
    }
}

/* ── Documents ──────────────────────────────────────────────────────────────────────────────────────────────── */

/* Texts are embedded without them: hence warnings. */
static void check_documents(doctor *d) {
    pil_extract_tool tool;
    for (size_t i = 0; pil_extract_tool_at(&tool, i); i++) {
        if (tool.path[0]) find(d, tool.name, FINE, "%s", tool.path);
        else
            find(d, tool.name, WARNING, "not installed: documents that need it cannot be read (package %s)",
                 tool.package);
    }
    pil_buf languages;
    pil_buf_init(&languages, PIL_LIMIT_TOOL_WORDS);
    pil_extract_languages(&languages);
    for (size_t i = 0; i < languages.len; i++)
        if (languages.bytes[i] == '\n') languages.bytes[i] = ' ';
    if (languages.len) find(d, "languages", FINE, "%.*s", (int)languages.len - 1, languages.bytes);
    else find(d, "languages", WARNING, "none: scanned documents cannot be read");
    pil_buf_deinit(&languages);
}

/* ── The address ────────────────────────────────────────────────────────────────────────────────────────────── */

/* Binds as a server does (proc/loop.c): the first address of host. 0, or the errno that a server would meet; -1: there
 * is no such host. */
static int try_address(const char *host, unsigned port) {
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE}, *a = NULL;
    char service[16];
    snprintf(service, sizeof service, "%u", port);
    if (getaddrinfo(strcmp(host, "localhost") == 0 ? "127.0.0.1" : host, service, &hints, &a) != 0) return -1;
    int fd = socket(a->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0), on = 1, off = 0, e = 0;
    if (fd >= 0) setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (fd >= 0 && a->ai_family == AF_INET6) setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof off);
    if (fd < 0 || bind(fd, a->ai_addr, a->ai_addrlen) != 0) e = errno;
    if (fd >= 0) close(fd);
    freeaddrinfo(a);
    return e;
}

/* Who has an address that is in use: a server of ours is what one hopes for. */
static void find_holder(doctor *d, const char *where) {
    pil_holder holder;
    char pid[32] = "";
    pil_holder_find(&holder, d->values->host, (unsigned)d->values->port);
    const char *name = holder.name[0] ? holder.name : holder.is_pillion ? "pillion" : "another program";
    if (holder.pid) snprintf(pid, sizeof pid, ", pid %d", holder.pid);
    if (holder.is_pillion) find(d, "address", FINE, "%s is served by %s%s", where, name, pid);
    else find(d, "address", FAILURE, "%s is in use by %s%s: use another --port", where, name, pid);
}

static void check_address(doctor *d) {
    const char *host = d->values->host;
    char where[300];
    bool is_v6 = strchr(host, ':') != NULL;
    snprintf(where, sizeof where, "%s%.255s%s:%u", is_v6 ? "[" : "", host, is_v6 ? "]" : "", (unsigned)d->values->port);
    int e = try_address(host, (unsigned)d->values->port);
    if (e == 0) find(d, "address", FINE, "%s is free", where);
    else if (e == EADDRINUSE) find_holder(d, where);
    else
        find(d, "address", FAILURE, "%s: a server cannot listen there: %s", where,
             e < 0 ? "no such host" : strerror(e));
}

/* ── The model ──────────────────────────────────────────────────────────────────────────────────────────────── */

static void check_model(doctor *d) {
    size_t n;
    const void *bytes = pil_builtin_model(&n);
    if (!bytes) {
        find(d, "model", WARNING, "none is built in: every command needs --model");
        return;
    }
    pillion_model *model = NULL;
    pillion_error err = {0};
    uint64_t start_ns = pil_clock_ns();
    pillion_status st = pillion_model_open_memory(&model, bytes, n, &err);
    if (!st) st = pillion_model_check(model, &err);
    if (st) {
        find(d, "model", FAILURE, "the built-in one: %s", err.text);
    } else {
        const pillion_info *i = pillion_model_info(model);
        find(d, "model", FINE, "%s, %u dimensions, %s with %s instructions: right after %.1f ms", i->name, i->dim,
             i->precision, i->kernels, pil_clock_ms(start_ns));
    }
    pillion_model_close(model);
}

/* ── The command ────────────────────────────────────────────────────────────────────────────────────────────── */

static void put_all(pil_buf *out, const doctor *d, const cage cages[ROLES]) {
    bool ok = d->found[FAILURE] == 0;
    if (d->values->json) {
        pil_buf_printf(out, "{\"version\":\"%s\",\"ok\":%s,\"findings\":[", pillion_version(), ok ? "true" : "false");
        pil_buf_append(out, d->json.bytes, d->json.len);
        pil_buf_puts(out, "],\"sandbox\":{");
        put_checks_json(out, cages);
        pil_buf_puts(out, "}}\n");
        return;
    }
    pil_buf_printf(out, "pillion %s\n", pillion_version());
    pil_buf_append(out, d->text.bytes, d->text.len);
    put_table(out, cages);
    pil_buf_printf(out, "\n%s: %u warnings, %u failures\n", ok ? "It can work here" : "It cannot work here",
                   d->found[WARNING], d->found[FAILURE]);
}

static int run(const void *values, char **args, size_t n_args) {
    (void)args, (void)n_args;
    doctor d = {.values = values};
    cage *cages = calloc(ROLES, sizeof *cages);
    if (!cages) {
        pil_say(who, "out of memory");
        return PIL_EXIT_FAILURE;
    }
    pil_buf_init(&d.text, PIL_MIB);
    pil_buf_init(&d.json, PIL_MIB);
    check_processor(&d);
    check_memory(&d);
    check_limits(&d);
    check_cache(&d);
    check_sandbox(&d, cages);
    check_documents(&d);
    check_address(&d);
    check_model(&d);
    pil_buf out;
    pil_buf_init(&out, PIL_MIB);
    put_all(&out, &d, cages);
    int status = pil_say_output(who, &out);
    if (!status && d.found[FAILURE]) status = PIL_EXIT_FAILURE;
    pil_buf_deinit(&out);
    pil_buf_deinit(&d.text);
    pil_buf_deinit(&d.json);
    free(cages);
    return status;
}

static const pil_option options[] = {
    {.name = "json", .letter = 'j', .type = PIL_OPTION_FLAG, .field = offsetof(doctor_values, json),
     .help = "print one JSON object instead of a page"},
    {.name = "host", .type = PIL_OPTION_STRING, .field = offsetof(doctor_values, host), .value = "HOST",
     .fallback = "127.0.0.1", .env = "EMBED_HOST", .help = "address that a server is to listen on"},
    {.name = "port", .type = PIL_OPTION_UINT, .field = offsetof(doctor_values, port), .value = "PORT",
     .fallback = "8421", .max = 65535, .env = "EMBED_PORT", .help = "and its port"},
    PIL_OPTION_END,
};

const pil_command pil_cmd_doctor = {
    .name = "doctor",
    .args = "",
    .summary = "say whether the program can work on this machine, and what is missing",
    .text = "Looks at processor, memory, limits, the folder of compiled models, the programs that read documents, the "
            "address of a server and the built-in model, and tries everything that the cage of a worker must deny. "
            "Warnings are about what works less well; a failure is something without which it does not work, and makes "
            "the exit status 1.",
    .examples = "pillion doctor\npillion doctor --json | jq '.findings[] | select(.state != \"ok\")'",
    .options = options,
    .values_bytes = sizeof(doctor_values),
    .run = run,
};
