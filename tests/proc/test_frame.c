/* test_frame.c - every frame survives the way there and back, and no damaged one is believed or reads too far. */
#include "support/test.h"

#include <math.h>
#include <stdlib.h>

#include "base/limits.h"
#include "proc/frame.h"

typedef struct world {
    pil_buf out;
    pil_arena arena;
} world;

static int setup(void **state) {
    world *w = calloc(1, sizeof *w);
    pil_buf_init(&w->out, 64 * PIL_MIB);
    pil_arena_init(&w->arena, 64 * PIL_MIB);
    *state = w;
    return 0;
}

static int teardown(void **state) {
    world *w = *state;
    pil_buf_deinit(&w->out);
    pil_arena_deinit(&w->arena);
    free(w);
    return 0;
}

/* A copy of the payload in a block of exactly its size, so that a sanitizer sees a byte read too far. */
static void *payload(const world *w, size_t *n, pil_frame_type type) {
    pil_frame_header h;
    pillion_error err = {0};
    assert_ok(pil_frame_get_header(&h, w->out.bytes, PIL_LIMIT_FRAME_BYTES, &err), err);
    assert_int_equal(h.type, type);
    assert_int_equal(h.payload_bytes, w->out.len - PIL_FRAME_HEADER_BYTES);
    *n = h.payload_bytes;
    void *copy = malloc(*n);
    memcpy(copy, w->out.bytes + PIL_FRAME_HEADER_BYTES, *n);
    return copy;
}

static void put_request(world *w) {
    static const int32_t ids[] = {101, 7592, 102};
    pillion_run_options opt;
    pillion_run_options_init(&opt);
    opt.normalize = PILLION_NORMALIZE_MODEL;
    opt.truncate = PILLION_TRUNCATE_ERROR;
    opt.prompt_name = "query";
    const pillion_input inputs[] = {
        {.text = "hello\0there", .text_bytes = 11}, {.text = "", .text_bytes = 0}, {.ids = ids, .n_ids = 3}};
    size_t mark;
    pil_frame_begin(&w->out, PIL_FRAME_REQUEST, 77, &mark);
    pil_frame_put_request(&w->out, PILLION_OP_EMBED, &opt, 3);
    for (size_t i = 0; i < 3; i++) pil_frame_put_input(&w->out, 0xfffffff0u + (uint32_t)i, &inputs[i]);
    assert_int_equal(pil_frame_end(&w->out, mark), PILLION_OK);
}

static void a_request_arrives_as_it_was_sent(void **state) {
    world *w = *state;
    put_request(w);
    size_t n;
    void *p = payload(w, &n, PIL_FRAME_REQUEST);
    pil_frame_request r;
    pillion_error err = {0};
    assert_ok(pil_frame_get_request(&r, &w->arena, p, n, &err), err);
    assert_int_equal(r.op, PILLION_OP_EMBED);
    assert_int_equal(r.options.normalize, PILLION_NORMALIZE_MODEL);
    assert_int_equal(r.options.truncate, PILLION_TRUNCATE_ERROR);
    assert_string_equal(r.options.prompt_name, "query");
    assert_int_equal(r.n, 3);
    for (size_t i = 0; i < 3; i++) assert_true(r.tags[i] == 0xfffffff0u + i);
    assert_int_equal(r.inputs[0].text_bytes, 11);
    assert_memory_equal(r.inputs[0].text, "hello\0there", 11);
    assert_non_null(r.inputs[1].text);
    assert_int_equal(r.inputs[1].text_bytes, 0);
    assert_null(r.inputs[2].text);
    assert_int_equal(r.inputs[2].n_ids, 3);
    assert_int_equal(r.inputs[2].ids[1], 7592);
    free(p);
}

static void no_prompt_and_the_empty_prompt_differ(void **state) {
    world *w = *state;
    for (int i = 0; i < 2; i++) {
        pil_buf_clear(&w->out);
        pillion_run_options opt;
        pillion_run_options_init(&opt);
        opt.prompt_name = i ? "" : NULL;
        size_t mark, n;
        pil_frame_begin(&w->out, PIL_FRAME_REQUEST, 1, &mark);
        pil_frame_put_request(&w->out, PILLION_OP_TOKENIZE, &opt, 1);
        pil_frame_put_input(&w->out, 0, &(pillion_input){.text = "x", .text_bytes = 1});
        pil_frame_end(&w->out, mark);
        void *p = payload(w, &n, PIL_FRAME_REQUEST);
        pil_frame_request r;
        pillion_error err = {0};
        assert_ok(pil_frame_get_request(&r, &w->arena, p, n, &err), err);
        if (i) assert_string_equal(r.options.prompt_name, "");
        else assert_null(r.options.prompt_name);
        free(p);
    }
}

