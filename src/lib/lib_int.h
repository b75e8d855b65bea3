/* lib_int.h - the two opaque types of pillion.h. */
#ifndef PIL_LIB_LIB_INT_H
#define PIL_LIB_LIB_INT_H

#include "base/arena.h"
#include "base/buf.h"
#include "base/thread.h"
#include "compile/compile.h"
#include "pillion/pillion.h"

struct pillion_model {
    pil_compiled compiled;
    char *path; /* of the compiled file; NULL: it is in memory */
    pillion_info info;
    char pooling[64];
    const char *prompt_names[PIL_PROMPTS_MAX], *prompt_texts[PIL_PROMPTS_MAX];
};

/* What one thread of a session owns. */
typedef struct pil_lane {
    pil_token_scratch *token;
    pil_scratch *scratch;
    pil_arena results; /* ids and spellings of this call's inputs that this thread handled */
    pil_buf text;      /* prompt and text joined */
} pil_lane;

struct pillion_session {
    const pillion_model *model;
    size_t batch_tokens;
    pil_team *team;
    unsigned n_lanes;
    pil_lane *lanes;   /* [n_lanes], one for each thread of the team */
    pil_arena results; /* items and vectors of the last call */
    pil_buf text;      /* DECODE, INFO */
};

/* Tokens run at once when nobody asks for another number: enough rows for the kernels to reach their speed while the
 * activations stay in the outer caches. */
#define PIL_BATCH_TOKENS 256

size_t pil_lib_batch_tokens(const pil_config *c, uint32_t asked);

/* What a proof of a model has found, with the name of what it was found in. */
pillion_status pil_lib_proved(const pillion_model *m, pillion_status st, const pillion_error *why, pillion_error *err);

/* info as one JSON object (the answer to PILLION_OP_INFO). */
pillion_status pil_lib_info_json(const pillion_info *info, pil_buf *out);

#endif
