/* role.c - the program as a child of its own server: what its arguments mean. The work itself is in src/proc.
 *
 *     pillion --role=worker  --precision=N [--model=FILE] [--nice=N]    without --model: the built-in model
 *     pillion --role=prepare --precision=N --source=DIRECTORY
 *
 * Tests: tests/http/test_server.py. */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"
#include "cmd/builtin.h"
#include "cmd/cmd.h"
#include "proc/proc.h"
#include "sandbox/sandbox.h"

/* The value of "name=value" among the arguments, or NULL. */
static const char *value_of(int argc, char **argv, const char *name) {
    size_t n = strlen(name);
    for (int i = 1; i < argc; i++)
        if (strncmp(argv[i], name, n) == 0 && argv[i][n] == '=') return argv[i] + n + 1;
    return NULL;
}

static pillion_precision precision_of(int argc, char **argv) {
    const char *text = value_of(argc, argv, "--precision");
    return text ? (pillion_precision)strtol(text, NULL, 10) : PILLION_PRECISION_AUTO;
}

int pil_role_worker(int argc, char **argv) {
    const char *nice = value_of(argc, argv, "--nice");
    pil_worker_begin(nice ? (int)strtol(nice, NULL, 10) : 0);
    pil_log_init(PIL_LOG_WARN, "worker");
    pil_worker_options o = {.file = value_of(argc, argv, "--model"), .precision = precision_of(argc, argv),
                            .fd = PIL_WORKER_FD, .page_fd = PIL_WORKER_PAGE_FD, .cage = true};
    if (!o.file) o.memory = pil_builtin_model(&o.memory_bytes);
    int status = pil_worker_main(&o);
    _exit(status); /* caged: what runs at exit (leak checkers, coverage) may not do what it wants to */
}

int pil_role_prepare(int argc, char **argv) {
    pil_child_begin();
    pil_log_init(PIL_LOG_WARN, "prepare");
    const char *source = value_of(argc, argv, "--source");
    return source ? pil_prepare_main(source, precision_of(argc, argv), STDOUT_FILENO) : PIL_EXIT_USAGE;
}
