/* pillion.h - the public C API of libpillion: texts to vectors, inside your own process.
 *
 *     #include <pillion/pillion.h>
 *     #include <stdio.h>
 *
 *     int main(void) {
 *         pillion_model *model;
 *         pillion_session *session;
 *         pillion_error err = {0};
 *         if (pillion_model_open(&model, "path/to/all-MiniLM-L6-v2", NULL, &err)) goto fail;
 *         if (pillion_session_create(&session, model, NULL, &err)) goto fail;
 *         pillion_input in = {.text = "a text to embed", .text_bytes = 15};
 *         const pillion_item *items;
 *         if (pillion_run(session, PILLION_OP_EMBED, &in, 1, NULL, &items, &err)) goto fail;
 *         for (size_t i = 0; i < items[0].n_values; i++) printf("%g\n", items[0].values[i]);
 *         pillion_session_destroy(session);
 *         pillion_model_close(model);
 *         return 0;
 *     fail:
 *         fprintf(stderr, "%s\n", err.text);
 *         return 1;
 *     }
 *
 * A model is immutable once open and may be shared by any number of sessions and threads. A session is scratch
 * memory (and, if asked for, helper threads): one call at a time for each session. The library never prints, never
 * exits, and keeps no global state. Every function that returns a pillion_status returns PILLION_OK (0) or a
 * negative code; the nullable `err` then holds one line for a person. */
#ifndef PILLION_H
#define PILLION_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define PILLION_VERSION "0.1.0"

#if defined(__GNUC__)
#define PILLION_API __attribute__((visibility("default")))
#define PILLION_MUST_USE __attribute__((warn_unused_result))
#else
#define PILLION_API
#define PILLION_MUST_USE
#endif

/* ── Status ─────────────────────────────────────────────────────────────────────────────────────────────────── */

/* name, value, text. The order and the values are part of the ABI and of the wire format: append only. */
#define PILLION_STATUS_MAP(X)                                                    \
    X(OK, 0, "success")                                                          \
    X(E_ARG, -1, "wrong argument")                                               \
    X(E_NOMEM, -2, "out of memory")                                              \
    X(E_IO, -3, "input or output failed")                                        \
    X(E_NOT_FOUND, -4, "not found")                                              \
    X(E_FORMAT, -5, "malformed file")                                            \
    X(E_UNSUPPORTED, -6, "not supported")                                        \
    X(E_UTF8, -7, "text is not valid UTF-8")                                     \
    X(E_TOO_LONG, -8, "text is longer than the model takes")                     \
    X(E_LIMIT, -9, "over a limit")                                               \
    X(E_CANCELLED, -10, "cancelled")                                             \
    X(E_STALE, -11, "compiled file does not belong to its source any more")      \
    X(E_NUMERIC, -12, "result is not a finite vector")                           \
    X(E_INTERNAL, -13, "internal error")                                         \
    X(E_POISON, -14, "text makes the engine crash and is set aside")             \
    X(E_DEADLINE, -15, "not computed in time")                                   \
    X(E_LOST, -16, "too many workers died under this request; try again")        \
    X(E_UNAVAILABLE, -17, "no worker can be started")

typedef enum pillion_status {
#define PILLION_STATUS_ENUM(name, value, text) PILLION_##name = value,
    PILLION_STATUS_MAP(PILLION_STATUS_ENUM)
#undef PILLION_STATUS_ENUM
} pillion_status;

/* One line for a person: what is wrong, where, what to do. The first error wins; later ones do not overwrite it. */
typedef struct pillion_error {
    pillion_status code;
    char text[244];
} pillion_error;

/* Static text of a status; never NULL. */
PILLION_API const char *pillion_status_text(pillion_status status);
/* Version of the library in use, for example "0.1.0". */
PILLION_API const char *pillion_version(void);

/* ── Models ─────────────────────────────────────────────────────────────────────────────────────────────────── */

typedef struct pillion_model pillion_model;

typedef enum pillion_precision {
    PILLION_PRECISION_AUTO = 0, /* the fastest one whose measured fidelity passes the floor; today f32 */
    PILLION_PRECISION_F32 = 1,
    PILLION_PRECISION_BF16 = 2, /* not built yet: E_UNSUPPORTED */
    PILLION_PRECISION_INT8 = 3, /* not built yet: E_UNSUPPORTED */
} pillion_precision;

/* Called now and then while a model is compiled, with done <= total in bytes of weights. */
typedef void (*pillion_progress_fn)(uint64_t done, uint64_t total, void *ud);

typedef struct pillion_model_options {
    size_t size_bytes; /* sizeof(pillion_model_options), set by _init */
    pillion_precision precision;
    const char *cache_dir; /* where compiled files are kept; NULL: $XDG_CACHE_HOME/pillion or ~/.cache/pillion */
    pillion_progress_fn progress;
    void *progress_ud;
    void *reserved[4];
} pillion_model_options;

/* Fills defaults: precision AUTO, default cache, no progress. */
PILLION_API void pillion_model_options_init(pillion_model_options *opt);

