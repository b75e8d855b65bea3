/* safetensors.h - one safetensors file as read-only named tensors, and writing one. Knows bytes, not models.
 * Source: the safetensors format description (8-byte little-endian header size, JSON header, data). */
#ifndef PIL_WEIGHTS_SAFETENSORS_H
#define PIL_WEIGHTS_SAFETENSORS_H

#include <stddef.h>
#include <stdint.h>

#include "pillion/pillion.h"

typedef enum pil_dtype {
    PIL_DTYPE_F32,
    PIL_DTYPE_F16,
    PIL_DTYPE_BF16,
    PIL_DTYPE_F64,
    PIL_DTYPE_I64,
    PIL_DTYPE_I32,
    PIL_DTYPE_I8,
    PIL_DTYPE_U8,
    PIL_DTYPE_BOOL,
    PIL_DTYPE_OTHER, /* valid in the format, not used here; only its size is checked */
    PIL_DTYPE_COUNT,
} pil_dtype;

const char *pil_dtype_name(pil_dtype t); /* "F32", … */
size_t pil_dtype_bytes(pil_dtype t);     /* 0 for OTHER */

#define PIL_TENSOR_DIMS 8

typedef struct pil_tensor {
    const char *name; /* borrowed from the file */
    pil_dtype dtype;
    uint32_t n_dims;
    uint64_t dims[PIL_TENSOR_DIMS];
    const void *data; /* borrowed; not necessarily aligned in files that others wrote */
    size_t bytes;
    uint64_t count; /* elements */
} pil_tensor;

typedef struct pil_safetensors pil_safetensors;

/* Maps the file and checks every offset: after this no tensor points outside the map. E_NOT_FOUND, E_IO, E_FORMAT,
 * E_NOMEM. out is given (close), NULL on failure. */
pillion_status pil_safetensors_open(pil_safetensors **out, const char *path, pillion_error *err);
/* The same over memory that stays the caller's until close. */
pillion_status pil_safetensors_open_memory(pil_safetensors **out, const void *bytes, size_t n, pillion_error *err);
void pil_safetensors_close(pil_safetensors *s); /* accepts NULL */

size_t pil_safetensors_count(const pil_safetensors *s);
const pil_tensor *pil_safetensors_at(const pil_safetensors *s, size_t i); /* in order of offset */
const pil_tensor *pil_safetensors_find(const pil_safetensors *s, const char *name); /* NULL when absent; O(log n) */
const char *pil_safetensors_metadata(const pil_safetensors *s, const char *key);    /* NULL when absent */
/* The whole file and, inside it, the header (size field included): [0, data_offset) is header. */
const void *pil_safetensors_bytes(const pil_safetensors *s, size_t *n, size_t *data_offset);

/* Writing. Tensors are declared first (the header needs all shapes), then their data follow in the same order. Data
 * starts at a multiple of 4096, every tensor at a multiple of 64: where a tensor's bytes are not a multiple of 64 a pad
 * tensor "__pad.N" (U8) follows, so the file stays valid for any reader. The file appears only on commit. */
typedef struct pil_safetensors_writer pil_safetensors_writer;
pillion_status pil_safetensors_writer_create(pil_safetensors_writer **out, const char *path, pillion_error *err);
pillion_status pil_safetensors_writer_metadata(pil_safetensors_writer *w, const char *key, const char *value,
                                               pillion_error *err); /* copied */
pillion_status pil_safetensors_writer_declare(pil_safetensors_writer *w, const char *name, pil_dtype dtype,
                                              uint32_t n_dims, const uint64_t *dims, pillion_error *err);
/* Appends to the current tensor's data; a tensor may be written in parts and the next begins when it is full.
 * The header is written before the first data: neither metadata nor declare may follow, with one exception: a metadata
 * value that was declared with the final length may be replaced by pil_safetensors_writer_patch. */
pillion_status pil_safetensors_writer_data(pil_safetensors_writer *w, const void *bytes, size_t n, pillion_error *err);
/* Replaces the value of a metadata key by one of the same length (digests are known only after the data). */
pillion_status pil_safetensors_writer_patch(pil_safetensors_writer *w, const char *key, const char *value,
                                            pillion_error *err);
/* Hex SHA-256 over all data written so far (pads included), for example right before commit. */
pillion_status pil_safetensors_writer_digest(pil_safetensors_writer *w, char out[65], pillion_error *err);
pillion_status pil_safetensors_writer_commit(pil_safetensors_writer *w, pillion_error *err); /* frees w, always */
void pil_safetensors_writer_abort(pil_safetensors_writer *w); /* frees w; accepts NULL */

#endif
