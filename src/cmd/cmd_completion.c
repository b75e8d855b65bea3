/* cmd_completion.c - pillion completion: a completion script for the user's shell. Tests: tests/cmd/test_usage.py. */
#include <string.h>

#include "cmd/cmd.h"
#include "cmd/help.h"
#include "cmd/say.h"

static int run(const void *values, char **args, size_t n_args) {
    (void)values;
    (void)n_args;
    for (int shell = 0; shell < PIL_SHELL_COUNT; shell++) {
        if (strcmp(args[0], pil_shell_names[shell]) != 0) continue;
        pil_buf out;
        pil_buf_init(&out, PIL_HELP_BYTES);
        pil_help_completion(&out, (pil_shell)shell);
        int status = pil_say_output("pillion completion", &out);
        pil_buf_deinit(&out);
        return status;
    }
    pil_say("pillion completion", "'%.60s' is not bash, zsh or fish", args[0]);
    return PIL_EXIT_USAGE;
}

static const pil_option options[] = {PIL_OPTION_END};

const pil_command pil_cmd_completion = {
    .name = "completion",
    .args = "bash|zsh|fish",
    .summary = "print a completion script for a shell",
    .text = "Put the line of your shell into its start-up file.",
    .examples = "source <(pillion completion bash)\tbash, in ~/.bashrc\n"
                "source <(pillion completion zsh)\tzsh, in ~/.zshrc after compinit\n"
                "pillion completion fish | source\tfish, in ~/.config/fish/config.fish",
    .options = options,
    .args_min = 1,
    .args_max = 1,
    .complete = PIL_COMPLETE_SHELLS,
    .run = run,
};
