// hylas logits: the logits of a prompt and a greedy continuation, for comparing with other implementations.
#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdio>
#include <memory>
#include <utility>

#include "app/commands.h"
#include "app/options.h"
#include "engine/node_worker.h"
#include "engine/plan_runner.h"
#include "weights/safetensors_writer.h"

namespace hylas {
namespace {

constexpr const char* kExamples = R"(Examples:
  hylas logits --model-path ~/models/Qwen3.5-0.8B --input-ids 760,6511,314 --generate 8 --out logits.safetensors
The file holds `logits` [T, V] f32, one row for each prompt position, and `generated_ids` [N] i32, chosen greedily.
With --mtp also `mtp_draft_ids` [T + N - 1] i32: what the MTP head expects two tokens behind each position; and the
share of the generated tokens that it foresaw is printed.)";

struct LogitsOptions {
  Options common;
  std::vector<int32_t> input_ids;
  int32_t generate = 0;
  bool mtp = false;
  std::string out;
};

struct LogitsResult {
  std::vector<float> logits;  // [T, V]
  std::vector<int32_t> generated;
  std::vector<int32_t> drafts;  // [T + N - 1], with --mtp
};

Status check_input(const LogitsOptions& options, const EngineInfo& info) {
  for (size_t i = 0; i < options.input_ids.size(); ++i) {
    const int32_t id = options.input_ids[i];
    if (id >= 0 && id < info.vocab_size) continue;
    return error(ErrorCode::kInvalid, "--input-ids: token {} at position {} is not within the vocabulary of {}", id, i,
                 info.vocab_size);
  }
  const int64_t tokens = static_cast<int64_t>(options.input_ids.size()) + options.generate;
  if (tokens <= info.context_length) return {};
  return error(ErrorCode::kInvalid, "--input-ids of {} tokens and --generate {} exceed the context of {} tokens",
               options.input_ids.size(), options.generate, info.context_length);
}

// The first row of a greedy sequence's life: its sampling, sent before it.
SequenceStart greedy_start() {
  SequenceStart start{.sequence = 0};
  start.sampling.temperature = 0;
  start.sampling.seed = 0;
  return start;
}

// Plans the rows of one sequence by hand.
class LoneSequence {
 public:
  explicit LoneSequence(PlanRunner& runner) : runner_(runner) {}

  RowResult run(PlanRow row) {
    const int32_t page_size = runner_.info().page_size;
    for (int32_t page = 0; page * page_size < row.begin + row.length; ++page) row.pages.push_back(page);
    row.sequence = 0;
    row.state_read = row.begin == 0 ? -1 : 0;
    row.state_write = 0;
    StepPlan plan;
    if (!std::exchange(started_, true)) plan.starts.push_back(greedy_start());
    plan.rows.push_back(std::move(row));
    StepResult result = runner_.run(std::move(plan));
    return result.rows.empty() ? RowResult{} : std::move(result.rows.front());
  }
  int32_t chunk_tokens() const { return runner_.scheduler().prefill_tokens_max; }

