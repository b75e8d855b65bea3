/* pdf.c - the text that a PDF holds, page by page, through poppler's pdfinfo and pdftotext.
 *
 * pdftotext ends each page with a form feed. One run over the whole document is the rule; when it dies, or when its
 * form feeds are not as many as the pages (a page that could not be read leaves none, a hostile font may map a letter
 * to one), each page is run alone, so that a page is never lost with another and never counted under a wrong number.
 *
 * Both programs read the document from standard input, which they hold in memory: their limit grows with its size.
 * Source of the rule for scans: the sidecar protocol (average length of a page's text below 50).
 * Memory: pil_pages owns everything. Tests: tests/extract/test_extract.c, test_pdf.c. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/limits.h"
#include "base/utf8.h"
#include "extract/extract_int.h"

enum { SCANNED_BELOW = 50 };

void pil_pages_deinit(pil_pages *p) {
    pil_buf_deinit(&p->text);
    free(p->pages);
    *p = (pil_pages){0};
}

static pil_tool_job poppler_job(const pil_extraction *x, pil_tool tool) {
    struct stat s;
    uint64_t held = fstat(x->document, &s) == 0 && s.st_size > 0 ? (uint64_t)s.st_size : 0;
    return (pil_tool_job){.tool = tool,
                          .input = x->document,
                          .output_file = -1,
                          .memory_bytes = PIL_LIMIT_PARSER_MEMORY + held,
                          .file_bytes = 0,
                          .deadline_ns = x->deadline_ns};
}

/* ── How many pages ─────────────────────────────────────────────────────────────────────────────────────────── */

/* The last line "Pages:  12": what stands above it are strings of the document, which may look like one. */
static bool find_page_count(pil_buf *output, size_t *n_pages) {
    const char *text = pil_buf_cstr(output);
    bool found = false;
    for (const char *at = text; at && *at;) {
        unsigned long long n;
        if (strncmp(at, "Pages:", 6) == 0 && sscanf(at + 6, "%llu", &n) == 1) {
            *n_pages = (size_t)n;
            found = true;
        }
        at = strchr(at, '\n');
        if (at) at++;
    }
    return found;
}

static bool judge_info(pil_tool_result *r, size_t *n_pages, pil_fault *fault) {
    if (pil_tool_did_well(r) && find_page_count(&r->output, n_pages)) {
        if (*n_pages <= PIL_LIMIT_DOCUMENT_PAGES) return true;
        return pil_fault_set(fault, PIL_EXTRACT_TOO_LARGE, "the document has %zu pages, the limit is %d", *n_pages,
                             PIL_LIMIT_DOCUMENT_PAGES);
    }
    if (pil_tool_said(r, "Incorrect password"))
        return pil_fault_set(fault, PIL_EXTRACT_ENCRYPTED, "the PDF asks for a password");
    if (r->end == PIL_TOOL_EXITED && pil_tool_said(r, "the last page (0)")) { /* opened, and has none */
        *n_pages = 0;
        return true;
    }
    if (r->end == PIL_TOOL_FLOOD)
        return pil_fault_set(fault, PIL_EXTRACT_UNREADABLE, "the PDF's description has no end");
    if (r->end == PIL_TOOL_KILLED)
        return pil_fault_set(fault, PIL_EXTRACT_UNREADABLE, "the PDF cannot be read within its limits (signal %d)",
                             r->value);
    return pil_fault_set(fault, PIL_EXTRACT_UNREADABLE, "not a PDF, or damaged beyond reading");
}

bool pil_pdf_count(pil_extraction *x, size_t *n_pages, pil_fault *fault) {
    pil_tool_job job = poppler_job(x, PIL_TOOL_PDFINFO);
    job.args[0] = "-";
    pil_tool_result r;
    pil_buf_init(&r.output, PIL_LIMIT_TOOL_WORDS);
    *n_pages = 0;
    pil_tool_run(x, &job, &r);
    bool ok = pil_tool_check(&job, &r, fault) && judge_info(&r, n_pages, fault);
    pil_buf_deinit(&r.output);
    pil_buf_deinit(&r.words);
    return ok;
}

/* ── Their text ─────────────────────────────────────────────────────────────────────────────────────────────── */

