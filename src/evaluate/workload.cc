#include "evaluate/workload.h"

#include <algorithm>
#include <cmath>
#include <random>

#include "base/json.h"

namespace hylas {
namespace {

int32_t draw(std::mt19937_64& random, int32_t low, int32_t high) {
  return std::uniform_int_distribution<int32_t>(low, high)(random);
}

int32_t shortest(int32_t length, double range_ratio) { return std::max(1, int32_t(double(length) * range_ratio)); }

Result<std::vector<int32_t>> parse_ids(const json::array& from) {
  std::vector<int32_t> ids;
  for (const json::value& id : from) {
    if (!id.is_int64() || id.as_int64() < 0 || id.as_int64() > INT32_MAX) {
      return error(ErrorCode::kInvalid, "`prompt` holds something that is no token id");
    }
    ids.push_back(int32_t(id.as_int64()));
  }
  return ids;
}

Result<Task> parse_task(std::string_view line, int32_t output_tokens) {
  Task task{.output_tokens_max = output_tokens};
  HYLAS_ASSIGN(json::object from, json::parse_object(line, "the line"));
  const json::value* prompt = from.if_contains("prompt");
  if (prompt && prompt->is_array()) {
    HYLAS_ASSIGN(task.prompt, parse_ids(prompt->as_array()));
  } else {
    HYLAS_ASSIGN(std::string_view text, json::require_string(from, "prompt"));
    task.prompt = std::string(text);
  }
  HYLAS_ASSIGN(auto wanted, json::optional_int(from, "output_tokens"));
  if (wanted && (*wanted < 1 || *wanted > INT32_MAX)) {
    return error(ErrorCode::kInvalid, "`output_tokens` must be at least 1, not {}", *wanted);
  }
  if (wanted) task.output_tokens_max = int32_t(*wanted);
  return task;
}

}  // namespace

std::vector<Task> random_tasks(const RandomShape& shape, uint64_t seed) {
  std::mt19937_64 random(seed);
  std::vector<Task> tasks(static_cast<size_t>(shape.prompts));
  for (Task& task : tasks) {
    int32_t input = draw(random, shortest(shape.input_tokens, shape.range_ratio), shape.input_tokens);
    task.output_tokens_max = draw(random, shortest(shape.output_tokens, shape.range_ratio), shape.output_tokens);
    task.ignore_eos = shape.ignore_eos;
    std::vector<int32_t> ids(static_cast<size_t>(input));
    for (int32_t& id : ids) id = draw(random, 0, shape.vocabulary - 1);
    task.prompt = std::move(ids);
  }
  return tasks;
}

Result<std::vector<Task>> parse_tasks(std::string_view jsonl, std::string_view name, int32_t prompts,
                                      int32_t output_tokens, bool ignore_eos) {
  std::vector<Task> tasks;
  for (int number = 1; !jsonl.empty() && int32_t(tasks.size()) < prompts; ++number) {
    size_t end = std::min(jsonl.find('\n'), jsonl.size());
    std::string_view line = jsonl.substr(0, end);
    jsonl.remove_prefix(std::min(end + 1, jsonl.size()));
    if (line.find_first_not_of(" \t\r") == std::string_view::npos) continue;
    auto task = parse_task(line, output_tokens);
    if (!task.ok()) return error(ErrorCode::kInvalid, "{} line {}: {}", name, number, task.error().message);
    task->ignore_eos = ignore_eos;
    tasks.push_back(std::move(*task));
  }
  if (tasks.empty()) return error(ErrorCode::kInvalid, "{} holds no prompts", name);
  size_t lines = tasks.size();
  tasks.reserve(size_t(prompts));
  while (int32_t(tasks.size()) < prompts) tasks.push_back(tasks[tasks.size() - lines]);
  return tasks;
}

std::vector<double> arrival_times_s(int32_t count, double rate_per_s, double burstiness, uint64_t seed) {
  std::vector<double> times(static_cast<size_t>(count), 0.0);
  if (std::isinf(rate_per_s)) return times;
  std::mt19937_64 random(seed);
  std::gamma_distribution<double> gap_s(burstiness, 1.0 / (rate_per_s * burstiness));
  for (size_t i = 1; i < times.size(); ++i) times[i] = times[i - 1] + gap_s(random);
  return times;
}

}  // namespace hylas
