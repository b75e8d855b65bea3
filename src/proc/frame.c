/* frame.c - the wire format between the server and a worker, written and read.
 *
 * Invariants: (1) nothing that was read is used before its length was compared with what is left (base/cursor.h).
 *             (2) counts are bounded by the bytes that must follow, before anything is allocated for them.
 *             (3) what pil_frame_get_reply() lets through is a well-formed answer to what was asked, item by item in
 *             its order, and its vectors are finite.
 * Both ends are one program on one machine, so floats travel as their bytes; little-endian is asserted.
 * Tests: tests/proc/test_frame.c. */
#include "proc/frame.h"

#include <assert.h>
#include <math.h>
#include <string.h>

#include "base/cursor.h"
#include "base/err.h"
#include "base/limits.h"
#include "base/utf8.h"

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__,
               "frames carry values in memory order, which is little-endian");

#define NONE UINT32_MAX /* length of an optional string that is absent */
#define INPUT_TEXT 0
#define INPUT_IDS 1
#define INPUT_BYTES_MIN 12 /* of one input and of one item, without their data */
#define ITEM_BYTES_MIN 44

/* ── Writing ────────────────────────────────────────────────────────────────────────────────────────────────── */

static void put_u8(pil_buf *b, unsigned v) { pil_buf_putc(b, (char)v); }
static void put_u16(pil_buf *b, unsigned v) { pil_buf_append(b, (uint16_t[]){(uint16_t)v}, 2); }
static void put_u32(pil_buf *b, uint32_t v) { pil_buf_append(b, &v, 4); }
static void put_u64(pil_buf *b, uint64_t v) { pil_buf_append(b, &v, 8); }

static void put_string(pil_buf *b, const char *s, size_t n) {
    if (n >= NONE) b->failed = b->failed ? b->failed : PILLION_E_LIMIT;
    put_u32(b, s ? (uint32_t)n : NONE);
    if (s) pil_buf_append(b, s, n);
}

/* A header is 16 bytes, so a payload's multiples of 4 are the buffer's, counted from the frame's beginning: frames in
 * one buffer are padded at their end. */
static void put_padding(pil_buf *b) {
    while (b->len % 4 && !b->failed) put_u8(b, 0);
}

pillion_status pil_frame_begin(pil_buf *out, pil_frame_type type, uint64_t id, size_t *mark) {
    assert(out->len % 4 == 0);
    *mark = out->len;
    put_u32(out, 0);
    put_u16(out, PIL_FRAME_VERSION);
    put_u16(out, type);
    put_u64(out, id);
    return out->failed;
}

pillion_status pil_frame_end(pil_buf *out, size_t mark) {
    put_padding(out);
    if (out->failed) return out->failed;
    size_t payload = out->len - mark - PIL_FRAME_HEADER_BYTES;
    if (payload > PIL_LIMIT_FRAME_BYTES) return out->failed = PILLION_E_LIMIT;
    memcpy(out->bytes + mark, &(uint32_t){(uint32_t)payload}, 4);
    return PILLION_OK;
}

pillion_status pil_frame_put_ready(pil_buf *out, const pillion_info *info, const char *json, size_t json_bytes,
                                   const char *sandbox, const float *canary) {
    size_t mark;
    pil_frame_begin(out, PIL_FRAME_READY, 0, &mark);
    put_u32(out, info->dim);
    put_u32(out, info->hidden);
    put_u32(out, info->max_tokens);
    put_string(out, json, json_bytes);
    put_string(out, sandbox, strlen(sandbox));
    put_padding(out);
    pil_buf_append(out, canary, info->dim * sizeof *canary);
    return pil_frame_end(out, mark);
}

pillion_status pil_frame_put_failed(pil_buf *out, const pillion_error *why) {
    size_t mark;
    pil_frame_begin(out, PIL_FRAME_FAILED, 0, &mark);
    put_u32(out, (uint32_t)why->code);
    put_string(out, why->text, strnlen(why->text, sizeof why->text));
    return pil_frame_end(out, mark);
}

pillion_status pil_frame_put_request(pil_buf *out, pillion_op op, const pillion_run_options *opt, size_t n) {
    put_u8(out, op);
    put_u8(out, opt->normalize);
    put_u8(out, opt->truncate);
    put_u8(out, opt->skip_special);
    put_string(out, opt->prompt_name, opt->prompt_name ? strlen(opt->prompt_name) : 0);
    put_u32(out, (uint32_t)n);
    return out->failed;
}

