/* throughput.c - libpillion as a process that embeds a set of texts whenever it is told to.
 *
 *   throughput MODEL TEXTS [THREADS]     MODEL: a Hugging Face directory or a compiled file; TEXTS: one text a line
 *
 * Prints {"ready":…} once the model is open; then, for each line "run" on standard input, embeds all texts and prints
 * {"s":SECONDS}. compare.py drives it in turns with other engines, which answer the same way. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <pillion/pillion.h>

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

/* The lines of a file as inputs; they live until the program ends. */
static pillion_input *read_lines(const char *path, size_t *count) {
    FILE *f = fopen(path, "r");
    if (!f) return NULL;
    pillion_input *inputs = NULL;
    char *line = NULL;
    size_t room = 0, n = 0;
    for (ssize_t got; (got = getline(&line, &room, f)) > 0; line = NULL, room = 0) {
        pillion_input *more = realloc(inputs, (n + 1) * sizeof *inputs);
        if (!more) return NULL;
        inputs = more;
        inputs[n++] = (pillion_input){.text = line, .text_bytes = (size_t)got - (line[got - 1] == '\n')};
    }
    fclose(f);
    *count = n;
    return inputs;
}

int main(int argc, char **argv) {
    pillion_error err = {0};
    size_t n = 0;
    pillion_input *inputs = argc > 2 ? read_lines(argv[2], &n) : NULL;
    if (!inputs) {
        fprintf(stderr, "usage: throughput MODEL TEXTS [THREADS]\n");
        return 2;
    }
    pillion_model *model;
    pillion_session *session;
    pillion_session_options options;
    pillion_session_options_init(&options);
    options.threads = argc > 3 ? (uint32_t)strtoul(argv[3], NULL, 10) : 0;
    if (pillion_model_open(&model, argv[1], NULL, &err) || pillion_session_create(&session, model, &options, &err)) {
        fprintf(stderr, "%s\n", err.text);
        return 1;
    }
    const pillion_info *info = pillion_model_info(model);
    printf("{\"ready\":true,\"version\":\"%s\",\"kernels\":\"%s\"}\n", pillion_version(), info->kernels);
    fflush(stdout);
    char line[16];
    while (fgets(line, sizeof line, stdin) && !strcmp(line, "run\n")) {
        const pillion_item *items;
        double start = now();
        if (pillion_run(session, PILLION_OP_EMBED, inputs, n, NULL, &items, &err)) {
            fprintf(stderr, "%s\n", err.text);
            return 1;
        }
        printf("{\"s\":%.6f}\n", now() - start);
        fflush(stdout);
    }
    pillion_session_destroy(session);
    pillion_model_close(model);
    return 0;
}
