// Stands in for comm/cuda in a build without it (cmake/cuda.cmake).
#include "base/check.h"
#include "comm/device_comms.h"

namespace hylas {

RankComms on_device(RankComms, Device& device) {
  HYLAS_CHECK(false, "ranks over the memory of {} in a program without CUDA", device.name());
}

}  // namespace hylas