static const uint32_t tags[2] = {0x12345678, 7};
static const float values[4] = {0.5f, -0.25f, 1e-30f, 3.4e38f};
static const int32_t ids[2] = {0, 5};
static const char *const tokens[2] = {"[CLS]", "▁the"};

static pillion_status reply(world *w, pil_frame_reply *r, pillion_op op, const pillion_item *items, size_t n,
                            pillion_error *err) {
    pil_buf_clear(&w->out);
    size_t bytes;
    assert_int_equal(pil_frame_put_reply(&w->out, 9, PILLION_OK, items, tags, n), PILLION_OK);
    void *p = payload(w, &bytes, PIL_FRAME_REPLY);
    /* what is borrowed from the payload must outlive it here */
    void *kept = pil_arena_alloc(&w->arena, bytes);
    memcpy(kept, p, bytes);
    free(p);
    const pil_frame_expect expect = {.op = op, .n = n, .tags = tags, .dim = 4, .hidden = 2};
    return pil_frame_get_reply(r, &w->arena, &expect, kept, bytes, err);
}

static void replies_of_every_operation_arrive(void **state) {
    world *w = *state;
    pil_frame_reply r;
    pillion_error err = {0};
    pillion_item embed[2] = {{.n_tokens = 3, .n_tokens_all = 5, .truncated = 1, .values = values, .n_values = 4},
                             {.status = PILLION_E_UTF8, .error_offset = 12345678901}};
    assert_ok(reply(w, &r, PILLION_OP_EMBED, embed, 2, &err), err);
    assert_int_equal(r.items[0].truncated, 1);
    assert_int_equal(r.items[0].n_tokens_all, 5);
    assert_memory_equal(r.items[0].values, values, sizeof values);
    assert_int_equal(r.items[1].status, PILLION_E_UTF8);
    assert_true(r.items[1].error_offset == 12345678901);
    assert_null(r.items[1].values);
    pillion_item each = {.n_tokens = 2, .n_tokens_all = 2, .values = values, .n_values = 4, .ids = ids};
    assert_ok(reply(w, &r, PILLION_OP_EMBED_TOKENS, &each, 1, &err), err);
    assert_int_equal(r.items[0].ids[1], 5);
    pillion_item tokenized = {.n_tokens = 2, .n_tokens_all = 2, .ids = ids, .tokens = tokens};
    assert_ok(reply(w, &r, PILLION_OP_TOKENIZE, &tokenized, 1, &err), err);
    assert_string_equal(r.items[0].tokens[1], "▁the");
    pillion_item decoded = {.text = "a\0b", .text_bytes = 3};
    assert_ok(reply(w, &r, PILLION_OP_DECODE, &decoded, 1, &err), err);
    assert_memory_equal(r.items[0].text, "a\0b", 4);
}

/* The library leaves what it had so far in an item that failed; of that nothing may reach the other side. */
static void an_item_that_failed_arrives_as_its_status_alone(void **state) {
    world *w = *state;
    for (int op = PILLION_OP_EMBED; op <= PILLION_OP_DECODE; op++) {
        pil_frame_reply r;
        pillion_error err = {0};
        pillion_item it = {.status = PILLION_E_ARG, .n_tokens = 2, .n_tokens_all = 2, .values = values, .n_values = 4,
                           .ids = ids, .tokens = tokens, .text = "x", .text_bytes = 1};
        assert_ok(reply(w, &r, (pillion_op)op, &it, 1, &err), err);
        assert_int_equal(r.items[0].status, PILLION_E_ARG);
        assert_true(!r.items[0].values && !r.items[0].ids && !r.items[0].tokens && !r.items[0].text);
    }
}

