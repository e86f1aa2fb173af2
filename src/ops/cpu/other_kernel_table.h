#pragma once
// The table of one instruction set. Included by other_kernels_<isa>.cc.
#include "ops/cpu/attention_kernels.h"
#include "ops/cpu/conv_kernels.h"
#include "ops/cpu/delta_rule_chunk_kernels.h"
#include "ops/cpu/norm_kernels.h"
#include "ops/cpu/rope_kernels.h"
#include "ops/cpu/sampling_kernels.h"

namespace hylas::cpu {

template <class V>
constexpr OtherKernels kOtherKernels = {
    .rms_norm = rms_norm_kernel<V>,
    .add_rms_norm = add_rms_norm_kernel<V>,
    .gated_rms_norm = gated_rms_norm_kernel<V>,
    .silu_mul = silu_mul_kernel<V>,
    .qk_norm_rope = qk_norm_rope_kernel<V>,
    .conv_silu = conv_silu_kernel<V>,
    .attention_floats = attention_floats_kernel<V>,
    .attention_sums_floats = attention_sums_floats_kernel<V>,
    .attention = attention_kernel<V>,
    .attention_combine = attention_combine_kernel<V>,
    .delta_floats = delta_floats_kernel<V>,
    .delta_decode = delta_decode_kernel<V>,
    .delta_prefill = delta_prefill_kernel<V>,
    .highest = highest_kernel<V>,
    .sum_exp = sum_exp_kernel<V>,
    .softmax_weights = softmax_weights_kernel<V>,
    .collect = collect_kernel<V>,
};

}  // namespace hylas::cpu
