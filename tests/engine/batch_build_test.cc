#include "engine/batch_build.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace hylas {
namespace {

using testing::ElementsAre;

constexpr BatchLimits kLimits{.tokens_max = 300, .rows_max = 4, .context_length = 512, .page_size = 64};

std::vector<int32_t> values(const Tensor& tensor) {
  EXPECT_TRUE(tensor.contiguous());
  return {tensor.as<int32_t>(), tensor.as<int32_t>() + tensor.elements()};
}

PlanRow decode(SequenceIndex sequence, int32_t position, std::vector<int32_t> pages, int32_t slot) {
  PlanRow row;
  row.sequence = sequence;
  row.kind = RowKind::kDecode;
  row.begin = position;
  row.length = 1;
  row.pages = std::move(pages);
  row.state_read = row.state_write = slot;
  return row;
}

PlanRow prefill(std::vector<int32_t> tokens, int32_t begin, std::vector<int32_t> pages, int32_t slot) {
  PlanRow row;
  row.sequence = 0;
  row.begin = begin;
  row.length = static_cast<int32_t>(tokens.size());
  row.tokens = std::move(tokens);
  row.pages = std::move(pages);
  row.state_read = begin == 0 ? -1 : slot;
  row.state_write = slot;
  return row;
}

class BatchBuild : public testing::Test {
 protected:
  std::unique_ptr<Device> device_ = make_cpu_device();
  BatchBuilder builder_ = BatchBuilder::make(*device_, kLimits).value();
};

TEST_F(BatchBuild, AShapePadsWithRowsThatWriteNowhere) {
  const StepShape shape{.rows = 3, .pages = 4};
  const std::vector<PlanRow> rows = {decode(1, 70, {8, 9}, 5)};
  const std::vector<int32_t> last_tokens = {100, 101};
  const Batch batch = builder_.build(rows, last_tokens, shape);
  EXPECT_EQ(batch.tokens, 3);
  EXPECT_EQ(batch.rows, 3);
  EXPECT_EQ(batch.decode_rows, 3);
  EXPECT_THAT(values(batch.token_ids), ElementsAre(101, 0, 0));
  EXPECT_THAT(values(batch.positions), ElementsAre(70, 0, 0));
  EXPECT_THAT(values(batch.row_begin), ElementsAre(0, 1, 2, 3));
  EXPECT_THAT(values(batch.kv_len), ElementsAre(71, 1, 1));
  EXPECT_THAT(values(batch.page_table), ElementsAre(8, 9, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1));
  EXPECT_THAT(values(batch.state_read), ElementsAre(5, -1, -1));
  EXPECT_THAT(values(batch.state_write), ElementsAre(5, -1, -1));
  const Batch empty = builder_.build({}, last_tokens, shape);
  EXPECT_EQ(empty.page_table.data, batch.page_table.data) << "the same places whatever rows there are";
  EXPECT_THAT(values(empty.state_write), ElementsAre(-1, -1, -1));
}

TEST_F(BatchBuild, PacksRowsOneAfterAnother) {
  std::vector<PlanRow> rows = {decode(2, 70, {8, 9}, 5), decode(1, 63, {4}, 6), prefill({10, 11, 12}, 0, {3, 7}, 1)};
  std::vector<int32_t> last_tokens = {100, 101, 102};
  Batch batch = builder_.build(rows, last_tokens);
  EXPECT_EQ(batch.tokens, 5);
  EXPECT_EQ(batch.rows, 3);
  EXPECT_EQ(batch.decode_rows, 2);
  EXPECT_EQ(batch.page_size, 64);
  EXPECT_THAT(values(batch.token_ids), ElementsAre(102, 101, 10, 11, 12)) << "decode rows read the last sampled token";
  EXPECT_THAT(values(batch.positions), ElementsAre(70, 63, 0, 1, 2));
  EXPECT_THAT(batch.positions.shape, ElementsAre(1, 5, 1, 1));
  EXPECT_THAT(values(batch.row_begin), ElementsAre(0, 1, 2, 5));
  EXPECT_THAT(values(batch.kv_len), ElementsAre(71, 64, 3));
  EXPECT_THAT(values(batch.state_read), ElementsAre(5, 6, -1));
  EXPECT_THAT(values(batch.state_write), ElementsAre(5, 6, 1));
}

TEST_F(BatchBuild, ThePageTableIsAsWideAsTheLongestRowNeeds) {
  std::vector<PlanRow> rows = {decode(0, 128, {8, 9, 2}, 0), decode(0, 5, {4, 99}, 1)};
  Batch batch = builder_.build(rows, std::vector<int32_t>{1});
  EXPECT_THAT(batch.page_table.shape, ElementsAre(2, 3, 1, 1));
  EXPECT_THAT(values(batch.page_table), ElementsAre(8, 9, 2, 4, -1, -1)) << "pages beyond the row's end are not named";
}

TEST_F(BatchBuild, ALaterChunkContinuesAtItsPosition) {
  std::vector<PlanRow> rows = {prefill({1, 2}, 64, {5, 6}, 3)};
  Batch batch = builder_.build(rows, {});
  EXPECT_THAT(values(batch.positions), ElementsAre(64, 65));
  EXPECT_THAT(values(batch.kv_len), ElementsAre(66));
  EXPECT_THAT(values(batch.state_read), ElementsAre(3));
  EXPECT_EQ(batch.decode_rows, 0);
}

TEST_F(BatchBuild, ADecodeRowMayBringItsToken) {
  PlanRow row = decode(0, 9, {1}, 0);
  row.tokens = {55};
  Batch batch = builder_.build(std::vector<PlanRow>{row}, std::vector<int32_t>{77});
  EXPECT_THAT(values(batch.token_ids), ElementsAre(55));
}

TEST_F(BatchBuild, TheLargestStepFits) {
  std::vector<PlanRow> rows;
  for (int32_t i = 0; i < 3; ++i) rows.push_back(decode(0, 511, {0, 1, 2, 3, 4, 5, 6, 7}, i));
  rows.push_back(prefill(std::vector<int32_t>(297, 1), 192, {0, 1, 2, 3, 4, 5, 6, 7}, 3));
  EXPECT_EQ(builder_.build(rows, std::vector<int32_t>{1}).tokens, 300);
}

using BatchBuildDeathTest = BatchBuild;

TEST_F(BatchBuildDeathTest, BrokenPlansAreABug) {
  std::vector<PlanRow> unordered = {prefill({1, 2}, 0, {5}, 3), decode(0, 5, {4}, 1)};
  EXPECT_DEATH(builder_.build(unordered, std::vector<int32_t>{1}), "decode rows come first");
  std::vector<PlanRow> short_of_pages = {decode(0, 64, {4}, 1)};
  EXPECT_DEATH(builder_.build(short_of_pages, std::vector<int32_t>{1}), "1 pages for 65 positions");
  std::vector<PlanRow> too_many(5, decode(0, 5, {4}, 1));
  EXPECT_DEATH(builder_.build(too_many, std::vector<int32_t>{1}), "5 rows");
}

}  // namespace
}  // namespace hylas
