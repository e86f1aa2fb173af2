#include "evaluate/gsm8k.h"

#include "base/json.h"

namespace hylas {
namespace {

Result<Question> parse_question(std::string_view line) {
  HYLAS_ASSIGN(json::object from, json::parse_object(line, "the line"));
  HYLAS_ASSIGN(std::string_view question, json::require_string(from, "question"));
  HYLAS_ASSIGN(std::string_view answer, json::require_string(from, "answer"));
  if (!final_number(std::string(answer))) return error(ErrorCode::kInvalid, "`answer` holds no number to compare with");
  return Question{std::string(question), std::string(answer)};
}

}  // namespace

Result<std::vector<Question>> parse_questions(std::string_view jsonl, std::string_view name) {
  std::vector<Question> questions;
  for (int number = 1; !jsonl.empty(); ++number) {
    size_t end = std::min(jsonl.find('\n'), jsonl.size());
    std::string_view line = jsonl.substr(0, end);
    jsonl.remove_prefix(std::min(end + 1, jsonl.size()));
    if (line.find_first_not_of(" \t\r") == std::string_view::npos) continue;
    auto question = parse_question(line);
    if (!question.ok()) {
      return error(ErrorCode::kInvalid, "{} line {}: {}; a line is {{\"question\": ..., \"answer\": \"... #### 42\"}}",
                   name, number, question.error().message);
    }
    questions.push_back(std::move(*question));
  }
  return questions;
}

std::string few_shot_prompt(std::span<const Question> shots, const Question& asked) {
  std::string prompt;
  for (const Question& shot : shots) prompt += fmt::format("Question: {}\nAnswer: {}\n\n", shot.question, shot.answer);
  return prompt + fmt::format("Question: {}\nAnswer:", asked.question);
}

std::vector<std::string> gsm8k_stops() { return {"Question", "Assistant:", "<|separator|>"}; }

std::optional<std::string> final_number(std::string text) {
  constexpr const char* kDigits = "0123456789";
  std::erase(text, ',');
  size_t last = text.find_last_of(kDigits);
  if (last == std::string::npos) return std::nullopt;
  size_t before = text.find_last_not_of(kDigits, last);
  size_t first = before == std::string::npos ? 0 : before + 1;
  std::string number = text.substr(first, last + 1 - first);
  if (number.find_first_not_of('0') == std::string::npos) return "0";
  if (number.front() == '0') return std::nullopt;
  return number;
}

}  // namespace hylas
