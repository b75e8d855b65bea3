/* tiny_model.h - writes a small random model as a Hugging Face directory, for tests that need a whole model but no
 * meaning.
 *
 *     char dir[PIL_TEST_PATH];
 *     pil_test_dir_make(dir);
 *     pil_tiny_model_write(dir, "bert", NULL);
 *
 * The model has 2 layers of 32 values, 4 heads, 64 positions and a WordPiece tokenizer that lower-cases and knows
 * every ASCII letter and digit, most punctuation marks and a few words ("hello", "world", "the", "cat", "sat", "on",
 * "mat", "##s",
 * "##ing"), so that few texts become unknown. Files: config.json, model.safetensors, tokenizer.json,
 * tokenizer_config.json, modules.json, 1_Pooling/config.json, sentence_bert_config.json,
 * config_sentence_transformers.json. A test may overwrite any of them. */
#ifndef PIL_TESTS_TINY_MODEL_H
#define PIL_TESTS_TINY_MODEL_H

#include <stdbool.h>
#include <stdint.h>

#include "weights/safetensors.h"

#define PIL_TINY_HIDDEN 32
#define PIL_TINY_LAYERS 2
#define PIL_TINY_MAX_TOKENS 48

/* All zero is the default. */
typedef struct pil_tiny_options {
    uint64_t seed; /* another seed gives other weights; the same seed the same in every dtype and layout of files */
    pil_dtype dtype;      /* F32 (default), F16, BF16 */
    bool sharded;         /* two shards and an index instead of one file */
    const char *prefix;   /* in front of every tensor's name, for example "bert." */
    bool no_normalize;    /* leave out the Normalize module */
    uint32_t dense;       /* n > 0: a Dense module with bias and Tanh to n values (a multiple of 32) */
    const char *pooling;  /* content of 1_Pooling/config.json; NULL: mean */
    const char *pipeline; /* content of config_sentence_transformers.json; NULL: no prompts */
} pil_tiny_options;

/* family: "bert", "xlm-roberta" or "mpnet". opt: NULL for the defaults. Fails the running test when it cannot write. */
void pil_tiny_model_write(const char *dir, const char *family, const pil_tiny_options *opt);

#endif
