/* tiny_model.c - writes a small random model as a Hugging Face directory.
 *
 * All weights are k/512 (and 1 + k/128 in norms) with small integers k: exact in F32, F16 and BF16, so that models of
 * one seed are the same network whatever their type. */
#include "support/tiny_model.h"

#include <stdio.h>
#include <stdlib.h>

#include "support/files.h"
#include "support/test.h"

#define HIDDEN PIL_TINY_HIDDEN
#define FFN 64
#define HEADS 4
#define POSITIONS 64
#define TENSORS_MAX 64

/* ── Tokenizer ──────────────────────────────────────────────────────────────────────────────────────────────── */

/* Ids follow the family: RoBERTa and MPNet have <s> <pad> </s> <unk>, BERT [PAD] [UNK] [CLS] [SEP]. */
typedef struct specials {
    const char *begin, *pad, *end, *unknown;
    int begin_id, pad_id, end_id, unknown_id;
} specials;

static specials specials_of(const char *family) {
    if (strcmp(family, "bert") == 0) return (specials){"[CLS]", "[PAD]", "[SEP]", "[UNK]", 2, 0, 3, 1};
    return (specials){"<s>", "<pad>", "</s>", "<unk>", 0, 1, 2, 3};
}

static const char *const words[] = {"hello", "world", "the", "cat", "sat", "on", "mat", "##ing", "##ello"};
#define WORDS (sizeof words / sizeof *words)
static const char letters[] = "abcdefghijklmnopqrstuvwxyz0123456789";
static const char marks[] = "!#$%&()*+,-./:;<=>?@[]^_`{|}~'";
#define VOCAB (5 + 2 * (sizeof letters - 1) + (sizeof marks - 1) + WORDS)

/* fprintf of JSON that is written with ' for its quotes. */
__attribute__((format(printf, 2, 3))) static void put_json(FILE *f, const char *fmt, ...) {
    char text[2048];
    va_list ap;
    va_start(ap, fmt);
    int n = vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    assert_true(n > 0 && (size_t)n < sizeof text);
    for (char *c = text; *c; c++)
        if (*c == '\'') *c = '"';
    fputs(text, f);
}

static void put_template(FILE *f, const specials *s) {
    const char *b = s->begin, *e = s->end;
    put_json(f, "'post_processor':{'type':'TemplateProcessing',");
    put_json(f, "'single':[{'SpecialToken':{'id':'%s','type_id':0}},{'Sequence':{'id':'A','type_id':0}},", b);
    put_json(f, "{'SpecialToken':{'id':'%s','type_id':0}}],", e);
    put_json(f, "'pair':[{'SpecialToken':{'id':'%s','type_id':0}},{'Sequence':{'id':'A','type_id':0}},", b);
    put_json(f, "{'SpecialToken':{'id':'%s','type_id':0}},{'Sequence':{'id':'B','type_id':1}},", e);
    put_json(f, "{'SpecialToken':{'id':'%s','type_id':1}}],'special_tokens':{", e);
    put_json(f, "'%s':{'id':'%s','ids':[%d],'tokens':['%s']},", b, b, s->begin_id, b);
    put_json(f, "'%s':{'id':'%s','ids':[%d],'tokens':['%s']}}},", e, e, s->end_id, e);
}

static void put_vocab(FILE *f, const char *const *first) {
    int id = 0;
    for (; id < 4; id++) fprintf(f, "\"%s\":%d,", first[id], id);
    fprintf(f, "\"[MASK]\":%d", id++);
    for (const char *c = letters; *c; c++) fprintf(f, ",\"%c\":%d", *c, id++);
    for (const char *c = letters; *c; c++) fprintf(f, ",\"##%c\":%d", *c, id++);
    for (const char *c = marks; *c; c++) fprintf(f, ",\"%c\":%d", *c, id++);
    for (size_t i = 0; i < WORDS; i++) fprintf(f, ",\"%s\":%d", words[i], id++);
    assert_int_equal(id, VOCAB);
}

