/* test_malformed.c - files damaged by a generator: cut anywhere, bits flipped at random, weights that are no numbers.
 * Each is refused with one line or computes; none crashes.
 *
 * The counts fit into seconds. PILLION_NIGHT=1 multiplies them by 25 (100,000 headers, 10,000 weights); PILLION_SEED
 * makes another run. Both are printed. What must be found in weights is found by the digest or by the canary. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "compile/checksum.h"
#include "compile/compile.h"
#include "support/files.h"
#include "support/test.h"
#include "support/tiny_model.h"

static char dir[PIL_TEST_PATH], out[PIL_TEST_PATH];
static unsigned char *file, *good; /* the compiled model, 64-byte aligned: the one that is damaged, and as it was */
static size_t file_bytes, header_bytes, tokenizer_at, tokenizer_bytes;
static uint64_t seed, random_state;

/* xorshift64*: the same numbers on every machine. */
static uint64_t next_random(void) {
    random_state ^= random_state >> 12;
    random_state ^= random_state << 25;
    random_state ^= random_state >> 27;
    return random_state * 0x2545F4914F6CDD1Du;
}

static size_t random_below(size_t n) { return (size_t)(next_random() >> 16) % n; }

static size_t times(size_t n) {
    const char *night = getenv("PILLION_NIGHT");
    return night && strcmp(night, "0") != 0 ? 25 * n : n;
}

static int make_model(void **state) {
    (void)state;
    pillion_error err = {0};
    const char *asked = getenv("PILLION_SEED");
    seed = asked ? strtoull(asked, NULL, 10) : 1;
    random_state = seed * 0x9E3779B97F4A7C15u + 1;
    pil_test_dir_make(dir);
    pil_tiny_model_write(dir, "bert", NULL);
    pil_test_path(out, dir, "m.safetensors");
    assert_ok(pil_compile(dir, out, NULL, PILLION_PRECISION_F32, NULL, NULL, &err), err);
    char *bytes = pil_test_read(out, &file_bytes);
    file = aligned_alloc(64, (file_bytes + 63) / 64 * 64);
    good = aligned_alloc(64, (file_bytes + 63) / 64 * 64);
    memcpy(file, bytes, file_bytes);
    memcpy(good, bytes, file_bytes);
    free(bytes);
    pil_safetensors *s;
    assert_ok(pil_safetensors_open_memory(&s, file, file_bytes, &err), err);
    pil_safetensors_bytes(s, NULL, &header_bytes);
    const pil_tensor *t = pil_safetensors_find(s, "tokenizer");
    tokenizer_at = (size_t)((const unsigned char *)t->data - file);
    tokenizer_bytes = t->bytes;
    pil_safetensors_close(s);
    return 0;
}

static int remove_model(void **state) {
    (void)state;
    free(file);
    free(good);
    pil_test_dir_remove(dir);
    return 0;
}

/* One bit, or two, somewhere in the n bytes at p. */
static void flip(unsigned char *p, size_t n) {
    for (size_t flips = 1 + random_below(2); flips > 0; flips--)
        p[random_below(n)] ^= (unsigned char)(1 << random_below(8));
}

/* A refusal is one line, with a code. */
static void assert_refusal(pillion_status st, const pillion_error *err, const char *what, size_t i) {
    if (st != err->code || !err->text[0] || strchr(err->text, '\n'))
        fail_msg("seed %llu, %s %zu: %d, \"%s\"", (unsigned long long)seed, what, i, err->code, err->text);
}

/* ── A compiled file ────────────────────────────────────────────────────────────────────────────────────────── */

static void assert_cut_refused(size_t n) {
    unsigned char *part = aligned_alloc(64, (n + 64) / 64 * 64);
    pil_compiled c;
    pillion_error err = {0};
    memcpy(part, file, n);
    pillion_status st = pil_compiled_open_memory(&c, part, n, &err);
    if (st != PILLION_E_FORMAT) fail_msg("cut to %zu of %zu bytes: %d", n, file_bytes, st);
    assert_refusal(st, &err, "cut", n);
    free(part);
}

static void a_file_cut_at_each_byte_of_its_header_and_each_edge_of_a_tensor_is_refused(void **state) {
    (void)state;
    size_t cuts = header_bytes < 4096 ? 4096 : header_bytes;
    for (size_t n = 0; n < cuts && n < file_bytes; n++) assert_cut_refused(n);
    pil_safetensors *s;
    pillion_error err = {0};
    assert_ok(pil_safetensors_open_memory(&s, good, file_bytes, &err), err);
    for (size_t i = 0; i < pil_safetensors_count(s); i++) {
        const pil_tensor *t = pil_safetensors_at(s, i);
        size_t begin = (size_t)((const unsigned char *)t->data - good), end = begin + t->bytes;
        for (size_t n = begin - 1; n <= begin + 1; n++) assert_cut_refused(n);
        for (size_t n = end - 1; n <= end + 1 && n < file_bytes; n++) assert_cut_refused(n);
    }
    pil_safetensors_close(s);
}