pillion_status pil_frame_put_input(pil_buf *out, uint32_t tag, const pillion_input *in) {
    put_u32(out, tag);
    put_u32(out, in->text ? INPUT_TEXT : INPUT_IDS);
    if (in->text) {
        put_string(out, in->text, in->text_bytes);
    } else {
        put_u32(out, (uint32_t)in->n_ids);
        put_padding(out);
        pil_buf_append(out, in->ids, in->n_ids * sizeof *in->ids);
    }
    return out->failed;
}

/* An item that failed travels as its status and counts alone. */
static void put_item(pil_buf *out, uint32_t tag, const pillion_item *item) {
    const pillion_item failed = {.status = item->status, .truncated = item->truncated, .n_tokens = item->n_tokens,
                                 .n_tokens_all = item->n_tokens_all, .error_offset = item->error_offset};
    const pillion_item *it = item->status ? &failed : item;
    size_t n_ids = it->ids ? it->n_tokens : 0, n_strings = it->tokens ? it->n_tokens : 0;
    put_u32(out, tag);
    put_u32(out, (uint32_t)it->status);
    put_u32(out, it->truncated);
    put_u32(out, it->n_tokens);
    put_u32(out, it->n_tokens_all);
    put_u64(out, it->error_offset);
    put_u32(out, (uint32_t)it->n_values);
    put_u32(out, (uint32_t)n_ids);
    put_u32(out, (uint32_t)n_strings);
    put_string(out, it->text, it->text_bytes);
    put_padding(out);
    pil_buf_append(out, it->values, it->n_values * sizeof *it->values);
    pil_buf_append(out, it->ids, n_ids * sizeof *it->ids);
    for (size_t i = 0; i < n_strings; i++) put_string(out, it->tokens[i], strlen(it->tokens[i]));
}

pillion_status pil_frame_put_reply(pil_buf *out, uint64_t id, pillion_status status, const pillion_item *items,
                                   const uint32_t *tags, size_t n) {
    size_t mark;
    pil_frame_begin(out, PIL_FRAME_REPLY, id, &mark);
    put_u32(out, (uint32_t)status);
    put_u32(out, status ? 0 : (uint32_t)n);
    for (size_t i = 0; !status && i < n; i++) put_item(out, tags[i], &items[i]);
    return pil_frame_end(out, mark);
}

/* ── Reading ────────────────────────────────────────────────────────────────────────────────────────────────── */

static pillion_status bad(pillion_error *err, const char *field) {
    return pil_err_set(err, PILLION_E_FORMAT, "frame: bad %s", field);
}

static const char *get_string(pil_cursor *c, size_t *n, bool optional) {
    uint32_t bytes = pil_cursor_u32(c);
    *n = 0;
    if (bytes == NONE) {
        if (!optional) c->failed = true;
        return NULL;
    }
    const char *s = pil_cursor_take(c, bytes);
    if (s) *n = bytes;
    return s;
}

static void skip_padding(pil_cursor *c) {
    if (c->at % 4) pil_cursor_take(c, 4 - c->at % 4);
}

/* count values of 4 bytes in place, or NULL when there are none or too few bytes. */
static const void *get_array(pil_cursor *c, uint32_t count) {
    return count ? pil_cursor_take(c, (size_t)count * 4) : NULL;
}

/* A frame is padded to 4 bytes and holds nothing else. */
static bool at_end(const pil_cursor *c) { return !c->failed && c->len - c->at < 4; }

static bool is_status(int32_t v) { return v <= 0 && v >= PILLION_E_UNAVAILABLE; }

pillion_status pil_frame_get_header(pil_frame_header *out, const void *bytes, size_t payload_bytes_max,
                                    pillion_error *err) {
    pil_cursor c = pil_cursor_over(bytes, PIL_FRAME_HEADER_BYTES);
    uint32_t payload = pil_cursor_u32(&c);
    unsigned version = (unsigned)pil_cursor_uint(&c, 2), type = (unsigned)pil_cursor_uint(&c, 2);
    if (version != PIL_FRAME_VERSION) return bad(err, "version");
    if (type < PIL_FRAME_READY || type > PIL_FRAME_REPLY) return bad(err, "type");
    if (payload > payload_bytes_max || payload > PIL_LIMIT_FRAME_BYTES) return bad(err, "length");
    *out = (pil_frame_header){.payload_bytes = payload, .type = (pil_frame_type)type, .id = pil_cursor_u64(&c)};
    return PILLION_OK;
}

/* Finite, and not all zero: the sum of squares of finite floats cannot overflow a double. */
static bool is_vector(const float *v, size_t n) {
    double sum = 0;
    for (size_t i = 0; i < n; i++) sum += (double)v[i] * (double)v[i];
    return isfinite(sum) && sum > 0;
}