static char *make_tokenizer(const char *family) {
    specials s = specials_of(family);
    const char *first[4];
    first[s.begin_id] = s.begin, first[s.pad_id] = s.pad, first[s.end_id] = s.end, first[s.unknown_id] = s.unknown;
    char *out = NULL;
    size_t n;
    FILE *f = open_memstream(&out, &n);
    put_json(f, "{'version':'1.0','truncation':null,'padding':null,'added_tokens':[");
    for (int i = 0; i < 4; i++)
        put_json(f,
                 "%s{'id':%d,'content':'%s','single_word':false,'lstrip':false,'rstrip':false,'normalized':false,"
                 "'special':true}",
                 i ? "," : "", i, first[i]);
    put_json(f, "],'normalizer':{'type':'BertNormalizer','clean_text':true,'handle_chinese_chars':true,"
                "'strip_accents':null,'lowercase':true},'pre_tokenizer':{'type':'BertPreTokenizer'},");
    put_template(f, &s);
    put_json(f, "'decoder':{'type':'WordPiece','prefix':'##','cleanup':true},'model':{'type':'WordPiece',");
    put_json(f, "'unk_token':'%s','continuing_subword_prefix':'##','max_input_chars_per_word':100,'vocab':{",
             s.unknown);
    put_vocab(f, first);
    fprintf(f, "}}}");
    fclose(f);
    return out;
}

__attribute__((format(printf, 3, 4))) static void write_json(const char *dir, const char *name, const char *fmt, ...) {
    char text[1024], *out = NULL;
    size_t n;
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    FILE *f = open_memstream(&out, &n);
    put_json(f, "%s", text);
    fclose(f);
    pil_test_write(dir, name, out, n);
    free(out);
}

/* ── Weights ────────────────────────────────────────────────────────────────────────────────────────────────── */

typedef struct tensor {
    char name[128];
    uint32_t n_dims;
    uint64_t dims[2];
    bool is_norm;
} tensor;

typedef struct network {
    tensor tensors[TENSORS_MAX];
    size_t n;
    const char *prefix;
} network;

__attribute__((format(printf, 5, 6))) static void add(network *net, uint64_t rows, uint64_t columns, bool is_norm,
                                                      const char *fmt, ...) {
    assert_true(net->n < TENSORS_MAX);
    tensor *t = &net->tensors[net->n++];
    char name[96];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(name, sizeof name, fmt, ap);
    va_end(ap);
    snprintf(t->name, sizeof t->name, "%.24s%s", net->prefix, name);
    t->n_dims = columns ? 2 : 1;
    t->dims[0] = rows;
    t->dims[1] = columns;
    t->is_norm = is_norm;
}

static void add_linear(network *net, uint64_t rows, uint64_t columns, int layer, const char *name) {
    add(net, rows, columns, false, "encoder.layer.%d.%s.weight", layer, name);
    add(net, rows, 0, false, "encoder.layer.%d.%s.bias", layer, name);
}

static void add_norm(network *net, const char *name) {
    add(net, HIDDEN, 0, true, "%s.weight", name);
    add(net, HIDDEN, 0, false, "%s.bias", name);
}

static void describe(network *net, const char *family) {
    static const char *const bert[] = {"attention.self.query", "attention.self.key", "attention.self.value",
                                       "attention.output.dense", "attention.output.LayerNorm"};
    static const char *const mpnet[] = {"attention.attn.q", "attention.attn.k", "attention.attn.v", "attention.attn.o",
                                        "attention.LayerNorm"};
    bool is_mpnet = strcmp(family, "mpnet") == 0;
    const char *const *names = is_mpnet ? mpnet : bert;
    add(net, VOCAB, HIDDEN, false, "embeddings.word_embeddings.weight");
    add(net, POSITIONS, HIDDEN, false, "embeddings.position_embeddings.weight");
    if (!is_mpnet)
        add(net, strcmp(family, "bert") == 0 ? 2 : 1, HIDDEN, false, "embeddings.token_type_embeddings.weight");
    add_norm(net, "embeddings.LayerNorm");
    for (int i = 0; i < PIL_TINY_LAYERS; i++) {
        char norm[64];
        for (int k = 0; k < 4; k++) add_linear(net, HIDDEN, HIDDEN, i, names[k]);
        snprintf(norm, sizeof norm, "encoder.layer.%d.%s", i, names[4]);
        add_norm(net, norm);
        add_linear(net, FFN, HIDDEN, i, "intermediate.dense");
        add_linear(net, HIDDEN, FFN, i, "output.dense");
        snprintf(norm, sizeof norm, "encoder.layer.%d.output.LayerNorm", i);
        add_norm(net, norm);
    }
    if (is_mpnet) add(net, 32, HEADS, false, "encoder.relative_attention_bias.weight");
    add(net, HIDDEN, HIDDEN, false, "pooler.dense.weight"); /* in real checkpoints, used by nobody */
    add(net, HIDDEN, 0, false, "pooler.dense.bias");
}

