/* test_pdf.c - real documents through the real tools: text, scans, recognition, and files made to hurt.
 *
 * The PDFs are written here (support/pdf.h); a scan is a page of text drawn by pdftoppm and put back as a bitmap.
 * Tests skip, and say so, where poppler-utils or tesseract-ocr is not installed. */
#include "harness.h"

#include <ctype.h>

#include "support/pdf.h"

static bool installed(const char *tool) {
    char command[200];
    snprintf(command, sizeof command, "command -v %s >/dev/null 2>&1", tool);
    return system(command) == 0;
}

static void need_poppler(void) {
    if (!installed("pdfinfo") || !installed("pdftotext") || !installed("pdftoppm"))
        skip_with("poppler-utils is not installed");
}

static void need_tesseract(void) {
    need_poppler();
    if (!installed("tesseract")) skip_with("tesseract-ocr is not installed");
}

static answer run_on_pdf(const char *arguments, const pil_test_pdf *pdf) {
    return run_on(arguments, pdf->bytes.bytes, pdf->bytes.len);
}

static const char first_text[] = "The committee met on Tuesday.\nIt decided (after a long debate) to wait.";
static const char second_text[] = "Vectors are compared by their cosine.\nA backslash \\ and brackets ( ) survive.";
static const char third_text[] = "The last page ends here.\nNothing follows it.";

static void the_text_of_a_pdf_comes_page_by_page(void **state) {
    (void)state;
    need_poppler();
    const char *texts[] = {first_text, "", second_text, third_text};
    pil_test_pdf pdf;
    pil_test_pdf_of_texts(&pdf, texts, 4, 12);
    expect_pages(run_on_pdf("text pdf", &pdf), 4, texts);
    int document = document_of(pdf.bytes.bytes, pdf.bytes.len);
    if (!HIDDEN_THREAD) expect_pages(run_child("--role=extract text pdf", document), 4, texts);
    close(document);
    pil_test_pdf_free(&pdf);
}

static void a_pdf_of_text_is_no_scan_and_one_without_is(void **state) {
    (void)state;
    need_poppler();
    const char *full[] = {first_text, second_text}, *sparse[] = {first_text, "12", "13"};
    unsigned char grey[64 * 64];
    memset(grey, 200, sizeof grey);
    pil_test_image images[] = {{64, 64, grey}, {32, 64, grey}};
    const struct {
        int kind;
        bool scanned;
        int pages;
    } cases[] = {{0, false, 2}, {1, true, 3}, {2, true, 2}, {3, true, 0}};
    for (int i = 0; i < 4; i++) {
        pil_test_pdf pdf;
        if (i == 0) pil_test_pdf_of_texts(&pdf, full, 2, 12);
        else if (i == 1) pil_test_pdf_of_texts(&pdf, sparse, 3, 12);
        else if (i == 2) pil_test_pdf_of_images(&pdf, images, 2);
        else pil_test_pdf_of_texts(&pdf, full, 0, 12);
        answer a = run_on_pdf("ocr-detect", &pdf);
        assert_int_equal(a.status, 0);
        assert_int_equal(pil_json_bool_or(pil_json_get(a.root, "is_scanned"), !cases[i].scanned), cases[i].scanned);
        assert_int_equal(pil_json_int_or(pil_json_get(a.root, "page_count"), -1), cases[i].pages);
        free_answer(&a);
        pil_test_pdf_free(&pdf);
    }
}

/* ── Recognition ────────────────────────────────────────────────────────────────────────────────────────────── */

/* One page of text as a 150 dpi bitmap; free grey. */
static pil_test_image draw_page(const char *text) {
    char dir[PIL_TEST_PATH], command[3 * PIL_TEST_PATH], path[PIL_TEST_PATH];
    pil_test_pdf pdf;
    pil_test_pdf_of_texts(&pdf, &text, 1, 16);
    pil_test_dir_make(dir);
    pil_test_write(dir, "page.pdf", pdf.bytes.bytes, pdf.bytes.len);
    pil_test_pdf_free(&pdf);
    snprintf(command, sizeof command, "pdftoppm -r 150 -gray -singlefile %s/page.pdf %s/page", dir, dir);
    assert_int_equal(system(command), 0);
    size_t n, width, height;
    int header;
    pil_test_path(path, dir, "page.pgm");
    char *bytes = pil_test_read(path, &n);
    assert_int_equal(sscanf(bytes, "P5 %zu %zu 255%n", &width, &height, &header), 2);
    assert_int_equal((size_t)header + 1 + width * height, n);
    memmove(bytes, bytes + header + 1, width * height);
    pil_test_dir_remove(dir);
    return (pil_test_image){width, height, (unsigned char *)bytes};
}

