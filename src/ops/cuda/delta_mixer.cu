// One token of each row through conv_silu, delta_rule and gated_rms_norm, bit for bit as conv.cu, delta_decode.cu and
// norm.cu have it: the same sums in the same order, rounded to bf16 at the same places. A block has one value head of
// one row. Its first warps make q, k, v and the gates; then all share the keys of the state, which lies in registers as
// it is stored, read before the kernel's inputs are there and written once.
//
// The value heads of a key head each make its q and k for themselves: 256 channels are less work than an exchange. But
// their window in the pool is moved on in place (state_read may be state_write), so it may be written only once all
// have read it: these blocks are a cluster, whose barrier they pass after their reads and long before the write of the
// first of them.
#include "ops/cuda/delta_gates.cuh"
#include "ops/cuda/delta_mixer.h"
#include "ops/cuda/vector.cuh"
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
  float sum[kPieces], tap[kPieces];  // over the old inputs; what the newest one is multiplied by
  Bf16 kept[kPieces][kHistory - 1];

  __device__ __forceinline__ void read(const ConvArgs& args, int slot, int channel) {
#pragma unroll
    for (int j = 0; j < kPieces; ++j) {
      const int c = channel + 32 * j;
      float taps[kHistory + 1];
      if (args.weight_dtype == DType::kF32) {
        load<kHistory + 1>(static_cast<const float*>(args.weight) + c * (kHistory + 1), taps);
      } else {
        load<kHistory + 1>(static_cast<const Bf16*>(args.weight) + c * (kHistory + 1), taps);
      }
      const Bf16* from = static_cast<const Bf16*>(args.pool) + slot * args.slot_stride + c * kHistory;
      sum[j] = 0.f;
#pragma unroll
      for (int i = 0; i < kHistory; ++i) {
        const Bf16 old = slot < 0 ? from_f32<Bf16>(0.f) : from[i];
        sum[j] = fmaf(taps[i], to_f32(old), sum[j]);
        if (i > 0) kept[j][i - 1] = old;
      }
      tap[j] = taps[kHistory];
    }
  }
  // silu of the whole sum, as bf16 has it.
  __device__ __forceinline__ float convolve(int j, Bf16 u) const {
    return to_f32(from_f32<Bf16>(silu(fmaf(tap[j], to_f32(u), sum[j]))));
  }
  __device__ __forceinline__ void write(const ConvArgs& args, int slot, int channel, const Bf16 (&u)[kPieces]) const {
#pragma unroll
    for (int j = 0; j < kPieces; ++j) {
      Bf16* to = static_cast<Bf16*>(args.pool) + slot * args.slot_stride + (channel + 32 * j) * kHistory;
      to[0] = kept[j][0];
      to[1] = kept[j][1];
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

// The norm over the head's results, which the groups of keys have left as four sums for each: one warp.
__device__ __forceinline__ void put_gated(const DeltaMixerArgs& args, const float (&sums)[kGroups][kDim],
                                          const Bf16 (&z)[kPieces], const float (&weight)[kPieces], Bf16* out) {
  const int lane = threadIdx.x % 32;
  float x[kPieces], sum = 0.f;
#pragma unroll
  for (int j = 0; j < kPieces; ++j) {
    const int c = lane + 32 * j;
    x[j] = to_f32(from_f32<Bf16>((sums[0][c] + sums[1][c]) + (sums[2][c] + sums[3][c])));
    sum += x[j] * x[j];
  }
  const float scale = 1.f / sqrtf(warp_sum(sum) / static_cast<float>(kDim) + args.eps);
#pragma unroll
  for (int j = 0; j < kPieces; ++j) {
    const float normed = weight[j] * (x[j] * scale);
    out[lane + 32 * j] = from_f32<Bf16>(normed * silu(to_f32(z[j])));
  }
}

// What one of the first warps does before all go over the state; the others have nothing to do there.
struct FirstWarp {
  int role, head, channel = 0;
  Window window;
  float norm[kPieces], bias = 0.f, rate = 0.f;
  Bf16 input[kPieces];  // u, or z of the gates' warp

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
      for (int j = 0; j < kPieces; ++j) norm[j] = element(args.norm, args.norm_dtype, lane + 32 * j);
      bias = element(delta.dt_bias, delta.dt_bias_dtype, head);
      rate = element(delta.a_log, delta.a_log_dtype, head);
    }
  }
  // And then q, k and v, the gates, and the window of v, whose channels are this block's alone.
  __device__ __forceinline__ void make(const DeltaMixerArgs& args, int64_t t, int slot, Shared& shared) {
    const int lane = threadIdx.x % 32;
    if (role <= kValue) {
      const Bf16* u = static_cast<const Bf16*>(args.conv.u.data) + t * args.conv.u.stride + channel;
      for (int j = 0; j < kPieces; ++j) input[j] = u[32 * j];
      float x[kPieces];
      for (int j = 0; j < kPieces; ++j) x[j] = window.convolve(j, input[j]);
      if (role == kQuery) put_normalised(x, 1.f / sqrtf(static_cast<float>(kDim)), shared.query);
      if (role == kKey) put_normalised(x, 1.f, shared.key);
      if (role == kValue) {
        for (int j = 0; j < kPieces; ++j) shared.value[lane + 32 * j] = x[j];
        window.write(args.conv, slot, channel, input);
      }
    } else if (role == kGates) {
      const Bf16* z = static_cast<const Bf16*>(args.z.data) + t * args.z.stride + head * kDim + lane;
      for (int j = 0; j < kPieces; ++j) input[j] = z[32 * j];
      const float decay = expf(log_decay(args.delta, t, head, bias, rate)), beta = write_strength(args.delta, t, head);
      if (lane == 0) {
        shared.decay = decay;
        shared.beta = beta;
      }
    }
  }
};

