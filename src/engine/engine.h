/* engine.h - ids to vectors. A model is a configuration (data), a bound set of packed weights, and a forward pass.
 *
 * The compiled file names its tensors canonically whatever the family calls them (L: layer number):
 *   embeddings.word [vocab, hidden]          embeddings.position [positions, hidden]   embeddings.type [types, hidden]
 *   embeddings.norm.{weight,bias} [hidden]
 *   layer.L.qkv.{weight,bias}       3*hidden x hidden, rows q | k | v
 *   layer.L.attention_out.{weight,bias}      layer.L.attention_norm.{weight,bias}
 *   layer.L.ffn_up.{weight,bias}             layer.L.ffn_down.{weight,bias}            layer.L.ffn_norm.{weight,bias}
 *   relative_bias [32, heads]                dense.D.{weight,bias}                     canary [dim]
 *   tokenizer (U8 blob)
 * Matrices (qkv, attention_out, ffn_up, ffn_down, dense) are packed for the kernels, shape [n/16, k, 16]; tables and
 * vectors are plain. */
#ifndef PIL_ENGINE_ENGINE_H
#define PIL_ENGINE_ENGINE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/arena.h"
#include "base/json.h"
#include "base/watch.h"
#include "kernel/kernel.h"
#include "pillion/pillion.h"
#include "weights/safetensors.h"

/* ── Configuration ──────────────────────────────────────────────────────────────────────────────────────────── */

typedef enum pil_position {
    PIL_POSITION_ABSOLUTE, /* row = position + position_offset */
    PIL_POSITION_PAD_AWARE, /* as RoBERTa: row = pad + count of non-pad ids so far; a literal pad id gets row pad */
} pil_position;

typedef enum pil_activation {
    PIL_ACTIVATION_GELU_ERF,
    PIL_ACTIVATION_GELU_TANH,
    PIL_ACTIVATION_RELU,
    PIL_ACTIVATION_TANH,
    PIL_ACTIVATION_IDENTITY,
} pil_activation;

/* Bits of pooling; several are concatenated in this order, as sentence-transformers does. */
enum {
    PIL_POOL_CLS = 1,
    PIL_POOL_MAX = 2,
    PIL_POOL_MEAN = 4,
    PIL_POOL_MEAN_SQRT_LEN = 8,
    PIL_POOL_WEIGHTED_MEAN = 16,
    PIL_POOL_LAST = 32,
};

#define PIL_DENSE_MAX 4
#define PIL_NAME_BYTES 128
#define PIL_PROMPT_BYTES 1024
#define PIL_PROMPTS_MAX 64

typedef struct pil_dense {
    uint32_t n_in, n_out;
    bool bias;
    pil_activation activation;
} pil_dense;

typedef struct pil_prompt {
    char name[PIL_NAME_BYTES];
    char text[PIL_PROMPT_BYTES];
} pil_prompt;

/* Everything about a model that is not a weight. Plain data: it may be copied, and is stored as JSON in the compiled
 * file's metadata ("pillion.config"). */
typedef struct pil_config {
    char name[PIL_NAME_BYTES];
    char family[32]; /* "bert", "xlm-roberta", "mpnet" */
    uint32_t hidden, layers, heads, ffn, vocab, positions, types;
    float norm_eps;
    pil_activation activation;
    pil_position position;
    uint32_t position_offset; /* ABSOLUTE: added to the position; PAD_AWARE: the pad id */
    bool relative_bias;       /* 32 buckets, maximum distance 128, shared by all layers (MPNet) */
    uint32_t max_tokens;
    uint32_t pooling;         /* PIL_POOL_* bits, never 0 */
    bool pool_prompt;         /* false: prompt tokens are left out of pooling (include_prompt of the module) */
    uint32_t n_dense;
    pil_dense dense[PIL_DENSE_MAX];
    bool normalize; /* the pipeline ends in a Normalize module */
    uint32_t n_prompts;
    int32_t default_prompt; /* index, or -1 */
    pil_prompt prompts[PIL_PROMPTS_MAX];
} pil_config;

/* Checks every number against limits.h and each other. E_FORMAT or E_UNSUPPORTED names the field. */
pillion_status pil_config_check(const pil_config *c, pillion_error *err);
pillion_status pil_config_put_json(const pil_config *c, pil_buf *out);
pillion_status pil_config_from_json(pil_config *out, const pil_json *json, pillion_error *err); /* checked */
uint32_t pil_config_dim(const pil_config *c);        /* values in a vector after pooling and dense modules */
uint32_t pil_config_pooled_dim(const pil_config *c); /* before the dense modules */
/* "mean", "cls+max", … into out. */
void pil_config_pooling_name(uint32_t pooling, char *out, size_t out_bytes);

/* ── Families ───────────────────────────────────────────────────────────────────────────────────────────────── */

