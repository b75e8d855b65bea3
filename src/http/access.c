/* access.c - who may ask: hosts, origins, the bearer token; and the folders that may be read.
 *
 * Host and Origin keep web pages out: a page of another site can make a browser send requests here, but it cannot forge
 * these headers. A name that merely resolves to this machine is not enough, since another site may have made it do so.
 * The token keeps other users and machines out.
 * One object holds all of it, so that a new configuration takes its place as a whole.
 * Tests:   tests/http/test_access.py, tests/http/test_hostile.py. */
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/err.h"
#include "base/limits.h"
#include "http/http_int.h"

#define HOST_BYTES_MAX 256

typedef struct names {
    char **items;
    size_t n;
} names;

struct pil_access {
    names hosts, origins;
    char *token;
    pil_roots *roots; /* NULL: reading files is off */
};

/* ── What is configured ─────────────────────────────────────────────────────────────────────────────────────── */

static pillion_status copy_names(names *out, const char *const *items, size_t n) {
    out->items = calloc(n + 1, sizeof *out->items);
    for (size_t i = 0; out->items && i < n; i++) {
        out->items[i] = strdup(items[i]);
        if (!out->items[i]) return PILLION_E_NOMEM;
        out->n++;
    }
    return out->items ? PILLION_OK : PILLION_E_NOMEM;
}

static void free_names(names *list) {
    for (size_t i = 0; i < list->n; i++) free(list->items[i]);
    free(list->items);
}

/* What a browser would write: scheme://host[:port] in lower case, without a path. */
static bool is_origin(const char *s) {
    size_t scheme = strspn(s, "abcdefghijklmnopqrstuvwxyz0123456789+-.");
    if (scheme == 0 || strncmp(s + scheme, "://", 3) != 0) return false;
    const char *host = s + scheme + 3;
    size_t n = strspn(host, "abcdefghijklmnopqrstuvwxyz0123456789-._~[]:");
    return n > 0 && n < HOST_BYTES_MAX && host[n] == '\0';
}

static bool is_token(const char *s) {
    size_t n = strlen(s);
    for (size_t i = 0; i < n; i++)
        if (s[i] <= ' ' || s[i] > '~') return false;
    return n > 0 && n <= PIL_LIMIT_SECRET_BYTES;
}

static pillion_status check_words(const pil_server_options *opt, pillion_error *err) {
    for (size_t i = 0; i < opt->n_allow_origins; i++)
        if (!is_origin(opt->allow_origins[i]))
            return pil_err_set(err, PILLION_E_ARG,
                               "allowed origin '%.100s': wanted scheme://host or scheme://host:port, in lower case",
                               opt->allow_origins[i]);
    if (opt->token && *opt->token && !is_token(opt->token))
        return pil_err_set(err, PILLION_E_ARG, "the token must be 1 to %zu printable characters without blanks",
                           PIL_LIMIT_SECRET_BYTES);
    return PILLION_OK;
}

pillion_status pil_access_create(pil_access **out, const pil_server_options *opt, pillion_error *err) {
    *out = NULL;
    pillion_status st = check_words(opt, err);
    if (st) return st;
    pil_access *a = calloc(1, sizeof *a);
    if (!a) return pil_err_no_memory(err);
    st = copy_names(&a->hosts, opt->allow_hosts, opt->n_allow_hosts);
    if (!st) st = copy_names(&a->origins, opt->allow_origins, opt->n_allow_origins);
    if (!st && opt->token && *opt->token) {
        a->token = strdup(opt->token);
        if (!a->token) st = PILLION_E_NOMEM;
    }
    if (st) pil_err_set(err, st, "out of memory");
    if (!st && opt->n_files_roots) st = pil_roots_open(&a->roots, opt->files_roots, opt->n_files_roots, err);
    if (st) pil_access_destroy(a);
    else *out = a;
    return st;
}

void pil_access_destroy(pil_access *a) {
    if (!a) return;
    free_names(&a->hosts);
    free_names(&a->origins);
    if (a->token) explicit_bzero(a->token, strlen(a->token));
    free(a->token);
    pil_roots_close(a->roots);
    free(a);
}

const pil_roots *pil_access_roots(const pil_access *a) { return a->roots; }

/* ── Host ───────────────────────────────────────────────────────────────────────────────────────────────────── */

