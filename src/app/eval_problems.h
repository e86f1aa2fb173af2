#pragma once
// The word problems of `hylas eval`, from the command line to values.
#include <cstdint>
#include <string>
#include <vector>

#include "base/result.h"
#include "evaluate/gsm8k.h"

namespace CLI {
class App;
}

namespace hylas {

struct ProblemOptions {
  std::string data_path, shots_from;
  int64_t num_questions = 200;
  int64_t num_shots = 5;
};

void add_problem_options(CLI::App& command, ProblemOptions& options);

struct Problems {
  std::vector<Question> questions, shots;
};
// kNotFound, kInvalid: names the file and the line, or says how many lines there are.
Result<Problems> read_problems(const ProblemOptions& options);

}  // namespace hylas
