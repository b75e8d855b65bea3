/* help.c - --help and the manual page, printed from the tables of commands and options.
 *
 * Both walk pil_commands(); nothing about an option is written twice. docs/pillion.1 is the output of
 * `pillion help --man`, committed so that packages need not run the program; a test compares the two.
 * Tests: tests/cmd/test_usage.py. */
#include "cmd/help.h"

#include <string.h>

#include "base/utf8.h"
#include "cmd/cmd.h"

#define WIDTH 80        /* columns of --help */
#define HELP_COLUMN 28  /* where the explanation of an option begins */
#define NAME_COLUMN 14  /* where the summary of a command begins */

static const char summary[] = "text embeddings, next to your application";

static const char intro[] =
    "Pillion turns text into vectors on this computer: no Python, no GPU, no account, nothing sent anywhere. A small "
    "English model is built in, so that 'echo hello | pillion embed' works at once; --model takes any other.";

static const struct {
    const char *name, *meaning;
} environment[] = {
    {"XDG_CACHE_HOME", "compiled models are kept in $XDG_CACHE_HOME/pillion (without it: ~/.cache/pillion)"},
    {"PILLION_TOKEN", "the token that clients of 'pillion serve' must present, in place of --token-file"},
    {"PILLION_CPU", "use at most the instructions of this tier: ref, avx2, avx512 or neon; for tests and comparisons"},
};

static const struct {
    int value;
    const char *meaning;
} exits[] = {
#define EXIT_ROW(name, value, text) {value, text},
    PIL_EXIT_MAP(EXIT_ROW)
#undef EXIT_ROW
};

#define COUNT(a) (sizeof(a) / sizeof *(a))

/* ── Plain text ─────────────────────────────────────────────────────────────────────────────────────────────── */

static void put_spaces(pil_buf *out, size_t n) {
    while (n--) pil_buf_putc(out, ' ');
}

/* Columns of UTF-8 text of which every character is one column wide, as all of ours are. */
static size_t columns(const char *s, size_t n) { return pil_utf8_count(s, n); }

/* Words of one paragraph, broken before WIDTH, from column `at` on; following lines begin at `indent`. */
static void put_wrapped(pil_buf *out, const char *text, size_t n, size_t at, size_t indent) {
    size_t i = 0;
    while (i < n) {
        size_t word = i;
        while (word < n && text[word] != ' ') word++;
        size_t w = columns(text + i, word - i);
        if (at > indent && at + 1 + w > WIDTH) {
            pil_buf_putc(out, '\n');
            put_spaces(out, indent);
            at = indent;
        } else if (i > 0) {
            pil_buf_putc(out, ' ');
            at++;
        }
        pil_buf_append(out, text + i, word - i);
        at += w;
        i = word + 1;
    }
    pil_buf_putc(out, '\n');
}

/* Calls put for every paragraph (parted by an empty line) of text. */
static void each_paragraph(pil_buf *out, const char *text, void (*put)(pil_buf *, const char *, size_t)) {
    while (text && *text) {
        const char *end = strstr(text, "\n\n");
        size_t n = end ? (size_t)(end - text) : strlen(text);
        put(out, text, n);
        text = end ? end + 2 : NULL;
    }
}

/* Calls put for every line "command<TAB>what it does" of examples. */
static void each_example(pil_buf *out, const char *examples,
                         void (*put)(pil_buf *, const char *command, size_t n, const char *what, size_t what_n)) {
    while (examples && *examples) {
        size_t n = strcspn(examples, "\t\n");
        const char *what = examples[n] == '\t' ? examples + n + 1 : examples + n;
        size_t what_n = strcspn(what, "\n");
        put(out, examples, n, what, what_n);
        examples = what[what_n] ? what + what_n + 1 : NULL;
    }
}

static void put_paragraph(pil_buf *out, const char *text, size_t n) {
    pil_buf_putc(out, '\n');
    put_wrapped(out, text, n, 0, 0);
}

static void put_example(pil_buf *out, const char *command, size_t n, const char *what, size_t what_n) {
    pil_buf_puts(out, "  ");
    pil_buf_append(out, command, n);
    pil_buf_putc(out, '\n');
    if (!what_n) return;
    put_spaces(out, 6);
    put_wrapped(out, what, what_n, 6, 6);
}

/* "-o, --output FILE" */
static void put_option_head(pil_buf *out, const pil_option *o) {
    if (o->letter) pil_buf_printf(out, "-%c, ", o->letter);
    else pil_buf_puts(out, "    ");
    pil_buf_printf(out, "--%s", o->name);
    if (o->type == PIL_OPTION_CHOICE) pil_buf_printf(out, " %s", o->value ? o->value : "WORD");
    else if (o->type != PIL_OPTION_FLAG) pil_buf_printf(out, " %s", o->value);
}

/* Opens the bracket of remarks, or parts two of them. */
static void put_remark(pil_buf *out, bool *open) {
    pil_buf_puts(out, *open ? "; " : " (");
    *open = true;
}

