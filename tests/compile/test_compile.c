/* test_compile.c - every weight lands where the kernels read it, whatever the checkpoint looks like; what cannot be
 * compiled is refused in one line and leaves nothing behind. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "compile/compile.h"
#include "kernel/kernel.h"
#include "support/files.h"
#include "support/test.h"
#include "support/tiny_model.h"
#include "weights/checkpoint.h"

static char dir[PIL_TEST_PATH], out[PIL_TEST_PATH];

static int make_dirs(void **state) {
    (void)state;
    pil_test_dir_make(dir);
    pil_test_write_text(dir, "out/keep", "");
    pil_test_path(out, dir, "out/m.safetensors");
    return 0;
}

static int remove_dirs(void **state) {
    (void)state;
    pil_test_dir_remove(dir);
    return 0;
}

static pil_compiled compile_model(void) {
    pil_compiled c;
    pillion_error err = {0};
    assert_ok(pil_compile(dir, out, NULL, PILLION_PRECISION_AUTO, NULL, NULL, &err), err);
    assert_ok(pil_compiled_open(&c, out, &err), err);
    return c;
}

static const float *values_of(const pil_compiled *c, const char *name) {
    const pil_tensor *t = pil_safetensors_find(c->file, name);
    if (!t) fail_msg("no tensor %s", name);
    return t->data;
}

/* The values of a tensor of the source; free the result. */
static float *source_values(pil_checkpoint *c, const char *name) {
    const pil_tensor *t = pil_checkpoint_find(c, name);
    if (!t) fail_msg("no tensor %s", name);
    float *v = malloc(t->count * sizeof *v);
    pillion_error err = {0};
    assert_ok(pil_checkpoint_read_f32(c, t, 0, t->count, v, &err), err);
    return v;
}

/* Rows [first, first + rows) of the packed tensor are the rows of the source tensor. */
static void assert_packed_rows(const pil_compiled *c, pil_checkpoint *from, const char *canonical,
                               const char *source, size_t first, size_t rows, size_t k) {
    const float *packed = values_of(c, canonical);
    float *plain = source_values(from, source);
    for (size_t i = 0; i < rows; i++)
        for (size_t j = 0; j < k; j++) {
            size_t row = first + i;
            assert_true(packed[(row / PIL_TILE_N * k + j) * PIL_TILE_N + row % PIL_TILE_N] == plain[i * k + j]);
        }
    free(plain);
}

static void assert_plain(const pil_compiled *c, pil_checkpoint *from, const char *canonical, const char *source) {
    float *plain = source_values(from, source);
    assert_memory_equal(values_of(c, canonical), plain, pil_checkpoint_find(from, source)->count * sizeof *plain);
    free(plain);
}

static void weights_are_packed_joined_and_named_for_the_engine(void **state) {
    (void)state;
    static const char *const families[] = {"bert", "xlm-roberta", "mpnet"};
    for (size_t f = 0; f < 3; f++) {
        bool mpnet = strcmp(families[f], "mpnet") == 0;
        pil_tiny_model_write(dir, families[f], NULL);
        pil_compiled c = compile_model();
        pil_checkpoint *from;
        pillion_error err = {0};
        assert_ok(pil_checkpoint_open(&from, dir, NULL, NULL, &err), err);
        static const char *const bert[] = {"self.query", "self.key", "self.value"}, *const attn[] = {"attn.q",
                                                                                                     "attn.k",
                                                                                                     "attn.v"};
        for (size_t part = 0; part < 3; part++) {
            char name[96];
            snprintf(name, sizeof name, "encoder.layer.1.attention.%s.weight", mpnet ? attn[part] : bert[part]);
            assert_packed_rows(&c, from, "layer.1.qkv.weight", name, 32 * part, 32, 32);
            snprintf(name, sizeof name, "encoder.layer.1.attention.%s.bias", mpnet ? attn[part] : bert[part]);
            float *bias = source_values(from, name);
            assert_memory_equal(values_of(&c, "layer.1.qkv.bias") + 32 * part, bias, 32 * sizeof *bias);
            free(bias);
        }
        assert_packed_rows(&c, from, "layer.0.ffn_up.weight", "encoder.layer.0.intermediate.dense.weight", 0, 64, 32);
        assert_packed_rows(&c, from, "layer.0.ffn_down.weight", "encoder.layer.0.output.dense.weight", 0, 32, 64);
        assert_plain(&c, from, "embeddings.word", "embeddings.word_embeddings.weight");
        assert_plain(&c, from, "embeddings.norm.bias", "embeddings.LayerNorm.bias");
        if (mpnet) assert_plain(&c, from, "relative_bias", "encoder.relative_attention_bias.weight");
        pil_checkpoint_close(from);
        assert_ok(pil_compiled_verify(&c, &err), err);
        pil_compiled_close(&c);
    }
}

