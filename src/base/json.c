/* json.c - strict JSON in, compact JSON out; the only file that knows jansson.
 *
 * Flow:  scan_depth() refuses deep nesting before jansson recurses -> json_loadb() -> accessors that never fail.
 * Tests: tests/base/test_json.c, fuzz/fuzz_json.c. */
#include "base/json.h"

#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/file.h"
#include "base/limits.h"
#include "base/utf8.h"

static json_t *foreign(const pil_json *v) { return (json_t *)(uintptr_t)v; }
static const pil_json *ours(const json_t *v) { return (const pil_json *)v; }

/* Offset of the bracket that exceeds the depth, or n. Brackets inside strings do not count. */
static size_t scan_depth(const char *s, size_t n, size_t max_depth) {
    size_t depth = 0;
    bool in_string = false;
    for (size_t i = 0; i < n; i++) {
        char c = s[i];
        if (in_string) {
            if (c == '\\') i++;
            else if (c == '"') in_string = false;
        } else if (c == '"') {
            in_string = true;
        } else if (c == '[' || c == '{') {
            if (++depth > max_depth) return i;
        } else if ((c == ']' || c == '}') && depth > 0) {
            depth--;
        }
    }
    return n;
}

/* jansson ends some messages with " near '<input>'", which would echo the input: cut it. */
static void cut_echo(char *text) {
    char *near = strstr(text, " near ");
    if (near) *near = '\0';
}

pillion_status pil_json_parse(pil_json **out, const char *bytes, size_t n, size_t *offset, pillion_error *err) {
    *out = NULL;
    size_t at = scan_depth(bytes, n, PIL_LIMIT_JSON_DEPTH);
    if (at < n) {
        if (offset) *offset = at;
        return pil_err_set(err, PILLION_E_FORMAT, "nested deeper than %d levels", PIL_LIMIT_JSON_DEPTH);
    }
    at = pil_utf8_valid(bytes, n); /* checked here because jansson reports an offset only roughly */
    if (at < n) {
        if (offset) *offset = at;
        return pil_err_set(err, PILLION_E_FORMAT, "invalid UTF-8");
    }
    size_t flags = JSON_DECODE_ANY | JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL;
    json_error_t e;
    json_t *root = json_loadb(bytes, n, flags, &e);
    if (!root && json_error_code(&e) == json_error_numeric_overflow)
        root = json_loadb(bytes, n, flags | JSON_DECODE_INT_AS_REAL, &e);
    if (!root) {
        if (json_error_code(&e) == json_error_out_of_memory) return pil_err_set(err, PILLION_E_NOMEM, "out of memory");
        cut_echo(e.text);
        if (offset) *offset = e.position > 0 ? (size_t)e.position : 0;
        return pil_err_set(err, PILLION_E_FORMAT, "%s", e.text);
    }
    *out = (pil_json *)root;
    return PILLION_OK;
}

pillion_status pil_json_load(pil_json **out, const char *path, size_t limit, pillion_error *err) {
    *out = NULL;
    char *bytes;
    size_t n, offset = 0;
    pillion_status st = pil_file_read(&bytes, &n, path, limit, err);
    if (st) return st;
    pillion_error why = {0};
    st = pil_json_parse(out, bytes, n, &offset, &why);
    if (st) pil_err_set(err, st, "%s: byte %zu: %s", path, offset, why.text);
    free(bytes);
    return st;
}

void pil_json_free(pil_json *root) { json_decref((json_t *)root); }

pil_json_type pil_json_typeof(const pil_json *v) {
    if (!v) return PIL_JSON_NULL;
    switch (json_typeof(foreign(v))) {
    case JSON_NULL: return PIL_JSON_NULL;
    case JSON_TRUE:
    case JSON_FALSE: return PIL_JSON_BOOL;
    case JSON_INTEGER: return PIL_JSON_INT;
    case JSON_REAL: return PIL_JSON_REAL;
    case JSON_STRING: return PIL_JSON_STRING;
    case JSON_ARRAY: return PIL_JSON_ARRAY;
    case JSON_OBJECT: return PIL_JSON_OBJECT;
    }
    return PIL_JSON_NULL;
}

const pil_json *pil_json_get(const pil_json *object, const char *key) {
    return object ? ours(json_object_get(foreign(object), key)) : NULL;
}

