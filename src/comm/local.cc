#include "comm/local.h"

#include <algorithm>
#include <atomic>
#include <cstring>

#include "base/clock.h"
#include "comm/slice_tree.h"

namespace hylas {
namespace {

// Spins shortly, since ranks usually arrive together, then sleeps: ranks may outnumber the cores.
void wait_while_equal(const std::atomic<uint32_t>& value, uint32_t old) {
  for (int spin = 0; spin < 200; ++spin) {
    if (value.load(std::memory_order_acquire) != old) return;
    __builtin_ia32_pause();
  }
  while (value.load(std::memory_order_acquire) == old) value.wait(old, std::memory_order_acquire);
}

struct Group {
  explicit Group(int32_t group_size) : size(group_size), posted(group_size) {}

  // What a rank shows the others for the duration of one collective.
  struct Posted {
    Tensor in;
    Tensor out;
    std::span<const int32_t> counts;
  };

  const int32_t size;
  std::vector<Posted> posted;
  std::atomic<int32_t> arrived{0};
  std::atomic<uint32_t> generation{0};

  void barrier() {
    const uint32_t now = generation.load(std::memory_order_acquire);
    if (arrived.fetch_add(1, std::memory_order_acq_rel) == size - 1) {
      arrived.store(0, std::memory_order_relaxed);
      generation.store(now + 1, std::memory_order_release);
      generation.notify_all();
    } else {
      wait_while_equal(generation, now);
    }
  }
};

size_t row_bytes(const Tensor& tensor) {
  return static_cast<size_t>(tensor.row_elements()) * dtype_bytes(tensor.dtype);
}

// No rows may come with no memory.
void copy_bytes(void* to, const void* from, size_t bytes) {
  if (bytes > 0) std::memcpy(to, from, bytes);
}

std::byte* row_at(const Tensor& tensor, int64_t row) {
  return static_cast<std::byte*>(tensor.data) + row * tensor.row_stride * dtype_bytes(tensor.dtype);
}

class LocalComm final : public Comm {
 public:
  LocalComm(std::shared_ptr<Group> group, int32_t rank) : group_(std::move(group)), rank_(rank) {}

  int32_t rank() const override { return rank_; }
  int32_t size() const override { return group_->size; }

  void all_reduce_slices(const Tensor& partials, const Tensor& out) override {
    const int64_t begin_us = now_us();
    post(partials, out, {});
    const std::vector<const float*> slices = all_slices();
    const int64_t count = partials.dim(1) * partials.dim(2);
    HYLAS_CHECK(out.contiguous() && out.elements() == count, "{} elements out of {}", out.elements(), count);
    // Each rank sums one range of elements and hands it to all, over the slices it has just read for the last time.
    const int64_t begin = count * rank_ / size(), end = count * (rank_ + 1) / size();
    sum_slices(slices, begin, end, out.as<float>() + begin);
    group_->barrier();
    for (int32_t r = 0; r < size(); ++r) {
      if (r == rank_) continue;
      const int64_t from = count * r / size(), to = count * (r + 1) / size();
      copy_bytes(out.as<float>() + from, group_->posted[r].out.as<float>() + from, (to - from) * sizeof(float));
    }
    group_->barrier();
    sums_us_ += now_us() - begin_us;
  }

  int64_t sums_us() const override { return sums_us_; }

  void all_gather_rows(const Tensor& in, std::span<const int32_t> row_counts, const Tensor& out) override {
    HYLAS_CHECK(in.dim(0) == row_counts[rank_] && in.contiguous() && out.contiguous());
    post(in, out, {});
    int64_t row = 0;
    for (int32_t r = 0; r < size(); ++r) {
      const Tensor& from = group_->posted[r].in;
      copy_bytes(row_at(out, row), from.data, row_counts[r] * row_bytes(from));
      row += row_counts[r];
    }
    group_->barrier();
  }

  void all_gather_columns(const Tensor& in, const Tensor& out) override {
    HYLAS_CHECK(out.dim(1) == in.dim(1) * size() && out.dim(0) == in.dim(0));
    post(in, out, {});
    for (int32_t r = 0; r < size(); ++r) {
      const Tensor& from = group_->posted[r].in;
      const size_t bytes = row_bytes(from);
      for (int64_t t = 0; t < in.dim(0); ++t) copy_bytes(row_at(out, t) + r * bytes, row_at(from, t), bytes);
    }
    group_->barrier();
  }

  void all_to_all_rows(const Tensor& in, std::span<const int32_t> send_rows, const Tensor& out,
                       std::span<const int32_t> recv_rows) override {
    post(in, out, send_rows);
    int64_t row = 0;
    for (int32_t r = 0; r < size(); ++r) {
      const Group::Posted& peer = group_->posted[r];
      HYLAS_CHECK(peer.counts[rank_] == recv_rows[r], "rank {} sends {} rows, {} expected", r, peer.counts[rank_],
                  recv_rows[r]);
      int64_t skip = 0;
      for (int32_t to = 0; to < rank_; ++to) skip += peer.counts[to];
      copy_bytes(row_at(out, row), row_at(peer.in, skip), recv_rows[r] * row_bytes(in));
      row += recv_rows[r];
    }
    group_->barrier();
  }

 private:
  // Shows the buffers and waits until all ranks have.
  void post(const Tensor& in, const Tensor& out, std::span<const int32_t> counts) {
    group_->posted[rank_] = {in, out, counts};
    group_->barrier();
  }

  std::vector<const float*> all_slices() const {
    std::vector<const float*> slices;
    for (const Group::Posted& peer : group_->posted) {
      for (int64_t s = 0; s < peer.in.dim(0); ++s) slices.push_back(peer.in.row<float>(s));
    }
    return slices;
  }

  std::shared_ptr<Group> group_;
  int32_t rank_;
  int64_t sums_us_ = 0;
};

}  // namespace

std::vector<std::unique_ptr<Comm>> make_local_comms(int32_t size) {
  auto group = std::make_shared<Group>(size);
  std::vector<std::unique_ptr<Comm>> comms;
  for (int32_t rank = 0; rank < size; ++rank) comms.push_back(std::make_unique<LocalComm>(group, rank));
  return comms;
}

}  // namespace hylas
