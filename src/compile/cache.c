/* cache.c - where compiled files live, and making sure that a usable one is there.
 *
 * Name:       NAME-DIGEST.PRECISION.safetensors: the model's name for people, sixteen digits of the SHA-256 of the
 *             directory's absolute path for uniqueness.
 * Flow:       usable? -> done, without any lock. Else lock NAME….lock -> usable now? (another process was faster) ->
 *             compile.
 * Invariants: (1) a file under the final name is complete, because pil_compile commits by renaming. (2) the lock
 *             file is never removed, also when compiling fails: removing it would let two processes hold locks on two
 *             files of one name. It is empty. (3) the lock is the kernel's (flock), so it falls when its holder dies.
 * Usable:     it opens with all checks of pil_compiled_open and its source files are as they were. Damaged weights,
 *             which opening does not read, are the canary's to find.
 * Tests:      tests/compile/test_cache.c. */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

#include "base/err.h"
#include "base/file.h"
#include "base/sha256.h"
#include "compile/compile_int.h"

#define NAME_CHARS 64
#define DIGEST_CHARS 16

/* $XDG_CACHE_HOME/pillion or ~/.cache/pillion. Source: XDG base directory specification (relative values are
 * ignored). */
pillion_status pil_cache_dir(char *out, size_t out_bytes, pillion_error *err) {
    const char *xdg = getenv("XDG_CACHE_HOME"), *home = getenv("HOME");
    if (xdg && xdg[0] == '/') return pil_file_join(out, out_bytes, xdg, "pillion", err);
    if (home && home[0] == '/') return pil_file_join(out, out_bytes, home, ".cache/pillion", err);
    return pil_err_set(err, PILLION_E_IO, "neither XDG_CACHE_HOME nor HOME is an absolute path");
}

/* The folder does not serve, for reasons outside of the model: E_IO whatever the reason is, and what to do, unless a
 * long path leaves no room for it. */
static pillion_status no_place(pillion_status st, const pillion_error *why, pillion_error *err) {
    static const char advice[] = "; compiled models are kept there: set XDG_CACHE_HOME to a folder that can be "
                                 "written, or use 'pillion compile'";
    bool fits = strlen(why->text) + sizeof advice <= sizeof why->text;
    return pil_err_set(err, st == PILLION_E_NOMEM ? st : PILLION_E_IO, "%s%s", why->text, fits ? advice : "");
}

/* Letters, digits, dots and dashes of the model's name; a slash and anything else become one underscore. */
static void plain_name(char out[NAME_CHARS + 1], const char *dir) {
    char name[PIL_NAME_BYTES];
    pil_source_name(name, sizeof name, dir);
    size_t n = 0;
    for (const char *p = name; *p && n < NAME_CHARS; p++) {
        int c = (unsigned char)*p;
        bool plain = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' ||
                     (c == '.' && n > 0);
        if (plain) out[n++] = *p;
        else if (n == 0 || out[n - 1] != '_') out[n++] = '_';
    }
    out[n] = '\0';
}

static pillion_status choose_path(char *out, size_t out_bytes, const char *cache_dir, const char *dir,
                                  pillion_error *err) {
    char absolute[PATH_MAX], digest[PIL_SHA256_HEX], plain[NAME_CHARS + 1], name[256];
    if (!realpath(dir, absolute))
        return pil_err_set(err, errno == ENOMEM ? PILLION_E_NOMEM : PILLION_E_NOT_FOUND, "%s: %s", dir,
                           strerror(errno));
    pil_sha256_of(absolute, strlen(absolute), digest);
    plain_name(plain, dir);
    snprintf(name, sizeof name, "%s-%.*s.f32.safetensors", plain, DIGEST_CHARS, digest);
    return pil_file_join(out, out_bytes, cache_dir, name, err);
}

static bool is_usable(const char *path, const char *dir) {
    pil_compiled c;
    if (!pil_file_exists(path) || pil_compiled_open(&c, path, NULL)) return false;
    bool fresh = pil_compiled_fresh(&c, dir, NULL) == PILLION_OK;
    pil_compiled_close(&c);
    return fresh;
}

/* Waits until this process alone holds the lock. */
static pillion_status lock(int *fd, const char *path, pillion_error *err) {
    char name[PATH_MAX];
    int n = snprintf(name, sizeof name, "%s.lock", path), failed = 0;
    if (n < 0 || (size_t)n >= sizeof name) return pil_err_set(err, PILLION_E_LIMIT, "%s: path too long", path);
    *fd = open(name, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (*fd >= 0)
        while ((failed = flock(*fd, LOCK_EX)) != 0 && errno == EINTR) continue;
    if (*fd >= 0 && !failed) return PILLION_OK;
    pillion_status st = pil_err_set(err, PILLION_E_IO, "%s: cannot lock: %s", name, strerror(errno));
    if (*fd >= 0) close(*fd);
    return st;
}

static pillion_status compile_locked(const char *dir, const pillion_model_options *opt, const char *cache_dir,
                                     const char *path, pillion_error *err) {
    int fd = -1;
    pillion_error why = {0};
    pillion_status st = pil_file_mkdirs(cache_dir, &why);
    if (!st) st = lock(&fd, path, &why);
    if (st) return no_place(st, &why, err);
    if (!is_usable(path, dir)) st = pil_compile(dir, path, NULL, opt->precision, opt->progress, opt->progress_ud, err);
    close(fd);
    return st;
}

pillion_status pil_cache_prepare(const char *dir, const pillion_model_options *opt, char *out_path, size_t out_bytes,
                                 pillion_error *err) {
    char fallback[PATH_MAX];
    const char *cache_dir = opt->cache_dir;
    pillion_error why = {0};
    pillion_status st = PILLION_OK;
    if (!cache_dir) {
        st = pil_cache_dir(fallback, sizeof fallback, &why);
        if (st) return no_place(st, &why, err);
        cache_dir = fallback;
    }
    st = choose_path(out_path, out_bytes, cache_dir, dir, err);
    if (st || is_usable(out_path, dir)) return st;
    return compile_locked(dir, opt, cache_dir, out_path, err);
}
