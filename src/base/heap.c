/* heap.c - what the heap of a process keeps of memory that was freed; the only file that knows glibc's allocator.
 *
 * Tests: tests/base/test_heap.c. */
#include "base/heap.h"

#include <stdlib.h> /* which library this is, the compiler alone does not know */
#ifdef __GLIBC__
#include <malloc.h>
#endif

#include "base/limits.h"

#define LARGE_BLOCK_BYTES (128 * PIL_KIB)

void pil_heap_keep_one(void) {
#ifdef __GLIBC__
    mallopt(M_ARENA_MAX, 1);
#endif
}

void pil_heap_return_large_blocks(void) {
#ifdef __GLIBC__
    mallopt(M_MMAP_THRESHOLD, (int)LARGE_BLOCK_BYTES);
#endif
}

void pil_heap_return_free_memory(void) {
#ifdef __GLIBC__
    malloc_trim(0);
#endif
}