pillion_status pil_frame_get_ready(pil_frame_ready *out, const void *payload, size_t n, pillion_error *err) {
    pil_cursor c = pil_cursor_over(payload, n);
    out->dim = pil_cursor_u32(&c);
    out->hidden = pil_cursor_u32(&c);
    out->max_tokens = pil_cursor_u32(&c);
    out->json = get_string(&c, &out->json_bytes, false);
    out->sandbox = get_string(&c, &out->sandbox_bytes, false);
    skip_padding(&c);
    out->canary = get_array(&c, out->dim);
    if (!at_end(&c)) return bad(err, "length of ready");
    /* a pooled vector is at most every pooling mode side by side */
    if (out->dim == 0 || out->dim > 8 * PIL_LIMIT_HIDDEN) return bad(err, "dimension");
    if (out->hidden == 0 || out->hidden > PIL_LIMIT_HIDDEN) return bad(err, "hidden size");
    if (out->max_tokens == 0 || out->max_tokens > PIL_LIMIT_POSITIONS) return bad(err, "token limit");
    for (size_t i = 0; i < out->sandbox_bytes; i++)
        if (out->sandbox[i] < ' ' || out->sandbox[i] > '~' || out->sandbox[i] == '"' || out->sandbox[i] == '\\')
            return bad(err, "cage");
    return is_vector(out->canary, out->dim) ? PILLION_OK : bad(err, "canary");
}

pillion_status pil_frame_get_failed(pillion_error *why, const void *payload, size_t n, pillion_error *err) {
    pil_cursor c = pil_cursor_over(payload, n);
    int32_t status = (int32_t)pil_cursor_u32(&c);
    size_t text_bytes;
    const char *text = get_string(&c, &text_bytes, false);
    if (!at_end(&c)) return bad(err, "length of failure");
    if (!is_status(status) || status == PILLION_OK) return bad(err, "status");
    if (text_bytes > sizeof why->text) return bad(err, "text");
    *why = (pillion_error){0};
    pil_err_set(why, (pillion_status)status, "%.*s", (int)text_bytes, text);
    return PILLION_OK;
}

static pillion_status get_input(pillion_input *in, uint32_t *tag, pil_cursor *c, pillion_error *err) {
    *tag = pil_cursor_u32(c);
    uint32_t kind = pil_cursor_u32(c);
    *in = (pillion_input){0};
    if (kind == INPUT_TEXT) {
        in->text = get_string(c, &in->text_bytes, false);
    } else if (kind == INPUT_IDS) {
        uint32_t count = pil_cursor_u32(c);
        skip_padding(c);
        in->ids = get_array(c, count);
        in->n_ids = count;
    } else {
        return bad(err, "kind of input");
    }
    return c->failed ? bad(err, "length of input") : PILLION_OK;
}

pillion_status pil_frame_get_request(pil_frame_request *out, pil_arena *arena, const void *payload, size_t n,
                                     pillion_error *err) {
    pil_cursor c = pil_cursor_over(payload, n);
    unsigned op = pil_cursor_u8(&c), normalize = pil_cursor_u8(&c), truncate = pil_cursor_u8(&c),
             special = pil_cursor_u8(&c);
    size_t name_bytes;
    const char *name = get_string(&c, &name_bytes, true);
    uint32_t count = pil_cursor_u32(&c);
    if (c.failed) return bad(err, "length of request");
    if (op < PILLION_OP_EMBED || op > PILLION_OP_INFO) return bad(err, "operation");
    if (normalize > PILLION_NORMALIZE_MODEL || truncate > PILLION_TRUNCATE_NONE || special > 1)
        return bad(err, "option");
    if (count == 0 || count > (c.len - c.at) / INPUT_BYTES_MIN) return bad(err, "count of inputs");
    pillion_run_options_init(&out->options);
    out->op = (pillion_op)op;
    out->options.normalize = (pillion_normalize)normalize;
    out->options.truncate = (pillion_truncate)truncate;
    out->options.skip_special = special;
    out->n = count;
    pillion_input *inputs = pil_arena_calloc(arena, count, sizeof *inputs);
    uint32_t *tags = pil_arena_calloc(arena, count, sizeof *tags);
    char *name_copy = name ? pil_arena_strndup(arena, name, name_bytes) : NULL;
    if (!inputs || !tags || (name && !name_copy)) return pil_err_no_memory(err);
    out->options.prompt_name = name_copy;
    out->inputs = inputs;
    out->tags = tags;
    for (uint32_t i = 0; i < count; i++) {
        pillion_status st = get_input(&inputs[i], &tags[i], &c, err);
        if (st) return st;
    }
    return at_end(&c) ? PILLION_OK : bad(err, "length of request");
}