/* The host in "host", "host:port", "[v6]" or "[v6]:port"; false when it is none of these. */
static bool host_of(const char *authority, char *out, size_t out_bytes) {
    const char *end;
    size_t skip = 0;
    if (*authority == '[') {
        skip = 1;
        end = strchr(authority, ']');
        if (!end) return false;
    } else {
        end = authority + strcspn(authority, ":");
    }
    size_t n = (size_t)(end - authority) - skip;
    const char *rest = end + skip;
    if (n == 0 || n >= out_bytes || (*rest && *rest != ':')) return false;
    if (*rest == ':' && (strspn(rest + 1, "0123456789") != strlen(rest + 1) || strlen(rest) > 6)) return false;
    memcpy(out, authority + skip, n);
    out[n] = '\0';
    return true;
}

static bool is_allowed_host(const pil_exchange *x, const char *authority) {
    const names *hosts = &x->server->access->hosts;
    char host[HOST_BYTES_MAX];
    const char *local = pil_conn_local_address(x->conn);
    if (!local) return true; /* a Unix socket: no browser gets there */
    if (!host_of(authority, host, sizeof host)) return false;
    if (strcasecmp(host, "localhost") == 0 || strcasecmp(host, local) == 0) return true;
    if (strncmp(local, "::ffff:", 7) == 0 && strcmp(host, local + 7) == 0) return true;
    for (size_t i = 0; i < hosts->n; i++)
        if (strcasecmp(host, hosts->items[i]) == 0) return true;
    return false;
}

static unsigned check_host(const pil_exchange *x, const char **why) {
    size_t times;
    const char *host = pil_http_parser_header(x->parser, "host", &times), *authority = x->request->authority;
    if (times > 1 || (times == 0 && !x->request->is_http_1_0) || (host && *host == '\0')) {
        *why = "Exactly one Host header is needed";
        return 400;
    }
    if (authority && host && strcasecmp(authority, host) != 0) {
        *why = "The Host header differs from the request's target";
        return 400;
    }
    if (!host) host = authority;
    if (host && !is_allowed_host(x, host)) {
        *why = "This Host is not served; start pillion with --allow-host NAME to allow it";
        return 403;
    }
    return 0;
}

/* ── Origin ─────────────────────────────────────────────────────────────────────────────────────────────────── */

const char *pil_access_origin(const pil_exchange *x) {
    size_t times;
    const names *origins = &x->server->access->origins;
    const char *origin = pil_http_parser_header(x->parser, "origin", &times);
    for (size_t i = 0; times == 1 && i < origins->n; i++)
        if (strcmp(origin, origins->items[i]) == 0) return origin;
    return NULL;
}

/* Browsers name the page that makes them ask. Ours would be of the same host and port. */
static unsigned check_origin(const pil_exchange *x, const char **why) {
    if (pil_access_origin(x)) return 0;
    size_t origins, sites;
    const char *origin = pil_http_parser_header(x->parser, "origin", &origins);
    const char *site = pil_http_parser_header(x->parser, "sec-fetch-site", &sites);
    const char *host = pil_http_parser_header(x->parser, "host", NULL);
    bool same = !origin || (host && strncasecmp(origin, "http://", 7) == 0 && strcasecmp(origin + 7, host) == 0);
    bool near = !site || strcasecmp(site, "same-origin") == 0 || strcasecmp(site, "none") == 0;
    if (same && near && origins <= 1 && sites <= 1) return 0;
    *why = "Requests from web pages of other sites are not served";
    return 403;
}

unsigned pil_access_check(const pil_exchange *x, const char **why) {
    unsigned status = check_host(x, why);
    return status ? status : check_origin(x, why);
}

/* ── Token ──────────────────────────────────────────────────────────────────────────────────────────────────── */

/* Takes as long for a wrong token as for the right one: its time depends on the length of what was sent alone. */
static bool is_same_secret(const char *sent, const char *secret) {
    size_t n = strlen(sent), m = strlen(secret);
    unsigned char differs = n != m;
    for (size_t i = 0; i < n; i++) differs |= (unsigned char)(sent[i] ^ secret[i % m]);
    return differs == 0;
}

bool pil_access_has_token(const pil_exchange *x) {
    const char *token = x->server->access->token;
    if (!token) return true;
    size_t times;
    const char *sent = pil_http_parser_header(x->parser, "authorization", &times);
    if (times != 1 || strncasecmp(sent, "bearer ", 7) != 0) return false;
    sent += 7;
    while (*sent == ' ') sent++;
    return is_same_secret(sent, token);
}
