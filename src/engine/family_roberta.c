/* family_roberta.c - RoBERTa (Liu et al., arXiv:1907.11692), XLM-RoBERTa (arXiv:1911.02116) and CamemBERT: BERT with
 * positions counted from the pad id on. paraphrase-multilingual-mpnet-base-v2 is one of these, in spite of its name. */
#include "engine/engine_int.h"

static const char *const model_types[] = {"xlm-roberta", "roberta", "camembert", NULL};
static const char *const prefixes[] = {"", "roberta.", "model.", "0.auto_model.", NULL};

static pillion_status read_config(pil_config *c, const pil_json *config, pillion_error *err) {
    pillion_status st = pil_family_encoder_config(c, config, 1e-5, err);
    if (!st) st = pil_family_uint(&c->types, config, "type_vocab_size", 65536, err);
    return st ? st : pil_family_pad_positions(c, pil_json_int_or(pil_json_get(config, "pad_token_id"), 1), err);
}

const pil_family pil_family_roberta = {"roberta", model_types, prefixes, pil_bert_rules, read_config};
