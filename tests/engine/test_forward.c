/* The forward pass and pooling against a plain double-precision encoder written from the formulas, on small random
 * networks of each family; and a text's bits in every batch mix. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "support/files.h"
#include "support/test.h"
#include "base/arena.h"
#include "base/limits.h"
#include "engine/engine.h"

/* ── A small random network, kept twice: plain for the reference, as a compiled file for the engine ─────────── */

typedef struct plain_tensor {
    char name[64];
    float *values; /* [rows, columns] as a checkpoint has them */
    uint32_t rows, columns; /* columns 0: a vector */
    bool packed;
} plain_tensor;

typedef struct fixture {
    char dir[PIL_TEST_PATH];
    pil_config config;
    plain_tensor tensors[128];
    size_t n_tensors;
    uint32_t seed;
    pil_arena arena;
    pil_safetensors *file;
    pil_network *network;
    pil_scratch *scratch;
} fixture;

static float random_value(fixture *f) {
    f->seed = f->seed * 1664525u + 1013904223u;
    return (float)(f->seed >> 8) / 16777216.0f - 0.5f;
}

static void add(fixture *f, bool packed, float scale, float center, uint32_t rows, uint32_t columns, const char *name) {
    plain_tensor *t = &f->tensors[f->n_tensors++];
    *t = (plain_tensor){.rows = rows, .columns = columns, .packed = packed};
    snprintf(t->name, sizeof t->name, "%s", name);
    size_t n = (size_t)rows * (columns ? columns : 1);
    t->values = pil_arena_alloc(&f->arena, n * sizeof(float));
    for (size_t i = 0; i < n; i++) t->values[i] = center + scale * random_value(f);
}

static void add_linear(fixture *f, const char *prefix, uint32_t n, uint32_t k) {
    char name[64];
    snprintf(name, sizeof name, "%s.weight", prefix);
    add(f, true, 2.0f / sqrtf((float)k), 0, n, k, name);
    snprintf(name, sizeof name, "%s.bias", prefix);
    add(f, false, 0.2f, 0, n, 0, name);
}

static void add_norm(fixture *f, const char *prefix) {
    char name[64];
    snprintf(name, sizeof name, "%s.weight", prefix);
    add(f, false, 0.5f, 1, f->config.hidden, 0, name);
    snprintf(name, sizeof name, "%s.bias", prefix);
    add(f, false, 0.5f, 0, f->config.hidden, 0, name);
}

static void add_all(fixture *f) {
    const pil_config *c = &f->config;
    add(f, false, 1, 0, c->vocab, c->hidden, "embeddings.word");
    add(f, false, 1, 0, c->positions, c->hidden, "embeddings.position");
    if (c->types) add(f, false, 1, 0, c->types, c->hidden, "embeddings.type");
    add_norm(f, "embeddings.norm");
    for (uint32_t i = 0; i < c->layers; i++) {
        char p[64];
        snprintf(p, sizeof p, "layer.%u.qkv", i);
        add_linear(f, p, 3 * c->hidden, c->hidden);
        snprintf(p, sizeof p, "layer.%u.attention_out", i);
        add_linear(f, p, c->hidden, c->hidden);
        snprintf(p, sizeof p, "layer.%u.attention_norm", i);
        add_norm(f, p);
        snprintf(p, sizeof p, "layer.%u.ffn_up", i);
        add_linear(f, p, c->ffn, c->hidden);
        snprintf(p, sizeof p, "layer.%u.ffn_down", i);
        add_linear(f, p, c->hidden, c->ffn);
        snprintf(p, sizeof p, "layer.%u.ffn_norm", i);
        add_norm(f, p);
    }
    if (c->relative_bias) add(f, false, 2, 0, 32, c->heads, "relative_bias");
    for (uint32_t i = 0; i < c->n_dense; i++) {
        char p[64];
        snprintf(p, sizeof p, "dense.%u", i);
        add_linear(f, p, c->dense[i].n_out, c->dense[i].n_in);
    }
}

