/* test_compiled.c - a compiled file that is damaged, cut or foreign is refused with a reason; damaged weights are found
 * by the proofs. */
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <unistd.h>

#include "base/file.h"
#include "compile/checksum.h"
#include "compile/compile.h"
#include "support/files.h"
#include "support/test.h"
#include "support/tiny_model.h"

static char dir[PIL_TEST_PATH], path[PIL_TEST_PATH];
static unsigned char *file; /* the compiled model, 64-byte aligned */
static size_t file_bytes, header_bytes;

static int make_file(void **state) {
    (void)state;
    pillion_error err = {0};
    pil_test_dir_make(dir);
    pil_tiny_model_write(dir, "bert", NULL);
    pil_test_path(path, dir, "m.safetensors");
    assert_ok(pil_compile(dir, path, NULL, PILLION_PRECISION_F32, NULL, NULL, &err), err);
    char *bytes = pil_test_read(path, &file_bytes);
    file = aligned_alloc(64, (file_bytes + 63) / 64 * 64);
    memcpy(file, bytes, file_bytes);
    free(bytes);
    pil_safetensors *s;
    assert_ok(pil_safetensors_open_memory(&s, file, file_bytes, &err), err);
    pil_safetensors_bytes(s, NULL, &header_bytes);
    pil_safetensors_close(s);
    return 0;
}

static int remove_file(void **state) {
    (void)state;
    free(file);
    pil_test_dir_remove(dir);
    return 0;
}

/* The status of opening the bytes; on failure there is a reason and nothing is left open. */
static pillion_status try_open(const void *bytes, size_t n) {
    pil_compiled c;
    pillion_error err = {0};
    pillion_status st = pil_compiled_open_memory(&c, bytes, n, &err);
    assert_int_equal(st, err.code);
    if (st) {
        assert_true(err.text[0] != '\0');
        assert_null(c.file);
        assert_null(c.network);
        assert_null(c.tokenizer);
    }
    pil_compiled_close(&c);
    return st;
}

static size_t offset_of(const char *name, size_t *bytes) {
    pil_safetensors *s;
    pillion_error err = {0};
    assert_ok(pil_safetensors_open_memory(&s, file, file_bytes, &err), err);
    const pil_tensor *t = pil_safetensors_find(s, name);
    size_t at = (size_t)((const unsigned char *)t->data - file);
    if (bytes) *bytes = t->bytes;
    pil_safetensors_close(s);
    return at;
}

static void a_whole_file_opens_sings_and_verifies_from_disk_and_from_memory(void **state) {
    (void)state;
    pil_compiled c;
    pillion_error err = {0};
    assert_ok(pil_compiled_open_memory(&c, file, file_bytes, &err), err);
    assert_ok(pil_compiled_sing(&c, &err), err);
    assert_ok(pil_compiled_verify(&c, &err), err);
    pil_compiled_close(&c);
    assert_ok(pil_compiled_open(&c, path, &err), err);
    assert_ok(pil_compiled_verify(&c, &err), err);
    assert_string_equal(pil_tokenizer_model(c.tokenizer), "WordPiece");
    pil_compiled_close(&c);
    pil_compiled_close(&c);
    unsigned char *odd = aligned_alloc(64, file_bytes + 128);
    memcpy(odd + 8, file, file_bytes);
    assert_int_equal(try_open(odd + 8, file_bytes), PILLION_E_ARG);
    free(odd);
}

static void every_changed_byte_of_the_header_is_noticed(void **state) {
    (void)state;
    for (size_t i = 0; i < header_bytes; i++) {
        unsigned char old = file[i];
        file[i] ^= (unsigned char)(1 << i % 8);
        assert_int_not_equal(try_open(file, file_bytes), PILLION_OK);
        file[i] = old ^ 0xFF;
        assert_int_not_equal(try_open(file, file_bytes), PILLION_OK);
        file[i] = old;
    }
    assert_int_equal(try_open(file, file_bytes), PILLION_OK);
}

static void every_truncation_is_noticed(void **state) {
    (void)state;
    for (size_t cut = 0; cut < file_bytes; cut += cut < header_bytes + 64 ? 13 : 997) {
        unsigned char *part = aligned_alloc(64, (cut + 64) / 64 * 64);
        memcpy(part, file, cut);
        assert_int_equal(try_open(part, cut), PILLION_E_FORMAT);
        free(part);
    }
    assert_int_equal(try_open(file, file_bytes - 1), PILLION_E_FORMAT);
}

