// Many rows: partial sums of ranks added onto the residual where it is kept, then normed, have the bits of the sum over
// the ranks and add_rms_norm behind it. Ranks with a GPU each where there are enough, else over shared ones.
#include <gtest/gtest.h>

#include <barrier>

#include "cuda/device_ranks.h"

namespace hylas::test {
namespace {

constexpr float kEps = 1e-6f;

struct AddShape {
  int32_t ranks = 2;
  int64_t rows = 0, columns = 0, slices = 1;
  DType type = DType::kF32, act = DType::kBF16;  // of partial sums, of rows
};

std::ostream& operator<<(std::ostream& out, const AddShape& s) {
  return out << s.ranks << " ranks, " << s.rows << " x " << s.columns << ", " << s.slices << " slices of "
             << dtype_name(s.type) << " onto " << dtype_name(s.act);
}

HostTensor in_f32(const HostTensor& from) {
  const Tensor& x = from.view;
  HostTensor wide = poisoned(DType::kF32, {x.dim(0), x.dim(1), x.dim(2)});
  for (int64_t r = 0; r < x.dim(0); ++r) {
    for (int64_t i = 0; i < x.row_elements(); ++i) wide.view.row<float>(r)[i] = static_cast<float>(get(x, r, i));
  }
  return wide;
}

// Rows of a rank and their norm in every form that there is, poisoned but for the residual.
struct NormedRows {
  NormedRows(Device& device, const HostTensor& residual)
      : host(residual),
        x(device, residual),
        out(device, poisoned(residual.view.dtype, {residual.view.dim(0), residual.view.dim(1)})),
        fp8(device, poisoned(DType::kF8E4M3, {residual.view.dim(0), residual.view.dim(1)})),
        scales(device, poisoned(DType::kF32, {residual.view.dim(1) / kFp8Block, (residual.view.dim(0) + 3) / 4 * 4})) {}
  ActRows in(RowForm form) const {
    ActRows all(out.view);
    if (host.view.dtype == DType::kBF16 && host.view.dim(1) % kFp8Block == 0) {
      all.fp8 = fp8.view, all.scales = scales.view;
    }
    return all.in(form);
  }
  HostTensor host;
  Local x, out, fp8, scales;
};

void expect_same(const NormedRows& got, const NormedRows& wanted, const AddShape& shape, const char* what) {
  EXPECT_EQ(got.x.bytes(), wanted.x.bytes()) << what << ": the residual of " << shape;
  EXPECT_EQ(got.out.bytes(), wanted.out.bytes()) << what << ": values of " << shape;
  EXPECT_EQ(got.fp8.bytes(), wanted.fp8.bytes()) << what << ": e4m3 of " << shape;
  EXPECT_EQ(got.scales.bytes(), wanted.scales.bytes()) << what << ": scales of " << shape;
}

// `partials` are overwritten.
void sum_then_norm(Ops& ops, Comm& comm, const Tensor& partials, const NormedRows& rows, const Tensor& weight,
                   const ActRows& out) {
  const Tensor first = partials.rows(0, 1);
  comm.all_reduce_slices(partials, first.reshaped({partials.dim(1), partials.dim(2)}));
  ops.add_rms_norm(first, rows.x.view, weight, kEps, out);
}

void run_shape(const AddShape& s) {
  std::mt19937 random(static_cast<uint32_t>(s.rows * 131 + s.columns * 7 + s.slices + s.ranks));
  const HostTensor residual = random_tensor(random, s.act, {s.rows, s.columns}, 1.f);
  const HostTensor weight = random_tensor(random, DType::kBF16, {s.columns}, 1.f);
  std::vector<HostTensor> partials;
  for (int32_t r = 0; r < s.ranks; ++r) {
    partials.push_back(random_tensor(random, s.type, {s.slices, s.rows, s.columns}, 1.f));
  }
  const std::vector<std::unique_ptr<Ops>> ops = make_ranks(s.ranks);
  const std::vector<RankComms> handles = groups_on_devices(ops);
  std::barrier done(s.ranks);
  on_every_rank(s.ranks, [&](int32_t r) {
    Device& device = ops[r]->device();
    Comm& comm = *handles[r].stage;
    const HostTensor wide = in_f32(partials[r]);
    const Local w(device, weight);
    Local mine(device, partials[r]), summed(device, wide);
    for (const RowForm form : {RowForm::kValues, RowForm::kFp8, RowForm::kBoth}) {
      NormedRows got(device, residual), wanted(device, residual), ended(device, residual);
      for (int turn = 0; turn < 3; ++turn) {  // onto what the turn before left, and its sums where they lay
        mine.set(partials[r]);
        comm.add_onto(mine.view, got.x.view);
        ops[r]->rms_norm(got.x.view, w.view, kEps, got.in(form));
        summed.set(wide);
        sum_then_norm(*ops[r], comm, summed.view, wanted, w.view, wanted.in(form));
        summed.set(wide);
        sum_then_norm(*ops[r], comm, summed.view, ended, Tensor(), ActRows());  // as the last layer of a stage
      }
      expect_same(got, wanted, s, "before a norm");
      EXPECT_EQ(got.x.bytes(), ended.x.bytes()) << "no norm: the residual of " << s;
    }
    done.arrive_and_wait();
  });
}

TEST(DeviceAdd, OntoRowsHasTheBitsOfTheSumAndItsNorm) {
  for (const int64_t rows : {1, 3, 65, 4097}) {
    run_shape({.rows = rows, .columns = 2048});
    run_shape({.rows = rows, .columns = 1024, .type = DType::kBF16});
  }
  run_shape({.rows = 300, .columns = 4096, .slices = 2});
  run_shape({.rows = 65, .columns = 256, .slices = 4});
  run_shape({.rows = 65, .columns = 256, .act = DType::kF32});
  run_shape({.rows = 65, .columns = 256, .type = DType::kBF16, .act = DType::kF32});
}

// Nothing comes in eights.
TEST(DeviceAdd, RowsOfAnyLength) {
  for (const DType type : {DType::kF32, DType::kBF16}) {
    for (const DType act : {DType::kBF16, DType::kF32}) {
      run_shape({.rows = 5, .columns = 37, .type = type, .act = act});
      run_shape({.rows = 1, .columns = 1, .type = type, .act = act});
    }
  }
  run_shape({.rows = 3, .columns = 44, .slices = 2});
}

TEST(DeviceAdd, OverMoreRanks) {
  for (const int32_t ranks : {4, 8, 16}) {
    run_shape({.ranks = ranks, .rows = 67, .columns = 128});
    run_shape({.ranks = ranks, .rows = 67, .columns = 128, .type = DType::kBF16});
    run_shape({.ranks = ranks, .rows = 3, .columns = 12, .slices = 2});
  }
}

// One form for every number of elements, the same at all ranks.
TEST(DeviceAdd, ManyAreThoseThatAreNotShown) {
  constexpr int kRanks = 2;
  const std::vector<std::unique_ptr<Ops>> ops = make_ranks(kRanks);
  const std::vector<RankComms> handles = groups_on_devices(ops);
  const bool shared = cuda_device_count() < kRanks;
  on_every_rank(kRanks, [&](int32_t r) {
    Comm& comm = *handles[r].stage;
    EXPECT_FALSE(comm.adds_onto(0));
    for (const int64_t rows : {1, 256, 257, 4096}) {
      const Local partials(ops[r]->device(), poisoned(DType::kF32, {1, rows, 2048}));
      const bool adds = comm.adds_onto(partials.view.elements());
      EXPECT_EQ(adds, shared || rows > 256) << rows << " rows";
      EXPECT_EQ(comm.show_partials(partials.view) != nullptr, !adds) << rows << " rows";
    }
  });
}

// Recorded once, replayed with other inputs, between calls that are not recorded.
TEST(DeviceAdd, InAGraphWhereEveryRankHasAGpu) {
  constexpr int kRanks = 2, kTurns = 8;
  if (cuda_device_count() < kRanks) GTEST_SKIP() << "needs two GPUs";
  const AddShape shape{.rows = 300, .columns = 2048};
  std::mt19937 random(31);
  const HostTensor residual = random_tensor(random, shape.act, {shape.rows, shape.columns}, 1.f);
  const HostTensor weight = random_tensor(random, DType::kBF16, {shape.columns}, 1.f);
  const std::vector<std::unique_ptr<Ops>> ops = make_ranks(kRanks);
  const std::vector<RankComms> handles = groups_on_devices(ops);
  std::barrier done(kRanks);
  on_every_rank(kRanks, [&](int32_t r) {
    Device& device = ops[r]->device();
    Comm& comm = *handles[r].stage;
    const auto input = [&](int turn) {
      std::mt19937 own(static_cast<uint32_t>(100 * turn + r));
      return random_tensor(own, DType::kF32, {1, shape.rows, shape.columns}, 1.f);
    };
    const Local w(device, weight);
    Local mine(device, input(0)), summed(device, input(0));
    const NormedRows got(device, residual), wanted(device, residual);
    const auto body = [&] {
      comm.add_onto(mine.view, got.x.view);
      ops[r]->rms_norm(got.x.view, w.view, kEps, got.in(RowForm::kBoth));
    };
    for (int turn = 0; turn < kTurns; ++turn) {
      const HostTensor partials = input(turn);
      mine.set(partials), summed.set(partials);
      if (turn % 3 == 2) {
        body();
      } else {
        ops[r]->replay(1, body);
      }
      sum_then_norm(*ops[r], comm, summed.view, wanted, w.view, wanted.in(RowForm::kBoth));
      expect_same(got, wanted, shape, turn % 3 == 2 ? "not recorded" : "recorded");
      done.arrive_and_wait();
    }
  });
}

}  // namespace
}  // namespace hylas::test
