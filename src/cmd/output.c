/* output.c - where a command's result goes: a file that is complete or absent, or standard output.
 *
 * Three ways: a regular file through base/file.h; standard output, a device or a pipe directly; or, for formats that
 * are only right as a whole, a spool that is copied to one of those on commit.
 * Signals:    base/file.h gives the temporary file no name where the system can, so nothing is left by a death of any
 *             kind. Where it has a name, the handler below removes it and lets the signal end the process as it would
 *             have, so that shells see an interrupted command. A signal handler has no argument: hence the one static.
 * SIGPIPE is left alone: `pillion embed ... | head` ends quietly, as every filter does.
 * Tests:      tests/cmd/test_output.py. */
#include "cmd/output.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/err.h"
#include "base/limits.h"

#define LINKS_MAX 40 /* as Linux has it: path_resolution(7) */

static pillion_status failed(const pil_output *o, const char *doing, pillion_error *err) {
    int e = errno;
    pillion_status st = e == ENOENT ? PILLION_E_NOT_FOUND : PILLION_E_IO;
    return pil_err_set(err, st, "%.140s: %s: %s", o->name, doing, strerror(e)); /* however long the name: the reason */
}

/* ── Signals ────────────────────────────────────────────────────────────────────────────────────────────────── */

static const int ending_signals[] = {SIGINT, SIGTERM, SIGHUP, SIGPIPE};
#define N_SIGNALS (sizeof ending_signals / sizeof *ending_signals)

static char partial_path[PATH_MAX]; /* "" when there is nothing to remove */

static void remove_partial(int signal_number) {
    if (partial_path[0]) unlink(partial_path);
    raise(signal_number); /* SA_RESETHAND: the default action follows when the handler returns */
}

/* An ignored signal (nohup, a shell's background job) stays ignored. */
static void watch_signals(const char *path) {
    size_t n = strlen(path) + 1;
    if (n > sizeof partial_path) return;
    memcpy(partial_path, path, n);
    for (size_t i = 0; i < N_SIGNALS; i++) {
        struct sigaction old, act = {.sa_handler = remove_partial, .sa_flags = (int)SA_RESETHAND};
        if (sigaction(ending_signals[i], NULL, &old) == 0 && old.sa_handler == SIG_DFL)
            sigaction(ending_signals[i], &act, NULL);
    }
}

static void unwatch_signals(void) {
    for (size_t i = 0; i < N_SIGNALS; i++) {
        struct sigaction old, act = {.sa_handler = SIG_DFL};
        if (sigaction(ending_signals[i], NULL, &old) == 0 && old.sa_handler == remove_partial)
            sigaction(ending_signals[i], &act, NULL);
    }
    partial_path[0] = '\0';
}

/* Keeps ending signals away between making a temporary file and watching for it. */
static void hold_signals(sigset_t *before) {
    sigset_t held;
    sigemptyset(&held);
    for (size_t i = 0; i < N_SIGNALS; i++) sigaddset(&held, ending_signals[i]);
    sigprocmask(SIG_BLOCK, &held, before);
}

/* ── Opening ────────────────────────────────────────────────────────────────────────────────────────────────── */

/* `old`: the file that will be replaced, NULL when there is none. */
static pillion_status open_file(pil_output *o, const char *path, const struct stat *old, pillion_error *err) {
    sigset_t before;
    hold_signals(&before);
    pillion_status st = pil_file_writer_open(&o->writer, path, err);
    if (!st && o->writer.is_named) watch_signals(o->writer.tmp);
    sigprocmask(SIG_SETMASK, &before, NULL);
    if (st) return st;
    if (old) fchmod(fileno(o->writer.f), old->st_mode & 0777); /* best effort: it may belong to somebody else */
    o->f = o->writer.f;
    return PILLION_OK;
}

/* A temporary file without a name in $TMPDIR. */
static pillion_status open_spool(pil_output *o, pillion_error *err) {
    const char *dir = getenv("TMPDIR");
    char path[PATH_MAX];
    snprintf(path, sizeof path, "%s/pillion.XXXXXX", dir && *dir ? dir : "/tmp");
    int fd = mkostemp(path, O_CLOEXEC);
    if (fd < 0) return pil_err_set(err, PILLION_E_IO, "%s: cannot create a temporary file: %s", path, strerror(errno));
    unlink(path);
    o->target = o->f;
    o->f = fdopen(fd, "wb+");
    if (o->f) return PILLION_OK;
    close(fd);
    return failed(o, "cannot write", err);
}

