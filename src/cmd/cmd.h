/* cmd.h - the commands of the program: one file cmd_NAME.c each, which defines a pil_command; commands.c lists them. */
#ifndef PIL_CMD_CMD_H
#define PIL_CMD_CMD_H

#include "cmd/options.h"

/* Exit status of every command; the table in the manual page is made from this list. */
#define PIL_EXIT_MAP(X)                                                                              \
    X(OK, 0, "success")                                                                              \
    X(FAILURE, 1, "failure: reading, writing, memory or an internal error")                          \
    X(USAGE, 2, "wrong command line: the message names the option and what is allowed")              \
    X(NOT_FOUND, 3, "a model or a file does not exist")                                              \
    X(MODEL, 4, "a model is malformed, damaged or not supported")                                    \
    X(INPUT, 5, "a text was refused: invalid UTF-8, malformed JSON, or over a limit")                \
    X(IN_USE, 98, "serve: somebody else listens on that address, or uses that handshake file")       \
    X(INTERRUPTED, 130, "interrupted by Ctrl-C: no partial output file is left")

typedef enum pil_exit {
#define PIL_EXIT_ENUM(name, value, text) PIL_EXIT_##name = value,
    PIL_EXIT_MAP(PIL_EXIT_ENUM)
#undef PIL_EXIT_ENUM
} pil_exit;

/* The exit status that belongs to a status of the library, for an error about a model or a file. */
int pil_exit_of(pillion_status st);

#define PIL_HELP_BYTES ((size_t)1 << 20) /* ceiling of help, manual page and completion: about 30 kB are in use */

extern const pil_command pil_cmd_embed, pil_cmd_similarity, pil_cmd_tokenize, pil_cmd_show, pil_cmd_serve,
    pil_cmd_compile, pil_cmd_verify, pil_cmd_doctor, pil_cmd_completion, pil_cmd_help, pil_cmd_replay;

/* Every command, ends with NULL, in the order of --help. */
const pil_command *const *pil_commands(void);
const pil_command *pil_command_find(const char *name); /* NULL when there is none */
/* Says that there is no such command, with the nearest one that there is. Returns PIL_EXIT_USAGE. */
int pil_command_unknown(const char *name);

bool pil_ends_with(const char *s, const char *end);

/* The program as a child process of itself: argv[1] is "--role=NAME", run gets main's own arguments. */
typedef struct pil_role {
    const char *arg;
    int (*run)(int argc, char **argv);
    bool caged; /* it leaves by _exit: what runs at exit (leak checkers) needs what its cage refuses */
} pil_role;

const pil_role *pil_role_find(const char *arg); /* NULL when arg names no role */

int pil_role_worker(int argc, char **argv);  /* computes texts */
int pil_role_prepare(int argc, char **argv); /* compiles a model directory */

#endif
