/* checkpoint.h - the weights of a Hugging Face directory: model.safetensors, or the shards that
 * model.safetensors.index.json lists, as one set of named tensors. */
#ifndef PIL_WEIGHTS_CHECKPOINT_H
#define PIL_WEIGHTS_CHECKPOINT_H

#include "weights/safetensors.h"

typedef struct pil_checkpoint pil_checkpoint;

/* Told the plain name of each file of the directory before that file is looked for. */
typedef pillion_status (*pil_checkpoint_note_fn)(void *ud, const char *name, pillion_error *err);

/* Headers are read at opening, weights when they are asked for and in pieces: the files are those of somebody else, who
 * may write to them at any time.
 *
 * model.safetensors is taken when it exists, else the index. Every tensor that the index names must be in the shard
 * it names, and no tensor may be in two shards; pad tensors of our own writer are left out. A shard is a plain file
 * name: it may not leave the directory. E_NOT_FOUND names what is missing and, if only a pickle is there, says that
 * pickles are refused and how to convert. note: nullable; its failure is that of the opening. */
pillion_status pil_checkpoint_open(pil_checkpoint **out, const char *dir, pil_checkpoint_note_fn note, void *note_ud,
                                   pillion_error *err);
void pil_checkpoint_close(pil_checkpoint *c); /* accepts NULL */

size_t pil_checkpoint_count(const pil_checkpoint *c);
const pil_tensor *pil_checkpoint_at(const pil_checkpoint *c, size_t i); /* in order of file name and offset */
const pil_tensor *pil_checkpoint_find(const pil_checkpoint *c, const char *name); /* NULL when absent; O(log n) */

/* As pil_tensor_read_f32, for a tensor of this checkpoint, whose data is not in memory. E_STALE when its file is not
 * the one that was opened any more. One thread at a time. */
pillion_status pil_checkpoint_read_f32(pil_checkpoint *c, const pil_tensor *t, uint64_t first, size_t count, float *out,
                                       pillion_error *err);

#endif
