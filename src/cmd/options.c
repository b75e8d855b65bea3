/* options.c - parses a command line against a command's table of options.
 *
 * Flow:       pil_options_parse(): defaults -> command line, which counts what was given -> environment for the rest ->
 *             the file, if one is named, for the rest of that -> number of arguments.
 * Invariants: (1) after success every field holds a value that the table allows. (2) an error names the option (or the
 *             variable), what was given and what is allowed, in one line.
 * Memory:     strings are borrowed from argv, the environment and the table; lists and a file's text are owned by
 *             pil_options.
 * Not here:   --help, the manual page and completion, which print the same tables (help.c, completion.c).
 * Tests:      tests/cmd/test_options.c, tests/cmd/test_usage.py. */
#include "cmd/options.h"

#include <assert.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/err.h"
#include "base/file.h"
#include "base/limits.h"

#define SHOWN 60 /* characters of a user's argument that an error repeats */
#define CONFIG_FILE_MAX (64 * PIL_KIB)

/* One parse in progress. */
typedef struct parse {
    const pil_command *command;
    pil_options *out;
    size_t n_options;
    bool *given; /* [n_options] */
    pillion_error *err;
} parse;

static size_t count_options(const pil_option *options) {
    size_t n = 0;
    while (options && options[n].name) n++;
    return n;
}

static size_t count_words(const char *const *words) {
    size_t n = 0;
    while (words[n]) n++;
    return n;
}

/* ── Words ──────────────────────────────────────────────────────────────────────────────────────────────────── */

#define WORD_MAX 32 /* longer words are never near a name of ours */

static size_t min_size(size_t a, size_t b) { return a < b ? a : b; }

/* Edits (insert, remove, exchange, swap of neighbours) between two words: optimal string alignment, the restricted form
 * of Damerau, "A technique for computer detection and correction of spelling errors", CACM 7 (1964). */
static size_t edits(const char *a, const char *b) {
    size_t n = strlen(a), m = strlen(b);
    if (n > WORD_MAX || m > WORD_MAX) return WORD_MAX;
    size_t d[WORD_MAX + 1][WORD_MAX + 1];
    for (size_t i = 0; i <= n; i++) d[i][0] = i;
    for (size_t j = 0; j <= m; j++) d[0][j] = j;
    for (size_t i = 1; i <= n; i++) {
        for (size_t j = 1; j <= m; j++) {
            size_t best = min_size(d[i - 1][j], d[i][j - 1]) + 1;
            best = min_size(best, d[i - 1][j - 1] + (a[i - 1] != b[j - 1]));
            bool swapped = i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1];
            if (swapped) best = min_size(best, d[i - 2][j - 2] + 1);
            d[i][j] = best;
        }
    }
    return d[n][m];
}

const char *pil_options_nearest(const char *typed, const char *const *words) {
    const char *best = NULL;
    size_t best_edits = 0, n = strlen(typed);
    for (size_t i = 0; words[i]; i++) {
        bool is_start = n >= 3 && strncmp(words[i], typed, n) == 0;
        size_t e = is_start ? 0 : edits(typed, words[i]);
        if (e > strlen(words[i]) / 3) continue; /* one edit in three letters: more would be guessing */
        if (!best || e < best_edits) best = words[i], best_edits = e;
    }
    return best;
}

void pil_options_put_choices(pil_buf *out, const char *const *choices) {
    size_t n = count_words(choices);
    for (size_t i = 0; i < n; i++) {
        if (i) pil_buf_puts(out, i + 1 == n ? " or " : ", ");
        pil_buf_puts(out, choices[i]);
    }
}

void pil_options_put_allowed(pil_buf *out, const pil_option *o) {
    switch (o->type) {
    case PIL_OPTION_CHOICE: pil_options_put_choices(out, o->choices); break;
    case PIL_OPTION_UINT:
        pil_buf_puts(out, "a whole number");
        if (o->max) pil_buf_printf(out, " from %llu to %llu", (unsigned long long)o->min, (unsigned long long)o->max);
        else if (o->min) pil_buf_printf(out, " of at least %llu", (unsigned long long)o->min);
        break;
    case PIL_OPTION_FLAG:
    case PIL_OPTION_STRING:
    case PIL_OPTION_PATH:
    case PIL_OPTION_LIST: break;
    }
}

