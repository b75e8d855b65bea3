/* commands.c - the list of commands and of roles.
 *
 * A new command is one file cmd_NAME.c, one line in cmd.h and one here. Tests: tests/cmd/test_usage.py. */
#include <string.h>

#include "cmd/cmd.h"
#include "cmd/say.h"
#include "extract/extract.h"

static const pil_command *const commands[] = {
    &pil_cmd_embed,   &pil_cmd_similarity, &pil_cmd_tokenize,   &pil_cmd_serve, &pil_cmd_show,
    &pil_cmd_compile, &pil_cmd_verify,     &pil_cmd_replay,     &pil_cmd_doctor,     &pil_cmd_completion,
    &pil_cmd_help,    NULL,
};

/* Ends with a row without name. */
static const pil_role roles[] = {
    {"--role=worker", pil_role_worker, true},
    {"--role=prepare", pil_role_prepare, false},
    {"--role=extract", pil_extract_main, true},
    {NULL, NULL, false},
};

const pil_command *const *pil_commands(void) { return commands; }

const pil_command *pil_command_find(const char *name) {
    for (size_t i = 0; commands[i]; i++)
        if (strcmp(commands[i]->name, name) == 0) return commands[i];
    return NULL;
}

int pil_command_unknown(const char *name) {
    const char *names[64];
    size_t n = 0;
    for (const pil_command *const *c = pil_commands(); *c && n < 63; c++)
        if (!(*c)->hidden) names[n++] = (*c)->name;
    names[n] = NULL;
    const char *near = pil_options_nearest(name, names);
    if (near) pil_say("pillion", "unknown command '%.60s'; did you mean 'pillion %s'?", name, near);
    else pil_say("pillion", "unknown command '%.60s'; 'pillion --help' lists the commands", name);
    return PIL_EXIT_USAGE;
}

const pil_role *pil_role_find(const char *arg) {
    for (size_t i = 0; roles[i].arg; i++)
        if (strcmp(roles[i].arg, arg) == 0) return &roles[i];
    return NULL;
}

int pil_exit_of(pillion_status st) {
    switch (st) {
    case PILLION_OK: return PIL_EXIT_OK;
    case PILLION_E_ARG: return PIL_EXIT_USAGE;
    case PILLION_E_NOT_FOUND: return PIL_EXIT_NOT_FOUND;
    case PILLION_E_FORMAT:
    case PILLION_E_UNSUPPORTED:
    case PILLION_E_STALE: return PIL_EXIT_MODEL;
    case PILLION_E_UTF8:
    case PILLION_E_TOO_LONG:
    case PILLION_E_LIMIT: return PIL_EXIT_INPUT;
    case PILLION_E_CANCELLED: return PIL_EXIT_INTERRUPTED;
    case PILLION_E_NOMEM:
    case PILLION_E_IO:
    case PILLION_E_NUMERIC:
    case PILLION_E_INTERNAL:
    case PILLION_E_POISON:
    case PILLION_E_DEADLINE:
    case PILLION_E_LOST:
    case PILLION_E_UNAVAILABLE: return PIL_EXIT_FAILURE;
    }
    return PIL_EXIT_FAILURE;
}

bool pil_ends_with(const char *s, const char *end) {
    size_t n = strlen(s), m = strlen(end);
    return n >= m && strcmp(s + n - m, end) == 0;
}
