#pragma once
// ModelConfig: what a checkpoint's config.json says (model.md sections 0 and 1), checked and with the defaults filled
// in.
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "ops/ops.h"
#include "tensor/dtype.h"

namespace hylas {

enum class LayerKind : uint8_t {
  kLinear,  // Gated DeltaNet
  kFull,    // gated full attention
};

// Plain data. Every value is within the limits that parse_model_config checks, so products of two of them fit in int64.
struct ModelConfig {
  std::string architecture;  // "Qwen3_5MoeForConditionalGeneration"
  std::string model_type;    // "qwen3_5_moe", of the top level
  bool nested = false;       // a text_config inside the file: names start with "model.language_model."
  std::string prefix;        // of the text tensors: "model.language_model." or "model."

  int32_t vocab_size = 0;  // rows of the embedding and the head; the tokenizer knows fewer
  int32_t hidden_size = 0;
  int32_t num_layers = 0;
  std::vector<LayerKind> layer_types;  // [num_layers]

  int32_t heads = 0;
  int32_t kv_heads = 0;
  int32_t head_dim = 0;
  RopeConfig rope;
  int32_t max_position_embeddings = 0;

  int32_t linear_key_heads = 0;
  int32_t linear_value_heads = 0;  // a multiple of linear_key_heads
  int32_t linear_key_dim = 0;
  int32_t linear_value_dim = 0;
  int32_t conv_kernel = 4;
  DType state_dtype = DType::kF32;  // of the recurrent state (mamba_ssm_dtype)

  int32_t intermediate_size = 0;  // dense models
  int32_t experts = 0;            // 0: a dense model
  int32_t experts_per_token = 0;
  int32_t moe_intermediate_size = 0;
  int32_t shared_intermediate_size = 0;

  float rms_eps = 1e-6f;
  bool tie_word_embeddings = false;
  int32_t mtp_layers = 0;  // 0 or 1; the checkpoint may still lack the tensors

  bool has_vision = false;
  int32_t image_token_id = -1;
  int32_t video_token_id = -1;
  std::vector<int32_t> eos_ids;  // config.json's; generation_config.json's set wins

  DType dtype = DType::kBF16;  // of the weights that are not quantised
  bool quantised = false;      // FP8 blocks of 128 x 128 with dynamic activation scales

  int64_t channels() const {  // q | k | v of a linear layer
    return 2 * int64_t{linear_key_heads} * linear_key_dim + int64_t{linear_value_heads} * linear_value_dim;
  }
};

// Reads `path`/config.json, or the file `path` itself. kNotFound: no such file. kUnsupported: another architecture, or
// a variant of this one that is not built here. kInvalid: a field of the wrong type or out of range. All name the
// field.
Result<ModelConfig> parse_model_config(const std::string& path);
// The same from text; `where` names it in errors.
Result<ModelConfig> parse_model_config_text(std::string_view text, std::string_view where);

}  // namespace hylas
