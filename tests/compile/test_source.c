/* test_source.c - reading the configuration half of a Hugging Face directory, and what is said when it cannot be
 * used. */
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/limits.h"
#include "compile/compile.h"
#include "support/files.h"
#include "support/test.h"
#include "support/tiny_model.h"

static char dir[PIL_TEST_PATH];

static int make_model(void **state) {
    (void)state;
    pil_test_dir_make(dir);
    pil_tiny_model_write(dir, "bert", NULL);
    return 0;
}

static int remove_model(void **state) {
    (void)state;
    pil_test_dir_remove(dir);
    return 0;
}

static pil_source *open_source(void) {
    pil_source *s;
    pillion_error err = {0};
    assert_ok(pil_source_open(&s, dir, &err), err);
    return s;
}

static pillion_error open_fails(void) {
    pil_source *s;
    pillion_error err = {0};
    pillion_status st = pil_source_open(&s, dir, &err);
    assert_null(s);
    assert_int_equal(st, err.code);
    return err;
}

static void remove_file(const char *name) {
    char path[PIL_TEST_PATH];
    pil_test_path(path, dir, name);
    assert_int_equal(remove(path), 0);
}

static void a_usual_directory_is_read_completely(void **state) {
    (void)state;
    pil_source *s = open_source();
    const pil_config *c = &s->config;
    assert_string_equal(c->family, "bert");
    assert_int_equal(c->hidden, 32);
    assert_int_equal(c->layers, 2);
    assert_int_equal(c->heads, 4);
    assert_int_equal(c->ffn, 64);
    assert_int_equal(c->positions, 64);
    assert_int_equal(c->types, 2);
    assert_int_equal(c->max_tokens, PIL_TINY_MAX_TOKENS);
    assert_int_equal(c->pooling, PIL_POOL_MEAN);
    assert_true(c->pool_prompt && c->normalize);
    assert_int_equal(c->n_dense, 0);
    assert_int_equal(c->n_prompts, 0);
    assert_int_equal(c->default_prompt, -1);
    assert_string_equal(c->name, strrchr(dir, '/') + 1);
    assert_string_equal(s->transformer, "");
    pil_source_close(s);
}

static void every_file_that_was_looked_for_is_noted(void **state) {
    (void)state;
    static const char *const wanted[] = {"config.json",
                                         "modules.json",
                                         "1_Pooling/config.json",
                                         "3_Normalize/config.json",
                                         "sentence_bert_config.json",
                                         "config_sentence_transformers.json"};
    pil_source *s = open_source();
    for (size_t i = 0; i < sizeof wanted / sizeof *wanted; i++) {
        const pil_source_file *found = NULL;
        for (size_t f = 0; f < s->n_files; f++)
            if (strcmp(s->files[f].name, wanted[i]) == 0) found = &s->files[f];
        if (!found) fail_msg("%s is not noted", wanted[i]);
        assert_int_equal(found->stamp[0] != '\0', strcmp(wanted[i], "3_Normalize/config.json") != 0);
    }
    pil_source_close(s);
}

static void without_modules_the_pooling_is_mean_and_only_tokenizer_and_positions_limit(void **state) {
    (void)state;
    remove_file("modules.json");
    pil_test_write_text(dir, "config_sentence_transformers.json", "{\"prompts\":{\"q\":\"query: \"}}");
    pil_source *s = open_source();
    assert_int_equal(s->config.pooling, PIL_POOL_MEAN);
    assert_false(s->config.normalize);
    assert_int_equal(s->config.max_tokens, 64);
    assert_int_equal(s->config.n_prompts, 0);
    pil_source_close(s);
    pil_test_write_text(dir, "tokenizer_config.json", "{\"model_max_length\":17}");
    s = open_source();
    assert_int_equal(s->config.max_tokens, 17);
    pil_source_close(s);
}

