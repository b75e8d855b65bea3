/* host.c - an application that uses jansson itself, with an allocator of its own: libpillion.so leaves both alone. */
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "pillion/pillion.h"

static void *host_malloc(size_t n) { return malloc(n); }
static void host_free(void *p) { free(p); }

/* Makes the library parse JSON: a directory whose modules.json names no module. */
static pillion_error read_some_json(void) {
    char dir[] = "/tmp/pillion-host.XXXXXX", path[64];
    pillion_error err = {0};
    pillion_model *model;
    if (!mkdtemp(dir)) return err;
    snprintf(path, sizeof path, "%s/modules.json", dir);
    FILE *f = fopen(path, "w");
    if (f && fputs("[]", f) >= 0 && fclose(f) == 0 && pillion_model_open(&model, dir, NULL, &err) == PILLION_OK)
        pillion_model_close(model);
    remove(path);
    rmdir(dir);
    return err;
}

int main(void) {
    json_malloc_t allocate;
    json_free_t release;
    json_set_alloc_funcs(host_malloc, host_free);
    pillion_error err = read_some_json();
    json_get_alloc_funcs(&allocate, &release);
    if (err.code != PILLION_E_UNSUPPORTED) printf("modules.json was not read: %d %s\n", err.code, err.text);
    if (allocate != host_malloc || release != host_free) printf("the application's jansson has another allocator\n");
    return err.code != PILLION_E_UNSUPPORTED || allocate != host_malloc || release != host_free;
}
