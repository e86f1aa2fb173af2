#pragma once
// Comm: one rank's handle on one group of ranks. The only way in which ranks exchange data inside an instance;
// implementations: local (threads of one process), ucx (processes and nodes), nccl (GPUs).
//
// Every collective is entered by all ranks of the group in the same order (the plan's). A handle belongs to its rank
// thread. Buffers may be reused when a call returns. A peer that is gone ends the instance: no error is left to handle.
#include <cstdint>
#include <memory>
#include <span>

#include "tensor/tensor.h"

namespace hylas {

struct PeerPartials;  // tensor/cuda/peers.h

class Comm {
 public:
  virtual ~Comm() = default;
  virtual int32_t rank() const = 0;  // within the group
  virtual int32_t size() const = 0;

  // Sums partial products: each rank brings `partials` [S, T, N] f32, S slices of the size() * S in all, in rank order.
  // out [T, N] f32 gets the balanced binary tree over all slices, ((0 + 1) + (2 + 3)) for four: the order of
  // Ops::add_rms_norm, so that one rank with four slices and four ranks with one add alike. `out` may be partials'
  // first slice.
  virtual void all_reduce_slices(const Tensor& partials, const Tensor& out) = 0;
  // What all_reduce_slices took here since the start, waiting for the other ranks included. Not counted on a GPU that
  // ranks share.
  virtual int64_t sums_us() const = 0;

  // For few partial sums on devices that reach each other's memory: what an operator adds them from by itself
  // (Ops::add_rms_norm_over), instead of all_reduce_slices. Valid until the next call. Null: not here, or not for so
  // many; every rank gets the same answer.
  virtual const PeerPartials* show_partials(const Tensor& partials) { return static_cast<void>(partials), nullptr; }

  // For many partial sums on devices that reach each other's memory: residual [T, N] f32|bf16, the same at every rank,
  // += what all_reduce_slices gives, in place, so that what goes back over the link is no f32. partials [S, T, N] f32,
  // whose first slice may be overwritten, or with S = 1 bf16. Only of ranks that add so for some number of elements.
  virtual void add_onto(const Tensor& partials, const Tensor& residual) {
    static_cast<void>(partials), static_cast<void>(residual);
    HYLAS_CHECK(false, "these ranks add nothing onto rows");
  }
  // Whether so many elements of `partials` are many; every rank gets the same answer. show_partials() shows fewer.
  virtual bool adds_onto(int64_t elements) const { return static_cast<void>(elements), false; }

  // out = the ranks' rows one after another; rank r brings row_counts[r] rows (may be 0).   in [rows, ...], contiguous
  virtual void all_gather_rows(const Tensor& in, std::span<const int32_t> row_counts, const Tensor& out) = 0;

  // out [T, N * size()] = the ranks' columns side by side.                       in [T, N]
  virtual void all_gather_columns(const Tensor& in, const Tensor& out) = 0;

  // Rank r gets send_rows[r] consecutive rows of `in`; `out` gets recv_rows[r] rows from each r, in rank order. Counts
  // may be 0 and must agree pairwise.                                            in, out [rows, ...], contiguous
  virtual void all_to_all_rows(const Tensor& in, std::span<const int32_t> send_rows, const Tensor& out,
                               std::span<const int32_t> recv_rows) = 0;
};

}  // namespace hylas