/* Knuth's 64-bit linear congruential generator; the upper bits are the good ones. */
static int next_k(uint64_t *state) {
    *state = *state * 6364136223846793005u + 1442695040888963407u;
    return (int)(*state >> 33) % 128;
}

static float next_weight(uint64_t *state, bool is_norm) {
    int k = next_k(state);
    if (is_norm) return 1.0f + (float)k / 256 * 2;
    return (float)(next_k(state) & 1 ? k : -k) / 512;
}

static void store(void *out, size_t i, pil_dtype dtype, float v) {
    uint32_t bits;
    memcpy(&bits, &v, sizeof bits);
    uint16_t half = (uint16_t)(bits >> 16);
    if (dtype == PIL_DTYPE_F16)
        half = (uint16_t)(v == 0 ? 0 : (bits >> 16 & 0x8000) | ((bits >> 23 & 255) - 112) << 10 | (bits >> 13 & 0x3FF));
    if (dtype == PIL_DTYPE_F32) memcpy((char *)out + 4 * i, &bits, 4);
    else memcpy((char *)out + 2 * i, &half, 2);
}

/* Writes tensors [first, end); state carries the random numbers from file to file. */
static void write_weights(const char *dir, const char *name, const network *net, size_t first, size_t end,
                          pil_dtype dtype, uint64_t *state) {
    char path[PIL_TEST_PATH];
    pil_safetensors_writer *w;
    pillion_error err = {0};
    pil_test_path(path, dir, name);
    assert_ok(pil_safetensors_writer_create(&w, path, &err), err);
    assert_ok(pil_safetensors_writer_metadata(w, "format", "pt", &err), err);
    for (size_t i = first; i < end; i++)
        assert_ok(pil_safetensors_writer_declare(w, net->tensors[i].name, dtype, net->tensors[i].n_dims,
                                                 net->tensors[i].dims, &err),
                  err);
    assert_ok(pil_safetensors_writer_layout(w, &err), err);
    for (size_t i = first; i < end; i++) {
        const tensor *t = &net->tensors[i];
        size_t count = (size_t)(t->dims[0] * (t->n_dims == 2 ? t->dims[1] : 1));
        void *out = pil_safetensors_writer_data(w, i - first);
        for (size_t k = 0; k < count; k++) store(out, k, dtype, next_weight(state, t->is_norm));
    }
    assert_ok(pil_safetensors_writer_commit(w, &err), err);
}

static void write_network(const char *dir, const char *family, const pil_tiny_options *opt, uint64_t *state) {
    static const char *const shards[] = {"model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"};
    network *net = calloc(1, sizeof *net);
    net->prefix = opt->prefix ? opt->prefix : "";
    describe(net, family);
    if (!opt->sharded) {
        write_weights(dir, "model.safetensors", net, 0, net->n, opt->dtype, state);
        free(net);
        return;
    }
    size_t half = net->n / 2, n;
    write_weights(dir, shards[0], net, 0, half, opt->dtype, state);
    write_weights(dir, shards[1], net, half, net->n, opt->dtype, state);
    char *index = NULL;
    FILE *f = open_memstream(&index, &n);
    fprintf(f, "{\"metadata\":{},\"weight_map\":{");
    for (size_t i = 0; i < net->n; i++)
        fprintf(f, "%s\"%s\":\"%s\"", i ? "," : "", net->tensors[i].name, shards[i >= half]);
    fprintf(f, "}}");
    fclose(f);
    pil_test_write(dir, "model.safetensors.index.json", index, n);
    free(index);
    free(net);
}

