/* session.c - pillion_session and pillion_run: tokens in parallel, batches cut by tokens, the forward pass on each
 * thread.
 *
 * Flow:       run() -> encode every input (task = input) -> cut_batches() -> embed every batch (task = batch).
 * Invariants: (1) a batch is a run of neighbouring inputs with at most batch_tokens tokens in all. (2) an input that
 * failed is in no batch. (3) lane i is touched by thread i of the team alone while a phase runs. Memory:     results
 * live in the session's and the lanes' arenas, which are reset when the next call begins. Tests: tests/lib/test_api.c,
 * tests/lib/test_golden.c. */
#include <assert.h>
#include <math.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/limits.h"
#include "lib/lib_int.h"

/* Results of one call: a request of the largest legal size in tokens and vectors stays far below. */
#define RESULT_BYTES_MAX (16 * PIL_GIB)

void pillion_session_destroy(pillion_session *s) {
    if (!s) return;
    for (unsigned i = 0; s->lanes && i < s->n_lanes; i++) {
        pil_token_scratch_destroy(s->lanes[i].token);
        pil_scratch_destroy(s->lanes[i].scratch);
        pil_arena_deinit(&s->lanes[i].results);
        pil_buf_deinit(&s->lanes[i].text);
    }
    free(s->lanes);
    pil_team_destroy(s->team);
    pil_arena_deinit(&s->results);
    pil_buf_deinit(&s->text);
    free(s);
}

static pillion_status create_lane(pil_lane *lane, const pillion_session *s, pillion_error *err) {
    pil_arena_init(&lane->results, RESULT_BYTES_MAX);
    pil_buf_init(&lane->text, PIL_LIMIT_TEXT_BYTES + PIL_PROMPT_BYTES);
    lane->token = pil_token_scratch_create(s->model->compiled.tokenizer);
    if (!lane->token) return pil_err_no_memory(err);
    return pil_scratch_create(&lane->scratch, s->model->compiled.network, s->batch_tokens, err);
}

pillion_status pillion_session_create(pillion_session **out, const pillion_model *model,
                                      const pillion_session_options *opt, pillion_error *err) {
    *out = NULL;
    unsigned threads = opt ? opt->threads : 1;
    if (threads == 0) threads = pil_thread_cores();
    if (threads > 1024) return pil_err_set(err, PILLION_E_ARG, "%u threads: at most 1024", threads);
    pillion_session *s = calloc(1, sizeof *s);
    if (!s) return pil_err_no_memory(err);
    s->model = model;
    s->batch_tokens = pil_lib_batch_tokens(&model->compiled.config, opt ? opt->batch_tokens : 0);
    pil_arena_init(&s->results, RESULT_BYTES_MAX);
    pil_buf_init(&s->text, 64 * PIL_MIB);
    s->lanes = calloc(threads, sizeof *s->lanes);
    pillion_status st = s->lanes ? PILLION_OK : pil_err_no_memory(err);
    for (unsigned i = 0; !st && i < threads; i++) {
        s->n_lanes++;
        st = create_lane(&s->lanes[i], s, err);
    }
    if (!st) st = pil_team_create(&s->team, threads, err);
    if (st) {
        pillion_session_destroy(s);
        return st;
    }
    *out = s;
    return PILLION_OK;
}

/* One call of pillion_run. */
typedef struct run {
    pillion_session *s;
    pillion_op op;
    const pillion_input *in;
    size_t n;
    pillion_run_options opt;
    pil_watch watch;
    const pil_prompt *prompt; /* NULL: none */
    size_t prompt_tokens;     /* left out of pooling */
    pillion_item *items;      /* [n] */
    uint32_t *batches;        /* [n_batches + 1]: first input of each batch */
    size_t n_batches;
    float *values; /* EMBED: [n, dim] */
    atomic_size_t n_done;
    atomic_int status; /* first failure of the call as a whole */
} run;

static void fail_run(run *r, pillion_status st) {
    int none = PILLION_OK;
    atomic_compare_exchange_strong(&r->status, &none, st);
}

/* ── Tokens ─────────────────────────────────────────────────────────────────────────────────────────────────── */

