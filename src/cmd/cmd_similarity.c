/* cmd_similarity.c - pillion similarity: how alike texts are, as the cosine of their vectors.
 *
 * The first text is embedded alone; all others pass by in blocks. With --top only the best are kept, sorted, with a
 * copy of their text; without it every result is printed as it comes. Tests: tests/cmd/test_similarity.py. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/json.h"
#include "base/limits.h"
#include "base/utf8.h"
#include "cmd/cmd.h"
#include "cmd/say.h"
#include "cmd/work.h"

static const char who[] = "pillion similarity";

#define TOP_MAX 10000

typedef struct similarity_values {
    pil_work_values work;
    uint64_t top;
    bool json;
} similarity_values;

typedef struct scored {
    double score;
    uint64_t index;
    char *text; /* [text_bytes] a copy */
    size_t text_bytes;
} scored;

typedef struct comparison {
    const similarity_values *values;
    float *first; /* [dim], unit length */
    size_t dim;
    uint64_t n;
    bool number_only; /* two texts: the result is one number */
    scored *best;     /* [n_best] best first; room for values->top */
    size_t n_best;
    pil_buf line;
} comparison;

static double cosine(const comparison *c, const pillion_item *item) {
    double sum = 0;
    for (size_t i = 0; i < c->dim; i++) sum += (double)c->first[i] * (double)item->values[i];
    return sum > 1 ? 1 : sum < -1 ? -1 : sum;
}

/* The text as one line: control characters would break it or command the terminal. */
static void put_one_line(pil_buf *b, const char *s, size_t n) {
    for (size_t i = 0; i < n; i++) pil_buf_putc(b, (unsigned char)s[i] < 0x20 || s[i] == 0x7F ? ' ' : s[i]);
}

static pillion_status print_one(comparison *c, double score, uint64_t index, const char *text, size_t n,
                                pillion_error *err) {
    pil_buf_clear(&c->line);
    if (c->values->json) {
        pil_buf_printf(&c->line, "{\"index\":%llu,\"similarity\":%.6f,\"text\":", (unsigned long long)index, score);
        pil_json_put_string(&c->line, text, n);
        pil_buf_putc(&c->line, '}');
    } else {
        pil_buf_printf(&c->line, "%.6f", score);
        if (!c->number_only) {
            pil_buf_putc(&c->line, '\t');
            put_one_line(&c->line, text, n);
        }
    }
    pil_buf_putc(&c->line, '\n');
    if (c->line.failed) return pil_err_no_memory(err);
    if (fwrite(c->line.bytes, 1, c->line.len, stdout) == c->line.len) return PILLION_OK;
    return pil_err_set(err, PILLION_E_IO, "standard output: cannot write: %s", strerror(errno));
}

/* Puts one into the sorted best; equal scores keep the order of the input. */
static pillion_status keep_best(comparison *c, double score, uint64_t index, const pillion_input *in,
                                pillion_error *err) {
    size_t top = c->values->top, at = c->n_best;
    while (at > 0 && c->best[at - 1].score < score) at--;
    if (at == top) return PILLION_OK;
    char *copy = malloc(in->text_bytes + 1);
    if (!copy) return pil_err_no_memory(err);
    memcpy(copy, in->text, in->text_bytes);
    if (c->n_best == top) free(c->best[--c->n_best].text);
    memmove(c->best + at + 1, c->best + at, (c->n_best - at) * sizeof *c->best);
    c->best[at] = (scored){.score = score, .index = index, .text = copy, .text_bytes = in->text_bytes};
    c->n_best++;
    return PILLION_OK;
}

static pillion_status add_block(void *ud, const pillion_input *in, const pillion_item *items, size_t n,
                                pillion_error *err) {
    comparison *c = ud;
    pillion_status st = PILLION_OK;
    for (size_t i = 0; !st && i < n; i++) {
        double score = cosine(c, &items[i]);
        if (c->values->top) st = keep_best(c, score, c->n++, &in[i], err);
        else st = print_one(c, score, c->n++, in[i].text, in[i].text_bytes, err);
    }
    if (!st && fflush(stdout) != 0)
        st = pil_err_set(err, PILLION_E_IO, "standard output: cannot write: %s", strerror(errno));
    return st;
}