static pillion_status open_direct(pil_output *o, const char *path, bool whole, pillion_error *err) {
    o->f = fopen(path, "wbe");
    if (!o->f) return failed(o, "cannot write", err);
    o->is_terminal = isatty(fileno(o->f));
    return whole ? open_spool(o, err) : PILLION_OK;
}

/* At path, or where the symbolic links there lead to, each as seen from its own folder. */
static bool follow_links(char target[PATH_MAX], const char *path) {
    char next[PATH_MAX];
    ssize_t n = (ssize_t)strlen(path);
    const char *from = path;
    for (int links = 0; n >= 0; links++) {
        const char *slash = links && from[0] != '/' ? strrchr(target, '/') : NULL;
        size_t folder = slash ? (size_t)(slash + 1 - target) : 0;
        errno = links > LINKS_MAX ? ELOOP : ENAMETOOLONG;
        if (links > LINKS_MAX || folder + (size_t)n >= PATH_MAX) return false;
        memcpy(target + folder, from, (size_t)n);
        target[folder + (size_t)n] = '\0';
        from = next;
        n = readlink(target, next, sizeof next);
    }
    return true;
}

bool pil_output_target(char target[PATH_MAX], const char *path) {
    return realpath(path, target) || follow_links(target, path);
}

pillion_status pil_output_open(pil_output *o, const char *path, bool whole, pillion_error *err) {
    *o = (pil_output){.name = path};
    pillion_status st;
    if (!path || strcmp(path, "-") == 0) {
        o->name = "standard output";
        o->f = stdout;
        o->is_stdout = true;
        o->is_terminal = isatty(STDOUT_FILENO);
        st = whole ? open_spool(o, err) : PILLION_OK;
    } else {
        struct stat s;
        char target[PATH_MAX];
        bool exists = stat(path, &s) == 0;
        if (exists && S_ISDIR(s.st_mode)) st = pil_err_set(err, PILLION_E_IO, "%s: cannot write: is a directory", path);
        else if (exists && !S_ISREG(s.st_mode)) st = open_direct(o, path, whole, err);
        else if (pil_output_target(target, path)) st = open_file(o, target, exists ? &s : NULL, err);
        else st = failed(o, "cannot write", err);
    }
    if (st) pil_output_abort(o);
    return st;
}

/* ── Closing ────────────────────────────────────────────────────────────────────────────────────────────────── */

pillion_status pil_output_flush(pil_output *o, pillion_error *err) {
    return fflush(o->f) == 0 && !ferror(o->f) ? PILLION_OK : failed(o, "cannot write", err);
}

static pillion_status copy_spool(pil_output *o, pillion_error *err) {
    pillion_status st = pil_output_flush(o, err);
    char *chunk = malloc(PIL_MIB);
    if (!chunk && !st) st = pil_err_no_memory(err);
    rewind(o->f);
    for (size_t n; !st && (n = fread(chunk, 1, PIL_MIB, o->f)) > 0;)
        if (fwrite(chunk, 1, n, o->target) != n) st = failed(o, "cannot write", err);
    if (!st && ferror(o->f)) st = failed(o, "cannot read the temporary file", err);
    free(chunk);
    fclose(o->f);
    o->f = o->target;
    o->target = NULL;
    return st;
}

pillion_status pil_output_commit(pil_output *o, pillion_error *err) {
    pillion_status st;
    if (o->writer.f) {
        sigset_t before;
        hold_signals(&before);
        st = pil_file_writer_commit(&o->writer, err);
        unwatch_signals();
        sigprocmask(SIG_SETMASK, &before, NULL);
        o->f = NULL;
    } else {
        st = o->target ? copy_spool(o, err) : PILLION_OK;
        if (!st) st = pil_output_flush(o, err);
        if (!o->is_stdout && fclose(o->f) != 0 && !st) st = failed(o, "cannot write", err);
        o->f = NULL;
    }
    pil_output_abort(o);
    return st;
}

void pil_output_abort(pil_output *o) {
    if (o->writer.path) {
        pil_file_writer_abort(&o->writer);
        unwatch_signals();
    } else {
        if (o->target && o->f) fclose(o->f); /* the spool */
        FILE *last = o->target ? o->target : o->f;
        if (last && !o->is_stdout) fclose(last);
    }
    *o = (pil_output){0};
}