/* Joins prompt and text when there is a prompt. */
static pillion_status join_prompt(const run *r, pil_lane *lane, const pillion_input *in, const char **text, size_t *n) {
    *text = in->text;
    *n = in->text_bytes;
    if (!r->prompt || *n > PIL_LIMIT_TEXT_BYTES) return PILLION_OK;
    pil_buf_clear(&lane->text);
    pil_buf_puts(&lane->text, r->prompt->text);
    pillion_status st = pil_buf_append(&lane->text, in->text, in->text_bytes);
    *text = lane->text.bytes;
    *n = lane->text.len;
    return st;
}

static pillion_status encode_text(const run *r, pil_lane *lane, const pillion_input *in, pil_tokens *tokens) {
    const char *text;
    size_t n;
    pillion_status st = join_prompt(r, lane, in, &text, &n);
    if (st) return st;
    size_t max = r->opt.truncate == PILLION_TRUNCATE_NONE ? 0 : r->s->model->compiled.config.max_tokens;
    bool special = !(r->op == PILLION_OP_TOKENIZE && r->opt.skip_special);
    st = pil_tokenizer_encode(r->s->model->compiled.tokenizer, lane->token, text, n, max, special, tokens, NULL);
    if (st == PILLION_E_UTF8 && r->prompt) { /* the offset counts from the caller's text */
        size_t prompt = strlen(r->prompt->text);
        tokens->error_offset -= tokens->error_offset < prompt ? tokens->error_offset : prompt;
    }
    return st;
}

static pillion_status take_ids(const run *r, const pillion_input *in, pil_tokens *tokens) {
    size_t max = r->s->model->compiled.config.max_tokens;
    *tokens = (pil_tokens){.ids = in->ids, .n = in->n_ids < max ? in->n_ids : max, .n_all = in->n_ids};
    return PILLION_OK;
}

/* No ids are the caller's mistake. A text without a token is no mistake, where the tokenizer adds no special ones; but
 * the mean of nothing is no vector. */
static pillion_status check_ids(const run *r, const pillion_input *in, const pil_tokens *tokens) {
    if (tokens->n == 0) return in->text ? PILLION_E_NUMERIC : PILLION_E_ARG;
    for (size_t i = 0; i < tokens->n; i++)
        if (tokens->ids[i] < 0 || (uint32_t)tokens->ids[i] >= r->s->model->compiled.config.vocab) return PILLION_E_ARG;
    return PILLION_OK;
}

/* NUL-terminated spellings for TOKENIZE. */
static pillion_status spell(const run *r, pil_lane *lane, pillion_item *item) {
    const char **tokens = pil_arena_alloc(&lane->results, item->n_tokens * sizeof *tokens);
    if (!tokens) return PILLION_E_NOMEM;
    for (size_t i = 0; i < item->n_tokens; i++) {
        size_t n = 0;
        const char *s = pil_tokenizer_spelling(r->s->model->compiled.tokenizer, item->ids[i], &n);
        tokens[i] = pil_arena_strndup(&lane->results, s ? s : "", n);
        if (!tokens[i]) return PILLION_E_NOMEM;
    }
    item->tokens = tokens;
    return PILLION_OK;
}

static void encode_input(size_t i, unsigned thread, void *ud) {
    run *r = ud;
    pil_lane *lane = &r->s->lanes[thread];
    pillion_item *item = &r->items[i];
    pil_tokens tokens = {0};
    if (atomic_load_explicit(&r->status, memory_order_relaxed)) return;
    if (pil_watch_cancelled(&r->watch)) {
        fail_run(r, PILLION_E_CANCELLED);
        return;
    }
    pillion_status st = r->in[i].text ? encode_text(r, lane, &r->in[i], &tokens) : take_ids(r, &r->in[i], &tokens);
    if (!st && r->op != PILLION_OP_TOKENIZE) st = check_ids(r, &r->in[i], &tokens);
    if (!st && r->opt.truncate == PILLION_TRUNCATE_ERROR && tokens.n_all > tokens.n) st = PILLION_E_TOO_LONG;
    item->error_offset = tokens.error_offset;
    item->n_tokens = (uint32_t)tokens.n;
    item->n_tokens_all = (uint32_t)tokens.n_all;
    item->truncated = tokens.n_all > tokens.n;
    if (!st && tokens.n) {
        int32_t *ids = pil_arena_alloc(&lane->results, tokens.n * sizeof *ids);
        if (ids) memcpy(ids, tokens.ids, tokens.n * sizeof *ids);
        else st = PILLION_E_NOMEM;
        item->ids = ids;
    }
    if (!st && r->op == PILLION_OP_TOKENIZE) st = spell(r, lane, item);
    item->status = st;
    pil_watch_beat(&r->watch);
    if (st == PILLION_E_NOMEM || st == PILLION_E_CANCELLED) fail_run(r, st);
}

