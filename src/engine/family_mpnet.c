/* family_mpnet.c - MPNet (Song et al., arXiv:2004.09297) as in transformers' MPNetModel: positions counted from the pad
 * id on, no token types, one relative position bias of 32 buckets shared by all layers. */
#include "engine/engine_int.h"

static const char *const model_types[] = {"mpnet", NULL};
static const char *const prefixes[] = {"", "mpnet.", "model.", "0.auto_model.", NULL};

#define ATTN "encoder.layer.%u.attention.attn."
static const pil_tensor_rule rules[] = {
    {"embeddings.word", {"embeddings.word_embeddings.weight"}, PIL_SHAPE_WORDS},
    {"embeddings.position", {"embeddings.position_embeddings.weight"}, PIL_SHAPE_POSITIONS},
    {"embeddings.norm.weight", {"embeddings.LayerNorm.weight"}, PIL_SHAPE_HIDDEN},
    {"embeddings.norm.bias", {"embeddings.LayerNorm.bias"}, PIL_SHAPE_HIDDEN},
    {"layer.%u.qkv.weight", {ATTN "q.weight", ATTN "k.weight", ATTN "v.weight"}, PIL_SHAPE_SQUARE},
    {"layer.%u.qkv.bias", {ATTN "q.bias", ATTN "k.bias", ATTN "v.bias"}, PIL_SHAPE_HIDDEN},
    {"layer.%u.attention_out.weight", {ATTN "o.weight"}, PIL_SHAPE_SQUARE},
    {"layer.%u.attention_out.bias", {ATTN "o.bias"}, PIL_SHAPE_HIDDEN},
    {"layer.%u.attention_norm.weight", {"encoder.layer.%u.attention.LayerNorm.weight"}, PIL_SHAPE_HIDDEN},
    {"layer.%u.attention_norm.bias", {"encoder.layer.%u.attention.LayerNorm.bias"}, PIL_SHAPE_HIDDEN},
    {"layer.%u.ffn_up.weight", {"encoder.layer.%u.intermediate.dense.weight"}, PIL_SHAPE_UP},
    {"layer.%u.ffn_up.bias", {"encoder.layer.%u.intermediate.dense.bias"}, PIL_SHAPE_FFN},
    {"layer.%u.ffn_down.weight", {"encoder.layer.%u.output.dense.weight"}, PIL_SHAPE_DOWN},
    {"layer.%u.ffn_down.bias", {"encoder.layer.%u.output.dense.bias"}, PIL_SHAPE_HIDDEN},
    {"layer.%u.ffn_norm.weight", {"encoder.layer.%u.output.LayerNorm.weight"}, PIL_SHAPE_HIDDEN},
    {"layer.%u.ffn_norm.bias", {"encoder.layer.%u.output.LayerNorm.bias"}, PIL_SHAPE_HIDDEN},
    {"relative_bias", {"encoder.relative_attention_bias.weight"}, PIL_SHAPE_BUCKETS},
    {NULL, {NULL}, 0},
};

static pillion_status read_config(pil_config *c, const pil_json *config, pillion_error *err) {
    pillion_status st = pil_family_encoder_config(c, config, 1e-12, err);
    if (st) return st;
    c->relative_bias = true;
    return pil_family_pad_positions(c, 1, err); /* the model's code has 1, whatever config.json says */
}

const pil_family pil_family_mpnet = {"mpnet", model_types, prefixes, rules, read_config};
