/* What is JSON and what is not, case by case, in the three classes that parsers are compared by: documents that
 * everybody must take, documents that nobody may take, and those on which RFC 8259 leaves the choice to the parser. */
#include <stdio.h>
#include <stdlib.h>

#include "support/test.h"
#include "base/buf.h"
#include "base/json.h"
#include "base/limits.h"

/* A document; n counts NUL bytes too. */
typedef struct example {
    const char *why, *text;
    size_t n;
} example;
#define CASE(why, text) {why, text, sizeof(text) - 1}
#define COUNT(a) (sizeof(a) / sizeof *(a))

/* Parses a copy of exactly its size, so that a sanitizer sees one byte too many. */
static pillion_status parse(const char *text, size_t n, size_t *offset, pillion_error *err) {
    char *copy = malloc(n ? n : 1);
    pil_json *root = NULL;
    assert_non_null(copy);
    memcpy(copy, text, n);
    pillion_status st = pil_json_parse(&root, copy, n, offset, err);
    assert_int_equal(st == PILLION_OK, root != NULL);
    if (!st) { /* what was read can be written, and is JSON again */
        pil_buf b;
        pil_json *again;
        pil_buf_init(&b, 64 * PIL_MIB);
        assert_ok(pil_json_put(&b, root), *err);
        assert_ok(pil_json_parse(&again, b.bytes, b.len, NULL, err), *err);
        assert_int_equal(pil_json_typeof(again), pil_json_typeof(root));
        assert_int_equal(pil_json_count(again), pil_json_count(root));
        pil_json_free(again);
        pil_buf_deinit(&b);
    }
    pil_json_free(root);
    free(copy);
    return st;
}

static void check_all(const example *cases, size_t n_cases, bool accepted) {
    for (size_t i = 0; i < n_cases; i++) {
        pillion_error err = {0};
        size_t offset = SIZE_MAX;
        pillion_status st = parse(cases[i].text, cases[i].n, &offset, &err);
        if (accepted && st) fail_msg("%s: refused: %s", cases[i].why, err.text);
        if (!accepted && !st) fail_msg("%s: accepted", cases[i].why);
        if (accepted) continue;
        if (st != PILLION_E_FORMAT || !err.text[0]) fail_msg("%s: %d: %s", cases[i].why, st, err.text);
        if (offset > cases[i].n) fail_msg("%s: offset %zu in %zu bytes", cases[i].why, offset, cases[i].n);
    }
}

/* ── Must be taken ──────────────────────────────────────────────────────────────────────────────────────────── */

