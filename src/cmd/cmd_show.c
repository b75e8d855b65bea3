/* cmd_show.c - pillion show: what a model is, what it takes, what it costs. Tests: tests/cmd/test_models.py. */
#include <stdio.h>
#include <string.h>

#include "base/limits.h"
#include "cmd/cmd.h"
#include "cmd/model.h"
#include "cmd/say.h"

static const char who[] = "pillion show";

typedef struct show_values {
    pil_model_values model;
    bool json;
} show_values;

/* 91234567 -> "91.2 MB"; powers of 1000, as disks and models are sold. */
static void put_bytes(pil_buf *out, uint64_t n) {
    static const char *const units[] = {"bytes", "kB", "MB", "GB", "TB"};
    double v = (double)n;
    size_t u = 0;
    for (; v >= 1000 && u + 1 < sizeof units / sizeof *units; u++) v /= 1000;
    pil_buf_printf(out, u ? "%.1f %s" : "%.0f %s", v, units[u]);
}

static void put_label(pil_buf *out, const char *label) { pil_buf_printf(out, "  %-14s", label); }

static void put_prompts(pil_buf *out, const pillion_info *i) {
    for (uint32_t p = 0; p < i->n_prompts; p++) {
        bool is_default = i->default_prompt && strcmp(i->default_prompt, i->prompt_names[p]) == 0;
        put_label(out, p ? "" : "prompts");
        pil_buf_printf(out, "%s: \"%s\"%s\n", i->prompt_names[p], i->prompt_texts[p],
                       is_default ? " (used unless another is asked for)" : "");
    }
}

static void put_table(pil_buf *out, const pillion_info *i) {
    pil_buf_printf(out, "%s\n", i->name);
    put_label(out, "architecture");
    pil_buf_printf(out, "%s: %u layers, hidden size %u, %u heads, feed-forward size %u; %.1f million parameters\n",
                   i->architecture, i->layers, i->hidden, i->heads, i->ffn, (double)i->parameters / 1e6);
    put_label(out, "tokenizer");
    pil_buf_printf(out, "%s, %u tokens\n", i->tokenizer, i->vocab);
    put_label(out, "vectors");
    pil_buf_printf(out, "%u dimensions, %s pooling%s\n", i->dim, i->pooling,
                   i->normalizes ? ", normalized by the model itself" : "");
    put_label(out, "longest text");
    pil_buf_printf(out, "%u tokens; what is longer is cut, and reported\n", i->max_tokens);
    put_prompts(out, i);
    put_label(out, "precision");
    if (strcmp(i->precision, "f32") == 0) pil_buf_puts(out, "f32, the reference itself\n");
    else
        pil_buf_printf(out, "%s; cosine against f32: mean %.5f, lowest %.5f\n", i->precision, i->fidelity_mean,
                       i->fidelity_min);
    put_label(out, "memory");
    put_bytes(out, i->file_bytes);
    pil_buf_puts(out, " mapped once for all processes, and ");
    put_bytes(out, i->scratch_bytes);
    pil_buf_puts(out, " for each thread\n");
    put_label(out, "kernels");
    pil_buf_printf(out, "%s\n", i->kernels);
    if (i->source[0]) {
        put_label(out, "compiled from");
        pil_buf_printf(out, "%s\n", i->source);
    }
}

/* The library's own JSON, so that there is one spelling of each field. */
static pillion_status put_json(pil_buf *out, const pillion_model *model, pillion_error *err) {
    pillion_session *session;
    const pillion_item *item = NULL;
    pillion_status st = pillion_session_create(&session, model, NULL, err);
    if (!st) st = pillion_run(session, PILLION_OP_INFO, NULL, 0, NULL, &item, err);
    if (!st) {
        pil_buf_append(out, item->text, item->text_bytes);
        pil_buf_putc(out, '\n');
    }
    pillion_session_destroy(session);
    return st;
}

static int run(const void *values, char **args, size_t n_args) {
    const show_values *v = values;
    pil_model_values chosen = v->model;
    pillion_model *model;
    int status = pil_model_argument(&chosen, who, args, n_args);
    if (!status) status = pil_model_open(&model, who, &chosen, false, false);
    if (status) return status;
    pillion_error err = {0};
    pillion_status st = PILLION_OK;
    pil_buf out;
    pil_buf_init(&out, 4 * PIL_MIB);
    if (v->json) st = put_json(&out, model, &err);
    else put_table(&out, pillion_model_info(model));
    if (st) pil_say(who, "%s", err.text);
    status = st ? pil_exit_of(st) : pil_say_output(who, &out);
    pil_buf_deinit(&out);
    pillion_model_close(model);
    return status;
}

static const pil_option options[] = {
    {.name = "json", .letter = 'j', .type = PIL_OPTION_FLAG, .field = offsetof(show_values, json),
     .help = "print one JSON object instead of a table"},
    PIL_MODEL_OPTIONS(show_values, model),
    PIL_OPTION_END,
};

const pil_command pil_cmd_show = {
    .name = "show",
    .args = "[MODEL]",
    .summary = "describe a model: dimensions, limits, fidelity, memory",
    .examples = "pillion show\tthe built-in model\npillion show --json ./e5-small | jq .dim",
    .options = options,
    .values_bytes = sizeof(show_values),
    .args_max = 1,
    .complete = PIL_COMPLETE_FILES,
    .run = run,
};
