/* sandbox.h - the cage: what a process may still do, taken away from inside and for ever.
 *
 * Five layers, each of which the kernel may lack; the report says which are in force:
 *   no_new_privs     no program gains rights by being executed
 *   capability-drop  no capability left, also for root
 *   rlimits          memory, CPU time, descriptors, file size, processes; no core file ever
 *   landlock         no file is opened, made or executed but those below the given paths; from ABI 4 no TCP, from
 *                    ABI 6 no signal and no abstract socket beyond the cage
 *   seccomp          system calls: see the roles
 *
 * A model worker, once its model is mapped and before it reads the first request:
 *
 *     pil_sandbox_policy policy;
 *     pil_sandbox_report report;
 *     pil_sandbox_policy_init(&policy, PIL_SANDBOX_WORKER);
 *     pillion_status st = pil_sandbox_apply(&policy, &report, &err);       (a failure: end the worker)
 *     char line[PIL_SANDBOX_LINE];
 *     pil_sandbox_describe(&report, line, sizeof line);                    ("full", for /health)
 *
 * A worker may then read, write and wait on the descriptors it has, use memory (never executable), make threads, look
 * at clocks, and end. Everything else is refused with EPERM, so a forgotten call is an error and not a death. Leak
 * checkers, coverage counters and debuggers need what is refused: a caged process ends with _exit. */
#ifndef PIL_SANDBOX_SANDBOX_H
#define PIL_SANDBOX_SANDBOX_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "pillion/pillion.h"

/* ── Layers and the report ──────────────────────────────────────────────────────────────────────────────────── */

#define PIL_SANDBOX_LAYER_MAP(X)       \
    X(PRIVILEGES, "no_new_privs")      \
    X(CAPABILITIES, "capability-drop") \
    X(LIMITS, "rlimits")               \
    X(LANDLOCK, "landlock")            \
    X(SECCOMP, "seccomp")

typedef enum pil_sandbox_layer {
#define PIL_SANDBOX_LAYER_ENUM(name, text) PIL_SANDBOX_LAYER_##name,
    PIL_SANDBOX_LAYER_MAP(PIL_SANDBOX_LAYER_ENUM)
#undef PIL_SANDBOX_LAYER_ENUM
    PIL_SANDBOX_LAYER_COUNT
} pil_sandbox_layer;

typedef struct pil_sandbox_report {
    unsigned layers;  /* a bit 1u << pil_sandbox_layer for each layer in force */
    int landlock_abi; /* of this kernel; 0 when it has no Landlock */
} pil_sandbox_report;

typedef enum pil_sandbox_state { PIL_SANDBOX_NONE, PIL_SANDBOX_PARTIAL, PIL_SANDBOX_FULL } pil_sandbox_state;

/* FULL: every layer in force. NONE: neither landlock nor seccomp, the two that take rights from an honest user. */
pil_sandbox_state pil_sandbox_state_of(const pil_sandbox_report *report);

#define PIL_SANDBOX_LINE 128 /* bytes that hold every description */
/* Writes "full", "partial: no landlock", "none" … into out and returns it. */
const char *pil_sandbox_describe(const pil_sandbox_report *report, char *out, size_t out_bytes);

/* What this kernel offers a process like the calling one. Changes nothing. */
void pil_sandbox_probe(pil_sandbox_report *report);

/* ── Policy ─────────────────────────────────────────────────────────────────────────────────────────────────── */

typedef enum pil_sandbox_role {
    /* Computes on memory and on open descriptors: no file, network, process, program, ptrace, signal. An allow-list. */
    PIL_SANDBOX_WORKER,
    /* Starts tools: reads and executes below the given paths, writes no file, no network, no ptrace; makes processes
     * and may signal them. A deny-list, since it is inherited by programs that are not ours. */
    PIL_SANDBOX_SUPERVISOR,
    /* Is about to execute a tool: as a supervisor, but makes threads only, signals itself only, stays in its process
     * group, cannot outlive its parent's death signal. */
    PIL_SANDBOX_TOOL,
} pil_sandbox_role;

#define PIL_SANDBOX_UNLIMITED UINT64_MAX

typedef struct pil_sandbox_policy {
    pil_sandbox_role role;
    /* Files, and folders with everything below them. One that does not exist is skipped. Borrowed for the call.
     * An exec path may be read as well; the loader that an ELF program names comes with it. */
    const char *const *read_paths;
    size_t n_read_paths;
    const char *const *exec_paths;
    size_t n_exec_paths;
    /* Limits: PIL_SANDBOX_UNLIMITED leaves one as it is; none is ever raised. */
    uint64_t memory_bytes; /* address space; not for a process with a sanitizer, whose shadow is larger */
    uint64_t cpu_s;
    uint64_t file_bytes; /* the largest file written; beware of a log on standard error that is a file */
    uint64_t files;      /* descriptors: a new one must be below */
    uint64_t processes;  /* processes and threads of this user in all, for a user that is not root */
} pil_sandbox_policy;

/* Fills defaults: no paths; files 16 (WORKER, as few as an event loop needs) or 64; everything else unlimited. */
void pil_sandbox_policy_init(pil_sandbox_policy *policy, pil_sandbox_role role);

/* Cages the calling process, which must have one thread (a TOOL's others end when it executes its program): threads and
 * programs that it starts later are caged with it.
 *   report   nullable; the layers in force afterwards. A layer that the kernel lacks is left out, and that is OK.
 *   Errors   E_INTERNAL when a layer that the kernel has cannot be built, or with a second thread; E_ARG for
 *            paths with WORKER. The process is then caged in part: end it. */
pillion_status pil_sandbox_apply(const pil_sandbox_policy *policy, pil_sandbox_report *report, pillion_error *err);

/* ── Before the cage (child.c) ──────────────────────────────────────────────────────────────────────────────── */

/* By how much those that do long work are nicer than their parent, which may have been started with nice itself:
 * whatever else wants their core goes before them. */
#define PIL_CHILD_NICE 10

/* What every child of ours does first: it ends with its parent, and leaves it to the parent to react to Ctrl-C and to
 * a service manager's signals. */
void pil_child_begin(void);
/* Is nicer than now by so much; the kernel stops at 19. */
void pil_child_give_way(int nice);
/* What a parent has left open, perhaps without wanting to, is no child's business: closes every descriptor from first
 * on; on_exec: only when another program is executed. */
void pil_child_close_from(int first, bool on_exec);

/* ── Self-test ──────────────────────────────────────────────────────────────────────────────────────────────── */

#define PIL_SANDBOX_CHECKS_MAX 48

/* One thing that was tried, in a child caged as the role says, and in a child without a cage. */
typedef struct pil_sandbox_check {
    const char *name;     /* "read a file", … static */
    bool allowed;         /* it succeeded in the cage */
    bool should;          /* it is something that the role must be able to do */
    bool allowed_uncaged; /* it succeeded without the cage: false means that the attempt proves nothing here */
} pil_sandbox_check;

/* Forks children that try each thing. Call it in a process with one thread.
 *   checks   caller's memory; *n is set to the number filled in
 *   Returns  OK when every check has allowed == should; E_INTERNAL with the first name that has not. */
pillion_status pil_sandbox_selftest(pil_sandbox_role role, pil_sandbox_check checks[PIL_SANDBOX_CHECKS_MAX], size_t *n,
                                    pillion_error *err);

#endif
