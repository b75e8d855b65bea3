/* help.h - --help, the manual page and shell completion, printed from the tables of commands and options. */
#ifndef PIL_CMD_HELP_H
#define PIL_CMD_HELP_H

#include "cmd/options.h"

/* "pillion --help": the commands and where to go on. */
void pil_help_program(pil_buf *out);
/* "pillion COMMAND --help". */
void pil_help_command(pil_buf *out, const pil_command *command);
/* The manual page pillion(1), in the man(7) macros. docs/pillion.1 is this text. */
void pil_help_manual(pil_buf *out);

typedef enum pil_shell { PIL_SHELL_BASH, PIL_SHELL_ZSH, PIL_SHELL_FISH, PIL_SHELL_COUNT } pil_shell;

extern const char *const pil_shell_names[PIL_SHELL_COUNT + 1]; /* "bash", "zsh", "fish", NULL */

/* A completion script for the shell. tools/completion/ holds these texts. */
void pil_help_completion(pil_buf *out, pil_shell shell);

#endif
