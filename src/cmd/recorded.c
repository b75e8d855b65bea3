/* recorded.c - batches of texts out of recorded JSON.
 *
 * Flow:   the file as one document, else line by line -> add_value() walks it: texts are collected, whatever else comes
 *         closes the batch before it.
 * Memory: texts are borrowed from the parsed documents, which live as long as the batches. Depth of recursion: that of
 *         the JSON, at most PIL_LIMIT_JSON_DEPTH.
 * Tests:  tests/cmd/test_replay.py. */
#include "cmd/recorded.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/file.h"
#include "base/limits.h"

#define READ_BYTES (256 * PIL_KIB)

static const char *const text_members[] = {"text", "content", "chunk", "prompt"};
static const char *const wrappers[] = {"texts",     "input", "inputs",  "batch", "batches", "chunks",
                                       "documents", "data",  "request", "body",  "payload"};
#define COUNT(a) (sizeof(a) / sizeof *(a))

/* An array grows by doubling: at each power of two. False when memory is exhausted. */
static bool grow(void *array, size_t n, size_t size) {
    void **p = array;
    if (n & (n - 1)) return true;
    void *larger = realloc(*p, (n ? 2 * n : 1) * size);
    if (larger) *p = larger;
    return larger != NULL;
}

/* ── What a value is ────────────────────────────────────────────────────────────────────────────────────────── */

/* The member that holds the texts of a wrapping object, or NULL. A number or null under such a name ("batch":3) is
 * something else. */
static const pil_json *wrapped(const pil_json *v) {
    for (size_t i = 0; i < COUNT(wrappers); i++) {
        const pil_json *member = pil_json_get(v, wrappers[i]);
        pil_json_type t = pil_json_typeof(member);
        if (t == PIL_JSON_STRING || t == PIL_JSON_ARRAY || t == PIL_JSON_OBJECT) return member;
    }
    return NULL;
}

/* The string of a text, or NULL. */
static const char *text_of(const pil_json *v, size_t *n) {
    if (pil_json_typeof(v) == PIL_JSON_STRING) return pil_json_string(v, n);
    for (size_t i = 0; i < COUNT(text_members); i++) {
        const char *s = pil_json_string(pil_json_get(v, text_members[i]), n);
        if (s) return s;
    }
    return NULL;
}

/* ── Collecting ─────────────────────────────────────────────────────────────────────────────────────────────── */

static pillion_status add_text(pil_recorded *r, const char *text, size_t n, pillion_error *err) {
    if (!grow(&r->texts, r->n_texts, sizeof *r->texts)) return pil_err_no_memory(err);
    r->texts[r->n_texts++] = (pillion_input){.text = text, .text_bytes = n};
    return PILLION_OK;
}

/* What the next batch of a file will be called. */
static size_t next_number(const pil_recorded *r, const char *file) {
    const pil_recorded_batch *last = r->n_batches ? &r->batches[r->n_batches - 1] : NULL;
    return last && last->file == file ? last->number + 1 : 1;
}

static pillion_status close_batch(pil_recorded *r, const char *file, pillion_error *err) {
    if (r->open == r->n_texts) return PILLION_OK;
    if (!grow(&r->batches, r->n_batches, sizeof *r->batches)) return pil_err_no_memory(err);
    size_t number = next_number(r, file);
    r->batches[r->n_batches++] =
        (pil_recorded_batch){.file = file, .number = number, .first = r->open, .n = r->n_texts - r->open};
    r->open = r->n_texts;
    return PILLION_OK;
}

/* where: the line, or 0 for a file that is one document. */
static pillion_status add_value(pil_recorded *r, const pil_json *v, const char *file, size_t where,
                                pillion_error *err) {
    static const char *const kinds[] = {"null", "a boolean", "a number", "a number", "", "", "an object without texts"};
    const pil_json *inner = wrapped(v);
    size_t n;
    const char *text = inner ? NULL : text_of(v, &n);
    if (text) return add_text(r, text, n, err);
    pil_json_type type = pil_json_typeof(v);
    if (!inner && type != PIL_JSON_ARRAY) {
        if (where) return pil_err_set(err, PILLION_E_FORMAT, "%s: line %zu: %s where texts were expected", file, where,
                                      kinds[type]);
        return pil_err_set(err, PILLION_E_FORMAT, "%s: batch %zu, behind %zu texts: %s where texts were expected", file,
                           next_number(r, file), r->n_texts - r->open, kinds[type]);
    }
    pillion_status st = close_batch(r, file, err);
    if (!st && inner) st = add_value(r, inner, file, where, err);
    for (size_t i = 0; !st && !inner && i < pil_json_count(v); i++)
        st = add_value(r, pil_json_at(v, i), file, where, err);
    return st ? st : close_batch(r, file, err);
}

/* Takes the document, whatever happens. */
static pillion_status add_document(pil_recorded *r, pil_json *document, const char *file, size_t where,
                                   pillion_error *err) {
    if (!grow(&r->documents, r->n_documents, sizeof *r->documents)) {
        pil_json_free(document);
        return pil_err_no_memory(err);
    }
    r->documents[r->n_documents++] = document;
    return add_value(r, document, file, where, err);
}