/* Fails unless both files hold the same tensors. */
static void assert_same_tensors(const pil_compiled *a, const pil_compiled *b) {
    assert_int_equal(pil_safetensors_count(a->file), pil_safetensors_count(b->file));
    for (size_t i = 0; i < pil_safetensors_count(a->file); i++) {
        const pil_tensor *x = pil_safetensors_at(a->file, i), *y = pil_safetensors_find(b->file, x->name);
        assert_non_null(y);
        assert_int_equal(x->bytes, y->bytes);
        assert_memory_equal(x->data, y->data, x->bytes);
    }
}

static void types_shards_and_prefixes_of_the_checkpoint_make_no_difference(void **state) {
    (void)state;
    static const pil_tiny_options layouts[] = {
        {.dtype = PIL_DTYPE_F16}, {.dtype = PIL_DTYPE_BF16}, {.sharded = true}, {.prefix = "bert."},
        {.prefix = "0.auto_model.", .dtype = PIL_DTYPE_BF16, .sharded = true},
    };
    char plain[PIL_TEST_PATH];
    pil_tiny_model_write(dir, "bert", NULL);
    pil_compiled a, b = compile_model();
    pil_compiled_close(&b);
    pil_test_path(plain, dir, "plain.safetensors");
    assert_int_equal(rename(out, plain), 0);
    for (size_t i = 0; i < sizeof layouts / sizeof *layouts; i++) {
        char model[PIL_TEST_PATH];
        pillion_error err = {0};
        pil_test_path(model, dir, "model.safetensors");
        remove(model);
        pil_tiny_model_write(dir, "bert", &layouts[i]);
        b = compile_model();
        assert_ok(pil_compiled_open(&a, plain, &err), err);
        assert_same_tensors(&a, &b);
        pil_compiled_close(&a);
        pil_compiled_close(&b);
    }
}

/* Replaces every occurrence of `from` by `to` in a file of the model; in a safetensors file their lengths are equal. */
static void replace_in(const char *name, const char *from, const char *to) {
    char path[PIL_TEST_PATH], *changed = NULL;
    size_t n, changed_bytes, found = 0;
    pil_test_path(path, dir, name);
    char *bytes = pil_test_read(path, &n), *at = bytes;
    FILE *f = open_memstream(&changed, &changed_bytes);
    for (char *hit; (hit = memmem(at, n - (size_t)(at - bytes), from, strlen(from)));
         at = hit + strlen(from), found++) {
        fwrite(at, 1, (size_t)(hit - at), f);
        fputs(to, f);
    }
    fwrite(at, 1, n - (size_t)(at - bytes), f);
    fclose(f);
    if (!found) fail_msg("%s does not hold %s", name, from);
    pil_test_write(dir, name, changed, changed_bytes);
    free(changed);
    free(bytes);
}

static void norms_of_old_checkpoints_are_found_as_gamma_and_beta(void **state) {
    (void)state;
    pil_tiny_model_write(dir, "bert", NULL);
    pil_compiled c = compile_model();
    float gamma = values_of(&c, "layer.1.ffn_norm.weight")[3], beta = values_of(&c, "layer.1.ffn_norm.bias")[3];
    pil_compiled_close(&c);
    replace_in("model.safetensors", "LayerNorm.weight\":", "LayerNorm.gamma\" :");
    replace_in("model.safetensors", "LayerNorm.bias\"", "LayerNorm.beta\"");
    c = compile_model();
    assert_true(values_of(&c, "layer.1.ffn_norm.weight")[3] == gamma &&
                values_of(&c, "layer.1.ffn_norm.bias")[3] == beta);
    pil_compiled_close(&c);
}

