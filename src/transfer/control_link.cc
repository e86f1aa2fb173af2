#include "transfer/control_link.h"

#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <openssl/rand.h>

#include <array>
#include <cstring>
#include <utility>

#include "base/check.h"
#include "base/clock.h"

namespace hylas {
namespace {

enum Type : uint8_t { kNonce = 'n', kProof = 'p', kMessage = 'm', kHeartbeat = 'h' };

constexpr size_t kNonceBytes = 16;
constexpr size_t kNumberBytes = sizeof(uint64_t);
constexpr size_t kTagBytes = 16;
// Before the nonce: other programs, and other versions of this exchange, are told apart at once.
constexpr std::string_view kMagic = "hylas pd 1:";

std::string hmac(std::string_view key, std::string_view bytes) {
  std::array<unsigned char, EVP_MAX_MD_SIZE> out;
  unsigned int length = 0;
  const auto* data = reinterpret_cast<const unsigned char*>(bytes.data());
  const bool made =
      HMAC(EVP_sha256(), key.data(), static_cast<int>(key.size()), data, bytes.size(), out.data(), &length);
  HYLAS_CHECK(made, "libcrypto has no HMAC-SHA256");
  return std::string(reinterpret_cast<const char*>(out.data()), length);
}

std::string tag_of(std::string_view key, uint8_t type, std::string_view number_and_bytes) {
  std::string said(1, static_cast<char>(type));
  said += number_and_bytes;
  return hmac(key, said).substr(0, kTagBytes);
}

std::string key_of(const std::string& secret, ControlSide sender, std::string_view nonces) {
  return hmac(secret, std::string(sender == ControlSide::kDecode ? "decode" : "prefill") + "|" + std::string(nonces));
}

std::string random_nonce() {
  std::string nonce(kNonceBytes, '\0');
  HYLAS_CHECK(RAND_bytes(reinterpret_cast<unsigned char*>(nonce.data()), kNonceBytes) == 1, "no random bytes");
  return nonce;
}

Result<std::string> recv_nonce(TcpLink& tcp, int64_t wait_us) {
  HYLAS_ASSIGN(const Frame frame, tcp.recv(wait_us, kStrangerBytesMax));
  const bool fits = frame.type == kNonce && frame.bytes.size() == kMagic.size() + kNonceBytes;
  if (!fits || !frame.bytes.starts_with(kMagic))
    return error(ErrorCode::kIo, "it is no hylas instance of this version");
  return frame.bytes.substr(kMagic.size());
}

}  // namespace

ControlLink::ControlLink(std::unique_ptr<TcpLink> tcp, ControlSide side, std::string secret)
    : tcp_(std::move(tcp)), side_(side), secret_(std::move(secret)) {}

Status ControlLink::shake_hands(int64_t wait_us) {
  const bool connects = side_ == ControlSide::kDecode;
  const std::string mine = random_nonce();
  std::string theirs;
  const auto say_nonce = [&] { return tcp_->send(kNonce, std::string(kMagic) + mine, wait_us); };
  const auto hear_nonce = [&]() -> Status {
    HYLAS_ASSIGN(theirs, recv_nonce(*tcp_, wait_us));
    return {};
  };
  const auto say_proof = [&] { return send_sealed(kProof, {}); };
  const auto hear_proof = [&]() -> Status {
    const auto frame = recv_sealed(wait_us, kStrangerBytesMax);
    if (!frame.ok()) return error(ErrorCode::kIo, "{}; do both sides have the same secret?", frame.error().message);
    if (frame->type != kProof) return error(ErrorCode::kIo, "it does not prove that it knows the secret");
    return {};
  };
  if (connects) HYLAS_TRY(say_nonce());
  HYLAS_TRY(hear_nonce());
  if (!connects) HYLAS_TRY(say_nonce());
  const std::string nonces = connects ? mine + theirs : theirs + mine;
  out_ = {.key = key_of(secret_, side_, nonces)};
  in_ = {.key = key_of(secret_, connects ? ControlSide::kPrefill : ControlSide::kDecode, nonces)};
  if (connects) HYLAS_TRY(say_proof());
  HYLAS_TRY(hear_proof());
  if (!connects) HYLAS_TRY(say_proof());
  return {};
}

Status ControlLink::send(std::string_view message) {
  if (message.size() > kControlBytesMax) {
    return error(ErrorCode::kIo, "a control message of {} bytes; at most {} are allowed", message.size(),
                 kControlBytesMax);
  }
  return send_sealed(kMessage, message);
}

Status ControlLink::send_heartbeat() { return send_sealed(kHeartbeat, {}); }

Result<std::optional<std::string>> ControlLink::recv(int64_t wait_us) {
  if (!tcp_->readable(wait_us)) return std::optional<std::string>();
  HYLAS_ASSIGN(Frame frame, recv_sealed(kLostUs, kControlBytesMax));
  if (frame.type == kHeartbeat && frame.bytes.empty()) return std::optional<std::string>();
  if (frame.type != kMessage) return error(ErrorCode::kIo, "it sent a frame of unknown type {}", frame.type);
  return std::optional(std::move(frame.bytes));
}

Status ControlLink::send_sealed(uint8_t type, std::string_view bytes) {
  const uint64_t number = out_.number++;
  std::string sealed(kNumberBytes, '\0');
  std::memcpy(sealed.data(), &number, kNumberBytes);
  sealed += bytes;
  sealed += tag_of(out_.key, type, sealed);
  return tcp_->send(type, sealed, kLostUs);
}

Result<Frame> ControlLink::recv_sealed(int64_t silence_us, size_t bytes_max) {
  HYLAS_ASSIGN(Frame frame, tcp_->recv(silence_us, bytes_max + kNumberBytes + kTagBytes));
  if (frame.bytes.size() < kNumberBytes + kTagBytes) return error(ErrorCode::kIo, "it sent a frame without a seal");
  const std::string tag = frame.bytes.substr(frame.bytes.size() - kTagBytes);
  frame.bytes.resize(frame.bytes.size() - kTagBytes);
  if (CRYPTO_memcmp(tag.data(), tag_of(in_.key, frame.type, frame.bytes).data(), kTagBytes) != 0) {
    return error(ErrorCode::kIo, "it sent a frame with a wrong seal");
  }
  uint64_t number = 0;
  std::memcpy(&number, frame.bytes.data(), kNumberBytes);
  if (number != in_.number) {
    return error(ErrorCode::kIo, "it sent frame {} where {} is due: replayed, or lost", number, in_.number);
  }
  ++in_.number;
  frame.bytes.erase(0, kNumberBytes);
  heard_us_ = now_us();
  return frame;
}

// Silence is measured after looking for what has come: a process that was stopped itself does not blame its peer.
Error listen(ControlLink& link, const std::function<Status(std::string)>& on_message,
             const std::function<void(int64_t)>& on_wait) {
  constexpr int64_t kTickUs = 100'000;
  while (true) {
    auto message = link.recv(kTickUs);
    if (!message.ok()) return message.error();
    const int64_t silence_us = now_us() - link.heard_us();
    if (silence_us > kLostUs) return error(ErrorCode::kIo, "no sign of life for {} s", kLostUs / 1'000'000);
    on_wait(silence_us);
    if (!*message) continue;
    const Status taken = on_message(std::move(**message));
    if (!taken.ok()) return taken.error();
  }
}

}  // namespace hylas
