/* family_bert.c - BERT (Devlin et al., arXiv:1810.04805) as in transformers' BertModel: absolute positions from 0,
 * token types, post-norm. Also what multilingual-e5-small and paraphrase-multilingual-MiniLM are, with another
 * tokenizer. */
#include "engine/engine_int.h"

static const char *const model_types[] = {"bert", NULL};
static const char *const prefixes[] = {"", "bert.", "model.", "0.auto_model.", NULL};

#define SELF "encoder.layer.%u.attention.self."
const pil_tensor_rule pil_bert_rules[] = {
    {"embeddings.word", {"embeddings.word_embeddings.weight"}, PIL_SHAPE_WORDS},
    {"embeddings.position", {"embeddings.position_embeddings.weight"}, PIL_SHAPE_POSITIONS},
    {"embeddings.type", {"embeddings.token_type_embeddings.weight"}, PIL_SHAPE_TYPES},
    {"embeddings.norm.weight", {"embeddings.LayerNorm.weight"}, PIL_SHAPE_HIDDEN},
    {"embeddings.norm.bias", {"embeddings.LayerNorm.bias"}, PIL_SHAPE_HIDDEN},
    {"layer.%u.qkv.weight", {SELF "query.weight", SELF "key.weight", SELF "value.weight"}, PIL_SHAPE_SQUARE},
    {"layer.%u.qkv.bias", {SELF "query.bias", SELF "key.bias", SELF "value.bias"}, PIL_SHAPE_HIDDEN},
    {"layer.%u.attention_out.weight", {"encoder.layer.%u.attention.output.dense.weight"}, PIL_SHAPE_SQUARE},
    {"layer.%u.attention_out.bias", {"encoder.layer.%u.attention.output.dense.bias"}, PIL_SHAPE_HIDDEN},
    {"layer.%u.attention_norm.weight", {"encoder.layer.%u.attention.output.LayerNorm.weight"}, PIL_SHAPE_HIDDEN},
    {"layer.%u.attention_norm.bias", {"encoder.layer.%u.attention.output.LayerNorm.bias"}, PIL_SHAPE_HIDDEN},
    {"layer.%u.ffn_up.weight", {"encoder.layer.%u.intermediate.dense.weight"}, PIL_SHAPE_UP},
    {"layer.%u.ffn_up.bias", {"encoder.layer.%u.intermediate.dense.bias"}, PIL_SHAPE_FFN},
    {"layer.%u.ffn_down.weight", {"encoder.layer.%u.output.dense.weight"}, PIL_SHAPE_DOWN},
    {"layer.%u.ffn_down.bias", {"encoder.layer.%u.output.dense.bias"}, PIL_SHAPE_HIDDEN},
    {"layer.%u.ffn_norm.weight", {"encoder.layer.%u.output.LayerNorm.weight"}, PIL_SHAPE_HIDDEN},
    {"layer.%u.ffn_norm.bias", {"encoder.layer.%u.output.LayerNorm.bias"}, PIL_SHAPE_HIDDEN},
    {NULL, {NULL}, 0},
};

static pillion_status read_config(pil_config *c, const pil_json *config, pillion_error *err) {
    pillion_status st = pil_family_encoder_config(c, config, 1e-12, err);
    if (!st) st = pil_family_uint(&c->types, config, "type_vocab_size", 65536, err);
    if (st) return st;
    c->position = PIL_POSITION_ABSOLUTE;
    c->max_tokens = c->positions;
    return PILLION_OK;
}

const pil_family pil_family_bert = {"bert", model_types, prefixes, pil_bert_rules, read_config};
