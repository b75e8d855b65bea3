/* landlock.c - the file, network and signal part of the cage: Landlock, by its system calls.
 *
 * The headers of a stable distribution know less than its users' kernels, and the C library has no wrappers, so the
 * constants of ABI 1 to 7 stand here (source: the kernel's Documentation/userspace-api/landlock.rst). A right that the
 * kernel does not know must not be asked for; what is asked for and not granted by a rule is denied.
 *
 *     ABI 1  files: execute, read, write, make, remove      ABI 4  TCP bind and connect
 *     ABI 2  link and rename between folders (refer)        ABI 5  ioctl on devices
 *     ABI 3  truncate                                       ABI 6  signals and abstract sockets stay inside
 *
 * Memory: nothing outlives a call. Not here: the path of a stat, which Landlock does not see (filter.c closes that for
 * workers). Tests: tests/sandbox/test_sandbox.c. */
#include "sandbox/sandbox_int.h"

#ifdef __linux__

#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <link.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/err.h"

#ifndef __NR_landlock_create_ruleset
#define __NR_landlock_create_ruleset 444
#define __NR_landlock_add_rule 445
#define __NR_landlock_restrict_self 446
#endif

enum {
    CREATE_RULESET_VERSION = 1,
    RULE_PATH_BENEATH = 1,
};

#define FS_EXECUTE (1ull << 0)
#define FS_READ_FILE (1ull << 2)
#define FS_READ_DIR (1ull << 3)
#define FS_ABI_1 ((1ull << 13) - 1)
#define FS_REFER (1ull << 13)
#define FS_TRUNCATE (1ull << 14)
#define FS_IOCTL_DEV (1ull << 15)
#define NET_BIND_TCP (1ull << 0)
#define NET_CONNECT_TCP (1ull << 1)
#define SCOPE_ABSTRACT_UNIX_SOCKET (1ull << 0)
#define SCOPE_SIGNAL (1ull << 1)

/* An older kernel takes the longer struct as long as the part that it does not know is zero. */
typedef struct ruleset_attr {
    uint64_t handled_access_fs, handled_access_net, scoped;
} ruleset_attr;

typedef struct path_beneath_attr {
    uint64_t allowed_access;
    int32_t parent_fd;
} __attribute__((packed)) path_beneath_attr;

int pil_landlock_abi(void) {
    long abi = syscall(__NR_landlock_create_ruleset, NULL, 0, CREATE_RULESET_VERSION);
    return abi > 0 ? (int)abi : 0;
}

static ruleset_attr everything(int abi) {
    ruleset_attr all = {.handled_access_fs = FS_ABI_1};
    if (abi >= 2) all.handled_access_fs |= FS_REFER;
    if (abi >= 3) all.handled_access_fs |= FS_TRUNCATE;
    if (abi >= 4) all.handled_access_net = NET_BIND_TCP | NET_CONNECT_TCP;
    if (abi >= 5) all.handled_access_fs |= FS_IOCTL_DEV;
    if (abi >= 6) all.scoped = SCOPE_ABSTRACT_UNIX_SOCKET | SCOPE_SIGNAL;
    return all;
}

static pillion_status allow(int ruleset, const char *path, uint64_t access, pillion_error *err) {
    int fd = open(path, O_PATH | O_CLOEXEC);
    struct stat s;
    if (fd < 0) {
        if (errno == ENOENT || errno == ENOTDIR || errno == EACCES) return PILLION_OK; /* not there for us anyway */
        return pil_err_set(err, PILLION_E_INTERNAL, "landlock: %s: %s", path, strerror(errno));
    }
    if (fstat(fd, &s) == 0 && !S_ISDIR(s.st_mode)) access &= ~FS_READ_DIR;
    path_beneath_attr rule = {.allowed_access = access, .parent_fd = fd};
    long failed = syscall(__NR_landlock_add_rule, ruleset, RULE_PATH_BENEATH, &rule, 0);
    int e = errno;
    close(fd);
    if (failed) return pil_err_set(err, PILLION_E_INTERNAL, "landlock: rule for %s: %s", path, strerror(e));
    return PILLION_OK;
}

/* The loader that a dynamic program names in PT_INTERP is executed with it. "" for a static program or another file. */
static void read_interpreter(const char *program, char out[PATH_MAX]) {
    out[0] = '\0';
    int fd = open(program, O_RDONLY | O_CLOEXEC);
    ElfW(Ehdr) head;
    if (fd < 0) return;
    bool elf = pread(fd, &head, sizeof head, 0) == (ssize_t)sizeof head && memcmp(head.e_ident, ELFMAG, SELFMAG) == 0 &&
               head.e_phentsize == sizeof(ElfW(Phdr));
    for (unsigned i = 0; elf && i < head.e_phnum; i++) {
        ElfW(Phdr) part;
        off_t at = (off_t)(head.e_phoff + i * sizeof part);
        if (pread(fd, &part, sizeof part, at) != (ssize_t)sizeof part) break;
        if (part.p_type != PT_INTERP || part.p_filesz == 0 || part.p_filesz >= PATH_MAX) continue;
        ssize_t n = pread(fd, out, part.p_filesz, (off_t)part.p_offset);
        out[n > 0 ? n : 0] = '\0';
        break;
    }
    close(fd);
}

static pillion_status allow_paths(int ruleset, const pil_sandbox_policy *policy, pillion_error *err) {
    pillion_status st = PILLION_OK;
    for (size_t i = 0; !st && i < policy->n_read_paths; i++)
        st = allow(ruleset, policy->read_paths[i], FS_READ_FILE | FS_READ_DIR, err);
    for (size_t i = 0; !st && i < policy->n_exec_paths; i++) {
        char loader[PATH_MAX];
        st = allow(ruleset, policy->exec_paths[i], FS_EXECUTE | FS_READ_FILE, err);
        read_interpreter(policy->exec_paths[i], loader);
        if (!st && loader[0]) st = allow(ruleset, loader, FS_EXECUTE | FS_READ_FILE, err);
    }
    return st;
}

pillion_status pil_landlock_apply(const pil_sandbox_policy *policy, bool *applied, pillion_error *err) {
    *applied = false;
    int abi = pil_landlock_abi();
    if (abi == 0) return PILLION_OK;
    ruleset_attr all = everything(abi);
    int ruleset = (int)syscall(__NR_landlock_create_ruleset, &all, sizeof all, 0);
    if (ruleset < 0) return pil_err_set(err, PILLION_E_INTERNAL, "landlock: ruleset: %s", strerror(errno));
    pillion_status st = allow_paths(ruleset, policy, err);
    if (!st && syscall(__NR_landlock_restrict_self, ruleset, 0) != 0)
        st = pil_err_set(err, PILLION_E_INTERNAL, "landlock: restrict: %s", strerror(errno));
    close(ruleset);
    *applied = !st;
    return st;
}

#else

int pil_landlock_abi(void) { return 0; }

pillion_status pil_landlock_apply(const pil_sandbox_policy *policy, bool *applied, pillion_error *err) {
    (void)policy, (void)err;
    *applied = false;
    return PILLION_OK;
}

#endif
