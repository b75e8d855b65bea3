/* extract.c - the child that reads one document: its arguments, its own cage, and its one answer.
 *
 * Flow:       arguments -> tools found -> cage (PIL_SANDBOX_SUPERVISOR) -> text, detection or recognition -> JSON.
 * Invariants: (1) not a byte of the document is read before the cage holds. (2) exactly one JSON object is written,
 *             whatever happens; a half one is never begun, since it is built in memory under a ceiling. (3) an error
 *             text holds words of ours and numbers, nothing of the document.
 * Processes:  this one starts tools one after another (tool.c) and never has more than one.
 * Not here:   chunk.c (pure), pdf.c, ocr.c. Tests: tests/extract/test_extract.c. */
#include "extract/extract.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/file.h"
#include "base/json.h"
#include "base/limits.h"
#include "extract/extract_int.h"

/* ── Codes and types ────────────────────────────────────────────────────────────────────────────────────────── */

#define PIL_EXTRACT_CODE_NAME(name, text) text,
static const char *const code_names[] = {PIL_EXTRACT_CODE_MAP(PIL_EXTRACT_CODE_NAME)};
#undef PIL_EXTRACT_CODE_NAME

const char *pil_extract_code_name(pil_extract_code code) {
    return code < PIL_EXTRACT_CODE_COUNT ? code_names[code] : code_names[PIL_EXTRACT_INTERNAL];
}

pil_extract_code pil_extract_code_of(const char *name) {
    for (int i = 0; name && i < PIL_EXTRACT_CODE_COUNT; i++)
        if (strcmp(name, code_names[i]) == 0) return (pil_extract_code)i;
    return PIL_EXTRACT_INTERNAL;
}

const char *pil_extract_type_of(const char *path) {
    size_t n = strlen(path);
    if (n >= 4 && strcasecmp(path + n - 4, ".pdf") == 0) return "pdf";
    if (n >= 4 && strcasecmp(path + n - 4, ".txt") == 0) return "txt";
    return NULL;
}

bool pil_fault_set(pil_fault *fault, pil_extract_code code, const char *fmt, ...) {
    va_list ap;
    va_start(ap, fmt);
    fault->code = code;
    vsnprintf(fault->text, sizeof fault->text, fmt, ap);
    va_end(ap);
    return false;
}

/* ── Arguments ──────────────────────────────────────────────────────────────────────────────────────────────── */

typedef enum work { WORK_TXT, WORK_PDF, WORK_DETECT, WORK_RECOGNISE } work;

typedef struct request {
    work work;
    const char *language; /* of the recogniser */
    bool fast;
    uint64_t timeout_ms;
} request;

static bool parse_timeout(const char *value, uint64_t *ms, pil_fault *fault) {
    char *end;
    errno = 0;
    unsigned long long n = strtoull(value, &end, 10);
    if (errno || end == value || *end || *value == '-' || n == 0 || n > PIL_LIMIT_OCR_MS)
        return pil_fault_set(fault, PIL_EXTRACT_USAGE, "--timeout-ms must be a number from 1 to %d", PIL_LIMIT_OCR_MS);
    *ms = n;
    return true;
}

static bool parse_work(request *r, int n, char **words, pil_fault *fault) {
    if (n == 2 && strcmp(words[0], "text") == 0 && strcmp(words[1], "txt") == 0) return r->work = WORK_TXT, true;
    if (n == 2 && strcmp(words[0], "text") == 0 && strcmp(words[1], "pdf") == 0) return r->work = WORK_PDF, true;
    if (n == 1 && strcmp(words[0], "ocr-detect") == 0) return r->work = WORK_DETECT, true;
    if (n != 3 || strcmp(words[0], "ocr-extract") != 0)
        return pil_fault_set(
            fault, PIL_EXTRACT_USAGE,
            "usage: --role=extract [--timeout-ms=N] text pdf|txt | ocr-detect | ocr-extract LANGUAGE LEVEL");
    r->work = WORK_RECOGNISE;
    r->fast = strcmp(words[2], "fast") == 0;
    if (!r->fast && strcmp(words[2], "accurate") != 0)
        return pil_fault_set(fault, PIL_EXTRACT_USAGE, "the level must be accurate or fast");
    r->language = pil_ocr_language(words[1]);
    return r->language || pil_fault_set(fault, PIL_EXTRACT_LANGUAGE, "tesseract knows no such language");
}