static void a_scanned_document_is_recognised(void **state) {
    (void)state;
    need_tesseract();
    static const char *const levels[] = {"accurate", "fast"};
    static unsigned char white[100 * 140];
    memset(white, 255, sizeof white);
    pil_test_image images[] = {draw_page("The committee met on Tuesday\nand decided to wait."), {100, 140, white},
                               draw_page("Nothing follows the last page.")};
    pil_test_pdf pdf;
    pil_test_pdf_of_images(&pdf, images, 3);
    for (int i = 0; i < 2; i++) {
        char arguments[60];
        snprintf(arguments, sizeof arguments, "ocr-extract en-US %s", levels[i]);
        answer a = run_on_pdf(arguments, &pdf);
        if (a.status != 0) fail_msg("%s", answer_code(&a));
        assert_string_equal(answer_page(&a, 0), "The committee met on Tuesday and decided to wait.");
        assert_string_equal(answer_page(&a, 1), "");
        assert_string_equal(answer_page(&a, 2), "Nothing follows the last page.");
        assert_string_equal(answer_string(&a, "text"),
                            "The committee met on Tuesday and decided to wait.\n\n\n\nNothing follows the last page.");
        double confidence = pil_json_real_or(pil_json_get(a.root, "confidence"), -1);
        assert_true(confidence > 0.55 && confidence <= 2.0 / 3); /* the mean of two good pages and an empty one */
        assert_null(pil_json_get(a.root, "failed_pages"));
        print_message("%s: confidence %.3f, %.0f ms for 3 pages\n", levels[i], confidence, a.ms);
        free_answer(&a);
    }
    pil_test_pdf_free(&pdf);
    free((void *)(uintptr_t)images[0].grey);
    free((void *)(uintptr_t)images[2].grey);
}

static void the_role_itself_recognises_inside_its_cage(void **state) {
    (void)state;
    need_one_thread();
    need_tesseract();
    pil_test_image image = draw_page("Caged but readable");
    pil_test_pdf pdf;
    pil_test_pdf_of_images(&pdf, &image, 1);
    int document = document_of(pdf.bytes.bytes, pdf.bytes.len);
    answer a = run_child("--role=extract ocr-extract en-US accurate", document);
    if (a.status != 0) fail_msg("%s", answer_code(&a));
    assert_string_equal(answer_string(&a, "text"), "Caged but readable");
    print_message("sandbox: %s\n", answer_string(&a, "sandbox"));
    free_answer(&a);
    close(document);
    pil_test_pdf_free(&pdf);
    free((void *)(uintptr_t)image.grey);
}

static void a_language_without_data_names_its_package(void **state) {
    (void)state;
    need_tesseract();
    if (system("tesseract --list-langs 2>&1 | grep -qx lao") == 0) skip_with("tesseract-ocr-lao is installed");
    const char *text = first_text;
    pil_test_pdf pdf;
    pil_test_pdf_of_texts(&pdf, &text, 1, 12);
    answer a = run_on_pdf("ocr-extract lo-LA fast", &pdf);
    assert_string_equal(answer_package(&a), "tesseract-ocr-lao");
    expect_code(a, "not_installed");
    pil_test_pdf_free(&pdf);
}

