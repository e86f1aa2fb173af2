#include "engine/batch_build.h"

#include <algorithm>
#include <utility>

#include "base/check.h"

namespace hylas {
namespace {

constexpr int64_t kAlignment = 64 / sizeof(int32_t);

int64_t aligned(int64_t size) { return (size + kAlignment - 1) / kAlignment * kAlignment; }

}  // namespace

Result<BatchBuilder> BatchBuilder::make(Device& device, const BatchLimits& limits) {
  BatchBuilder builder;
  builder.device_ = &device;
  builder.limits_ = limits;
  const int64_t rows = limits.rows_max;
  const int64_t pages_max = (limits.context_length + limits.page_size - 1) / limits.page_size;
  const int64_t size = 2 * aligned(limits.tokens_max) + 4 * aligned(rows + 1) + aligned(rows * pages_max);
  HYLAS_ASSIGN(builder.buffer_, Buffer::make(device, size * sizeof(int32_t)));
  builder.staging_.resize(size);
  return builder;
}

BatchBuilder::Piece BatchBuilder::take(int64_t size) {
  const int64_t begin = std::exchange(used_, used_ + aligned(size));
  HYLAS_CHECK(used_ <= static_cast<int64_t>(staging_.size()), "a step larger than the limits");
  return {staging_.data() + begin, static_cast<int32_t*>(buffer_.data()) + begin};
}

int32_t BatchBuilder::pages_of(const PlanRow& row) const {
  const int32_t pages = (row.begin + row.length + limits_.page_size - 1) / limits_.page_size;
  HYLAS_CHECK(pages <= static_cast<int32_t>(row.pages.size()), "{} pages for {} positions", row.pages.size(),
              row.begin + row.length);
  return pages;
}

Batch BatchBuilder::build(std::span<const PlanRow> rows, std::span<const int32_t> last_tokens,
                          const StepShape& shape) {
  Batch batch;
  const auto own = static_cast<int32_t>(rows.size());
  batch.page_size = limits_.page_size;
  int32_t width = shape.pages;
  for (const PlanRow& row : rows) {
    HYLAS_CHECK(row.kind == RowKind::kPrefill || (row.length == 1 && batch.decode_rows == batch.tokens),
                "decode rows come first and have one token");
    batch.decode_rows += row.kind == RowKind::kDecode;
    batch.tokens += row.length;
    width = std::max(width, pages_of(row));
  }
  const int32_t padded = std::max(shape.rows - own, 0);
  HYLAS_CHECK(padded == 0 || batch.decode_rows == own, "prefill rows are not padded");
  batch.rows = own + padded;
  batch.tokens += padded;
  batch.decode_rows += padded;
  HYLAS_CHECK(batch.rows <= limits_.rows_max && batch.tokens <= limits_.tokens_max, "{} rows, {} tokens", batch.rows,
              batch.tokens);
  used_ = 0;
  const Piece ids = take(batch.tokens), positions = take(batch.tokens), row_begin = take(batch.rows + 1);
  const Piece kv_len = take(batch.rows), state_read = take(batch.rows), state_write = take(batch.rows);
  const Piece pages = take(int64_t{batch.rows} * width);
  std::fill_n(pages.host, int64_t{batch.rows} * width, -1);
  int32_t token = 0;
  for (int32_t i = 0; i < own; ++i) {
    const PlanRow& row = rows[i];
    row_begin.host[i] = token;
    kv_len.host[i] = row.begin + row.length;
    state_read.host[i] = row.state_read;
    state_write.host[i] = row.state_write;
    std::copy_n(row.pages.begin(), pages_of(row), pages.host + int64_t{i} * width);
    for (int32_t j = 0; j < row.length; ++j, ++token) {
      ids.host[token] = row.tokens.empty() ? last_tokens[row.sequence] : row.tokens[j];
      positions.host[token] = row.begin + j;
    }
  }
  for (int32_t i = own; i < batch.rows; ++i, ++token) {
    row_begin.host[i] = token;
    kv_len.host[i] = 1;
    state_read.host[i] = state_write.host[i] = -1;
    ids.host[token] = positions.host[token] = 0;
  }
  row_begin.host[batch.rows] = token;
  device_->copy_from_host(buffer_.data(), staging_.data(), used_ * sizeof(int32_t));

  batch.token_ids = Tensor(ids.device, DType::kI32, {batch.tokens});
  batch.positions = Tensor(positions.device, DType::kI32, {1, batch.tokens});
  batch.row_begin = Tensor(row_begin.device, DType::kI32, {batch.rows + 1});
  batch.kv_len = Tensor(kv_len.device, DType::kI32, {batch.rows});
  batch.page_table = Tensor(pages.device, DType::kI32, {batch.rows, width});
  batch.state_read = Tensor(state_read.device, DType::kI32, {batch.rows});
  batch.state_write = Tensor(state_write.device, DType::kI32, {batch.rows});
  return batch;
}

}  // namespace hylas
