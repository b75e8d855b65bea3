/* checksum.h - a fast 64-bit checksum for what is checked at every opening of a compiled file. */
#ifndef PIL_COMPILE_CHECKSUM_H
#define PIL_COMPILE_CHECKSUM_H

#include <stddef.h>
#include <stdint.h>

/* XXH64 (xxHash specification 0.1.1) of n bytes, about 10 GB/s. Not cryptographic: it finds damage, not malice. A sum
 * as the seed of the next call chains several pieces. */
uint64_t pil_checksum(const void *bytes, size_t n, uint64_t seed);

#endif
