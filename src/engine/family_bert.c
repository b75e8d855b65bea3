/* family_bert.c - BERT (Devlin et al., arXiv:1810.04805) as in transformers' BertModel: absolute positions from 0,
 * token types, post-norm. Also what multilingual-e5-small and paraphrase-multilingual-MiniLM are, with another
 * tokenizer. */
#include "engine/engine_int.h"

static const char *const model_types[] = {"bert", NULL};
static const char *const prefixes[] = {"", "bert.", "model.", "0.auto_model.", NULL};

#define SELF "encoder.layer.%u.attention.self."
const pil_tensor_rule pil_bert_rules[] = {
    {"embeddings.word", {"embeddings.word_embeddings.weight"}, false},
    {"embeddings.position", {"embeddings.position_embeddings.weight"}, false},
    {"embeddings.type", {"embeddings.token_type_embeddings.weight"}, false},
    {"embeddings.norm.weight", {"embeddings.LayerNorm.weight"}, false},
    {"embeddings.norm.bias", {"embeddings.LayerNorm.bias"}, false},
    {"layer.%u.qkv.weight", {SELF "query.weight", SELF "key.weight", SELF "value.weight"}, true},
    {"layer.%u.qkv.bias", {SELF "query.bias", SELF "key.bias", SELF "value.bias"}, false},
    {"layer.%u.attention_out.weight", {"encoder.layer.%u.attention.output.dense.weight"}, true},
    {"layer.%u.attention_out.bias", {"encoder.layer.%u.attention.output.dense.bias"}, false},
    {"layer.%u.attention_norm.weight", {"encoder.layer.%u.attention.output.LayerNorm.weight"}, false},
    {"layer.%u.attention_norm.bias", {"encoder.layer.%u.attention.output.LayerNorm.bias"}, false},
    {"layer.%u.ffn_up.weight", {"encoder.layer.%u.intermediate.dense.weight"}, true},
    {"layer.%u.ffn_up.bias", {"encoder.layer.%u.intermediate.dense.bias"}, false},
    {"layer.%u.ffn_down.weight", {"encoder.layer.%u.output.dense.weight"}, true},
    {"layer.%u.ffn_down.bias", {"encoder.layer.%u.output.dense.bias"}, false},
    {"layer.%u.ffn_norm.weight", {"encoder.layer.%u.output.LayerNorm.weight"}, false},
    {"layer.%u.ffn_norm.bias", {"encoder.layer.%u.output.LayerNorm.bias"}, false},
    {NULL, {NULL}, false},
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
