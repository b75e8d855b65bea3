/* json.c - strict JSON in, compact JSON out; the only file that knows jansson.
 *
 * Flow:  scan_depth() refuses deep nesting before jansson recurses -> json_loadb() -> accessors that never fail. After
 *        an error find_error() says where it is.
 * Tests: tests/base/test_json.c, fuzz/fuzz_json.c. */
#include "base/json.h"

#include <dlfcn.h>
#include <jansson.h>
#include <math.h>
#include <pthread.h>
#include <stdalign.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/file.h"
#include "base/limits.h"
#include "base/utf8.h"

static json_t *foreign(const pil_json *v) { return (json_t *)(uintptr_t)v; }
static const pil_json *ours(const json_t *v) { return (const pil_json *)v; }

/* Offset of the bracket that exceeds the depth, or n; *values becomes an upper bound of the number of values, *longest
 * of the bytes of a token. What is inside strings does not count. */
static size_t scan_depth(const char *s, size_t n, size_t max_depth, size_t *values, size_t *longest) {
    size_t depth = 0, start = 0;
    *values = 1;
    *longest = 0;
    bool in_string = false;
    for (size_t i = 0; i < n; i++) {
        char c = s[i];
        if (in_string) {
            if (c == '\\') i++;
            else if (c == '"') in_string = false;
            continue;
        }
        if (!memchr("\",:[]{}", c, 7)) continue;
        if (i - start > *longest) *longest = i - start;
        start = i;
        in_string = c == '"';
        *values += c == ',' || c == ':' || c == '[' || c == '{';
        if ((c == '[' || c == '{') && ++depth > max_depth) return i;
        if ((c == ']' || c == '}') && depth > 0) depth--;
    }
    if (n - start > *longest) *longest = n - start;
    return n;
}

/* ── Where a syntax error is ────────────────────────────────────────────────────────────────────────────────────
 * jansson says where it was when it noticed, which is behind the token that does not fit. The offset that people and
 * CPython's json expect is where that token begins. A second pass finds it; it runs only when there is an error. */

typedef struct scan {
    const char *s;
    size_t n, at;
} scan;

static void skip_space(scan *c) {
    while (c->at < c->n && memchr(" \t\n\r", c->s[c->at], 4)) c->at++;
}

static bool take(scan *c, char wanted) {
    if (c->at == c->n || c->s[c->at] != wanted) return false;
    c->at++;
    return true;
}

static void take_digits(scan *c) {
    while (c->at < c->n && c->s[c->at] >= '0' && c->s[c->at] <= '9') c->at++;
}

static bool is_digit_at(const scan *c, size_t i) { return i < c->n && c->s[i] >= '0' && c->s[i] <= '9'; }

/* On false, at is the control character, the backslash, or the opening quote of a string without an end. */
static bool take_string(scan *c) {
    size_t start = c->at;
    if (!take(c, '"')) return false;
    while (c->at < c->n && c->s[c->at] != '"') {
        if ((unsigned char)c->s[c->at] < 0x20) return false;
        if (c->s[c->at] != '\\') {
            c->at++;
            continue;
        }
        size_t escape = c->at;
        bool known = escape + 1 < c->n && memchr("\"\\/bfnrtu", c->s[escape + 1], 9);
        if (!known) return false;
        c->at += 2;
        for (int i = 0; c->s[escape + 1] == 'u' && i < 4; i++, c->at++)
            if (c->at == c->n || !memchr("0123456789abcdefABCDEF", c->s[c->at], 22)) {
                c->at = escape;
                return false;
            }
    }
    if (take(c, '"')) return true;
    c->at = start;
    return false;
}

