#include "transfer/shm_host.h"

#include <openssl/rand.h>
#include <poll.h>
#include <sys/eventfd.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <utility>

#include "base/check.h"
#include "base/clock.h"
#include "base/thread.h"
#include "transfer/invitation.h"

namespace hylas {
namespace {

constexpr uint64_t kMagic = 0x316d6873'6c796861;
constexpr size_t kTokenBytes = 16;
constexpr size_t kStrangersMax = 64;
constexpr int64_t kStrangerUs = 2'000'000;  // to say the token
constexpr int64_t kEndUs = 1'000'000;
constexpr int kTickMs = 500;

std::string random_token() {
  std::string token(kTokenBytes, '\0');
  HYLAS_CHECK(RAND_bytes(reinterpret_cast<unsigned char*>(token.data()), kTokenBytes) == 1, "no random bytes");
  return token;
}

std::string random_name() {
  std::string name = "hylas-";
  for (const char byte : random_token()) name += fmt::format("{:02x}", static_cast<unsigned char>(byte));
  return name;
}

}  // namespace

// The members on the wire, in their order (base/byte_io.h).
template <class Io>
void fields(Io& io, Like<ShmInvitation> auto& v) {
  io(v.name, v.token, v.bytes);
}

std::string encode(const ShmInvitation& invitation) { return seal_invitation(kMagic, invitation); }

Result<ShmInvitation> decode_shm_invitation(std::string_view bytes) {
  ShmInvitation invitation;
  if (unseal_invitation(kMagic, bytes, invitation) && invitation.token.size() == kTokenBytes) return invitation;
  return error(ErrorCode::kInvalid, "{} bytes that are no invitation to shared memory", bytes.size());
}

Result<std::unique_ptr<ShmHost>> ShmHost::open(std::span<const Region> regions) {
  for (const Region& region : regions) {
    if (region.bytes == 0 || region.file >= 0) continue;
    return error(ErrorCode::kUnsupported, "the state is in memory that other processes cannot map");
  }
  if (regions.size() >= kLocalMessageFilesMax) {
    return error(ErrorCode::kUnsupported, "{} ranks are too many to share their memory", regions.size());
  }
  std::string name = random_name();
  HYLAS_ASSIGN(FileHandle listener, listen_locally(name));
  FileHandle alarm(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (alarm.number() < 0) return error(ErrorCode::kIo, "eventfd: {}", std::strerror(errno));
  return std::unique_ptr<ShmHost>(new ShmHost(regions, std::move(name), std::move(listener), std::move(alarm)));
}

ShmHost::ShmHost(std::span<const Region> regions, std::string name, FileHandle listener, FileHandle alarm)
    : name_(std::move(name)), listener_(std::move(listener)), alarm_(std::move(alarm)) {
  for (const Region& region : regions) {
    bytes_.push_back(region.bytes);
    if (region.bytes > 0) files_.push_back(region.file);
  }
  thread_ = start_thread("shm_host", [this] { run(); });
}

ShmHost::~ShmHost() {
  {
    std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  eventfd_write(alarm_.number(), 1);
  thread_.join();
  const int64_t due_us = now_us() + kEndUs;
  for (auto& [token, invitation] : invitations_) {
    while (!take_back(invitation) && now_us() < due_us) std::this_thread::sleep_for(std::chrono::microseconds(100));
  }
}

std::string ShmHost::invite() {
  ShmInvitation invitation{name_, random_token(), bytes_};
  std::lock_guard lock(mutex_);
  invitations_[invitation.token];
  return encode(invitation);
}

bool ShmHost::revoke(const std::string& token) {
  std::lock_guard lock(mutex_);
  const auto found = invitations_.find(token);
  if (found == invitations_.end()) return true;
  if (!take_back(found->second)) return false;
  invitations_.erase(found);
  return true;
}

// Closing the connection tells the guest; its end is also how a guest that was killed in the middle of a write is
// known.
bool ShmHost::take_back(Invitation& invitation) {
  invitation.is_revoked = true;
  std::erase_if(invitation.guests,
                [](const Guest& guest) { return guest.its_fence().revoke() || !is_open_and_quiet(guest.socket); });
  return invitation.guests.empty();
}

void ShmHost::run() {
  while (true) {
    std::vector<pollfd> all = waits();
    poll(all.data(), all.size(), kTickMs);
    std::lock_guard lock(mutex_);
    if (stopping_) return;
    tend();
  }
}

std::vector<pollfd> ShmHost::waits() {
  std::vector<pollfd> all = {{alarm_.number(), POLLIN, 0}, {listener_.number(), POLLIN, 0}};
  for (const Guest& stranger : strangers_) all.push_back({stranger.socket.number(), POLLIN, 0});
  std::lock_guard lock(mutex_);
  for (const auto& [token, invitation] : invitations_) {
    for (const Guest& guest : invitation.guests) all.push_back({guest.socket.number(), POLLIN, 0});
  }
  return all;
}

// Lets in who knows a token, sends away who does not, and forgets those who have ended. Holds mutex_.
void ShmHost::tend() {
  while (std::optional<FileHandle> socket = accept_locally(listener_)) {
    strangers_.push_back({.socket = std::move(*socket), .came_us = now_us(), .fence = {}});
    if (strangers_.size() > kStrangersMax) strangers_.pop_front();
  }
  for (auto at = strangers_.begin(); at != strangers_.end();) {
    const auto stranger = at++;
    const bool waits = is_open_and_quiet(stranger->socket);
    if (waits && now_us() - stranger->came_us < kStrangerUs) continue;
    if (!waits) static_cast<void>(admit(std::move(*stranger)));
    strangers_.erase(stranger);
  }
  for (auto& [token, invitation] : invitations_) {
    std::erase_if(invitation.guests, [](const Guest& guest) { return !is_open_and_quiet(guest.socket); });
  }
}

// Who cannot be let in sees the end of its connection.
Status ShmHost::admit(Guest stranger) {
  HYLAS_ASSIGN(const LocalMessage said, recv_locally(stranger.socket, 0));
  const auto found = invitations_.find(said.bytes);
  if (found == invitations_.end() || found->second.is_revoked) return error(ErrorCode::kInvalid, "not invited");
  HYLAS_ASSIGN(const FileHandle fence, make_shared_file(sizeof(WriteFence)));
  HYLAS_ASSIGN(stranger.fence, Mapping::of(fence.number(), sizeof(WriteFence)));
  new (stranger.fence.data()) WriteFence;
  std::vector<int> files = {fence.number()};
  files.insert(files.end(), files_.begin(), files_.end());
  HYLAS_TRY(send_locally(stranger.socket, kShmWelcome, files));
  found->second.guests.push_back(std::move(stranger));
  return {};
}

}  // namespace hylas