static const plain_tensor *find(const fixture *f, const char *name) {
    for (size_t i = 0; i < f->n_tensors; i++)
        if (strcmp(f->tensors[i].name, name) == 0) return &f->tensors[i];
    fail_msg("no tensor %s", name);
    return NULL;
}

static uint64_t tiles(uint32_t rows) { return (rows + PIL_TILE_N - 1) / PIL_TILE_N; }

/* Writes all tensors but the one named `without` (NULL: all). */
static void write_file(fixture *f, const char *path, const char *without) {
    pillion_error err = {0};
    pil_safetensors_writer *w;
    assert_ok(pil_safetensors_writer_create(&w, path, &err), err);
    for (size_t i = 0; i < f->n_tensors; i++) {
        const plain_tensor *t = &f->tensors[i];
        if (without && strcmp(without, t->name) == 0) continue;
        uint64_t packed[] = {tiles(t->rows), t->columns, PIL_TILE_N}, plain[] = {t->rows, t->columns};
        assert_ok(pil_safetensors_writer_declare(w, t->name, PIL_DTYPE_F32, t->packed ? 3 : t->columns ? 2 : 1,
                                                 t->packed ? packed : plain, &err), err);
    }
    assert_ok(pil_safetensors_writer_layout(w, &err), err);
    for (size_t i = 0, at = 0; i < f->n_tensors; i++) {
        const plain_tensor *t = &f->tensors[i];
        if (without && strcmp(without, t->name) == 0) continue;
        float *to = pil_safetensors_writer_data(w, at++);
        if (t->packed) pil_pack_f32(to, t->values, t->rows, t->columns);
        else memcpy(to, t->values, (size_t)t->rows * (t->columns ? t->columns : 1) * sizeof *to);
    }
    assert_ok(pil_safetensors_writer_commit(w, &err), err);
}

static fixture *fixture_create(const pil_config *config) {
    fixture *f = calloc(1, sizeof *f);
    assert_non_null(f);
    f->config = *config;
    f->seed = 12345;
    pil_arena_init(&f->arena, PIL_GIB);
    add_all(f);
    pil_test_dir_make(f->dir);
    char path[PIL_TEST_PATH];
    pil_test_path(path, f->dir, "model.safetensors");
    write_file(f, path, NULL);
    pillion_error err = {0};
    assert_ok(pil_safetensors_open(&f->file, path, &err), err);
    assert_ok(pil_network_create(&f->network, &f->config, f->file, &err), err);
    assert_ok(pil_scratch_create(&f->scratch, f->network, 4 * (size_t)config->max_tokens, &err), err);
    return f;
}

static void fixture_destroy(fixture *f) {
    pil_scratch_destroy(f->scratch);
    pil_network_destroy(f->network);
    pil_safetensors_close(f->file);
    pil_arena_deinit(&f->arena);
    pil_test_dir_remove(f->dir);
    free(f);
}

/* ── The reference, in double ───────────────────────────────────────────────────────────────────────────────── */

static double *numbers(fixture *f, size_t n) {
    double *p = pil_arena_calloc(&f->arena, n, sizeof *p);
    assert_non_null(p);
    return p;
}

static void ref_linear(fixture *f, const char *prefix, size_t m, const double *x, double *y) {
    char name[64];
    snprintf(name, sizeof name, "%s.weight", prefix);
    const plain_tensor *w = find(f, name);
    snprintf(name, sizeof name, "%s.bias", prefix);
    const plain_tensor *b = find(f, name);
    for (size_t i = 0; i < m; i++)
        for (size_t j = 0; j < w->rows; j++) {
            double sum = (double)b->values[j];
            for (size_t k = 0; k < w->columns; k++)
                sum += x[i * w->columns + k] * (double)w->values[j * w->columns + k];
            y[i * w->rows + j] = sum;
        }
}

