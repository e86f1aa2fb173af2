#include "support/sequence_runner.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "model/manifest.h"
#include "ops/cuda_ops.h"
#include "weights/checkpoint_source.h"
#include "weights/dummy_source.h"

namespace hylas::test {

std::vector<float> to_f32(const Tensor& tensor) {
  std::vector<float> values;
  values.reserve(tensor.elements());
  for (int64_t i = 0; i < tensor.dim(0); ++i) {
    for (int64_t j = 0; j < tensor.row_elements(); ++j) {
      const int64_t at = i * tensor.row_stride + j;
      switch (tensor.dtype) {
        case DType::kF32:
          values.push_back(tensor.as<float>()[at]);
          break;
        case DType::kBF16:
          values.push_back(bf16_to_f32(tensor.as<uint16_t>()[at]));
          break;
        case DType::kF16:
          values.push_back(f16_to_f32(tensor.as<uint16_t>()[at]));
          break;
        case DType::kF8E4M3:
          values.push_back(f8e4m3_to_f32(tensor.as<uint8_t>()[at]));
          break;
        default:
          HYLAS_CHECK(false, "not a float tensor");
      }
    }
  }
  return values;
}

int32_t argmax(const float* values, int64_t count) {
  return static_cast<int32_t>(std::max_element(values, values + count) - values);
}

double max_abs_diff(const float* a, const float* b, int64_t count) {
  double worst = 0;
  for (int64_t i = 0; i < count; ++i) {
    const double d = std::fabs(static_cast<double>(a[i]) - b[i]);
    if (!(d <= worst)) worst = d;  // NaN counts as the worst
  }
  return worst;
}

SequenceRunner::SequenceRunner(const std::string& dir, const RunnerOptions& options) : options_(options) {
  config_ = parse_model_config(dir).value();
  std::shared_ptr<const Checkpoint> checkpoint = Checkpoint::open(dir).value();
  build(std::make_unique<CheckpointSource>(std::move(checkpoint)));
}

SequenceRunner::SequenceRunner(const ModelConfig& config, const RunnerOptions& options)
    : options_(options), config_(config) {
  build(std::make_unique<DummySource>(manifest(config)));
}

void SequenceRunner::build(std::unique_ptr<WeightSource> source) {
  source_ = std::move(source);
  const bool fp8 = options_.fp8_tensor_cores;
  const CudaOpsOptions cuda{.workspace_bytes = size_t{128} << 20,
                            .fp8 = {.linear = fp8, .experts = fp8, .expert_rows_min = 0}};
  ops_ = options_.device == "cuda" ? make_cuda_ops(cuda).value() : make_cpu_ops({.threads = options_.threads}).value();
  if (options_.device == "cuda") source_->place_on(ops_->device(), fp8);
  const DecoderOptions decoder{.act = options_.act,
                               .kv = options_.kv,
                               .state = options_.state,
                               .with_mtp = options_.with_mtp,
                               .page_size = options_.page_size};
  decoder_ = std::move(Decoder::make(config_, decoder, *source_, *ops_, comms_)).value();
  const int64_t pages = options_.tokens_max / options_.page_size + 2;
  pools_ = StatePools::make(ops_->device(), state_layout(config_, decoder), pages, options_.page_size, 2).value();
  memory_ = Buffer::make(ops_->device(), decoder_->arena_bytes(options_.tokens_max, options_.tokens_max)).value();
  arena_ = Arena(memory_.data(), memory_.bytes());
}

void SequenceRunner::reset() { length_ = 0; }

Batch SequenceRunner::make_batch(const std::vector<int32_t>& ids, int32_t begin, bool decode) {
  const auto tokens = static_cast<int32_t>(ids.size());
  const int32_t end = begin + tokens;
  const int32_t page_count = (end + options_.page_size - 1) / options_.page_size;
  std::vector<int32_t> positions(tokens), pages(page_count);
  std::iota(positions.begin(), positions.end(), begin);
  // Pages out of order, the first ones unused: a kernel that ignores the table is found out.
  const auto last = static_cast<int32_t>(pools_.pages()) - 1;
  for (int32_t j = 0; j < page_count; ++j) pages[j] = last - j;
  return Batch{.tokens = tokens,
               .rows = 1,
               .decode_rows = decode ? 1 : 0,
               .page_size = options_.page_size,
               .token_ids = ints(kIds, ids, {tokens}),
               .positions = ints(kPositions, positions, {1, tokens}),
               .row_begin = ints(kRowBegin, {0, tokens}, {2}),
               .kv_len = ints(kKvLen, {end}, {1}),
               .page_table = ints(kPages, pages, {1, page_count}),
               .state_read = ints(kRead, {begin == 0 ? -1 : 1}, {1}),
               .state_write = ints(kWrite, {1}, {1})};
}

Tensor SequenceRunner::ints(Slot at, const std::vector<int32_t>& values, std::initializer_list<int64_t> dims) {
  const size_t bytes = values.size() * sizeof(int32_t);
  if (ints_[at].bytes() < bytes) ints_[at] = Buffer::make(ops_->device(), 2 * bytes).value();
  ops_->device().copy_from_host(ints_[at].data(), values.data(), bytes);
  return Tensor(ints_[at].data(), DType::kI32, dims);
}

std::vector<float> SequenceRunner::read(const Tensor& tensor) const {
  const size_t bytes = ((tensor.dim(0) - 1) * tensor.row_stride + tensor.row_elements()) * dtype_bytes(tensor.dtype);
  std::vector<std::byte> host(bytes);
  ops_->device().copy_to_host(host.data(), tensor.data, bytes);
  Tensor copy = tensor;
  copy.data = host.data();
  return to_f32(copy);
}

void SequenceRunner::write(const Rows& rows, const Tensor& to) {
  HYLAS_CHECK(to.dtype == DType::kF32, "rows are in f32");
  ops_->device().copy_from_host(to.data, rows.values.data(), rows.values.size() * sizeof(float));
}

Rows SequenceRunner::run(const std::vector<int32_t>& ids, bool decode) {
  const Batch batch = make_batch(ids, length_, decode);
  arena_.reset();
  const Tensor hidden = decoder_->embed(batch, arena_);
  decoder_->forward(batch, pools_, hidden, arena_);
  std::vector<int32_t> index(ids.size());
  std::iota(index.begin(), index.end(), 0);
  const Tensor normed = decoder_->final_norm(hidden, ints(kIndex, index, {batch.tokens}), arena_);
  normed_ = Rows{config_.hidden_size, read(normed)};
  const Tensor logits = decoder_->logits(normed, arena_);
  length_ += batch.tokens;
  return Rows{config_.vocab_size, read(logits)};
}

Rows SequenceRunner::prefill(const std::vector<int32_t>& ids) { return run(ids, false); }

Rows SequenceRunner::prefill_chunks(const std::vector<int32_t>& ids, int32_t chunk) {
  Rows all{config_.vocab_size, {}};
  Rows normed{config_.hidden_size, {}};
  for (size_t begin = 0; begin < ids.size(); begin += chunk) {
    const size_t end = std::min(ids.size(), begin + chunk);
    const Rows part = prefill({ids.begin() + static_cast<int64_t>(begin), ids.begin() + static_cast<int64_t>(end)});
    all.values.insert(all.values.end(), part.values.begin(), part.values.end());
    normed.values.insert(normed.values.end(), normed_.values.begin(), normed_.values.end());
  }
  normed_ = std::move(normed);
  return all;
}

Rows SequenceRunner::decode(int32_t id) { return run({id}, true); }

std::vector<int32_t> SequenceRunner::greedy(const float* last_logits, int32_t count) {
  std::vector<int32_t> ids = {argmax(last_logits, config_.vocab_size)};
  while (static_cast<int32_t>(ids.size()) < count) {
    ids.push_back(argmax(decode(ids.back()).values.data(), config_.vocab_size));
  }
  return ids;
}

Rows SequenceRunner::mtp(const Rows& hidden, const std::vector<int32_t>& next_ids, int32_t begin) {
  const Batch batch = make_batch(next_ids, begin, false);
  arena_.reset();
  const Tensor normed = arena_.allocate(options_.act, {batch.tokens, config_.hidden_size});
  write(hidden, normed);
  const Tensor out = decoder_->mtp_forward(batch, pools_, normed, batch.token_ids, arena_);
  return Rows{config_.hidden_size, read(out)};
}

Rows SequenceRunner::logits_of(const Rows& normed) {
  arena_.reset();
  const Tensor rows = arena_.allocate(options_.act, {normed.size(), config_.hidden_size});
  write(normed, rows);
  return Rows{config_.vocab_size, read(decoder_->logits(rows, arena_))};
}

std::vector<float> SequenceRunner::kv(int32_t layer, int segment, const std::string& kind_name) const {
  const StateKind* kind = pools_.layout().find(kind_name);
  const std::vector<float> pool = read(pools_.pages_of(*kind, layer, segment));
  const int64_t heads = config_.kv_heads, dim = config_.head_dim, page = options_.page_size;
  std::vector<float> out;
  for (int64_t head = 0; head < heads; ++head) {
    for (int64_t t = 0; t < length_; ++t) {
      const int64_t id = pools_.pages() - 1 - t / page;
      const float* from = pool.data() + ((id * heads + head) * page + t % page) * dim;
      out.insert(out.end(), from, from + dim);
    }
  }
  return out;
}

std::vector<float> SequenceRunner::state(const std::string& kind_name, int32_t layer) const {
  const StateKind* kind = pools_.layout().find(kind_name);
  return read(pools_.slots_of(*kind, layer).rows(1, 1));
}

}  // namespace hylas::test
