/* file.h - whole files, pieces of files, read-only maps, and writing that is either complete or invisible. */
#ifndef PIL_BASE_FILE_H
#define PIL_BASE_FILE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "pillion/pillion.h"

/* Reads a regular file of at most limit bytes. *bytes is given (free), NUL-terminated beyond *n. */
pillion_status pil_file_read(char **bytes, size_t *n, const char *path, size_t limit, pillion_error *err);

/* What decides whether a file is still the one that was seen before. */
typedef struct pil_file_stamp {
    uint64_t bytes, mtime_ns, inode;
} pil_file_stamp;
pillion_status pil_file_stat(pil_file_stamp *out, const char *path, pillion_error *err); /* regular files only */
bool pil_file_is_dir(const char *path);
bool pil_file_exists(const char *path);

/* A read-only shared map of a whole regular file. data is NULL when the file is empty. */
typedef struct pil_file_map {
    const void *data;
    size_t bytes;
} pil_file_map;
pillion_status pil_file_map_open(pil_file_map *out, const char *path, pillion_error *err);
void pil_file_map_close(pil_file_map *m); /* accepts a zeroed one */

/* A regular file that is read in pieces, for files that somebody may be writing to: one that becomes shorter ends a
 * process that has it mapped (SIGBUS), and is an error here. */
typedef struct pil_file_reader {
    int fd;
    pil_file_stamp stamp; /* of the very file that was opened */
} pil_file_reader;
pillion_status pil_file_reader_open(pil_file_reader *r, const char *path, pillion_error *err);
/* n bytes from offset on; path is for errors. E_STALE when the file does not have them any more, E_IO. */
pillion_status pil_file_reader_read(const pil_file_reader *r, const char *path, uint64_t offset, void *out, size_t n,
                                    pillion_error *err);
void pil_file_reader_close(pil_file_reader *r); /* accepts a closed one, whose fd is -1 */

/* Writes all of it to a descriptor, however many calls that takes; false (errno says why) when it cannot. */
bool pil_file_write_all(int fd, const void *bytes, size_t n);

/* Makes a directory and its parents (mode 0700 for what is made). */
pillion_status pil_file_mkdirs(const char *path, pillion_error *err);

/* Joins directory and name into out. E_LIMIT if it does not fit. */
pillion_status pil_file_join(char *out, size_t out_bytes, const char *dir, const char *name, pillion_error *err);

/* Writing: bytes go to a temporary file beside `path`; commit makes them durable and renames; abort removes them.
 * Where the system can (Linux: O_TMPFILE), the temporary file has no name before commit, so that even a killed process
 * leaves nothing behind; elsewhere it is called tmp from the start. */
typedef struct pil_file_writer {
    FILE *f; /* write here with stdio; errors are collected by commit */
    char *path, *tmp;
    bool is_named; /* a file called tmp exists */
} pil_file_writer;
pillion_status pil_file_writer_open(pil_file_writer *w, const char *path, pillion_error *err);
pillion_status pil_file_writer_commit(pil_file_writer *w, pillion_error *err); /* closes it, whatever happens */
void pil_file_writer_abort(pil_file_writer *w); /* accepts a zeroed or committed one */

#endif
