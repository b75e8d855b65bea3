/* say.h - what the commands say on standard error, and small outputs on standard output. */
#ifndef PIL_CMD_SAY_H
#define PIL_CMD_SAY_H

#include <stdint.h>

#include "base/buf.h"

#define PIL_SAY_COUNT_BYTES 32 /* 20 digits, 6 commas, NUL */

/* One line "who: text" on standard error. Control characters in the text are shown as '?', so that a strange file name
 * or argument can neither break the line nor command the terminal. */
__attribute__((format(printf, 2, 3))) void pil_say(const char *who, const char *fmt, ...);

/* For what becomes JSON, which a name of a file need not fit: bytes that are not UTF-8 become '?'. */
void pil_say_utf8(char *text);

/* 1234567 as "1,234,567" into out, which is returned. */
const char *pil_say_count(char out[PIL_SAY_COUNT_BYTES], uint64_t n);

/* Writes the whole buffer to standard output. Returns the exit status: PIL_EXIT_OK, or PIL_EXIT_FAILURE after one line
 * on standard error when the buffer is incomplete or cannot be written. */
int pil_say_output(const char *who, const pil_buf *out);

#endif
