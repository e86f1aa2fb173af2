#include "evaluate/sse_reader.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace hylas {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;

TEST(SseReader, GivesTheDataOfEachEvent) {
  SseReader reader;
  EXPECT_THAT(reader.push("data: {\"a\":1}\n\ndata: [DONE]\n\n"), ElementsAre("{\"a\":1}", "[DONE]"));
}

TEST(SseReader, WaitsForTheEmptyLine) {
  SseReader reader;
  EXPECT_THAT(reader.push("data: x\n"), IsEmpty());
  EXPECT_THAT(reader.push("\n"), ElementsAre("x"));
}

TEST(SseReader, DoesNotMindWhereTheBytesAreCut) {
  const std::string text = "data: one\r\n\r\n: a comment\n\nevent: tick\ndata:two\ndata: three\n\n";
  SseReader reader;
  std::vector<std::string> events;
  for (char byte : text) {
    for (std::string& event : reader.push(std::string_view(&byte, 1))) events.push_back(std::move(event));
  }
  EXPECT_THAT(events, ElementsAre("one", "two\nthree"));
}

}  // namespace
}  // namespace hylas
