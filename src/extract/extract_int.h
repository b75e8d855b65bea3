/* extract_int.h - what the files of this room share: faults, tools in the cage, and the two kinds of work on a PDF. */
#ifndef PIL_EXTRACT_EXTRACT_INT_H
#define PIL_EXTRACT_EXTRACT_INT_H

#include <limits.h>
#include <stdbool.h>

#include "base/buf.h"
#include "extract/extract.h"
#include "sandbox/sandbox.h"

/* ── extract.c: faults ──────────────────────────────────────────────────────────────────────────────────────── */

/* Becomes the "error" object of the answer. Texts are ours: nothing of the document or of a tool's words is in them. */
typedef struct pil_fault {
    pil_extract_code code;
    char text[200];
    char package[64]; /* "" when no package would help */
} pil_fault;

/* Fills the fault and returns false, so that a failing function can end with `return pil_fault_set(...)`. */
__attribute__((format(printf, 3, 4))) bool pil_fault_set(pil_fault *fault, pil_extract_code code, const char *fmt, ...);

/* ── chunk.c: text in place ─────────────────────────────────────────────────────────────────────────────────── */

/* Removes every byte that belongs to no valid UTF-8 sequence; returns the length that is left. */
size_t pil_text_drop_invalid(char *text, size_t n);
/* Takes Unicode white space off both ends of valid UTF-8. */
void pil_text_trim(const char **text, size_t *n);

/* ── tool.c: other programs, each run in the cage ───────────────────────────────────────────────────────────── */

typedef enum pil_tool {
    PIL_TOOL_PDFINFO,
    PIL_TOOL_PDFTOTEXT,
    PIL_TOOL_PDFTOPPM,
    PIL_TOOL_TESSERACT,
    PIL_TOOL_COUNT,
} pil_tool;

/* Real paths of the tools, "" for one that is not installed. */
typedef struct pil_tools {
    char path[PIL_TOOL_COUNT][PATH_MAX];
} pil_tools;

/* Looks in the absolute folders of search_path (as in PATH; NULL: the usual ones). */
void pil_tools_find(pil_tools *tools, const char *search_path);
/* NOT_INSTALLED with the Debian package unless the tool was found. */
bool pil_tools_need(const pil_tools *tools, pil_tool tool, pil_fault *fault);

/* The folders that tools read below: libraries, fonts, data; and for tools of another prefix, that prefix's. */
typedef struct pil_tool_paths {
    const char *read[64];
    size_t n_read;
    const char *exec[PIL_TOOL_COUNT];
    size_t n_exec;
    char own[2 * PIL_TOOL_COUNT][PATH_MAX]; /* what some of read point at */
} pil_tool_paths;
/* For the tools from first to last that were found. */
void pil_tool_paths_of(pil_tool_paths *paths, const pil_tools *tools, pil_tool first, pil_tool last);

typedef enum pil_tool_end {
    PIL_TOOL_EXITED,   /* value: its status */
    PIL_TOOL_KILLED,   /* value: the signal; a crash, or a limit of memory, CPU time or file size */
    PIL_TOOL_DEADLINE, /* killed by us */
    PIL_TOOL_FLOOD,    /* killed by us: it wrote more than `output` takes */
    PIL_TOOL_NO_CAGE,  /* never executed: the cage could not be built */
    PIL_TOOL_NO_START, /* never executed: fork or exec failed; value: errno */
} pil_tool_end;

typedef struct pil_tool_job {
    pil_tool tool;
    const char *args[20]; /* without the name of the tool; NULL after the last */
    int input;            /* its descriptor 0, a seekable file: read from its beginning */
    int output_file;      /* its descriptor 1; -1: a pipe into output */
    uint64_t memory_bytes, file_bytes;
    uint64_t deadline_ns; /* of pil_clock_ns */
} pil_tool_job;

typedef struct pil_tool_result {
    pil_tool_end end;
    int value;
    pil_buf output; /* initialised by the caller with its ceiling */
    pil_buf words;  /* the beginning of what it wrote on descriptor 2: to tell failures apart, never shown */
} pil_tool_result;

/* One document being extracted. */
typedef struct pil_extraction {
    pil_tools tools;
    int document;
    uint64_t deadline_ns;
    pil_sandbox_report cage; /* the layers that held around everything that looked at the document */
} pil_extraction;

/* Runs one tool to its end, whatever that is: afterwards no process of it is left. `words` is set up here; the caller
 * ends it and `output` with pil_buf_deinit. */
void pil_tool_run(pil_extraction *x, const pil_tool_job *job, pil_tool_result *result);
/* A fault for an end that is about us and not about the document (no cage, no start, deadline); true for the others. */
bool pil_tool_check(const pil_tool_job *job, const pil_tool_result *result, pil_fault *fault);
/* It ended by itself, with status 0, and did not say that memory was short. */
bool pil_tool_did_well(const pil_tool_result *result);
/* Whether these words are among those that it wrote on descriptor 2. */
bool pil_tool_said(const pil_tool_result *result, const char *words);

/* ── pdf.c ──────────────────────────────────────────────────────────────────────────────────────────────────── */

typedef struct pil_page {
    size_t offset, bytes; /* in the text of the pages */
    bool failed;          /* the tool died on it */
    double confidence;    /* recognised pages: 0 to 1 */
} pil_page;

/* Valid UTF-8, page after page, without white space at either end of a page. */
typedef struct pil_pages {
    pil_buf text;
    pil_page *pages;
    size_t n;
} pil_pages;

void pil_pages_deinit(pil_pages *p); /* accepts a zeroed one */

/* The number of pages of a PDF; ENCRYPTED, UNREADABLE, TOO_LARGE. A PDF without pages is fine. */
bool pil_pdf_count(pil_extraction *x, size_t *n_pages, pil_fault *fault);
/* The text of all pages; *out is initialised here and ended by the caller also after a failure. */
bool pil_pdf_text(pil_extraction *x, pil_pages *out, pil_fault *fault);
/* A PDF whose pages have less than 50 code points of text on average, or that has none. */
bool pil_pdf_is_scanned(const pil_pages *p);

/* ── ocr.c ──────────────────────────────────────────────────────────────────────────────────────────────────── */

/* The recogniser's name of a BCP 47 tag ("en-US" -> "eng"), whatever its case; NULL when it has none. */
const char *pil_ocr_language(const char *tag);
/* Renders and recognises page after page. image: an empty file to draw on. language: as pil_ocr_language gives it. */
bool pil_ocr_text(pil_extraction *x, int image, const char *language, bool fast, pil_pages *out, pil_fault *fault);

#endif