/* Embeds the text that all others are compared with. */
static pillion_status embed_first(comparison *c, pil_work *w, const char *text, pillion_error *err) {
    pillion_input in = {.text = text, .text_bytes = strlen(text)};
    const pillion_item *item;
    size_t bad = pil_utf8_valid(text, in.text_bytes);
    if (bad < in.text_bytes)
        return pil_err_set(err, PILLION_E_UTF8, "the first text: invalid UTF-8 at offset %zu", bad);
    pillion_status st = pillion_run(w->session, PILLION_OP_EMBED, &in, 1, &w->run, &item, err);
    if (st) return st;
    if (item->status) return pil_err_set(err, item->status, "the first text: %s", pillion_status_text(item->status));
    if (item->truncated && !w->values->quiet)
        pil_say(who, "the first text is longer than the model's %u tokens and was cut", item->n_tokens);
    c->dim = item->n_values;
    c->first = malloc(c->dim * sizeof *c->first);
    if (!c->first) return pil_err_no_memory(err);
    memcpy(c->first, item->values, c->dim * sizeof *c->first);
    return PILLION_OK;
}

static int compare(comparison *c, pil_work *w, const char *first) {
    int status = pil_work_open_model(w, true);
    if (status) return status;
    pillion_error err = {0};
    size_t top = c->values->top;
    pillion_status st = embed_first(c, w, first, &err);
    c->best = top ? calloc(top, sizeof *c->best) : NULL;
    if (top && !c->best) st = pil_err_set(&err, PILLION_E_NOMEM, "out of memory");
    if (!st) {
        status = pil_work_run(w, PILLION_OP_EMBED, top > 0, add_block, c);
        for (size_t i = 0; !status && !st && i < c->n_best; i++)
            st = print_one(c, c->best[i].score, c->best[i].index, c->best[i].text, c->best[i].text_bytes, &err);
        if (!status && !st && fflush(stdout) != 0)
            st = pil_err_set(&err, PILLION_E_IO, "standard output: cannot write: %s", strerror(errno));
    }
    if (st) pil_say(who, "%s", err.text);
    else if (!status) pil_work_report(w);
    return st ? pil_exit_of(st) : status;
}

static int run(const void *values, char **args, size_t n_args) {
    const similarity_values *v = values;
    pil_work w;
    int status = pil_work_open_texts(&w, who, &v->work, args + 1, n_args - 1);
    if (status) return status;
    comparison c = {.values = v, .number_only = n_args == 2 && !v->top && strcmp(args[1], "-") != 0};
    pil_buf_init(&c.line, 64 * PIL_MIB);
    status = compare(&c, &w, args[0]);
    for (size_t i = 0; c.best && i < c.n_best; i++) free(c.best[i].text);
    free(c.best);
    free(c.first);
    pil_buf_deinit(&c.line);
    pil_work_close(&w);
    return status;
}

static const pil_option options[] = {
    {.name = "top", .letter = 'n', .type = PIL_OPTION_UINT, .field = offsetof(similarity_values, top), .value = "N",
     .max = TOP_MAX, .min = 1, .help = "print only the N most similar texts, best first"},
    {.name = "json", .letter = 'j', .type = PIL_OPTION_FLAG, .field = offsetof(similarity_values, json),
     .help = "print {\"index\":0,\"similarity\":0.5,\"text\":\"...\"} for each text"},
    PIL_WORK_OPTIONS(similarity_values, work),
    PIL_OPTION_END,
};

const pil_command pil_cmd_similarity = {
    .name = "similarity",
    .args = "TEXT [TEXT...]",
    .summary = "say how alike texts are",
    .text = "Compares the first text with each of the others, which are further arguments, or the lines of --input "
            "FILE, or the lines of standard input, read as by 'pillion embed'. The result is the cosine of the two "
            "vectors: 1 for the same direction, about 0 for unrelated texts. Two texts give one number; more give a "
            "line with number, tab and text for each.",
    .examples = "pillion similarity 'a cat' 'a kitten'\n"
                "pillion similarity 'broken login' --top 5 -i tickets.txt\tthe five lines that are nearest in meaning",
    .options = options,
    .values_bytes = sizeof(similarity_values),
    .args_min = 1,
    .args_max = SIZE_MAX,
    .run = run,
};