/* ── Files ──────────────────────────────────────────────────────────────────────────────────────────────────── */

static bool is_blank(const char *s, size_t n) {
    while (n > 0 && memchr(" \t\r\n", s[n - 1], 4)) n--;
    return n == 0;
}

/* A document on each line. *is_lines tells whether the first one is a document: then the file is meant so. */
static pillion_status add_lines(pil_recorded *r, const char *s, size_t n, const char *file, bool *is_lines,
                                pillion_error *err) {
    pillion_status st = PILLION_OK;
    *is_lines = false;
    for (size_t line = 1; !st && n > 0; line++) {
        const char *feed = memchr(s, '\n', n);
        size_t length = feed ? (size_t)(feed - s) : n, whole = feed ? length + 1 : n, offset = 0;
        if (!is_blank(s, length)) {
            pil_json *document;
            pillion_error why = {0};
            st = pil_json_parse_limited(&document, s, length, PIL_LIMIT_RECORDED_VALUES, &offset, &why);
            if (st) return pil_err_set(err, st, "%s: line %zu, byte %zu: %s", file, line, offset, why.text);
            *is_lines = true;
            st = add_document(r, document, file, line, err);
        }
        s += whole;
        n -= whole;
    }
    return st ? st : close_batch(r, file, err);
}

static size_t count_feeds(const char *s, size_t n) {
    size_t feeds = 0;
    for (const char *end = s + n; (s = memchr(s, '\n', (size_t)(end - s))); s++) feeds++;
    return feeds;
}

/* What is counted in the whole file bounds its lines as well, but for lines that are a string and nothing else. */
static pillion_status add_bytes(pil_recorded *r, const char *s, size_t n, const char *file, pillion_error *err) {
    size_t mark = n >= 3 && memcmp(s, "\xEF\xBB\xBF", 3) == 0 ? 3 : 0, offset = 0;
    s += mark;
    n -= mark;
    pil_json *document;
    pillion_error why = {0};
    pillion_status st = pil_json_parse_limited(&document, s, n, PIL_LIMIT_RECORDED_VALUES, &offset, &why);
    if (!st) {
        st = add_document(r, document, file, 0, err);
        return st ? st : close_batch(r, file, err);
    }
    if (st == PILLION_E_LIMIT || (st == PILLION_E_FORMAT && count_feeds(s, n) > PIL_LIMIT_RECORDED_VALUES))
        return pil_err_set(err, PILLION_E_LIMIT, "%s: more than %d values; split it into several files", file,
                           PIL_LIMIT_RECORDED_VALUES);
    bool is_lines = false;
    pillion_error line_err = {0};
    if (st == PILLION_E_FORMAT) {
        pillion_status lines_st = add_lines(r, s, n, file, &is_lines, &line_err);
        if (is_lines) return lines_st ? pil_err_set(err, lines_st, "%s", line_err.text) : PILLION_OK;
    }
    return pil_err_set(err, st, "%s: byte %zu: %s", file, mark + offset, why.text);
}

/* Standard input may be a pipe, which cannot say how long it is. */
static pillion_status read_stdin(pil_buf *out, pillion_error *err) {
    size_t n;
    do {
        char *room = pil_buf_reserve(out, READ_BYTES);
        if (!room && out->failed == PILLION_E_LIMIT)
            return pil_err_set(err, PILLION_E_LIMIT, "standard input: more than %zu bytes", PIL_LIMIT_JSON_FILE);
        if (!room) return pil_err_no_memory(err);
        n = fread(room, 1, READ_BYTES, stdin);
        out->len += n;
    } while (n > 0);
    if (ferror(stdin)) return pil_err_set(err, PILLION_E_IO, "standard input: cannot read: %s", strerror(errno));
    return PILLION_OK;
}

static pillion_status add_file(pil_recorded *r, const char *s, size_t n, const char *file, pillion_error *err) {
    size_t before = r->n_texts;
    if (is_blank(s, n)) return pil_err_set(err, PILLION_E_FORMAT, "%s: is empty", file);
    pillion_status st = add_bytes(r, s, n, file, err);
    if (!st && r->n_texts == before) st = pil_err_set(err, PILLION_E_FORMAT, "%s: there is no text in it", file);
    return st;
}

pillion_status pil_recorded_read(pil_recorded *r, const char *path, pillion_error *err) {
    pillion_status st;
    if (strcmp(path, "-") == 0) {
        pil_buf in;
        pil_buf_init(&in, PIL_LIMIT_JSON_FILE);
        st = read_stdin(&in, err);
        if (!st) st = add_file(r, in.bytes, in.len, "standard input", err);
        pil_buf_deinit(&in);
        return st;
    }
    char *bytes;
    size_t n;
    st = pil_file_read(&bytes, &n, path, PIL_LIMIT_JSON_FILE, err);
    if (st) return st;
    st = add_file(r, bytes, n, path, err);
    free(bytes);
    return st;
}

void pil_recorded_deinit(pil_recorded *r) {
    for (size_t i = 0; i < r->n_documents; i++) pil_json_free(r->documents[i]);
    free(r->documents);
    free(r->texts);
    free(r->batches);
    *r = (pil_recorded){0};
}