/* A number ends where it stops being one: what follows is the error. */
static bool take_number(scan *c) {
    size_t start = c->at;
    take(c, '-');
    if (!take(c, '0')) take_digits(c);
    if (c->at == start || !is_digit_at(c, c->at - 1)) {
        c->at = start;
        return false;
    }
    if (c->at < c->n && c->s[c->at] == '.' && is_digit_at(c, c->at + 1)) {
        c->at++;
        take_digits(c);
    }
    if (c->at < c->n && (c->s[c->at] | 32) == 'e') {
        size_t sign = c->at + 1 < c->n && (c->s[c->at + 1] == '+' || c->s[c->at + 1] == '-');
        if (is_digit_at(c, c->at + 1 + sign)) {
            c->at += 1 + sign;
            take_digits(c);
        }
    }
    return true;
}

static bool take_word(scan *c) {
    static const char *const words[] = {"true", "false", "null"};
    for (size_t i = 0; i < 3; i++) {
        size_t n = strlen(words[i]);
        if (c->n - c->at < n || memcmp(c->s + c->at, words[i], n) != 0) continue;
        c->at += n;
        return true;
    }
    return false;
}

/* "name": with the white space around it. */
static bool take_name(scan *c) {
    if (!take_string(c)) return false;
    skip_space(c);
    if (!take(c, ':')) return false;
    skip_space(c);
    return true;
}

/* The offset of the first syntax error, or n when there is none. The document's depth has been checked, but in a file
 * that is mapped the bytes may be others by now, so it is checked again. */
static size_t find_error(const char *s, size_t n) {
    scan c = {.s = s, .n = n};
    char closers[PIL_LIMIT_JSON_DEPTH];
    size_t depth = 0;
    for (bool value_follows = true;;) {
        skip_space(&c);
        if (value_follows && (take(&c, '{') || take(&c, '['))) {
            if (depth == sizeof closers) return c.at - 1;
            closers[depth++] = s[c.at - 1] == '{' ? '}' : ']';
            skip_space(&c);
            bool is_empty = c.at < n && s[c.at] == closers[depth - 1];
            if (!is_empty && closers[depth - 1] == '}' && !take_name(&c)) return c.at;
            value_follows = !is_empty;
            continue;
        }
        if (value_follows && !take_number(&c) && !take_word(&c)) {
            if (c.at == n || s[c.at] != '"' || !take_string(&c)) return c.at;
        }
        value_follows = false;
        skip_space(&c);
        if (depth == 0) return c.at;
        if (take(&c, closers[depth - 1])) {
            depth--;
            continue;
        }
        if (!take(&c, ',')) return c.at;
        skip_space(&c);
        if (closers[depth - 1] == '}' && !take_name(&c)) return c.at;
        value_follows = true;
    }
}

/* jansson ends some messages with " near '<input>'", which would echo the input: cut it. */
static void cut_echo(char *text) {
    char *near = strstr(text, " near ");
    if (near) *near = '\0';
}

pillion_status pil_json_parse(pil_json **out, const char *bytes, size_t n, size_t *offset, pillion_error *err) {
    return pil_json_parse_limited(out, bytes, n, SIZE_MAX, offset, err);
}

/* ── When memory ends while jansson parses ──────────────────────────────────────────────────────────────────────
 * jansson (2.14) passes over a failed growth of its token buffer and then reads beyond it, and calls other failures a
 * syntax error. So its allocations are noted, the first that fails is served from a spare block, and the input ends at
 * the next kilobyte. The block has room for that: the token buffer once more, one table, and a kilobyte of values. */
typedef struct spare {
    char *block;
    size_t bytes, used;
    bool ran_out;
} spare;

static _Thread_local spare reserve;

static void *careful_malloc(size_t n) {
    void *p = malloc(n);
    if (p) return p;
    reserve.ran_out = true;
    if (n > reserve.bytes - reserve.used) return NULL;
    p = reserve.block + reserve.used;
    n += -n % alignof(max_align_t);
    reserve.used = n < reserve.bytes - reserve.used ? reserve.used + n : reserve.bytes;
    return p;
}

