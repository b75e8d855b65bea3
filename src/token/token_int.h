/* token_int.h - what the files of this room share: the layout of the blob, the open tokenizer, the scratch memory.
 *
 * The blob is a header with a fixed table of sections, then the sections, each at a multiple of 64 bytes,
 * little-endian, offsets instead of pointers. It is used in place. Opening it checks the header, everything whose size
 * is of the order of the header, and that the sections lie inside; the large arrays (tries, spellings, scores) are not
 * scanned, because that would cost more than the whole start of the program: whoever follows one of their indices
 * checks it first. */
#ifndef PIL_TOKEN_TOKEN_INT_H
#define PIL_TOKEN_TOKEN_INT_H

#include "base/limits.h"
#include "token/token.h"
#include "token/trie.h"
#include "token/unicode.h"

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "the blob is used in place, so the machine must be too");

/* ── The blob ───────────────────────────────────────────────────────────────────────────────────────────────── */

#define PIL_TOK_MAGIC "PILTOKEN"
#define PIL_TOK_VERSION 1u

typedef enum pil_tok_section {
    PIL_TOK_CONFIG,           /* one pil_tok_config */
    PIL_TOK_STEPS,            /* pil_tok_step: normalizers, then pre-tokenizers, then decoders */
    PIL_TOK_TEXT,             /* UTF-8 that configuration, steps and added tokens point into */
    PIL_TOK_TEMPLATE,         /* int32: ids before the content, then ids behind it */
    PIL_TOK_ADDED,            /* pil_tok_added, in the order of their ids */
    PIL_TOK_ADDED_RAW,        /* trie units: added tokens looked for before normalization; values index PIL_TOK_ADDED */
    PIL_TOK_ADDED_NORMAL,     /* trie units: those looked for behind it */
    PIL_TOK_FLAGS,            /* uint8 [vocab], PIL_TOK_TOKEN_ bits */
    PIL_TOK_SPELLING_OFFSETS, /* uint32 [vocab + 1] into PIL_TOK_SPELLINGS */
    PIL_TOK_SPELLINGS,        /* UTF-8 */
    PIL_TOK_TRIE,             /* trie units: spelling of the model's vocabulary -> id */
    PIL_TOK_SCORES,           /* double [vocab]; Unigram only */
    PIL_TOK_BYTES,            /* int32 [256]: id of <0xXX>, -1 if none; Unigram with byte_fallback only */
    PIL_TOK_CHARSMAP,         /* trie units as found in precompiled_charsmap */
    PIL_TOK_CHARSMAP_TEXT,    /* its NUL-terminated replacements, UTF-8 */
    PIL_TOK_SECTION_COUNT,
} pil_tok_section;

typedef struct pil_tok_range {
    uint64_t offset, bytes;
} pil_tok_range;

typedef struct pil_tok_header {
    char magic[8];
    uint32_t version, n_sections;
    uint64_t blob_bytes;
    uint64_t reserved[5];
    pil_tok_range sections[PIL_TOK_SECTION_COUNT];
} pil_tok_header;

typedef struct pil_tok_span { /* of PIL_TOK_TEXT */
    uint32_t offset, bytes;
} pil_tok_span;

typedef enum pil_tok_model { PIL_TOK_WORDPIECE = 1, PIL_TOK_UNIGRAM = 2 } pil_tok_model;

typedef struct pil_tok_config {
    uint32_t model; /* pil_tok_model */
    uint32_t vocab; /* highest id + 1 over model, added tokens and template */
    uint32_t unk_id;
    uint32_t word_chars_max;     /* WordPiece */
    pil_tok_span continuation;   /* WordPiece: "##" */
    uint32_t byte_fallback;      /* Unigram */
    uint32_t n_normalizers, n_pretokenizers, n_decoders;
    uint32_t has_decoder;        /* without one, decoding joins the tokens with spaces */
    uint32_t n_before, n_behind; /* ids of the template */
    uint32_t reserved;
    double unk_score;            /* Unigram: score of a character that is in no token */
} pil_tok_config;