static void ref_norm(fixture *f, const char *prefix, size_t m, double *x) {
    char name[64];
    snprintf(name, sizeof name, "%s.weight", prefix);
    const float *w = find(f, name)->values;
    snprintf(name, sizeof name, "%s.bias", prefix);
    const float *b = find(f, name)->values;
    size_t h = f->config.hidden;
    for (size_t i = 0; i < m; i++, x += h) {
        double mean = 0, variance = 0;
        for (size_t j = 0; j < h; j++) mean += x[j] / (double)h;
        for (size_t j = 0; j < h; j++) variance += (x[j] - mean) * (x[j] - mean) / (double)h;
        for (size_t j = 0; j < h; j++)
            x[j] = (x[j] - mean) / sqrt(variance + (double)f->config.norm_eps) * (double)w[j] + (double)b[j];
    }
}

/* The bucket formula as the papers give it, evaluated in float like the reference implementation. */
static unsigned ref_bucket(long r) {
    long n = r < 0 ? -r : r;
    unsigned base = r > 0 ? 16 : 0;
    if (n < 8) return base + (unsigned)n;
    unsigned large = 8 + (unsigned)(logf((float)n / 8.0f) / logf(16.0f) * 8.0f);
    return base + (large < 15 ? large : 15);
}

static void ref_attention(fixture *f, size_t t, const double *qkv, double *out) {
    const pil_config *c = &f->config;
    size_t h = c->hidden, d = h / c->heads;
    double *p = numbers(f, t);
    for (size_t head = 0; head < c->heads; head++)
        for (size_t i = 0; i < t; i++) {
            double max = -INFINITY, sum = 0;
            for (size_t j = 0; j < t; j++) {
                double s = 0;
                for (size_t x = 0; x < d; x++) s += qkv[i * 3 * h + head * d + x] * qkv[j * 3 * h + h + head * d + x];
                s /= sqrt((double)d);
                if (c->relative_bias)
                    s += (double)find(f, "relative_bias")->values[ref_bucket((long)j - (long)i) * c->heads + head];
                p[j] = s;
                if (s > max) max = s;
            }
            for (size_t j = 0; j < t; j++) sum += p[j] = exp(p[j] - max);
            for (size_t x = 0; x < d; x++) {
                double v = 0;
                for (size_t j = 0; j < t; j++) v += p[j] / sum * qkv[j * 3 * h + 2 * h + head * d + x];
                out[i * h + head * d + x] = v;
            }
        }
}

static double ref_activate(pil_activation a, double x) {
    switch (a) {
    case PIL_ACTIVATION_GELU_ERF: return 0.5 * x * (1 + erf(x / sqrt(2)));
    case PIL_ACTIVATION_GELU_TANH: return 0.5 * x * (1 + tanh(sqrt(2 / M_PI) * (x + 0.044715 * x * x * x)));
    case PIL_ACTIVATION_RELU: return x > 0 ? x : 0;
    case PIL_ACTIVATION_TANH: return tanh(x);
    case PIL_ACTIVATION_IDENTITY: return x;
    }
    return 0;
}

/* Hidden states [t, hidden] of one sequence. */
static double *reference(fixture *f, const int32_t *ids, size_t t) {
    const pil_config *c = &f->config;
    size_t h = c->hidden;
    double *x = numbers(f, t * h), *qkv = numbers(f, t * 3 * h), *a = numbers(f, t * h), *o = numbers(f, t * h);
    double *u = numbers(f, t * c->ffn);
    const float *word = find(f, "embeddings.word")->values, *position = find(f, "embeddings.position")->values;
    for (size_t i = 0, seen = 0; i < t; i++) {
        size_t row = i + c->position_offset;
        if (c->position == PIL_POSITION_PAD_AWARE) {
            seen += (uint32_t)ids[i] != c->position_offset;
            row = c->position_offset + ((uint32_t)ids[i] != c->position_offset ? seen : 0);
        }
        for (size_t j = 0; j < h; j++) {
            x[i * h + j] = (double)word[(size_t)ids[i] * h + j] + (double)position[row * h + j];
            if (c->types) x[i * h + j] += (double)find(f, "embeddings.type")->values[j];
        }
    }
    ref_norm(f, "embeddings.norm", t, x);
    for (uint32_t l = 0; l < c->layers; l++) {
        char p[64];
#define PART(part) (snprintf(p, sizeof p, "layer.%u." part, l), p)
        ref_linear(f, PART("qkv"), t, x, qkv);
        ref_attention(f, t, qkv, a);
        ref_linear(f, PART("attention_out"), t, a, o);
        for (size_t i = 0; i < t * h; i++) x[i] += o[i];
        ref_norm(f, PART("attention_norm"), t, x);
        ref_linear(f, PART("ffn_up"), t, x, u);
        for (size_t i = 0; i < t * c->ffn; i++) u[i] = ref_activate(c->activation, u[i]);
        ref_linear(f, PART("ffn_down"), t, u, o);
        for (size_t i = 0; i < t * h; i++) x[i] += o[i];
        ref_norm(f, PART("ffn_norm"), t, x);
#undef PART
    }
    return x;
}

