/* unicode.c - lookups in the tables, canonical ordering, normal forms and grapheme clusters.
 *
 * Source:     Unicode Standard 3.11 (normal forms, the arithmetic of Hangul), annex 29 (grapheme clusters, rules GB3 to
 *             GB13), applied to the tables of the reference package.
 * Invariants: (1) everything is linear: a run of non-starters is sorted by counting, cluster rules keep a small state.
 *             (2) the caller has validated the UTF-8.
 * Not here:   what normalizers do with these (normalize.c). Tests: tests/token/test_unicode.c. */
#include "token/unicode.h"

#include <stdlib.h>
#include <string.h>

#include "base/utf8.h"

#define HANGUL_S 0xAC00u
#define HANGUL_L 0x1100u
#define HANGUL_V 0x1161u
#define HANGUL_T 0x11A7u
#define HANGUL_L_COUNT 19u
#define HANGUL_V_COUNT 21u
#define HANGUL_T_COUNT 28u
#define HANGUL_S_COUNT (HANGUL_L_COUNT * HANGUL_V_COUNT * HANGUL_T_COUNT)

#define COUNT(array) (sizeof(array) / sizeof(array)[0])

uint32_t pil_unicode_props_high(uint32_t c) {
    size_t i = COUNT(pil_unicode_props_run);
    while (i > 1 && pil_unicode_props_run_first[i - 1] > c) i--;
    return pil_unicode_props_run[i - 1];
}

static const uint32_t *sequence(uint16_t offset, size_t *n) {
    *n = pil_unicode_sequences[offset];
    return pil_unicode_sequences + offset + 1;
}

const uint32_t *pil_unicode_lower(uint32_t c, size_t *n) {
    return sequence(pil_unicode_lower_blocks[(uint32_t)pil_unicode_lower_index[c >> 6] << 6 | (c & 63)], n);
}

const uint32_t *pil_unicode_nfd(uint32_t c, size_t *n) {
    return sequence(pil_unicode_nfd_blocks[(uint32_t)pil_unicode_nfd_index[c >> 6] << 6 | (c & 63)], n);
}

const uint32_t *pil_unicode_nfkd(uint32_t c, size_t *n) {
    if (c >> 6 < COUNT(pil_unicode_nfkd_index)) {
        uint16_t offset = pil_unicode_nfkd_blocks[(uint32_t)pil_unicode_nfkd_index[c >> 6] << 6 | (c & 63)];
        if (offset) return sequence(offset, n);
    }
    return pil_unicode_nfd(c, n); /* the table holds only what differs from NFD */
}

uint8_t pil_unicode_ccc_of(uint32_t c) {
    size_t low = 0, high = COUNT(pil_unicode_ccc);
    while (low < high) {
        size_t mid = low + (high - low) / 2;
        uint32_t entry = pil_unicode_ccc[mid];
        if (entry >> 8 == c) return (uint8_t)entry;
        if (entry >> 8 < c) low = mid + 1;
        else high = mid;
    }
    return 0;
}

uint32_t pil_unicode_compose(uint32_t first, uint32_t second) {
    if (first - HANGUL_L < HANGUL_L_COUNT && second - HANGUL_V < HANGUL_V_COUNT)
        return HANGUL_S + ((first - HANGUL_L) * HANGUL_V_COUNT + (second - HANGUL_V)) * HANGUL_T_COUNT;
    if (first - HANGUL_S < HANGUL_S_COUNT && (first - HANGUL_S) % HANGUL_T_COUNT == 0 &&
        second - (HANGUL_T + 1) < HANGUL_T_COUNT - 1)
        return first + (second - HANGUL_T);
    size_t low = 0, high = COUNT(pil_unicode_pairs);
    while (low < high) {
        size_t mid = low + (high - low) / 2;
        const pil_unicode_pair *p = &pil_unicode_pairs[mid];
        if (p->first == first && p->second == second) return p->composed;
        if (p->first < first || (p->first == first && p->second < second)) low = mid + 1;
        else high = mid;
    }
    return 0;
}

/* ── Canonical ordering ─────────────────────────────────────────────────────────────────────────────────────── */

void pil_marks_deinit(pil_marks *m) {
    free(m->v);
    free(m->tmp);
    *m = (pil_marks){0};
}

