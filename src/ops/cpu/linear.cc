#include "ops/cpu/linear.h"

#include <algorithm>
#include <array>

namespace hylas::cpu {
namespace {

constexpr size_t kMatricesMax = 16;
// Weight bytes of one piece of work: enough to hide its hand-out, little enough that the last pieces end together, and
// that they stay in the second-level cache when many rows read them.
constexpr int64_t kPieceBytes = 128 << 10;
// Rows that are worth their weights: a narrow matrix on many threads is cut into no fewer.
constexpr int64_t kRowBlock = 63;
constexpr int64_t kOutputsMax = 256;  // of a piece
// Packing fewer elements than this is quicker than waking the workers.
constexpr int64_t kPackInline = 32 << 10;

// One matrix of a call and its pieces: `outputs` outputs x `rows` rows each.
struct Job {
  Product product;
  PackedRows x;
  int64_t outputs_total = 0;
  int64_t outputs = 0;
  int64_t rows = 0;
  int64_t output_pieces = 0;
  int64_t pieces = 0;
};

int64_t steps_of(const SliceTable& slices, WeightFormat format, int lanes) {
  int64_t steps = 0;
  for (int s = 0; s < slices.count; ++s) steps += slices.steps(s, format_phases(format), lanes);
  return steps;
}

void* offset(const Product& product, int64_t elements) {
  return static_cast<std::byte*>(product.out) + elements * (product.out_bf16 ? 2 : 4);
}

void plan_pieces(Job& job, int threads) {
  int64_t rows = job.x.rows;
  job.rows = rows;
  job.outputs = std::min(piece_outputs(job.product, rows, kPieceBytes), kOutputsMax);
  job.output_pieces = (job.outputs_total + job.outputs - 1) / job.outputs;
  while (job.rows > kRowBlock && job.output_pieces * ((rows - 1) / job.rows + 1) < 4 * threads) {
    job.rows = (job.rows / 2 + kRowTile - 1) / kRowTile * kRowTile;
  }
  while (rows % job.rows == 1) job.rows += kRowTile;  // a last row is packed with the one before it
  job.pieces = job.output_pieces * ((rows + job.rows - 1) / job.rows);
}

void run_piece(const GemmScratch& scratch, const Job& job, int64_t piece, GrowBuffer<float>& memory) {
  int64_t begin = piece % job.output_pieces * job.outputs;
  int64_t row = piece / job.output_pieces * job.rows;
  PackedRows x = job.x;
  x.data += row * x.steps * scratch.kernels->lanes;
  x.rows = std::min(job.rows, job.x.rows - row);
  Product product = job.product;
  product.out = offset(product, row * product.row_stride);
  float* floats =
      memory.take(static_cast<size_t>(multiply_scratch(product, x.rows, job.outputs, scratch.kernels->lanes)));
  scratch.kernels->multiply(product, x, begin, std::min(begin + job.outputs, job.outputs_total), floats);
}

// Rows [begin, begin + rows) of x, packed for `format` unless an earlier matrix of the call had it done.
PackedRows pack_rows(ThreadPool& pool, GemmScratch& scratch, const RowSource& source, int64_t rows,
                     const SliceTable& slices, WeightFormat format, bool& done) {
  int lanes = scratch.kernels->lanes;
  PackedRows packed;
  packed.rows = rows;
  packed.steps = steps_of(slices, format, lanes);
  GrowBuffer<float>& memory = scratch.packed[static_cast<int>(format)];
  packed.data = memory.take(static_cast<size_t>(rows * packed.steps * lanes));
  if (done) return packed;
  done = true;
  auto body = [&](int64_t begin, int64_t end, int) {
    scratch.kernels->pack(source, format, slices, packed, begin, end);
  };
  if (rows * packed.steps * lanes <= kPackInline) {
    body(0, rows, 0);
  } else {
    pool.parallel_for(rows, kRowTile, body);
  }
  return packed;
}

// All matrices over one block of tokens in one parallel region.
void run_jobs(ThreadPool& pool, GemmScratch& scratch, std::span<Job> jobs) {
  int64_t pieces = 0;
  for (const Job& job : jobs) pieces += job.pieces;
  pool.parallel_items(pieces, [&](int64_t item, int thread) {
    size_t job = 0;
    for (; item >= jobs[job].pieces; ++job) item -= jobs[job].pieces;
    run_piece(scratch, jobs[job], item, scratch.threads[static_cast<size_t>(thread)].multiply);
  });
}

struct Output {
  const LinearWeight* weight;
  Product product;
};

void multiply_all(ThreadPool& pool, GemmScratch& scratch, const Tensor& x, std::span<const Output> outputs) {
  HYLAS_CHECK(x.rank == 2 && (x.dtype == DType::kF32 || x.dtype == DType::kBF16), "x is [T, K] f32 or bf16");
  std::array<Job, kMatricesMax> jobs;
  for (int64_t begin = 0; begin < x.dim(0); begin += kTokenBlock) {
    Tensor rows = x.rows(begin, std::min(kTokenBlock, x.dim(0) - begin));
    RowSource source{rows.data, rows.row_stride, rows.dtype == DType::kBF16, nullptr};
    bool packed[3] = {};
    for (size_t i = 0; i < outputs.size(); ++i) {
      const Tensor& matrix = outputs[i].weight->weight;
      HYLAS_CHECK(matrix.dim(1) == x.dim(1), "x has {} columns, the weight {}", x.dim(1), matrix.dim(1));
      Job& job = jobs[i];
      job.product = outputs[i].product;
      job.product.out = offset(job.product, begin * job.product.row_stride);
      WeightFormat format = job.product.format;
      job.x =
          pack_rows(pool, scratch, source, rows.dim(0), job.product.slices, format, packed[static_cast<int>(format)]);
      job.outputs_total = matrix.dim(0);
      plan_pieces(job, pool.size());
    }
    run_jobs(pool, scratch, std::span(jobs).first(outputs.size()));
  }
}

}  // namespace

void linear(ThreadPool& pool, GemmScratch& scratch, const Tensor& x, std::span<const LinearWeight> weights,
            std::span<const Tensor> outs) {
  HYLAS_CHECK(weights.size() == outs.size() && weights.size() <= kMatricesMax, "{} weights, {} outs", weights.size(),
              outs.size());
  std::array<Output, kMatricesMax> outputs;
  for (size_t i = 0; i < weights.size(); ++i) {
    const Tensor& out = outs[i];
    HYLAS_CHECK(out.dim(0) == x.dim(0) && out.dim(1) == weights[i].weight.dim(0),
                "out [{}, {}] for x [{}, ..], weight "
                "[{}, ..]",
                out.dim(0), out.dim(1), x.dim(0), weights[i].weight.dim(0));
    HYLAS_CHECK(out.dtype == DType::kF32 || out.dtype == DType::kBF16, "out is {}", dtype_name(out.dtype));
    outputs[i].weight = &weights[i];
    outputs[i].product = make_product(weights[i], 1);
    outputs[i].product.out = out.data;
    outputs[i].product.out_bf16 = out.dtype == DType::kBF16;
    outputs[i].product.row_stride = out.row_stride;
  }
  multiply_all(pool, scratch, x, std::span(outputs).first(weights.size()));
}

void linear_partial(ThreadPool& pool, GemmScratch& scratch, const Tensor& x, const LinearWeight& weight,
                    const Tensor& partials) {
  HYLAS_CHECK(partials.rank == 3 && partials.dtype == DType::kF32 && partials.dim(1) == x.dim(0) &&
                  partials.dim(2) == weight.weight.dim(0),
              "partials [{}, {}, {}] for x [{}, ..], weight [{}, ..]", partials.dim(0), partials.dim(1),
              partials.dim(2), x.dim(0), weight.weight.dim(0));
  Output output{&weight, make_product(weight, static_cast<int>(partials.dim(0)))};
  output.product.out = partials.data;
  output.product.row_stride = partials.dim(2);
  output.product.slice_stride = partials.row_stride;
  multiply_all(pool, scratch, x, {&output, 1});
}

}  // namespace hylas::cpu
