#include "app/layer_costs.h"

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <future>
#include <limits>
#include <map>

#include "base/clock.h"
#include "base/json.h"
#include "base/text_file.h"

namespace hylas {
namespace {

using Kinds = std::vector<LayerKind>;

// A folder with nothing but a config.json, gone with this.
class ConfigFolder {
 public:
  static Result<ConfigFolder> make(const json::object& config) {
    std::string path = (std::filesystem::temp_directory_path() / "hylas-plan-XXXXXX").string();
    if (!mkdtemp(path.data())) return error(ErrorCode::kIo, "{}: cannot be created", path);
    ConfigFolder folder(path);
    std::ofstream file(path + "/config.json");
    file << boost::json::serialize(config);
    if (!file.flush()) return error(ErrorCode::kIo, "{}/config.json: cannot be written", path);
    return folder;
  }
  ConfigFolder(ConfigFolder&& other) noexcept : path_(std::exchange(other.path_, {})) {}
  ConfigFolder& operator=(ConfigFolder&&) = delete;
  ~ConfigFolder() {
    std::error_code ignored;
    if (!path_.empty()) std::filesystem::remove_all(path_, ignored);
  }
  const std::string& path() const { return path_; }

 private:
  explicit ConfigFolder(std::string path) : path_(std::move(path)) {}
  std::string path_;
};

// The same model with these layers alone.
json::object cut(json::object config, const Kinds& kinds) {
  json::value* nested = config.if_contains("text_config");
  json::object& text = nested ? nested->as_object() : config;
  json::array names;
  for (const LayerKind kind : kinds) {
    names.emplace_back(kind == LayerKind::kFull ? "full_attention" : "linear_attention");
  }
  text["num_hidden_layers"] = kinds.size();
  text["layer_types"] = std::move(names);
  text["mtp_num_hidden_layers"] = 0;
  return config;
}

// Until the first token of a prompt of `tokens` tokens, the only one that is wanted.
Result<double> prefill_us(Engine& engine, int32_t tokens) {
  Request request;
  for (int32_t i = 0; i < tokens; ++i) request.prompt.push_back((i * 7 + 3) % engine.info().vocab_size);
  request.sampling.temperature = 0;
  request.sampling.max_new_tokens = 1;
  request.sampling.ignore_eos = true;
  std::promise<void> done;
  const int64_t begin_us = now_us();
  HYLAS_TRY(engine.submit(std::move(request), [&](const Output& output) {
    if (output.finish) done.set_value();
  }));
  done.get_future().wait();
  return static_cast<double>(now_us() - begin_us);
}

Result<double> measure(EngineOptions options, const json::object& config, const Kinds& kinds, int32_t tokens) {
  constexpr int kSteps = 4;  // the first one also pays for touching memory
  HYLAS_ASSIGN(const ConfigFolder folder, ConfigFolder::make(cut(config, kinds)));
  options.model_path = folder.path();
  options.load_format = "dummy";
  HYLAS_ASSIGN(const std::unique_ptr<Engine> engine, Engine::start(options));
  double shortest = std::numeric_limits<double>::infinity();
  for (int step = 0; step < kSteps; ++step) {
    HYLAS_ASSIGN(const double us, prefill_us(*engine, tokens));
    shortest = std::min(shortest, us);
  }
  engine->drain(0);
  return shortest;
}

}  // namespace

Result<PartitionCosts> measure_costs(const EngineOptions& options, const ModelConfig& model, int32_t tokens) {
  EngineOptions one = options;
  one.parallel = {};
  one.enable_dp_attention = false;
  one.pp_layer_partition.clear();
  one.context_length = tokens + 1;
  one.max_running_requests = 1;
  one.max_total_tokens = tokens + options.page_size + 1;
  one.chunked_prefill_size = (tokens + 63) / 64 * 64;
  one.max_prefill_tokens = one.chunked_prefill_size;
  one.role = InstanceRole::kWhole;
  const bool is_folder = std::filesystem::is_directory(options.model_path);
  HYLAS_ASSIGN(const std::string text, read_text_file(options.model_path + (is_folder ? "/config.json" : "")));
  HYLAS_ASSIGN(const json::object config, json::parse_object(text, "config.json"));

  // A layer of a kind costs what a model gains by one more of it.
  const LayerKind base = model.layer_types.front();
  HYLAS_ASSIGN(const double alone, measure(one, config, {base}, tokens));
  std::map<LayerKind, double> costs;
  for (const LayerKind kind : model.layer_types) {
    if (costs.contains(kind)) continue;
    HYLAS_ASSIGN(const double both, measure(one, config, {base, kind}, tokens));
    costs[kind] = std::max(both - alone, 1.0);
  }
  PartitionCosts parts;
  for (const LayerKind kind : model.layer_types) parts.layers.push_back(costs[kind]);
  parts.last = std::max(alone - costs[base], 0.0);
  return parts;
}

}  // namespace hylas
