/* sidecar.c - the protocol of the Python sidecar: /health, /info, /embed, /embed-file, /ocr/…, /shutdown.
 *
 * Flow:    pil_body_read() -> inputs -> pil_pool_submit() -> on_embedded(): vectors as JSON. A file is read by a
 *          child first: open below a root -> pil_document_start() -> cut_chunks() -> on_text(): inputs, and so on.
 * Waiting: while the model is being compiled or mapped, work is held by the pool, and /info by itself; after
 *          PIL_LIMIT_HOLD_MS it is a 503, which the clients of this protocol try again.
 * Source:  the protocol's own answers, measured; tests/http/sidecar_cases.json. What differs on purpose: 501 when a
 *          tool is not installed, 422 with the document's fault where the sidecar said 500, 403 for files nobody has
 *          opened up, HEAD for probes, a word about the content type where that is what is wrong.
 * Tests:   tests/http/test_sidecar.py, tests/http/test_files.py. */
#include <assert.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/limits.h"
#include "base/utf8.h"
#include "http/http_int.h"
#include "http/validate.h"

#define VECTOR_VALUE_BYTES 20          /* that one value of a vector costs: as a float, twice, and written out */
#define DIM_GUESSED 1024               /* while the model is still loading */
#define DOCUMENT_RETRY_MS 5000         /* some documents later */

static const char *const poolings[] = {"mean", "cls", "max", NULL};
static const char *const levels[] = {"accurate", "fast", NULL};

/* normalize, pooling and batch_size are the same everywhere. The model's own pooling is used whatever is asked, as the
 * sidecar does, and batches are cut by tokens. */
#define COMMON_FIELDS                                                                                              \
    {.name = "normalize", .type = PIL_FIELD_BOOL, .fallback = 1},                                                  \
    {.name = "pooling", .type = PIL_FIELD_CHOICE, .choices = poolings, .fallback_text = "mean"},                   \
    {.name = "batch_size", .type = PIL_FIELD_INT, .fallback = 16, .is_above = true, .min = 0, .max = 128}

enum { EMBED_TEXTS, EMBED_NORMALIZE, EMBED_POOLING, EMBED_BATCH_SIZE, EMBED_FIELDS };
static const pil_field embed_fields[EMBED_FIELDS] = {
    {.name = "texts", .type = PIL_FIELD_TEXTS, .required = true},
    COMMON_FIELDS,
};

enum { FILE_PATH, FILE_SIZE, FILE_OVERLAP, FILE_MAX, FILE_NORMALIZE, FILE_POOLING, FILE_BATCH_SIZE, FILE_FIELDS };
static const pil_field file_fields[FILE_FIELDS] = {
    {.name = "path", .type = PIL_FIELD_STRING, .required = true},
    {.name = "chunk_size", .type = PIL_FIELD_INT, .fallback = 800, .is_above = true, .min = 50, .max = 4000},
    {.name = "chunk_overlap", .type = PIL_FIELD_INT, .fallback = 100, .min = 0, .max = 2000},
    {.name = "max_chunks", .type = PIL_FIELD_INT, .fallback = 200, .is_above = true, .min = 0, .max = 10000},
    COMMON_FIELDS,
};

enum { OCR_PATH, OCR_LANGUAGE, OCR_LEVEL, OCR_FIELDS };
static const pil_field ocr_fields[OCR_FIELDS] = {
    {.name = "path", .type = PIL_FIELD_STRING, .required = true},
    {.name = "language", .type = PIL_FIELD_STRING, .fallback_text = "en-US"},
    {.name = "recognition_level", .type = PIL_FIELD_CHOICE, .choices = levels, .fallback_text = "accurate"},
};

static void out_of_memory(pil_exchange *x) { pil_answer_busy(x, 1000, "Out of memory"); }

/* ── Health ─────────────────────────────────────────────────────────────────────────────────────────────────── */

