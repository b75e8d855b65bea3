/* wordpiece.c - the model WordPiece: a word is cut into the longest pieces of the vocabulary, from the left.
 *
 * Source:     Devlin et al., "BERT" (arXiv:1810.04805), section 3; the reference's greedy search.
 * Rules:      pieces behind the first carry the continuation prefix ("##"); a word of more than word_chars_max code
 *             points, or with a rest that no piece fits, becomes one unknown token.
 * Tests:      tests/token/test_wordpiece.c. */
#include "base/limits.h"
#include "base/utf8.h"
#include "token/word_cache.h"

/* Bytes of the longest piece that s starts with, 0 if none; at is where the children of the starting node are. */
static size_t longest(const pil_tokenizer *t, uint32_t at, const char *s, size_t n, int32_t *id) {
    const pil_trie trie = t->trie;
    size_t best = 0;
    if (n > PIL_LIMIT_TOKEN_BYTES) n = PIL_LIMIT_TOKEN_BYTES; /* whatever a blob's trie says: time stays linear */
    for (size_t i = 0; i < n; i++) {
        int32_t value;
        if (!pil_trie_step(&trie, &at, (uint8_t)s[i], &value)) break;
        if (value < 0 || (uint32_t)value >= t->config.vocab) continue;
        best = i + 1;
        *id = value;
    }
    return best;
}

static void cut(const pil_tokenizer *t, pil_token_scratch *s, const char *word, size_t n) {
    size_t first_id = s->n_ids;
    uint32_t at = pil_trie_root(&t->trie);
    bool fits = n <= t->config.word_chars_max || pil_utf8_count(word, n) <= t->config.word_chars_max;
    for (size_t i = 0; i < n && fits;) {
        int32_t id = 0;
        size_t bytes = longest(t, at, word + i, n - i, &id);
        fits = bytes > 0;
        if (fits) pil_token_push(s, id);
        i += bytes;
        at = t->continuation;
    }
    if (fits) return;
    s->n_ids = first_id;
    pil_token_push(s, (int32_t)t->config.unk_id);
}

void pil_wordpiece_encode(const pil_tokenizer *t, pil_token_scratch *s, const char *piece, size_t n) {
    if (n > PIL_TOK_WORD_BYTES) {
        cut(t, s, piece, n);
        return;
    }
    pil_tok_word *slot = pil_word_slot(s, piece, n);
    if (pil_word_hit(s, slot, piece, n)) return;
    size_t first_id = s->n_ids;
    cut(t, s, piece, n);
    pil_word_keep(s, slot, piece, n, first_id);
}
