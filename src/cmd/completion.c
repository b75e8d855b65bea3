/* completion.c - completion scripts for bash, zsh and fish, printed from the tables of commands and options.
 *
 * Each script knows the commands, the options of each, the words of those with choices, and where file names fit. The
 * files in tools/completion are these outputs; a test compares them. Texts of ours are put between single quotes, so
 * put_quoted() is the one place that escapes.
 * Tests: tests/cmd/test_usage.py (with bash, and with zsh and fish where they are installed). */
#include <string.h>

#include "cmd/cmd.h"
#include "cmd/help.h"

const char *const pil_shell_names[PIL_SHELL_COUNT + 1] = {"bash", "zsh", "fish", NULL};

/* The inside of a single-quoted word; characters in `escape` get a backslash. */
static void put_quoted(pil_buf *out, const char *s, const char *escape) {
    for (; *s; s++) {
        if (*s == '\'') {
            pil_buf_puts(out, "'\\''");
            continue;
        }
        if (strchr(escape, *s)) pil_buf_putc(out, '\\');
        pil_buf_putc(out, *s);
    }
}

static void put_words(pil_buf *out, const char *const *words) {
    for (size_t i = 0; words[i]; i++) pil_buf_printf(out, "%s%s", i ? " " : "", words[i]);
}

static void put_command_names(pil_buf *out) {
    const char *sep = "";
    for (const pil_command *const *c = pil_commands(); *c; c++) {
        if ((*c)->hidden) continue;
        pil_buf_printf(out, "%s%s", sep, (*c)->name);
        sep = " ";
    }
}

/* The words that may stand as arguments of a command: fixed ones, or the names of commands; nothing for files. */
static void put_arg_words(pil_buf *out, const pil_command *c) {
    if (c->complete == PIL_COMPLETE_COMMANDS) put_command_names(out);
    else if (c->complete == PIL_COMPLETE_SHELLS) put_words(out, pil_shell_names);
}

static bool has_arg_words(const pil_command *c) {
    return c->complete == PIL_COMPLETE_COMMANDS || c->complete == PIL_COMPLETE_SHELLS;
}

static bool takes_file(const pil_option *o) { return o->type == PIL_OPTION_PATH || o->files; }

/* ── bash ───────────────────────────────────────────────────────────────────────────────────────────────────── */

static void bash_values(pil_buf *out, const pil_command *c) {
    for (const pil_option *o = c->options; o && o->name; o++) {
        if (o->hidden || o->type == PIL_OPTION_FLAG) continue;
        pil_buf_printf(out, "    %s:--%s", c->name, o->name);
        if (o->letter) pil_buf_printf(out, "|%s:-%c", c->name, o->letter);
        pil_buf_puts(out, ") ");
        if (o->type == PIL_OPTION_CHOICE) {
            pil_buf_puts(out, "words='");
            put_words(out, o->choices);
            pil_buf_puts(out, "'");
        } else {
            pil_buf_puts(out, takes_file(o) ? "files=1" : "return");
        }
        pil_buf_puts(out, " ;;\n");
    }
}

static void bash_options(pil_buf *out, const pil_command *c) {
    pil_buf_printf(out, "        %s) words='", c->name);
    put_arg_words(out, c);
    pil_buf_puts(out, "' options='--help");
    for (const pil_option *o = c->options; o && o->name; o++)
        if (!o->hidden) pil_buf_printf(out, " --%s", o->name);
    pil_buf_printf(out, "'%s ;;\n", c->complete == PIL_COMPLETE_FILES ? " files=1" : "");
}

static void bash_script(pil_buf *out) {
    pil_buf_puts(out, "# bash completion for pillion. Made by 'pillion completion bash'; load it with:\n"
                      "#   source <(pillion completion bash)\n"
                      "_pillion() {\n"
                      "    local IFS=$' \\t\\n' cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD-1]}\n"
                      "    local words='' options='' files=''\n"
                      "    COMPREPLY=()\n"
                      "    if [[ $COMP_CWORD -eq 1 ]]; then\n"
                      "        COMPREPLY=($(compgen -W '");
    put_command_names(out);
    pil_buf_puts(out, " --help --version' -- \"$cur\"))\n"
                      "        return\n"
                      "    fi\n"
                      "    case ${COMP_WORDS[1]}:$prev in\n");
    for (const pil_command *const *c = pil_commands(); *c; c++)
        if (!(*c)->hidden) bash_values(out, *c);
    pil_buf_puts(out, "    *)\n"
                      "        case ${COMP_WORDS[1]} in\n");
    for (const pil_command *const *c = pil_commands(); *c; c++)
        if (!(*c)->hidden) bash_options(out, *c);
    pil_buf_puts(out, "        esac\n"
                      "        [[ $cur == -* ]] && words=$options files='' ;;\n"
                      "    esac\n"
                      "    COMPREPLY=($(compgen -W \"$words\" -- \"$cur\"))\n"
                      "    if [[ $files ]]; then\n"
                      "        IFS=$'\\n'\n"
                      "        COMPREPLY=($(compgen -f -- \"$cur\"))\n"
                      "        compopt -o filenames 2>/dev/null\n"
                      "    fi\n"
                      "}\n"
                      "complete -F _pillion pillion\n");
}

/* ── zsh ────────────────────────────────────────────────────────────────────────────────────────────────────── */

#define ZSH_SPECIAL "[]:\\"
#define ZSH_NOTHING "()" /* an empty list of words; a blank action would stop zsh from inserting a single match */

