#pragma once
// The rows of `hylas eval layouts`: what is run, and what comes out. One row after the other, in this process.
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "engine/engine.h"
#include "evaluate/gsm8k.h"
#include "serve/context.h"

namespace hylas {

struct LayoutCase {
  std::string name;
  EngineOptions engine;
  std::optional<EngineOptions> prefill;  // another instance for the prompts; `engine` decodes
  bool must_be_identical = false;        // to the reference, token for token: only the layout differs
};

// The reference (one rank) first: tp, pp, ep, dp, several of them, disaggregated, then what changes the numbers: fp8
// KV, float16 states, FP8 weights (of the checkpoint at `fp8_path`).
std::vector<LayoutCase> layout_cases(const EngineOptions& base, const std::string& fp8_path, bool with_experts);

// What was said to one question.
struct LayoutAnswer {
  std::vector<int32_t> tokens;
  std::string text;
};

// Greedy, all questions at once. kIo: names the question that failed.
Result<std::vector<LayoutAnswer>> ask_all(const LayoutCase& one, const TextModel& text,
                                          std::span<const std::string> prompts, const std::function<void()>& answered);

struct LayoutScore {
  double accuracy = 0, invalid = 0;
  double identical = 0;  // share of the questions with the reference's tokens
  double agreeing = 0;   // share of the tokens before the first that differs
};
LayoutScore score(std::span<const LayoutAnswer> answers, std::span<const LayoutAnswer> reference,
                  std::span<const Question> questions);

}  // namespace hylas
