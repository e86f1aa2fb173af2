// Decode steps of recorded shapes: padded, replayed, and with the same tokens and states as steps that are not.
#include "engine/decode_graphs.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <bit>

#include "engine/configuration.h"
#include "engine/rank.h"
#include "model/manifest.h"
#include "ops/cuda_ops.h"
#include "support/layout_models.h"
#include "support/test_device.h"
#include "weights/dummy_source.h"

namespace hylas {
namespace {

using testing::ElementsAre;

PlanRow decode_row(int32_t position) {
  PlanRow row;
  row.kind = RowKind::kDecode;
  row.begin = position;
  row.length = 1;
  row.sample = true;
  return row;
}

StepShape shape_for(DecodeGraphs& graphs, std::vector<PlanRow> rows) {
  const DecodeGraph* graph = graphs.find(rows, 64);
  return graph ? graph->shape : StepShape{0, 0};
}

void expect_shape(const StepShape& shape, int32_t rows, int32_t pages) {
  EXPECT_EQ(shape.rows, rows);
  EXPECT_EQ(shape.pages, pages);
}

TEST(DecodeGraphs, TakesTheSmallestShapeThatRowsAndPagesFitIn) {
  const int32_t rows[] = {1, 4};
  DecodeGraphs graphs(rows, 300);
  EXPECT_EQ(graphs.all().size(), 6u) << "1 and 4 rows of 32, 128 and 300 pages";
  expect_shape(shape_for(graphs, {decode_row(0)}), 1, 32);
  expect_shape(shape_for(graphs, {decode_row(32 * 64 - 1)}), 1, 32);
  expect_shape(shape_for(graphs, {decode_row(32 * 64)}), 1, 128);
  expect_shape(shape_for(graphs, {decode_row(0), decode_row(299 * 64)}), 4, 300);
  expect_shape(shape_for(graphs, std::vector(5, decode_row(0))), 0, 0);
  expect_shape(shape_for(graphs, {}), 0, 0);
}

TEST(DecodeGraphs, LeavesOutStepsThatDoMore) {
  const int32_t rows[] = {4};
  DecodeGraphs graphs(rows, 32);
  PlanRow prefill = decode_row(0), logits = decode_row(0), silent = decode_row(0);
  prefill.kind = RowKind::kPrefill;
  logits.want_logits = true;
  silent.sample = false;
  for (const PlanRow& row : {prefill, logits, silent}) expect_shape(shape_for(graphs, {decode_row(1), row}), 0, 0);
}

TEST(DecodeGraphs, RowsAreWhatWasAskedForOrChosen) {
  EXPECT_THAT(decode_graph_rows({}, 20), ElementsAre(1, 2, 4, 8, 12, 16, 20));
  EXPECT_THAT(decode_graph_rows({}, 96), ElementsAre(1, 2, 4, 8, 12, 16, 24, 32, 40, 48, 56, 64, 96));
  const int32_t asked[] = {64, 8, 1, 16};
  EXPECT_THAT(decode_graph_rows(asked, 256), ElementsAre(1, 8, 16, 64));
  EXPECT_THAT(decode_graph_rows(asked, 10), ElementsAre(1, 8, 10));
}

constexpr int32_t kPages = 20;
constexpr int32_t kSlots = 5;

// A rank of its own with steps that are written by hand.
class Rig {
 public:
  Rig(const std::string& model_path, std::vector<int32_t> graph_rows) {
    EngineOptions options;
    options.model_path = model_path;
    options.device = test::test_device();
    options.max_running_requests = kSlots;
    options.context_length = 512;
    const ModelConfig model = parse_model_config(model_path).value();
    const EngineConfiguration chosen = configure(options, model, {}).value();
    std::unique_ptr<Ops> ops =
        options.device == "cuda" ? make_cuda_ops({}).value() : make_cpu_ops({.threads = 2}).value();
    auto source = std::make_unique<DummySource>(manifest(model));
    if (options.device == "cuda") source->place_on(ops->device());
    rank_ = Rank::load({chosen.model, chosen.decoder_of(0), chosen.limits, chosen.vocab_tokens, std::move(graph_rows)},
                       std::move(ops), std::move(source))
                .value();
    HYLAS_CHECK(rank_->allocate(kPages, kSlots).ok());
    rank_->record_graphs();
  }

