#include "comm/node_pipe.h"

#include <utility>

#include "base/check.h"

namespace hylas {
namespace {

class NodePipe final : public Pipe {
 public:
  NodePipe(const ParallelSizes& sizes, int32_t stage, int32_t tp_rank, std::unique_ptr<Pipe> local, UcxFabric& fabric,
           NodeGone on_gone)
      : stages_per_node_(sizes.pp / sizes.nodes),
        stage_(stage),
        tp_rank_(tp_rank),
        local_(std::move(local)),
        fabric_(fabric),
        on_gone_(std::move(on_gone)) {}

  void send(const Tensor& tensor, int32_t to_stage) override {
    if (is_here(to_stage)) return local_->send(tensor, to_stage % stages_per_node_);
    HYLAS_CHECK(tensor.contiguous());
    fabric_.post(node_of(to_stage), tag(stage_, to_stage), tensor.data, tensor.bytes());
  }
  void recv(const Tensor& tensor, int32_t from_stage) override {
    if (is_here(from_stage)) return local_->recv(tensor, from_stage % stages_per_node_);
    HYLAS_CHECK(tensor.contiguous());
    const int32_t node = node_of(from_stage);
    const Status came = fabric_.recv(node, tag(from_stage, stage_), tensor.data, tensor.bytes());
    if (came.ok()) return;
    on_gone_(node, came.error());
    HYLAS_CHECK(false, "the instance goes on without node {}: {}", node, came.error().message);
  }

  bool is_here(int32_t stage) const override { return node_of(stage) == node_of(stage_); }

 private:
  int32_t node_of(int32_t stage) const { return stage / stages_per_node_; }
  uint64_t tag(int32_t from, int32_t to) const {
    return static_cast<uint64_t>(tp_rank_) << 32 | static_cast<uint64_t>(from) << 16 | static_cast<uint64_t>(to);
  }

  int32_t stages_per_node_;
  int32_t stage_;
  int32_t tp_rank_;
  std::unique_ptr<Pipe> local_;  // among the stages of this node
  UcxFabric& fabric_;
  NodeGone on_gone_;
};

}  // namespace

std::vector<std::unique_ptr<Pipe>> make_node_pipes(const ParallelSizes& sizes, int32_t node, int32_t tp_rank,
                                                   UcxFabric& fabric, const NodeGone& on_gone) {
  HYLAS_CHECK(sizes.pp < 1 << 16 && sizes.tp < 1 << 16, "the tag has 16 bits for each");
  const int32_t stages = sizes.pp / sizes.nodes;
  std::vector<std::unique_ptr<Pipe>> pipes = make_local_pipes(stages);
  for (int32_t i = 0; i < stages; ++i) {
    pipes[i] = std::make_unique<NodePipe>(sizes, node * stages + i, tp_rank, std::move(pipes[i]), fabric, on_gone);
  }
  return pipes;
}

}  // namespace hylas
