#pragma once
// Rank: one device with its part of the model. It executes plans and decides nothing.
#include <cstdint>
#include <deque>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "base/result.h"
#include "cache/state_pools.h"
#include "comm/rank_comms.h"
#include "engine/batch_build.h"
#include "engine/decode_graphs.h"
#include "engine/drawn_tokens.h"
#include "engine/landing_area.h"
#include "engine/sampler_table.h"
#include "engine/step_plan.h"
#include "engine/swap_store.h"
#include "engine/token_feed.h"
#include "model/decoder.h"
#include "ops/ops.h"
#include "tensor/arena.h"
#include "weights/source.h"

namespace hylas {

struct RankOptions {
  ModelConfig config;
  DecoderOptions decoder;
  BatchLimits limits;               // of one dp group
  int32_t vocab_tokens = 0;         // ids below this may be sampled
  std::vector<int32_t> graph_rows;  // numbers of rows that decode steps are recorded for (engine/decode_graphs.h)

  bool is_first() const { return decoder.layer_begin == 0; }
  bool is_last() const { return decoder.layer_end == config.num_layers; }
};

// Rows of logits that exist at a time: sampling, prompt logprobs and want_logits go through in blocks of this many, or
// of as many as the largest recorded step has.
constexpr int32_t kLogitsRowsMax = 64;

// Used by one thread at a time. Ranks of an instance execute the same plans in the same order, each on its own thread:
// they wait for each other inside.
class Rank {
 public:
  // Reads this rank's weights from `source`.
  static Result<std::unique_ptr<Rank>> load(const RankOptions& options, std::unique_ptr<Ops> ops,
                                            std::unique_ptr<WeightSource> source, RankComms comms = {});

  // What the memory budget needs to know, and then takes: after this, steps take no memory but that of their results
  // and of retracted sequences.
  StateLayout layout() const;
  size_t arena_bytes() const;
  // `pages` and `slots` of this rank's dp group; sequence indices go over all groups.
  Status allocate(int64_t pages, int32_t slots);
  // Records the decode steps that are to be graphs. All ranks at once, each on its thread: they meet in the steps.
  void record_graphs();

  const RankPlace& place() const { return options_.decoder.shard.place; }
  // Whether execute() returns rows: one rank of every dp group of the last stage does.
  bool reports_rows() const { return options_.is_last() && place().attn_rank == 0; }
  // Whether anybody wants its results: those, and the first rank of every stage for its times (engine/timeline.h).
  bool reports() const { return reports_rows() || place().tp_rank == 0; }
  Device& device() { return ops_->device(); }
  const StatePools& pools() const { return pools_; }
  WeightSource& weights() { return *source_; }

  // Parts of states go through it; outlives the plans that name some.
  void send_through(Sender* sender) { sender_ = sender; }
  // After allocate(): states land in host memory with room for so many pages and slots, and not in pools().
  Status allocate_landing(int64_t pages, int32_t slots);
  LandingArea* landing() const { return landing_.get(); }
  // Does the parts of the plan in order (step_plan.h). Rows are those of this rank's dp group, if it reports them.
  StepResult execute(const StepPlan& plan);
  // Whether the device has done the step of a result, which then has its tokens and the right times; asked in the
  // steps' order, before DrawnTokens::kFetchesMax are open. At once for ranks that do not report.
  bool settle(StepResult& result);
  // Both, for who does one step at a time.
  StepResult execute_and_settle(const StepPlan& plan);
  // After the last plan: takes what other stages have sent.
  void finish() { feed_.finish(); }

 private:
  Rank() = default;
  int32_t logits_rows_max() const;
  void run_rows(const StepPlan& plan, std::vector<RowResult>& results);
  void replay(DecodeGraph& graph, const Batch& batch);
  Tensor embed(const Batch& batch);
  // Room for the hidden states of the stage before.
  Tensor incoming(const Batch& batch);
  Tensor enter_stage(const Batch& batch);
  void leave_stage(std::span<const PlanRow> rows, const Tensor& hidden, const Tensor& logits,
                   std::vector<RowResult>& results);
  void sample(std::span<const PlanRow> rows, const Tensor& hidden, const Tensor& logits,
              std::vector<RowResult>& results);
  bool can_draw_ahead(std::span<const PlanRow> rows) const;
  void add_prompt_logprobs(const PlanRow& row, int32_t first_token, const Tensor& hidden, RowResult& result);
  void add_logits(const PlanRow& row, int32_t first_token, const Tensor& hidden, RowResult& result);
  void draft(const PlanRow& row, const Batch& batch, const Tensor& hidden, std::vector<RowResult>& results);
  template <class Use>
  void for_logits(std::span<const int32_t> tokens, const Tensor& hidden, Use use);

  RankOptions options_;
  std::unique_ptr<Ops> ops_;  // before what has memory of its device
  RankComms comms_;
  std::unique_ptr<WeightSource> source_;
  std::unique_ptr<Decoder> decoder_;
  StatePools pools_;
  Buffer arena_memory_;
  Arena arena_;
  BatchBuilder batches_;
  Buffer index_;  // [logits_rows_max()] i32
  DecodeGraphs graphs_;
  SamplerTable sampler_{0};
  SwapStore swaps_;
  Sender* sender_ = nullptr;
  std::unique_ptr<LandingArea> landing_;
  TokenFeed feed_;                     // first of several stages
  std::vector<PlanRow> rows_;          // of this group in the current plan, with several groups
  std::vector<int32_t> group_tokens_;  // of the current plan, [dp]
  // First and last stage in one: what it samples is its own next input, and it does not wait for it.
  bool draws_ahead_ = false;
  DrawnTokens drawn_;
  int64_t wait_us_ = 0;  // for other stages, in the current plan
  int64_t sums_us_ = 0;  // RankComms::sums_us after the last plan
  struct Marks {
    int64_t begin = 0, input = 0, end = 0;  // `input`: what the stage before has made is there
    std::optional<int64_t> begin_us, input_us;
    int32_t fetch = -1;   // of the rows' tokens (DrawnTokens); -1: they are known
    bool waited = false;  // for the device, which is about at the end
  };
  std::unique_ptr<WorkClock> clock_;  // null: the host's clock tells
  Marks marks_;                       // of the current plan
  std::deque<Marks> unsettled_;
};

}  // namespace hylas