/* Makes sure that a compiled file for `source` exists and is fresh, compiling it if it is missing, stale or damaged as
 * far as opening sees. Damaged weights are pillion_model_check's to find: remove the file at out_path then, and prepare
 * again.
 *   source      a Hugging Face directory, or a compiled file (then only its path is copied).
 *   out_path    caller's memory of out_bytes, receives the path of the compiled file.
 *   Errors      E_NOT_FOUND, E_FORMAT, E_UNSUPPORTED, E_LIMIT, E_NUMERIC (the weights give no finite vector), E_STALE
 *               (a file of the directory changed meanwhile), E_IO, E_NOMEM. Nothing partial is ever visible: the file
 *               is written beside its final name and renamed. Two processes compiling the same model wait for each
 *               other.
 */
PILLION_API PILLION_MUST_USE pillion_status pillion_prepare(const char *source, const pillion_model_options *opt,
                                                            char *out_path, size_t out_bytes, pillion_error *err);

/* Opens a model: a compiled file is mapped; a Hugging Face directory is prepared first (see pillion_prepare).
 *   out      given: close with pillion_model_close. NULL on failure. */
PILLION_API PILLION_MUST_USE pillion_status pillion_model_open(pillion_model **out, const char *path,
                                                               const pillion_model_options *opt, pillion_error *err);

/* Opens a compiled file that is already in memory. `data` is borrowed until the model is closed, 64-byte aligned. */
PILLION_API PILLION_MUST_USE pillion_status pillion_model_open_memory(pillion_model **out, const void *data,
                                                                      size_t data_bytes, pillion_error *err);

/* Compares everything behind the file's header with the SHA-256 stored when it was compiled (the header itself was
 * compared with its XXH64 when the model was opened), then embeds the canary text and compares its vector. E_FORMAT if
 * either differs. Takes about a second for each GB. */
PILLION_API PILLION_MUST_USE pillion_status pillion_model_verify(const pillion_model *model, pillion_error *err);

/* The text whose vector every compiled file carries: some of everything that a tokenizer treats apart. */
#define PILLION_CANARY_TEXT \
    "Pillion's canary sings: 12 notes, \xC3\xA9\xC3\xA9n lied, \xE4\xB8\x80\xE9\xA6\x96\xE6\xAD\x8C."

/* Embeds the canary text and compares its vector with the one stored when the file was compiled: E_FORMAT if it
 * differs or is not finite, E_NOMEM. One short forward pass: what a process does before it offers its work. Not
 * run by pillion_model_open, which does not touch the weights. pillion_session_check does it with a session. */
PILLION_API PILLION_MUST_USE pillion_status pillion_model_check(const pillion_model *model, pillion_error *err);

/* Accepts NULL. No session of the model may be alive. */
PILLION_API void pillion_model_close(pillion_model *model);

/* What a model is. All strings are borrowed from the model. */
typedef struct pillion_info {
    size_t size_bytes;
    const char *name;         /* as in the source's configuration, else the directory's last component */
    const char *architecture; /* "bert", "xlm-roberta", "mpnet", … */
    const char *tokenizer;    /* "WordPiece", "Unigram", … */
    const char *precision;    /* "f32" */
    const char *pooling;      /* "mean", "cls", "cls+mean", … */
    const char *kernels;      /* the tier of this machine: "avx512", "avx2", "neon", "ref" */
    const char *source;       /* directory it was compiled from; "" when unknown */
    const char *digest;       /* SHA-256 of everything behind the header, in hex: equal digests, equal weights */
    uint32_t dim;             /* values in one vector */
    uint32_t hidden, layers, heads, ffn;
    uint32_t vocab;
    uint32_t max_tokens;  /* special tokens included */
    uint32_t normalizes;  /* 1 if the model's own pipeline ends in a unit vector */
    uint64_t parameters;  /* counted over all tensors of the network */
    uint64_t file_bytes;  /* size of the compiled file, shared by all processes that map it */
    uint64_t scratch_bytes; /* memory of one session with one thread */
    double fidelity_mean, fidelity_min; /* cosine against f32 on the built-in texts; 1 for f32 */
    uint32_t n_prompts;
    const char *const *prompt_names; /* [n_prompts] */
    const char *const *prompt_texts; /* [n_prompts] */
    const char *default_prompt;      /* name, or NULL */
} pillion_info;

/* Borrowed until the model is closed; never fails. */
PILLION_API const pillion_info *pillion_model_info(const pillion_model *model);

/* ── Sessions ───────────────────────────────────────────────────────────────────────────────────────────────── */

typedef struct pillion_session pillion_session;

typedef struct pillion_session_options {
    size_t size_bytes;
    uint32_t threads;      /* 0: one for each core this process may use; 1: the calling thread alone (default) */
    uint32_t batch_tokens; /* tokens run through the network at once on each thread; 0: chosen from the model */
    void *reserved[4];
} pillion_session_options;

PILLION_API void pillion_session_options_init(pillion_session_options *opt);

/* Allocates all scratch memory: pillion_run allocates only for its results. `model` is borrowed until destroyed. */
PILLION_API PILLION_MUST_USE pillion_status pillion_session_create(pillion_session **out, const pillion_model *model,
                                                                   const pillion_session_options *opt,
                                                                   pillion_error *err);
