// One token of each row through conv_silu, delta_rule and gated_rms_norm, bit for bit as conv.cu, delta_decode.cu and
// norm.cu have it: the same sums in the same order, rounded to bf16 at the same places. A block has one value head of
// one row. Its first warps make q, k, v and the gates; then all share the keys of the state, which lies in registers as
// it is stored, read before the kernel's inputs are there and written once.
//
// The value heads of a key head each make its q and k for themselves: 256 channels are less work than an exchange. But
// their window in the pool is moved on in place (state_read may be state_write), so it may be written only once all
// have read it: these blocks are a cluster, whose barrier they pass after their reads and long before the write of the
// first of them.
#include <type_traits>

#include "ops/cuda/delta_inputs.cuh"
#include "ops/cuda/delta_mixer.h"
#include "tensor/cuda/launch_clusters.cuh"

namespace hylas::cuda {
namespace mixer {
namespace {

constexpr int kClusterMax = 8;

// The barrier of a cluster in two halves. Nothing that was written is handed over; and what was read has come, since
// shared memory holds what was made of it. So the first half needs no fence, which would wait for the block's stores.
__device__ __forceinline__ void cluster_arrive() {
  asm volatile("barrier.cluster.arrive.relaxed.aligned;" ::: "memory");
}
__device__ __forceinline__ void cluster_wait() { asm volatile("barrier.cluster.wait.acquire.aligned;" ::: "memory"); }

__device__ __forceinline__ float2 widen_two(__half2 two) { return __half22float2(two); }
__device__ __forceinline__ float2 widen_two(__nv_bfloat162 two) { return __bfloat1622float2(two); }
__device__ __forceinline__ __half2 narrow_two(float x, float y, F16) {
  const __half2 two = __floats2half2_rn(x, y), most = __float2half2_rn(65504.f);  // NaN stays
  return __hmin2_nan(__hmax2_nan(two, __hneg2(most)), most);
}
__device__ __forceinline__ __nv_bfloat162 narrow_two(float x, float y, Bf16) { return __floats2bfloat162_rn(x, y); }

// V neighbouring elements of the state as they are stored.
template <class S, int V>
struct Raw {
  static constexpr int kWords = V * static_cast<int>(sizeof(S)) / 4;
  using Two = std::conditional_t<std::is_same_v<S, F16>, __half2, __nv_bfloat162>;
  uint32_t word[kWords];

