#include <cstdio>

#include "app/commands.h"

namespace hylas {

int exit_code(ErrorCode code) {
  switch (code) {
    case ErrorCode::kInvalid:
      return 2;
    case ErrorCode::kUnsupported:
      return 3;
    case ErrorCode::kNotFound:
    case ErrorCode::kExhausted:
    case ErrorCode::kIo:
    case ErrorCode::kUnavailable:
    case ErrorCode::kCancelled:
      return 1;
  }
  return 1;
}

int fail(const Error& error) {
  fmt::print(stderr, "hylas: {}\n", error.message);
  return exit_code(error.code);
}

}  // namespace hylas
