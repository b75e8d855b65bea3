/* validate.c - the body of a request against a table of fields.
 *
 * Flow:       is_json_type() -> pil_json_parse() -> for each field check_*() -> values, or errors in the order of the
 *             table.
 * Source:     the answers of FastAPI 0.115.5 with pydantic 2.9.2, measured; tests/http/sidecar_cases.json holds them.
 *             Where they and we differ: duplicate keys and lone surrogates are refused, nesting is bounded, the words
 *             of a JSON error are our own, numbers beyond 64 bits are clamped before they are compared.
 * Tests:      tests/http/test_sidecar.py, fuzz/fuzz_http.c. */
#include "http/validate.h"

#include <math.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "base/limits.h"
#include "base/utf8.h"

/* What the checks of one body share. */
typedef struct check {
    const pil_json *body;
    pil_buf *out;
    size_t n_errors;
} check;

/* ── Errors ─────────────────────────────────────────────────────────────────────────────────────────────────── */

/* The longest prefix of valid UTF-8 s[n] that has at most max bytes and cuts no character. */
static size_t cut(const char *s, size_t n, size_t max) {
    if (n <= max) return n;
    while (max > 0 && ((unsigned char)s[max] & 0xC0) == 0x80) max--;
    return max;
}

/* A string of valid UTF-8, shortened and marked when it is long. */
static void put_echo_string(pil_buf *out, const char *s, size_t n) {
    size_t kept = cut(s, n, PIL_LIMIT_ECHO_BYTES);
    if (kept == n) {
        pil_json_put_string(out, s, n);
        return;
    }
    char short_text[PIL_LIMIT_ECHO_BYTES + 3];
    memcpy(short_text, s, kept);
    memcpy(short_text + kept, "...", 3);
    pil_json_put_string(out, short_text, kept + 3);
}

static void put_echo(pil_buf *out, const pil_json *v) {
    size_t n;
    const char *text = pil_json_string(v, &n);
    if (text) {
        put_echo_string(out, text, n);
        return;
    }
    pil_buf json;
    pil_buf_init(&json, PIL_LIMIT_BODY_BYTES);
    if (pil_json_put(&json, v) == PILLION_OK && json.len <= PIL_LIMIT_ECHO_BYTES)
        pil_buf_append(out, json.bytes, json.len);
    else if (json.len > 0) put_echo_string(out, json.bytes, json.len);
    else pil_buf_puts(out, "null");
    pil_buf_deinit(&json);
}

/* Begins an error up to its input: {"type":…,"loc":["body",field,index],"msg":…. There may be no field (NULL) and no
 * index (SIZE_MAX). */
static void begin_error(check *c, const char *type, const char *field, size_t index, const char *msg) {
    pil_buf_puts(c->out, c->n_errors++ ? ",{" : "{\"detail\":[{");
    pil_buf_printf(c->out, "\"type\":\"%s\",\"loc\":[\"body\"", type);
    if (field) pil_buf_printf(c->out, ",\"%s\"", field);
    if (index != SIZE_MAX) pil_buf_printf(c->out, ",%zu", index);
    pil_buf_puts(c->out, "],\"msg\":");
    pil_json_put_string(c->out, msg, strlen(msg));
    pil_buf_puts(c->out, ",\"input\":");
}

static void end_error(check *c) { pil_buf_putc(c->out, '}'); }

static void add_error(check *c, const char *type, const char *field, size_t index, const char *msg,
                      const pil_json *input) {
    begin_error(c, type, field, index, msg);
    put_echo(c->out, input);
    end_error(c);
}

/* ── Values ─────────────────────────────────────────────────────────────────────────────────────────────────── */

static void check_texts(check *c, const pil_field *f, const pil_json *v, pil_value *out) {
    if (pil_json_typeof(v) != PIL_JSON_ARRAY) {
        add_error(c, "list_type", f->name, SIZE_MAX, "Input should be a valid list", v);
        return;
    }
    size_t n = pil_json_count(v);
    if (n == 0) {
        begin_error(c, "too_short", f->name, SIZE_MAX, "List should have at least 1 item after validation, not 0");
        pil_buf_puts(c->out, "[],\"ctx\":{\"field_type\":\"List\",\"min_length\":1,\"actual_length\":0}");
        end_error(c);
    }
    for (size_t i = 0; i < n; i++) {
        const pil_json *item = pil_json_at(v, i);
        if (pil_json_typeof(item) != PIL_JSON_STRING)
            add_error(c, "string_type", f->name, i, "Input should be a valid string", item);
    }
    out->texts = v;
}