static void every_changed_byte_of_the_tokenizer_is_noticed_at_opening(void **state) {
    (void)state;
    size_t n, at = offset_of("tokenizer", &n);
    for (size_t i = 0; i < n; i += 7) {
        file[at + i] ^= 0x10;
        assert_int_equal(try_open(file, file_bytes), PILLION_E_FORMAT);
        file[at + i] ^= 0x10;
    }
}

/* Puts the right checksum into a header that was changed on purpose, as somebody with bad intentions would. */
static void sign(void) {
    static const char key[] = "\"" PIL_META_TABLES "\":\"";
    unsigned char *at = memmem(file, header_bytes, key, strlen(key));
    size_t begin = (size_t)(at - file) + strlen(key), end = begin + 16, tokenizer_bytes;
    size_t tokenizer = offset_of("tokenizer", &tokenizer_bytes);
    char sum[17];
    uint64_t v = pil_checksum(file + end, header_bytes - end, pil_checksum(file, begin, 0));
    snprintf(sum, sizeof sum, "%016llx", (unsigned long long)pil_checksum(file + tokenizer, tokenizer_bytes, v));
    memcpy(file + begin, sum, 16);
}

static void a_tokenizer_changed_on_purpose_never_crashes(void **state) {
    (void)state;
    size_t n, at = offset_of("tokenizer", &n);
    for (size_t i = 0; i < n; i += i < 1024 ? 1 : 61) {
        unsigned char old = file[at + i];
        file[at + i] ^= (unsigned char)(0x81 + i % 64);
        sign();
        pil_compiled c;
        if (pil_compiled_open_memory(&c, file, file_bytes, NULL) == PILLION_OK) {
            pillion_status st = pil_compiled_sing(&c, NULL);
            (void)st; /* any answer will do */
        }
        pil_compiled_close(&c);
        file[at + i] = old;
    }
}

static void damaged_weights_are_found_by_the_digest_and_gross_damage_by_the_canary(void **state) {
    (void)state;
    static const char *const tensors[] = {"embeddings.norm.weight", "layer.0.qkv.weight", "layer.1.ffn_norm.bias",
                                          "canary"};
    pillion_error err = {0};
    for (size_t i = 0; i < 4; i++) {
        size_t n, at = offset_of(tensors[i], &n);
        pil_compiled c;
        file[at] ^= 1; /* the lowest bit of the first value */
        assert_ok(pil_compiled_open_memory(&c, file, file_bytes, &err), err);
        assert_ok(pil_compiled_sing(&c, &err), err);
        assert_int_equal(pil_compiled_verify(&c, &err), PILLION_E_FORMAT);
        assert_error(err, PILLION_E_FORMAT, "SHA-256");
        file[at] ^= 1;
        err = (pillion_error){0};
        file[at + 3] ^= 0x40; /* the highest bit of its exponent */
        assert_int_equal(pil_compiled_sing(&c, &err), PILLION_E_FORMAT);
        assert_error(err, PILLION_E_FORMAT, "damaged: ");
        file[at + 3] ^= 0x40;
        err = (pillion_error){0};
        pil_compiled_close(&c);
    }
}

static void foreign_files_and_other_formats_say_what_they_are(void **state) {
    (void)state;
    char other[PIL_TEST_PATH];
    pil_compiled c;
    pillion_error err = {0};
    pil_test_path(other, dir, "model.safetensors");
    assert_int_equal(pil_compiled_open(&c, other, &err), PILLION_E_FORMAT);
    assert_error(err, PILLION_E_FORMAT, "model.safetensors: not a compiled file of pillion");
    pil_test_path(other, dir, "config.json");
    err = (pillion_error){0};
    assert_int_equal(pil_compiled_open(&c, other, &err), PILLION_E_FORMAT);
    assert_error(err, PILLION_E_FORMAT, "config.json: not a safetensors file");
    err = (pillion_error){0};
    assert_int_equal(pil_compiled_open(&c, dir, &err), PILLION_E_IO);
    err = (pillion_error){0};
    pil_test_path(other, dir, "nothing");
    assert_int_equal(pil_compiled_open(&c, other, &err), PILLION_E_NOT_FOUND);

    static const char format[] = "\"" PIL_META_FORMAT "\":\"";
    unsigned char *at = memmem(file, header_bytes, format, strlen(format));
    at[strlen(format)] = '9';
    err = (pillion_error){0};
    assert_int_equal(pil_compiled_open_memory(&c, file, file_bytes, &err), PILLION_E_STALE);
    assert_error(err, PILLION_E_STALE, "format 9");
}

