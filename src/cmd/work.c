/* work.c - what embed, tokenize and similarity share: texts through a model, block by block, with progress and counts.
 *
 * Flow:    pil_texts_next() -> pillion_run() -> every item's status -> the command's function -> next block.
 * Memory:  one block of texts and its answers, whatever the length of the input.
 * Tests:   tests/cmd/test_texts.py, test_terminal.py. */
#include "cmd/work.h"

#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/file.h"
#include "base/thread.h"
#include "cmd/cmd.h"
#include "cmd/say.h"

/* Texts in a block for each thread: enough that the last, uneven batches of a block do not count. */
#define BLOCK_TEXTS_PER_THREAD 512
#define BLOCK_TEXTS_MIN 1024
#define BLOCK_TEXTS_MAX 8192

/* E_FORMAT is about a JSON line here, not about a model. */
static int text_exit(pillion_status st) { return st == PILLION_E_FORMAT ? PIL_EXIT_INPUT : pil_exit_of(st); }

int pil_work_open_texts(pil_work *w, const char *who, const pil_work_values *values, char **args, size_t n_args) {
    *w = (pil_work){.who = who, .values = values};
    pillion_run_options_init(&w->run);
    w->run.prompt_name = values->prompt;
    pillion_error err = {0};
    size_t threads = values->threads ? values->threads : pil_thread_cores();
    size_t block = threads * BLOCK_TEXTS_PER_THREAD;
    if (block < BLOCK_TEXTS_MIN) block = BLOCK_TEXTS_MIN;
    if (block > BLOCK_TEXTS_MAX) block = BLOCK_TEXTS_MAX;
    if (n_args == 1 && pil_file_exists(args[0]) && !pil_file_is_dir(args[0])) w->file = args[0];
    pillion_status st = pil_texts_open(&w->texts, args, n_args, values->input, (pil_texts_format)values->input_format,
                                       block, &err);
    if (st) pil_say(who, "%s", err.text);
    return text_exit(st);
}

/* The library refuses an unknown prompt too, but only here are there names to offer. */
static pillion_status check_prompt(const pil_work *w, pillion_error *err) {
    const pillion_info *info = pillion_model_info(w->model);
    const char *name = w->run.prompt_name;
    if (!name || !*name) return PILLION_OK;
    pil_buf names;
    pil_buf_init(&names, 4096);
    for (uint32_t i = 0; i < info->n_prompts; i++) {
        if (strcmp(info->prompt_names[i], name) == 0) {
            pil_buf_deinit(&names);
            return PILLION_OK;
        }
        pil_buf_printf(&names, "%s%s", i ? ", " : "", info->prompt_names[i]);
    }
    const char *list = info->n_prompts ? pil_buf_cstr(&names) : "none";
    pillion_status st = pil_err_set(err, PILLION_E_ARG, "--prompt: the model has no prompt '%.40s'; its prompts: %s",
                                    name, list ? list : "");
    pil_buf_deinit(&names);
    return st;
}

int pil_work_open_model(pil_work *w, bool computes) {
    int status = pil_model_open(&w->model, w->who, &w->values->model, computes, w->values->quiet);
    if (status) return status;
    pillion_error err = {0};
    pillion_session_options opt;
    pillion_session_options_init(&opt);
    opt.threads = (uint32_t)w->values->threads;
    opt.batch_tokens = (uint32_t)w->values->batch_tokens;
    pillion_status st = check_prompt(w, &err);
    if (!st) st = pillion_session_create(&w->session, w->model, &opt, &err);
    if (st) pil_say(w->who, "%s", err.text);
    return pil_exit_of(st);
}

static void show_progress(uint64_t done, uint64_t total, void *ud) {
    pil_work *w = ud;
    (void)total;
    pil_progress_update(&w->progress, w->n_texts + done, pil_texts_fraction(w->texts, (size_t)done, w->block_n));
}

/* The first item that failed, as an error. Texts are counted from 1, as lines are. */
static pillion_status check_items(pil_work *w, const pillion_item *items, size_t n, pillion_error *err) {
    for (size_t i = 0; i < n; i++) {
        unsigned long long number = w->n_texts + i + 1;
        const char *name = pil_texts_name(w->texts);
        if (items[i].status == PILLION_E_TOO_LONG)
            return pil_err_set(err, PILLION_E_TOO_LONG, "%s: text %llu has %u tokens, the model takes %u", name, number,
                               items[i].n_tokens_all, pillion_model_info(w->model)->max_tokens);
        if (items[i].status)
            return pil_err_set(err, items[i].status, "%s: text %llu: %s", name, number,
                               pillion_status_text(items[i].status));
        w->n_tokens += items[i].n_tokens;
        w->n_truncated += items[i].truncated;
    }
    return PILLION_OK;
}

/* One block; *n is 0 at the end. *from_texts: the texts are to blame for a failure. */
static pillion_status run_block(pil_work *w, pillion_op op, pil_work_fn fn, void *ud, bool *from_texts, size_t *n,
                                pillion_error *err) {
    const pillion_input *in;
    const pillion_item *items;
    *from_texts = true;
    pillion_status st = pil_texts_next(w->texts, &in, n, err);
    if (st || *n == 0) return st;
    *from_texts = false;
    w->block_n = *n;
    st = pillion_run(w->session, op, in, *n, &w->run, &items, err);
    if (!st) st = check_items(w, items, *n, err);
    if (!st) st = fn(ud, in, items, *n, err);
    w->n_texts += *n;
    return st;
}

int pil_work_run(pil_work *w, pillion_op op, bool bar, pil_work_fn fn, void *ud) {
    const char *label = op == PILLION_OP_EMBED ? "embedding" : "reading";
    pil_progress_start(&w->progress, label, "texts", bar && !w->values->quiet);
    w->run.progress = show_progress;
    w->run.progress_ud = w;
    pillion_error err = {0};
    pillion_status st;
    bool from_texts;
    size_t n;
    do {
        st = run_block(w, op, fn, ud, &from_texts, &n, &err);
        show_progress(0, 0, w);
    } while (!st && n > 0);
    w->was_shown = pil_progress_stop(&w->progress);
    if (st) pil_say(w->who, "%s", err.text);
    return from_texts ? text_exit(st) : pil_exit_of(st);
}

void pil_work_report(const pil_work *w) {
    unsigned long long texts = w->n_texts, cut = w->n_truncated;
    if (w->was_shown) {
        double s = pil_progress_seconds(&w->progress);
        pil_say(w->who, "%llu texts, %llu tokens in %.1f s (%.0f texts/s)", texts, (unsigned long long)w->n_tokens, s,
                (double)texts / s);
    }
    if (texts == 0 && !w->values->quiet) pil_say(w->who, "%s: no texts", pil_texts_name(w->texts));
    if (w->file && !w->values->quiet)
        pil_say(w->who, "note: '%.80s' was taken as a text; --input %.80s reads the file", w->file, w->file);
    if (cut)
        pil_say(w->who, "cut to the model's %u tokens: %llu of %llu texts", pillion_model_info(w->model)->max_tokens,
                cut, texts);
}

void pil_work_close(pil_work *w) {
    pillion_session_destroy(w->session);
    pillion_model_close(w->model);
    pil_texts_close(w->texts);
    *w = (pil_work){0};
}