typedef enum pil_tok_kind {
    /* normalizers */
    PIL_TOK_N_BERT = 1, /* flags: PIL_TOK_BERT_ bits */
    PIL_TOK_N_STRIP,    /* flags: PIL_TOK_STRIP_ bits */
    PIL_TOK_N_STRIP_ACCENTS,
    PIL_TOK_N_FORM, /* flags: PIL_TOK_FORM_ bits */
    PIL_TOK_N_LOWERCASE,
    PIL_TOK_N_NMT,
    PIL_TOK_N_PRECOMPILED,
    PIL_TOK_N_REPLACE,        /* text[0] -> text[1] */
    PIL_TOK_N_REPLACE_SPACES, /* runs of two and more U+0020 -> text[1] */
    PIL_TOK_N_PREPEND,        /* text[0] */
    /* pre-tokenizers */
    PIL_TOK_P_BERT,
    PIL_TOK_P_WHITESPACE_SPLIT,
    PIL_TOK_P_WHITESPACE,
    PIL_TOK_P_PUNCTUATION, /* flags: pil_tok_behavior */
    PIL_TOK_P_DIGITS,      /* flags: pil_tok_behavior */
    PIL_TOK_P_METASPACE,   /* flags: PIL_TOK_META_ bits; text[0]: the replacement, one character */
    /* decoders */
    PIL_TOK_D_WORDPIECE, /* flags: 1 for cleanup; text[0]: prefix */
    PIL_TOK_D_METASPACE, /* flags: PIL_TOK_META_ bits; text[0] */
    PIL_TOK_D_REPLACE,   /* text[0] -> text[1] */
    PIL_TOK_D_FUSE,
    PIL_TOK_D_BYTE_FALLBACK,
    PIL_TOK_D_STRIP, /* text[0]: one character, at most a times at the start and b times at the end */
    PIL_TOK_KIND_END,
} pil_tok_kind;

#define PIL_TOK_BERT_CLEAN 1u
#define PIL_TOK_BERT_CHINESE 2u
#define PIL_TOK_BERT_STRIP_ACCENTS 4u
#define PIL_TOK_BERT_LOWER 8u
#define PIL_TOK_STRIP_LEFT 1u
#define PIL_TOK_STRIP_RIGHT 2u
#define PIL_TOK_FORM_COMPATIBILITY 1u
#define PIL_TOK_FORM_COMPOSED 2u
#define PIL_TOK_META_ALWAYS 1u
#define PIL_TOK_META_FIRST 2u /* neither bit: never */
#define PIL_TOK_META_SPLIT 4u

typedef enum pil_tok_behavior {
    PIL_TOK_REMOVED,
    PIL_TOK_ISOLATED,
    PIL_TOK_CONTIGUOUS,
    PIL_TOK_MERGED_WITH_PREVIOUS,
    PIL_TOK_MERGED_WITH_NEXT,
    PIL_TOK_BEHAVIOR_COUNT,
} pil_tok_behavior;

typedef struct pil_tok_step {
    uint32_t kind; /* pil_tok_kind */
    uint32_t flags, a, b;
    pil_tok_span text[2];
} pil_tok_step;

#define PIL_TOK_ADDED_SINGLE_WORD 1u
#define PIL_TOK_ADDED_LSTRIP 2u
#define PIL_TOK_ADDED_RSTRIP 4u
#define PIL_TOK_ADDED_DECODED 8u /* decoding uses text, the normalized form, instead of the spelling */

typedef struct pil_tok_added {
    int32_t id;
    uint32_t flags;
    pil_tok_span text;
} pil_tok_added;

#define PIL_TOK_TOKEN_PRESENT 1u /* the id has a token */
#define PIL_TOK_TOKEN_SPECIAL 2u

/* ── The open tokenizer ─────────────────────────────────────────────────────────────────────────────────────── */

struct pil_tokenizer {
    const char *blob;
    pil_tok_config config; /* a copy: checked once, then trusted */
    const pil_tok_step *normalizers, *pretokenizers, *decoders;
    const char *text;
    size_t text_bytes;
    const int32_t *template_ids; /* [n_before + n_behind] */
    const pil_tok_added *added;
    size_t n_added;
    pil_trie added_raw, added_normal;
    const uint8_t *flags;             /* [vocab] */
    const uint32_t *spelling_offsets; /* [vocab + 1] */
    const char *spellings;
    size_t spellings_bytes;
    pil_trie trie;
    uint32_t continuation; /* WordPiece: the trie's node behind the prefix; PIL_TRIE_NONE if no token has it */
    const double *scores;  /* [vocab] */
    const int32_t *bytes;  /* [256] or NULL */
    pil_trie charsmap;
    const char *charsmap_text;
    size_t charsmap_text_bytes;
    uint8_t charsmap_plain[128]; /* Precompiled on ASCII: does it leave the character alone, whatever ASCII follows? */
    bool needs_origin; /* a Metaspace with prepend_scheme "first" asks whether a piece starts at the first byte */
    uint8_t raw_first[256], normal_first[256]; /* can an added token start with this byte? */
    int raw_only, normal_only; /* the one byte that all of them start with, -1 if there are several */
    uint8_t bert_ascii[128]; /* BertNormalizer on ASCII: what a byte becomes, 0 when it is removed */
};

static inline const char *pil_tok_text(const pil_tokenizer *t, pil_tok_span s) { return t->text + s.offset; }

/* ── Scratch ────────────────────────────────────────────────────────────────────────────────────────────────── */

