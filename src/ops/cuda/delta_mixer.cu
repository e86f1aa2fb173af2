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

#include "ops/cuda/delta_gates.cuh"
#include "ops/cuda/delta_mixer.h"
#include "ops/cuda/quantize.cuh"
#include "tensor/cuda/launch_clusters.cuh"

namespace hylas::cuda {
namespace {

constexpr int kDim = kDeltaDimMax;
constexpr int kGroups = 4;  // of keys: key i * kGroups + g belongs to group g
constexpr int kHeld = kDim / kGroups;
constexpr int kHistory = 3;
constexpr int kClusterMax = 8;
constexpr int kPieces = kDim / 32;  // channels of a lane where a warp has all of a head: lane + 32 j

// Of the first warps.
enum Role { kQuery, kKey, kValue, kGates };

struct Shared {
  alignas(16) float query[kGroups][kHeld];
  alignas(16) float key[kGroups][kHeld];
  alignas(16) float value[kDim];
  alignas(16) float sums[2][kGroups][kDim];
  float decay, beta;
};

// The convolution of a lane's channels before their newest input is there.
struct Window {
  float tap[kPieces][kHistory + 1];
  Bf16 old[kPieces][kHistory];
  float sum[kPieces];  // over the old inputs

  __device__ __forceinline__ void read(const ConvArgs& args, int slot, int channel) {
#pragma unroll
    for (int j = 0; j < kPieces; ++j) {
      const int c = channel + 32 * j;
      const Bf16* from = static_cast<const Bf16*>(args.pool) + slot * args.slot_stride + c * kHistory;
#pragma unroll
      for (int i = 0; i < kHistory; ++i) old[j][i] = slot < 0 ? from_f32<Bf16>(0.f) : from[i];
      if (args.weight_dtype == DType::kF32) {
        load<kHistory + 1>(static_cast<const float*>(args.weight) + c * (kHistory + 1), tap[j]);
      } else {
        load<kHistory + 1>(static_cast<const Bf16*>(args.weight) + c * (kHistory + 1), tap[j]);
      }
    }
  }
  __device__ __forceinline__ void begin() {
#pragma unroll
    for (int j = 0; j < kPieces; ++j) {
      sum[j] = 0.f;
#pragma unroll
      for (int i = 0; i < kHistory; ++i) sum[j] = fmaf(tap[j][i], to_f32(old[j][i]), sum[j]);
    }
  }
  // silu of the whole sum, as bf16 has it.
  __device__ __forceinline__ float convolve(int j, Bf16 u) const {
    return to_f32(from_f32<Bf16>(silu(fmaf(tap[j][kHistory], to_f32(u), sum[j]))));
  }
  __device__ __forceinline__ void write(const ConvArgs& args, int slot, int channel, const Bf16 (&u)[kPieces]) const {
#pragma unroll
    for (int j = 0; j < kPieces; ++j) {
      Bf16* to = static_cast<Bf16*>(args.pool) + slot * args.slot_stride + (channel + 32 * j) * kHistory;
      to[0] = old[j][1];
      to[1] = old[j][2];
      to[2] = u[j];
    }
  }
};

// q or k of a head, l2-normalised, to shared memory; channel `lane` + 32 j comes as x[j].
__device__ __forceinline__ void put_normalised(const float (&x)[kPieces], float factor, float (&to)[kGroups][kHeld]) {
  const int lane = threadIdx.x % 32;
  float sum = 0.f;
#pragma unroll
  for (int j = 0; j < kPieces; ++j) sum += x[j] * x[j];
  const float scale = factor / sqrtf(warp_sum(sum) + 1e-6f);
#pragma unroll
  for (int j = 0; j < kPieces; ++j) to[lane % kGroups][(lane + 32 * j) / kGroups] = x[j] * scale;
}

// The norm over the head's results, which the groups of keys have left as four sums for each: one warp, four
// neighbouring values a lane, as in norm.cu.
__device__ __forceinline__ void put_gated(const float (&sums)[kGroups][kDim], const float (&z)[kPieces],
                                          const float (&weight)[kPieces], const DeltaMixerArgs& args, int64_t t,
                                          int64_t column) {
  const int first = threadIdx.x % 32 * kPieces;
  float x[kPieces], sum = 0.f;
#pragma unroll
  for (int j = 0; j < kPieces; ++j) {
    const int c = first + j;
    x[j] = to_f32(from_f32<Bf16>((sums[0][c] + sums[1][c]) + (sums[2][c] + sums[3][c])));
    sum += x[j] * x[j];
  }
  const float scale = 1.f / sqrtf(warp_sum(sum) / static_cast<float>(kDim) + args.eps);
#pragma unroll
  for (int j = 0; j < kPieces; ++j) x[j] = weight[j] * (x[j] * scale) * silu(z[j]);
  if (args.has_values) {
    const View& out = args.delta.out;
    store<kPieces>(static_cast<Bf16*>(out.data) + t * out.stride + column + first, x);
  }
  if (args.fp8.data) put_fp8<128 / kPieces>(x, args.fp8, t, column + first);
}

// What one of the first warps does before all go over the state; the others have nothing to do there.
struct FirstWarp {
  int role, head, channel = 0;
  Window window;
  Bf16 input[kPieces];
  float norm[kPieces], gate[kPieces], bias = 0.f, rate = 0.f;

