#pragma once
// Byte-pair merging: the bytes of a piece to token ids by the order of the merge rules.
#include <array>
#include <cstdint>
#include <string_view>
#include <vector>

namespace hylas {

// Immutable once built; encode may be called from any thread.
class Bpe {
 public:
  static constexpr int64_t kIdsMax = int64_t{1} << 22;
  static constexpr int64_t kMergesMax = (int64_t{1} << 20) - 1;

  struct Merge {
    int32_t left, right, merged;  // ids below kIdsMax
  };
  // byte_ids: the id of every single byte. merges: in order of rank, at most kMergesMax; of equal pairs the last
  // counts, as in Hugging Face.
  Bpe(const std::array<int32_t, 256>& byte_ids, const std::vector<Merge>& merges);

  // Appends the ids of one piece: the lowest-ranked adjacent pair is merged first, of equal ranks the leftmost.
  void encode(std::string_view piece, std::vector<int32_t>& ids) const;

 private:
  int32_t rank(int32_t left, int32_t right) const;
  void encode_short(std::string_view piece, std::vector<int32_t>& ids) const;
  void encode_long(std::string_view piece, std::vector<int32_t>& ids) const;

  std::array<int32_t, 256> byte_ids_;
  std::vector<int32_t> merged_ids_;  // by rank
  std::vector<int32_t> byte_ranks_;  // [256 * 256] rank of a pair of bytes
  std::vector<uint64_t> slots_;      // open addressing: pair << 20 | rank
  uint64_t slot_mask_ = 0;
};

}  // namespace hylas
