/* test_json.c - where syntax errors are, and floats that read back as themselves. */
#include "support/test.h"

#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/json.h"

static void errors_are_told_where_they_begin(void **state) {
    (void)state;
    static const struct {
        const char *text;
        size_t offset;
    } cases[] = {
        {"", 0}, {"  ", 2}, {"{", 1}, {"[1,2", 4}, {"{\"a\":[1]", 8}, {"{\"a\":1,}", 7}, {"{\"a\" 1}", 5}, {"{a:1}", 1},
        {"{\"a\":}", 5}, {"[1 2]", 3}, {"[1,]", 3}, {"[01]", 2}, {"[1.]", 2}, {"[1.5e]", 4}, {"[-]", 1}, {"[.5]", 1},
        {"1 x", 2}, {"{} {}", 3}, {"tru", 0}, {"[nul]", 1}, {"NaN", 0}, {"\"abc", 0}, {"[\"a\x01\"]", 3},
        {"[\"a\\q\"]", 3}, {"[\"\\u12g4\"]", 2}, {"[\"\\u12", 2}, {"{\"a\":1 \"b\":2}", 7}, {"]", 0}, {"[1}", 2},
        {"{\"a\":{\"b\":[1,{\"c\":tru}]}}", 18},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        size_t n = strlen(cases[i].text), offset = 999;
        char *copy = malloc(n ? n : 1); /* exactly its size, so that a sanitizer sees a byte read too far */
        memcpy(copy, cases[i].text, n);
        pil_json *json;
        pillion_error err = {0};
        assert_int_equal(pil_json_parse(&json, copy, n, &offset, &err), PILLION_E_FORMAT);
        if (offset != cases[i].offset) fail_msg("%s: %zu, not %zu", cases[i].text, offset, cases[i].offset);
        assert_true(strlen(err.text) > 0);
        free(copy);
    }
}

static void duplicate_keys_and_lone_surrogates_have_an_offset(void **state) {
    (void)state;
    static const char *const texts[] = {"{\"a\":1,\"a\":2}", "{\"a\":\"\\ud800\"}", "[\"\xff\"]"};
    for (size_t i = 0; i < 3; i++) {
        pil_json *json;
        size_t offset = 999;
        assert_int_equal(pil_json_parse(&json, texts[i], strlen(texts[i]), &offset, NULL), PILLION_E_FORMAT);
        assert_true(offset > 0 && offset < strlen(texts[i]));
    }
}

/* jansson drops a NUL behind a number or a word, and what reads the text again would not. */
static void a_raw_nul_is_refused_wherever_it_stands(void **state) {
    (void)state;
    static const struct {
        const char *text;
        size_t bytes, offset;
    } cases[] = {{"[1\0]", 4, 2}, {"[1\0,2]", 6, 2}, {"[true\0]", 7, 5}, {"{\"a\":1\0}", 8, 6}, {"[\"a\0b\"]", 7, 3},
                 {"\0", 1, 0},    {"[1]\0", 4, 3},   {"1\0", 2, 1}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        pil_json *json;
        size_t offset = 999;
        assert_int_equal(pil_json_parse(&json, cases[i].text, cases[i].bytes, &offset, NULL), PILLION_E_FORMAT);
        if (offset != cases[i].offset) fail_msg("case %zu: %zu, not %zu", i, offset, cases[i].offset);
    }
}

static void assert_prints(float v, const char *text) {
    pil_buf b;
    pil_buf_init(&b, 64);
    assert_int_equal(pil_json_put_f32(&b, v), PILLION_OK);
    assert_string_equal(pil_buf_cstr(&b), text);
    pil_buf_deinit(&b);
}

static void floats_are_printed_short(void **state) {
    (void)state;
    assert_prints(0.5f, "0.5");
    assert_prints(0, "0.0");
    assert_prints(-0.0f, "-0.0");
    assert_prints(1, "1.0");
    assert_prints(-1, "-1.0");
    assert_prints(0.1f, "0.1");
    assert_prints(1234, "1234.0");
    assert_prints(0.0625f, "0.0625");
    assert_prints(9.4999999f, "9.5");
    assert_prints(0.99999994f, "0.99999994");
    assert_prints(1e-5f, "9.99999975e-06");
    assert_prints(3.4028235e38f, "3.40282347e+38");
}

