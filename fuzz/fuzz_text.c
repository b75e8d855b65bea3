/* fuzz_text.c - any bytes as text: UTF-8 against a second decoder that is written by the table of RFC 3629, errors that
 * quote it, white space squeezed, and chunks.
 *
 * The first three bytes choose size, overlap and number of chunks; the rest is the text. */
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/json.h"
#include "base/limits.h"
#include "base/utf8.h"
#include "extract/extract.h"

static void check(bool holds) {
    if (!holds) __builtin_trap();
}

/* Section 4 of RFC 3629: the length of the sequence at s, 0 when there is none. */
static size_t sequence(const unsigned char *s, size_t n) {
    static const struct {
        unsigned char first_low, first_high, second_low, second_high;
        size_t bytes;
    } rows[] = {{0x00, 0x7F, 0, 0, 1},       {0xC2, 0xDF, 0x80, 0xBF, 2}, {0xE0, 0xE0, 0xA0, 0xBF, 3},
                {0xE1, 0xEC, 0x80, 0xBF, 3}, {0xED, 0xED, 0x80, 0x9F, 3}, {0xEE, 0xEF, 0x80, 0xBF, 3},
                {0xF0, 0xF0, 0x90, 0xBF, 4}, {0xF1, 0xF3, 0x80, 0xBF, 4}, {0xF4, 0xF4, 0x80, 0x8F, 4}};
    for (size_t r = 0; r < sizeof rows / sizeof *rows; r++) {
        if (s[0] < rows[r].first_low || s[0] > rows[r].first_high) continue;
        if (n < rows[r].bytes) return 0;
        if (rows[r].bytes > 1 && (s[1] < rows[r].second_low || s[1] > rows[r].second_high)) return 0;
        for (size_t i = 2; i < rows[r].bytes; i++)
            if (s[i] < 0x80 || s[i] > 0xBF) return 0;
        return rows[r].bytes;
    }
    return 0;
}

/* The length of the valid beginning; every code point of it is encoded again. *points becomes their number. */
static size_t check_utf8(const char *s, size_t n, size_t *points) {
    size_t at = 0;
    *points = 0;
    for (size_t bytes; at < n && (bytes = sequence((const unsigned char *)s + at, n - at)) > 0; at += bytes) {
        uint32_t c;
        char again[4];
        check(pil_utf8_decode(s + at, &c) == bytes && c <= 0x10FFFF);
        check(pil_utf8_encode(c, again) == bytes && memcmp(again, s + at, bytes) == 0);
        ++*points;
    }
    check(pil_utf8_valid(s, n) == at);
    return at;
}

static void check_error(const char *s, size_t n) {
    pillion_error err = {0};
    pil_err_set(&err, PILLION_E_FORMAT, "%.*s", (int)n, s);
    size_t bytes = strlen(err.text);
    check(bytes < sizeof err.text && pil_utf8_valid(err.text, bytes) == bytes);
    for (size_t i = 0; i < bytes; i++) check((unsigned char)err.text[i] >= 0x20 && err.text[i] != 0x7F);
}

static void check_squash(const char *s, size_t n) {
    char *once, *twice;
    size_t once_bytes, twice_bytes, points;
    check(pil_chunk_squash(&once, &once_bytes, s, n, NULL) == PILLION_OK);
    check(once_bytes <= n && once[once_bytes] == '\0');
    check(check_utf8(once, once_bytes, &points) == once_bytes);
    check(once_bytes == 0 || (once[0] != ' ' && once[once_bytes - 1] != ' '));
    check(memmem(once, once_bytes, "  ", 2) == NULL && memchr(once, '\n', once_bytes) == NULL);
    check(pil_chunk_squash(&twice, &twice_bytes, once, once_bytes, NULL) == PILLION_OK);
    check(twice_bytes == once_bytes && memcmp(once, twice, once_bytes) == 0);
    free(once);
    free(twice);
}

static void check_chunks(const char *s, size_t n, size_t size, size_t overlap, size_t max_chunks) {
    pil_chunk *chunks;
    size_t n_chunks, points, valid = check_utf8(s, n, &points);
    pillion_status st = pil_chunk_split(&chunks, &n_chunks, s, n, size, overlap, max_chunks, NULL);
    check(st == (size == 0 || max_chunks == 0 ? PILLION_E_ARG : valid < n ? PILLION_E_UTF8 : PILLION_OK));
    if (st) return;
    check(n_chunks <= max_chunks && (n_chunks > 0) == (n > 0));
    for (size_t i = 0; i < n_chunks; i++) {
        check(chunks[i].bytes > 0 && chunks[i].offset <= n && chunks[i].bytes <= n - chunks[i].offset);
        check(check_utf8(s + chunks[i].offset, chunks[i].bytes, &points) == chunks[i].bytes && points <= size);
        check(i == 0 ? chunks[i].offset == 0 : chunks[i].offset > chunks[i - 1].offset);
    }
    check(n_chunks == 0 || n_chunks == max_chunks || chunks[n_chunks - 1].offset + chunks[n_chunks - 1].bytes == n);
    free(chunks);
}

static void check_json(const char *s, size_t n) {
    pil_buf b;
    pil_json *root;
    size_t bytes;
    pil_buf_init(&b, 64 * PIL_MIB);
    check(pil_json_put_string(&b, s, n) == PILLION_OK);
    check(pil_json_parse(&root, b.bytes, b.len, NULL, NULL) == PILLION_OK);
    const char *back = pil_json_string(root, &bytes);
    check(bytes == n && memcmp(back, s, n) == 0);
    pil_json_free(root);
    pil_buf_deinit(&b);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (size < 3) return 0;
    size_t n = size - 3, points;
    char *text = malloc(n ? n : 1); /* of exactly its size */
    check(text != NULL);
    if (n) memcpy(text, data + 3, n);
    size_t valid = check_utf8(text, n, &points);
    check_error(text, n);
    check_squash(text, n);
    check_chunks(text, n, data[0] % 40, data[1] % 40, data[2]);
    check_json(text, valid);
    free(text);
    return 0;
}
