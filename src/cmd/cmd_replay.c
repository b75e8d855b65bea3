/* cmd_replay.c - pillion replay: recorded batches once more, each through workers that may die.
 *
 * Flow:   all files are read first (recorded.c) -> a pool of workers, as the server has it -> batch by batch: submit,
 *         wait, report -> the totals. One batch is with the pool at a time, so that a batch's time is its own.
 * Memory: outcomes of one batch at a time.
 * Tests:  tests/cmd/test_replay.py. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/err.h"
#include "base/limits.h"
#include "base/log.h"
#include "base/thread.h"
#include "base/utf8.h"
#include "cmd/cmd.h"
#include "cmd/model.h"
#include "cmd/recorded.h"
#include "cmd/say.h"
#include "proc/proc.h"

#define UNIT_TOLERANCE 1e-3 /* of a vector's length; f32 misses 1 by some 1e-7 */

static const char who[] = "pillion replay";

typedef struct replay_values {
    pil_model_values model;
    uint64_t workers;
    bool json, alone;
} replay_values;

/* What became of one text. */
typedef struct outcome {
    pillion_status status;
    uint32_t n_tokens;
    bool is_truncated;
    double ms; /* with --alone */
} outcome;

/* What became of one batch, or of all. */
typedef struct counts {
    size_t batches, batches_failed, texts, texts_failed, characters;
    uint64_t deaths; /* of workers */
    double ms;
} counts;

typedef struct replay {
    const replay_values *values;
    pil_recorded recorded;
    pil_loop *loop;
    pil_pool *pool;
    pil_ticket *ticket; /* of the texts at work, or NULL */
    size_t batch;       /* the batch at work */
    size_t at, n;       /* the texts of it that are with the pool: from at, n of them */
    outcome *outcomes;  /* [texts of the largest batch] */
    uint64_t batch_ns, submit_ns;
    uint64_t deaths;    /* of workers, before this batch */
    counts now, all;    /* the batch that is over, and all of them so far */
    bool has_begun;
    int status;
} replay;

static const pil_recorded_batch *batch_of(const replay *r) { return &r->recorded.batches[r->batch]; }
static const pillion_input *texts_of(const replay *r) { return &r->recorded.texts[batch_of(r)->first]; }

/* ── The report ─────────────────────────────────────────────────────────────────────────────────────────────── */

/* What was recorded is valid UTF-8. */
static size_t characters_of(const pillion_input *in) { return pil_utf8_count(in->text, in->text_bytes); }

static const char *plural(uint64_t n) { return n == 1 ? "" : "s"; }

static void put_batch_line(pil_buf *out, const replay *r) {
    const pil_recorded_batch *b = batch_of(r);
    const counts *c = &r->now;
    char result[64] = "ok", deaths[48] = "", count[PIL_SAY_COUNT_BYTES];
    if (c->texts_failed) snprintf(result, sizeof result, "%zu of %zu failed", c->texts_failed, c->texts);
    if (c->deaths)
        snprintf(deaths, sizeof deaths, ", %llu worker%s died", (unsigned long long)c->deaths, plural(c->deaths));
    if (r->batch == 0) pil_buf_puts(out, "batch  texts  characters        ms  result\n");
    pil_buf_printf(out, "%5zu %6zu %11s %9.1f  %s%s  %s", r->batch + 1, c->texts,
                   pil_say_count(count, c->characters), c->ms, result, deaths, b->file);
    if (b->number > 1) pil_buf_printf(out, " (batch %zu in it)", b->number);
    pil_buf_putc(out, '\n');
    for (size_t i = 0; i < b->n; i++)
        if (r->outcomes[i].status)
            pil_buf_printf(out, "       text %zu, %s characters: %s\n", i + 1,
                           pil_say_count(count, characters_of(&texts_of(r)[i])),
                           pillion_status_text(r->outcomes[i].status));
}

