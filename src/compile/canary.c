/* canary.c - one text through tokenizer, network and pooling: the proof that a compiled file still gives what it
 * gave.
 *
 * Tests:      tests/compile/test_compile.c, tests/compile/test_malformed.c. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "compile/compile_int.h"

static pillion_status encode(pil_tokens *tokens, const pil_config *config, const pil_tokenizer *tokenizer,
                             pil_token_scratch *scratch, pillion_error *err) {
    pillion_status st = pil_tokenizer_encode(tokenizer, scratch, PILLION_CANARY_TEXT, strlen(PILLION_CANARY_TEXT),
                                             config->max_tokens, true, tokens, err);
    if (st) return st;
    if (tokens->n == 0 || tokens->n > config->max_tokens)
        return pil_err_set(err, PILLION_E_FORMAT, "the tokenizer makes %zu tokens where the model takes 1 to %u",
                           tokens->n, config->max_tokens);
    for (size_t i = 0; i < tokens->n; i++)
        if (tokens->ids[i] < 0 || (uint32_t)tokens->ids[i] >= config->vocab)
            return pil_err_set(
                err, PILLION_E_FORMAT,
                "the tokenizer gives id %d, the embedding table has %u rows: they do not belong together",
                tokens->ids[i], config->vocab);
    return PILLION_OK;
}

/* v is normalized: of length 1, unless something is wrong with the weights. */
static pillion_status check_vector(const float *v, uint32_t n, pillion_error *err) {
    float sum = 0;
    for (uint32_t i = 0; i < n; i++) sum += v[i] * v[i];
    if (!isfinite(sum))
        return pil_err_set(err, PILLION_E_NUMERIC, "the weights give no finite vector: some hold NaN or infinity");
    if (sum < 0.5f)
        return pil_err_set(err, PILLION_E_NUMERIC, "the weights give a vector of zeros: they hold nothing");
    return PILLION_OK;
}

pillion_status pil_canary_embed(const pil_network *network, const pil_config *config, const pil_tokenizer *tokenizer,
                                float *out, pillion_error *err) {
    pil_tokens tokens;
    pil_scratch *scratch = NULL;
    pil_token_scratch *token_scratch = pil_token_scratch_create(tokenizer);
    pillion_status st = token_scratch ? PILLION_OK : pil_err_no_memory(err);
    if (!st) st = encode(&tokens, config, tokenizer, token_scratch, err);
    if (!st) st = pil_scratch_create(&scratch, network, config->max_tokens, err);
    if (!st) {
        const uint32_t starts[] = {0, (uint32_t)tokens.n};
        const float *hidden;
        st = pil_network_forward(network, scratch, tokens.ids, starts, 1, NULL, &hidden);
        if (!st) pil_network_pool(network, scratch, hidden, tokens.n, 0, true, out);
        if (!st) st = check_vector(out, pil_config_dim(config), err);
    }
    pil_scratch_destroy(scratch);
    pil_token_scratch_destroy(token_scratch);
    return st;
}
