#pragma once
// Answers: memory that a forked process leaves the answers of the layouts' workload in.
#include <sys/mman.h>
#include <unistd.h>

#include <string>
#include <vector>

#include "base/byte_io.h"
#include "base/check.h"
#include "engine/layout_workload.h"

namespace hylas::test {

template <class Io>
void fields(Io& io, Like<Said> auto& said) {
  io(said.tokens, said.logprob_bits);
}

class Answers {
 public:
  Answers() : fd_(memfd_create("answers", 0)) {}
  ~Answers() { close(fd_); }
  Answers(const Answers&) = delete;
  Answers& operator=(const Answers&) = delete;
  void write(const LayoutOutcome& outcome) const {
    std::vector<int> indices;
    std::vector<Said> all;
    for (const auto& [index, said] : outcome.said) {
      indices.push_back(index);
      all.push_back(said);
    }
    ByteWriter out;
    out(indices, all, outcome.retractions);
    HYLAS_CHECK(::pwrite(fd_, out.bytes().data(), out.bytes().size(), 0) == std::ssize(out.bytes()));
  }
  LayoutOutcome read() const {
    std::string bytes(static_cast<size_t>(lseek(fd_, 0, SEEK_END)), '\0');
    HYLAS_CHECK(::pread(fd_, bytes.data(), bytes.size(), 0) == std::ssize(bytes));
    std::vector<int> indices;
    std::vector<Said> all;
    LayoutOutcome outcome;
    ByteReader in(bytes);
    in(indices, all, outcome.retractions);
    HYLAS_CHECK(in.complete(), "{} bytes of answers", bytes.size());
    for (size_t i = 0; i < indices.size(); ++i) outcome.said[indices[i]] = all[i];
    return outcome;
  }

 private:
  int fd_;
};

}  // namespace hylas::test