bool pil_sidecar_refuses(const pil_pool_info *info) {
    return info->state == PIL_POOL_FAILED || (info->breaker_open && info->workers_ready == 0);
}

static const char *state_of(const pil_server *s, const pil_pool_info *info) {
    if (s->draining) return "draining";
    switch (info->state) {
    case PIL_POOL_PREPARING: return "loading";
    case PIL_POOL_READY: return info->breaker_open ? "breaker_open" : info->workers_ready ? "ready" : "restarting";
    case PIL_POOL_FAILED: break;
    }
    return "failed";
}

static void put_text(pil_buf *body, const char *name, const char *text) {
    if (*text == '\0') return;
    pil_buf_printf(body, ",\"%s\":", name);
    pil_json_put_string(body, text, pil_utf8_valid(text, strlen(text)));
}

/* What only those are told who may use the server. */
static void put_details(pil_buf *body, const pil_server *s, const pil_pool_info *info) {
    put_text(body, "model", s->model_id);
    if (info->dim) pil_buf_printf(body, ",\"dim\":%u", info->dim);
    put_text(body, "sandbox", info->sandbox);
    pil_sched_load load;
    pil_pool_measure(s->pool, &load);
    pil_buf_printf(body, ",\"device\":\"cpu\",\"state\":\"%s\",\"workers\":%u,\"workers_ready\":%u", state_of(s, info),
                   info->workers + info->express, info->workers_ready);
    pil_buf_printf(body, ",\"deaths\":%llu,\"restarts\":%llu,\"retries\":%llu,\"poisoned\":%llu",
                   (unsigned long long)load.deaths, (unsigned long long)load.restarts,
                   (unsigned long long)load.retries, (unsigned long long)load.texts_poisoned);
    pil_buf_printf(body, ",\"texts_waiting\":%zu,\"connections\":%zu,\"in_flight_bytes\":%zu", load.texts_waiting,
                   s->n_conns, s->in_flight_bytes);
    if (info->state == PIL_POOL_FAILED) put_text(body, "reason", info->error.text);
    else if (info->breaker_open) put_text(body, "reason", info->reason);
    else if (info->state == PIL_POOL_READY && info->workers_ready == 0)
        put_text(body, "reason", "no worker is ready; they are being started again");
}

/* Whether work is taken, for people and for what watches us. "degraded": it is, by fewer workers than there should be,
 * or after a wait. 503 only when it would be refused. Never queued, computes nothing. */
void pil_sidecar_health(pil_exchange *x) {
    const pil_pool_info *info = pil_pool_info_of(x->server->pool);
    bool loaded = info->state == PIL_POOL_READY, refuses = pil_sidecar_refuses(info);
    bool degraded = loaded && (info->workers_ready == 0 || info->breaker_open);
    pil_buf body;
    pil_buf_init(&body, 64 * PIL_KIB);
    pil_buf_printf(&body, "{\"status\":\"%s\",\"model_loaded\":%s,\"model_loading\":%s",
                   refuses ? "failed" : degraded ? "degraded" : "ok", loaded ? "true" : "false",
                   info->state == PIL_POOL_PREPARING ? "true" : "false");
    if (pil_access_has_token(x)) put_details(&body, x->server, info);
    pil_buf_putc(&body, '}');
    pil_answer_send(x, refuses ? 503 : 200, "application/json", &body, refuses ? "retry-after: 10\r\n" : NULL);
}

static void unavailable(pil_exchange *x, bool still_loading) {
    pil_answer_busy(x, still_loading ? 1000 : pil_pool_retry_after_ms(x->server->pool),
                    still_loading ? "Model is still loading, please retry shortly" : "Model not loaded");
}