static bool parse_request(request *r, int argc, char **argv, pil_fault *fault) {
    static const char timeout[] = "--timeout-ms=", role[] = "--role=extract";
    *r = (request){0};
    int at = 1;
    for (; at < argc && strncmp(argv[at], "--", 2) == 0; at++) {
        if (strcmp(argv[at], role) == 0) continue;
        if (strncmp(argv[at], timeout, sizeof timeout - 1) != 0)
            return pil_fault_set(fault, PIL_EXTRACT_USAGE, "unknown option");
        if (!parse_timeout(argv[at] + sizeof timeout - 1, &r->timeout_ms, fault)) return false;
    }
    if (!parse_work(r, argc - at, argv + at, fault)) return false;
    uint64_t ceiling = r->work == WORK_RECOGNISE ? PIL_LIMIT_OCR_MS : PIL_LIMIT_EXTRACT_MS;
    if (r->timeout_ms == 0 || r->timeout_ms > ceiling) r->timeout_ms = ceiling;
    return true;
}

/* ── The document ───────────────────────────────────────────────────────────────────────────────────────────── */

static bool check_document(int document, pil_fault *fault) {
    struct stat s;
    int flags = fcntl(document, F_GETFL);
    if (flags < 0 || fstat(document, &s) != 0 || !S_ISREG(s.st_mode))
        return pil_fault_set(fault, PIL_EXTRACT_UNREADABLE, "the document is not a regular file");
    if ((flags & O_ACCMODE) != O_RDONLY)
        return pil_fault_set(fault, PIL_EXTRACT_USAGE, "the document must be open for reading only");
    if ((uint64_t)s.st_size <= PIL_LIMIT_DOCUMENT_BYTES) return true;
    return pil_fault_set(fault, PIL_EXTRACT_TOO_LARGE, "the document has %" PRIu64 " bytes, the limit is %zu",
                         (uint64_t)s.st_size, PIL_LIMIT_DOCUMENT_BYTES);
}

/* A text file is one page, kept as it is but for the bytes that are no UTF-8. */
static bool read_txt(const pil_extraction *x, pil_pages *out, pil_fault *fault) {
    *out = (pil_pages){0};
    pil_buf_init(&out->text, PIL_LIMIT_DOCUMENT_TEXT + 1);
    for (;;) {
        size_t room = out->text.limit - out->text.len, want = room < PIL_MIB ? room : PIL_MIB;
        char *at = want > 0 ? pil_buf_reserve(&out->text, want) : NULL;
        if (out->text.failed) return pil_fault_set(fault, PIL_EXTRACT_INTERNAL, "out of memory");
        if (!at)
            return pil_fault_set(fault, PIL_EXTRACT_TOO_LARGE, "the text has more than %zu bytes",
                                 PIL_LIMIT_DOCUMENT_TEXT);
        ssize_t n = pread(x->document, at, want, (off_t)out->text.len);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0)
            return pil_fault_set(fault, PIL_EXTRACT_UNREADABLE, "the document cannot be read: %s", strerror(errno));
        if (n == 0) break;
        out->text.len += (size_t)n;
        if (pil_clock_ns() >= x->deadline_ns)
            return pil_fault_set(fault, PIL_EXTRACT_TIMEOUT, "not read by the deadline");
    }
    out->pages = calloc(1, sizeof *out->pages);
    if (!out->pages) return pil_fault_set(fault, PIL_EXTRACT_INTERNAL, "out of memory");
    out->n = 1;
    if (out->text.len > 0) out->text.len = pil_text_drop_invalid(out->text.bytes, out->text.len);
    out->pages[0].bytes = out->text.len;
    return true;
}

/* ── The answer ─────────────────────────────────────────────────────────────────────────────────────────────── */

static const char *page_text(const pil_pages *p, size_t i) {
    return p->pages[i].bytes > 0 ? p->text.bytes + p->pages[i].offset : "";
}