static const example good[] = {
    CASE("empty array", "[]"),
    CASE("empty object", "{}"),
    CASE("array in array", "[[ ],[[]]]"),
    CASE("object in object", "{\"a\":{\"b\":{}}}"),
    CASE("every kind of space", " \t\r\n[ \t1\n,\r2 ] \n"),
    CASE("a string by itself", "\"a\""),
    CASE("an empty string by itself", "\"\""),
    CASE("a number by itself", "42"),
    CASE("a negative number by itself", "-1"),
    CASE("true by itself", "true"),
    CASE("false by itself", "false"),
    CASE("null by itself", "null"),
    CASE("a line feed at the end", "[1]\n"),
    CASE("all literals", "[true,false,null]"),
    CASE("kinds mixed", "[null,1,\"1\",{},[],1.5,true]"),
    CASE("zero", "[0]"),
    CASE("a fraction", "[123.456789]"),
    CASE("an exponent", "[1e1]"),
    CASE("a capital exponent", "[1E22]"),
    CASE("an exponent with plus", "[1e+2]"),
    CASE("an exponent with minus", "[1E-2]"),
    CASE("a fraction and an exponent", "[123.456e78]"),
    CASE("an exponent of zero", "[0e1]"),
    CASE("zeros in the exponent", "[1e007]"),
    CASE("zeros behind the point", "[0.000]"),
    CASE("the largest 64-bit integer", "[9223372036854775807]"),
    CASE("the least 64-bit integer", "[-9223372036854775808]"),
    CASE("many digits behind the point", "[-0.0000000000000000000000000000000000000000000000000000000000001]"),
    CASE("all short escapes", "[\"\\\"\\\\\\/\\b\\f\\n\\r\\t\"]"),
    CASE("an escaped letter", "[\"\\u0041\"]"),
    CASE("hexadecimal digits in both cases", "[\"\\uaBcD\\uFEff\"]"),
    CASE("an escaped pair of surrogates", "[\"\\uD83D\\uDC26\"]"),
    CASE("the last code point, escaped", "[\"\\uDBFF\\uDFFF\"]"),
    CASE("an escaped NUL", "[\"\\u0000\"]"),
    CASE("an escaped noncharacter", "[\"\\uFFFF\\uFDD0\"]"),
    CASE("an escaped backslash in front of a u", "[\"\\\\u0000\"]"),
    CASE("an escaped quote at the end", "[\"a\\\"\"]"),
    CASE("a comment in a string", "[\"/* a */ // b\"]"),
    CASE("a solidus as it is", "[\"a/b\"]"),
    CASE("two bytes", "[\"\xC3\xA9\"]"),
    CASE("three bytes", "[\"\xE2\x82\xAC\"]"),
    CASE("four bytes", "[\"\xF0\x9F\x90\xA6\"]"),
    CASE("the last code point", "[\"\xF4\x8F\xBF\xBF\"]"),
    CASE("noncharacters", "[\"\xEF\xBF\xBE\xEF\xBF\xBF\"]"),
    CASE("DEL", "[\"\x7F\"]"),
    CASE("line separators", "[\"\xE2\x80\xA8\xE2\x80\xA9\"]"),
    CASE("a byte order mark in a string", "[\"\xEF\xBB\xBF\"]"),
    CASE("a zero-width space in a string", "[\"\xE2\x80\x8B\"]"),
    CASE("a replacement character", "[\"\xEF\xBF\xBD\"]"),
    CASE("what is special elsewhere", "[\"`~!@#$%^&*()-=+,.<>;:|[]{}\"]"),
    CASE("an empty name", "{\"\":0}"),
    CASE("a name with escapes", "{\"\\u0066oo\\n\":1}"),
    CASE("names that differ in case", "{\"a\":1,\"A\":2}"),
    CASE("names that differ in normal form", "{\"\xC3\xA9\":1,\"e\xCC\x81\":2}"),
    CASE("the same name in different objects", "{\"a\":{\"a\":1},\"b\":{\"a\":1}}"),
    CASE("line feeds between members", "{\n\"a\":\n1\n,\n\"b\":2\n}"),
    CASE("brackets in a string", "[\"]]]]{{{{\"]"),
    CASE("32 levels", "[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]"),
};

static void what_everybody_must_take_is_taken(void **state) {
    (void)state;
    check_all(good, COUNT(good), true);
}

/* ── Nobody may take ────────────────────────────────────────────────────────────────────────────────────────── */

