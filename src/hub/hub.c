/* hub.c - finding a model by name on this machine.
 *
 * Flow:       pil_hub_find() tries path, built-in, then every cache of caches(): find_in_cache() for the layout with
 *             refs/ and snapshots/, find_flat() for the old folder of sentence-transformers.
 * Invariants: (1) a path that is returned was seen to hold a configuration. (2) a name never escapes its cache: it is
 *             checked before it becomes part of a path.
 * Not here:   downloads, reading of models. Tests: tests/hub/test_hub.c. */
#include "hub/hub.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/err.h"
#include "base/file.h"

#define CACHES_MAX 8
#define LOOKED_BYTES 512

typedef struct cache {
    char dir[PATH_MAX];
    bool flat; /* org_name/ instead of models--org--name/snapshots/ */
} cache;

/* "org/name", the revision after "@", and what has been tried so far, for the message. */
typedef struct wanted {
    char repo[256];
    char revision[128];
} wanted;

/* ── Names ──────────────────────────────────────────────────────────────────────────────────────────────────── */

static bool is_path_only(const char *name) {
    return name[0] == '/' || strncmp(name, "./", 2) == 0 || strncmp(name, "../", 3) == 0 ||
           strncmp(name, "~/", 2) == 0 || strcmp(name, ".") == 0 || strcmp(name, "..") == 0;
}

/* As the hub's own rule for repository names: letters, digits, ".", "-", "_", and at most one "/". */
static bool is_repo_name(const char *s) {
    size_t slashes = 0;
    bool starts = true; /* of a component, which must not begin with a dot */
    for (; *s; s++) {
        bool alnum = (*s >= 'a' && *s <= 'z') || (*s >= 'A' && *s <= 'Z') || (*s >= '0' && *s <= '9');
        if (*s == '/') {
            if (starts || ++slashes > 1) return false;
            starts = true;
            continue;
        }
        if (!alnum && *s != '_' && (starts || (*s != '-' && *s != '.'))) return false;
        starts = false;
    }
    return !starts;
}

/* A revision names files below refs/ and snapshots/: slashes are allowed, ".." is not. */
static bool is_revision(const char *s) {
    if (*s == '\0' || *s == '/' || strstr(s, "..")) return false;
    for (; *s; s++) {
        unsigned char c = (unsigned char)*s;
        if (c <= 0x20 || c >= 0x7F || c == '\\') return false;
    }
    return true;
}

static pillion_status split_name(wanted *w, const char *name, pillion_error *err) {
    const char *at = strchr(name, '@');
    size_t n = at ? (size_t)(at - name) : strlen(name);
    if (n >= sizeof w->repo || (at && strlen(at + 1) >= sizeof w->revision))
        return pil_err_set(err, PILLION_E_ARG, "model name is too long");
    memcpy(w->repo, name, n);
    w->repo[n] = '\0';
    snprintf(w->revision, sizeof w->revision, "%s", at ? at + 1 : "main");
    if (!is_repo_name(w->repo) || !is_revision(w->revision))
        return pil_err_set(err, PILLION_E_ARG,
                           "\"%.80s\" is neither a directory nor a model name (org/name[@revision])", name);
    return PILLION_OK;
}

/* ── Directories ────────────────────────────────────────────────────────────────────────────────────────────── */

static bool has_file(const char *dir, const char *name) {
    char path[PATH_MAX];
    return !pil_file_join(path, sizeof path, dir, name, NULL) && pil_file_exists(path);
}

static bool has_configuration(const char *dir) { return has_file(dir, "config.json") || has_file(dir, "modules.json"); }

/* Weights may lie in the first module's folder (old sentence-transformers), so only their absence in both counts. */
static bool is_complete(const char *dir) {
    static const char *const weights[] = {"model.safetensors", "model.safetensors.index.json",
                                          "0_Transformer/model.safetensors"};
    if (!has_configuration(dir)) return false;
    for (size_t i = 0; i < sizeof weights / sizeof *weights; i++)
        if (has_file(dir, weights[i])) return true;
    return false;
}

/* The text of a small file such as refs/main, trailing white space cut; false when there is none. */
static bool read_ref(char *out, size_t out_bytes, const char *path) {
    char *bytes;
    size_t n;
    if (pil_file_read(&bytes, &n, path, out_bytes - 1, NULL)) return false;
    while (n > 0 && (unsigned char)bytes[n - 1] <= ' ') n--;
    memcpy(out, bytes, n);
    out[n] = '\0';
    free(bytes);
    return is_revision(out);
}

