#include "engine/sampler_table.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace hylas {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;
using testing::Pair;
using testing::UnorderedElementsAre;

SequenceStart start_of(SequenceIndex sequence) {
  SequenceStart start;
  start.sequence = sequence;
  start.sampling.seed = 42;
  start.stop_ids = {3, 4};
  return start;
}

PlanRow row_of(SequenceIndex sequence) {
  PlanRow row;
  row.sequence = sequence;
  return row;
}

TEST(SamplerTable, ARowGetsTheParametersOfItsSequence) {
  SamplerTable table(2);
  SequenceStart start = start_of(1);
  start.sampling.temperature = 0.5f;
  start.sampling.top_k = 7;
  start.sampling.top_p = 0.9f;
  start.sampling.min_p = 0.1f;
  start.sampling.top_logprobs = 2;
  start.sampling.logit_bias = {{5, 1.5f}};
  table.start(start);
  PlanRow row = row_of(1);
  row.step = 9;
  SampleRow sample = table.sample_row(row);
  EXPECT_EQ(sample.temperature, 0.5f);
  EXPECT_EQ(sample.top_k, 7);
  EXPECT_EQ(sample.top_p, 0.9f);
  EXPECT_EQ(sample.min_p, 0.1f);
  EXPECT_EQ(sample.top_logprobs, 2);
  EXPECT_EQ(sample.seed, 42u);
  EXPECT_EQ(sample.step, 9);
  ASSERT_EQ(sample.bias.size(), 1u);
  EXPECT_EQ(sample.bias[0].token, 5);
}

TEST(SamplerTable, StopIdsAreBlockedOnlyWhenTheRowSaysSo) {
  SamplerTable table(1);
  table.start(start_of(0));
  PlanRow row = row_of(0);
  EXPECT_THAT(table.sample_row(row).blocked, IsEmpty());
  row.block_stops = true;
  EXPECT_THAT(table.sample_row(row).blocked, ElementsAre(3, 4));
}

TEST(SamplerTable, TheMaskIsTheRows) {
  SamplerTable table(1);
  table.start(start_of(0));
  PlanRow row = row_of(0);
  EXPECT_THAT(table.sample_row(row).allowed, IsEmpty());
  row.allowed = std::make_shared<std::vector<uint32_t>>(2, 0xFFu);
  EXPECT_THAT(table.sample_row(row).allowed, ElementsAre(0xFFu, 0xFFu));
}

TEST(SamplerTable, HistoryIsKeptWhereAPenaltyReadsIt) {
  SamplerTable table(2);
  table.start(start_of(0));
  SequenceStart penalised = start_of(1);
  penalised.sampling.repetition_penalty = 1.2f;
  penalised.prompt = {8, 8, 9};
  table.start(penalised);
  for (SequenceIndex sequence : {0, 1}) {
    for (int32_t token : {5, 6, 5}) table.record(sequence, token);
  }
  EXPECT_THAT(table.sample_row(row_of(0)).history->generated, IsEmpty());
  const TokenHistory& history = *table.sample_row(row_of(1)).history;
  EXPECT_THAT(history.generated, UnorderedElementsAre(Pair(5, 2), Pair(6, 1)));
  EXPECT_THAT(history.prompt, UnorderedElementsAre(Pair(8, 2), Pair(9, 1)));
}

TEST(SamplerTable, RemembersTheLastTokenOfEachSequence) {
  SamplerTable table(2);
  table.start(start_of(0));
  table.start(start_of(1));
  table.record(1, 11);
  table.record(0, 12);
  EXPECT_THAT(table.last_tokens(), ElementsAre(12, 11));
  table.record(0, -1);
  EXPECT_THAT(table.last_tokens(), ElementsAre(0, 11)) << "no token: the next step still needs a valid id";
}

TEST(SamplerTable, AnIndexStartsAfreshAfterItsEnd) {
  SamplerTable table(1);
  SequenceStart penalised = start_of(0);
  penalised.sampling.presence_penalty = 1.f;
  table.start(penalised);
  table.record(0, 5);
  table.end(0);
  table.start(penalised);
  EXPECT_THAT(table.sample_row(row_of(0)).history->generated, IsEmpty());
}

TEST(SamplerTableDeathTest, UnknownSequencesAreABug) {
  SamplerTable table(1);
  EXPECT_DEATH(table.sample_row(row_of(0)), "sequence 0 is unknown here");
  EXPECT_DEATH(table.end(0), "never started");
  table.start(start_of(0));
  EXPECT_DEATH(table.start(start_of(0)), "starts twice");
}

TEST(SamplerTable, WhatAnotherInstanceHasGeneratedCounts) {
  SamplerTable table(2);
  SequenceStart start = start_of(1);
  start.sampling.frequency_penalty = 0.5f;
  start.generated = {9};
  table.start(start);
  EXPECT_THAT(table.sample_row(row_of(1)).history->generated, UnorderedElementsAre(Pair(9, 1)));
  EXPECT_EQ(table.last_tokens()[1], 9);
}

}  // namespace
}  // namespace hylas
