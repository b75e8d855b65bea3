/* nearest.c - which of some texts is nearest to a question? In-process use of libpillion, in one screen.
 *
 *     cc nearest.c $(pkg-config --cflags --libs pillion) -o nearest
 *     ./nearest MODEL_DIRECTORY "a question" "a text" "another text" …
 *
 * MODEL_DIRECTORY is a Hugging Face directory (config.json, model.safetensors, tokenizer.json) or a compiled file. */
#include <pillion/pillion.h>
#include <stdio.h>
#include <string.h>

enum { TEXTS_MAX = 64 };

/* Vectors are of unit length, so the dot product is the cosine. */
static double cosine(const float *a, const float *b, size_t n) {
    double sum = 0;
    for (size_t i = 0; i < n; i++) sum += (double)a[i] * (double)b[i];
    return sum;
}

int main(int argc, char **argv) {
    if (argc < 4 || argc - 2 > TEXTS_MAX) {
        fprintf(stderr, "usage: nearest MODEL_DIRECTORY QUESTION TEXT [TEXT …]\n");
        return 2;
    }
    pillion_model *model = NULL;
    pillion_session *session = NULL;
    pillion_error err = {0};
    const pillion_item *items = NULL;
    pillion_input in[TEXTS_MAX];
    size_t n = (size_t)argc - 2;
    for (size_t i = 0; i < n; i++) in[i] = (pillion_input){.text = argv[i + 2], .text_bytes = strlen(argv[i + 2])};

    pillion_session_options opt;
    pillion_session_options_init(&opt);
    opt.threads = 0; /* all cores */
    pillion_status st = pillion_model_open(&model, argv[1], NULL, &err);
    if (!st) st = pillion_session_create(&session, model, &opt, &err);
    if (!st) st = pillion_run(session, PILLION_OP_EMBED, in, n, NULL, &items, &err);
    for (size_t i = 1; !st && i < n; i++) {
        if (items[0].status || items[i].status)
            printf("       %s: %s\n", argv[i + 2],
                   pillion_status_text(items[i].status ? items[i].status : items[0].status));
        else
            printf("%.4f %s\n", cosine(items[0].values, items[i].values, items[i].n_values), argv[i + 2]);
    }
    if (st) fprintf(stderr, "nearest: %s\n", err.text);
    pillion_session_destroy(session);
    pillion_model_close(model);
    return st ? 1 : 0;
}