static void the_token_limit_follows_module_then_tokenizer_then_positions(void **state) {
    (void)state;
    static const struct {
        const char *module, *tokenizer;
        uint32_t limit;
    } cases[] = {
        {"{\"max_seq_length\":20}", "{\"model_max_length\":10}", 20},
        {"{\"max_seq_length\":20.0}", "{}", 20},
        {"{\"max_seq_length\":512}", "{\"model_max_length\":10}", 64},
        {"{\"max_seq_length\":null}", "{\"model_max_length\":10}", 10},
        {"{\"do_lower_case\":false}", "{\"model_max_length\":10}", 10},
        {"{}", "{\"model_max_length\":1000000000000000019884624838656}", 64},
        {"{}", "{\"model_max_length\":1e30}", 64},
        {"{}", "{\"model_max_length\":null}", 64},
        {"{}", "{}", 64},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        pil_test_write_text(dir, "sentence_bert_config.json", cases[i].module);
        pil_test_write_text(dir, "tokenizer_config.json", cases[i].tokenizer);
        pil_source *s = open_source();
        if (s->config.max_tokens != cases[i].limit) fail_msg("case %zu: %u tokens", i, s->config.max_tokens);
        pil_source_close(s);
    }
    remove_file("sentence_bert_config.json");
    remove_file("tokenizer_config.json");
    pil_test_write_text(dir, "sentence_xlm-roberta_config.json", "{\"max_seq_length\":30}");
    pil_source *s = open_source();
    assert_int_equal(s->config.max_tokens, 30);
    pil_source_close(s);
}

static void positions_counted_from_the_pad_id_leave_fewer_tokens(void **state) {
    (void)state;
    pil_tiny_model_write(dir, "xlm-roberta", NULL);
    pil_test_write_text(dir, "sentence_bert_config.json", "{\"max_seq_length\":64}");
    pil_source *s = open_source();
    assert_int_equal(s->config.max_tokens, 62);
    assert_int_equal(s->config.position, PIL_POSITION_PAD_AWARE);
    pil_source_close(s);
}

static void old_and_new_pooling_configurations_are_understood(void **state) {
    (void)state;
    static const struct {
        const char *config;
        uint32_t pooling;
        bool pool_prompt;
    } cases[] = {
        {"{\"word_embedding_dimension\":32}", PIL_POOL_MEAN, true},
        {"{\"pooling_mode_cls_token\":true,\"pooling_mode_mean_tokens\":false}", PIL_POOL_CLS, true},
        {"{\"pooling_mode_cls_token\":false,\"pooling_mode_mean_tokens\":false}", PIL_POOL_MEAN, true},
        {"{\"pooling_mode_mean_tokens\":true,\"pooling_mode_cls_token\":true}", PIL_POOL_CLS | PIL_POOL_MEAN, true},
        {"{\"pooling_mode_max_tokens\":true}", PIL_POOL_MAX, true},
        {"{\"pooling_mode_mean_sqrt_len_tokens\":true}", PIL_POOL_MEAN_SQRT_LEN, true},
        {"{\"pooling_mode_weightedmean_tokens\":true}", PIL_POOL_WEIGHTED_MEAN, true},
        {"{\"pooling_mode_lasttoken\":true,\"include_prompt\":false}", PIL_POOL_LAST, false},
        {"{\"embedding_dimension\":32,\"pooling_mode\":\"cls\"}", PIL_POOL_CLS, true},
        {"{\"pooling_mode\":\"lasttoken\",\"pooling_mode_mean_tokens\":true}", PIL_POOL_LAST, true},
        {"{\"pooling_mode\":[\"cls\",\"max\",\"weightedmean\"]}",
         PIL_POOL_CLS | PIL_POOL_MAX | PIL_POOL_WEIGHTED_MEAN, true},
        {"{\"pooling_mode\":[\"mean\"],\"include_prompt\":true}", PIL_POOL_MEAN, true},
        {"{\"pooling_mode\":\"mean_sqrt_len_tokens\"}", PIL_POOL_MEAN_SQRT_LEN, true},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        pil_test_write_text(dir, "1_Pooling/config.json", cases[i].config);
        pil_source *s = open_source();
        if (s->config.pooling != cases[i].pooling || s->config.pool_prompt != cases[i].pool_prompt)
            fail_msg("case %zu: pooling %u", i, s->config.pooling);
        pil_source_close(s);
    }
}

