/* trie.c - building a double-array trie, and looking up whole keys.
 *
 * Flow:       keys sorted -> a stack of nodes to place -> for each, an offset at which all its children's units are
 *             free.
 * Invariants: (1) no two nodes share an offset, for a unit knows its byte but not its parent. (2) children of one node
 *             lie in one block of 256 units, as offset ^ byte changes only the lower 8 bits. (3) free units are kept
 *             in a list only for the last OPEN_BLOCKS blocks, which bounds the search for an offset.
 * Source:     the unit layout is that of Darts (Yata, "darts-clone"); see trie.h.
 * Tests:      tests/token/test_trie.c. */
#include "token/trie.h"

#include <stdlib.h>
#include <string.h>

#define BLOCK 256u
#define OPEN_BLOCKS 16u
#define UNITS_MAX (1u << 26) /* 256 MiB */
#define UNUSED (1u << 31) /* no byte equals this label */
#define HAS_LEAF (1u << 8)

uint32_t pil_trie_walk(const pil_trie *t, const char *s, size_t n) {
    uint32_t at = pil_trie_root(t);
    int32_t value;
    for (size_t i = 0; i < n; i++)
        if (!pil_trie_step(t, &at, (uint8_t)s[i], &value)) return PIL_TRIE_NONE;
    return at;
}

int32_t pil_trie_find(const pil_trie *t, const char *s, size_t n) {
    uint32_t at = pil_trie_root(t);
    int32_t value = -1;
    for (size_t i = 0; i < n; i++)
        if (!pil_trie_step(t, &at, (uint8_t)s[i], &value)) return -1;
    return value;
}

/* ── Building ───────────────────────────────────────────────────────────────────────────────────────────────── */

typedef struct slot { /* what building knows about a unit */
    uint32_t next, prev; /* of the circular list of free units; index 0, the root, is its head */
    bool taken, is_offset;
} slot;

typedef struct pending { /* a node whose children are to be placed: keys[begin, end) share its first `depth` bytes */
    uint32_t begin, end, depth, unit;
} pending;

typedef struct builder {
    const pil_trie_key *keys;
    uint32_t *units;
    slot *slots;
    uint32_t n_units, cap;
    pending *stack;
    size_t n_stack, stack_cap;
} builder;

static int by_spelling(const void *a, const void *b) {
    const pil_trie_key *x = a, *y = b;
    int order = memcmp(x->s, y->s, x->n < y->n ? x->n : y->n);
    if (order) return order;
    if (x->n != y->n) return x->n < y->n ? -1 : 1;
    return x->value < y->value ? -1 : x->value > y->value;
}

static size_t drop_equal(pil_trie_key *keys, size_t n) {
    size_t kept = 0;
    for (size_t i = 0; i < n; i++) {
        bool same_as_next = i + 1 < n && keys[i].n == keys[i + 1].n && !memcmp(keys[i].s, keys[i + 1].s, keys[i].n);
        if (!same_as_next) keys[kept++] = keys[i];
    }
    return kept;
}

static void unlink_free(builder *b, uint32_t i) {
    b->slots[b->slots[i].prev].next = b->slots[i].next;
    b->slots[b->slots[i].next].prev = b->slots[i].prev;
}

static bool add_block(builder *b) {
    if (b->n_units + BLOCK > UNITS_MAX) return false;
    if (b->n_units == b->cap) {
        uint32_t cap = b->cap ? 2 * b->cap : 64 * BLOCK;
        uint32_t *units = realloc(b->units, cap * sizeof *units);
        if (units) b->units = units;
        slot *slots = units ? realloc(b->slots, cap * sizeof *slots) : NULL;
        if (!slots) return false;
        b->slots = slots;
        b->cap = cap;
    }
    uint32_t first = b->n_units;
    b->n_units += BLOCK;
    if (first == 0) b->slots[0] = (slot){0}; /* an empty list */
    for (uint32_t i = first; i < b->n_units; i++) {
        b->units[i] = UNUSED;
        if (i == 0) continue; /* the root is never free */
        b->slots[i] = (slot){.next = 0, .prev = b->slots[0].prev};
        b->slots[b->slots[0].prev].next = i;
        b->slots[0].prev = i;
    }
    if (first == 0) b->slots[0].taken = true;
    if (b->n_units > OPEN_BLOCKS * BLOCK) { /* close the oldest open block */
        uint32_t old = b->n_units - (OPEN_BLOCKS + 1) * BLOCK;
        for (uint32_t i = old; i < old + BLOCK; i++)
            if (!b->slots[i].taken) unlink_free(b, i);
    }
    return true;
}