static void put_text(pil_buf *out, const pil_pages *p) {
    pil_buf joined;
    pil_buf_init(&joined, PIL_LIMIT_DOCUMENT_TEXT + 2 * PIL_LIMIT_DOCUMENT_PAGES);
    for (size_t i = 0; i < p->n; i++) {
        if (i > 0) pil_buf_puts(&joined, "\n\n");
        pil_buf_append(&joined, page_text(p, i), p->pages[i].bytes);
    }
    if (joined.failed) out->failed = joined.failed;
    pil_buf_puts(out, "\"text\":");
    pil_json_put_string(out, joined.len ? joined.bytes : "", joined.len);
    pil_buf_putc(out, ',');
    pil_buf_deinit(&joined);
}

static void put_pages(pil_buf *out, const pil_pages *p) {
    pil_buf_puts(out, "\"pages\":[");
    for (size_t i = 0; i < p->n; i++) {
        if (i > 0) pil_buf_putc(out, ',');
        pil_json_put_string(out, page_text(p, i), p->pages[i].bytes);
    }
    pil_buf_puts(out, "],");
    const char *before = "\"failed_pages\":[";
    bool any = false;
    for (size_t i = 0; i < p->n; i++) {
        if (!p->pages[i].failed) continue;
        pil_buf_printf(out, "%s%zu", before, i + 1);
        before = ",";
        any = true;
    }
    if (any) pil_buf_puts(out, "],");
}

static double mean_confidence(const pil_pages *p) {
    double sum = 0;
    for (size_t i = 0; i < p->n; i++) sum += p->pages[i].confidence;
    return p->n ? sum / (double)p->n : 0;
}

static void put_result(pil_buf *out, const request *r, const pil_extraction *x, const pil_pages *p) {
    char line[PIL_SANDBOX_LINE];
    pil_buf_putc(out, '{');
    if (r->work == WORK_DETECT) pil_buf_printf(out, "\"is_scanned\":%s,", pil_pdf_is_scanned(p) ? "true" : "false");
    if (r->work == WORK_RECOGNISE) put_text(out, p);
    if (r->work != WORK_DETECT) put_pages(out, p);
    if (r->work == WORK_RECOGNISE) pil_buf_printf(out, "\"confidence\":%.4f,", mean_confidence(p));
    pil_buf_printf(out, "\"page_count\":%zu,\"sandbox\":\"%s\"}", p->n,
                   pil_sandbox_describe(&x->cage, line, sizeof line));
}

static void put_fault(pil_buf *out, const pil_fault *fault) {
    pil_buf_printf(out, "{\"error\":{\"code\":\"%s\",\"text\":", pil_extract_code_name(fault->code));
    size_t n = strlen(fault->text);
    pil_json_put_string(out, fault->text, n);
    if (fault->package[0]) pil_buf_printf(out, ",\"package\":\"%s\"", fault->package);
    pil_buf_puts(out, "}}");
}

/* ── The work ───────────────────────────────────────────────────────────────────────────────────────────────── */

/* A file without a name, for bitmaps. Made before the cage, which lets no file be made. */
static int make_image(void) {
#ifdef __linux__
    int fd = memfd_create("page", MFD_CLOEXEC);
    if (fd >= 0) return fd;
#endif
    char path[] = "/tmp/pillion-page-XXXXXX";
    int file = mkstemp(path);
    if (file >= 0) unlink(path);
    return file;
}

/* What is prepared before the cage closes. */
typedef struct preparation {
    request request;
    pil_extraction x;
    int image; /* -1 unless there is something to recognise */
} preparation;

static bool prepare(preparation *p, int document, int argc, char **argv, pil_fault *fault) {
    *p = (preparation){.image = -1, .x.document = document};
    if (!parse_request(&p->request, argc, argv, fault)) return false;
    p->x.deadline_ns = pil_clock_ns() + p->request.timeout_ms * 1000000u;
    pil_tools_find(&p->x.tools, getenv("PATH"));
    if (p->request.work != WORK_RECOGNISE) return true;
    p->image = make_image();
    return p->image >= 0 || pil_fault_set(fault, PIL_EXTRACT_INTERNAL, "no file for bitmaps: %s", strerror(errno));
}