static void dense_modules_are_packed_and_their_odd_columns_are_zero(void **state) {
    (void)state;
    pil_tiny_model_write(dir, "bert", &(pil_tiny_options){.dense = 20});
    pil_compiled c = compile_model();
    assert_int_equal(pil_config_dim(&c.config), 20);
    const pil_tensor *t = pil_safetensors_find(c.file, "dense.0.weight");
    assert_int_equal(t->dims[0], 2);
    for (size_t j = 0; j < 32; j++)
        for (size_t row = 4; row < PIL_TILE_N; row++)
            assert_true(((const float *)t->data)[(32 + j) * PIL_TILE_N + row] == 0);
    assert_int_equal(pil_safetensors_find(c.file, "dense.0.bias")->dims[0], 20);
    pil_compiled_close(&c);
}

static void the_name_and_the_origin_are_kept_unless_a_name_is_given(void **state) {
    (void)state;
    char real[PIL_TEST_PATH * 4];
    pillion_error err = {0};
    pil_tiny_model_write(dir, "bert", NULL);
    pil_compiled c = compile_model();
    assert_non_null(realpath(dir, real));
    assert_string_equal(c.source, real);
    assert_string_equal(c.config.name, strrchr(dir, '/') + 1);
    assert_string_equal(c.precision, "f32");
    assert_ok(pil_compiled_fresh(&c, dir, &err), err);
    pil_compiled_close(&c);
    assert_ok(pil_compile(dir, out, "org/Näme", PILLION_PRECISION_F32, NULL, NULL, &err), err);
    assert_ok(pil_compiled_open(&c, out, &err), err);
    assert_string_equal(c.config.name, "org/Näme");
    assert_string_equal(c.source, "");
    assert_int_equal(pil_compiled_fresh(&c, dir, &err), PILLION_E_STALE);
    size_t n;
    char *bytes = pil_test_read(out, &n);
    assert_null(memmem(bytes, n, dir, strlen(dir)));
    free(bytes);
    pil_compiled_close(&c);
}

typedef struct seen {
    uint64_t done, total;
    int calls;
} seen;

static void see(uint64_t done, uint64_t total, void *ud) {
    seen *s = ud;
    assert_true(done >= s->done && done <= total);
    if (s->calls++) assert_int_equal(total, s->total);
    s->done = done;
    s->total = total;
}

static void progress_grows_and_ends_at_the_total(void **state) {
    (void)state;
    seen s = {0};
    pillion_error err = {0};
    pil_tiny_model_write(dir, "mpnet", NULL);
    assert_ok(pil_compile(dir, out, NULL, PILLION_PRECISION_F32, see, &s, &err), err);
    assert_true(s.calls > 10);
    assert_int_equal(s.done, s.total);
}

/* ── What is refused ────────────────────────────────────────────────────────────────────────────────────────── */

static void assert_refused(pillion_status code, const char *says) {
    pillion_error err = {0};
    struct stat s;
    pillion_status st = pil_compile(dir, out, NULL, PILLION_PRECISION_F32, NULL, NULL, &err);
    assert_int_equal(st, err.code);
    assert_error(err, code, says);
    assert_error(err, code, dir);
    assert_int_equal(stat(out, &s), -1);
    char folder[PIL_TEST_PATH];
    pil_test_path(folder, dir, "out");
    assert_int_equal(stat(folder, &s), 0);
    pil_test_path(folder, dir, "out/keep");
    assert_int_equal(remove(folder), 0);
    pil_test_path(folder, dir, "out");
    assert_int_equal(remove(folder), 0); /* works only when nothing else is in it */
    pil_test_write_text(dir, "out/keep", "");
}

