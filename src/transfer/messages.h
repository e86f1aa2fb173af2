#pragma once
// What the two instances of a pair say to each other. The decoding one connects to the prefilling one's bootstrap port.
//
//   D -> P  Hello                  P -> D  Welcome | Refusal
//   D -> P  Grant                  memory is reserved: prefill, write there, tell when done
//   P -> D  Done                   all bytes are there
//   D -> P  Received               the bytes were right: P forgets the request
//   P -> D  Failed                 P will not do it, and writes no more
//   D -> P  Abort                  P -> D  Aborted: P writes no more for this epoch
//
// A grant ends with Done, Failed or Aborted, or with the connection: until then the decoding side keeps the memory. A
// request that has to be prefilled again gets a new Grant with a new epoch.
#include <cstdint>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "base/result.h"

namespace hylas {

struct Hello {
  uint32_t version = 0;  // of these messages; all that is read of another version's
  std::string layout;    // encode(InstanceLayout)
  std::string link;      // Link::open
};
struct Welcome {
  std::string layout;
};
struct Refusal {
  std::string why;
};
struct Grant {
  uint64_t room = 0;   // of the request; drawn by the router
  uint64_t epoch = 0;  // of this try: never used twice by the decoding instance
  int32_t prompt_tokens = 0;
  uint64_t prompt_checksum = 0;  // of the token ids: both sides must mean the same prompt
  int32_t group = 0;             // dp group that will decode
  int32_t slot = -1;
  std::vector<int32_t> pages;  // for all positions of the prompt
};
// What one rank of the prefilling instance wrote.
struct SourceSum {
  int32_t rank = 0;
  uint64_t bytes = 0;
  uint64_t sum = 0;
};
struct Done {
  uint64_t room = 0, epoch = 0;
  std::vector<SourceSum> sources;
  std::string first;  // the first token with its logprobs and the sampler's seed; opaque here
};
struct Received {
  uint64_t room = 0, epoch = 0;
};
struct Failed {
  uint64_t room = 0, epoch = 0;
  bool may_retry = false;  // elsewhere
  std::string why;
};
struct Abort {
  uint64_t room = 0, epoch = 0;
};
struct Aborted {
  uint64_t room = 0, epoch = 0;
};

using ControlMessage = std::variant<Hello, Welcome, Refusal, Grant, Done, Received, Failed, Abort, Aborted>;

constexpr uint32_t kControlVersion = 1;

std::string encode(const ControlMessage& message);
// kInvalid: not a message of this version; nothing but its own bytes was looked at.
Result<ControlMessage> decode_message(std::string_view bytes);

}  // namespace hylas
