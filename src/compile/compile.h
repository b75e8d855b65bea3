/* compile.h - Hugging Face directory -> the one compiled file (MODEL.PRECISION.safetensors), and the cache it lives in. */
#ifndef PIL_COMPILE_COMPILE_H
#define PIL_COMPILE_COMPILE_H

#include "engine/engine.h"
#include "pillion/pillion.h"
#include "token/token.h"

/* Version of the compiled file's contents: metadata "pillion.format". A file of another version is stale. */
#define PIL_COMPILED_FORMAT "1"

/* Metadata keys of a compiled file. */
#define PIL_META_FORMAT "pillion.format"
#define PIL_META_CONFIG "pillion.config"     /* pil_config as JSON */
#define PIL_META_PRECISION "pillion.precision"
#define PIL_META_SOURCE "pillion.source"     /* JSON: {"dir":…,"files":[{"name","bytes","mtime_ns","inode"}…]} */
#define PIL_META_TABLES "pillion.sha256.tables" /* of the tokenizer tensor and every metadata value but the digests */
#define PIL_META_DATA "pillion.sha256.data"     /* of everything behind the header */

/* Reads the configuration half of a Hugging Face directory: config.json, modules.json, pooling, dense, limits, prompts.
 * E_NOT_FOUND, E_FORMAT, E_UNSUPPORTED name the file and the field. */
pillion_status pil_source_read(pil_config *out, const pil_family **family, const char *dir, pillion_error *err);

/* Compiles dir into path (written beside it and renamed).
 *   name    what the compiled model is called; NULL: as pil_source_read finds it. Fewer than PIL_NAME_BYTES bytes. */
pillion_status pil_compile(const char *dir, const char *path, const char *name, pillion_precision precision,
                           pillion_progress_fn progress, void *ud, pillion_error *err);

/* A compiled file, checked as far as opening goes: header and tables against their digest, shapes, tokenizer. */
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
pillion_status pil_compiled_open_memory(pil_compiled *out, const void *bytes, size_t n, pillion_error *err);
void pil_compiled_close(pil_compiled *c); /* accepts a zeroed one */

/* Whether the source files that the compiled file names still have the size, time and inode they had: OK, or E_STALE. */
pillion_status pil_compiled_fresh(const char *path, const char *dir, pillion_error *err);
/* Full digest of the data, and the canary text's vector: OK or E_FORMAT. */
pillion_status pil_compiled_verify(const pil_compiled *c, pillion_error *err);

/* What pillion_prepare does for a directory: finds the compiled file of dir in the cache (opt->cache_dir, else
 * $XDG_CACHE_HOME/pillion, else ~/.cache/pillion) and compiles it if it is missing, stale or damaged. One process at a time
 * compiles one model (a lock file beside it); the others wait and then use its file. out_path receives the file's path. */
pillion_status pil_cache_prepare(const char *dir, const pillion_model_options *opt, char *out_path, size_t out_bytes,
                                 pillion_error *err);

/* The text whose vector every compiled file carries. */
#define PIL_CANARY_TEXT "Pillion's canary sings: 12 notes, één lied, 一首歌."

#endif
