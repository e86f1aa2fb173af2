// Bodies of requests: every parser takes any bytes, and answers with a value or an error with a message.
#include <cstdint>
#include <string_view>

#include "base/check.h"
#include "serve/chat_request.h"
#include "serve/completion_request.h"
#include "serve/native_request.h"

namespace {

template <class T>
void check(const hylas::Result<T>& result) {
  if (result.ok()) return;
  HYLAS_CHECK(!result.error().message.empty());
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const hylas::ApiLimits limits{.vocab_size = 1000};
  std::string_view body(reinterpret_cast<const char*>(data), size);
  check(hylas::parse_chat(body, limits));
  check(hylas::parse_completion(body, limits));
  check(hylas::parse_native(body, limits));
  return 0;
}