static void careful_free(void *p) {
    if ((uintptr_t)p - (uintptr_t)reserve.block >= reserve.bytes) free(p);
}

/* Only a jansson that was linked into the same file as this code gets another allocator. One that the process shares is
 * the application's as well, and then its failures are what they are. */
static void use_careful_malloc(void) {
    Dl_info ours, jansson;
    bool known = dladdr((void *)(uintptr_t)use_careful_malloc, &ours) &&
                 dladdr((void *)(uintptr_t)json_set_alloc_funcs, &jansson);
    if (known && ours.dli_fbase == jansson.dli_fbase) json_set_alloc_funcs(careful_malloc, careful_free);
}

static size_t next_bytes(void *out, size_t bytes, void *ud) {
    scan *c = ud;
    size_t n = c->n - c->at < bytes ? c->n - c->at : bytes;
    if (reserve.ran_out) return SIZE_MAX;
    memcpy(out, c->s + c->at, n);
    c->at += n;
    return n;
}

/* token_bytes: no token is longer. NULL with reserve.ran_out when there was not enough memory. */
static json_t *load(const char *bytes, size_t n, size_t token_bytes, json_error_t *e) {
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, use_careful_malloc);
    reserve = (spare){.bytes = 10 * token_bytes + 128 * PIL_KIB};
    reserve.block = malloc(reserve.bytes);
    size_t flags = JSON_DECODE_ANY | JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL;
    json_t *root = NULL;
    if (reserve.block) {
        root = json_load_callback(next_bytes, &(scan){.s = bytes, .n = n}, flags, e);
        if (!root && json_error_code(e) == json_error_numeric_overflow)
            root = json_load_callback(next_bytes, &(scan){.s = bytes, .n = n}, flags | JSON_DECODE_INT_AS_REAL, e);
        if (reserve.ran_out) json_decref(root);
        if (reserve.ran_out) root = NULL;
    }
    bool ran_out = reserve.ran_out || !reserve.block;
    free(reserve.block);
    reserve = (spare){.ran_out = ran_out};
    return root;
}

pillion_status pil_json_parse_limited(pil_json **out, const char *bytes, size_t n, size_t values_max, size_t *offset,
                                      pillion_error *err) {
    *out = NULL;
    size_t values, token_bytes, at = scan_depth(bytes, n, PIL_LIMIT_JSON_DEPTH, &values, &token_bytes);
    if (values > values_max) /* before what is wrong behind them, so that whoever reads on has had no more than this */
        return pil_err_set(err, PILLION_E_LIMIT, "%zu values or more, the limit is %zu", values, values_max);
    if (at < n) {
        if (offset) *offset = at;
        return pil_err_set(err, PILLION_E_FORMAT, "nested deeper than %d levels", PIL_LIMIT_JSON_DEPTH);
    }
    at = pil_utf8_valid(bytes, n); /* checked here because jansson reports an offset only roughly */
    if (at < n) {
        if (offset) *offset = at;
        return pil_err_set(err, PILLION_E_FORMAT, "invalid UTF-8");
    }
    if (memchr(bytes, '\0', n)) { /* jansson drops one behind a number or a word */
        if (offset) *offset = find_error(bytes, n);
        return pil_err_set(err, PILLION_E_FORMAT, "a NUL byte");
    }
    json_error_t e;
    json_t *root = load(bytes, n, token_bytes, &e);
    if (!root && reserve.ran_out) return pil_err_no_memory(err);
    if (!root) {
        cut_echo(e.text);
        if (offset) {
            *offset = json_error_code(&e) == json_error_duplicate_key ? n : find_error(bytes, n);
            if (*offset == n && e.position >= 0 && (size_t)e.position < n) *offset = (size_t)e.position;
        }
        return pil_err_set(err, PILLION_E_FORMAT, "%s", e.text);
    }
    *out = (pil_json *)root;
    return PILLION_OK;
}

