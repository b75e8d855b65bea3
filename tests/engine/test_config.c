/* Configuration: what is refused, and that JSON keeps every field. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/limits.h"
#include "engine/engine.h"

static pil_config small(void) {
    pil_config c = {.name = "a \"name\"",
                    .family = "bert",
                    .hidden = 32,
                    .layers = 2,
                    .heads = 4,
                    .ffn = 64,
                    .vocab = 100,
                    .positions = 64,
                    .types = 2,
                    .norm_eps = 1e-12f,
                    .max_tokens = 64,
                    .pooling = PIL_POOL_MEAN,
                    .pool_prompt = true,
                    .default_prompt = -1};
    return c;
}

static void a_sound_configuration_is_accepted(void **state) {
    (void)state;
    pil_config c = small();
    assert_int_equal(pil_config_check(&c, NULL), PILLION_OK);
}

/* One field at a time made wrong; each must be refused with a message that names it. */
static void each_wrong_field_is_named(void **state) {
    (void)state;
    const struct {
        size_t offset;
        uint32_t value;
        const char *names;
    } cases[] = {
        {offsetof(pil_config, hidden), 0, "hidden_size"},
        {offsetof(pil_config, hidden), PIL_LIMIT_HIDDEN + 1, "hidden_size"},
        {offsetof(pil_config, hidden), 33, "num_attention_heads"},
        {offsetof(pil_config, layers), 0, "num_hidden_layers"},
        {offsetof(pil_config, layers), PIL_LIMIT_LAYERS + 1, "num_hidden_layers"},
        {offsetof(pil_config, heads), 0, "num_attention_heads"},
        {offsetof(pil_config, ffn), 0, "intermediate_size"},
        {offsetof(pil_config, vocab), PIL_LIMIT_VOCAB + 1, "vocab_size"},
        {offsetof(pil_config, positions), 0, "max_position_embeddings"},
        {offsetof(pil_config, max_tokens), 65, "maximum number of tokens"},
        {offsetof(pil_config, pooling), 0, "pooling"},
        {offsetof(pil_config, pooling), 64, "pooling"},
        {offsetof(pil_config, position_offset), 1, "positions"},
        {offsetof(pil_config, default_prompt), 0, "prompt"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        pil_config c = small();
        memcpy((char *)&c + cases[i].offset, &cases[i].value, sizeof cases[i].value);
        pillion_error err = {0};
        assert_int_equal(pil_config_check(&c, &err), PILLION_E_FORMAT);
        if (!strstr(err.text, cases[i].names))
            fail_msg("case %zu: \"%s\" does not name %s", i, err.text, cases[i].names);
    }
}

static void norm_eps_must_be_a_small_positive_number(void **state) {
    (void)state;
    const float wrong[] = {0, -1e-12f, 1, 0.0f / 0.0f};
    for (size_t i = 0; i < 4; i++) {
        pil_config c = small();
        c.norm_eps = wrong[i];
        assert_int_equal(pil_config_check(&c, NULL), PILLION_E_FORMAT);
    }
}

static void pad_aware_positions_leave_room_for_the_pad_row(void **state) {
    (void)state;
    pil_config c = small();
    c.position = PIL_POSITION_PAD_AWARE;
    c.position_offset = 1;
    c.max_tokens = 62;
    assert_int_equal(pil_config_check(&c, NULL), PILLION_OK);
    c.max_tokens = 63;
    assert_int_equal(pil_config_check(&c, NULL), PILLION_E_FORMAT);
}

static void dense_modules_must_chain(void **state) {
    (void)state;
    pil_config c = small();
    c.pooling = PIL_POOL_CLS | PIL_POOL_MEAN;
    c.n_dense = 2;
    c.dense[0] = (pil_dense){.n_in = 64, .n_out = 48, .bias = true, .activation = PIL_ACTIVATION_TANH};
    c.dense[1] = (pil_dense){.n_in = 48, .n_out = 16, .activation = PIL_ACTIVATION_IDENTITY};
    assert_int_equal(pil_config_check(&c, NULL), PILLION_OK);
    assert_int_equal(pil_config_pooled_dim(&c), 64);
    assert_int_equal(pil_config_dim(&c), 16);
    c.dense[1].n_in = 47;
    pillion_error err = {0};
    assert_int_equal(pil_config_check(&c, &err), PILLION_E_FORMAT);
    assert_non_null(strstr(err.text, "dense module 1"));
}

static void json_keeps_every_field(void **state) {
    (void)state;
    pil_config c = small(), back;
    snprintf(c.family, sizeof c.family, "%s", "mpnet");
    c.position = PIL_POSITION_PAD_AWARE;
    c.position_offset = 1;
    c.max_tokens = 50;
    c.activation = PIL_ACTIVATION_GELU_TANH;
    c.relative_bias = true;
    c.pool_prompt = false;
    c.normalize = true;
    c.norm_eps = 1e-5f;
    c.n_dense = 1;
    c.dense[0] = (pil_dense){.n_in = 32, .n_out = 24, .bias = true, .activation = PIL_ACTIVATION_TANH};
    c.n_prompts = 2;
    c.default_prompt = 1;
    snprintf(c.prompts[0].name, sizeof c.prompts[0].name, "%s", "query");
    snprintf(c.prompts[0].text, sizeof c.prompts[0].text, "%s", "query: ");
    snprintf(c.prompts[1].name, sizeof c.prompts[1].name, "%s", "passage");
    snprintf(c.prompts[1].text, sizeof c.prompts[1].text, "%s", "passage:\n\"é\" ");
    pil_buf b;
    pil_buf_init(&b, PIL_MIB);
    assert_int_equal(pil_config_put_json(&c, &b), PILLION_OK);
    pil_json *json;
    assert_int_equal(pil_json_parse(&json, b.bytes, b.len, NULL, NULL), PILLION_OK);
    assert_int_equal(pil_config_from_json(&back, json, NULL), PILLION_OK);
    assert_memory_equal(&c, &back, sizeof c);
    pil_json_free(json);
    pil_buf_deinit(&b);
}

static void json_without_a_field_is_refused(void **state) {
    (void)state;
    const char text[] = "{\"name\":\"x\",\"family\":\"bert\",\"hidden\":32}";
    pil_json *json;
    pil_config c;
    pillion_error err = {0};
    assert_int_equal(pil_json_parse(&json, text, sizeof text - 1, NULL, NULL), PILLION_OK);
    assert_int_equal(pil_config_from_json(&c, json, &err), PILLION_E_FORMAT);
    assert_non_null(strstr(err.text, "layers"));
    pil_json_free(json);
}

static void pooling_names_keep_the_reference_order(void **state) {
    (void)state;
    char name[64];
    pil_config_pooling_name(PIL_POOL_LAST | PIL_POOL_CLS | PIL_POOL_MEAN, name, sizeof name);
    assert_string_equal(name, "cls+mean+lasttoken");
    pil_config_pooling_name(63, name, 8);
    assert_true(strlen(name) < 8);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_sound_configuration_is_accepted),
        cmocka_unit_test(each_wrong_field_is_named),
        cmocka_unit_test(norm_eps_must_be_a_small_positive_number),
        cmocka_unit_test(pad_aware_positions_leave_room_for_the_pad_row),
        cmocka_unit_test(dense_modules_must_chain),
        cmocka_unit_test(json_keeps_every_field),
        cmocka_unit_test(json_without_a_field_is_refused),
        cmocka_unit_test(pooling_names_keep_the_reference_order),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