static void answer_info(pil_exchange *x) {
    const pil_pool_info *info = pil_pool_info_of(x->server->pool);
    if (info->state != PIL_POOL_READY) {
        uint64_t held_ms = pil_loop_now_ms(x->server->loop) - x->started_ms;
        if (info->state == PIL_POOL_FAILED || held_ms >= PIL_LIMIT_HOLD_MS)
            unavailable(x, info->state == PIL_POOL_PREPARING);
        return;
    }
    pil_buf body;
    pil_buf_init(&body, 64 * PIL_KIB);
    pil_buf_puts(&body, "{\"model_id\":");
    pil_json_put_string(&body, x->server->model_id, strlen(x->server->model_id));
    pil_buf_printf(&body, ",\"dim\":%u,\"device\":\"cpu\",\"version\":\"%s\",\"max_input_length\":%u}", info->dim,
                   pillion_version(), info->max_tokens);
    pil_answer_send(x, 200, "application/json", &body, NULL);
}

void pil_sidecar_info(pil_exchange *x) {
    x->waits_for_model = true;
    x->on_model = answer_info;
    answer_info(x);
}

/* ── Vectors ────────────────────────────────────────────────────────────────────────────────────────────────── */

/* The text that is to be named when the request fails as a whole: the first one that fails whenever it is tried, else
 * the first one that failed; pil_job_count() when none did. */
static size_t find_failed(const pil_job *job) {
    size_t n = pil_job_count(job), failed = n;
    for (size_t i = 0; i < n; i++) {
        pillion_status st = pil_job_item(job, i)->status;
        if (st && failed == n) failed = i;
        if (st && !pil_complaint_of(st).again) return i;
    }
    return failed;
}

/* 422 is not tried again by clients, 503 is. */
static void answer_failed(pil_exchange *x, const pil_job *job, size_t index) {
    pil_complaint why = pil_complaint_of(pil_job_item(job, index)->status);
    pil_buf body;
    pil_buf_init(&body, 64 * PIL_KIB);
    pil_validate_put_item(&body, why.code, x->chunks ? "path" : "texts", index, why.words, x->inputs[index].text,
                          x->inputs[index].text_bytes);
    pil_answer_send(x, why.again ? 503 : 422, "application/json", &body, why.again ? "retry-after: 1\r\n" : NULL);
}

static void on_embedded(const pil_job *job, void *ud) {
    pil_exchange *x = ud;
    x->ticket = NULL;
    if (pil_job_ended(job) != PIL_JOB_ANSWERED) {
        unavailable(x, pil_job_ended(job) == PIL_JOB_EXPIRED);
        return;
    }
    size_t failed = find_failed(job);
    const char *partial = pil_http_parser_header(x->parser, "x-pillion-partial", NULL);
    if (failed < pil_job_count(job) && !(partial && strcmp(partial, "1") == 0)) {
        answer_failed(x, job, failed);
        return;
    }
    for (size_t i = 0; i < pil_job_count(job); i++) x->n_truncated += pil_job_item(job, i)->truncated;
    pil_vectors_answer(x, job);
}

static void submit(pil_exchange *x, size_t n) {
    const pil_pool_info *info = pil_pool_info_of(x->server->pool);
    size_t dim = info->dim ? info->dim : DIM_GUESSED, chunk_bytes = 0; /* which are in the answer as well */
    for (size_t i = 0; i < x->n_chunks; i++) chunk_bytes += x->inputs[i].text_bytes;
    if (!pil_exchange_reserve(x, chunk_bytes + n * (sizeof *x->inputs + dim * VECTOR_VALUE_BYTES))) {
        pil_answer_busy(x, 1000, PIL_TOO_MUCH);
        return;
    }
    pillion_run_options options;
    pillion_run_options_init(&options);
    options.normalize = x->normalize ? PILLION_NORMALIZE_ON : PILLION_NORMALIZE_MODEL;
    pillion_error err = {0};
    pillion_status st = pil_pool_submit(x->server->pool, &x->ticket, pil_conn_client(x->conn), PILLION_OP_EMBED,
                                        &options, x->inputs, n, on_embedded, x, &err);
    if (st == PILLION_E_LIMIT)
        pil_answer_busy(x, pil_pool_retry_after_ms(x->server->pool), PIL_QUEUE_FULL);
    else if (st == PILLION_E_NOMEM) out_of_memory(x);
    else if (st) unavailable(x, false);
}