static void a_file_is_fresh_until_one_of_its_sources_changes_appears_or_disappears(void **state) {
    (void)state;
    pil_compiled c;
    pillion_error err = {0};
    char source[PIL_TEST_PATH];
    assert_ok(pil_compiled_open(&c, path, &err), err);
    assert_ok(pil_compiled_fresh(&c, dir, &err), err);
    pil_test_write_text(dir, "3_Normalize/config.json", "{}");
    assert_int_equal(pil_compiled_fresh(&c, dir, &err), PILLION_E_STALE);
    assert_error(err, PILLION_E_STALE, "3_Normalize/config.json appeared");
    pil_test_path(source, dir, "3_Normalize/config.json");
    remove(source);
    err = (pillion_error){0};
    assert_ok(pil_compiled_fresh(&c, dir, &err), err);
    pil_test_path(source, dir, "tokenizer.json");
    assert_int_equal(utimes(source, (struct timeval[]){{1, 1}, {1, 1}}), 0);
    assert_int_equal(pil_compiled_fresh(&c, dir, &err), PILLION_E_STALE);
    assert_error(err, PILLION_E_STALE, "tokenizer.json changed");
    remove(source);
    err = (pillion_error){0};
    assert_int_equal(pil_compiled_fresh(&c, dir, &err), PILLION_E_STALE);
    assert_error(err, PILLION_E_STALE, "tokenizer.json disappeared");
    pil_compiled_close(&c);
}

/* Nothing is read but header and tables, so the size of the weights does not matter. */
static void opening_a_real_model_touches_little_of_it(void **state) {
    (void)state;
    if (HIDDEN_THREAD) skip_with("this sanitizer's shadow has page faults of its own");
    const char *root = getenv("PILLION_MODELS");
    char source[PIL_TEST_PATH], big[PIL_TEST_PATH];
    snprintf(source, sizeof source, "%s/minilm", root ? root : ".models");
    if (!pil_file_is_dir(source)) {
        print_message("no model in %s\n", source);
        skip();
    }
    pillion_error err = {0};
    pil_test_path(big, dir, "big.safetensors");
    assert_ok(pil_compile(source, big, NULL, PILLION_PRECISION_F32, NULL, NULL, &err), err);
    struct stat st;
    assert_int_equal(stat(big, &st), 0);
    long faults = LONG_MAX, all = (long)(st.st_size / sysconf(_SC_PAGESIZE) / 16); /* up to 16 are mapped at once */
    for (int round = 0; round < 5; round++) {
        struct rusage before, after;
        pil_compiled c;
        getrusage(RUSAGE_SELF, &before);
        assert_ok(pil_compiled_open(&c, big, &err), err);
        getrusage(RUSAGE_SELF, &after);
        if (after.ru_minflt - before.ru_minflt < faults) faults = after.ru_minflt - before.ru_minflt;
        pil_compiled_close(&c);
    }
    print_message("%s opens with %ld page faults; reading it all takes %ld at least\n", source, faults, all);
    assert_true(faults < all / 4);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, make_file, remove_file)

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(a_whole_file_opens_sings_and_verifies_from_disk_and_from_memory),
        TEST(every_changed_byte_of_the_header_is_noticed),
        TEST(every_truncation_is_noticed),
        TEST(every_changed_byte_of_the_tokenizer_is_noticed_at_opening),
        TEST(a_tokenizer_changed_on_purpose_never_crashes),
        TEST(damaged_weights_are_found_by_the_digest_and_gross_damage_by_the_canary),
        TEST(foreign_files_and_other_formats_say_what_they_are),
        TEST(a_file_is_fresh_until_one_of_its_sources_changes_appears_or_disappears),
        TEST(opening_a_real_model_touches_little_of_it),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
