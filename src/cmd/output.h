/* output.h - where a command's result goes: a file that is complete or absent, or standard output. */
#ifndef PIL_CMD_OUTPUT_H
#define PIL_CMD_OUTPUT_H

#include <limits.h>
#include <stdbool.h>
#include <stdio.h>

#include "base/file.h"

/* Only one output is open at a time in a process: a signal that ends the process removes its temporary file. */
typedef struct pil_output {
    FILE *f;          /* write here with stdio; seekable when the output was opened whole */
    const char *name; /* for messages: the path or "standard output"; borrowed */
    bool is_stdout, is_terminal;
    pil_file_writer writer; /* a regular file */
    FILE *target;           /* where a spool is copied to on commit; NULL without spool */
} pil_output;

/* path      borrowed; NULL or "-": standard output. A regular file is written beside its final name and renamed by
 *           commit (a symbolic link is followed, also to a file that does not exist yet; permissions of a file that is
 *           replaced are kept); anything else (a device, a pipe) is written directly.
 * whole     nothing is to be seen before commit, and f must be seekable: what does not go to a regular file is first
 *           collected in a nameless temporary file.
 * Errors    E_NOT_FOUND, E_IO, E_NOMEM; then there is nothing to close. */
PILLION_MUST_USE pillion_status pil_output_open(pil_output *o, const char *path, bool whole, pillion_error *err);

/* Where a file is to be made: at path, or where the symbolic links there lead to, also if there is no file yet. False
 * (errno says why) when the kernel would not follow them either. */
bool pil_output_target(char target[PATH_MAX], const char *path);

/* Pushes what was written so far towards its destination; E_IO when that failed (a full disk shows here). */
PILLION_MUST_USE pillion_status pil_output_flush(pil_output *o, pillion_error *err);

/* Makes the output final. Closes it whatever happens; after a failure no partial file is left. */
PILLION_MUST_USE pillion_status pil_output_commit(pil_output *o, pillion_error *err);
void pil_output_abort(pil_output *o); /* accepts a zeroed or committed one */

#endif