// The barrier of a cluster in two halves: what was read before the first is read when the second is passed.
__device__ __forceinline__ void cluster_arrive() {
  asm volatile("barrier.cluster.arrive.release.aligned;" ::: "memory");
}
__device__ __forceinline__ void cluster_wait() { asm volatile("barrier.cluster.wait.acquire.aligned;" ::: "memory"); }

// V neighbouring elements of the state as they are stored.
template <class S, int V>
struct Raw {
  static constexpr int kWords = V * static_cast<int>(sizeof(S)) / 4;
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
  __device__ __forceinline__ float operator[](int c) const {
    if constexpr (sizeof(S) == 4) {
      return __uint_as_float(word[c]);
    } else {
      const auto bits = static_cast<uint16_t>(word[c / 2] >> (c % 2 * 16));
      return to_f32(*reinterpret_cast<const S*>(&bits));
    }
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
#pragma unroll
      for (int c = 0; c < V; ++c) old[c] = fmaf(k[n], state[i + n][c], old[c]);
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
#pragma unroll
      for (int c = 0; c < V; ++c) {
        now[c] = fmaf(k[n], written[c], decay * state[i + n][c]);
        result[c] = fmaf(q[n], now[c], result[c]);
      }
      store<V>(to + (i + n) * kGroups * kDim, now);
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
  const int64_t at = (static_cast<int64_t>(head) * kDim + group) * kDim + column;
  const S* from = static_cast<const S*>(delta.pool) + read * delta.slot_stride + at;
  Raw<S, V> state[kHeld] = {};
#pragma unroll
  for (int i = 0; i < kHeld; ++i) {
    if (read >= 0) state[i].read(from + i * kGroups * kDim);
  }
  FirstWarp first = {.role = warp, .head = head};
  first.read(args, read);
  follow();
  first.make(args, t, write, shared);
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
    put_gated(args, shared.sums[1], first.input, first.norm,
              static_cast<Bf16*>(delta.out.data) + t * delta.out.stride + head * kDim);
  }
  cluster_wait();
  const bool writes = head % (delta.value_heads / delta.key_heads) == 0;
  if (writes && warp <= kKey) first.window.write(args.conv, write, first.channel, first.input);
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
  return delta.batch.decode_rows == delta.batch.rows && args.conv.u.dtype == DType::kBF16 && delta.key_dim == kDim &&
         delta.value_dim == kDim && delta.value_heads / delta.key_heads <= kClusterMax && delta.slot_stride % 4 == 0 &&
         at_16(delta.pool) && at_16(args.conv.weight);
}

}  // namespace hylas::cuda