static void a_page_too_large_to_draw_is_reported(void **state) {
    (void)state;
    need_tesseract();
    pil_test_pdf pdf;
    pil_test_pdf_begin(&pdf);
    for (int i = 0; i < 4; i++) pil_test_pdf_number(&pdf);
    pil_test_pdf_object(&pdf, 1, "<< /Type /Catalog /Pages 2 0 R >>");
    pil_test_pdf_object(&pdf, 2, "<< /Type /Pages /Count 2 /Kids [3 0 R 4 0 R] >>");
    pil_test_pdf_object(&pdf, 3, "<< /Type /Page /Parent 2 0 R /MediaBox [0 0 200 200] >>");
    pil_test_pdf_object(&pdf, 4, "<< /Type /Page /Parent 2 0 R /MediaBox [0 0 14400 14400] >>");
    pil_test_pdf_end(&pdf, "");
    answer a = run_on_pdf("ocr-extract en fast", &pdf);
    assert_int_equal(a.status, 0);
    assert_int_equal(pil_json_count(pil_json_get(a.root, "failed_pages")), 1);
    assert_int_equal(answer_failed_page(&a, 0), 2);
    free_answer(&a);
    pil_test_pdf_free(&pdf);
}

/* ── Files made to hurt ─────────────────────────────────────────────────────────────────────────────────────── */

/* Whatever a file does, the answer is pages or a typed error about the document, within its time. */
static void check_hostile(const char *name, const char *arguments, const void *bytes, size_t n) {
    static const char *const fine[] = {"unreadable", "encrypted", "too_large", "timeout"};
    answer a = run_on(arguments, bytes, n);
    const char *code = a.status == 0 ? "pages" : answer_code(&a);
    bool typed = a.status == 0;
    for (int i = 0; i < 4; i++) typed = typed || strcmp(code, fine[i]) == 0;
    print_message("  %-34s %-10s %6.0f ms\n", name, code, a.ms);
    if (!typed) fail_msg("%s: %s", name, code);
    assert_true(a.ms < 6000);
    free_answer(&a);
}

static void check_hostile_pdf(const char *name, pil_test_pdf *pdf) {
    check_hostile(name, "--timeout-ms=1500 text pdf", pdf->bytes.bytes, pdf->bytes.len);
    pil_test_pdf_free(pdf);
}

static void garbage_is_not_a_pdf(void **state) {
    (void)state;
    need_poppler();
    static char noise[100000];
    uint32_t x = 2463534242u;
    for (size_t i = 0; i < sizeof noise; i++) x ^= x << 13, x ^= x >> 17, x ^= x << 5, noise[i] = (char)x;
    expect_code(run_on("text pdf", "", 0), "unreadable");
    expect_code(run_on("text pdf", noise, sizeof noise), "unreadable");
    expect_code(run_on_text("text pdf", "just some text"), "unreadable");
    expect_code(run_on_text("text pdf", "%PDF-1.7\n"), "unreadable");
    expect_code(run_on_text("ocr-detect", "%PDF-1.7\n%%EOF"), "unreadable");
    memset(noise, '[', sizeof noise);
    memcpy(noise, "%PDF-1.4\n1 0 obj\n", 17);
    expect_code(run_on("text pdf", noise, sizeof noise), "unreadable");
}

static void a_pdf_cut_anywhere_is_pages_or_a_typed_error(void **state) {
    (void)state;
    need_poppler();
    const char *texts[] = {first_text, second_text, third_text};
    pil_test_pdf pdf;
    pil_test_pdf_of_texts(&pdf, texts, 3, 12);
    for (size_t tenth = 0; tenth < 10; tenth++) {
        char name[40];
        snprintf(name, sizeof name, "cut at %zu of 10", tenth);
        check_hostile(name, "--timeout-ms=1500 text pdf", pdf.bytes.bytes, pdf.bytes.len * tenth / 10);
    }
    for (size_t i = 0; i < 12; i++) { /* and with one byte wrong, at places spread over the file */
        size_t at = 20 + (pdf.bytes.len - 20) * i / 12;
        char name[40], kept = pdf.bytes.bytes[at];
        pdf.bytes.bytes[at] = (char)(kept ^ 0x55);
        snprintf(name, sizeof name, "byte %zu wrong", at);
        check_hostile(name, "--timeout-ms=1500 text pdf", pdf.bytes.bytes, pdf.bytes.len);
        pdf.bytes.bytes[at] = kept;
    }
    pil_test_pdf_free(&pdf);
}