/* ── Tests ──────────────────────────────────────────────────────────────────────────────────────────────────── */

static pil_config bert_config(void) {
    return (pil_config){.name = "t", .family = "bert", .hidden = 48, .layers = 3, .heads = 3, .ffn = 80, .vocab = 50,
                        .positions = 150, .types = 2, .norm_eps = 1e-12f, .max_tokens = 150, .pooling = PIL_POOL_MEAN,
                        .pool_prompt = true, .default_prompt = -1};
}

static pil_config mpnet_config(void) {
    pil_config c = bert_config();
    snprintf(c.family, sizeof c.family, "%s", "mpnet");
    c.types = 0;
    c.position = PIL_POSITION_PAD_AWARE;
    c.position_offset = 1;
    c.max_tokens = 148;
    c.relative_bias = true;
    c.norm_eps = 1e-5f;
    return c;
}

static pil_config roberta_config(void) {
    pil_config c = mpnet_config();
    snprintf(c.family, sizeof c.family, "%s", "xlm-roberta");
    c.types = 1;
    c.relative_bias = false;
    c.activation = PIL_ACTIVATION_GELU_TANH;
    return c;
}

static void random_ids(fixture *f, int32_t *ids, size_t n) {
    for (size_t i = 0; i < n; i++)
        ids[i] = (int32_t)((random_value(f) + 0.5f) * (float)f->config.vocab) % (int32_t)f->config.vocab;
}

/* All lengths in one batch; hidden states within 2e-5 of the double-precision reference (values are of size 1). */
static void check_family(pil_config config) {
    static const uint32_t lengths[] = {1, 2, 3, 17, 64, 100, 140};
    enum { N = sizeof lengths / sizeof *lengths };
    fixture *f = fixture_create(&config);
    int32_t ids[512];
    uint32_t starts[N + 1] = {0};
    for (size_t i = 0; i < N; i++) starts[i + 1] = starts[i] + lengths[i];
    random_ids(f, ids, starts[N]);
    ids[starts[3] + 5] = 1; /* a pad id inside a text */
    const float *hidden;
    assert_int_equal(pil_network_forward(f->network, f->scratch, ids, starts, N, NULL, &hidden), PILLION_OK);
    double worst = 0;
    for (size_t i = 0; i < N; i++) {
        const double *want = reference(f, ids + starts[i], lengths[i]);
        for (size_t j = 0; j < lengths[i] * config.hidden; j++)
            worst = fmax(worst, fabs(want[j] - (double)hidden[starts[i] * config.hidden + j]));
    }
    if (!(worst < 2e-5)) fail_msg("%s: largest difference %g", config.family, worst);
    fixture_destroy(f);
}

static void bert_agrees_with_the_formulas(void **state) {
    (void)state;
    check_family(bert_config());
}

static void xlm_roberta_agrees_with_the_formulas(void **state) {
    (void)state;
    check_family(roberta_config());
}

static void mpnet_agrees_with_the_formulas(void **state) {
    (void)state;
    check_family(mpnet_config());
}

static void relu_networks_agree_with_the_formulas(void **state) {
    (void)state;
    pil_config c = bert_config();
    c.activation = PIL_ACTIVATION_RELU;
    check_family(c);
}

