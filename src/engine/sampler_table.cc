#include "engine/sampler_table.h"

#include <algorithm>

#include "base/check.h"

namespace hylas {

void SamplerTable::start(const SequenceStart& start) {
  Entry& entry = entries_.at(start.sequence);
  HYLAS_CHECK(!entry.live, "sequence {} starts twice", start.sequence);
  const SamplingParams& sampling = start.sampling;
  entry = Entry{.live = true, .sampling = sampling, .stop_ids = start.stop_ids};
  entry.keeps_history = has_penalties(sampling);
  for (int32_t token : start.prompt) ++entry.history.prompt[token];
  for (int32_t token : start.generated) record(start.sequence, token);
}

void SamplerTable::end(SequenceIndex sequence) {
  HYLAS_CHECK(entries_.at(sequence).live, "sequence {} ends but never started", sequence);
  entries_[sequence] = Entry{};
}

const SamplerTable::Entry& SamplerTable::entry(SequenceIndex sequence) const {
  const Entry& entry = entries_.at(sequence);
  HYLAS_CHECK(entry.live, "sequence {} is unknown here", sequence);
  return entry;
}

const SamplingParams& SamplerTable::sampling(SequenceIndex sequence) const { return entry(sequence).sampling; }

SampleRow SamplerTable::sample_row(const PlanRow& row) const {
  const Entry& known = entry(row.sequence);
  const SamplingParams& sampling = known.sampling;
  SampleRow sample;
  sample.temperature = sampling.temperature;
  sample.top_k = sampling.top_k;
  sample.top_p = sampling.top_p;
  sample.min_p = sampling.min_p;
  sample.repetition_penalty = sampling.repetition_penalty;
  sample.frequency_penalty = sampling.frequency_penalty;
  sample.presence_penalty = sampling.presence_penalty;
  sample.seed = sampling.seed.value();
  sample.step = row.step;
  sample.bias = sampling.logit_bias;
  if (row.block_stops) sample.blocked = known.stop_ids;
  if (row.allowed) sample.allowed = *row.allowed;
  sample.history = &known.history;
  sample.top_logprobs = sampling.top_logprobs;
  return sample;
}

void SamplerTable::record(SequenceIndex sequence, int32_t token) {
  Entry& known = entries_.at(sequence);
  last_tokens_[sequence] = std::max(token, 0);
  if (known.keeps_history && token >= 0) ++known.history.generated[token];
}

void SamplerTable::record_ahead(SequenceIndex sequence) {
  HYLAS_CHECK(!entry(sequence).keeps_history, "sequence {} has penalties", sequence);
  last_tokens_[sequence] = -1 - sequence;
}

}  // namespace hylas
