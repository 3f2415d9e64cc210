#include "io/gguf_writer.h"

#include <gtest/gtest.h>

#include <fstream>
#include <iterator>

#include "io/mapped_file.h"
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

std::string written(const test::TempFolder& folder) {
  const std::string path = folder / "out.gguf";
  GgufWriter writer(path, every_kind(), kTensors);
  for (auto tensor = kTensors.rbegin(); tensor != kTensors.rend(); ++tensor) {
    const auto bytes = counting(stored_bytes(*tensor));
    writer.write(tensor->name, std::span(bytes).subspan(4), 4);
    writer.write(tensor->name, std::span(bytes).first(4));
  }
  writer.finish();
  EXPECT_EQ(writer.tensor_bytes(), 12u + 72u + 70u);
  return path;
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
  EXPECT_ERROR(GgufWriter(folder / "out.gguf", {}, {{name, DType::f32, {1}}}), ErrorCode::argument, name);
}

}  // namespace
}  // namespace neap