static void a_text_has_the_same_bits_in_every_batch(void **state) {
    (void)state;
    pil_config config = mpnet_config();
    fixture *f = fixture_create(&config);
    enum { LENGTH = 37 };
    int32_t ids[512];
    random_ids(f, ids, 512);
    size_t bytes = LENGTH * config.hidden * sizeof(float);
    float *alone = pil_arena_alloc(&f->arena, bytes);
    const float *hidden;
    uint32_t one[] = {0, LENGTH};
    assert_int_equal(pil_network_forward(f->network, f->scratch, ids + 200, one, 1, NULL, &hidden), PILLION_OK);
    memcpy(alone, hidden, bytes);
    for (uint32_t before = 1; before < 140; before += 13) {
        int32_t mixed[512];
        memcpy(mixed, ids, before * sizeof *ids);
        memcpy(mixed + before, ids + 200, LENGTH * sizeof *ids);
        memcpy(mixed + before + LENGTH, ids + 300, 11 * sizeof *ids);
        uint32_t starts[] = {0, before, before + LENGTH, before + LENGTH + 11};
        assert_int_equal(pil_network_forward(f->network, f->scratch, mixed, starts, 3, NULL, &hidden), PILLION_OK);
        assert_memory_equal(hidden + before * config.hidden, alone, bytes);
    }
    fixture_destroy(f);
}

static void a_set_cancel_flag_stops_the_pass(void **state) {
    (void)state;
    pil_config config = bert_config();
    fixture *f = fixture_create(&config);
    int32_t ids[4] = {1, 2, 3, 4};
    uint32_t starts[] = {0, 4};
    volatile int cancel = 1;
    volatile uint64_t heartbeat = 0;
    const pil_watch watch = {.cancel = &cancel, .heartbeat = &heartbeat};
    const float *hidden;
    assert_int_equal(pil_network_forward(f->network, f->scratch, ids, starts, 1, &watch, &hidden),
                     PILLION_E_CANCELLED);
    assert_int_equal(heartbeat, 0);
    fixture_destroy(f);
}

/* One beat for the layer, one for each sequence in it and one for its one block of rows. */
static void the_pass_can_be_followed(void **state) {
    (void)state;
    pil_config config = bert_config();
    fixture *f = fixture_create(&config);
    int32_t ids[5] = {1, 2, 3, 4, 5};
    uint32_t starts[] = {0, 2, 5};
    volatile uint64_t heartbeat = 100;
    const pil_watch watch = {.heartbeat = &heartbeat};
    const float *hidden;
    assert_int_equal(pil_network_forward(f->network, f->scratch, ids, starts, 2, &watch, &hidden), PILLION_OK);
    assert_int_equal(heartbeat, 100 + config.layers * (1 + 2 + 1));
    fixture_destroy(f);
}

static void a_missing_or_misshapen_tensor_is_named(void **state) {
    (void)state;
    pil_config config = bert_config();
    fixture *f = fixture_create(&config);
    char path[PIL_TEST_PATH];
    pil_test_path(path, f->dir, "without.safetensors");
    write_file(f, path, "layer.1.ffn_down.weight");
    pil_safetensors *file;
    pil_network *network;
    pillion_error err = {0};
    assert_ok(pil_safetensors_open(&file, path, &err), err);
    assert_int_equal(pil_network_create(&network, &config, file, &err), PILLION_E_FORMAT);
    assert_null(network);
    assert_error(err, PILLION_E_FORMAT, "layer.1.ffn_down.weight");
    pil_safetensors_close(file);
    config.ffn = 96;
    err = (pillion_error){0};
    assert_int_equal(pil_network_create(&network, &config, f->file, &err), PILLION_E_FORMAT);
    assert_error(err, PILLION_E_FORMAT, "layer.0.ffn_up.weight");
    fixture_destroy(f);
}

static void a_batch_below_the_longest_text_is_refused(void **state) {
    (void)state;
    pil_config config = bert_config();
    fixture *f = fixture_create(&config);
    pil_scratch *s;
    pillion_error err = {0};
    assert_int_equal(pil_scratch_create(&s, f->network, config.max_tokens - 1, &err), PILLION_E_ARG);
    assert_null(s);
    fixture_destroy(f);
}

