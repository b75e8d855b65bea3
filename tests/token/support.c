/* support.c - see support.h. */
#include "support.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/file.h"
#include "base/limits.h"

static fixture open_json(const char *json, size_t n) {
    fixture b = {0};
    pillion_error err = {0};
    pil_buf blob;
    pil_buf_init(&blob, PIL_GIB);
    assert_ok(pil_tokenizer_compile(&blob, json, n, &err), err);
    b.blob = aligned_alloc(64, (blob.len + 63) & ~(size_t)63);
    assert_non_null(b.blob);
    memcpy(b.blob, blob.bytes, blob.len);
    b.blob_bytes = blob.len;
    pil_buf_deinit(&blob);
    assert_ok(pil_tokenizer_open(&b.t, b.blob, b.blob_bytes, &err), err);
    b.s = pil_token_scratch_create(b.t);
    assert_non_null(b.s);
    return b;
}

/* A copy with real quotes. */
static char *quoted(const char *json) {
    char *copy = strdup(json);
    assert_non_null(copy);
    for (char *p = copy; *p; p++)
        if (*p == '`') *p = '"';
    return copy;
}

fixture fixture_open(const char *json) {
    char *copy = quoted(json);
    fixture f = open_json(copy, strlen(copy));
    free(copy);
    return f;
}

fixture fixture_open_exact(const char *json) { return open_json(json, strlen(json)); }

fixture fixture_open_file(const char *path) {
    char *json;
    size_t n;
    pillion_error err = {0};
    assert_ok(pil_file_read(&json, &n, path, PIL_LIMIT_JSON_FILE, &err), err);
    fixture b = open_json(json, n);
    free(json);
    return b;
}

void fixture_close(fixture *b) {
    pil_token_scratch_destroy(b->s);
    pil_tokenizer_close(b->t);
    free(b->blob);
    *b = (fixture){0};
}

pillion_error fixture_refused(const char *json) {
    pillion_error err = {0};
    pil_buf blob;
    pil_buf_init(&blob, PIL_GIB);
    char *copy = quoted(json);
    pillion_status st = pil_tokenizer_compile(&blob, copy, strlen(copy), &err);
    free(copy);
    pil_buf_deinit(&blob);
    assert_int_equal(st, err.code);
    assert_int_not_equal(st, PILLION_OK);
    return err;
}

static void print_ids(pil_buf *out, const int32_t *ids, size_t n) {
    for (size_t i = 0; i < n; i++) pil_buf_printf(out, " %d", ids[i]);
}

void assert_ids(const fixture *b, const char *text, size_t n, const int32_t *ids) {
    pillion_error err = {0};
    pil_tokens got;
    assert_ok(pil_tokenizer_encode(b->t, b->s, text, n, 0, false, &got, &err), err);
    size_t wanted = 0;
    while (ids[wanted] >= 0) wanted++;
    if (got.n == wanted && (wanted == 0 || !memcmp(got.ids, ids, wanted * sizeof *ids))) return;
    pil_buf message;
    pil_buf_init(&message, PIL_MIB);
    pil_buf_printf(&message, "\"%.60s\" gives", text);
    print_ids(&message, got.ids, got.n);
    pil_buf_puts(&message, ", wanted");
    print_ids(&message, ids, wanted);
    fail_msg("%s", pil_buf_cstr(&message));
}

const char *model_tokenizer(const char *model) {
    static char path[4096];
    const char *models = getenv("PILLION_MODELS");
    snprintf(path, sizeof path, "%s/%s/tokenizer.json", models ? models : ".models", model);
    if (pil_file_exists(path)) return path;
    print_message("skipped: no %s\n", path);
    return NULL;
}

static const char *or_null(const char *json) { return json ? json : "null"; }

static char *join(pil_buf *b) {
    pil_buf_cstr(b);
    return pil_buf_steal(b);
}

char *wordpiece_json(const char *const *words, const char *normalizer, const char *pretokenizer, const char *added) {
    pil_buf b;
    pil_buf_init(&b, PIL_MIB);
    pil_buf_printf(&b, "{`version`:`1.0`,`added_tokens`:%s,`normalizer`:%s,`pre_tokenizer`:%s,",
                   added ? added : "[]", or_null(normalizer), or_null(pretokenizer));
    pil_buf_puts(&b, "`post_processor`:{`type`:`BertProcessing`,`sep`:[`[SEP]`,2],`cls`:[`[CLS]`,1]},"
                     "`decoder`:{`type`:`WordPiece`,`prefix`:`##`,`cleanup`:true},"
                     "`model`:{`type`:`WordPiece`,`unk_token`:`[UNK]`,`continuing_subword_prefix`:`##`,"
                     "`max_input_chars_per_word`:20,`vocab`:{`[UNK]`:0,`[CLS]`:1,`[SEP]`:2");
    for (int id = 3; *words; words++, id++) pil_buf_printf(&b, ",`%s`:%d", *words, id);
    pil_buf_puts(&b, "}}}");
    return join(&b);
}

char *unigram_json(const char *vocab, const char *normalizer, const char *pretokenizer, const char *decoder,
                   const char *added) {
    pil_buf b;
    pil_buf_init(&b, PIL_MIB);
    pil_buf_printf(&b, "{`version`:`1.0`,`added_tokens`:%s,`normalizer`:%s,`pre_tokenizer`:%s,",
                   added ? added : "[]", or_null(normalizer), or_null(pretokenizer));
    pil_buf_printf(&b, "`post_processor`:null,`decoder`:%s,", or_null(decoder));
    pil_buf_printf(&b, "`model`:{`type`:`Unigram`,`unk_id`:0,`vocab`:[%s]}}", vocab);
    return join(&b);
}

char *bytes_json(const char *normalizer, const char *pretokenizer, const char *added) {
    pil_buf b;
    pil_buf_init(&b, PIL_MIB);
    pil_buf_printf(&b, "{`added_tokens`:%s,`normalizer`:%s,`pre_tokenizer`:%s,", added ? added : "[]",
                   or_null(normalizer), or_null(pretokenizer));
    pil_buf_puts(&b, "`decoder`:{`type`:`Sequence`,`decoders`:[{`type`:`ByteFallback`},{`type`:`Fuse`}]},"
                     "`model`:{`type`:`Unigram`,`unk_id`:0,`byte_fallback`:true,`vocab`:[[`<unk>`,0]");
    for (int byte = 0; byte < 256; byte++) pil_buf_printf(&b, ",[`<0x%02X>`,-1]", byte);
    pil_buf_puts(&b, "]}}");
    return join(&b);
}

void assert_becomes(const char *normalizer, const char *pretokenizer, const char *text, const char *wanted) {
    char *json = bytes_json(normalizer, pretokenizer, NULL);
    fixture f = fixture_open(json);
    pillion_error err = {0};
    pil_tokens got;
    assert_ok(pil_tokenizer_encode(f.t, f.s, text, strlen(text), 0, false, &got, &err), err);
    pil_buf b;
    pil_buf_init(&b, PIL_MIB);
    for (size_t i = 0; i < got.n; i++) pil_buf_putc(&b, (char)(got.ids[i] - 1));
    assert_string_equal(pil_buf_cstr(&b), wanted);
    pil_buf_deinit(&b);
    fixture_close(&f);
    free(json);
}
