#pragma once
// What a benchmark asks and when. Pure functions of their arguments: a seed gives the same workload everywhere.
#include <cstdint>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "evaluate/target.h"

namespace hylas {

struct RandomShape {
  int32_t prompts = 1000;
  int32_t input_tokens = 1024;
  int32_t output_tokens = 1024;
  // Lengths are drawn evenly from max(1, range_ratio * length) to the length: 1 keeps them fixed.
  double range_ratio = 0;
  int32_t vocabulary = 0;  // prompts are drawn evenly from the ids below it
  bool ignore_eos = true;
};

std::vector<Task> random_tasks(const RandomShape& shape, uint64_t seed);

// One JSON object a line: `prompt`, a text or an array of token ids, and optionally `output_tokens`, else
// `output_tokens`. The first `prompts` lines, begun anew if there are fewer. kInvalid names `name` and the line.
Result<std::vector<Task>> parse_tasks(std::string_view jsonl, std::string_view name, int32_t prompts,
                                      int32_t output_tokens, bool ignore_eos);

// Seconds from the start at which each request is due, the first at 0. The gaps have the mean 1 / rate; burstiness 1
// makes them a Poisson process, below it they come in bursts, above it more evenly (gaps are gamma distributed with
// that shape). An infinite rate sends everything at once.
std::vector<double> arrival_times_s(int32_t count, double rate_per_s, double burstiness, uint64_t seed);

}  // namespace hylas
