# Libraries from the system's packages and from .deps (xgrammar). Each becomes one interface target, hylas_<name>.
find_package(Boost 1.81 REQUIRED COMPONENTS json)
add_library(hylas_boost INTERFACE)
target_link_libraries(hylas_boost INTERFACE Boost::headers Boost::json)

find_package(PkgConfig REQUIRED)
pkg_check_modules(UTF8PROC REQUIRED IMPORTED_TARGET libutf8proc)
add_library(hylas_utf8proc INTERFACE)
target_link_libraries(hylas_utf8proc INTERFACE PkgConfig::UTF8PROC)

add_library(hylas_cli11 INTERFACE)
find_package(CLI11 REQUIRED)
target_link_libraries(hylas_cli11 INTERFACE CLI11::CLI11)

add_library(hylas_xgrammar INTERFACE)
if(EXISTS "${HYLAS_DEPS}/lib/libxgrammar.a")
  target_include_directories(hylas_xgrammar SYSTEM INTERFACE "${HYLAS_DEPS}/include")
  target_link_libraries(hylas_xgrammar INTERFACE "${HYLAS_DEPS}/lib/libxgrammar.a")
endif()

add_library(hylas_prometheus INTERFACE)
find_package(prometheus-cpp CONFIG REQUIRED)
target_link_libraries(hylas_prometheus INTERFACE prometheus-cpp::core)

# HMAC for control messages.
pkg_check_modules(CRYPTO REQUIRED IMPORTED_TARGET libcrypto)
add_library(hylas_crypto INTERFACE)
target_link_libraries(hylas_crypto INTERFACE PkgConfig::CRYPTO)

pkg_check_modules(XXHASH REQUIRED IMPORTED_TARGET libxxhash)
add_library(hylas_xxhash INTERFACE)
target_link_libraries(hylas_xxhash INTERFACE PkgConfig::XXHASH)

pkg_check_modules(UCX REQUIRED IMPORTED_TARGET ucx)
add_library(hylas_ucx INTERFACE)
target_link_libraries(hylas_ucx INTERFACE PkgConfig::UCX)