/* Puts the right checksum over header and tables, as somebody with bad intentions would: only then is what is behind
 * the checksum reached. False when the header is too damaged to have one. */
static bool sign(void) {
    static const char key[] = "\"" PIL_META_TABLES "\":\"";
    unsigned char *at = memmem(file, header_bytes, key, strlen(key));
    if (!at || (size_t)(at - file) + strlen(key) + 16 > header_bytes) return false;
    size_t begin = (size_t)(at - file) + strlen(key), end = begin + 16;
    char sum[17];
    uint64_t v = pil_checksum(file + end, header_bytes - end, pil_checksum(file, begin, 0));
    snprintf(sum, sizeof sum, "%016llx", (unsigned long long)pil_checksum(file + tokenizer_at, tokenizer_bytes, v));
    memcpy(file + begin, sum, 16);
    return true;
}

/* Opens the damaged file and lets it sing. True when it opened. */
static bool open_and_sing(const char *what, size_t i) {
    pil_compiled c;
    pillion_error err = {0};
    pillion_status st = pil_compiled_open_memory(&c, file, file_bytes, &err);
    if (st) {
        assert_refusal(st, &err, what, i);
        return false;
    }
    st = pil_compiled_sing(&c, &err);
    if (st) assert_refusal(st, &err, what, i);
    pil_compiled_close(&c);
    return true;
}

static void flipped_bits_of_a_header_are_refused_or_compute(void **state) {
    (void)state;
    size_t n = times(4000), opened = 0, is_signed = 0;
    for (size_t i = 0; i < n; i++) {
        flip(file, header_bytes);
        is_signed += sign();
        opened += open_and_sing("header", i);
        memcpy(file, good, header_bytes);
    }
    print_message("seed %llu: %zu headers, %zu signed again, %zu opened\n", (unsigned long long)seed, n, is_signed,
                  opened);
    assert_true(is_signed > n / 2);
}

static void flipped_bits_of_the_tokenizer_are_refused_or_compute(void **state) {
    (void)state;
    size_t n = times(2000), opened = 0;
    for (size_t i = 0; i < n; i++) {
        flip(file + tokenizer_at, tokenizer_bytes);
        assert_true(sign());
        opened += open_and_sing("tokenizer", i);
        memcpy(file + tokenizer_at, good + tokenizer_at, tokenizer_bytes);
        memcpy(file, good, header_bytes);
    }
    print_message("seed %llu: %zu tokenizers, %zu opened\n", (unsigned long long)seed, n, opened);
}

static void flipped_bits_of_weights_are_found_by_the_proofs(void **state) {
    (void)state;
    size_t n = times(400), heard = 0;
    for (size_t i = 0; i < n; i++) {
        size_t at = header_bytes + random_below(file_bytes - header_bytes);
        if (at >= tokenizer_at && at < tokenizer_at + tokenizer_bytes) continue;
        unsigned char old = file[at];
        file[at] ^= (unsigned char)(1 << random_below(8));
        pil_compiled c;
        pillion_error err = {0}, why = {0};
        assert_ok(pil_compiled_open_memory(&c, file, file_bytes, &err), err);
        pillion_status st = pil_compiled_verify(&c, &err);
        assert_int_equal(st, PILLION_E_FORMAT);
        assert_refusal(st, &err, "weights", i);
        heard += pil_compiled_sing(&c, &why) != PILLION_OK;
        pil_compiled_close(&c);
        file[at] = old;
    }
    print_message("seed %llu: %zu weights, all found by the digest, %zu by the canary\n", (unsigned long long)seed, n,
                  heard);
    assert_true(heard > 0);
}

/* ── A directory ────────────────────────────────────────────────────────────────────────────────────────────── */

/* Compiles the directory as it is. What comes out of it must prove itself. */
static bool compile_or_refuse(const char *what, size_t i) {
    pil_compiled c;
    pillion_error err = {0};
    pillion_status st = pil_compile(dir, out, NULL, PILLION_PRECISION_AUTO, NULL, NULL, &err);
    if (st) {
        assert_refusal(st, &err, what, i);
        return false;
    }
    assert_ok(pil_compiled_open(&c, out, &err), err);
    assert_ok(pil_compiled_verify(&c, &err), err);
    pil_compiled_close(&c);
    return true;
}

