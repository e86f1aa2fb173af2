#include "weights/checkpoint.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <array>

#include "support/goldens.h"
#include "support/temp_dir.h"
#include "weights/checkpoint_index.h"
#include "weights/raw_file.h"
#include "weights/safetensors_writer.h"

namespace hylas::test {
namespace {

using testing::AllOf;
using testing::HasSubstr;

// Files with one f32 tensor of two elements for each name.
void write_file(const TempDir& dir, const std::string& file, const std::vector<std::string>& names) {
  static std::array<float, 2> values = {1.f, 2.f};
  std::vector<std::pair<std::string, Tensor>> tensors;
  for (const std::string& name : names) tensors.emplace_back(name, Tensor(values.data(), DType::kF32, {2}));
  ASSERT_TRUE(write_safetensors(dir.file(file), tensors).ok());
}

void expect_error(const TempDir& dir, ErrorCode code, const testing::Matcher<std::string>& message) {
  const auto checkpoint = Checkpoint::open(dir.path());
  ASSERT_FALSE(checkpoint.ok());
  EXPECT_EQ(checkpoint.error().code, code);
  EXPECT_THAT(checkpoint.error().message, message);
}

TEST(Checkpoint, ViewsASingleFileWithoutCopying) {
  const auto checkpoint = Checkpoint::open(golden_model("mtp-moe").dir).value();
  EXPECT_EQ(checkpoint->tensors().size(), 112u);
  const Tensor experts = checkpoint->view("mtp.layers.0.mlp.experts.down_proj").value();
  EXPECT_EQ(experts.dtype, DType::kBF16);
  EXPECT_EQ(experts.shape, (std::array<int64_t, 4>{16, 128, 32, 1}));
  const TensorInfo* info = checkpoint->find("mtp.layers.0.mlp.experts.down_proj");
  EXPECT_EQ(experts.data, checkpoint->file(info->file).data() + info->offset);
}

TEST(Checkpoint, MergesDimensionsBehindTheThird) {
  const auto checkpoint = Checkpoint::open(golden_model("mtp-moe").dir).value();
  const Tensor patch = checkpoint->view("model.visual.patch_embed.proj.weight").value();
  EXPECT_EQ(patch.shape, (std::array<int64_t, 4>{32, 3, 2, 256}));
}

TEST(Checkpoint, JoinsTheShardsOfAnIndex) {
  TempDir dir;
  write_file(dir, "m-1.safetensors", {"a", "b"});
  write_file(dir, "m-2.safetensors", {"c"});
  dir.write("model.safetensors.index.json",
            R"({"metadata":{},"weight_map":{"a":"m-1.safetensors","b":"m-1.safetensors","c":"m-2.safetensors"}})");
  const auto checkpoint = Checkpoint::open(dir.path()).value();
  EXPECT_THAT(checkpoint->names(), testing::ElementsAre("a", "b", "c"));
  EXPECT_EQ(checkpoint->bytes_total(), 24u);
  EXPECT_EQ(checkpoint->view("c")->as<float>()[1], 2.f);
}

TEST(Checkpoint, SaysWhatItLooksForInAnEmptyDirectory) {
  TempDir dir;
  expect_error(dir, ErrorCode::kNotFound,
               AllOf(HasSubstr(dir.path()), HasSubstr("model.safetensors"), HasSubstr("model.safetensors.index.json")));
}

TEST(Checkpoint, NamesTheFileThatIsTruncatedWithBothSizes) {
  TempDir dir;
  write_file(dir, "model.safetensors", {"a", "b"});
  const auto whole = std::filesystem::file_size(dir.file("model.safetensors"));
  std::filesystem::resize_file(dir.file("model.safetensors"), whole - 3);
  expect_error(dir, ErrorCode::kInvalid,
               AllOf(HasSubstr(dir.file("model.safetensors")), HasSubstr(fmt::format("{} bytes", whole)),
                     HasSubstr(fmt::format("has {}", whole - 3))));
  dir.write("model.safetensors", "");
  expect_error(dir, ErrorCode::kInvalid, HasSubstr("too few"));
}

TEST(Checkpoint, NamesTheTensorWhoseShardIsAbsent) {
  TempDir dir;
  write_file(dir, "m-1.safetensors", {"a"});
  dir.write("model.safetensors.index.json", R"({"weight_map":{"a":"m-1.safetensors","b":"m-2.safetensors"}})");
  expect_error(dir, ErrorCode::kNotFound, AllOf(HasSubstr("`b`"), HasSubstr("m-2.safetensors")));
}

TEST(Checkpoint, NamesTheTensorThatTheIndexMisplaces) {
  TempDir dir;
  write_file(dir, "m-1.safetensors", {"a"});
  write_file(dir, "m-2.safetensors", {"b"});
  dir.write("model.safetensors.index.json", R"({"weight_map":{"a":"m-1.safetensors","b":"m-1.safetensors"}})");
  expect_error(dir, ErrorCode::kInvalid, AllOf(HasSubstr("`b`"), HasSubstr("m-1.safetensors")));
  dir.write("model.safetensors.index.json",
            R"({"weight_map":{"a":"m-1.safetensors","b":"m-2.safetensors","c":"m-1.safetensors"}})");
  expect_error(dir, ErrorCode::kInvalid, HasSubstr("`c`"));
}

TEST(Checkpoint, RefusesATensorInTwoShards) {
  TempDir dir;
  write_file(dir, "m-1.safetensors", {"a", "b"});
  write_file(dir, "m-2.safetensors", {"b"});
  dir.write("model.safetensors.index.json", R"({"weight_map":{"a":"m-1.safetensors","b":"m-2.safetensors"}})");
  expect_error(dir, ErrorCode::kInvalid, AllOf(HasSubstr("`b`"), HasSubstr("m-1"), HasSubstr("m-2")));
}

TEST(Checkpoint, AnUnknownTypeIsAnErrorOnlyForWhoNeedsIt) {
  TempDir dir;
  dir.write("model.safetensors", raw_safetensors(R"({"a":{"dtype":"F64","shape":[1],"data_offsets":[0,8]},)"
                                                 R"("b":{"dtype":"F32","shape":[1],"data_offsets":[8,12]}})",
                                                 12));
  const auto checkpoint = Checkpoint::open(dir.path()).value();
  EXPECT_TRUE(checkpoint->view("b").ok());
  const auto unknown = checkpoint->view("a");
  ASSERT_FALSE(unknown.ok());
  EXPECT_EQ(unknown.error().code, ErrorCode::kUnsupported);
  EXPECT_THAT(unknown.error().message, AllOf(HasSubstr("`a`"), HasSubstr("F64")));
  EXPECT_EQ(checkpoint->view("missing").error().code, ErrorCode::kNotFound);
}

TEST(Checkpoint, FindsTextTensorsSavedWithoutTheirOuterModule) {
  for (const std::string prefix : {"language_model.", "model.", "model.language_model.", ""}) {
    SCOPED_TRACE(prefix);
    TempDir dir;
    write_file(dir, "model.safetensors",
               {prefix + "embed_tokens.weight", prefix + "layers.0.x", "mtp.embed_tokens.weight"});
    const auto checkpoint = Checkpoint::open(dir.path()).value();
    for (const char* name : {"model.language_model.layers.0.x", "model.layers.0.x"}) {
      EXPECT_EQ(checkpoint->find(name), checkpoint->find(prefix + "layers.0.x")) << name;
      EXPECT_NE(checkpoint->find(name), nullptr) << name;
    }
    EXPECT_EQ(checkpoint->find("model.layers.1.x"), nullptr);
  }
}

TEST(CheckpointIndex, RefusesWhatIsNotAMapToFilesOfItsDirectory) {
  for (const char* text : {"", "[]", "{}", R"({"weight_map":[]})", R"({"weight_map":{}})", R"({"weight_map":{"a":1}})",
                           R"({"weight_map":{"a":""}})", R"({"weight_map":{"a":"../b.safetensors"}})",
                           R"({"weight_map":{"a":"/etc/b.safetensors"}})", R"({"weight_map":{"a":"b.bin"}})"}) {
    const auto index = parse_checkpoint_index(text, "x.index.json");
    ASSERT_FALSE(index.ok()) << text;
    EXPECT_EQ(index.error().code, ErrorCode::kInvalid);
    EXPECT_THAT(index.error().message, HasSubstr("x.index.json"));
  }
}

TEST(Prefetch, ReportsEveryByteOnce) {
  const std::vector<std::byte> a(40 << 20), b(5);
  const std::array<std::span<const std::byte>, 2> pieces = {a, b};
  size_t last = 0;
  prefetch(pieces, [&](size_t done, size_t total) {
    EXPECT_GT(done, last);
    EXPECT_EQ(total, a.size() + b.size());
    last = done;
  });
  EXPECT_EQ(last, a.size() + b.size());
}

}  // namespace
}  // namespace hylas::test