#define MODULE(path, type) "{\"idx\":0,\"name\":\"0\",\"path\":\"" path "\",\"type\":\"" type "\"}"
#define NEW "sentence_transformers.sentence_transformer.modules."

static void modules_are_matched_on_the_last_component_and_folders_followed(void **state) {
    (void)state;
    static const char *const moved[] = {"config.json", "sentence_bert_config.json", "tokenizer_config.json"};
    for (size_t i = 0; i < 3; i++) {
        char from[PIL_TEST_PATH], to[64];
        size_t n;
        pil_test_path(from, dir, moved[i]);
        char *bytes = pil_test_read(from, &n);
        snprintf(to, sizeof to, "0_Transformer/%s", moved[i]);
        pil_test_write(dir, to, bytes, n);
        free(bytes);
        remove_file(moved[i]);
    }
    pil_test_write_text(dir, "modules.json",
                        "[" MODULE("0_Transformer", "sentence_transformers.base.modules.transformer.Transformer") ","
                        MODULE("1_Pooling", NEW "pooling.Pooling") "," MODULE("2_Dropout", NEW "dropout.Dropout") ","
                        MODULE("2_Dense", NEW "dense.Dense") "," MODULE("3_Dense", "Dense") ","
                        MODULE("4_Normalize", NEW "normalize.Normalize") "]");
    pil_test_write_text(dir, "2_Dense/config.json", "{\"in_features\":32,\"out_features\":48}");
    pil_test_write_text(dir, "3_Dense/config.json",
                        "{\"in_features\":48,\"out_features\":16,\"bias\":false,\"activation_function\":null}");
    pil_source *s = open_source();
    assert_string_equal(s->transformer, "0_Transformer");
    assert_int_equal(s->config.max_tokens, PIL_TINY_MAX_TOKENS);
    assert_int_equal(s->config.n_dense, 2);
    assert_string_equal(s->dense[0], "2_Dense");
    assert_true(s->config.dense[0].bias);
    assert_int_equal(s->config.dense[0].activation, PIL_ACTIVATION_TANH);
    assert_string_equal(s->dense[1], "3_Dense");
    assert_false(s->config.dense[1].bias);
    assert_int_equal(s->config.dense[1].activation, PIL_ACTIVATION_IDENTITY);
    assert_int_equal(pil_config_dim(&s->config), 16);
    assert_true(s->config.normalize);
    pil_source_close(s);
}

static void dense_activations_are_read_by_their_class(void **state) {
    (void)state;
    static const struct {
        const char *name;
        pil_activation activation;
    } cases[] = {
        {"torch.nn.modules.linear.Identity", PIL_ACTIVATION_IDENTITY},
        {"torch.nn.modules.activation.Tanh", PIL_ACTIVATION_TANH},
        {"torch.nn.modules.activation.ReLU", PIL_ACTIVATION_RELU},
        {"torch.nn.modules.activation.GELU", PIL_ACTIVATION_GELU_ERF},
    };
    pil_tiny_model_write(dir, "bert", &(pil_tiny_options){.dense = 32});
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char text[256];
        snprintf(text, sizeof text, "{\"in_features\":32,\"out_features\":8,\"activation_function\":\"%s\"}",
                 cases[i].name);
        pil_test_write_text(dir, "2_Dense/config.json", text);
        pil_source *s = open_source();
        assert_int_equal(s->config.dense[0].activation, cases[i].activation);
        pil_source_close(s);
    }
}

