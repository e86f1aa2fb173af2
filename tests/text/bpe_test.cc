#include "text/bpe.h"

#include <gtest/gtest.h>

#include <random>
#include <string>

namespace hylas {
namespace {

// A vocabulary over the bytes a..d: merges drawn at random from the tokens that exist so far.
struct Rules {
  std::array<int32_t, 256> byte_ids;
  std::vector<Bpe::Merge> merges;
};

Rules random_rules(std::mt19937& random, int count) {
  Rules rules;
  for (int byte = 0; byte < 256; ++byte) rules.byte_ids[byte] = byte;
  std::vector<int32_t> tokens = {'a', 'b', 'c', 'd'};
  for (int i = 0; i < count; ++i) {
    int32_t left = tokens[random() % tokens.size()], right = tokens[random() % tokens.size()];
    rules.merges.push_back({left, right, 256 + i});
    tokens.push_back(256 + i);
  }
  return rules;
}

// The definition: merge the leftmost pair of the lowest rank until no pair has one.
std::vector<int32_t> merge_by_definition(const Rules& rules, const std::string& piece) {
  std::vector<int32_t> ids;
  for (char c : piece) ids.push_back(rules.byte_ids[static_cast<unsigned char>(c)]);
  auto rank_of = [&](int32_t left, int32_t right) {
    for (int i = static_cast<int>(rules.merges.size()) - 1; i >= 0; --i) {
      if (rules.merges[i].left == left && rules.merges[i].right == right) return i;
    }
    return -1;
  };
  while (true) {
    int best_rank = -1;
    size_t best = 0;
    for (size_t i = 0; i + 1 < ids.size(); ++i) {
      int rank = rank_of(ids[i], ids[i + 1]);
      if (rank >= 0 && (best_rank < 0 || rank < best_rank)) best_rank = rank, best = i;
    }
    if (best_rank < 0) return ids;
    ids[best] = rules.merges[best_rank].merged;
    ids.erase(ids.begin() + static_cast<int64_t>(best) + 1);
  }
}

TEST(Bpe, ShortAndLongPiecesFollowTheDefinition) {
  constexpr unsigned kSeed = 7;
  std::mt19937 random(kSeed);
  for (int round = 0; round < 60; ++round) {
    Rules rules = random_rules(random, 1 + static_cast<int>(random() % 40));
    Bpe bpe(rules.byte_ids, rules.merges);
    for (size_t length : {1u, 2u, 3u, 17u, 127u, 128u, 129u, 300u}) {
      std::string piece;
      for (size_t i = 0; i < length; ++i) piece += static_cast<char>('a' + random() % 4);
      std::vector<int32_t> ids;
      bpe.encode(piece, ids);
      EXPECT_EQ(ids, merge_by_definition(rules, piece)) << "seed " << kSeed << " round " << round << ' ' << piece;
    }
  }
}

TEST(Bpe, NoMergesLeaveTheBytes) {
  Rules rules;
  for (int byte = 0; byte < 256; ++byte) rules.byte_ids[byte] = 255 - byte;
  Bpe bpe(rules.byte_ids, {});
  std::vector<int32_t> ids;
  bpe.encode("ab", ids);
  EXPECT_EQ(ids, (std::vector<int32_t>{255 - 'a', 255 - 'b'}));
}

}  // namespace
}  // namespace hylas
