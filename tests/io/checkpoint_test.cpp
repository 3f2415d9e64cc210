#include "neap/checkpoint.h"

#include <gtest/gtest.h>

#include <cstring>
#include <filesystem>
#include <fstream>
#include <map>

#include "base/parallel.h"
#include "io/gguf.h"
#include "support/expect_error.h"
#include "support/file_bytes.h"
#include "support/temp_folder.h"

namespace neap {
namespace {

namespace fs = std::filesystem;
using test::GgufBuilder;
using test::safetensors_bytes;
using test::TempFolder;

const std::string kGolden = NEAP_GOLDEN_DIR "/io/";

// A folder with a golden safetensors file as its model.
std::string as_model(const TempFolder& folder, const std::string& golden) {
  folder.write("config.json", "{\"a\": 1}");
  fs::copy_file(kGolden + golden, folder / "model.safetensors");
  return folder.path();
}

std::string bytes_of(const std::string& path) {
  std::ifstream stream(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(stream), {}};
}

// One tensor of `count` bytes (U8).
std::string one_tensor(const std::string& name, int count) {
  return safetensors_bytes("{\"" + name + "\":{\"dtype\":\"U8\",\"shape\":[" +
                               std::to_string(count) + "],\"data_offsets\":[0," +
                               std::to_string(count) + "]}}",
                           static_cast<std::size_t>(count));
}

// Holds every float tensor of `checkpoint` against "<prefix><name>" of the values' golden file.
void expect_golden_values(const Checkpoint& checkpoint, const std::string& prefix,
                          std::size_t count) {
  const TempFolder folder;
  const Checkpoint golden = Checkpoint::open(as_model(folder, "all_types.values.safetensors"));
  std::size_t compared = 0;
  for (const TensorInfo& tensor : checkpoint.tensors()) {
    const TensorInfo* expected = golden.find(prefix + tensor.name);
    if (expected == nullptr) continue;
    EXPECT_EQ(tensor.shape, expected->shape) << tensor.name;
    const std::vector<float> values = checkpoint.read(tensor);
    ASSERT_EQ(values.size() * sizeof(float), expected->bytes) << tensor.name;
    const auto bytes = golden.bytes(*expected);
    EXPECT_TRUE(bytes.empty() || std::memcmp(values.data(), bytes.data(), bytes.size()) == 0)
        << tensor.name;
    ++compared;
  }
  EXPECT_EQ(compared, count);
}

TEST(CheckpointTest, ReadsAFolderAsTheReferenceDoes) {
  const TempFolder folder;
  const Checkpoint checkpoint = Checkpoint::open(as_model(folder, "all_types.safetensors"));
  EXPECT_EQ(checkpoint.kind(), Checkpoint::Kind::huggingface);
  EXPECT_EQ(checkpoint.path(), folder.path());
  EXPECT_EQ(checkpoint.folder(), folder.path());
  EXPECT_EQ(checkpoint.config_json(), "{\"a\": 1}");
  EXPECT_EQ(checkpoint.gguf(), nullptr);
  EXPECT_EQ(checkpoint.tensors().size(), 16u);
  expect_golden_values(checkpoint, "safetensors.", 8);
}

TEST(CheckpointTest, ReadsAGgufAsTheReferenceDoes) {
  const Checkpoint checkpoint = Checkpoint::open(kGolden + "all_types.gguf");
  EXPECT_EQ(checkpoint.kind(), Checkpoint::Kind::gguf);
  EXPECT_EQ(checkpoint.folder(), NEAP_GOLDEN_DIR "/io");
  EXPECT_EQ(checkpoint.config_json(), "");
  ASSERT_NE(checkpoint.gguf(), nullptr);
  EXPECT_EQ(checkpoint.gguf()->string("general.architecture"), "llama");
  expect_golden_values(checkpoint, "gguf.", 6);
}

TEST(CheckpointTest, JoinsTheFilesOfASplitGguf) {
  const Checkpoint checkpoint = Checkpoint::open(kGolden + "split-00001-of-00003.gguf");
  ASSERT_EQ(checkpoint.tensors().size(), 5u);
  for (int i = 0; i < 5; ++i) {
    const TensorInfo& tensor = checkpoint.info("t" + std::to_string(i));
    EXPECT_EQ(checkpoint.read(tensor), std::vector<float>(6, static_cast<float>(i)));
    EXPECT_TRUE(tensor.file.ends_with(i < 2   ? "1-of-00003.gguf"
                                      : i < 4 ? "2-of-00003.gguf"
                                              : "3-of-00003.gguf"));
  }
}

TEST(CheckpointTest, RefusesASplitGgufThatIsIncompleteOrMixedUp) {
  const TempFolder folder;
  const auto name = [&](int i) {
    return folder / ("split-0000" + std::to_string(i) + "-of-00003.gguf");
  };
  const auto copy = [&](int from, int to) {
    fs::copy_file(kGolden + "split-0000" + std::to_string(from) + "-of-00003.gguf", name(to),
                  fs::copy_options::overwrite_existing);
  };
  EXPECT_ERROR(
      Checkpoint::open(kGolden + "split-00002-of-00003.gguf"), ErrorCode::unsupported,
      "not the first file of a split model (expected " + kGolden + "split-00001-of-00003.gguf)");
  copy(1, 1), copy(3, 3);
  EXPECT_ERROR(Checkpoint::open(name(1)), ErrorCode::io, name(2) + ": cannot open");
  copy(3, 2);
  EXPECT_ERROR(Checkpoint::open(name(1)), ErrorCode::format, name(2) + ": is not the part");
  fs::rename(name(1), folder / "m.gguf");
  EXPECT_ERROR(Checkpoint::open(folder / "m.gguf"), ErrorCode::format, "not named like one");
}

TEST(CheckpointTest, RefusesASplitGgufWhoseFilesDoNotAddUp) {
  const TempFolder folder;
  const auto part = [&](std::uint16_t number, const char* tensor, std::int32_t total) {
    const std::string bytes = GgufBuilder()
                                  .scalar("split.no", test::kU16, number)
                                  .scalar("split.count", test::kU16, std::uint16_t{2})
                                  .scalar("split.tensors.count", test::kI32, total)
                                  .tensor(tensor, {8}, 0, 32)
                                  .build();
    return folder.write("m-0000" + std::to_string(number + 1) + "-of-00002.gguf", bytes);
  };
  part(1, "b", 3);
  EXPECT_ERROR(Checkpoint::open(part(0, "a", 3)), ErrorCode::format,
               "do not add up (expected 3, found 2)");
  part(1, "a", 2);
  EXPECT_ERROR(Checkpoint::open(part(0, "a", 2)), ErrorCode::format, "'a': stands in two files");
  part(1, "b", 2);
  EXPECT_EQ(Checkpoint::open(part(0, "a", 2)).tensors().size(), 2u);
}

// Two shards of one tensor each, with the index that is given.
std::string sharded(const TempFolder& folder, const std::string& weight_map) {
  folder.write("config.json", "{}");
  folder.write("s1.safetensors", one_tensor("a", 3));
  folder.write("s2.safetensors", one_tensor("b", 4));
  folder.write("model.safetensors.index.json", "{\"weight_map\":" + weight_map + "}");
  return folder.path();
}

TEST(CheckpointTest, JoinsShards) {
  const TempFolder folder;
  const Checkpoint checkpoint =
      Checkpoint::open(sharded(folder, R"({"a":"s1.safetensors","b":"s2.safetensors"})"));
  ASSERT_EQ(checkpoint.tensors().size(), 2u);
  EXPECT_EQ(checkpoint.info("b").file, folder / "s2.safetensors");
  EXPECT_EQ(checkpoint.bytes(checkpoint.info("b")).size(), 4u);
}

TEST(CheckpointTest, HoldsShardsAgainstTheIndexBothWays) {
  const TempFolder folder;
  EXPECT_ERROR(Checkpoint::open(sharded(folder, R"({"a":"s1.safetensors","b":"s3.safetensors"})")),
               ErrorCode::io,
               "/s3.safetensors: missing, although model.safetensors.index.json names it");
  EXPECT_ERROR(Checkpoint::open(sharded(
                   folder, R"({"a":"s1.safetensors","b":"s2.safetensors","c":"s2.safetensors"})")),
               ErrorCode::format, "s2.safetensors: 'c': is not in the shard that the index names");
  EXPECT_ERROR(Checkpoint::open(sharded(folder, R"({"b":"s2.safetensors","z":"s1.safetensors"})")),
               ErrorCode::format,
               "s1.safetensors: 'a': is in this shard, but the index does not say so");
}

TEST(CheckpointTest, SaysInOneLineWhatIsNoModel) {
  const TempFolder folder;
  EXPECT_ERROR(Checkpoint::open(folder / "none"), ErrorCode::io,
               folder / "none: no such file or folder");
  EXPECT_ERROR(Checkpoint::open(""), ErrorCode::io, "no such file or folder");
  EXPECT_ERROR(Checkpoint::open(folder.path()), ErrorCode::io,
               "is not a model: it has no config.json");
  folder.write("config.json", "{}");
  EXPECT_ERROR(Checkpoint::open(folder.path()), ErrorCode::io, "no safetensors weights");
  EXPECT_ERROR(Checkpoint::open(folder.write("x.txt", "hello")), ErrorCode::format,
               "not a GGUF file");
  EXPECT_ERROR(Checkpoint::open(folder.write("model.safetensors", one_tensor("a", 1))),
               ErrorCode::unsupported, "name the folder that holds it");
}

TEST(CheckpointTest, RefusesEveryTruncationOfTheReferencesFiles) {
  const TempFolder folder;
  const std::string gguf = bytes_of(kGolden + "all_types.gguf");
  for (std::size_t length = 0; length < gguf.size(); length += 7) {
    EXPECT_THROW(Checkpoint::open(folder.write("m.gguf", gguf.substr(0, length))), Error) << length;
  }
  const std::string model = as_model(folder, "all_types.safetensors");
  const std::string safetensors = bytes_of(folder / "model.safetensors");
  for (std::size_t length = 0; length < safetensors.size(); length += 7) {
    folder.write("model.safetensors", safetensors.substr(0, length));
    EXPECT_THROW(Checkpoint::open(model), Error) << length;
  }
}

TEST(CheckpointTest, AMissingTensorIsNamed) {
  const Checkpoint checkpoint = Checkpoint::open(kGolden + "all_types.gguf");
  EXPECT_EQ(checkpoint.find("none"), nullptr);
  EXPECT_ERROR(checkpoint.info("none"), ErrorCode::format,
               "all_types.gguf: 'none': the model has no such tensor");
}

TEST(CheckpointTest, IntegersAreNotReadAsFloats) {
  const Checkpoint checkpoint = Checkpoint::open(kGolden + "all_types.gguf");
  EXPECT_ERROR(checkpoint.read(checkpoint.info("numbers")), ErrorCode::unsupported, "'numbers': ");
}

TEST(CheckpointTest, RowsAreSlicesOfTheWhole) {
  const Checkpoint checkpoint = Checkpoint::open(kGolden + "all_types.gguf");
  for (const char* name : {"vector", "matrix.weight", "brain.weight", "cube.weight", "four"}) {
    const TensorInfo& tensor = checkpoint.info(name);
    const std::vector<float> whole = checkpoint.read(tensor);
    const std::int64_t cols = tensor.shape.back(),
                       rows = static_cast<std::int64_t>(whole.size()) / cols;
    for (std::int64_t first = 0; first < rows; ++first) {
      std::vector<float> part(static_cast<std::size_t>((rows - first) * cols));
      checkpoint.read_rows(tensor, first, rows - first, part.data());
      EXPECT_EQ(part, std::vector<float>(whole.begin() + first * cols, whole.end()))
          << name << first;
    }
  }
}

// 3 rows of 100 000 Q8_0 elements: tiles begin within rows.
TEST(CheckpointTest, ThreadsDoNotChangeValues) {
  const TempFolder folder;
  const std::int64_t cols = 100'000, rows = 3;
  const std::string path = folder.write(
      "m.gguf", GgufBuilder()
                    .tensor("x", {cols, rows}, 8, static_cast<std::size_t>(rows * cols / 32 * 34))
                    .build());
  const Checkpoint checkpoint = Checkpoint::open(path);
  std::vector<float> one, three;
  {
    const ThreadScope scope(1);
    one = checkpoint.read(checkpoint.info("x"));
  }
  {
    const ThreadScope scope(3);
    three = checkpoint.read(checkpoint.info("x"));
  }
  EXPECT_EQ(one, three);
  EXPECT_EQ(one, std::vector<float>(300'000, one[0]));  // the builder repeats one byte
  EXPECT_GT(one[0], 0.0f);
}

TEST(CheckpointTest, CopiesShareTheMappingAndReleaseKeepsTheBytes) {
  std::optional<Checkpoint> first = Checkpoint::open(kGolden + "all_types.gguf");
  const Checkpoint copy = *first;
  const std::byte* address = first->bytes(first->info("vector")).data();
  first.reset();
  const TensorInfo& tensor = copy.info("vector");
  EXPECT_EQ(copy.bytes(tensor).data(), address);
  const std::vector<float> before = copy.read(tensor);
  copy.release(tensor);
  EXPECT_EQ(copy.read(tensor), before);
}

}  // namespace
}  // namespace neap