static void embed(pil_exchange *x, const pil_value *v) {
    size_t n = pil_json_count(v[EMBED_TEXTS].texts);
    x->normalize = v[EMBED_NORMALIZE].number != 0;
    x->inputs = calloc(n, sizeof *x->inputs);
    for (size_t i = 0; x->inputs && i < n; i++) {
        x->inputs[i].text = pil_json_string(pil_json_at(v[EMBED_TEXTS].texts, i), &x->inputs[i].text_bytes);
        if (x->inputs[i].text_bytes <= PIL_LIMIT_TEXT_BYTES) continue;
        pil_answer_detail(x, 413, "texts[%zu] has %zu bytes: one text may have %zu at most", i, x->inputs[i].text_bytes,
                          PIL_LIMIT_TEXT_BYTES);
        return;
    }
    if (x->inputs) submit(x, n);
    else out_of_memory(x);
}

void pil_sidecar_embed(pil_exchange *x) { pil_body_read(x, embed_fields, EMBED_FIELDS, embed); }

/* ── Files ──────────────────────────────────────────────────────────────────────────────────────────────────── */

/* Opens the file that a client names. type (nullable) receives "pdf" or "txt", and then no other ending is taken. False
 * when the request is answered already. */
static bool open_file(pil_exchange *x, const pil_value *path, int *fd, const char **type) {
    const pil_roots *roots = pil_access_roots(x->server->access);
    const char *ending = pil_extract_type_of(path->text);
    bool plain = strlen(path->text) == path->text_bytes; /* a NUL within names nothing */
    if (!roots) {
        pil_answer_detail(x, 403,
                          "Reading files is off: start pillion with --files-root FOLDER, or set EMBED_FILE_ROOTS");
        return false;
    }
    pillion_status st = plain ? pil_roots_open_file(roots, path->text, fd) : PILLION_E_ARG;
    if (!st && type && !ending) st = PILLION_E_UNSUPPORTED;
    if (st == PILLION_E_ARG) pil_answer_detail(x, 403, "Only files below a --files-root folder are read, and no links");
    else if (st == PILLION_E_NOT_FOUND)
        pil_answer_detail(x, 404, "File not found: %.*s", PIL_LIMIT_ECHO_BYTES, path->text);
    else if (st == PILLION_E_UNSUPPORTED)
        pil_answer_detail(x, 415, "Unsupported file type: %.*s", PIL_LIMIT_ECHO_BYTES, path->text);
    else if (st) pil_answer_detail(x, 500, "File cannot be read: %.*s", PIL_LIMIT_ECHO_BYTES, path->text);
    if (st && *fd >= 0) close(*fd);
    if (type) *type = ending;
    return st == PILLION_OK;
}

static unsigned status_of(pil_extract_code code) {
    switch (code) {
    case PIL_EXTRACT_NOT_INSTALLED: return 501;
    case PIL_EXTRACT_TOO_LARGE: return 413;
    case PIL_EXTRACT_TIMEOUT: return 504;
    case PIL_EXTRACT_ENCRYPTED:
    case PIL_EXTRACT_UNREADABLE:
    case PIL_EXTRACT_LANGUAGE: return 422;
    case PIL_EXTRACT_USAGE:
    case PIL_EXTRACT_SANDBOX:
    case PIL_EXTRACT_INTERNAL:
    case PIL_EXTRACT_CODE_COUNT: break;
    }
    return 500;
}

