/* oom.c - whether a process that died of SIGKILL was killed for want of memory: evidence from the kernel's own counts.
 *
 * Source:     "oom_kill N" of /proc/vmstat, which counts every such kill of the machine, also in memory cgroups; where
 *             it does not exist, memory.events (cgroup 2) or memory.oom_control (cgroup 1) of our own group.
 * Invariants: a kill explains one death. A kill that no death of ours claims within SETTLE_MS was somebody else's.
 * What is wrong with it: a kill elsewhere on the machine in the same seconds as a kill of a worker from outside makes
 *             that one look like ours: a text is then tried alone without need, at worst blamed after a second time.
 * Tests:      tests/faults/rows_worker.py (W4), with a cgroup. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proc/proc_int.h"

#define SETTLE_MS 3000

/* False when the file is not there or has no such line. */
static bool read_count(const char *path, uint64_t *out) {
    char line[256];
    FILE *f = *path ? fopen(path, "re") : NULL;
    if (!f) return false;
    bool found = false;
    while (!found && fgets(line, sizeof line, f)) {
        found = strncmp(line, "oom_kill ", 9) == 0;
        if (found) *out = strtoull(line + 9, NULL, 10);
    }
    fclose(f);
    return found;
}

/* The line of /proc/self/cgroup for cgroup 1's memory controller, or of cgroup 2, as the file with the count. */
static void find_in_cgroup(char *out, size_t out_bytes) {
    char line[512];
    FILE *f = fopen("/proc/self/cgroup", "re");
    *out = '\0';
    while (f && !*out && fgets(line, sizeof line, f)) {
        line[strcspn(line, "\n")] = '\0';
        char *name = strchr(line, ':'), *group = name ? strchr(name + 1, ':') : NULL;
        uint64_t count;
        if (!group) continue;
        *group++ = '\0';
        int n = strcmp(name, ":memory") == 0
                    ? snprintf(out, out_bytes, "/sys/fs/cgroup/memory%s/memory.oom_control", group)
                    : snprintf(out, out_bytes, "/sys/fs/cgroup%s/memory.events", group);
        if (n < 0 || (size_t)n >= out_bytes || !read_count(out, &count)) *out = '\0';
    }
    if (f) fclose(f);
}

void pil_oom_init(pil_oom *o, const char *path) {
    *o = (pil_oom){0};
    snprintf(o->path, sizeof o->path, "%s", path ? path : "/proc/vmstat");
    if (read_count(o->path, &o->explained)) return;
    find_in_cgroup(o->path, sizeof o->path);
    read_count(o->path, &o->explained);
}

bool pil_oom_explains(pil_oom *o) {
    uint64_t count;
    if (!read_count(o->path, &count) || count <= o->explained) return false;
    o->explained++;
    return true;
}

void pil_oom_settle(pil_oom *o, uint64_t now_ms) {
    uint64_t count;
    if (!read_count(o->path, &count) || count <= o->explained) {
        o->surplus_ms = 0;
    } else if (o->surplus_ms == 0) {
        o->surplus_ms = now_ms | 1;
    } else if (now_ms >= o->surplus_ms + SETTLE_MS) {
        o->explained = count;
        o->surplus_ms = 0;
    }
}
