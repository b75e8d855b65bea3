/* texts.c - where the texts of a command come from: its arguments, a file, or standard input, in blocks.
 *
 * Flow:       read(2) -> window of raw bytes -> next_line() -> add_line() decides the format once, decodes, checks ->
 *             block: the texts of a block end to end, with their offsets -> inputs.
 * Invariants: (1) memory is bounded by one block and one line, whatever the source's length. (2) every text handed out
 *             is valid UTF-8 within the limit, so later stages never meet a bad one. (3) the order of the source is
 *             kept.
 * Why our own reader: stdio cannot say whether a read would wait, and a block has to end when the source pauses.
 * Tests:      tests/cmd/test_texts.py. */
#include "cmd/texts.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/err.h"
#include "base/json.h"
#include "base/limits.h"
#include "base/utf8.h"

#define READ_BYTES (256 * PIL_KIB)
#define ID_BYTES_MAX 1024         /* of an id: it names a text, and is none */
#define ID_JSON_BYTES (6 * ID_BYTES_MAX + 3) /* each byte an escape, quotes, NUL */
#define BLOCK_BYTES (4 * PIL_MIB) /* a block ends once it holds so much text */

const char *const pil_texts_formats[] = {"auto", "lines", "jsonl", NULL};

/* A text of the current block, in pil_texts.block. Its id, if it has one, is JSON that ends in NUL. */
typedef struct span {
    size_t offset, bytes, id_offset;
    bool has_id;
} span;

struct pil_texts {
    char **args; /* NULL: read from fd */
    size_t n_args, next_arg;
    const char *name;
    int fd;
    bool is_stdin, at_end, seen_text;
    pil_texts_format format;
    size_t block_texts;

    pil_buf window; /* raw bytes that were read; [at, window.len) are not used yet */
    size_t at, searched; /* [at, searched) holds no line feed */
    uint64_t line;       /* lines taken so far */
    uint64_t line_offset; /* of the current line in the source */
    uint64_t taken_bytes, block_start_bytes, total_bytes; /* total 0: unknown */

    pil_buf block;
    span *spans; /* [block_texts] */
    size_t n_spans;
    pillion_input *inputs; /* [block_texts] */
};

/* ── Opening ────────────────────────────────────────────────────────────────────────────────────────────────── */

static pillion_status open_file(pil_texts *t, const char *path, pillion_error *err) {
    t->name = path;
    t->fd = open(path, O_RDONLY | O_CLOEXEC);
    if (t->fd < 0)
        return pil_err_set(err, errno == ENOENT || errno == ENOTDIR ? PILLION_E_NOT_FOUND : PILLION_E_IO,
                           "%s: cannot open: %s", path, strerror(errno));
    return PILLION_OK;
}

/* A terminal without any hint to read it is a person who forgot the texts, not one who wants to type them. */
static pillion_status open_stdin(pil_texts *t, bool asked_for, pillion_error *err) {
    if (!asked_for && isatty(STDIN_FILENO))
        return pil_err_set(err, PILLION_E_ARG,
                           "no texts: give them as arguments, pipe them in, or name a file with --input FILE "
                           "(--input - reads what you type until Ctrl-D)");
    t->name = "standard input";
    t->fd = STDIN_FILENO;
    t->is_stdin = true;
    return PILLION_OK;
}

/* For the progress bar: what is left of a regular file from where it stands. */
static pillion_status measure(pil_texts *t, pillion_error *err) {
    struct stat s;
    if (fstat(t->fd, &s) != 0) return pil_err_set(err, PILLION_E_IO, "%s: cannot read: %s", t->name, strerror(errno));
    if (S_ISDIR(s.st_mode)) return pil_err_set(err, PILLION_E_IO, "%s: is a directory, not a file of texts", t->name);
    off_t at = S_ISREG(s.st_mode) ? lseek(t->fd, 0, SEEK_CUR) : -1;
    if (at >= 0 && s.st_size > at) t->total_bytes = (uint64_t)(s.st_size - at);
    return PILLION_OK;
}

static pillion_status choose_source(pil_texts *t, char **args, size_t n_args, const char *input, pillion_error *err) {
    bool dash = n_args == 1 && strcmp(args[0], "-") == 0;
    if (n_args && input)
        return pil_err_set(err, PILLION_E_ARG, "texts were given both as arguments and with --input; use one of them");
    if (n_args && !dash) {
        t->args = args;
        t->n_args = n_args;
        t->name = "arguments";
        return PILLION_OK;
    }
    bool from_stdin = !input || strcmp(input, "-") == 0;
    pillion_status st = from_stdin ? open_stdin(t, input || dash, err) : open_file(t, input, err);
    return st ? st : measure(t, err);
}

