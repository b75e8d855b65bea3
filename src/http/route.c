/* route.c - the table of routes, and what every request must pass before its handler sees it.
 *
 * Order:   Host -> Origin -> path (404, 307) -> method (405) -> handler. The first two keep web pages out: a page of
 *          another site can make a browser send requests here, but it cannot forge these headers.
 * Tests:   tests/http/test_server.py, tests/http/test_hostile.py. */
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "base/limits.h"
#include "http/http_int.h"

#define SMALL_BODY_MAX (64 * PIL_KIB) /* of a request that needs none */
#define PATH_BYTES_MAX 64             /* longer than every route */

static void root(pil_exchange *x) {
    pil_buf body;
    pil_buf_init(&body, PIL_KIB);
    pil_buf_puts(&body, "Ollama is running");
    pil_answer_send(x, 200, "text/plain; charset=utf-8", &body, NULL);
}

static void livez(pil_exchange *x) { pil_answer_json(x, 200, "{\"status\":\"alive\"}"); }

/* Only where a worker has computed its canary, and not while leaving. */
static void readyz(pil_exchange *x) {
    const pil_pool_info *info = pil_pool_info_of(x->server->pool);
    if (x->server->draining) pil_answer_json(x, 503, "{\"status\":\"draining\"}");
    else if (info->state == PIL_POOL_READY && info->workers_ready > 0)
        pil_answer_json(x, 200, "{\"status\":\"ready\"}");
    else pil_answer_json(x, 503, "{\"status\":\"loading\"}");
}

typedef struct route {
    const char *method, *path;
    void (*run)(pil_exchange *x);
} route;

/* A path has all its methods side by side: the first of them is named by "allow". */
static const route routes[] = {
    {"GET", "/", root},
    {"HEAD", "/", root},
    {"GET", "/health", pil_sidecar_health},
    {"GET", "/livez", livez},
    {"GET", "/readyz", readyz},
    {"GET", "/info", pil_sidecar_info},
    {"POST", "/embed", pil_sidecar_embed},
    {"POST", "/embed-file", pil_sidecar_embed_file},
    {"POST", "/ocr/detect", pil_sidecar_ocr_detect},
    {"POST", "/ocr/extract", pil_sidecar_ocr_extract},
    {"GET", "/shutdown", pil_sidecar_shutdown},
};
#define N_ROUTES (sizeof routes / sizeof *routes)

/* ── Who asks ───────────────────────────────────────────────────────────────────────────────────────────────── */

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

/* A name that resolves to this machine is not enough: a page of another site may have made it do so. */
static bool is_allowed_host(const pil_exchange *x, const char *authority) {
    const pil_server *s = x->server;
    char host[256];
    const char *local = pil_conn_local_address(x->conn);
    if (*local == '\0') return true; /* a Unix socket: no browser gets there */
    if (!host_of(authority, host, sizeof host)) return false;
    if (strcasecmp(host, "localhost") == 0 || strcasecmp(host, local) == 0) return true;
    if (strncmp(local, "::ffff:", 7) == 0 && strcmp(host, local + 7) == 0) return true;
    for (size_t i = 0; i < s->n_allow_hosts; i++)
        if (strcasecmp(host, s->allow_hosts[i]) == 0) return true;
    return false;
}

/* 0, or the status of the refusal. */
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

/* Browsers name the page that makes them ask. Ours would be of the same host and port. */
static unsigned check_origin(const pil_exchange *x, const char **why) {
    const char *origin = pil_http_parser_header(x->parser, "origin", NULL);
    const char *site = pil_http_parser_header(x->parser, "sec-fetch-site", NULL);
    const char *host = pil_http_parser_header(x->parser, "host", NULL);
    bool same = !origin || (host && strncasecmp(origin, "http://", 7) == 0 && strcasecmp(origin + 7, host) == 0);
    bool near = !site || strcasecmp(site, "same-origin") == 0 || strcasecmp(site, "none") == 0;
    if (same && near) return 0;
    *why = "Requests from web pages of other sites are not served";
    return 403;
}

/* ── What is asked ──────────────────────────────────────────────────────────────────────────────────────────── */

static int hex_of(char c) {
    if (c >= '0' && c <= '9') return c - '0';
    if (c >= 'a' && c <= 'f') return c - 'a' + 10;
    if (c >= 'A' && c <= 'F') return c - 'A' + 10;
    return -1;
}

