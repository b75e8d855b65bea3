/* engine_int.h - what the files of this room share: the bound network, its scratch memory, the families. */
#ifndef PIL_ENGINE_ENGINE_INT_H
#define PIL_ENGINE_ENGINE_INT_H

#include "engine/engine.h"

extern const pil_family pil_family_bert, pil_family_roberta, pil_family_mpnet;

/* BERT's tensor names, which RoBERTa kept. */
extern const pil_tensor_rule pil_bert_rules[];

/* Shared by read_config functions: the fields that BERT, RoBERTa and MPNet name alike, and positions that are counted
 * from the pad id on (sets position, position_offset and max_tokens). */
pillion_status pil_family_encoder_config(pil_config *c, const pil_json *config, double default_eps, pillion_error *err);
pillion_status pil_family_pad_positions(pil_config *c, int64_t pad, pillion_error *err);

/* y = x W^T + b: W packed [n/16][k][16]. */
typedef struct pil_linear {
    const float *weight, *bias; /* bias may be NULL */
    uint32_t n, k;
} pil_linear;

typedef struct pil_norm {
    const float *weight, *bias; /* [hidden] */
} pil_norm;

typedef struct pil_layer {
    pil_linear qkv, attention_out, ffn_up, ffn_down;
    pil_norm attention_norm, ffn_norm;
} pil_layer;

struct pil_network {
    pil_config config;
    const pil_kernels *kernels;
    const float *word;     /* [vocab, hidden] */
    const float *position; /* [positions, hidden] */
    const float *type;     /* [types, hidden], NULL when the family has none */
    pil_norm embedding_norm;
    pil_layer *layers;
    pil_linear dense[PIL_DENSE_MAX];
    float *rel_bias; /* [heads][2 * max_tokens - 1], entry max_tokens - 1 is distance 0; NULL without relative bias */
};

/* Tokens whose FFN is computed at once: their [tokens, ffn] block stays near the core. */
#define PIL_FFN_BLOCK 128

struct pil_scratch {
    size_t tokens_max;
    float *x;         /* [tokens, hidden]: the residual stream */
    float *qkv;       /* [tokens, 3 * hidden] */
    float *context;   /* [tokens, hidden] */
    float *ffn;       /* [PIL_FFN_BLOCK, ffn] */
    float *attention; /* for the kernel */
    float *pooled[2]; /* pooling and dense modules, in turn */
    float *weights;   /* [max_tokens]: weighted mean */
    void *memory;
};

/* values = f(values) by the table's kernels. */
void pil_activate(const pil_kernels *k, pil_activation a, float *values, size_t n);

#endif
