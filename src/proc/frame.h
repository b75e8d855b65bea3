/* frame.h - the wire format between the server and a worker. Both directions are untrusted: every field is checked.
 *
 * A frame is a header of 16 bytes and a payload, all little-endian:
 *     u32 payload bytes | u16 version | u16 type | u64 batch id
 * Inside a payload, arrays of 4-byte values start at a multiple of 4 from the payload's start. Types:
 *     READY    worker -> server   u32 dim, u32 hidden, u32 max_tokens, string: pillion_info as JSON,
 *                                 string: what cages the worker, in the words of sandbox.h,
 *                                 dim values: the vector of PILLION_CANARY_TEXT
 *     FAILED   worker -> server   i32 status, string: why the model cannot be served
 *     REQUEST  server -> worker   u8 op, normalize, truncate, skip_special; optional string prompt name; u32 n;
 *                                 n times: u32 tag, u32 kind (0 text, 1 ids), u32 count, bytes of the text or i32 ids
 *     REPLY    worker -> server   i32 status, u32 n (0 unless status is OK); n times: u32 tag, i32 status,
 *                                 u32 truncated, u32 n_tokens, u32 n_tokens_all, u64 error_offset, u32 n_values,
 *                                 u32 n_ids, u32 n_strings, optional string text, then values, ids, strings
 * A string is u32 bytes and the bytes; an optional one has 0xFFFFFFFF for "none". A tag is a number that the server
 * draws for each input; the item in its place must have it, so that an answer to another text is never taken for it. */
#ifndef PIL_PROC_FRAME_H
#define PIL_PROC_FRAME_H

#include "base/arena.h"
#include "base/buf.h"
#include "pillion/pillion.h"

#define PIL_FRAME_HEADER_BYTES 16
#define PIL_FRAME_VERSION 3

typedef enum pil_frame_type {
    PIL_FRAME_READY = 1,
    PIL_FRAME_FAILED = 2,
    PIL_FRAME_REQUEST = 3,
    PIL_FRAME_REPLY = 4,
} pil_frame_type;

typedef struct pil_frame_header {
    uint32_t payload_bytes;
    pil_frame_type type;
    uint64_t id;
} pil_frame_header;

/* E_FORMAT: another version, an unknown type, or a payload over payload_bytes_max. */
pillion_status pil_frame_get_header(pil_frame_header *out, const void *bytes, size_t payload_bytes_max,
                                    pillion_error *err);

/* Writing. Each appends to out (made with a limit); begin and end enclose one frame, *mark is where it began.
 * Return the buffer's sticky status. */
pillion_status pil_frame_begin(pil_buf *out, pil_frame_type type, uint64_t id, size_t *mark);
pillion_status pil_frame_end(pil_buf *out, size_t mark);

/* canary: [info->dim]. */
pillion_status pil_frame_put_ready(pil_buf *out, const pillion_info *info, const char *json, size_t json_bytes,
                                   const char *sandbox, const float *canary);
pillion_status pil_frame_put_failed(pil_buf *out, const pillion_error *why);
/* Inside begin and end: the head, then n inputs. */
pillion_status pil_frame_put_request(pil_buf *out, pillion_op op, const pillion_run_options *opt, size_t n);
pillion_status pil_frame_put_input(pil_buf *out, uint32_t tag, const pillion_input *in);
/* A whole frame. items and tags, both [n], are ignored unless status is OK. */
pillion_status pil_frame_put_reply(pil_buf *out, uint64_t id, pillion_status status, const pillion_item *items,
                                   const uint32_t *tags, size_t n);

/* Reading. Each takes a whole payload, aligned to 4; what it returns is borrowed from the payload and from arena.
 * E_FORMAT names the field that is wrong; E_NOMEM when the arena is exhausted. */
typedef struct pil_frame_ready {
    uint32_t dim, hidden, max_tokens;
    const char *json;
    size_t json_bytes;
    const char *sandbox; /* printable ASCII */
    size_t sandbox_bytes;
    const float *canary; /* [dim], finite and of some length */
} pil_frame_ready;
pillion_status pil_frame_get_ready(pil_frame_ready *out, const void *payload, size_t n, pillion_error *err);

/* why receives the worker's own words, made one line of valid UTF-8. */
pillion_status pil_frame_get_failed(pillion_error *why, const void *payload, size_t n, pillion_error *err);

typedef struct pil_frame_request {
    pillion_op op;
    pillion_run_options options;
    const pillion_input *inputs; /* [n] */
    const uint32_t *tags;        /* [n] */
    size_t n;
} pil_frame_request;
pillion_status pil_frame_get_request(pil_frame_request *out, pil_arena *arena, const void *payload, size_t n,
                                     pillion_error *err);

/* What a reply must look like to be believed. */
typedef struct pil_frame_expect {
    pillion_op op;
    size_t n;             /* items */
    const uint32_t *tags; /* [n] */
    uint32_t dim, hidden; /* from READY */
} pil_frame_expect;
typedef struct pil_frame_reply {
    pillion_status status;
    pillion_item *items; /* [expect->n] when status is OK, else NULL */
} pil_frame_reply;
/* A vector with a value that is not finite, or with no length, becomes an item with E_NUMERIC. */
pillion_status pil_frame_get_reply(pil_frame_reply *out, pil_arena *arena, const pil_frame_expect *expect,
                                   const void *payload, size_t n, pillion_error *err);

#endif
