/* fuzz_compiled.c - hostile compiled files: refused with a reason, or they open, sing and embed without a crash.
 *
 * The first byte says what the rest is:
 *     even   the bytes of a file
 *     odd    changes to a good file of one small layer, each a place (2 bytes) and a byte: places count through the
 *            header and then through the tokenizer, where every byte matters, and leave out the weights
 * and, with bit 1 set, the checksum is put right afterwards, as somebody with bad intentions would: only then is the
 * code behind it reached. The good file is compiled on the first call, from a directory that is written for it. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "base/limits.h"
#include "compile/checksum.h"
#include "compile/compile.h"

static void check(bool holds) {
    if (!holds) __builtin_trap();
}

/* ── A good file ────────────────────────────────────────────────────────────────────────────────────────────── */

#define CONFIG                                                                                                       \
    "{\"model_type\":\"mpnet\",\"hidden_size\":16,\"num_hidden_layers\":1,\"num_attention_heads\":2,"                \
    "\"intermediate_size\":16,\"vocab_size\":10,\"max_position_embeddings\":12,\"layer_norm_eps\":1e-5}"
#define TOKENIZER                                                                                                    \
    "{\"added_tokens\":[{\"id\":0,\"content\":\"<s>\",\"single_word\":false,\"lstrip\":false,\"rstrip\":false,"      \
    "\"normalized\":false,\"special\":true}],\"normalizer\":{\"type\":\"BertNormalizer\",\"clean_text\":true,"       \
    "\"handle_chinese_chars\":true,\"strip_accents\":null,\"lowercase\":true},"                                      \
    "\"pre_tokenizer\":{\"type\":\"BertPreTokenizer\"},\"post_processor\":{\"type\":\"BertProcessing\","             \
    "\"sep\":[\"</s>\",2],\"cls\":[\"<s>\",0]},\"decoder\":{\"type\":\"WordPiece\",\"prefix\":\"##\","               \
    "\"cleanup\":true},\"model\":{\"type\":\"WordPiece\",\"unk_token\":\"u\",\"continuing_subword_prefix\":\"##\","  \
    "\"max_input_chars_per_word\":20,\"vocab\":{\"<s>\":0,\"p\":1,\"</s>\":2,\"u\":3,\"a\":4,\"##a\":5,\"s\":6,"     \
    "\"##n\":7,\"notes\":8,\",\":9}}}"

#define LAYER "encoder.layer.0."
static const struct {
    const char *name;
    uint64_t rows, columns;
} tensors[] = {
    {"embeddings.word_embeddings", 10, 16},     {"embeddings.position_embeddings", 12, 16},
    {"embeddings.LayerNorm", 16, 0},            {LAYER "attention.attn.q", 16, 16},
    {LAYER "attention.attn.k", 16, 16},         {LAYER "attention.attn.v", 16, 16},
    {LAYER "attention.attn.o", 16, 16},         {LAYER "attention.LayerNorm", 16, 0},
    {LAYER "intermediate.dense", 16, 16},       {LAYER "output.dense", 16, 16},
    {LAYER "output.LayerNorm", 16, 0},          {"encoder.relative_attention_bias", 32, 2},
};
#define TENSORS (sizeof tensors / sizeof *tensors)

static void write_text(const char *dir, const char *name, const char *text) {
    char path[128];
    pil_file_writer w;
    snprintf(path, sizeof path, "%s/%s", dir, name);
    check(pil_file_writer_open(&w, path, NULL) == PILLION_OK);
    fputs(text, w.f);
    check(pil_file_writer_commit(&w, NULL) == PILLION_OK);
}

/* Every tensor with a weight and a bias, filled with small numbers that are not all the same. */
static void write_weights(const char *dir) {
    char path[128], name[96];
    pil_safetensors_writer *w;
    snprintf(path, sizeof path, "%s/model.safetensors", dir);
    check(pil_safetensors_writer_create(&w, path, NULL) == PILLION_OK);
    for (size_t i = 0; i < TENSORS; i++) {
        const uint64_t dims[] = {tensors[i].rows, tensors[i].columns};
        snprintf(name, sizeof name, "%s.weight", tensors[i].name);
        check(!pil_safetensors_writer_declare(w, name, PIL_DTYPE_F32, dims[1] ? 2 : 1, dims, NULL));
        snprintf(name, sizeof name, "%s.bias", tensors[i].name);
        check(!pil_safetensors_writer_declare(w, name, PIL_DTYPE_F32, 1, dims, NULL));
    }
    check(pil_safetensors_writer_layout(w, NULL) == PILLION_OK);
    for (size_t i = 0; i < TENSORS; i++) {
        float *weight = pil_safetensors_writer_data(w, 2 * i), *bias = pil_safetensors_writer_data(w, 2 * i + 1);
        for (size_t k = 0; k < tensors[i].rows * (tensors[i].columns ? tensors[i].columns : 1); k++)
            weight[k] = (float)((k * 7 + i) % 11) / 8 - 0.5f;
        for (size_t k = 0; k < tensors[i].rows; k++) bias[k] = (float)(k % 3) / 4;
    }
    check(pil_safetensors_writer_commit(w, NULL) == PILLION_OK);
}

