/* progress.c - one line on a terminal that shows how far a long work has come; nothing anywhere else.
 *
 *     embedding [=========>          ]  45%  12,345 texts  312/s  0:12 left
 *
 * The line is redrawn in place with a carriage return and "erase to end of line" (ECMA-48). Rate and time left are
 * means over the whole work: steady, and right for work of an even kind. Tests: tests/cmd/test_terminal.py. */
#include "cmd/progress.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "base/clock.h"
#include "cmd/say.h"

#define QUIET_NS 500000000u /* nothing is drawn before */
#define DRAW_NS 100000000u  /* between two drawings */
#define LINE_MAX_COLUMNS 240
#define BAR_MAX 30 /* columns between the brackets: as many as put_bar has characters */

void pil_progress_start(pil_progress *p, const char *label, const char *unit, bool wanted) {
    const char *term = getenv("TERM");
    bool can_draw = isatty(STDERR_FILENO) && !(term && strcmp(term, "dumb") == 0);
    uint64_t now = pil_clock_ns();
    *p = (pil_progress){.label = label, .unit = unit, .on = wanted && can_draw, .start_ns = now, .last_ns = now};
}

double pil_progress_seconds(const pil_progress *p) { return pil_clock_ms(p->start_ns) / 1e3; }

static size_t terminal_columns(void) {
    struct winsize w;
    return ioctl(STDERR_FILENO, TIOCGWINSZ, &w) == 0 && w.ws_col > 0 ? w.ws_col : 80;
}

/* " 0:12 left" or " 1:02:03 left" */
static int put_left(char *out, size_t out_bytes, double seconds) {
    unsigned long s = seconds < 1e8 ? (unsigned long)(seconds + 0.5) : 0;
    if (s >= 3600) return snprintf(out, out_bytes, "  %lu:%02lu:%02lu left", s / 3600, s / 60 % 60, s % 60);
    return snprintf(out, out_bytes, "  %lu:%02lu left", s / 60, s % 60);
}

/* "[===>   ]  45%" of `width` columns between the brackets. */
static size_t put_bar(char *out, size_t out_bytes, size_t width, double fraction) {
    static const char full[] = "==============================", blank[] = "                              ";
    size_t done = (size_t)(fraction * (double)width);
    if (done >= width) done = width - 1;
    return (size_t)snprintf(out, out_bytes, "[%.*s>%.*s] %3d%%", (int)done, full, (int)(width - done - 1), blank,
                            (int)(fraction * 100));
}

static void draw(pil_progress *p, uint64_t done, double fraction) {
    char tail[160], count[PIL_SAY_COUNT_BYTES], line[LINE_MAX_COLUMNS + 64];
    double seconds = pil_progress_seconds(p);
    size_t columns = terminal_columns(), n = 0;
    if (fraction > 1) fraction = 1;
    if (columns > LINE_MAX_COLUMNS) columns = LINE_MAX_COLUMNS;
    tail[0] = '\0';
    if (p->unit) {
        double rate = (double)done / seconds;
        n = (size_t)snprintf(tail, sizeof tail, "  %s %s  %.*f/s", pil_say_count(count, done), p->unit,
                             rate < 10 ? 1 : 0, rate);
    }
    if (fraction > 0.005) put_left(tail + n, sizeof tail - n, seconds * (1 - fraction) / fraction);
    size_t at = (size_t)snprintf(line, LINE_MAX_COLUMNS, "%s ", p->label), used = at + strlen(tail) + 8;
    size_t width = columns > used + BAR_MAX ? BAR_MAX : columns > used ? columns - used : 0;
    if (fraction >= 0 && width >= 5) at += put_bar(line + at, sizeof line - at, width, fraction);
    snprintf(line + at, sizeof line - at, "%s", tail);
    line[columns - 1] = '\0'; /* a full last column would scroll */
    fprintf(stderr, "\r%s\033[K", line);
    fflush(stderr);
    p->drawn = true;
}

void pil_progress_update(pil_progress *p, uint64_t done, double fraction) {
    if (!p->on) return;
    uint64_t now = pil_clock_ns();
    if (now - p->start_ns < QUIET_NS || now - p->last_ns < DRAW_NS) return;
    p->last_ns = now;
    draw(p, done, fraction);
}

bool pil_progress_stop(pil_progress *p) {
    if (p->drawn) fputs("\r\033[K", stderr);
    bool was = p->drawn;
    p->on = p->drawn = false;
    return was;
}
