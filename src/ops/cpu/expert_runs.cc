#include "ops/cpu/expert_runs.h"

#include <algorithm>

namespace hylas::cpu {
namespace {

// Outputs of one piece of work for few rows and for many.
constexpr int64_t kPieceFew = 64;
constexpr int64_t kPieceMany = 128;

int64_t width(const ExpertRun& run) { return run.gate->weight.dim(0); }

int64_t held_experts(const ExpertCall& call) {
  return call.experts != nullptr ? static_cast<int64_t>(call.experts->gate.size()) : 0;
}

// Sorts the block's (token, expert) pairs by expert; returns their number.
int64_t sort_pairs(const ExpertCall& call) {
  int64_t held = held_experts(call);
  int32_t* begin = call.scratch.expert_rows.take(static_cast<size_t>(held + 1));
  int32_t* pair_token = call.scratch.pair_token.take(static_cast<size_t>(call.tokens() * call.choices()));
  int32_t* pair_of = call.scratch.pair_of.take(static_cast<size_t>(call.tokens() * call.choices()));
  auto local = [&](int64_t t, int64_t j) -> int64_t {
    int64_t expert = call.ids.row<int32_t>(t)[j] - call.experts->expert_begin;
    return expert >= 0 && expert < held ? expert : -1;
  };
  std::fill_n(begin, held + 1, 0);
  for (int64_t t = 0; t < call.tokens(); ++t) {
    for (int64_t j = 0; j < call.choices(); ++j) {
      if (int64_t expert = local(t, j); expert >= 0) ++begin[expert + 1];
    }
  }
  for (int64_t e = 0; e < held; ++e) begin[e + 1] += begin[e];
  int64_t pairs = begin[held];
  // Filling from the back moves each expert's end to its begin.
  for (int64_t t = call.tokens() - 1; t >= 0; --t) {
    for (int64_t j = call.choices() - 1; j >= 0; --j) {
      int64_t expert = local(t, j);
      int32_t pair = expert < 0 ? -1 : --begin[expert + 1];
      pair_of[t * call.choices() + j] = pair;
      if (pair >= 0) pair_token[pair] = static_cast<int32_t>(t);
    }
  }
  return pairs;
}

// After sort_pairs, expert e's rows begin at expert_rows[e + 1] and end where the next expert's begin.
void plan_runs(const ExpertCall& call, int64_t pairs) {
  std::vector<ExpertRun>& runs = call.scratch.runs;
  runs.clear();
  const int32_t* begin = call.scratch.expert_rows.take(0) + 1;
  const int32_t* pair_token = call.scratch.pair_token.take(0);
  int64_t held = held_experts(call);
  for (int64_t e = 0; e < held; ++e) {
    int64_t rows = (e + 1 < held ? begin[e + 1] : pairs) - begin[e];
    if (rows == 0) continue;
    size_t i = static_cast<size_t>(e);
    runs.push_back({&call.experts->gate[i],
                    &call.experts->up[i],
                    &call.experts->down[i],
                    pair_token + begin[e],
                    rows,
                    begin[e],
                    0,
                    {},
                    0});
  }
  if (call.shared != nullptr) {
    runs.push_back({&call.shared->gate, &call.shared->up, &call.shared->down, nullptr, call.tokens(), pairs, 0, {}, 0});
  }
  int64_t hidden = 0;
  int64_t packed = 0;
  for (ExpertRun& run : runs) {
    Product down = make_product(*run.down, static_cast<int>(call.slices));
    run.packed.rows = run.rows;
    for (int s = 0; s < down.slices.count; ++s) {
      run.packed.steps += down.slices.steps(s, format_phases(down.format), call.lanes());
    }
    run.hidden_begin = hidden;
    run.packed_begin = packed;
    hidden += run.rows * width(run);
    packed += run.rows * run.packed.steps * call.lanes();
  }
  call.scratch.hidden.take(static_cast<size_t>(call.bf16() ? (hidden + 1) / 2 : hidden));
  float* memory = call.scratch.packed.take(static_cast<size_t>(packed));
  for (ExpertRun& run : runs) run.packed.data = memory + run.packed_begin;
}

// Number of pieces of a run and the run of a piece; `piece` becomes the index within the run.
template <class Pieces>
int64_t count_pieces(const ExpertCall& call, Pieces&& pieces) {
  int64_t count = 0;
  for (const ExpertRun& run : call.scratch.runs) count += pieces(run);
  return count;
}
template <class Pieces>
const ExpertRun& find_run(const ExpertCall& call, Pieces&& pieces, int64_t& piece) {
  size_t i = 0;
  for (int64_t n; piece >= (n = pieces(call.scratch.runs[i])); ++i) piece -= n;
  return call.scratch.runs[i];
}

std::byte* hidden_at(const ExpertCall& call, const ExpertRun& run, int64_t row, int64_t column) {
  int64_t element = run.hidden_begin + row * width(run) + column;
  return reinterpret_cast<std::byte*>(call.scratch.hidden.take(0)) + element * (call.bf16() ? 2 : 4);
}

// products[i] = rows of x times outputs [begin, end) of the weight.
void project(const ExpertCall& call, const LinearWeight& weight, const RowSource& source, int64_t rows, int64_t begin,
             int64_t end, GemmScratch::PerThread& memory, bool packed, float* products) {
  Product product = make_product(weight, 1);
  product.out = products;
  product.row_stride = end - begin;
  product.first_output = begin;
  PackedRows x;
  x.rows = rows;
  x.steps = product.slices.steps(0, format_phases(product.format), call.lanes());
  x.data = memory.packed.take(static_cast<size_t>(rows * x.steps * call.lanes()));
  if (!packed) call.gemm.kernels->pack(source, product.format, product.slices, x, 0, rows);
  float* floats = memory.multiply.take(static_cast<size_t>(multiply_scratch(product, rows, end - begin, call.lanes())));
  call.gemm.kernels->multiply(product, x, begin, end, floats);
}

// hidden = silu(gate x) * up x for columns [begin, end) of one run, as linear and silu_mul would give it.
void run_hidden(const ExpertCall& call, const ExpertRun& run, int64_t begin, int64_t end,
                GemmScratch::PerThread& memory) {
  int64_t columns = end - begin;
  float* gate = memory.results.take(static_cast<size_t>(2 * kRowBlock * columns));
  float* up = gate + kRowBlock * columns;
  bool same_format = run.gate->weight.dtype == run.up->weight.dtype;
  for (int64_t row = 0; row < run.rows; row += kRowBlock) {
    int64_t rows = std::min(kRowBlock, run.rows - row);
    Tensor x = run.tokens ? call.x : call.x.rows(row, rows);
    RowSource source{x.data, x.row_stride, call.bf16(), run.tokens ? run.tokens + row : nullptr};
    project(call, *run.gate, source, rows, begin, end, memory, false, gate);
    project(call, *run.up, source, rows, begin, end, memory, same_format, up);
    for (int64_t r = 0; r < rows; ++r) {
      call.gemm.kernels->silu_mul(gate + r * columns, up + r * columns, columns, call.bf16(),
                                  hidden_at(call, run, row + r, begin));
    }
  }
}

void hidden_rows(const ExpertCall& call) {
  auto piece_outputs = [](const ExpertRun& run) { return run.rows <= kRowsFew ? kPieceFew : kPieceMany; };
  auto pieces = [&](const ExpertRun& run) { return (width(run) + piece_outputs(run) - 1) / piece_outputs(run); };
  call.pool.parallel_items(count_pieces(call, pieces), [&](int64_t piece, int thread) {
    const ExpertRun& run = find_run(call, pieces, piece);
    int64_t begin = piece * piece_outputs(run);
    int64_t end = std::min(begin + piece_outputs(run), width(run));
    run_hidden(call, run, begin, end, call.gemm.threads[static_cast<size_t>(thread)]);
  });
}

void pack_hidden(const ExpertCall& call) {
  auto pieces = [](const ExpertRun& run) { return (run.rows + kRowBlock - 1) / kRowBlock; };
  auto body = [&](int64_t piece, int) {
    const ExpertRun& run = find_run(call, pieces, piece);
    Product down = make_product(*run.down, static_cast<int>(call.slices));
    RowSource source{hidden_at(call, run, 0, 0), width(run), call.bf16(), nullptr};
    int64_t begin = piece * kRowBlock;
    call.gemm.kernels->pack(source, down.format, down.slices, run.packed, begin, std::min(begin + kRowBlock, run.rows));
  };
  int64_t count = count_pieces(call, pieces);
  if (call.tokens() > kRowsFew) return call.pool.parallel_items(count, body);
  for (int64_t piece = 0; piece < count; ++piece) body(piece, 0);
}

}  // namespace

int64_t prepare_runs(const ExpertCall& call) {
  int64_t pairs = sort_pairs(call);
  plan_runs(call, pairs);
  hidden_rows(call);
  pack_hidden(call);
  return pairs;
}

const float* down_products(const ExpertCall& call, int64_t pairs, int64_t begin, int64_t end,
                           GemmScratch::PerThread& memory) {
  int64_t columns = end - begin;
  int64_t all_rows = pairs + (call.shared != nullptr ? call.tokens() : 0);
  float* products = memory.results.take(static_cast<size_t>(all_rows * call.slices * columns));
  for (const ExpertRun& run : call.scratch.runs) {
    Product down = make_product(*run.down, static_cast<int>(call.slices));
    down.out = products + run.pair_begin * call.slices * columns;
    down.row_stride = call.slices * columns;
    down.slice_stride = columns;
    down.first_output = begin;
    float* floats = memory.multiply.take(static_cast<size_t>(multiply_scratch(down, run.rows, columns, call.lanes())));
    call.gemm.kernels->multiply(down, run.packed, begin, end, floats);
  }
  return products;
}

}  // namespace hylas::cpu