static void prompts_and_their_default_are_read(void **state) {
    (void)state;
    pil_test_write_text(dir, "config_sentence_transformers.json",
                        "{\"prompts\":{\"query\":\"query: \",\"none\":null,\"long\":\"Représenter \\n\"},"
                        "\"default_prompt_name\":\"long\",\"similarity_fn_name\":\"cosine\",\"truncate_dim\":null}");
    pil_source *s = open_source();
    assert_int_equal(s->config.n_prompts, 3);
    assert_string_equal(s->config.prompts[0].name, "query");
    assert_string_equal(s->config.prompts[0].text, "query: ");
    assert_string_equal(s->config.prompts[1].text, "");
    assert_string_equal(s->config.prompts[2].text, "Représenter \n");
    assert_int_equal(s->config.default_prompt, 2);
    pil_source_close(s);
    pil_test_write_text(dir, "config_sentence_transformers.json",
                        "{\"prompts\":{\"q\":\"\"},\"default_prompt_name\":null}");
    s = open_source();
    assert_int_equal(s->config.default_prompt, -1);
    pil_source_close(s);
}

static void models_in_a_hugging_face_cache_are_called_by_their_repository(void **state) {
    (void)state;
    static const char folder[] = "models--some-org--some--name/snapshots/0123456789abcdef";
    char snapshot[PIL_TEST_PATH];
    pil_test_path(snapshot, dir, folder);
    pil_test_write_text(dir, "models--some-org--some--name/snapshots/0123456789abcdef/x", "");
    pil_tiny_model_write(snapshot, "bert", NULL);
    pil_source *s;
    pillion_error err = {0};
    assert_ok(pil_source_open(&s, snapshot, &err), err);
    assert_string_equal(s->config.name, "some-org/some--name");
    pil_source_close(s);
}

/* One file of the directory replaced by a text, and what must be said about it. */
typedef struct complaint {
    const char *file, *text;
    pillion_status code;
    const char *says;
} complaint;

#define LIST2(a, b) "[" a "," b "]"
#define LIST3(a, b, c) "[" a "," b "," c "]"
#define LIST4(a, b, c, d) "[" a "," b "," c "," d "]"
#define T MODULE("", "m.Transformer")
#define P MODULE("1_Pooling", "m.Pooling")
#define D MODULE("2_Dense", "m.Dense")
#define N MODULE("3_Normalize", "m.Normalize")
#define CONFIG(more)                                                                                             \
    "{\"model_type\":\"bert\",\"hidden_size\":32,\"num_hidden_layers\":2,\"num_attention_heads\":4,"                 \
    "\"intermediate_size\":64,\"vocab_size\":120,\"max_position_embeddings\":64,\"type_vocab_size\":2" more "}"
#define DENSE(more) "{\"in_features\":32,\"out_features\":8," more "}"

