/* handover.c - listening sockets from one server to the next: see the picture in handover.h.
 *
 * Name:    an abstract Unix socket (unix(7)), so that nothing is left behind by a server that was killed. Its name is
 *          no secret and anybody may connect; SO_PEERCRED tells who it is, and only the same user gets an answer.
 * Message: one struct with the descriptors beside it (SCM_RIGHTS). Both ends are this program on this machine; the
 *          magic holds a version, and a struct of another size is refused.
 * Tests:   tests/http/test_upgrade.py. */
#include "cmd/handover.h"

#ifdef __linux__

#include <assert.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/err.h"
#include "base/sha256.h"

#define WAIT_S 5
#define READY 'R'
#define OVER 'O'
#define DESCRIPTORS_MAX (PIL_HANDOVER_LISTENERS_MAX + 1)

static const char magic[8] = "pilHO-2";

typedef struct message {
    char magic[sizeof magic];
    uint32_t n_listeners, has_lock;
    uint8_t owns_path[PIL_HANDOVER_LISTENERS_MAX];
    int32_t pid;
    pil_token token;
} message;

/* One private socket. */
typedef struct door {
    pil_handover *owner;
    int fd; /* -1: none */
    pil_watch *watch;
} door;

struct pil_handover {
    pil_loop *loop;
    pil_handover_fns fns;
    door doors[PIL_HANDOVER_LISTENERS_MAX];
    size_t n_doors;
    int peer; /* -1: none */
    pil_watch *peer_watch;
};

/* ── The private socket ─────────────────────────────────────────────────────────────────────────────────────── */

/* The name holds a digest, since a path may be longer than a name. */
static socklen_t address_of(struct sockaddr_un *a, const pil_handover_name *name) {
    char where[PATH_MAX + 16];
    int n = snprintf(where, sizeof where, "%s:%u", name->host, name->port);
    char digest[PIL_SHA256_HEX];
    pil_sha256_of(where, n > 0 ? (size_t)n : 0, digest);
    *a = (struct sockaddr_un){.sun_family = AF_UNIX};
    int len = snprintf(a->sun_path + 1, sizeof a->sun_path - 1, "pillion/%u/%.32s", (unsigned)geteuid(), digest);
    return (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + (size_t)len);
}

static bool is_same_user(int fd) {
    struct ucred peer;
    socklen_t n = sizeof peer;
    return getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &n) == 0 && peer.uid == geteuid();
}

/* ── The old server ─────────────────────────────────────────────────────────────────────────────────────────── */

static void drop_peer(pil_handover *h) {
    pil_watch_destroy(h->peer_watch);
    if (h->peer >= 0) close(h->peer);
    h->peer_watch = NULL;
    h->peer = -1;
}

/* Nobody can connect any more. */
static void withdraw(pil_handover *h) {
    for (size_t i = 0; i < h->n_doors; i++) {
        door *d = &h->doors[i];
        pil_watch_destroy(d->watch);
        if (d->fd >= 0) close(d->fd);
        d->watch = NULL;
        d->fd = -1;
    }
}

static void on_peer(void *ud) {
    pil_handover *h = ud;
    char word = 0;
    ssize_t n = recv(h->peer, &word, 1, MSG_DONTWAIT);
    if (n < 0 && (errno == EAGAIN || errno == EINTR)) return;
    if (n != 1 || word != READY) {
        drop_peer(h);
        h->fns.failed(h->fns.ud);
        return;
    }
    h->fns.given(h->fns.ud);
    withdraw(h);
    word = OVER;
    ssize_t ignored = send(h->peer, &word, 1, MSG_NOSIGNAL);
    (void)ignored; /* it serves, whether it hears this or not */
    drop_peer(h);
}