PILLION_API void pillion_session_destroy(pillion_session *session);

/* ── Work ───────────────────────────────────────────────────────────────────────────────────────────────────── */

typedef enum pillion_op {
    PILLION_OP_EMBED = 1,        /* one vector for each input */
    PILLION_OP_EMBED_TOKENS = 2, /* one vector for each token: the network's output before pooling */
    PILLION_OP_TOKENIZE = 3,     /* token ids and the tokens themselves */
    PILLION_OP_DECODE = 4,       /* ids back to text */
    PILLION_OP_INFO = 5,         /* items[0].text is pillion_info as a JSON object; inputs are ignored */
} pillion_op;

/* One input, as text or as ids. Borrowed for the call. */
typedef struct pillion_input {
    const char *text; /* UTF-8, may contain NUL; NULL when ids are given */
    size_t text_bytes;
    const int32_t *ids; /* used as they are, special tokens included; NULL when text is given */
    size_t n_ids;
} pillion_input;

typedef enum pillion_truncate {
    PILLION_TRUNCATE_END = 0,   /* keep the beginning, as sentence-transformers does */
    PILLION_TRUNCATE_ERROR = 1, /* the item fails with E_TOO_LONG */
    PILLION_TRUNCATE_NONE = 2,  /* TOKENIZE only: no limit */
} pillion_truncate;

typedef enum pillion_normalize {
    PILLION_NORMALIZE_ON = 0,    /* unit vectors, whatever the model's own pipeline does */
    PILLION_NORMALIZE_MODEL = 1, /* follow the model's pipeline */
} pillion_normalize;

typedef struct pillion_run_options {
    size_t size_bytes;
    pillion_normalize normalize;
    pillion_truncate truncate;
    const char *prompt_name; /* put the model's prompt of this name in front; NULL: the model's default; "": none */
    uint32_t skip_special;   /* 1: TOKENIZE adds no special tokens, DECODE leaves them out */
    pillion_progress_fn progress; /* EMBED: called on the calling thread with done and total inputs */
    void *progress_ud;
    const volatile int *cancel; /* when it turns non-zero the call returns E_CANCELLED soon; may be NULL */
    volatile uint64_t *heartbeat; /* grows while the call gets on: by one for each text tokenized and each few KiB of
                                     it, and for each layer, sequence and block of the network, added atomically; read
                                     it from anywhere, also from another process that shares the memory; may be NULL */
    void *reserved[3];
} pillion_run_options;

/* Defaults: unit vectors, cut at the end, the model's default prompt. */
PILLION_API void pillion_run_options_init(pillion_run_options *opt);

/* The answer for one input. Everything is borrowed from the session until its next call. */
typedef struct pillion_item {
    pillion_status status; /* this input alone failed: E_UTF8, E_TOO_LONG, E_LIMIT (a text of more than 4 MiB), E_ARG
                              (id out of range, or no ids), E_NUMERIC (the vector is not finite; or there is none, since
                              the text has no token and the tokenizer adds no special ones) */
    uint32_t truncated;    /* 1 if tokens were cut off */
    uint32_t n_tokens;     /* tokens used, special ones included */
    uint32_t n_tokens_all; /* tokens before truncation */
    uint64_t error_offset; /* E_UTF8: byte offset of the first invalid byte */
    const float *values;   /* EMBED: [dim]; EMBED_TOKENS: [n_tokens, hidden]; else NULL */
    size_t n_values;
    const int32_t *ids; /* TOKENIZE, EMBED_TOKENS: [n_tokens]; else NULL */
    const char *const *tokens; /* TOKENIZE: [n_tokens] NUL-terminated spellings; else NULL */
    const char *text;          /* DECODE, INFO: UTF-8, NUL-terminated; else NULL */
    size_t text_bytes;
} pillion_item;

/* Does `op` for n inputs.
 *   in       borrowed for the call, n >= 1 (0 for INFO).
 *   out      borrowed from the session until its next call: items [n], in the order of the inputs.
 *   Returns  OK also when single items failed: look at each item's status. E_ARG for wrong options or an unknown
 *            prompt, E_NOMEM, E_CANCELLED fail the call as a whole.
 *   The vector of a text is bit-identical whatever else is in the call, on the same machine and kernels.
 *   Source   pooling as in Sentence-BERT (arXiv:1908.10084), section 3. */
PILLION_API PILLION_MUST_USE pillion_status pillion_run(pillion_session *session, pillion_op op,
                                                        const pillion_input *in, size_t n,
                                                        const pillion_run_options *opt, const pillion_item **out,
                                                        pillion_error *err);

/* pillion_model_check with the session's memory. *canary is the item that pillion_run gives for PILLION_CANARY_TEXT
 * without a prompt, borrowed until the session's next call; NULL on failure; canary may be NULL. Errors as there. */
PILLION_API PILLION_MUST_USE pillion_status pillion_session_check(pillion_session *session, const pillion_item **canary,
                                                                  pillion_error *err);

#ifdef __cplusplus
}
#endif
#endif
