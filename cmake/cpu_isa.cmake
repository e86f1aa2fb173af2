# Kernels are compiled once per instruction set, which the file's name tells (src/ops/cpu/isa.h). They are optimised in
# every build type: unoptimised vector code is too slow to test.
file(GLOB isa_scalar CONFIGURE_DEPENDS src/ops/cpu/*_scalar.cc)
file(GLOB isa_avx2 CONFIGURE_DEPENDS src/ops/cpu/*_avx2.cc)
file(GLOB isa_avx512 CONFIGURE_DEPENDS src/ops/cpu/*_avx512.cc)
set(isa_avx2_flags -mavx2 -mfma -mf16c)
# gcc 12 takes the undefined lanes inside its own intrinsics for ours (gcc bug 105593).
set(isa_no_warnings -Wno-uninitialized -Wno-maybe-uninitialized)
set(isa_avx512_flags -mavx512f -mavx512bw -mavx512vl -mavx512dq -mavx2 -mfma -mf16c -mprefer-vector-width=512)
if(NOT CMAKE_SYSTEM_PROCESSOR MATCHES "x86_64|AMD64")
  set(isa_avx2_flags "")
  set(isa_avx512_flags "")
endif()
set_source_files_properties(${isa_scalar} PROPERTIES COMPILE_OPTIONS "${kernel_optimization}")
set_source_files_properties(${isa_avx2} PROPERTIES COMPILE_OPTIONS
  "${kernel_optimization};${isa_no_warnings};${isa_avx2_flags}")
set_source_files_properties(${isa_avx512} PROPERTIES COMPILE_OPTIONS
  "${kernel_optimization};${isa_no_warnings};${isa_avx512_flags}")
