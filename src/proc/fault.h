/* fault.h - faults on demand inside a worker, in a test build alone (-DPILLION_FAULTS); fault.c says how to ask for it.
 * In every other build these are empty functions, and no word of this is in the program. */
#ifndef PIL_PROC_FAULT_H
#define PIL_PROC_FAULT_H

#include <stdbool.h>

#include "base/buf.h"
#include "proc/frame.h"
#include "proc/page.h"
#include "sched/sched.h"

#ifdef PILLION_FAULTS

typedef struct pil_fault {
    pil_page *page;   /* borrowed */
    uint64_t *seen;   /* the file of what has happened once; NULL: none */
    const char *start; /* what the environment asks of this process; NULL: nothing */
    bool drifted, requested;
    void *held; /* memory until the request is answered */
    char after[64];        /* what happens when the answer is ready to be sent; "": nothing */
    unsigned char *wishes; /* what happens to the item of each input of the request */
    pillion_item *items;   /* copies that were changed, and their vectors */
    float *values;
} pil_fault;

/* Reads the environment, while files can still be opened, and does what it asks of a start. */
pillion_status pil_fault_start(pil_fault *f, pil_page *page, pillion_error *err);
/* Before a request is computed; after it, when items may be exchanged for worse ones. */
void pil_fault_before(pil_fault *f, const pil_frame_request *r);
void pil_fault_after(pil_fault *f, pil_frame_request *r, const pillion_item **items);
/* When the finished frame is about to be sent to fd. */
void pil_fault_send(pil_fault *f, pil_buf *frame, int fd);
/* Whether a variable of the server's environment is meant for the workers' faults. */
bool pil_fault_is_variable(const char *assignment);
/* Shortens the dispatcher's times as the environment of the server says. */
void pil_fault_times(pil_sched_options *o);

#else

typedef struct pil_fault {
    char none;
} pil_fault;

static inline pillion_status pil_fault_start(pil_fault *f, pil_page *page, pillion_error *err) {
    (void)f, (void)page, (void)err;
    return PILLION_OK;
}
static inline void pil_fault_before(pil_fault *f, const pil_frame_request *r) { (void)f, (void)r; }
static inline void pil_fault_after(pil_fault *f, pil_frame_request *r, const pillion_item **items) {
    (void)f, (void)r, (void)items;
}
static inline void pil_fault_send(pil_fault *f, pil_buf *frame, int fd) { (void)f, (void)frame, (void)fd; }
static inline bool pil_fault_is_variable(const char *assignment) {
    (void)assignment;
    return false;
}
static inline void pil_fault_times(pil_sched_options *o) { (void)o; }

#endif
#endif