static void write_dense(const char *dir, uint32_t n_out, pil_dtype dtype, uint64_t *state) {
    char folder[PIL_TEST_PATH];
    network *net = calloc(1, sizeof *net);
    net->prefix = "";
    write_json(dir, "2_Dense/config.json",
               "{'in_features':%d,'out_features':%u,'bias':true,"
               "'activation_function':'torch.nn.modules.activation.Tanh'}",
               HIDDEN, n_out);
    pil_test_path(folder, dir, "2_Dense");
    add(net, n_out, HIDDEN, false, "linear.weight");
    add(net, n_out, 0, false, "linear.bias");
    write_weights(folder, "model.safetensors", net, 0, net->n, dtype, state);
    free(net);
}

/* ── All of it ──────────────────────────────────────────────────────────────────────────────────────────────── */

static void write_modules(const char *dir, const pil_tiny_options *opt) {
    static const char dense[] = ",{'idx':2,'name':'2','path':'2_Dense','type':'sentence_transformers.models.Dense'}";
    static const char normalize[] =
        ",{'idx':3,'name':'3','path':'3_Normalize','type':'sentence_transformers.models.Normalize'}";
    write_json(dir, "modules.json",
               "[{'idx':0,'name':'0','path':'','type':'sentence_transformers.models.Transformer'},"
               "{'idx':1,'name':'1','path':'1_Pooling','type':'sentence_transformers.models.Pooling'}%s%s]",
               opt->dense ? dense : "", opt->no_normalize ? "" : normalize);
    if (opt->pooling) pil_test_write_text(dir, "1_Pooling/config.json", opt->pooling);
    else
        write_json(dir, "1_Pooling/config.json",
                   "{'word_embedding_dimension':32,'pooling_mode_cls_token':false,'pooling_mode_mean_tokens':true,"
                   "'pooling_mode_max_tokens':false}");
}

void pil_tiny_model_write(const char *dir, const char *family, const pil_tiny_options *opt) {
    static const pil_tiny_options defaults;
    if (!opt) opt = &defaults;
    uint64_t state = opt->seed + 1;
    bool is_bert = strcmp(family, "bert") == 0;
    specials names = specials_of(family);
    write_json(dir, "config.json",
               "{'model_type':'%s','hidden_size':%d,'num_hidden_layers':%d,'num_attention_heads':%d,"
               "'intermediate_size':%d,'vocab_size':%zu,'max_position_embeddings':%d,'type_vocab_size':%d,"
               "'pad_token_id':%d,'hidden_act':'gelu','layer_norm_eps':1e-05}",
               family, HIDDEN, PIL_TINY_LAYERS, HEADS, FFN, VOCAB, POSITIONS, is_bert ? 2 : 1,
               names.pad_id);
    write_modules(dir, opt);
    write_json(dir, "sentence_bert_config.json", "{'max_seq_length':%d,'do_lower_case':false}", PIL_TINY_MAX_TOKENS);
    pil_test_write_text(dir, "config_sentence_transformers.json", opt->pipeline ? opt->pipeline : "{\"prompts\":{}}");
    write_json(dir, "tokenizer_config.json",
               "{'tokenizer_class':'PreTrainedTokenizerFast','model_max_length':1000000000000000019884624838656,"
               "'cls_token':'%s','pad_token':'%s','sep_token':'%s','unk_token':'%s'}",
               names.begin, names.pad, names.end, names.unknown);
    char *tokenizer = make_tokenizer(family);
    pil_test_write_text(dir, "tokenizer.json", tokenizer);
    free(tokenizer);
    write_network(dir, family, opt, &state);
    if (opt->dense) write_dense(dir, opt->dense, opt->dtype, &state);
}