pillion_status pil_json_load(pil_json **out, const char *path, size_t bytes_max, size_t values_max,
                             pillion_error *err) {
    *out = NULL;
    char *bytes;
    size_t n, offset = 0;
    pillion_status st = pil_file_read(&bytes, &n, path, bytes_max, err);
    if (st) return st;
    pillion_error why = {0};
    st = pil_json_parse_limited(out, bytes, n, values_max, &offset, &why);
    if (st == PILLION_E_FORMAT) pil_err_set(err, st, "%s: byte %zu: %s", path, offset, why.text);
    else if (st) pil_err_set(err, st, "%s: %s", path, why.text);
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

/* n / 10^decimals as "d.ddd" without trailing zeros, for values below 10. Returns the length. */
static size_t put_fixed(char *out, uint64_t n, unsigned decimals) {
    while (decimals > 1 && n % 10 == 0) n /= 10, decimals--;
    for (unsigned i = decimals; i > 0; i--, n /= 10) out[1 + i] = (char)('0' + n % 10);
    out[0] = (char)('0' + n);
    out[1] = '.';
    return 2 + decimals;
}

#define F32_BYTES_MAX 20 /* "-3.40282347e+38" and a comma */

/* 9 digits always read back as the same float, since they lie closer together than floats do; often 8 or 7 do as well.
 * n / 10^decimals is what a reader computes: both are exact in a double, so the quotient is the nearest double. */
static size_t format_f32(char *out, float v) {
    static const double powers[] = {1, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12};
    double a = fabs((double)v);
    size_t sign = signbit(v) != 0;
    if (sign) *out++ = '-';
    if (a == 0) return sign + put_fixed(out, 0, 1);
    if (a < 1e-4 || a >= 9.5) {
        size_t n = (size_t)snprintf(out, F32_BYTES_MAX - 1, "%.9g", a);
        if (strspn(out, "0123456789") == n) n += (size_t)snprintf(out + n, F32_BYTES_MAX - 1 - n, ".0");
        return sign + n;
    }
    unsigned decimals = a >= 1 ? 8 : a >= 1e-1 ? 9 : a >= 1e-2 ? 10 : a >= 1e-3 ? 11 : 12;
    uint64_t n = (uint64_t)(a * powers[decimals] + 0.5);
    for (uint64_t shorter; decimals > 1; n = shorter, decimals--) {
        shorter = (n + 5) / 10;
        if ((float)((double)shorter / powers[decimals - 1]) != (float)a) break;
    }
    return sign + put_fixed(out, n, decimals);
}

pillion_status pil_json_put_f32(pil_buf *b, float v) {
    char *at = pil_buf_reserve(b, F32_BYTES_MAX);
    if (!at) return b->failed;
    b->len += format_f32(at, v);
    return PILLION_OK;
}

pillion_status pil_json_put_f32_array(pil_buf *b, const float *v, size_t n) {
    char *at = n < SIZE_MAX / F32_BYTES_MAX - 1 ? pil_buf_reserve(b, (n + 1) * F32_BYTES_MAX) : NULL;
    if (!at) return b->failed ? b->failed : PILLION_E_LIMIT;
    char *begin = at;
    *at++ = '[';
    for (size_t i = 0; i < n; i++) {
        if (i) *at++ = ',';
        at += format_f32(at, v[i]);
    }
    *at++ = ']';
    b->len += (size_t)(at - begin);
    return PILLION_OK;
}

static int put_chunk(const char *bytes, size_t n, void *ud) { return pil_buf_append(ud, bytes, n) ? -1 : 0; }

pillion_status pil_json_put(pil_buf *b, const pil_json *v) {
    if (!v) return pil_buf_puts(b, "null");
    int failed = json_dump_callback(foreign(v), put_chunk, b, JSON_COMPACT | JSON_ENCODE_ANY);
    if (failed && !b->failed) b->failed = PILLION_E_NOMEM; /* jansson's own memory: half a value may be written */
    return b->failed;
}