/* A word whose ids were found before. 64 bytes: one cache line holds all of it. */
#define PIL_TOK_WORD_BYTES 37
#define PIL_TOK_WORD_IDS 6
typedef struct pil_tok_word {
    int32_t ids[PIL_TOK_WORD_IDS];
    uint8_t n_ids;
    uint8_t n_bytes; /* 0: empty */
    char bytes[PIL_TOK_WORD_BYTES + 1];
} pil_tok_word;
_Static_assert(sizeof(pil_tok_word) == 64, "a cached word is one cache line");

#define PIL_TOK_WORDS 8192u /* 512 KiB for each thread: most words of a text have been seen before */

/* Best way to reach one byte position of a piece (unigram.c). */
typedef struct pil_tok_node {
    double score;
    uint32_t start; /* where the last token starts; UINT32_MAX: not reached */
    int32_t id;
} pil_tok_node;

struct pil_token_scratch {
    const pil_tokenizer *owner;
    pil_tok_word *words; /* [PIL_TOK_WORDS], direct-mapped */
    int32_t *ids;
    size_t n_ids, ids_cap;
    pil_buf text[2]; /* the normalizers' input and output by turns */
    pil_buf piece;   /* Metaspace's rewritten piece */
    pil_marks marks;
    pil_tok_node *nodes;
    size_t nodes_cap;
    pil_watch watch;
    size_t unwatched;      /* bytes worked on since the last look */
    pillion_status failed; /* sticky within one call */
};

/* Bytes of text between two looks at the watch: some 100 us of work, so that a hundred times slower is not still. */
#define PIL_TOK_LOOK_BYTES (4 * PIL_KIB)

/* A beat; and s->failed when nobody waits any more. */
void pil_token_look(pil_token_scratch *s);

/* n bytes more were worked on. */
static inline void pil_token_went_on(pil_token_scratch *s, size_t n) {
    s->unwatched += n;
    if (s->unwatched >= PIL_TOK_LOOK_BYTES) pil_token_look(s);
}

/* Room for n more ids behind s->ids[s->n_ids]; false (and s->failed) when memory is exhausted. */
bool pil_token_reserve(pil_token_scratch *s, size_t n);

static inline void pil_token_push(pil_token_scratch *s, int32_t id) {
    if (s->n_ids < s->ids_cap || pil_token_reserve(s, 1)) s->ids[s->n_ids++] = id;
}

/* ── The stages ─────────────────────────────────────────────────────────────────────────────────────────────── */

/* A stretch of text between added tokens, valid UTF-8. */
typedef struct pil_tok_gap {
    const char *s;
    size_t n;
    size_t origin; /* how many of its leading bytes come from the very first byte of the text (see normalize.c) */
} pil_tok_gap;

/* Runs all normalizers; on success *gap is the result, borrowed from the scratch. E_NOMEM, E_LIMIT. */
pillion_status pil_normalize(const pil_tokenizer *t, pil_token_scratch *s, pil_tok_gap *gap);
/* Fills what the normalizers need in t besides their steps. */
void pil_normalize_prepare(pil_tokenizer *t);
/* What BertNormalizer with these flags makes of an ASCII byte: 0 when it is removed. */
uint8_t pil_bert_ascii(uint32_t flags, uint8_t c);
pillion_status pil_bert_normalize(const pil_tokenizer *t, pil_token_scratch *s, uint32_t flags, pil_buf *out,
                                  const char *in, size_t n);
/* Fills t->charsmap_plain. */
void pil_charsmap_prepare(pil_tokenizer *t);
pillion_status pil_charsmap_normalize(const pil_tokenizer *t, pil_buf *out, const char *in, size_t n);
/* How many leading bytes of what that makes of in[0, n) are aligned with in[0, origin). */
size_t pil_charsmap_aligned(const pil_tokenizer *t, const char *in, size_t n, size_t origin);

/* Splits a gap into pieces and hands each to the model, which appends ids to the scratch. */
void pil_pretokenize(const pil_tokenizer *t, pil_token_scratch *s, const pil_tok_gap *gap);

/* The models: append the ids of one piece (n > 0) to the scratch. */
void pil_wordpiece_encode(const pil_tokenizer *t, pil_token_scratch *s, const char *piece, size_t n);
void pil_unigram_encode(const pil_tokenizer *t, pil_token_scratch *s, const char *piece, size_t n);

/* Calls found(ud, added) and gap(ud, start, n) in the order of the text; see added.c. */
typedef struct pil_added_visitor {
    void (*found)(void *ud, const pil_tok_added *added);
    void (*gap)(void *ud, size_t start, size_t n);
    void *ud;
} pil_added_visitor;
void pil_added_split(const pil_tokenizer *t, bool normalized, const char *s, size_t n, const pil_added_visitor *v);
/* Fills the tables about first bytes. */
void pil_added_prepare(pil_tokenizer *t);

#endif
