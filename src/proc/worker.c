/* worker.c - what runs inside the children: the worker's loop, and the compiling of a model directory.
 *
 * Flow:    open_model() -> enter_cage() -> sing(): the canary text gives the vector that it had when the model was
 *          compiled -> READY -> serve(): request frame in, reply frame out, until the socket ends. Blocking reads and
 *          writes, one thread, no event loop.
 * Memory:  one buffer for what comes, one for what goes, one arena for decoded requests; all are reused, and given back
 *          after an unusually large request.
 * Tests:   tests/proc/test_worker.c, tests/http/test_server.py. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "base/err.h"
#include "base/file.h"
#include "base/heap.h"
#include "base/json.h"
#include "base/limits.h"
#include "proc/fault.h"
#include "proc/frame.h"
#include "proc/page.h"
#include "proc/proc.h"
#include "sandbox/sandbox.h"

#define KEEP_BYTES (4 * PIL_MIB) /* buffers larger than this are given back after a request */
#define ARENA_BYTES_MAX (512 * PIL_MIB)
#define STACK_BYTES PIL_MIB
#define FILES_MAX 16      /* 4 are open in the end; a model is read through 1 more, a cache directory through a few */
#define OOM_SCORE "800" /* of 1000: before the server, and before most of what else runs */

typedef struct worker {
    pillion_model *model;
    pillion_session *session;
    int fd;
    pil_page *page; /* never NULL */
    pil_page unwatched;
    pil_fault fault;
    pil_buf in, out;
    pil_arena arena;
    char sandbox[PIL_SANDBOX_LINE];
} worker;

static void limit(int resource, rlim_t to) {
    struct rlimit now;
    if (getrlimit(resource, &now) != 0 || (now.rlim_max != RLIM_INFINITY && now.rlim_max < to)) return;
    setrlimit(resource, &(struct rlimit){to, to});
}

void pil_worker_begin(int nice) {
    pil_child_begin();
    pil_child_close_from(PIL_WORKER_PAGE_FD + 1, false);
    limit(RLIMIT_CORE, 0);
#ifndef PIL_INSTRUMENTED /* sanitizers want more of both */
    limit(RLIMIT_STACK, STACK_BYTES);
    limit(RLIMIT_NOFILE, FILES_MAX);
#endif
    pil_child_give_way(nice);
#ifdef __linux__
    int fd = open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);
    if (fd < 0) return;
    if (write(fd, OOM_SCORE, strlen(OOM_SCORE)) < 0) errno = 0; /* the server is better served than not started */
    close(fd);
#endif
}

/* ── Bytes ──────────────────────────────────────────────────────────────────────────────────────────────────── */

/* Whether it goes on, or the exit status with which it ends. */
enum { GOES_ON = -1, ENDS = 0, ENDS_BROKEN = 1, ENDS_CUT_OFF = PIL_WORKER_CUT_OFF };

static int read_all(worker *w, char *bytes, size_t n) {
    while (n > 0) {
        ssize_t r = read(w->fd, bytes, n);
        if (r < 0 && errno == EINTR) continue;
        if (r <= 0) return r ? ENDS_CUT_OFF : ENDS;
        pil_page_beat(w->page);
        bytes += r;
        n -= (size_t)r;
    }
    return GOES_ON;
}