/* The help sentence, then in brackets what is allowed, the default and the environment variable. */
static void put_option_help(pil_buf *out, const pil_option *o) {
    bool open = false;
    pil_buf_puts(out, o->help);
    if (o->type == PIL_OPTION_CHOICE || (o->type == PIL_OPTION_UINT && o->max)) {
        put_remark(out, &open);
        if (o->type == PIL_OPTION_CHOICE) pil_options_put_choices(out, o->choices);
        else pil_buf_printf(out, "%llu to %llu", (unsigned long long)o->min, (unsigned long long)o->max);
    }
    if (o->type == PIL_OPTION_LIST) {
        put_remark(out, &open);
        pil_buf_puts(out, "may be repeated");
    }
    if (o->live) {
        put_remark(out, &open);
        pil_buf_puts(out, "SIGHUP changes it");
    }
    if (o->fallback) {
        put_remark(out, &open);
        pil_buf_printf(out, "default: %s", o->fallback);
    }
    if (o->env) {
        put_remark(out, &open);
        pil_buf_printf(out, "environment: %s%s", o->env, o->type == PIL_OPTION_LIST ? ", separated by commas" : "");
    }
    if (open) pil_buf_putc(out, ')');
}

static void put_row(pil_buf *out, const char *head, size_t head_n, const char *help, size_t help_n, size_t column) {
    pil_buf_puts(out, "  ");
    pil_buf_append(out, head, head_n);
    size_t at = 2 + columns(head, head_n);
    if (at + 2 > column) {
        pil_buf_putc(out, '\n');
        at = 0;
    }
    put_spaces(out, column - at);
    put_wrapped(out, help, help_n, column, column);
}

static void put_option(pil_buf *out, const pil_option *o) {
    pil_buf head, help;
    pil_buf_init(&head, 4096);
    pil_buf_init(&help, 4096);
    put_option_head(&head, o);
    put_option_help(&help, o);
    put_row(out, head.bytes, head.len, help.bytes, help.len, HELP_COLUMN);
    pil_buf_deinit(&head);
    pil_buf_deinit(&help);
}

static const pil_option help_option = {
    .name = "help", .letter = 'h', .type = PIL_OPTION_FLAG, .help = "show this help"};

static void put_exits(pil_buf *out) {
    pil_buf_puts(out, "\nExit status:\n");
    for (size_t i = 0; i < COUNT(exits); i++) {
        pil_buf_printf(out, "  %3d  ", exits[i].value);
        put_wrapped(out, exits[i].meaning, strlen(exits[i].meaning), 7, 7);
    }
}

static bool has_options(const pil_command *c) {
    for (const pil_option *o = c->options; o && o->name; o++)
        if (!o->hidden) return true;
    return false;
}

static void put_usage(pil_buf *out, const pil_command *c) {
    pil_buf_printf(out, "pillion %s%s", c->name, has_options(c) ? " [OPTION...]" : "");
    if (c->args[0]) pil_buf_printf(out, " %s", c->args);
}

void pil_help_command(pil_buf *out, const pil_command *c) {
    pil_buf_puts(out, "Usage: ");
    put_usage(out, c);
    pil_buf_puts(out, "\n\n");
    pil_buf_printf(out, "%c", c->summary[0] >= 'a' && c->summary[0] <= 'z' ? c->summary[0] - 'a' + 'A' : c->summary[0]);
    pil_buf_printf(out, "%s.\n", c->summary + 1);
    each_paragraph(out, c->text, put_paragraph);
    pil_buf_puts(out, "\nOptions:\n");
    for (const pil_option *o = c->options; o && o->name; o++)
        if (!o->hidden) put_option(out, o);
    put_option(out, &help_option);
    if (c->examples) pil_buf_puts(out, "\nExamples:\n");
    each_example(out, c->examples, put_example);
    put_exits(out);
}

void pil_help_program(pil_buf *out) {
    pil_buf_printf(out, "pillion %s - %s\n\n", PILLION_VERSION, summary);
    pil_buf_puts(out, "Usage: pillion COMMAND [OPTION...] [ARGUMENT...]\n");
    put_paragraph(out, intro, sizeof intro - 1);
    pil_buf_puts(out, "\nCommands:\n");
    for (const pil_command *const *c = pil_commands(); *c; c++)
        if (!(*c)->hidden)
            put_row(out, (*c)->name, strlen((*c)->name), (*c)->summary, strlen((*c)->summary), NAME_COLUMN);
    pil_buf_puts(out, "\n'pillion COMMAND --help' explains a command, 'man pillion' all of them.\n");
}

/* ── The manual page ────────────────────────────────────────────────────────────────────────────────────────── */