static bool do_work(preparation *p, pil_pages *pages, pil_fault *fault) {
    if (!check_document(p->x.document, fault)) return false;
    switch (p->request.work) {
    case WORK_TXT: return read_txt(&p->x, pages, fault);
    case WORK_PDF:
    case WORK_DETECT: return pil_pdf_text(&p->x, pages, fault);
    case WORK_RECOGNISE: return pil_ocr_text(&p->x, p->image, p->request.language, p->request.fast, pages, fault);
    }
    return false;
}

/* Ends the preparation and answers; ok is false when the fault is already known. */
static int finish(preparation *p, bool ok, pil_buf *out, pil_fault *fault) {
    pil_pages pages = {0};
    if (ok) ok = do_work(p, &pages, fault);
    if (ok) put_result(out, &p->request, &p->x, &pages);
    pil_pages_deinit(&pages);
    if (p->image >= 0) close(p->image);
    if (ok && out->failed)
        ok = out->failed == PILLION_E_LIMIT
                 ? pil_fault_set(fault, PIL_EXTRACT_TOO_LARGE, "the answer has more than %zu bytes", out->limit)
                 : pil_fault_set(fault, PIL_EXTRACT_INTERNAL, "out of memory");
    if (ok) return 0;
    pil_buf_clear(out);
    put_fault(out, fault);
    return 1;
}

int pil_extract_run(pil_buf *out, int document, int argc, char **argv) {
    pil_fault fault = {.code = PIL_EXTRACT_INTERNAL};
    preparation p;
    bool ok = prepare(&p, document, argc, argv, &fault);
    return finish(&p, ok, out, &fault);
}

/* ── The child ──────────────────────────────────────────────────────────────────────────────────────────────── */

static bool cage_self(preparation *p, pil_fault *fault) {
    pil_tool_paths paths;
    pil_sandbox_policy policy;
    pillion_error err = {0};
    pil_sandbox_policy_init(&policy, PIL_SANDBOX_SUPERVISOR);
    if (p->request.work != WORK_TXT) {
        pil_tool_paths_of(&paths, &p->x.tools, PIL_TOOL_PDFINFO, PIL_TOOL_TESSERACT);
        policy.read_paths = paths.read;
        policy.n_read_paths = paths.n_read;
        policy.exec_paths = paths.exec;
        policy.n_exec_paths = paths.n_exec;
    }
    pillion_status st = pil_sandbox_apply(&policy, &p->x.cage, &err);
    return !st || pil_fault_set(fault, PIL_EXTRACT_SANDBOX, "%s", err.text);
}

/* A parent that died before pil_child_begin() takes nobody along; but then nobody reads our answer either. Its process
 * id would not tell, since whoever adopts us may have any. */
static bool is_forsaken(void) {
    struct pollfd answer = {.fd = STDOUT_FILENO};
    return poll(&answer, 1, 0) > 0 && (answer.revents & (POLLERR | POLLHUP));
}

/* Whatever the parent left open or arranged: descriptors 0 to 2 exist, no other does, and this process ends with its
 * parent, but not by the signals that the parent is told to end with: it lets us finish. */
static void settle(void) {
    for (int fd = 0; fd < 3; fd++)
        if (fcntl(fd, F_GETFD) < 0 && open("/dev/null", O_RDWR) != fd) _exit(1);
    pil_child_close_from(3, false);
    pil_child_begin();
    if (is_forsaken()) _exit(1);
    pil_child_give_way(PIL_CHILD_NICE); /* and with us the tools: one-line queries go before any document */
    signal(SIGPIPE, SIG_IGN);
    signal(SIGCHLD, SIG_DFL);
}

int pil_extract_main(int argc, char **argv) {
    pil_fault fault = {.code = PIL_EXTRACT_INTERNAL};
    pil_buf answer;
    settle();
    pil_buf_init(&answer, PIL_LIMIT_EXTRACT_RESULT);
    preparation p;
    bool ok = prepare(&p, STDIN_FILENO, argc, argv, &fault);
    if (ok) ok = cage_self(&p, &fault);
    int status = finish(&p, ok, &answer, &fault);
    if (!pil_file_write_all(STDOUT_FILENO, answer.bytes, answer.len)) status = 1;
    pil_buf_deinit(&answer);
    return status;
}
