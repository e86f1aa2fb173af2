// Dynamic chunk sizes (--enable-dynamic-chunking), from measured step times to the plans: chunks of a long prompt
// shrink and take equal time, and the text stays the same.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "engine/client.h"
#include "engine/driver.h"
#include "support/layout_models.h"

namespace hylas {
namespace {

constexpr StepCost kCost{.step_us = 300, .token_us = 2, .pair_us = 1e-3};

struct Chunk {
  int32_t begin, length;
};

// Runs everything on a rank whose steps take what kCost says; all chunks, in order.
std::vector<Chunk> run_timed(Driver& driver, std::map<RequestId, std::vector<int32_t>>& texts) {
  std::vector<Chunk> chunks;
  while (true) {
    while (driver.plan()) {
    }
    if (driver.sent.empty()) break;
    const StepPlan& plan = driver.sent.front();
    for (const PlanRow& row : plan.rows) {
      if (row.kind == RowKind::kPrefill) chunks.push_back({row.begin, row.length});
    }
    StepResult result = driver.rank.execute(plan);
    result.end_us = static_cast<int64_t>(kCost.of(load_of(plan.rows, 1)));
    driver.sent.pop_front();
    for (const Output& output : driver.scheduler.on_result(std::move(result))) {
      for (const OutputToken& token : output.tokens) texts[output.id].push_back(token.id);
    }
  }
  return chunks;
}

SchedulerOptions long_options(bool dynamic) {
  SchedulerOptions options = small_options();
  options.pages = 2000;
  options.context_length = 100000;
  options.prefill_tokens_max = 1024;
  options.enable_dynamic_chunking = dynamic;
  return options;
}

TEST(DynamicChunking, LearnsFromStepTimesAndThenCutsStepsOfEqualTime) {
  Driver driver(long_options(true));
  std::map<RequestId, std::vector<int32_t>> texts;
  driver.submit(1, make_request(20000, 1, 1));
  run_timed(driver, texts);  // the first prompt teaches it
  driver.submit(2, make_request(40000, 1, 2));
  const std::vector<Chunk> chunks = run_timed(driver, texts);
  const double first_us = kCost.of(StepLoad::of(0, 1024));
  EXPECT_EQ(chunks[0].length, 1024);
  for (size_t i = 1; i + 2 < chunks.size(); ++i) {
    EXPECT_LE(chunks[i].length, chunks[i - 1].length);
    if (chunks[i].length == 128) continue;  // an eighth of the budget
    const double us = kCost.of(StepLoad::of(chunks[i].begin, chunks[i].length));
    const double unit_us = kCost.of(StepLoad::of(chunks[i].begin, chunks[i].length + 64)) - us;
    EXPECT_LE(us, 1.02 * first_us) << chunks[i].length << " tokens after " << chunks[i].begin;
    EXPECT_GT(us + unit_us, 0.98 * first_us) << chunks[i].length << " tokens after " << chunks[i].begin;
  }
  EXPECT_LE(chunks[chunks.size() / 2].length, 192);
}

TEST(DynamicChunking, ChangesNoText) {
  std::map<RequestId, std::vector<int32_t>> fixed, dynamic;
  for (const bool is_dynamic : {false, true}) {
    Driver driver(long_options(is_dynamic));
    for (RequestId id = 1; id <= 6; ++id) driver.submit(id, make_request(static_cast<int32_t>(3000 + 997 * id), 5, id));
    const auto chunks = run_timed(driver, is_dynamic ? dynamic : fixed);
    const bool all_whole = std::all_of(chunks.begin(), chunks.end(), [](Chunk c) { return c.begin % 1024 == 0; });
    EXPECT_FALSE(is_dynamic && all_whole) << "no chunk was ever shortened";
    EXPECT_TRUE(driver.clean());
  }
  EXPECT_EQ(dynamic, fixed);
}

// Real ranks: the same tokens, whatever times the machine gave and so however the prompts were cut.
TEST(DynamicChunkingSlow, TheEngineSaysTheSame) {
  std::vector<std::vector<int32_t>> said[2];
  for (const bool dynamic : {false, true}) {
    EngineOptions options;
    options.model_path = test::layout_model_path({test::LayoutKind::kDense, 5});
    options.load_format = "dummy";
    options.parallel.pp = 2;
    options.threads = 2;
    options.chunked_prefill_size = 192;
    options.max_running_requests = 4;
    options.max_total_tokens = 8192;
    options.enable_dynamic_chunking = dynamic;
    auto started = Engine::start(options);
    ASSERT_TRUE(started.ok()) << started.error().message;
    Client client(**started);
    std::vector<RequestId> ids;
    for (uint64_t i = 0; i < 4; ++i)
      ids.push_back(client.send(make_request(1900 - 61 * static_cast<int32_t>(i), 8, i)));
    for (const RequestId id : ids) said[dynamic].push_back(client.wait(id).tokens);
  }
  EXPECT_EQ(said[0], said[1]);
}

}  // namespace
}  // namespace hylas
