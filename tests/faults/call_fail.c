/* call_fail.c - makes the n-th read or write of a program's sockets fail. Loaded with LD_PRELOAD by row W13, because a
 * tracer cannot tell a socket from the pipe and the event descriptor that libuv has for itself, whose failure ends the
 * process by libuv's own rule.
 *
 * PILLION_CALL_FAIL=read|write:ERRNO:FIRST:STEP      call number FIRST fails, and then each STEP-th
 * PILLION_CALL_FAIL_COUNT=FILE                       a byte is appended for each that failed
 * Workers do not inherit it: their environment is empty. */
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

static char call[8];
static int error, counter = -1;
static long first, step;
static atomic_long calls;

__attribute__((constructor)) static void read_wish(void) {
    const char *wish = getenv("PILLION_CALL_FAIL"), *count = getenv("PILLION_CALL_FAIL_COUNT");
    if (!wish || !count || sscanf(wish, "%7[a-z]:%d:%ld:%ld", call, &error, &first, &step) != 4) return;
    counter = open(count, O_WRONLY | O_APPEND | O_CLOEXEC);
}

static bool fails(const char *what, int fd) {
    int type;
    socklen_t bytes = sizeof type;
    if (counter < 0 || strcmp(what, call) || getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &bytes)) return false;
    long n = atomic_fetch_add(&calls, 1) + 1;
    if (n < first || (n - first) % step) return false;
    syscall(SYS_write, counter, "x", 1);
    errno = error;
    return true;
}

ssize_t read(int fd, void *p, size_t n) { return fails("read", fd) ? -1 : syscall(SYS_read, fd, p, n); }
ssize_t write(int fd, const void *p, size_t n) { return fails("write", fd) ? -1 : syscall(SYS_write, fd, p, n); }
ssize_t writev(int fd, const struct iovec *v, int n) { return fails("write", fd) ? -1 : syscall(SYS_writev, fd, v, n); }
ssize_t recvmsg(int fd, struct msghdr *m, int flags) {
    return fails("read", fd) ? -1 : syscall(SYS_recvmsg, fd, m, flags);
}
ssize_t sendmsg(int fd, const struct msghdr *m, int flags) {
    return fails("write", fd) ? -1 : syscall(SYS_sendmsg, fd, m, flags);
}
