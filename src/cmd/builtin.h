/* builtin.h - the model that is linked into the program. */
#ifndef PIL_CMD_BUILTIN_H
#define PIL_CMD_BUILTIN_H

#include <stddef.h>

/* The compiled file of the built-in model, page-aligned, alive as long as the process; NULL and 0 bytes in a program
 * that was built without one. */
const void *pil_builtin_model(size_t *bytes);

#endif
