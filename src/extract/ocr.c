/* ocr.c - the text of scanned pages: poppler's pdftoppm draws each page, tesseract recognises it.
 *
 * Flow:    for each page: pdftoppm -> a grey bitmap in `image`, an unlinked file -> tesseract -> its table of words.
 * Rules (source: the sidecar protocol): 200 dpi; a page's text is its words joined by a space; its confidence is the
 *          mean of the words', 0 without words. A page whose tools fail is "" with confidence 0 and marked as failed.
 * Source of the table: tesseract's "tsv" output, 12 columns, level 5 is a word, column 11 its confidence in per cent.
 * Memory:  pil_pages owns the text. Not here: whether a document is a scan (pdf.c).
 * Tests:   tests/extract/test_extract.c (rules and failures), test_pdf.c (real recognition). */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/limits.h"
#include "extract/extract_int.h"

/* ── Languages ──────────────────────────────────────────────────────────────────────────────────────────────── */

/* BCP 47: language, or language-script, or language-region where that decides the script. */
static const struct {
    const char *tag, *name;
} languages[] = {
    {"af", "afr"},      {"am", "amh"},      {"ar", "ara"},         {"as", "asm"},          {"az", "aze"},
    {"az-Cyrl", "aze_cyrl"}, {"be", "bel"}, {"bg", "bul"},         {"bn", "ben"},          {"bo", "bod"},
    {"br", "bre"},      {"bs", "bos"},      {"ca", "cat"},         {"co", "cos"},          {"cs", "ces"},
    {"cy", "cym"},      {"da", "dan"},      {"de", "deu"},         {"dv", "div"},          {"dz", "dzo"},
    {"el", "ell"},      {"en", "eng"},      {"eo", "epo"},         {"es", "spa"},          {"et", "est"},
    {"eu", "eus"},      {"fa", "fas"},      {"fi", "fin"},         {"fil", "fil"},         {"fo", "fao"},
    {"fr", "fra"},      {"fy", "fry"},      {"ga", "gle"},         {"gd", "gla"},          {"gl", "glg"},
    {"gu", "guj"},      {"he", "heb"},      {"hi", "hin"},         {"hr", "hrv"},          {"ht", "hat"},
    {"hu", "hun"},      {"hy", "hye"},      {"id", "ind"},         {"is", "isl"},          {"it", "ita"},
    {"iu", "iku"},      {"ja", "jpn"},      {"jv", "jav"},         {"ka", "kat"},          {"kk", "kaz"},
    {"km", "khm"},      {"kn", "kan"},      {"ko", "kor"},         {"ku", "kmr"},          {"ky", "kir"},
    {"la", "lat"},      {"lb", "ltz"},      {"lo", "lao"},         {"lt", "lit"},          {"lv", "lav"},
    {"mi", "mri"},      {"mk", "mkd"},      {"ml", "mal"},         {"mn", "mon"},          {"mr", "mar"},
    {"ms", "msa"},      {"mt", "mlt"},      {"my", "mya"},         {"nb", "nor"},          {"ne", "nep"},
    {"nl", "nld"},      {"nn", "nor"},      {"no", "nor"},         {"oc", "oci"},          {"or", "ori"},
    {"pa", "pan"},      {"pl", "pol"},      {"ps", "pus"},         {"pt", "por"},          {"qu", "que"},
    {"ro", "ron"},      {"ru", "rus"},      {"sa", "san"},         {"sd", "snd"},          {"si", "sin"},
    {"sk", "slk"},      {"sl", "slv"},      {"sq", "sqi"},         {"sr", "srp"},          {"sr-Latn", "srp_latn"},
    {"su", "sun"},      {"sv", "swe"},      {"sw", "swa"},         {"syr", "syr"},         {"ta", "tam"},
    {"te", "tel"},      {"tg", "tgk"},      {"th", "tha"},         {"ti", "tir"},          {"tl", "tgl"},
    {"to", "ton"},      {"tr", "tur"},      {"tt", "tat"},         {"ug", "uig"},          {"uk", "ukr"},
    {"ur", "urd"},      {"uz", "uzb"},      {"uz-Cyrl", "uzb_cyrl"}, {"vi", "vie"},        {"yi", "yid"},
    {"yo", "yor"},      {"yue", "chi_tra"}, {"zh", "chi_sim"},     {"zh-Hans", "chi_sim"}, {"zh-Hant", "chi_tra"},
    {"zh-HK", "chi_tra"}, {"zh-MO", "chi_tra"}, {"zh-TW", "chi_tra"},
};