pillion_status pil_texts_open(pil_texts **out, char **args, size_t n_args, const char *input, pil_texts_format format,
                              size_t block_texts, pillion_error *err) {
    *out = NULL;
    pil_texts *t = calloc(1, sizeof *t);
    if (!t) return pil_err_no_memory(err);
    t->fd = -1;
    t->format = format;
    t->block_texts = block_texts;
    pil_buf_init(&t->window, PIL_LIMIT_LINE_BYTES + READ_BYTES + 2);
    pil_buf_init(&t->block, BLOCK_BYTES + PIL_LIMIT_LINE_BYTES + ID_JSON_BYTES + 2);
    t->spans = calloc(block_texts, sizeof *t->spans);
    t->inputs = calloc(block_texts, sizeof *t->inputs);
    pillion_status st = t->spans && t->inputs ? choose_source(t, args, n_args, input, err) : pil_err_no_memory(err);
    if (st) pil_texts_close(t);
    else *out = t;
    return st;
}

void pil_texts_close(pil_texts *t) {
    if (!t) return;
    if (t->fd >= 0 && !t->is_stdin) close(t->fd);
    pil_buf_deinit(&t->window);
    pil_buf_deinit(&t->block);
    free(t->spans);
    free(t->inputs);
    free(t);
}

const char *pil_texts_id(const pil_texts *t, size_t i) {
    return !t->args && t->spans[i].has_id ? t->block.bytes + t->spans[i].id_offset : NULL;
}

const char *pil_texts_name(const pil_texts *t) { return t->name; }

double pil_texts_fraction(const pil_texts *t, size_t done, size_t n) {
    double part = n ? (double)done / (double)n : 0;
    if (t->args) return ((double)t->next_arg - (double)n * (1 - part)) / (double)t->n_args;
    if (!t->total_bytes) return -1;
    double bytes = (double)t->block_start_bytes + (double)(t->taken_bytes - t->block_start_bytes) * part;
    return bytes < (double)t->total_bytes ? bytes / (double)t->total_bytes : 1;
}

/* ── Lines ──────────────────────────────────────────────────────────────────────────────────────────────────── */

/* Reads more into the window. Sets at_end at the end of the source. */
static pillion_status read_more(pil_texts *t, pillion_error *err) {
    if (t->at > 0) { /* what is left moves to the front: at most one unfinished line */
        memmove(t->window.bytes, t->window.bytes + t->at, t->window.len - t->at);
        t->window.len -= t->at;
        t->searched -= t->at;
        t->at = 0;
    }
    char *room = pil_buf_reserve(&t->window, READ_BYTES);
    if (!room && t->window.failed == PILLION_E_LIMIT)
        return pil_err_set(err, PILLION_E_LIMIT, "%s: line %llu is longer than %zu bytes", t->name,
                           (unsigned long long)t->line + 1, PIL_LIMIT_LINE_BYTES);
    if (!room) return pil_err_no_memory(err);
    ssize_t r;
    do r = read(t->fd, room, READ_BYTES);
    while (r < 0 && errno == EINTR);
    if (r < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) { /* somebody left the pipe non-blocking: wait */
        struct pollfd p = {.fd = t->fd, .events = POLLIN};
        poll(&p, 1, -1);
        return PILLION_OK;
    }
    if (r < 0) return pil_err_set(err, PILLION_E_IO, "%s: cannot read: %s", t->name, strerror(errno));
    t->at_end = r == 0;
    t->window.len += (size_t)r;
    return PILLION_OK;
}

/* The next line without its end, in place in the window. Returns false when no whole line is there yet. */
static bool next_line(pil_texts *t, char **line, size_t *n) {
    if (t->at == t->window.len) return false;
    char *start = t->window.bytes + t->at;
    char *feed = memchr(t->window.bytes + t->searched, '\n', t->window.len - t->searched);
    t->searched = t->window.len;
    if (!feed && !t->at_end) return false;
    size_t raw = feed ? (size_t)(feed - start) : t->window.len - t->at;
    *line = start;
    *n = feed && raw > 0 && start[raw - 1] == '\r' ? raw - 1 : raw;
    t->line_offset = t->taken_bytes;
    t->at += raw + (feed != NULL);
    t->searched = t->at;
    t->taken_bytes += raw + (feed != NULL);
    t->line++;
    return true;
}