/* ── Values ─────────────────────────────────────────────────────────────────────────────────────────────────── */

static void *field_of(const parse *p, const pil_option *o) { return (char *)p->out->values + o->field; }

static pillion_status keep(parse *p, void *memory) {
    void **grown = memory ? realloc(p->out->owned, (p->out->n_owned + 1) * sizeof *grown) : NULL;
    if (!grown) {
        free(memory);
        return pil_err_no_memory(p->err);
    }
    p->out->owned = grown;
    grown[p->out->n_owned++] = memory;
    return PILLION_OK;
}

/* Lists grow by copying: an option is given a few times, not thousands. */
static pillion_status list_add(parse *p, pil_option_list *list, const char *item) {
    const char **items = malloc((list->n + 1) * sizeof *items);
    pillion_status st = keep(p, items);
    if (st) return st;
    if (list->n) memcpy(items, list->items, list->n * sizeof *items);
    items[list->n++] = item;
    list->items = items;
    return PILLION_OK;
}

/* `from` is how the user knows the option: "--port" or "EMBED_PORT (for --port)". */
static pillion_status not_allowed(const parse *p, const pil_option *o, const char *from, const char *text) {
    pil_buf allowed;
    pil_buf_init(&allowed, PIL_KIB);
    pil_options_put_allowed(&allowed, o);
    const char *what = pil_buf_cstr(&allowed);
    pillion_status st =
        pil_err_set(p->err, PILLION_E_ARG, "%s: '%.*s' is not %s", from, SHOWN, text, what ? what : "allowed");
    pil_buf_deinit(&allowed);
    return st;
}

static bool parse_uint(uint64_t *out, const pil_option *o, const char *text) {
    if (text[0] == '\0' || strspn(text, "0123456789") != strlen(text)) return false;
    errno = 0;
    unsigned long long v = strtoull(text, NULL, 10);
    if (errno || v < o->min || (o->max && v > o->max)) return false;
    *out = v;
    return true;
}

static bool parse_choice(uint64_t *out, const pil_option *o, const char *text) {
    for (size_t i = 0; o->choices[i]; i++) {
        if (strcmp(o->choices[i], text) == 0) {
            *out = i;
            return true;
        }
    }
    return false;
}

/* Puts one given text into the option's field. Not for flags. */
static pillion_status set_value(parse *p, const pil_option *o, const char *from, const char *text) {
    bool ok = true;
    switch (o->type) {
    case PIL_OPTION_PATH:
        if (text[0] == '\0') return pil_err_set(p->err, PILLION_E_ARG, "%s: the file name is empty", from);
        *(const char **)field_of(p, o) = text;
        break;
    case PIL_OPTION_STRING:
        *(const char **)field_of(p, o) = text;
        break;
    case PIL_OPTION_UINT: ok = parse_uint(field_of(p, o), o, text); break;
    case PIL_OPTION_CHOICE: ok = parse_choice(field_of(p, o), o, text); break;
    case PIL_OPTION_LIST: return list_add(p, field_of(p, o), text);
    case PIL_OPTION_FLAG: assert(!"flags have no text"); break;
    }
    return ok ? PILLION_OK : not_allowed(p, o, from, text);
}

static bool is_off(const char *text) {
    static const char *const words[] = {"", "0", "false", "no", "off"};
    for (size_t i = 0; i < sizeof words / sizeof *words; i++)
        if (strcasecmp(text, words[i]) == 0) return true;
    return false;
}

/* A copy of text cut at its commas, items added one by one. */
static pillion_status set_list_from_env(parse *p, const pil_option *o, const char *text) {
    char *copy = strdup(text);
    pillion_status st = keep(p, copy);
    char *rest = copy;
    for (char *item; !st && (item = strsep(&rest, ",")) != NULL;)
        if (item[0]) st = list_add(p, field_of(p, o), item);
    return st;
}

static void mark_given(parse *p, const pil_option *o) { p->given[o - p->command->options] = true; }

