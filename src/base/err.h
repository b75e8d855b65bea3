/* err.h - filling the public pillion_error; the status codes themselves are in pillion.h. */
#ifndef PIL_BASE_ERR_H
#define PIL_BASE_ERR_H

#include "pillion/pillion.h"

/* Writes code and formatted text into err unless err is NULL or already holds an error (first writer wins). A text too
 * long is cut; control characters and bytes that are not UTF-8 become '?', so the text is always one line of valid
 * UTF-8. Returns code, so that a failing function can end with `return pil_err_set(...)`. */
__attribute__((format(printf, 3, 4))) pillion_status pil_err_set(pillion_error *err, pillion_status code,
                                                                 const char *fmt, ...);
#ifdef PIL_ANALYZER
/* Analysers look at one file and do not know that the code comes back, and with it that a status is not 0 any more. */
#define pil_err_set(err, code, ...) ((void)pil_err_set((err), (code), __VA_ARGS__), (code))
#endif

/* What a caller returns that could not allocate. */
static inline pillion_status pil_err_no_memory(pillion_error *err) {
    return pil_err_set(err, PILLION_E_NOMEM, "out of memory");
}

#endif
