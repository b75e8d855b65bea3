/* compile.h - Hugging Face directory -> the one compiled file (MODEL.PRECISION.safetensors), and where it is kept. */
#ifndef PIL_COMPILE_COMPILE_H
#define PIL_COMPILE_COMPILE_H

#include "base/limits.h"
#include "engine/engine.h"
#include "pillion/pillion.h"
#include "token/token.h"

/* ── The source: what a Hugging Face directory says about its model ─────────────────────────────────────────── */

#define PIL_SOURCE_FILES_MAX (PIL_LIMIT_SHARDS + 64) /* all shards, and what else a directory has */
#define PIL_SOURCE_NAME_BYTES 256
#define PIL_STAMP_BYTES 64

/* One file that was read or looked for. */
typedef struct pil_source_file {
    char name[PIL_SOURCE_NAME_BYTES]; /* relative to the directory */
    char stamp[PIL_STAMP_BYTES];      /* "BYTES MTIME_NS INODE" before it was read; "" when it was absent */
} pil_source_file;

typedef struct pil_source {
    const char *dir; /* borrowed from the caller of pil_source_open */
    pil_config config;
    const pil_family *family;
    bool lower_case; /* sentence_bert_config.json asks for lower-casing in front of the tokenizer */
    char transformer[PIL_SOURCE_NAME_BYTES];          /* folder of config.json, weights and tokenizer.json; "" is dir */
    char dense[PIL_DENSE_MAX][PIL_SOURCE_NAME_BYTES]; /* [config.n_dense] folders of the Dense modules */
    size_t n_files;
    pil_source_file files[PIL_SOURCE_FILES_MAX];
} pil_source;

/* Reads config.json, modules.json, the modules' configurations, limits and prompts as sentence-transformers does:
 * modules in order, matched on the last component of their type; without modules.json, mean pooling.
 *   out     given (close); NULL on failure.
 *   Errors  E_NOT_FOUND, E_FORMAT, E_UNSUPPORTED name the file, the field, its value and what is supported; E_NOMEM. */
pillion_status pil_source_open(pil_source **out, const char *dir, pillion_error *err);
void pil_source_close(pil_source *s); /* accepts NULL */

/* ── Compiling ──────────────────────────────────────────────────────────────────────────────────────────────── */

/* Version of the compiled file's contents: metadata "pillion.format". A file of another version is stale. */
#define PIL_COMPILED_FORMAT "1"

/* Metadata keys of a compiled file. */
#define PIL_META_FORMAT "pillion.format"
#define PIL_META_CONFIG "pillion.config" /* pil_config as JSON */
#define PIL_META_PRECISION "pillion.precision"
#define PIL_META_SOURCE "pillion.source" /* the directory it was compiled from, or "" */
#define PIL_META_FILES "pillion.files"   /* JSON: [{"name":…,"stamp":…}…], see pil_source_file */
/* Sixteen hex digits of XXH64 over the header (this value left out) and the tokenizer tensor: what is checked at every
 * opening, so it must be fast; it finds damage, not malice. */
#define PIL_META_TABLES "pillion.xxh64.tables"
#define PIL_META_DATA "pillion.sha256.data" /* of everything behind the header */

/* Compiles dir into path (written beside it and renamed).
 *   name      what the compiled model is called; NULL: org/name out of a Hugging Face cache path, else the last
 *             component of the directory. Fewer than PIL_NAME_BYTES bytes. A file with a given name is made to travel:
 *             it does not record where it came from, so it is never fresh.
 *   progress  nullable.
 *   Errors    as pil_source_open; E_FORMAT also when weights and configuration do not belong together, E_NUMERIC when
 *             the weights give no finite vector, E_STALE when a source file changes meanwhile, E_IO, E_NOMEM. Nothing
 *             is left behind then. */
pillion_status pil_compile(const char *dir, const char *path, const char *name, pillion_precision precision,
                           pillion_progress_fn progress, void *ud, pillion_error *err);

/* ── Compiled files ─────────────────────────────────────────────────────────────────────────────────────────── */

/* A compiled file, checked as far as opening goes: header and tables against their digest, shapes, tokenizer. No
 * weight is read, so opening takes a few milliseconds whatever the size. */
typedef struct pil_compiled {
    pil_safetensors *file;
    pil_config config;
    pil_tokenizer *tokenizer;
    pil_network *network;
    const char *source; /* directory, "" when unknown */
    const char *precision;
} pil_compiled;

/* E_STALE: format version differs. E_FORMAT: damaged or foreign. out is zeroed on failure. */
pillion_status pil_compiled_open(pil_compiled *out, const char *path, pillion_error *err);
/* bytes: borrowed until close, 64-byte aligned (else E_ARG). */
pillion_status pil_compiled_open_memory(pil_compiled *out, const void *bytes, size_t n, pillion_error *err);
void pil_compiled_close(pil_compiled *c); /* accepts a zeroed one */

/* Whether the files of dir that were read when c was compiled still have the size, time and inode they had, and those
 * that were absent still are: OK, or E_STALE naming the first that differs. */
pillion_status pil_compiled_fresh(const pil_compiled *c, const char *dir, pillion_error *err);
/* Embeds PILLION_CANARY_TEXT and compares its vector with the one stored (tensor "canary", a unit vector): OK, E_FORMAT
 * or E_NOMEM. One short forward pass. */
pillion_status pil_compiled_sing(const pil_compiled *c, pillion_error *err);
/* v [dim] is that vector, computed elsewhere: OK or E_FORMAT. */
pillion_status pil_compiled_heard(const pil_compiled *c, const float *v, pillion_error *err);
/* Full digest of the data, then the canary: OK, E_FORMAT or E_NOMEM. */
pillion_status pil_compiled_verify(const pil_compiled *c, pillion_error *err);

/* ── The cache ──────────────────────────────────────────────────────────────────────────────────────────────── */

/* Where compiled models are kept: $XDG_CACHE_HOME/pillion, or ~/.cache/pillion. Errors: E_IO (neither variable is an
 * absolute path), E_LIMIT. */
pillion_status pil_cache_dir(char *out, size_t out_bytes, pillion_error *err);

/* What pillion_prepare does for a directory: finds the compiled file of dir in the cache (opt->cache_dir, else
 * pil_cache_dir) and compiles it if it is missing, stale or damaged. One process at
 * a time compiles one model (a lock file beside it); the others wait and then use its file. out_path receives the
 * file's path. */
pillion_status pil_cache_prepare(const char *dir, const pillion_model_options *opt, char *out_path, size_t out_bytes,
                                 pillion_error *err);

#endif
