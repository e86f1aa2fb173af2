// Stands in for comm/cuda in a build without it (cmake/cuda.cmake).
#include "base/check.h"
#include "comm/device_comms.h"

namespace hylas {

Status on_devices(std::span<RankComms>, std::span<Device* const> devices) {
  HYLAS_CHECK(false, "ranks over the memory of {} in a program without CUDA", devices.front()->name());
}

}  // namespace hylas