/* The most recently changed complete snapshot in dir; false when there is none. */
static bool newest_snapshot(char *out, size_t out_bytes, const char *dir) {
    DIR *d = opendir(dir);
    if (!d) return false;
    bool found = false;
    struct timespec best = {0};
    for (struct dirent *e; (e = readdir(d));) {
        char path[PATH_MAX];
        struct stat s;
        if (e->d_name[0] == '.' || pil_file_join(path, sizeof path, dir, e->d_name, NULL)) continue;
        if (stat(path, &s) != 0 || !is_complete(path)) continue;
        bool newer = s.st_mtim.tv_sec > best.tv_sec ||
                     (s.st_mtim.tv_sec == best.tv_sec && s.st_mtim.tv_nsec > best.tv_nsec);
        if (found && !newer) continue;
        found = true;
        best = s.st_mtim;
        snprintf(out, out_bytes, "%s", path);
    }
    closedir(d);
    return found;
}

/* Looks for repo in a cache of the hub's layout. *incomplete is set when a snapshot is there but lacks files. */
static bool find_in_cache(char *out, size_t out_bytes, const char *dir, const wanted *w, bool *incomplete) {
    char folder[PATH_MAX], path[PATH_MAX + 160], ref[128];
    char flat[512];
    size_t n = 0;
    for (const char *s = w->repo; *s; s++)
        n += (size_t)snprintf(flat + n, sizeof flat - n, *s == '/' ? "--" : "%c", *s);
    if (snprintf(folder, sizeof folder, "%s/models--%s", dir, flat) >= (int)sizeof folder) return false;
    if (!pil_file_is_dir(folder)) return false;
    snprintf(path, sizeof path, "%s/refs/%s", folder, w->revision);
    const char *commit = read_ref(ref, sizeof ref, path) ? ref : w->revision;
    snprintf(path, sizeof path, "%s/snapshots/%s", folder, commit);
    if (strlen(path) < out_bytes && is_complete(path)) {
        snprintf(out, out_bytes, "%s", path);
        return true;
    }
    *incomplete = true;
    snprintf(path, sizeof path, "%s/snapshots", folder);
    return strcmp(w->revision, "main") == 0 && newest_snapshot(out, out_bytes, path);
}

static bool find_flat(char *out, size_t out_bytes, const char *dir, const wanted *w, bool *incomplete) {
    char name[sizeof w->repo], path[PATH_MAX];
    snprintf(name, sizeof name, "%s", w->repo);
    for (char *s = name; *s; s++)
        if (*s == '/') *s = '_';
    if (pil_file_join(path, sizeof path, dir, name, NULL) || !pil_file_is_dir(path)) return false;
    if (!is_complete(path)) {
        *incomplete = true;
        return false;
    }
    snprintf(out, out_bytes, "%s", path);
    return true;
}

/* ── Caches ─────────────────────────────────────────────────────────────────────────────────────────────────── */

/* Adds $variable/tail (or home/tail when variable is NULL) unless unset, too long or already listed. */
static void add_cache(cache *list, size_t *n, const char *base, const char *tail, bool flat) {
    if (!base || !*base || *n == CACHES_MAX) return;
    cache *c = &list[*n];
    const char *home = getenv("HOME");
    bool tilde = base[0] == '~' && (base[1] == '/' || base[1] == '\0') && home;
    int len = snprintf(c->dir, sizeof c->dir, "%s%s%s", tilde ? home : "", tilde ? base + 1 : base, tail);
    if (len < 0 || (size_t)len >= sizeof c->dir) return;
    c->flat = flat;
    for (size_t i = 0; i < *n; i++)
        if (list[i].flat == flat && strcmp(list[i].dir, c->dir) == 0) return;
    ++*n;
}

static size_t caches(cache list[CACHES_MAX]) {
    size_t n = 0;
    const char *hf_home = getenv("HF_HOME"), *st_home = getenv("SENTENCE_TRANSFORMERS_HOME");
    const char *torch = getenv("TORCH_HOME"), *xdg = getenv("XDG_CACHE_HOME");
    add_cache(list, &n, getenv("HF_HUB_CACHE"), "", false);
    add_cache(list, &n, getenv("HUGGINGFACE_HUB_CACHE"), "", false);
    add_cache(list, &n, hf_home, "/hub", false);
    add_cache(list, &n, hf_home, "", false);
    add_cache(list, &n, st_home, "", false);
    add_cache(list, &n, st_home, "", true);
    if (xdg && *xdg) add_cache(list, &n, xdg, "/huggingface/hub", false);
    else add_cache(list, &n, "~/.cache", "/huggingface/hub", false);
    add_cache(list, &n, torch ? torch : "~/.cache/torch", "/sentence_transformers", true);
    return n;
}