static bool send_inheritance(int fd, const pil_inheritance *in) {
    message m = {.n_listeners = (uint32_t)in->n_listeners, .has_lock = in->lock_fd >= 0, .pid = (int32_t)getpid()};
    memcpy(m.magic, magic, sizeof magic);
    m.token = in->token;
    int fds[DESCRIPTORS_MAX];
    size_t n = 0;
    for (; n < in->n_listeners; n++) {
        fds[n] = in->listeners[n].fd;
        m.owns_path[n] = in->listeners[n].owns_path;
    }
    if (in->lock_fd >= 0) fds[n++] = in->lock_fd;
    _Alignas(struct cmsghdr) char control[CMSG_SPACE(sizeof fds)] = {0};
    struct iovec bytes = {&m, sizeof m};
    struct msghdr h = {.msg_iov = &bytes, .msg_iovlen = 1, .msg_control = control,
                       .msg_controllen = CMSG_SPACE(n * sizeof *fds)};
    struct cmsghdr *c = CMSG_FIRSTHDR(&h);
    assert(c); /* the buffer is large enough for one */
    c->cmsg_level = SOL_SOCKET;
    c->cmsg_type = SCM_RIGHTS;
    c->cmsg_len = CMSG_LEN(n * sizeof *fds);
    memcpy(CMSG_DATA(c), fds, n * sizeof *fds);
    return sendmsg(fd, &h, MSG_NOSIGNAL) == (ssize_t)sizeof m;
}

static void on_knock(void *ud) {
    const door *d = ud;
    pil_handover *h = d->owner;
    if (h->peer >= 0) on_peer(h); /* it may be gone: then it must not stand in the way of the next one */
    if (d->fd < 0) return;
    int fd = accept4(d->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    if (fd < 0) return;
    pil_inheritance in = {.lock_fd = -1};
    bool ours = h->peer < 0 && is_same_user(fd) && h->fns.give(&in, h->fns.ud) && send_inheritance(fd, &in);
    explicit_bzero(&in.token, sizeof in.token);
    if (ours && pil_watch_create(&h->peer_watch, h->loop, fd, on_peer, h, NULL) == PILLION_OK) h->peer = fd;
    else close(fd);
}

static pillion_status open_door(pil_handover *h, const pil_handover_name *name, pillion_error *err) {
    struct sockaddr_un a;
    socklen_t n = address_of(&a, name);
    door *d = &h->doors[h->n_doors++];
    *d = (door){.owner = h, .fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0)};
    if (d->fd < 0 || bind(d->fd, (struct sockaddr *)&a, n) != 0 || listen(d->fd, 4) != 0)
        return pil_err_set(err, PILLION_E_IO, "no successor can ask for %.150s:%u: %s", name->host, name->port,
                           strerror(errno));
    return pil_watch_create(&d->watch, h->loop, d->fd, on_knock, d, err);
}

pillion_status pil_handover_offer(pil_handover **out, pil_loop *l, const pil_handover_name *names, size_t n_names,
                                  const pil_handover_fns *fns, pillion_error *err) {
    *out = NULL;
    assert(n_names <= PIL_HANDOVER_LISTENERS_MAX);
    pil_handover *h = calloc(1, sizeof *h);
    if (!h) return pil_err_no_memory(err);
    *h = (pil_handover){.loop = l, .fns = *fns, .peer = -1};
    pillion_status st = PILLION_OK;
    for (size_t i = 0; !st && i < n_names; i++) st = open_door(h, &names[i], err);
    if (st) {
        pil_handover_withdraw(h);
        return st;
    }
    *out = h;
    return PILLION_OK;
}

void pil_handover_withdraw(pil_handover *h) {
    if (!h) return;
    drop_peer(h);
    withdraw(h);
    free(h);
}

/* ── The new server ─────────────────────────────────────────────────────────────────────────────────────────── */

static void take_descriptors(pil_inheritance *out, const message *m, struct msghdr *h) {
    int fds[DESCRIPTORS_MAX];
    size_t n = 0;
    for (struct cmsghdr *c = CMSG_FIRSTHDR(h); c; c = CMSG_NXTHDR(h, c)) {
        if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS) continue;
        n = (c->cmsg_len - CMSG_LEN(0)) / sizeof *fds; /* at most what the control buffer holds */
        memcpy(fds, CMSG_DATA(c), n * sizeof *fds);
    }
    bool counted = m->n_listeners <= PIL_HANDOVER_LISTENERS_MAX && n == m->n_listeners + (m->has_lock != 0);
    for (size_t i = 0; i < n && !counted; i++) close(fds[i]);
    if (!counted) return;
    out->n_listeners = m->n_listeners;
    for (size_t i = 0; i < m->n_listeners; i++) {
        out->listeners[i].fd = fds[i];
        out->listeners[i].owns_path = m->owns_path[i] != 0;
    }
    if (m->has_lock) out->lock_fd = fds[n - 1];
}