  // What the kernel before this one does not write.
  __device__ __forceinline__ void read(const DeltaMixerArgs& args, int slot) {
    const DeltaArgs& delta = args.delta;
    const int lane = threadIdx.x % 32, key_head = head / (delta.value_heads / delta.key_heads);
    if (role <= kValue) {
      const int block = role == kQuery ? key_head
                        : role == kKey ? delta.key_heads + key_head
                                       : 2 * delta.key_heads + head;
      channel = block * kDim + lane;
      window.read(args.conv, slot, channel);
    } else if (role == kGates) {
      for (int j = 0; j < kPieces; ++j) norm[j] = element(args.norm, args.norm_dtype, lane * kPieces + j);
      bias = element(delta.dt_bias, delta.dt_bias_dtype, head);
      rate = element(delta.a_log, delta.a_log_dtype, head);
    }
  }
  // And then q, k, v and the gates.
  __device__ __forceinline__ void make(const DeltaMixerArgs& args, int64_t t, Shared& shared) {
    const int lane = threadIdx.x % 32;
    if (role <= kValue) {
      const Bf16* u = static_cast<const Bf16*>(args.conv.u.data) + t * args.conv.u.stride + channel;
      for (int j = 0; j < kPieces; ++j) input[j] = u[32 * j];
      window.begin();
      float x[kPieces];
      for (int j = 0; j < kPieces; ++j) x[j] = window.convolve(j, input[j]);
      if (role == kQuery) put_normalised(x, 1.f / sqrtf(static_cast<float>(kDim)), shared.query);
      if (role == kKey) put_normalised(x, 1.f, shared.key);
      for (int j = 0; j < kPieces && role == kValue; ++j) shared.value[lane + 32 * j] = x[j];
    } else if (role == kGates) {
      const Bf16* z = static_cast<const Bf16*>(args.z.data) + t * args.z.stride + head * kDim;
      load<kPieces>(z + lane * kPieces, gate);
      const float decay = expf(log_decay(args.delta, t, head, bias, rate)), beta = write_strength(args.delta, t, head);
      if (lane == 0) {
        shared.decay = decay;
        shared.beta = beta;
      }
    }
  }
};

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
__device__ __forceinline__ void recall(const Raw<S, V> (&state)[kHeld], const float (&key)[kHeld], float (&old)[V]) {
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
__device__ __forceinline__ void renew(const Raw<S, V> (&state)[kHeld], const float (&key)[kHeld],
                                      const float (&query)[kHeld], float decay, const float (&written)[V], S* to,
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

// Blocks are ordered [row][value head]; the heads of a key head are a cluster. V: columns of a thread, which do not
// change a column's arithmetic.
template <class S, int V>
__global__ void __launch_bounds__(kThreads<V>, kBlocks<S, V>) delta_mixer_kernel(DeltaMixerArgs args) {
  __shared__ Shared shared;
  const DeltaArgs& delta = args.delta;
  const int head = blockIdx.x, row = blockIdx.y, warp = threadIdx.x / 32;
  const int group = threadIdx.x / (kDim / V), column = threadIdx.x % (kDim / V) * V;
  // Nothing of this is written by the kernel before this one: that makes u, z, a and b.
  const int read = delta.batch.state_read[row], write = delta.batch.state_write[row];
  if (write < 0) return follow();  // the whole cluster
  const int64_t t = delta.batch.row_begin[row];
  FirstWarp first = {.role = warp, .head = head};
  first.read(args, read);
  const int64_t at = (static_cast<int64_t>(head) * kDim + group) * kDim + column;
  const S* from = static_cast<const S*>(delta.pool) + read * delta.slot_stride + at;
  Raw<S, V> state[kHeld] = {};
#pragma unroll
  for (int i = 0; i < kHeld; ++i) {
    if (read >= 0) state[i].read(from + i * kGroups * kDim);
  }
  follow();
  first.make(args, t, shared);
  __syncthreads();
  cluster_arrive();
  float old[V] = {}, result[V] = {};
  recall<S, V>(state, shared.key[group], old);
  uint32_t zero;
  asm volatile("shr.s32 %0, %1, 31;" : "=r"(zero) : "r"(write));
  for (Raw<S, V>& words : state) words.keep(zero);
  store<V>(&shared.sums[0][group][column], old);
  __syncthreads();
  const float decay = shared.decay, beta = shared.beta;
#pragma unroll
  for (int c = 0; c < V; ++c) {
    const int i = column + c;
    const float was = (shared.sums[0][0][i] + shared.sums[0][1][i]) + (shared.sums[0][2][i] + shared.sums[0][3][i]);
    old[c] = beta * (shared.value[i] - decay * was);  // what is written
  }
  S* to = static_cast<S*>(delta.pool) + write * delta.slot_stride + at;
  renew<S, V>(state, shared.key[group], shared.query[group], decay, old, to, result);
  store<V>(&shared.sums[1][group][column], result);
  __syncthreads();
  if (warp == kGates) {
    put_gated(shared.sums[1], first.gate, first.norm, args, t, static_cast<int64_t>(head) * kDim);
  }
  cluster_wait();
  // The channels of v are this block's alone.
  const bool writes = warp == kValue || head % (delta.value_heads / delta.key_heads) == 0;
  if (writes && warp <= kValue) first.window.write(args.conv, write, first.channel, first.input);
}

template <class S, int V>
void launch(const DeltaMixerArgs& args, Stream stream) {
  const DeltaArgs& delta = args.delta;
  const dim3 grid(static_cast<unsigned>(delta.value_heads), static_cast<unsigned>(delta.batch.rows));
  launch_following_clusters(delta_mixer_kernel<S, V>, grid, kThreads<V>, delta.value_heads / delta.key_heads, stream,
                            "delta_mixer", args);
}

}  // namespace

void delta_mixer_decode(const DeltaMixerArgs& args, Stream stream) {
  if (args.delta.batch.rows == 0) return;
  // Two columns a thread, so that a head has eight warps, until there are four blocks for every multiprocessor.
  constexpr int kBlocksWanted = 528;
  const bool many = args.delta.value_heads * args.delta.batch.rows >= kBlocksWanted;
  with_state_type(args.delta.pool_dtype, [&]<class S>(S) {
    if (many) {
      launch<S, 4>(args, stream);
    } else {
      launch<S, 2>(args, stream);
    }
  });
}

bool delta_mixer_takes(const DeltaMixerArgs& args) {
  const DeltaArgs& delta = args.delta;
  const auto at_16 = [](const void* data) { return reinterpret_cast<uintptr_t>(data) % 16 == 0; };
  const auto at_8 = [](const View& v) { return v.stride % 4 == 0 && reinterpret_cast<uintptr_t>(v.data) % 8 == 0; };
  return delta.batch.decode_rows == delta.batch.rows && args.conv.u.dtype == DType::kBF16 && delta.key_dim == kDim &&
         delta.value_dim == kDim && delta.value_heads / delta.key_heads <= kClusterMax && delta.slot_stride % 4 == 0 &&
         at_16(delta.pool) && at_16(args.conv.weight) && at_8(args.z) && at_8(delta.out);
}

}  // namespace hylas::cuda
