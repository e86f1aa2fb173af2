#include "transfer/ucx_memory.h"

#include "base/byte_io.h"

namespace hylas {
namespace {

constexpr uint64_t kMagic = 0x31786375'6c796861;
constexpr size_t kHeaderBytes = 2 * sizeof(uint64_t);

}  // namespace

// The members on the wire, in their order (base/byte_io.h).
template <class Io>
void fields(Io& io, Like<UcxMemory> auto& v) {
  io(v.worker, v.addresses, v.bytes, v.keys);
}

std::string encode(const UcxMemory& memory) {
  ByteWriter body, header;
  body(memory);
  header(kMagic, checksum(body.bytes()));
  return header.take() + body.bytes();
}

Result<UcxMemory> decode_ucx_memory(std::string_view bytes) {
  uint64_t magic = 0, sum = 0;
  UcxMemory memory;
  if (bytes.size() >= kHeaderBytes) {
    ByteReader(bytes.substr(0, kHeaderBytes))(magic, sum);
    const std::string_view rest = bytes.substr(kHeaderBytes);
    ByteReader body(rest);
    if (magic == kMagic && checksum(rest) == sum) body(memory);
    if (body.complete() && !memory.worker.empty() && memory.addresses.size() == memory.bytes.size() &&
        memory.keys.size() == memory.bytes.size()) {
      return memory;
    }
  }
  return error(ErrorCode::kInvalid, "{} bytes that describe no memory reachable through UCX", bytes.size());
}

}  // namespace hylas
