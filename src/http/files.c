/* files.c - opening files that a client names, below folders that the user has named.
 *
 * A path is compared with each root, as the user wrote it and as it really is; the rest of it is opened relative to the
 * root by openat2(2) with RESOLVE_BENEATH and RESOLVE_NO_SYMLINKS, so that neither ".." nor a symbolic link leads out,
 * however the tree changes meanwhile. Kernels without it (before 5.6, or behind a filter) go down folder by folder
 * without following links, and take no "..".
 * A file with several names (hard links) is refused: one of them may be outside, and whoever may write below a root
 * could else have any file read that the server's user may read.
 * Outside the roots every path is E_ARG: whether it exists is nobody's business. Tests: tests/http/test_files.py. */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#ifdef __linux__
#include <linux/openat2.h>
#include <sys/syscall.h>
#endif

#include "base/err.h"
#include "http/http_int.h"

typedef struct root {
    char *given, *real; /* absolute, without a slash at the end; "" for the root of the file system */
    int fd;
} root;

struct pil_roots {
    root *items;
    size_t n;
};

#define OPEN_FLAGS (O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY)

static char *without_slash(char *path) {
    size_t n = path ? strlen(path) : 0;
    while (n > 0 && path[n - 1] == '/') path[--n] = '\0';
    return path;
}

/* The absolute form of a path, lexically; NULL when it is too long. */
static char *absolute(const char *path) {
    char cwd[PATH_MAX], full[2 * PATH_MAX];
    if (*path == '/') return strdup(path);
    if (!getcwd(cwd, sizeof cwd) || snprintf(full, sizeof full, "%s/%s", cwd, path) >= PATH_MAX) return NULL;
    return strdup(full);
}

pillion_status pil_roots_open(pil_roots **out, const char *const *folders, size_t n, pillion_error *err) {
    *out = NULL;
    pil_roots *r = calloc(1, sizeof *r);
    if (r) r->items = calloc(n, sizeof *r->items);
    if (!r || !r->items) {
        pil_roots_close(r);
        return pil_err_no_memory(err);
    }
    pillion_status st = PILLION_OK;
    for (size_t i = 0; !st && i < n; i++) {
        root *item = &r->items[i];
        item->fd = open(folders[i], O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        item->given = without_slash(absolute(folders[i]));
        item->real = without_slash(realpath(folders[i], NULL));
        r->n++;
        if (item->fd >= 0 && item->given && item->real) continue;
        st = pil_err_set(err, item->fd < 0 && errno == ENOENT ? PILLION_E_NOT_FOUND : PILLION_E_IO,
                         "files root %.150s: cannot open this folder", folders[i]);
    }
    if (st) pil_roots_close(r);
    else *out = r;
    return st;
}

void pil_roots_close(pil_roots *r) {
    if (!r) return;
    for (size_t i = 0; i < r->n; i++) {
        if (r->items[i].fd >= 0) close(r->items[i].fd);
        free(r->items[i].given);
        free(r->items[i].real);
    }
    free(r->items);
    free(r);
}

/* What is behind "root/" in path, or NULL when path is not below root. */
static const char *below(const char *path, const char *root_path) {
    size_t n = strlen(root_path);
    if (strncmp(path, root_path, n) != 0 || path[n] != '/') return NULL;
    path += n;
    while (*path == '/') path++;
    return *path ? path : NULL;
}

/* One folder after the other, without openat2. Sets errno as it does: ELOOP for a link, EXDEV for "..". */
static int open_step_by_step(const root *r, const char *rest) {
    char name[NAME_MAX + 1];
    int fd = fcntl(r->fd, F_DUPFD_CLOEXEC, 0);
    while (fd >= 0 && *rest) {
        size_t n = strcspn(rest, "/");
        bool is_last = rest[n] == '\0';
        int e = n > NAME_MAX ? ENAMETOOLONG : n == 2 && rest[0] == '.' && rest[1] == '.' ? EXDEV : 0;
        snprintf(name, sizeof name, "%.*s", (int)n, rest);
        int next = e ? -1 : openat(fd, n ? name : ".", OPEN_FLAGS | O_NOFOLLOW | (is_last ? 0 : O_DIRECTORY));
        if (!e) e = errno;
        struct stat st;
        if (next < 0 && e == ENOTDIR && fstatat(fd, name, &st, AT_SYMLINK_NOFOLLOW) == 0 && S_ISLNK(st.st_mode))
            e = ELOOP; /* O_DIRECTORY says of a link that it is no directory */
        close(fd);
        fd = next;
        errno = e;
        rest += n + !is_last;
    }
    return fd;
}

static int open_beneath(const root *r, const char *rest) {
#if defined(__linux__) && defined(SYS_openat2)
    struct open_how how = {.flags = OPEN_FLAGS, .resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS};
    int fd = (int)syscall(SYS_openat2, r->fd, rest, &how, sizeof how);
    if (fd >= 0 || (errno != ENOSYS && errno != EPERM && errno != E2BIG)) return fd;
#endif
    return open_step_by_step(r, rest);
}

static pillion_status open_in(const root *r, const char *rest, int *fd) {
    *fd = open_beneath(r, rest);
    if (*fd < 0) {
        if (errno == EXDEV || errno == ELOOP) return PILLION_E_ARG;
        return errno == ENOENT || errno == ENOTDIR || errno == ENAMETOOLONG ? PILLION_E_NOT_FOUND : PILLION_E_IO;
    }
    struct stat st;
    bool is_file = fstat(*fd, &st) == 0 && S_ISREG(st.st_mode);
    if (is_file && st.st_nlink <= 1) return PILLION_OK;
    close(*fd);
    *fd = -1;
    return is_file ? PILLION_E_ARG : PILLION_E_UNSUPPORTED;
}

pillion_status pil_roots_open_file(const pil_roots *r, const char *path, int *fd) {
    *fd = -1;
    char *full = absolute(path);
    pillion_status st = PILLION_E_ARG;
    for (size_t i = 0; full && i < r->n && st == PILLION_E_ARG; i++) {
        const char *rest = below(full, r->items[i].given);
        if (!rest) rest = below(full, r->items[i].real);
        if (rest) st = open_in(&r->items[i], rest, fd);
    }
    free(full);
    return st;
}