static const complaint complaints[] = {
    {"config.json", "{", PILLION_E_FORMAT, "config.json: byte"},
    {"config.json", "[]", PILLION_E_FORMAT, "\"model_type\" is missing; supported: bert"},
    {"config.json", "{\"model_type\":7}", PILLION_E_FORMAT, "\"model_type\" is missing"},
    {"config.json", "{\"model_type\":\"t5\"}", PILLION_E_UNSUPPORTED,
     "config.json: \"model_type\" is \"t5\"; supported: bert"},
    {"config.json", "{\"model_type\":\"bert\"}", PILLION_E_FORMAT, "config.json: \"hidden_size\" is missing"},
    {"config.json", "{\"model_type\":\"bert\",\"hidden_size\":-1}", PILLION_E_FORMAT, "\"hidden_size\" must be"},
    {"config.json", "{\"model_type\":\"bert\",\"hidden_size\":1e99}", PILLION_E_FORMAT, "\"hidden_size\" must be"},
    {"config.json", CONFIG(",\"hidden_act\":\"swish\""), PILLION_E_UNSUPPORTED,
     "\"hidden_act\" is \"swish\"; supported"},
    {"config.json", CONFIG(",\"position_embedding_type\":\"relative_key\""), PILLION_E_UNSUPPORTED,
     "\"relative_key\""},
    {"config.json", CONFIG(",\"layer_norm_eps\":-1"), PILLION_E_FORMAT, "layer_norm_eps"},
    {"config.json", CONFIG(",\"layer_norm_eps\":\"1e-5\""), PILLION_E_FORMAT, "\"layer_norm_eps\" must be a number"},
    {"config.json", CONFIG(",\"hidden_act\":7"), PILLION_E_FORMAT, "\"hidden_act\" must be a string"},
    {"config.json", CONFIG(",\"position_embedding_type\":[]"), PILLION_E_FORMAT, "must be a string"},
    {"config.json", CONFIG(",\"is_decoder\":\"no\""), PILLION_E_FORMAT, "\"is_decoder\" must be true or false"},
    {"modules.json", "{}", PILLION_E_FORMAT, "modules.json: not an array"},
    {"modules.json", "[1]", PILLION_E_FORMAT, "modules.json: module 0: \"path\""},
    {"modules.json", "[]", PILLION_E_UNSUPPORTED, "no Transformer module"},
    {"modules.json", "[" T "]", PILLION_E_UNSUPPORTED, "no Pooling module"},
    {"modules.json", LIST2(P, T), PILLION_E_UNSUPPORTED, "module 0: type is \"m.Pooling\"; supported, in this order"},
    {"modules.json", LIST3(T, P, P), PILLION_E_UNSUPPORTED, "module 2: type is \"m.Pooling\""},
    {"modules.json", LIST3(T, D, P), PILLION_E_UNSUPPORTED, "module 1: type is \"m.Dense\""},
    {"modules.json", LIST4(T, P, N, D), PILLION_E_UNSUPPORTED, "module 3: type is \"m.Dense\""},
    {"modules.json", LIST3(T, P, MODULE("", "m.LayerNorm")), PILLION_E_UNSUPPORTED, "\"m.LayerNorm\""},
    {"modules.json", LIST3(T, P, MODULE("", "")), PILLION_E_UNSUPPORTED, "module 2: type is \"\""},
    {"modules.json", "[" MODULE("../x", "m.Transformer") "]", PILLION_E_FORMAT,
     "\"path\" is \"../x\", must be a folder inside"},
    {"modules.json", "[" MODULE("/x", "m.Transformer") "]", PILLION_E_FORMAT, "must be a folder inside"},
    {"modules.json", "[" MODULE("a/..", "m.Transformer") "]", PILLION_E_FORMAT, "must be a folder inside"},
    {"modules.json", "[" MODULE("a/../../b", "m.Transformer") "]", PILLION_E_FORMAT, "must be a folder inside"},
    {"modules.json", "[" MODULE("..", "m.Transformer") "]", PILLION_E_FORMAT, "must be a folder inside"},
    {"modules.json", LIST2(T, MODULE("missing", "m.Pooling")), PILLION_E_NOT_FOUND, "missing/config.json"},
    {"modules.json", LIST2(MODULE("missing", "m.Transformer"), P), PILLION_E_NOT_FOUND, "missing/config.json"},
    {"modules.json", "[" T "," P "," D "," D "," D "," D "," D "]", PILLION_E_UNSUPPORTED, "more than 4 Dense"},
    {"1_Pooling/config.json", "[]", PILLION_E_FORMAT, "1_Pooling/config.json: not an object"},
    {"1_Pooling/config.json", "{\"pooling_mode\":\"median\"}", PILLION_E_UNSUPPORTED,
     "1_Pooling/config.json: \"pooling_mode\" is \"median\"; supported: cls, max"},
    {"1_Pooling/config.json", "{\"pooling_mode\":3}", PILLION_E_FORMAT, "\"pooling_mode\" is not a name"},
    {"1_Pooling/config.json", "{\"pooling_mode\":[\"mean\",\"cls\"]}", PILLION_E_UNSUPPORTED, "\"cls\" out of order"},
    {"1_Pooling/config.json", "{\"pooling_mode\":[\"mean\",\"mean\"]}", PILLION_E_UNSUPPORTED,
     "\"mean\" out of order"},
    {"1_Pooling/config.json", "{\"pooling_mode_median_tokens\":true}", PILLION_E_UNSUPPORTED,
     "\"pooling_mode_median_tokens\" is true"},
    {"2_Dense/config.json", "{\"out_features\":8}", PILLION_E_FORMAT,
     "2_Dense/config.json: \"in_features\" is missing"},
    {"2_Dense/config.json", "{\"in_features\":32,\"out_features\":0}", PILLION_E_FORMAT, "\"out_features\" must be"},
    {"2_Dense/config.json", "{\"in_features\":31,\"out_features\":8}", PILLION_E_FORMAT,
     "takes 31 values, the step before gives 32"},
    {"2_Dense/config.json", DENSE("\"activation_function\":\"torch.nn.modules.activation.SELU\""),
     PILLION_E_UNSUPPORTED, "\"activation_function\" is \"torch.nn.modules.activation.SELU\"; supported"},
    {"2_Dense/config.json", DENSE("\"activation_function\":7"), PILLION_E_UNSUPPORTED, "\"activation_function\" is"},
    {"2_Dense/config.json", DENSE("\"use_residual\":true"), PILLION_E_UNSUPPORTED, "\"use_residual\" is true"},
    {"2_Dense/config.json", DENSE("\"module_input_name\":\"token_embeddings\""), PILLION_E_UNSUPPORTED,
     "\"module_input_name\" is \"token_embeddings\""},
    {"3_Normalize/config.json", "{\"module_input_name\":\"token_embeddings\"}", PILLION_E_UNSUPPORTED,
     "3_Normalize/config.json: \"module_input_name\""},
    {"sentence_bert_config.json", "{\"max_seq_length\":0}", PILLION_E_FORMAT, "\"max_seq_length\" must be"},
    {"sentence_bert_config.json", "{\"max_seq_length\":\"long\"}", PILLION_E_FORMAT, "\"max_seq_length\" must be"},
    {"sentence_bert_config.json", "{\"max_seq_length\":", PILLION_E_FORMAT, "sentence_bert_config.json: byte"},
    {"config_sentence_transformers.json", "{\"prompts\":[]}", PILLION_E_FORMAT, "\"prompts\" is not an object"},
    {"config_sentence_transformers.json", "{\"prompts\":{\"a\":1}}", PILLION_E_FORMAT,
     "prompt \"a\" is not a string"},
    {"config_sentence_transformers.json", "{\"prompts\":{\"a\":\"x\\u0000y\"}}", PILLION_E_UNSUPPORTED, "holds NUL"},
    {"config_sentence_transformers.json", "{\"prompts\":{\"a\":\"\"},\"default_prompt_name\":\"b\"}",
     PILLION_E_FORMAT, "\"default_prompt_name\" is \"b\", which is not in \"prompts\""},
    {"config_sentence_transformers.json", "{\"truncate_dim\":16}", PILLION_E_UNSUPPORTED, "\"truncate_dim\" is set"},
};

