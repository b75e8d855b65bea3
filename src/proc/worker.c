/* worker.c - what runs inside the children: the worker's loop, and the compiling of a model directory.
 *
 * Flow:    open_model() -> enter_cage() -> the canary text gives the vector it had when the model was compiled ->
 *          READY -> serve(): request frame in, reply frame out, until the socket ends. Blocking reads and writes, one
 *          thread, no event loop.
 * Memory:  one buffer for what comes, one for what goes, one arena for decoded requests; all are reused, and given back
 *          after an unusually large request.
 * Tests:   tests/proc/test_worker.c, tests/http/test_server.py. */
#include <errno.h>
#ifdef __GLIBC__
#include <malloc.h>
#endif
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#ifdef __linux__
#include <sys/prctl.h>
#endif

#include "base/err.h"
#include "base/json.h"
#include "base/limits.h"
#include "proc/frame.h"
#include "proc/proc.h"
#include "sandbox/sandbox.h"

#define KEEP_BYTES (4 * PIL_MIB) /* buffers larger than this are given back after a request */
#define LARGE_BLOCK_BYTES (128 * PIL_KIB)
#define ARENA_BYTES_MAX (512 * PIL_MIB)

typedef struct worker {
    pillion_model *model;
    pillion_session *session;
    int fd;
    pil_buf in, out;
    pil_arena arena;
    char sandbox[PIL_SANDBOX_LINE];
} worker;

void pil_return_large_blocks(void) {
#ifdef __GLIBC__
    mallopt(M_MMAP_THRESHOLD, (int)LARGE_BLOCK_BYTES);
#endif
}

void pil_child_begin(void) {
#ifdef __linux__
    prctl(PR_SET_PDEATHSIG, SIGKILL);
#endif
    signal(SIGINT, SIG_IGN);
    signal(SIGTERM, SIG_IGN);
    signal(SIGHUP, SIG_IGN);
}

/* ── Bytes ──────────────────────────────────────────────────────────────────────────────────────────────────── */

static bool write_all(int fd, const char *bytes, size_t n) {
    while (n > 0) {
        ssize_t w = write(fd, bytes, n);
        if (w < 0 && errno == EINTR) continue;
        if (w <= 0) return false;
        bytes += w;
        n -= (size_t)w;
    }
    return true;
}

/* False at the end of the stream, or when it fails. */
static bool read_all(int fd, char *bytes, size_t n) {
    while (n > 0) {
        ssize_t r = read(fd, bytes, n);
        if (r < 0 && errno == EINTR) continue;
        if (r <= 0) return false;
        bytes += r;
        n -= (size_t)r;
    }
    return true;
}

static bool send_out(worker *w) {
    bool ok = !w->out.failed && write_all(w->fd, w->out.bytes, w->out.len);
    pil_buf_clear(&w->out);
    if (w->out.cap > KEEP_BYTES) pil_buf_deinit(&w->out);
    return ok;
}

/* ── Start ──────────────────────────────────────────────────────────────────────────────────────────────────── */

static pillion_status open_model(worker *w, const pil_worker_options *opt, pillion_error *err) {
    pillion_model_options options;
    pillion_model_options_init(&options);
    options.precision = opt->precision;
    pillion_status st = opt->file ? pillion_model_open(&w->model, opt->file, &options, err)
                                  : pillion_model_open_memory(&w->model, opt->memory, opt->memory_bytes, err);
    return st ? st : pillion_session_create(&w->session, w->model, NULL, err);
}

static pillion_status enter_cage(worker *w, pillion_error *err) {
    pil_sandbox_policy policy;
    pil_sandbox_report report;
    pil_sandbox_policy_init(&policy, PIL_SANDBOX_WORKER);
    pillion_status st = pil_sandbox_apply(&policy, &report, err);
    if (!st) pil_sandbox_describe(&report, w->sandbox, sizeof w->sandbox);
    return st;
}

static bool say_ready(worker *w) {
    const pillion_item *item;
    if (pillion_run(w->session, PILLION_OP_INFO, NULL, 0, NULL, &item, NULL) || item->status) return false;
    pil_frame_put_ready(&w->out, pillion_model_info(w->model), item->text, item->text_bytes, w->sandbox);
    return send_out(w);
}

/* ── Requests ───────────────────────────────────────────────────────────────────────────────────────────────── */

