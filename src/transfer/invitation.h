#pragma once
// Invitations on the wire (Link::invite): before their fields stand the kind and a sum, since links believe what they
// read there.
#include <string>
#include <string_view>

#include "base/byte_io.h"

namespace hylas {

template <class... T>
std::string seal_invitation(uint64_t kind, const T&... fields) {
  ByteWriter body, header;
  body(fields...);
  header(kind, checksum(body.bytes()));
  return header.take() + body.bytes();
}

// False: not what seal_invitation() wrote for this kind.
template <class... T>
bool unseal_invitation(uint64_t kind, std::string_view bytes, T&... fields) {
  uint64_t its_kind = 0, sum = 0;
  constexpr size_t kHeaderBytes = sizeof its_kind + sizeof sum;
  if (bytes.size() < kHeaderBytes) return false;
  ByteReader(bytes.substr(0, kHeaderBytes))(its_kind, sum);
  bytes.remove_prefix(kHeaderBytes);
  if (its_kind != kind || checksum(bytes) != sum) return false;
  ByteReader body(bytes);
  body(fields...);
  return body.complete();
}

}  // namespace hylas
