/* buf.h - a growing byte buffer that cannot be made without a ceiling. */
#ifndef PIL_BASE_BUF_H
#define PIL_BASE_BUF_H

#include <stddef.h>

#include "pillion/pillion.h"

/* bytes is not NUL-terminated unless pil_buf_cstr was called. failed is sticky: once an append did not fit or memory
 * ran out, every later append is refused, so a caller may append many times and look once. */
typedef struct pil_buf {
    char *bytes;
    size_t len, cap, limit;
    pillion_status failed;
} pil_buf;

void pil_buf_init(pil_buf *b, size_t limit);
void pil_buf_deinit(pil_buf *b); /* accepts a zeroed one */
void pil_buf_clear(pil_buf *b);  /* len 0 and no failure; memory is kept */

/* Each returns the buffer's sticky status: OK, E_LIMIT (over the ceiling) or E_NOMEM. */
pillion_status pil_buf_append(pil_buf *b, const void *bytes, size_t n);
pillion_status pil_buf_puts(pil_buf *b, const char *s);
pillion_status pil_buf_putc(pil_buf *b, char c);
__attribute__((format(printf, 2, 3))) pillion_status pil_buf_printf(pil_buf *b, const char *fmt, ...);
/* Room for n more bytes, not yet counted in len; NULL on failure. Write there, then add to len. */
char *pil_buf_reserve(pil_buf *b, size_t n);
/* NUL-terminates (the NUL is not counted in len) and returns bytes; NULL on failure. Borrowed until the next call. */
const char *pil_buf_cstr(pil_buf *b);
/* Gives the memory to the caller (free) and leaves the buffer empty. */
char *pil_buf_steal(pil_buf *b);

#endif
