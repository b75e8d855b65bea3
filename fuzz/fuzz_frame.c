/* fuzz_frame.c - any bytes as a frame between the server and a worker: refused, or what comes of it holds its promises.
 * The first byte chooses the kind of frame and what was asked for. */
#include <math.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "base/limits.h"
#include "base/utf8.h"
#include "proc/frame.h"

static void check(bool holds) {
    if (!holds) __builtin_trap();
}

static volatile unsigned char sink;

static void touch(const void *bytes, size_t n) {
    for (size_t i = 0; i < n; i++) sink ^= ((const unsigned char *)bytes)[i];
}

static void take_request(pil_arena *arena, const void *payload, size_t n) {
    pil_frame_request r;
    if (pil_frame_get_request(&r, arena, payload, n, NULL)) return;
    check(r.n >= 1 && r.op >= PILLION_OP_EMBED && r.op <= PILLION_OP_INFO);
    for (size_t i = 0; i < r.n; i++) {
        touch(&r.tags[i], sizeof r.tags[i]);
        if (r.inputs[i].text) touch(r.inputs[i].text, r.inputs[i].text_bytes);
        else if (r.inputs[i].n_ids) touch(r.inputs[i].ids, r.inputs[i].n_ids * sizeof(int32_t));
    }
}

static void take_reply(pil_arena *arena, unsigned kind, const void *payload, size_t n) {
    static const uint32_t tags[3] = {0, 1, 2};
    const pil_frame_expect expect = {.op = (pillion_op)(1 + kind % 5), .n = 1 + kind / 5 % 3, .tags = tags, .dim = 2,
                                     .hidden = 1};
    pil_frame_reply r;
    if (pil_frame_get_reply(&r, arena, &expect, payload, n, NULL)) return;
    check((r.status == PILLION_OK) == (r.items != NULL));
    for (size_t i = 0; r.items && i < expect.n; i++) {
        const pillion_item *it = &r.items[i];
        check(it->n_tokens <= it->n_tokens_all && it->truncated <= 1);
        if (expect.op == PILLION_OP_EMBED && !it->status) check(it->n_values == expect.dim && it->values);
        for (size_t v = 0; v < it->n_values; v++) check(isfinite(it->values[v]));
        for (size_t t = 0; it->ids && t < it->n_tokens; t++) touch(&it->ids[t], sizeof it->ids[t]);
        for (size_t t = 0; it->tokens && t < it->n_tokens; t++) touch(it->tokens[t], strlen(it->tokens[t]) + 1);
        if (it->text) check(pil_utf8_valid(it->text, it->text_bytes) == it->text_bytes && !it->text[it->text_bytes]);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (size == 0) return 0;
    unsigned kind = data[0];
    size_t n = size - 1;
    void *payload = malloc(n ? n : 1); /* exactly its size, and aligned as the server's is */
    pil_arena arena;
    pil_arena_init(&arena, 64 * PIL_MIB);
    check(payload != NULL);
    if (n) memcpy(payload, data + 1, n);
    switch (kind % 4) {
    case 0: take_request(&arena, payload, n); break;
    case 1: take_reply(&arena, kind / 4, payload, n); break;
    case 2: {
        pil_frame_ready ready;
        if (pil_frame_get_ready(&ready, payload, n, NULL)) break;
        check(ready.dim && ready.hidden && ready.max_tokens);
        touch(ready.json, ready.json_bytes);
        touch(ready.sandbox, ready.sandbox_bytes);
        touch(ready.canary, ready.dim * sizeof *ready.canary);
        break;
    }
    case 3: {
        pillion_error why;
        if (pil_frame_get_failed(&why, payload, n, NULL)) break;
        check(why.code < 0 && pil_utf8_valid(why.text, strlen(why.text)) == strlen(why.text));
        break;
    }
    }
    pil_frame_header header;
    if (n >= PIL_FRAME_HEADER_BYTES && !pil_frame_get_header(&header, payload, 1000, NULL))
        check(header.payload_bytes <= 1000 && header.type >= PIL_FRAME_READY && header.type <= PIL_FRAME_REPLY);
    pil_arena_deinit(&arena);
    free(payload);
    return 0;
}
