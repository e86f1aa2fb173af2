#pragma once
// FileHandle: an open file of the operating system, closed with it.
#include <unistd.h>

#include <utility>

namespace hylas {

class FileHandle {
 public:
  FileHandle() = default;
  explicit FileHandle(int number) : number_(number) {}
  FileHandle(FileHandle&& other) noexcept : number_(std::exchange(other.number_, -1)) {}
  FileHandle& operator=(FileHandle&& other) noexcept {
    std::swap(number_, other.number_);
    return *this;
  }
  ~FileHandle() {
    if (number_ >= 0) ::close(number_);
  }

  // -1: none.
  int number() const { return number_; }

 private:
  int number_ = -1;
};

}  // namespace hylas
