/* cmd_tokenize.c - pillion tokenize: texts to the tokens that the model sees. Tests: tests/cmd/test_tokenize.py. */
#include <errno.h>
#include <string.h>

#include "base/err.h"
#include "base/json.h"
#include "base/limits.h"
#include "cmd/cmd.h"
#include "cmd/output.h"
#include "cmd/say.h"
#include "cmd/work.h"

static const char who[] = "pillion tokenize";

typedef struct tokenize_values {
    pil_work_values work;
    const char *output;
    bool no_truncate, no_special;
} tokenize_values;

typedef struct writer {
    pil_output out;
    pil_buf line;
    const pil_texts *texts;
    uint64_t n;
} writer;

/* A decimal number; printf would take half of the time of the whole command. */
static void put_id(pil_buf *b, int32_t id) {
    char digits[12], *at = digits + sizeof digits;
    uint32_t n = id < 0 ? -(uint32_t)id : (uint32_t)id;
    do *--at = (char)('0' + n % 10);
    while (n /= 10);
    if (id < 0) *--at = '-';
    pil_buf_append(b, at, (size_t)(digits + sizeof digits - at));
}

static void put_item(pil_buf *b, uint64_t index, const char *id, const pillion_item *item) {
    pil_buf_clear(b);
    pil_buf_printf(b, "{\"index\":%llu", (unsigned long long)index);
    if (id) pil_buf_printf(b, ",\"id\":%s", id);
    pil_buf_puts(b, ",\"ids\":[");
    for (uint32_t i = 0; i < item->n_tokens; i++) {
        if (i) pil_buf_putc(b, ',');
        put_id(b, item->ids[i]);
    }
    pil_buf_puts(b, "],\"tokens\":[");
    for (uint32_t i = 0; i < item->n_tokens; i++) {
        if (i) pil_buf_putc(b, ',');
        pil_json_put_string(b, item->tokens[i], strlen(item->tokens[i]));
    }
    pil_buf_printf(b, "],\"truncated\":%s}\n", item->truncated ? "true" : "false");
}

static pillion_status add_block(void *ud, const pillion_input *in, const pillion_item *items, size_t n,
                                pillion_error *err) {
    writer *w = ud;
    (void)in;
    for (size_t i = 0; i < n; i++) {
        put_item(&w->line, w->n++, pil_texts_id(w->texts, i), &items[i]);
        if (w->line.failed) return pil_err_no_memory(err);
        if (fwrite(w->line.bytes, 1, w->line.len, w->out.f) != w->line.len)
            return pil_err_set(err, PILLION_E_IO, "%s: cannot write: %s", w->out.name, strerror(errno));
    }
    return pil_output_flush(&w->out, err);
}

static int tokenize(writer *out, pil_work *w) {
    int status = pil_work_open_model(w, false);
    if (!status) {
        bool bar = !(out->out.is_stdout && out->out.is_terminal);
        status = pil_work_run(w, PILLION_OP_TOKENIZE, bar, add_block, out);
    }
    if (status) return status;
    pillion_error err = {0};
    pillion_status st = pil_output_commit(&out->out, &err);
    if (st) pil_say(who, "%s", err.text);
    else pil_work_report(w);
    return pil_exit_of(st);
}

static int run(const void *values, char **args, size_t n_args) {
    const tokenize_values *v = values;
    pil_work w;
    int status = pil_work_open_texts(&w, who, &v->work, args, n_args);
    if (status) return status;
    w.run.truncate = v->no_truncate ? PILLION_TRUNCATE_NONE : PILLION_TRUNCATE_END;
    w.run.skip_special = v->no_special;
    writer out = {.texts = w.texts};
    pil_buf_init(&out.line, PIL_GIB); /* 4 MiB of text, each byte a token with its id and spelling */
    pillion_error err = {0};
    pillion_status st = pil_output_open(&out.out, v->output, false, &err);
    if (st) pil_say(who, "%s", err.text);
    status = st ? pil_exit_of(st) : tokenize(&out, &w);
    pil_output_abort(&out.out);
    pil_buf_deinit(&out.line);
    pil_work_close(&w);
    return status;
}

static const pil_option options[] = {
    {.name = "output", .letter = 'o', .type = PIL_OPTION_PATH, .field = offsetof(tokenize_values, output),
     .value = "FILE", .help = "write to this file, which appears only when it is complete; - is standard output"},
    {.name = "no-truncate", .type = PIL_OPTION_FLAG, .field = offsetof(tokenize_values, no_truncate),
     .help = "show all tokens of texts that are longer than the model takes"},
    {.name = "no-special", .type = PIL_OPTION_FLAG, .field = offsetof(tokenize_values, no_special),
     .help = "leave out the tokens that the model wants around a text, as [CLS] and [SEP]"},
    PIL_WORK_OPTIONS(tokenize_values, work),
    PIL_OPTION_END,
};

const pil_command pil_cmd_tokenize = {
    .name = "tokenize",
    .args = "[TEXT...]",
    .summary = "show the tokens that the model sees",
    .text = "Texts are given as for 'pillion embed'. The output is a line {\"index\":0,\"ids\":[...],\"tokens\":[...],"
            "\"truncated\":false} for each text, with the \"id\" of its JSON line if that is a string or a "
            "whole number.",
    .examples = "pillion tokenize 'unbelievable'\n"
                "pillion tokenize -i book.txt | grep -c '\"truncated\":true'\t"
                "how many lines are longer than the model takes",
    .options = options,
    .values_bytes = sizeof(tokenize_values),
    .args_max = SIZE_MAX,
    .run = run,
};
