// Instances as users name them.
#include "router/worker_address.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "router/workers_file.h"
#include "support/temp_dir.h"

namespace hylas::router {
namespace {

using testing::HasSubstr;

TEST(WorkerAddress, UrlAndBootstrapPort) {
  auto worker = parse_worker(WorkerKind::kPrefill, "http://host:30000", "8998");
  ASSERT_TRUE(worker.ok());
  EXPECT_EQ(worker->bootstrap_port, 8998);
  EXPECT_EQ(to_string(worker->url), "http://host:30000");
  EXPECT_EQ(parse_worker(WorkerKind::kPrefill, "http://host:1", "none")->bootstrap_port, 0);
  EXPECT_EQ(parse_worker(WorkerKind::kDecode, "http://host:1")->bootstrap_port, 0);
}

TEST(WorkerAddress, ErrorsNameWhatIsWrong) {
  EXPECT_THAT(parse_worker(WorkerKind::kWhole, "host:30000").error().message, HasSubstr("'host:30000'"));
  EXPECT_THAT(parse_worker(WorkerKind::kPrefill, "http://h:1", "x").error().message, HasSubstr("http://h:1 x"));
  EXPECT_THAT(parse_worker(WorkerKind::kPrefill, "http://h:1", "70000").error().message, HasSubstr("70000"));
  EXPECT_THAT(parse_worker(WorkerKind::kDecode, "http://h:1", "8998").error().message, HasSubstr("only a prefill"));
}

TEST(WorkersFile, OneWorkerALine) {
  auto workers =
      parse_workers_file("# ours\nprefill http://p:1 8998\n\ndecode http://d:1  # big\nregular http://w:1\n");
  ASSERT_TRUE(workers.ok()) << workers.error().message;
  ASSERT_EQ(workers->size(), 3u);
  EXPECT_EQ((*workers)[0].bootstrap_port, 8998);
  EXPECT_EQ((*workers)[1].kind, WorkerKind::kDecode);
  EXPECT_EQ((*workers)[2].kind, WorkerKind::kWhole);
}

TEST(WorkersFile, BadLinesAreNamed) {
  EXPECT_THAT(parse_workers_file("decode http://d:1\ncook http://c:1\n").error().message, HasSubstr("line 2: 'cook'"));
  EXPECT_THAT(parse_workers_file("decode\n").error().message, HasSubstr("line 1"));
  EXPECT_THAT(parse_workers_file("prefill http://p:1 1 2\n").error().message, HasSubstr("too much"));
  EXPECT_THAT(parse_workers_file("decode http://d:1\ndecode http://d:1/\n").error().message, HasSubstr("twice"));
}

TEST(WorkersFile, IsReadWhenItChanges) {
  test::TempDir folder;
  std::string path = folder.file("workers");
  auto write = [&](const char* text) { folder.write("workers", text); };
  WorkersFile file(path);
  EXPECT_EQ(file.changes().error().code, ErrorCode::kNotFound);
  EXPECT_FALSE(file.changes()->has_value());  // said once
  write("decode http://d:1\n");
  EXPECT_EQ(file.changes()->value().size(), 1u);
  EXPECT_FALSE(file.changes()->has_value());
  write("nonsense\n");
  EXPECT_THAT(file.changes().error().message, HasSubstr(path));
  EXPECT_FALSE(file.changes()->has_value());
  write("decode http://d:1\ndecode http://e:1\n");
  EXPECT_EQ(file.changes()->value().size(), 2u);
}

}  // namespace
}  // namespace hylas::router
