// Plans and reports survive the wire bit for bit; damage is an error.
#include "engine/plan_codec.h"

#include <gtest/gtest.h>

#include <bit>
#include <limits>
#include <random>

#include "base/byte_io.h"

namespace hylas {
namespace {

// Random values of everything that a message can hold.
class Maker {
 public:
  explicit Maker(uint64_t seed) : random_(seed) {}

  uint64_t below(uint64_t end) { return random_() % end; }
  bool coin() { return below(2) == 1; }
  int32_t any() { return static_cast<int32_t>(random_()); }
  float real() { return coin() ? std::bit_cast<float>(static_cast<uint32_t>(random_())) : 0.25f; }
  std::vector<int32_t> ints(uint64_t most = 20) {
    std::vector<int32_t> values(below(most));
    for (int32_t& value : values) value = any();
    return values;
  }
  template <class Make>
  auto list(Make make, uint64_t most = 5) {
    std::vector<decltype(make())> values(below(most));
    for (auto& value : values) value = make();
    return values;
  }

  SequenceStart start() {
    SequenceStart v{.sequence = any(), .stop_ids = ints(), .prompt = ints(500), .generated = ints()};
    SamplingParams& s = v.sampling;
    s.max_new_tokens = any(), s.min_new_tokens = any(), s.temperature = real(), s.top_k = any(), s.top_p = real();
    s.min_p = real(), s.frequency_penalty = real(), s.presence_penalty = real(), s.repetition_penalty = real();
    if (coin()) s.seed = random_();
    s.ignore_eos = coin(), s.stop_token_ids = ints(), s.top_logprobs = any(), s.prompt_logprobs_from = any();
    s.logit_bias = list([&] { return LogitBias{any(), real()}; });
    return v;
  }
  PlanRow row() {
    PlanRow v{.sequence = any(), .group = any(), .kind = coin() ? RowKind::kDecode : RowKind::kPrefill};
    v.begin = any(), v.length = any(), v.tokens = ints(600), v.pages = ints(100), v.state_read = any();
    v.state_write = any(), v.sample = coin(), v.step = any(), v.block_stops = coin();
    if (coin()) v.allowed = std::make_shared<const std::vector<uint32_t>>(below(50), 0x5a5a5a5au);
    v.prompt_logprobs_from = any(), v.next_token = any(), v.want_logits = coin(), v.want_drafts = coin();
    return v;
  }
  SwapOp swap() { return {static_cast<SwapOp::Direction>(below(3)), random_(), ints(), any(), any()}; }
  SendOp send() { return {random_(), any(), any(), any(), {any(), ints(), ints(), any(), any()}}; }
  LandOp land() { return {random_(), any(), {any(), ints(), ints(), any(), any()}}; }
  StepPlan plan() {
    StepPlan v{.id = random_(), .lane = any(), .known = random_(), .ends = ints()};
    v.lands = list([&] { return land(); });
    v.swaps = list([&] { return swap(); });
    v.starts = list([&] { return start(); });
    v.rows = list([&] { return row(); });
    v.copies = list([&] { return SlotCopy{any(), any(), any()}; });
    v.sends = list([&] { return send(); });
    return v;
  }
  std::vector<TokenLogprob> top() {
    return list([&] { return TokenLogprob{any(), real()}; });
  }
  RowResult row_result() {
    RowResult v{.sequence = any(), .did_sample = coin(), .sampled = {any(), real(), top()}};
    v.prompt_logprobs = list([&] { return OutputToken{any(), real(), top()}; });
    v.logits = list([&] { return real(); }, 300);
    v.drafts = ints();
    return v;
  }
  RankReport report(const ParallelSizes& sizes) {
    StepResult result{.id = random_(), .rows = list([&] { return row_result(); })};
    result.begin_us = any(), result.end_us = any(), result.wait_us = any(), result.sums_us = any();
    return {place_of(sizes, static_cast<int32_t>(below(sizes.world()))), std::move(result)};
  }

