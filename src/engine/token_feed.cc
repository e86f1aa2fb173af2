#include "engine/token_feed.h"

#include <algorithm>

#include "base/clock.h"

namespace hylas {
namespace {

Tensor as_tensor(std::vector<int32_t>& tokens) {
  return Tensor(tokens.data(), DType::kI32, {static_cast<int64_t>(tokens.size())});
}

}  // namespace

TokenFeed::TokenFeed(Pipe& pipe, int32_t last_stage, int32_t sequences_max)
    : pipe_(&pipe), last_stage_(last_stage), sampled_in_(sequences_max, 0), last_tokens_(sequences_max, 0) {}

std::span<const int32_t> TokenFeed::resolve(uint64_t id, uint64_t known, std::span<const PlanRow> rows) {
  uint64_t needed = known;
  for (const PlanRow& row : rows) {
    if (row.tokens.empty()) needed = std::max(needed, sampled_in_.at(row.sequence));
  }
  take_until(needed);
  Sampled sampled{id, {}};
  for (const PlanRow& row : rows) {
    if (!row.sample) continue;
    sampled.sequences.push_back(row.sequence);
    sampled_in_.at(row.sequence) = id;
  }
  if (!sampled.sequences.empty()) coming_.push_back(std::move(sampled));
  return last_tokens_;
}

void TokenFeed::take_until(uint64_t plan) {
  while (!coming_.empty() && coming_.front().plan <= plan) {
    const Sampled& sampled = coming_.front();
    std::vector<int32_t> tokens(sampled.sequences.size());
    const int64_t begin_us = now_us();
    pipe_->recv(as_tensor(tokens), last_stage_);
    wait_us_ += now_us() - begin_us;
    for (size_t i = 0; i < tokens.size(); ++i) last_tokens_[sampled.sequences[i]] = tokens[i];
    coming_.pop_front();
  }
}

void send_sampled(Pipe& pipe, std::span<const RowResult> rows) {
  std::vector<int32_t> tokens;
  for (const RowResult& row : rows) {
    if (row.did_sample) tokens.push_back(std::max(row.sampled.token, 0));
  }
  if (!tokens.empty()) pipe.send(as_tensor(tokens), 0);
}

}  // namespace hylas
