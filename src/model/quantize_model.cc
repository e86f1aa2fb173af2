#include "model/quantize_model.h"

#include <filesystem>
#include <fstream>
#include <set>

#include "base/json.h"
#include "base/text_file.h"
#include "model/manifest.h"
#include "weights/quantize.h"

namespace hylas {
namespace {

namespace fs = std::filesystem;

Status prepare_out_dir(const std::string& out_dir) {
  std::error_code code;
  fs::create_directories(out_dir, code);
  if (code) return error(ErrorCode::kIo, "{}: cannot be made: {}", out_dir, code.message());
  const bool empty = fs::is_empty(out_dir, code);
  if (code) return error(ErrorCode::kIo, "{}: {}", out_dir, code.message());
  if (!empty) return error(ErrorCode::kInvalid, "{}: is not empty; name a new directory", out_dir);
  return {};
}

// Names of the matrices that the released FP8 checkpoints hold in FP8, as `checkpoint` has them.
std::set<std::string> projections(const Checkpoint& checkpoint, ModelConfig config) {
  config.quantised = true;
  std::set<const TensorInfo*> wanted;
  for (const TensorSpec& spec : manifest(config, found_style(checkpoint, config))) {
    if (spec.dtype == DType::kF8E4M3) wanted.insert(checkpoint.find(spec.name));
  }
  std::set<std::string> names;
  for (const auto& [name, info] : checkpoint.tensors()) {
    if (wanted.contains(&info)) names.insert(name);
  }
  return names;
}

// config.json with the quantization_config of the released FP8 files; `kept` are the tensors that are not FP8.
Status write_config(const fs::path& from, const fs::path& to, const std::vector<std::string>& kept) {
  HYLAS_ASSIGN(const std::string text, read_text_file(from.string()));
  HYLAS_ASSIGN(json::object root, json::parse_object(text, from.string()));
  std::set<std::string> modules;
  for (const std::string& name : kept) modules.insert(name.substr(0, name.rfind('.')));
  root["quantization_config"] = json::object{
      {"activation_scheme", "dynamic"},
      {"fmt", "e4m3"},
      {"modules_to_not_convert", json::array(modules.begin(), modules.end())},
      {"quant_method", "fp8"},
      {"weight_block_size", {128, 128}},
  };
  std::ofstream out(to);
  out << boost::json::serialize(root) << '\n';
  out.close();
  if (!out) return error(ErrorCode::kIo, "{}: cannot be written", to.string());
  return {};
}

// Tokenizer, template and the like.
Status copy_other_files(const fs::path& from, const fs::path& to) {
  std::error_code code;
  for (const fs::directory_entry& entry : fs::directory_iterator(from, code)) {
    const std::string name = entry.path().filename().string();
    const bool weights = name.ends_with(".safetensors") || name.ends_with(".safetensors.index.json");
    if (!entry.is_regular_file() || weights || name == "config.json") continue;
    fs::copy_file(entry.path(), to / name, code);
    if (code) return error(ErrorCode::kIo, "{}: cannot be copied: {}", entry.path().string(), code.message());
  }
  return {};
}

}  // namespace

Status quantize_model(const std::string& model_dir, const std::string& out_dir, int threads,
                      const LoadProgress& progress) {
  HYLAS_ASSIGN(const ModelConfig config, parse_model_config(model_dir));
  if (config.quantised) return error(ErrorCode::kInvalid, "{}: is an FP8 checkpoint already", model_dir);
  HYLAS_ASSIGN(const std::unique_ptr<Checkpoint> checkpoint, Checkpoint::open(model_dir));
  HYLAS_TRY(check_complete(*checkpoint, config));
  HYLAS_TRY(prepare_out_dir(out_dir));
  const std::set<std::string> names = projections(*checkpoint, config);
  QuantizeOptions options;
  options.is_projection = [&](const std::string& name) { return names.contains(name); };
  options.threads = threads;
  HYLAS_ASSIGN(const std::vector<std::string> kept, quantize_checkpoint(*checkpoint, out_dir, options, progress));
  HYLAS_TRY(copy_other_files(model_dir, out_dir));
  // Last: without config.json an unfinished directory is not taken for a model.
  return write_config(fs::path(model_dir) / "config.json", fs::path(out_dir) / "config.json", kept);
}

}  // namespace hylas
