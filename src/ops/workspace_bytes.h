#pragma once
// What a piece of a GPU's workspace (ops/cuda/workspace.h) takes of it: for whoever plans its size, without a GPU.
#include <cstddef>

namespace hylas {

constexpr size_t kWorkspaceUnit = 256;
constexpr size_t workspace_piece(size_t bytes) {
  return (bytes + kWorkspaceUnit - 1) / kWorkspaceUnit * kWorkspaceUnit;
}

}  // namespace hylas