/* ── Pooling ────────────────────────────────────────────────────────────────────────────────────────────────── */

/* Every pooling at once, on values where the answers are easy to see. */
static void poolings_are_concatenated_in_order(void **state) {
    (void)state;
    pil_config config = bert_config();
    config.pooling = 63;
    fixture *f = fixture_create(&config);
    size_t h = config.hidden;
    enum { T = 4 };
    float hidden[T * 48], out[6 * 48];
    for (size_t t = 0; t < T; t++)
        for (size_t j = 0; j < h; j++)
            hidden[t * h + j] = (float)(t + 1) * (j % 2 ? -1.0f : 1.0f); /* rows 1, 2, 3, 4 */
    pil_network_pool(f->network, f->scratch, hidden, T, 0, false, out);
    const float even[] = {1, 4, 2.5f, 5, 3, 4}, odd[] = {-1, -1, -2.5f, -5, -3, -4};
    for (size_t p = 0; p < 6; p++) {
        assert_float_equal(out[p * h], even[p], 1e-6f);
        assert_float_equal(out[p * h + 1], odd[p], 1e-6f);
    }
    /* the first token skipped: cls is the next one, weights keep counting */
    pil_network_pool(f->network, f->scratch, hidden, T, 1, false, out);
    const float skipped[] = {2, 4, 3, 9 / sqrtf(3), 29.0f / 9, 4};
    for (size_t p = 0; p < 6; p++) assert_float_equal(out[p * h], skipped[p], 1e-5f);
    fixture_destroy(f);
}

static void dense_modules_run_after_pooling(void **state) {
    (void)state;
    pil_config config = bert_config();
    config.n_dense = 2;
    config.dense[0] = (pil_dense){.n_in = 48, .n_out = 40, .bias = true, .activation = PIL_ACTIVATION_TANH};
    config.dense[1] = (pil_dense){.n_in = 40, .n_out = 70, .bias = true, .activation = PIL_ACTIVATION_IDENTITY};
    fixture *f = fixture_create(&config);
    float hidden[3 * 48], out[70];
    double mean[48] = {0}, a[40], b[70], norm = 0;
    for (size_t i = 0; i < 3 * 48; i++) {
        hidden[i] = random_value(f);
        mean[i % 48] += (double)hidden[i] / 3;
    }
    ref_linear(f, "dense.0", 1, mean, a);
    for (size_t i = 0; i < 40; i++) a[i] = tanh(a[i]);
    ref_linear(f, "dense.1", 1, a, b);
    for (size_t i = 0; i < 70; i++) norm += b[i] * b[i];
    pil_network_pool(f->network, f->scratch, hidden, 3, 0, true, out);
    for (size_t i = 0; i < 70; i++) assert_float_equal(out[i], (float)(b[i] / sqrt(norm)), 1e-6f);
    fixture_destroy(f);
}

static void a_zero_vector_stays_zero_when_normalized(void **state) {
    (void)state;
    pil_config config = bert_config();
    fixture *f = fixture_create(&config);
    float hidden[48] = {0}, out[48];
    pil_network_pool(f->network, f->scratch, hidden, 1, 0, true, out);
    for (size_t i = 0; i < 48; i++) assert_true(out[i] == 0.0f);
    fixture_destroy(f);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bert_agrees_with_the_formulas),
        cmocka_unit_test(xlm_roberta_agrees_with_the_formulas),
        cmocka_unit_test(mpnet_agrees_with_the_formulas),
        cmocka_unit_test(relu_networks_agree_with_the_formulas),
        cmocka_unit_test(a_text_has_the_same_bits_in_every_batch),
        cmocka_unit_test(a_set_cancel_flag_stops_the_pass),
        cmocka_unit_test(the_pass_can_be_followed),
        cmocka_unit_test(a_missing_or_misshapen_tensor_is_named),
        cmocka_unit_test(a_batch_below_the_longest_text_is_refused),
        cmocka_unit_test(poolings_are_concatenated_in_order),
        cmocka_unit_test(dense_modules_run_after_pooling),
        cmocka_unit_test(a_zero_vector_stays_zero_when_normalized),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
