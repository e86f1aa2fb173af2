#pragma once
// Workspace: device memory that operators use within one call. Taken once at start; operators follow one another in one
// stream, so each may use all of it.
#include <cstddef>
#include <cstdint>

#include "base/check.h"
#include "ops/workspace_bytes.h"

namespace hylas::cuda {

class Workspace {
 public:
  Workspace() = default;
  Workspace(void* memory, size_t bytes) : memory_(static_cast<std::byte*>(memory)), bytes_(bytes) {}

  void reset() { used_ = 0; }
  size_t bytes_left() const { return bytes_ - used_; }
  // At a multiple of kWorkspaceUnit; aborts when there is too little: the caller cuts its work by bytes_left().
  template <class T>
  T* take(int64_t count) {
    const size_t bytes = padded(count * sizeof(T));
    HYLAS_CHECK(bytes <= bytes_left(), "{} bytes of {} in the workspace", bytes, bytes_left());
    void* piece = memory_ + used_;
    used_ += bytes;
    return static_cast<T*>(piece);
  }
  static size_t padded(size_t bytes) { return workspace_piece(bytes); }

 private:
  std::byte* memory_ = nullptr;
  size_t bytes_ = 0;
  size_t used_ = 0;
};

}  // namespace hylas::cuda