static bool receive(int fd, pil_inheritance *out) {
    message m;
    _Alignas(struct cmsghdr) char control[CMSG_SPACE(DESCRIPTORS_MAX * sizeof(int))];
    struct iovec bytes = {&m, sizeof m};
    struct msghdr h = {.msg_iov = &bytes, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
    ssize_t n;
    do n = recvmsg(fd, &h, MSG_CMSG_CLOEXEC | MSG_WAITALL);
    while (n < 0 && errno == EINTR);
    if (n <= 0) return false;
    bool whole = n == (ssize_t)sizeof m && memcmp(m.magic, magic, sizeof magic) == 0;
    if (!whole) m.n_listeners = UINT32_MAX; /* nothing of it fits: what came is closed */
    take_descriptors(out, &m, &h);
    m.token.text[PIL_TOKEN_MAX] = '\0';
    if (whole) out->token = m.token;
    out->pid = m.pid;
    explicit_bzero(&m, sizeof m);
    return out->n_listeners > 0;
}

pillion_status pil_handover_take(pil_inheritance *out, int *link, const pil_handover_name *name, pillion_error *err) {
    *out = (pil_inheritance){.lock_fd = -1};
    *link = -1;
    struct sockaddr_un a;
    socklen_t n = address_of(&a, name);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0) return pil_err_set(err, PILLION_E_IO, "cannot make a socket: %s", strerror(errno));
    struct timeval wait = {.tv_sec = WAIT_S};
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &wait, sizeof wait);
    pillion_status st = PILLION_OK;
    if (connect(fd, (struct sockaddr *)&a, n) != 0)
        st = errno == ECONNREFUSED
                 ? pil_err_set(err, PILLION_E_NOT_FOUND, "no pillion of this user to replace on %.200s", name->host)
                 : pil_err_set(err, PILLION_E_IO, "the running pillion cannot be asked: %s", strerror(errno));
    else if (!is_same_user(fd))
        st = pil_err_set(err, PILLION_E_IO, "the running pillion belongs to another user");
    else if (!receive(fd, out))
        st = pil_err_set(err, PILLION_E_IO, "the running pillion hands nothing over: it is ending, or being replaced");
    if (st) close(fd);
    else *link = fd;
    return st;
}

void pil_handover_confirm(int link) {
    char word = READY;
    if (send(link, &word, 1, MSG_NOSIGNAL) == 1)
        while (recv(link, &word, 1, 0) < 0 && errno == EINTR) continue;
    close(link);
}

#else

#include "base/err.h"

pillion_status pil_handover_offer(pil_handover **out, pil_loop *l, const pil_handover_name *names, size_t n_names,
                                  const pil_handover_fns *fns, pillion_error *err) {
    (void)l, (void)names, (void)n_names, (void)fns;
    *out = NULL;
    return pil_err_set(err, PILLION_E_UNSUPPORTED, "servers can be replaced on Linux only");
}
void pil_handover_withdraw(pil_handover *h) { (void)h; }
pillion_status pil_handover_take(pil_inheritance *out, int *link, const pil_handover_name *name, pillion_error *err) {
    (void)name;
    *out = (pil_inheritance){.lock_fd = -1};
    *link = -1;
    return pil_err_set(err, PILLION_E_UNSUPPORTED, "servers can be replaced on Linux only");
}
void pil_handover_confirm(int link) { (void)link; }

#endif

void pil_inheritance_close(pil_inheritance *in) {
    for (size_t i = 0; i < in->n_listeners; i++)
        if (in->listeners[i].fd >= 0) close(in->listeners[i].fd);
    if (in->lock_fd >= 0) close(in->lock_fd);
    in->n_listeners = 0;
    in->lock_fd = -1;
}
