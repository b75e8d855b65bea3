/* test_golden.c - ids as the reference package gives them: fixed texts through real tokenizers and through each
 * component.
 *
 * The files come from tests/golden/make_tokens.py. Real tokenizers beyond minilm are skipped where they are not
 * fetched; components.jsonl needs nothing. */
#include <stdio.h>
#include <stdlib.h>

#include "base/file.h"
#include "base/json.h"
#include "base/limits.h"
#include "support.h"

typedef void (*record_fn)(const pil_json *record, void *ud);

/* Calls fn for each line of a file in tests/golden. */
static size_t each_record(const char *name, record_fn fn, void *ud) {
    char path[4096];
    snprintf(path, sizeof path, "%s/%s", PIL_TEST_GOLDEN, name);
    char *text;
    size_t n, count = 0;
    pillion_error err = {0};
    assert_ok(pil_file_read(&text, &n, path, 16 * PIL_MIB, &err), err);
    for (char *line = text, *end; line < text + n; line = end + 1, count++) {
        end = memchr(line, '\n', (size_t)(text + n - line));
        assert_non_null(end);
        pil_json *record;
        assert_ok(pil_json_parse(&record, line, (size_t)(end - line), NULL, &err), err);
        fn(record, ud);
        pil_json_free(record);
    }
    free(text);
    return count;
}

/* The text must give the ids, special ones included. */
static void check_ids(const fixture *f, const pil_json *text, const pil_json *ids, const char *where) {
    size_t n, wanted = pil_json_count(ids);
    const char *s = pil_json_string(text, &n);
    assert_non_null(s);
    pil_tokens got;
    pillion_error err = {0};
    assert_ok(pil_tokenizer_encode(f->t, f->s, s, n, 0, true, &got, &err), err);
    bool same = got.n == wanted && got.n_all == wanted;
    for (size_t i = 0; i < wanted && same; i++) same = got.ids[i] == pil_json_int_or(pil_json_at(ids, i), -1);
    if (!same) fail_msg("%s: other ids than the reference for \"%.80s\"", where, s);
}

static void check_line(const pil_json *record, void *ud) {
    check_ids(ud, pil_json_get(record, "text"), pil_json_get(record, "ids"), "model");
}

static void check_model(const char *model) {
    const char *path = model_tokenizer(model);
    if (!path) skip();
    char golden[64];
    snprintf(golden, sizeof golden, "tokens-%s.jsonl", model);
    fixture f = fixture_open_file(path);
    assert_true(each_record(golden, check_line, &f) > 300);
    fixture_close(&f);
}

static void minilm_gives_the_ids_of_the_reference(void **state) {
    (void)state;
    check_model("minilm");
}

static void mpnet_gives_the_ids_of_the_reference(void **state) {
    (void)state;
    check_model("mpnet");
}

static void xlm_roberta_in_its_newer_layout_gives_the_ids_of_the_reference(void **state) {
    (void)state;
    check_model("e5-multilingual");
}

static void xlm_roberta_in_its_first_layout_gives_the_ids_of_the_reference(void **state) {
    (void)state;
    check_model("xlmr-base");
}

/* "key":value, with null for a member that is not there */
static void put_member(pil_buf *b, const pil_json *record, const char *key) {
    pil_buf_printf(b, "\"%s\":", key);
    const pil_json *v = pil_json_get(record, key);
    if (v) pil_json_put(b, v);
    else pil_buf_puts(b, "null");
    pil_buf_putc(b, ',');
}

static void check_component(const pil_json *record, void *ud) {
    (void)ud;
    pil_buf b;
    pil_buf_init(&b, PIL_MIB);
    pil_buf_putc(&b, '{');
    put_member(&b, record, "normalizer");
    put_member(&b, record, "pre_tokenizer");
    put_member(&b, record, "added_tokens");
    pil_buf_puts(&b, "\"model\":");
    if (pil_json_get(record, "model")) {
        pil_json_put(&b, pil_json_get(record, "model"));
    } else {
        pil_buf_puts(&b, "{\"type\":\"Unigram\",\"unk_id\":0,\"byte_fallback\":true,\"vocab\":[[\"<unk>\",0]");
        for (int byte = 0; byte < 256; byte++) pil_buf_printf(&b, ",[\"<0x%02X>\",-1]", byte);
        pil_buf_puts(&b, "]}");
    }
    pil_buf_putc(&b, '}');
    fixture f = fixture_open_exact(pil_buf_cstr(&b));
    const pil_json *cases = pil_json_get(record, "cases");
    for (size_t i = 0; i < pil_json_count(cases); i++) {
        const pil_json *one = pil_json_at(cases, i);
        check_ids(&f, pil_json_at(one, 0), pil_json_at(one, 1), pil_json_string_or(pil_json_get(record, "name"), "?"));
    }
    fixture_close(&f);
    pil_buf_deinit(&b);
}

static void every_component_does_what_the_reference_does(void **state) {
    (void)state;
    assert_true(each_record("components.jsonl", check_component, NULL) > 70);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(minilm_gives_the_ids_of_the_reference),
        cmocka_unit_test(mpnet_gives_the_ids_of_the_reference),
        cmocka_unit_test(xlm_roberta_in_its_newer_layout_gives_the_ids_of_the_reference),
        cmocka_unit_test(xlm_roberta_in_its_first_layout_gives_the_ids_of_the_reference),
        cmocka_unit_test(every_component_does_what_the_reference_does),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
