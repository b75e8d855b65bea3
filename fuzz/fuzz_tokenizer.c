/* fuzz_tokenizer.c - any text through fixed tokenizers.
 *
 * The first byte chooses the tokenizer, the second the limit of tokens; the rest is the text. Looks for crashes, reads
 * beyond the text (it lies in a block of its exact size), ids out of range, and a second run that differs from the
 * first, which found its words in the cache. */
#include <stdlib.h>
#include <string.h>

#include "base/limits.h"
#include "fuzz_tokenizers.h"

static void check(bool holds) {
    if (!holds) __builtin_trap();
}

static void encode(const fuzz_tokenizer *f, const char *text, size_t n, size_t max_tokens) {
    pil_tokens tokens;
    pillion_error err = {0};
    pillion_status st = pil_tokenizer_encode(f->t, f->s, text, n, max_tokens, true, &tokens, &err);
    check(st == PILLION_OK || st == PILLION_E_UTF8 || st == PILLION_E_ARG);
    if (st == PILLION_E_UTF8) check(tokens.error_offset < n);
    if (st) return;
    check(tokens.n <= tokens.n_all && (max_tokens == 0 || tokens.n <= max_tokens));
    for (size_t i = 0; i < tokens.n; i++)
        check(tokens.ids[i] >= 0 && (uint32_t)tokens.ids[i] < pil_tokenizer_vocab(f->t));
    int32_t *copy = malloc(tokens.n * sizeof *copy + 1);
    if (!copy) return;
    memcpy(copy, tokens.ids, tokens.n * sizeof *copy);
    size_t count = tokens.n;
    check(pil_tokenizer_encode(f->t, f->s, text, n, max_tokens, true, &tokens, NULL) == PILLION_OK);
    check(tokens.n == count && !memcmp(copy, tokens.ids, count * sizeof *copy));
    pil_buf out;
    pil_buf_init(&out, 64 * PIL_MIB);
    check(pil_tokenizer_decode(f->t, copy, count, false, &out, &err) == PILLION_OK);
    pil_buf_deinit(&out);
    free(copy);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static fuzz_tokenizer all[FUZZ_TOKENIZERS];
    if (!all[0].t)
        for (size_t i = 0; i < FUZZ_TOKENIZERS; i++) check(fuzz_tokenizer_open(&all[i], i));
    if (size < 2) return 0;
    char *text = malloc(size - 2 ? size - 2 : 1);
    if (!text) return 0;
    memcpy(text, data + 2, size - 2);
    encode(&all[data[0] % FUZZ_TOKENIZERS], text, size - 2, data[1] % 40);
    free(text);
    return 0;
}
