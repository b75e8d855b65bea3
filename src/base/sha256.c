/* sha256.c - SHA-256; the only file that knows libcrypto. The low-level calls are used because the EVP ones load
 * providers and configuration, which costs several milliseconds at start. Tests: tests/base/test_sha256.c. */
#define OPENSSL_SUPPRESS_DEPRECATED
#include "base/sha256.h"

#include <openssl/sha.h>
#include <stdio.h>
#include <stdlib.h>

struct pil_sha256 {
    SHA256_CTX ctx;
};

pil_sha256 *pil_sha256_create(void) {
    pil_sha256 *h = malloc(sizeof *h);
    if (h) SHA256_Init(&h->ctx);
    return h;
}

void pil_sha256_update(pil_sha256 *h, const void *bytes, size_t n) { SHA256_Update(&h->ctx, bytes, n); }

static void finish(SHA256_CTX *ctx, char out[PIL_SHA256_HEX]) {
    unsigned char digest[SHA256_DIGEST_LENGTH];
    SHA256_Final(digest, ctx);
    for (int i = 0; i < SHA256_DIGEST_LENGTH; i++) snprintf(out + 2 * i, 3, "%02x", digest[i]);
}

void pil_sha256_hex(pil_sha256 *h, char out[PIL_SHA256_HEX]) { finish(&h->ctx, out); }

void pil_sha256_destroy(pil_sha256 *h) { free(h); }

void pil_sha256_of(const void *bytes, size_t n, char out[PIL_SHA256_HEX]) {
    SHA256_CTX ctx; /* here and not on the heap, so that a digest cannot fail */
    SHA256_Init(&ctx);
    SHA256_Update(&ctx, bytes, n);
    finish(&ctx, out);
}