/* An offset is stored relative to its unit, in 21 bits, or in 29 when its lower 8 bits are zero. */
static bool is_storable(uint32_t relative) {
    return relative < 1u << 21 || ((relative & 0xFF) == 0 && relative < 1u << 29);
}

static bool fits(const builder *b, uint32_t offset, const uint8_t *labels, size_t n) {
    if (b->slots[offset].is_offset) return false;
    for (size_t i = 0; i < n; i++)
        if (b->slots[offset ^ labels[i]].taken) return false;
    return true;
}

/* Where the children of `unit` can go; 0 when memory is exhausted (no node's children are at 0, that is the root). */
static uint32_t find_offset(builder *b, uint32_t unit, const uint8_t *labels, size_t n) {
    for (uint32_t i = b->slots[0].next; i; i = b->slots[i].next) {
        uint32_t offset = i ^ labels[0];
        if (offset && is_storable(unit ^ offset) && fits(b, offset, labels, n)) return offset;
    }
    uint32_t offset = b->n_units | (unit & 0xFF); /* equal lower bits, so it is storable however far away */
    return add_block(b) && is_storable(unit ^ offset) ? offset : 0;
}

static bool push(builder *b, pending p) {
    if (b->n_stack == b->stack_cap) {
        size_t cap = b->stack_cap ? 2 * b->stack_cap : 1024;
        pending *grown = realloc(b->stack, cap * sizeof *grown);
        if (!grown) return false;
        b->stack = grown;
        b->stack_cap = cap;
    }
    b->stack[b->n_stack++] = p;
    return true;
}

static void take(builder *b, uint32_t i, uint32_t unit) {
    b->slots[i].taken = true;
    unlink_free(b, i);
    b->units[i] = unit;
}

/* Places the children of one node. */
static bool place(builder *b, pending p) {
    uint8_t labels[256];
    uint32_t first[257];
    size_t n = 0;
    bool is_leaf = b->keys[p.begin].n == p.depth;
    uint32_t value = b->keys[p.begin].value;
    if (is_leaf) {
        labels[n] = 0;
        first[n++] = p.begin++;
    }
    for (uint32_t i = p.begin; i < p.end; i++) {
        uint8_t c = (uint8_t)b->keys[i].s[p.depth];
        if (i > p.begin && c == labels[n - 1]) continue;
        labels[n] = c;
        first[n++] = i;
    }
    first[n] = p.end;
    uint32_t offset = find_offset(b, p.unit, labels, n);
    if (!offset) return false;
    b->slots[offset].is_offset = true;
    uint32_t relative = p.unit ^ offset;
    b->units[p.unit] |= relative < 1u << 21 ? relative << 10 : (relative >> 8) << 10 | 1u << 9;
    if (is_leaf) b->units[p.unit] |= HAS_LEAF;
    for (size_t i = 0; i < n; i++) {
        bool leaf = is_leaf && i == 0;
        take(b, offset ^ labels[i], leaf ? value | UNUSED : labels[i]);
        if (!leaf && !push(b, (pending){first[i], first[i + 1], p.depth + 1, offset ^ labels[i]})) return false;
    }
    return true;
}

pillion_status pil_trie_build(pil_buf *out, pil_trie_key *keys, size_t n) {
    if (n == 0) return out->failed;
    if (n >= UNITS_MAX) return PILLION_E_LIMIT;
    qsort(keys, n, sizeof *keys, by_spelling);
    n = drop_equal(keys, n);
    builder b = {.keys = keys};
    bool ok = add_block(&b);
    if (ok) b.units[0] = 0;
    ok = ok && push(&b, (pending){0, (uint32_t)n, 0, 0});
    while (ok && b.n_stack > 0) ok = place(&b, b.stack[--b.n_stack]);
    pillion_status st = !ok ? b.n_units + BLOCK > UNITS_MAX ? PILLION_E_LIMIT : PILLION_E_NOMEM
                            : pil_buf_append(out, b.units, b.n_units * sizeof *b.units);
    free(b.units);
    free(b.slots);
    free(b.stack);
    return st;
}
