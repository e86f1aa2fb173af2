// Which heads of a layer's state a rank holds: what lets a sequence move from one parallel layout to another.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>

#include "model/decoder.h"
#include "model/partition.h"
#include "support/layout_models.h"

namespace hylas {
namespace {

using testing::Each;
using testing::ElementsAre;

struct ModelOf {
  ModelConfig config = parse_model_config(test::layout_model_path({test::LayoutKind::kDense, 8})).value();

  StateLayout layout(const ParallelSizes& sizes, int32_t rank) const {
    const std::vector<int32_t> begins = balance(estimate_costs(config), sizes.pp).value();
    DecoderOptions options;
    options.shard = {sizes, place_of(sizes, rank)};
    options.layer_begin = begins[options.shard.place.stage];
    options.layer_end = begins[options.shard.place.stage + 1];
    return state_layout(config, options);
  }

  // How many ranks of a dp group hold each head of each layer: {kind.segment, layer} -> [head].
  using Holders = std::map<std::pair<std::string, int32_t>, std::vector<int>>;
  Holders holders(const ParallelSizes& sizes, int32_t group) const {
    Holders all;
    for (int32_t rank = 0; rank < sizes.world(); ++rank) {
      if (place_of(sizes, rank).dp_group != group) continue;
      for (const StateKind& kind : layout(sizes, rank).kinds) {
        for (int32_t layer : kind.layers) {
          for (const StateSegment& segment : kind.segments) {
            std::vector<int>& heads = all[{kind.name + "." + segment.name, layer}];
            heads.resize(std::max<size_t>(heads.size(), segment.unit_begin + segment.units));
            for (int64_t unit = 0; unit < segment.units; ++unit) ++heads[segment.unit_begin + unit];
          }
        }
      }
    }
    return all;
  }
};

class StateTable : public testing::Test, protected ModelOf {};

// 2 KV heads, 4 key heads, 8 value heads.
TEST_F(StateTable, TheRanksOfAGroupHoldEveryHeadOnceAndReplicatedOnesOften) {
  const std::map<std::string, size_t> heads = {{"kv.k", 2},   {"kv.v", 2},   {"delta.s", 8},
                                               {"conv.q", 4}, {"conv.k", 4}, {"conv.v", 8}};
  for (const int32_t tp : {1, 2, 4}) {
    for (const int32_t pp : {1, 2, 3, 4}) {
      for (const int32_t dp : {1, 2}) {
        if (tp % dp != 0) continue;
        const ParallelSizes sizes{.tp = tp, .pp = pp, .dp = dp};
        for (int32_t group = 0; group < dp; ++group) {
          const Holders held = holders(sizes, group);
          EXPECT_EQ(held.size(), 2 * 2 + 6 * 4u) << "two full and six linear layers, whatever the stages";
          for (const auto& [piece, count] : held) {
            const bool replicated = piece.first.starts_with("kv.") && sizes.attn_tp() > 2;
            EXPECT_EQ(count.size(), heads.at(piece.first)) << piece.first;
            EXPECT_THAT(count, Each(replicated ? sizes.attn_tp() / 2 : 1)) << piece.first << "\n" << describe(sizes);
          }
        }
      }
    }
  }
}

TEST_F(StateTable, ARankKnowsWhichHeadsItHas) {
  const auto begins = [&](const ParallelSizes& sizes, int32_t rank, const char* kind) {
    std::vector<int64_t> numbers;
    const StateLayout table = layout(sizes, rank);
    for (const StateSegment& segment : table.find(kind)->segments) numbers.push_back(segment.unit_begin);
    return numbers;
  };
  EXPECT_THAT(begins({.tp = 2}, 1, "kv"), ElementsAre(1, 1));
  EXPECT_THAT(begins({.tp = 4}, 1, "kv"), ElementsAre(0, 0)) << "ranks 0 and 1 hold the same head";
  EXPECT_THAT(begins({.tp = 4}, 3, "kv"), ElementsAre(1, 1));
  EXPECT_THAT(begins({.tp = 4}, 3, "conv"), ElementsAre(3, 3, 6)) << "key heads, and twice as many value heads";
  EXPECT_THAT(begins({.tp = 4}, 3, "delta"), ElementsAre(6));
  EXPECT_THAT(begins({.tp = 4, .dp = 2}, 2, "delta"), ElementsAre(0)) << "the first rank of the second group";
}

}  // namespace
}  // namespace hylas
