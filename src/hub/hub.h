/* hub.h - finding a model by name on this machine. Nothing is downloaded here, and no model file is read. */
#ifndef PIL_HUB_HUB_H
#define PIL_HUB_HUB_H

#include <limits.h>
#include <stdbool.h>

#include "pillion/pillion.h"

/* The model linked into the program, and the one that a start in the sidecar's way serves. */
#define PIL_HUB_BUILTIN_NAME "sentence-transformers/all-MiniLM-L6-v2"
#define PIL_HUB_SIDECAR_NAME "sentence-transformers/paraphrase-multilingual-mpnet-base-v2"

typedef enum pil_hub_kind {
    PIL_HUB_BUILTIN,   /* in the program itself; path is "" */
    PIL_HUB_DIRECTORY, /* a Hugging Face directory: config.json or modules.json lies in it */
    PIL_HUB_FILE,      /* a regular file, taken for a compiled model */
} pil_hub_kind;

typedef struct pil_hub_model {
    pil_hub_kind kind;
    char path[PATH_MAX]; /* absolute unless the caller gave a relative one */
} pil_hub_model;

/* Finds `name`. The order, first hit wins:
 *   1. NULL or "": the built-in model when has_builtin, else PIL_HUB_BUILTIN_NAME is looked up.
 *   2. a path: a directory with config.json or modules.json, or a regular file. A name that starts with "/", "./",
 *      "../" or "~/" is a path and nothing else.
 *   3. PIL_HUB_BUILTIN_NAME, with or without its organisation, when has_builtin.
 *   4. the caches, for "org/name" or "org/name@revision"; a plain name is tried as sentence-transformers/name first.
 *      HF_HUB_CACHE, HUGGINGFACE_HUB_CACHE, HF_HOME/hub, HF_HOME, SENTENCE_TRANSFORMERS_HOME,
 *      XDG_CACHE_HOME/huggingface/hub, ~/.cache/huggingface/hub and, in the old flat layout,
 *      ~/.cache/torch/sentence_transformers.
 *      In the cache layout refs/REVISION (main unless given) names the snapshot; without it the newest one that is
 *      complete is taken. A snapshot is complete when configuration and safetensors weights are there; links are
 *      followed but never required.
 *   out      unspecified on failure.
 *   Errors   E_NOT_FOUND (one line that names where it was looked for), E_ARG (malformed name), E_LIMIT (path
 *            too long).
 *   Source   the cache layout of huggingface_hub and the folders of sentence-transformers. */
pillion_status pil_hub_find(pil_hub_model *out, const char *name, bool has_builtin, pillion_error *err);

#endif
