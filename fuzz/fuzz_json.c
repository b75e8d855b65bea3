/* fuzz_json.c - any bytes as a JSON document: it is refused with an offset inside, or every value can be walked, and
 * what is written of it reads back as the same. */
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "base/limits.h"

static void check(bool holds) {
    if (!holds) __builtin_trap();
}

/* Counts values, asking each for what it is not as well. */
static size_t walk(const pil_json *v, unsigned depth) {
    size_t n = 0, count = 1;
    check(depth <= PIL_LIMIT_JSON_DEPTH);
    const char *s = pil_json_string(v, &n);
    check(!s || strlen(s) <= n);
    pil_json_int_or(v, 0);
    pil_json_real_or(v, 0);
    pil_json_bool_or(v, false);
    for (void *it = pil_json_first(v); it; it = pil_json_next(v, it)) {
        check(pil_json_get(v, pil_json_key(it, NULL)) == pil_json_value(it));
        count += walk(pil_json_value(it), depth + 1);
    }
    if (pil_json_typeof(v) == PIL_JSON_ARRAY)
        for (size_t i = 0; i < pil_json_count(v); i++) count += walk(pil_json_at(v, i), depth + 1);
    return count;
}

static void write_and_read_back(const pil_json *v) {
    pil_buf once, twice;
    pil_json *back;
    pil_buf_init(&once, 64 * PIL_MIB);
    pil_buf_init(&twice, 64 * PIL_MIB);
    check(pil_json_put(&once, v) == PILLION_OK);
    check(pil_json_parse(&back, once.bytes, once.len, NULL, NULL) == PILLION_OK);
    check(walk(back, 0) == walk(v, 0));
    check(pil_json_put(&twice, back) == PILLION_OK);
    check(once.len == twice.len && memcmp(once.bytes, twice.bytes, once.len) == 0);
    pil_json_free(back);
    pil_buf_deinit(&once);
    pil_buf_deinit(&twice);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    char *exact = malloc(size ? size : 1);
    if (!exact) return 0;
    if (size) memcpy(exact, data, size);
    pil_json *v;
    size_t offset = size;
    pillion_error err = {0};
    pillion_status st = pil_json_parse(&v, exact, size, &offset, &err);
    check(st == err.code && (st == PILLION_OK) == (v != NULL));
    if (st) check(offset <= size && err.text[0]);
    else write_and_read_back(v);
    pil_json_free(v);
    free(exact);
    return 0;
}
