// Decode steps of recorded shapes: padded, replayed, and with the same tokens and states as steps that are not.
#include "engine/decode_graphs.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "engine/graph_rig.h"
#include "ops/cuda_ops.h"
#include "support/layout_models.h"

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

StepShape shape_for(DecodeGraphs& graphs, const std::vector<PlanRow>& rows, int32_t groups = 1) {
  std::vector<int32_t> group_tokens(groups, 0);
  for (const PlanRow& row : rows) group_tokens.at(row.group) += row.length;
  const DecodeGraph* graph = graphs.find(rows, group_tokens, 64);
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

// The largest group decides for all, the idle ones too, and every group's pages count.
TEST(DecodeGraphs, AllGroupsTakeTheSameShape) {
  const int32_t rows[] = {1, 2, 4};
  DecodeGraphs graphs(rows, 300);
  const auto of_group = [](int32_t group, int32_t position) {
    PlanRow row = decode_row(position);
    row.group = group;
    return row;
  };
  expect_shape(shape_for(graphs, {of_group(0, 0), of_group(1, 0)}, 2), 1, 32);
  expect_shape(shape_for(graphs, {of_group(0, 0), of_group(1, 32 * 64), of_group(1, 0)}, 2), 2, 128);
  expect_shape(shape_for(graphs, {of_group(2, 0), of_group(2, 0), of_group(2, 0)}, 3), 4, 32);
  PlanRow prefill = of_group(1, 0);
  prefill.kind = RowKind::kPrefill;
  expect_shape(shape_for(graphs, {of_group(0, 0), prefill}, 2), 0, 0);
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

using test::GraphRig;
using test::kRigSequences;

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
void run_steps(GraphRig& rig) {
  for (SequenceIndex sequence = 0; sequence < kRigSequences; ++sequence) rig.prefill(sequence, 30 + 40 * sequence);
  for (int i = 0; i < 5; ++i) rig.decode({0, 2, 1});
  for (int i = 0; i < 5; ++i) rig.decode({2, 0});
  for (int i = 0; i < 5; ++i) rig.decode({4});
  for (int i = 0; i < 5; ++i) rig.decode({0, 1, 2, 3, 4});
}

TEST_P(GraphSteps, SayWhatStepsWithoutGraphsSay) {
  GraphRig plain(path_, {});
  run_steps(plain);
  ASSERT_EQ(plain.said.size(), size_t{kRigSequences});
  for (const std::vector<int32_t>& rows : {std::vector<int32_t>{1, 2, 4}, {4, 5}, {5}}) {
    GraphRig recorded(path_, rows);
    run_steps(recorded);
    EXPECT_EQ(recorded.said, plain.said) << rows.size() << " graphs, the smallest of " << rows.front() << " rows";
  }
}

TEST_P(GraphSteps, ARowIsTheSameAloneAndAmongOthers) {
  GraphRig together(path_, {1, 5}), alone(path_, {1, 5});
  for (GraphRig* rig : {&together, &alone}) {
    for (SequenceIndex sequence = 0; sequence < kRigSequences; ++sequence) rig->prefill(sequence, 30 + 40 * sequence);
  }
  for (int i = 0; i < 20; ++i) {
    together.decode({0, 1, 2, 3, 4});
    for (SequenceIndex sequence = 0; sequence < kRigSequences; ++sequence) alone.decode({sequence});
  }
  EXPECT_EQ(together.said, alone.said);
}

std::string sizes_of(const testing::TestParamInfo<ParallelSizes>& info) {
  return fmt::format("tp{}_ep{}_dp{}", info.param.tp, info.param.ep, info.param.dp);
}
class GroupSteps : public testing::TestWithParam<ParallelSizes> {};
INSTANTIATE_TEST_SUITE_P(Layouts, GroupSteps,
                         testing::Values(ParallelSizes{.tp = 2, .dp = 2}, ParallelSizes{.tp = 2, .ep = 2},
                                         ParallelSizes{.tp = 2, .ep = 2, .dp = 2}),
                         sizes_of);
class Fp8GroupSteps : public testing::TestWithParam<ParallelSizes> {};
INSTANTIATE_TEST_SUITE_P(Layouts, Fp8GroupSteps,
                         testing::Values(ParallelSizes{.tp = 2, .ep = 2}, ParallelSizes{.tp = 2, .ep = 2, .dp = 2}),
                         sizes_of);

// Sequences 0, 2 and 4 are of the first of two groups. Both groups have rows, as many or not; one has none; prompts of
// both groups and of one come between, which travel to experts in several turns.
void run_groups(GraphRig& rig) {
  rig.prefill({{0, 190}, {1, 200}});
  rig.prefill(2, 30);
  rig.prefill(3, 110);
  for (int i = 0; i < 5; ++i) rig.decode({0, 1, 2, 3});
  for (int i = 0; i < 5; ++i) rig.decode({0, 2, 3});
  for (int i = 0; i < 5; ++i) rig.decode({2, 0});
  rig.prefill(4, 70);
  for (int i = 0; i < 5; ++i) rig.decode({3});
  for (int i = 0; i < 5; ++i) rig.decode({0, 1, 2, 3, 4});
}

// The same, so that the FP8 tensor cores' kernels are those that one rank takes, also where the host counts what comes:
// 16 choices and fewer, or more and fewer than 16 rows of an expert.
void run_few(GraphRig& rig) {
  for (SequenceIndex sequence = 0; sequence < 4; ++sequence) rig.prefill(sequence, 30 - 2 * sequence);
  for (int i = 0; i < 5; ++i) rig.decode({0, 1, 2, 3});
  for (int i = 0; i < 5; ++i) rig.decode({0, 2, 3});
  for (int i = 0; i < 5; ++i) rig.decode({2, 0});
  for (int i = 0; i < 5; ++i) rig.decode({3});
}

// `lists`: rows of graphs; with several of them host memory goes to experts as GPUs' does. Groups may pad a step to as
// many rows as the largest of them has.
void expect_one_ranks_words(test::LayoutKind kind, const ParallelSizes& sizes, void (*run)(GraphRig&),
                            const std::vector<std::vector<int32_t>>& lists) {
  const test::LayoutModel model{kind, 8};
  const bool fp8 = kind == test::LayoutKind::kMoeFp8;
  const std::string path = test::layout_model_path(model);
  GraphRig lone(path, {}, {}, {.fp8_experts = fp8});
  run(lone);
  for (const std::vector<int32_t>& rows : lists) {
    const bool dispatches = rows.size() > 1;  // GPUs choose for themselves
    GraphRig group(path, rows, sizes, {.fp8_experts = fp8, .dispatches = dispatches});
    run(group);
    EXPECT_EQ(group.said, lone.said) << model.name() << ", " << rows.size() << " graphs, dispatch " << dispatches;
  }
}

TEST_P(GroupSteps, SayWhatOneRankSays) {
  cuda_load_all_kernels();  // before anything asks for a GPU
  if (test::rig_shares_gpu(GetParam())) GTEST_SKIP() << "needs " << GetParam().world() << " GPUs";
  // On a GPU only ranks that hold whole experts give one rank's bits.
  const auto kind = GetParam().ep > 1 ? test::LayoutKind::kMoe : test::LayoutKind::kDense;
  expect_one_ranks_words(kind, GetParam(), run_groups, {{}, {1, 2, 4}, {3}});
}

// Experts by the FP8 tensor cores. Without a graph of 3 rows, to which groups of 2 would be padded: 24 choices, not 16.
TEST_P(Fp8GroupSteps, SayWhatOneRankSays) {
  cuda_load_all_kernels();
  const auto kind = test::LayoutKind::kMoeFp8;
  if (test::rig_shares_gpu(GetParam())) return expect_one_ranks_words(kind, GetParam(), run_few, {{}});
  expect_one_ranks_words(kind, GetParam(), run_groups, {{}, {1, 2, 4}});
}

}  // namespace
}  // namespace hylas