/* Answers one request. False when the server does not keep to the format, or is gone. */
static bool answer(worker *w, uint64_t id, size_t payload_bytes) {
    pil_frame_request r;
    const pillion_item *items = NULL;
    pillion_status st = pil_frame_get_request(&r, &w->arena, w->in.bytes, payload_bytes, NULL);
    if (st == PILLION_E_FORMAT) return false;
    if (!st) st = pillion_run(w->session, r.op, r.inputs, r.n, &r.options, &items, NULL);
    pil_frame_put_reply(&w->out, id, st, items, st ? 0 : r.n);
    if (w->out.failed) { /* vectors beyond any frame: say so instead */
        pil_buf_clear(&w->out);
        pil_frame_put_reply(&w->out, id, PILLION_E_LIMIT, NULL, 0);
    }
    return send_out(w);
}

static int serve(worker *w) {
    for (;;) {
        char head[PIL_FRAME_HEADER_BYTES];
        if (!read_all(w->fd, head, sizeof head)) return 0;
        pil_frame_header h;
        if (pil_frame_get_header(&h, head, PIL_LIMIT_FRAME_BYTES, NULL) || h.type != PIL_FRAME_REQUEST) return 1;
        pil_buf_clear(&w->in);
        if (!pil_buf_reserve(&w->in, h.payload_bytes)) return 1;
        if (!read_all(w->fd, w->in.bytes, h.payload_bytes)) return 0;
        if (!answer(w, h.id, h.payload_bytes)) return 1;
        pil_arena_reset(&w->arena);
        if (w->arena.used > KEEP_BYTES) pil_arena_deinit(&w->arena);
        if (w->in.cap > KEEP_BYTES) pil_buf_deinit(&w->in);
    }
}

int pil_worker_main(const pil_worker_options *opt) {
    pil_return_large_blocks();
    worker w = {.fd = opt->fd, .sandbox = "none"};
    pillion_error err = {0};
    pil_buf_init(&w.in, PIL_LIMIT_FRAME_BYTES);
    pil_buf_init(&w.out, PIL_LIMIT_FRAME_BYTES + PIL_FRAME_HEADER_BYTES);
    pil_arena_init(&w.arena, ARENA_BYTES_MAX);
    pillion_status st = open_model(&w, opt, &err);
    if (!st && opt->cage) st = enter_cage(&w, &err);
    if (!st) st = pillion_model_check(w.model, &err);
    int status = 1;
    if (st) {
        pil_err_set(&err, st, "%s", pillion_status_text(st));
        pil_frame_put_failed(&w.out, &err);
        send_out(&w);
    } else if (say_ready(&w)) {
        status = serve(&w);
    }
    pillion_session_destroy(w.session);
    pillion_model_close(w.model);
    pil_buf_deinit(&w.in);
    pil_buf_deinit(&w.out);
    pil_arena_deinit(&w.arena);
    return status;
}

/* ── Preparing a model ──────────────────────────────────────────────────────────────────────────────────────── */

static void report(uint64_t done, uint64_t total, void *ud) {
    char line[96];
    int n = snprintf(line, sizeof line, "{\"done\":%llu,\"total\":%llu}\n", (unsigned long long)done,
                     (unsigned long long)total);
    write_all(*(int *)ud, line, (size_t)n);
}

int pil_prepare_main(const char *directory, pillion_precision precision, int fd) {
    pillion_model_options options;
    pillion_model_options_init(&options);
    options.precision = precision;
    options.progress = report;
    options.progress_ud = &fd;
    char path[4096];
    pillion_error err = {0};
    pillion_status st = pillion_prepare(directory, &options, path, sizeof path, &err);
    pil_buf line;
    pil_buf_init(&line, 64 * PIL_KIB);
    if (st) {
        pil_err_set(&err, st, "%s", pillion_status_text(st));
        pil_buf_printf(&line, "{\"error\":{\"status\":%d,\"text\":", (int)st);
        pil_json_put_string(&line, err.text, strlen(err.text));
        pil_buf_puts(&line, "}}\n");
    } else {
        pil_buf_puts(&line, "{\"path\":");
        pil_json_put_string(&line, path, strlen(path));
        pil_buf_puts(&line, "}\n");
    }
    bool ok = !line.failed && write_all(fd, line.bytes, line.len);
    pil_buf_deinit(&line);
    return st || !ok ? 1 : 0;
}
