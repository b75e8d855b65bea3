/* unicode.h - properties, mappings, normal forms and grapheme clusters, exactly as the `tokenizers` package sees them.
 *
 * The tables (unicode_tables.c) are what that package of the pinned version was observed to do with each code point,
 * not the current Unicode data: its crates carry tables of different ages. All functions take Unicode scalar values. */
#ifndef PIL_TOKEN_UNICODE_H
#define PIL_TOKEN_UNICODE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"

/* A property word. */
#define PIL_U_WHITE 0x0001u      /* White_Space */
#define PIL_U_PUNCT 0x0002u      /* general category P, or ASCII punctuation and symbols */
#define PIL_U_DROP 0x0004u       /* removed by BertNormalizer's clean_text: categories Cc, Cf, Co, and U+FFFD */
#define PIL_U_NONSPACING 0x0008u /* category Mn; never set where NFD changes the code point */
#define PIL_U_MARK 0x0010u       /* category M, in the table that StripAccents uses */
#define PIL_U_WORD 0x0020u       /* \w of regular expressions */
#define PIL_U_NUMERIC 0x0040u    /* categories Nd, Nl, No */
#define PIL_U_NONSTARTER 0x0080u /* canonical combining class is not 0 */
#define PIL_U_CLUSTER(props) ((props) >> 8 & 31u)
#define PIL_U_LOWER 0x2000u /* lower case differs */
#define PIL_U_NFD 0x4000u   /* NFD differs; Hangul syllables are computed and have no such bit */
#define PIL_U_NFKD 0x8000u  /* NFKD differs */

/* Grapheme cluster classes of Unicode annex 29; Extend is parted by its role in Indic conjuncts. */
typedef enum pil_cluster_class {
    PIL_CLUSTER_OTHER,
    PIL_CLUSTER_CR,
    PIL_CLUSTER_LF,
    PIL_CLUSTER_CONTROL,
    PIL_CLUSTER_EXTEND,
    PIL_CLUSTER_ZWJ,
    PIL_CLUSTER_PREPEND,
    PIL_CLUSTER_SPACING,
    PIL_CLUSTER_REGIONAL,
    PIL_CLUSTER_L,
    PIL_CLUSTER_V,
    PIL_CLUSTER_T,
    PIL_CLUSTER_LV,
    PIL_CLUSTER_LVT,
    PIL_CLUSTER_PICTO,
    PIL_CLUSTER_CONSONANT,
    PIL_CLUSTER_LINKER,
    PIL_CLUSTER_CONJUNCT_EXTEND,
} pil_cluster_class;

/* The tables. name_index[c >> 6] is a block of 64; sequences[offset] is a length, then that many code points, each with
 * its combining class in the upper 8 bits; ccc holds code point << 8 | class, sorted; pairs are sorted too. */
typedef struct pil_unicode_pair {
    uint32_t first, second, composed;
} pil_unicode_pair;
#define PIL_UNICODE_RUNS 0x32400u
extern const uint16_t pil_unicode_props_index[3216];
extern const uint16_t pil_unicode_props_blocks[28544];
extern const uint32_t pil_unicode_props_run_first[13];
extern const uint16_t pil_unicode_props_run[13];
extern const uint8_t pil_unicode_lower_index[1957];
extern const uint16_t pil_unicode_lower_blocks[3712];
extern const uint8_t pil_unicode_nfd_index[3049];
extern const uint16_t pil_unicode_nfd_blocks[5120];
extern const uint8_t pil_unicode_nfkd_index[1994];
extern const uint16_t pil_unicode_nfkd_blocks[6784];
extern const uint32_t pil_unicode_sequences[13055];
extern const uint32_t pil_unicode_ccc[810];
extern const pil_unicode_pair pil_unicode_pairs[940];

uint32_t pil_unicode_props_high(uint32_t c); /* for c >= PIL_UNICODE_RUNS */

static inline uint32_t pil_unicode_props(uint32_t c) {
    if (c >= PIL_UNICODE_RUNS) return pil_unicode_props_high(c);
    return pil_unicode_props_blocks[(uint32_t)pil_unicode_props_index[c >> 6] << 6 | (c & 63)];
}

static inline bool pil_unicode_is_white(uint32_t c) { return pil_unicode_props(c) & PIL_U_WHITE; }

/* The mapped code points of a c whose property word says that the mapping differs; *n is how many. Each has its
 * combining class in the upper 8 bits (PIL_UNICODE_POINT takes it off). */
#define PIL_UNICODE_POINT(v) ((v) & 0xFFFFFFu)
const uint32_t *pil_unicode_lower(uint32_t c, size_t *n);
const uint32_t *pil_unicode_nfd(uint32_t c, size_t *n);
const uint32_t *pil_unicode_nfkd(uint32_t c, size_t *n);

uint8_t pil_unicode_ccc_of(uint32_t c); /* canonical combining class */
uint32_t pil_unicode_compose(uint32_t first, uint32_t second); /* 0 when there is no composite */

/* Canonical ordering: non-starters wait here until the next starter. */
typedef struct pil_marks {
    uint32_t *v, *tmp; /* code point with its class in the upper 8 bits */
    size_t n, cap;
} pil_marks;
void pil_marks_deinit(pil_marks *m);                  /* accepts a zeroed one */
bool pil_marks_push(pil_marks *m, uint32_t v);        /* false when memory is exhausted */
void pil_marks_sort(pil_marks *m);                    /* stable, linear in n */

/* Appends the normal form of n bytes of valid UTF-8 to out; form: compatibility adds NFKD's mappings, composed asks for
 * NFC or NFKC. E_NOMEM, E_LIMIT. Linear time. */
pillion_status pil_unicode_normalize(pil_buf *out, pil_marks *marks, const char *s, size_t n, bool compatibility,
                                     bool composed);

/* Length in bytes of the first extended grapheme cluster of n > 0 bytes of valid UTF-8. Looks at no byte behind the
 * cluster but the next character, so that walking a text is linear. */
size_t pil_unicode_cluster(const char *s, size_t n);

#endif