 private:
  std::mt19937_64 random_;
};

constexpr ParallelSizes kSizes{.tp = 2, .pp = 4, .nodes = 2};

// Bits of floats too: a NaN is not equal to itself.
std::vector<uint32_t> bits(const std::vector<float>& values) {
  std::vector<uint32_t> all;
  for (float value : values) all.push_back(std::bit_cast<uint32_t>(value));
  return all;
}
uint32_t bits(float value) { return std::bit_cast<uint32_t>(value); }

void expect_same(const std::vector<TokenLogprob>& a, const std::vector<TokenLogprob>& b) {
  ASSERT_EQ(a.size(), b.size());
  for (size_t i = 0; i < a.size(); ++i) {
    EXPECT_EQ(a[i].token, b[i].token);
    EXPECT_EQ(bits(a[i].logprob), bits(b[i].logprob));
  }
}

void expect_same(const SequenceStart& a, const SequenceStart& b) {
  EXPECT_EQ(a.sequence, b.sequence);
  EXPECT_EQ(a.stop_ids, b.stop_ids);
  EXPECT_EQ(a.prompt, b.prompt);
  EXPECT_EQ(a.generated, b.generated);
  const SamplingParams &s = a.sampling, &t = b.sampling;
  EXPECT_EQ(std::tie(s.max_new_tokens, s.min_new_tokens, s.top_k, s.seed, s.ignore_eos, s.stop_token_ids,
                     s.top_logprobs, s.prompt_logprobs_from),
            std::tie(t.max_new_tokens, t.min_new_tokens, t.top_k, t.seed, t.ignore_eos, t.stop_token_ids,
                     t.top_logprobs, t.prompt_logprobs_from));
  EXPECT_EQ(bits({s.temperature, s.top_p, s.min_p, s.frequency_penalty, s.presence_penalty, s.repetition_penalty}),
            bits({t.temperature, t.top_p, t.min_p, t.frequency_penalty, t.presence_penalty, t.repetition_penalty}));
  ASSERT_EQ(s.logit_bias.size(), t.logit_bias.size());
  for (size_t i = 0; i < s.logit_bias.size(); ++i) {
    EXPECT_EQ(s.logit_bias[i].token, t.logit_bias[i].token);
    EXPECT_EQ(bits(s.logit_bias[i].bias), bits(t.logit_bias[i].bias));
  }
}

void expect_same(const PlanRow& a, const PlanRow& b) {
  EXPECT_EQ(
      std::tie(a.sequence, a.group, a.kind, a.begin, a.length, a.tokens, a.pages, a.state_read, a.state_write, a.sample,
               a.step, a.block_stops, a.prompt_logprobs_from, a.next_token, a.want_logits, a.want_drafts),
      std::tie(b.sequence, b.group, b.kind, b.begin, b.length, b.tokens, b.pages, b.state_read, b.state_write, b.sample,
               b.step, b.block_stops, b.prompt_logprobs_from, b.next_token, b.want_logits, b.want_drafts));
  ASSERT_EQ(a.allowed == nullptr, b.allowed == nullptr);
  if (a.allowed) {
    EXPECT_EQ(*a.allowed, *b.allowed);
  }
}

void expect_same(const TransferPart& a, const TransferPart& b) {
  EXPECT_EQ(std::tie(a.first_page, a.from_pages, a.to_pages, a.from_slot, a.to_slot),
            std::tie(b.first_page, b.from_pages, b.to_pages, b.from_slot, b.to_slot));
}

void expect_same(const StepPlan& a, const StepPlan& b) {
  EXPECT_EQ(std::tie(a.id, a.lane, a.known, a.ends), std::tie(b.id, b.lane, b.known, b.ends));
  ASSERT_EQ(a.lands.size(), b.lands.size());
  for (size_t i = 0; i < a.lands.size(); ++i) {
    const LandOp &s = a.lands[i], &t = b.lands[i];
    EXPECT_EQ(std::tie(s.sequence, s.group), std::tie(t.sequence, t.group));
    expect_same(s.part, t.part);
  }
  ASSERT_EQ(a.swaps.size(), b.swaps.size());
  for (size_t i = 0; i < a.swaps.size(); ++i) {
    const SwapOp &s = a.swaps[i], &t = b.swaps[i];
    EXPECT_EQ(std::tie(s.direction, s.key, s.pages, s.slot, s.group),
              std::tie(t.direction, t.key, t.pages, t.slot, t.group));
  }
  ASSERT_EQ(a.starts.size(), b.starts.size());
  for (size_t i = 0; i < a.starts.size(); ++i) expect_same(a.starts[i], b.starts[i]);
  ASSERT_EQ(a.rows.size(), b.rows.size());
  for (size_t i = 0; i < a.rows.size(); ++i) expect_same(a.rows[i], b.rows[i]);
  ASSERT_EQ(a.copies.size(), b.copies.size());
  for (size_t i = 0; i < a.copies.size(); ++i) {
    const SlotCopy &s = a.copies[i], &t = b.copies[i];
    EXPECT_EQ(std::tie(s.from, s.to, s.group), std::tie(t.from, t.to, t.group));
  }
  ASSERT_EQ(a.sends.size(), b.sends.size());
  for (size_t i = 0; i < a.sends.size(); ++i) {
    const SendOp &s = a.sends[i], &t = b.sends[i];
    EXPECT_EQ(std::tie(s.transfer, s.peer, s.group, s.to_group), std::tie(t.transfer, t.peer, t.group, t.to_group));
    expect_same(s.part, t.part);
  }
}

void expect_same(const RowResult& a, const RowResult& b) {
  EXPECT_EQ(a.drafts, b.drafts);
  EXPECT_EQ(std::tie(a.sequence, a.did_sample, a.sampled.token), std::tie(b.sequence, b.did_sample, b.sampled.token));
  EXPECT_EQ(bits(a.sampled.logprob), bits(b.sampled.logprob));
  expect_same(a.sampled.top, b.sampled.top);
  EXPECT_EQ(bits(a.logits), bits(b.logits));
  ASSERT_EQ(a.prompt_logprobs.size(), b.prompt_logprobs.size());
  for (size_t i = 0; i < a.prompt_logprobs.size(); ++i) {
    EXPECT_EQ(a.prompt_logprobs[i].id, b.prompt_logprobs[i].id);
    EXPECT_EQ(bits(a.prompt_logprobs[i].logprob), bits(b.prompt_logprobs[i].logprob));
    expect_same(a.prompt_logprobs[i].top, b.prompt_logprobs[i].top);
  }
}

TEST(PlanCodec, PlansComeBackUnchanged) {
  for (uint64_t seed = 0; seed < 300; ++seed) {
    SCOPED_TRACE(seed);
    const StepPlan plan = Maker(seed).plan();
    expect_same(decode_plan(encode(plan)).value(), plan);
  }
}

TEST(PlanCodec, ReportsComeBackUnchanged) {
  for (uint64_t seed = 0; seed < 300; ++seed) {
    SCOPED_TRACE(seed);
    const RankReport report = Maker(seed).report(kSizes);
    const RankReport back = decode_report(encode(report), kSizes).value();
    EXPECT_EQ(back.place.rank, report.place.rank);
    EXPECT_EQ(back.place.stage, report.place.stage);
    const auto times = [](const StepResult& r) { return std::tie(r.id, r.begin_us, r.end_us, r.wait_us, r.sums_us); };
    EXPECT_EQ(times(back.result), times(report.result));
    ASSERT_EQ(back.result.rows.size(), report.result.rows.size());
    for (size_t i = 0; i < back.result.rows.size(); ++i) expect_same(back.result.rows[i], report.result.rows[i]);
  }
}

TEST(PlanCodec, AMessageCutShortIsAnError) {
  const std::string plan = encode(Maker(1).plan()), report = encode(Maker(2).report(kSizes));
  for (size_t bytes = 0; bytes < plan.size(); ++bytes) ASSERT_FALSE(decode_plan(plan.substr(0, bytes)).ok()) << bytes;
  for (size_t bytes = 0; bytes < report.size(); ++bytes) {
    ASSERT_FALSE(decode_report(report.substr(0, bytes), kSizes).ok()) << bytes;
  }
  EXPECT_FALSE(decode_plan(plan + '\0').ok());
}

TEST(PlanCodec, EveryFlippedBitIsAnError) {
  std::string plan = encode(Maker(3).plan());
  for (size_t bit = 0; bit < plan.size() * 8; ++bit) {
    plan[bit / 8] ^= static_cast<char>(1 << bit % 8);
    ASSERT_FALSE(decode_plan(plan).ok()) << bit;
    plan[bit / 8] ^= static_cast<char>(1 << bit % 8);
  }
  EXPECT_TRUE(decode_plan(plan).ok());
}

// As a broken writer would make it: the checksum is right. Any answer will do that sanitizers take.
TEST(PlanCodec, NonsenseWithAGoodChecksumIsRead) {
  int refused = 0;
  for (uint64_t seed = 0; seed < 2000; ++seed) {
    SCOPED_TRACE(seed);
    Maker maker(seed);
    std::string body = encode(maker.plan()).substr(12);
    for (uint64_t changes = 1 + maker.below(4); changes > 0; --changes) {
      body[maker.below(body.size())] = static_cast<char>(maker.any());
    }
    ByteWriter header;
    header(kPlanCodecVersion, checksum(body));
    refused += !decode_plan(header.bytes() + body).ok();
  }
  EXPECT_GT(refused, 100);
}

TEST(PlanCodec, AnotherVersionIsNamed) {
  std::string bytes = encode(StepPlan{});
  bytes[0] = 77;
  EXPECT_NE(decode_plan(bytes).error().message.find("version 77"), std::string::npos);
}

TEST(PlanCodec, ARankThatIsNotThereIsAnError) {
  const std::string bytes = encode(RankReport{place_of(kSizes, 7), {}});
  EXPECT_TRUE(decode_report(bytes, kSizes).ok());
  EXPECT_FALSE(decode_report(bytes, {.tp = 2, .pp = 2}).ok());
}

TEST(PlanCodec, AFirstTokenArrivesWithAllThatIsKnownOfIt) {
  FirstToken first{{17, -0.5f, {{17, -0.5f}, {3, -2.f}}}, {{5, -1.f, {}}, {6, -3.f, {}}}, 0x123456789abcdefu};
  const std::string bytes = encode_first(first);
  const std::optional<FirstToken> got = decode_first(bytes);
  ASSERT_TRUE(got);
  EXPECT_EQ(got->token.id, 17);
  EXPECT_EQ(got->token.top.size(), 2u);
  EXPECT_EQ(got->prompt_logprobs[1].id, 6);
  EXPECT_EQ(got->seed, first.seed);
  for (size_t cut = 0; cut < bytes.size(); ++cut) EXPECT_FALSE(decode_first(bytes.substr(0, cut))) << cut;
  first.token.id = -1;
  EXPECT_FALSE(decode_first(encode_first(first))) << "no token is no first token";
}

}  // namespace
}  // namespace hylas
