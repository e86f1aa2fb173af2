# src/<floor>/cuda: .cu files hold plain kernels behind plain signatures, without the flags and libraries of the host code;
# the .cc files beside them see the runtime's headers. Everything else is compiled as in a build without CUDA.
if(NOT HYLAS_CUDA)
  return()
endif()
file(GLOB cuda_kernels CONFIGURE_DEPENDS src/*/cuda/*.cu)
list(FILTER cuda_kernels EXCLUDE REGEX "/flashinfer_[a-z0-9]*\\.cu$")
add_library(hylas_cuda_kernels STATIC ${cuda_kernels})
target_include_directories(hylas_cuda_kernels PRIVATE src)
target_compile_options(hylas_cuda_kernels PRIVATE --expt-relaxed-constexpr)
set_target_properties(hylas_cuda_kernels PROPERTIES CUDA_STANDARD 20 CUDA_STANDARD_REQUIRED ON)
# Only these see DeepGEMM and CUTLASS.
file(GLOB deep_gemm_kernels CONFIGURE_DEPENDS src/*/cuda/deep_gemm*.cu)
set_source_files_properties(${deep_gemm_kernels} PROPERTIES
  INCLUDE_DIRECTORIES "${HYLAS_DEPS}/deep_gemm" COMPILE_OPTIONS "--expt-extended-lambda;-diag-suppress=177,20011,20012")
# FlashInfer's kernels: each release in a library of its own, as their headers have the same names; one at a time, as the
# compiler takes 6 GB for one of them.
set_property(GLOBAL APPEND PROPERTY JOB_POOLS heavy=1)
function(hylas_flashinfer name source)
  add_library(${name} OBJECT ${source})
  target_include_directories(${name} PRIVATE src ${ARGN})
  target_compile_options(${name} PRIVATE
    --expt-relaxed-constexpr --expt-extended-lambda -diag-suppress=177,1444,2908,20011,20012)
  set_target_properties(${name} PROPERTIES CUDA_STANDARD 20 CUDA_STANDARD_REQUIRED ON JOB_POOL_COMPILE heavy)
  target_sources(hylas_cuda_kernels PRIVATE $<TARGET_OBJECTS:${name}>)
endfunction()
hylas_flashinfer(hylas_flashinfer_gdn src/ops/cuda/flashinfer_gdn.cu
  "${HYLAS_DEPS}/flashinfer_gdn/include" "${HYLAS_DEPS}/flashinfer_gdn/cutlass/include")
# It needs a newer CCCL than CUDA 13.0 has: its own goes first.
hylas_flashinfer(hylas_flashinfer_fa3 src/ops/cuda/flashinfer_fa3.cu
  "${HYLAS_DEPS}/flashinfer/cccl/cub" "${HYLAS_DEPS}/flashinfer/cccl/libcudacxx/include"
  "${HYLAS_DEPS}/flashinfer/cccl/thrust" "${HYLAS_DEPS}/flashinfer/include" "${HYLAS_DEPS}/flashinfer/cutlass/include"
  "${HYLAS_DEPS}/flashinfer/cutlass/tools/util/include")
file(GLOB cuda_hosts CONFIGURE_DEPENDS src/*/cuda/*.cc)
set_source_files_properties(${cuda_hosts} PROPERTIES INCLUDE_DIRECTORIES "${CUDAToolkit_INCLUDE_DIRS}")
# The libraries' names only: their headers are not for everybody.
target_link_libraries(hylas_tensor INTERFACE $<LINK_ONLY:hylas_cuda_kernels> $<LINK_ONLY:CUDA::cudart_static>)
target_link_libraries(hylas_ops INTERFACE $<LINK_ONLY:CUDA::cublasLt>)
target_link_libraries(hylas_cuda_kernels INTERFACE $<LINK_ONLY:hylas_tensor> $<LINK_ONLY:CUDA::cudart_static>)
