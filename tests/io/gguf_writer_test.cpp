#include "io/gguf_writer.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <iterator>

#include "io/mapped_file.h"
#include "neap/checkpoint.h"
#include "support/expect_error.h"
#include "support/temp_folder.h"

namespace neap {
namespace {

GgufMetadata every_kind() {
  return {{"u8", std::uint8_t{200}},
          {"i8", std::int8_t{-100}},
          {"u16", std::uint16_t{60000}},
          {"i16", std::int16_t{-30000}},
          {"u32", std::uint32_t{4000000000}},
          {"i32", std::int32_t{-2000000000}},
          {"u64", std::uint64_t{1} << 63},
          {"i64", -(std::int64_t{1} << 62)},
          {"f32", 0.5f},
          {"f64", 1e-300},
          {"bool", true},
          {"string", std::string("with \0 in it", 12)},
          {"u8s", std::vector<std::uint8_t>{1, 2}},
          {"i32s", std::vector<std::int32_t>{-1, 1}},
          {"f32s", std::vector<float>{0.25f}},
          {"bools", std::vector<bool>{true, false, true}},
          {"strings", std::vector<std::string>{"a", "", "bc"}}};
}

const std::vector<TensorSpec> kTensors = {{"vector", DType::f32, {3}}, {"blocks", DType::q4_0, {2, 64}}, {"half", DType::f16, {5, 7}}};

std::vector<std::byte> counting(std::uint64_t count) {
  std::vector<std::byte> bytes(count);
  for (std::size_t i = 0; i < count; ++i) bytes[i] = static_cast<std::byte>(i);
  return bytes;
}

void write_counting(GgufWriter& writer) {
  for (auto tensor = kTensors.rbegin(); tensor != kTensors.rend(); ++tensor) {
    const auto bytes = counting(stored_bytes(*tensor));
    writer.write(tensor->name, std::span(bytes).subspan(4), 4);
    writer.write(tensor->name, std::span(bytes).first(4));
  }
  writer.finish();
}

std::string written(const test::TempFolder& folder) {
  GgufWriter writer(folder / "out", every_kind(), kTensors);
  write_counting(writer);
  EXPECT_EQ(writer.tensor_bytes(), 12u + 72u + 70u);
  return writer.first_file();
}

TEST(GgufWriter, TheReaderFindsEveryKindOfValueAndEveryByte) {
  const test::TempFolder folder;
  const MappedFile file(written(folder));
  const GgufFile read = GgufFile::parse(file.bytes(), file.path());
  EXPECT_EQ(read.version(), 3u);
  EXPECT_EQ(read.metadata(), every_kind());
  ASSERT_EQ(read.tensors().size(), kTensors.size());
  for (std::size_t i = 0; i < kTensors.size(); ++i) {
    const TensorInfo& tensor = read.tensors()[i];
    EXPECT_EQ(tensor.name, kTensors[i].name);
    EXPECT_EQ(tensor.type, kTensors[i].type);
    EXPECT_EQ(tensor.shape, kTensors[i].shape);
    const auto found = file.bytes().subspan(tensor.offset, tensor.bytes);
    EXPECT_TRUE(std::ranges::equal(found, counting(tensor.bytes)));
  }
}

TEST(GgufWriter, EveryTruncationIsRefused) {
  const test::TempFolder folder;
  std::ifstream in(written(folder), std::ios::binary);
  const std::string bytes((std::istreambuf_iterator<char>(in)), std::istreambuf_iterator<char>());
  for (std::size_t length = 0; length < bytes.size(); ++length) {
    EXPECT_THROW(GgufFile::parse(std::as_bytes(std::span(bytes)).first(length), "cut.gguf"), Error) << length;
  }
}

TEST(GgufWriter, ANameThatGgmlHasNoRoomForIsRefused) {
  const test::TempFolder folder;
  const std::string name(64, 'n');
  EXPECT_ERROR(GgufWriter(folder / "out", {}, {{name, DType::f32, {1}}}), ErrorCode::argument, name);
}

TEST(GgufWriter, ASplitModelHasItsMetadataOnceAndEveryByte) {
  const test::TempFolder folder;
  GgufWriter writer(folder / "out", every_kind(), kTensors, 100);
  write_counting(writer);
  EXPECT_EQ(writer.tensor_bytes(), 12u + 72u + 70u);
  EXPECT_EQ(writer.first_file(), folder / "out-00001-of-00002.gguf");
  const Checkpoint read = Checkpoint::open(writer.first_file());  // checks the numbers in both files
  ASSERT_EQ(read.tensors().size(), kTensors.size());
  for (const TensorSpec& spec : kTensors) {
    const TensorInfo& tensor = read.info(spec.name);
    EXPECT_EQ(tensor.file.ends_with("-00002-of-00002.gguf"), spec.name == "half");
    EXPECT_EQ(tensor.shape, spec.shape);
    EXPECT_TRUE(std::ranges::equal(read.bytes(tensor), counting(tensor.bytes)));
  }
  GgufMetadata first = every_kind();
  first.insert(first.end(), {{"split.no", std::uint16_t{0}}, {"split.count", std::uint16_t{2}},
                             {"split.tensors.count", std::int32_t{3}}});
  EXPECT_EQ(read.gguf()->metadata(), first);
  const MappedFile second(folder / "out-00002-of-00002.gguf");
  EXPECT_EQ(GgufFile::parse(second.bytes(), second.path()).metadata(),
            (GgufMetadata{{"split.no", std::uint16_t{1}}, {"split.count", std::uint16_t{2}},
                          {"split.tensors.count", std::int32_t{3}}}));
}

TEST(GgufWriter, ATensorLargerThanAFileHasOneToItself) {
  const test::TempFolder folder;
  GgufWriter writer(folder / "out", {}, kTensors, 1);
  write_counting(writer);
  EXPECT_EQ(writer.first_file(), folder / "out-00001-of-00003.gguf");
  EXPECT_EQ(Checkpoint::open(writer.first_file()).tensors().size(), 3u);
}

TEST(GgufWriter, MoreFilesThanHaveNumbersAreRefusedBeforeAnyIsMade) {
  const test::TempFolder folder;
  std::vector<TensorSpec> tensors;
  for (int i = 0; i < 65536; ++i) tensors.push_back({std::to_string(i), DType::f32, {1}});
  EXPECT_ERROR(GgufWriter(folder / "out", {}, tensors, 1), ErrorCode::argument, "65536");
  EXPECT_TRUE(std::filesystem::is_empty(folder / ""));
}

}  // namespace
}  // namespace neap
