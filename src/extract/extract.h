/* extract.h - documents to text, and text to chunks.
 *
 * A document is opened by the server and read only by a short-lived child, `pillion --role=extract`, that runs this
 * room's pil_extract_main inside the cage of sandbox/sandbox.h. The child answers one JSON object and ends. What it
 * answers comes from a hostile file: the server parses it with base/json.h under PIL_LIMIT_EXTRACT_RESULT and checks
 * the types of what it uses.
 *
 *     pillion --role=extract [--timeout-ms=N] KIND …
 *       text pdf|txt                    the text of each page; a .txt has one page
 *       ocr-detect                      whether a PDF is a scan
 *       ocr-extract LANGUAGE LEVEL      the text of a PDF's pages by optical character recognition;
 *                                       LANGUAGE "en-US", "de", …; LEVEL "accurate" or "fast"
 *
 *     descriptor 0   the document: a regular file, open for reading only (its position does not matter)
 *     descriptor 1   the answer: one JSON object, nothing after it; a pipe or a file
 *     descriptor 2   log lines; every other descriptor is closed
 *     PATH           where pdfinfo, pdftotext, pdftoppm and tesseract are looked for; nothing else of the environment
 *                    is used, so an otherwise empty one is right
 *
 *     text           {"pages":["…",…],"page_count":3,"sandbox":"full"}
 *     ocr-detect     {"is_scanned":true,"page_count":3,"sandbox":"full"}
 *     ocr-extract    {"text":"…","pages":["…",…],"confidence":0.93,"page_count":3,"sandbox":"full"}
 *                    a page that cannot be read is "", has confidence 0, and its number (from 1) stands in a further
 *                    "failed_pages":[2,…], which is absent otherwise; if no page can be read, that is a failure
 *     failure        {"error":{"code":"not_installed","text":"one line for a person","package":"poppler-utils"}}
 *                    package: only with not_installed, the name of the Debian package
 *
 *     exit status    0 with a result, 1 with a failure. Anything else (a signal, no JSON, JSON that is cut off) means
 *                    that the child itself died: treat it as PIL_EXTRACT_INTERNAL.
 *
 * "sandbox" is pil_sandbox_describe()'s line: "full", or "partial: …" naming what the kernel lacks. Strings are valid
 * UTF-8 and may contain NUL. Killing the child with SIGKILL at any time leaves no process and no file behind. */
#ifndef PIL_EXTRACT_EXTRACT_H
#define PIL_EXTRACT_EXTRACT_H

#include <limits.h>
#include <stdbool.h>
#include <stddef.h>

#include "base/buf.h"
#include "pillion/pillion.h"

/* ── The child ──────────────────────────────────────────────────────────────────────────────────────────────── */

/* Why an extraction failed: name in JSON, and what it means. The server chooses the HTTP status in one switch. */
#define PIL_EXTRACT_CODE_MAP(X)                                                                           \
    X(USAGE, "usage")                 /* wrong arguments: our own bug */                                  \
    X(NOT_INSTALLED, "not_installed") /* a tool or its language is missing; "package" names it: 501 */    \
    X(TOO_LARGE, "too_large")         /* document, page count or extracted text over a limit */           \
    X(TIMEOUT, "timeout")             /* not done by the deadline */                                      \
    X(ENCRYPTED, "encrypted")         /* a PDF that asks for a password */                                \
    X(UNREADABLE, "unreadable")       /* not a document of its kind, or damaged beyond reading */         \
    X(LANGUAGE, "language")           /* a LANGUAGE that maps to no language of the recogniser */         \
    X(SANDBOX, "sandbox")             /* the cage could not be built; nothing was read */                 \
    X(INTERNAL, "internal")           /* out of memory, an unexpected answer of a tool */

typedef enum pil_extract_code {
#define PIL_EXTRACT_CODE_ENUM(name, text) PIL_EXTRACT_##name,
    PIL_EXTRACT_CODE_MAP(PIL_EXTRACT_CODE_ENUM)
#undef PIL_EXTRACT_CODE_ENUM
    PIL_EXTRACT_CODE_COUNT
} pil_extract_code;

/* The name of a code in JSON; never NULL. */
const char *pil_extract_code_name(pil_extract_code code);
/* The code of a name; PIL_EXTRACT_INTERNAL for NULL and for a name that is none. */
pil_extract_code pil_extract_code_of(const char *name);

/* The body of the child role. argv[0] is ignored; an argument "--role=extract" is skipped wherever main left it.
 *   Cages the calling process and closes every descriptor above 2: call it in a process made for it.
 *   timeout-ms  1 … PIL_LIMIT_OCR_MS; default and ceiling PIL_LIMIT_EXTRACT_MS (text, ocr-detect) or
 *               PIL_LIMIT_OCR_MS (ocr-extract). At the deadline every tool is killed and the answer is "timeout".
 *   Returns     the exit status; give it to _exit, since leak checkers and coverage counters at exit need what the
 *               cage refuses. */
int pil_extract_main(int argc, char **argv);

/* The same work in the calling process, uncaged itself ("sandbox" is "none"), its tools caged all the same.
 *   out       receives the one JSON object; its ceiling bounds it.
 *   document  borrowed; open for reading only.
 *   Returns   the exit status. SIGCHLD must not be ignored. */
int pil_extract_run(pil_buf *out, int document, int argc, char **argv);

/* What this machine has for documents: row i of the programs that are used; false beyond the last. Looked for in PATH
 * as the child does it. */
typedef struct pil_extract_tool {
    const char *name, *package; /* of the program; of the Debian package that brings it */
    char path[PATH_MAX];        /* "": not installed */
} pil_extract_tool;
bool pil_extract_tool_at(pil_extract_tool *out, size_t i);
/* The languages that the recogniser has data for, each followed by a line end; nothing without it. Runs it, caged; the
 * calling process must have one thread. */
void pil_extract_languages(pil_buf *out);

/* "pdf" or "txt" by the ending of a path, whatever its case; NULL for every other path. */
const char *pil_extract_type_of(const char *path);

/* ── Chunks: pure functions, for the server ─────────────────────────────────────────────────────────────────── */

/* Text as Python's " ".join(bytes.decode("utf-8", errors="ignore").split()): bytes that do not belong to a valid
 * sequence are dropped, each run of Unicode white space becomes one space, both ends are trimmed.
 *   out     given (free), NUL-terminated beyond *out_bytes; *out_bytes is 0 when nothing but white space is left.
 *   Errors  E_NOMEM; *out is NULL then. */
pillion_status pil_chunk_squash(char **out, size_t *out_bytes, const char *bytes, size_t n, pillion_error *err);

/* Where a chunk lies in the text that was split. */
typedef struct pil_chunk {
    size_t offset, bytes;
} pil_chunk;

/* Cuts valid UTF-8 into chunks of `size` code points, each beginning `overlap` before the end of the one before it,
 * but at least one code point further on; keeps the first max_chunks. No word boundary is looked for.
 *   chunks  given (free), *n_chunks of them; NULL and 0 for an empty text.
 *   size, max_chunks >= 1; overlap may exceed size.
 *   Errors  E_ARG, E_UTF8 (text is not valid), E_NOMEM.
 *   Time    one pass: O(n + chunks). */
pillion_status pil_chunk_split(pil_chunk **chunks, size_t *n_chunks, const char *text, size_t n, size_t size,
                               size_t overlap, size_t max_chunks, pillion_error *err);

#endif
