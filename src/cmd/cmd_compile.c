/* cmd_compile.c - pillion compile: a Hugging Face directory to one compiled file, at a place of the user's choice.
 *
 * Other commands compile on their own when they meet a directory, and keep the file in the cache; this one is for
 * images, packages and the build, which makes the built-in model with it. Tests: tests/cmd/test_models.py. */
#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "base/err.h"
#include "base/file.h"
#include "cmd/cmd.h"
#include "cmd/model.h"
#include "cmd/output.h"
#include "cmd/progress.h"
#include "cmd/say.h"
#include "compile/compile.h"

#define FOLDERS_DEEP 3 /* a model, the folders of its modules, and one more */

static const char who[] = "pillion compile";

typedef struct compile_values {
    const char *name;
    uint64_t precision;
    bool quiet;
} compile_values;

static void show(uint64_t done, uint64_t total, void *ud) {
    pil_progress_update(ud, done, total ? (double)done / (double)total : 0);
}

/* Whether a file in folder, or at most `depth` - 1 folders below, is that of *target. Links are followed, since the
 * files of a model in the cache of Hugging Face are links; what begins with a dot is never part of a model. */
static bool holds(const char *folder, const struct stat *target, int depth) {
    DIR *dir = opendir(folder);
    bool found = false;
    for (struct dirent *e; dir && !found && (e = readdir(dir));) {
        char path[PATH_MAX];
        struct stat s;
        if (e->d_name[0] == '.' || fstatat(dirfd(dir), e->d_name, &s, 0) != 0) continue;
        if (!S_ISDIR(s.st_mode)) found = s.st_dev == target->st_dev && s.st_ino == target->st_ino;
        else if (depth > 1 && !pil_file_join(path, sizeof path, folder, e->d_name, NULL))
            found = holds(path, target, depth - 1);
    }
    if (dir) closedir(dir);
    return found;
}

/* Compiling onto a file of the model would destroy what it is made from. What was compiled before may lie there too: it
 * is no source, and is there to be replaced. The file gets its name by renaming, which would replace a device or a pipe
 * as it replaces a file. */
static pillion_status check_target(const char *dir, const char *out, pillion_error *err) {
    struct stat target;
    if (strcmp(out, "-") == 0)
        return pil_err_set(err, PILLION_E_ARG, "-: a compiled model is mapped from a file; name the file to write");
    if (stat(out, &target) != 0) return PILLION_OK;
    if (S_ISDIR(target.st_mode))
        return pil_err_set(err, PILLION_E_ARG, "%s: is a directory; name the file to write", out);
    if (!S_ISREG(target.st_mode))
        return pil_err_set(err, PILLION_E_ARG, "%s: is not a regular file; name another file to write", out);
    if (!holds(dir, &target, FOLDERS_DEEP)) return PILLION_OK;
    pil_compiled old;
    pillion_status st = pil_compiled_open(&old, out, NULL);
    pil_compiled_close(&old);
    if (!st || st == PILLION_E_STALE) return PILLION_OK;
    return pil_err_set(err, PILLION_E_ARG, "%s: is a file of the model itself; name another file to write", out);
}

static pillion_status check(const compile_values *v, const char *dir, const char *out, pillion_error *err) {
    if (!pil_file_exists(dir)) return pil_err_set(err, PILLION_E_NOT_FOUND, "%s: no such directory", dir);
    if (!pil_file_is_dir(dir)) return pil_err_set(err, PILLION_E_ARG, "%s: is not a directory", dir);
    if (v->name && strlen(v->name) >= PIL_NAME_BYTES)
        return pil_err_set(err, PILLION_E_ARG, "--name: longer than %d bytes", PIL_NAME_BYTES - 1);
    return check_target(dir, out, err);
}

static pillion_status compile(const compile_values *v, const char *dir, const char *out, pil_progress *progress,
                              pillion_error *err) {
    char target[PATH_MAX];
    pillion_status st = check(v, dir, out, err);
    if (st) return st;
    if (!pil_output_target(target, out))
        return pil_err_set(err, PILLION_E_IO, "%.140s: cannot write: %s", out, strerror(errno));
    return pil_compile(dir, target, v->name, (pillion_precision)v->precision, show, progress, err);
}

static int run(const void *values, char **args, size_t n_args) {
    (void)n_args;
    const compile_values *v = values;
    pillion_error err = {0};
    pil_progress progress;
    pil_progress_start(&progress, "compiling", NULL, !v->quiet);
    pillion_status st = compile(v, args[0], args[1], &progress, &err);
    pil_progress_stop(&progress);
    if (st) pil_say(who, "%s", err.text);
    return pil_exit_of(st);
}

static const pil_option options[] = {
    {.name = "name", .type = PIL_OPTION_STRING, .field = offsetof(compile_values, name), .value = "NAME",
     .help = "what the model is called; without it, as the directory says"},
    {.name = "precision", .type = PIL_OPTION_CHOICE, .field = offsetof(compile_values, precision), .value = "PRECISION",
     .choices = pil_precisions, .fallback = "auto", .help = "arithmetic"},
    {.name = "quiet", .letter = 'q', .type = PIL_OPTION_FLAG, .field = offsetof(compile_values, quiet),
     .help = "no progress"},
    PIL_OPTION_END,
};

const pil_command pil_cmd_compile = {
    .name = "compile",
    .args = "DIRECTORY FILE",
    .summary = "compile a Hugging Face directory into one file",
    .text = "Every command that takes a model compiles a directory by itself on first use and keeps the result in the "
            "cache. 'pillion compile' writes the same file where you want it, for example into an image; --model FILE "
            "then opens it without the directory.",
    .examples = "pillion compile ./all-mpnet-base-v2 mpnet.f32.safetensors",
    .options = options,
    .values_bytes = sizeof(compile_values),
    .args_min = 2,
    .args_max = 2,
    .complete = PIL_COMPLETE_FILES,
    .run = run,
};