/* The longest entry that the tag begins with, at a "-" or its end; else a name of the recogniser's own. */
const char *pil_ocr_language(const char *tag) {
    const char *best = NULL;
    size_t best_len = 0;
    for (size_t i = 0; i < sizeof languages / sizeof *languages; i++) {
        size_t n = strlen(languages[i].tag);
        if (n > best_len && strncasecmp(tag, languages[i].tag, n) == 0 && (tag[n] == '\0' || tag[n] == '-')) {
            best = languages[i].name;
            best_len = n;
        }
    }
    for (size_t i = 0; !best && i < sizeof languages / sizeof *languages; i++)
        if (strcasecmp(tag, languages[i].name) == 0) best = languages[i].name;
    return best;
}

static bool has_line(const pil_buf *b, const char *line) {
    size_t n = strlen(line);
    for (size_t at = 0; at + n <= b->len; at++) {
        bool begins = at == 0 || b->bytes[at - 1] == '\n', ends = at + n == b->len || b->bytes[at + n] == '\n';
        if (begins && ends && memcmp(b->bytes + at, line, n) == 0) return true;
    }
    return false;
}

/* Asked of the recogniser itself, which alone knows where its data is. Some versions answer on their descriptor 2. */
static bool list_languages(pil_extraction *x, pil_tool_result *r, pil_fault *fault) {
    pil_tool_job job = {.tool = PIL_TOOL_TESSERACT,
                        .args = {"--list-langs"},
                        .input = x->document,
                        .output_file = -1,
                        .memory_bytes = PIL_LIMIT_OCR_MEMORY,
                        .deadline_ns = x->deadline_ns};
    pil_buf_init(&r->output, PIL_LIMIT_TOOL_WORDS);
    pil_tool_run(x, &job, r);
    return pil_tool_check(&job, r, fault);
}

static bool need_language(pil_extraction *x, const char *language, pil_fault *fault) {
    pil_tool_result r;
    bool ok = list_languages(x, &r, fault);
    if (ok && !has_line(&r.output, language) && !has_line(&r.words, language)) {
        snprintf(fault->package, sizeof fault->package, "tesseract-ocr-%s", language);
        for (char *c = fault->package; *c; c++)
            if (*c == '_') *c = '-';
        ok = pil_fault_set(fault, PIL_EXTRACT_NOT_INSTALLED,
                           "tesseract has no data for \"%s\"; it is the package %s", language, fault->package);
    }
    pil_buf_deinit(&r.output);
    pil_buf_deinit(&r.words);
    return ok;
}

/* A line is the name of a language unless it has a blank: those are sentences. */
static void take_languages(pil_buf *out, const pil_buf *from) {
    for (size_t at = 0; at < from->len;) {
        const char *line = from->bytes + at, *end = memchr(line, '\n', from->len - at);
        size_t n = end ? (size_t)(end - line) : from->len - at;
        if (n > 0 && !memchr(line, ' ', n)) {
            pil_buf_append(out, line, n);
            pil_buf_putc(out, '\n');
        }
        at += n + 1;
    }
}

void pil_extract_languages(pil_buf *out) {
    pil_extraction x = {.document = open("/dev/null", O_RDONLY | O_CLOEXEC),
                        .deadline_ns = pil_clock_ns() + PIL_LIMIT_EXTRACT_MS * 1000000ull};
    pil_fault fault;
    pil_tool_result r;
    pil_tools_find(&x.tools, getenv("PATH"));
    if (x.document < 0) return;
    if (x.tools.path[PIL_TOOL_TESSERACT][0]) {
        bool ok = list_languages(&x, &r, &fault);
        if (ok) take_languages(out, &r.output);
        if (ok && out->len == 0) take_languages(out, &r.words);
        pil_buf_deinit(&r.output);
        pil_buf_deinit(&r.words);
    }
    close(x.document);
}

