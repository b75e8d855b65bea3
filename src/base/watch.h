/* watch.h - how somebody outside follows long work and ends it. */
#ifndef PIL_BASE_WATCH_H
#define PIL_BASE_WATCH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Either pointer may be NULL; both are borrowed for as long as the work takes. */
typedef struct pil_watch {
    const volatile int *cancel;   /* non-zero: nobody wants the result */
    volatile uint64_t *heartbeat; /* one is added whenever some more is done */
} pil_watch;

static inline void pil_watch_beat(const pil_watch *w) {
    if (w && w->heartbeat) __atomic_fetch_add(w->heartbeat, 1, __ATOMIC_RELAXED);
}
static inline bool pil_watch_cancelled(const pil_watch *w) { return w && w->cancel && *w->cancel; }

#endif