static pillion_status set_from_env(parse *p, const pil_option *o) {
    const char *text = o->env ? getenv(o->env) : NULL;
    if (!text) return PILLION_OK;
    if (o->type == PIL_OPTION_FLAG) {
        mark_given(p, o);
        *(bool *)field_of(p, o) = !is_off(text);
        return PILLION_OK;
    }
    if (text[0] == '\0') return PILLION_OK; /* an empty variable counts as unset, as in most programs */
    mark_given(p, o);
    if (o->type == PIL_OPTION_LIST) return set_list_from_env(p, o, text);
    char from[128];
    snprintf(from, sizeof from, "%s (environment, for --%s)", o->env, o->name);
    return set_value(p, o, from, text);
}

static pillion_status set_default(parse *p, const pil_option *o) {
    if (!o->fallback) return PILLION_OK;
    assert(o->type != PIL_OPTION_FLAG);
    pillion_status st = set_value(p, o, o->name, o->fallback);
    assert(st != PILLION_E_ARG && "the table's own default is allowed");
    return st;
}

/* ── Names ──────────────────────────────────────────────────────────────────────────────────────────────────── */

static const pil_option *find_long(const parse *p, const char *name, size_t n) {
    for (size_t i = 0; i < p->n_options; i++) {
        const pil_option *o = &p->command->options[i];
        if (strlen(o->name) == n && memcmp(o->name, name, n) == 0) return o;
    }
    return NULL;
}

/* The visible name nearest to what was typed, or NULL. `also`: one more word, or NULL. */
static const char *nearest_name(const parse *p, const char *typed, const char *also) {
    const char **names = calloc(p->n_options + 2, sizeof *names);
    if (!names) return NULL;
    size_t n = 0;
    for (size_t i = 0; i < p->n_options; i++)
        if (!p->command->options[i].hidden) names[n++] = p->command->options[i].name;
    names[n] = also;
    const char *near = pil_options_nearest(typed, names);
    free(names);
    return near;
}

static pillion_status unknown_option(const parse *p, const char *arg) {
    char typed[SHOWN];
    snprintf(typed, sizeof typed, "%s", arg + strspn(arg, "-"));
    typed[strcspn(typed, "=")] = '\0';
    const char *near = arg[1] == '-' ? nearest_name(p, typed, "help") : NULL;
    if (near) return pil_err_set(p->err, PILLION_E_ARG, "unknown option '%.*s'; did you mean --%s?", SHOWN, arg, near);
    return pil_err_set(p->err, PILLION_E_ARG, "unknown option '%.*s'; --help lists the options%s", SHOWN, arg,
                       p->command->args_max ? ", and -- stands before arguments that begin with '-'" : "");
}

/* In a file. */
static pillion_status unknown_name(const parse *p, const char *where, const char *name) {
    const char *near = nearest_name(p, name, NULL);
    return pil_err_set(p->err, PILLION_E_ARG, "%s: unknown option '%.*s'%s%s%s", where, SHOWN, name,
                       near ? "; did you mean " : "", near ? near : "", near ? "?" : "");
}

/* ── A file ─────────────────────────────────────────────────────────────────────────────────────────────────── */

/* Cuts white space off both ends, in place. */
static char *trim(char *text) {
    text += strspn(text, " \t\r");
    size_t n = strlen(text);
    while (n > 0 && strchr(" \t\r", text[n - 1])) n--;
    text[n] = '\0';
    return text;
}

static pillion_status set_flag_from_file(parse *p, const pil_option *o, const char *from, const char *text) {
    bool on = strcasecmp(text, "yes") == 0 || strcasecmp(text, "true") == 0 || strcasecmp(text, "on") == 0 ||
              strcmp(text, "1") == 0;
    if (!on && (text[0] == '\0' || (!is_off(text))))
        return pil_err_set(p->err, PILLION_E_ARG, "%s: '%.*s' is not yes or no", from, SHOWN, text);
    *(bool *)field_of(p, o) = on;
    return PILLION_OK;
}