static const example bad[] = {
    CASE("nothing", ""),
    CASE("only space", " \n"),
    CASE("a word", "nothing"),
    CASE("a capital literal", "[True]"),
    CASE("a shouted literal", "[NULL]"),
    CASE("half a literal", "[nul]"),
    CASE("a literal and more", "[truey]"),
    CASE("two documents", "[1][2]"),
    CASE("two documents on two lines", "\"a\"\n\"b\""),
    CASE("a word behind the document", "[1]x"),
    CASE("a comma behind the document", "[1],"),
    CASE("a bracket too many", "[1]]"),
    CASE("a brace too many", "{\"a\":1}}"),
    CASE("a NUL behind the document", "[1]\x00"),
    CASE("a NUL in front", "\x00[1]"),
    CASE("an unfinished array", "["),
    CASE("an unfinished array behind a value", "[1"),
    CASE("an unfinished array behind a comma", "[1,"),
    CASE("an unfinished object", "{"),
    CASE("an unfinished object behind a name", "{\"a\""),
    CASE("an unfinished object behind a colon", "{\"a\":"),
    CASE("an unfinished object behind a value", "{\"a\":1"),
    CASE("closed by the other bracket", "[1}"),
    CASE("closed by the other brace", "{\"a\":1]"),
    CASE("closed without being open", "]"),
    CASE("brackets that cross", "{\"a\":[1}]"),
    CASE("a comma and no value", "[,1]"),
    CASE("a comma by itself", "[,]"),
    CASE("two commas", "[1,,2]"),
    CASE("a comma at the end", "[1,]"),
    CASE("two commas at the end", "[1,,]"),
    CASE("no comma", "[1 2]"),
    CASE("no comma between strings", "[\"a\"\"b\"]"),
    CASE("a colon in an array", "[\"a\":1]"),
    CASE("a semicolon", "[1;2]"),
    CASE("an array of a star", "[*]"),
    CASE("a member without a value", "{\"a\"}"),
    CASE("a member without a colon", "{\"a\" 1}"),
    CASE("a colon without a value", "{\"a\":}"),
    CASE("two colons", "{\"a\"::1}"),
    CASE("an equals sign", "{\"a\"=1}"),
    CASE("a comma for a colon", "{\"a\",1}"),
    CASE("a comma at the end of an object", "{\"a\":1,}"),
    CASE("two commas in an object", "{\"a\":1,,\"b\":2}"),
    CASE("a comma first in an object", "{,\"a\":1}"),
    CASE("no comma between members", "{\"a\":1 \"b\":2}"),
    CASE("a name without quotes", "{a:1}"),
    CASE("a name in single quotes", "{'a':1}"),
    CASE("a number as a name", "{1:1}"),
    CASE("null as a name", "{null:1}"),
    CASE("an array as a name", "{[]:1}"),
    CASE("two strings as a name", "{\"a\" \"b\":1}"),
    CASE("a value alone in an object", "{1}"),
    CASE("a space in a literal", "[t rue]"),
    CASE("a string in single quotes", "['a']"),
    CASE("a string without an end", "[\"a"),
    CASE("a string without a beginning", "[a\"]"),
    CASE("a quote and nothing", "\""),
    CASE("an escape and nothing", "\"\\"),
    CASE("an escape at the end", "[\"\\\"]"),
    CASE("an escape of another language", "[\"\\x41\"]"),
    CASE("an escape of a digit", "[\"\\0\"]"),
    CASE("an escape of a quote that needs none", "[\"\\'\"]"),
    CASE("an escaped capital U", "[\"\\U0041\"]"),
    CASE("an escaped space", "[\"\\ \"]"),
    CASE("an escaped line feed", "[\"\\\n\"]"),
    CASE("an escaped byte above ASCII", "[\"\\\xC3\xA9\"]"),
    CASE("u and nothing", "[\"\\u\"]"),
    CASE("u and three digits", "[\"\\u004\"]"),
    CASE("u and no digit", "[\"\\uZZZZ\"]"),
    CASE("u and a plus", "[\"\\u+041\"]"),
    CASE("u and a space", "[\"\\u 041\"]"),
    CASE("a surrogate and half an escape", "[\"\\uD800\\u1\"]"),
    CASE("a surrogate and a lone u", "[\"\\uD800\\u\"]"),
    CASE("a line feed in a string", "[\"a\nb\"]"),
    CASE("a tab in a string", "[\"a\tb\"]"),
    CASE("a NUL in a string", "[\"a\x00""b\"]"),
    CASE("the last control character in a string", "[\"\x1F\"]"),
    CASE("a plus", "[+1]"),
    CASE("two minuses", "[--1]"),
    CASE("a minus alone", "[-]"),
    CASE("a minus and a word", "[-a]"),
    CASE("a minus with a space", "[- 1]"),
    CASE("a zero in front", "[01]"),
    CASE("zeros in front", "[-00]"),
    CASE("a zero in front of a fraction", "[-01.5]"),
    CASE("no digit in front of the point", "[.5]"),
    CASE("a minus in front of a point", "[-.5]"),
    CASE("no digit behind the point", "[1.]"),
    CASE("no digit between point and exponent", "[1.e1]"),
    CASE("two points", "[1.2.3]"),
    CASE("an exponent without digits", "[1e]"),
    CASE("an exponent and a sign", "[1e+]"),
    CASE("two signs in an exponent", "[1e+-1]"),
    CASE("two exponents", "[1e1e1]"),
    CASE("a fraction in the exponent", "[1e1.5]"),
    CASE("an exponent alone", "[e1]"),
    CASE("a zero and an exponent alone", "[0e]"),
    CASE("a hexadecimal number", "[0x1F]"),
    CASE("an octal number", "[0o17]"),
    CASE("a binary number", "[0b1]"),
    CASE("a grouped number", "[1 000]"),
    CASE("an underscore in a number", "[1_000]"),
    CASE("a suffix", "[1f]"),
    CASE("NaN", "[NaN]"),
    CASE("minus NaN", "[-NaN]"),
    CASE("nan", "[nan]"),
    CASE("Infinity", "[Infinity]"),
    CASE("minus Infinity", "[-Infinity]"),
    CASE("inf", "[inf]"),
    CASE("a digit of full width", "[\xEF\xBC\x91]"),
    CASE("an arithmetic expression", "[1+2]"),
    CASE("a comment", "[1/**/]"),
    CASE("a comment to the end of the line", "[1]//a"),
    CASE("a comment in front", "/**/[1]"),
    CASE("a comment with a number sign", "#a\n[1]"),
    CASE("a form feed", "[\x0C""1]"),
    CASE("a vertical tab", "[\x0B""1]"),
    CASE("a space without a break", "[\xC2\xA0""1]"),
    CASE("a word joiner", "[\xE2\x81\xA0]"),
    CASE("a line separator between values", "[1,\xE2\x80\xA8""2]"),
    CASE("an emoji as a value", "[\xF0\x9F\x90\xA6]"),
    CASE("an escape outside a string", "[\\n]"),
    CASE("an escaped quote for a quote", "[\\\"a\\\"]"),
    CASE("angle brackets", "<null>"),
    CASE("an array in XML", "[<a/>]"),
    CASE("a star for a value", "{\"a\":*}"),
    CASE("a lone comma", ","),
    CASE("a lone colon", ":"),
    CASE("a lone minus", "-"),
    CASE("a lone star", "*"),
    CASE("a lone letter above ASCII", "\xC3\xA9"),
    CASE("a lone byte", "\xFF"),
    CASE("an undefined value", "[undefined]"),
    CASE("a function call", "[Date(1)]"),
    CASE("a template string", "[`a`]"),
    CASE("a triple quote", "[\"\"\"a\"\"\"]"),
    CASE("a raw string", "[r\"a\"]"),
    CASE("a spread", "[...[1]]"),
    CASE("an open brace and a comma", "{,"),
    CASE("an open object and an open array", "{\"a\":[{"),
    CASE("an open bracket behind a good array", "[1]["),
};