/* Every exponent, the values around each power of ten, and random ones; read as a float and as a double. */
static void every_float_reads_back_as_itself(void **state) {
    (void)state;
    unsigned seed = 7;
    for (unsigned i = 0; i < 2000000; i++) {
        union {
            uint32_t u;
            float f;
        } v = {.u = (uint32_t)rand_r(&seed) << 16 ^ (uint32_t)rand_r(&seed)};
        if (i % 4) v.u = (v.u & 0x807FFFFFu) | (100u + i % 30) << 23; /* the size of values in vectors */
        if (i < 400) {
            v.f = (float)pow(10, (int)(i / 8) - 25);
            v.u += i % 8 - 4;
        }
        if (!isfinite(v.f)) continue;
        char text[40];
        pil_buf b;
        pil_buf_init(&b, 64);
        pil_json_put_f32(&b, v.f);
        snprintf(text, sizeof text, "%.*s", (int)b.len, b.bytes);
        pil_buf_deinit(&b);
        if (strtof(text, NULL) != v.f || (float)strtod(text, NULL) != v.f || !strpbrk(text, ".e"))
            fail_msg("%.9g is printed as %s", (double)v.f, text);
    }
}

static void values_of_strangers_are_counted_before_they_are_built(void **state) {
    (void)state;
    pil_json *json;
    pillion_error err = {0};
    const char text[] = "{\"a\":[1,2,{\"b\":\"[,,,:\"}],\"c\":{}}";
    assert_int_equal(pil_json_parse_limited(&json, text, sizeof text - 1, 12, NULL, &err), PILLION_OK);
    pil_json_free(json);
    assert_int_equal(pil_json_parse_limited(&json, text, sizeof text - 1, 8, NULL, &err), PILLION_E_LIMIT);
    assert_null(json);
    assert_non_null(strstr(err.text, "the limit is 8"));
}

/* Two pages of which one can be read at a time, so that each pass over them begins with a fault on the first. When the
 * passes are as many as wanted, the text there becomes another one, as a file does that somebody writes to. */
static struct changing {
    char *pages;
    size_t page_bytes;
    int passes, change_at;
} changing;

static void turn_page(int signal, siginfo_t *info, void *context) {
    (void)signal, (void)context;
    struct changing *c = &changing;
    bool first = (size_t)((char *)info->si_addr - c->pages) < c->page_bytes;
    char *wanted = c->pages + (first ? 0 : c->page_bytes), *other = c->pages + (first ? c->page_bytes : 0);
    mprotect(wanted, c->page_bytes, PROT_READ | PROT_WRITE);
    mprotect(other, c->page_bytes, PROT_NONE);
    if (first && ++c->passes == c->change_at) memset(c->pages, '[', c->page_bytes);
}

static void bytes_that_change_meanwhile_cannot_become_too_deep(void **state) {
    (void)state;
    struct changing *c = &changing;
    c->page_bytes = (size_t)sysconf(_SC_PAGESIZE);
    struct sigaction turn = {.sa_sigaction = turn_page, .sa_flags = SA_SIGINFO}, kept;
    assert_int_equal(sigaction(SIGSEGV, &turn, &kept), 0);
    c->change_at = 0;
    do {
        size_t n = 2 * c->page_bytes, offset = n + 1;
        c->change_at++;
        c->passes = 0;
        c->pages = mmap(NULL, n, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        assert_true(c->pages != MAP_FAILED);
        memset(c->pages, 'a', n);
        c->pages[0] = '"'; /* a string without an end: every pass but the last goes to the end of it */
        mprotect(c->pages, n, PROT_NONE);
        pil_json *json;
        assert_int_equal(pil_json_parse(&json, c->pages, n, &offset, NULL), PILLION_E_FORMAT);
        assert_true(offset <= n);
        munmap(c->pages, n);
    } while (c->passes >= c->change_at); /* until there is no such pass */
    assert_true(c->change_at > 4);
    sigaction(SIGSEGV, &kept, NULL);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(errors_are_told_where_they_begin),
        cmocka_unit_test(duplicate_keys_and_lone_surrogates_have_an_offset),
        cmocka_unit_test(a_raw_nul_is_refused_wherever_it_stands),
        cmocka_unit_test(bytes_that_change_meanwhile_cannot_become_too_deep),
        cmocka_unit_test(floats_are_printed_short),
        cmocka_unit_test(values_of_strangers_are_counted_before_they_are_built),
        cmocka_unit_test(every_float_reads_back_as_itself),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
