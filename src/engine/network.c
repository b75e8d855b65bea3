/* network.c - binding the tensors of a compiled file to the places where the forward pass reads them.
 *
 * Invariant: after pil_network_create every pointer in pil_network is non-NULL where the configuration asks for it,
 *            has exactly the shape the configuration gives it, and is aligned to 64 bytes. The forward pass checks
 *            nothing.
 * Memory:    weights stay in the file; the network owns only its arrays of pointers and the expanded relative bias.
 * Tests:     tests/engine/test_forward.c. */
#include <stdio.h>
#include <stdlib.h>

#include "base/err.h"
#include "engine/engine_int.h"

/* Binding state: the file and the first error. Every helper does nothing once st is set. */
typedef struct binder {
    const pil_safetensors *file;
    pillion_error *err;
    pillion_status st;
} binder;

static const float *bind(binder *b, const char *name, uint32_t n_dims, const uint64_t *dims) {
    if (b->st) return NULL;
    const pil_tensor *t = pil_safetensors_find(b->file, name);
    if (!t) {
        b->st = pil_err_set(b->err, PILLION_E_FORMAT, "tensor \"%s\" is missing", name);
        return NULL;
    }
    int same = t->dtype == PIL_DTYPE_F32 && t->n_dims == n_dims && (uintptr_t)t->data % 64 == 0;
    for (uint32_t i = 0; same && i < n_dims; i++) same = t->dims[i] == dims[i];
    if (!same) {
        b->st = pil_err_set(b->err, PILLION_E_FORMAT,
                            "tensor \"%s\" does not have the type, shape or alignment expected", name);
        return NULL;
    }
    return t->data;
}

static const float *bind_vector(binder *b, const char *name, uint64_t n) { return bind(b, name, 1, &n); }

static const float *bind_table(binder *b, const char *name, uint64_t rows, uint64_t columns) {
    return bind(b, name, 2, (uint64_t[]){rows, columns});
}

static pil_linear bind_linear(binder *b, const char *prefix, uint32_t n, uint32_t k, bool bias) {
    char name[PIL_NAME_BYTES];
    pil_linear l = {.n = n, .k = k};
    snprintf(name, sizeof name, "%s.weight", prefix);
    l.weight = bind(b, name, 3, (uint64_t[]){(n + PIL_TILE_N - 1) / PIL_TILE_N, k, PIL_TILE_N});
    snprintf(name, sizeof name, "%s.bias", prefix);
    if (bias) l.bias = bind_vector(b, name, n);
    return l;
}

static pil_norm bind_norm(binder *b, const char *prefix, uint32_t n) {
    char name[PIL_NAME_BYTES];
    pil_norm norm;
    snprintf(name, sizeof name, "%s.weight", prefix);
    norm.weight = bind_vector(b, name, n);
    snprintf(name, sizeof name, "%s.bias", prefix);
    norm.bias = bind_vector(b, name, n);
    return norm;
}

static void bind_layer(binder *b, pil_layer *layer, const pil_config *c, uint32_t i) {
    char p[PIL_NAME_BYTES];
#define NAMED(part) (snprintf(p, sizeof p, "layer.%u." part, i), p)
    layer->qkv = bind_linear(b, NAMED("qkv"), 3 * c->hidden, c->hidden, true);
    layer->attention_out = bind_linear(b, NAMED("attention_out"), c->hidden, c->hidden, true);
    layer->attention_norm = bind_norm(b, NAMED("attention_norm"), c->hidden);
    layer->ffn_up = bind_linear(b, NAMED("ffn_up"), c->ffn, c->hidden, true);
    layer->ffn_down = bind_linear(b, NAMED("ffn_down"), c->hidden, c->ffn, true);
    layer->ffn_norm = bind_norm(b, NAMED("ffn_norm"), c->hidden);
#undef NAMED
}

/* Bucket of relative position r = key - query, as in T5 (arXiv:1910.10683) and MPNet: 16 for each direction, the first
 * 8 exact, the rest logarithmic up to 128. The thresholds are where the reference's float formula steps. */
static unsigned bucket(long r) {
    static const long from[] = {8, 12, 16, 23, 32, 46, 64, 91};
    unsigned base = r > 0 ? 16 : 0;
    long n = r > 0 ? r : -r;
    if (n < 8) return base + (unsigned)n;
    unsigned b = 7;
    for (unsigned i = 0; i < 8 && n >= from[i]; i++) b = 8 + i;
    return base + b;
}

/* One row for each head over all distances, so that attention reads it as a sliding window. */
static void expand_relative_bias(pil_network *n, binder *b) {
    const pil_config *c = &n->config;
    const float *table = bind_table(b, "relative_bias", 32, c->heads);
    size_t span = 2 * (size_t)c->max_tokens - 1;
    n->rel_bias = b->st ? NULL : malloc(c->heads * span * sizeof *n->rel_bias);
    if (!b->st && !n->rel_bias) b->st = pil_err_set(b->err, PILLION_E_NOMEM, "out of memory");
    if (b->st) return;
    for (uint32_t h = 0; h < c->heads; h++)
        for (size_t i = 0; i < span; i++)
            n->rel_bias[h * span + i] = table[bucket((long)i - (long)(c->max_tokens - 1)) * c->heads + h];
}

static void bind_all(pil_network *n, binder *b) {
    const pil_config *c = &n->config;
    n->word = bind_table(b, "embeddings.word", c->vocab, c->hidden);
    n->position = bind_table(b, "embeddings.position", c->positions, c->hidden);
    if (c->types) n->type = bind_table(b, "embeddings.type", c->types, c->hidden);
    n->embedding_norm = bind_norm(b, "embeddings.norm", c->hidden);
    for (uint32_t i = 0; i < c->layers; i++) bind_layer(b, &n->layers[i], c, i);
    for (uint32_t i = 0; i < c->n_dense; i++) {
        char prefix[PIL_NAME_BYTES];
        snprintf(prefix, sizeof prefix, "dense.%u", i);
        n->dense[i] = bind_linear(b, prefix, c->dense[i].n_out, c->dense[i].n_in, c->dense[i].bias);
    }
    if (c->relative_bias) expand_relative_bias(n, b);
}

pillion_status pil_network_create(pil_network **out, const pil_config *config, const pil_safetensors *file,
                                  pillion_error *err) {
    *out = NULL;
    pillion_status st = pil_config_check(config, err);
    if (st) return st;
    pil_network *n = calloc(1, sizeof *n);
    if (n) n->layers = calloc(config->layers, sizeof *n->layers);
    if (!n || !n->layers) {
        free(n);
        return pil_err_no_memory(err);
    }
    n->config = *config;
    n->kernels = pil_kernels_best();
    binder b = {.file = file, .err = err};
    bind_all(n, &b);
    if (b.st) {
        pil_network_destroy(n);
        return b.st;
    }
    *out = n;
    return PILLION_OK;
}

void pil_network_destroy(pil_network *n) {
    if (!n) return;
    free(n->layers);
    free(n->rel_bias);
    free(n);
}
