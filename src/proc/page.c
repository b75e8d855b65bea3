/* page.c - making and mapping the page that server and worker share (page.h).
 *
 * On Linux it is a memfd with its size sealed, so that the worker cannot shrink it under the server's eyes (the next
 * read would be a SIGBUS in the server). Elsewhere it is a file without a name.
 * Tests: tests/proc/test_worker.c, tests/proc/test_pool.c. */
#include "proc/page.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/err.h"

_Static_assert(sizeof(pil_page) <= PIL_PAGE_BYTES, "a page is one page");

static int open_page(void) {
#ifdef __linux__
    int fd = memfd_create("pillion", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (fd < 0) return -1;
    if (ftruncate(fd, PIL_PAGE_BYTES) == 0 && fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) == 0)
        return fd;
    close(fd);
    return -1;
#else
    FILE *file = tmpfile();
    int fd = file ? fcntl(fileno(file), F_DUPFD_CLOEXEC, 3) : -1;
    if (file) fclose(file);
    if (fd >= 0 && ftruncate(fd, PIL_PAGE_BYTES) == 0) return fd;
    if (fd >= 0) close(fd);
    return -1;
#endif
}

static pil_page *map(int fd) {
    void *p = mmap(NULL, PIL_PAGE_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    return p == MAP_FAILED ? NULL : p;
}

pillion_status pil_page_create(pil_page **out, int *fd, pillion_error *err) {
    *fd = open_page();
    *out = *fd >= 0 ? map(*fd) : NULL;
    if (*out) return PILLION_OK;
    pil_err_set(err, PILLION_E_IO, "no memory to share with a worker: %s", strerror(errno));
    if (*fd >= 0) close(*fd);
    *fd = -1;
    return PILLION_E_IO;
}

pil_page *pil_page_map(int fd) {
    pil_page *page = map(fd);
    close(fd);
    return page;
}

void pil_page_unmap(pil_page *page) {
    if (page) munmap(page, PIL_PAGE_BYTES);
}