/* "DIR, DIR" with the home directory shortened to "~", cut with "..." when it does not fit. */
static void list_caches(char *out, size_t out_bytes, const cache *list, size_t n) {
    const char *home = getenv("HOME");
    size_t home_bytes = home ? strlen(home) : 0, at = 0;
    out[0] = '\0';
    for (size_t i = 0; i < n; i++) {
        const char *dir = list[i].dir;
        if (i > 0 && strcmp(dir, list[i - 1].dir) == 0) continue;
        bool below = home_bytes > 1 && strncmp(dir, home, home_bytes) == 0 && dir[home_bytes] == '/';
        int len = snprintf(out + at, out_bytes - at, "%s%s%s", at ? ", " : "", below ? "~" : "",
                           below ? dir + home_bytes : dir);
        if (len < 0 || (size_t)len >= out_bytes - at) return;
        at += (size_t)len;
    }
}

static pillion_status find_by_name(pil_hub_model *out, const char *name, pillion_error *err) {
    wanted w;
    pillion_status st = split_name(&w, name, err);
    if (st) return st;
    cache *list = calloc(CACHES_MAX, sizeof *list);
    if (!list) return pil_err_no_memory(err);
    size_t n = caches(list);
    bool incomplete = false, found = false;
    wanted with_org = w;
    bool plain = !strchr(w.repo, '/');
    if (plain &&
        snprintf(with_org.repo, sizeof with_org.repo, "sentence-transformers/%s", w.repo) >= (int)sizeof with_org.repo)
        plain = false;
    for (int pass = plain ? 0 : 1; pass < 2 && !found; pass++) {
        const wanted *now = pass == 0 ? &with_org : &w;
        for (size_t i = 0; i < n && !found; i++)
            found = (list[i].flat ? find_flat : find_in_cache)(out->path, sizeof out->path, list[i].dir, now,
                                                               &incomplete);
    }
    out->kind = PIL_HUB_DIRECTORY;
    if (!found) {
        char looked[LOOKED_BYTES];
        list_caches(looked, sizeof looked, list, n);
        st = pil_err_set(err, PILLION_E_NOT_FOUND,
                         "model \"%.80s\" is %s on this machine: give a directory, or put it in one of %s", name,
                         incomplete ? "not complete (no model.safetensors)" : "not", looked);
    }
    free(list);
    return st;
}

/* ── The door ───────────────────────────────────────────────────────────────────────────────────────────────── */

/* Takes name as a path. E_NOT_FOUND when it is none. */
static pillion_status find_path(pil_hub_model *out, const char *name, pillion_error *err) {
    const char *home = getenv("HOME");
    bool tilde = strncmp(name, "~/", 2) == 0 && home;
    int len = snprintf(out->path, sizeof out->path, "%s%s", tilde ? home : "", tilde ? name + 1 : name);
    if (len < 0 || (size_t)len >= sizeof out->path) return pil_err_set(err, PILLION_E_LIMIT, "model path is too long");
    struct stat s;
    if (stat(out->path, &s) != 0)
        return pil_err_set(err, PILLION_E_NOT_FOUND, "%.160s: no such model directory or file", name);
    if (S_ISREG(s.st_mode)) {
        out->kind = PIL_HUB_FILE;
        return PILLION_OK;
    }
    if (!S_ISDIR(s.st_mode))
        return pil_err_set(err, PILLION_E_ARG, "%.160s: neither a directory nor a regular file", name);
    if (!has_configuration(out->path))
        return pil_err_set(err, PILLION_E_NOT_FOUND, "%.160s: not a model directory: no config.json in it", name);
    out->kind = PIL_HUB_DIRECTORY;
    return PILLION_OK;
}

static bool is_builtin_name(const char *name) {
    return strcmp(name, PIL_HUB_BUILTIN_NAME) == 0 || strcmp(name, strchr(PIL_HUB_BUILTIN_NAME, '/') + 1) == 0;
}

pillion_status pil_hub_find(pil_hub_model *out, const char *name, bool has_builtin, pillion_error *err) {
    *out = (pil_hub_model){.kind = PIL_HUB_BUILTIN};
    if (!name || !*name) {
        if (has_builtin) return PILLION_OK;
        name = PIL_HUB_BUILTIN_NAME;
    }
    if (is_path_only(name)) return find_path(out, name, err);
    if (!find_path(out, name, NULL)) return PILLION_OK;
    if (has_builtin && is_builtin_name(name)) {
        *out = (pil_hub_model){.kind = PIL_HUB_BUILTIN};
        return PILLION_OK;
    }
    return find_by_name(out, name, err);
}