/* True when there is a result to go on with. */
static bool is_read(pil_exchange *x, const pil_document_result *r) {
    if (r->json && !r->status) return true;
    if (r->status) out_of_memory(x);
    else if (r->never_began)
        pil_answer_busy(x, DOCUMENT_RETRY_MS, "Too many documents are waiting, please retry shortly");
    else if (r->package && !strstr(r->text, r->package))
        pil_answer_detail(x, status_of(r->code), "%.600s (install the package %.100s)", r->text, r->package);
    else pil_answer_detail(x, status_of(r->code), "%.800s", r->text);
    return false;
}

/* The pages as one text, squashed and cut into chunks. */
static pillion_status cut_chunks(pil_digest *d, const pil_json *json) {
    const pil_json *pages = pil_json_get(json, "pages");
    pil_buf text;
    pil_buf_init(&text, PIL_LIMIT_EXTRACT_RESULT);
    for (size_t i = 0; i < pil_json_count(pages); i++) {
        size_t n;
        const char *page = pil_json_string(pil_json_at(pages, i), &n);
        if (i) pil_buf_putc(&text, '\n');
        pil_buf_append(&text, page, n);
    }
    pillion_status st =
        text.failed ? text.failed : pil_chunk_squash(&d->text, &d->text_bytes, text.bytes, text.len, NULL);
    pil_buf_deinit(&text);
    if (st) return st;
    return pil_chunk_split(&d->chunks, &d->n_chunks, d->text, d->text_bytes, d->chunk_size, d->chunk_overlap,
                           d->max_chunks, NULL);
}

static void on_text(pil_exchange *x, const pil_document_result *r) {
    if (!is_read(x, r)) return;
    x->text = r->digest->text;
    x->chunks = r->digest->chunks;
    x->n_chunks = r->digest->n_chunks;
    r->digest->text = NULL;
    r->digest->chunks = NULL;
    if (x->n_chunks == 0) {
        pil_answer_detail(x, 400, "Empty text extracted");
        return;
    }
    x->inputs = calloc(x->n_chunks, sizeof *x->inputs);
    if (!x->inputs) {
        out_of_memory(x);
        return;
    }
    for (size_t i = 0; i < x->n_chunks; i++)
        x->inputs[i] = (pillion_input){.text = x->text + x->chunks[i].offset, .text_bytes = x->chunks[i].bytes};
    submit(x, x->n_chunks);
}

static void embed_file(pil_exchange *x, const pil_value *v) {
    const char *type;
    int fd = -1;
    if (!open_file(x, &v[FILE_PATH], &fd, &type)) return;
    x->normalize = v[FILE_NORMALIZE].number != 0;
    const pil_document_spec spec = {.args = {"text", type}, .deadline_ms = PIL_LIMIT_EXTRACT_MS, .digest = cut_chunks,
                                    .wanted = {.chunk_size = (size_t)v[FILE_SIZE].number,
                                               .chunk_overlap = (size_t)v[FILE_OVERLAP].number,
                                               .max_chunks = (size_t)v[FILE_MAX].number},
                                    .on_done = on_text};
    if (pil_document_start(x, fd, &spec)) out_of_memory(x);
}

void pil_sidecar_embed_file(pil_exchange *x) { pil_body_read(x, file_fields, FILE_FIELDS, embed_file); }

static void on_detected(pil_exchange *x, const pil_document_result *r) {
    if (!is_read(x, r)) return;
    pil_buf body;
    pil_buf_init(&body, PIL_KIB);
    pil_buf_printf(&body, "{\"is_scanned\":%s,\"page_count\":%lld,\"method\":\"text_extraction\"}",
                   pil_json_bool_or(pil_json_get(r->json, "is_scanned"), false) ? "true" : "false",
                   (long long)pil_json_int_or(pil_json_get(r->json, "page_count"), 0));
    pil_answer_send(x, 200, "application/json", &body, NULL);
}

