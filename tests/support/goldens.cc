#include "support/goldens.h"

#include <algorithm>
#include <cctype>
#include <cstdlib>
#include <filesystem>

namespace hylas::test {
namespace {

namespace fs = std::filesystem;

void collect(const fs::path& root, std::vector<GoldenModel>& models) {
  std::error_code code;
  for (const fs::directory_entry& entry : fs::recursive_directory_iterator(root, code)) {
    const fs::path& dir = entry.path();
    if (!fs::exists(dir / "model.safetensors") || !fs::exists(dir / "golden_fp32.safetensors")) continue;
    const std::string name = dir.filename().string();
    if (std::ranges::find(models, name, &GoldenModel::name) == models.end()) models.push_back({name, dir.string()});
  }
}

}  // namespace

std::string GoldenModel::test_name() const {
  std::string text = name;
  for (char& c : text) c = std::isalnum(static_cast<unsigned char>(c)) ? c : '_';
  return text;
}

std::vector<GoldenModel> golden_models() {
  std::vector<GoldenModel> models;
  collect(fs::path(HYLAS_SOURCE_DIR) / "tests/data/goldens", models);
  if (const char* more = std::getenv("HYLAS_GOLDENS")) collect(more, models);
  HYLAS_CHECK(!models.empty(), "tests/data/goldens has no model");
  std::ranges::sort(models, {}, &GoldenModel::name);
  return models;
}

GoldenModel golden_model(const std::string& name) {
  for (GoldenModel& model : golden_models()) {
    if (model.name == name) return model;
  }
  HYLAS_CHECK(false, "there is no golden model `{}`", name);
}

GoldenFile::GoldenFile(const GoldenModel& model, const std::string& file_name)
    : file_(SafetensorsFile::open(model.dir + "/" + file_name).value()) {}

Tensor GoldenFile::view(const std::string& name) const {
  HYLAS_CHECK(has(name), "{} has no tensor `{}`", file_.path(), name);
  return tensor_view(file_, name, file_.tensors().at(name)).value();
}

std::vector<int64_t> GoldenFile::shape(const std::string& name) const {
  HYLAS_CHECK(has(name), "{} has no tensor `{}`", file_.path(), name);
  return file_.tensors().at(name).shape;
}

std::vector<int32_t> GoldenFile::i32(const std::string& name) const {
  const Tensor tensor = view(name);
  std::vector<int32_t> values(static_cast<size_t>(tensor.elements()));
  for (size_t i = 0; i < values.size(); ++i) {
    switch (tensor.dtype) {
      case DType::kI32:
        values[i] = tensor.as<int32_t>()[i];
        break;
      case DType::kI64:
        values[i] = static_cast<int32_t>(tensor.as<int64_t>()[i]);
        break;
      default:
        values[i] = tensor.as<uint8_t>()[i];
    }
  }
  return values;
}

std::vector<float> GoldenFile::f32(const std::string& name) const {
  const Tensor tensor = view(name);
  std::vector<float> values(static_cast<size_t>(tensor.elements()));
  for (size_t i = 0; i < values.size(); ++i) {
    values[i] = tensor.dtype == DType::kBF16 ? bf16_to_f32(tensor.as<uint16_t>()[i]) : tensor.as<float>()[i];
  }
  return values;
}

std::vector<std::string> GoldenFile::names() const {
  std::vector<std::string> names;
  for (const auto& [name, info] : file_.tensors()) names.push_back(name);
  return names;
}

}  // namespace hylas::test
