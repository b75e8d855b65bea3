/* sha256.h - SHA-256 (FIPS 180-4). libcrypto stays behind this door. */
#ifndef PIL_BASE_SHA256_H
#define PIL_BASE_SHA256_H

#include <stddef.h>

#define PIL_SHA256_HEX 65 /* 64 hex digits and a NUL */

typedef struct pil_sha256 pil_sha256;

pil_sha256 *pil_sha256_create(void); /* NULL when memory is exhausted */
void pil_sha256_update(pil_sha256 *h, const void *bytes, size_t n);
void pil_sha256_hex(pil_sha256 *h, char out[PIL_SHA256_HEX]); /* finishes; only destroy may follow */
void pil_sha256_destroy(pil_sha256 *h);

/* All at once, without allocating. */
void pil_sha256_of(const void *bytes, size_t n, char out[PIL_SHA256_HEX]);

#endif
