/* test.h - cmocka with the headers it needs in front of it, and one assertion all rooms use. */
#ifndef PIL_TESTS_TEST_H
#define PIL_TESTS_TEST_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "pillion/pillion.h"

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

#endif
