/* route.c - the table of routes, and what every request must pass before its handler sees it.
 *
 * Order:   Host, Origin (access.c) -> a browser's question for an allowed origin (200) -> token (401) -> path (404,
 *          307) -> method (405) -> a body that is not compressed (415) -> room for it (503) -> handler.
 * Probes:  /livez, /readyz and /health are answered without the token, because what asks them (a service manager, an
 *          orchestrator, a load balancer) has none; without it they say no more than whether work would be taken.
 * Tests:   tests/http/test_server.py, tests/http/test_access.py, tests/http/test_overload.py. */
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "base/hex.h"
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

typedef enum route_kind {
    ROUTE_PROBE, /* without the token */
    ROUTE_PLAIN,
    ROUTE_WORK,  /* its body is large, and others wait for its turn */
} route_kind;

typedef struct route {
    const char *method, *path;
    void (*run)(pil_exchange *x);
    route_kind kind;
} route;

/* A path has all its methods side by side: the first of them is named by "allow". */
static const route routes[] = {
    {"GET", "/", root, ROUTE_PLAIN},
    {"HEAD", "/", root, ROUTE_PLAIN},
    {"GET", "/health", pil_sidecar_health, ROUTE_PROBE},
    {"HEAD", "/health", pil_sidecar_health, ROUTE_PROBE},
    {"GET", "/livez", livez, ROUTE_PROBE},
    {"HEAD", "/livez", livez, ROUTE_PROBE},
    {"GET", "/readyz", readyz, ROUTE_PROBE},
    {"HEAD", "/readyz", readyz, ROUTE_PROBE},
    {"GET", "/info", pil_sidecar_info, ROUTE_PLAIN},
    {"POST", "/embed", pil_sidecar_embed, ROUTE_WORK},
    {"POST", "/embed-file", pil_sidecar_embed_file, ROUTE_WORK},
    {"POST", "/ocr/detect", pil_sidecar_ocr_detect, ROUTE_WORK},
    {"POST", "/ocr/extract", pil_sidecar_ocr_extract, ROUTE_WORK},
    {"GET", "/shutdown", pil_sidecar_shutdown, ROUTE_PLAIN},
};
#define N_ROUTES (sizeof routes / sizeof *routes)

/* ── What is asked ──────────────────────────────────────────────────────────────────────────────────────────── */