static void what_nobody_may_take_is_refused_with_an_offset(void **state) {
    (void)state;
    check_all(bad, COUNT(bad), false);
}

static void every_beginning_of_a_document_is_refused(void **state) {
    (void)state;
    static const char whole[] = "{\"a\":[1.5e-3,true,null,{\"\\u00e9\":\"\\uD83D\\uDC26 \xC3\xA9\\\\\"}],\"b\":-0}";
    pillion_error none = {0};
    assert_ok(parse(whole, sizeof whole - 1, NULL, &none), none);
    for (size_t n = 0; n < sizeof whole - 1; n++) {
        size_t offset = SIZE_MAX;
        pillion_error err = {0};
        if (parse(whole, n, &offset, &err) != PILLION_E_FORMAT) fail_msg("the first %zu bytes were accepted", n);
        assert_in_range(offset, 0, n);
    }
}

/* ── The parser's choice ────────────────────────────────────────────────────────────────────────────────────── */

#define CHOICE(why, text, accepted) {{why, text, sizeof(text) - 1}, accepted}
static const struct {
    example e;
    bool accepted;
} choices[] = {
    CHOICE("a minus zero", "[-0]", true),
    CHOICE("an integer beyond 64 bits", "[9223372036854775808]", true),
    CHOICE("an integer of 60 digits", "[999999999999999999999999999999999999999999999999999999999999]", true),
    CHOICE("a real that rounds to zero", "[1e-400]", true),
    CHOICE("a real beyond the largest", "[1e400]", false),
    CHOICE("a real far below the least", "[-1e+9999]", false),
    CHOICE("a high surrogate alone", "[\"\\uD800\"]", false),
    CHOICE("a low surrogate alone", "[\"\\uDC00\"]", false),
    CHOICE("two high surrogates", "[\"\\uD800\\uD800\"]", false),
    CHOICE("surrogates the wrong way round", "[\"\\uDC00\\uD800\"]", false),
    CHOICE("a high surrogate and a letter", "[\"\\uD800a\"]", false),
    CHOICE("a high surrogate and an escape", "[\"\\uD800\\n\"]", false),
    CHOICE("a surrogate in a name", "{\"\\uDFFF\":1}", false),
    CHOICE("a surrogate in UTF-8", "[\"\xED\xA0\x80\"]", false),
    CHOICE("an overlong solidus", "[\"\xC0\xAF\"]", false),
    CHOICE("an overlong NUL", "[\"\xC0\x80\"]", false),
    CHOICE("an overlong NUL in six bytes", "[\"\xFC\x80\x80\x80\x80\x80\"]", false),
    CHOICE("a code point beyond the last", "[\"\xF4\x90\x80\x80\"]", false),
    CHOICE("a byte that is never UTF-8", "[\"\xFF\"]", false),
    CHOICE("a continuation alone", "[\"\x80\"]", false),
    CHOICE("a sequence cut by the quote", "[\"\xE2\x82\"]", false),
    CHOICE("a sequence cut by the end", "[\"\xE2\x82", false),
    CHOICE("Latin-1", "[\"caf\xE9\"]", false),
    CHOICE("a byte order mark", "\xEF\xBB\xBF[1]", false),
    CHOICE("half a byte order mark", "\xEF\xBB[1]", false),
    CHOICE("UTF-16 with its mark", "\xFF\xFE[\x00]\x00", false),
    CHOICE("UTF-16 without a mark", "[\x00]\x00", false),
    CHOICE("the same name twice", "{\"a\":1,\"a\":2}", false),
    CHOICE("the same name and value twice", "{\"a\":1,\"a\":1}", false),
    CHOICE("the same name, once escaped", "{\"a\":1,\"\\u0061\":2}", false),
    CHOICE("a name with NUL in it", "{\"a\\u0000b\":1}", false),
    CHOICE("33 levels", "[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]", false),
    CHOICE("33 levels of both kinds",
           "{\"a\":{\"a\":{\"a\":{\"a\":{\"a\":{\"a\":{\"a\":{\"a\":{\"a\":{\"a\":{\"a\":{\"a\":{\"a\":"
           "{\"a\":{\"a\":{\"a\":[[[[[[[[[[[[[[[[[1]]]]]]]]]]]]]]]]]}}}}}}}}}}}}}}}}", false),
};

