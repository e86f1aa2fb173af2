// Every kind of link, to memory of this process and of another one.
#include "transfer/link.h"

#include "transfer/link_fixture.h"

namespace hylas {
namespace {

using test::LinkKind;
using test::put_and_wait;
using test::random_bytes;
using test::Results;
using testing::HasSubstr;

class LinkOf : public test::LinkFixture {};

TEST_P(LinkOf, WritesOfEverySizeArriveWithTheirSum) {
  const std::vector<std::byte> data = random_bytes(3 << 20, 1);
  std::vector<Write> writes;
  uint64_t offset = 5, from = 0;
  for (const uint64_t bytes : {1, 7, 8, 64, 1000, 4096, 9000, 65536, 100001, 1 << 20, (1 << 20) + 3}) {
    const auto region = static_cast<int32_t>(writes.size() % test::kRegions);
    writes.push_back({data.data() + from, region, offset, bytes, writes.size() + 7});
    from += bytes;
    offset += bytes + 13;
  }
  const int32_t peer = link_->connect(far_.description()).value();
  expect_arrived(writes, put_and_wait(*link_, peer, writes));
  EXPECT_EQ(far_.region(0)[4], std::byte{0}) << "nothing before";
  EXPECT_EQ(far_.region(writes.back().region)[writes.back().offset + writes.back().bytes], std::byte{0})
      << "nor behind";
}

// Neighbours on both sides, on one side only, in any order.
TEST_P(LinkOf, ThousandsOfSmallWritesArrive) {
  const int count = 20000, bytes = 192;
  const std::vector<std::byte> data = random_bytes(count * bytes, 2);
  std::mt19937_64 random(3);
  std::vector<uint64_t> places(count);
  std::iota(places.begin(), places.end(), 0);
  for (int i = 0; i < count / 4; ++i) std::swap(places[random() % count], places[random() % count]);
  std::vector<Write> writes;
  for (int i = 0; i < count; ++i) {
    const auto size = static_cast<uint64_t>(i % 5 == 0 ? bytes - 1 : bytes);
    writes.push_back({data.data() + i * bytes, 1, places[i] * bytes, size, static_cast<uint64_t>(i)});
  }
  const int32_t peer = link_->connect(far_.description()).value();
  expect_arrived(writes, put_and_wait(*link_, peer, writes));
}

TEST_P(LinkOf, WritesOf64MiBArrive) {
  const std::vector<std::byte> data = random_bytes(64 << 20, 4);
  const std::vector<Write> writes = {{data.data(), 0, 4096, data.size(), 1}, {data.data(), 1, 0, data.size(), 2}};
  const int32_t peer = link_->connect(far_.description()).value();
  expect_arrived(writes, put_and_wait(*link_, peer, writes));
}

TEST_P(LinkOf, PutsOfManyThreadsEndOnceEach) {
  const int threads = 4, puts = 50, bytes = 30000;
  const std::vector<std::byte> data = random_bytes(threads * puts * bytes, 5);
  const int32_t peer = link_->connect(far_.description()).value();
  Results results;
  {
    std::vector<std::jthread> callers;
    for (int t = 0; t < threads; ++t) {
      callers.emplace_back([&, t] {
        for (int i = 0; i < puts; ++i) {
          const auto at = static_cast<uint64_t>(t * puts + i) * bytes;
          link_->put(peer, {{data.data() + at, 0, at, static_cast<uint64_t>(bytes), at}}, results.add());
        }
      });
    }
  }
  EXPECT_EQ(results.failed(), 0u);
  EXPECT_EQ(std::memcmp(far_.region(0), data.data(), data.size()), 0);
}

TEST_P(LinkOf, APutWithoutWritesEndsToo) {
  const PutResult result = put_and_wait(*link_, link_->connect(far_.description()).value(), {});
  EXPECT_TRUE(result.status.ok());
  EXPECT_EQ(result.bytes, 0u);
  EXPECT_EQ(result.sum, 0u);
}

TEST_P(LinkOf, NothingIsWrittenBeyondARegion) {
  const std::vector<std::byte> data = random_bytes(4096, 6);
  const int32_t peer = link_->connect(far_.description()).value();
  for (const Write& bad : {Write{data.data(), 0, test::kRegionBytes - 1, 2, 0}, Write{data.data(), 2, 0, 1, 0},
                           Write{data.data(), -1, 0, 1, 0}, Write{data.data(), 0, UINT64_MAX, 2, 0}}) {
    const PutResult result = put_and_wait(*link_, peer, {{data.data(), 0, 0, 100, 0}, bad});
    ASSERT_FALSE(result.status.ok());
    EXPECT_EQ(result.status.error().code, ErrorCode::kInvalid);
  }
  const std::vector<Write> last = {{data.data(), 0, test::kRegionBytes - 4096, 4096, 0}};
  expect_arrived(last, put_and_wait(*link_, peer, last));
}

TEST_P(LinkOf, MalformedDescriptionsAreRefused) {
  const std::string& good = far_.description();
  std::vector<std::string> bad = {"", "x", std::string(5000, '\0'), good + "x"};
  for (size_t n = 0; n < good.size(); n += 7) bad.push_back(good.substr(0, n));
  if (GetParam().name != std::string("local")) {
    for (size_t i = 0; i < good.size(); i += 3) {
      bad.push_back(good);
      bad.back()[i] ^= 0x10;
    }
  }
  for (const std::string& description : bad) {
    const Result<int32_t> peer = link_->connect(description);
    ASSERT_FALSE(peer.ok());
    EXPECT_EQ(peer.error().code, ErrorCode::kInvalid);
  }
}

TEST_P(LinkOf, APeerThatIsDisconnectedGetsNothingMore) {
  const std::vector<std::byte> data = random_bytes(1000, 7);
  const int32_t peer = link_->connect(far_.description()).value();
  link_->disconnect(peer, "no heartbeat");
  for (const int32_t gone : {peer, -1, 12345}) {
    const PutResult result = put_and_wait(*link_, gone, {{data.data(), 0, 0, 1000, 0}});
    ASSERT_FALSE(result.status.ok()) << gone;
    EXPECT_EQ(result.status.error().code, ErrorCode::kIo);
  }
  EXPECT_EQ(far_.region(0)[0], std::byte{0});
  const int32_t again = link_->connect(far_.description()).value();
  EXPECT_NE(again, peer) << "ids are not used again";
  const std::vector<Write> writes = {{data.data(), 0, 0, 1000, 0}};
  expect_arrived(writes, put_and_wait(*link_, again, writes));
}

TEST_P(LinkOf, ItsEndWaitsForWhatWasPut) {
  const std::vector<std::byte> data = random_bytes(32 << 20, 8);
  const int32_t peer = link_->connect(far_.description()).value();
  Results results;
  for (int i = 0; i < 3; ++i) link_->put(peer, {{data.data(), 0, 0, data.size(), 0}}, results.add());
  link_.reset();
  EXPECT_TRUE(results.wait(std::chrono::seconds(0)));
  EXPECT_EQ(results.failed(), 0u);
  EXPECT_EQ(std::memcmp(far_.region(0), data.data(), data.size()), 0);
}

class LinkToAnother : public test::LinkFixture {};

TEST_P(LinkToAnother, WhatIsTakenBackIsWrittenNoMore) {
  const std::vector<std::byte> data = random_bytes(1000, 10);
  const int32_t peer = link_->connect(far_.description()).value();
  const std::vector<Write> writes = {{data.data(), 0, 0, 1000, 0}};
  expect_arrived(writes, put_and_wait(*link_, peer, writes));
  far_.begin_revoking();
  ASSERT_TRUE(far_.revoked(std::chrono::seconds(5)));
  std::memset(far_.region(0), 0, 1000);
  EXPECT_FALSE(put_and_wait(*link_, peer, writes).status.ok());
  EXPECT_EQ(far_.region(0)[0], std::byte{0});
  EXPECT_FALSE(link_->connect(far_.description()).ok());
}

INSTANTIATE_TEST_SUITE_P(Kinds, LinkToAnother,
                         testing::Values(LinkKind{"tcp", test::make_tcp_link, true},
                                         LinkKind{"shared_memory", make_shm_link, true},
                                         LinkKind{"nearest", test::make_near_link, true}),
                         [](const auto& info) { return std::string(info.param.name); });
INSTANTIATE_TEST_SUITE_P(Kinds, LinkOf,
                         testing::Values(LinkKind{"local", make_local_link, false},
                                         LinkKind{"shm_same_process", make_shm_link, false},
                                         LinkKind{"tcp", test::make_tcp_link, true},
                                         LinkKind{"shared_memory", make_shm_link, true},
                                         LinkKind{"nearest", test::make_near_link, true}),
                         [](const auto& info) { return std::string(info.param.name); });

TEST(LocalLink, APeerThatClosedItsLinkFailsPuts) {
  std::vector<std::byte> memory(100), data(100);
  std::unique_ptr<Link> far = make_local_link(), link = make_local_link();
  const Region region{memory.data(), memory.size()};
  ASSERT_TRUE(far->open({&region, 1}).ok());
  const std::string description = far->invite().value();
  const int32_t peer = link->connect(description).value();
  far.reset();
  EXPECT_EQ(put_and_wait(*link, peer, {{data.data(), 0, 0, 100, 0}}).status.error().code, ErrorCode::kIo);
  EXPECT_EQ(link->connect(description).error().code, ErrorCode::kIo);
}

TEST(UcxLink, ForeignTransportsAreAnErrorThatNamesThem) {
  const Result<std::unique_ptr<Link>> link = make_ucx_link({.devices = "none0:1", .transports = "tcp"});
  ASSERT_FALSE(link.ok());
  EXPECT_THAT(link.error().message, HasSubstr("none0:1"));
}

}  // namespace
}  // namespace hylas