/* A pause of the source: nothing to read now although it is not at its end. */
static bool would_wait(const pil_texts *t) {
    struct pollfd p = {.fd = t->fd, .events = POLLIN};
    return poll(&p, 1, 0) == 0;
}

/* ── Texts ──────────────────────────────────────────────────────────────────────────────────────────────────── */

static pillion_status bad_utf8(const pil_texts *t, const char *s, size_t bad, size_t shift, pillion_error *err) {
    unsigned byte = (unsigned char)s[bad];
    bool utf16 = t->line == 1 && bad == 0 && (byte == 0xFF || byte == 0xFE);
    return pil_err_set(err, PILLION_E_UTF8,
                       "%s: line %llu: invalid UTF-8: byte 0x%02X at offset %zu of the line, %llu of the input%s",
                       t->name, (unsigned long long)t->line, byte, bad + shift,
                       (unsigned long long)(t->line_offset + bad + shift),
                       utf16 ? "; it looks like UTF-16, which iconv -f UTF-16 -t UTF-8 converts" : "");
}

static pillion_status add_text(pil_texts *t, const char *s, size_t n, pillion_error *err) {
    if (n > PIL_LIMIT_TEXT_BYTES)
        return pil_err_set(err, PILLION_E_LIMIT, "%s: line %llu: the text has %zu bytes, the limit is %zu", t->name,
                           (unsigned long long)t->line, n, PIL_LIMIT_TEXT_BYTES);
    t->spans[t->n_spans++] = (span){.offset = t->block.len, .bytes = n};
    return pil_buf_append(&t->block, s, n) ? pil_err_no_memory(err) : PILLION_OK;
}

/* What else "id" may be names nothing, or might not be given back as it came, and is left alone. */
static pillion_status add_id(pil_texts *t, const pil_json *id, pillion_error *err) {
    pil_json_type type = pil_json_typeof(id);
    size_t n = 0;
    if (type != PIL_JSON_STRING && type != PIL_JSON_INT) return PILLION_OK;
    if (pil_json_string(id, &n) && n > ID_BYTES_MAX)
        return pil_err_set(err, PILLION_E_LIMIT, "%s: line %llu: the id has %zu bytes, the limit is %d", t->name,
                           (unsigned long long)t->line, n, ID_BYTES_MAX);
    t->spans[t->n_spans - 1].has_id = true;
    t->spans[t->n_spans - 1].id_offset = t->block.len;
    return pil_json_put(&t->block, id) || pil_buf_putc(&t->block, '\0') ? pil_err_no_memory(err) : PILLION_OK;
}

/* The text of one JSON line is appended to the block. */
static pillion_status add_json(pil_texts *t, const char *line, size_t n, pillion_error *err) {
    pil_json *root;
    pillion_error why = {0};
    size_t offset = 0;
    pillion_status st = pil_json_parse_limited(&root, line, n, PIL_LIMIT_LINE_VALUES, &offset, &why);
    unsigned long long number = t->line;
    if (st == PILLION_E_NOMEM) return pil_err_no_memory(err);
    if (st == PILLION_E_LIMIT)
        return pil_err_set(err, PILLION_E_LIMIT,
                           "%s: line %llu: more than %d values in one line of JSON (--input-format lines takes every "
                           "line as it is)",
                           t->name, number, PIL_LIMIT_LINE_VALUES);
    if (st)
        return pil_err_set(err, PILLION_E_FORMAT, "%s: line %llu: malformed JSON at offset %zu of the line: %s",
                           t->name, number, offset, why.text);
    size_t text_bytes;
    const char *text = pil_json_string(pil_json_get(root, "text"), &text_bytes);
    if (text) {
        st = add_text(t, text, text_bytes, err);
        if (!st) st = add_id(t, pil_json_get(root, "id"), err);
    } else {
        st = pil_err_set(err, PILLION_E_FORMAT,
                         "%s: line %llu: not a JSON object with a string \"text\" (--input-format lines takes every "
                         "line as it is)",
                         t->name, number);
    }
    pil_json_free(root);
    return st;
}

static bool is_blank(const char *s, size_t n) {
    for (size_t i = 0; i < n; i++)
        if (s[i] != ' ' && s[i] != '\t' && s[i] != '\r') return false;
    return true;
}

