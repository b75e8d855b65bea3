/* holder.h - who listens on an address that we want. */
#ifndef PIL_CMD_HOLDER_H
#define PIL_CMD_HOLDER_H

#include <stdbool.h>
#include <stddef.h>

typedef struct pil_holder {
    bool is_pillion; /* it answers like a server of ours */
    int pid;         /* 0: unknown, another user's for example */
    char name[32];   /* of its program; "" when the process is unknown */
} pil_holder;

/* Finds out, in a quarter of a second at most. host: a numeric address or "localhost". */
void pil_holder_find(pil_holder *out, const char *host, unsigned port);

#endif
