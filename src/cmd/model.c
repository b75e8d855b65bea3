/* model.c - the model of a command: finding it by name, opening it, and showing when it is compiled for the first time.
 *
 * Tests: tests/cmd/test_models.py. */
#include "cmd/model.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/err.h"
#include "cmd/builtin.h"
#include "cmd/cmd.h"
#include "cmd/progress.h"
#include "cmd/say.h"

const char *const pil_precisions[] = {"auto", "f32", "bf16", "int8", NULL};

static void show_compiling(uint64_t done, uint64_t total, void *ud) {
    pil_progress_update(ud, done, total ? (double)done / (double)total : 0);
}

/* path: a directory or a compiled file. file[PATH_MAX] receives the path of the compiled one. */
static pillion_status open_path(pillion_model **out, const char *path, const pil_model_values *values, bool quiet,
                                char *file, pillion_error *err) {
    pil_progress progress;
    pil_progress_start(&progress, "preparing the model for this computer, once", NULL, !quiet);
    pillion_model_options opt;
    pillion_model_options_init(&opt);
    opt.precision = (pillion_precision)values->precision;
    opt.progress = show_compiling;
    opt.progress_ud = &progress;
    pillion_status st = pillion_prepare(path, &opt, file, PATH_MAX, err);
    if (!st) st = pillion_model_open(out, file, &opt, err);
    pil_progress_stop(&progress);
    return st;
}

/* A directory's file in the cache is ours to make again: once, and what is damaged then is something else. */
static pillion_status open_directory(pillion_model **out, const char *who, const char *path,
                                     const pil_model_values *values, bool computes, bool quiet, pillion_error *err) {
    char file[PATH_MAX];
    pillion_error damage = {0};
    pillion_status st = open_path(out, path, values, quiet, file, err);
    if (st || !computes || pillion_model_check(*out, &damage) != PILLION_E_FORMAT) return st;
    pillion_model_close(*out);
    *out = NULL;
    if (unlink(file) != 0 && errno != ENOENT) return pil_err_set(err, damage.code, "%s", damage.text);
    pil_say(who, "%.150s: damaged; it is compiled again", file);
    st = open_path(out, path, values, quiet, file, err);
    if (!st) st = pillion_model_check(*out, err);
    if (st) pillion_model_close(*out);
    if (st) *out = NULL;
    return st;
}

static pillion_status open_builtin(pillion_model **out, pillion_error *err) {
    size_t n;
    const void *bytes = pil_builtin_model(&n);
    return pillion_model_open_memory(out, bytes, n, err);
}

/* Nothing is opened to see what the built-in model computes in: the build compiles it in f32 (cmake/Program.cmake). */
pillion_status pil_model_find(pil_hub_model *out, const char *name, uint64_t precision, pillion_error *err) {
    size_t builtin_bytes;
    bool has_builtin = pil_builtin_model(&builtin_bytes) != NULL;
    pillion_status st = pil_hub_find(out, name, has_builtin, err);
    if (st || out->kind != PIL_HUB_BUILTIN) return st;
    if (precision == PILLION_PRECISION_AUTO || precision == PILLION_PRECISION_F32) return PILLION_OK;
    return pil_err_set(err, PILLION_E_UNSUPPORTED, "the built-in model computes in f32, not in %s",
                       pil_precisions[precision]);
}

/* What the environment says is a default, and not given besides. */
int pil_model_argument(pil_model_values *values, const char *who, char **args, size_t n_args) {
    const char *by_default = getenv("EMBED_MODEL");
    bool is_given = values->model && !(by_default && strcmp(values->model, by_default) == 0);
    if (n_args && is_given) {
        pil_say(who, "the model was given both as an argument and with --model; use one of them");
        return PIL_EXIT_USAGE;
    }
    if (n_args) values->model = args[0];
    return PIL_EXIT_OK;
}

int pil_model_open(pillion_model **out, const char *who, const pil_model_values *values, bool computes, bool quiet) {
    pillion_error err = {0};
    pil_hub_model found;
    char file[PATH_MAX];
    *out = NULL;
    pillion_status st = pil_model_find(&found, values->model, values->precision, &err);
    if (!st) {
        switch (found.kind) {
        case PIL_HUB_BUILTIN: st = open_builtin(out, &err); break;
        case PIL_HUB_DIRECTORY: st = open_directory(out, who, found.path, values, computes, quiet, &err); break;
        case PIL_HUB_FILE: st = open_path(out, found.path, values, quiet, file, &err); break;
        }
    }
    if (!st) return PIL_EXIT_OK;
    pil_say(who, "%s", err.text);
    return pil_exit_of(st);
}
