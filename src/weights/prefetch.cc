#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>

#include "weights/checkpoint.h"

namespace hylas {
namespace {

constexpr size_t kStepBytes = size_t{16} << 20;

// Asks the kernel to start reading; only a hint, so its answer does not matter.
void read_ahead(std::span<const std::byte> piece, size_t page) {
  const auto begin = reinterpret_cast<uintptr_t>(piece.data()) / page * page;
  const auto end = reinterpret_cast<uintptr_t>(piece.data() + piece.size());
  madvise(reinterpret_cast<void*>(begin), end - begin, MADV_WILLNEED);
}

}  // namespace

void prefetch(std::span<const std::span<const std::byte>> pieces, const LoadProgress& progress) {
  const auto page = static_cast<size_t>(sysconf(_SC_PAGE_SIZE));
  size_t total = 0, done = 0;
  for (const auto piece : pieces) total += piece.size();
  for (const auto piece : pieces) {
    read_ahead(piece.first(std::min(piece.size(), kStepBytes)), page);
    for (size_t at = 0; at < piece.size(); at += kStepBytes) {
      const auto step = piece.subspan(at, std::min(kStepBytes, piece.size() - at));
      const auto rest = piece.subspan(at + step.size());
      if (!rest.empty()) read_ahead(rest.first(std::min(rest.size(), kStepBytes)), page);
      for (size_t i = 0; i < step.size(); i += page) static_cast<void>(*(const volatile std::byte*)&step[i]);
      done += step.size();
      if (progress) progress(done, total);
    }
  }
}

}  // namespace hylas
