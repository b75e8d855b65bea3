/* clock.h - monotonic time, the only time that deadlines and measurements use. */
#ifndef PIL_BASE_CLOCK_H
#define PIL_BASE_CLOCK_H

#include <stdint.h>

/* Nanoseconds since an arbitrary point; never goes back. */
uint64_t pil_clock_ns(void);

static inline double pil_clock_ms(uint64_t since_ns) { return (double)(pil_clock_ns() - since_ns) / 1e6; }

#endif
