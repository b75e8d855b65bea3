/* handshake.c - the file with port and token, and the lock that keeps a second server away from it.
 *
 * Lock:       flock() on FILE.lock, which holds the pid of its holder. It belongs to the open file, not to the process,
 *             so a server hands it to its successor by passing the descriptor on.
 * Invariants: (1) the lock file is removed only while its lock is held, and a lock counts only if the file of that name
 *             is still the locked one: nobody holds the lock of a file that has been removed. (2) the handshake file is
 *             removed only if it is the one that we wrote.
 * Tests:      tests/http/test_service.py. */
#include "cmd/handshake.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <time.h>
#include <unistd.h>

#include "base/err.h"
#include "base/file.h"

#define PID_TRIES 20   /* of 5 ms: a holder that has just got the lock writes who it is */
#define LOCK_TRIES 100 /* the file may be removed between opening and locking it, but not for ever */

static bool is_file_of(int fd, const char *path) {
    struct stat a, b;
    return fstat(fd, &a) == 0 && lstat(path, &b) == 0 && a.st_dev == b.st_dev && a.st_ino == b.st_ino;
}

/* An inode alone may be given out again as soon as a file is removed. */
static bool is_as_written(const pil_handshake *h) {
    const struct stat *a = &h->as_written;
    struct stat b;
    return lstat(h->path, &b) == 0 && a->st_dev == b.st_dev && a->st_ino == b.st_ino &&
           a->st_mtim.tv_sec == b.st_mtim.tv_sec && a->st_mtim.tv_nsec == b.st_mtim.tv_nsec;
}

/* The process that holds the lock; 0 while the file is empty or names one that is gone: then a new holder has not
 * written its own yet. */
static long read_pid(int fd) {
    char text[24] = "";
    ssize_t n = pread(fd, text, sizeof text - 1, 0);
    long pid = n > 0 && strspn(text, "0123456789") == (size_t)n ? strtol(text, NULL, 10) : 0;
    return pid > 0 && (kill((pid_t)pid, 0) == 0 || errno == EPERM) ? pid : 0;
}

static pillion_status held_by_another(const pil_handshake *h, int fd, pillion_error *err) {
    char pid[24];
    long holder = 0;
    for (int i = 0; i < PID_TRIES && (holder = read_pid(fd)) == 0; i++) nanosleep(&(struct timespec){0, 5000000}, NULL);
    snprintf(pid, sizeof pid, "%ld", holder);
    bool known = holder > 0;
    return pil_err_set(err, PILLION_E_IO, "%.120s: in use by another pillion%s%s%s", h->path, known ? " (pid " : "",
                       known ? pid : "", known ? ")" : "");
}

static void write_pid(int fd) {
    char pid[24];
    int n = snprintf(pid, sizeof pid, "%d", (int)getpid());
    bool ok = ftruncate(fd, 0) == 0 && pwrite(fd, pid, (size_t)n, 0) == n;
    (void)ok; /* it is only for the message above */
}

static pillion_status take_lock(pil_handshake *h, bool *in_use, pillion_error *err) {
    for (int i = 0; i < LOCK_TRIES; i++) {
        int fd = open(h->lock_path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK, 0600);
        if (fd < 0) return pil_err_set(err, PILLION_E_IO, "%.120s: cannot open: %s", h->lock_path, strerror(errno));
        if (flock(fd, LOCK_EX | LOCK_NB) != 0) {
            int e = errno;
            *in_use = e == EWOULDBLOCK;
            pillion_status st =
                *in_use ? held_by_another(h, fd, err)
                        : pil_err_set(err, PILLION_E_IO, "%.120s: cannot lock: %s", h->lock_path, strerror(e));
            close(fd);
            return st;
        }
        if (is_file_of(fd, h->lock_path)) {
            h->lock_fd = fd;
            write_pid(fd);
            return PILLION_OK;
        }
        close(fd);
    }
    return pil_err_set(err, PILLION_E_IO, "%s: it is removed again and again", h->lock_path);
}

pillion_status pil_handshake_open(pil_handshake *h, const char *path, int inherited_fd, bool *in_use,
                                  pillion_error *err) {
    *h = (pil_handshake){.lock_fd = -1};
    *in_use = false;
    int n = snprintf(h->path, sizeof h->path, "%s", path), m = snprintf(h->lock_path, PATH_MAX, "%s.lock", path);
    bool fits = n > 0 && m > 0 && (size_t)m < sizeof h->lock_path;
    if (fits && inherited_fd >= 0 && is_file_of(inherited_fd, h->lock_path)) {
        h->lock_fd = inherited_fd;
        write_pid(inherited_fd);
        return PILLION_OK;
    }
    if (inherited_fd >= 0) close(inherited_fd);
    if (!fits) return pil_err_set(err, PILLION_E_ARG, "%.100s...: the path is too long", path);
    return take_lock(h, in_use, err);
}

pillion_status pil_handshake_write(pil_handshake *h, const pil_buf *json, pillion_error *err) {
    if (json->failed) return pil_err_set(err, json->failed, "%s: too large", h->path);
    pil_file_writer w;
    pillion_status st = pil_file_writer_open(&w, h->path, err);
    if (st) return st;
    if (fchmod(fileno(w.f), 0600) != 0) {
        st = pil_err_set(err, PILLION_E_IO, "%s: cannot keep it private: %s", h->path, strerror(errno));
        pil_file_writer_abort(&w);
        return st;
    }
    fwrite(json->bytes, 1, json->len, w.f); /* its failure is collected by commit */
    st = pil_file_writer_commit(&w, err);
    h->written = !st && lstat(h->path, &h->as_written) == 0;
    return st;
}

void pil_handshake_leave(pil_handshake *h) {
    if (h->lock_fd >= 0) close(h->lock_fd);
    *h = (pil_handshake){.lock_fd = -1};
}

void pil_handshake_close(pil_handshake *h) {
    if (h->written && is_as_written(h)) unlink(h->path);
    if (h->lock_fd >= 0 && is_file_of(h->lock_fd, h->lock_path)) unlink(h->lock_path);
    pil_handshake_leave(h);
}
