/* pdf.c - small PDFs for tests (ISO 32000-1, sections 7.5 and 7.7.3: file structure and page tree). */
#include "support/pdf.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "support/test.h"

void pil_test_pdf_begin(pil_test_pdf *pdf) {
    *pdf = (pil_test_pdf){0};
    pil_buf_init(&pdf->bytes, PIL_TEST_PDF_BYTES);
    pil_buf_puts(&pdf->bytes, "%PDF-1.5\n%\xe2\xe3\xcf\xd3\n");
}

size_t pil_test_pdf_number(pil_test_pdf *pdf) {
    if (pdf->n_objects + 1 >= pdf->cap) {
        pdf->cap = pdf->cap ? 2 * pdf->cap : 64;
        pdf->offsets = realloc(pdf->offsets, pdf->cap * sizeof *pdf->offsets);
        assert_non_null(pdf->offsets);
    }
    pdf->offsets[++pdf->n_objects] = 0;
    return pdf->n_objects;
}

static void open_object(pil_test_pdf *pdf, size_t number) {
    assert_true(number >= 1 && number <= pdf->n_objects);
    pdf->offsets[number] = pdf->bytes.len;
    pil_buf_printf(&pdf->bytes, "%zu 0 obj\n", number);
}

void pil_test_pdf_object(pil_test_pdf *pdf, size_t number, const char *fmt, ...) {
    char body[4096];
    va_list ap;
    va_start(ap, fmt);
    int n = vsnprintf(body, sizeof body, fmt, ap);
    va_end(ap);
    assert_in_range(n, 1, sizeof body - 1);
    open_object(pdf, number);
    pil_buf_puts(&pdf->bytes, body);
    pil_buf_puts(&pdf->bytes, "\nendobj\n");
}

void pil_test_pdf_stream(pil_test_pdf *pdf, size_t number, const char *entries, const void *data, size_t n) {
    open_object(pdf, number);
    pil_buf_printf(&pdf->bytes, "<< /Length %zu %s >>\nstream\n", n, entries);
    pil_buf_append(&pdf->bytes, data, n);
    pil_buf_puts(&pdf->bytes, "\nendstream\nendobj\n");
}

void pil_test_pdf_end(pil_test_pdf *pdf, const char *entries) {
    size_t table = pdf->bytes.len;
    pil_buf_printf(&pdf->bytes, "xref\n0 %zu\n0000000000 65535 f \n", pdf->n_objects + 1);
    for (size_t i = 1; i <= pdf->n_objects; i++)
        pil_buf_printf(&pdf->bytes, "%010zu 00000 %c \n", pdf->offsets[i], pdf->offsets[i] ? 'n' : 'f');
    pil_buf_printf(&pdf->bytes, "trailer\n<< /Size %zu /Root 1 0 R %s >>\nstartxref\n%zu\n%%%%EOF\n",
                   pdf->n_objects + 1, entries, table);
    assert_int_equal(pdf->bytes.failed, PILLION_OK);
}

void pil_test_pdf_free(pil_test_pdf *pdf) {
    pil_buf_deinit(&pdf->bytes);
    free(pdf->offsets);
    *pdf = (pil_test_pdf){0};
}

/* The catalog and the page tree over n pages, whose numbers are first, first + step, … */
static void put_tree(pil_test_pdf *pdf, size_t catalog, size_t tree, size_t first, size_t step, size_t n) {
    pil_test_pdf_object(pdf, catalog, "<< /Type /Catalog /Pages %zu 0 R >>", tree);
    open_object(pdf, tree);
    pil_buf_printf(&pdf->bytes, "<< /Type /Pages /Count %zu /Kids [", n);
    for (size_t i = 0; i < n; i++) pil_buf_printf(&pdf->bytes, "%zu 0 R ", first + i * step);
    pil_buf_puts(&pdf->bytes, "] >>\nendobj\n");
}

static void put_lines(pil_buf *b, const char *text, int points) {
    pil_buf_printf(b, "BT /F1 %d Tf %d TL 60 780 Td (", points, points * 3 / 2);
    for (const char *c = text; *c; c++) {
        if (*c == '\n') pil_buf_puts(b, ") Tj T* (");
        else if (strchr("()\\", *c)) pil_buf_printf(b, "\\%c", *c);
        else pil_buf_putc(b, *c);
    }
    pil_buf_puts(b, ") Tj ET");
}

void pil_test_pdf_of_texts(pil_test_pdf *pdf, const char *const *texts, size_t n, int points) {
    pil_test_pdf_begin(pdf);
    size_t catalog = pil_test_pdf_number(pdf), tree = pil_test_pdf_number(pdf), font = pil_test_pdf_number(pdf);
    pil_test_pdf_object(pdf, font, "<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>");
    put_tree(pdf, catalog, tree, pdf->n_objects + 1, 2, n);
    for (size_t i = 0; i < n; i++) {
        size_t page = pil_test_pdf_number(pdf), content = pil_test_pdf_number(pdf);
        pil_test_pdf_object(pdf, page,
                            "<< /Type /Page /Parent %zu 0 R /MediaBox [0 0 595 842] /Contents %zu 0 R "
                            "/Resources << /Font << /F1 %zu 0 R >> >> >>",
                            tree, content, font);
        pil_buf lines;
        pil_buf_init(&lines, PIL_TEST_PDF_BYTES);
        put_lines(&lines, texts[i], points);
        pil_test_pdf_stream(pdf, content, "", lines.bytes, lines.len);
        pil_buf_deinit(&lines);
    }
    pil_test_pdf_end(pdf, "");
}

void pil_test_pdf_of_images(pil_test_pdf *pdf, const pil_test_image *images, size_t n) {
    static const char draw[] = "q 595 0 0 842 0 0 cm /Im Do Q";
    pil_test_pdf_begin(pdf);
    size_t catalog = pil_test_pdf_number(pdf), tree = pil_test_pdf_number(pdf);
    put_tree(pdf, catalog, tree, pdf->n_objects + 1, 3, n);
    for (size_t i = 0; i < n; i++) {
        size_t page = pil_test_pdf_number(pdf), content = pil_test_pdf_number(pdf), image = pil_test_pdf_number(pdf);
        char entries[200];
        pil_test_pdf_object(pdf, page,
                            "<< /Type /Page /Parent %zu 0 R /MediaBox [0 0 595 842] /Contents %zu 0 R "
                            "/Resources << /XObject << /Im %zu 0 R >> >> >>",
                            tree, content, image);
        pil_test_pdf_stream(pdf, content, "", draw, sizeof draw - 1);
        snprintf(entries, sizeof entries,
                 "/Type /XObject /Subtype /Image /Width %zu /Height %zu /ColorSpace /DeviceGray /BitsPerComponent 8",
                 images[i].width, images[i].height);
        pil_test_pdf_stream(pdf, image, entries, images[i].grey, images[i].width * images[i].height);
    }
    pil_test_pdf_end(pdf, "");
}