static void put_batch_json(pil_buf *out, const replay *r) {
    const pil_recorded_batch *b = batch_of(r);
    const counts *c = &r->now;
    pil_buf_puts(out, "{\"file\":");
    pil_json_put_string(out, b->file, pil_utf8_valid(b->file, strlen(b->file)));
    pil_buf_printf(out, ",\"batch\":%zu,\"ok\":%s,\"ms\":%.1f,\"characters\":%zu,\"failed\":%zu,\"deaths\":%llu,"
                   "\"texts\":[", b->number, c->texts_failed ? "false" : "true", c->ms, c->characters, c->texts_failed,
                   (unsigned long long)c->deaths);
    for (size_t i = 0; i < b->n; i++) {
        const outcome *o = &r->outcomes[i];
        pil_buf_printf(out, "%s{\"index\":%zu,\"ok\":%s,\"characters\":%zu", i ? "," : "", i,
                       o->status ? "false" : "true", characters_of(&texts_of(r)[i]));
        if (r->values->alone) pil_buf_printf(out, ",\"ms\":%.1f", o->ms);
        if (o->status)
            pil_buf_printf(out, ",\"status\":%d,\"error\":\"%s\"}", o->status, pillion_status_text(o->status));
        else
            pil_buf_printf(out, ",\"tokens\":%u,\"truncated\":%s}", o->n_tokens, o->is_truncated ? "true" : "false");
    }
    pil_buf_puts(out, "]}\n");
}

static void put_all(pil_buf *out, const replay *r) {
    const counts *c = &r->all;
    unsigned long long deaths = c->deaths;
    double per_s = c->ms > 0 ? (double)c->texts * 1000 / c->ms : 0;
    char characters[PIL_SAY_COUNT_BYTES];
    if (r->values->json)
        pil_buf_printf(out,
                       "{\"ok\":%s,\"batches\":%zu,\"batches_failed\":%zu,\"texts\":%zu,\"texts_failed\":%zu,"
                       "\"characters\":%zu,\"ms\":%.1f,\"texts_per_s\":%.1f,\"deaths\":%llu}\n",
                       c->texts_failed ? "false" : "true", c->batches, c->batches_failed, c->texts, c->texts_failed,
                       c->characters, c->ms, per_s, deaths);
    else
        pil_buf_printf(out,
                       "%zu of %zu batches and %zu of %zu texts succeeded (%s characters) in %.1f s, %.1f texts/s; "
                       "%llu worker%s died\n",
                       c->batches - c->batches_failed, c->batches, c->texts - c->texts_failed, c->texts,
                       pil_say_count(characters, c->characters), c->ms / 1000, per_s, deaths, plural(deaths));
}

/* Standard output that takes nothing more ends the replay: nobody would hear of the rest. */
static bool print(replay *r, void (*put)(pil_buf *, const replay *)) {
    pil_buf out;
    pil_buf_init(&out, PIL_LIMIT_ANSWER_BYTES);
    put(&out, r);
    int status = pil_say_output(who, &out);
    pil_buf_deinit(&out);
    if (status) r->status = status;
    return status == PIL_EXIT_OK;
}

/* ── Batch by batch ─────────────────────────────────────────────────────────────────────────────────────────── */

static void on_done(const pil_job *job, void *ud);

static void stop(replay *r, int status) {
    if (!r->status) r->status = status;
    pil_loop_stop(r->loop);
}

static void begin_batch(replay *r) {
    r->at = r->n = 0;
    r->deaths = pil_pool_info_of(r->pool)->deaths;
    r->batch_ns = pil_clock_ns();
}

/* Counts and reports the batch that is over. False when that was the last one, or standard output is gone. */
static bool end_batch(replay *r) {
    const pil_recorded_batch *b = batch_of(r);
    counts *c = &r->now, *all = &r->all;
    *c = (counts){.batches = 1, .texts = b->n, .ms = pil_clock_ms(r->batch_ns),
                  .deaths = pil_pool_info_of(r->pool)->deaths - r->deaths};
    for (size_t i = 0; i < b->n; i++) {
        c->characters += characters_of(&texts_of(r)[i]);
        c->texts_failed += r->outcomes[i].status != PILLION_OK;
    }
    c->batches_failed = c->texts_failed > 0;
    all->batches += c->batches;
    all->batches_failed += c->batches_failed;
    all->texts += c->texts;
    all->texts_failed += c->texts_failed;
    all->characters += c->characters;
    all->deaths += c->deaths;
    all->ms += c->ms;
    return print(r, r->values->json ? put_batch_json : put_batch_line) && ++r->batch < r->recorded.n_batches;
}

