#include "ops/cuda/graphs.h"

#include "tensor/cuda/cuda_error.h"

namespace hylas::cuda {

Graphs::~Graphs() {
  for (const auto& [key, graph] : graphs_) cudaGraphExecDestroy(graph);
}

void Graphs::replay(uint64_t key, const std::function<void()>& body) {
  if (const auto found = graphs_.find(key); found != graphs_.end()) {
    return check(cudaGraphLaunch(found->second, device_.stream()), "a graph's launch");
  }
  body();
  graphs_[key] = record(body);
}

cudaGraphExec_t Graphs::record(const std::function<void()>& body) {
  const cudaStream_t stream = device_.stream();
  cudaGraph_t graph = nullptr;
  cudaGraphExec_t made = nullptr;
  device_.set_recording(true);
  check(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal), "a graph's begin");
  body();
  check(cudaStreamEndCapture(stream, &graph), "a graph's end");
  device_.set_recording(false);
  check(cudaGraphInstantiate(&made, graph, 0), "a graph's instantiation");
  check(cudaGraphDestroy(graph), "cudaGraphDestroy");
  check(cudaGraphUpload(made, stream), "a graph's upload");
  return made;
}

}  // namespace hylas::cuda
