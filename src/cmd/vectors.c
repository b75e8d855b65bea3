/* vectors.c - vectors in the formats that `pillion embed` writes.
 *
 * Numbers in text are written with as many digits as bring back the same float. The .npy header has a fixed length and
 * is written twice: once to hold its place, and at the end with the number of vectors.
 * Source: NumPy's format, version 1.0 (numpy.lib.format). Tests: tests/cmd/test_formats.py. */
#include "cmd/vectors.h"

#include <assert.h>
#include <errno.h>
#include <string.h>
#include <strings.h>

#include "base/err.h"
#include "base/json.h"
#include "base/limits.h"

#define PUSH_BYTES PIL_MIB /* text is handed to stdio in pieces of about this size */
#define BUF_BYTES (64 * PIL_MIB) /* one vector of the widest model is far below */
#define NPY_HEADER_BYTES 128

const char *const pil_vectors_formats[] = {"auto", "jsonl", "json", "csv", "npy", "f32", NULL};

pil_vectors_format pil_vectors_format_of(const char *path) {
    static const struct {
        const char *ending;
        pil_vectors_format format;
    } endings[] = {
        {".jsonl", PIL_VECTORS_JSONL}, {".ndjson", PIL_VECTORS_JSONL}, {".json", PIL_VECTORS_JSON},
        {".csv", PIL_VECTORS_CSV},     {".npy", PIL_VECTORS_NPY},      {".f32", PIL_VECTORS_F32},
        {".bin", PIL_VECTORS_F32},
    };
    const char *dot = path ? strrchr(path, '.') : NULL;
    for (size_t i = 0; dot && i < sizeof endings / sizeof *endings; i++)
        if (strcasecmp(dot, endings[i].ending) == 0) return endings[i].format;
    return PIL_VECTORS_JSONL;
}

bool pil_vectors_is_whole(pil_vectors_format f) { return f == PIL_VECTORS_JSON || f == PIL_VECTORS_NPY; }

bool pil_vectors_is_binary(pil_vectors_format f) { return f == PIL_VECTORS_NPY || f == PIL_VECTORS_F32; }

/* Hands the buffer to stdio. */
static pillion_status push(pil_vectors *v, pillion_error *err) {
    if (v->buf.failed) return pil_err_no_memory(err);
    size_t n = v->buf.len, written = n ? fwrite(v->buf.bytes, 1, n, v->out->f) : 0;
    pil_buf_clear(&v->buf);
    if (written == n) return PILLION_OK;
    return pil_err_set(err, PILLION_E_IO, "%s: cannot write: %s", v->out->name, strerror(errno));
}

/* Magic, version, length, then a Python literal filled with spaces up to a line feed. */
static void put_npy_header(pil_vectors *v) {
    const char order = __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__ ? '<' : '>';
    char text[NPY_HEADER_BYTES - 10 + 1];
    int n = snprintf(text, sizeof text, "{'descr': '%cf4', 'fortran_order': False, 'shape': (%llu, %u), }", order,
                     (unsigned long long)v->n, v->dim);
    assert(n > 0 && (size_t)n < sizeof text - 1);
    memset(text + n, ' ', sizeof text - 1 - (size_t)n);
    text[sizeof text - 2] = '\n';
    const char head[10] = {'\x93', 'N', 'U', 'M', 'P', 'Y', 1, 0, NPY_HEADER_BYTES - 10, 0};
    pil_buf_append(&v->buf, head, sizeof head);
    pil_buf_append(&v->buf, text, sizeof text - 1);
}

static void put_json_item(pil_vectors *v, const pillion_item *item, const char *id) {
    pil_buf_printf(&v->buf, "{\"index\":%llu", (unsigned long long)v->n);
    if (id) pil_buf_printf(&v->buf, ",\"id\":%s", id);
    pil_buf_puts(&v->buf, ",\"embedding\":");
    pil_json_put_f32_array(&v->buf, item->values, item->n_values);
    pil_buf_printf(&v->buf, ",\"tokens\":%u,\"truncated\":%s}", item->n_tokens, item->truncated ? "true" : "false");
}

static void put_csv_item(pil_vectors *v, const pillion_item *item) {
    pil_buf_printf(&v->buf, "%llu,%u,%s", (unsigned long long)v->n, item->n_tokens, item->truncated ? "true" : "false");
    for (size_t i = 0; i < item->n_values; i++) {
        pil_buf_putc(&v->buf, ',');
        pil_json_put_f32(&v->buf, item->values[i]);
    }
    pil_buf_putc(&v->buf, '\n');
}

static void put_item(pil_vectors *v, const pillion_item *item, const char *id) {
    switch (v->format) {
    case PIL_VECTORS_AUTO: assert(!"decided by the caller"); break;
    case PIL_VECTORS_JSONL:
        put_json_item(v, item, id);
        pil_buf_putc(&v->buf, '\n');
        break;
    case PIL_VECTORS_JSON:
        if (v->n) pil_buf_puts(&v->buf, ",\n");
        put_json_item(v, item, id);
        break;
    case PIL_VECTORS_CSV: put_csv_item(v, item); break;
    case PIL_VECTORS_NPY:
    case PIL_VECTORS_F32: pil_buf_append(&v->buf, item->values, item->n_values * sizeof *item->values); break;
    }
    v->n++;
}

pillion_status pil_vectors_begin(pil_vectors *v, pil_output *out, pil_vectors_format format, uint32_t dim,
                                 const pil_texts *texts, pillion_error *err) {
    *v = (pil_vectors){.out = out, .format = format, .dim = dim, .texts = texts};
    pil_buf_init(&v->buf, BUF_BYTES);
    if (format == PIL_VECTORS_JSON) pil_buf_putc(&v->buf, '[');
    if (format == PIL_VECTORS_NPY) put_npy_header(v);
    if (format == PIL_VECTORS_CSV) {
        pil_buf_puts(&v->buf, "index,tokens,truncated");
        for (uint32_t i = 0; i < dim; i++) pil_buf_printf(&v->buf, ",v%u", i);
        pil_buf_putc(&v->buf, '\n');
    }
    return push(v, err);
}

pillion_status pil_vectors_add(pil_vectors *v, const pillion_item *items, size_t n, pillion_error *err) {
    for (size_t i = 0; i < n; i++) {
        assert(!items[i].status && items[i].n_values == v->dim);
        put_item(v, &items[i], pil_texts_id(v->texts, i));
        pillion_status st = v->buf.len >= PUSH_BYTES ? push(v, err) : PILLION_OK;
        if (st) return st;
    }
    pillion_status st = push(v, err);
    return st ? st : pil_output_flush(v->out, err);
}

pillion_status pil_vectors_end(pil_vectors *v, pillion_error *err) {
    if (v->format == PIL_VECTORS_JSON) pil_buf_puts(&v->buf, "]\n");
    if (v->format == PIL_VECTORS_NPY) {
        if (fseeko(v->out->f, 0, SEEK_SET) != 0)
            return pil_err_set(err, PILLION_E_IO, "%s: cannot write: %s", v->out->name, strerror(errno));
        put_npy_header(v);
    }
    return push(v, err);
}

void pil_vectors_deinit(pil_vectors *v) { pil_buf_deinit(&v->buf); }
