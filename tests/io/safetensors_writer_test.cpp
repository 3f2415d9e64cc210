#include "io/safetensors_writer.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <set>

#include "io/json.h"
#include "io/mapped_file.h"
#include "io/safetensors.h"

namespace neap {
namespace {

namespace fs = std::filesystem;

class SafetensorsWriterTest : public testing::Test {
 protected:
  void SetUp() override {
    folder_ = (fs::temp_directory_path() / "neap-safetensors-XXXXXX").string();
    ASSERT_NE(mkdtemp(folder_.data()), nullptr);
  }
  void TearDown() override { fs::remove_all(folder_); }

  std::string folder_;
};

const std::vector<TensorSpec> kTensors = {{"h", DType::bf16, {3}},
                                          {"b.weight", DType::f32, {2, 2}},
                                          {"empty", DType::f32, {0, 4}},
                                          {"odd \"name\" \xc3\xa9", DType::u8, {5}},
                                          {"shape", DType::i64, {2}}};

std::vector<std::byte> bytes_for(const TensorSpec& tensor, std::size_t bytes) {
  std::vector<std::byte> result(bytes);
  for (std::size_t i = 0; i < bytes; ++i) {
    result[i] = static_cast<std::byte>(17 * i + tensor.name.size());
  }
  return result;
}

void expect_contents(const std::string& path, const std::vector<TensorSpec>& tensors) {
  const MappedFile file(path);
  const SafetensorsHeader header = parse_safetensors(file.bytes(), path);
  EXPECT_EQ(header.metadata, (std::map<std::string, std::string>{{"format", "pt"}}));
  EXPECT_EQ(header.data_start % 8, 0u);
  EXPECT_EQ(header.tensors.size(), tensors.size());
  for (const TensorInfo& info : header.tensors) {
    EXPECT_EQ(info.offset % block_bytes(info.type), 0u) << info.name;
    const auto spec = std::find_if(tensors.begin(), tensors.end(),
                                   [&](const TensorSpec& t) { return t.name == info.name; });
    ASSERT_NE(spec, tensors.end());
    EXPECT_EQ(info.type, spec->type);
    EXPECT_EQ(info.shape, spec->shape);
    const auto expected = bytes_for(*spec, info.bytes);
    EXPECT_TRUE(std::ranges::equal(file.bytes().subspan(info.offset, info.bytes), expected));
  }
}

TEST_F(SafetensorsWriterTest, TheReaderFindsEveryTensorWhateverOrderTheyCameIn) {
  SafetensorsWriter writer(folder_, kTensors, 1 << 20, {{"format", "pt"}});
  EXPECT_EQ(writer.tensor_bytes(), 6u + 16 + 0 + 5 + 16);
  for (auto tensor = kTensors.rbegin(); tensor != kTensors.rend(); ++tensor) {
    std::size_t bytes = block_bytes(tensor->type);
    for (const auto n : tensor->shape) bytes *= static_cast<std::size_t>(n);
    const auto values = bytes_for(*tensor, bytes);
    const std::size_t half = bytes / 2;
    writer.write(tensor->name, std::span(values).subspan(half), half);
    writer.write(tensor->name, std::span(values).first(half), 0);
  }
  writer.finish();
  expect_contents(folder_ + "/model.safetensors", kTensors);
  EXPECT_FALSE(fs::exists(folder_ + "/model.safetensors.index.json"));
}

TEST_F(SafetensorsWriterTest, ShardsKeepToTheirSizeAndTheIndexNamesThem) {
  const std::vector<TensorSpec> tensors = {{"a", DType::u8, {60}},
                                           {"b", DType::u8, {40}},
                                           {"c", DType::u8, {1}},
                                           {"big", DType::u8, {300}},
                                           {"d", DType::u8, {99}}};
  SafetensorsWriter writer(folder_, tensors, 100, {{"format", "pt"}});
  for (const auto& tensor : tensors) {
    writer.write(tensor.name, bytes_for(tensor, static_cast<std::size_t>(tensor.shape[0])));
  }
  EXPECT_FALSE(fs::exists(folder_ + "/model.safetensors.index.json"));
  writer.finish();
  const std::string index_path = folder_ + "/model.safetensors.index.json";
  const std::string index = read_text_file(index_path);
  const ShardMap expected = {{"model-00001-of-00004.safetensors", {"a", "b"}},
                             {"model-00002-of-00004.safetensors", {"c"}},
                             {"model-00003-of-00004.safetensors", {"big"}},
                             {"model-00004-of-00004.safetensors", {"d"}}};
  EXPECT_EQ(parse_safetensors_index(index, index_path), expected);
  EXPECT_EQ(parse_json(index, index_path)["metadata"]["total_size"], 500);
  expect_contents(folder_ + "/model-00001-of-00004.safetensors", {tensors[0], tensors[1]});
  expect_contents(folder_ + "/model-00003-of-00004.safetensors", {tensors[3]});
}

TEST_F(SafetensorsWriterTest, AMissingByteIsABrokenInvariant) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  EXPECT_DEATH(
      {
        SafetensorsWriter writer(folder_, {{"a", DType::u8, {2}}}, 100, {});
        writer.write("a", std::vector<std::byte>(1));
        writer.finish();
      },
      "invariant");
}

}  // namespace
}  // namespace neap
