/* file.c - whole files, pieces of files, read-only maps, and writing that is either complete or invisible.
 *
 * Source of the write order (write, fsync, rename, fsync of the directory): POSIX rename(2) atomicity and the crash
 * behaviour described in SQLite's atomic commit document. Tests: tests/base/test_file.c. */
#include "base/file.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/err.h"

#define SHOWN_MAX 140 /* bytes of a path in an error, of which the text has 240 */

static pillion_status io_error(pillion_error *err, const char *path, const char *doing) {
    int e = errno;
    pillion_status st = e == ENOENT || e == ENOTDIR ? PILLION_E_NOT_FOUND
                        : e == ENOMEM                ? PILLION_E_NOMEM
                                                     : PILLION_E_IO;
    size_t n = strlen(path); /* of a long path the end is shown: the reason must not be cut off */
    const char *end = n > SHOWN_MAX ? path + n - SHOWN_MAX : path;
    while (((unsigned char)*end & 0xC0) == 0x80) end++;
    return pil_err_set(err, st, "%s%s: %s: %s", end > path ? "..." : "", end, doing, strerror(e));
}

/* O_NONBLOCK so that a FIFO cannot hold us; it has no effect on regular files, the only ones accepted. */
static pillion_status open_regular(int *fd, struct stat *s, const char *path, pillion_error *err) {
    *fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (*fd < 0) return io_error(err, path, "cannot open");
    pillion_status st = PILLION_OK;
    if (fstat(*fd, s) != 0) st = io_error(err, path, "cannot stat");
    else if (!S_ISREG(s->st_mode)) st = pil_err_set(err, PILLION_E_IO, "%s: not a regular file", path);
    if (st) {
        close(*fd);
        *fd = -1;
    }
    return st;
}

pillion_status pil_file_read(char **bytes, size_t *n, const char *path, size_t limit, pillion_error *err) {
    *bytes = NULL;
    *n = 0;
    int fd;
    struct stat s = {0};
    pillion_status st = open_regular(&fd, &s, path, err);
    if (st) return st;
    size_t size = (size_t)s.st_size, at = 0;
    char *p = NULL;
    if (size > limit) st = pil_err_set(err, PILLION_E_LIMIT, "%s: %zu bytes, the limit is %zu", path, size, limit);
    else if (!(p = malloc(size + 1))) st = pil_err_set(err, PILLION_E_NOMEM, "%s: out of memory", path);
    while (!st && at < size) {
        ssize_t r = read(fd, p + at, size - at);
        if (r > 0) at += (size_t)r;
        else if (r == 0) st = pil_err_set(err, PILLION_E_IO, "%s: became shorter while it was read", path);
        else if (errno != EINTR) st = io_error(err, path, "cannot read");
    }
    close(fd);
    if (st) {
        free(p);
        return st;
    }
    p[size] = '\0';
    *bytes = p;
    *n = size;
    return PILLION_OK;
}

