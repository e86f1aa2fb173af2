#include "transfer/instance_layout.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <random>

#include "support/instances.h"

namespace hylas {
namespace {

using test::InstanceOf;
using test::layout_of;
using test::LayoutKind;
using testing::HasSubstr;

InstanceLayout dense(const ParallelSizes& sizes = {}) {
  return layout_of({.model = {LayoutKind::kDense, 8}, .sizes = sizes, .with_mtp = true});
}

// Why the layout is refused once `change` was made; empty if it is taken.
std::string refusal(void (*change)(InstanceLayout&)) {
  InstanceLayout layout = dense({.tp = 2, .pp = 2});
  change(layout);
  const Result<InstanceLayout> back = decode_instance_layout(encode(layout));
  if (back.ok()) return "";
  EXPECT_EQ(back.error().code, ErrorCode::kInvalid);
  return back.error().message;
}

TEST(InstanceLayout, TravelsUnchanged) {
  for (const ParallelSizes& sizes : test::every_layout()) {
    const std::string bytes = encode(dense(sizes));
    const Result<InstanceLayout> back = decode_instance_layout(bytes);
    ASSERT_TRUE(back.ok()) << back.error().message;
    EXPECT_EQ(encode(*back), bytes);
    EXPECT_EQ(back->sizes.world(), sizes.world());
    EXPECT_EQ(back->ranks.back().bytes_per_token(), dense(sizes).ranks.back().bytes_per_token());
  }
}

TEST(InstanceLayout, WhatIsCutOffOrTooLongIsRefused) {
  const std::string bytes = encode(dense({.tp = 2, .pp = 2}));
  for (size_t n = 0; n < bytes.size(); ++n) EXPECT_FALSE(decode_instance_layout(bytes.substr(0, n)).ok()) << n;
  EXPECT_FALSE(decode_instance_layout(bytes + '\0').ok());
}

// Whatever a peer sends: an answer, and what is taken can be planned with.
TEST(InstanceLayout, DamagedBytesNeverDoHarm) {
  const InstanceLayout own = dense({.tp = 2, .pp = 2});
  const std::string bytes = encode(own);
  std::mt19937_64 random(5);
  int taken = 0, fitting = 0;
  for (int round = 0; round < 20000; ++round) {
    std::string damaged = bytes;
    for (int n = 1 + static_cast<int>(random() % 3); n > 0; --n) {
      const char values[] = {0, 1, 2, 127, -1, -128, static_cast<char>(random())};
      damaged[random() % damaged.size()] = values[random() % sizeof values];
    }
    const Result<InstanceLayout> layout = decode_instance_layout(damaged);
    if (!layout.ok()) continue;
    ++taken;
    if (!check_pair(own, *layout).ok()) continue;
    ++fitting;
    for (int32_t rank = 0; rank < own.sizes.world(); ++rank) transfer_plan(own, rank, *layout, layout->sizes.dp - 1);
  }
  EXPECT_GT(taken, 100);
  EXPECT_GT(fitting, 10);
}

TEST(InstanceLayout, NumbersThatMakeNoSenseAreRefused) {
  EXPECT_EQ(refusal([](InstanceLayout&) {}), "");
  EXPECT_THAT(refusal([](InstanceLayout& l) { l.ranks.pop_back(); }), HasSubstr("3 ranks where tp is 2 and pp 2"));
  EXPECT_THAT(refusal([](InstanceLayout& l) { l.sizes.tp = 1 << 30, l.sizes.pp = 1 << 30; }), HasSubstr("4 ranks"));
  EXPECT_THAT(refusal([](InstanceLayout& l) { l.sizes.dp = 0; }), HasSubstr("--dp-size must be at least 1"));
  EXPECT_THAT(refusal([](InstanceLayout& l) { l.page_size = 0; }), HasSubstr("pages of 0 tokens"));
  EXPECT_THAT(refusal([](InstanceLayout& l) { l.pages = -1; }), HasSubstr("-1 pages"));
  EXPECT_THAT(refusal([](InstanceLayout& l) { l.slots = int64_t{1} << 40; }), HasSubstr("slots"));
  EXPECT_THAT(refusal([](InstanceLayout& l) { l.pages = INT32_MAX, l.page_size = 1 << 16; }), HasSubstr("bytes of kv"));
  EXPECT_THAT(refusal([](InstanceLayout& l) { l.ranks[1].kinds[0].segments[1].units = -2; }),
              HasSubstr("kv.v has -2 units"));
  EXPECT_THAT(refusal([](InstanceLayout& l) { l.ranks[1].kinds[0].segments[0].unit_begin = -1; }),
              HasSubstr("from number -1 on"));
  EXPECT_THAT(refusal([](InstanceLayout& l) { l.ranks[1].kinds[0].segments[0].unit_elements = int64_t{1} << 60; }),
              HasSubstr("kv.k has"));
  EXPECT_THAT(refusal([](InstanceLayout& l) { l.ranks[1].kinds[0].segments.clear(); }), HasSubstr("kv has 0 segments"));
  EXPECT_THAT(refusal([](InstanceLayout& l) { l.ranks[1].kinds[1].layers = {2, 1}; }), HasSubstr("ascending"));
  EXPECT_THAT(refusal([](InstanceLayout& l) { l.ranks[1].kinds[1].layers.clear(); }), HasSubstr("0 layers of delta"));
  EXPECT_THAT(refusal([](InstanceLayout& l) { l.ranks[1].kinds[1].name = "kv"; }), HasSubstr("two kinds named kv"));
  EXPECT_NE(refusal([](InstanceLayout& l) { l.ranks[1].kinds[1].dtype = static_cast<DType>(99); }), "");
  EXPECT_NE(refusal([](InstanceLayout& l) { l.ranks[1].kinds[1].scope = static_cast<StateScope>(2); }), "");
}

std::string misfit(const InstanceLayout& prefill, const InstanceLayout& decode) {
  const Status status = check_pair(prefill, decode);
  if (status.ok()) return "";
  EXPECT_EQ(status.error().code, ErrorCode::kUnsupported);
  return status.error().message;
}

TEST(CheckPair, AnyParallelLayoutsFitTogether) {
  for (const int layers : {8, 5}) {
    for (const ParallelSizes& from : test::every_layout()) {
      for (const ParallelSizes& to : test::every_layout()) {
        EXPECT_EQ(misfit(layout_of({.model = {LayoutKind::kMoe, layers}, .sizes = from}),
                         layout_of({.model = {LayoutKind::kMoe, layers}, .sizes = to})),
                  "");
      }
    }
  }
}

TEST(CheckPair, ModelsWithMoreOrFewerPagesFitTogether) {
  InstanceLayout decode = dense();
  decode.pages = 3, decode.slots = 100;
  EXPECT_EQ(misfit(dense(), decode), "");
}

TEST(CheckPair, SaysWhatDiffersWithBothValues) {
  InstanceLayout other = dense();
  other.model = "another", other.weights = "f00d";
  EXPECT_THAT(misfit(dense(), other), HasSubstr("'dense_8' (made up) there, 'another' (f00d) here"));
  other = dense();
  other.page_size = 64;
  EXPECT_THAT(misfit(dense(), other), HasSubstr("pages of 4 tokens there, 64 here (--page-size)"));

  const InstanceOf plain{.model = {LayoutKind::kDense, 8}};
  const auto changed = [&](auto change) {
    InstanceOf instance = plain;
    change(instance);
    return misfit(layout_of(plain), layout_of(instance));
  };
  EXPECT_THAT(changed([](InstanceOf& i) { i.kv = DType::kF8E4M3; }),
              HasSubstr("bfloat16 per token of k[32] v[32] there, fp8_e4m3 per token of k[32] v[32] here (kv)"));
  EXPECT_THAT(changed([](InstanceOf& i) { i.state = DType::kF16; }),
              HasSubstr("float32 per sequence of s[1024] there, float16 per sequence of s[1024] here (delta)"));
  EXPECT_THAT(changed([](InstanceOf& i) { i.act = DType::kF32; }), HasSubstr("(conv)"));
  EXPECT_THAT(changed([](InstanceOf& i) { i.with_mtp = true; }), HasSubstr("no mtp_kv there, mtp_kv here"));
  EXPECT_THAT(changed([](InstanceOf& i) { i.model.layers = 5; }), HasSubstr("layers 0 1 2 4 5 6 there, 0 1 2 4 here"));
}

TEST(CheckPair, HeadsOrLayersThatSomeRanksLackAreNoticed) {
  InstanceLayout fewer = dense();
  for (StateKind& kind : fewer.ranks[0].kinds) {
    if (kind.name == "delta") kind.segments[0].units = 4;
  }
  EXPECT_THAT(misfit(dense(), fewer), HasSubstr("8 heads there, 4 here (delta.s)"));

  InstanceLayout hole = dense({.tp = 4});
  for (StateKind& kind : hole.ranks[1].kinds) {
    if (kind.name == "delta") kind.segments[0].unit_begin = 0;
  }
  EXPECT_THAT(misfit(dense(), hole),
              HasSubstr("dp group 0 of the decoding instance holds 6 of 8 heads of delta.s, layer 0"));

  InstanceLayout without = dense({.tp = 2, .dp = 2});
  without.ranks[1].kinds.pop_back();
  EXPECT_THAT(misfit(without, dense()),
              HasSubstr("dp group 1 of the prefilling instance holds 0 of 2 heads of mtp_kv.k"));
}

}  // namespace
}  // namespace hylas
