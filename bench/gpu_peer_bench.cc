// Sums over GPUs of one host, in recorded steps: the engine's over peer memory beside NCCL's, for a step's sizes; many
// rows' sums with the norms behind them; and tokens on their way to the experts of other GPUs and back.
//   gpu_peer_bench [GPUS]        default: 2, 4, 8, as many as there are
// The engine's sum takes f32 and adds in a fixed order, whatever the number of ranks; NCCL is asked for f32 and for
// bf16. The bound: each rank sends and receives 2 (n - 1) / n of the bytes at 450 GB/s, NVLink's 18 links in one
// direction.
#include <cuda_runtime_api.h>
#include <dlfcn.h>

#include <barrier>
#include <cmath>
#include <cstdlib>
#include <functional>
#include <random>
#include <string>
#include <thread>

#include "base/clock.h"
#include "comm/device_comms.h"
#include "comm/local.h"
#include "ops/cuda_ops.h"
#include "tensor/cuda/cuda_device.h"

namespace hylas {
namespace {

constexpr double kLinkBytesPerSecond = 450e9;
constexpr int kCallsOfAStep = 16, kSteps = 20;

// The few names of NCCL's interface that are needed; the library is looked for at run time.
struct Nccl {
  using Handle = void*;
  static constexpr int kFloat32 = 7, kBfloat16 = 9, kSum = 0;

  Nccl() {
    void* library = dlopen("libnccl.so.2", RTLD_NOW);
    if (!library) return;
    init_all = reinterpret_cast<int (*)(Handle*, int, const int*)>(dlsym(library, "ncclCommInitAll"));
    all_reduce = reinterpret_cast<int (*)(const void*, void*, size_t, int, int, Handle, cudaStream_t)>(
        dlsym(library, "ncclAllReduce"));
  }
  int (*init_all)(Handle*, int, const int*) = nullptr;
  int (*all_reduce)(const void*, void*, size_t, int, int, Handle, cudaStream_t) = nullptr;
};

// The ranks of a group, each with a GPU and a thread of its own.
class Group {
 public:
  explicit Group(int32_t size) {
    std::vector<std::unique_ptr<Comm>> comms = make_local_comms(size), expert_comms = make_local_comms(size);
    std::vector<Device*> devices;
    for (int32_t r = 0; r < size; ++r) {
      ops_.push_back(make_cuda_ops({.device = r, .workspace_bytes = size_t{1} << 20}).value());
      devices.push_back(&ops_.back()->device());
      handles_.emplace_back().stage = std::move(comms[r]);
      handles_.back().ep = std::move(expert_comms[r]);
    }
    const Status connected = on_devices(handles_, devices);
    HYLAS_CHECK(connected.ok(), "{}", connected.error().message);
  }

  int32_t size() const { return static_cast<int32_t>(ops_.size()); }
  Ops& ops(int32_t rank) { return *ops_[rank]; }

  // Microseconds of one call of what `make`(rank, device, handles) answers, the slowest rank's. It is called on the
  // rank's thread, and what it answers keeps the rank's memory.
  using Body = std::function<void()>;
  using Make = std::function<Body(int32_t, CudaDevice&, const RankComms&)>;
  double us(const Make& make) {
    const uint64_t key = ++keys_;
    std::vector<double> times(ops_.size());
    std::barrier together(size());
    std::vector<std::thread> threads;
    for (int32_t r = 0; r < size(); ++r) {
      threads.emplace_back([&, r] {
        auto& device = static_cast<CudaDevice&>(ops_[r]->device());
        const Body body = make(r, device, handles_[r]);
        const auto step = [&] {
          for (int i = 0; i < kCallsOfAStep; ++i) body();
        };
        ops_[r]->replay(key, step);
        cudaStreamSynchronize(device.stream());
        together.arrive_and_wait();
        const int64_t begin_us = now_us();
        for (int i = 0; i < kSteps; ++i) ops_[r]->replay(key, step);
        cudaStreamSynchronize(device.stream());
        times[r] = static_cast<double>(now_us() - begin_us) / (kSteps * kCallsOfAStep);
        together.arrive_and_wait();
      });
    }
    for (std::thread& thread : threads) thread.join();
    return *std::max_element(times.begin(), times.end());
  }

  // Of one sum of `bytes` in `call`(comm, stream, in, out, rank).
  using Call = std::function<void(Comm&, cudaStream_t, const Tensor&, const Tensor&, int32_t)>;
  double sum_us(int64_t bytes, const Call& call) {
    return us([&](int32_t r, CudaDevice& device, const RankComms& handles) -> Body {
      const auto in = std::make_shared<Buffer>(Buffer::make(device, bytes).value());
      const auto out = std::make_shared<Buffer>(Buffer::make(device, bytes).value());
      return [=, &device, &handles, &call] {
        const Tensor from(in->data(), DType::kF32, {1, 1, bytes / 4}), to(out->data(), DType::kF32, {1, bytes / 4});
        call(*handles.stage, device.stream(), from, to, r);
      };
    });
  }

