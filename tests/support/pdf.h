/* pdf.h - small PDFs for tests: pages of text, pages that are one grey bitmap, and objects written as they are. */
#ifndef PIL_TESTS_PDF_H
#define PIL_TESTS_PDF_H

#include <stddef.h>

#include "base/buf.h"

#define PIL_TEST_PDF_BYTES ((size_t)64 << 20)

/* A PDF in the making. Objects are numbered from 1; number 1 must become the catalog. */
typedef struct pil_test_pdf {
    pil_buf bytes;
    size_t *offsets; /* by object number; 0 for one that is not written yet */
    size_t n_objects, cap;
} pil_test_pdf;

void pil_test_pdf_begin(pil_test_pdf *pdf);
/* Reserves a number, for objects that name one another. */
size_t pil_test_pdf_number(pil_test_pdf *pdf);
/* Writes object `number` with the body that fmt makes. */
__attribute__((format(printf, 3, 4))) void pil_test_pdf_object(pil_test_pdf *pdf, size_t number, const char *fmt, ...);
/* Writes a stream object; entries are further entries of its dictionary. */
void pil_test_pdf_stream(pil_test_pdf *pdf, size_t number, const char *entries, const void *data, size_t n);
/* Writes the table and the trailer; entries are further entries of the trailer. The bytes are then pdf->bytes. */
void pil_test_pdf_end(pil_test_pdf *pdf, const char *entries);
void pil_test_pdf_free(pil_test_pdf *pdf);

/* A4 pages, one for each text: ASCII, lines separated by \n, Helvetica at the given size. */
void pil_test_pdf_of_texts(pil_test_pdf *pdf, const char *const *texts, size_t n, int points);

/* A bitmap, eight bits for each pixel. */
typedef struct pil_test_image {
    size_t width, height;
    const unsigned char *grey; /* [height, width] */
} pil_test_image;
/* A4 pages, each filled by one bitmap: what a scanner makes. */
void pil_test_pdf_of_images(pil_test_pdf *pdf, const pil_test_image *images, size_t n);

#endif