/* Text for troff: '-' is a minus to be copied, '\' is escaped, a line may not begin with a control character. */
static void put_troff(pil_buf *out, const char *s, size_t n) {
    if (n && (s[0] == '.' || s[0] == '\'')) pil_buf_puts(out, "\\&");
    for (size_t i = 0; i < n; i++) {
        if (s[i] == '\\') pil_buf_puts(out, "\\e");
        else if (s[i] == '-') pil_buf_puts(out, "\\-");
        else if (s[i] == '\'') pil_buf_puts(out, "\\(aq");
        else if (s[i] == '~') pil_buf_puts(out, "\\(ti");
        else if (s[i] == '^') pil_buf_puts(out, "\\(ha");
        else if (s[i] == '`') pil_buf_puts(out, "\\(ga");
        else pil_buf_putc(out, s[i]);
    }
}

static void put_troff_paragraph(pil_buf *out, const char *text, size_t n) {
    pil_buf_puts(out, ".PP\n");
    put_troff(out, text, n);
    pil_buf_putc(out, '\n');
}

static void put_troff_example(pil_buf *out, const char *command, size_t n, const char *what, size_t what_n) {
    pil_buf_puts(out, ".PP\n.nf\n");
    put_troff(out, command, n);
    pil_buf_puts(out, "\n.fi\n");
    if (!what_n) return;
    pil_buf_puts(out, ".RS\n");
    put_troff(out, what, what_n);
    pil_buf_puts(out, "\n.RE\n");
}

static void put_troff_option(pil_buf *out, const pil_option *o) {
    pil_buf help;
    pil_buf_init(&help, 4096);
    put_option_help(&help, o);
    pil_buf_puts(out, ".TP\n");
    if (o->letter) pil_buf_printf(out, "\\fB\\-%c\\fR, ", o->letter);
    pil_buf_puts(out, "\\fB\\-\\-");
    put_troff(out, o->name, strlen(o->name));
    pil_buf_puts(out, "\\fR");
    if (o->type != PIL_OPTION_FLAG) pil_buf_printf(out, " \\fI%s\\fR", o->value ? o->value : "WORD");
    pil_buf_putc(out, '\n');
    put_troff(out, help.bytes, help.len);
    pil_buf_puts(out, ".\n");
    pil_buf_deinit(&help);
}

static void put_troff_command(pil_buf *out, const pil_command *c) {
    pil_buf_printf(out, ".SS %s\n.B ", c->name);
    pil_buf usage;
    pil_buf_init(&usage, 4096);
    put_usage(&usage, c);
    put_troff(out, usage.bytes, usage.len);
    pil_buf_deinit(&usage);
    pil_buf_puts(out, "\n.PP\n");
    pil_buf_putc(out, c->summary[0] >= 'a' && c->summary[0] <= 'z' ? (char)(c->summary[0] - 'a' + 'A') : c->summary[0]);
    put_troff(out, c->summary + 1, strlen(c->summary + 1));
    pil_buf_puts(out, ".\n");
    each_paragraph(out, c->text, put_troff_paragraph);
    for (const pil_option *o = c->options; o && o->name; o++)
        if (!o->hidden) put_troff_option(out, o);
}

void pil_help_manual(pil_buf *out) {
    pil_buf_puts(out, ".\\\" Made by 'pillion help --man' from the tables of options. Do not edit.\n");
    pil_buf_printf(out, ".TH PILLION 1 \"\" \"pillion %s\" \"User Commands\"\n", PILLION_VERSION);
    pil_buf_printf(out, ".SH NAME\npillion \\- %s\n", summary);
    pil_buf_puts(out, ".SH SYNOPSIS\n.B pillion\n.I COMMAND\n[\\fIOPTION\\fR...] [\\fIARGUMENT\\fR...]\n");
    pil_buf_puts(out, ".SH DESCRIPTION\n");
    put_troff(out, intro, sizeof intro - 1);
    pil_buf_puts(out, "\n.PP\nOptions and arguments may be mixed; \\-\\- stands before arguments that begin with a "
                      "dash. Every command answers \\fB\\-\\-help\\fR.\n.SH COMMANDS\n");
    for (const pil_command *const *c = pil_commands(); *c; c++)
        if (!(*c)->hidden) put_troff_command(out, *c);
    pil_buf_puts(out, ".SH EXAMPLES\n");
    for (const pil_command *const *c = pil_commands(); *c; c++)
        if (!(*c)->hidden) each_example(out, (*c)->examples, put_troff_example);
    pil_buf_puts(out, ".SH EXIT STATUS\n");
    for (size_t i = 0; i < COUNT(exits); i++) {
        pil_buf_printf(out, ".TP\n.B %d\n", exits[i].value);
        put_troff(out, exits[i].meaning, strlen(exits[i].meaning));
        pil_buf_puts(out, "\n");
    }
    pil_buf_puts(out, ".SH ENVIRONMENT\nVariables that stand in for an option are named with that option.\n");
    for (size_t i = 0; i < COUNT(environment); i++) {
        pil_buf_printf(out, ".TP\n.B %s\n", environment[i].name);
        put_troff(out, environment[i].meaning, strlen(environment[i].meaning));
        pil_buf_puts(out, "\n");
    }
}