/* Tokens of the prompt alone, its final special one not counted: what sentence-transformers leaves out of pooling. */
static pillion_status count_prompt_tokens(run *r) {
    const pil_compiled *c = &r->s->model->compiled;
    r->prompt_tokens = 0;
    if (!r->prompt || c->config.pool_prompt) return PILLION_OK;
    pil_tokens t;
    pillion_status st = pil_tokenizer_encode(c->tokenizer, r->s->lanes[0].token, r->prompt->text,
                                             strlen(r->prompt->text), c->config.max_tokens, true, &t, NULL);
    if (st) return st;
    r->prompt_tokens = t.n;
    if (t.n && pil_tokenizer_is_special(c->tokenizer, t.ids[t.n - 1])) r->prompt_tokens--;
    return PILLION_OK;
}

/* ── Batches ────────────────────────────────────────────────────────────────────────────────────────────────── */

/* Cuts the inputs into runs of at most `limit` tokens; a limit below batch_tokens spreads few inputs over all threads.
 */
static pillion_status cut_batches(run *r) {
    size_t total = 0;
    for (size_t i = 0; i < r->n; i++) total += r->items[i].status ? 0 : r->items[i].n_tokens;
    size_t limit = (total + r->s->n_lanes - 1) / r->s->n_lanes;
    if (limit > r->s->batch_tokens) limit = r->s->batch_tokens;
    r->batches = pil_arena_alloc(&r->s->results, (r->n + 1) * sizeof *r->batches);
    if (!r->batches) return PILLION_E_NOMEM;
    size_t tokens = 0;
    for (size_t i = 0; i < r->n; i++) {
        size_t t = r->items[i].status ? 0 : r->items[i].n_tokens;
        if (i == 0 || tokens + t > limit) {
            r->batches[r->n_batches++] = (uint32_t)i;
            tokens = 0;
        }
        tokens += t;
    }
    r->batches[r->n_batches] = (uint32_t)r->n;
    return PILLION_OK;
}

static bool all_finite(const float *v, size_t n) {
    float sum = 0;
    for (size_t i = 0; i < n; i++) sum += v[i] * 0.0f; /* 0 for every finite value, NaN for the others */
    return sum == 0.0f;
}

static pillion_status finish_item(run *r, pil_lane *lane, size_t i, const float *hidden) {
    const pil_config *c = &r->s->model->compiled.config;
    pillion_item *item = &r->items[i];
    size_t tokens = item->n_tokens;
    if (r->op == PILLION_OP_EMBED_TOKENS) {
        float *values = pil_arena_alloc(&lane->results, tokens * c->hidden * sizeof *values);
        if (!values) return PILLION_E_NOMEM;
        memcpy(values, hidden, tokens * c->hidden * sizeof *values);
        item->values = values;
        item->n_values = tokens * c->hidden;
    } else {
        size_t dim = pil_config_dim(c), skip = r->prompt_tokens < tokens ? r->prompt_tokens : tokens - 1;
        float *values = r->values + i * dim;
        bool normalize = r->opt.normalize == PILLION_NORMALIZE_ON || c->normalize;
        pil_network_pool(r->s->model->compiled.network, lane->scratch, hidden, tokens, skip, normalize, values);
        item->values = values;
        item->n_values = dim;
        item->ids = NULL;
    }
    if (!all_finite(item->values, item->n_values)) {
        item->status = PILLION_E_NUMERIC;
        item->values = NULL;
        item->n_values = 0;
    }
    return PILLION_OK;
}

static void report(run *r, unsigned thread, size_t n) {
    size_t done = atomic_fetch_add(&r->n_done, n) + n;
    if (thread == 0 && r->opt.progress) r->opt.progress(done, r->n, r->opt.progress_ud);
}

