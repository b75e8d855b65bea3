/* log.h - one logfmt line for each event, on standard error. Never text of users or vectors: lengths and ids only. */
#ifndef PIL_BASE_LOG_H
#define PIL_BASE_LOG_H

typedef enum pil_log_level { PIL_LOG_ERROR, PIL_LOG_WARN, PIL_LOG_INFO, PIL_LOG_DEBUG } pil_log_level;

/* Lines above this level are dropped; the role ("server", "worker 1") stands in every line. The role is copied. */
void pil_log_init(pil_log_level level, const char *role);

/* pil_log(PIL_LOG_WARN, "batch lost", "tokens=%d ms=%.1f", 512, 31.0) writes
 *   ts=2026-11-22T18:00:00.123Z level=warn role="worker 1" pid=42 msg="batch lost" tokens=512 ms=31.0
 * in one write. fields may be "". A line that nobody would read (a full disk, a pipe that is full or closed) is dropped
 * without waiting; the next one that is written says lost=N. */
__attribute__((format(printf, 3, 4))) void pil_log(pil_log_level level, const char *msg, const char *fields, ...);

#endif