/* The pool is given texts of usual size only: what is beyond the limit of any request fails here, by itself. */
static bool is_too_large(const pillion_input *in) { return in->text_bytes > PIL_LIMIT_TEXT_BYTES; }

/* Passes over what is done and what fails by itself. False at the end of all batches. */
static bool find_next(replay *r) {
    for (;;) {
        r->at += r->n;
        r->n = 0;
        while (r->at < batch_of(r)->n && is_too_large(&texts_of(r)[r->at]))
            r->outcomes[r->at++] = (outcome){.status = PILLION_E_LIMIT};
        if (r->at < batch_of(r)->n) return true;
        if (!end_batch(r)) return false;
        begin_batch(r);
    }
}

/* Hands the next texts to the pool: all up to one that is too large, or one with --alone. What the pool does not take
 * has failed; the replay goes on, and ends the loop at the end of all batches. */
static void go_on(replay *r) {
    while (find_next(r)) {
        size_t most = r->values->alone ? 1 : batch_of(r)->n - r->at;
        while (r->n < most && !is_too_large(&texts_of(r)[r->at + r->n])) r->n++;
        pillion_error err = {0};
        pillion_run_options options;
        pillion_run_options_init(&options);
        r->submit_ns = pil_clock_ns();
        if (pil_pool_submit(r->pool, &r->ticket, 0, PILLION_OP_EMBED, &options, texts_of(r) + r->at, r->n, on_done, r,
                            &err) == PILLION_OK)
            return;
        for (size_t i = 0; i < r->n; i++) r->outcomes[r->at + i] = (outcome){.status = err.code};
    }
    stop(r, r->all.texts_failed ? PIL_EXIT_FAILURE : PIL_EXIT_OK);
}

/* A vector is proven here once more: of the model's dimension, finite, of length 1. */
static pillion_status prove(const replay *r, const pillion_item *it) {
    if (it->status) return it->status;
    double sum = 0;
    for (size_t i = 0; i < it->n_values; i++) sum += (double)it->values[i] * (double)it->values[i];
    bool is_unit = fabs(sqrt(sum) - 1) <= UNIT_TOLERANCE; /* false for NaN */
    return it->n_values == pil_pool_info_of(r->pool)->dim && is_unit ? PILLION_OK : PILLION_E_NUMERIC;
}

static void on_done(const pil_job *job, void *ud) {
    replay *r = ud;
    double ms = pil_clock_ms(r->submit_ns);
    bool is_answered = pil_job_ended(job) == PIL_JOB_ANSWERED;
    r->ticket = NULL;
    for (size_t i = 0; i < r->n; i++) {
        outcome *o = &r->outcomes[r->at + i];
        *o = (outcome){.status = PILLION_E_UNAVAILABLE, .ms = ms};
        if (!is_answered) continue;
        const pillion_item *it = pil_job_item(job, i);
        o->status = prove(r, it);
        o->n_tokens = it->n_tokens;
        o->is_truncated = it->truncated != 0;
    }
    go_on(r);
}

static void on_pool(void *ud) {
    replay *r = ud;
    const pil_pool_info *info = pil_pool_info_of(r->pool);
    if (info->state == PIL_POOL_FAILED && !r->status) {
        pil_say(who, "%s", info->error.text);
        stop(r, pil_exit_of(info->error.code));
    }
    if (info->breaker_open && !r->has_begun && !r->status) { /* a server would try again; here somebody waits */
        pil_say(who, "workers cannot be started: %s", info->reason);
        stop(r, PIL_EXIT_FAILURE);
    }
    if (info->state != PIL_POOL_READY || r->has_begun || r->status) return;
    r->has_begun = true;
    begin_batch(r);
    go_on(r);
}

/* ── The command ────────────────────────────────────────────────────────────────────────────────────────────── */

static pillion_status read_all(replay *r, char **files, size_t n_files, pillion_error *err) {
    pillion_status st = PILLION_OK;
    size_t largest = 0;
    for (size_t i = 0; !st && i < n_files; i++) st = pil_recorded_read(&r->recorded, files[i], err);
    for (size_t i = 0; i < r->recorded.n_batches; i++)
        if (r->recorded.batches[i].n > largest) largest = r->recorded.batches[i].n;
    r->outcomes = calloc(largest ? largest : 1, sizeof *r->outcomes);
    return st || r->outcomes ? st : pil_err_no_memory(err);
}

