#pragma once
// GSM8K as SGLang's benchmark/gsm8k asks and grades it. Pure functions.
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace hylas {

struct Question {
  std::string question;
  std::string answer;  // the worked solution; ends in "#### 42"
};

// One JSON object a line, with `question` and `answer`; empty lines are skipped. kInvalid names `name` and the line.
Result<std::vector<Question>> parse_questions(std::string_view jsonl, std::string_view name);

// "Question: {q}\nAnswer: {a}\n\n" for each shot, then "Question: {q}\nAnswer:".
std::string few_shot_prompt(std::span<const Question> shots, const Question& asked);

// Where an answer ends: the model has begun the next question.
std::vector<std::string> gsm8k_stops();

// The last run of digits once commas are deleted: the sign and what stands before a decimal point do not count, as in
// SGLang. None without digits, or if the run has a leading zero (Python reads no such integer). "00" is 0.
std::optional<std::string> final_number(std::string text);

}  // namespace hylas