static void a_reply_must_fit_what_was_asked(void **state) {
    world *w = *state;
    pil_frame_reply r;
    pillion_item it = {.n_tokens = 2, .n_tokens_all = 2, .values = values, .n_values = 4};
    const pillion_item good = it;
#define REFUSED(op, change)                                                                     \
    do {                                                                                        \
        pillion_error err = {0};                                                                \
        it = good;                                                                              \
        change;                                                                                 \
        assert_int_equal(reply(w, &r, op, &it, 1, &err), PILLION_E_FORMAT);                     \
        assert_non_null(strstr(err.text, "frame: bad "));                                       \
    } while (0)
    REFUSED(PILLION_OP_EMBED, it.n_values = 3);
    REFUSED(PILLION_OP_EMBED, it.n_values = 0);
    REFUSED(PILLION_OP_EMBED, it.ids = ids);
    REFUSED(PILLION_OP_EMBED, it.n_tokens = 3);
    REFUSED(PILLION_OP_EMBED, it.truncated = 2);
    REFUSED(PILLION_OP_EMBED, it.text = "x");
    REFUSED(PILLION_OP_EMBED, it.status = (pillion_status)5);
    REFUSED(PILLION_OP_EMBED, it.status = (pillion_status)-99);
    REFUSED(PILLION_OP_EMBED_TOKENS, it.n_values = 4); /* ids are missing */
    REFUSED(PILLION_OP_TOKENIZE, it.n_values = 0);
    REFUSED(PILLION_OP_DECODE, it.n_values = 0);
    REFUSED(PILLION_OP_DECODE, (it.n_values = 0, it.text = "\xff", it.text_bytes = 1));
#undef REFUSED
}

/* Items in another order, of other texts, one twice, or one too few: whatever it is, it is no answer to this. */
static void an_item_must_carry_the_tag_of_its_input(void **state) {
    world *w = *state;
    const uint32_t told[][2] = {{7, 0x12345678}, {0x12345678, 0x12345678}, {0, 7}, {0x12345678, 8}};
    const pillion_item items[2] = {{.n_tokens = 2, .n_tokens_all = 2, .values = values, .n_values = 4},
                                   {.status = PILLION_E_UTF8}};
    const pil_frame_expect expect = {.op = PILLION_OP_EMBED, .n = 2, .tags = tags, .dim = 4, .hidden = 2};
    for (size_t i = 0; i < sizeof told / sizeof *told; i++) {
        size_t n;
        pil_frame_reply r;
        pillion_error err = {0};
        pil_buf_clear(&w->out);
        assert_int_equal(pil_frame_put_reply(&w->out, 9, PILLION_OK, items, told[i], 2), PILLION_OK);
        void *p = payload(w, &n, PIL_FRAME_REPLY);
        assert_int_equal(pil_frame_get_reply(&r, &w->arena, &expect, p, n, &err), PILLION_E_FORMAT);
        assert_error(err, PILLION_E_FORMAT, "tag of item");
        free(p);
    }
}

static void a_vector_that_is_not_finite_never_leaves(void **state) {
    world *w = *state;
    const float rubbish[3][4] = {{1, NAN, 0, 0}, {1, 0, INFINITY, 0}, {0, -0.0f, 0, 0}};
    for (int i = 0; i < 3; i++) {
        pil_frame_reply r;
        pillion_error err = {0};
        pillion_item it = {.n_tokens = 2, .n_tokens_all = 2, .values = rubbish[i], .n_values = 4};
        assert_ok(reply(w, &r, PILLION_OP_EMBED, &it, 1, &err), err);
        assert_int_equal(r.items[0].status, PILLION_E_NUMERIC);
        assert_null(r.items[0].values);
    }
}

static void ready_and_failed_arrive(void **state) {
    world *w = *state;
    pillion_info info = {.dim = 384, .hidden = 384, .max_tokens = 256};
    float canary[384] = {0.5f};
    pil_frame_put_ready(&w->out, &info, "{}", 2, "full", canary);
    size_t n;
    void *p = payload(w, &n, PIL_FRAME_READY);
    pil_frame_ready ready;
    pillion_error err = {0};
    assert_ok(pil_frame_get_ready(&ready, p, n, &err), err);
    assert_int_equal(ready.dim, 384);
    assert_int_equal(ready.max_tokens, 256);
    assert_memory_equal(ready.json, "{}", 2);
    assert_int_equal(ready.sandbox_bytes, 4);
    assert_memory_equal(ready.canary, canary, sizeof canary);
    free(p);
    pil_buf_clear(&w->out);
    canary[383] = NAN;
    pil_frame_put_ready(&w->out, &info, "{}", 2, "full", canary);
    p = payload(w, &n, PIL_FRAME_READY);
    assert_int_equal(pil_frame_get_ready(&ready, p, n, &err), PILLION_E_FORMAT);
    assert_error(err, PILLION_E_FORMAT, "frame: bad canary");
    free(p);
    pil_buf_clear(&w->out);
    pillion_error why = {.code = PILLION_E_FORMAT, .text = "x.safetensors: damaged\n\x1b[0m"}, got = {0};
    pil_frame_put_failed(&w->out, &why);
    p = payload(w, &n, PIL_FRAME_FAILED);
    assert_ok(pil_frame_get_failed(&got, p, n, &err), err);
    assert_error(got, PILLION_E_FORMAT, "x.safetensors: damaged?");
    free(p);
}