bool pil_marks_push(pil_marks *m, uint32_t v) {
    if (m->n == m->cap) {
        size_t cap = m->cap ? 2 * m->cap : 32;
        uint32_t *grown = realloc(m->v, cap * sizeof *grown);
        if (grown) m->v = grown;
        uint32_t *tmp = grown ? realloc(m->tmp, cap * sizeof *tmp) : NULL;
        if (!tmp) return false;
        m->tmp = tmp;
        m->cap = cap;
    }
    m->v[m->n++] = v;
    return true;
}

void pil_marks_sort(pil_marks *m) {
    if (m->n <= 16) { /* insertion sort: real text has one or two */
        for (size_t i = 1; i < m->n; i++) {
            uint32_t v = m->v[i];
            size_t k = i;
            for (; k > 0 && m->v[k - 1] >> 24 > v >> 24; k--) m->v[k] = m->v[k - 1];
            m->v[k] = v;
        }
        return;
    }
    size_t start[257] = {0};
    for (size_t i = 0; i < m->n; i++) start[(m->v[i] >> 24) + 1]++;
    for (size_t k = 1; k < 257; k++) start[k] += start[k - 1];
    for (size_t i = 0; i < m->n; i++) m->tmp[start[m->v[i] >> 24]++] = m->v[i];
    memcpy(m->v, m->tmp, m->n * sizeof *m->v);
}

/* ── Normal forms ───────────────────────────────────────────────────────────────────────────────────────────── */

/* What is between a decomposed code point and the output. For NFC and NFKC the last starter is held back in `starter`
 * and the marks that follow it, sorted, are offered to it; for NFD and NFKD it is written at once. */
typedef struct former {
    pil_buf *out;
    pil_marks *marks;
    uint32_t starter; /* composed forms only: not yet written, 0 if none (U+0000 composes with nothing) */
    bool has_starter;
    bool composed;
    bool out_of_memory;
} former;

static void put(former *f, uint32_t c) {
    char *p = pil_buf_reserve(f->out, 4);
    if (p) f->out->len += pil_utf8_encode(c, p);
}

/* Ends the run of marks: sorts them, composes what composes (a mark is blocked by an earlier one left over with the
 * same class), writes the rest. Keeps the starter when nothing is left over, for the next starter may compose with
 * it. */
static void flush(former *f, bool keep_starter) {
    pil_marks *m = f->marks;
    pil_marks_sort(m);
    size_t left = 0;
    uint32_t last_class = 0;
    for (size_t i = 0; i < m->n; i++) {
        uint32_t class = m->v[i] >> 24, c = PIL_UNICODE_POINT(m->v[i]), composite = 0;
        if (f->has_starter && last_class < class) composite = pil_unicode_compose(f->starter, c);
        if (composite) {
            f->starter = composite;
        } else {
            m->v[left++] = m->v[i];
            last_class = class;
        }
    }
    if (f->has_starter && (left > 0 || !keep_starter)) {
        put(f, f->starter);
        f->has_starter = false;
    }
    for (size_t i = 0; i < left; i++) put(f, PIL_UNICODE_POINT(m->v[i]));
    m->n = 0;
}

static void feed(former *f, uint32_t v) {
    if (v >> 24) {
        if (!pil_marks_push(f->marks, v)) f->out_of_memory = true;
        return;
    }
    if (!f->composed) {
        flush(f, false);
        put(f, v);
        return;
    }
    flush(f, true);
    uint32_t composite = f->has_starter ? pil_unicode_compose(f->starter, v) : 0;
    if (composite) {
        f->starter = composite;
    } else {
        if (f->has_starter) put(f, f->starter);
        f->starter = v;
        f->has_starter = true;
    }
}

static void feed_decomposed(former *f, uint32_t c, bool compatibility) {
    uint32_t props = pil_unicode_props(c);
    if (props & (compatibility ? PIL_U_NFKD : PIL_U_NFD)) {
        size_t n;
        const uint32_t *v = compatibility ? pil_unicode_nfkd(c, &n) : pil_unicode_nfd(c, &n);
        for (size_t i = 0; i < n; i++) feed(f, v[i]);
    } else if (c - HANGUL_S < HANGUL_S_COUNT) {
        uint32_t s = c - HANGUL_S, t = s % HANGUL_T_COUNT;
        feed(f, HANGUL_L + s / (HANGUL_V_COUNT * HANGUL_T_COUNT));
        feed(f, HANGUL_V + s / HANGUL_T_COUNT % HANGUL_V_COUNT);
        if (t) feed(f, HANGUL_T + t);
    } else {
        feed(f, props & PIL_U_NONSTARTER ? c | (uint32_t)pil_unicode_ccc_of(c) << 24 : c);
    }
}

