/* quarantine.c - texts that are known to kill workers, by digest, for a day.
 *
 * Digest:     SHA-256 over the model's digest, the operation, the options that change what a worker computes, and the
 *             text or ids. It is taken only of texts whose cheap hash is in the table, so that a healthy server pays
 *             nothing and one with a few entries a pass over the bytes.
 * Bound:      max entries in a ring; all live equally long, so the oldest is both the first to expire and the one that
 *             leaves when the ring is full.
 * Tests:      tests/sched/test_isolation.c. */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "sched/sched_int.h"

static uint64_t mix(uint64_t h, const void *bytes, size_t n) {
    const unsigned char *p = bytes;
    uint64_t word = 0;
    for (; n >= 8; n -= 8, p += 8) {
        memcpy(&word, p, 8);
        h = (h ^ word) * 0x9E3779B97F4A7C15u;
        h ^= h >> 29;
    }
    word = n; /* so that what is cut off counts */
    for (size_t i = 0; i < n; i++) word = word << 8 | p[i];
    h = (h ^ word) * 0x9E3779B97F4A7C15u;
    return h ^ h >> 32;
}

static uint64_t key_of(const pillion_input *in) {
    if (in->text) return mix(in->text_bytes, in->text, in->text_bytes);
    return mix(~(uint64_t)in->n_ids, in->ids, in->n_ids * sizeof *in->ids);
}

static void digest_of(const pil_quarantine *q, const pil_job *j, size_t i, char out[PIL_SHA256_HEX]) {
    const pillion_run_options *o = &j->options;
    const pillion_input *in = &j->inputs[i];
    uint64_t head[8] = {(uint64_t)j->op,     (uint64_t)o->normalize,   (uint64_t)o->truncate, o->skip_special,
                        o->prompt_name != NULL, o->prompt_name ? strlen(o->prompt_name) : 0,
                        in->text != NULL,    in->text ? in->text_bytes : in->n_ids};
    out[0] = '\0';
    pil_sha256 *h = pil_sha256_create();
    if (!h) return;
    pil_sha256_update(h, q->model, sizeof q->model);
    pil_sha256_update(h, head, sizeof head);
    if (o->prompt_name) pil_sha256_update(h, o->prompt_name, strlen(o->prompt_name));
    if (in->text) pil_sha256_update(h, in->text, in->text_bytes);
    else pil_sha256_update(h, in->ids, in->n_ids * sizeof *in->ids);
    pil_sha256_hex(h, out);
    pil_sha256_destroy(h);
}

void pil_quarantine_deinit(pil_quarantine *q) {
    free(q->ring);
    free(q->buckets);
    q->ring = NULL;
    q->buckets = NULL;
    q->n = 0;
}

static bool allocate(pil_quarantine *q) {
    if (q->ring) return true;
    q->ring = calloc(q->max, sizeof *q->ring);
    q->buckets = calloc(q->max, sizeof *q->buckets);
    if (q->ring && q->buckets) return true;
    pil_quarantine_deinit(q);
    return false;
}

static void drop_oldest(pil_quarantine *q) {
    assert(q->n > 0);
    pil_quarantined *e = &q->ring[q->first];
    uint32_t *at = &q->buckets[e->key % q->max];
    while (*at != q->first + 1) at = &q->ring[*at - 1].bucket_next;
    *at = e->bucket_next;
    q->first = (q->first + 1) % q->max;
    q->n--;
}

void pil_quarantine_forget_since(pil_quarantine *q, uint64_t until_ms) {
    for (; q->n > 0; q->n--) { /* the newest is the first of its bucket */
        const pil_quarantined *e = &q->ring[(q->first + q->n - 1) % q->max];
        if (e->until_ms < until_ms) return;
        q->buckets[e->key % q->max] = e->bucket_next;
    }
}

void pil_quarantine_add(pil_quarantine *q, const pil_job *j, size_t i, uint64_t until_ms) {
    if (q->max == 0 || pil_quarantine_has(q, j, i) || !allocate(q)) return;
    if (q->n == q->max) drop_oldest(q);
    uint32_t index = (q->first + q->n) % q->max;
    pil_quarantined *e = &q->ring[index];
    e->key = key_of(&j->inputs[i]);
    e->until_ms = until_ms;
    digest_of(q, j, i, e->digest);
    uint32_t *bucket = &q->buckets[e->key % q->max];
    e->bucket_next = *bucket;
    *bucket = index + 1;
    q->n++;
    q->changes++;
}

bool pil_quarantine_has(const pil_quarantine *q, const pil_job *j, size_t i) {
    if (q->n == 0) return false;
    uint64_t key = key_of(&j->inputs[i]);
    char digest[PIL_SHA256_HEX] = "";
    for (uint32_t at = q->buckets[key % q->max]; at; at = q->ring[at - 1].bucket_next) {
        if (q->ring[at - 1].key != key) continue;
        if (!digest[0]) digest_of(q, j, i, digest);
        if (digest[0] && memcmp(digest, q->ring[at - 1].digest, sizeof digest) == 0) return true;
    }
    return false;
}

void pil_quarantine_expire(pil_quarantine *q, uint64_t now_ms) {
    while (q->n > 0 && q->ring[q->first].until_ms <= now_ms) drop_oldest(q);
}

uint64_t pil_quarantine_next_ms(const pil_quarantine *q) { return q->n ? q->ring[q->first].until_ms : UINT64_MAX; }
