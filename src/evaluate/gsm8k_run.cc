#include "evaluate/gsm8k_run.h"

#include <atomic>
#include <mutex>
#include <vector>

#include "base/clock.h"
#include "base/thread.h"

namespace hylas {
namespace {

using boost::json::object;

double seconds_since(int64_t started_us) { return double(now_us() - started_us) * 1e-6; }

GradedAnswer grade(size_t index, const Question& question, Result<Completion> answer, double latency_s) {
  GradedAnswer graded{.index = index, .label = *final_number(question.answer)};
  if (!answer.ok()) {
    graded.failure = answer.error();
    return graded;
  }
  graded.prediction = final_number(answer->text);
  graded.completion = std::move(*answer);
  graded.latency_s = latency_s;
  return graded;
}

void count(const GradedAnswer& graded, Gsm8kSummary& summary) {
  if (graded.failure) {
    if (!summary.failure) summary.failure = graded.failure;
    return;
  }
  ++summary.answered;
  summary.correct += graded.correct();
  summary.invalid += !graded.prediction;
  summary.output_tokens += graded.completion.tokens;
}

}  // namespace

Gsm8kSummary run_gsm8k(std::span<const Question> questions, std::span<const Question> shots, int32_t parallel,
                       const Ask& ask, const RecordAnswer& record) {
  Gsm8kSummary summary{.asked = int64_t(questions.size())};
  std::atomic<size_t> next{0};
  std::atomic<bool> failed{false};
  std::mutex mutex;  // guards `summary` and calls of `record`
  int64_t started_us = now_us();
  auto work = [&] {
    for (size_t i; !failed && (i = next++) < questions.size();) {
      int64_t asked_us = now_us();
      Result<Completion> answer = ask(few_shot_prompt(shots, questions[i]));
      GradedAnswer graded = grade(i, questions[i], std::move(answer), seconds_since(asked_us));
      if (graded.failure) failed = true;
      std::lock_guard lock(mutex);
      count(graded, summary);
      record(graded);
    }
  };
  {
    std::vector<std::jthread> threads;
    size_t wanted = std::min(size_t(parallel), questions.size());
    for (size_t i = 0; i < wanted; ++i) threads.push_back(start_thread("ask", work));
  }
  summary.latency_s = seconds_since(started_us);
  return summary;
}

object to_json(const GradedAnswer& answer) {
  object line{{"index", answer.index}, {"label", answer.label}};
  if (answer.failure) {
    line["error"] = answer.failure->message;
    return line;
  }
  line["prediction"] = answer.prediction ? boost::json::value(*answer.prediction) : nullptr;
  line["correct"] = answer.correct();
  line["completion_tokens"] = answer.completion.tokens;
  line["latency_s"] = answer.latency_s;
  line["text"] = answer.completion.text;
  return line;
}

object to_json(const Gsm8kSummary& summary) {
  object values{{"complete", summary.answered == summary.asked},
                {"asked", summary.asked},
                {"answered", summary.answered},
                {"accuracy", summary.accuracy()},
                {"invalid", summary.invalid_share()},
                {"latency_s", summary.latency_s},
                {"output_tokens", summary.output_tokens},
                {"output_tokens_per_s", summary.output_tokens_per_s()}};
  if (summary.failure) values["error"] = summary.failure->message;
  return {{"summary", std::move(values)}};
}

std::string to_text(const Gsm8kSummary& summary) {
  std::string text;
  if (summary.answered < summary.asked) {
    text = fmt::format("Incomplete: {} of {} questions were answered; the figures are of these\n", summary.answered,
                       summary.asked);
  }
  text += fmt::format("Accuracy: {:.3f}\nInvalid: {:.3f}\nLatency: {:.3f} s\nOutput throughput: {:.3f} token/s\n",
                      summary.accuracy(), summary.invalid_share(), summary.latency_s, summary.output_tokens_per_s());
  return text;
}

}  // namespace hylas
