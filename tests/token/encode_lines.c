/* encode_lines.c - a filter that encodes (or decodes) many texts with one tokenizer.json, for differential.py.
 *
 *     encode_lines TOKENIZER.json [--max N] [--plain] [--decode] < requests > answers
 *
 * A request is a u32 length and that many bytes of text; the answer is an i32 status, a u32 count and that many i32
 * ids. With --decode a request is a u32 count and that many i32 ids, the answer an i32 status, a u32 length and the
 * text. --plain leaves the special ids out. All integers are of the machine's byte order. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/file.h"
#include "base/limits.h"
#include "token/token.h"

typedef struct options {
    size_t max_tokens;
    bool plain, decode;
} options;

static int write_answer(pillion_status status, const void *data, size_t n, size_t element_bytes) {
    int head[2] = {status, status ? 0 : (int)n};
    return fwrite(head, sizeof head, 1, stdout) == 1 && (status || fwrite(data, element_bytes, n, stdout) == n);
}

static int serve(const pil_tokenizer *t, pil_token_scratch *s, const options *opt) {
    unsigned n;
    pil_buf in, out;
    pil_buf_init(&in, 64 * PIL_MIB);
    pil_buf_init(&out, 64 * PIL_MIB);
    int ok = 1;
    while (ok && fread(&n, sizeof n, 1, stdin) == 1) {
        size_t bytes = opt->decode ? n * sizeof(int32_t) : n;
        pil_buf_clear(&in);
        pil_buf_clear(&out);
        char *p = pil_buf_reserve(&in, bytes ? bytes : 1);
        if (!p || fread(p, 1, bytes, stdin) != bytes) return 0;
        if (opt->decode) {
            pillion_status st = pil_tokenizer_decode(t, (const int32_t *)(void *)p, n, opt->plain, &out, NULL);
            ok = write_answer(st, out.bytes, out.len, 1);
        } else {
            pil_tokens tokens;
            pillion_status st = pil_tokenizer_encode(t, s, p, n, opt->max_tokens, !opt->plain, &tokens, NULL);
            ok = write_answer(st, tokens.ids, tokens.n, sizeof *tokens.ids);
        }
    }
    pil_buf_deinit(&in);
    pil_buf_deinit(&out);
    return ok;
}

int main(int argc, char **argv) {
    options opt = {0};
    for (int i = 2; i < argc; i++) {
        if (!strcmp(argv[i], "--max") && i + 1 < argc) opt.max_tokens = strtoul(argv[++i], NULL, 10);
        else if (!strcmp(argv[i], "--plain")) opt.plain = true;
        else if (!strcmp(argv[i], "--decode")) opt.decode = true;
        else argc = 0;
    }
    if (argc < 2) {
        fprintf(stderr, "usage: encode_lines TOKENIZER.json [--max N] [--plain] [--decode]\n");
        return 2;
    }
    pillion_error err = {0};
    char *json = NULL;
    size_t json_bytes = 0;
    pil_buf blob;
    pil_buf_init(&blob, PIL_GIB);
    pillion_status st = pil_file_read(&json, &json_bytes, argv[1], PIL_LIMIT_JSON_FILE, &err);
    if (!st) st = pil_tokenizer_compile(&blob, json, json_bytes, &err);
    free(json);
    size_t room = (blob.len + 63) & ~(size_t)63;
    char *aligned = st ? NULL : aligned_alloc(64, room);
    if (aligned) memcpy(aligned, blob.bytes, blob.len);
    pil_tokenizer *t = NULL;
    if (aligned) st = pil_tokenizer_open(&t, aligned, blob.len, &err);
    pil_token_scratch *s = t ? pil_token_scratch_create(t) : NULL;
    int ok = s && serve(t, s, &opt);
    if (st) fprintf(stderr, "encode_lines: %s: %s\n", argv[1], err.text);
    pil_token_scratch_destroy(s);
    pil_tokenizer_close(t);
    free(aligned);
    pil_buf_deinit(&blob);
    return ok ? 0 : 1;
}
