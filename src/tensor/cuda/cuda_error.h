#pragma once
// A failed CUDA call ends the process with one line that names the operation, the device and the step's rank: nothing
// that ran on the device since the last synchronisation can be trusted, and no caller can repair it.
#include <cuda_runtime_api.h>

namespace hylas::cuda {

// Aborts when `status` is an error; `what` names the operator or the call. Cheap when all is well.
void check(cudaError_t status, const char* what);

// After a kernel launch: wrong launch parameters show at once, faults of the kernel at the next synchronisation.
inline void check_launch(const char* what) { check(cudaGetLastError(), what); }

}  // namespace hylas::cuda