const pil_json *pil_json_at(const pil_json *array, size_t i) {
    return array ? ours(json_array_get(foreign(array), i)) : NULL;
}

size_t pil_json_count(const pil_json *v) {
    switch (pil_json_typeof(v)) {
    case PIL_JSON_ARRAY: return json_array_size(foreign(v));
    case PIL_JSON_OBJECT: return json_object_size(foreign(v));
    case PIL_JSON_NULL:
    case PIL_JSON_BOOL:
    case PIL_JSON_INT:
    case PIL_JSON_REAL:
    case PIL_JSON_STRING: break;
    }
    return 0;
}

const char *pil_json_string(const pil_json *v, size_t *n) {
    bool is = pil_json_typeof(v) == PIL_JSON_STRING;
    if (n) *n = is ? json_string_length(foreign(v)) : 0;
    return is ? json_string_value(foreign(v)) : NULL;
}

const char *pil_json_string_or(const pil_json *v, const char *fallback) {
    const char *s = pil_json_string(v, NULL);
    return s ? s : fallback;
}

int64_t pil_json_int_or(const pil_json *v, int64_t fallback) {
    if (pil_json_typeof(v) == PIL_JSON_INT) return json_integer_value(foreign(v));
    if (pil_json_typeof(v) != PIL_JSON_REAL) return fallback;
    double r = json_real_value(foreign(v));
    return r >= -9e15 && r <= 9e15 && r == floor(r) ? (int64_t)r : fallback;
}

double pil_json_real_or(const pil_json *v, double fallback) {
    pil_json_type t = pil_json_typeof(v);
    return t == PIL_JSON_REAL || t == PIL_JSON_INT ? json_number_value(foreign(v)) : fallback;
}

bool pil_json_bool_or(const pil_json *v, bool fallback) {
    return pil_json_typeof(v) == PIL_JSON_BOOL ? json_is_true(foreign(v)) : fallback;
}

void *pil_json_first(const pil_json *object) { return object ? json_object_iter(foreign(object)) : NULL; }

void *pil_json_next(const pil_json *object, void *it) { return json_object_iter_next(foreign(object), it); }

const char *pil_json_key(void *it, size_t *n) {
    const char *key = json_object_iter_key(it);
    if (n) *n = strlen(key); /* JSON_ALLOW_NUL is about values: a key never holds NUL */
    return key;
}

const pil_json *pil_json_value(void *it) { return ours(json_object_iter_value(it)); }

pillion_status pil_json_put_string(pil_buf *b, const char *s, size_t n) {
    pil_buf_putc(b, '"');
    size_t plain = 0;
    for (size_t i = 0; i < n; i++) {
        unsigned char c = (unsigned char)s[i];
        if (c >= 0x20 && c != '"' && c != '\\' && c != 0x7F) continue;
        pil_buf_append(b, s + plain, i - plain);
        plain = i + 1;
        switch (c) {
        case '"': pil_buf_puts(b, "\\\""); break;
        case '\\': pil_buf_puts(b, "\\\\"); break;
        case '\n': pil_buf_puts(b, "\\n"); break;
        case '\r': pil_buf_puts(b, "\\r"); break;
        case '\t': pil_buf_puts(b, "\\t"); break;
        default: pil_buf_printf(b, "\\u%04x", c);
        }
    }
    pil_buf_append(b, s + plain, n - plain);
    return pil_buf_putc(b, '"');
}

pillion_status pil_json_put_f32(pil_buf *b, float v) {
    char *at = pil_buf_reserve(b, 24);
    if (!at) return b->failed;
    int n = snprintf(at, 24, "%.9g", (double)v);
    b->len += (size_t)n;
    return PILLION_OK;
}

pillion_status pil_json_put_f32_array(pil_buf *b, const float *v, size_t n) {
    pil_buf_putc(b, '[');
    for (size_t i = 0; i < n; i++) {
        if (i) pil_buf_putc(b, ',');
        pil_json_put_f32(b, v[i]);
    }
    return pil_buf_putc(b, ']');
}

static int put_chunk(const char *bytes, size_t n, void *ud) { return pil_buf_append(ud, bytes, n) ? -1 : 0; }

pillion_status pil_json_put(pil_buf *b, const pil_json *v) {
    if (!v) return pil_buf_puts(b, "null");
    json_dump_callback(foreign(v), put_chunk, b, JSON_COMPACT | JSON_ENCODE_ANY);
    return b->failed;
}