static void a_checkpoint_that_does_not_fit_its_configuration_is_refused(void **state) {
    (void)state;
    static const struct {
        const char *file, *from, *to, *says;
        pillion_status code;
    } cases[] = {
        {"model.safetensors", "embeddings.word_embeddings", "embeddings.Word_embeddings",
         "no tensor \"embeddings.word_embeddings.weight\" in the weights", PILLION_E_FORMAT},
        {"model.safetensors", "encoder.layer.1.output.dense.bias", "encoder.layer.9.output.dense.bias",
         "tensor \"encoder.layer.1.output.dense.bias\" is missing", PILLION_E_FORMAT},
        {"model.safetensors", "attention.self.key.weight\":{\"dtype\":\"F32\",\"shape\":[32,32]",
         "attention.self.key.weight\":{\"dtype\":\"F32\",\"shape\":[64,16]",
         "key.weight\" has shape [64, 16], not [32, 32]", PILLION_E_FORMAT},
        {"model.safetensors", "intermediate.dense.weight\":{\"dtype\":\"F32\",\"shape\":[64,32]",
         "intermediate.dense.weight\":{\"dtype\":\"F32\",\"shape\":[32,64]", "has shape [32, 64], not [64, 32]",
         PILLION_E_FORMAT},
        {"model.safetensors", "\"F32\",\"shape\":[64]", "\"I32\",\"shape\":[64]", "has type I32",
         PILLION_E_UNSUPPORTED},
        {"config.json", "\"num_hidden_layers\":2", "\"num_hidden_layers\":3", "\"encoder.layer.2.", PILLION_E_FORMAT},
        {"config.json", "\"intermediate_size\":64", "\"intermediate_size\":48", "do not belong together",
         PILLION_E_FORMAT},
        {"config.json", "\"max_position_embeddings\":64", "\"max_position_embeddings\":60", "embeddings.position",
         PILLION_E_FORMAT},
        {"tokenizer.json", "\"type\":\"WordPiece\",\"unk", "\"type\":\"WordPiecf\",\"unk",
         "tokenizer.json: ", PILLION_E_UNSUPPORTED},
        {"tokenizer.json", "\"version\":\"1.0\"", "\"version\":\"1.0\x01", "tokenizer.json: ", PILLION_E_FORMAT},
        {"tokenizer.json", "\"1\":32", "\"1\":999", "gives id 999, the embedding table has", PILLION_E_FORMAT},
        {"sentence_bert_config.json", "\"max_seq_length\":48", "\"max_seq_length\":2 ", "leaves no room",
         PILLION_E_FORMAT},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        pil_tiny_model_write(dir, "bert", NULL);
        replace_in(cases[i].file, cases[i].from, cases[i].to);
        assert_refused(cases[i].code, cases[i].says);
    }
}

/* The output's folder does not exist: who hears of that has already been told that the weights are wrong. */
static void shapes_are_checked_before_the_disk_is_asked_for_anything(void **state) {
    (void)state;
    pillion_error err = {0};
    pil_tiny_model_write(dir, "bert", &(pil_tiny_options){.dense = 32});
    replace_in("2_Dense/model.safetensors", "\"shape\":[32,32]", "\"shape\":[64,16]");
    assert_int_equal(pil_compile(dir, "/no/such/place/m", NULL, PILLION_PRECISION_F32, NULL, NULL, &err),
                     PILLION_E_FORMAT);
    assert_error(err, PILLION_E_FORMAT, "do not belong together: tensor \"linear.weight\" has shape [64, 16], not");
}

static void a_tokenizer_that_must_lower_case_does_so_or_is_refused(void **state) {
    (void)state;
    static const char sequence[] =
        "\"normalizer\":{\"type\":\"Sequence\",\"normalizers\":[{\"type\":\"BertNormalizer\"";
    pil_tiny_model_write(dir, "bert", NULL);
    replace_in("sentence_bert_config.json", "\"do_lower_case\":false", "\"do_lower_case\":true ");
    pil_compiled c = compile_model();
    pil_compiled_close(&c);
    replace_in("tokenizer.json", "\"normalizer\":{\"type\":\"BertNormalizer\"", sequence);
    replace_in("tokenizer.json", "\"lowercase\":true}", "\"lowercase\":true}]}");
    c = compile_model();
    pil_compiled_close(&c);
    remove(out);
    replace_in("tokenizer.json", "\"lowercase\":true", "\"lowercase\":false");
    assert_refused(PILLION_E_UNSUPPORTED, "\"do_lower_case\"");
}

