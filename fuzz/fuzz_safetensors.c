/* fuzz_safetensors.c - any bytes as a safetensors file: it is refused with a reason, or its tensors cover the data
 * exactly and every byte of them can be read. */
#include <stdlib.h>
#include <string.h>

#include "weights/safetensors.h"

static void check(int holds) {
    if (!holds) __builtin_trap();
}

static void read_all(const pil_tensor *t) {
    float values[16];
    for (uint64_t at = 0; at < t->count;) {
        size_t n = t->count - at < 16 ? (size_t)(t->count - at) : 16;
        if (pil_tensor_read_f32(t, at, n, values, NULL)) return; /* not a type of numbers */
        at += n;
    }
}

static void use(const pil_safetensors *s, const unsigned char *file, size_t size) {
    size_t n, at, total = pil_safetensors_count(s);
    check(pil_safetensors_bytes(s, &n, &at) == file && n == size && at <= size);
    for (size_t i = 0; i < total; i++) {
        const pil_tensor *t = pil_safetensors_at(s, i);
        check(t->data == file + at && t->bytes <= size - at);
        check(t->n_dims <= PIL_TENSOR_DIMS && t->dtype < PIL_DTYPE_COUNT);
        if (pil_dtype_bytes(t->dtype)) check(t->bytes == t->count * pil_dtype_bytes(t->dtype));
        check(pil_safetensors_find(s, t->name) == t);
        read_all(t);
        at += t->bytes;
    }
    check(at == size);
    pil_safetensors_metadata(s, "format");
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    unsigned char *exact = malloc(size ? size : 1);
    if (!exact) return 0;
    if (size) memcpy(exact, data, size);
    pil_safetensors *s;
    pillion_error err = {0};
    pillion_status st = pil_safetensors_open_memory(&s, exact, size, &err);
    check(st == err.code && (st == PILLION_OK) == (s != NULL));
    if (st) check(err.text[0] != '\0');
    else use(s, exact, size);
    pil_safetensors_close(s);
    free(exact);
    return 0;
}
