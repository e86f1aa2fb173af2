// Any bytes as tokenizer.json: an error or a tokenizer, and what loads gives back the text's bytes.
#include <cstdlib>

#include "text/tokenizer.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  std::string_view input(reinterpret_cast<const char*>(data), size);
  auto tokenizer = hylas::Tokenizer::parse(input, {});
  if (!tokenizer.ok()) {
    if (tokenizer.error().message.empty()) std::abort();
    return 0;
  }
  constexpr std::string_view kText = "It's a test: 42 \n\n<|im_end|> \xe6\xbc\xa2\xff";
  std::string bytes;
  for (int32_t id : (*tokenizer)->encode(kText)) bytes += (*tokenizer)->token_bytes(id);
  if (bytes != kText) std::abort();
  return 0;
}