static bool send_out(worker *w) {
    bool ok = !w->out.failed && pil_file_write_all(w->fd, w->out.bytes, w->out.len);
    pil_page_beat(w->page);
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

/* What every worker does first is work as well: it has its faults. canary: the vector, in the arena. */
static pillion_status sing(worker *w, const float **canary, pillion_error *err) {
    const pillion_input in = {.text = PILLION_CANARY_TEXT, .text_bytes = sizeof PILLION_CANARY_TEXT - 1};
    const pillion_item *item;
    uint32_t tag = 0;
    pil_frame_request r = {.op = PILLION_OP_EMBED, .inputs = &in, .tags = &tag, .n = 1};
    pil_fault_before(&w->fault, &r);
    pillion_status st = pillion_session_check(w->session, &item, err);
    if (st) return st;
    pil_fault_after(&w->fault, &r, &item);
    float *copy = pil_arena_calloc(&w->arena, pillion_model_info(w->model)->dim, sizeof *copy);
    if (!copy) return pil_err_no_memory(err);
    memcpy(copy, item->values, item->n_values * sizeof *copy);
    *canary = copy;
    return PILLION_OK;
}

static bool say_ready(worker *w, const float *canary) {
    const pillion_item *item;
    if (pillion_run(w->session, PILLION_OP_INFO, NULL, 0, NULL, &item, NULL) || item->status) return false;
    pil_frame_put_ready(&w->out, pillion_model_info(w->model), item->text, item->text_bytes, w->sandbox, canary);
    pil_fault_send(&w->fault, &w->out, w->fd);
    pil_arena_reset(&w->arena);
    return send_out(w);
}

/* ── Requests ───────────────────────────────────────────────────────────────────────────────────────────────── */

/* Answers one request. */
static int answer(worker *w, uint64_t id, size_t payload_bytes) {
    pil_frame_request r = {0};
    const pillion_item *items = NULL;
    pillion_status st = pil_frame_get_request(&r, &w->arena, w->in.bytes, payload_bytes, NULL);
    if (st == PILLION_E_FORMAT) return ENDS_BROKEN;
    if (!st) {
        r.options.cancel = &w->page->cancel[id % PIL_PAGE_CANCELS];
        r.options.heartbeat = &w->page->progress;
        pil_fault_before(&w->fault, &r);
        st = pillion_run(w->session, r.op, r.inputs, r.n, &r.options, &items, NULL);
    }
    if (!st) pil_fault_after(&w->fault, &r, &items);
    pil_frame_put_reply(&w->out, id, st, items, r.tags, st ? 0 : r.n);
    if (w->out.failed) { /* vectors beyond any frame: say so instead */
        pil_buf_clear(&w->out);
        pil_frame_put_reply(&w->out, id, PILLION_E_LIMIT, NULL, NULL, 0);
    }
    pil_fault_send(&w->fault, &w->out, w->fd);
    return send_out(w) ? GOES_ON : ENDS_CUT_OFF;
}

static int serve_one(worker *w) {
    char head[PIL_FRAME_HEADER_BYTES];
    int end = read_all(w, head, sizeof head);
    if (end != GOES_ON) return end;
    pil_frame_header h;
    if (pil_frame_get_header(&h, head, PIL_LIMIT_FRAME_BYTES, NULL) || h.type != PIL_FRAME_REQUEST) return ENDS_BROKEN;
    pil_buf_clear(&w->in);
    if (!pil_buf_reserve(&w->in, h.payload_bytes)) return ENDS_BROKEN;
    end = read_all(w, w->in.bytes, h.payload_bytes);
    if (end == GOES_ON) end = answer(w, h.id, h.payload_bytes);
    pil_arena_reset(&w->arena);
    if (w->arena.used > KEEP_BYTES) pil_arena_deinit(&w->arena);
    if (w->in.cap > KEEP_BYTES) pil_buf_deinit(&w->in);
    return end;
}

static int serve(worker *w) {
    int end;
    do end = serve_one(w);
    while (end == GOES_ON);
    return end;
}

int pil_worker_main(const pil_worker_options *opt) {
    pil_heap_return_large_blocks();
    worker w = {.fd = opt->fd, .sandbox = "none"};
    pillion_error err = {0};
    pil_buf_init(&w.in, PIL_LIMIT_FRAME_BYTES);
    pil_buf_init(&w.out, PIL_LIMIT_FRAME_BYTES + PIL_FRAME_HEADER_BYTES);
    pil_arena_init(&w.arena, ARENA_BYTES_MAX);
    w.page = opt->page_fd > 0 ? pil_page_map(opt->page_fd) : &w.unwatched;
    pillion_status st = w.page ? PILLION_OK : pil_err_set(&err, PILLION_E_NOMEM, "the shared page cannot be mapped");
    if (!st) st = pil_fault_start(&w.fault, w.page, &err);
    if (!st) st = open_model(&w, opt, &err);
    if (!st && opt->cage) st = enter_cage(&w, &err);
    const float *canary = NULL;
    if (!st) st = sing(&w, &canary, &err);
    int status = 1;
    if (st) {
        pil_err_set(&err, st, "%s", pillion_status_text(st));
        pil_frame_put_failed(&w.out, &err);
        send_out(&w);
    } else if (say_ready(&w, canary)) {
        status = serve(&w);
    }
    pillion_session_destroy(w.session);
    pillion_model_close(w.model);
    if (w.page != &w.unwatched) pil_page_unmap(w.page);
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
    pil_file_write_all(*(int *)ud, line, (size_t)n);
}

/* A JSON string as proc.h has it. Source: RFC 3986, section 2.1. */
static void put_path(pil_buf *out, const char *path) {
    pil_buf_putc(out, '"');
    for (; *path; path++) {
        unsigned c = (unsigned char)*path;
        if (c < 0x20 || c > 0x7E || strchr("\"\\%", (int)c)) pil_buf_printf(out, "%%%02X", c);
        else pil_buf_putc(out, *path);
    }
    pil_buf_putc(out, '"');
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
        put_path(&line, path);
        pil_buf_puts(&line, "}\n");
    }
    bool ok = !line.failed && pil_file_write_all(fd, line.bytes, line.len);
    pil_buf_deinit(&line);
    return st || !ok ? 1 : 0;
}
