/* word_cache.h - the ids of words seen before, one direct-mapped table for each scratch.
 *
 * Natural text repeats its words, and finding one here costs a hash and one cache line instead of a walk through the
 * vocabulary. A word that collides replaces the older one. Only what both models compute from the bytes of a piece
 * alone is kept, so a hit is always right. */
#ifndef PIL_TOKEN_WORD_CACHE_H
#define PIL_TOKEN_WORD_CACHE_H

#include <string.h>

#include "token/token_int.h"

static inline uint64_t pil_load64(const char *p) {
    uint64_t v;
    memcpy(&v, p, sizeof v);
    return v;
}

static inline uint32_t pil_load32(const char *p) {
    uint32_t v;
    memcpy(&v, p, sizeof v);
    return v;
}

/* Where a word of 0 < n <= PIL_TOK_WORD_BYTES bytes is kept if it is. */
static inline pil_tok_word *pil_word_slot(pil_token_scratch *s, const char *word, size_t n) {
    const uint64_t k = 0x9E3779B97F4A7C15u;
    uint64_t h = n;
    if (n >= 8) {
        for (size_t i = 0; i + 8 < n; i += 8) h = (h ^ pil_load64(word + i)) * k, h ^= h >> 29;
        h ^= pil_load64(word + n - 8);
    } else if (n >= 4) {
        h ^= (uint64_t)pil_load32(word) << 8 ^ (uint64_t)pil_load32(word + n - 4) << 32;
    } else {
        h ^= (uint64_t)(unsigned char)word[0] << 8 ^ (uint64_t)(unsigned char)word[n / 2] << 16 ^
             (uint64_t)(unsigned char)word[n - 1] << 24;
    }
    h *= k;
    return &s->words[h >> 32 & (PIL_TOK_WORDS - 1)];
}

/* Appends the ids of a word that is kept in slot; false if another one is. */
static inline bool pil_word_hit(pil_token_scratch *s, const pil_tok_word *slot, const char *word, size_t n) {
    if (slot->n_bytes != n || memcmp(slot->bytes, word, n)) return false;
    if (s->ids_cap - s->n_ids < PIL_TOK_WORD_IDS && !pil_token_reserve(s, PIL_TOK_WORD_IDS)) return true;
    memcpy(s->ids + s->n_ids, slot->ids, sizeof slot->ids); /* always all of them: no loop, no branch */
    s->n_ids += slot->n_ids;
    return true;
}

static inline void pil_word_keep(pil_token_scratch *s, pil_tok_word *slot, const char *word, size_t n,
                                 size_t first_id) {
    size_t n_ids = s->n_ids - first_id;
    if (s->failed || n_ids > PIL_TOK_WORD_IDS) return;
    slot->n_bytes = (uint8_t)n;
    slot->n_ids = (uint8_t)n_ids;
    memcpy(slot->ids, s->ids + first_id, n_ids * sizeof *slot->ids);
    memcpy(slot->bytes, word, n);
}

#endif
