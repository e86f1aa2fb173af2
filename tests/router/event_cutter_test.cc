// Streams cut at the ends of their events.
#include "router/event_cutter.h"

#include <gtest/gtest.h>

namespace hylas::router {
namespace {

TEST(EventCutter, KeepsWhatHasNoEndYet) {
  EventCutter cutter(1000);
  EXPECT_EQ(cutter.push("data: 1\n\ndata: 2\n\ndat"), "data: 1\n\ndata: 2\n\n");
  EXPECT_EQ(cutter.push("a: 3"), "");
  EXPECT_EQ(cutter.push("\n"), "");
  EXPECT_EQ(cutter.push("\ndata: 4"), "data: 3\n\n");
  EXPECT_EQ(cutter.rest(), "data: 4");
}

TEST(EventCutter, LosesNothingWhateverThePieces) {
  const std::string stream = "data: one\n\n: comment\r\n\r\ndata: two\n\ndata: \r\n\r\n";
  for (size_t step = 1; step <= stream.size(); ++step) {
    EventCutter cutter(1000);
    std::string out;
    for (size_t at = 0; at < stream.size(); at += step) {
      std::string events = cutter.push(stream.substr(at, step));
      EXPECT_TRUE(events.empty() || events.ends_with("\n\n") || events.ends_with("\r\n\r\n")) << events;
      out += events;
    }
    EXPECT_EQ(out, stream) << step;
  }
}

TEST(EventCutter, AnEventTooLongGoesOnInPieces) {
  EventCutter cutter(10);
  EXPECT_EQ(cutter.push("data: 123456"), "data: 123456");
  EXPECT_EQ(cutter.push("78\n\n"), "78\n\n");
}

TEST(ErrorEvent, HasTheStatusThatItNames) {
  EXPECT_EQ(error_event_status("data: {\"error\": {\"message\": \"x\", \"code\": 503}}\n\n"), 503);
  EXPECT_EQ(error_event_status("data:{\"error\":{\"code\":400}}\r\n\r\ndata: [DONE]\n\n"), 400);
  EXPECT_EQ(error_event_status("data: {\"error\": {\"message\": \"x\"}}\n\n"), 500);
  EXPECT_EQ(error_event_status("data: {\"text\": \"error\"}\n\n"), 0);
  EXPECT_EQ(error_event_status("data: [DONE]\n\n"), 0);
  EXPECT_EQ(error_event_status(": hello\n\n"), 0);
  EXPECT_EQ(first_event_data("data: a b\n\ndata: c\n\n"), "a b");
}

}  // namespace
}  // namespace hylas::router