static pillion_status start(replay *r, const pil_hub_model *model, pillion_error *err) {
    const replay_values *v = r->values;
    uint32_t workers = v->workers ? (uint32_t)v->workers : pil_thread_cores();
    const pil_pool_options o = {.directory = model->kind == PIL_HUB_DIRECTORY ? model->path : NULL,
                                .file = model->kind == PIL_HUB_FILE ? model->path : NULL,
                                .precision = (pillion_precision)v->model.precision,
                                .workers = workers < PIL_LIMIT_WORKERS ? workers : PIL_LIMIT_WORKERS,
                                .on_change = on_pool, .ud = r};
    pillion_status st = pil_loop_create(&r->loop, err);
    return st ? st : pil_pool_create(&r->pool, r->loop, &o, err);
}

static void on_stopped(void *ud) { pil_loop_stop(((replay *)ud)->loop); }

static int run(const void *values, char **args, size_t n_args) {
    replay r = {.values = values};
    pil_hub_model model;
    pillion_error err = {0};
    pil_log_init(PIL_LOG_WARN, "replay");
    pillion_status st = read_all(&r, args, n_args, &err);
    int status = st == PILLION_E_FORMAT ? PIL_EXIT_INPUT : pil_exit_of(st);
    if (!st) {
        const pil_model_values *v = &r.values->model;
        st = pil_model_find(&model, v->model, v->precision, &err);
        if (!st) st = start(&r, &model, &err);
        status = pil_exit_of(st);
    }
    if (st) {
        pil_say(who, "%s", err.text);
    } else {
        pil_loop_run(r.loop);
        if (r.all.batches) print(&r, put_all);
        pil_pool_stop(r.pool, on_stopped, &r);
        pil_loop_run(r.loop);
        status = r.status;
    }
    pil_pool_destroy(r.pool);
    pil_loop_destroy(r.loop);
    pil_recorded_deinit(&r.recorded);
    free(r.outcomes);
    return status;
}

static const pil_option options[] = {
    {.name = "json", .letter = 'j', .type = PIL_OPTION_FLAG, .field = offsetof(replay_values, json),
     .help = "print a JSON object for each batch, with every text in it, and a last one with the totals"},
    {.name = "alone", .letter = 'a', .type = PIL_OPTION_FLAG, .field = offsetof(replay_values, alone),
     .help = "compute the texts of a batch one after the other, each with a time of its own"},
    PIL_MODEL_OPTIONS(replay_values, model),
    {.name = "workers", .type = PIL_OPTION_UINT, .field = offsetof(replay_values, workers), .value = "N",
     .fallback = "0", .max = PIL_LIMIT_WORKERS, .help = "processes that compute, 0 for one on each core"},
    PIL_OPTION_END,
};

const pil_command pil_cmd_replay = {
    .name = "replay",
    .args = "FILE...",
    .summary = "compute recorded batches again and report each text",
    .text =
        "For batches that an application recorded when they failed elsewhere. Every batch goes through worker "
        "processes as in \"pillion serve\": a text that ends its worker is found and fails by itself, all others "
        "succeed.\n\n"
        "A file, or standard input as -, is JSON: an array of texts, or an object with them in \"texts\", \"input\", "
        "\"inputs\", \"batch\", \"chunks\", \"documents\" or \"data\" (also below \"batches\", \"request\", \"body\" "
        "or \"payload\"). A "
        "text is a string, or an object with it in \"text\", \"content\", \"chunk\" or \"prompt\". A file may also "
        "have a JSON document on each line. Texts that stand together are one batch.\n\n"
        "Reported are, for each batch, how many texts and characters it has, the milliseconds that it took, and every "
        "text that failed, with the reason. The status is 0 only when all texts of all batches succeeded.",
    .examples = "pillion replay failed-*.json\n"
                "pillion replay --json batch.json | jq 'select(.ok == false)'",
    .options = options,
    .values_bytes = sizeof(replay_values),
    .args_min = 1,
    .args_max = SIZE_MAX,
    .complete = PIL_COMPLETE_FILES,
    .run = run,
};
