/* cmd_embed.c - pillion embed: texts to vectors.
 *
 * Flow:   texts (texts.c) -> blocks through the model (work.c) -> format (vectors.c) -> file or stdout (output.c).
 * Order of opening: what is cheap and can be wrong first (texts, format, output), the model last.
 * Tests:  tests/cmd/test_formats.py, test_texts.py, test_output.py, test_terminal.py. */
#include "cmd/cmd.h"
#include "cmd/output.h"
#include "cmd/say.h"
#include "cmd/vectors.h"
#include "cmd/work.h"

static const char who[] = "pillion embed";

typedef struct embed_values {
    pil_work_values work;
    const char *output;
    uint64_t format;
    bool no_normalize, no_truncate;
} embed_values;

static pillion_status add_block(void *ud, const pillion_input *in, const pillion_item *items, size_t n,
                                pillion_error *err) {
    (void)in;
    return pil_vectors_add(ud, items, n, err);
}

/* Everything between an open output and a finished one. */
static int embed_to(pil_output *out, pil_work *w, pil_vectors_format format) {
    int status = pil_work_open_model(w, true);
    if (status) return status;
    pillion_error err = {0};
    pil_vectors v;
    pillion_status st = pil_vectors_begin(&v, out, format, pillion_model_info(w->model)->dim, w->texts, &err);
    if (!st) {
        status = pil_work_run(w, PILLION_OP_EMBED, !(out->is_stdout && out->is_terminal), add_block, &v);
        if (!status) st = pil_vectors_end(&v, &err);
    }
    if (!status && !st) st = pil_output_commit(out, &err);
    if (st) pil_say(who, "%s", err.text);
    pil_vectors_deinit(&v);
    if (!status && !st) pil_work_report(w);
    return status ? status : pil_exit_of(st);
}

static int run(const void *values, char **args, size_t n_args) {
    const embed_values *v = values;
    pil_work w;
    int status = pil_work_open_texts(&w, who, &v->work, args, n_args);
    if (status) return status;
    if (v->no_normalize) w.run.normalize = PILLION_NORMALIZE_MODEL;
    if (v->no_truncate) w.run.truncate = PILLION_TRUNCATE_ERROR;
    pil_vectors_format format = (pil_vectors_format)v->format;
    if (format == PIL_VECTORS_AUTO) format = pil_vectors_format_of(v->output);
    pil_output out;
    pillion_error err = {0};
    pillion_status st = pil_output_open(&out, v->output, pil_vectors_is_whole(format), &err);
    if (st) {
        pil_say(who, "%s", err.text);
        status = pil_exit_of(st);
    } else if (out.is_terminal && pil_vectors_is_binary(format)) {
        const char *name = pil_vectors_formats[format];
        pil_say(who, "--format %s is not for a terminal: name a file with -o, or pipe it on", name);
        status = PIL_EXIT_USAGE;
    } else {
        status = embed_to(&out, &w, format);
    }
    pil_output_abort(&out);
    pil_work_close(&w);
    return status;
}

static const pil_option options[] = {
    {.name = "output", .letter = 'o', .type = PIL_OPTION_PATH, .field = offsetof(embed_values, output), .value = "FILE",
     .help = "write to this file, which appears only when it is complete; - is standard output"},
    {.name = "format", .letter = 'f', .type = PIL_OPTION_CHOICE, .field = offsetof(embed_values, format),
     .value = "FORMAT", .choices = pil_vectors_formats, .fallback = "auto",
     .help = "format of the output; auto goes by the ending of FILE, else jsonl"},
    {.name = "no-normalize", .type = PIL_OPTION_FLAG, .field = offsetof(embed_values, no_normalize),
     .help = "leave vectors as the model's own pipeline ends, instead of giving all of them length 1"},
    {.name = "no-truncate", .type = PIL_OPTION_FLAG, .field = offsetof(embed_values, no_truncate),
     .help = "refuse a text that is longer than the model takes, instead of cutting and reporting it"},
    PIL_WORK_OPTIONS(embed_values, work),
    PIL_OPTION_END,
};

const pil_command pil_cmd_embed = {
    .name = "embed",
    .args = "[TEXT...]",
    .summary = "turn texts into vectors",
    .text =
        "Texts are the arguments, or the lines of --input FILE, or the lines of standard input. Every line is one "
        "text, empty lines too. JSON lines are recognised by their first line: each is an object with a string "
        "\"text\", and blank lines between them do not count.\n\n"
        "Results come in the order of the texts. jsonl is a line {\"index\":0,\"embedding\":[...],\"tokens\":12,"
        "\"truncated\":false} for each text, written as soon as it is known, with the \"id\" of its JSON line if that "
        "is a string or a whole number; json is an array of the same objects; csv has the columns index, tokens, "
        "truncated, v0, v1, ...; npy is a NumPy array of float32, one row for each text; f32 is the bare "
        "little-endian float32 values.\n\n"
        "A text that is longer than the model takes is cut at its end. That is never silent: \"truncated\" is true, "
        "and the number of cut texts is reported on standard error.",
    .examples = "echo hello | pillion embed\n"
                "pillion embed 'first text' 'second text' -f csv\n"
                "pillion embed -i texts.txt -o vectors.npy\ta line of texts.txt is a row of the array\n"
                "pillion embed -m ./e5-small -p query 'how tall is it'\ta model from a directory, with its prompt",
    .options = options,
    .values_bytes = sizeof(embed_values),
    .args_max = SIZE_MAX,
    .run = run,
};