static void flipped_bits_of_a_directory_are_refused_or_compute(void **state) {
    (void)state;
    static const struct {
        const char *name;
        size_t most; /* of its bytes are damaged: the header of the weights, the whole of what is JSON */
    } files[] = {{"model.safetensors", 2000}, {"tokenizer.json", SIZE_MAX}, {"config.json", SIZE_MAX},
                 {"modules.json", SIZE_MAX},  {"1_Pooling/config.json", SIZE_MAX}, {"model.safetensors", SIZE_MAX}};
    for (size_t f = 0; f < sizeof files / sizeof *files; f++) {
        char path[PIL_TEST_PATH];
        size_t bytes, n = times(60), compiled = 0;
        pil_test_path(path, dir, files[f].name);
        char *kept = pil_test_read(path, &bytes), *damaged = malloc(bytes);
        for (size_t i = 0; i < n; i++) {
            memcpy(damaged, kept, bytes);
            flip((unsigned char *)damaged, bytes < files[f].most ? bytes : files[f].most);
            pil_test_write(dir, files[f].name, damaged, bytes);
            compiled += compile_or_refuse(files[f].name, i);
        }
        pil_test_write(dir, files[f].name, kept, bytes);
        print_message("seed %llu: %zu times %s, %zu compiled\n", (unsigned long long)seed, n, files[f].name, compiled);
        free(kept);
        free(damaged);
    }
    assert_true(compile_or_refuse("whole", 0));
}

static void a_directory_with_a_file_cut_anywhere_is_refused_or_computes(void **state) {
    (void)state;
    static const char *const names[] = {"model.safetensors", "tokenizer.json", "config.json", "modules.json"};
    for (size_t f = 0; f < sizeof names / sizeof *names; f++) {
        char path[PIL_TEST_PATH];
        size_t bytes;
        pil_test_path(path, dir, names[f]);
        char *kept = pil_test_read(path, &bytes);
        for (size_t i = 0, n = times(40); i < n; i++) {
            size_t cut = i < 10 ? i : random_below(bytes);
            pil_test_write(dir, names[f], kept, cut);
            if (compile_or_refuse(names[f], cut)) fail_msg("%s cut to %zu of %zu bytes", names[f], cut, bytes);
        }
        pil_test_write(dir, names[f], kept, bytes);
        free(kept);
    }
}

/* ── Weights that are no numbers ────────────────────────────────────────────────────────────────────────────── */

/* Fills n values of a tensor of the checkpoint, from the first one. */
static void fill(const char *name, float value, size_t n) {
    char path[PIL_TEST_PATH];
    size_t bytes;
    pil_test_path(path, dir, "model.safetensors");
    char *weights = pil_test_read(path, &bytes);
    pil_safetensors *s;
    pillion_error err = {0};
    assert_ok(pil_safetensors_open_memory(&s, weights, bytes, &err), err);
    for (size_t i = 0; i < pil_safetensors_count(s); i++) {
        const pil_tensor *t = pil_safetensors_at(s, i);
        if (name && strcmp(t->name, name) != 0) continue;
        char *at = weights + ((const char *)t->data - weights);
        for (size_t k = 0; k < t->count && k < n; k++) memcpy(at + 4 * k, &value, sizeof value);
    }
    pil_safetensors_close(s);
    pil_test_write(dir, "model.safetensors", weights, bytes);
    free(weights);
}

static void weights_that_give_no_vector_are_refused(void **state) {
    (void)state;
    static const char *const names[] = {"embeddings.LayerNorm.weight", "encoder.layer.0.attention.self.query.weight",
                                        "encoder.layer.0.attention.self.value.bias",
                                        "encoder.layer.1.intermediate.dense.weight",
                                        "encoder.layer.1.output.LayerNorm.bias", NULL}; /* NULL: all of them */
    const float values[] = {NAN, -NAN, INFINITY, -INFINITY};
    for (size_t f = 0; f < sizeof names / sizeof *names; f++)
        for (size_t v = 0; v < sizeof values / sizeof *values; v++) {
            pillion_error err = {0};
            pil_tiny_model_write(dir, "bert", NULL);
            fill(names[f], values[v], 32);
            pillion_status st = pil_compile(dir, out, NULL, PILLION_PRECISION_AUTO, NULL, NULL, &err);
            if (st != PILLION_E_NUMERIC)
                fail_msg("%s filled with %f: %d, \"%s\"", names[f] ? names[f] : "all", (double)values[v], st, err.text);
            assert_refusal(st, &err, "filled", v);
        }
    pillion_error err = {0};
    pil_tiny_model_write(dir, "bert", NULL);
    fill(NULL, 0, SIZE_MAX);
    assert_int_equal(pil_compile(dir, out, NULL, PILLION_PRECISION_AUTO, NULL, NULL, &err), PILLION_E_NUMERIC);
    assert_error(err, PILLION_E_NUMERIC, "a vector of zeros");
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, make_model, remove_model)

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(a_file_cut_at_each_byte_of_its_header_and_each_edge_of_a_tensor_is_refused),
        TEST(flipped_bits_of_a_header_are_refused_or_compute),
        TEST(flipped_bits_of_the_tokenizer_are_refused_or_compute),
        TEST(flipped_bits_of_weights_are_found_by_the_proofs),
        TEST(flipped_bits_of_a_directory_are_refused_or_compute),
        TEST(a_directory_with_a_file_cut_anywhere_is_refused_or_computes),
        TEST(weights_that_give_no_vector_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
