# Compiler flags shared by every target, ccache and mold where they are installed.
find_program(CCACHE_PROGRAM ccache)
if(CCACHE_PROGRAM)
  set(CMAKE_CXX_COMPILER_LAUNCHER ${CCACHE_PROGRAM})
endif()
find_program(MOLD_PROGRAM mold)

# -O2 compiles quickly; the kernels, where the time goes, ask for -O3 themselves (cmake/floor_dependencies.cmake).
set(CMAKE_CXX_FLAGS_RELEASE "-O2 -DNDEBUG")
set(kernel_optimization -O3)

add_library(hylas_options INTERFACE)
target_compile_options(hylas_options INTERFACE -Wall -Wextra -Wno-missing-field-initializers -fno-math-errno -ffp-contract=off)
# Compiled, not header-only: the difference is three seconds a file.
target_compile_definitions(hylas_options INTERFACE SPDLOG_COMPILED_LIB SPDLOG_FMT_EXTERNAL)
target_link_libraries(hylas_options INTERFACE spdlog fmt)
if(MOLD_PROGRAM)
  target_link_options(hylas_options INTERFACE -fuse-ld=mold)
endif()

# Sanitizers end the program at their first finding, so that a finding is a failed test.
set(sanitizers ${HYLAS_SANITIZE})
if(HYLAS_FUZZ)
  set(sanitizers fuzzer-no-link,address,undefined)
endif()
if(sanitizers)
  set(CMAKE_CXX_FLAGS_RELEASE "-O1 -DNDEBUG")  # compiles faster, and keeps stack traces readable
  set(kernel_optimization -O1)                 # ops/cpu/attention.cc: 12 s of compiling, over 20 s at -O3
  target_compile_options(hylas_options INTERFACE
    -fsanitize=${sanitizers} -fno-sanitize-recover=all -fno-omit-frame-pointer -g1)
  target_link_options(hylas_options INTERFACE -fsanitize=${sanitizers})
endif()
find_package(Threads REQUIRED)
target_link_libraries(hylas_options INTERFACE Threads::Threads)