/* The shapes that tensors of a checkpoint have; how large they are is in the configuration. */
typedef enum pil_shape {
    PIL_SHAPE_HIDDEN,    /* [hidden] */
    PIL_SHAPE_FFN,       /* [ffn] */
    PIL_SHAPE_WORDS,     /* [vocab, hidden] */
    PIL_SHAPE_POSITIONS, /* [positions, hidden] */
    PIL_SHAPE_TYPES,     /* [types, hidden] */
    PIL_SHAPE_BUCKETS,   /* [32, heads] */
    PIL_SHAPE_SQUARE,    /* [hidden, hidden], a matrix for gemm: packed in the compiled file, as the two below */
    PIL_SHAPE_UP,        /* [ffn, hidden] */
    PIL_SHAPE_DOWN,      /* [hidden, ffn] */
} pil_shape;
static inline bool pil_shape_is_packed(pil_shape s) { return s >= PIL_SHAPE_SQUARE; }
/* Rows and columns; no columns (0) for a vector. */
void pil_config_shape(const pil_config *c, pil_shape shape, uint64_t dims[2]);

/* How one canonical tensor is found in a checkpoint. "%u" in either name is the layer number. Rows of up to three
 * sources are put one after the other (q, k, v). */
typedef struct pil_tensor_rule {
    const char *canonical; /* "layer.%u.qkv.weight" */
    const char *sources[3];
    pil_shape shape; /* of each source */
} pil_tensor_rule;

/* One architecture: data and one short function. A new family is one file with one of these, named in families[]. */
typedef struct pil_family {
    const char *name;
    const char *const *model_types;  /* config.json "model_type" values, NULL-terminated */
    const char *const *prefixes;     /* tried in front of every source name, NULL-terminated; "" among them */
    const pil_tensor_rule *rules;    /* ends with canonical == NULL */
    /* Fills the network half of c (hidden … relative_bias, max_tokens as the positions allow) from config.json. */
    pillion_status (*read_config)(pil_config *c, const pil_json *config, pillion_error *err);
} pil_family;

/* NULL when no family handles it. */
const pil_family *pil_family_find(const char *model_type);
/* "bert, roberta, …" for error messages. */
void pil_family_list(char *out, size_t out_bytes);

/* Helpers for read_config: a required positive integer, an activation by its Hugging Face name. */
pillion_status pil_family_uint(uint32_t *out, const pil_json *config, const char *key, uint32_t max,
                               pillion_error *err);
pillion_status pil_family_activation(pil_activation *out, const pil_json *config, pillion_error *err);

/* ── Network and scratch ────────────────────────────────────────────────────────────────────────────────────── */

typedef struct pil_network pil_network;

/* Binds the tensors of a compiled file: every tensor the configuration asks for is there with the right type, shape and
 * alignment. Both are borrowed until the network is destroyed. */
pillion_status pil_network_create(pil_network **out, const pil_config *config, const pil_safetensors *file,
                                  pillion_error *err);
void pil_network_destroy(pil_network *n); /* accepts NULL */

typedef struct pil_scratch pil_scratch;

/* All memory of a forward pass over at most batch_tokens_max tokens (>= config.max_tokens). */
pillion_status pil_scratch_create(pil_scratch **out, const pil_network *n, size_t batch_tokens_max, pillion_error *err);
void pil_scratch_destroy(pil_scratch *s); /* accepts NULL */
size_t pil_scratch_bytes(const pil_network *n, size_t batch_tokens_max);

/* Runs sequences laid end to end through the network. No allocation, no lock, no system call.
 *   ids       [n_tokens] of all sequences, each 0 <= id < vocab (checked by the caller)
 *   starts    [n_sequences + 1], starts[0] = 0, starts[n_sequences] = n_tokens <= batch_tokens_max; a sequence has 1 to
 *             config.max_tokens tokens
 *   hidden    receives a pointer to [n_tokens, hidden], borrowed from the scratch until its next use
 *   watch     may be NULL; a beat for each layer, and in it for each sequence and block of rows
 *   Returns   E_CANCELLED when watch->cancel turned non-zero, which is looked at before each layer, else OK. */
pillion_status pil_network_forward(const pil_network *n, pil_scratch *s, const int32_t *ids, const uint32_t *starts,
                                   size_t n_sequences, const pil_watch *watch, const float **hidden);

/* Pools one sequence and runs the dense modules and, if asked, the normalisation.
 *   hidden    [n_tokens, hidden] of this sequence
 *   skip      tokens at the front left out of pooling (prompt tokens when pool_prompt is false), < n_tokens
 *   out       [dim] */
void pil_network_pool(const pil_network *n, pil_scratch *s, const float *hidden, size_t n_tokens, size_t skip,
                      bool normalize, float *out);

#endif
