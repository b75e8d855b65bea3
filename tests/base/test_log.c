/* test_log.c - one line for each event, in logfmt, whatever is put in it. */
#include <fcntl.h>
#include <regex.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/log.h"
#include "support/test.h"

static int saved = -1, captured = -1;

static void start_capture(void) {
    char name[] = "/tmp/pillion-log.XXXXXX";
    captured = mkstemp(name);
    assert_true(captured >= 0);
    unlink(name);
    saved = dup(STDERR_FILENO);
    dup2(captured, STDERR_FILENO);
}

/* What was written since start_capture, NUL-terminated. */
static void end_capture(char *out, size_t out_bytes) {
    dup2(saved, STDERR_FILENO);
    close(saved);
    ssize_t n = pread(captured, out, out_bytes - 1, 0);
    close(captured);
    out[n > 0 ? n : 0] = '\0';
}

static size_t lines_of(const char *text) {
    size_t n = 0;
    for (; *text; text++) n += *text == '\n';
    return n;
}

static void a_line_has_time_level_role_process_and_fields(void **state) {
    (void)state;
    char out[4096], pattern[512];
    start_capture();
    pil_log_init(PIL_LOG_INFO, "worker 1");
    pil_log(PIL_LOG_WARN, "batch lost", "tokens=%d ms=%.1f", 512, 31.0);
    pil_log(PIL_LOG_INFO, "ready", "%s", "");
    end_capture(out, sizeof out);
    snprintf(
        pattern, sizeof pattern,
        "^ts=[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\\.[0-9]{3}Z level=warn role=\"worker 1\" pid=%d "
        "msg=\"batch lost\" tokens=512 ms=31\\.0\nts=[^ ]+ level=info role=\"worker 1\" pid=%d msg=\"ready\"\n$",
        (int)getpid(), (int)getpid());
    regex_t r;
    assert_int_equal(regcomp(&r, pattern, REG_EXTENDED | REG_NOSUB), 0);
    if (regexec(&r, out, 0, NULL, 0) != 0) fail_msg("%s", out);
    regfree(&r);
}

static void levels_above_the_one_set_are_dropped(void **state) {
    (void)state;
    char out[4096];
    start_capture();
    pil_log_init(PIL_LOG_WARN, "r");
    pil_log(PIL_LOG_INFO, "not this", "%s", "");
    pil_log(PIL_LOG_DEBUG, "nor this", "%s", "");
    pil_log(PIL_LOG_ERROR, "this", "%s", "");
    pil_log_init(PIL_LOG_DEBUG, "r");
    pil_log(PIL_LOG_DEBUG, "and this", "%s", "");
    end_capture(out, sizeof out);
    assert_int_equal(lines_of(out), 2);
    assert_null(strstr(out, "not this"));
}

static void an_event_is_one_line_even_when_it_holds_line_ends_or_is_too_long(void **state) {
    (void)state;
    char out[8192], fields[3000];
    memset(fields, 'x', sizeof fields - 1);
    fields[sizeof fields - 1] = '\0';
    start_capture();
    pil_log_init(PIL_LOG_INFO, "r");
    pil_log(PIL_LOG_INFO, "a\nb", "path=%s", "/tmp/x\nlevel=error msg=\"forged\"\r\x1B[2J");
    pil_log(PIL_LOG_INFO, "long", "%s", fields);
    end_capture(out, sizeof out);
    assert_int_equal(lines_of(out), 2);
    assert_null(strchr(out, '\r'));
    assert_null(strchr(out, '\x1B'));
    assert_true(strlen(out) < 2048);
}

/* A pipe that nobody reads, a closed one and a full disk: the call returns, and what was lost is told. */
static void lines_that_cannot_be_written_are_counted(void **state) {
    (void)state;
    char out[4096];
    int ends[2], full = open("/dev/full", O_WRONLY), real = dup(STDERR_FILENO);
    assert_int_equal(pipe(ends), 0);
    assert_true(full >= 0);
    fcntl(ends[1], F_SETFL, O_NONBLOCK);
    while (write(ends[1], "x", 1) == 1) continue;
    fcntl(ends[1], F_SETFL, 0); /* from now on a write would wait for ever */
    pil_log_init(PIL_LOG_WARN, "r");
    dup2(ends[1], STDERR_FILENO);
    for (int i = 0; i < 3; i++) pil_log(PIL_LOG_WARN, "lost", "n=%d", i);
    close(ends[0]); /* a write would raise SIGPIPE */
    pil_log(PIL_LOG_WARN, "lost", "n=%d", 3);
    dup2(full, STDERR_FILENO);
    pil_log(PIL_LOG_WARN, "lost", "n=%d", 4);
    close(STDERR_FILENO);
    pil_log(PIL_LOG_WARN, "lost", "n=%d", 5);
    dup2(real, STDERR_FILENO);
    start_capture();
    pil_log(PIL_LOG_WARN, "again", "n=%d", 6);
    pil_log(PIL_LOG_WARN, "again", "n=%d", 7);
    end_capture(out, sizeof out);
    assert_non_null(strstr(out, "msg=\"again\" n=6 lost=6\n"));
    assert_non_null(strstr(out, "msg=\"again\" n=7\n"));
    close(ends[1]);
    close(full);
    close(real);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_line_has_time_level_role_process_and_fields),
        cmocka_unit_test(levels_above_the_one_set_are_dropped),
        cmocka_unit_test(an_event_is_one_line_even_when_it_holds_line_ends_or_is_too_long),
        cmocka_unit_test(lines_that_cannot_be_written_are_counted),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