static pillion_status put_recognised(pil_digest *d, const pil_json *json) {
    const pil_json *text = pil_json_get(json, "text"), *pages = pil_json_get(json, "pages");
    pil_buf body;
    pil_buf_init(&body, PIL_LIMIT_ANSWER_BYTES);
    size_t n;
    const char *s = pil_json_string(text, &n);
    pil_buf_puts(&body, "{\"text\":");
    pil_json_put_string(&body, s ? s : "", n);
    pil_buf_puts(&body, ",\"pages\":[");
    for (size_t i = 0; i < pil_json_count(pages); i++) {
        s = pil_json_string(pil_json_at(pages, i), &n);
        if (i) pil_buf_putc(&body, ',');
        pil_json_put_string(&body, s ? s : "", n);
    }
    pil_buf_printf(&body, "],\"confidence\":%.6g", pil_json_real_or(pil_json_get(json, "confidence"), 0));
    const pil_json *failed = pil_json_get(json, "failed_pages");
    for (size_t i = 0; i < pil_json_count(failed); i++)
        pil_buf_printf(&body, "%s%lld", i ? "," : ",\"failed_pages\":[",
                       (long long)pil_json_int_or(pil_json_at(failed, i), 0));
    pil_buf_puts(&body, pil_json_count(failed) ? "]}" : "}");
    d->body = body;
    return body.failed;
}

static void on_recognised(pil_exchange *x, const pil_document_result *r) {
    if (is_read(x, r)) pil_answer_send(x, 200, "application/json", &r->digest->body, NULL);
}

static void ocr_detect(pil_exchange *x, const pil_value *v) {
    int fd = -1;
    if (!open_file(x, &v[OCR_PATH], &fd, NULL)) return;
    const pil_document_spec spec = {.args = {"ocr-detect"}, .deadline_ms = PIL_LIMIT_EXTRACT_MS,
                                    .on_done = on_detected};
    if (pil_document_start(x, fd, &spec)) out_of_memory(x);
}

void pil_sidecar_ocr_detect(pil_exchange *x) { pil_body_read(x, ocr_fields, 1, ocr_detect); }

/* A language becomes an argument of the child: letters, digits, "-" and "_", and no dash in front. */
static bool is_language(const pil_value *v) {
    if (v->text_bytes == 0 || v->text_bytes > 32 || *v->text == '-') return false;
    return strspn(v->text, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_") == v->text_bytes;
}

static void ocr_extract(pil_exchange *x, const pil_value *v) {
    int fd = -1;
    if (!open_file(x, &v[OCR_PATH], &fd, NULL)) return;
    if (!is_language(&v[OCR_LANGUAGE])) {
        close(fd);
        pil_answer_detail(x, 422, "language must look like \"en-US\" or \"de\"");
        return;
    }
    const pil_document_spec spec = {.args = {"ocr-extract", v[OCR_LANGUAGE].text, v[OCR_LEVEL].text},
                                    .deadline_ms = PIL_LIMIT_OCR_MS, .digest = put_recognised,
                                    .on_done = on_recognised};
    if (pil_document_start(x, fd, &spec)) out_of_memory(x);
}

void pil_sidecar_ocr_extract(pil_exchange *x) { pil_body_read(x, ocr_fields, OCR_FIELDS, ocr_extract); }

/* ── The end ────────────────────────────────────────────────────────────────────────────────────────────────── */

/* A GET that does something: only for programs on this machine. Browsers send one of these headers with everything that
 * a page makes them fetch. */
void pil_sidecar_shutdown(pil_exchange *x) {
    static const char *const browser[] = {"origin", "referer", "sec-fetch-site"};
    bool refused = !pil_conn_is_loopback(x->conn);
    for (size_t i = 0; i < 3; i++) refused = refused || pil_http_parser_header(x->parser, browser[i], NULL);
    if (refused) {
        pil_answer_detail(x, 403, "Shutdown is for programs on this machine");
        return;
    }
    pil_server *s = x->server;
    pil_answer_json(x, 200, "{\"ok\":true}");
    if (s->on_shutdown) s->on_shutdown(s->ud);
}