static void every_configuration_that_cannot_be_used_is_named_in_one_line(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof complaints / sizeof *complaints; i++) {
        const complaint *c = &complaints[i];
        pil_tiny_model_write(dir, "bert", &(pil_tiny_options){.dense = 32});
        pil_test_write_text(dir, "3_Normalize/config.json", "{}");
        pil_test_write_text(dir, c->file, c->text);
        pillion_error err = open_fails();
        if (err.code != c->code || !strstr(err.text, c->says) || !strstr(err.text, dir) || strchr(err.text, '\n'))
            fail_msg("%s = %s: wanted %d \"%s\", got %d \"%s\"", c->file, c->text, c->code, c->says, err.code,
                     err.text);
    }
}

static void missing_and_unreadable_files_are_named(void **state) {
    (void)state;
    remove_file("config.json");
    assert_error(open_fails(), PILLION_E_NOT_FOUND, "config.json");
    char path[PIL_TEST_PATH];
    pil_test_path(path, dir, "config.json");
    assert_int_equal(mkdir(path, 0700), 0);
    assert_error(open_fails(), PILLION_E_IO, "config.json: not a regular file");
    pil_source *s;
    pillion_error err = {0};
    pil_test_path(path, dir, "no");
    assert_int_equal(pil_source_open(&s, path, &err), PILLION_E_NOT_FOUND);
    assert_error(err, PILLION_E_NOT_FOUND, "no such directory");
}

