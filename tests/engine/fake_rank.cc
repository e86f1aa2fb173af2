#include "engine/fake_rank.h"

#include <algorithm>
#include <map>
#include <set>
#include <span>

#include "base/check.h"
#include "engine/prefill_policy.h"

namespace hylas {
namespace {

uint64_t mix(uint64_t a, uint64_t b) {
  uint64_t x = a * 0x9E3779B97F4A7C15u + b + 1;
  x = (x ^ (x >> 29)) * 0xBF58476D1CE4E5B9u;
  return x ^ (x >> 32);
}

uint64_t hash_of(std::span<const int32_t> tokens) {
  uint64_t hash = 0;
  for (int32_t token : tokens) hash = mix(hash, token);
  return hash;
}

bool contains(const std::vector<int32_t>& ids, int32_t id) {
  return std::find(ids.begin(), ids.end(), id) != ids.end();
}

// The "model" and its sampler: any allowed token, decided by all that came before.
int32_t next_token(uint64_t state, uint64_t kv, const SamplingParams& sampling, int32_t step, int32_t vocab_size,
                   const std::vector<int32_t>& blocked, const std::vector<uint32_t>* allowed) {
  uint64_t draw = mix(mix(mix(state, kv), *sampling.seed), step);
  for (int32_t tried = 0; tried < vocab_size; ++tried) {
    auto token = static_cast<int32_t>((draw + tried) % vocab_size);
    bool masked = allowed && !((*allowed)[token / 32] >> (token % 32) & 1);
    if (!masked && !contains(blocked, token)) return token;
  }
  return -1;
}

}  // namespace

ExpectedText expected_text(const Request& request, const SchedulerOptions& options) {
  ExpectedText text;
  std::vector<int32_t> stops = request.sampling.stop_token_ids;
  if (!request.sampling.ignore_eos) stops.insert(stops.end(), options.eos_ids.begin(), options.eos_ids.end());
  std::vector<int32_t> all = request.prompt;
  const int32_t room = sequence_tokens_max(options.limits()) - static_cast<int32_t>(all.size());
  const int32_t count = std::min(request.sampling.max_new_tokens, room);
  for (int32_t step = 0; step < count; ++step) {
    bool block = step < request.sampling.min_new_tokens;
    uint64_t hash = hash_of(all);
    text.tokens.push_back(next_token(hash, hash, request.sampling, step, options.vocab_size,
                                     block ? stops : std::vector<int32_t>{}, nullptr));
    all.push_back(text.tokens.back());
    if (contains(stops, all.back())) {
      text.finish = FinishReason::kStop;
      break;
    }
  }
  return text;
}

FakeRank::FakeRank(const SchedulerOptions& options)
    : options_(options),
      groups_(options.groups),
      sampled_in_(options.slots * options.groups, 0),
      entries_(options.slots * options.groups) {
  for (Group& group : groups_) {
    group.pages.assign(options.pages, std::vector<int32_t>(options.page_size, -1));
    group.slots.resize(options.slots);
    group.landing_pages.assign(options.landing_pages, std::vector<int32_t>(options.page_size, -1));
    group.landing_slots.resize(options.landing_slots);
  }
}

StepResult FakeRank::execute(const StepPlan& plan) {
  HYLAS_CHECK(plan.id == ++plans_);
  check(plan);
  check_pipeline(plan);
  for (SequenceIndex index : plan.ends) {
    HYLAS_CHECK(entries_.at(index).has_value(), "sequence {} ends but never started", index);
    entries_[index].reset();
  }
  for (const LandOp& op : plan.lands) land(op);
  for (const SwapOp& op : plan.swaps) swap(op);
  for (const SequenceStart& start : plan.starts) {
    HYLAS_CHECK(!entries_.at(start.sequence).has_value(), "index {} starts twice", start.sequence);
    HYLAS_CHECK(start.sampling.seed.has_value());
    entries_[start.sequence] = Entry{start, -1};
  }
  StepResult result;
  result.id = plan.id;
  for (const PlanRow& row : plan.rows) {
    RowResult made = run(row);
    if (made.did_sample || !made.prompt_logprobs.empty()) result.rows.push_back(std::move(made));
  }
  return result;
}

// What every plan promises (engine/step_plan.h).
void FakeRank::check(const StepPlan& plan) const {
  std::set<int32_t> sequences;
  std::set<std::pair<int32_t, int32_t>> slots, pages;  // by group
  std::map<int32_t, int32_t> prefill_tokens, decode_rows;
  for (const PlanRow& row : plan.rows) {
    HYLAS_CHECK(row.group >= 0 && row.group < options_.groups, "group {}", row.group);
    HYLAS_CHECK(sequences.insert(row.sequence).second, "two rows of sequence {}", row.sequence);
    HYLAS_CHECK(row.sequence / options_.slots == row.group, "sequence {} in group {}", row.sequence, row.group);
    HYLAS_CHECK(slots.insert({row.group, row.state_write}).second, "two rows write slot {}", row.state_write);
    for (int32_t page : row.pages) {
      HYLAS_CHECK(pages.insert({row.group, page}).second, "two rows hold page {}", page);
    }
    HYLAS_CHECK(static_cast<int64_t>(row.pages.size()) * options_.page_size >= row.begin + row.length);
    HYLAS_CHECK(row.state_read == (row.begin == 0 ? -1 : row.state_write));
    if (row.kind == RowKind::kDecode) {
      HYLAS_CHECK(!prefill_tokens.contains(row.group), "decode rows come first");
      HYLAS_CHECK(row.length == 1 && row.sample);
      ++decode_rows[row.group];
      continue;
    }
    prefill_tokens[row.group] += row.length;
    HYLAS_CHECK(row.length > 0 && static_cast<int32_t>(row.tokens.size()) == row.length);
    HYLAS_CHECK(row.begin % kChunkUnit == 0, "a chunk begins at {}", row.begin);
    HYLAS_CHECK(row.sample == (row.next_token < 0), "the last chunk samples");
  }
  for (const auto& [group, tokens] : prefill_tokens) HYLAS_CHECK(tokens <= options_.prefill_tokens_max);
  for (const auto& [group, rows] : decode_rows) {
    HYLAS_CHECK(options_.decode_rows_max == 0 || rows <= options_.decode_rows_max, "{} decode rows", rows);
  }
}

// The first stage would wait for a token that is still on its way through the later ones.
void FakeRank::check_pipeline(const StepPlan& plan) {
  for (const PlanRow& row : plan.rows) {
    uint64_t& sampled_in = sampled_in_.at(row.sequence);
    if (row.kind == RowKind::kDecode) {
      HYLAS_CHECK(sampled_in <= plan.known || plan.id - sampled_in >= static_cast<uint64_t>(options_.stages),
                  "plan {} reads what plan {} samples, {} stages", plan.id, sampled_in, options_.stages);
    }
    if (row.sample) sampled_in = plan.id;
  }
}

void FakeRank::land(const LandOp& op) {
  Group& group = groups_.at(op.group);
  HYLAS_CHECK(op.part.from_pages.size() == op.part.to_pages.size());
  for (size_t i = 0; i < op.part.from_pages.size(); ++i) {
    group.pages.at(op.part.to_pages[i]) = group.landing_pages.at(op.part.from_pages[i]);
  }
  group.slots.at(op.part.to_slot) = group.landing_slots.at(op.part.from_slot);
}

void FakeRank::swap(const SwapOp& op) {
  Group& group = groups_.at(op.group);
  auto& pages = group.pages;
  auto& slots = group.slots;
  auto& swapped = group.swapped;
  if (op.direction == SwapOp::Direction::kDrop) {
    HYLAS_CHECK(swapped.erase(op.key) == 1, "no buffer {} to drop", op.key);
    return;
  }
  if (op.direction == SwapOp::Direction::kOut) {
    HYLAS_CHECK(!swapped.contains(op.key));
    Swapped& buffer = swapped[op.key];
    for (int32_t page : op.pages)
      buffer.pages.push_back(std::exchange(pages.at(page), std::vector(options_.page_size, -1)));
    buffer.slot = std::exchange(slots.at(op.slot), {});
    return;
  }
  Swapped buffer = std::move(swapped.at(op.key));
  swapped.erase(op.key);
  HYLAS_CHECK(buffer.pages.size() == op.pages.size());
  for (size_t i = 0; i < op.pages.size(); ++i) pages.at(op.pages[i]) = buffer.pages[i];
  slots.at(op.slot) = buffer.slot;
}

RowResult FakeRank::run(const PlanRow& row) {
  HYLAS_CHECK(entries_.at(row.sequence).has_value(), "a row of the unknown sequence {}", row.sequence);
  Entry& entry = *entries_[row.sequence];
  Group& group = groups_.at(row.group);
  std::vector<int32_t> tokens = row.tokens;
  if (row.kind == RowKind::kDecode && !tokens.empty()) {
    HYLAS_CHECK(row.step == 1 && (entry.last_token >= 0 || tokens == entry.start.generated), "a token from nowhere");
  }
  if (tokens.empty()) tokens.push_back(entry.last_token);
  Slot state = row.state_read < 0 ? Slot{} : group.slots.at(row.state_read);
  HYLAS_CHECK(state.count == row.begin, "the state covers {} positions, the row begins at {}", state.count, row.begin);
  for (int32_t i = 0; i < row.length; ++i) {
    const int32_t position = row.begin + i;
    group.pages.at(row.pages[position / options_.page_size])[position % options_.page_size] = tokens[i];
    state = {mix(state.hash, tokens[i]), state.count + 1};
  }
  group.slots.at(row.state_write) = state;

  RowResult result;
  result.sequence = row.sequence;
  for (int32_t target = row.begin + 1; row.prompt_logprobs_from >= 0 && target <= row.begin + row.length; ++target) {
    int32_t token = target < row.begin + row.length ? row.tokens[target - row.begin] : row.next_token;
    if (token >= 0 && target >= row.prompt_logprobs_from) result.prompt_logprobs.push_back({token, -1.f, {}});
  }
  if (!row.sample) return result;
  std::vector<int32_t> kv;
  for (int32_t position = 0; position < state.count; ++position) {
    kv.push_back(group.pages[row.pages[position / options_.page_size]][position % options_.page_size]);
  }
  entry.last_token = next_token(state.hash, hash_of(kv), entry.start.sampling, row.step, options_.vocab_size,
                                row.block_stops ? entry.start.stop_ids : std::vector<int32_t>{}, row.allowed.get());
  result.did_sample = true;
  result.sampled.token = entry.last_token;
  return result;
}

void FakeRank::send(const SendOp& op, FakeRank& to) const {
  const Group& from_group = groups_.at(op.group);
  Group& to_group = to.groups_.at(op.to_group);
  HYLAS_CHECK(op.part.from_pages.size() == op.part.to_pages.size() && options_.page_size == to.options_.page_size);
  const bool lands = to.options_.landing_slots > 0;
  auto& pages = lands ? to_group.landing_pages : to_group.pages;
  auto& slots = lands ? to_group.landing_slots : to_group.slots;
  for (size_t i = 0; i < op.part.from_pages.size(); ++i) {
    pages.at(op.part.to_pages[i]) = from_group.pages.at(op.part.from_pages[i]);
  }
  if (op.part.from_slot >= 0) slots.at(op.part.to_slot) = from_group.slots.at(op.part.from_slot);
}

bool FakeRank::forgot_everything() const {
  return std::all_of(groups_.begin(), groups_.end(), [](const Group& group) { return group.swapped.empty(); }) &&
         std::none_of(entries_.begin(), entries_.end(), [](const auto& e) { return e.has_value(); });
}

}  // namespace hylas
