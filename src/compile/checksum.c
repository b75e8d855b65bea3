/* checksum.c - XXH64, a fast 64-bit checksum, for what is checked at every opening of a compiled file.
 *
 * SHA-256 would be as safe against accidents but costs 25 ms on 10 MB of tokenizer tables where the processor has no
 * instruction for it; this costs 1 ms. Full digests of the weights stay SHA-256 (compiled.c).
 * Source:     xxHash specification 0.1.1 (XXH64).
 * Tests:      tests/compile/test_checksum.c. */
#include "compile/checksum.h"

#include <string.h>

#define P1 0x9E3779B185EBCA87u
#define P2 0xC2B2AE3D27D4EB4Fu
#define P3 0x165667B19E3779F9u
#define P4 0x85EBCA77C2B2AE63u
#define P5 0x27D4EB2F165667C5u

static uint64_t rotate(uint64_t v, int by) { return v << by | v >> (64 - by); }

static uint64_t load64(const unsigned char *p) {
    uint64_t v;
    memcpy(&v, p, sizeof v);
    return v;
}

static uint32_t load32(const unsigned char *p) {
    uint32_t v;
    memcpy(&v, p, sizeof v);
    return v;
}

static uint64_t mix(uint64_t lane, uint64_t input) { return rotate(lane + input * P2, 31) * P1; }

static uint64_t merge(uint64_t sum, uint64_t lane) { return (sum ^ mix(0, lane)) * P1 + P4; }

/* The last 0 to 31 bytes and the final avalanche. */
static uint64_t finish(uint64_t sum, const unsigned char *p, size_t n) {
    for (; n >= 8; p += 8, n -= 8) sum = rotate(sum ^ mix(0, load64(p)), 27) * P1 + P4;
    if (n >= 4) {
        sum = rotate(sum ^ load32(p) * P1, 23) * P2 + P3;
        p += 4;
        n -= 4;
    }
    for (; n; p++, n--) sum = rotate(sum ^ *p * P5, 11) * P1;
    sum = (sum ^ sum >> 33) * P2;
    sum = (sum ^ sum >> 29) * P3;
    return sum ^ sum >> 32;
}

uint64_t pil_checksum(const void *bytes, size_t n, uint64_t seed) {
    const unsigned char *p = bytes;
    size_t left = n;
    uint64_t sum = seed + P5;
    if (n >= 32) {
        uint64_t a = seed + P1 + P2, b = seed + P2, c = seed, d = seed - P1;
        for (; left >= 32; p += 32, left -= 32) {
            a = mix(a, load64(p));
            b = mix(b, load64(p + 8));
            c = mix(c, load64(p + 16));
            d = mix(d, load64(p + 24));
        }
        sum = rotate(a, 1) + rotate(b, 7) + rotate(c, 12) + rotate(d, 18);
        sum = merge(merge(merge(merge(sum, a), b), c), d);
    }
    return finish(sum + n, p, left);
}
