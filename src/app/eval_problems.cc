#include "app/eval_problems.h"

#include <CLI/CLI.hpp>

#include "base/text_file.h"

namespace hylas {
namespace {

Result<std::vector<Question>> read_questions(const std::string& path) {
  HYLAS_ASSIGN(std::string text, read_text_file(path));
  return parse_questions(text, path);
}

}  // namespace

void add_problem_options(CLI::App& command, ProblemOptions& options) {
  command.add_option("--data-path", options.data_path, "JSONL with `question` and `answer`, such as GSM8K's test set")
      ->required();
  command.add_option("--num-questions", options.num_questions, "How many of them, from the first on")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  command.add_option("--num-shots", options.num_shots, "Solved problems before each question")
      ->check(CLI::NonNegativeNumber)
      ->capture_default_str();
  command.add_option("--shots-from", options.shots_from,
                     "Where they come from; else the first lines of --data-path, as SGLang does");
}

Result<Problems> read_problems(const ProblemOptions& options) {
  Problems problems;
  HYLAS_ASSIGN(problems.questions, read_questions(options.data_path));
  if (options.shots_from.empty()) {
    problems.shots = problems.questions;
  } else {
    HYLAS_ASSIGN(problems.shots, read_questions(options.shots_from));
  }
  if (int64_t(problems.shots.size()) < options.num_shots) {
    return error(ErrorCode::kInvalid, "--num-shots is {}, and {} holds {} lines", options.num_shots,
                 options.shots_from.empty() ? options.data_path : options.shots_from, problems.shots.size());
  }
  problems.shots.resize(size_t(options.num_shots));
  if (problems.questions.empty()) return error(ErrorCode::kInvalid, "{} holds no questions", options.data_path);
  if (int64_t(problems.questions.size()) > options.num_questions) {
    problems.questions.resize(size_t(options.num_questions));
  }
  return problems;
}

}  // namespace hylas
