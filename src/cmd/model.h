/* model.h - the model of a command: its options, finding it, opening it with progress. */
#ifndef PIL_CMD_MODEL_H
#define PIL_CMD_MODEL_H

#include <stdbool.h>
#include <stdint.h>

#include "cmd/options.h"
#include "hub/hub.h"

/* The part of a command's values that says which model, and how it computes. */
typedef struct pil_model_values {
    const char *model; /* --model: name, directory or compiled file; NULL: the built-in one */
    uint64_t precision;
} pil_model_values;

extern const char *const pil_precisions[]; /* the words of --precision, in the order of pillion_precision */

/* Rows for the table of a command whose values, of type v, hold a pil_model_values at `path`. */
#define PIL_MODEL_OPTIONS(v, path)                                                                                     \
    {.name = "model", .letter = 'm', .type = PIL_OPTION_STRING, .field = offsetof(v, path.model), .value = "MODEL",    \
     .env = "EMBED_MODEL", .files = true,                                                                              \
     .help = "name of a model on this machine, a Hugging Face directory, or a compiled file; without it the built-in " \
             "model is used"},                                                                                         \
    {.name = "precision", .type = PIL_OPTION_CHOICE, .field = offsetof(v, path.precision), .value = "PRECISION",       \
     .choices = pil_precisions, .fallback = "auto", .help = "arithmetic"}

/* Finds the model of that name, as pil_hub_find does; NULL or "" is the built-in one. It has one precision, and asking
 * for another is no reason to use it all the same: E_UNSUPPORTED. */
pillion_status pil_model_find(pil_hub_model *out, const char *name, uint64_t precision, pillion_error *err);

/* For commands that take the model as an argument too: that one, if there is one, is put into values.
 *   Returns PIL_EXIT_OK; PIL_EXIT_USAGE after one line on standard error when --model was given besides. */
int pil_model_argument(pil_model_values *values, const char *who, char **args, size_t n_args);

/* Finds and opens the model. Compiling it for the first time is shown on a terminal unless quiet.
 *   computes  its weights will be used: a file of the cache proves them with the canary text first, and is made again,
 *             with one line on standard error, when they are damaged.
 *   out       given: pillion_model_close. NULL on failure.
 *   Returns   PIL_EXIT_OK, or the exit status after one line on standard error. */
int pil_model_open(pillion_model **out, const char *who, const pil_model_values *values, bool computes, bool quiet);

#endif
