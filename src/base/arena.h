/* arena.h - memory with one lifetime: allocate many times, free once. */
#ifndef PIL_BASE_ARENA_H
#define PIL_BASE_ARENA_H

#include <stddef.h>

typedef struct pil_arena_block pil_arena_block;

/* Grows in blocks up to limit bytes in all. Zero-initialised blocks are not promised. */
typedef struct pil_arena {
    pil_arena_block *blocks;
    size_t used, limit;
} pil_arena;

void pil_arena_init(pil_arena *a, size_t limit);
void pil_arena_deinit(pil_arena *a); /* frees everything; accepts a zeroed one */
void pil_arena_reset(pil_arena *a);  /* forgets everything, keeps the largest block */

/* n bytes aligned to 64, or NULL when the limit or the memory is exhausted. */
void *pil_arena_alloc(pil_arena *a, size_t n);
/* count * size with overflow checked, zeroed; NULL on failure. */
void *pil_arena_calloc(pil_arena *a, size_t count, size_t size);
/* A NUL-terminated copy of n bytes; NULL on failure. */
char *pil_arena_strndup(pil_arena *a, const char *s, size_t n);

#endif
