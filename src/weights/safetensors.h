/* safetensors.h - one safetensors file as read-only named tensors, and writing one. Knows bytes, not models.
 * Source: the safetensors format description (8-byte little-endian header size, JSON header, data). */
#ifndef PIL_WEIGHTS_SAFETENSORS_H
#define PIL_WEIGHTS_SAFETENSORS_H

#include <stddef.h>
#include <stdint.h>

#include "base/file.h"
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

const char *pil_dtype_name(pil_dtype t); /* "F32", …; "OTHER" */
size_t pil_dtype_bytes(pil_dtype t);     /* of one element; 0 for OTHER */

#define PIL_TENSOR_DIMS 8
#define PIL_TENSOR_PAD "__pad." /* names of the pad tensors that the writer adds begin so */

typedef struct pil_tensor {
    const char *name; /* borrowed from the file */
    pil_dtype dtype;
    uint32_t n_dims;
    uint64_t dims[PIL_TENSOR_DIMS];
    const void *data; /* borrowed; not necessarily aligned in files of others; NULL if only the header was read */
    uint64_t offset;  /* of data in the file */
    size_t bytes;
    uint64_t count; /* elements */
} pil_tensor;

/* Reads the elements [first, first + count), which must exist and be in memory, of a F32, F16, BF16 or F64 tensor as
 * f32 into out. E_UNSUPPORTED for other types. */
pillion_status pil_tensor_read_f32(const pil_tensor *t, uint64_t first, size_t count, float *out, pillion_error *err);

/* ── Reading ────────────────────────────────────────────────────────────────────────────────────────────────── */

typedef struct pil_safetensors pil_safetensors;

/* Maps the file and checks every offset: after this no tensor points outside the map, none overlaps another and no byte
 * belongs to none. E_NOT_FOUND, E_IO, E_FORMAT, E_UNSUPPORTED (more than PIL_TENSOR_DIMS dimensions), E_LIMIT, E_NOMEM.
 * out is given (close), NULL on failure. */
pillion_status pil_safetensors_open(pil_safetensors **out, const char *path, pillion_error *err);
/* The same over memory that stays the caller's until close. */
pillion_status pil_safetensors_open_memory(pil_safetensors **out, const void *bytes, size_t n, pillion_error *err);
/* Reads and checks the header alone, through a reader that may be closed afterwards: no tensor has data, and a file
 * that becomes shorter is E_STALE instead of the end of the process. */
pillion_status pil_safetensors_open_header(pil_safetensors **out, const pil_file_reader *r, const char *path,
                                           pillion_error *err);
void pil_safetensors_close(pil_safetensors *s); /* accepts NULL */

size_t pil_safetensors_count(const pil_safetensors *s);
const pil_tensor *pil_safetensors_at(const pil_safetensors *s, size_t i); /* in order of offset */
const pil_tensor *pil_safetensors_find(const pil_safetensors *s, const char *name); /* NULL when absent; O(log n) */
/* Values come as C strings. NULL when absent. */
const char *pil_safetensors_metadata(const pil_safetensors *s, const char *key);
/* The whole file and, inside it, the header (size field included): [0, data_offset) is header. */
const void *pil_safetensors_bytes(const pil_safetensors *s, size_t *n, size_t *data_offset);

/* ── Writing ────────────────────────────────────────────────────────────────────────────────────────────────── */

/* First metadata and tensors are declared; layout then reserves the whole file beside its final name and maps it, and
 * the caller fills the tensors in place, in any order. The file appears under its name only on commit.
 *
 * Data starts at a multiple of 4096 bytes, every tensor at a multiple of 64: where a tensor's bytes are not a multiple
 * of 64 a pad tensor "__pad.N" (U8, zeros, N from 0) follows, so the file stays valid for any reader. */
typedef struct pil_safetensors_writer pil_safetensors_writer;
pillion_status pil_safetensors_writer_create(pil_safetensors_writer **out, const char *path, pillion_error *err);

/* key and value are copied; each key once, valid UTF-8. */
pillion_status pil_safetensors_writer_metadata(pil_safetensors_writer *w, const char *key, const char *value,
                                               pillion_error *err);
/* name is copied; each name once, valid UTF-8; dtype not OTHER. */
pillion_status pil_safetensors_writer_declare(pil_safetensors_writer *w, const char *name, pil_dtype dtype,
                                              uint32_t n_dims, const uint64_t *dims, pillion_error *err);
/* Nothing may be declared after this. E_IO also when the disk has no room, so that filling cannot fail later. */
pillion_status pil_safetensors_writer_layout(pil_safetensors_writer *w, pillion_error *err);

/* After layout: the zeroed, 64-byte aligned memory of the tensor that was declared as number i. */
void *pil_safetensors_writer_data(const pil_safetensors_writer *w, size_t i);
/* After layout: the file as it stands, for pil_safetensors_open_memory or a digest. Borrowed until commit or abort. */
const void *pil_safetensors_writer_bytes(const pil_safetensors_writer *w, size_t *n, size_t *data_offset);
/* After layout: replaces a metadata value by one of the same length, both of letters and digits only; for digests,
 * which are known last. */
void pil_safetensors_writer_patch(pil_safetensors_writer *w, const char *key, const char *value);

pillion_status pil_safetensors_writer_commit(pil_safetensors_writer *w, pillion_error *err); /* frees w, always */
void pil_safetensors_writer_abort(pil_safetensors_writer *w); /* frees w; accepts NULL */

#endif