/* The path with %xx decoded; false when it is too long to be one of ours or holds NUL. */
static bool decode_path(const char *path, char *out) {
    size_t n = 0;
    for (; *path; path++, n++) {
        if (n + 1 == PATH_BYTES_MAX) return false;
        int byte = *path == '%' ? pil_hex_byte(path + 1) : -1;
        out[n] = byte >= 0 ? (char)byte : *path;
        if (out[n] == '\0') return false;
        if (byte >= 0) path += 2;
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

/* ── The door ───────────────────────────────────────────────────────────────────────────────────────────────── */

/* What stands between a request and its handler. */
typedef enum gate {
    GATE_OPEN,
    GATE_ACCESS,    /* status and why */
    GATE_PREFLIGHT, /* a browser asks whether it may ask */
    GATE_TOKEN,
    GATE_PATH, /* not found, or to be redirected */
    GATE_METHOD,
    GATE_CODING, /* a compressed body */
    GATE_CLOSED, /* nobody computes */
    GATE_QUEUE,  /* too much waits to be computed */
    GATE_FULL,   /* too much is in memory */
} gate;

typedef struct passage {
    gate at;
    unsigned status;
    const char *why;
    const route *route, *same_path;
    char decoded[PATH_BYTES_MAX];
} passage;

/* Whether a large body would most likely be read for nothing: only texts that are cut can make it a small job. */
static bool is_queue_full(const pil_exchange *x) {
    return !x->body_read && x->request->declared_bytes > SMALL_BODY_MAX &&
           pil_pool_is_full(x->server->pool, pil_conn_client(x->conn), SMALL_BODY_MAX);
}

static bool is_coded(const pil_exchange *x) {
    const char *coding = pil_http_parser_header(x->parser, "content-encoding", NULL);
    return coding && strcasecmp(coding, "identity") != 0;
}

static void look(const pil_exchange *x, passage *p) {
    *p = (passage){.at = GATE_ACCESS};
    p->status = pil_access_check(x, &p->why);
    if (p->status) return;
    if (decode_path(x->request->path, p->decoded)) p->route = find(x->request->method, p->decoded, &p->same_path);
    bool asks = strcmp(x->request->method, "OPTIONS") == 0 && pil_access_origin(x) &&
                pil_http_parser_header(x->parser, "access-control-request-method", NULL);
    if (asks) p->at = GATE_PREFLIGHT;
    else if (!(p->route && p->route->kind == ROUTE_PROBE) && !pil_access_has_token(x)) p->at = GATE_TOKEN;
    else if (!p->route) p->at = p->same_path ? GATE_METHOD : GATE_PATH;
    else if (p->route->kind == ROUTE_WORK && is_coded(x)) p->at = GATE_CODING;
    else if (p->route->kind == ROUTE_WORK && pil_sidecar_refuses(pil_pool_info_of(x->server->pool)))
        p->at = GATE_CLOSED;
    else if (p->route->kind == ROUTE_WORK && is_queue_full(x)) p->at = GATE_QUEUE;
    else if (p->route->kind == ROUTE_WORK && !pil_conn_has_room(x->conn)) p->at = GATE_FULL;
    else p->at = GATE_OPEN;
}

size_t pil_route_body_max(const pil_exchange *x) {
    passage p;
    look(x, &p);
    return p.at == GATE_OPEN && p.route->kind == ROUTE_WORK ? PIL_LIMIT_BODY_BYTES : SMALL_BODY_MAX;
}

bool pil_route_refuses(const pil_exchange *x) {
    passage p;
    look(x, &p);
    return p.at != GATE_OPEN && p.at != GATE_PREFLIGHT;
}

/* Answers a browser that asks for a page of an allowed origin; answer.c adds who that is. */
static void preflight(pil_exchange *x) {
    bool is_private = pil_http_parser_header(x->parser, "access-control-request-private-network", NULL) != NULL;
    char headers[320];
    snprintf(headers, sizeof headers,
             "access-control-allow-methods: GET, HEAD, POST\r\n"
             "access-control-allow-headers: authorization, content-type, x-pillion-partial\r\n"
             "access-control-max-age: 600\r\n%s",
             is_private ? "access-control-allow-private-network: true\r\n" : "");
    pil_buf none;
    pil_buf_init(&none, 1);
    pil_answer_send(x, 200, NULL, &none, headers);
}

static void send_detail(pil_exchange *x, unsigned status, const char *detail, const char *headers) {
    pil_buf body;
    pil_buf_init(&body, PIL_KIB);
    pil_buf_printf(&body, "{\"detail\":\"%s\"}", detail);
    pil_answer_send(x, status, "application/json", &body, headers);
}

void pil_route_run(pil_exchange *x) {
    passage p;
    char allow[64];
    look(x, &p);
    switch (p.at) {
    case GATE_OPEN: p.route->run(x); return;
    case GATE_ACCESS: send_detail(x, p.status, p.why, NULL); return;
    case GATE_PREFLIGHT: preflight(x); return;
    case GATE_TOKEN:
        send_detail(x, 401, "This server asks for a token: Authorization: Bearer TOKEN",
                    pil_http_parser_header(x->parser, "authorization", NULL)
                        ? "www-authenticate: Bearer realm=\"pillion\", error=\"invalid_token\"\r\n"
                        : "www-authenticate: Bearer realm=\"pillion\"\r\n");
        return;
    case GATE_PATH:
        if (!redirect(x, p.decoded)) send_detail(x, 404, "Not Found", NULL);
        return;
    case GATE_METHOD:
        snprintf(allow, sizeof allow, "allow: %s\r\n", p.same_path->method);
        send_detail(x, 405, "Method Not Allowed", allow);
        return;
    case GATE_CODING:
        send_detail(x, 415, "Content-Encoding is not understood: send the body as it is",
                    "accept-encoding: identity\r\n");
        return;
    case GATE_CLOSED:
        pil_answer_busy(x, pil_pool_retry_after_ms(x->server->pool), "Model not loaded");
        return;
    case GATE_QUEUE: pil_answer_busy(x, pil_pool_retry_after_ms(x->server->pool), PIL_QUEUE_FULL); return;
    case GATE_FULL: pil_answer_busy(x, 1000, PIL_TOO_MUCH); return;
    }
}
