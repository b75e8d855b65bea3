/* trie.h - a double-array trie in the layout of Darts and sentencepiece, so that one walk serves both our vocabularies
 * and the character maps found in tokenizer.json.
 *
 * A unit is a node reached by the byte in its lower 8 bits. Its children are at offset ^ byte; when bit 8 is set, a key
 * ends at the node and its value is in the unit at offset itself (bit 31 set there, so that it is no node). */
#ifndef PIL_TOKEN_TRIE_H
#define PIL_TOKEN_TRIE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"

typedef struct pil_trie {
    const uint32_t *units; /* borrowed; may hold anything: every index is checked */
    uint32_t n;
} pil_trie;

#define PIL_TRIE_NONE UINT32_MAX

/* Where the children of the root are; PIL_TRIE_NONE for an empty trie. */
static inline uint32_t pil_trie_offset(uint32_t unit) { return (unit >> 10) << ((unit & 0x200u) >> 6); }
static inline uint32_t pil_trie_root(const pil_trie *t) { return t->n ? pil_trie_offset(t->units[0]) : PIL_TRIE_NONE; }

/* Follows byte c from *at (where a node's children are). False: no such child. True: *at is moved on, and *value is
 * that of the key that ends here, -1 if none does. */
static inline bool pil_trie_step(const pil_trie *t, uint32_t *at, uint8_t c, int32_t *value) {
    uint32_t i = *at ^ c;
    if (i >= t->n) return false;
    uint32_t unit = t->units[i];
    if ((unit & 0x800000FFu) != c) return false;
    uint32_t next = i ^ pil_trie_offset(unit);
    *at = next;
    *value = (unit & 0x100u) && next < t->n ? (int32_t)(t->units[next] & 0x7FFFFFFFu) : -1;
    return true;
}

/* Follows n bytes from the root: where the children of their node are, or PIL_TRIE_NONE. */
uint32_t pil_trie_walk(const pil_trie *t, const char *s, size_t n);
/* The value of exactly these n > 0 bytes, or -1. */
int32_t pil_trie_find(const pil_trie *t, const char *s, size_t n);

/* Building. Keys are not empty, hold no NUL, and have values in [0, 2^31). */
typedef struct pil_trie_key {
    const char *s;
    uint32_t n;
    uint32_t value;
} pil_trie_key;

/* Appends the units to out. Sorts keys; of equal keys the one with the higher value stays. E_NOMEM, E_LIMIT (out's
 * limit, or more than 2^26 units). */
pillion_status pil_trie_build(pil_buf *out, pil_trie_key *keys, size_t n);

#endif
