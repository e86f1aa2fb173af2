#include "base/check.h"
#include "comm/channel.h"
#include "comm/pipe.h"

namespace hylas {
namespace {

class LocalPipe final : public Pipe {
 public:
  LocalPipe(std::shared_ptr<std::vector<Channel>> channels, int32_t stage, int32_t stages)
      : channels_(std::move(channels)), stage_(stage), stages_(stages) {}

  void send(const Tensor& tensor, int32_t to_stage) override {
    HYLAS_CHECK(tensor.contiguous());
    (*channels_)[stage_ * stages_ + to_stage].push(tensor.data, tensor.bytes());
  }
  void recv(const Tensor& tensor, int32_t from_stage) override {
    HYLAS_CHECK(tensor.contiguous());
    (*channels_)[from_stage * stages_ + stage_].pop(tensor.data, tensor.bytes());
  }

 private:
  std::shared_ptr<std::vector<Channel>> channels_;  // [from * stages + to]
  int32_t stage_;
  int32_t stages_;
};

}  // namespace

std::vector<std::unique_ptr<Pipe>> make_local_pipes(int32_t stages) {
  auto channels = std::make_shared<std::vector<Channel>>(stages * stages);
  std::vector<std::unique_ptr<Pipe>> pipes;
  for (int32_t stage = 0; stage < stages; ++stage) {
    pipes.push_back(std::make_unique<LocalPipe>(channels, stage, stages));
  }
  return pipes;
}

}  // namespace hylas
