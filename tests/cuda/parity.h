#pragma once
// The operators of a GPU held to those of the CPU: the same tensors on both sides, padding and poison included.
#include <cmath>
#include <memory>

#include "ops/cuda_ops.h"
#include "support/reference_ops.h"
#include "support/reference_ops_linear.h"

namespace hylas::test {

// Both backends, made once per process; a test without a GPU fails at its first use.
inline Ops& cpu_ops() {
  static const std::unique_ptr<Ops> kOps = make_cpu_ops({}).value();
  return *kOps;
}
inline Ops& cuda_ops() {
  static const std::unique_ptr<Ops> kOps = make_cuda_ops({}).value();
  return *kOps;
}

// Waits for all that was launched.
inline void settle(Ops& ops) {
  static const Buffer kWord = Buffer::make(cuda_ops().device(), sizeof(int32_t)).value();
  int32_t word = 0;
  ops.device().copy_to_host(&word, kWord.data(), sizeof word);
}

// The tests' memory is filled and read in the stream of cuda_ops(); `call` with others of the same GPU runs between.
template <class Call>
void run_on(Ops& ops, const Call& call) {
  settle(cuda_ops());
  call(ops);
  settle(ops);
}

// A copy of host memory on the GPU for the length of a test.
class OnDevice {
 public:
  OnDevice(const std::vector<std::byte>& bytes, const Tensor& host)
      : memory_(Buffer::make(cuda_ops().device(), bytes.size()).value()), view(host) {
    cuda_ops().device().copy_from_host(memory_.data(), bytes.data(), bytes.size());
    view.data = memory_.data();
  }
  explicit OnDevice(const HostTensor& host) : OnDevice(host.bytes, host.view) {}
  explicit OnDevice(const Matrix& host) : OnDevice(host.bytes, host.view) {}

  operator const Tensor&() const { return view; }
  void fill(const HostTensor& host) {
    cuda_ops().device().copy_from_host(memory_.data(), host.bytes.data(), host.bytes.size());
  }
  // What stands there now.
  HostTensor host() const {
    HostTensor tensor;
    tensor.bytes.resize(memory_.bytes());
    cuda_ops().device().copy_to_host(tensor.bytes.data(), memory_.data(), tensor.bytes.size());
    tensor.view = view;
    tensor.view.data = tensor.bytes.data();
    return tensor;
  }

 private:
  Buffer memory_;

 public:
  Tensor view;
};

// A weight with its scale.
struct WeightOnDevice {
  explicit WeightOnDevice(const Matrix& host) : matrix(host) {
    if (!host.scale) return;
    std::vector<std::byte> bytes(host.scales.size() * sizeof(float));
    std::memcpy(bytes.data(), host.scales.data(), bytes.size());
    scale = std::make_unique<OnDevice>(bytes, host.scale);
  }
  LinearWeight weight() const { return {matrix.view, scale ? scale->view : Tensor()}; }
  OnDevice matrix;
  std::unique_ptr<OnDevice> scale;
};

// A batch whose metadata lie on the GPU.
struct BatchOnDevice {
  explicit BatchOnDevice(const HostBatch& host) : batch(host.batch) {
    for (Tensor* tensor : {&batch.token_ids, &batch.positions, &batch.row_begin, &batch.kv_len, &batch.page_table,
                           &batch.state_read, &batch.state_write}) {
      if (!tensor->data || tensor->elements() == 0) continue;
      std::vector<std::byte> bytes(tensor->bytes());
      std::memcpy(bytes.data(), tensor->data, bytes.size());
      copies.push_back(std::make_unique<OnDevice>(bytes, *tensor));
      tensor->data = copies.back()->view.data;
    }
  }
  std::vector<std::unique_ptr<OnDevice>> copies;
  Batch batch;
};

// Element by element: |got - wanted| <= absolute + relative |wanted|; NaN (poison, where nothing is to be written) on
// both sides or on none; and what lies between the rows is untouched.
inline testing::AssertionResult equal(const OnDevice& got, const HostTensor& wanted, double absolute, double relative) {
  const HostTensor mine = got.host();
  const Tensor& a = mine.view;
  const Tensor& b = wanted.view;
  for (int64_t r = 0; r < b.dim(0); ++r) {
    for (int64_t i = 0; i < b.row_elements(); ++i) {
      const double x = get(a, r, i), y = get(b, r, i);
      if (std::isnan(x) && std::isnan(y)) continue;
      if (!(std::abs(x - y) <= absolute + relative * std::abs(y))) {
        return testing::AssertionFailure() << "row " << r << " value " << i << " is " << x << ", not " << y;
      }
    }
    const int64_t gap = (b.row_stride - b.row_elements()) * dtype_bytes(b.dtype);
    const auto* between =
        static_cast<const std::byte*>(a.data) + (r * a.row_stride + a.row_elements()) * dtype_bytes(a.dtype);
    for (int64_t i = 0; r + 1 < b.dim(0) && i < gap; ++i) {
      if (between[i] != std::byte{0xff}) return testing::AssertionFailure() << "written behind row " << r;
    }
  }
  return testing::AssertionSuccess();
}

// |got - wanted| / |wanted| over all elements; NaN must coincide.
inline testing::AssertionResult near(const OnDevice& got, const HostTensor& wanted, double relative) {
  const HostTensor mine = got.host();
  double error = 0, size = 0;
  for (int64_t r = 0; r < wanted.view.dim(0); ++r) {
    for (int64_t i = 0; i < wanted.view.row_elements(); ++i) {
      const double x = get(mine.view, r, i), y = get(wanted.view, r, i);
      if (std::isnan(x) && std::isnan(y)) continue;
      if (std::isnan(x) || std::isnan(y)) {
        return testing::AssertionFailure() << "row " << r << " value " << i << " is " << x << ", not " << y;
      }
      error += (x - y) * (x - y);
      size += y * y;
    }
  }
  if (error <= relative * relative * size) return testing::AssertionSuccess();
  return testing::AssertionFailure() << "relative error " << std::sqrt(error / size);
}

}  // namespace hylas::test
