#include "transfer/local_socket.h"

#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <utility>

namespace hylas {
namespace {

struct Address {
  sockaddr_un name{};
  socklen_t length = 0;
};

// Abstract names begin with a zero.
Address address_of(const std::string& name) {
  Address address;
  address.name.sun_family = AF_UNIX;
  const size_t bytes = std::min(name.size(), sizeof address.name.sun_path - 1);
  std::memcpy(address.name.sun_path + 1, name.data(), bytes);
  address.length = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + 1 + bytes);
  return address;
}

Result<FileHandle> make_socket() {
  FileHandle made(socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (made.number() < 0) return error(ErrorCode::kIo, "no local socket: {}", std::strerror(errno));
  return made;
}

using FileRoom = std::array<char, CMSG_SPACE(kLocalMessageFilesMax * sizeof(int))>;

void take_files(msghdr& header, std::vector<FileHandle>& files) {
  for (cmsghdr* item = CMSG_FIRSTHDR(&header); item != nullptr; item = CMSG_NXTHDR(&header, item)) {
    if (item->cmsg_level != SOL_SOCKET || item->cmsg_type != SCM_RIGHTS) continue;
    for (size_t at = 0; CMSG_LEN(at + sizeof(int)) <= item->cmsg_len; at += sizeof(int)) {
      int number = -1;
      std::memcpy(&number, CMSG_DATA(item) + at, sizeof number);
      files.emplace_back(number);
    }
  }
}

}  // namespace

Result<FileHandle> listen_locally(const std::string& name) {
  HYLAS_ASSIGN(FileHandle socket, make_socket());
  const Address address = address_of(name);
  if (bind(socket.number(), reinterpret_cast<const sockaddr*>(&address.name), address.length) != 0 ||
      listen(socket.number(), 128) != 0) {
    return error(ErrorCode::kIo, "cannot listen at the local name {}: {}", name, std::strerror(errno));
  }
  return socket;
}

std::optional<FileHandle> accept_locally(const FileHandle& listener) {
  const int number = accept4(listener.number(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK);
  if (number < 0) return std::nullopt;
  return FileHandle(number);
}

Result<FileHandle> connect_locally(const std::string& name) {
  HYLAS_ASSIGN(FileHandle socket, make_socket());
  const Address address = address_of(name);
  if (connect(socket.number(), reinterpret_cast<const sockaddr*>(&address.name), address.length) != 0) {
    const bool absent = errno == ECONNREFUSED || errno == ENOENT;
    return error(absent ? ErrorCode::kNotFound : ErrorCode::kIo, "no connection to the local name {}: {}", name,
                 std::strerror(errno));
  }
  return socket;
}

Status send_locally(const FileHandle& socket, std::string_view bytes, std::span<const int> files) {
  iovec piece{const_cast<char*>(bytes.data()), bytes.size()};
  alignas(cmsghdr) FileRoom room{};
  msghdr header{};
  header.msg_iov = &piece;
  header.msg_iovlen = 1;
  if (!files.empty()) {
    if (files.size() > kLocalMessageFilesMax) return error(ErrorCode::kIo, "{} files are too many", files.size());
    header.msg_control = room.data();
    header.msg_controllen = CMSG_SPACE(files.size_bytes());
    cmsghdr* item = CMSG_FIRSTHDR(&header);
    item->cmsg_level = SOL_SOCKET;
    item->cmsg_type = SCM_RIGHTS;
    item->cmsg_len = CMSG_LEN(files.size_bytes());
    std::memcpy(CMSG_DATA(item), files.data(), files.size_bytes());
  }
  if (sendmsg(socket.number(), &header, MSG_NOSIGNAL) == static_cast<ssize_t>(bytes.size())) return {};
  return error(ErrorCode::kIo, "a local peer does not listen: {}", std::strerror(errno));
}

Result<LocalMessage> recv_locally(const FileHandle& socket, int64_t wait_us) {
  pollfd waiting{socket.number(), POLLIN, 0};
  if (poll(&waiting, 1, static_cast<int>(wait_us / 1000)) <= 0) {
    return error(ErrorCode::kIo, "a local peer said nothing for {:.1f} s", static_cast<double>(wait_us) * 1e-6);
  }
  LocalMessage message;
  message.bytes.resize(kLocalMessageBytesMax);
  iovec piece{message.bytes.data(), message.bytes.size()};
  alignas(cmsghdr) FileRoom room{};
  msghdr header{};
  header.msg_iov = &piece;
  header.msg_iovlen = 1;
  header.msg_control = room.data();
  header.msg_controllen = room.size();
  const ssize_t got = recvmsg(socket.number(), &header, MSG_CMSG_CLOEXEC);
  if (got > 0) take_files(header, message.files);
  if (got <= 0 || (header.msg_flags & (MSG_TRUNC | MSG_CTRUNC)) != 0) {
    return error(ErrorCode::kIo, "a local peer is gone, or says too much");
  }
  message.bytes.resize(static_cast<size_t>(got));
  return message;
}

bool is_open_and_quiet(const FileHandle& socket) {
  char byte = 0;
  const ssize_t got = recv(socket.number(), &byte, 1, MSG_PEEK | MSG_DONTWAIT);
  return got < 0 && (errno == EAGAIN || errno == EINTR);
}

}  // namespace hylas
