#include "support/tiny_model.h"

#include <unistd.h>

#include <filesystem>
#include <fstream>

#include "base/check.h"
#include "support/test_device.h"

namespace hylas::test {
namespace {

constexpr const char* kConfig = R"({
  "architectures": ["Qwen3_5ForConditionalGeneration"],
  "model_type": "qwen3_5",
  "tie_word_embeddings": false,
  "text_config": {
    "model_type": "qwen3_5_text",
    "dtype": "bfloat16",
    "vocab_size": 256,
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 4,
    "layer_types": ["linear_attention", "linear_attention", "linear_attention", "full_attention"],
    "full_attention_interval": 4,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "head_dim": 64,
    "attn_output_gate": true,
    "attention_bias": false,
    "hidden_act": "silu",
    "linear_conv_kernel_dim": 4,
    "linear_key_head_dim": 32,
    "linear_value_head_dim": 32,
    "linear_num_key_heads": 1,
    "linear_num_value_heads": 2,
    "mamba_ssm_dtype": "float32",
    "max_position_embeddings": 4096,
    "rms_norm_eps": 1e-6,
    "eos_token_id": 7,
    "partial_rotary_factor": 0.25,
    "rope_parameters": {
      "mrope_interleaved": true,
      "mrope_section": [3, 3, 2],
      "partial_rotary_factor": 0.25,
      "rope_theta": 10000000,
      "rope_type": "default"
    }
  }
})";

// Removes the directory when the test program ends.
struct Directory {
  std::filesystem::path path = std::filesystem::temp_directory_path() / ("hylas-tiny-" + std::to_string(getpid()));
  Directory() { std::filesystem::create_directories(path); }
  ~Directory() {
    std::error_code ignored;
    std::filesystem::remove_all(path, ignored);
  }
};

}  // namespace

std::string tiny_model_path() {
  static const Directory directory;
  static const std::string file = [] {
    std::filesystem::path path = directory.path / "config.json";
    std::ofstream out(path);
    out << kConfig;
    out.close();
    HYLAS_CHECK(out.good(), "cannot write {}", path.string());
    return path.string();
  }();
  return file;
}

EngineOptions tiny_engine_options() {
  EngineOptions options;
  options.model_path = tiny_model_path();
  options.device = test_device();
  options.ranks_share_gpu = true;
  options.load_format = "dummy";
  options.threads = 2;
  options.context_length = 2048;
  return options;
}

}  // namespace hylas::test
