/* unigram.c - the model Unigram: the cut of a piece whose tokens have the highest sum of scores.
 *
 * Source:     Kudo, "Subword Regularization" (arXiv:1804.10959), section 3.2, by the Viterbi algorithm; ties, the cost
 *             of an unknown character and what is fused follow the reference.
 * Rules:      sums are in double, in the order of the text; a later way to the same place must be strictly better; a
 *             character that is no token by itself may be unknown, at unk_score; neighbouring unknowns are one token,
 *             which byte_fallback spells in bytes. Every entry of the vocabulary can match, special ones too.
 * Invariants: (1) the node at every character boundary is reached, for one character always leads to the next. (2)
 *             time is linear in the piece: a token ends after PIL_LIMIT_TOKEN_BYTES, whatever a blob's trie says.
 * Tests:      tests/token/test_unigram.c. */
#include <stdlib.h>

#include "base/limits.h"
#include "token/word_cache.h"

#define NOT_REACHED UINT32_MAX

static bool reserve_nodes(pil_token_scratch *s, size_t n) {
    if (n <= s->nodes_cap) return true;
    size_t cap = s->nodes_cap ? s->nodes_cap : 256;
    while (cap < n) cap *= 2;
    pil_tok_node *grown = realloc(s->nodes, cap * sizeof *grown);
    if (!grown) {
        s->failed = PILLION_E_NOMEM;
        return false;
    }
    s->nodes = grown;
    s->nodes_cap = cap;
    return true;
}

static size_t char_bytes(char lead) {
    unsigned char c = (unsigned char)lead;
    return c < 0x80 ? 1 : c < 0xE0 ? 2 : c < 0xF0 ? 3 : 4;
}

static inline void offer(pil_tok_node *node, double score, size_t start, int32_t id) {
    if (node->start != NOT_REACHED && !(score > node->score)) return;
    *node = (pil_tok_node){.score = score, .start = (uint32_t)start, .id = id};
}

/* Fills s->nodes [0, n]: the best way to each character boundary. Not to the end when s->failed. */
static void forward(const pil_tokenizer *t, pil_token_scratch *s, const char *piece, size_t n) {
    pil_tok_node *nodes = s->nodes;
    const pil_trie trie = t->trie;
    const uint32_t root = pil_trie_root(&trie);
    for (size_t i = 0; i <= n; i++) nodes[i].start = NOT_REACHED;
    nodes[0].score = 0;
    size_t look_at = PIL_TOK_LOOK_BYTES;
    for (size_t start = 0; start < n;) {
        size_t step = char_bytes(piece[start]);
        size_t end = n - start > PIL_LIMIT_TOKEN_BYTES ? start + PIL_LIMIT_TOKEN_BYTES : n;
        double so_far = nodes[start].score;
        bool has_single = false;
        uint32_t at = root;
        for (size_t i = start; i < end; i++) {
            int32_t id;
            if (!pil_trie_step(&trie, &at, (uint8_t)piece[i], &id)) break;
            if (id < 0 || (uint32_t)id >= t->config.vocab) continue;
            offer(&nodes[i + 1], t->scores[id] + so_far, start, id);
            has_single |= i + 1 == start + step;
        }
        if (!has_single) offer(&nodes[start + step], t->config.unk_score + so_far, start, (int32_t)t->config.unk_id);
        start += step;
        if (start < look_at) continue;
        pil_token_look(s);
        if (s->failed) return;
        look_at = start + PIL_TOK_LOOK_BYTES;
    }
}

/* The ids of a stretch of unknown characters, last one first. */
static void push_unknown(const pil_tokenizer *t, pil_token_scratch *s, const char *text, size_t n) {
    int32_t id = pil_trie_find(&t->trie, text, n); /* the reference looks even this up in the vocabulary */
    bool spelled = id < 0 && t->bytes;
    for (size_t i = 0; i < n && spelled; i++) spelled = t->bytes[(unsigned char)text[i]] >= 0;
    if (!spelled) {
        pil_token_push(s, id >= 0 && (uint32_t)id < t->config.vocab ? id : (int32_t)t->config.unk_id);
        return;
    }
    for (size_t i = n; i > 0; i--) pil_token_push(s, t->bytes[(unsigned char)text[i - 1]]);
}

static void backward(const pil_tokenizer *t, pil_token_scratch *s, const char *piece, size_t n) {
    const int32_t unknown = (int32_t)t->config.unk_id;
    size_t first_id = s->n_ids;
    for (size_t end = n; end > 0 && !s->failed;) {
        const pil_tok_node *node = &s->nodes[end];
        size_t start = node->start;
        if (node->id == unknown) {
            while (start > 0 && s->nodes[start].id == unknown) start = s->nodes[start].start;
            push_unknown(t, s, piece + start, end - start);
        } else {
            pil_token_push(s, node->id);
        }
        end = start;
    }
    for (size_t a = first_id, b = s->n_ids; a + 1 < b; a++) {
        b--;
        int32_t id = s->ids[a];
        s->ids[a] = s->ids[b];
        s->ids[b] = id;
    }
}

static void search(const pil_tokenizer *t, pil_token_scratch *s, const char *piece, size_t n) {
    if (!reserve_nodes(s, n + 1)) return;
    forward(t, s, piece, n);
    backward(t, s, piece, n);
}

void pil_unigram_encode(const pil_tokenizer *t, pil_token_scratch *s, const char *piece, size_t n) {
    if (n > PIL_TOK_WORD_BYTES) {
        search(t, s, piece, n);
        return;
    }
    pil_tok_word *slot = pil_word_slot(s, piece, n);
    if (pil_word_hit(s, slot, piece, n)) return;
    size_t first_id = s->n_ids;
    search(t, s, piece, n);
    pil_word_keep(s, slot, piece, n, first_id);
}
