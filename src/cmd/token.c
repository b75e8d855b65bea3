/* token.c - reading and making the clients' secret. Tests: tests/http/test_service.py. */
#include "cmd/token.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>

#include "base/err.h"
#include "base/file.h"
#include "base/log.h"

#define TOKEN_FILE_MAX ((size_t)4096)

/* Copies n characters; `from` is where they were found, for the error. */
static pillion_status set(pil_token *out, const char *text, size_t n, const char *from, pillion_error *err) {
    while (n > 0 && strchr(" \t\r\n", text[n - 1])) n--;
    if (n == 0) return pil_err_set(err, PILLION_E_ARG, "%s: the token is empty", from);
    if (n > PIL_TOKEN_MAX)
        return pil_err_set(err, PILLION_E_ARG, "%s: the token is longer than %d characters", from, PIL_TOKEN_MAX);
    for (size_t i = 0; i < n; i++)
        if (text[i] <= ' ' || text[i] > '~')
            return pil_err_set(err, PILLION_E_ARG, "%s: character %zu of the token is not visible ASCII", from, i + 1);
    memcpy(out->text, text, n);
    out->text[n] = '\0';
    return PILLION_OK;
}

pillion_status pil_token_read(pil_token *out, const char *path, pillion_error *err) {
    *out = (pil_token){0};
    const char *variable = getenv("PILLION_TOKEN");
    if (!path) return variable ? set(out, variable, strlen(variable), "PILLION_TOKEN", err) : PILLION_OK;
    if (variable)
        return pil_err_set(err, PILLION_E_ARG, "both --token-file and PILLION_TOKEN are set: use one of them");
    char *bytes;
    size_t n;
    pillion_status st = pil_file_read(&bytes, &n, path, TOKEN_FILE_MAX, err);
    if (st) return st;
    st = set(out, bytes, n, path, err);
    explicit_bzero(bytes, n);
    free(bytes);
    struct stat s;
    if (!st && stat(path, &s) == 0 && s.st_mode & S_IROTH)
        pil_log(PIL_LOG_WARN, "every user of this machine can read the token", "file=\"%s\" mode=%04o", path,
                (unsigned)s.st_mode & 07777);
    return st;
}

pillion_status pil_token_make(pil_token *out, pillion_error *err) {
    unsigned char bits[32];
    *out = (pil_token){0};
    if (getrandom(bits, sizeof bits, 0) != (ssize_t)sizeof bits)
        return pil_err_set(err, PILLION_E_IO, "no random numbers for a token");
    for (size_t i = 0; i < sizeof bits; i++) snprintf(out->text + 2 * i, 3, "%02x", bits[i]);
    return PILLION_OK;
}
