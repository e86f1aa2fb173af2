#pragma once
// A short call to an instance with its whole answer: for health, load and everything that does not generate.
#include <functional>
#include <optional>
#include <string>

#include "router/event_loop.h"
#include "router/upstream.h"

namespace hylas::router {

struct Fetched {
  int status = 0;
  std::string type, body;
  std::optional<UpstreamFailure> failure;  // then the others mean nothing
};

// `done` is called once, on the loop.
std::shared_ptr<UpstreamCall> fetch(UpstreamClient& client, EventLoop& loop, UpstreamRequest request,
                                    std::function<void(Fetched)> done);

}  // namespace hylas::router
