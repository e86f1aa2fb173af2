#include "cache/memory_budget.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace hylas {
namespace {

using testing::HasSubstr;

constexpr int64_t kMiB = 1 << 20;

// 1 KiB a token, 1 MiB of state a sequence, a context of 1024 tokens: one whole request takes 2 MiB.
BudgetInputs small_model() {
  return {.free_bytes = 100 * kMiB,
          .fraction = 1.0,
          .arena_bytes = 10 * kMiB,
          .token_bytes = 1024,
          .sequence_bytes = kMiB,
          .page_size = 64,
          .context_length = 1024};
}

TEST(MemoryBudget, FillsTheMemoryWithTypicalSequences) {
  Result<MemoryBudget> budget = plan_memory(small_model());
  ASSERT_TRUE(budget.ok()) << budget.error().message;
  EXPECT_EQ(budget->slots, 45);  // 90 MiB over 2 MiB
  EXPECT_EQ(budget->pages, 45 * kMiB / (64 * 1024));
  EXPECT_EQ(budget->page_bytes_total + budget->slot_bytes_total + budget->arena_bytes, 100 * kMiB);
}

TEST(MemoryBudget, TakesNoMorePagesThanTheSlotsCanFill) {
  BudgetInputs inputs = small_model();
  inputs.free_bytes = 100000 * kMiB;
  Result<MemoryBudget> budget = plan_memory(inputs);
  ASSERT_TRUE(budget.ok());
  EXPECT_EQ(budget->slots, kRunningMaxDefault);
  EXPECT_EQ(budget->pages, kRunningMaxDefault * 16);
}

TEST(MemoryBudget, KeepsToTheFraction) {
  BudgetInputs inputs = small_model();
  inputs.fraction = 0.5;
  inputs.running_max = 10;
  Result<MemoryBudget> budget = plan_memory(inputs);
  ASSERT_TRUE(budget.ok());
  EXPECT_EQ(budget->slots, 10);
  EXPECT_EQ(budget->page_bytes_total, 10 * kMiB);  // ten whole contexts: less than the 30 MiB that are left
  EXPECT_LE(budget->page_bytes_total + budget->slot_bytes_total + budget->arena_bytes, 50 * kMiB);
}

TEST(MemoryBudget, OneRequestOfTheContextMustFit) {
  BudgetInputs inputs = small_model();
  inputs.free_bytes = 12 * kMiB;
  ASSERT_TRUE(plan_memory(inputs).ok());
  EXPECT_EQ(plan_memory(inputs)->slots, 1);
  inputs.free_bytes -= 1;
  Result<MemoryBudget> budget = plan_memory(inputs);
  ASSERT_FALSE(budget.ok());
  EXPECT_EQ(budget.error().code, ErrorCode::kExhausted);
  EXPECT_THAT(budget.error().message, HasSubstr("one request of 1024 tokens"));
  EXPECT_THAT(budget.error().message, HasSubstr("1.0 MiB of KV and 1.0 MiB of state, but 2.0 MiB are left"));
}

TEST(MemoryBudget, AskedForSlotsMustLeaveRoomForOneContext) {
  BudgetInputs inputs = small_model();
  inputs.running_max = 90;
  Result<MemoryBudget> budget = plan_memory(inputs);
  ASSERT_FALSE(budget.ok());
  EXPECT_THAT(budget.error().message, HasSubstr("beside 89 running ones"));
  EXPECT_THAT(budget.error().message, HasSubstr("--max-running-requests"));
  inputs.running_max = 89;
  EXPECT_TRUE(plan_memory(inputs).ok());
}

TEST(MemoryBudget, AskedForTokensAreTakenExactlyInWholePages) {
  BudgetInputs inputs = small_model();
  inputs.kv_tokens_max = 200;  // below the context: longer requests are refused when they come
  Result<MemoryBudget> budget = plan_memory(inputs);
  ASSERT_TRUE(budget.ok());
  EXPECT_EQ(budget->pages, 3);

  inputs.running_max = 1;
  inputs.kv_tokens_max = 1 << 20;
  budget = plan_memory(inputs);
  ASSERT_FALSE(budget.ok());
  EXPECT_EQ(budget.error().code, ErrorCode::kExhausted);
  EXPECT_THAT(budget.error().message, HasSubstr("1024.0 MiB of KV"));
}

TEST(MemoryBudget, RefusesNumbersWithoutSense) {
  auto code_of = [](auto change) {
    BudgetInputs inputs = small_model();
    change(inputs);
    Result<MemoryBudget> budget = plan_memory(inputs);
    EXPECT_FALSE(budget.ok());
    return budget.ok() ? ErrorCode::kCancelled : budget.error().code;
  };
  EXPECT_EQ(code_of([](BudgetInputs& in) { in.fraction = 0; }), ErrorCode::kInvalid);
  EXPECT_EQ(code_of([](BudgetInputs& in) { in.fraction = 1.5; }), ErrorCode::kInvalid);
  EXPECT_EQ(code_of([](BudgetInputs& in) { in.page_size = 0; }), ErrorCode::kInvalid);
  EXPECT_EQ(code_of([](BudgetInputs& in) { in.context_length = 1; }), ErrorCode::kInvalid);
  EXPECT_EQ(code_of([](BudgetInputs& in) { in.kv_tokens_max = 63; }), ErrorCode::kInvalid);
  EXPECT_EQ(code_of([](BudgetInputs& in) { in.running_max = -1; }), ErrorCode::kInvalid);
}

// A stage without full-attention layers keeps no KV, one without delta layers no state.
TEST(MemoryBudget, StagesWithOnlyOneKindOfStateCount) {
  BudgetInputs inputs = small_model();
  inputs.token_bytes = 0;
  EXPECT_EQ(plan_memory(inputs)->pages, kRunningMaxDefault * 16);
  inputs = small_model();
  inputs.sequence_bytes = 0;
  EXPECT_EQ(plan_memory(inputs)->slots, kRunningMaxDefault);
}

}  // namespace
}  // namespace hylas
