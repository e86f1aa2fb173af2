#include "transfer/ucx_memory.h"

#include "transfer/invitation.h"

namespace hylas {
namespace {

constexpr uint64_t kMagic = 0x31786375'6c796861;

}  // namespace

// The members on the wire, in their order (base/byte_io.h).
template <class Io>
void fields(Io& io, Like<UcxMemory> auto& v) {
  io(v.worker, v.addresses, v.bytes, v.keys);
}

std::string encode(const UcxMemory& memory) { return seal_invitation(kMagic, memory); }

Result<UcxMemory> decode_ucx_memory(std::string_view bytes) {
  UcxMemory memory;
  if (unseal_invitation(kMagic, bytes, memory) && !memory.worker.empty() &&
      memory.addresses.size() == memory.bytes.size() && memory.keys.size() == memory.bytes.size()) {
    return memory;
  }
  return error(ErrorCode::kInvalid, "{} bytes that describe no memory reachable through UCX", bytes.size());
}

}  // namespace hylas
