#include "transfer/messages.h"

#include "base/byte_io.h"

namespace hylas {

// The members on the wire, in their order (base/byte_io.h). A Hello begins with the version: that much is readable in
// every version.
template <class Io>
void fields(Io& io, Like<Hello> auto& v) {
  io(v.version);
  if (v.version == kControlVersion) io(v.layout, v.link);
}
template <class Io>
void fields(Io& io, Like<Welcome> auto& v) {
  io(v.layout);
}
template <class Io>
void fields(Io& io, Like<Refusal> auto& v) {
  io(v.why);
}
template <class Io>
void fields(Io& io, Like<Grant> auto& v) {
  io(v.room, v.epoch, v.prompt_tokens, v.prompt_checksum, v.group, v.slot, v.pages);
}
template <class Io>
void fields(Io& io, Like<SourceSum> auto& v) {
  io(v.rank, v.bytes, v.sum);
}
template <class Io>
void fields(Io& io, Like<Done> auto& v) {
  io(v.room, v.epoch, v.sources, v.first);
}
template <class Io>
void fields(Io& io, Like<Received> auto& v) {
  io(v.room, v.epoch);
}
template <class Io>
void fields(Io& io, Like<Failed> auto& v) {
  io(v.room, v.epoch, v.may_retry, v.why);
}
template <class Io>
void fields(Io& io, Like<Abort> auto& v) {
  io(v.room, v.epoch);
}
template <class Io>
void fields(Io& io, Like<Aborted> auto& v) {
  io(v.room, v.epoch);
}

namespace {

// The alternative number `kind`, with its members as they are by default.
template <size_t at = 0>
bool choose(size_t kind, ControlMessage& message) {
  if constexpr (at < std::variant_size_v<ControlMessage>) {
    if (kind != at) return choose<at + 1>(kind, message);
    message.emplace<at>();
    return true;
  } else {
    return false;
  }
}

}  // namespace

std::string encode(const ControlMessage& message) {
  ByteWriter out;
  out(static_cast<uint8_t>(message.index()));
  std::visit([&](const auto& value) { out(value); }, message);
  return out.take();
}

Result<ControlMessage> decode_message(std::string_view bytes) {
  uint8_t kind = 0;
  ByteReader in(bytes);
  in(kind);
  ControlMessage message;
  if (!in.ok() || !choose(kind, message)) {
    return error(ErrorCode::kInvalid, "a control message of {} bytes is of no known kind", bytes.size());
  }
  std::visit([&](auto& value) { in(value); }, message);
  const auto* hello = std::get_if<Hello>(&message);
  const bool of_other_version = hello && in.ok() && hello->version != kControlVersion;
  if (!of_other_version && !in.complete()) {
    return error(ErrorCode::kInvalid, "a control message of kind {} and {} bytes does not hold together", kind,
                 bytes.size());
  }
  return message;
}

}  // namespace hylas