/* ── One page ───────────────────────────────────────────────────────────────────────────────────────────────── */

static uint64_t page_deadline(const pil_extraction *x) {
    uint64_t mine = pil_clock_ns() + PIL_LIMIT_OCR_PAGE_MS * (uint64_t)1000000;
    return mine < x->deadline_ns ? mine : x->deadline_ns;
}

/* A page that takes too long is a failed page while there is time for others. */
static bool page_failed_alone(const pil_extraction *x, const pil_tool_result *r) {
    return r->end == PIL_TOOL_DEADLINE && pil_clock_ns() < x->deadline_ns;
}

/* Draws page `number` (from 1) into image. *drawn is false when the page alone is at fault. */
static bool draw(pil_extraction *x, int image, size_t number, bool *drawn, pil_fault *fault) {
    char page[24];
    struct stat s;
    snprintf(page, sizeof page, "%zu", number);
    *drawn = false;
    if (ftruncate(image, 0) != 0 || lseek(image, 0, SEEK_SET) != 0 || fstat(x->document, &s) != 0)
        return pil_fault_set(fault, PIL_EXTRACT_INTERNAL, "the page's bitmap cannot be written");
    pil_tool_job job = {.tool = PIL_TOOL_PDFTOPPM,
                        .args = {"-q", "-r", "200", "-gray", "-f", page, "-l", page, "-"},
                        .input = x->document,
                        .output_file = image,
                        .memory_bytes = PIL_LIMIT_OCR_MEMORY + (uint64_t)s.st_size,
                        .file_bytes = PIL_LIMIT_OCR_IMAGE,
                        .deadline_ns = page_deadline(x)};
    pil_tool_result r;
    pil_buf_init(&r.output, PIL_LIMIT_TOOL_WORDS);
    pil_tool_run(x, &job, &r);
    bool ok = page_failed_alone(x, &r) || pil_tool_check(&job, &r, fault);
    *drawn = ok && pil_tool_did_well(&r) && fstat(image, &s) == 0 && s.st_size > 0;
    pil_buf_deinit(&r.output);
    pil_buf_deinit(&r.words);
    return ok;
}

/* One line of the table: level, page, block, paragraph, line, word, left, top, width, height, confidence, text. */
static bool parse_word(char *line, size_t n, const char **word, size_t *word_bytes, double *confidence) {
    enum { CONFIDENCE = 10, TEXT = 11 };
    char *end = line + n, *columns[TEXT + 1] = {line};
    for (int i = 1; i <= TEXT; i++) {
        char *tab = memchr(columns[i - 1], '\t', (size_t)(end - columns[i - 1]));
        if (!tab) return false;
        columns[i] = tab + 1;
    }
    if (strncmp(columns[0], "5\t", 2) != 0) return false;
    *confidence = strtod(columns[CONFIDENCE], NULL);
    if (!(*confidence >= 0)) return false;
    *word_bytes = pil_text_drop_invalid(columns[TEXT], (size_t)(end - columns[TEXT]));
    *word = columns[TEXT];
    pil_text_trim(word, word_bytes);
    return *word_bytes > 0;
}

