/* page.h - one page of memory that the server shares with a worker: how far it is, and what it need not finish.
 *
 * The worker writes `progress`, the server reads it; the server writes `cancel`, the worker reads it. To the server the
 * page is as untrusted as a frame: a worker that scribbles over it can look busy, and harms nobody else. */
#ifndef PIL_PROC_PAGE_H
#define PIL_PROC_PAGE_H

#include <stdint.h>

#include "pillion/pillion.h"

#define PIL_PAGE_BYTES 4096
#define PIL_PAGE_CANCELS 8 /* requests that may be with one worker at once */

typedef struct pil_page {
    volatile uint64_t progress; /* grows with every text, few KiB of it, layer and block, and when a request is read or
                                   answered */
    volatile int cancel[PIL_PAGE_CANCELS]; /* [id % PIL_PAGE_CANCELS] of a request: non-zero, nobody waits for it */
} pil_page;

/* A page of zeros and a descriptor of it, both given: pil_page_unmap(), close(). Its size cannot be changed. */
pillion_status pil_page_create(pil_page **out, int *fd, pillion_error *err);
/* The same page in the process that has inherited the descriptor, which is closed. NULL when it cannot be mapped. */
pil_page *pil_page_map(int fd);
void pil_page_unmap(pil_page *page); /* accepts NULL */

static inline uint64_t pil_page_progress(const pil_page *page) {
    return __atomic_load_n(&page->progress, __ATOMIC_RELAXED);
}
static inline void pil_page_beat(pil_page *page) { __atomic_fetch_add(&page->progress, 1, __ATOMIC_RELAXED); }
static inline void pil_page_cancel(pil_page *page, uint64_t id, int value) {
    __atomic_store_n(&page->cancel[id % PIL_PAGE_CANCELS], value, __ATOMIC_RELAXED);
}

#endif
