/* test.h - cmocka with the headers it needs in front of it, and the assertions and reasons to skip that rooms share. */
#ifndef PIL_TESTS_TEST_H
#define PIL_TESTS_TEST_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "pillion/pillion.h"

#if defined(__SANITIZE_THREAD__)
#define HIDDEN_THREAD 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define HIDDEN_THREAD 1
#endif
#endif
#ifndef HIDDEN_THREAD
#define HIDDEN_THREAD 0
#endif

/* The call must succeed; err is its pillion_error. */
#define assert_ok(call, err)                                                                                  \
    do {                                                                                                      \
        pillion_status assert_status = (call);                                                                \
        if (assert_status) fail_msg("%s: %d: %s", #call, assert_status, (err).text);                          \
    } while (0)

/* err must hold this code and a text that contains part. */
#define assert_error(err, wanted, part)                                                                       \
    do {                                                                                                      \
        if ((err).code != (wanted) || !strstr((err).text, (part)))                                            \
            fail_msg("wanted code %d and \"%s\", got %d: \"%s\"", (wanted), (part), (err).code, (err).text);  \
    } while (0)

static inline void skip_with(const char *why) {
    print_message("skipped: %s\n", why);
    skip();
}

/* ThreadSanitizer keeps a thread of its own, which the cage rightly refuses. */
static inline void need_one_thread(void) {
    if (HIDDEN_THREAD) skip_with("this sanitizer keeps a second thread");
}

#endif