static void check_string(check *c, const pil_field *f, const pil_json *v, pil_value *out) {
    out->text = pil_json_string(v, &out->text_bytes);
    if (!out->text) add_error(c, "string_type", f->name, SIZE_MAX, "Input should be a valid string", v);
}

static void check_choice(check *c, const pil_field *f, const pil_json *v, pil_value *out) {
    size_t n;
    const char *text = pil_json_string(v, &n);
    for (size_t i = 0; f->choices[i]; i++) {
        if (!text || n != strlen(f->choices[i]) || memcmp(text, f->choices[i], n) != 0) continue;
        out->text = f->choices[i];
        out->text_bytes = n;
        return;
    }
    char expected[160] = "", msg[200];
    size_t at = 0;
    for (size_t i = 0; f->choices[i] && at < sizeof expected; i++)
        at += (size_t)snprintf(expected + at, sizeof expected - at, "%s'%s'",
                               i == 0 ? "" : f->choices[i + 1] ? ", " : " or ", f->choices[i]);
    snprintf(msg, sizeof msg, "Input should be %s", expected);
    begin_error(c, "literal_error", f->name, SIZE_MAX, msg);
    put_echo(c->out, v);
    pil_buf_printf(c->out, ",\"ctx\":{\"expected\":\"%s\"}", expected);
    end_error(c);
}

static bool is_whole(double r) { return r == floor(r) && isfinite(r); }

static int64_t clamp(double r) { return r >= 9e18 ? INT64_MAX : r <= -9e18 ? INT64_MIN : (int64_t)r; }

/* The truth value of a word, or -1. */
static int bool_of(const char *s, size_t n) {
    static const char *const words[] = {"0", "off", "f", "false", "n", "no", "1", "on", "t", "true", "y", "yes"};
    for (size_t i = 0; i < 12; i++)
        if (n == strlen(words[i]) && strncasecmp(s, words[i], n) == 0) return i >= 6;
    return -1;
}

static void check_bool(check *c, const pil_field *f, const pil_json *v, pil_value *out) {
    pil_json_type type = pil_json_typeof(v);
    double r = pil_json_real_or(v, 0.5);
    bool is_number = type == PIL_JSON_INT || (type == PIL_JSON_REAL && is_whole(r));
    int b = -1;
    size_t n;
    const char *text = pil_json_string(v, &n);
    if (type == PIL_JSON_BOOL) b = pil_json_bool_or(v, false);
    else if (is_number) b = r == 0 ? 0 : r == 1 ? 1 : -1;
    else if (text) b = bool_of(text, n);
    if (b >= 0) out->number = b;
    else if (is_number || text)
        add_error(c, "bool_parsing", f->name, SIZE_MAX, "Input should be a valid boolean, unable to interpret input",
                  v);
    else add_error(c, "bool_type", f->name, SIZE_MAX, "Input should be a valid boolean", v);
}

/* Unicode's White_Space. */
static bool is_space(uint32_t cp) {
    return (cp >= 9 && cp <= 13) || cp == 0x20 || cp == 0x85 || cp == 0xA0 || cp == 0x1680 ||
           (cp >= 0x2000 && cp <= 0x200A) || cp == 0x2028 || cp == 0x2029 || cp == 0x202F || cp == 0x205F ||
           cp == 0x3000;
}

static void trim(const char **s, size_t *n) {
    for (uint32_t cp; *n > 0;) {
        size_t len = pil_utf8_decode(*s, &cp);
        if (!is_space(cp)) break;
        *s += len;
        *n -= len;
    }
    while (*n > 0) {
        size_t at = *n - 1;
        while (at > 0 && ((unsigned char)(*s)[at] & 0xC0) == 0x80) at--;
        uint32_t cp;
        pil_utf8_decode(*s + at, &cp);
        if (!is_space(cp)) break;
        *n = at;
    }
}

