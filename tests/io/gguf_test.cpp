#include "io/gguf.h"

#include <gtest/gtest.h>

#include "io/mapped_file.h"
#include "support/expect_error.h"
#include "support/file_bytes.h"

namespace neap {
namespace {

using test::GgufBuilder;

GgufFile parse(const std::string& bytes) {
  return GgufFile::parse(std::as_bytes(std::span(bytes)), "m.gguf");
}
GgufFile parse(const GgufBuilder& builder) { return parse(builder.build()); }

// Some of everything: strings, arrays, two tensors with padding between and after them.
GgufBuilder sample() {
  GgufBuilder builder;
  builder.string("general.architecture", "llama")
      .scalar("n", test::kU32, std::uint32_t{7})
      .array("tokens", test::kString, 2, GgufBuilder::text("a") + GgufBuilder::text("bc"))
      .array("bools", test::kBool, 2, std::string("\0\1", 2))
      .tensor("x", {3}, 0, 12)
      .tensor("y", {32, 2}, 2, 36);
  return builder;
}

TEST(GgufTest, TurnsDimensionsAroundAndOffsetsAbsolute) {
  const std::string bytes = sample().build();
  const GgufFile file = parse(bytes);
  ASSERT_EQ(file.tensors().size(), 2u);
  const TensorInfo &x = file.tensors()[0], &y = file.tensors()[1];
  EXPECT_EQ(x.shape, (Shape{3}));
  EXPECT_EQ(y.shape, (Shape{2, 32}));
  EXPECT_EQ(y.type, DType::q4_0);
  EXPECT_EQ(y.bytes, 36u);
  EXPECT_EQ(y.offset, x.offset + 32);
  EXPECT_EQ(y.offset + 64, bytes.size());
  EXPECT_EQ(y.file, "m.gguf");
  EXPECT_EQ(file.version(), 3u);
  EXPECT_EQ(file.alignment(), 32u);
}

TEST(GgufTest, ReadsWhatTheReferenceWrites) {
  const MappedFile mapped(NEAP_GOLDEN_DIR "/io/all_types.gguf");
  const GgufFile file = GgufFile::parse(mapped.bytes(), mapped.path());
  EXPECT_EQ(file.string("general.architecture"), "llama");
  EXPECT_EQ(file.integer("test.uint8"), 200);
  EXPECT_EQ(file.integer("test.int8"), -100);
  EXPECT_EQ(file.integer("test.uint16"), 60000);
  EXPECT_EQ(file.integer("test.int16"), -30000);
  EXPECT_EQ(file.integer("test.uint32"), 4000000000);
  EXPECT_EQ(file.integer("test.int32"), -2000000000);
  EXPECT_EQ(file.integer("test.int64"), -(std::int64_t{1} << 62));
  EXPECT_EQ(std::get<std::uint64_t>(*file.find("test.uint64")), (std::uint64_t{1} << 63) + 1);
  EXPECT_EQ(file.number("test.float32"), 0.5);
  EXPECT_EQ(file.number("test.float64"), 1e-300);
  EXPECT_TRUE(file.boolean("test.bool"));
  EXPECT_EQ(file.string("test.string"), "naïve 名");
  EXPECT_EQ(file.integers("test.array.int16"), (std::vector<std::int64_t>{-30000, -30000}));
  EXPECT_EQ(file.floats("test.array.float32"), (std::vector<float>{0.5f, 0.5f}));
  EXPECT_EQ(file.floats("test.array.float64"), (std::vector<float>{0.0f, 0.0f}));
  EXPECT_EQ(file.strings("test.array.string"), (std::vector<std::string>{"naïve 名", "naïve 名"}));
  EXPECT_EQ(std::get<std::vector<bool>>(*file.find("test.array.bool")),
            (std::vector<bool>{false, false}));
  ASSERT_EQ(file.tensors().size(), 7u);
  EXPECT_EQ(file.tensors()[5].shape, (Shape{2, 1, 3, 4}));
  EXPECT_EQ(file.tensors()[6].type, DType::i32);
}

TEST(GgufTest, RefusesEveryTruncationOfAValidFile) {
  const std::string whole = sample().build();
  ASSERT_NO_THROW(parse(whole));
  for (std::size_t length = 0; length < whole.size(); ++length) {
    EXPECT_THROW(parse(whole.substr(0, length)), Error) << length;
  }
}

TEST(GgufTest, SaysWhichTensorATruncationHits) {
  const std::string whole = sample().build();
  EXPECT_ERROR(parse(whole.substr(0, whole.size() - 29)), ErrorCode::format,
               "m.gguf: 'y': offset " + std::to_string(whole.size() - 64) +
                   ": truncated in this tensor's data (expected 36 bytes, found 35)");
  EXPECT_ERROR(parse(whole.substr(0, whole.size() - 1)), ErrorCode::format,
               "truncated in its last padding");
  EXPECT_ERROR(parse(whole.substr(0, whole.find("bools") + 3)), ErrorCode::format,
               "string runs past the end of the file (expected at most 3 bytes, found 5)");
}

TEST(GgufTest, RefusesTrailingBytes) {
  EXPECT_ERROR(parse(sample().build() + '\0'), ErrorCode::format, "bytes after the last tensor");
}

TEST(GgufTest, MetadataAloneMayEndPaddedOrNot) {
  GgufBuilder builder;
  builder.scalar("a", test::kU8, std::uint8_t{1});
  const std::string padded = builder.build();
  EXPECT_EQ(parse(padded).integer("a"), 1);
  EXPECT_EQ(parse(padded.substr(0, 24 + 8 + 1 + 4 + 1)).integer("a"), 1);
}

TEST(GgufTest, ReadsVersions2And3AndRefusesOthers) {
  GgufBuilder builder = sample();
  builder.version = 2;
  EXPECT_EQ(parse(builder).version(), 2u);
  for (const std::uint32_t version : {0u, 1u, 4u}) {
    builder.version = version;
    EXPECT_ERROR(parse(builder), ErrorCode::unsupported, "offset 4: this version of GGUF");
  }
  builder.version = 0x03000000;
  EXPECT_ERROR(parse(builder), ErrorCode::unsupported, "big-endian");
}

TEST(GgufTest, RefusesOtherFiles) {
  GgufBuilder builder = sample();
  builder.magic = "GGML";
  EXPECT_ERROR(parse(builder), ErrorCode::format,
               "not a GGUF file (expected it to begin with GGUF, found GGML)");
  EXPECT_ERROR(parse(std::string()), ErrorCode::format, "not a GGUF file");
}

TEST(GgufTest, RefusesCountsThatTheFileHasNoRoomFor) {
  GgufBuilder builder = sample();
  builder.tensor_count = std::int64_t{1} << 60;
  EXPECT_ERROR(parse(builder), ErrorCode::format,
               "offset 8: more tensors than the file has room for");
  builder = sample();
  builder.pair_count = 1000;
  EXPECT_ERROR(parse(builder), ErrorCode::format, "offset 16: more metadata pairs than");
  builder = sample();
  builder.array("big", test::kString, std::uint64_t{1} << 61, "");
  EXPECT_ERROR(parse(builder), ErrorCode::format, "'big': offset ");
  EXPECT_ERROR(parse(builder), ErrorCode::format, "more array elements than");
}

TEST(GgufTest, RefusesStringsLongerThanTheFile) {
  std::string length;
  test::append(length, ~std::uint64_t{0});
  EXPECT_ERROR(parse(GgufBuilder().raw("s", test::kString, length)), ErrorCode::format,
               "'s': offset 37: string runs past the end of the file");
}

TEST(GgufTest, RefusesBadKeys) {
  EXPECT_ERROR(parse(GgufBuilder().string("", "v").string("b", "w")), ErrorCode::format,
               "not a usable metadata key");
  EXPECT_ERROR(parse(GgufBuilder().string("a\x1b[0m", "v")), ErrorCode::format,
               "not a usable metadata key");
  EXPECT_ERROR(parse(GgufBuilder().string("a", "v").string("a", "w")), ErrorCode::format,
               "'a': offset 46: the same metadata key stands twice");
  EXPECT_ERROR(parse(GgufBuilder().string(std::string(65536, 'k'), std::string(65536, 'v'))),
               ErrorCode::format, "string is too long (expected at most 65535 bytes, found 65536)");
}

TEST(GgufTest, RefusesBadValues) {
  EXPECT_ERROR(parse(GgufBuilder().raw("a", 13, "\1")), ErrorCode::format,
               "'a': offset 33: not a metadata type (expected 0 to 12, found 13)");
  EXPECT_ERROR(parse(GgufBuilder().raw("a", test::kBool, "\2")), ErrorCode::format,
               "not a boolean");
  EXPECT_ERROR(parse(GgufBuilder().array("a", test::kArray, 0, "")), ErrorCode::unsupported,
               "arrays of arrays");
  EXPECT_ERROR(parse(GgufBuilder().array("a", 99, 0, "")), ErrorCode::format,
               "not a metadata type");
}

TEST(GgufTest, HonoursAlignment) {
  GgufBuilder builder;
  builder.alignment = 256;
  builder.scalar("general.alignment", test::kU32, std::uint32_t{256})
      .tensor("x", {1}, 0, 4)
      .tensor("y", {1}, 0, 4);
  const GgufFile file = parse(builder);
  EXPECT_EQ(file.tensors()[0].offset % 256, 0u);
  EXPECT_EQ(file.tensors()[1].offset, file.tensors()[0].offset + 256);

  const MappedFile golden(NEAP_GOLDEN_DIR "/io/aligned.gguf");
  EXPECT_EQ(GgufFile::parse(golden.bytes(), golden.path()).tensors()[1].offset % 64, 0u);
}

TEST(GgufTest, RefusesAlignmentsThatAreNone) {
  for (const std::uint32_t alignment : {0u, 48u}) {
    EXPECT_ERROR(parse(GgufBuilder().scalar("general.alignment", test::kU32, alignment)),
                 ErrorCode::format, "'general.alignment'");
  }
  EXPECT_ERROR(parse(GgufBuilder().scalar("general.alignment", test::kU64, std::uint64_t{32})),
               ErrorCode::format, "expected u32, found u64 32");
}

TEST(GgufTest, RefusesBadTensorNames) {
  EXPECT_ERROR(parse(GgufBuilder().tensor("", {1}, 0, 4)), ErrorCode::format,
               "not a usable tensor name");
  EXPECT_ERROR(parse(GgufBuilder().tensor("x\n", {1}, 0, 4)), ErrorCode::format,
               "not a usable tensor name");
  EXPECT_NO_THROW(parse(GgufBuilder().tensor(std::string(63, 'x'), {1}, 0, 4)));
  EXPECT_ERROR(parse(GgufBuilder().tensor(std::string(64, 'x'), {1}, 0, 4)), ErrorCode::format,
               "string is too long (expected at most 63 bytes, found 64)");
  EXPECT_ERROR(parse(GgufBuilder().tensor("x", {1}, 0, 4).tensor("x", {1}, 0, 4)),
               ErrorCode::format, "'x': offset 57: the same tensor name stands twice");
}

TEST(GgufTest, RefusesBadDimensions) {
  EXPECT_ERROR(parse(GgufBuilder().tensor("x", {1, 1, 1, 1, 1}, 0, 4)), ErrorCode::format,
               "'x': offset 33: has too many dimensions");
  EXPECT_ERROR(parse(GgufBuilder().tensor("x", {-1}, 0, 4)), ErrorCode::format,
               "negative dimension");
  EXPECT_ERROR(
      parse(GgufBuilder().tensor("x", {48}, 2, 27)), ErrorCode::format,
      "'x': offset 49: dimensions overflow or do not divide into blocks (expected rows of a "
      "multiple of 32, found [48])");
  // 16 * 2 elements are a whole block, but a row is not.
  EXPECT_ERROR(parse(GgufBuilder().tensor("x", {16, 2}, 2, 18)), ErrorCode::format,
               "do not divide");
  EXPECT_ERROR(
      parse(GgufBuilder().tensor("x", {std::int64_t{1} << 32, std::int64_t{1} << 32}, 0, 4)),
      ErrorCode::format, "dimensions overflow");
  EXPECT_ERROR(parse(GgufBuilder().tensor("x", {std::int64_t{1} << 62}, 0, 4)), ErrorCode::format,
               "dimensions overflow");
}

TEST(GgufTest, AcceptsScalarsAndEmptyTensors) {
  const GgufFile file =
      parse(GgufBuilder().tensor("s", {}, 0, 4).tensor("e", {0, 5}, 0, 0).tensor("t", {1}, 0, 4));
  EXPECT_EQ(file.tensors()[0].shape, Shape{});
  EXPECT_EQ(file.tensors()[1].bytes, 0u);
}

TEST(GgufTest, RefusesTypesThatItDoesNotReadByName) {
  EXPECT_ERROR(parse(GgufBuilder().tensor("x", {32}, 23, 18)), ErrorCode::unsupported,
               "m.gguf: 'x': offset 45: is of a type that Neap does not read (found IQ4_XS)");
  EXPECT_ERROR(parse(GgufBuilder().tensor("x", {256}, 34, 54)), ErrorCode::unsupported,
               "found TQ1_0");
  EXPECT_ERROR(parse(GgufBuilder().tensor("x", {32}, 4, 17)), ErrorCode::format,
               "not a ggml type (found 4)");
  EXPECT_ERROR(parse(GgufBuilder().tensor("x", {32}, 999, 17)), ErrorCode::format,
               "not a ggml type");
}

TEST(GgufTest, RefusesDataThatIsNotInListingOrder) {
  for (const std::int64_t shift : {-32, -1, 1, 32}) {
    EXPECT_ERROR(parse(GgufBuilder().tensor("x", {8}, 0, 32).tensor("y", {8}, 0, 32, shift)),
                 ErrorCode::format, "'y': offset 128: data does not follow the tensor before it");
  }
}

TEST(GgufMetadataTest, NamesKeyAndWhatWasFound) {
  const GgufFile file =
      parse(sample().scalar("f", test::kF32, 0.25f).scalar("u", test::kU64, ~std::uint64_t{0}));
  EXPECT_ERROR(file.integer("none"), ErrorCode::format,
               "m.gguf: 'none': metadata key is missing (expected an integer)");
  EXPECT_ERROR(
      file.integer("general.architecture"), ErrorCode::format,
      "'general.architecture': metadata value is not of the right kind (expected an integer, "
      "found string 'llama')");
  EXPECT_ERROR(file.integer("u"), ErrorCode::format, "found u64 18446744073709551615");
  EXPECT_ERROR(file.integer("f"), ErrorCode::format, "found f32 0.25");
  EXPECT_ERROR(file.number("general.architecture"), ErrorCode::format, "expected a number");
  EXPECT_ERROR(file.boolean("n"), ErrorCode::format, "expected a bool, found u32 7");
  EXPECT_ERROR(file.string("tokens"), ErrorCode::format, "found array of 2 string");
  EXPECT_ERROR(file.integers("bools"), ErrorCode::format, "found array of 2 bool");
  EXPECT_ERROR(file.integers("n"), ErrorCode::format, "expected an array of integers");
  EXPECT_ERROR(file.floats("tokens"), ErrorCode::format, "expected an array of floats");
  EXPECT_ERROR(file.strings("n"), ErrorCode::format, "expected an array of strings");
}

TEST(GgufMetadataTest, DefaultsStandForAbsenceOnly) {
  const GgufFile file = parse(sample());
  EXPECT_EQ(file.integer("n", 1), 7);
  EXPECT_EQ(file.integer("none", 1), 1);
  EXPECT_EQ(file.number("none", 0.5), 0.5);
  EXPECT_TRUE(file.boolean("none", true));
  EXPECT_EQ(file.string("none", "x"), "x");
  EXPECT_ERROR(file.boolean("n", true), ErrorCode::format, "expected a bool");
}

TEST(GgufMetadataTest, KeepsTheOrderOfTheFile) {
  const GgufFile file = parse(sample());
  ASSERT_EQ(file.metadata().size(), 4u);
  EXPECT_EQ(file.metadata()[0].first, "general.architecture");
  EXPECT_EQ(file.metadata()[3].first, "bools");
}

TEST(GgufSplitTest, AWholeFileIsTheOnlyOne) {
  const GgufSplit split = split_of(parse(sample()));
  EXPECT_EQ(split.number, 0);
  EXPECT_EQ(split.count, 1);
  EXPECT_EQ(split.tensors, 2);
}

TEST(GgufSplitTest, RefusesNumbersThatContradictEachOther) {
  const auto split = [](std::uint16_t number, std::uint16_t count, std::int32_t tensors) {
    return split_of(parse(sample()
                              .scalar("split.no", test::kU16, number)
                              .scalar("split.count", test::kU16, count)
                              .scalar("split.tensors.count", test::kI32, tensors)));
  };
  EXPECT_EQ(split(1, 3, 9).tensors, 9);
  EXPECT_EQ(split(0, 0, 2).count, 1);  // what gguf-split --merge leaves behind
  EXPECT_ERROR(split(3, 3, 9), ErrorCode::format, "'split.no'");
  EXPECT_ERROR(split(1, 0, 9), ErrorCode::format, "'split.no'");
  EXPECT_ERROR(split(0, 3, 1), ErrorCode::format, "'split.tensors.count'");
  EXPECT_ERROR(split(0, 1, 3), ErrorCode::format, "'split.tensors.count'");
}

TEST(GgufSplitTest, NamesItsNeighbours) {
  const GgufSplit split{.number = 1, .count = 12, .tensors = 9};
  EXPECT_EQ(split_path("d/m-00002-of-00012.gguf", split, 0), "d/m-00001-of-00012.gguf");
  EXPECT_EQ(split_path("d/m-00002-of-00012.gguf", split, 11), "d/m-00012-of-00012.gguf");
  EXPECT_ERROR(split_path("d/m-00001-of-00012.gguf", split, 0), ErrorCode::format,
               "expected a name ending in -00002-of-00012.gguf");
}

}  // namespace
}  // namespace neap
