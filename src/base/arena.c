/* arena.c - memory with one lifetime: allocate many times, free once.
 *
 * Invariants: (1) used is the sum of all blocks' capacities and never exceeds limit. (2) Every pointer handed out is
 *             aligned to 64 bytes, a cache line and the widest vector register.
 * Tests: tests/base/test_arena.c. */
#include "base/arena.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define ALIGN ((size_t)64)
#define BLOCK_BYTES_MIN ((size_t)64 * 1024)

struct pil_arena_block {
    pil_arena_block *next;
    size_t len, cap;
    _Alignas(64) char bytes[];
};

static size_t round_up(size_t n) { return (n + ALIGN - 1) & ~(ALIGN - 1); }

void pil_arena_init(pil_arena *a, size_t limit) { *a = (pil_arena){.limit = limit}; }

void pil_arena_deinit(pil_arena *a) {
    for (pil_arena_block *b = a->blocks, *next; b; b = next) {
        next = b->next;
        free(b);
    }
    a->blocks = NULL;
    a->used = 0;
}

void pil_arena_reset(pil_arena *a) {
    pil_arena_block *keep = NULL;
    for (pil_arena_block *b = a->blocks, *next; b; b = next) {
        next = b->next;
        if (!keep || b->cap > keep->cap) {
            free(keep);
            keep = b;
        } else {
            free(b);
        }
    }
    a->blocks = keep;
    a->used = keep ? keep->cap : 0;
    if (keep) {
        keep->next = NULL;
        keep->len = 0;
    }
}

static pil_arena_block *add_block(pil_arena *a, size_t need) {
    size_t cap = need > BLOCK_BYTES_MIN ? need : BLOCK_BYTES_MIN;
    if (cap < a->used) cap = round_up(a->used); /* doubling: the number of blocks stays logarithmic */
    if (cap > a->limit - a->used) cap = need;
    if (cap > a->limit - a->used || cap > SIZE_MAX - sizeof(pil_arena_block)) return NULL;
    pil_arena_block *b = aligned_alloc(ALIGN, round_up(sizeof *b + cap));
    if (!b) return NULL;
    *b = (pil_arena_block){.next = a->blocks, .cap = cap};
    a->blocks = b;
    a->used += cap;
    return b;
}

void *pil_arena_alloc(pil_arena *a, size_t n) {
    if (n > SIZE_MAX - ALIGN) return NULL;
    size_t need = round_up(n ? n : 1);
    pil_arena_block *b = a->blocks;
    if (!b || need > b->cap - b->len) b = add_block(a, need);
    if (!b) return NULL;
    void *p = b->bytes + b->len;
    b->len += need;
    return p;
}

void *pil_arena_calloc(pil_arena *a, size_t count, size_t size) {
    if (size && count > SIZE_MAX / size) return NULL;
    void *p = pil_arena_alloc(a, count * size);
    if (p) memset(p, 0, count * size);
    return p;
}

char *pil_arena_strndup(pil_arena *a, const char *s, size_t n) {
    if (n == SIZE_MAX) return NULL;
    char *copy = pil_arena_alloc(a, n + 1);
    if (!copy) return NULL;
    memcpy(copy, s, n);
    copy[n] = '\0';
    return copy;
}
