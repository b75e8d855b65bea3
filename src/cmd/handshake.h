/* handshake.h - the file that tells a program which started a server where that server is: port, process, token.
 *
 * Two servers with one file would each overwrite what the other says, so the file has a lock beside it (FILE.lock),
 * held as long as the server lives; it falls with its holder, however that ends. */
#ifndef PIL_CMD_HANDSHAKE_H
#define PIL_CMD_HANDSHAKE_H

#include <limits.h>
#include <stdbool.h>
#include <sys/stat.h>

#include "base/buf.h"
#include "pillion/pillion.h"

typedef struct pil_handshake {
    char path[PATH_MAX], lock_path[PATH_MAX];
    int lock_fd;  /* -1: no lock is held */
    bool written; /* the file at path is ours: */
    struct stat as_written;
} pil_handshake;

/* Takes the lock of the file at path.
 *   inherited_fd  the lock of the server whose place we take (taken, whatever happens), or -1.
 *   in_use        set when another server holds the lock; err names its process.
 *   Errors        E_IO, E_ARG (path too long). */
pillion_status pil_handshake_open(pil_handshake *h, const char *path, int inherited_fd, bool *in_use,
                                  pillion_error *err);
/* Writes the file: complete or not at all, readable for this user alone. Errors: E_IO, E_NOT_FOUND, E_NOMEM. */
pillion_status pil_handshake_write(pil_handshake *h, const pil_buf *json, pillion_error *err);
/* The end: removes what is ours. Accepts a handshake that was never opened (lock_fd -1). */
void pil_handshake_close(pil_handshake *h);
/* The end of a server that has a successor, whose file and lock these are now. */
void pil_handshake_leave(pil_handshake *h);

#endif
