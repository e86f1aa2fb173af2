#include "text/bpe.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <limits>
#include <queue>

#include "base/check.h"

namespace hylas {
namespace {

constexpr int32_t kNoRank = std::numeric_limits<int32_t>::max();
constexpr int kRankBits = 20;
constexpr uint64_t kRankMask = (uint64_t{1} << kRankBits) - 1;
constexpr uint64_t kEmpty = ~uint64_t{0};
constexpr size_t kShortBytesMax = 128;  // up to here a linear search for the best pair beats a heap

uint64_t pair_key(int32_t left, int32_t right) {
  return static_cast<uint64_t>(left) << 22 | static_cast<uint64_t>(right);
}

uint64_t hash(uint64_t key) {
  key *= 0x9e3779b97f4a7c15u;
  return key ^ key >> 32;
}

}  // namespace

Bpe::Bpe(const std::array<int32_t, 256>& byte_ids, const std::vector<Merge>& merges)
    : byte_ids_(byte_ids), byte_ranks_(256 * 256, kNoRank) {
  HYLAS_CHECK(static_cast<int64_t>(merges.size()) <= kMergesMax);
  slots_.assign(std::bit_ceil(std::max<size_t>(2 * merges.size(), 2)), kEmpty);
  slot_mask_ = slots_.size() - 1;
  merged_ids_.reserve(merges.size());
  for (const Merge& merge : merges) {
    uint64_t key = pair_key(merge.left, merge.right);
    uint64_t slot = hash(key) & slot_mask_;
    while (slots_[slot] != kEmpty && slots_[slot] >> kRankBits != key) slot = (slot + 1) & slot_mask_;
    slots_[slot] = key << kRankBits | merged_ids_.size();
    merged_ids_.push_back(merge.merged);
  }
  for (int a = 0; a < 256; ++a) {
    for (int b = 0; b < 256; ++b) byte_ranks_[a << 8 | b] = rank(byte_ids_[a], byte_ids_[b]);
  }
}

int32_t Bpe::rank(int32_t left, int32_t right) const {
  uint64_t key = pair_key(left, right);
  for (uint64_t slot = hash(key) & slot_mask_;; slot = (slot + 1) & slot_mask_) {
    uint64_t entry = slots_[slot];
    if (entry >> kRankBits == key && entry != kEmpty) return static_cast<int32_t>(entry & kRankMask);
    if (entry == kEmpty) return kNoRank;
  }
}

void Bpe::encode(std::string_view piece, std::vector<int32_t>& ids) const {
  if (piece.size() == 1) {
    ids.push_back(byte_ids_[static_cast<unsigned char>(piece[0])]);
  } else if (piece.size() <= kShortBytesMax) {
    encode_short(piece, ids);
  } else {
    encode_long(piece, ids);
  }
}

void Bpe::encode_short(std::string_view piece, std::vector<int32_t>& ids) const {
  int32_t symbols[kShortBytesMax];
  int32_t ranks[kShortBytesMax];  // of the pair (symbol i, symbol i + 1)
  int count = static_cast<int>(piece.size());
  auto byte_at = [&](int i) { return static_cast<unsigned char>(piece[i]); };
  for (int i = 0; i < count; ++i) symbols[i] = byte_ids_[byte_at(i)];
  for (int i = 0; i + 1 < count; ++i) ranks[i] = byte_ranks_[byte_at(i) << 8 | byte_at(i + 1)];
  while (count > 1) {
    int32_t best = kNoRank;
    for (int i = 0; i < count - 1; ++i) best = std::min(best, ranks[i]);
    if (best == kNoRank) break;
    int at = 0;
    while (ranks[at] != best) ++at;
    symbols[at] = merged_ids_[best];
    --count;
    std::memmove(symbols + at + 1, symbols + at + 2, (count - at - 1) * sizeof(int32_t));
    if (at + 1 < count) {
      std::memmove(ranks + at + 1, ranks + at + 2, (count - at - 2) * sizeof(int32_t));
      ranks[at] = rank(symbols[at], symbols[at + 1]);
    }
    if (at > 0) ranks[at - 1] = rank(symbols[at - 1], symbols[at]);
  }
  ids.insert(ids.end(), symbols, symbols + count);
}

void Bpe::encode_long(std::string_view piece, std::vector<int32_t>& ids) const {
  struct Symbol {
    int32_t id;
    int64_t previous, next;  // -1: none
  };
  struct Candidate {
    int32_t rank;
    int64_t at;
    int32_t left, right;  // still valid only while these ids stand there
    bool operator<(const Candidate& other) const { return rank != other.rank ? rank > other.rank : at > other.at; }
  };
  int64_t count = static_cast<int64_t>(piece.size());
  std::vector<Symbol> symbols(count);
  for (int64_t i = 0; i < count; ++i) {
    symbols[i] = {byte_ids_[static_cast<unsigned char>(piece[i])], i - 1, i + 1 < count ? i + 1 : -1};
  }
  std::priority_queue<Candidate> queue;
  auto offer = [&](int64_t at) {
    if (at < 0 || symbols[at].next < 0) return;
    int32_t left = symbols[at].id, right = symbols[symbols[at].next].id;
    int32_t pair_rank = rank(left, right);
    if (pair_rank != kNoRank) queue.push({pair_rank, at, left, right});
  };
  for (int64_t i = 0; i + 1 < count; ++i) offer(i);
  while (!queue.empty()) {
    Candidate best = queue.top();
    queue.pop();
    Symbol& left = symbols[best.at];
    if (left.id != best.left || left.next < 0 || symbols[left.next].id != best.right) continue;
    Symbol& right = symbols[left.next];
    left.id = merged_ids_[best.rank];
    left.next = right.next;
    right.id = -1;
    if (left.next >= 0) symbols[left.next].previous = best.at;
    offer(best.at);
    offer(left.previous);
  }
  for (int64_t i = 0; i >= 0; i = symbols[i].next) ids.push_back(symbols[i].id);
}

}  // namespace hylas
