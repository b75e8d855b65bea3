/* options.c - defaults of the public option structs, status texts, the version. Tests: tests/lib/test_api.c. */
#include <string.h>

#include "pillion/pillion.h"

const char *pillion_status_text(pillion_status status) {
    switch (status) {
#define STATUS_CASE(name, value, text) \
    case PILLION_##name: return text;
        PILLION_STATUS_MAP(STATUS_CASE)
#undef STATUS_CASE
    }
    return "unknown status";
}

const char *pillion_version(void) { return PILLION_VERSION; }

void pillion_model_options_init(pillion_model_options *opt) {
    *opt = (pillion_model_options){.size_bytes = sizeof *opt, .precision = PILLION_PRECISION_AUTO};
}

void pillion_session_options_init(pillion_session_options *opt) {
    *opt = (pillion_session_options){.size_bytes = sizeof *opt, .threads = 1};
}

void pillion_run_options_init(pillion_run_options *opt) {
    *opt = (pillion_run_options){.size_bytes = sizeof *opt,
                                 .normalize = PILLION_NORMALIZE_ON,
                                 .truncate = PILLION_TRUNCATE_END};
}
