// Which way states go.
#include <gtest/gtest.h>

#include <cstdlib>

#include "base/log.h"
#include "transfer/invitation.h"
#include "transfer/link_fixture.h"
#include "transfer/shm_host.h"

namespace hylas {
namespace {

using test::put_and_wait;
using test::random_bytes;

TEST(NearestLink, ReadsTransportsAsUcxDoes) {
  for (const char* all : {"all", "shm", "shm,tcp", "tcp,sm", "posix", "^tcp", "^rc,ud"}) {
    EXPECT_TRUE(allows_shm(all)) << all;
  }
  for (const char* none : {"", "tcp", "rc,tcp", "^shm", "^tcp,shm", "self", "shmem"})
    EXPECT_FALSE(allows_shm(none)) << none;
}

TEST(NearestLink, AsksUcxWhatItWasTold) {
  const char* before = std::getenv("UCX_TLS");
  const std::string kept = before ? before : "";
  setenv("UCX_TLS", "tcp,self", 1);
  EXPECT_EQ(ucx_transports(), "tcp,self");
  unsetenv("UCX_TLS");
  EXPECT_TRUE(allows_shm(ucx_transports())) << ucx_transports();
  if (before) setenv("UCX_TLS", kept.c_str(), 1);
}

// Over UCX between both, whoever of them shares no memory.
class OverUcx : public testing::TestWithParam<std::pair<bool, bool>> {};

TEST_P(OverUcx, WhereOneSideIsWithoutSharedMemory) {
  const auto [here, there] = GetParam();
  const test::LinkKind kind{"nearest", there ? test::make_near_link : test::make_far_link, true};
  test::Far far(kind);
  const std::unique_ptr<Link> link = here ? test::make_near_link() : test::make_far_link();
  testing::internal::CaptureStderr();
  ASSERT_TRUE(log::init("info"));
  const int32_t peer = link->connect(far.description()).value();
  const std::string said = testing::internal::GetCapturedStderr();
  ASSERT_TRUE(log::init("warn"));
  EXPECT_THAT(said, testing::HasSubstr(here && there ? "through shared memory" : "over UCX"));
  const std::vector<std::byte> data = random_bytes(100000, 1);
  EXPECT_TRUE(put_and_wait(*link, peer, {{data.data(), 1, 5, data.size(), 0}}).status.ok());
  EXPECT_EQ(std::memcmp(far.region(1) + 5, data.data(), data.size()), 0);
}

INSTANTIATE_TEST_SUITE_P(Sides, OverUcx,
                         testing::Values(std::pair(true, true), std::pair(true, false), std::pair(false, true)),
                         [](const auto& info) {
                           return std::string(info.param.first ? "shm" : "none") +
                                  (info.param.second ? "_shm" : "_none");
                         });

// As between nodes, and between containers with networks of their own: the peer's local socket is not here.
TEST(NearestLink, GoesOverUcxToAnotherNode) {
  test::Far far({"nearest", test::make_near_link, true});
  const std::string description = far.description();
  uint64_t kind = 0;
  ByteReader(std::string_view(description).substr(0, sizeof kind))(kind);
  std::string shm, ucx;
  ASSERT_TRUE(unseal_invitation(kind, description, shm, ucx));
  ShmInvitation elsewhere = decode_shm_invitation(shm).value();
  elsewhere.name = "hylas-elsewhere";
  EXPECT_EQ(make_shm_link()->connect(encode(elsewhere)).error().code, ErrorCode::kNotFound);
  const std::unique_ptr<Link> link = test::make_near_link();
  const int32_t peer = link->connect(seal_invitation(kind, encode(elsewhere), ucx)).value();
  const std::vector<std::byte> data = random_bytes(1000, 2);
  EXPECT_TRUE(put_and_wait(*link, peer, {{data.data(), 0, 0, data.size(), 0}}).status.ok());
  EXPECT_EQ(std::memcmp(far.region(0), data.data(), data.size()), 0);
}

// Who does not know the token gets nothing, and a token that was taken back is none.
TEST(ShmLink, StrangersGetNoMemory) {
  test::Far far({"shm", make_shm_link, true});
  ShmInvitation invitation = decode_shm_invitation(far.description()).value();
  const std::unique_ptr<Link> link = make_shm_link();
  const int32_t peer = link->connect(encode(invitation)).value();
  invitation.token[3] ^= 1;
  EXPECT_EQ(link->connect(encode(invitation)).error().code, ErrorCode::kIo);
  const std::vector<std::byte> data = random_bytes(1000, 3);
  EXPECT_TRUE(put_and_wait(*link, peer, {{data.data(), 0, 0, data.size(), 0}}).status.ok()) << "others stay";
}

}  // namespace
}  // namespace hylas
