#include "engine/layout_workload.h"

#include <bit>
#include <random>

#include "engine/client.h"
#include "support/test_device.h"

namespace hylas::test {
namespace {

Request workload_request(int index, int32_t vocab) {
  std::mt19937_64 random(index);
  Request request;
  const int32_t lengths[] = {70, 64, 1, 33, 90, 200, 129, 17};
  const int32_t length = lengths[index % 8];
  for (int32_t i = 0; i < length; ++i) request.prompt.push_back(static_cast<int32_t>(random() % vocab));
  request.sampling.max_new_tokens = 40 + 7 * (index % 3);
  request.sampling.temperature = index % 2 ? 0.9f : 0.f;
  request.sampling.repetition_penalty = index % 3 ? 1.f : 1.2f;
  request.sampling.ignore_eos = true;
  request.sampling.seed = 1000 + index;
  request.sampling.top_logprobs = 3;
  if (index == 5) request.sampling.prompt_logprobs_from = 0;
  return request;
}

Said take(const Answer& answer) {
  Said said;
  const auto add = [&](const std::vector<OutputToken>& tokens) {
    for (const OutputToken& token : tokens) {
      said.tokens.push_back(token.id);
      said.logprob_bits.push_back(std::bit_cast<uint32_t>(token.logprob));
      for (const auto& top : token.top) {
        said.tokens.push_back(top.token);
        said.logprob_bits.push_back(std::bit_cast<uint32_t>(top.logprob));
      }
    }
  };
  add(answer.prompt_logprobs);
  add(answer.outputs);
  return said;
}

constexpr int kRequests = 10;

std::vector<RequestId> send_all(Client& client, Engine& engine, std::optional<Bootstrap> bootstrap) {
  std::vector<RequestId> ids;
  for (int i = 0; i < kRequests; ++i) {
    Request request = workload_request(i, engine.info().vocab_size);
    request.bootstrap = bootstrap;
    if (bootstrap) ++bootstrap->room;
    ids.push_back(client.send(request));
  }
  return ids;
}

}  // namespace

EngineOptions layout_options(const std::string& path, const std::string& dtype, const ParallelSizes& sizes) {
  EngineOptions options;
  options.model_path = path;
  options.device = test_device();
  options.ranks_share_gpu = true;
  // Of the kernels on a GPU only ours give a group's ranks the bits of one rank.
  options.fp8_gemm_backend = options.moe_runner_backend = "hylas";
  options.linear_attn_backend = options.prefill_attention_backend = "hylas";
  options.load_format = "dummy";
  options.dtype = dtype;
  options.parallel = sizes;
  options.enable_dp_attention = sizes.dp > 1;
  options.threads = sizes.world() == 1 ? 2 : sizes.world();
  options.context_length = 512;
  options.chunked_prefill_size = 64 * sizes.dp;
  // So few pages that sequences are retracted, in one group as in two.
  options.max_running_requests = 4 * sizes.dp;
  options.page_size = 4;
  options.max_total_tokens = 300;
  return options;
}

LayoutOutcome run_layout_workload(Engine& engine, const std::optional<Bootstrap>& first) {
  Client client(engine);
  const std::vector<RequestId> ids = send_all(client, engine, first);
  for (int cancelled : {3, 6}) {
    client.wait_for_tokens(ids[cancelled], 5);
    engine.abort(ids[cancelled]);
  }
  LayoutOutcome outcome;
  for (int i = 0; i < kRequests; ++i) {
    const Answer answer = client.wait(ids[i]);
    HYLAS_CHECK(answer.finish != FinishReason::kError, "request {}: {}", i, answer.error);
    if (i != 3 && i != 6) outcome.said[i] = take(answer);
  }
  engine.drain(10'000'000);
  const EngineStats stats = engine.stats();
  HYLAS_CHECK(stats.pages_used == 0 && stats.slots_used == 0, "{} pages and {} slots are still in use",
              stats.pages_used, stats.slots_used);
  outcome.retractions = stats.retractions_total;
  return outcome;
}

void prefill_layout_workload(Engine& engine, const Bootstrap& first) {
  Client client(engine);
  for (RequestId id : send_all(client, engine, first)) {
    const Answer answer = client.wait(id);
    HYLAS_CHECK(answer.finish == FinishReason::kLength || answer.finish == FinishReason::kStop, "{}", answer.error);
  }
  HYLAS_CHECK(nothing_in_use(engine));
}

namespace {

// How many failed.
int ask_all(Engine& engine, const Bootstrap& first) {
  Client client(engine);
  int failed = 0;
  for (RequestId id : send_all(client, engine, first)) {
    const Answer answer = client.wait(id);
    HYLAS_CHECK(answer.finish != FinishReason::kError || answer.may_retry, "{}", answer.error);
    failed += answer.finish == FinishReason::kError || answer.finish == FinishReason::kAbort;
  }
  return failed;
}

void ask_again_after_a_cut(Engine& engine, Bootstrap first, bool must_fail) {
  const int failed = ask_all(engine, first);
  HYLAS_CHECK(!must_fail || failed > 0, "the cut hurt nobody");
  first.room += kRequests;
  HYLAS_CHECK(ask_all(engine, first) == 0);
  HYLAS_CHECK(nothing_in_use(engine));
}

}  // namespace

void prefill_again_after_a_cut(Engine& engine, const Bootstrap& first) { ask_again_after_a_cut(engine, first, false); }
void decode_again_after_a_cut(Engine& engine, const Bootstrap& first) { ask_again_after_a_cut(engine, first, true); }

}  // namespace hylas::test
