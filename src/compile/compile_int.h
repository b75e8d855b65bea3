/* compile_int.h - what the files of this room share. */
#ifndef PIL_COMPILE_COMPILE_INT_H
#define PIL_COMPILE_COMPILE_INT_H

#include "compile/compile.h"

/* ── source.c ── */

/* Path of folder/name inside the source's directory ("" is the directory itself). */
pillion_status pil_source_path(char *out, size_t out_bytes, const pil_source *s, const char *folder, const char *name,
                               pillion_error *err);
/* "BYTES MTIME_NS INODE" of a file, "" when there is none; E_IO for anything that is not a regular file. */
pillion_status pil_source_stamp(char out[PIL_STAMP_BYTES], const char *path, pillion_error *err);
/* Notes the present state of folder/name for the freshness check; nothing happens when it is noted already. */
pillion_status pil_source_note(pil_source *s, const char *folder, const char *name, pillion_error *err);
/* Notes and parses a JSON file. An absent one gives NULL and OK unless it is required. The caller frees *out. */
pillion_status pil_source_load(pil_json **out, pil_source *s, const char *folder, const char *name, bool required,
                               pillion_error *err);
/* E_STALE when a noted file is not what it was when it was noted. */
pillion_status pil_source_unchanged(const pil_source *s, pillion_error *err);
/* PIL_META_FILES of a compiled file. */
pillion_status pil_source_put_files(const pil_source *s, pil_buf *out);
/* What a directory is called: "org/name" out of ".../models--org--name/snapshots/REVISION", else the last component. */
void pil_source_name(char *out, size_t out_bytes, const char *dir);

/* ── source_modules.c ── */

/* modules.json and the modules it names: sets folders, pooling, dense, normalize. Without the file: mean pooling, and
 * *has_modules is false. Called before the network's configuration is known. */
pillion_status pil_source_modules(pil_source *s, bool *has_modules, pillion_error *err);

/* ── compiled.c ── */

#define PIL_CHECKSUM_HEX 17 /* 16 hex digits and a NUL */

/* PIL_META_TABLES as it must be for this file, whatever its header says. E_FORMAT when it has no place for it. */
pillion_status pil_compiled_tables(const pil_safetensors *file, char out[PIL_CHECKSUM_HEX], pillion_error *err);

/* ── canary.c ── */

/* The canary text's unit vector into out [dim]. E_NUMERIC when it is not finite. */
pillion_status pil_canary_embed(const pil_network *network, const pil_config *config, const pil_tokenizer *tokenizer,
                                float *out, pillion_error *err);

#endif
