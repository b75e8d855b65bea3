/* checkpoint.h - the weights of a Hugging Face directory: model.safetensors, or the shards that
 * model.safetensors.index.json lists, as one set of named tensors. */
#ifndef PIL_WEIGHTS_CHECKPOINT_H
#define PIL_WEIGHTS_CHECKPOINT_H

#include "weights/safetensors.h"

typedef struct pil_checkpoint pil_checkpoint;

/* E_NOT_FOUND names what is missing and, if only pytorch_model.bin is there, says that pickles are refused and how to
 * convert. A shard path may not leave the directory. */
pillion_status pil_checkpoint_open(pil_checkpoint **out, const char *dir, pillion_error *err);
void pil_checkpoint_close(pil_checkpoint *c); /* accepts NULL */

size_t pil_checkpoint_files(const pil_checkpoint *c);
const char *pil_checkpoint_file(const pil_checkpoint *c, size_t i); /* path of file i */
const pil_tensor *pil_checkpoint_find(const pil_checkpoint *c, const char *name); /* NULL when absent */
size_t pil_checkpoint_count(const pil_checkpoint *c);
const pil_tensor *pil_checkpoint_at(const pil_checkpoint *c, size_t i);

/* Reads the elements [first, first + count) of a F32, F16, BF16 or F64 tensor as f32 into out. E_UNSUPPORTED for other
 * types. */
pillion_status pil_tensor_read_f32(const pil_tensor *t, uint64_t first, size_t count, float *out, pillion_error *err);

#endif