/* RunLengthDecode makes 128 bytes of two, and of 0x81 bytes again 0x81 bytes: each filter more is 64 times the data. */
static void put_bomb(pil_test_pdf *pdf, int filters) {
    static unsigned char packed[4096];
    static const char names[] = "/RunLengthDecode /RunLengthDecode /RunLengthDecode /RunLengthDecode /RunLengthDecode "
                                "/RunLengthDecode ";
    char entries[400];
    memset(packed, 0x81, sizeof packed);
    snprintf(entries, sizeof entries, "/Filter [ %.*s]", filters * (int)(sizeof "/RunLengthDecode"), names);
    pil_test_pdf_begin(pdf);
    for (int i = 0; i < 4; i++) pil_test_pdf_number(pdf);
    pil_test_pdf_object(pdf, 1, "<< /Type /Catalog /Pages 2 0 R >>");
    pil_test_pdf_object(pdf, 2, "<< /Type /Pages /Count 1 /Kids [3 0 R] >>");
    pil_test_pdf_object(pdf, 3, "<< /Type /Page /Parent 2 0 R /MediaBox [0 0 200 200] /Contents 4 0 R >>");
    pil_test_pdf_stream(pdf, 4, entries, packed, sizeof packed);
    pil_test_pdf_end(pdf, "");
}

static void bombs_end_within_their_limits(void **state) {
    (void)state;
    need_poppler();
    pil_test_pdf pdf;
    for (int filters = 2; filters <= 6; filters += 2) {
        char name[40];
        snprintf(name, sizeof name, "bomb of %d filters", filters);
        put_bomb(&pdf, filters);
        check_hostile_pdf(name, &pdf);
    }
    put_bomb(&pdf, 5);
    static const char draw[] = "--timeout-ms=1500 ocr-extract en fast";
    if (installed("tesseract")) check_hostile("the same, drawn", draw, pdf.bytes.bytes, pdf.bytes.len);
    pil_test_pdf_free(&pdf);
    struct rusage used;
    assert_int_equal(getrusage(RUSAGE_CHILDREN, &used), 0);
    print_message("  largest tool so far: %ld MiB resident\n", used.ru_maxrss / 1024);
}

static void begin_tree(pil_test_pdf *pdf, size_t n_objects) {
    pil_test_pdf_begin(pdf);
    for (size_t i = 0; i < n_objects; i++) pil_test_pdf_number(pdf);
    pil_test_pdf_object(pdf, 1, "<< /Type /Catalog /Pages 2 0 R >>");
}

static void circles_and_lies_end_within_their_limits(void **state) {
    (void)state;
    need_poppler();
    pil_test_pdf pdf;
    begin_tree(&pdf, 2);
    pil_test_pdf_object(&pdf, 2, "<< /Type /Pages /Count 5 /Kids [2 0 R 2 0 R] >>");
    pil_test_pdf_end(&pdf, "");
    check_hostile_pdf("page tree in a circle", &pdf);

    begin_tree(&pdf, 3);
    pil_test_pdf_object(&pdf, 2, "<< /Type /Pages /Count 2000000000 /Kids [3 0 R] >>");
    pil_test_pdf_object(&pdf, 3, "<< /Type /Page /Parent 2 0 R /MediaBox [0 0 9 9] >>");
    pil_test_pdf_end(&pdf, "");
    check_hostile_pdf("two thousand million pages", &pdf);

    begin_tree(&pdf, 4);
    pil_test_pdf_object(&pdf, 2, "<< /Type /Pages /Count 1 /Kids [3 0 R] >>");
    pil_test_pdf_object(&pdf, 3,
                        "<< /Type /Page /Parent 2 0 R /MediaBox [0 0 99 99] /Contents 4 0 R "
                        "/Resources << /XObject << /X 4 0 R >> >> >>");
    pil_test_pdf_stream(&pdf, 4,
                        "/Type /XObject /Subtype /Form /BBox [0 0 9 9] "
                        "/Resources << /XObject << /X 4 0 R >> >>",
                        "/X Do /X Do /X Do", 17);
    pil_test_pdf_end(&pdf, "");
    check_hostile_pdf("a form that draws itself", &pdf);

    begin_tree(&pdf, 2);
    pil_test_pdf_object(&pdf, 2, "<< /Type /Pages /Count 1 /Kids 2 0 R >>");
    pil_test_pdf_end(&pdf, "/Prev 9 /XRefStm 9");
    check_hostile_pdf("tables that point anywhere", &pdf);

    static const char endless[] = "%PDF-1.4\nxref\n0 1000000000\n0000000000 65535 f \n"
                                  "trailer << /Size 1000000000 /Root 1 0 R /Prev 9 >>\nstartxref\n9\n%%EOF\n";
    check_hostile("a table of a thousand million", "--timeout-ms=1500 text pdf", endless, sizeof endless - 1);
}

