/* model.c - opening models and saying what they are: pillion_model over a compiled file. Tests: tests/lib/test_api.c.
 */
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/file.h"
#include "base/json.h"
#include "lib/lib_int.h"

size_t pil_lib_batch_tokens(const pil_config *c, uint32_t asked) {
    size_t tokens = asked ? asked : PIL_BATCH_TOKENS;
    return tokens > c->max_tokens ? tokens : c->max_tokens;
}

/* Values in all tensors of the network: what the literature calls parameters. Padding of packed columns is counted. */
static uint64_t count_parameters(const pil_safetensors *file) {
    uint64_t n = 0;
    for (size_t i = 0; i < pil_safetensors_count(file); i++) {
        const pil_tensor *t = pil_safetensors_at(file, i);
        if (t->dtype == PIL_DTYPE_F32 && strcmp(t->name, "canary") != 0) n += t->count;
    }
    return n;
}

static void fill_info(pillion_model *m) {
    const pil_compiled *f = &m->compiled;
    const pil_config *c = &f->config;
    size_t file_bytes, data_offset;
    const char *digest = pil_safetensors_metadata(f->file, PIL_META_DATA);
    pil_safetensors_bytes(f->file, &file_bytes, &data_offset);
    pil_config_pooling_name(c->pooling, m->pooling, sizeof m->pooling);
    for (uint32_t i = 0; i < c->n_prompts; i++) {
        m->prompt_names[i] = c->prompts[i].name;
        m->prompt_texts[i] = c->prompts[i].text;
    }
    m->info = (pillion_info){
        .size_bytes = sizeof m->info,
        .name = c->name,
        .architecture = c->family,
        .tokenizer = pil_tokenizer_model(f->tokenizer),
        .precision = f->precision,
        .pooling = m->pooling,
        .kernels = pil_kernels_best()->name,
        .source = f->source,
        .digest = digest ? digest : "",
        .dim = pil_config_dim(c),
        .hidden = c->hidden,
        .layers = c->layers,
        .heads = c->heads,
        .ffn = c->ffn,
        .vocab = c->vocab,
        .max_tokens = c->max_tokens,
        .normalizes = c->normalize,
        .parameters = count_parameters(f->file),
        .file_bytes = file_bytes,
        .scratch_bytes = pil_scratch_bytes(f->network, pil_lib_batch_tokens(c, 0)),
        .fidelity_mean = 1,
        .fidelity_min = 1,
        .n_prompts = c->n_prompts,
        .prompt_names = m->prompt_names,
        .prompt_texts = m->prompt_texts,
        .default_prompt = c->default_prompt >= 0 ? c->prompts[c->default_prompt].name : NULL,
    };
}

static pillion_status check_precision(const pillion_model_options *opt, pillion_error *err) {
    if (opt->precision == PILLION_PRECISION_AUTO || opt->precision == PILLION_PRECISION_F32) return PILLION_OK;
    return pil_err_set(err, PILLION_E_UNSUPPORTED, "this version computes in f32 only; ask for precision f32 or auto");
}

/* opt with defaults where it is NULL. */
static pillion_model_options model_options(const pillion_model_options *opt) {
    pillion_model_options o;
    pillion_model_options_init(&o);
    return opt ? *opt : o;
}

pillion_status pillion_prepare(const char *source, const pillion_model_options *opt, char *out_path, size_t out_bytes,
                               pillion_error *err) {
    if (!source || !out_path || !out_bytes) return pil_err_set(err, PILLION_E_ARG, "source and out_path must be given");
    pillion_model_options o = model_options(opt);
    pillion_status st = check_precision(&o, err);
    if (st) return st;
    if (pil_file_is_dir(source)) return pil_cache_prepare(source, &o, out_path, out_bytes, err);
    if (!pil_file_exists(source)) return pil_err_set(err, PILLION_E_NOT_FOUND, "%s: no such file or directory", source);
    if (strlen(source) >= out_bytes) return pil_err_set(err, PILLION_E_LIMIT, "%s: path too long", source);
    memcpy(out_path, source, strlen(source) + 1);
    return PILLION_OK;
}