static void zsh_option(pil_buf *out, const pil_option *o) {
    const char *star = o->type == PIL_OPTION_LIST ? "*" : "";
    pil_buf_printf(out, " \\\n            '%s", star);
    if (o->letter) pil_buf_printf(out, "(-%c --%s)'{-%c,--%s}'[", o->letter, o->name, o->letter, o->name);
    else pil_buf_printf(out, "--%s[", o->name);
    put_quoted(out, o->help, ZSH_SPECIAL);
    pil_buf_puts(out, "]");
    if (o->type == PIL_OPTION_CHOICE) {
        pil_buf_printf(out, ":%s:(", o->value ? o->value : "WORD");
        put_words(out, o->choices);
        pil_buf_puts(out, ")");
    } else if (o->type != PIL_OPTION_FLAG) {
        pil_buf_printf(out, ":%s:%s", o->value, takes_file(o) ? "_files" : ZSH_NOTHING);
    }
    pil_buf_putc(out, '\'');
}

static void zsh_command(pil_buf *out, const pil_command *c) {
    pil_buf_printf(out, "    %s)\n        _arguments -s -S '(-h --help)'{-h,--help}'[show this help]'", c->name);
    for (const pil_option *o = c->options; o && o->name; o++)
        if (!o->hidden) zsh_option(out, o);
    if (has_arg_words(c)) {
        pil_buf_puts(out, " \\\n            '*:argument:(");
        put_arg_words(out, c);
        pil_buf_puts(out, ")'");
    } else {
        const char *action = c->complete == PIL_COMPLETE_FILES ? "_files" : ZSH_NOTHING;
        pil_buf_printf(out, " \\\n            '*:argument:%s'", action);
    }
    pil_buf_puts(out, " ;;\n");
}

static void zsh_script(pil_buf *out) {
    pil_buf_puts(out, "#compdef pillion\n"
                      "# zsh completion for pillion. Made by 'pillion completion zsh'; put it as _pillion into a\n"
                      "# directory of $fpath, or load it with: source <(pillion completion zsh)\n"
                      "_pillion() {\n"
                      "    local -a commands\n"
                      "    commands=(\n");
    for (const pil_command *const *c = pil_commands(); *c; c++) {
        if ((*c)->hidden) continue;
        pil_buf_printf(out, "        '%s:", (*c)->name);
        put_quoted(out, (*c)->summary, ZSH_SPECIAL);
        pil_buf_puts(out, "'\n");
    }
    pil_buf_puts(out, "    )\n"
                      "    if (( CURRENT == 2 )); then\n"
                      "        _describe command commands\n"
                      "        _arguments '--help[list the commands]' '--version[print the version]'\n"
                      "        return\n"
                      "    fi\n"
                      "    local command=$words[2]\n"
                      "    shift words\n"
                      "    (( CURRENT-- ))\n"
                      "    case $command in\n");
    for (const pil_command *const *c = pil_commands(); *c; c++)
        if (!(*c)->hidden) zsh_command(out, *c);
    pil_buf_puts(out, "    esac\n"
                      "}\n"
                      "if [[ $funcstack[1] == _pillion ]]; then _pillion \"$@\"; else compdef _pillion pillion; fi\n");
}

/* ── fish ───────────────────────────────────────────────────────────────────────────────────────────────────── */

static void fish_option(pil_buf *out, const pil_command *c, const pil_option *o) {
    pil_buf_printf(out, "complete -c pillion -n '__fish_seen_subcommand_from %s' -l %s", c->name, o->name);
    if (o->letter) pil_buf_printf(out, " -s %c", o->letter);
    if (o->type == PIL_OPTION_CHOICE) {
        pil_buf_puts(out, " -x -a '");
        put_words(out, o->choices);
        pil_buf_putc(out, '\'');
    } else if (o->type != PIL_OPTION_FLAG) {
        pil_buf_puts(out, takes_file(o) ? " -r -F" : " -x");
    }
    pil_buf_puts(out, " -d '");
    put_quoted(out, o->help, "\\");
    pil_buf_puts(out, "'\n");
}

static void fish_command(pil_buf *out, const pil_command *c) {
    pil_buf_printf(out, "complete -c pillion -n __fish_use_subcommand -a %s -d '", c->name);
    put_quoted(out, c->summary, "\\");
    pil_buf_puts(out, "'\n");
    pil_buf_printf(out, "complete -c pillion -n '__fish_seen_subcommand_from %s' -s h -l help -d 'show this help'\n",
                   c->name);
    for (const pil_option *o = c->options; o && o->name; o++)
        if (!o->hidden) fish_option(out, c, o);
    if (c->complete == PIL_COMPLETE_FILES)
        pil_buf_printf(out, "complete -c pillion -n '__fish_seen_subcommand_from %s' -F\n", c->name);
    if (!has_arg_words(c)) return;
    pil_buf_printf(out, "complete -c pillion -n '__fish_seen_subcommand_from %s' -a '", c->name);
    put_arg_words(out, c);
    pil_buf_puts(out, "'\n");
}

static void fish_script(pil_buf *out) {
    pil_buf_puts(out, "# fish completion for pillion. Made by 'pillion completion fish'; load it with:\n"
                      "#   pillion completion fish | source\n"
                      "complete -c pillion -f\n"
                      "complete -c pillion -n __fish_use_subcommand -l help -d 'list the commands'\n"
                      "complete -c pillion -n __fish_use_subcommand -l version -d 'print the version'\n");
    for (const pil_command *const *c = pil_commands(); *c; c++)
        if (!(*c)->hidden) fish_command(out, *c);
}

void pil_help_completion(pil_buf *out, pil_shell shell) {
    switch (shell) {
    case PIL_SHELL_BASH: bash_script(out); break;
    case PIL_SHELL_ZSH: zsh_script(out); break;
    case PIL_SHELL_FISH: fish_script(out); break;
    case PIL_SHELL_COUNT: break;
    }
}