static void wrong_headers_are_refused(void **state) {
    world *w = *state;
    put_request(w);
    static const struct {
        size_t at;
        unsigned char value;
        const char *field;
    } cases[] = {{3, 0x7f, "length"}, {4, 1, "version"}, {6, 0, "type"}, {6, 9, "type"}, {7, 1, "type"}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        unsigned char header[PIL_FRAME_HEADER_BYTES];
        memcpy(header, w->out.bytes, sizeof header);
        header[cases[i].at] = cases[i].value;
        pil_frame_header h;
        pillion_error err = {0};
        assert_int_equal(pil_frame_get_header(&h, header, PIL_MIB, &err), PILLION_E_FORMAT);
        assert_error(err, PILLION_E_FORMAT, cases[i].field);
    }
}

/* Every shorter payload and every single byte changed: refused or well-formed, never a crash or a wild pointer. */
static void damage_is_survived(void **state) {
    world *w = *state;
    pillion_item items[2] = {{.n_tokens = 2, .n_tokens_all = 2, .values = values, .n_values = 4, .ids = ids},
                             {.status = PILLION_E_TOO_LONG}};
    pil_frame_expect expect = {.op = PILLION_OP_EMBED_TOKENS, .n = 2, .tags = tags, .dim = 4, .hidden = 2};
    for (int kind = 0; kind < 2; kind++) {
        pil_buf_clear(&w->out);
        if (kind) assert_int_equal(pil_frame_put_reply(&w->out, 1, PILLION_OK, items, tags, 2), PILLION_OK);
        else put_request(w);
        size_t n;
        unsigned char *p = payload(w, &n, kind ? PIL_FRAME_REPLY : PIL_FRAME_REQUEST);
        for (size_t cut = 0; cut < n; cut++) {
            unsigned char *shorter = malloc(cut ? cut : 1);
            memcpy(shorter, p, cut);
            pil_frame_reply r;
            pil_frame_request q;
            pillion_status st = kind ? pil_frame_get_reply(&r, &w->arena, &expect, shorter, cut, NULL)
                                     : pil_frame_get_request(&q, &w->arena, shorter, cut, NULL);
            if (n - cut > 3) assert_int_equal(st, PILLION_E_FORMAT); /* the last bytes are padding */
            free(shorter);
            pil_arena_reset(&w->arena);
        }
        for (size_t at = 0; at < n; at++) {
            for (unsigned flip = 1; flip < 256; flip += 6) {
                p[at] ^= (unsigned char)flip;
                pil_frame_reply r;
                pil_frame_request q;
                pillion_status st = kind ? pil_frame_get_reply(&r, &w->arena, &expect, p, n, NULL)
                                         : pil_frame_get_request(&q, &w->arena, p, n, NULL);
                assert_true(st == PILLION_OK || st == PILLION_E_FORMAT);
                p[at] ^= (unsigned char)flip;
                pil_arena_reset(&w->arena);
            }
        }
        free(p);
    }
}

int main(void) {
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        T(a_request_arrives_as_it_was_sent),
        T(no_prompt_and_the_empty_prompt_differ),
        T(replies_of_every_operation_arrive),
        T(an_item_that_failed_arrives_as_its_status_alone),
        T(a_reply_must_fit_what_was_asked),
        T(an_item_must_carry_the_tag_of_its_input),
        T(a_vector_that_is_not_finite_never_leaves),
        T(ready_and_failed_arrive),
        T(wrong_headers_are_refused),
        T(damage_is_survived),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
