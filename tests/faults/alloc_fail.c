/* alloc_fail.c - makes the n-th allocation of a program fail, whoever asks for it. Loaded with LD_PRELOAD by row W12.
 *
 * The file named by PILLION_ALLOC_FAIL is shared with the test: three 64-bit numbers,
 *     left    counts down with each allocation; the one that makes it 0 fails; 0 or less: nothing fails
 *     calls   allocations so far
 *     failed  how many failed
 * Allocates nothing itself. What glibc allocates inside of its own functions (strdup, fopen, getline) is included. */
#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

void *__libc_malloc(size_t n);
void *__libc_calloc(size_t n, size_t bytes);
void *__libc_realloc(void *p, size_t n);
void *__libc_memalign(size_t alignment, size_t n);

static _Atomic int64_t *shared; /* [3]; NULL: not asked for, or not opened yet */
static atomic_bool opened;

__attribute__((constructor)) static void open_shared(void) {
    const char *path = getenv("PILLION_ALLOC_FAIL");
    int fd = path ? open(path, O_RDWR | O_CLOEXEC) : -1;
    if (fd < 0) return;
    void *p = mmap(NULL, 3 * sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    close(fd);
    if (p == MAP_FAILED) return;
    shared = p;
    atomic_store(&opened, true);
}

static bool fails(void) {
    if (!atomic_load(&opened)) return false;
    atomic_fetch_add(&shared[1], 1);
    if (atomic_load(&shared[0]) <= 0 || atomic_fetch_sub(&shared[0], 1) != 1) return false;
    atomic_fetch_add(&shared[2], 1);
    errno = ENOMEM;
    return true;
}

void *malloc(size_t n) { return fails() ? NULL : __libc_malloc(n); }
void *calloc(size_t n, size_t bytes) { return fails() ? NULL : __libc_calloc(n, bytes); }
void *realloc(void *p, size_t n) { return fails() ? NULL : __libc_realloc(p, n); }
void *memalign(size_t alignment, size_t n) { return fails() ? NULL : __libc_memalign(alignment, n); }
void *aligned_alloc(size_t alignment, size_t n) { return fails() ? NULL : __libc_memalign(alignment, n); }

int posix_memalign(void **out, size_t alignment, size_t n) {
    if (fails()) return ENOMEM;
    *out = __libc_memalign(alignment, n);
    return *out ? 0 : ENOMEM;
}