pillion_status pil_unicode_normalize(pil_buf *out, pil_marks *marks, const char *s, size_t n, bool compatibility,
                                     bool composed) {
    former f = {.out = out, .marks = marks, .composed = composed};
    marks->n = 0;
    for (size_t i = 0; i < n && !out->failed && !f.out_of_memory;) {
        uint32_t c;
        i += pil_utf8_decode(s + i, &c);
        feed_decomposed(&f, c, compatibility);
    }
    flush(&f, false);
    return f.out_of_memory ? PILLION_E_NOMEM : out->failed;
}

/* ── Grapheme clusters ──────────────────────────────────────────────────────────────────────────────────────── */

static bool is_extend(uint32_t k) {
    return k == PIL_CLUSTER_EXTEND || k == PIL_CLUSTER_LINKER || k == PIL_CLUSTER_CONJUNCT_EXTEND;
}

/* Rules GB6 to GB8: jamo and syllables that form one syllable. */
static bool hangul_joins(uint32_t a, uint32_t b) {
    switch (a) {
    case PIL_CLUSTER_L: return b == PIL_CLUSTER_L || b == PIL_CLUSTER_V || b == PIL_CLUSTER_LV || b == PIL_CLUSTER_LVT;
    case PIL_CLUSTER_LV:
    case PIL_CLUSTER_V: return b == PIL_CLUSTER_V || b == PIL_CLUSTER_T;
    case PIL_CLUSTER_LVT:
    case PIL_CLUSTER_T: return b == PIL_CLUSTER_T;
    default: return false;
    }
}

static bool is_break_alone(uint32_t k) { /* GB4, GB5 */
    return k == PIL_CLUSTER_CONTROL || k == PIL_CLUSTER_CR || k == PIL_CLUSTER_LF;
}

/* What the cluster so far means for rules that look further back than one character. */
typedef struct cluster_state {
    bool picto;    /* GB11: ExtPict Extend* */
    bool joined;   /* GB11: ... ZWJ */
    bool conjunct; /* GB9c: Consonant {Extend Linker}* */
    bool linked;   /* GB9c: ... with a Linker */
    bool regional; /* GB12, GB13: an odd number of regional indicators */
} cluster_state;

static void advance(cluster_state *st, uint32_t k) {
    st->joined = st->picto && k == PIL_CLUSTER_ZWJ;
    st->picto = k == PIL_CLUSTER_PICTO || (st->picto && is_extend(k));
    if (k == PIL_CLUSTER_CONSONANT) {
        st->conjunct = true;
        st->linked = false;
    } else if (st->conjunct) {
        st->linked |= k == PIL_CLUSTER_LINKER;
        st->conjunct = k == PIL_CLUSTER_LINKER || k == PIL_CLUSTER_CONJUNCT_EXTEND || k == PIL_CLUSTER_ZWJ;
    }
    st->regional = k == PIL_CLUSTER_REGIONAL && !st->regional;
}

static bool continues(const cluster_state *st, uint32_t a, uint32_t b) {
    if (a == PIL_CLUSTER_CR) return b == PIL_CLUSTER_LF;
    if (is_break_alone(a) || is_break_alone(b)) return false;
    if (is_extend(b) || b == PIL_CLUSTER_ZWJ || b == PIL_CLUSTER_SPACING || a == PIL_CLUSTER_PREPEND) return true;
    if (b == PIL_CLUSTER_CONSONANT) return st->conjunct && st->linked;
    if (b == PIL_CLUSTER_PICTO) return st->joined;
    if (b == PIL_CLUSTER_REGIONAL) return st->regional;
    return hangul_joins(a, b);
}

size_t pil_unicode_cluster(const char *s, size_t n) {
    uint32_t c;
    size_t i = pil_utf8_decode(s, &c);
    uint32_t a = PIL_U_CLUSTER(pil_unicode_props(c));
    cluster_state st = {0};
    advance(&st, a);
    while (i < n) {
        size_t step = pil_utf8_decode(s + i, &c);
        uint32_t b = PIL_U_CLUSTER(pil_unicode_props(c));
        if (!continues(&st, a, b)) break;
        advance(&st, b);
        a = b;
        i += step;
    }
    return i;
}
