#include "comm/device_comms.h"

#include "comm/cuda/device_comm.h"
#include "comm/cuda/device_pipe.h"

namespace hylas {

RankComms on_device(RankComms comms, Device& device) {
  auto* gpu = dynamic_cast<CudaDevice*>(&device);
  HYLAS_CHECK(gpu, "ranks over the memory of {}", device.name());
  for (std::unique_ptr<Comm>* group : {&comms.stage, &comms.attn, &comms.dp, &comms.ep, &comms.moe}) {
    if (*group) *group = std::make_unique<cuda::DeviceComm>(std::move(*group), *gpu);
  }
  if (comms.pipe) comms.pipe = std::make_unique<cuda::DevicePipe>(std::move(comms.pipe), *gpu);
  return comms;
}

}  // namespace hylas
