#pragma once
// Asking a server all questions, several at a time.
#include <boost/json.hpp>
#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <string>

#include "base/result.h"
#include "evaluate/gsm8k.h"
#include "evaluate/target.h"

namespace hylas {

struct GradedAnswer {
  size_t index = 0;  // of the question, from 0
  std::string label;
  std::optional<std::string> prediction;  // none: the text has no number
  Completion completion;
  double latency_s = 0;
  std::optional<Error> failure;  // no answer came; what stands above but index and label is empty
  bool correct() const { return prediction && *prediction == label; }
};

struct Gsm8kSummary {
  int64_t asked = 0;     // questions of the run, whether their turn came or not
  int64_t answered = 0;  // the figures below are of these
  int64_t correct = 0, invalid = 0, output_tokens = 0;
  double latency_s = 0;          // of the whole run
  std::optional<Error> failure;  // the first; nothing new was asked after it
  double accuracy() const { return answered == 0 ? 0 : double(correct) / double(answered); }
  double invalid_share() const { return answered == 0 ? 0 : double(invalid) / double(answered); }
  double output_tokens_per_s() const { return latency_s > 0 ? double(output_tokens) / latency_s : 0; }
};

// Asks with the prompt; called by up to `parallel` threads at a time.
using Ask = std::function<Result<Completion>(const std::string& prompt)>;
// Takes each answer, and each failure, when it comes; calls do not overlap.
using RecordAnswer = std::function<void(const GradedAnswer&)>;

// After a failure the questions under way are still answered, and no other is begun.
Gsm8kSummary run_gsm8k(std::span<const Question> questions, std::span<const Question> shots, int32_t parallel,
                       const Ask& ask, const RecordAnswer& record);

// Lines of the results file: {"index", "label", "prediction", "correct", "completion_tokens", "latency_s", "text"} or
// {"index", "label", "error"}; and as its last line {"summary": {"complete", "asked", "answered", ...}}.
boost::json::object to_json(const GradedAnswer& answer);
boost::json::object to_json(const Gsm8kSummary& summary);

// SGLang's four lines; before them one that says so if questions were left unanswered.
std::string to_text(const Gsm8kSummary& summary);

}  // namespace hylas