/* How many values and ids an item must have, given what was asked and how many tokens it claims. */
static bool counts_fit(const pil_frame_expect *expect, const pillion_item *it, uint32_t n_ids, uint32_t n_strings,
                       bool text) {
    uint64_t tokens = it->n_tokens;
    if (it->status) return it->n_values == 0 && n_ids == 0 && n_strings == 0 && !text;
    switch (expect->op) {
    case PILLION_OP_EMBED: return it->n_values == expect->dim && n_ids == 0 && n_strings == 0 && !text;
    case PILLION_OP_EMBED_TOKENS:
        return it->n_values == tokens * expect->hidden && n_ids == tokens && n_strings == 0 && !text;
    case PILLION_OP_TOKENIZE: return it->n_values == 0 && n_ids == tokens && n_strings == tokens && !text;
    case PILLION_OP_DECODE:
    case PILLION_OP_INFO: return it->n_values == 0 && n_ids == 0 && n_strings == 0 && text;
    }
    return false;
}

static pillion_status get_strings(pillion_item *it, pil_arena *arena, pil_cursor *c, uint32_t count,
                                  pillion_error *err) {
    const char **strings = pil_arena_calloc(arena, count, sizeof *strings);
    if (!strings) return pil_err_no_memory(err);
    for (uint32_t i = 0; i < count; i++) {
        size_t n;
        const char *s = get_string(c, &n, false);
        if (c->failed || pil_utf8_valid(s, n) != n) return bad(err, "token");
        strings[i] = pil_arena_strndup(arena, s, n);
        if (!strings[i]) return pil_err_no_memory(err);
    }
    it->tokens = strings;
    return PILLION_OK;
}

static pillion_status get_item(pillion_item *it, uint32_t tag, pil_arena *arena, const pil_frame_expect *expect,
                               pil_cursor *c, pillion_error *err) {
    if (pil_cursor_u32(c) != tag) return bad(err, "tag of item");
    int32_t status = (int32_t)pil_cursor_u32(c);
    if (!is_status(status)) return bad(err, "status of item");
    it->status = (pillion_status)status;
    it->truncated = pil_cursor_u32(c);
    it->n_tokens = pil_cursor_u32(c);
    it->n_tokens_all = pil_cursor_u32(c);
    it->error_offset = pil_cursor_u64(c);
    it->n_values = pil_cursor_u32(c);
    uint32_t n_ids = pil_cursor_u32(c), n_strings = pil_cursor_u32(c);
    const char *text = get_string(c, &it->text_bytes, true);
    skip_padding(c);
    if (c->failed) return bad(err, "length of item");
    if (it->truncated > 1 || it->n_tokens > it->n_tokens_all) return bad(err, "token count");
    if (!counts_fit(expect, it, n_ids, n_strings, text != NULL)) return bad(err, "size of item");
    it->values = get_array(c, (uint32_t)it->n_values);
    it->ids = get_array(c, n_ids);
    if (c->failed || n_strings > (c->len - c->at) / 4) return bad(err, "length of item");
    if (text) {
        if (pil_utf8_valid(text, it->text_bytes) != it->text_bytes) return bad(err, "text");
        it->text = pil_arena_strndup(arena, text, it->text_bytes);
        if (!it->text) return pil_err_no_memory(err);
    }
    if (it->values && !is_vector(it->values, it->n_values))
        *it = (pillion_item){.status = PILLION_E_NUMERIC, .n_tokens = it->n_tokens, .n_tokens_all = it->n_tokens_all};
    return n_strings ? get_strings(it, arena, c, n_strings, err) : PILLION_OK;
}

pillion_status pil_frame_get_reply(pil_frame_reply *out, pil_arena *arena, const pil_frame_expect *expect,
                                   const void *payload, size_t n, pillion_error *err) {
    assert((uintptr_t)payload % 4 == 0);
    pil_cursor c = pil_cursor_over(payload, n);
    int32_t status = (int32_t)pil_cursor_u32(&c);
    uint32_t count = pil_cursor_u32(&c);
    *out = (pil_frame_reply){0};
    if (c.failed) return bad(err, "length of reply");
    if (!is_status(status)) return bad(err, "status");
    if (count != (status ? 0 : expect->n)) return bad(err, "count of items");
    if (count > (c.len - c.at) / ITEM_BYTES_MIN) return bad(err, "length of reply");
    out->status = (pillion_status)status;
    if (count == 0) return at_end(&c) ? PILLION_OK : bad(err, "length of reply");
    out->items = pil_arena_calloc(arena, count, sizeof *out->items);
    if (!out->items) return pil_err_no_memory(err);
    for (uint32_t i = 0; i < count; i++) {
        pillion_status st = get_item(&out->items[i], expect->tags[i], arena, expect, &c, err);
        if (st) return st;
    }
    return at_end(&c) ? PILLION_OK : bad(err, "length of reply");
}