static bool add_words(pil_buf *table, pil_pages *out, pil_page *page, pil_fault *fault) {
    double sum = 0;
    size_t n_words = 0;
    page->offset = out->text.len;
    if (!pil_buf_cstr(table)) return pil_fault_set(fault, PIL_EXTRACT_INTERNAL, "out of memory"); /* strtod's end */
    for (char *at = table->bytes, *end = at + table->len; at < end;) {
        char *line_end = memchr(at, '\n', (size_t)(end - at));
        if (!line_end) line_end = end;
        const char *word;
        size_t n;
        double confidence;
        if (parse_word(at, (size_t)(line_end - at), &word, &n, &confidence)) {
            if (n_words++ > 0) pil_buf_putc(&out->text, ' ');
            pil_buf_append(&out->text, word, n);
            sum += confidence > 100 ? 1 : confidence / 100;
        }
        at = line_end + 1;
    }
    if (out->text.failed)
        return pil_fault_set(fault, PIL_EXTRACT_TOO_LARGE, "the document has more than %zu bytes of text",
                             PIL_LIMIT_DOCUMENT_TEXT);
    page->bytes = out->text.len - page->offset;
    page->confidence = n_words ? sum / (double)n_words : 0;
    return true;
}

/* "fast" leaves out the second look at lines that may be white on black, as tesseract's manual advises. */
static bool recognise(pil_extraction *x, int image, const char *language, bool fast, pil_pages *out, pil_page *page,
                      pil_fault *fault) {
    pil_tool_job job = {.tool = PIL_TOOL_TESSERACT,
                        .args = {"stdin", "stdout", "-l", language, "--dpi", "200", "--psm", "3", "-c",
                                 "tessedit_create_tsv=1", "-c", fast ? "tessedit_do_invert=0" : "tessedit_do_invert=1"},
                        .input = image,
                        .output_file = -1,
                        .memory_bytes = PIL_LIMIT_OCR_MEMORY,
                        .deadline_ns = page_deadline(x)};
    pil_tool_result r;
    pil_buf_init(&r.output, PIL_LIMIT_DOCUMENT_TEXT);
    pil_tool_run(x, &job, &r);
    bool ok = page_failed_alone(x, &r) || pil_tool_check(&job, &r, fault);
    page->failed = !pil_tool_did_well(&r);
    if (ok && !page->failed) ok = add_words(&r.output, out, page, fault);
    pil_buf_deinit(&r.output);
    pil_buf_deinit(&r.words);
    return ok;
}

/* ── All pages ──────────────────────────────────────────────────────────────────────────────────────────────── */

static bool recognise_all(pil_extraction *x, int image, const char *language, bool fast, pil_pages *out,
                          pil_fault *fault) {
    size_t n_failed = 0;
    for (size_t i = 0; i < out->n; i++) {
        pil_page *page = &out->pages[i];
        *page = (pil_page){.offset = out->text.len, .failed = true};
        bool drawn;
        if (!draw(x, image, i + 1, &drawn, fault)) return false;
        if (drawn && !recognise(x, image, language, fast, out, page, fault)) return false;
        n_failed += page->failed;
    }
    if (out->n == 0 || n_failed < out->n) return true;
    return pil_fault_set(fault, PIL_EXTRACT_UNREADABLE, "no page of the PDF can be drawn and recognised");
}

bool pil_ocr_text(pil_extraction *x, int image, const char *language, bool fast, pil_pages *out, pil_fault *fault) {
    *out = (pil_pages){0};
    pil_buf_init(&out->text, PIL_LIMIT_DOCUMENT_TEXT);
    if (!pil_tools_need(&x->tools, PIL_TOOL_PDFINFO, fault) || !pil_tools_need(&x->tools, PIL_TOOL_PDFTOPPM, fault) ||
        !pil_tools_need(&x->tools, PIL_TOOL_TESSERACT, fault))
        return false;
    if (!need_language(x, language, fault) || !pil_pdf_count(x, &out->n, fault)) return false;
    if (out->n > PIL_LIMIT_OCR_PAGES)
        return pil_fault_set(fault, PIL_EXTRACT_TOO_LARGE, "the document has %zu pages, recognition takes at most %d",
                             out->n, PIL_LIMIT_OCR_PAGES);
    if (out->n == 0) return true;
    out->pages = calloc(out->n, sizeof *out->pages);
    if (!out->pages) return pil_fault_set(fault, PIL_EXTRACT_INTERNAL, "out of memory");
    return recognise_all(x, image, language, fast, out, fault);
}