typedef struct good_file {
    char *bytes;
    size_t n, header, tokenizer, tokenizer_bytes;
} good_file;

static good_file make_good_file(void) {
    static const char *const files[] = {"config.json", "tokenizer.json", "model.safetensors", "good"};
    char dir[] = "/tmp/pillion-fuzz.XXXXXX", path[128];
    good_file good;
    pil_safetensors *s;
    check(mkdtemp(dir) != NULL);
    write_text(dir, "config.json", CONFIG);
    write_text(dir, "tokenizer.json", TOKENIZER);
    write_weights(dir);
    snprintf(path, sizeof path, "%s/good", dir);
    check(pil_compile(dir, path, "good", PILLION_PRECISION_F32, NULL, NULL, NULL) == PILLION_OK);
    check(pil_file_read(&good.bytes, &good.n, path, PIL_MIB, NULL) == PILLION_OK);
    for (size_t i = 0; i < 4; i++) {
        snprintf(path, sizeof path, "%s/%s", dir, files[i]);
        unlink(path);
    }
    rmdir(dir);
    check(pil_safetensors_open_memory(&s, good.bytes, good.n, NULL) == PILLION_OK);
    pil_safetensors_bytes(s, NULL, &good.header);
    const pil_tensor *t = pil_safetensors_find(s, "tokenizer");
    good.tokenizer = (size_t)((const char *)t->data - good.bytes);
    good.tokenizer_bytes = t->bytes;
    pil_safetensors_close(s);
    return good;
}

/* ── A hostile one ──────────────────────────────────────────────────────────────────────────────────────────── */

/* Puts the right checksum in, when the file is whole enough to have one. */
static void sign(unsigned char *file, size_t n) {
    static const char key[] = "\"" PIL_META_TABLES "\":\"";
    pil_safetensors *s;
    if (pil_safetensors_open_memory(&s, file, n, NULL)) return;
    size_t header;
    pil_safetensors_bytes(s, NULL, &header);
    const pil_tensor *tokenizer = pil_safetensors_find(s, "tokenizer");
    unsigned char *at = memmem(file, header, key, strlen(key));
    size_t begin = at ? (size_t)(at - file) + strlen(key) : header, end = begin + 16;
    if (tokenizer && end <= header) {
        char sum[17];
        uint64_t v = pil_checksum(file + end, header - end, pil_checksum(file, begin, 0));
        v = pil_checksum(tokenizer->data, tokenizer->bytes, v);
        snprintf(sum, sizeof sum, "%016llx", (unsigned long long)v);
        memcpy(file + begin, sum, 16);
    }
    pil_safetensors_close(s);
}

/* unchanged: the file is the good one and must prove itself. */
static void open_and_use(const unsigned char *file, size_t n, bool unchanged) {
    pil_compiled c;
    pillion_error err = {0};
    pillion_status st = pil_compiled_open_memory(&c, file, n, &err);
    check(st == err.code && (st == PILLION_OK) == (c.file != NULL));
    if (st) {
        check(err.text[0] != '\0' && !unchanged);
        return;
    }
    pillion_error why = {0};
    st = pil_compiled_verify(&c, &why); /* the digest seldom fits, */
    check(!st || !unchanged);
    st = pil_compiled_sing(&c, &why); /* so the canary is asked again by itself */
    check(!st || !unchanged);
    st = pil_compiled_fresh(&c, "/nonexistent", &why);
    check(st != PILLION_OK);
    pil_compiled_close(&c);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static good_file good;
    if (!good.bytes) good = make_good_file();
    if (size < 1) return 0;
    bool changes = data[0] & 1;
    const uint8_t *rest = data + 1;
    size_t left = size - 1, n = changes ? good.n : left;
    void *block; /* of exact size, for sanitizers to see an over-read */
    if (posix_memalign(&block, 64, n ? n : 1) != 0) return 0;
    unsigned char *file = block;
    if (n) memcpy(file, changes ? (const void *)good.bytes : rest, n);
    for (; changes && left >= 3; rest += 3, left -= 3) {
        size_t place = (rest[0] | (size_t)rest[1] << 8) % (good.header + good.tokenizer_bytes);
        file[place < good.header ? place : good.tokenizer + place - good.header] = rest[2];
    }
    if (data[0] & 2) sign(file, n);
    open_and_use(file, n, changes && size == 1);
    free(file);
    return 0;
}
