/* child.c - what a process of ours does first when another one of ours has started it, whatever it is for.
 *
 * Not here: the cage, which comes later and cannot be left again (sandbox.c).
 * Tests:    tests/extract/test_extract.c, tests/proc/test_worker.c. */
#include <fcntl.h>
#include <signal.h>
#include <sys/resource.h>
#include <unistd.h>
#ifdef __linux__
#include <sys/prctl.h>
#include <sys/syscall.h>
#endif

#include "sandbox/sandbox.h"

#define INHERITED_MAX 1024 /* where there is no call that takes them all */
#define CLOEXEC 4u         /* CLOSE_RANGE_CLOEXEC of linux/close_range.h, which is missing before 5.9 */

void pil_child_begin(void) {
#ifdef __linux__
    prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
#endif
    signal(SIGINT, SIG_IGN);
    signal(SIGTERM, SIG_IGN);
    signal(SIGHUP, SIG_IGN);
}

void pil_child_give_way(int nice) {
    if (nice > 0) setpriority(PRIO_PROCESS, 0, getpriority(PRIO_PROCESS, 0) + nice);
}

void pil_child_close_from(int first, bool on_exec) {
#ifdef SYS_close_range
    if (syscall(SYS_close_range, (unsigned)first, ~0u, on_exec ? CLOEXEC : 0u) == 0) return;
#endif
    for (int fd = first; fd < INHERITED_MAX; fd++) {
        if (on_exec) fcntl(fd, F_SETFD, FD_CLOEXEC);
        else close(fd);
    }
}