/* One line "name = value". `scratch` takes the values that something else beats, so that they are checked as well. */
static pillion_status take_line(parse *p, parse *scratch, const char *where, char *line) {
    char *equals = strchr(line, '=');
    if (!equals) return pil_err_set(p->err, PILLION_E_ARG, "%s: '%.*s' is not name = value", where, SHOWN, line);
    *equals = '\0';
    const char *name = trim(line), *text = trim(equals + 1);
    const pil_option *o = find_long(p, name, strlen(name));
    if (!o || o->config) return unknown_name(p, where, name);
    char from[PATH_MAX + 128];
    snprintf(from, sizeof from, "%s: %s", where, o->name);
    parse *to = p->given[o - p->command->options] ? scratch : p;
    if (o->type == PIL_OPTION_FLAG) return set_flag_from_file(to, o, from, text);
    return set_value(to, o, from, text);
}

static pillion_status take_lines(parse *p, const char *path, char *text) {
    pil_options unused = {.values = calloc(1, p->command->values_bytes)};
    parse scratch = *p;
    scratch.out = &unused;
    pillion_status st = unused.values ? PILLION_OK : pil_err_no_memory(p->err);
    char *rest = text;
    for (unsigned number = 1; !st && rest; number++) {
        char where[PATH_MAX + 32], *line = trim(strsep(&rest, "\n"));
        if (*line == '\0' || *line == '#') continue;
        snprintf(where, sizeof where, "%s:%u", path, number);
        st = take_line(p, &scratch, where, line);
    }
    pil_options_deinit(&unused);
    return st;
}

static pillion_status set_from_file(parse *p) {
    const pil_option *config = NULL;
    for (size_t i = 0; i < p->n_options; i++)
        if (p->command->options[i].config) config = &p->command->options[i];
    const char *path = config ? *(const char **)field_of(p, config) : NULL;
    if (!path) return PILLION_OK;
    char *text;
    size_t n;
    pillion_status st = pil_file_read(&text, &n, path, CONFIG_FILE_MAX, p->err);
    if (!st) st = keep(p, text);
    if (!st && strlen(text) != n) st = pil_err_set(p->err, PILLION_E_ARG, "%s: it is not a text file", path);
    return st ? st : take_lines(p, path, text);
}

/* ── Command line ───────────────────────────────────────────────────────────────────────────────────────────── */

static const pil_option *find_letter(const parse *p, char letter) {
    for (size_t i = 0; i < p->n_options; i++)
        if (p->command->options[i].letter == letter) return &p->command->options[i];
    return NULL;
}

/* --name, --name=VALUE or --name VALUE. *i is the index of the option in argv and moves over a value taken. */
static pillion_status parse_long(parse *p, int argc, char **argv, int *i) {
    const char *arg = argv[*i], *name = arg + 2;
    const char *equals = strchr(name, '=');
    size_t n = equals ? (size_t)(equals - name) : strlen(name);
    if (n == 4 && memcmp(name, "help", 4) == 0 && !equals) {
        p->out->help = true;
        return PILLION_OK;
    }
    const pil_option *o = find_long(p, name, n);
    if (!o) return unknown_option(p, arg);
    char from[64];
    snprintf(from, sizeof from, "--%s", o->name);
    mark_given(p, o);
    if (o->type == PIL_OPTION_FLAG) {
        if (equals) return pil_err_set(p->err, PILLION_E_ARG, "%s takes no value", from);
        *(bool *)field_of(p, o) = true;
        return PILLION_OK;
    }
    if (equals) return set_value(p, o, from, equals + 1);
    if (*i + 1 >= argc) return pil_err_set(p->err, PILLION_E_ARG, "%s needs a value", from);
    return set_value(p, o, from, argv[++*i]);
}

