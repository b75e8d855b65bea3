/* tokenizer.c - our tokenizer as a process that encodes a set of lines whenever it is told to.
 *
 *   tokenizer TOKENIZER.json LINES
 *
 * Prints {"open_us":…,"blob_bytes":…} once the tokenizer is open; then, for each line "run" on stdin, encodes
 * all lines with special tokens on this one thread and prints {"s":SECONDS,"ids":COUNT}; tokenizer.py drives it in
 * turns with the tokenizers package. The opening that is timed is that of a compiled tokenizer whose pages are in
 * memory. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/buf.h"
#include "base/file.h"
#include "base/limits.h"
#include "token/token.h"

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

/* Encodes every line of the text; the number of ids. */
static size_t encode_lines(const pil_tokenizer *t, pil_token_scratch *s, const char *text, size_t n) {
    size_t ids = 0;
    for (const char *line = text, *end; line < text + n; line = end + 1) {
        end = memchr(line, '\n', (size_t)(text + n - line));
        if (!end) end = text + n;
        pil_tokens tokens;
        if (!pil_tokenizer_encode(t, s, line, (size_t)(end - line), 0, true, &tokens, NULL)) ids += tokens.n;
    }
    return ids;
}

static pillion_status compile(pil_buf *blob, const char *path, pillion_error *err) {
    char *json;
    size_t n;
    pillion_status st = pil_file_read(&json, &n, path, PIL_LIMIT_JSON_FILE, err);
    if (st) return st;
    st = pil_tokenizer_compile(blob, json, n, err);
    free(json);
    return st;
}

int main(int argc, char **argv) {
    pillion_error err = {0};
    pil_buf blob;
    pil_buf_init(&blob, PIL_GIB);
    char *text;
    size_t n;
    if (argc != 3 || compile(&blob, argv[1], &err) || pil_file_read(&text, &n, argv[2], PIL_GIB, &err)) {
        fprintf(stderr, "tokenizer: %s\n", argc == 3 ? err.text : "usage: tokenizer TOKENIZER.json LINES");
        return 2;
    }
    char *aligned = aligned_alloc(64, blob.len);
    if (!aligned) return 1;
    memcpy(aligned, blob.bytes, blob.len);
    double best_open = 1;
    pil_tokenizer *t = NULL;
    for (int i = 0; i < 20; i++) {
        pil_tokenizer_close(t);
        double started = now();
        if (pil_tokenizer_open(&t, aligned, blob.len, &err)) return 1;
        double took = now() - started;
        if (took < best_open) best_open = took;
    }
    printf("{\"open_us\":%.1f,\"blob_bytes\":%zu}\n", best_open * 1e6, blob.len);
    fflush(stdout);
    pil_token_scratch *s = pil_token_scratch_create(t);
    char command[16];
    while (s && fgets(command, sizeof command, stdin) && !strcmp(command, "run\n")) {
        double started = now();
        size_t ids = encode_lines(t, s, text, n);
        printf("{\"s\":%.6f,\"ids\":%zu}\n", now() - started, ids);
        fflush(stdout);
    }
    pil_token_scratch_destroy(s);
    pil_tokenizer_close(t);
    free(aligned);
    free(text);
    pil_buf_deinit(&blob);
    return 0;
}