/* Takes the piece as page number `index`; the piece is changed in place. */
static bool add_page(pil_pages *out, size_t index, char *piece, size_t n, pil_fault *fault) {
    const char *text = piece;
    n = pil_text_drop_invalid(piece, n);
    pil_text_trim(&text, &n);
    out->pages[index] = (pil_page){.offset = out->text.len, .bytes = n};
    switch (pil_buf_append(&out->text, text, n)) {
    case PILLION_OK: return true;
    case PILLION_E_NOMEM: return pil_fault_set(fault, PIL_EXTRACT_INTERNAL, "out of memory");
    default: break;
    }
    return pil_fault_set(fault, PIL_EXTRACT_TOO_LARGE, "the document has more than %zu bytes of text",
                         PIL_LIMIT_DOCUMENT_TEXT);
}

/* Runs pdftotext over pages first to last (from 1). True when it ran to its end, well or not. */
static bool run_text(pil_extraction *x, size_t first, size_t last, pil_tool_result *r, pil_fault *fault) {
    char from[24], to[24];
    snprintf(from, sizeof from, "%zu", first);
    snprintf(to, sizeof to, "%zu", last);
    const char *args[] = {"-q", "-enc", "UTF-8", "-eol", "unix", "-f", from, "-l", to, "-", "-"};
    pil_tool_job job = poppler_job(x, PIL_TOOL_PDFTOTEXT);
    memcpy(job.args, args, sizeof args);
    pil_buf_init(&r->output, PIL_LIMIT_DOCUMENT_TEXT);
    pil_tool_run(x, &job, r);
    if (!pil_tool_check(&job, r, fault)) return false;
    if (r->end != PIL_TOOL_FLOOD) return true;
    return pil_fault_set(fault, PIL_EXTRACT_TOO_LARGE, "the document has more than %zu bytes of text",
                         PIL_LIMIT_DOCUMENT_TEXT);
}

static void end_text(pil_tool_result *r) {
    pil_buf_deinit(&r->output);
    pil_buf_deinit(&r->words);
}

static size_t count_form_feeds(const pil_buf *b) {
    size_t n = 0;
    for (size_t i = 0; i < b->len; i++) n += b->bytes[i] == '\f';
    return n;
}

static bool split_pages(pil_buf *b, pil_pages *out, pil_fault *fault) {
    char *at = b->bytes;
    for (size_t i = 0; i < out->n; i++) {
        char *end = memchr(at, '\f', (size_t)(b->bytes + b->len - at));
        if (!add_page(out, i, at, (size_t)(end - at), fault)) return false;
        at = end + 1;
    }
    return true;
}

static bool read_one_by_one(pil_extraction *x, pil_pages *out, pil_fault *fault) {
    size_t n_failed = 0;
    for (size_t i = 0; i < out->n; i++) {
        pil_tool_result r;
        bool ok = run_text(x, i + 1, i + 1, &r, fault);
        bool whole = ok && pil_tool_did_well(&r) && r.output.len > 0;
        if (ok) ok = add_page(out, i, whole ? r.output.bytes : NULL, whole ? r.output.len : 0, fault);
        end_text(&r);
        if (!ok) return false;
        out->pages[i].failed = !whole;
        n_failed += !whole;
    }
    if (n_failed < out->n) return true;
    return pil_fault_set(fault, PIL_EXTRACT_UNREADABLE, "no page of the PDF can be read");
}

bool pil_pdf_text(pil_extraction *x, pil_pages *out, pil_fault *fault) {
    *out = (pil_pages){0};
    pil_buf_init(&out->text, PIL_LIMIT_DOCUMENT_TEXT);
    if (!pil_tools_need(&x->tools, PIL_TOOL_PDFINFO, fault) || !pil_tools_need(&x->tools, PIL_TOOL_PDFTOTEXT, fault))
        return false;
    if (!pil_pdf_count(x, &out->n, fault)) return false;
    if (out->n == 0) return true;
    out->pages = calloc(out->n, sizeof *out->pages);
    if (!out->pages) return pil_fault_set(fault, PIL_EXTRACT_INTERNAL, "out of memory");

    pil_tool_result r;
    bool ok = run_text(x, 1, out->n, &r, fault);
    bool whole = ok && pil_tool_did_well(&r) && count_form_feeds(&r.output) == out->n;
    if (whole) ok = split_pages(&r.output, out, fault);
    end_text(&r);
    return ok && !whole ? read_one_by_one(x, out, fault) : ok;
}

bool pil_pdf_is_scanned(const pil_pages *p) {
    size_t length = 0;
    for (size_t i = 0; i < p->n; i++)
        if (p->pages[i].bytes > 0) length += pil_utf8_count(p->text.bytes + p->pages[i].offset, p->pages[i].bytes);
    return p->n == 0 || (double)length / (double)p->n < SCANNED_BELOW;
}
