#include "comm/device_comms.h"

#include <set>
#include <vector>

#include "comm/cuda/device_comm.h"
#include "comm/cuda/device_dispatch.h"
#include "comm/cuda/device_pipe.h"
#include "tensor/cuda/cuda_error.h"

namespace hylas {
namespace {

// Every GPU reads and writes the others' memory from now on.
Status connect(std::span<const int> gpus) {
  for (const int gpu : gpus) {
    cuda::check(cudaSetDevice(gpu), "cudaSetDevice");
    for (const int other : gpus) {
      if (other == gpu) continue;
      int can = 0;
      cuda::check(cudaDeviceCanAccessPeer(&can, gpu, other), "cudaDeviceCanAccessPeer");
      if (!can) {
        return error(
            ErrorCode::kUnsupported,
            "GPU {} cannot reach the memory of GPU {} (`nvidia-smi topo -p2p r`): ranks need GPUs with NVLink or "
            "peer access over PCIe; CUDA_VISIBLE_DEVICES and --base-gpu-id choose them",
            gpu, other);
      }
      const cudaError_t status = cudaDeviceEnablePeerAccess(other, 0);
      if (status == cudaErrorPeerAccessAlreadyEnabled) {
        cudaGetLastError();
      } else {
        cuda::check(status, "cudaDeviceEnablePeerAccess");
      }
    }
  }
  return {};
}

}  // namespace

Status on_devices(std::span<RankComms> comms, std::span<Device* const> devices) {
  HYLAS_CHECK(comms.size() == devices.size());
  std::set<int> distinct;
  for (Device* device : devices) {
    auto* gpu = dynamic_cast<CudaDevice*>(device);
    HYLAS_CHECK(gpu, "ranks over the memory of {}", device->name());
    distinct.insert(gpu->index());
  }
  HYLAS_TRY(connect(std::vector<int>(distinct.begin(), distinct.end())));
  const bool shares_gpu = distinct.size() < devices.size();
  for (size_t i = 0; i < comms.size(); ++i) {
    auto& gpu = static_cast<CudaDevice&>(*devices[i]);
    RankComms& rank = comms[i];
    for (std::unique_ptr<Comm>* group : {&rank.stage, &rank.attn, &rank.dp, &rank.ep, &rank.moe}) {
      if (*group) *group = std::make_unique<cuda::DeviceComm>(std::move(*group), gpu, shares_gpu);
    }
    if (rank.ep && !shares_gpu) rank.experts = std::make_unique<cuda::DeviceDispatch>(*rank.ep, gpu);
    if (rank.pipe) rank.pipe = std::make_unique<cuda::DevicePipe>(std::move(rank.pipe), gpu);
  }
  return {};
}

}  // namespace hylas
