/* kernel_avx512.c - the tier for AVX-512: every kernel is built here, from the loops that all vector tiers share
 * (*_v16.h), this tier's sixteen-float vocabulary and its register tile. Tests: tests/kernel/checkasm.c. */
#include "kernel/simd_avx512.h"
#include "kernel/tile_avx512.h"

#include "kernel/attention_v16.h"
#include "kernel/gemm_v16.h"
#include "kernel/kernel_int.h"
#include "kernel/rows_v16.h"

void pil_kernel_init_avx512(pil_kernels *k) {
    k->gemm_f32 = gemm_f32;
    k->attention_f32 = attention_f32;
    k->attention_scratch = attention_scratch;
    k->layernorm_f32 = layernorm_f32;
    k->gelu_erf_f32 = gelu_erf_f32;
    k->gelu_tanh_f32 = gelu_tanh_f32;
    k->relu_f32 = relu_f32;
    k->tanh_f32 = tanh_f32;
    k->sum_rows_f32 = sum_rows_f32;
    k->max_rows_f32 = max_rows_f32;
    k->dot_f32 = dot_f32;
}
