#pragma once
// Plans and reports as bytes, between the nodes of an instance: little-endian, with a version and a checksum.
#include <optional>
#include <string>
#include <string_view>

#include "base/result.h"
#include "engine/rank_threads.h"
#include "engine/scheduler.h"

namespace hylas {

// Changes whenever the bytes of a plan or report do; nodes with different versions refuse each other at start.
constexpr uint32_t kPlanCodecVersion = 5;

std::string encode(const StepPlan& plan);
std::string encode(const RankReport& report);

// kIo for bytes that are no such message: of another version, damaged or cut short. Never reads past the end.
Result<StepPlan> decode_plan(std::string_view bytes);
// As a prefilling instance says it to a decoding one (Done::first). None for other bytes, or a token below 0.
std::string encode_first(const FirstToken& first);
std::optional<FirstToken> decode_first(std::string_view bytes);
// `sizes` as the sender has them.
Result<RankReport> decode_report(std::string_view bytes, const ParallelSizes& sizes);

}  // namespace hylas
