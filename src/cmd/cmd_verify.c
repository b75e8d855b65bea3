/* cmd_verify.c - pillion verify: proves that a compiled model is what was compiled. Tests: tests/cmd/test_models.py. */
#include <stdio.h>

#include "base/limits.h"
#include "cmd/cmd.h"
#include "cmd/model.h"
#include "cmd/say.h"

static const char who[] = "pillion verify";

typedef struct verify_values {
    pil_model_values model;
} verify_values;

static int run(const void *values, char **args, size_t n_args) {
    pil_model_values chosen = ((const verify_values *)values)->model;
    pillion_model *model;
    int status = pil_model_argument(&chosen, who, args, n_args);
    if (!status) status = pil_model_open(&model, who, &chosen, false, false);
    if (status) return status;
    pillion_error err = {0};
    pillion_status st = pillion_model_verify(model, &err);
    if (st) {
        pil_say(who, "%s", err.text);
        status = pil_exit_of(st);
    } else {
        const pillion_info *info = pillion_model_info(model);
        pil_buf out;
        pil_buf_init(&out, 64 * PIL_KIB);
        pil_buf_printf(&out,
                       "%s: verified: %llu bytes (the header's XXH64, the SHA-256 of the rest) and the vector of the "
                       "test text are right\n",
                       info->name, (unsigned long long)info->file_bytes);
        status = pil_say_output(who, &out);
        pil_buf_deinit(&out);
    }
    pillion_model_close(model);
    return status;
}

static const pil_option options[] = {PIL_MODEL_OPTIONS(verify_values, model), PIL_OPTION_END};

const pil_command pil_cmd_verify = {
    .name = "verify",
    .args = "[MODEL]",
    .summary = "prove that a compiled model is undamaged",
    .text = "Reads every byte of the compiled file: the header is compared with its XXH64, everything behind it with "
            "its SHA-256. Then embeds a test text and compares its vector. Opening a model checks only its header and "
            "tokenizer, so that start-up is fast; this command is for disks that are not trusted. It takes about a "
            "second for each GB.",
    .examples = "pillion verify\tthe built-in model\npillion verify model.f32.safetensors",
    .options = options,
    .values_bytes = sizeof(verify_values),
    .args_max = 1,
    .complete = PIL_COMPLETE_FILES,
    .run = run,
};