pillion_status pillion_model_open(pillion_model **out, const char *path, const pillion_model_options *opt,
                                  pillion_error *err) {
    char compiled[4096];
    *out = NULL;
    pillion_status st = pillion_prepare(path, opt, compiled, sizeof compiled, err);
    if (st) return st;
    pillion_model *m = calloc(1, sizeof *m);
    if (m) m->path = strdup(compiled);
    st = m && m->path ? pil_compiled_open(&m->compiled, compiled, err) : pil_err_no_memory(err);
    if (st) {
        pillion_model_close(m);
        return st;
    }
    fill_info(m);
    *out = m;
    return PILLION_OK;
}

pillion_status pillion_model_open_memory(pillion_model **out, const void *data, size_t data_bytes, pillion_error *err) {
    *out = NULL;
    pillion_model *m = calloc(1, sizeof *m);
    if (!m) return pil_err_no_memory(err);
    pillion_status st = pil_compiled_open_memory(&m->compiled, data, data_bytes, err);
    if (st) {
        free(m);
        return st;
    }
    fill_info(m);
    *out = m;
    return PILLION_OK;
}

pillion_status pil_lib_proved(const pillion_model *m, pillion_status st, const pillion_error *why,
                              pillion_error *err) {
    bool is_damaged_file = st == PILLION_E_FORMAT && m->path;
    if (!st) return PILLION_OK;
    return pil_err_set(err, st, "%.150s: %s%s", m->path ? m->path : m->info.name, why->text,
                       is_damaged_file ? "; remove it and compile it again" : "");
}

pillion_status pillion_model_verify(const pillion_model *model, pillion_error *err) {
    pillion_error why = {0};
    pillion_status st = pil_compiled_verify(&model->compiled, &why);
    return pil_lib_proved(model, st, &why, err);
}

pillion_status pillion_model_check(const pillion_model *model, pillion_error *err) {
    pillion_error why = {0};
    pillion_status st = pil_compiled_sing(&model->compiled, &why);
    return pil_lib_proved(model, st, &why, err);
}

void pillion_model_close(pillion_model *model) {
    if (!model) return;
    pil_compiled_close(&model->compiled);
    free(model->path);
    free(model);
}

const pillion_info *pillion_model_info(const pillion_model *model) { return &model->info; }

/* ── Info as JSON ───────────────────────────────────────────────────────────────────────────────────────────── */

static void put_field(pil_buf *out, const char *key, const char *value) {
    pil_buf_printf(out, "%s\"%s\":", out->len > 1 ? "," : "", key);
    if (value) pil_json_put_string(out, value, strlen(value));
    else pil_buf_puts(out, "null");
}

pillion_status pil_lib_info_json(const pillion_info *i, pil_buf *out) {
    pil_buf_clear(out);
    pil_buf_putc(out, '{');
    put_field(out, "name", i->name);
    put_field(out, "architecture", i->architecture);
    put_field(out, "tokenizer", i->tokenizer);
    put_field(out, "precision", i->precision);
    put_field(out, "pooling", i->pooling);
    put_field(out, "kernels", i->kernels);
    put_field(out, "source", i->source);
    put_field(out, "digest", i->digest);
    pil_buf_printf(out,
                   ",\"dim\":%u,\"hidden\":%u,\"layers\":%u,\"heads\":%u,\"ffn\":%u,\"vocab\":%u,\"max_tokens\":%u",
                   i->dim, i->hidden, i->layers, i->heads, i->ffn, i->vocab, i->max_tokens);
    pil_buf_printf(out, ",\"normalizes\":%s,\"parameters\":%llu,\"file_bytes\":%llu,\"scratch_bytes\":%llu",
                   i->normalizes ? "true" : "false", (unsigned long long)i->parameters,
                   (unsigned long long)i->file_bytes, (unsigned long long)i->scratch_bytes);
    pil_buf_printf(out, ",\"fidelity\":{\"mean\":%.6g,\"min\":%.6g}", i->fidelity_mean, i->fidelity_min);
    pil_buf_puts(out, ",\"prompts\":{");
    for (uint32_t p = 0; p < i->n_prompts; p++) {
        if (p) pil_buf_putc(out, ',');
        pil_json_put_string(out, i->prompt_names[p], strlen(i->prompt_names[p]));
        pil_buf_putc(out, ':');
        pil_json_put_string(out, i->prompt_texts[p], strlen(i->prompt_texts[p]));
    }
    pil_buf_putc(out, '}');
    put_field(out, "default_prompt", i->default_prompt);
    return pil_buf_putc(out, '}');
}
