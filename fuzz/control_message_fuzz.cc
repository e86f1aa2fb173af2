// Control messages and instance layouts: any bytes give a message (layout) that survives the wire again, or an error.
// Two layouts that are fine each for itself are compared without harm.
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "transfer/instance_layout.h"
#include "transfer/messages.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view bytes(reinterpret_cast<const char*>(data), size);
  const auto message = hylas::decode_message(bytes);
  if (message.ok()) {
    const auto again = hylas::decode_message(hylas::encode(*message));
    if (!again.ok() || again->index() != message->index()) std::abort();
  }
  const auto layout = hylas::decode_instance_layout(bytes);
  if (layout.ok()) {
    if (!hylas::decode_instance_layout(hylas::encode(*layout)).ok()) std::abort();
    (void)hylas::check_pair(*layout, *layout);
  }
  return 0;
}
