#include "comm/cuda/device_comm.h"

#include <algorithm>
#include <numeric>
#include <type_traits>

#include "comm/cuda/peer_add.h"
#include "comm/cuda/peer_rows.h"
#include "comm/cuda/sum_slices.h"
#include "comm/sum_sizes.h"
#include "tensor/cuda/cuda_error.h"

namespace hylas::cuda {
namespace {

// Fewer are fetched by one kernel, more by the copy engines between two meetings.
constexpr int64_t kGatherBytesMax = int64_t{8} << 20;

size_t row_bytes(const Tensor& tensor) {
  return static_cast<size_t>(tensor.row_elements()) * dtype_bytes(tensor.dtype);
}

std::byte* row_at(const Tensor& tensor, int64_t row) {
  return static_cast<std::byte*>(tensor.data) + row * tensor.row_stride * dtype_bytes(tensor.dtype);
}

Tensor bytes_of(void* data, int64_t rows, size_t row_size) {
  return Tensor(data, DType::kU8, {rows, static_cast<int64_t>(row_size)});
}

std::byte* element_at(const Tensor& tensor, int64_t index) {
  return static_cast<std::byte*>(tensor.data) + index * dtype_bytes(tensor.dtype);
}

// With `args.adds` as it will be.
void add_slices(SumArgs& args, const Tensor& slices) {
  HYLAS_CHECK(args.count == 0 || args.type == slices.dtype, "a sum of {} and {}", dtype_name(args.type),
              dtype_name(slices.dtype));
  HYLAS_CHECK(args.adds || slices.dtype == DType::kF32, "a sum of {}", dtype_name(slices.dtype));
  args.type = slices.dtype;
  for (int64_t s = 0; s < slices.dim(0); ++s) {
    HYLAS_CHECK(args.count < kSumSlicesMax, "more than {} slices", kSumSlicesMax);
    args.slices[args.count++] = row_at(slices, s);
  }
}

}  // namespace

bool is_on_device(const Tensor& tensor) {
  if (!tensor.data) return false;
  cudaPointerAttributes attributes;
  check(cudaPointerGetAttributes(&attributes, tensor.data), "cudaPointerGetAttributes");
  return attributes.type == cudaMemoryTypeDevice;
}

DeviceComm::DeviceComm(std::unique_ptr<Comm> host, CudaDevice& device, bool shares_gpu)
    : host_(std::move(host)), device_(device), shown_(host_->size()), ones_(host_->size(), 1) {
  static_assert(std::is_trivially_copyable_v<Shown>);
  HYLAS_CHECK(host_->size() <= kRanksMax, "{} ranks of a group", host_->size());
  device_.stream();
  for (cudaEvent_t& event : events_) {
    check(cudaEventCreateWithFlags(&event, cudaEventDisableTiming), "cudaEventCreate");
  }
  if (shares_gpu) return;
  HYLAS_CHECK(size() <= kPeersMax, "{} GPUs of a group", size());
  auto made = Buffer::make(device_, sizeof(Signals));
  HYLAS_CHECK(made.ok(), "{}", made.error().message);
  signals_ = std::move(*made);
  uint32_t word = 0;
  device_.copy_to_host(&word, signals_.data(), sizeof word);  // it is zero before anybody writes to it
  check(cudaMallocHost(reinterpret_cast<void**>(&sums_ns_), sizeof *sums_ns_), "cudaMallocHost");
  *sums_ns_ = 0;
  peers_.rank = rank();
  peers_.size = size();
  peers_.sums_ns = sums_ns_;
}

DeviceComm::~DeviceComm() {
  for (cudaEvent_t event : events_) cudaEventDestroy(event);
  if (sums_ns_) cudaFreeHost(sums_ns_);
}

// A GPU writes it meanwhile.
int64_t DeviceComm::sums_us() const {
  const volatile uint64_t* ns = sums_ns_;
  return host_->sums_us() + (ns ? static_cast<int64_t>(*ns / 1000) : 0);
}

const std::vector<Shown>& DeviceComm::exchange(const Tensor& in, const Tensor& out, std::span<const int32_t> counts) {
  Shown mine{in, out, nullptr, static_cast<Signals*>(signals_.data()), {}};
  std::copy(counts.begin(), counts.end(), mine.counts);
  if (!mine.signals) {
    mine.event = events_[turn_];
    turn_ = 1 - turn_;
    check(cudaEventRecord(mine.event, device_.stream()), "a meeting of ranks");
  }
  host_->all_gather_rows(bytes_of(&mine, 1, sizeof mine), ones_, bytes_of(shown_.data(), size(), sizeof mine));
  for (int32_t r = 0; mine.signals && r < size(); ++r) peers_.signals[r] = shown_[r].signals;
  return shown_;
}

void DeviceComm::wait_for_all() {
  const cudaStream_t stream = device_.stream();
  if (signals_.data()) return peer_barrier(peers_, stream);
  for (int32_t r = 0; r < size(); ++r) {
    if (r != rank()) check(cudaStreamWaitEvent(stream, shown_[r].event, 0), "a meeting of ranks");
  }
}

const std::vector<Shown>& DeviceComm::meet(const Tensor& in, const Tensor& out, std::span<const int32_t> counts) {
  exchange(in, out, counts);
  wait_for_all();
  return shown_;
}

void DeviceComm::leave() {
  if (!signals_.data()) exchange({}, {});
  wait_for_all();
}

void DeviceComm::sum(int64_t begin, int64_t end, const Tensor& out, bool adds) {
  SumArgs args{.adds = adds};
  for (const Shown& peer : shown_) add_slices(args, peer.in);
  HYLAS_CHECK((args.count & (args.count - 1)) == 0, "{} slices", args.count);
  args.begin = begin;
  args.end = end;
  args.out = element_at(out, begin);
  args.out_type = out.dtype;
  sum_slices(args, device_.stream());
}

void DeviceComm::copy(void* to, const void* from, size_t bytes) { device_.copy(to, from, bytes); }

// Each rank sums one range of elements over slices that nobody else reads there, and the others fetch it.
void DeviceComm::sum_by_events(const Tensor& partials, const Tensor& out, bool adds) {
  const int64_t count = out.elements();
  meet(partials, out);
  sum(count * rank() / size(), count * (rank() + 1) / size(), out, adds);
  const std::vector<Shown>& shown = meet(partials, out);
  for (int32_t r = 0; r < size(); ++r) {
    if (r == rank()) continue;
    const int64_t from = count * r / size(), to = count * (r + 1) / size();
    copy(element_at(out, from), element_at(shown[r].out, from), (to - from) * dtype_bytes(out.dtype));
  }
  leave();
}

Tensor DeviceComm::own_sum(const Tensor& partials, const Tensor& out) {
  if (partials.dim(0) == 1 && size() > 1) return partials;
  SumArgs own{.end = out.elements(), .out = out.data};
  add_slices(own, partials);
  sum_slices(own, device_.stream());
  return out;
}

void DeviceComm::sum_by_signals(const Tensor& partials, const Tensor& out) {
  const bool takes_size = size() == 1 || size() == 2 || size() == 4 || size() == 8 || size() == 16;
  HYLAS_CHECK(takes_size, "a sum of {} ranks", size());
  const Tensor mine = own_sum(partials, out);
  if (size() == 1) return;
  exchange(mine, out);
  PeerSumArgs args{.peers = peers_, .count = out.elements()};
  for (int32_t r = 0; r < size(); ++r) {
    args.in[r] = shown_[r].in.as<float>();
    args.out[r] = shown_[r].out.as<float>();
  }
  peer_sum(args, device_.stream());
}

bool DeviceComm::adds_onto(int64_t elements) const {
  return signals_.data() ? sums_go_onto(elements, size()) : takes_onto(size()) && elements > 0;
}

void DeviceComm::add_onto(const Tensor& partials, const Tensor& residual) {
  const int64_t count = residual.elements();
  HYLAS_CHECK(takes_onto(size()), "{} ranks add onto rows", size());
  HYLAS_CHECK(residual.contiguous() && partials.row_elements() == count, "{} elements onto {}", partials.row_elements(),
              count);
  HYLAS_CHECK(partials.dtype == DType::kF32 || partials.dim(0) == 1, "partial sums of type bf16 in {} slices",
              partials.dim(0));
  if (!signals_.data()) return sum_by_events(partials, residual, true);
  exchange(own_sum(partials, partials.rows(0, 1)), residual);
  PeerAddArgs args{.peers = peers_, .type = partials.dtype, .onto_type = residual.dtype, .count = count};
  for (int32_t r = 0; r < size(); ++r) {
    HYLAS_CHECK(shown_[r].in.dtype == partials.dtype && shown_[r].out.dtype == residual.dtype &&
                    shown_[r].out.elements() == count,
                "{} elements of rank {} onto {}", shown_[r].out.elements(), r, count);
    args.in[r] = shown_[r].in.data;
    args.onto[r] = shown_[r].out.data;
  }
  peer_add(args, device_.stream());
}

const PeerPartials* DeviceComm::show_partials(const Tensor& partials) {
  const bool takes_size = size() == 2 || size() == 4 || size() == 8;
  if (!signals_.data() || !takes_size || !is_on_device(partials) || partials.elements() * (size() - 1) > kReadAllMax) {
    return nullptr;
  }
  exchange(partials, {});
  shown_partials_ = {
      .peers = peers_, .slice_stride = partials.row_stride, .slices = static_cast<int32_t>(partials.dim(0))};
  for (int32_t r = 0; r < size(); ++r) {
    const Tensor& theirs = shown_[r].in;
    HYLAS_CHECK(theirs.dim(0) == partials.dim(0) && theirs.row_stride == partials.row_stride,
                "{} slices, {} of rank {}", partials.dim(0), theirs.dim(0), r);
    shown_partials_.partials[r] = theirs.as<float>();
  }
  return &shown_partials_;
}

void DeviceComm::all_reduce_slices(const Tensor& partials, const Tensor& out) {
  if (!is_on_device(partials)) return host_->all_reduce_slices(partials, out);
  const int64_t count = partials.dim(1) * partials.dim(2);
  HYLAS_CHECK(out.contiguous() && out.elements() == count, "{} elements out of {}", out.elements(), count);
  return signals_.data() ? sum_by_signals(partials, out) : sum_by_events(partials, out);
}

void DeviceComm::gather_by_signals(const Tensor& in, std::span<const int32_t> row_counts, const Tensor& out) {
  exchange(in, out);
  PeerGatherArgs args{.out = static_cast<std::byte*>(out.data), .row_bytes = static_cast<int64_t>(row_bytes(out))};
  args.rows.peers = peers_;
  for (int32_t r = 0; r < size(); ++r) {
    args.in[r] = static_cast<const std::byte*>(shown_[r].in.data);
    args.rows.begin[r + 1] = args.rows.begin[r] + row_counts[r];
  }
  peer_gather(args, device_.stream());
}

void DeviceComm::all_gather_rows(const Tensor& in, std::span<const int32_t> row_counts, const Tensor& out) {
  if (!is_on_device(out)) return host_->all_gather_rows(in, row_counts, out);
  HYLAS_CHECK(in.dim(0) == row_counts[rank()] && in.contiguous() && out.contiguous());
  const int64_t rows = std::accumulate(row_counts.begin(), row_counts.end(), int64_t{0});
  const bool few = rows * static_cast<int64_t>(row_bytes(out)) <= kGatherBytesMax;
  if (signals_.data() && few) return gather_by_signals(in, row_counts, out);
  int64_t row = 0;
  const std::vector<Shown>& shown = meet(in, out);
  for (int32_t r = 0; r < size(); ++r) {
    copy(row_at(out, row), shown[r].in.data, row_counts[r] * row_bytes(out));
    row += row_counts[r];
  }
  leave();
}

void DeviceComm::all_gather_columns(const Tensor& in, const Tensor& out) {
  if (!is_on_device(out)) return host_->all_gather_columns(in, out);
  HYLAS_CHECK(out.dim(1) == in.dim(1) * size() && out.dim(0) == in.dim(0));
  const std::vector<Shown>& shown = meet(in, out);
  const size_t out_pitch = out.row_stride * dtype_bytes(out.dtype);
  for (int32_t r = 0; r < size() && in.dim(0) > 0; ++r) {
    const Tensor& from = shown[r].in;
    const size_t bytes = row_bytes(from), pitch = from.row_stride * dtype_bytes(from.dtype);
    check(cudaMemcpy2DAsync(row_at(out, 0) + r * bytes, out_pitch, from.data, std::max(pitch, bytes), bytes,
                            static_cast<size_t>(in.dim(0)), cudaMemcpyDeviceToDevice, device_.stream()),
          "columns of other ranks");
  }
  leave();
}

// Counts are host memory; rows are not, even where a rank has none.
void DeviceComm::all_to_all_rows(const Tensor& in, std::span<const int32_t> send_rows, const Tensor& out,
                                 std::span<const int32_t> recv_rows) {
  if (!is_on_device(in) && !is_on_device(out)) return host_->all_to_all_rows(in, send_rows, out, recv_rows);
  int64_t row = 0;
  const std::vector<Shown>& shown = meet(in, out, send_rows);
  for (int32_t r = 0; r < size(); ++r) {
    const Shown& peer = shown[r];
    HYLAS_CHECK(peer.counts[rank()] == recv_rows[r], "rank {} sends {} rows, {} expected", r, peer.counts[rank()],
                recv_rows[r]);
    int64_t skip = 0;
    for (int32_t to = 0; to < rank(); ++to) skip += peer.counts[to];
    copy(row_at(out, row), row_at(peer.in, skip), recv_rows[r] * row_bytes(in));
    row += recv_rows[r];
  }
  leave();
}

}  // namespace hylas::cuda
