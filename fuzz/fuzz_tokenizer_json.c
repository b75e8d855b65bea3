/* fuzz_tokenizer_json.c - hostile tokenizers: any JSON compiled, opened and used; damaged blobs opened and used.
 *
 * The first byte chooses: JSON text; a good blob with bytes overwritten, each by a record of a 4-byte offset and a
 * value; or a blob that is the input itself. Whatever opens must encode and decode without a crash and with ids in
 * range. */
#include <stdlib.h>
#include <string.h>

#include "base/limits.h"
#include "fuzz_tokenizers.h"

static const char *const texts[] = {
    "",
    "a ab,aaa  A\xC3\xA9\xE4\xB8\xAD\xE4\xB8\xAD <s> e\xCC\x81 1.2!",
    "\xE2\x96\x81" "aa\xEF\xBC\x9C\xF0\x9F\x91\xA8\xE2\x80\x8D\xF0\x9F\x91\xA9\xEA\xB0\x81\xE1\x84\x80\xE1\x85\xA1 "
    "\xC2\xA0x",
    "\xCC\x83\xF0\x9D\x85\xA5 \xE0\xA4\x95\xE0\xA5\x8D\xE0\xA4\xB7 [UNK] [CLS] the running unaffable, don't!",
};

static void use(const pil_tokenizer *t) {
    pil_token_scratch *s = pil_token_scratch_create(t);
    pil_buf out;
    pil_buf_init(&out, 16 * PIL_MIB);
    for (size_t i = 0; s && i < sizeof texts / sizeof *texts; i++) {
        pil_tokens tokens;
        if (pil_tokenizer_encode(t, s, texts[i], strlen(texts[i]), 0, true, &tokens, NULL)) continue;
        for (size_t k = 0; k < tokens.n; k++) {
            size_t n;
            if (tokens.ids[k] < 0 || (uint32_t)tokens.ids[k] >= pil_tokenizer_vocab(t)) __builtin_trap();
            pil_tokenizer_spelling(t, tokens.ids[k], &n);
        }
        pil_buf_clear(&out);
        if (pil_tokenizer_decode(t, tokens.ids, tokens.n, i & 1, &out, NULL)) continue;
    }
    pil_buf_deinit(&out);
    pil_token_scratch_destroy(s);
}

static void open_and_use(const void *blob, size_t n) {
    char *copy = aligned_alloc(64, (n + 63) & ~(size_t)63); /* the guard behind is at most 63 bytes away */
    pil_tokenizer *t;
    if (!copy) return;
    memcpy(copy, blob, n);
    if (!pil_tokenizer_open(&t, copy, n, NULL)) use(t);
    pil_tokenizer_close(t);
    free(copy);
}

static void compile_and_use(const char *json, size_t n) {
    pil_buf blob;
    pil_buf_init(&blob, 64 * PIL_MIB);
    if (!pil_tokenizer_compile(&blob, json, n, NULL)) open_and_use(blob.bytes, blob.len);
    pil_buf_deinit(&blob);
}

static void damage_and_use(const fuzz_tokenizer *good, const uint8_t *data, size_t size) {
    char *blob = malloc(good->blob_bytes);
    if (!blob) return;
    memcpy(blob, good->blob, good->blob_bytes);
    for (; size >= 5; data += 5, size -= 5) {
        uint32_t offset;
        memcpy(&offset, data, sizeof offset);
        blob[offset % good->blob_bytes] = (char)data[4];
    }
    open_and_use(blob, good->blob_bytes);
    free(blob);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static fuzz_tokenizer all[FUZZ_TOKENIZERS];
    if (!all[0].t)
        for (size_t i = 0; i < FUZZ_TOKENIZERS; i++)
            if (!fuzz_tokenizer_open(&all[i], i)) __builtin_trap();
    if (size < 1) return 0;
    uint8_t kind = data[0];
    data++, size--;
    if (kind < 2) open_and_use(data, size);
    else if (kind < 32) damage_and_use(&all[kind % FUZZ_TOKENIZERS], data, size);
    else compile_and_use((const char *)data, size);
    return 0;
}