static void embed_batch(size_t b, unsigned thread, void *ud) {
    run *r = ud;
    pil_lane *lane = &r->s->lanes[thread];
    size_t first = r->batches[b], end = r->batches[b + 1], n = 0;
    if (atomic_load_explicit(&r->status, memory_order_relaxed)) return;
    if (pil_watch_cancelled(&r->watch)) return fail_run(r, PILLION_E_CANCELLED);
    size_t tokens = 0;
    for (size_t i = first; i < end; i++) tokens += r->items[i].status ? 0 : r->items[i].n_tokens;
    int32_t *ids = pil_arena_alloc(&lane->results, (tokens + 1) * sizeof *ids);
    uint32_t *starts = pil_arena_alloc(&lane->results, (end - first + 1) * sizeof *starts);
    if (!ids || !starts) return fail_run(r, PILLION_E_NOMEM);
    starts[0] = 0;
    for (size_t i = first; i < end; i++) {
        const pillion_item *item = &r->items[i];
        if (item->status) continue;
        memcpy(ids + starts[n], item->ids, item->n_tokens * sizeof *ids);
        starts[n + 1] = starts[n] + item->n_tokens;
        n++;
    }
    const float *hidden;
    pillion_status st = n ? pil_network_forward(r->s->model->compiled.network, lane->scratch, ids, starts, n,
                                                &r->watch, &hidden)
                          : PILLION_OK;
    for (size_t i = first, k = 0; !st && i < end; i++) {
        if (r->items[i].status) continue;
        st = finish_item(r, lane, i, hidden + starts[k++] * (size_t)r->s->model->compiled.config.hidden);
    }
    if (st) return fail_run(r, st);
    report(r, thread, end - first);
}

/* ── Operations ─────────────────────────────────────────────────────────────────────────────────────────────── */

static pillion_status run_embed(run *r) {
    if (r->op == PILLION_OP_EMBED) {
        size_t dim = pil_config_dim(&r->s->model->compiled.config);
        if (r->n > SIZE_MAX / (dim * sizeof(float))) return PILLION_E_LIMIT;
        r->values = pil_arena_alloc(&r->s->results, r->n * dim * sizeof(float));
        if (!r->values) return PILLION_E_NOMEM;
    }
    pillion_status st = count_prompt_tokens(r);
    if (st) return st;
    pil_team_run(r->s->team, r->n, encode_input, r);
    st = (pillion_status)atomic_load(&r->status);
    if (!st) st = cut_batches(r);
    if (!st) pil_team_run(r->s->team, r->n_batches, embed_batch, r);
    return st ? st : (pillion_status)atomic_load(&r->status);
}

static pillion_status run_decode(run *r) {
    size_t *ends = pil_arena_calloc(&r->s->results, r->n + 1, sizeof *ends);
    if (!ends) return PILLION_E_NOMEM;
    pil_buf *out = &r->s->text;
    pil_buf_clear(out);
    for (size_t i = 0; i < r->n; i++) {
        r->items[i].status = r->in[i].ids ? pil_tokenizer_decode(r->s->model->compiled.tokenizer, r->in[i].ids,
                                                                 r->in[i].n_ids, r->opt.skip_special, out, NULL)
                                          : PILLION_E_ARG;
        if (out->failed) return out->failed;
        if (r->items[i].status == PILLION_E_NOMEM) return PILLION_E_NOMEM;
        if (pil_watch_cancelled(&r->watch)) return PILLION_E_CANCELLED;
        pil_watch_beat(&r->watch);
        pil_buf_putc(out, '\0');
        ends[i + 1] = out->len;
    }
    for (size_t i = 0; i < r->n; i++) { /* only now: the buffer may have moved while it grew */
        r->items[i].text = out->bytes + ends[i];
        r->items[i].text_bytes = ends[i + 1] - ends[i] - 1;
    }
    return out->failed;
}

static pillion_status run_info(run *r) {
    pillion_status st = pil_lib_info_json(&r->s->model->info, &r->s->text);
    r->items[0].text = pil_buf_cstr(&r->s->text);
    r->items[0].text_bytes = r->s->text.len;
    return st ? st : r->s->text.failed;
}

