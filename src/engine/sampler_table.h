#pragma once
// SamplerTable: what a rank that samples remembers of every live sequence: parameters, last token, token history.
#include <cstdint>
#include <span>
#include <vector>

#include "engine/step_plan.h"
#include "ops/sampling.h"

namespace hylas {

// Not thread-safe: the rank's thread.
class SamplerTable {
 public:
  explicit SamplerTable(int32_t sequences_max) : entries_(sequences_max), last_tokens_(sequences_max, 0) {}

  void start(const SequenceStart& start);
  void end(SequenceIndex sequence);

  const SamplingParams& sampling(SequenceIndex sequence) const;
  // How the last token of `row` is sampled; the views in it live until the next start, end or record.
  SampleRow sample_row(const PlanRow& row) const;
  // A token was sampled; -1: none may come. Then the next step's input is token 0 and its result is discarded.
  void record(SequenceIndex sequence, int32_t token);
  // A token was sampled that only the device knows (Ops::sample_ahead, at the sequence's index): no penalty wants it.
  void record_ahead(SequenceIndex sequence);
  // [sequence index]: input of the sequence's next decode row; -1 - index: what the device knows (Ops::feed).
  std::span<const int32_t> last_tokens() const { return last_tokens_; }

 private:
  struct Entry {
    bool live = false;
    SamplingParams sampling;
    std::vector<int32_t> stop_ids;
    bool keeps_history = false;
    TokenHistory history;
  };
  const Entry& entry(SequenceIndex sequence) const;

  std::vector<Entry> entries_;
  std::vector<int32_t> last_tokens_;
};

}  // namespace hylas
