/* log.c - one logfmt line for each event, on standard error. The only file that writes there besides src/cmd. */
#include "base/log.h"

#include <poll.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

static pil_log_level max_level = PIL_LOG_INFO;
static char role_name[32] = "pillion";
static atomic_ulong lost; /* lines since the last one that could be written */

void pil_log_init(pil_log_level level, const char *role) {
    max_level = level;
    snprintf(role_name, sizeof role_name, "%s", role);
}

/* A reader that reads no more would hold us for ever, and one that has gone would end us with SIGPIPE. A pipe that
 * takes anything takes a line: it is shorter than PIPE_BUF. */
static bool is_listened_to(void) {
    struct pollfd p = {.fd = STDERR_FILENO, .events = POLLOUT};
    return poll(&p, 1, 0) == 1 && (p.revents & POLLOUT) && !(p.revents & (POLLERR | POLLNVAL));
}

void pil_log(pil_log_level level, const char *msg, const char *fields, ...) {
    static const char *const names[] = {"error", "warn", "info", "debug"};
    if (level > max_level) return;
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    struct tm utc;
    gmtime_r(&now.tv_sec, &utc);
    char line[1024], stamp[32];
    strftime(stamp, sizeof stamp, "%Y-%m-%dT%H:%M:%S", &utc);
    int n = snprintf(line, sizeof line, "ts=%s.%03ldZ level=%s role=\"%s\" pid=%d msg=\"%s\" ", stamp,
                     now.tv_nsec / 1000000, names[level], role_name, (int)getpid(), msg);
    if (n < 0 || (size_t)n >= sizeof line - 1) return;
    va_list ap;
    va_start(ap, fields);
    int m = vsnprintf(line + n, sizeof line - (size_t)n - 1, fields, ap);
    va_end(ap);
    if (m < 0) m = 0;
    size_t len = (size_t)n + (size_t)m;
    if (len > sizeof line - 2) len = sizeof line - 2;
    if (line[len - 1] == ' ') len--;
    for (size_t i = 0; i < len; i++)
        if ((unsigned char)line[i] < 0x20 || line[i] == 0x7F) line[i] = '?'; /* a path may hold a line end */
    unsigned long before = atomic_exchange(&lost, 0);
    if (before && len + 32 < sizeof line) len += (size_t)snprintf(line + len, 32, " lost=%lu", before);
    line[len++] = '\n';
    if (!is_listened_to() || write(STDERR_FILENO, line, len) < 0) atomic_fetch_add(&lost, before + 1);
}
