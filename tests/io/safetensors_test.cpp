#include "io/safetensors.h"

#include <gtest/gtest.h>

#include <cstring>

#include "io/mapped_file.h"
#include "support/expect_error.h"
#include "support/file_bytes.h"

namespace neap {
namespace {

using test::safetensors_bytes;

SafetensorsHeader parse(const std::string& bytes) {
  return parse_safetensors(std::as_bytes(std::span(bytes)), "m.safetensors");
}
SafetensorsHeader parse(std::string_view header, std::size_t data_bytes) {
  return parse(safetensors_bytes(header, data_bytes));
}

// A header of one tensor "a": F32 [3], 12 bytes, with one part replaced.
std::string one(const std::string& dtype = R"("F32")", const std::string& shape = "[3]",
                const std::string& offsets = "[0,12]") {
  return R"({"a":{"dtype":)" + dtype + R"(,"shape":)" + shape + R"(,"data_offsets":)" + offsets +
         "}}";
}

TEST(SafetensorsTest, ReadsTensorsInTheOrderOfTheirData) {
  const auto header = parse(
      R"({"__metadata__":{"format":"pt"},"z":{"dtype":"F32","shape":[2,1],"data_offsets":[0,8]},)"
      R"("a":{"dtype":"I64","shape":[],"data_offsets":[8,16]}}   )",
      16);
  ASSERT_EQ(header.tensors.size(), 2u);
  const TensorInfo& z = header.tensors[0];
  EXPECT_EQ(z.name, "z");
  EXPECT_EQ(z.type, DType::f32);
  EXPECT_EQ(z.shape, (Shape{2, 1}));
  EXPECT_EQ(z.offset, header.data_start);
  EXPECT_EQ(z.bytes, 8u);
  EXPECT_EQ(z.file, "m.safetensors");
  EXPECT_EQ(header.tensors[1].name, "a");
  EXPECT_EQ(header.tensors[1].offset, header.data_start + 8);
  EXPECT_EQ(header.metadata.at("format"), "pt");
}

TEST(SafetensorsTest, AcceptsNoTensorsAndEmptyTensors) {
  EXPECT_TRUE(parse("{}", 0).tensors.empty());
  EXPECT_EQ(parse(R"({"a":{"dtype":"F32","shape":[0,9],"data_offsets":[0,0]},)"
                  R"("b":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},)"
                  R"("c":{"dtype":"F32","shape":[4,0],"data_offsets":[1,1]}})",
                  1)
                .tensors.size(),
            3u);
}

TEST(SafetensorsTest, ReadsWhatTheReferenceWrites) {
  const MappedFile file(NEAP_GOLDEN_DIR "/io/all_types.safetensors");
  const auto header = parse_safetensors(file.bytes(), file.path());
  EXPECT_EQ(header.metadata.at("format"), "pt");
  const std::map<std::string, std::pair<DType, Shape>> expected = {
      {"f64", {DType::f64, {3, 4}}},
      {"f32", {DType::f32, {3, 4}}},
      {"f16", {DType::f16, {3, 4}}},
      {"bf16", {DType::bf16, {3, 4}}},
      {"f8_e4m3", {DType::f8_e4m3, {3, 4}}},
      {"f8_e5m2", {DType::f8_e5m2, {3, 4}}},
      {"scalar", {DType::f32, {}}},
      {"empty", {DType::f32, {0, 7}}},
      {"cube", {DType::bf16, {2, 3, 4}}},
      {"naïve.名", {DType::f32, {5}}},
      {"boolean", {DType::boolean, {3}}},
      {"i64", {DType::i64, {5}}},
      {"i32", {DType::i32, {5}}},
      {"i16", {DType::i16, {5}}},
      {"i8", {DType::i8, {5}}},
      {"u8", {DType::u8, {5}}}};
  std::map<std::string, std::pair<DType, Shape>> found;
  for (const TensorInfo& tensor : header.tensors) found[tensor.name] = {tensor.type, tensor.shape};
  EXPECT_EQ(found, expected);
}

TEST(SafetensorsTest, RefusesEveryTruncationOfAValidFile) {
  const std::string whole = safetensors_bytes(one(), 12);
  ASSERT_NO_THROW(parse(whole));
  for (std::size_t length = 0; length < whole.size(); ++length) {
    EXPECT_THROW(parse(whole.substr(0, length)), Error) << length;
  }
}

TEST(SafetensorsTest, SaysWhereATruncatedFileEnds) {
  const std::string whole = safetensors_bytes(one(), 12);
  EXPECT_ERROR(parse(whole.substr(0, 5)), ErrorCode::format, "offset 5: too short");
  EXPECT_ERROR(parse(whole.substr(0, 20)), ErrorCode::format, "offset 20: truncated in its header");
  EXPECT_ERROR(parse(whole.substr(0, whole.size() - 1)), ErrorCode::format,
               "'a': offset " + std::to_string(whole.size() - 1) +
                   ": truncated in this tensor's data (expected 12 bytes, found 11)");
}

TEST(SafetensorsTest, RefusesHeadersThatAreNone) {
  std::string huge;
  test::append(huge, kMaxSafetensorsHeader + 1);
  EXPECT_ERROR(parse(huge), ErrorCode::format, "header length is absurd");
  EXPECT_ERROR(parse("", 0), ErrorCode::format, "does not begin with '{'");
  EXPECT_ERROR(parse(" {}", 0), ErrorCode::format, "does not begin with '{'");
  EXPECT_ERROR(parse("[]", 0), ErrorCode::format, "does not begin with '{'");
  EXPECT_ERROR(parse("{} x", 0), ErrorCode::format, "offset 11: not valid JSON");
  EXPECT_ERROR(parse("{\"\xff\":0}", 0), ErrorCode::format, "not valid JSON");
  EXPECT_ERROR(parse(std::string_view("{}\0", 3), 0), ErrorCode::format, "not valid JSON");
}

TEST(SafetensorsTest, RefusesTheSameNameTwice) {
  const std::string entry = R"("a":{"dtype":"U8","shape":[0],"data_offsets":[0,0]})";
  EXPECT_ERROR(parse("{" + entry + "," + entry + "}", 0), ErrorCode::format, "'a': the same key");
}

TEST(SafetensorsTest, RefusesMetadataThatIsNotStrings) {
  EXPECT_ERROR(parse(R"({"__metadata__":{"n":1}})", 0), ErrorCode::format, "'__metadata__.n'");
  EXPECT_ERROR(parse(R"({"__metadata__":{"n":null}})", 0), ErrorCode::format, "'__metadata__.n'");
  EXPECT_ERROR(parse(R"({"__metadata__":[]})", 0), ErrorCode::format, "'__metadata__'");
}

TEST(SafetensorsTest, RefusesIncompleteOrForeignEntries) {
  EXPECT_ERROR(parse(R"({"a":{"shape":[3],"data_offsets":[0,12]}})", 12), ErrorCode::format,
               "'a.dtype': missing");
  EXPECT_ERROR(parse(R"({"a":{"dtype":"F32","data_offsets":[0,12]}})", 12), ErrorCode::format,
               "'a.shape': missing");
  EXPECT_ERROR(parse(R"({"a":{"dtype":"F32","shape":[3]}})", 12), ErrorCode::format,
               "'a.data_offsets': missing");
  EXPECT_ERROR(parse(R"({"a":{"dtype":"F32","shape":[3],"data_offsets":[0,12],"x":1}})", 12),
               ErrorCode::format, "'a': unknown key");
  EXPECT_ERROR(parse(R"({"a":3})", 12), ErrorCode::format, "'a': has the wrong type");
}

TEST(SafetensorsTest, RefusesUnusableNames) {
  EXPECT_ERROR(parse(R"({"":{"dtype":"U8","shape":[0],"data_offsets":[0,0]}})", 0),
               ErrorCode::format, "not a usable tensor name");
  EXPECT_ERROR(parse(R"({"a\nb":{"dtype":"U8","shape":[0],"data_offsets":[0,0]}})", 0),
               ErrorCode::format, "'a\\x0ab': not a usable tensor name");
}

TEST(SafetensorsTest, RefusesUnknownDtypesByName) {
  EXPECT_ERROR(parse(one(R"("F4")"), 12), ErrorCode::unsupported,
               "m.safetensors: 'a': has a dtype that Neap does not read (found F4)");
  EXPECT_ERROR(parse(one(R"("Q4_0")"), 12), ErrorCode::unsupported, "found Q4_0");
  EXPECT_ERROR(parse(one("4"), 12), ErrorCode::format, "'a.dtype'");
}

TEST(SafetensorsTest, RefusesShapesThatAreNone) {
  EXPECT_ERROR(parse(one(R"("F32")", "[-3]"), 12), ErrorCode::format, "'a.shape[0]': out of range");
  EXPECT_ERROR(parse(one(R"("F32")", "[3.0]"), 12), ErrorCode::format,
               "'a.shape[0]': has the wrong");
  EXPECT_ERROR(parse(one(R"("F32")", "3"), 12), ErrorCode::format, "'a.shape'");
  EXPECT_ERROR(parse(one(R"("F32")", "[18446744073709551615]"), 12), ErrorCode::format,
               "out of range");
}

TEST(SafetensorsTest, RefusesSizesThatOverflow) {
  // 2^32 * 2^32 elements, and 2^62 elements of four bytes.
  EXPECT_ERROR(parse(one(R"("U8")", "[4294967296,4294967296]"), 12), ErrorCode::format,
               "too large");
  EXPECT_ERROR(parse(one(R"("F32")", "[4611686018427387904]"), 12), ErrorCode::format, "too large");
  // A zero does not excuse the others: whoever multiplies some of the dimensions must be safe.
  EXPECT_ERROR(parse(one(R"("U8")", "[4294967296,4294967296,0]", "[0,0]"), 0), ErrorCode::format,
               "too large");
}

TEST(SafetensorsTest, RefusesOffsetsThatDisagreeWithShape) {
  EXPECT_ERROR(
      parse(one(R"("F32")", "[3]", "[0,8]"), 12), ErrorCode::format,
      "'a': data_offsets do not agree with dtype and shape (expected 12 bytes for F32 [3], "
      "found [0, 8])");
  EXPECT_ERROR(parse(one(R"("F32")", "[3]", "[12,0]"), 12), ErrorCode::format, "do not agree");
  EXPECT_ERROR(parse(one(R"("F32")", "[3]", "[0]"), 12), ErrorCode::format, "[begin, end]");
  EXPECT_ERROR(parse(one(R"("F32")", "[3]", "[-12,0]"), 12), ErrorCode::format, "out of range");
}

TEST(SafetensorsTest, RefusesHolesOverlapsAndTrailingBytes) {
  const auto two = [](const std::string& second) {
    return R"({"a":{"dtype":"U8","shape":[4],"data_offsets":[0,4]},)"
           R"("b":{"dtype":"U8","shape":[4],"data_offsets":)" +
           second + "}}";
  };
  EXPECT_NO_THROW(parse(two("[4,8]"), 8));
  EXPECT_ERROR(parse(two("[5,9]"), 9), ErrorCode::format, "'b': offset ");
  EXPECT_ERROR(parse(two("[5,9]"), 9), ErrorCode::format, "leaves a hole before it");
  EXPECT_ERROR(parse(two("[3,7]"), 7), ErrorCode::format, "overlaps the tensor before it");
  EXPECT_ERROR(parse(two("[0,4]"), 4), ErrorCode::format, "overlaps the tensor before it");
  EXPECT_ERROR(parse(two("[4,8]"), 9), ErrorCode::format, "bytes after the last tensor");
  EXPECT_ERROR(parse(one(R"("F32")", "[3]", "[1,13]"), 13), ErrorCode::format, "leaves a hole");
  EXPECT_ERROR(parse("{}", 1), ErrorCode::format, "bytes after the last tensor");
}

TEST(SafetensorsIndexTest, GroupsTensorsByShard) {
  const ShardMap shards = parse_safetensors_index(
      R"({"metadata":{"total_size":3},"weight_map":{"a":"x.safetensors","b":"y.safetensors","c":"x.safetensors"}})",
      "i.json");
  EXPECT_EQ(shards, (ShardMap{{"x.safetensors", {"a", "c"}}, {"y.safetensors", {"b"}}}));
}

TEST(SafetensorsIndexTest, RefusesWhatIsNoIndex) {
  const auto index = [](const char* text) { return parse_safetensors_index(text, "i.json"); };
  EXPECT_ERROR(index("{}"), ErrorCode::format, "i.json: 'weight_map': missing");
  EXPECT_ERROR(index(R"({"weight_map":[]})"), ErrorCode::format,
               "'weight_map': has the wrong type");
  EXPECT_ERROR(index(R"({"weight_map":{}})"), ErrorCode::format, "names no tensor");
  EXPECT_ERROR(index(R"({"weight_map":{"a":1}})"), ErrorCode::format, "'a': has the wrong type");
  EXPECT_ERROR(index(R"({"weight_map":{"a":"../x"}})"), ErrorCode::format,
               "not the name of a file");
  EXPECT_ERROR(index(R"({"weight_map":{"a":""}})"), ErrorCode::format, "not the name of a file");
  EXPECT_ERROR(index(R"({"weight_map":{"a":"x","a":"y"}})"), ErrorCode::format, "the same key");
}

}  // namespace
}  // namespace neap
