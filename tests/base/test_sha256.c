/* test_sha256.c - the examples of FIPS 180-4 (NIST, "Examples with intermediate values") and pieces of every size. */
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/limits.h"
#include "base/sha256.h"
#include "support/test.h"

static void the_standards_examples_agree(void **state) {
    (void)state;
    char hex[PIL_SHA256_HEX];
    pil_sha256_of("", 0, hex);
    assert_string_equal(hex, "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
    pil_sha256_of("abc", 3, hex);
    assert_string_equal(hex, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    const char *two_blocks = "abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq";
    pil_sha256_of(two_blocks, strlen(two_blocks), hex);
    assert_string_equal(hex, "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1");
    char *million = malloc(1000000);
    memset(million, 'a', 1000000);
    pil_sha256_of(million, 1000000, hex);
    assert_string_equal(hex, "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");
    free(million);
}

static void pieces_give_the_digest_of_the_whole(void **state) {
    (void)state;
    unsigned char bytes[1000];
    char whole[PIL_SHA256_HEX], pieces[PIL_SHA256_HEX];
    for (size_t i = 0; i < sizeof bytes; i++) bytes[i] = (unsigned char)(i * 31);
    pil_sha256_of(bytes, sizeof bytes, whole);
    for (size_t step = 1; step < 130; step += 7) {
        pil_sha256 *h = pil_sha256_create();
        for (size_t at = 0; at < sizeof bytes; at += step)
            pil_sha256_update(h, bytes + at, sizeof bytes - at < step ? sizeof bytes - at : step);
        pil_sha256_hex(h, pieces);
        pil_sha256_destroy(h);
        assert_string_equal(pieces, whole);
    }
    pil_sha256_destroy(NULL);
}

/* In a process that gets no more memory. What takes its own (a sanitizer, coverage) cannot be held to that. */
static void a_digest_at_once_needs_no_memory(void **state) {
    (void)state;
#ifdef PIL_INSTRUMENTED
    skip_with("an instrumented build");
#endif
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        char hex[PIL_SHA256_HEX];
        setrlimit(RLIMIT_AS, &(struct rlimit){0, 0});
        if (malloc(256 * PIL_MIB)) _exit(77); /* an emulator keeps no such limit */
        for (size_t n = PIL_MIB; n > 8; n -= n > 1024 ? n / 2 : 8)
            while (malloc(n)) continue;
        pil_sha256_of("abc", 3, hex);
        _exit(strcmp(hex, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad") != 0);
    }
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    if (WIFEXITED(status) && WEXITSTATUS(status) == 77) skip_with("no limit of memory is kept here");
    assert_int_equal(status, 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_standards_examples_agree),
        cmocka_unit_test(pieces_give_the_digest_of_the_whole),
        cmocka_unit_test(a_digest_at_once_needs_no_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