/* The path with %xx decoded; false when it is too long to be one of ours or holds NUL. */
static bool decode_path(const char *path, char *out) {
    size_t n = 0;
    for (; *path; path++, n++) {
        if (n + 1 == PATH_BYTES_MAX) return false;
        int high = *path == '%' ? hex_of(path[1]) : -1, low = high >= 0 ? hex_of(path[2]) : -1;
        out[n] = low >= 0 ? (char)(high * 16 + low) : *path;
        if (out[n] == '\0') return false;
        if (low >= 0) path += 2;
    }
    out[n] = '\0';
    return true;
}

/* The route of this method and path. Else NULL, and *same_path is the first route of that path, if there is one. */
static const route *find(const char *method, const char *path, const route **same_path) {
    *same_path = NULL;
    for (size_t i = 0; i < N_ROUTES; i++) {
        if (strcmp(routes[i].path, path) != 0) continue;
        if (!*same_path) *same_path = &routes[i];
        if (strcmp(routes[i].method, method) == 0) return &routes[i];
    }
    return NULL;
}

/* "/health/" is a place beside "/health": the client is sent there. */
static bool redirect(pil_exchange *x, const char *decoded) {
    char path[PATH_BYTES_MAX];
    size_t n = strlen(decoded);
    if (n < 2 || decoded[n - 1] != '/') return false;
    while (n > 1 && decoded[n - 1] == '/') n--;
    memcpy(path, decoded, n);
    path[n] = '\0';
    const route *same_path;
    if (n == 1 || (!find(x->request->method, path, &same_path) && !same_path)) return false;
    const char *host = pil_http_parser_header(x->parser, "host", NULL), *query = x->request->query;
    char header[PIL_LIMIT_REQUEST_LINE + 512];
    int len = snprintf(header, sizeof header, "location: %s%s%s%s%s\r\n", host ? "http://" : "", host ? host : "", path,
                       query ? "?" : "", query ? query : "");
    if (len < 0 || (size_t)len >= sizeof header) return false;
    pil_buf none;
    pil_buf_init(&none, 1);
    pil_answer_send(x, 307, NULL, &none, header);
    return true;
}

static const route *route_of(const pil_exchange *x, const route **same_path, char decoded[PATH_BYTES_MAX]) {
    *same_path = NULL;
    *decoded = '\0';
    return decode_path(x->request->path, decoded) ? find(x->request->method, decoded, same_path) : NULL;
}

/* ── The door ───────────────────────────────────────────────────────────────────────────────────────────────── */

size_t pil_route_body_max(const pil_exchange *x) {
    const route *same_path;
    char decoded[PATH_BYTES_MAX];
    const route *r = route_of(x, &same_path, decoded);
    return r && strcmp(r->method, "POST") == 0 ? PIL_LIMIT_BODY_BYTES : SMALL_BODY_MAX;
}

unsigned pil_route_preview(const pil_exchange *x) {
    const char *why;
    unsigned status = check_host(x, &why);
    if (!status) status = check_origin(x, &why);
    if (status) return status;
    const route *same_path;
    char decoded[PATH_BYTES_MAX];
    if (route_of(x, &same_path, decoded)) return 0;
    return same_path ? 405 : 404;
}

void pil_route_run(pil_exchange *x) {
    const char *why;
    unsigned status = check_host(x, &why);
    if (!status) status = check_origin(x, &why);
    if (status) {
        pil_answer_detail(x, status, "%s", why);
        return;
    }
    const route *same_path;
    char decoded[PATH_BYTES_MAX];
    const route *r = route_of(x, &same_path, decoded);
    if (r) {
        r->run(x);
    } else if (same_path) {
        char allow[64];
        snprintf(allow, sizeof allow, "allow: %s\r\n", same_path->method);
        pil_buf body;
        pil_buf_init(&body, PIL_KIB);
        pil_buf_puts(&body, "{\"detail\":\"Method Not Allowed\"}");
        pil_answer_send(x, 405, "application/json", &body, allow);
    } else if (!redirect(x, decoded)) {
        pil_answer_json(x, 404, "{\"detail\":\"Not Found\"}");
    }
}