/* Empty arrays cost forty times their bytes in memory, so values are counted before any is built. */
static void files_of_endless_bytes_or_values_are_refused(void **state) {
    (void)state;
    static const char *const files[] = {"modules.json", "config.json", "1_Pooling/config.json",
                                        "sentence_bert_config.json", "config_sentence_transformers.json"};
    char *values = malloc(3 * PIL_LIMIT_CONFIG_VALUES + 4), *bytes = malloc(PIL_LIMIT_CONFIG_FILE + 1);
    assert_true(values && bytes);
    size_t n = 0;
    for (; n < 3 * PIL_LIMIT_CONFIG_VALUES; n += 3) memcpy(values + n, n ? ",[]" : "[[]", 3);
    values[n++] = ']';
    memset(bytes, ' ', PIL_LIMIT_CONFIG_FILE + 1);
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
        pil_tiny_model_write(dir, "bert", NULL);
        pil_test_write(dir, files[i], values, n);
        pillion_error err = open_fails();
        assert_error(err, PILLION_E_LIMIT, files[i]);
        assert_error(err, PILLION_E_LIMIT, "values or more, the limit is 262144");
        pil_test_write(dir, files[i], bytes, PIL_LIMIT_CONFIG_FILE + 1);
        err = open_fails();
        assert_error(err, PILLION_E_LIMIT, files[i]);
        assert_error(err, PILLION_E_LIMIT, "bytes, the limit is 2097152");
    }
    free(values);
    free(bytes);
}

static void too_many_and_too_long_prompts_are_refused(void **state) {
    (void)state;
    char *text = NULL;
    size_t n;
    FILE *f = open_memstream(&text, &n);
    fprintf(f, "{\"prompts\":{");
    for (int i = 0; i <= PIL_PROMPTS_MAX; i++) fprintf(f, "%s\"p%d\":\"\"", i ? "," : "", i);
    fprintf(f, "}}");
    fclose(f);
    pil_test_write(dir, "config_sentence_transformers.json", text, n);
    free(text);
    assert_error(open_fails(), PILLION_E_UNSUPPORTED, "\"prompts\" has more than 64");
    f = open_memstream(&text, &n);
    fprintf(f, "{\"prompts\":{\"p\":\"%0*d\"}}", PIL_PROMPT_BYTES, 0);
    fclose(f);
    pil_test_write(dir, "config_sentence_transformers.json", text, n);
    free(text);
    assert_error(open_fails(), PILLION_E_UNSUPPORTED, "a prompt's text has 1024 bytes");
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, make_model, remove_model)

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(a_usual_directory_is_read_completely),
        TEST(every_file_that_was_looked_for_is_noted),
        TEST(without_modules_the_pooling_is_mean_and_only_tokenizer_and_positions_limit),
        TEST(the_token_limit_follows_module_then_tokenizer_then_positions),
        TEST(positions_counted_from_the_pad_id_leave_fewer_tokens),
        TEST(old_and_new_pooling_configurations_are_understood),
        TEST(modules_are_matched_on_the_last_component_and_folders_followed),
        TEST(dense_activations_are_read_by_their_class),
        TEST(prompts_and_their_default_are_read),
        TEST(models_in_a_hugging_face_cache_are_called_by_their_repository),
        TEST(every_configuration_that_cannot_be_used_is_named_in_one_line),
        TEST(missing_and_unreadable_files_are_named),
        TEST(files_of_endless_bytes_or_values_are_refused),
        TEST(too_many_and_too_long_prompts_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