  void prefill(SequenceIndex sequence, int32_t tokens) {
    StepPlan plan;
    SequenceStart start;
    start.sequence = sequence;
    start.sampling.seed = sequence;
    start.sampling.temperature = sequence % 2 ? 0.8f : 0.f;
    start.sampling.top_logprobs = 2;
    plan.starts = {start};
    PlanRow row = row_of(sequence, tokens);
    for (int32_t i = 0; i < tokens; ++i) row.tokens.push_back((i * 37 + sequence * 11) % 97);
    plan.rows = {row};
    lengths_[sequence] = tokens;
    execute(plan);
  }
  // One token of each, in one step.
  void decode(const std::vector<SequenceIndex>& sequences) {
    StepPlan plan;
    for (SequenceIndex sequence : sequences) {
      PlanRow row = row_of(sequence, 1);
      row.kind = RowKind::kDecode;
      row.begin = lengths_[sequence]++;
      row.state_read = sequence;
      row.step = row.begin;
      plan.rows.push_back(row);
    }
    execute(plan);
  }
  // Of each sequence: tokens and the bits of their logprobs.
  std::map<SequenceIndex, std::vector<uint32_t>> said;

 private:
  static PlanRow row_of(SequenceIndex sequence, int32_t tokens) {
    PlanRow row;
    row.sequence = sequence;
    row.length = tokens;
    for (int32_t i = 0; i < kPages / kSlots; ++i) row.pages.push_back(i * kSlots + sequence);
    row.state_write = sequence;
    row.sample = true;
    return row;
  }
  void execute(StepPlan& plan) {
    plan.id = ++plans_;
    for (const RowResult& row : rank_->execute_and_settle(plan).rows) {
      std::vector<uint32_t>& words = said[row.sequence];
      words.push_back(static_cast<uint32_t>(row.sampled.token));
      words.push_back(std::bit_cast<uint32_t>(row.sampled.logprob));
      for (const TokenLogprob& top : row.sampled.top) words.push_back(std::bit_cast<uint32_t>(top.logprob));
    }
  }

  std::unique_ptr<Rank> rank_;
  std::map<SequenceIndex, int32_t> lengths_;
  uint64_t plans_ = 0;
};

class GraphSteps : public testing::TestWithParam<test::LayoutKind> {
 protected:
  std::string path_ = test::layout_model_path({GetParam(), 8});
};
std::string name_of(const testing::TestParamInfo<test::LayoutKind>& info) {
  const test::LayoutModel model{info.param, 8};
  return model.name();
}
INSTANTIATE_TEST_SUITE_P(Models, GraphSteps,
                         testing::Values(test::LayoutKind::kDense, test::LayoutKind::kMoe, test::LayoutKind::kMoeFp8),
                         name_of);

// Three, two and one decode while others wait with their states in place; at last all of them go on.
void run_steps(Rig& rig) {
  for (SequenceIndex sequence = 0; sequence < kSlots; ++sequence) rig.prefill(sequence, 30 + 40 * sequence);
  for (int i = 0; i < 5; ++i) rig.decode({0, 2, 1});
  for (int i = 0; i < 5; ++i) rig.decode({2, 0});
  for (int i = 0; i < 5; ++i) rig.decode({4});
  for (int i = 0; i < 5; ++i) rig.decode({0, 1, 2, 3, 4});
}

TEST_P(GraphSteps, SayWhatStepsWithoutGraphsSay) {
  Rig plain(path_, {});
  run_steps(plain);
  ASSERT_EQ(plain.said.size(), size_t{kSlots});
  for (const std::vector<int32_t>& rows : {std::vector<int32_t>{1, 2, 4}, {4, 5}, {5}}) {
    Rig recorded(path_, rows);
    run_steps(recorded);
    EXPECT_EQ(recorded.said, plain.said) << rows.size() << " graphs, the smallest of " << rows.front() << " rows";
  }
}

TEST_P(GraphSteps, ARowIsTheSameAloneAndAmongOthers) {
  Rig together(path_, {1, 5}), alone(path_, {1, 5});
  for (Rig* rig : {&together, &alone}) {
    for (SequenceIndex sequence = 0; sequence < kSlots; ++sequence) rig->prefill(sequence, 30 + 40 * sequence);
  }
  for (int i = 0; i < 20; ++i) {
    together.decode({0, 1, 2, 3, 4});
    for (SequenceIndex sequence = 0; sequence < kSlots; ++sequence) alone.decode({sequence});
  }
  EXPECT_EQ(together.said, alone.said);
}

}  // namespace
}  // namespace hylas
