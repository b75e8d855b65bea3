/* holder.c - who listens on an address that we want: asked by HTTP, and looked for in /proc.
 *
 * Flow:    one GET /livez, which only a pillion answers with "server: pillion" -> /proc/net/tcp has the socket's inode
 *          -> the process that has a descriptor of it, as far as we may look.
 * Bounds:  ASK_MS for the answer, SEARCH_MS of processor time for the search; what is not found by then stays unknown.
 * Source:  proc_net_tcp(5): "local_address" is hexadecimal, state 0A is LISTEN, the tenth field the inode.
 * Tests:   tests/http/test_service.py. */
#include "cmd/holder.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"

#define ASK_MS 100
#define SEARCH_MS 150

/* ── Asking ─────────────────────────────────────────────────────────────────────────────────────────────────── */

static socklen_t address_of(struct sockaddr_storage *a, const char *host, unsigned port) {
    struct sockaddr_in *v4 = (struct sockaddr_in *)a;
    struct sockaddr_in6 *v6 = (struct sockaddr_in6 *)a;
    memset(a, 0, sizeof *a);
    if (strcmp(host, "localhost") == 0) host = "127.0.0.1";
    if (inet_pton(AF_INET, host, &v4->sin_addr) == 1) {
        v4->sin_family = AF_INET;
        v4->sin_port = htons((uint16_t)port);
        return sizeof *v4;
    }
    if (inet_pton(AF_INET6, host, &v6->sin6_addr) == 1) {
        v6->sin6_family = AF_INET6;
        v6->sin6_port = htons((uint16_t)port);
        return sizeof *v6;
    }
    return 0;
}

static bool wait_for(int fd, short events, uint64_t end_ns) {
    uint64_t now = pil_clock_ns();
    struct pollfd p = {.fd = fd, .events = events};
    return now < end_ns && poll(&p, 1, (int)((end_ns - now) / 1000000) + 1) == 1;
}

/* Whether "server: pillion" stands in the answer to a small request. */
static bool answers_as_pillion(const struct sockaddr_storage *a, socklen_t n) {
    static const char request[] = "GET /livez HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    char answer[1024] = "";
    size_t have = 0;
    uint64_t end_ns = pil_clock_ns() + ASK_MS * 1000000ull;
    int fd = socket(a->ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    bool sent = fd >= 0 && (connect(fd, (const struct sockaddr *)a, n) == 0 || errno == EINPROGRESS) &&
                wait_for(fd, POLLOUT, end_ns) && send(fd, request, sizeof request - 1, MSG_NOSIGNAL) > 0;
    while (sent && have + 1 < sizeof answer && !strstr(answer, "\r\n\r\n") && wait_for(fd, POLLIN, end_ns)) {
        ssize_t r = recv(fd, answer + have, sizeof answer - 1 - have, 0);
        if (r <= 0) break;
        have += (size_t)r;
        answer[have] = '\0';
    }
    if (fd >= 0) close(fd);
    return strstr(answer, "\r\nserver: pillion") != NULL;
}

/* ── Searching ──────────────────────────────────────────────────────────────────────────────────────────────── */

/* The inode of the socket that listens on port in one of the kernel's tables; 0 when there is none. A socket of another
 * address keeps us out as well when it is for all of them, so the port decides. */
static unsigned long listening_inode(const char *table, unsigned port) {
    FILE *f = fopen(table, "re");
    unsigned long found = 0;
    char line[512];
    while (f && !found && fgets(line, sizeof line, f)) {
        char local[80], state[8];
        unsigned long inode;
        /* sl local_address rem_address st tx:rx tr:when retrnsmt uid timeout inode */
        if (sscanf(line, " %*[^:]: %79s %*s %7s %*s %*s %*s %*s %*s %lu", local, state, &inode) != 3) continue;
        const char *colon = strrchr(local, ':');
        if (strcmp(state, "0A") == 0 && colon && strtoul(colon + 1, NULL, 16) == port) found = inode;
    }
    if (f) fclose(f);
    return found;
}

static bool has_socket(const char *pid, unsigned long inode) {
    char path[300], link[64], wanted[64];
    snprintf(path, sizeof path, "/proc/%.20s/fd", pid);
    snprintf(wanted, sizeof wanted, "socket:[%lu]", inode);
    DIR *fds = opendir(path);
    bool found = false;
    for (struct dirent *e; fds && !found && (e = readdir(fds));) {
        snprintf(path, sizeof path, "/proc/%.20s/fd/%.20s", pid, e->d_name);
        ssize_t n = readlink(path, link, sizeof link - 1);
        if (n > 0) link[n] = '\0';
        found = n > 0 && strcmp(link, wanted) == 0;
    }
    if (fds) closedir(fds);
    return found;
}

static void name_of(pil_holder *out) {
    char path[64];
    snprintf(path, sizeof path, "/proc/%d/comm", out->pid);
    FILE *f = fopen(path, "re");
    if (!f) return;
    if (fgets(out->name, sizeof out->name, f)) out->name[strcspn(out->name, "\n")] = '\0';
    fclose(f);
}

static void find_process(pil_holder *out, unsigned port) {
    unsigned long inode = listening_inode("/proc/net/tcp", port);
    if (!inode) inode = listening_inode("/proc/net/tcp6", port);
    if (!inode) return;
    clock_t end = clock() + SEARCH_MS * CLOCKS_PER_SEC / 1000; /* our own time: a busy machine is no reason to stop */
    DIR *processes = opendir("/proc");
    for (struct dirent *e; processes && out->pid == 0 && clock() < end && (e = readdir(processes));)
        if (isdigit((unsigned char)e->d_name[0]) && has_socket(e->d_name, inode))
            out->pid = (int)strtol(e->d_name, NULL, 10);
    if (processes) closedir(processes);
    if (out->pid) name_of(out);
}

void pil_holder_find(pil_holder *out, const char *host, unsigned port) {
    *out = (pil_holder){0};
    struct sockaddr_storage a;
    socklen_t n = address_of(&a, host, port);
    if (n) out->is_pillion = answers_as_pillion(&a, n);
    find_process(out, port);
}
