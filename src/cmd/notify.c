/* notify.c - systemd's protocols of socket activation and of notification.
 *
 * Source:  sd_listen_fds(3), sd_notify(3), sd_watchdog_enabled(3): passed descriptors begin at 3; a notification is one
 *          datagram of lines NAME=VALUE to a Unix socket, whose name begins with '@' when it is abstract.
 * Tests:   tests/http/test_service.py. */
#include "cmd/notify.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define FIRST_PASSED_FD 3

/* The whole number in an environment variable; 0 when there is none. */
static uint64_t number_in(const char *variable) {
    const char *text = getenv(variable);
    if (!text || !*text || strspn(text, "0123456789") != strlen(text)) return 0;
    errno = 0;
    unsigned long long v = strtoull(text, NULL, 10);
    return errno ? 0 : v;
}

size_t pil_notify_sockets(int *fds, size_t fds_max) {
    uint64_t n = number_in("LISTEN_PID") == (uint64_t)getpid() ? number_in("LISTEN_FDS") : 0;
    unsetenv("LISTEN_PID");
    unsetenv("LISTEN_FDS");
    unsetenv("LISTEN_FDNAMES");
    size_t taken = 0;
    for (uint64_t i = 0; i < n && taken < fds_max; i++) {
        int fd = FIRST_PASSED_FD + (int)i;
        if (fcntl(fd, F_SETFD, FD_CLOEXEC) == 0) fds[taken++] = fd;
    }
    return taken;
}

bool pil_notify_is_wanted(void) {
    const char *path = getenv("NOTIFY_SOCKET");
    return path && (path[0] == '/' || path[0] == '@') && path[1];
}

void pil_notify(const char *fmt, ...) {
    struct sockaddr_un to = {.sun_family = AF_UNIX};
    const char *path = getenv("NOTIFY_SOCKET");
    if (!path || !pil_notify_is_wanted() || strlen(path) > sizeof to.sun_path) return;
    size_t n = strlen(path);
    memcpy(to.sun_path, path, n);
    if (path[0] == '@') to.sun_path[0] = '\0';
    char text[512];
    va_list ap;
    va_start(ap, fmt);
    int len = vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0) return;
    if (len > 0 && (size_t)len < sizeof text) {
        socklen_t to_bytes = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + n);
        ssize_t ignored = sendto(fd, text, (size_t)len, MSG_NOSIGNAL, (struct sockaddr *)&to, to_bytes);
        (void)ignored; /* a manager that does not listen is none */
    }
    close(fd);
}

uint64_t pil_notify_watchdog_ms(bool is_successor) {
    uint64_t pid = number_in("WATCHDOG_PID");
    bool meant = pid == 0 || pid == (uint64_t)getpid() || is_successor;
    return meant && pil_notify_is_wanted() ? number_in("WATCHDOG_USEC") / 1000 : 0;
}
