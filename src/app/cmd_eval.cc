// hylas eval gsm8k: accuracy on grade-school word problems, asked of a running server. hylas eval layouts: see there.
#include <CLI/CLI.hpp>
#include <cstdio>
#include <fstream>
#include <memory>

#include "app/commands.h"
#include "app/eval_layouts.h"
#include "app/eval_problems.h"
#include "evaluate/count_progress.h"
#include "evaluate/gsm8k_run.h"

namespace hylas {
namespace {

constexpr int32_t kOutputTokensMax = 512;
constexpr const char* kExamplesOfAll = R"(Examples:
  hylas eval gsm8k --data-path models/hylas-tiny/eval/test.jsonl --shots-from models/hylas-tiny/eval/shots.jsonl
  hylas eval layouts --model-path models/hylas-tiny --num-shots 0 --data-path models/hylas-tiny/eval/test.jsonl
`hylas eval COMMAND --help` lists a command's options. docs/benchmarking.md explains the figures.)";
constexpr const char* kExamples = R"(Examples:
  hylas eval gsm8k --data-path test.jsonl
  hylas eval gsm8k --data-path eval/test.jsonl --shots-from eval/shots.jsonl --num-questions 100 --out results.jsonl
The protocol is that of SGLang's benchmark/gsm8k: greedy completions without a chat template, at most 512 tokens; the
last number of the text is the answer. Exit code 1 if the server failed; what was answered until then is kept.)";

struct EvalOptions {
  ProblemOptions problems;
  std::string out;
  int32_t parallel = 64;
  std::string base_url = "http://127.0.0.1:30000";
  std::string api = "auto";
  double timeout_s = 1800;
};

// Written as the answers come, so that a run that is cut off leaves what it has.
class ResultsFile {
 public:
  Status open(const std::string& path) {
    if (path.empty()) return {};
    file_.open(path, std::ios::trunc);
    if (!file_) return error(ErrorCode::kIo, "cannot write {}; choose another --out", path);
    path_ = path;
    return {};
  }
  void add(const boost::json::object& line) {
    if (file_.is_open()) file_ << boost::json::serialize(line) << std::endl;
  }
  Status close() {
    if (path_.empty()) return {};
    file_.close();
    return file_ ? Status() : Status(error(ErrorCode::kIo, "{} could not be written to its end", path_));
  }

 private:
  std::string path_;
  std::ofstream file_;
};

Status evaluate(const EvalOptions& options) {
  HYLAS_ASSIGN(Problems problems, read_problems(options.problems));
  HYLAS_ASSIGN(BaseUrl url, parse_base_url(options.base_url));
  HYLAS_ASSIGN(Target target, find_target(HttpClient(url, int64_t(options.timeout_s * 1e6)), options.api));
  ResultsFile results;
  HYLAS_TRY(results.open(options.out));
  auto ask = [&](const std::string& prompt) {
    return complete(target, {.prompt = prompt, .output_tokens_max = kOutputTokensMax, .stop = gsm8k_stops()});
  };
  Gsm8kSummary summary;
  {
    CountProgress progress("Questions", int64_t(problems.questions.size()));
    summary = run_gsm8k(problems.questions, problems.shots, options.parallel, ask, [&](const GradedAnswer& answer) {
      results.add(to_json(answer));
      if (!answer.failure) progress.add();
    });
  }
  results.add(to_json(summary));
  fmt::print("{}", to_text(summary));
  HYLAS_TRY(results.close());
  if (!summary.failure) return {};
  // Whatever the server said, it is a run that failed and not a wrong command line.
  return Error{ErrorCode::kIo, summary.failure->message};
}

}  // namespace

void add_eval(CLI::App& app, Action& action) {
  auto options = std::make_shared<EvalOptions>();
  CLI::App* eval = app.add_subcommand("eval", "Measures accuracy: of a running server, or of every layout of a model");
  eval->footer(kExamplesOfAll);
  eval->require_subcommand(1);
  add_eval_layouts(*eval, action);
  CLI::App* command = eval->add_subcommand("gsm8k", "Grade-school word problems, by SGLang's protocol");
  command->option_defaults()->take_last();
  add_problem_options(*command, options->problems);
  command->add_option("--parallel", options->parallel, "Questions at a time")
      ->check(CLI::Range(1, 4096))
      ->capture_default_str();
  command->add_option("--base-url", options->base_url, "The server")->capture_default_str();
  command->add_option("--api", options->api, "/generate, /v1/completions, or auto: the first if the server has it")
      ->check(CLI::IsMember({"auto", "generate", "completions"}))
      ->capture_default_str();
  command->add_option("--timeout", options->timeout_s, "Seconds to wait for an answer")
      ->check(CLI::Range(0.001, 1e6))
      ->capture_default_str();
  command->add_option("--out", options->out, "JSONL: a line for each question, and a summary as the last");
  command->footer(kExamples);
  command->callback([options, &action] {
    action = [options] {
      Status status = evaluate(*options);
      return status.ok() ? 0 : fail(status.error());
    };
  });
}

}  // namespace hylas
