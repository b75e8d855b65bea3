/* sandbox_int.h - what the files of this room share. Each function applies one layer to the calling process. */
#ifndef PIL_SANDBOX_SANDBOX_INT_H
#define PIL_SANDBOX_SANDBOX_INT_H

#include <stdbool.h>

#include "sandbox/sandbox.h"

/* landlock.c. The ABI of this kernel; 0 without Landlock. */
int pil_landlock_abi(void);
/* *applied is false when the kernel has none. no_new_privs must be set. */
pillion_status pil_landlock_apply(const pil_sandbox_policy *policy, bool *applied, pillion_error *err);

/* filter.c. Whether the kernel takes seccomp filters. */
bool pil_filter_available(void);
pillion_status pil_filter_apply(pil_sandbox_role role, bool *applied, pillion_error *err);

#endif