/* What has too many values to be parsed counts by its first character: it is to be refused, not taken as a text. */
static bool is_json_object(const char *s, size_t n) {
    pil_json *root = NULL;
    pillion_status st = pil_json_parse_limited(&root, s, n, PIL_LIMIT_LINE_VALUES, NULL, NULL);
    bool is = st == PILLION_OK && pil_json_typeof(root) == PIL_JSON_OBJECT;
    pil_json_free(root);
    if (st != PILLION_E_LIMIT) return is;
    while (n > 0 && memchr(" \t\r", *s, 3)) s++, n--;
    return n > 0 && *s == '{';
}

/* Blank lines before the first text wait in the block as empty texts until the format is known. */
static void decide_format(pil_texts *t, const char *line, size_t n) {
    if (t->format != PIL_TEXTS_AUTO || is_blank(line, n)) return;
    t->format = is_json_object(line, n) ? PIL_TEXTS_JSONL : PIL_TEXTS_LINES;
    if (t->format == PIL_TEXTS_JSONL) t->n_spans = t->block.len = 0;
}

static pillion_status add_line(pil_texts *t, const char *line, size_t n, pillion_error *err) {
    size_t bom = t->line == 1 && n >= 3 && memcmp(line, "\xEF\xBB\xBF", 3) == 0 ? 3 : 0;
    line += bom;
    n -= bom;
    size_t bad = pil_utf8_valid(line, n);
    if (bad < n) return bad_utf8(t, line, bad, bom, err);
    decide_format(t, line, n);
    if (t->format != PIL_TEXTS_JSONL) return add_text(t, line, n, err);
    return is_blank(line, n) ? PILLION_OK : add_json(t, line, n, err);
}

static bool is_full(const pil_texts *t) { return t->n_spans == t->block_texts || t->block.len >= BLOCK_BYTES; }

static pillion_status fill_block(pil_texts *t, pillion_error *err) {
    pillion_status st = PILLION_OK;
    while (!st && !is_full(t)) {
        char *line;
        size_t n;
        if (next_line(t, &line, &n)) {
            st = add_line(t, line, n, err);
        } else {
            bool undecided = t->format == PIL_TEXTS_AUTO;
            if (t->at_end || (t->n_spans > 0 && !undecided && would_wait(t))) break;
            st = read_more(t, err);
        }
    }
    return st;
}

/* Arguments are texts as they are; only what the other sources check is checked. */
static pillion_status next_args(pil_texts *t, size_t *n, pillion_error *err) {
    for (; *n < t->block_texts && t->next_arg < t->n_args; ++*n) {
        const char *text = t->args[t->next_arg++];
        size_t bytes = strlen(text), bad = pil_utf8_valid(text, bytes);
        if (bad < bytes)
            return pil_err_set(err, PILLION_E_UTF8,
                               "text %zu of the arguments: invalid UTF-8: byte 0x%02X at offset %zu", t->next_arg,
                               (unsigned)(unsigned char)text[bad], bad);
        if (bytes > PIL_LIMIT_TEXT_BYTES)
            return pil_err_set(err, PILLION_E_LIMIT, "text %zu of the arguments has %zu bytes, the limit is %zu",
                               t->next_arg, bytes, PIL_LIMIT_TEXT_BYTES);
        t->inputs[*n] = (pillion_input){.text = text, .text_bytes = bytes};
    }
    return PILLION_OK;
}

pillion_status pil_texts_next(pil_texts *t, const pillion_input **in, size_t *n, pillion_error *err) {
    *in = t->inputs;
    *n = 0;
    if (t->args) return next_args(t, n, err);
    t->n_spans = 0;
    pil_buf_clear(&t->block);
    t->block_start_bytes = t->taken_bytes;
    pillion_status st = fill_block(t, err);
    if (st) return st;
    const char *bytes = t->block.bytes ? t->block.bytes : ""; /* empty texts alone need no memory */
    for (size_t i = 0; i < t->n_spans; i++)
        t->inputs[i] = (pillion_input){.text = bytes + t->spans[i].offset, .text_bytes = t->spans[i].bytes};
    *n = t->n_spans;
    if (t->format == PIL_TEXTS_AUTO && *n > 0) t->format = PIL_TEXTS_LINES; /* a block of blank lines */
    return PILLION_OK;
}
