/* token.h - the secret that clients must present. It never stands on a command line, in a log or in an error. */
#ifndef PIL_CMD_TOKEN_H
#define PIL_CMD_TOKEN_H

#include "pillion/pillion.h"

#define PIL_TOKEN_MAX 512 /* characters: a header line of 16 KiB holds it with ease */

typedef struct pil_token {
    char text[PIL_TOKEN_MAX + 1]; /* "": none */
} pil_token;

/* The token in a file (white space at its end does not count), or, with path NULL, in $PILLION_TOKEN; none when there
 * is neither. Both at once are an error, so that nobody believes in the wrong one.
 *   Errors  E_ARG: empty, longer than PIL_TOKEN_MAX, or with characters that a header cannot carry (visible ASCII is
 *           allowed). E_NOT_FOUND, E_IO: the file. The messages hold nothing of the token. */
pillion_status pil_token_read(pil_token *out, const char *path, pillion_error *err);

/* 256 random bits in 64 hexadecimal digits. Errors: E_IO. */
pillion_status pil_token_make(pil_token *out, pillion_error *err);

#endif
