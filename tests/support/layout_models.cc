#include "support/layout_models.h"

#include <unistd.h>

#include <filesystem>
#include <fstream>

#include "base/check.h"

namespace hylas::test {
namespace {

constexpr const char* kDenseFields = R"("intermediate_size": 512)";
constexpr const char* kMoeFields = R"("num_experts": 16, "num_experts_per_tok": 4, "moe_intermediate_size": 512,
    "shared_expert_intermediate_size": 512)";
constexpr const char* kQuantization = R"(
  "quantization_config": {"quant_method": "fp8", "fmt": "e4m3", "activation_scheme": "dynamic",
                          "weight_block_size": [128, 128]},)";

std::string config_json(const LayoutModel& model) {
  const bool moe = model.kind != LayoutKind::kDense, fp8 = model.kind == LayoutKind::kMoeFp8;
  std::string layers;
  for (int i = 0; i < model.layers; ++i) {
    layers += fmt::format("{}\"{}_attention\"", i ? ", " : "", i % 4 == 3 ? "full" : "linear");
  }
  // One head of FP8 models fills blocks of 128.
  return fmt::format(R"({{
  "architectures": ["Qwen3_5{}ForConditionalGeneration"],
  "model_type": "qwen3_5{}",
  "tie_word_embeddings": {},{}
  "text_config": {{
    "model_type": "qwen3_5{}_text", "dtype": "bfloat16", "vocab_size": 256, "hidden_size": 128, {},
    "num_hidden_layers": {}, "layer_types": [{}], "full_attention_interval": 4,
    "num_attention_heads": 8, "num_key_value_heads": 2, "head_dim": {}, "attn_output_gate": true,
    "attention_bias": false, "hidden_act": "silu", "linear_conv_kernel_dim": 4, "linear_key_head_dim": {},
    "linear_value_head_dim": {}, "linear_num_key_heads": 4, "linear_num_value_heads": 8,
    "mamba_ssm_dtype": "float32", "max_position_embeddings": 4096, "rms_norm_eps": 1e-6, "eos_token_id": 7,
    "partial_rotary_factor": 0.25,
    "rope_parameters": {{"mrope_interleaved": true, "mrope_section": [{}], "partial_rotary_factor": 0.25,
                        "rope_theta": 10000000, "rope_type": "default"}}
  }}
}})",
                     moe ? "Moe" : "", moe ? "_moe" : "", moe ? "false" : "true", fp8 ? kQuantization : "",
                     moe ? "_moe" : "", moe ? kMoeFields : kDenseFields, model.layers, layers, fp8 ? 128 : 32,
                     fp8 ? 128 : 32, fp8 ? 64 : 32, fp8 ? "6, 5, 5" : "2, 1, 1");
}

struct Directory {
  std::filesystem::path path = std::filesystem::temp_directory_path() / ("hylas-layouts-" + std::to_string(getpid()));
  ~Directory() {
    std::error_code ignored;
    std::filesystem::remove_all(path, ignored);
  }
};

}  // namespace

std::string LayoutModel::name() const {
  const char* kinds[] = {"dense", "moe", "moe_fp8"};
  return fmt::format("{}_{}", kinds[static_cast<int>(kind)], layers);
}

std::string layout_model_path(const LayoutModel& model) {
  static const Directory directory;
  const std::filesystem::path folder = directory.path / model.name(), file = folder / "config.json";
  if (!std::filesystem::exists(file)) {
    std::filesystem::create_directories(folder);
    std::ofstream out(file);
    out << config_json(model);
    out.close();
    HYLAS_CHECK(out.good(), "cannot write {}", file.string());
  }
  return file.string();
}

}  // namespace hylas::test
