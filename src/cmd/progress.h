/* progress.h - one line on a terminal that shows how far a long work has come; nothing anywhere else. */
#ifndef PIL_CMD_PROGRESS_H
#define PIL_CMD_PROGRESS_H

#include <stdbool.h>
#include <stdint.h>

typedef struct pil_progress {
    const char *label; /* borrowed: "embedding" */
    const char *unit;  /* borrowed: "texts"; NULL: the bar shows no count */
    bool on;           /* standard error is a terminal that can be drawn on, and nobody asked for quiet */
    bool drawn;
    uint64_t start_ns, last_ns;
} pil_progress;

/* Starts the clock. Nothing is drawn during the first half second, so that short work leaves no trace. */
void pil_progress_start(pil_progress *p, const char *label, const char *unit, bool wanted);

/* Draws at most ten times a second. fraction: 0 to 1, or negative while nobody knows how much there is; done: the count
 * so far, for the rate. */
void pil_progress_update(pil_progress *p, uint64_t done, double fraction);

/* Clears the line. Returns whether it was ever drawn. */
bool pil_progress_stop(pil_progress *p);

/* Seconds since start. */
double pil_progress_seconds(const pil_progress *p);

#endif
