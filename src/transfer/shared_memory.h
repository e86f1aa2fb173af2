#pragma once
// Memory that several processes of one node map: a file without a name, handed over through a socket. It is there
// until the last process that maps it ends, however that ends, and leaves nothing behind.
#include <cstddef>

#include "base/result.h"
#include "transfer/file_handle.h"

namespace hylas {

// `bytes` zeros, which can neither shrink nor grow. kIo: the system has no such memory.
Result<FileHandle> make_shared_file(size_t bytes);

// Makes private memory shared, where it is: `data`, the start of a page, then holds `file`'s bytes, and what was there
// is lost. Whoever owns the memory unmaps it as before.
Status put_in_place(int file, void* data, size_t bytes);

// A file mapped for reading and writing.
class Mapping {
 public:
  Mapping() = default;
  // kInvalid: not `bytes` bytes that stay (another process's file could shrink, and reading would then end this one).
  static Result<Mapping> of(int file, size_t bytes);
  Mapping(Mapping&& other) noexcept { *this = std::move(other); }
  Mapping& operator=(Mapping&& other) noexcept;
  ~Mapping();

  std::byte* data() const { return data_; }
  size_t bytes() const { return bytes_; }

 private:
  std::byte* data_ = nullptr;
  size_t bytes_ = 0;
};

}  // namespace hylas
