#include "app/eval_layouts.h"

#include <unistd.h>

#include <CLI/CLI.hpp>
#include <cmath>
#include <filesystem>
#include <memory>

#include "app/eval_problems.h"
#include "app/layout_report.h"
#include "app/load_text.h"
#include "app/options.h"
#include "base/clock.h"
#include "base/log.h"
#include "evaluate/count_progress.h"
#include "model/config.h"
#include "model/quantize_model.h"

namespace hylas {
namespace {

constexpr const char* kExamples = R"(Example:
  hylas eval layouts --model-path models/hylas-tiny --num-shots 0 --data-path models/hylas-tiny/eval/test.jsonl
Each row starts an instance (two, where prefill and decode are apart) with a layout or a type of its own and asks it the
same questions. Layouts must give the reference's tokens, types its accuracy within one point; else the exit code is
1.)";

struct LayoutsOptions {
  Options common;
  ProblemOptions problems;
  std::vector<std::string> dtypes{"float32", "bfloat16"};
};

// The model in FP8 blocks, for as long as the command runs.
struct QuantizedModel {
  std::string path = std::filesystem::temp_directory_path() / fmt::format("hylas-fp8-{}", getpid());
  ~QuantizedModel() {
    std::error_code ignored;
    std::filesystem::remove_all(path, ignored);
  }
};

std::vector<std::string> prompts_of(const Problems& problems) {
  std::vector<std::string> prompts;
  for (const Question& question : problems.questions) prompts.push_back(few_shot_prompt(problems.shots, question));
  return prompts;
}

// True if all rows hold what they must.
Result<bool> report(const LayoutsOptions& options, const TextModel& text, const Problems& problems,
                    const std::string& dtype, const std::string& fp8_path) {
  EngineOptions base = options.common.engine;
  base.dtype = dtype;
  base.vocab_tokens = text.tokenizer->vocab_size();
  HYLAS_ASSIGN(const ModelConfig model, parse_model_config(base.model_path));
  const std::vector<std::string> prompts = prompts_of(problems);
  std::vector<LayoutAnswer> reference;
  double expected = 0;
  bool all_hold = true;
  for (const LayoutCase& one : layout_cases(base, fp8_path, model.experts > 0)) {
    const int64_t started_us = now_us();
    std::vector<LayoutAnswer> answers;
    {
      CountProgress progress(one.name, int64_t(prompts.size()));
      HYLAS_ASSIGN(answers, ask_all(one, text, prompts, [&] { progress.add(); }));
    }
    const bool is_reference = reference.empty();
    if (is_reference) reference = answers;
    const LayoutScore result = score(answers, reference, problems.questions);
    if (is_reference) expected = result.accuracy;
    const bool holds =
        std::abs(result.accuracy - expected) <= 0.01 + 1e-9 && (!one.must_be_identical || result.identical == 1);
    all_hold = all_hold && holds;
    fmt::print("{:<40} {:<9} {:>8.3f} {:>8.3f} {:>10.3f} {:>12.4f} {:>8.1f} {}\n", one.name, dtype, result.accuracy,
               result.invalid, result.identical, result.agreeing, double(now_us() - started_us) * 1e-6,
               is_reference            ? "reference"
               : !holds                ? "DIFFERS"
               : one.must_be_identical ? "identical"
                                       : "within 1 point");
    std::fflush(stdout);
  }
  return all_hold;
}

Status evaluate(const LayoutsOptions& options) {
  HYLAS_TRY(check_engine_options(options.common));
  HYLAS_ASSIGN(const Problems problems, read_problems(options.problems));
  HYLAS_ASSIGN(const TextModel text, load_text(options.common));
  const QuantizedModel quantized;
  HYLAS_TRY(quantize_model(options.common.engine.model_path, quantized.path, 2, [](size_t, size_t) {}));
  fmt::print("{:<40} {:<9} {:>8} {:>8} {:>10} {:>12} {:>8}\n", "layout", "dtype", "accuracy", "invalid", "same text",
             "same tokens", "seconds");
  bool all_hold = true;
  for (const std::string& dtype : options.dtypes) {
    HYLAS_ASSIGN(const bool hold, report(options, text, problems, dtype, quantized.path));
    all_hold = all_hold && hold;
  }
  if (all_hold) return {};
  return error(ErrorCode::kIo, "a layout does not say what one rank says: see the table");
}

}  // namespace

void add_eval_layouts(CLI::App& eval, Action& action) {
  auto options = std::make_shared<LayoutsOptions>();
  options->common.log_level = "warn";
  CLI::App* command = eval.add_subcommand("layouts", "Accuracy and token agreement of every layout beside one rank");
  add_engine_options(*command, options->common);
  add_problem_options(*command, options->problems);
  command->add_option("--dtypes", options->dtypes, "Activation types to run all rows with")
      ->check(CLI::IsMember({"float32", "bfloat16"}))
      ->delimiter(',')
      ->capture_default_str();
  command->footer(kExamples);
  command->callback([options, &action] {
    action = [options] {
      Status status = evaluate(*options);
      return status.ok() ? 0 : fail(status.error());
    };
  });
}

}  // namespace hylas
