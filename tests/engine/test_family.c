/* Families: which model types are known, and what each reads from config.json. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "engine/engine.h"

#define SIZES                                                                                                          \
    "\"hidden_size\":32,\"num_hidden_layers\":2,\"num_attention_heads\":4,\"intermediate_size\":64,\"vocab_size\":"    \
    "100,"                                                                                                             \
    "\"max_position_embeddings\":514"

static pillion_status read(const char *type, const char *config, pil_config *c, pillion_error *err) {
    const pil_family *f = pil_family_find(type);
    assert_non_null(f);
    pil_json *json;
    assert_int_equal(pil_json_parse(&json, config, strlen(config), NULL, NULL), PILLION_OK);
    *c = (pil_config){0};
    pillion_status st = f->read_config(c, json, err);
    pil_json_free(json);
    return st;
}

static void unknown_types_have_no_family(void **state) {
    (void)state;
    assert_null(pil_family_find("t5"));
    assert_null(pil_family_find(""));
    char list[128];
    pil_family_list(list, sizeof list);
    assert_non_null(strstr(list, "bert"));
    assert_non_null(strstr(list, "xlm-roberta"));
    assert_non_null(strstr(list, "mpnet"));
}

static void bert_counts_positions_from_zero(void **state) {
    (void)state;
    pil_config c;
    assert_int_equal(read("bert", "{" SIZES ",\"type_vocab_size\":2,\"pad_token_id\":0}", &c, NULL), PILLION_OK);
    assert_int_equal(c.position, PIL_POSITION_ABSOLUTE);
    assert_int_equal(c.position_offset, 0);
    assert_int_equal(c.max_tokens, 514);
    assert_int_equal(c.types, 2);
    assert_float_equal(c.norm_eps, 1e-12f, 0);
}

static void xlm_roberta_counts_positions_from_the_pad_id(void **state) {
    (void)state;
    pil_config c;
    assert_int_equal(
        read("xlm-roberta", "{" SIZES ",\"type_vocab_size\":1,\"pad_token_id\":1,\"layer_norm_eps\":1e-5}", &c, NULL),
        PILLION_OK);
    assert_int_equal(c.position, PIL_POSITION_PAD_AWARE);
    assert_int_equal(c.position_offset, 1);
    assert_int_equal(c.max_tokens, 512);
    assert_false(c.relative_bias);
}

static void mpnet_has_a_relative_bias_and_no_types(void **state) {
    (void)state;
    pil_config c;
    assert_int_equal(read("mpnet", "{" SIZES ",\"pad_token_id\":7}", &c, NULL), PILLION_OK);
    assert_true(c.relative_bias);
    assert_int_equal(c.types, 0);
    assert_int_equal(c.position_offset, 1); /* whatever the file says, as the reference */
}

static void wrong_fields_are_named(void **state) {
    (void)state;
    const struct {
        const char *config;
        pillion_status status;
        const char *names;
    } cases[] = {
        {"{}", PILLION_E_FORMAT, "hidden_size"},
        {"{\"hidden_size\":\"32\"}", PILLION_E_FORMAT, "hidden_size"},
        {"{\"hidden_size\":32.5}", PILLION_E_FORMAT, "hidden_size"},
        {"{" SIZES "}", PILLION_E_FORMAT, "type_vocab_size"},
        {"{" SIZES ",\"type_vocab_size\":2,\"hidden_act\":\"quick_gelu\"}", PILLION_E_UNSUPPORTED, "quick_gelu"},
        {"{" SIZES ",\"type_vocab_size\":2,\"position_embedding_type\":\"relative_key\"}", PILLION_E_UNSUPPORTED,
         "relative_key"},
        {"{" SIZES ",\"type_vocab_size\":2,\"is_decoder\":true}", PILLION_E_UNSUPPORTED, "is_decoder"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        pil_config c;
        pillion_error err = {0};
        assert_int_equal(read("bert", cases[i].config, &c, &err), cases[i].status);
        if (!strstr(err.text, cases[i].names))
            fail_msg("case %zu: \"%s\" does not name %s", i, err.text, cases[i].names);
    }
}

static void a_pad_id_beyond_the_positions_is_refused(void **state) {
    (void)state;
    pil_config c;
    assert_int_equal(read("roberta", "{" SIZES ",\"type_vocab_size\":1,\"pad_token_id\":513}", &c, NULL),
                     PILLION_E_FORMAT);
    assert_int_equal(read("roberta", "{" SIZES ",\"type_vocab_size\":1,\"pad_token_id\":-1}", &c, NULL),
                     PILLION_E_FORMAT);
}

static void every_rule_of_every_family_is_complete(void **state) {
    (void)state;
    const char *types[] = {"bert", "roberta", "mpnet"};
    for (size_t i = 0; i < 3; i++) {
        const pil_family *f = pil_family_find(types[i]);
        size_t n = 0;
        for (const pil_tensor_rule *r = f->rules; r->canonical; r++, n++) {
            assert_non_null(r->sources[0]);
            assert_int_equal(strstr(r->canonical, "%u") != NULL, strstr(r->sources[0], "%u") != NULL);
        }
        assert_true(n >= 16);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(unknown_types_have_no_family),
        cmocka_unit_test(bert_counts_positions_from_zero),
        cmocka_unit_test(xlm_roberta_counts_positions_from_the_pad_id),
        cmocka_unit_test(mpnet_has_a_relative_bias_and_no_types),
        cmocka_unit_test(wrong_fields_are_named),
        cmocka_unit_test(a_pad_id_beyond_the_positions_is_refused),
        cmocka_unit_test(every_rule_of_every_family_is_complete),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
