/* fuzz_options.c - any command line and any configuration file against a table with an option of each type: refused in
 * one line, or every value is within what its option allows.
 *
 * The input is a configuration file, and behind its first NUL the arguments, each ended by NUL. */
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "cmd/options.h"

static void check(bool holds) {
    if (!holds) __builtin_trap();
}

typedef struct values {
    const char *config, *text, *path;
    uint64_t number, choice;
    pil_option_list list;
    bool flag, other;
} values;

static const char *const words[] = {"one", "two", "three", NULL};
static const pil_option options[] = {
    {.name = "config", .letter = 'c', .type = PIL_OPTION_PATH, .field = offsetof(values, config), .config = true},
    {.name = "text", .letter = 't', .type = PIL_OPTION_STRING, .field = offsetof(values, text), .fallback = "x"},
    {.name = "path", .type = PIL_OPTION_PATH, .field = offsetof(values, path)},
    {.name = "number", .letter = 'n', .type = PIL_OPTION_UINT, .field = offsetof(values, number), .fallback = "7",
     .min = 3, .max = 5000},
    {.name = "choice", .type = PIL_OPTION_CHOICE, .field = offsetof(values, choice), .choices = words,
     .fallback = "one"},
    {.name = "list", .letter = 'l', .type = PIL_OPTION_LIST, .field = offsetof(values, list)},
    {.name = "flag", .letter = 'f', .type = PIL_OPTION_FLAG, .field = offsetof(values, flag)},
    {.name = "other", .letter = 'o', .type = PIL_OPTION_FLAG, .field = offsetof(values, other)},
    PIL_OPTION_END,
};
static const pil_command command = {.name = "fuzz", .options = options, .values_bytes = sizeof(values), .args_max = 3};

enum { ARGS_MAX = 64 };

/* A path to a file in memory with these bytes. */
static void make_file(char path[64], int *fd, const uint8_t *bytes, size_t n) {
    *fd = memfd_create("config", MFD_CLOEXEC);
    check(*fd >= 0 && write(*fd, bytes, n) == (ssize_t)n);
    snprintf(path, 64, "/proc/self/fd/%d", *fd);
}

static volatile size_t sink;

static void check_values(const pil_options *o) {
    const values *v = o->values;
    check(v->number >= 3 && v->number <= 5000 && v->choice < 3 && v->text && o->n_args <= 3);
    sink += strlen(v->text) + (v->path ? strlen(v->path) : 0);
    for (size_t i = 0; i < v->list.n; i++) sink += strlen(v->list.items[i]);
    for (size_t i = 0; i < o->n_args; i++) sink += strlen(o->args[i]);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    char path[64], *argv[ARGS_MAX + 3], dash[] = "--config";
    const uint8_t *end = memchr(data, 0, size);
    size_t file_bytes = end ? (size_t)(end - data) : size, left = size - file_bytes;
    int fd, argc = 0;
    make_file(path, &fd, data, file_bytes);
    char *args = calloc(left + 1, 1); /* the last one is ended too */
    check(args != NULL);
    if (left > 1) memcpy(args, end + 1, left - 1);
    argv[argc++] = dash;
    argv[argc++] = path;
    for (size_t at = 0; at + 1 < left && argc < ARGS_MAX; at += strlen(args + at) + 1) argv[argc++] = args + at;
    pil_options o;
    pillion_error err = {0};
    pillion_status st = pil_options_parse(&o, &command, argc, argv, &err);
    check(st == err.code && (!st || (err.text[0] && !strchr(err.text, '\n'))));
    if (!st && !o.help) check_values(&o);
    if (!st) pil_options_deinit(&o);
    free(args);
    close(fd);
    return 0;
}