  __device__ __forceinline__ void read(const S* from) {
    const auto pack = *reinterpret_cast<const Pack<uint32_t, kWords>*>(from);
#pragma unroll
    for (int i = 0; i < kWords; ++i) word[i] = pack.value[i];
  }
  // Makes the compiler forget these values' f32, which would take twice their registers until the second use: `zero`
  // is one that it cannot know.
  __device__ __forceinline__ void keep(uint32_t zero) {
    if constexpr (sizeof(S) < 4) {
#pragma unroll
      for (uint32_t& w : word) asm volatile("xor.b32 %0, %0, %1;" : "+r"(w) : "r"(zero));
    }
  }
  __device__ __forceinline__ void widen(float (&to)[V]) const {
#pragma unroll
    for (int i = 0; i < kWords; ++i) {
      if constexpr (sizeof(S) == 4) {
        to[i] = __uint_as_float(word[i]);
      } else {
        const float2 two = widen_two(*reinterpret_cast<const Two*>(&word[i]));
        to[2 * i] = two.x;
        to[2 * i + 1] = two.y;
      }
    }
  }
  // from_f32 of two at a time.
  static __device__ __forceinline__ void write(S* to, const float (&from)[V]) {
    Pack<uint32_t, kWords> pack;
#pragma unroll
    for (int i = 0; i < kWords; ++i) {
      if constexpr (sizeof(S) == 4) {
        pack.value[i] = __float_as_uint(from[i]);
      } else {
        const Two two = narrow_two(from[2 * i], from[2 * i + 1], S{});
        pack.value[i] = *reinterpret_cast<const uint32_t*>(&two);
      }
    }
    *reinterpret_cast<Pack<uint32_t, kWords>*>(to) = pack;
  }
};

// This thread's part of the state's first use: sums over the keys of its group, of V columns each.
template <class S, int V>
__device__ __forceinline__ void recall(const Raw<S, V> (&state)[kHeld], const float (&key)[kKeyRow], float (&old)[V]) {
#pragma unroll
  for (int i = 0; i < kHeld; i += 4) {
    float k[4];
    load<4>(key + i, k);
#pragma unroll
    for (int n = 0; n < 4; ++n) {
      float was[V];
      state[i + n].widen(was);
#pragma unroll
      for (int c = 0; c < V; ++c) old[c] = fmaf(k[n], was[c], old[c]);
    }
  }
}

// And of the second: the state decays, takes `written` under its key and is read under the query.
template <class S, int V>
__device__ __forceinline__ void renew(const Raw<S, V> (&state)[kHeld], const float (&key)[kKeyRow],
                                      const float (&query)[kKeyRow], float decay, const float (&written)[V], S* to,
                                      float (&result)[V]) {
#pragma unroll
  for (int i = 0; i < kHeld; i += 4) {
    float k[4], q[4];
    load<4>(key + i, k);
    load<4>(query + i, q);
#pragma unroll
    for (int n = 0; n < 4; ++n) {
      float now[V];
      state[i + n].widen(now);
#pragma unroll
      for (int c = 0; c < V; ++c) {
        now[c] = fmaf(k[n], written[c], decay * now[c]);
        result[c] = fmaf(q[n], now[c], result[c]);
      }
      Raw<S, V>::write(to + (i + n) * kGroups * kDim, now);
    }
  }
}

template <int V>
constexpr int kThreads = kGroups * kDim / V;
// Blocks of a multiprocessor: as many as the registers allow.
template <class S, int V>
constexpr int kBlocks = sizeof(S) == 2 ? (V == 2 ? 3 : 4) : (V == 2 ? 2 : 3);

// Blocks are ordered [row][value head]; the `sharing` heads of a key head are a cluster. V: columns of a thread, which
// do not change a column's arithmetic.
template <class S, int V>
__global__ void __launch_bounds__(kThreads<V>, kBlocks<S, V>) delta_mixer_kernel(DeltaMixerArgs args, int sharing) {
  __shared__ Shared shared;
  const DeltaArgs& delta = args.delta;
  const int head = blockIdx.x, row = blockIdx.y, warp = threadIdx.x / 32;
  const int group = threadIdx.x / (kDim / V), column = threadIdx.x % (kDim / V) * V;
  // Nothing of this is written by the kernel before this one: that makes u, z, a and b. All of it is asked for
  // before anything is waited for: a block's time is mostly that until its state is there.
  const int read = delta.batch.state_read[row], write = delta.batch.state_write[row];
  const int64_t t = row;  // each row has one token
  const FirstWarp first = {.role = warp, .head = head, .key_head = head / sharing};
  first.read(args, read, shared.ahead);
  const int64_t at = (static_cast<int64_t>(head) * kDim + group) * kDim + column;
  const S* from = static_cast<const S*>(delta.pool) + read * delta.slot_stride + at;
  Raw<S, V> state[kHeld] = {};
#pragma unroll
  for (int i = 0; i < kHeld; ++i) {
    if (read >= 0) state[i].read(from + i * kGroups * kDim);
  }
  follow();
  if (write < 0) return copies_ahead_done();  // the whole cluster
  first.make(args, t, shared);
  __syncthreads();
  cluster_arrive();
  float old[V] = {}, result[V] = {};
  recall<S, V>(state, shared.key[group], old);
  uint32_t zero;
  asm volatile("shr.s32 %0, %1, 31;" : "=r"(zero) : "r"(write));
  for (Raw<S, V>& words : state) words.keep(zero);
  store<V>(&shared.sums[group][column], old);
  __syncthreads();
  const float decay = shared.decay, beta = shared.beta;
#pragma unroll
  for (int c = 0; c < V; ++c) {
    const int i = column + c;
    const float was = (shared.sums[0][i] + shared.sums[1][i]) + (shared.sums[2][i] + shared.sums[3][i]);
    old[c] = beta * (shared.value[i] - decay * was);  // what is written
  }
  S* to = static_cast<S*>(delta.pool) + write * delta.slot_stride + at;
  renew<S, V>(state, shared.key[group], shared.query[group], decay, old, to, result);
  store<V>(&shared.ahead.results[group][column], result);
  __syncthreads();
  if (warp == kGates) {
    put_gated(shared, args, t, static_cast<int64_t>(head) * kDim);
  }
  cluster_wait();
  // The channels of v are this block's alone.
  const bool writes = warp == kValue || first.key_head * sharing == head;
  if (writes && warp <= kValue) Window(shared.ahead, warp).write(args.conv, write, first.channel(args));
}

template <class S, int V>
void launch(const DeltaMixerArgs& args, Stream stream) {
  const DeltaArgs& delta = args.delta;
  const dim3 grid(static_cast<unsigned>(delta.value_heads), static_cast<unsigned>(delta.batch.rows));
  const int sharing = delta.value_heads / delta.key_heads;
  launch_following_clusters(delta_mixer_kernel<S, V>, grid, kThreads<V>, sharing, stream, "delta_mixer", args, sharing);
}

}  // namespace
}  // namespace mixer

void delta_mixer_decode(const DeltaMixerArgs& args, Stream stream) {
  if (args.delta.batch.rows == 0) return;
  // Two columns a thread, so that a head has eight warps, until there are four blocks for every multiprocessor.
  constexpr int kBlocksWanted = 528;
  const bool many = args.delta.value_heads * args.delta.batch.rows >= kBlocksWanted;
  with_state_type(args.delta.pool_dtype, [&]<class S>(S) {
    if (many) {
      mixer::launch<S, 4>(args, stream);
    } else {
      mixer::launch<S, 2>(args, stream);
    }
  });
}

bool delta_mixer_takes(const DeltaMixerArgs& args) {
  const DeltaArgs& delta = args.delta;
  const auto at = [](const void* data, uintptr_t unit) { return reinterpret_cast<uintptr_t>(data) % unit == 0; };
  const auto rows_at_8 = [&](const View& v) { return v.stride % 4 == 0 && at(v.data, 8); };
  // A head's bias and rate are read with their neighbours, if in bf16.
  const bool heads = delta.value_heads % 2 == 0 && delta.value_heads / delta.key_heads <= mixer::kClusterMax &&
                     delta.a.dtype == DType::kF32 && delta.b.dtype == DType::kF32 && at(delta.dt_bias, 4) &&
                     at(delta.a_log, 4);
  return delta.batch.decode_rows == delta.batch.rows && args.conv.u.dtype == DType::kBF16 &&
         delta.key_dim == mixer::kDim && delta.value_dim == mixer::kDim && heads && delta.slot_stride % 4 == 0 &&
         at(delta.pool, 16) && args.conv.slot_stride % 4 == 0 && at(args.conv.pool, 8) && at(args.conv.weight, 16) &&
         at(args.norm, 8) && rows_at_8(args.conv.u) && rows_at_8(args.z) && rows_at_8(delta.out);
}

}  // namespace hylas::cuda
