/* scores.c - reads the numbers of a Unigram vocabulary digit by digit.
 *
 * The reference parses JSON numbers without correct rounding: it takes the digits as a 64-bit integer and multiplies or
 * divides that by a power of ten. One score in four of XLM-RoBERTa comes out one unit in the last place away from the
 * nearest double, and that decides ties: "=====" has many cuts of equal score. So the scores are read here, out of the
 * text of the JSON document itself, in the same arithmetic.
 * Invariant:  the text has passed the real parser; here nothing is checked but the end of the text.
 * Tests:      tests/token/test_compile.c. */
#include <stdlib.h>
#include <string.h>

#include "token/compile_int.h"

#define POWERS 309

typedef struct reader {
    const char *p, *end;
    double power[POWERS]; /* 10^i */
} reader;

static char peek(const reader *r) { return r->p < r->end ? *r->p : '\0'; }

static void skip_white(reader *r) {
    while (r->p < r->end && strchr(" \t\r\n", *r->p) && *r->p) r->p++;
}

static bool take(reader *r, char c) {
    skip_white(r);
    if (peek(r) != c) return false;
    r->p++;
    return true;
}

/* The raw inside of a string; false if there is none. */
static bool take_string(reader *r, const char **s, size_t *n) {
    if (!take(r, '"')) return false;
    *s = r->p;
    while (r->p < r->end && *r->p != '"') r->p += *r->p == '\\' ? 2 : 1;
    if (r->p >= r->end) return false;
    *n = (size_t)(r->p++ - *s);
    return true;
}

static void skip_value(reader *r) {
    size_t depth = 0;
    do {
        const char *s;
        size_t n;
        skip_white(r);
        char c = peek(r);
        if (c == '"') {
            if (!take_string(r, &s, &n)) return;
        } else if (c == '[' || c == '{') {
            depth++;
            r->p++;
        } else if (c == ']' || c == '}') {
            depth--;
            r->p++;
        } else if (c == ',' || c == ':') {
            r->p++;
        } else {
            while (r->p < r->end && !strchr(" \t\r\n,:]}", *r->p)) r->p++;
        }
    } while (depth > 0 && r->p < r->end);
}

/* Goes to the value of a member of the object that starts here. */
static bool enter(reader *r, const char *key) {
    if (!take(r, '{')) return false;
    do {
        const char *s;
        size_t n;
        if (!take_string(r, &s, &n) || !take(r, ':')) return false;
        if (n == strlen(key) && !memcmp(s, key, n)) return true;
        skip_value(r);
    } while (take(r, ','));
    return false;
}

static bool is_digit(char c) { return c >= '0' && c <= '9'; }

/* Takes digits into *v while they fit in 64 bits; returns how many did, and the rest in *dropped. */
static int take_digits(reader *r, uint64_t *v, int *dropped) {
    int taken = 0;
    *dropped = 0;
    for (; is_digit(peek(r)); r->p++) {
        uint64_t digit = (uint64_t)(*r->p - '0'), next;
        bool full = *dropped || __builtin_mul_overflow(*v, (uint64_t)10, &next) ||
                    __builtin_add_overflow(next, digit, &next);
        if (full) {
            ++*dropped;
        } else {
            *v = next;
            taken++;
        }
    }
    return taken;
}

static double scale(const reader *r, uint64_t digits, int exponent) {
    double f = (double)digits;
    for (; exponent < -(POWERS - 1) && f != 0; exponent += POWERS - 1) f /= r->power[POWERS - 1];
    if (f == 0) return 0;
    if (exponent >= POWERS) return f * r->power[POWERS - 1] * 10; /* infinite; the real parser has refused it */
    return exponent >= 0 ? f * r->power[exponent] : f / r->power[-exponent];
}

static double take_number(reader *r) {
    uint64_t digits = 0;
    int dropped, exponent = 0;
    skip_white(r);
    bool negative = peek(r) == '-';
    if (negative) r->p++;
    take_digits(r, &digits, &dropped);
    exponent += dropped;
    if (peek(r) == '.') {
        r->p++;
        exponent -= take_digits(r, &digits, &dropped);
    }
    if (peek(r) == 'e' || peek(r) == 'E') {
        r->p++;
        bool down = peek(r) == '-';
        if (down || peek(r) == '+') r->p++;
        uint64_t e = 0;
        take_digits(r, &e, &dropped);
        int shift = e > 100000 || dropped ? 100000 : (int)e;
        exponent += down ? -shift : shift;
    }
    double f = scale(r, digits, exponent);
    return negative ? -f : f;
}

void pil_scores_read(double *out, size_t n, const char *json, size_t json_bytes) {
    reader r = {.p = json, .end = json + json_bytes};
    char text[8] = "1e";
    for (int i = 0; i < POWERS; i++) {
        text[2] = (char)('0' + i / 100);
        text[3] = (char)('0' + i / 10 % 10);
        text[4] = (char)('0' + i % 10);
        r.power[i] = strtod(text, NULL);
    }
    if (!enter(&r, "model") || !enter(&r, "vocab") || !take(&r, '[')) return;
    for (size_t i = 0; i < n; i++) {
        const char *s;
        size_t s_bytes;
        if (!take(&r, '[') || !take_string(&r, &s, &s_bytes) || !take(&r, ',')) return;
        out[i] = take_number(&r);
        if (!take(&r, ']')) return;
        take(&r, ',');
    }
}