static pillion_status find_prompt(run *r, pillion_error *err) {
    const pil_config *c = &r->s->model->compiled.config;
    const char *name = r->opt.prompt_name;
    r->prompt = NULL;
    if (!name) {
        if (c->default_prompt >= 0) r->prompt = &c->prompts[c->default_prompt];
    } else if (*name) {
        for (uint32_t i = 0; i < c->n_prompts && !r->prompt; i++)
            if (strcmp(c->prompts[i].name, name) == 0) r->prompt = &c->prompts[i];
        if (!r->prompt) return pil_err_set(err, PILLION_E_ARG, "the model has no prompt named \"%.60s\"", name);
    }
    if (r->prompt && !r->prompt->text[0]) r->prompt = NULL;
    return PILLION_OK;
}

static pillion_status check_call(const run *r, pillion_error *err) {
    bool embeds = r->op == PILLION_OP_EMBED || r->op == PILLION_OP_EMBED_TOKENS;
    if (r->op < PILLION_OP_EMBED || r->op > PILLION_OP_INFO)
        return pil_err_set(err, PILLION_E_ARG, "unknown operation");
    if (r->op != PILLION_OP_INFO && (!r->in || r->n == 0)) return pil_err_set(err, PILLION_E_ARG, "no inputs");
    if (r->n >= UINT32_MAX) return pil_err_set(err, PILLION_E_ARG, "too many inputs");
    if (embeds && r->opt.truncate == PILLION_TRUNCATE_NONE)
        return pil_err_set(err, PILLION_E_ARG, "only TOKENIZE works without a limit");
    return PILLION_OK;
}

pillion_status pillion_run(pillion_session *session, pillion_op op, const pillion_input *in, size_t n,
                           const pillion_run_options *opt, const pillion_item **out, pillion_error *err) {
    *out = NULL;
    run r = {.s = session, .op = op, .in = in, .n = op == PILLION_OP_INFO ? 1 : n};
    pillion_run_options_init(&r.opt);
    if (opt) r.opt = *opt;
    r.watch = (pil_watch){.cancel = r.opt.cancel, .heartbeat = r.opt.heartbeat};
    pillion_status st = check_call(&r, err);
    if (!st) st = find_prompt(&r, err);
    if (st) return st;
    pil_arena_reset(&session->results);
    for (unsigned i = 0; i < session->n_lanes; i++) {
        pil_arena_reset(&session->lanes[i].results);
        pil_token_scratch_watch(session->lanes[i].token, &r.watch);
    }
    r.items = pil_arena_calloc(&session->results, r.n, sizeof *r.items);
    if (!r.items) return pil_err_set(err, PILLION_E_NOMEM, "no memory for %zu inputs", r.n);
    switch (op) {
    case PILLION_OP_EMBED:
    case PILLION_OP_EMBED_TOKENS: st = run_embed(&r); break;
    case PILLION_OP_TOKENIZE:
        pil_team_run(session->team, r.n, encode_input, &r);
        st = (pillion_status)atomic_load(&r.status);
        break;
    case PILLION_OP_DECODE: st = run_decode(&r); break;
    case PILLION_OP_INFO: st = run_info(&r); break;
    }
    if (st) return pil_err_set(err, st, "%s", pillion_status_text(st));
    *out = r.items;
    return PILLION_OK;
}

pillion_status pillion_session_check(pillion_session *session, const pillion_item **canary, pillion_error *err) {
    const pillion_input in = {.text = PILLION_CANARY_TEXT, .text_bytes = sizeof PILLION_CANARY_TEXT - 1};
    const pillion_item *item;
    pillion_run_options opt;
    pillion_error why = {0};
    pillion_run_options_init(&opt);
    opt.prompt_name = "";
    if (canary) *canary = NULL;
    pillion_status st = pillion_run(session, PILLION_OP_EMBED, &in, 1, &opt, &item, &why);
    if (!st && item->status)
        st = pil_err_set(&why, PILLION_E_FORMAT, "damaged: the canary text has no vector: %s",
                         pillion_status_text(item->status));
    else if (!st) st = pil_compiled_heard(&session->model->compiled, item->values, &why);
    if (st) return pil_lib_proved(session->model, st, &why, err);
    if (canary) *canary = item;
    return PILLION_OK;
}
