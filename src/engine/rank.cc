#include "engine/rank.h"

#include <algorithm>
#include <numeric>
#include <thread>
#include <utility>

#include "base/check.h"
#include "base/clock.h"

namespace hylas {

Result<std::unique_ptr<Rank>> Rank::load(const RankOptions& options, std::unique_ptr<Ops> ops,
                                         std::unique_ptr<WeightSource> source, RankComms comms) {
  auto rank = std::unique_ptr<Rank>(new Rank);
  rank->options_ = options;
  rank->comms_ = std::move(comms);
  rank->ops_ = std::move(ops);
  rank->source_ = std::move(source);
  HYLAS_ASSIGN(rank->decoder_,
               Decoder::make(options.config, options.decoder, *rank->source_, *rank->ops_, rank->comms_));
  return rank;
}

StateLayout Rank::layout() const { return state_layout(options_.config, options_.decoder); }

int32_t Rank::logits_rows_max() const {
  return options_.graph_rows.empty() ? kLogitsRowsMax : std::max(kLogitsRowsMax, options_.graph_rows.back());
}

size_t Rank::arena_bytes() const { return decoder_->arena_bytes(options_.limits.tokens_max, logits_rows_max()); }

Status Rank::allocate(int64_t pages, int32_t slots) {
  Device& memory = device();
  HYLAS_ASSIGN(pools_, StatePools::make(memory, layout(), pages, options_.limits.page_size, slots));
  HYLAS_ASSIGN(arena_memory_, Buffer::make(memory, arena_bytes()));
  arena_ = Arena(arena_memory_.data(), arena_memory_.bytes());
  HYLAS_ASSIGN(batches_, BatchBuilder::make(memory, options_.limits));
  HYLAS_ASSIGN(index_, Buffer::make(memory, logits_rows_max() * sizeof(int32_t)));
  const ParallelSizes& sizes = options_.decoder.shard.sizes;
  const int32_t sequences_max = slots * sizes.dp;
  sampler_ = SamplerTable(sequences_max);
  group_tokens_.resize(sizes.dp);
  if (reports()) clock_ = memory.make_work_clock();
  draws_ahead_ = options_.is_first() && options_.is_last();
  if (draws_ahead_) {
    HYLAS_ASSIGN(drawn_, DrawnTokens::make(memory, sequences_max));
  }
  if (options_.is_first() && sizes.pp > 1) feed_ = TokenFeed(*comms_.pipe, sizes.pp - 1, sequences_max);
  return {};
}

Status Rank::allocate_landing(int64_t pages, int32_t slots) {
  HYLAS_ASSIGN(landing_, LandingArea::make(device(), layout(), pages, options_.limits.page_size, slots));
  return {};
}

// Steps of padded rows alone: they write nowhere. The time that ranks waited for each other, one still recording, is
// not that of plans: a copy to the host waits for the end of all that was launched.
void Rank::record_graphs() {
  const BatchLimits& limits = options_.limits;
  graphs_ = DecodeGraphs(options_.graph_rows, (limits.context_length + limits.page_size - 1) / limits.page_size);
  for (DecodeGraph& graph : graphs_.all()) replay(graph, batches_.build({}, {}, graph.shape));
  int32_t word = 0;
  device().copy_to_host(&word, index_.data(), sizeof word);
  sums_us_ = comms_.sums_us();
}

StepResult Rank::execute(const StepPlan& plan) {
  StepResult result;
  result.id = plan.id;
  result.begin_us = now_us();
  wait_us_ = 0;
  marks_ = {};
  if (clock_) marks_.begin = marks_.input = clock_->mark();
  const int32_t group = place().dp_group;
  for (SequenceIndex sequence : plan.ends) sampler_.end(sequence);
  for (const LandOp& op : plan.lands) {
    if (op.group == group) landing_->begin(op, pools_);
  }
  for (const SwapOp& op : plan.swaps) {
    if (op.group == group) swaps_.apply(op, pools_);
  }
  for (const SequenceStart& start : plan.starts) sampler_.start(start);
  if (!plan.rows.empty()) run_rows(plan, result.rows);
  for (const SlotCopy& copy : plan.copies) {
    if (copy.group == group) pools_.copy_slot(copy.from, copy.to);
  }
  for (const SendOp& op : plan.sends) {
    if (op.group == group) sender_->send(place().rank, op);
  }
  const int64_t sums_us = comms_.sums_us();
  result.sums_us = sums_us - std::exchange(sums_us_, sums_us);
  if (landing_) landing_->finish();  // the copies came first: when the step's kernels are launched they are about over
  result.end_us = now_us();
  result.wait_us = wait_us_;
  if (!clock_) return result;
  marks_.end = clock_->mark();
  unsettled_.push_back(marks_);
  return result;
}

bool Rank::settle(StepResult& result) {
  if (!clock_) return true;
  Marks& marks = unsettled_.front();
  std::optional<int64_t> end_us;
  do {
    if (!marks.begin_us) marks.begin_us = clock_->passed_us(marks.begin);
    if (marks.begin_us && !marks.input_us) marks.input_us = clock_->passed_us(marks.input);
    if (marks.input_us) end_us = clock_->passed_us(marks.end);
  } while (!end_us && marks.waited);
  if (!end_us) return false;
  if (marks.fetch >= 0) drawn_.take(marks.fetch, result.rows);
  result.begin_us = *marks.begin_us;
  result.wait_us = *marks.input_us - *marks.begin_us;
  result.end_us = *end_us;
  unsettled_.pop_front();
  return true;
}

StepResult Rank::execute_and_settle(const StepPlan& plan) {
  StepResult result = execute(plan);
  while (!settle(result)) std::this_thread::yield();
  return result;
}

void Rank::run_rows(const StepPlan& plan, std::vector<RowResult>& results) {
  arena_.reset();
  rows_.clear();
  std::fill(group_tokens_.begin(), group_tokens_.end(), 0);
  for (const PlanRow& row : plan.rows) {
    group_tokens_.at(row.group) += row.length;
    if (group_tokens_.size() > 1 && row.group == place().dp_group) rows_.push_back(row);
  }
  const std::span<const PlanRow> rows = group_tokens_.size() > 1 ? std::span<const PlanRow>(rows_) : plan.rows;
  const bool feeds = options_.is_first() && comms_.pipe;
  const int64_t fed_us = feed_.wait_us();
  const auto last_tokens = feeds ? feed_.resolve(plan.id, plan.known, rows) : sampler_.last_tokens();
  wait_us_ += feed_.wait_us() - fed_us;
  if (clock_) marks_.begin = marks_.input = clock_->mark();
  if (DecodeGraph* graph = graphs_.find(plan.rows, group_tokens_, options_.limits.page_size)) {
    const Batch padded = batches_.build(rows, last_tokens, graph->shape);
    if (!options_.is_first()) enter_stage(padded);  // where the recorded step expects it: first in the arena
    replay(*graph, padded);
    return leave_stage(rows, graph->hidden, graph->logits, results);
  }
  const Batch batch = batches_.build(rows, last_tokens);
  const Tensor hidden = enter_stage(batch);
  decoder_->forward(batch, pools_, hidden, arena_, group_tokens_);
  if (batch.tokens > 0) leave_stage(rows, hidden, {}, results);
  if (options_.is_last() && !rows.empty() && rows.front().want_drafts) draft(rows.front(), batch, hidden, results);
}

// A stage's whole step, up to the logits on the last; the arena lies alike in every step of the same shape. Padded rows
// travel from stage to stage too: they hold numbers, not what an earlier step left there. So do those of a dp group
// that has none of its own in this step: all groups have as many.
void Rank::replay(DecodeGraph& graph, const Batch& batch) {
  ops_->replay(graph.key(), [&] {
    arena_.reset();
    std::fill(group_tokens_.begin(), group_tokens_.end(), graph.shape.rows);
    graph.hidden = options_.is_first() ? embed(batch) : incoming(batch);
    decoder_->forward(batch, pools_, graph.hidden, arena_, group_tokens_);
    if (!options_.is_last()) return;
    const Tensor all = batch.row_begin.rows(0, batch.rows);  // row i is token i
    graph.logits = decoder_->logits(decoder_->final_norm(graph.hidden, all, arena_), arena_);
  });
}

Tensor Rank::embed(const Batch& batch) {
  if (draws_ahead_) ops_->feed(batch.token_ids, drawn_.last_tokens());
  return decoder_->embed(batch, arena_);
}

Tensor Rank::incoming(const Batch& batch) {
  return arena_.allocate(options_.decoder.act, {batch.tokens, options_.config.hidden_size});
}

// The hidden states of the batch as they come into this stage.
Tensor Rank::enter_stage(const Batch& batch) {
  if (options_.is_first() && batch.tokens > 0) return embed(batch);
  const Tensor hidden = incoming(batch);
  if (batch.tokens == 0) return hidden;
  const int64_t begin_us = now_us();
  comms_.pipe->recv(hidden, place().stage - 1);
  wait_us_ += now_us() - begin_us;
  if (clock_) marks_.input = clock_->mark();
  return hidden;
}

// `logits`: of every row, if the step has made them.
void Rank::leave_stage(std::span<const PlanRow> rows, const Tensor& hidden, const Tensor& logits,
                       std::vector<RowResult>& results) {
  if (!options_.is_last()) return comms_.pipe->send(hidden, place().stage + 1);
  std::vector<RowResult> all(rows.size());
  int32_t token = 0;
  for (size_t i = 0; i < all.size(); ++i) {
    const PlanRow& row = rows[i];
    all[i].sequence = row.sequence;
    if (row.prompt_logprobs_from >= 0) add_prompt_logprobs(row, token, hidden, all[i]);
    if (row.want_logits) add_logits(row, token, hidden, all[i]);
    token += row.length;
  }
  sample(rows, hidden, logits, all);
  if (comms_.pipe) send_sampled(*comms_.pipe, all);
  if (!reports_rows()) return;
  for (RowResult& row : all) {
    if (row.did_sample || !row.prompt_logprobs.empty() || !row.logits.empty()) results.push_back(std::move(row));
  }
}

// use(begin, logits [count, vocab]) for blocks of the tokens' rows: tokens [begin, begin + count).
template <class Use>
void Rank::for_logits(std::span<const int32_t> tokens, const Tensor& hidden, Use use) {
  const auto rows_max = static_cast<size_t>(logits_rows_max());
  for (size_t begin = 0; begin < tokens.size(); begin += rows_max) {
    const size_t count = std::min(rows_max, tokens.size() - begin);
    device().copy_from_host(index_.data(), tokens.data() + begin, count * sizeof(int32_t));
    ArenaScope scope(arena_);
    const Tensor index(index_.data(), DType::kI32, {static_cast<int64_t>(count)});
    const Tensor normed = decoder_->final_norm(hidden, index, arena_);
    use(begin, decoder_->logits(normed, arena_));
  }
}

// Whether nobody needs to know the tokens before the next step: their sequences' penalties would, and logprobs are made
// of them.
bool Rank::can_draw_ahead(std::span<const PlanRow> rows) const {
  if (!draws_ahead_ || unsettled_.size() >= DrawnTokens::kFetchesMax) return false;
  return std::ranges::all_of(rows, [&](const PlanRow& row) {
    if (row.want_logits || row.want_drafts || row.prompt_logprobs_from >= 0) return false;
    if (!row.sample) return true;
    const SamplingParams& sampling = sampler_.sampling(row.sequence);
    return sampling.top_logprobs < 0 && !has_penalties(sampling);
  });
}

void Rank::sample(std::span<const PlanRow> rows, const Tensor& hidden, const Tensor& logits,
                  std::vector<RowResult>& results) {
  std::vector<int32_t> tokens;           // whose logits are sampled
  std::vector<size_t> plan_rows;         // their rows
  std::vector<SequenceIndex> sequences;  // theirs
  std::vector<SampleRow> samples;
  int32_t end = 0;
  for (size_t i = 0; i < rows.size(); ++i) {
    end += rows[i].length;
    if (!rows[i].sample) continue;
    tokens.push_back(end - 1);
    plan_rows.push_back(i);
    sequences.push_back(rows[i].sequence);
    samples.push_back(sampler_.sample_row(rows[i]));
  }
  if (tokens.empty()) return;
  const bool ahead = can_draw_ahead(rows);
  std::vector<SampleResult> sampled(tokens.size());
  const auto draw = [&](size_t begin, const Tensor& of) {
    const size_t count = std::min<size_t>(of.dim(0), samples.size() - begin);
    const auto these = std::span<const SampleRow>(samples).subspan(begin, count);
    if (ahead) {
      ops_->sample_ahead(of, options_.vocab_tokens, these, std::span(sequences).subspan(begin, count),
                         drawn_.last_tokens(), drawn_.rows(static_cast<int64_t>(begin), static_cast<int64_t>(count)));
    } else {
      ops_->sample(of, options_.vocab_tokens, these, std::span(sampled).subspan(begin, count));
    }
  };
  if (logits) {
    draw(0, logits);
  } else {
    for_logits(tokens, hidden, draw);
  }
  for (size_t i = 0; i < sampled.size(); ++i) {
    RowResult& result = results[plan_rows[i]];
    ahead ? sampler_.record_ahead(result.sequence) : sampler_.record(result.sequence, sampled[i].token);
    result.did_sample = true;
    result.sampled = std::move(sampled[i]);
  }
  marks_.waited = !ahead;
  if (!ahead || !reports_rows()) return;
  marks_.fetch = drawn_.fetch(static_cast<int64_t>(tokens.size()));
  if (!clock_) drawn_.take(marks_.fetch, results);
}

// The hidden state at position p predicts the prompt token at p + 1.
void Rank::add_prompt_logprobs(const PlanRow& row, int32_t first_token, const Tensor& hidden, RowResult& result) {
  std::vector<int32_t> tokens, targets;
  for (int32_t i = std::max(0, row.prompt_logprobs_from - 1 - row.begin); i < row.length; ++i) {
    const int32_t target = i + 1 < row.length ? row.tokens[i + 1] : row.next_token;
    if (target < 0) continue;
    tokens.push_back(first_token + i);
    targets.push_back(target);
  }
  const int32_t top = std::max(0, sampler_.sampling(row.sequence).top_logprobs);
  std::vector<SampleResult> logprobs(tokens.size());
  for_logits(tokens, hidden, [&](size_t begin, const Tensor& logits) {
    const size_t count = logits.dim(0);
    ops_->logprobs(logits, std::span(targets).subspan(begin, count), top, std::span(logprobs).subspan(begin, count));
  });
  for (size_t i = 0; i < targets.size(); ++i) {
    result.prompt_logprobs.push_back({targets[i], logprobs[i].logprob, std::move(logprobs[i].top)});
  }
}

void Rank::add_logits(const PlanRow& row, int32_t first_token, const Tensor& hidden, RowResult& result) {
  std::vector<int32_t> tokens(row.length);
  std::iota(tokens.begin(), tokens.end(), first_token);
  const int64_t vocab = options_.config.vocab_size;
  result.logits.resize(row.length * vocab);
  for_logits(tokens, hidden, [&](size_t begin, const Tensor& logits) {
    device().copy_to_host(result.logits.data() + static_cast<int64_t>(begin) * vocab, logits.data, logits.bytes());
  });
}

// The head takes a position's final hidden state and the token that came next (model.md section 3.4).
void Rank::draft(const PlanRow& row, const Batch& batch, const Tensor& hidden, std::vector<RowResult>& results) {
  HYLAS_CHECK(row.length == batch.tokens && row.next_token >= 0, "drafts need the row alone and the token behind it");
  ArenaScope scope(arena_);
  std::vector<int32_t> ids(row.tokens.begin() + 1, row.tokens.end());
  ids.push_back(row.next_token);
  const Tensor next_ids = arena_.allocate(DType::kI32, {row.length});
  device().copy_from_host(next_ids.data, ids.data(), next_ids.bytes());
  std::iota(ids.begin(), ids.end(), 0);
  const Tensor all = arena_.allocate(DType::kI32, {row.length});
  device().copy_from_host(all.data, ids.data(), all.bytes());
  const Tensor normed = decoder_->final_norm(hidden, all, arena_);
  const Tensor drafted = decoder_->mtp_forward(batch, pools_, normed, next_ids, arena_);
  std::vector<SampleRow> greedy(logits_rows_max(), SampleRow{.temperature = 0.f});
  std::vector<SampleResult> best(row.length);
  for (int32_t begin = 0; begin < row.length; begin += logits_rows_max()) {
    ArenaScope block(arena_);
    const int64_t count = std::min(logits_rows_max(), row.length - begin);
    const Tensor logits = decoder_->logits(drafted.rows(begin, count), arena_);
    ops_->sample(logits, options_.vocab_tokens, std::span(greedy).first(count), std::span(best).subspan(begin, count));
  }
  if (!reports_rows()) return;
  RowResult& result = results.emplace_back();
  result.sequence = row.sequence;
  for (const SampleResult& one : best) result.drafts.push_back(one.token);
}

}  // namespace hylas