static void more_pages_than_the_limit_are_too_large(void **state) {
    (void)state;
    need_poppler();
    const char **texts = calloc(PIL_LIMIT_DOCUMENT_PAGES + 1, sizeof *texts);
    assert_non_null(texts);
    for (size_t i = 0; i <= PIL_LIMIT_DOCUMENT_PAGES; i++) texts[i] = "x";
    pil_test_pdf pdf;
    pil_test_pdf_of_texts(&pdf, texts, PIL_LIMIT_DOCUMENT_PAGES + 1, 12);
    expect_code(run_on_pdf("text pdf", &pdf), "too_large");
    pil_test_pdf_free(&pdf);
    pil_test_pdf_of_texts(&pdf, texts, PIL_LIMIT_DOCUMENT_PAGES, 12);
    answer a = run_on_pdf("text pdf", &pdf);
    assert_int_equal(a.status, 0);
    assert_int_equal(pil_json_int_or(pil_json_get(a.root, "page_count"), -1), PIL_LIMIT_DOCUMENT_PAGES);
    print_message("  %d pages in %.0f ms\n", PIL_LIMIT_DOCUMENT_PAGES, a.ms);
    free_answer(&a);
    pil_test_pdf_free(&pdf);
    free(texts);
}

static void a_pdf_that_asks_for_a_password_is_encrypted(void **state) {
    (void)state;
    need_poppler();
    static const char zeros[] = "<0000000000000000000000000000000000000000000000000000000000000000>";
    pil_test_pdf pdf;
    char entries[400];
    begin_tree(&pdf, 4);
    pil_test_pdf_object(&pdf, 2, "<< /Type /Pages /Count 1 /Kids [3 0 R] >>");
    pil_test_pdf_object(&pdf, 3, "<< /Type /Page /Parent 2 0 R /MediaBox [0 0 9 9] >>");
    pil_test_pdf_object(&pdf, 4, "<< /Filter /Standard /V 1 /R 2 /O %s /U %s /P -4 >>", zeros, zeros);
    snprintf(entries, sizeof entries, "/Encrypt 4 0 R /ID [<01> <02>]");
    pil_test_pdf_end(&pdf, entries);
    expect_code(run_on_pdf("text pdf", &pdf), "encrypted");
    expect_code(run_on_pdf("ocr-detect", &pdf), "encrypted");
    pil_test_pdf_free(&pdf);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_text_of_a_pdf_comes_page_by_page),
        cmocka_unit_test(a_pdf_of_text_is_no_scan_and_one_without_is),
        cmocka_unit_test(a_scanned_document_is_recognised),
        cmocka_unit_test(the_role_itself_recognises_inside_its_cage),
        cmocka_unit_test(a_language_without_data_names_its_package),
        cmocka_unit_test(a_page_too_large_to_draw_is_reported),
        cmocka_unit_test(garbage_is_not_a_pdf),
        cmocka_unit_test(a_pdf_cut_anywhere_is_pages_or_a_typed_error),
        cmocka_unit_test(bombs_end_within_their_limits),
        cmocka_unit_test(circles_and_lies_end_within_their_limits),
        cmocka_unit_test(more_pages_than_the_limit_are_too_large),
        cmocka_unit_test(a_pdf_that_asks_for_a_password_is_encrypted),
    };
    return cmocka_run_group_tests_name("pdf", tests, NULL, NULL);
}