/* A whole number in a string: white space around it, one sign, single underscores between digits, ".000" behind it. */
static bool int_of(const char *s, size_t n, int64_t *out) {
    trim(&s, &n);
    bool minus = n > 0 && *s == '-';
    if (n > 0 && (*s == '-' || *s == '+')) s++, n--;
    size_t i = 0;
    double value = 0; /* exact far beyond every range that is compared with it */
    for (; i < n && s[i] != '.'; i++) {
        bool digit = s[i] >= '0' && s[i] <= '9';
        if (digit) value = value * 10 + (s[i] - '0');
        else if (s[i] != '_' || i == 0 || s[i - 1] == '_' || i + 1 == n || s[i + 1] == '.') return false;
    }
    if (i == 0) return false;
    if (i < n) {
        if (i + 1 == n) return false;
        for (i++; i < n; i++)
            if (s[i] != '0') return false;
    }
    *out = clamp(minus ? -value : value);
    return true;
}

static void out_of_range(check *c, const pil_field *f, const pil_json *v, const char *type, const char *words,
                         const char *key, int64_t bound) {
    char msg[96];
    snprintf(msg, sizeof msg, "Input should be %s %lld", words, (long long)bound);
    begin_error(c, type, f->name, SIZE_MAX, msg);
    put_echo(c->out, v);
    pil_buf_printf(c->out, ",\"ctx\":{\"%s\":%lld}", key, (long long)bound);
    end_error(c);
}

static void check_int(check *c, const pil_field *f, const pil_json *v, pil_value *out) {
    pil_json_type type = pil_json_typeof(v);
    size_t n;
    const char *text = pil_json_string(v, &n);
    int64_t number = 0;
    if (type == PIL_JSON_BOOL) {
        number = pil_json_bool_or(v, false);
    } else if (type == PIL_JSON_INT) {
        number = pil_json_int_or(v, 0);
    } else if (type == PIL_JSON_REAL) {
        double r = pil_json_real_or(v, 0);
        if (!is_whole(r)) {
            add_error(c, "int_from_float", f->name, SIZE_MAX,
                      "Input should be a valid integer, got a number with a fractional part", v);
            return;
        }
        number = clamp(r);
    } else if (!text) {
        add_error(c, "int_type", f->name, SIZE_MAX, "Input should be a valid integer", v);
        return;
    } else if (!int_of(text, n, &number)) {
        add_error(c, "int_parsing", f->name, SIZE_MAX,
                  "Input should be a valid integer, unable to parse string as an integer", v);
        return;
    }
    if (number > f->max) out_of_range(c, f, v, "less_than_equal", "less than or equal to", "le", f->max);
    else if (f->is_above && number <= f->min) out_of_range(c, f, v, "greater_than", "greater than", "gt", f->min);
    else if (number < f->min) out_of_range(c, f, v, "greater_than_equal", "greater than or equal to", "ge", f->min);
    else out->number = number;
}

static void check_field(check *c, const pil_field *f, pil_value *out) {
    const pil_json *v = pil_json_get(c->body, f->name);
    if (!v) {
        *out = (pil_value){.text = f->fallback_text, .number = f->fallback};
        if (f->fallback_text) out->text_bytes = strlen(f->fallback_text);
        if (f->required) add_error(c, "missing", f->name, SIZE_MAX, "Field required", c->body);
        return;
    }
    *out = (pil_value){0};
    switch (f->type) {
    case PIL_FIELD_TEXTS: check_texts(c, f, v, out); return;
    case PIL_FIELD_STRING: check_string(c, f, v, out); return;
    case PIL_FIELD_BOOL: check_bool(c, f, v, out); return;
    case PIL_FIELD_INT: check_int(c, f, v, out); return;
    case PIL_FIELD_CHOICE: check_choice(c, f, v, out); return;
    }
}

/* ── The body ───────────────────────────────────────────────────────────────────────────────────────────────── */

/* application/json and application/…+json, with any parameters. No header at all counts as JSON. */
static bool is_json_type(const char *content_type) {
    if (!content_type || !*content_type) return true;
    size_t n = strcspn(content_type, "; \t");
    if (n < 12 || strncasecmp(content_type, "application/", 12) != 0) return false;
    const char *sub = content_type + 12;
    n -= 12;
    return (n == 4 && strncasecmp(sub, "json", 4) == 0) || (n > 5 && strncasecmp(sub + n - 5, "+json", 5) == 0);
}

