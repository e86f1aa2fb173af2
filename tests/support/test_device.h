#pragma once
#include <cstdlib>
#include <string>

namespace hylas::test {

// Where models run in tests: "cpu", or what the environment variable HYLAS_TEST_DEVICE says ("cuda").
inline std::string test_device() {
  const char* name = std::getenv("HYLAS_TEST_DEVICE");
  return name ? name : "cpu";
}

}  // namespace hylas::test