static void where_parsers_may_choose_the_choice_is_fixed(void **state) {
    (void)state;
    for (size_t i = 0; i < COUNT(choices); i++) check_all(&choices[i].e, 1, choices[i].accepted);
}

/* ── Bounds ─────────────────────────────────────────────────────────────────────────────────────────────────── */

/* The unit again and again, over n bytes. */
static char *repeat(const char *unit, size_t n) {
    char *text = malloc(n);
    assert_non_null(text);
    for (size_t i = 0, unit_bytes = strlen(unit); i < n; i++) text[i] = unit[i % unit_bytes];
    return text;
}

/* Depth is found by one pass before anything recurses, so ten million brackets cost neither stack nor memory. */
static void any_depth_is_refused_without_recursion(void **state) {
    (void)state;
    static const struct {
        const char *unit;
        size_t n, offset;
    } deep[] = {{"[", 10000000, 32}, {"{\"a\":", 500000, 160}, {"[{\"a\":", 600000, 96}, {" [\n", 300000, 97}};
    for (size_t i = 0; i < COUNT(deep); i++) {
        char *text = repeat(deep[i].unit, deep[i].n);
        size_t offset = 0;
        pillion_error err = {0};
        assert_int_equal(parse(text, deep[i].n, &offset, &err), PILLION_E_FORMAT);
        assert_error(err, PILLION_E_FORMAT, "nested deeper than 32 levels");
        assert_int_equal(offset, deep[i].offset);
        free(text);
    }
    char *closing = repeat("]", 1000000);
    pillion_error err = {0};
    assert_int_equal(parse(closing, 1000000, NULL, &err), PILLION_E_FORMAT);
    free(closing);
}

static void values_beyond_a_limit_are_refused_before_they_are_built(void **state) {
    (void)state;
    static const char *const units[] = {"0,", "[],", "\"\",", "\"a\":"};
    for (size_t i = 0; i < COUNT(units); i++) {
        const size_t n = 3000000;
        char *text = repeat(units[i], n);
        pil_json *root;
        pillion_error err = {0};
        assert_int_equal(pil_json_parse_limited(&root, text, n, 65536, NULL, &err), PILLION_E_LIMIT);
        assert_null(root);
        free(text);
    }
}

static void a_long_name_and_a_long_string_stay_whole(void **state) {
    (void)state;
    const size_t n = (size_t)1 << 20;
    char *text = repeat("n", 2 * n);
    memcpy(text, "{\"", 2);
    memcpy(text + n, "\":\"", 3);
    memcpy(text + 2 * n - 2, "\"}", 2);
    pil_json *root;
    pillion_error err = {0};
    size_t name_bytes, bytes;
    assert_ok(pil_json_parse(&root, text, 2 * n, NULL, &err), err);
    void *it = pil_json_first(root);
    pil_json_key(it, &name_bytes);
    pil_json_string(pil_json_value(it), &bytes);
    assert_int_equal(name_bytes, n - 2);
    assert_int_equal(bytes, n - 5);
    pil_json_free(root);
    free(text);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_everybody_must_take_is_taken),
        cmocka_unit_test(what_nobody_may_take_is_refused_with_an_offset),
        cmocka_unit_test(every_beginning_of_a_document_is_refused),
        cmocka_unit_test(where_parsers_may_choose_the_choice_is_fixed),
        cmocka_unit_test(any_depth_is_refused_without_recursion),
        cmocka_unit_test(values_beyond_a_limit_are_refused_before_they_are_built),
        cmocka_unit_test(a_long_name_and_a_long_string_stay_whole),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