 private:
  PlanRunner& runner_;
  bool started_ = false;
};

// Once more over all tokens but the last, whose successor nobody knows.
std::vector<int32_t> draft(LoneSequence& sequence, std::vector<int32_t> tokens) {
  std::vector<int32_t> drafts;
  const auto count = static_cast<int32_t>(tokens.size()) - 1;
  for (int32_t begin = 0; begin < count; begin += sequence.chunk_tokens()) {
    PlanRow row{.kind = RowKind::kPrefill, .begin = begin, .length = std::min(sequence.chunk_tokens(), count - begin)};
    row.tokens.assign(tokens.begin() + begin, tokens.begin() + begin + row.length);
    row.next_token = tokens[begin + row.length];
    row.want_drafts = true;
    const RowResult done = sequence.run(std::move(row));
    drafts.insert(drafts.end(), done.drafts.begin(), done.drafts.end());
  }
  return drafts;
}

// Chunks as the engine would cut them, then one decode step after the other.
LogitsResult run_sequence(PlanRunner& runner, const LogitsOptions& options) {
  LoneSequence sequence(runner);
  const int32_t chunk_tokens = sequence.chunk_tokens();
  const auto prompt_tokens = static_cast<int32_t>(options.input_ids.size());
  LogitsResult result;
  for (int32_t begin = 0; begin < prompt_tokens; begin += chunk_tokens) {
    PlanRow row{.kind = RowKind::kPrefill, .begin = begin, .length = std::min(chunk_tokens, prompt_tokens - begin)};
    row.tokens.assign(options.input_ids.begin() + begin, options.input_ids.begin() + begin + row.length);
    row.want_logits = true;
    row.sample = options.generate > 0 && begin + row.length == prompt_tokens;
    const RowResult done = sequence.run(std::move(row));
    result.logits.insert(result.logits.end(), done.logits.begin(), done.logits.end());
    if (done.sampled.token >= 0) result.generated.push_back(done.sampled.token);
  }
  for (int32_t n = 1; n < options.generate; ++n) {
    const PlanRow row{.kind = RowKind::kDecode, .begin = prompt_tokens + n - 1, .length = 1, .sample = true, .step = n};
    result.generated.push_back(sequence.run(row).sampled.token);
  }
  if (options.mtp) {
    std::vector<int32_t> tokens = options.input_ids;
    tokens.insert(tokens.end(), result.generated.begin(), result.generated.end());
    result.drafts = draft(sequence, std::move(tokens));
  }
  return result;
}

// Of the generated tokens but the first, which no draft of a server could foresee.
void print_accepted(const LogitsOptions& options, const LogitsResult& result) {
  const size_t prompt = options.input_ids.size(), count = result.generated.size();
  size_t accepted = 0;
  for (size_t n = 1; n < count; ++n) accepted += result.drafts.at(prompt + n - 2) == result.generated[n];
  fmt::print("the MTP head foresaw {} of {} tokens\n", accepted, count > 0 ? count - 1 : 0);
}

Status write_result(const std::string& path, LogitsResult& result, int64_t vocab) {
  const auto rows = static_cast<int64_t>(result.logits.size()) / vocab;
  const auto count = static_cast<int64_t>(result.generated.size());
  std::vector<std::pair<std::string, Tensor>> tensors{
      {"logits", Tensor(result.logits.data(), DType::kF32, {rows, vocab})},
      {"generated_ids", Tensor(result.generated.data(), DType::kI32, {count})}};
  const auto drafts = static_cast<int64_t>(result.drafts.size());
  if (drafts > 0) tensors.push_back({"mtp_draft_ids", Tensor(result.drafts.data(), DType::kI32, {drafts})});
  return write_safetensors(path, tensors);
}

Status run(const LogitsOptions& options) {
  HYLAS_TRY(check_engine_options(options.common));
  EngineOptions engine = options.common.engine;
  engine.max_running_requests = 1;
  engine.with_mtp = options.mtp;
  if (engine.node_rank > 0) return run_node(engine);
  HYLAS_ASSIGN(Startup startup, start_up(engine));
  PlanRunner runner(std::move(startup));
  HYLAS_TRY(check_input(options, runner.info()));
  LogitsResult result = run_sequence(runner, options);
  HYLAS_TRY(write_result(options.out, result, runner.info().vocab_size));
  fmt::print("{}: logits [{}, {}], generated_ids [{}]\n", options.out, options.input_ids.size(),
             runner.info().vocab_size, result.generated.size());
  if (options.mtp) print_accepted(options, result);
  return {};
}

}  // namespace

void add_logits(CLI::App& app, Action& action) {
  auto options = std::make_shared<LogitsOptions>();
  CLI::App* command = app.add_subcommand("logits", "Writes the logits of a prompt and a greedy continuation to a file");
  command->footer(kExamples);
  add_engine_options(*command, options->common);
  command->add_option("--input-ids", options->input_ids, "Token ids of the prompt: 1,2,3")->required()->delimiter(',');
  command->add_option("--generate", options->generate, "Tokens to generate greedily after the prompt")
      ->check(CLI::NonNegativeNumber)
      ->capture_default_str();
  command->add_flag("--mtp", options->mtp, "Also write what the MTP head drafts");
  command->add_option("--out", options->out, "The safetensors file to write")->required();
  command->callback([options, &action] {
    action = [options] {
      const Status status = run(*options);
      return status.ok() ? 0 : fail(status.error());
    };
  });
}

}  // namespace hylas