static pil_file_stamp stamp_of(const struct stat *s) {
#ifdef __APPLE__
    struct timespec t = s->st_mtimespec;
#else
    struct timespec t = s->st_mtim;
#endif
    return (pil_file_stamp){.bytes = (uint64_t)s->st_size,
                            .mtime_ns = (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec,
                            .inode = (uint64_t)s->st_ino};
}

pillion_status pil_file_stat(pil_file_stamp *out, const char *path, pillion_error *err) {
    struct stat s;
    if (stat(path, &s) != 0) return io_error(err, path, "cannot stat");
    if (!S_ISREG(s.st_mode)) return pil_err_set(err, PILLION_E_IO, "%s: not a regular file", path);
    *out = stamp_of(&s);
    return PILLION_OK;
}

pillion_status pil_file_reader_open(pil_file_reader *r, const char *path, pillion_error *err) {
    struct stat s = {0};
    pillion_status st = open_regular(&r->fd, &s, path, err);
    r->stamp = stamp_of(&s);
    return st;
}

pillion_status pil_file_reader_read(const pil_file_reader *r, const char *path, uint64_t offset, void *out, size_t n,
                                    pillion_error *err) {
    for (size_t at = 0; at < n;) {
        ssize_t got = pread(r->fd, (char *)out + at, n - at, (off_t)(offset + at));
        if (got > 0) at += (size_t)got;
        else if (got == 0) return pil_err_set(err, PILLION_E_STALE, "%s: became shorter while it was read", path);
        else if (errno != EINTR) return io_error(err, path, "cannot read");
    }
    return PILLION_OK;
}

void pil_file_reader_close(pil_file_reader *r) {
    if (r->fd >= 0) close(r->fd);
    r->fd = -1;
}

bool pil_file_is_dir(const char *path) {
    struct stat s;
    return stat(path, &s) == 0 && S_ISDIR(s.st_mode);
}

bool pil_file_exists(const char *path) { return access(path, F_OK) == 0; }

pillion_status pil_file_map_open(pil_file_map *out, const char *path, pillion_error *err) {
    *out = (pil_file_map){0};
    int fd;
    struct stat s = {0};
    pillion_status st = open_regular(&fd, &s, path, err);
    if (st) return st;
    if (s.st_size > 0) {
        void *p = mmap(NULL, (size_t)s.st_size, PROT_READ, MAP_SHARED, fd, 0);
        if (p == MAP_FAILED) st = io_error(err, path, "cannot map");
        else *out = (pil_file_map){.data = p, .bytes = (size_t)s.st_size};
    }
    close(fd);
    return st;
}

void pil_file_map_close(pil_file_map *m) {
    if (m->data) munmap((void *)(uintptr_t)m->data, m->bytes);
    *m = (pil_file_map){0};
}

bool pil_file_write_all(int fd, const void *bytes, size_t n) {
    for (const char *at = bytes; n > 0;) {
        ssize_t w = write(fd, at, n);
        if (w < 0 && errno == EINTR) continue;
        if (w <= 0) return false;
        at += w;
        n -= (size_t)w;
    }
    return true;
}

pillion_status pil_file_mkdirs(const char *path, pillion_error *err) {
    char part[PATH_MAX];
    size_t n = strlen(path);
    if (n == 0 || n >= sizeof part) return pil_err_set(err, PILLION_E_ARG, "%s: bad directory name", path);
    memcpy(part, path, n + 1);
    for (size_t i = 1; i <= n; i++) {
        if (part[i] != '/' && part[i] != '\0') continue;
        char end = part[i];
        part[i] = '\0';
        if (mkdir(part, 0700) != 0 && errno != EEXIST) return io_error(err, part, "cannot make directory");
        part[i] = end;
    }
    if (!pil_file_is_dir(path)) return pil_err_set(err, PILLION_E_IO, "%s: not a directory", path);
    return PILLION_OK;
}

pillion_status pil_file_join(char *out, size_t out_bytes, const char *dir, const char *name, pillion_error *err) {
    size_t d = strlen(dir);
    int n = snprintf(out, out_bytes, "%s%s%s", dir, d && dir[d - 1] == '/' ? "" : "/", name);
    if (n < 0 || (size_t)n >= out_bytes) return pil_err_set(err, PILLION_E_LIMIT, "%s/%s: path too long", dir, name);
    return PILLION_OK;
}

/* The directory that holds path, into dir[PATH_MAX]. */
static void dir_of(char *dir, const char *path) {
    const char *slash = strrchr(path, '/');
    if (!slash) snprintf(dir, PATH_MAX, ".");
    else snprintf(dir, PATH_MAX, "%.*s", slash == path ? 1 : (int)(slash - path), path);
}

/* A file without a name in the directory of path, or -1. /proc is what gives it a name later. */
static int open_unnamed(const char *path) {
#ifdef O_TMPFILE
    char dir[PATH_MAX];
    dir_of(dir, path);
    if (access("/proc/self/fd", X_OK) == 0) return open(dir, O_TMPFILE | O_RDWR | O_CLOEXEC, 0666);
#else
    (void)path;
#endif
    return -1;
}

/* The name of one attempt: the process and a counter are in it. */
static void attempt_name(pil_file_writer *w, unsigned attempt) {
    snprintf(w->tmp, strlen(w->path) + 16, "%s.%07u%u", w->path, (unsigned)getpid() % 10000000u, attempt);
}

/* A new file with a name of its own. Not mkstemp, whose files are 0600 whatever the umask says. */
static int open_named(pil_file_writer *w) {
    int fd = -1;
    for (unsigned attempt = 0; fd < 0 && attempt < 1000; attempt++) {
        attempt_name(w, attempt);
        fd = open(w->tmp, O_CREAT | O_EXCL | O_RDWR | O_CLOEXEC, 0666);
        if (fd < 0 && errno != EEXIST) break;
    }
    return fd;
}

pillion_status pil_file_writer_open(pil_file_writer *w, const char *path, pillion_error *err) {
    *w = (pil_file_writer){.path = strdup(path), .tmp = malloc(strlen(path) + 16)};
    pillion_status st = PILLION_OK;
    if (!w->path || !w->tmp) st = pil_err_set(err, PILLION_E_NOMEM, "%s: out of memory", path);
    int fd = -1;
    if (!st) {
        fd = open_unnamed(path);
        w->is_named = fd < 0;
        if (w->is_named) fd = open_named(w);
        if (fd < 0) st = io_error(err, path, "cannot create");
    }
    if (!st) {
        w->f = fdopen(fd, "wb");
        if (!w->f) {
            st = io_error(err, path, "cannot write");
            close(fd);
            if (w->is_named) unlink(w->tmp);
        }
    }
    if (st) {
        free(w->path);
        free(w->tmp);
        *w = (pil_file_writer){0};
    }
    return st;
}

/* Gives the unnamed file the name tmp, which nobody else has. */
static bool give_name(pil_file_writer *w, int fd) {
    char proc[64];
    snprintf(proc, sizeof proc, "/proc/self/fd/%d", fd);
    for (unsigned attempt = 0; !w->is_named && attempt < 1000; attempt++) {
        attempt_name(w, attempt);
        w->is_named = linkat(AT_FDCWD, proc, AT_FDCWD, w->tmp, AT_SYMLINK_FOLLOW) == 0;
        if (!w->is_named && errno != EEXIST) break;
    }
    return w->is_named;
}

static void sync_dir_of(const char *path) {
    char dir[PATH_MAX];
    dir_of(dir, path);
    int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0) return;
    fsync(fd); /* best effort: the rename itself is atomic either way */
    close(fd);
}

pillion_status pil_file_writer_commit(pil_file_writer *w, pillion_error *err) {
    pillion_status st = PILLION_OK;
    if (fflush(w->f) != 0 || ferror(w->f) || fsync(fileno(w->f)) != 0) st = io_error(err, w->path, "cannot write");
    if (!st && !give_name(w, fileno(w->f))) st = io_error(err, w->path, "cannot name");
    if (fclose(w->f) != 0 && !st) st = io_error(err, w->path, "cannot write");
    w->f = NULL;
    if (!st && rename(w->tmp, w->path) != 0) st = io_error(err, w->path, "cannot rename into place");
    if (!st) {
        sync_dir_of(w->path);
        free(w->tmp);
        w->tmp = NULL;
    }
    pil_file_writer_abort(w);
    return st;
}

void pil_file_writer_abort(pil_file_writer *w) {
    if (w->f) fclose(w->f);
    if (w->tmp && w->is_named) unlink(w->tmp);
    free(w->tmp);
    free(w->path);
    *w = (pil_file_writer){0};
}
