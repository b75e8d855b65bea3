/* family_roberta.c - RoBERTa (Liu et al., arXiv:1907.11692), XLM-RoBERTa (arXiv:1911.02116) and CamemBERT: BERT with
 * positions counted from the pad id on. paraphrase-multilingual-mpnet-base-v2 is one of these, in spite of its name. */
#include "engine/engine_int.h"

static const char *const model_types[] = {"xlm-roberta", "roberta", "camembert", NULL};
static const char *const prefixes[] = {"", "roberta.", "model.", "0.auto_model.", NULL};

#define SELF "encoder.layer.%u.attention.self."
static const pil_tensor_rule rules[] = {
    {"embeddings.word", {"embeddings.word_embeddings.weight"}, false, false},
    {"embeddings.position", {"embeddings.position_embeddings.weight"}, false, false},
    {"embeddings.type", {"embeddings.token_type_embeddings.weight"}, false, false},
    {"embeddings.norm.weight", {"embeddings.LayerNorm.weight"}, false, false},
    {"embeddings.norm.bias", {"embeddings.LayerNorm.bias"}, false, false},
    {"layer.%u.qkv.weight", {SELF "query.weight", SELF "key.weight", SELF "value.weight"}, true, false},
    {"layer.%u.qkv.bias", {SELF "query.bias", SELF "key.bias", SELF "value.bias"}, false, false},
    {"layer.%u.attention_out.weight", {"encoder.layer.%u.attention.output.dense.weight"}, true, false},
    {"layer.%u.attention_out.bias", {"encoder.layer.%u.attention.output.dense.bias"}, false, false},
    {"layer.%u.attention_norm.weight", {"encoder.layer.%u.attention.output.LayerNorm.weight"}, false, false},
    {"layer.%u.attention_norm.bias", {"encoder.layer.%u.attention.output.LayerNorm.bias"}, false, false},
    {"layer.%u.ffn_up.weight", {"encoder.layer.%u.intermediate.dense.weight"}, true, false},
    {"layer.%u.ffn_up.bias", {"encoder.layer.%u.intermediate.dense.bias"}, false, false},
    {"layer.%u.ffn_down.weight", {"encoder.layer.%u.output.dense.weight"}, true, false},
    {"layer.%u.ffn_down.bias", {"encoder.layer.%u.output.dense.bias"}, false, false},
    {"layer.%u.ffn_norm.weight", {"encoder.layer.%u.output.LayerNorm.weight"}, false, false},
    {"layer.%u.ffn_norm.bias", {"encoder.layer.%u.output.LayerNorm.bias"}, false, false},
    {NULL, {NULL}, false, false},
};

static pillion_status read_config(pil_config *c, const pil_json *config, pillion_error *err) {
    pillion_status st = pil_family_encoder_config(c, config, 1e-5, err);
    if (!st) st = pil_family_uint(&c->types, config, "type_vocab_size", 65536, err);
    return st ? st : pil_family_pad_positions(c, pil_json_int_or(pil_json_get(config, "pad_token_id"), 1), err);
}

const pil_family pil_family_roberta = {"roberta", model_types, prefixes, rules, read_config};
