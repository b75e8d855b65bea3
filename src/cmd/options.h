/* options.h - the options of a command as one table, which gives the parser, --help, the manual page and completion.
 *
 * A command is a pil_command: a name, prose, a table of pil_option ending with PIL_OPTION_END, and a function that gets
 * its values already parsed. The values live in a plain struct of the command; each option names its field:
 *
 *     struct embed_values { const char *model; uint64_t threads; bool quiet; };
 *     static const pil_option options[] = {
 *         {.name = "model", .letter = 'm', .type = PIL_OPTION_STRING, .field = offsetof(struct embed_values, model),
 *          .value = "MODEL", .env = "EMBED_MODEL", .help = "name, directory or compiled file"},
 *         {.name = "quiet", .letter = 'q', .type = PIL_OPTION_FLAG, .field = offsetof(struct embed_values, quiet),
 *          .help = "no progress bar"},
 *         PIL_OPTION_END,
 *     };
 *
 * A value is looked for on the command line, then in the environment variable, then in the file that an option marked
 * `config` names, then in the table's default. Such a file has lines "name = value" with the names of the table,
 * without quotes or continuations; an option that may be given several times has several lines; flags are yes or no; a
 * line that begins with # is a remark. */
#ifndef PIL_CMD_OPTIONS_H
#define PIL_CMD_OPTIONS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "pillion/pillion.h"

typedef enum pil_option_type {
    PIL_OPTION_FLAG,   /* field: bool; takes no value. In the environment 0, false, no, off and "" mean not set */
    PIL_OPTION_STRING, /* field: const char *; NULL when not given and without default */
    PIL_OPTION_PATH,   /* as STRING; completion offers file names */
    PIL_OPTION_UINT,   /* field: uint64_t, min <= value <= max */
    PIL_OPTION_CHOICE, /* field: uint64_t, the index of the word in choices */
    PIL_OPTION_LIST,   /* field: pil_option_list; may be given several times. In the environment: separated by commas */
} pil_option_type;

/* Values of a PIL_OPTION_LIST, in the order given. Borrowed from pil_options. */
typedef struct pil_option_list {
    const char **items;
    size_t n;
} pil_option_list;

typedef struct pil_option {
    const char *name;           /* without the dashes; lower case words joined by '-' */
    char letter;                /* 'o' for -o, or 0 */
    pil_option_type type;
    size_t field;               /* offsetof in the command's values */
    const char *value;          /* what --help calls the value: "FILE"; NULL for flags; choices show themselves */
    const char *fallback;       /* the default as one would type it; NULL: zero or NULL */
    const char *env;            /* environment variable that stands in for the option, or NULL */
    uint64_t min, max;          /* UINT: what is allowed; max 0 means no ceiling */
    const char *const *choices; /* CHOICE: NULL-terminated */
    const char *help;           /* one sentence in lower case, without a full stop */
    bool live;                  /* a server takes a new value over when it reads its file again (SIGHUP) */
    bool config;                /* PATH: the file with further values; at most one in a table */
    bool files;                 /* completion offers file names although the type is not PATH */
    bool hidden;                /* left out of --help, manual page and completion */
} pil_option;

#define PIL_OPTION_END {.name = NULL}

/* What completion offers for the arguments of a command. */
typedef enum pil_complete {
    PIL_COMPLETE_NOTHING, /* texts */
    PIL_COMPLETE_FILES,
    PIL_COMPLETE_COMMANDS, /* names of our commands */
    PIL_COMPLETE_SHELLS,   /* names of shells */
} pil_complete;

/* Where the values came from, for a command that parses them once more. Borrowed from main. */
typedef struct pil_command_line {
    int argc;
    char **argv;
} pil_command_line;

typedef struct pil_command {
    const char *name;          /* "embed" */
    const char *args;          /* "[TEXT...]", or "" */
    const char *summary;       /* one line in lower case for the list of commands */
    const char *text;          /* prose for --help and the manual page, paragraphs parted by an empty line; or NULL */
    const char *examples;      /* lines "command<TAB>what it does", or NULL */
    const pil_option *options; /* ends with PIL_OPTION_END; --help is added by the parser */
    size_t values_bytes;       /* sizeof the values */
    size_t line;               /* offset of a pil_command_line in the values, which the parser fills in; 0: none */
    size_t args_min, args_max; /* how many arguments besides options; args_max SIZE_MAX: any number */
    pil_complete complete;     /* of the arguments */
    bool hidden;               /* left out of the list of commands */
    /* Does the work. values: the parsed options; args: [n_args] the other arguments, borrowed from argv.
     * Returns the exit status (exit.h). */
    int (*run)(const void *values, char **args, size_t n_args);
} pil_command;

/* What was parsed. Free with pil_options_deinit. */
typedef struct pil_options {
    void *values; /* the command's struct; strings in it are borrowed from argv, the environment, the table and owned */
    char **args;  /* [n_args] arguments that are not options */
    size_t n_args;
    bool help;    /* --help or -h was given: values are incomplete, nothing else was checked */
    void **owned; /* [n_owned] memory behind the lists and the values of a file */
    size_t n_owned;
} pil_options;

/* Parses argv[0 .. argc-1] (the command's own name is not among them). Options and arguments may be mixed; "--" ends
 * the options; "-" is an argument. --name VALUE, --name=VALUE, -o VALUE, -oVALUE and joined flags (-qv) are understood.
 *   Errors  E_ARG: one line that names the option, what was given and what is allowed; for a file also the line's
 *           number. E_NOT_FOUND, E_IO: the file. E_NOMEM. */
PILLION_MUST_USE pillion_status pil_options_parse(pil_options *out, const pil_command *command, int argc, char **argv,
                                                  pillion_error *err);
void pil_options_deinit(pil_options *o); /* accepts a zeroed one */

/* Whether two parsed values of an option are the same. */
bool pil_options_same(const pil_option *o, const void *values_a, const void *values_b);

/* The word of `words` (NULL-terminated) that is nearest to `typed`, or NULL when none is near enough to suggest. */
const char *pil_options_nearest(const char *typed, const char *const *words);

/* "a, b or c" of a NULL-terminated list. */
void pil_options_put_choices(pil_buf *out, const char *const *choices);
/* What an option allows, for errors and documentation: "one of a, b or c", "a whole number from 0 to 7"; nothing for
 * types that allow every text. */
void pil_options_put_allowed(pil_buf *out, const pil_option *o);

#endif
