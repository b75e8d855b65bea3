/* cmd_help.c - pillion help: the commands, one command's help, or the manual page. Tests: tests/cmd/test_usage.py. */
#include "cmd/cmd.h"
#include "cmd/help.h"
#include "cmd/say.h"

typedef struct help_values {
    bool man;
} help_values;

static int run(const void *values, char **args, size_t n_args) {
    const help_values *v = values;
    const pil_command *command = n_args ? pil_command_find(args[0]) : NULL;
    if (n_args && !command) return pil_command_unknown(args[0]);
    pil_buf out;
    pil_buf_init(&out, PIL_HELP_BYTES);
    if (v->man) pil_help_manual(&out);
    else if (command) pil_help_command(&out, command);
    else pil_help_program(&out);
    int status = pil_say_output("pillion help", &out);
    pil_buf_deinit(&out);
    return status;
}

static const pil_option options[] = {
    {.name = "man", .type = PIL_OPTION_FLAG, .field = offsetof(help_values, man),
     .help = "print the manual page, for man(1)"},
    PIL_OPTION_END,
};

const pil_command pil_cmd_help = {
    .name = "help",
    .args = "[COMMAND]",
    .summary = "explain the program or one of its commands",
    .examples = "pillion help embed\npillion help --man | man -l -\tthe manual page, where it is not installed",
    .options = options,
    .values_bytes = sizeof(help_values),
    .args_max = 1,
    .complete = PIL_COMPLETE_COMMANDS,
    .run = run,
};
