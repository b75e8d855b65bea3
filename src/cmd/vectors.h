/* vectors.h - vectors in the formats that `pillion embed` writes. */
#ifndef PIL_CMD_VECTORS_H
#define PIL_CMD_VECTORS_H

#include <stdint.h>

#include "base/buf.h"
#include "cmd/output.h"
#include "cmd/texts.h"

typedef enum pil_vectors_format {
    PIL_VECTORS_AUTO,  /* by the ending of the output's name, else JSONL; see pil_vectors_format_of */
    PIL_VECTORS_JSONL, /* {"index":0,"id":7,"embedding":[...],"tokens":12,"truncated":false} a line; "id" if any */
    PIL_VECTORS_JSON,  /* an array of those objects */
    PIL_VECTORS_CSV,   /* header index,tokens,truncated,v0,v1,...; then a line for each text */
    PIL_VECTORS_NPY,   /* NumPy's format 1.0: float32 [texts, dimensions] */
    PIL_VECTORS_F32,   /* the float32 values alone, little-endian, one vector after the other */
} pil_vectors_format;

extern const char *const pil_vectors_formats[]; /* names in that order, NULL-terminated */

/* What AUTO means for an output path (nullable): .jsonl or .ndjson, .json, .csv, .npy, .f32 or .bin, else JSONL. */
pil_vectors_format pil_vectors_format_of(const char *path);
/* Whether the format can only be written as a whole: pil_output_open's `whole`. */
bool pil_vectors_is_whole(pil_vectors_format format);
/* Whether the format is no text for a terminal. */
bool pil_vectors_is_binary(pil_vectors_format format);

typedef struct pil_vectors {
    pil_output *out; /* borrowed */
    pil_vectors_format format;
    uint32_t dim;
    const pil_texts *texts; /* borrowed: where ids come from */
    uint64_t n; /* vectors written so far: the next index */
    pil_buf buf;
} pil_vectors;

/* Writes what comes before the first vector. format is not AUTO. Call deinit whatever happens. */
PILLION_MUST_USE pillion_status pil_vectors_begin(pil_vectors *v, pil_output *out, pil_vectors_format format,
                                                  uint32_t dim, const pil_texts *texts, pillion_error *err);
/* Appends n items with status OK, those of the texts' last block, and pushes them to the output. */
PILLION_MUST_USE pillion_status pil_vectors_add(pil_vectors *v, const pillion_item *items, size_t n,
                                                pillion_error *err);
/* Writes what comes after the last vector. */
PILLION_MUST_USE pillion_status pil_vectors_end(pil_vectors *v, pillion_error *err);
void pil_vectors_deinit(pil_vectors *v); /* accepts a zeroed one */

#endif