static void missing_files_are_named(void **state) {
    (void)state;
    static const struct {
        const char *file, *says;
    } cases[] = {
        {"tokenizer.json", "tokenizer.json is missing; make it once"},
        {"model.safetensors", "neither model.safetensors nor"},
        {"2_Dense/model.safetensors", "2_Dense: neither model.safetensors nor"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char path[PIL_TEST_PATH];
        pil_tiny_model_write(dir, "bert", &(pil_tiny_options){.dense = 32});
        pil_test_path(path, dir, cases[i].file);
        assert_int_equal(remove(path), 0);
        assert_refused(PILLION_E_NOT_FOUND, cases[i].says);
    }
    pil_tiny_model_write(dir, "bert", &(pil_tiny_options){.dense = 32});
    replace_in("2_Dense/model.safetensors", "linear.bias", "linear.bia_");
    assert_refused(PILLION_E_FORMAT, "2_Dense: tensor \"linear.bias\" is missing");
}

static void weights_without_a_finite_vector_are_refused(void **state) {
    (void)state;
    char path[PIL_TEST_PATH];
    size_t n;
    pil_tiny_model_write(dir, "bert", NULL);
    pil_test_path(path, dir, "model.safetensors");
    char *bytes = pil_test_read(path, &n);
    pil_safetensors *s;
    pillion_error err = {0};
    assert_ok(pil_safetensors_open_memory(&s, bytes, n, &err), err);
    size_t at = (size_t)((const char *)pil_safetensors_find(s, "encoder.layer.0.output.dense.bias")->data - bytes);
    pil_safetensors_close(s);
    memcpy(bytes + at, &(float){NAN}, sizeof(float));
    pil_test_write(dir, "model.safetensors", bytes, n);
    free(bytes);
    assert_refused(PILLION_E_NUMERIC, "NaN");
}

static void wrong_arguments_are_refused(void **state) {
    (void)state;
    char long_name[PIL_NAME_BYTES + 1];
    memset(long_name, 'x', PIL_NAME_BYTES);
    long_name[PIL_NAME_BYTES] = '\0';
    const char *const names[] = {"", long_name, "\xFF"};
    pil_tiny_model_write(dir, "bert", NULL);
    for (size_t i = 0; i < 3; i++) {
        pillion_error err = {0};
        assert_int_equal(pil_compile(dir, out, names[i], PILLION_PRECISION_F32, NULL, NULL, &err), PILLION_E_ARG);
        assert_error(err, PILLION_E_ARG, "name");
    }
    pillion_error err = {0};
    assert_int_equal(pil_compile(dir, out, NULL, PILLION_PRECISION_INT8, NULL, NULL, &err), PILLION_E_UNSUPPORTED);
    assert_error(err, PILLION_E_UNSUPPORTED, "f32");
    err = (pillion_error){0};
    assert_int_equal(pil_compile(dir, "/no/such/place/m", NULL, PILLION_PRECISION_F32, NULL, NULL, &err),
                     PILLION_E_NOT_FOUND);
    assert_error(err, PILLION_E_NOT_FOUND, "/no/such/place");
    assert_false(pil_file_exists(out));
}

/* A file with one tensor that no model has. */
static void write_stray(size_t i) {
    char name[64], path[PIL_TEST_PATH];
    pil_safetensors_writer *w;
    pillion_error err = {0};
    snprintf(name, sizeof name, "stray-%zu.safetensors", i);
    pil_test_path(path, dir, name);
    snprintf(name, sizeof name, "stray.%zu", i);
    assert_ok(pil_safetensors_writer_create(&w, path, &err), err);
    assert_ok(pil_safetensors_writer_declare(w, name, PIL_DTYPE_F32, 1, &(uint64_t){1}, &err), err);
    assert_ok(pil_safetensors_writer_layout(w, &err), err);
    assert_ok(pil_safetensors_writer_commit(w, &err), err);
}

static void a_checkpoint_may_have_as_many_shards_as_can_be_noted(void **state) {
    (void)state;
    pil_tiny_model_write(dir, "bert", &(pil_tiny_options){.sharded = true});
    char *index = NULL;
    size_t n;
    FILE *f = open_memstream(&index, &n);
    fprintf(f, "\"weight_map\":{");
    for (size_t i = 0; i < PIL_LIMIT_SHARDS - 2; i++) {
        write_stray(i);
        fprintf(f, "\"stray.%zu\":\"stray-%zu.safetensors\",", i, i);
    }
    fclose(f);
    replace_in("model.safetensors.index.json", "\"weight_map\":{", index);
    free(index);
    pil_compiled c = compile_model();
    pillion_error err = {0};
    assert_ok(pil_compiled_fresh(&c, dir, &err), err);
    pil_test_write_text(dir, "stray-1021.safetensors", "");
    assert_int_equal(pil_compiled_fresh(&c, dir, &err), PILLION_E_STALE);
    assert_error(err, PILLION_E_STALE, "stray-1021.safetensors changed");
    pil_compiled_close(&c);
}

static void touch_a_source(uint64_t done, uint64_t total, void *ud) {
    (void)total;
    bool *touched = ud;
    if (done && !*touched) pil_test_write_text(dir, "sentence_bert_config.json", "{\"max_seq_length\":20}");
    *touched = true;
}

static void a_source_that_changes_meanwhile_fails_the_compilation(void **state) {
    (void)state;
    bool touched = false;
    pillion_error err = {0};
    pil_tiny_model_write(dir, "bert", NULL);
    assert_int_equal(pil_compile(dir, out, NULL, PILLION_PRECISION_F32, touch_a_source, &touched, &err),
                     PILLION_E_STALE);
    assert_error(err, PILLION_E_STALE, "sentence_bert_config.json changed while it was compiled");
    assert_false(pil_file_exists(out));
}

/* Cuts or replaces a file of the source when half of the weights are done. */
typedef struct meddling {
    const char *file;
    bool replace, done;
} meddling;

static void meddle(uint64_t done, uint64_t total, void *ud) {
    meddling *m = ud;
    if (m->done || done < total / 2) return;
    m->done = true;
    char path[PIL_TEST_PATH];
    pil_test_path(path, dir, m->file);
    if (!m->replace) {
        assert_int_equal(truncate(path, 4096), 0);
        return;
    }
    size_t n;
    char *bytes = pil_test_read(path, &n);
    assert_int_equal(remove(path), 0);
    pil_test_write(dir, m->file, bytes, n);
    free(bytes);
}

static void weights_that_are_cut_or_replaced_meanwhile_fail_the_compilation(void **state) {
    (void)state;
    static const char *const files[] = {"model.safetensors", "model-00002-of-00002.safetensors"};
    for (int i = 0; i < 4; i++) {
        meddling m = {.file = files[i & 1], .replace = i & 2};
        pillion_error err = {0};
        pil_test_path(out, dir, "model.safetensors"); /* the single file comes first, so none may be left */
        remove(out);
        pil_test_path(out, dir, "out/m.safetensors");
        pil_tiny_model_write(dir, "bert", &(pil_tiny_options){.sharded = i & 1});
        assert_int_equal(pil_compile(dir, out, NULL, PILLION_PRECISION_F32, meddle, &m, &err), PILLION_E_STALE);
        assert_error(err, PILLION_E_STALE, m.file);
        assert_true(m.done);
        assert_false(pil_file_exists(out));
    }
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, make_dirs, remove_dirs)

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(weights_are_packed_joined_and_named_for_the_engine),
        TEST(types_shards_and_prefixes_of_the_checkpoint_make_no_difference),
        TEST(norms_of_old_checkpoints_are_found_as_gamma_and_beta),
        TEST(dense_modules_are_packed_and_their_odd_columns_are_zero),
        TEST(the_name_and_the_origin_are_kept_unless_a_name_is_given),
        TEST(progress_grows_and_ends_at_the_total),
        TEST(a_checkpoint_that_does_not_fit_its_configuration_is_refused),
        TEST(shapes_are_checked_before_the_disk_is_asked_for_anything),
        TEST(a_tokenizer_that_must_lower_case_does_so_or_is_refused),
        TEST(missing_files_are_named),
        TEST(weights_without_a_finite_vector_are_refused),
        TEST(wrong_arguments_are_refused),
        TEST(a_checkpoint_may_have_as_many_shards_as_can_be_noted),
        TEST(weights_that_are_cut_or_replaced_meanwhile_fail_the_compilation),
        TEST(a_source_that_changes_meanwhile_fails_the_compilation),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