/* -q, -qv, -oVALUE or -o VALUE. */
static pillion_status parse_letters(parse *p, int argc, char **argv, int *i) {
    const char *arg = argv[*i];
    for (const char *c = arg + 1; *c; c++) {
        if (*c == 'h' && !find_letter(p, 'h')) {
            p->out->help = true;
            return PILLION_OK;
        }
        const pil_option *o = find_letter(p, *c);
        if (!o) return unknown_option(p, arg);
        mark_given(p, o);
        if (o->type == PIL_OPTION_FLAG) {
            *(bool *)field_of(p, o) = true;
            continue;
        }
        char from[64];
        snprintf(from, sizeof from, "-%c (--%s)", o->letter, o->name);
        if (c[1]) return set_value(p, o, from, c + 1);
        if (*i + 1 >= argc) return pil_err_set(p->err, PILLION_E_ARG, "%s needs a value", from);
        return set_value(p, o, from, argv[++*i]);
    }
    return PILLION_OK;
}

static pillion_status check_count(const parse *p) {
    const pil_command *c = p->command;
    size_t n = p->out->n_args;
    if (n < c->args_min)
        return pil_err_set(p->err, PILLION_E_ARG, "an argument is missing: pillion %s %s", c->name, c->args);
    if (n > c->args_max)
        return pil_err_set(p->err, PILLION_E_ARG, "unexpected argument '%.*s'; --help shows what is allowed", SHOWN,
                           p->out->args[c->args_max]);
    return PILLION_OK;
}

static pillion_status parse_all(parse *p, int argc, char **argv) {
    pillion_status st = PILLION_OK;
    for (size_t i = 0; !st && i < p->n_options; i++) st = set_default(p, &p->command->options[i]);
    bool only_args = false;
    for (int i = 0; !st && i < argc && !p->out->help; i++) {
        const char *arg = argv[i];
        if (only_args || arg[0] != '-' || arg[1] == '\0') p->out->args[p->out->n_args++] = argv[i];
        else if (strcmp(arg, "--") == 0) only_args = true;
        else if (arg[1] == '-') st = parse_long(p, argc, argv, &i);
        else st = parse_letters(p, argc, argv, &i);
    }
    if (p->out->help) return st;
    for (size_t i = 0; !st && i < p->n_options; i++)
        if (!p->given[i]) st = set_from_env(p, &p->command->options[i]);
    if (!st) st = set_from_file(p);
    return st ? st : check_count(p);
}

pillion_status pil_options_parse(pil_options *out, const pil_command *command, int argc, char **argv,
                                 pillion_error *err) {
    *out = (pil_options){0};
    parse p = {.command = command, .out = out, .n_options = count_options(command->options), .err = err};
    out->values = calloc(1, command->values_bytes ? command->values_bytes : 1);
    out->args = calloc((size_t)argc + 1, sizeof *out->args);
    p.given = calloc(p.n_options + 1, sizeof *p.given);
    pillion_status st = out->values && out->args && p.given ? parse_all(&p, argc, argv) : pil_err_no_memory(err);
    if (!st && command->line) {
        const pil_command_line line = {argc, argv};
        memcpy((char *)out->values + command->line, &line, sizeof line);
    }
    free(p.given);
    if (st) pil_options_deinit(out);
    return st;
}

static bool same_text(const char *a, const char *b) { return a == b || (a && b && strcmp(a, b) == 0); }

bool pil_options_same(const pil_option *o, const void *values_a, const void *values_b) {
    const char *a = (const char *)values_a + o->field, *b = (const char *)values_b + o->field;
    switch (o->type) {
    case PIL_OPTION_FLAG: return *(const bool *)a == *(const bool *)b;
    case PIL_OPTION_STRING:
    case PIL_OPTION_PATH: return same_text(*(const char *const *)a, *(const char *const *)b);
    case PIL_OPTION_UINT:
    case PIL_OPTION_CHOICE: return *(const uint64_t *)a == *(const uint64_t *)b;
    case PIL_OPTION_LIST: break;
    }
    const pil_option_list *x = (const pil_option_list *)a, *y = (const pil_option_list *)b;
    if (x->n != y->n) return false;
    for (size_t i = 0; i < x->n; i++)
        if (strcmp(x->items[i], y->items[i]) != 0) return false;
    return true;
}

void pil_options_deinit(pil_options *o) {
    for (size_t i = 0; i < o->n_owned; i++) free(o->owned[i]);
    free(o->owned);
    free(o->values);
    free(o->args);
    *o = (pil_options){0};
}
