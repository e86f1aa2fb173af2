#pragma once
// Sockets between processes of one node that share a network name space; they carry open files. Names are abstract:
// no file system is needed, and nothing is left behind.
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "transfer/file_handle.h"

namespace hylas {

struct LocalMessage {
  std::string bytes;
  std::vector<FileHandle> files;
};

// Listens, without blocking, at `name`.
Result<FileHandle> listen_locally(const std::string& name);
// The next who came, if anybody.
std::optional<FileHandle> accept_locally(const FileHandle& listener);
// kNotFound: nobody listens at `name` here.
Result<FileHandle> connect_locally(const std::string& name);

constexpr size_t kLocalMessageBytesMax = 256;
constexpr size_t kLocalMessageFilesMax = 250;  // the system carries 253 at a time

// Without waiting: a message arrives whole, or the peer is as good as gone (kIo).
Status send_locally(const FileHandle& socket, std::string_view bytes, std::span<const int> files);
// kIo: nothing came within `wait_us`, or the peer is gone.
Result<LocalMessage> recv_locally(const FileHandle& socket, int64_t wait_us);
// Nothing was said, and the other end is open: what holds it has not ended.
bool is_open_and_quiet(const FileHandle& socket);

}  // namespace hylas