/* The offset is counted in characters, as Python counts. */
static void put_json_error(check *c, const char *body, size_t n, size_t offset, const char *why) {
    if (offset > n) offset = n;
    begin_error(c, "json_invalid", NULL, pil_utf8_count(body, offset), "JSON decode error");
    pil_buf_puts(c->out, "{},\"ctx\":{\"error\":");
    pil_json_put_string(c->out, why, strlen(why));
    pil_buf_putc(c->out, '}');
    end_error(c);
}

/* The raw body as a string: what a body of another type is, for FastAPI, which does not say so. `curl -d` alone sends a
 * form. */
static void put_raw_error(check *c, const char *body, size_t n) {
    begin_error(c, "model_attributes_type", NULL, SIZE_MAX,
                "Input should be a valid dictionary or object to extract fields from");
    size_t valid = pil_utf8_valid(body, cut(body, n, PIL_LIMIT_ECHO_BYTES + 4));
    put_echo_string(c->out, body, valid);
    pil_buf_puts(c->out, ",\"ctx\":{\"error\":\"the content-type of the request is not application/json\"}");
    end_error(c);
}

/* Everything that is wrong before a field can be looked at. Returns OK with *root set to an object. */
static pillion_status check_body(check *c, pil_json **root, const char *content_type, const char *body, size_t n) {
    pillion_error why = {0};
    size_t offset = 0;
    if (n > 0 && !is_json_type(content_type)) {
        put_raw_error(c, body, n);
        return PILLION_E_FORMAT;
    }
    pillion_status st = PILLION_OK;
    if (n > 0) st = pil_json_parse_limited(root, body, n, PIL_LIMIT_JSON_VALUES, &offset, &why);
    if (st == PILLION_E_FORMAT) put_json_error(c, body, n, offset, why.text);
    if (st == PILLION_E_LIMIT) pil_buf_printf(c->out, "{\"detail\":\"Too many values: %s\"}", why.text);
    if (st) return st;
    pil_json_type type = pil_json_typeof(*root);
    if (type == PIL_JSON_OBJECT) return PILLION_OK;
    if (type == PIL_JSON_NULL) add_error(c, "missing", NULL, SIZE_MAX, "Field required", NULL);
    else add_error(c, "model_attributes_type", NULL, SIZE_MAX,
                   "Input should be a valid dictionary or object to extract fields from", *root);
    return PILLION_E_FORMAT;
}

pillion_status pil_validate(pil_json **root, pil_value *values, const pil_field *fields, size_t n,
                            const char *content_type, const char *body, size_t body_bytes, size_t texts_max,
                            pil_buf *detail) {
    *root = NULL;
    check c = {.out = detail};
    pillion_status st = check_body(&c, root, content_type, body, body_bytes);
    c.body = *root;
    for (size_t i = 0; !st && i < n; i++) {
        if (fields[i].type != PIL_FIELD_TEXTS) continue;
        size_t count = pil_json_count(pil_json_get(c.body, fields[i].name));
        if (count <= texts_max) continue;
        pil_buf_printf(detail, "{\"detail\":\"%zu texts: one request may have %zu at most\"}", count, texts_max);
        st = PILLION_E_LIMIT;
    }
    for (size_t i = 0; !st && i < n; i++) check_field(&c, &fields[i], &values[i]);
    if (c.n_errors) {
        pil_buf_puts(detail, "]}");
        if (!st) st = PILLION_E_FORMAT;
    }
    if (detail->failed) st = PILLION_E_NOMEM;
    if (st) {
        pil_json_free(*root);
        *root = NULL;
    }
    return st;
}

pillion_status pil_validate_put_item(pil_buf *detail, const char *type, const char *field, size_t index,
                                     const char *msg, const char *text, size_t text_bytes) {
    check c = {.out = detail};
    begin_error(&c, type, field, index, msg);
    if (text) put_echo_string(detail, text, text_bytes);
    else pil_buf_puts(detail, "null");
    end_error(&c);
    return pil_buf_puts(detail, "]}");
}
