/* work.h - what embed, tokenize and similarity share: texts through a model, block by block, with progress and counts.
 * */
#ifndef PIL_CMD_WORK_H
#define PIL_CMD_WORK_H

#include "cmd/model.h"
#include "cmd/progress.h"
#include "cmd/texts.h"

typedef struct pil_work_values {
    pil_model_values model;
    const char *input;
    uint64_t input_format; /* pil_texts_format */
    uint64_t threads, batch_tokens;
    const char *prompt; /* NULL: the model's default; "": none */
    bool quiet;
} pil_work_values;

/* Rows for the table of a command whose values, of type v, hold a pil_work_values at `path`. */
#define PIL_WORK_OPTIONS(v, path)                                                                                      \
    PIL_MODEL_OPTIONS(v, path.model),                                                                                  \
    {.name = "input", .letter = 'i', .type = PIL_OPTION_PATH, .field = offsetof(v, path.input), .value = "FILE",       \
     .help = "read the texts from this file; - is standard input"},                                                    \
    {.name = "input-format", .type = PIL_OPTION_CHOICE, .field = offsetof(v, path.input_format), .value = "FORMAT",    \
     .choices = pil_texts_formats, .fallback = "auto", .help = "how the texts are laid out"},                          \
    {.name = "prompt", .letter = 'p', .type = PIL_OPTION_STRING, .field = offsetof(v, path.prompt), .value = "NAME",   \
     .help = "put the model's prompt of this name in front of every text, '' for none; without this option the "       \
             "model's own default, if it has one"},                                                                    \
    {.name = "threads", .letter = 't', .type = PIL_OPTION_UINT, .field = offsetof(v, path.threads), .value = "N",      \
     .fallback = "0", .max = 1024, .help = "threads that compute, 0 for one on each core"},                            \
    {.name = "batch-tokens", .type = PIL_OPTION_UINT, .field = offsetof(v, path.batch_tokens), .value = "N",           \
     .fallback = "0", .max = PIL_BATCH_TOKENS_MAX,                                                                     \
     .help = "tokens that one thread computes at once, 0 for what suits the model; changes speed, never vectors"},     \
    {.name = "quiet", .letter = 'q', .type = PIL_OPTION_FLAG, .field = offsetof(v, path.quiet),                        \
     .help = "no progress and no notes; errors and the count of texts that were cut are still reported"}

#define PIL_BATCH_TOKENS_MAX 1048576 /* scratch memory grows with it: this is already some GB for each thread */

typedef struct pil_work {
    const char *who; /* "pillion embed", borrowed */
    const pil_work_values *values;
    pil_texts *texts;
    pillion_model *model;
    pillion_session *session;
    pillion_run_options run; /* the caller may set more of it before pil_work_run */
    pil_progress progress;
    bool was_shown; /* progress was drawn */
    const char *file; /* the only argument when it names a file, which may have been meant; else NULL */
    uint64_t n_texts, n_tokens, n_truncated;
    size_t block_n; /* texts of the block at work */
} pil_work;

/* Opens the texts: what can be wrong about them is found before a model is loaded. Returns the exit status after one
 * line on standard error. Close whatever happens. */
int pil_work_open_texts(pil_work *w, const char *who, const pil_work_values *values, char **args, size_t n_args);
/* Opens model and session. computes: as pil_model_open has it. */
int pil_work_open_model(pil_work *w, bool computes);

/* Gets the answers of one block, which begins at index w->n_texts. in and items: [n], borrowed for the call.
 * err: filled when it fails. */
typedef pillion_status (*pil_work_fn)(void *ud, const pillion_input *in, const pillion_item *items, size_t n,
                                      pillion_error *err);

/* Runs op over all texts, in order, and hands each block to fn. Any text that fails ends the work.
 *   bar      progress may be drawn, because nothing else is written to the terminal.
 *   Returns  the exit status, after one line on standard error. */
int pil_work_run(pil_work *w, pillion_op op, bool bar, pil_work_fn fn, void *ud);

/* After the output is safe: what was done (when progress was shown), what may not have been meant, and how many
 * were cut. */
void pil_work_report(const pil_work *w);
void pil_work_close(pil_work *w); /* accepts a zeroed one */

#endif