 private:
  std::vector<std::unique_ptr<Ops>> ops_;
  std::vector<RankComms> handles_;
  uint64_t keys_ = 0;
};

void measure(int32_t gpus, const Nccl& nccl) {
  Group group(gpus);
  std::vector<Nccl::Handle> handles(gpus, nullptr);
  if (nccl.init_all) HYLAS_CHECK(nccl.init_all(handles.data(), gpus, nullptr) == 0, "ncclCommInitAll failed");
  const auto with_nccl = [&](int64_t bytes, int type) {
    const int64_t count = type == Nccl::kBfloat16 ? bytes / 2 : bytes / 4;
    return group.sum_us(bytes,
                        [&, count, type](Comm&, cudaStream_t stream, const Tensor& in, const Tensor& out, int32_t r) {
                          HYLAS_CHECK(nccl.all_reduce(in.data, out.data, static_cast<size_t>(count), type, Nccl::kSum,
                                                      handles[r], stream) == 0);
                        });
  };
  fmt::print(
      "\n| {} GPUs, elements | hylas f32, us | NCCL f32, us | NCCL bf16, us | hylas / NCCL f32 | bound f32, us | of it "
      "|\n",
      gpus);
  fmt::print("|---|---|---|---|---|---|---|\n");
  for (int64_t elements = 2048; elements <= int64_t{64} << 20; elements *= 2) {
    const int64_t bytes = elements * 4;
    const double ours = group.sum_us(bytes, [](Comm& comm, cudaStream_t, const Tensor& in, const Tensor& out, int32_t) {
      comm.all_reduce_slices(in, out);
    });
    const double f32 = nccl.all_reduce ? with_nccl(bytes, Nccl::kFloat32) : 0;
    const double bf16 = nccl.all_reduce ? with_nccl(bytes / 2, Nccl::kBfloat16) : 0;
    const double bound = 2.0 * (gpus - 1) / gpus * static_cast<double>(bytes) / kLinkBytesPerSecond * 1e6;
    fmt::print("| {} ({} KiB) | {:.1f} | {:.1f} | {:.1f} | {:.2f} | {:.1f} | {:.0f} % |\n", elements, bytes >> 10, ours,
               f32, bf16, f32 > 0 ? ours / f32 : 0, bound, 100 * bound / ours);
  }
}

// A rank's rows behind a product that the ranks share.
struct SharedProduct {
  SharedProduct(CudaDevice& device, int64_t rows, int64_t columns, DType type) {
    const auto take = [&](DType dtype, std::initializer_list<int64_t> dims) {
      Tensor tensor(nullptr, dtype, dims);
      memory.push_back(Buffer::make(device, tensor.bytes()).value());
      tensor.data = memory.back().data();
      return tensor;
    };
    sums = take(DType::kF32, {1, rows, columns});
    product = type == DType::kF32 ? sums : take(type, {1, rows, columns});
    residual = take(DType::kBF16, {rows, columns});
    weight = take(DType::kBF16, {columns});
    out = take(DType::kBF16, {rows, columns});
    out.fp8 = take(DType::kF8E4M3, {rows, columns});
    out.scales = take(DType::kF32, {columns / kFp8Block, (rows + 3) / 4 * 4});
    out = out.in(RowForm::kBoth);
  }
  void add_and_norm(Ops& ops, Comm& comm) const {
    comm.add_onto(product, residual);
    ops.rms_norm(residual, weight, 1e-6f, out);
  }
  void sum_then_add_and_norm(Ops& ops, Comm& comm) const {
    const Tensor first = sums.reshaped({sums.dim(1), sums.dim(2)});
    if (product.dtype != DType::kF32) ops.convert(product.reshaped({sums.dim(1), sums.dim(2)}), first);
    comm.all_reduce_slices(sums, first);
    ops.add_rms_norm(sums, residual, weight, 1e-6f, out);
  }
  std::vector<Buffer> memory;
  Tensor product, sums, residual, weight;
  ActRows out;
};

void measure_norms(int32_t gpus) {
  Group group(gpus);
  fmt::print("\n| {} GPUs: product, its sum over them and norm | sum, then add and norm, us | added onto the rows, us ",
             gpus);
  fmt::print("| bound of the link, us | of it |\n|---|---|---|---|---|\n");
  for (const auto& [rows, columns] : {std::pair{256, 4096}, {1024, 4096}, {3500, 2048}, {4096, 4096}, {16384, 4096}}) {
    for (const DType type : {DType::kF32, DType::kBF16}) {
      const auto us = [&, rows = rows, columns = columns](bool onto) {
        return group.us([&](int32_t r, CudaDevice& device, const RankComms& handles) -> Group::Body {
          const auto shared = std::make_shared<SharedProduct>(device, rows, columns, type);
          Ops& ops = group.ops(r);
          Comm& comm = *handles.stage;
          return
              [=, &ops, &comm] { onto ? shared->add_and_norm(ops, comm) : shared->sum_then_add_and_norm(ops, comm); };
        });
      };
      const double before = us(false), now = us(true);
      const double values = static_cast<double>(rows) * columns * (gpus - 1) / gpus;
      const double bound = values * (dtype_bytes(type) + 2) / kLinkBytesPerSecond * 1e6;
      fmt::print("| {} x {} {} | {:.1f} | {:.1f} | {:.1f} | {:.0f} % |\n", rows, columns, dtype_name(type), before, now,
                 bound, 100 * bound / now);
    }
  }
}

// 397B-A17B.
constexpr int32_t kExperts = 512, kChoices = 10;
constexpr int64_t kHidden = 4096;

// A rank's tokens in one exchange.
struct Tokens {
  // `x`: of the rows that travel there.
  Tokens(CudaDevice& device, int32_t rank, int32_t ranks, int32_t own, DType x) : counts(ranks, own) {
    const int64_t all = int64_t{own} * ranks;
    const auto take = [&](DType dtype, std::initializer_list<int64_t> dims) {
      Tensor tensor(nullptr, dtype, dims);
      memory.push_back(Buffer::make(device, tensor.bytes()).value());
      tensor.data = memory.back().data();
      return tensor;
    };
    sums = {.rows = take(DType::kF32, {1, all * kChoices, kHidden}),
            .weights = take(DType::kF32, {own, kChoices}),
            .shared = take(DType::kF32, {1, own, kHidden}),
            .shared_logit = take(DType::kF32, {own, 1}),
            .sums = take(DType::kF32, {1, own, kHidden})};
    tokens = {.counts = counts,
              .held = {kExperts / ranks * rank, kExperts / ranks},
              .ids = take(DType::kI32, {own, kChoices}),
              .x = take(x, {own, kHidden}),
              .scales = take(DType::kF32, {kHidden / kFp8Block, own}),
              .all_ids = take(DType::kI32, {all, kChoices}),
              .all_x = take(x, {all, kHidden}),
              .all_scales = take(DType::kF32, {kHidden / kFp8Block, all}),
              .returned = take(DType::kF32, {1, own * kChoices, kHidden})};
    std::mt19937 random(rank);
    std::vector<int32_t> ids(static_cast<size_t>(own) * kChoices);
    for (int32_t& id : ids) id = static_cast<int32_t>(random() % kExperts);
    device.copy_from_host(tokens.ids.data, ids.data(), ids.size() * sizeof(int32_t));
  }
  std::vector<int32_t> counts;
  std::vector<Buffer> memory;
  ExpertSums sums;
  ExpertTokens tokens;
};

void measure_experts(int32_t gpus) {
  Group group(gpus);
  fmt::print(
      "\n| {} GPUs, tokens of each | to the experts in bf16 and back, us | in e4m3 | of it the rows back and their sum "
      "| "
      "bound, us | of it |\n",
      gpus);
  fmt::print("|---|---|---|---|---|---|\n");
  for (const int32_t own : {1, 8, 32, 64, 128, 256, 1024}) {
    const auto us = [&](DType x, bool there_too) {
      return group.us([&](int32_t r, CudaDevice& device, const RankComms& handles) -> Group::Body {
        const auto tokens = std::make_shared<Tokens>(device, r, gpus, own, x);
        handles.experts->dispatch(tokens->tokens);
        return [=, &handles] {
          if (there_too) handles.experts->dispatch(tokens->tokens);
          handles.experts->combine(tokens->sums);
        };
      });
    };
    const double bf16 = us(DType::kBF16, true), fp8 = us(DType::kF8E4M3, true), back = us(DType::kF8E4M3, false);
    const double elsewhere = (gpus - 1.0) / gpus, wanted = 1 - std::pow(elsewhere, kChoices);
    const double bytes = own * (wanted * (gpus - 1) * (1 + 4. / kFp8Block) + kChoices * elsewhere * 4) * kHidden;
    const double bound = bytes / kLinkBytesPerSecond * 1e6;
    fmt::print("| {} | {:.1f} | {:.1f} | {:.1f} | {:.1f} | {:.0f} % |\n", own, bf16, fp8, back, bound,
               100 * bound / fp8);
  }
}

int main_of(int count, char** arguments) {
  cuda_load_all_kernels();
  const int there = cuda_device_count(), asked = count > 1 ? std::atoi(arguments[1]) : 0;
  if (there < 2 || asked > there) {
    fmt::print(stderr, "usage: gpu_peer_bench [GPUS]   {} GPUs can be seen, two at least are needed\n", there);
    return 2;
  }
  const Nccl nccl;
  if (!nccl.all_reduce) fmt::print("no libnccl.so.2 here: without NCCL's figures\n");
  for (const int gpus : {2, 4, 8}) {
    if (asked ? gpus != asked : gpus > there) continue;
    measure_norms(gpus);
    measure(gpus, nccl);
    measure_experts(gpus);
  }
  return 0;
}

}  // namespace
}  // namespace hylas

int main(int count, char** arguments) { return hylas::main_of(count, arguments); }
