#include "engine/graph_rig.h"

#include <bit>
#include <functional>
#include <thread>

#include "comm/device_comms.h"
#include "engine/configuration.h"
#include "model/manifest.h"
#include "ops/cuda_ops.h"
#include "support/local_dispatch.h"
#include "support/test_device.h"
#include "weights/dummy_source.h"

namespace hylas::test {
namespace {

constexpr int32_t kPages = 20;

bool on_gpu() { return test_device() == "cuda"; }

void on_every(size_t count, const std::function<void(size_t)>& body) {
  std::vector<std::jthread> threads;
  for (size_t i = 1; i < count; ++i) threads.emplace_back(body, i);
  body(0);
}

}  // namespace

bool rig_shares_gpu(const ParallelSizes& sizes) { return on_gpu() && cuda_device_count() < sizes.world(); }

GraphRig::GraphRig(const std::string& model_path, const std::vector<int32_t>& graph_rows, const ParallelSizes& sizes,
                   const RigOptions& rig)
    : groups_(sizes.dp) {
  HYLAS_CHECK(graph_rows.empty() || !rig_shares_gpu(sizes));
  EngineOptions options;
  options.model_path = model_path;
  options.device = test_device();
  options.parallel = sizes;
  options.enable_dp_attention = sizes.dp > 1;
  options.max_running_requests = kRigSequences * sizes.dp;
  options.context_length = 512;
  options.ep_dispatch_tokens = kRigDispatchTokens;
  const ModelConfig model = parse_model_config(model_path).value();
  const EngineConfiguration chosen = configure(options, model, {}).value();
  const auto count = static_cast<size_t>(sizes.world());
  if (on_gpu() && count > 1) cuda_load_all_kernels();
  std::vector<std::unique_ptr<Ops>> ops;
  std::vector<Device*> devices;
  for (size_t i = 0; i < count; ++i) {
    const int gpu = on_gpu() ? static_cast<int>(i) % cuda_device_count() : 0;
    ops.push_back(on_gpu() ? make_cuda_ops({.device = gpu, .fp8 = {.experts = rig.fp8_experts}}).value()
                           : make_cpu_ops({.threads = 2}).value());
    devices.push_back(&ops.back()->device());
  }
  std::vector<RankComms> comms = make_local_comms_of_ranks(sizes);
  if (on_gpu() && count > 1) HYLAS_CHECK(on_devices(comms, devices).ok());
  for (size_t i = 0; i < count && rig.dispatches && !on_gpu(); ++i) {
    if (comms[i].ep) comms[i].experts = std::make_unique<LocalDispatch>(*comms[i].ep, *ops[i]);
  }
  ranks_.resize(count);
  on_every(count, [&](size_t i) {
    auto source = std::make_unique<DummySource>(manifest(model));
    if (on_gpu()) source->place_on(ops[i]->device(), rig.fp8_experts);
    ranks_[i] = Rank::load({chosen.model, chosen.decoder_of(static_cast<int32_t>(i)), chosen.limits,
                            chosen.vocab_tokens, graph_rows},
                           std::move(ops[i]), std::move(source), std::move(comms[i]))
                    .value();
    HYLAS_CHECK(ranks_[i]->allocate(kPages, kRigSequences).ok());
  });
  on_every(count, [&](size_t i) { ranks_[i]->record_graphs(); });
}

PlanRow GraphRig::row_of(SequenceIndex sequence, int32_t tokens) const {
  PlanRow row;
  row.sequence = sequence;
  row.group = sequence % groups_;
  row.length = tokens;
  for (int32_t i = 0; i < kPages / kRigSequences; ++i) row.pages.push_back(i * kRigSequences + sequence);
  row.state_write = sequence;
  row.sample = true;
  return row;
}

void GraphRig::prefill(const std::vector<std::pair<SequenceIndex, int32_t>>& prompts) {
  StepPlan plan;
  for (const auto& [sequence, tokens] : prompts) {
    SequenceStart start;
    start.sequence = sequence;
    start.sampling.seed = sequence;
    start.sampling.temperature = sequence % 2 ? 0.8f : 0.f;
    start.sampling.top_logprobs = 2;
    plan.starts.push_back(start);
    PlanRow row = row_of(sequence, tokens);
    for (int32_t i = 0; i < tokens; ++i) row.tokens.push_back((i * 37 + sequence * 11) % 97);
    plan.rows.push_back(row);
    lengths_[sequence] = tokens;
  }
  execute(plan);
}

void GraphRig::decode(const std::vector<SequenceIndex>& sequences) {
  StepPlan plan;
  for (SequenceIndex sequence : sequences) {
    PlanRow row = row_of(sequence, 1);
    row.kind = RowKind::kDecode;
    row.begin = lengths_[sequence]++;
    row.state_read = sequence;
    row.step = row.begin;
    plan.rows.push_back(row);
  }
  execute(plan);
}

void GraphRig::execute(StepPlan& plan) {
  plan.id = ++plans_;
  std::vector<StepResult> results(ranks_.size());
  on_every(ranks_.size(), [&](size_t i) { results[i] = ranks_[i]->execute_and_settle(plan); });
  for (const StepResult& result : results) {
    for (const RowResult& row : result.rows) {
      std::vector<uint32_t>& words = said[row.sequence];
      words.push_back(static_cast<uint32_t>(row.sampled.token));
      words.push_back(std::bit_cast<uint32_t>(row.sampled.logprob));
      for (const TokenLogprob& top : row.sampled.top) words.push_back(std::bit_cast<uint32_t>(top.logprob));
    }
  }
}

}  // namespace hylas::test
