#include "io/imatrix.h"

#include <gtest/gtest.h>

#include <fstream>
#include <iterator>
#include <limits>

#include "support/expect_error.h"
#include "support/file_bytes.h"
#include "support/temp_folder.h"

namespace neap {
namespace {

using test::append;
using test::GgufBuilder;

ImportanceMatrix parse(const std::string& bytes) { return parse_imatrix(std::as_bytes(std::span(bytes)), "x.imatrix"); }

std::string contents(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), std::istreambuf_iterator<char>()};
}

void append_text(std::string& bytes, const std::string& text) {
  append(bytes, static_cast<std::int32_t>(text.size()));
  bytes += text;
}

void append_entry(std::string& bytes, const std::string& name, std::int32_t count, const std::vector<float>& values) {
  append_text(bytes, name);
  append(bytes, count);
  append(bytes, static_cast<std::int32_t>(values.size()));
  for (const float value : values) append(bytes, value);
}

// The form from before GGUF, without the end that its later writers gave it.
std::string older_entries() {
  std::string bytes;
  append(bytes, std::int32_t{2});
  append_entry(bytes, "blk.0.attn_q.weight", 3, {1.5f, 0.0f, 6.0f});
  append_entry(bytes, "blk.0.ffn_up.weight", 3, {0.25f});
  return bytes;
}

std::string older_file() {
  std::string bytes = older_entries();
  append(bytes, std::int32_t{3});
  append_text(bytes, "wiki.txt");
  return bytes;
}


GgufBuilder newer_header() {
  GgufBuilder builder;
  builder.string("general.type", "imatrix")
      .array("imatrix.datasets", test::kString, 1, GgufBuilder::text("wiki.txt"))
      .scalar("imatrix.chunk_count", test::kU32, std::uint32_t{3})
      .scalar("imatrix.chunk_size", test::kU32, std::uint32_t{512});
  return builder;
}


ImportanceMatrix small() {
  return {.entries = {{"blk.0.attn_q.weight", {{1.5f, 0.0f, 6.0f}, 1536}}, {"blk.0.ffn_up.weight", {{0.25f}, 1536}}},
          .datasets = {"wiki.txt", "code.txt"},
          .chunks = 3,
          .chunk_size = 512};
}

void expect_equal(const ImportanceMatrix& a, const ImportanceMatrix& b) {
  ASSERT_EQ(a.entries.size(), b.entries.size());
  for (const auto& [name, entry] : a.entries) {
    ASSERT_TRUE(b.entries.contains(name)) << name;
    EXPECT_EQ(entry.sums, b.entries.at(name).sums);
    EXPECT_EQ(entry.count, b.entries.at(name).count);
  }
  EXPECT_EQ(a.datasets, b.datasets);
  EXPECT_EQ(a.chunks, b.chunks);
  EXPECT_EQ(a.chunk_size, b.chunk_size);
}

TEST(Imatrix, WhatIsWrittenIsRead) {
  const test::TempFolder folder;
  const std::string path = folder / "out.gguf";
  for (int time = 0; time < 2; ++time) {  // the second time over the first
    write_imatrix(small(), path);
    expect_equal(read_imatrix(path), small());
  }
  EXPECT_EQ(contents(path).size() % 32, 0u);
}

TEST(Imatrix, TheOlderFormIsReadWithAndWithoutItsEnd) {
  ImportanceMatrix expected = small();
  for (auto& [name, entry] : expected.entries) entry.count = 3;
  expected.datasets = {"wiki.txt"};
  expected.chunk_size = 0;
  expect_equal(parse(older_file()), expected);
  expected.datasets.clear();
  expected.chunks = 0;
  expect_equal(parse(older_entries()), expected);
}

TEST(Imatrix, EveryTruncationIsRefused) {
  const test::TempFolder folder;
  write_imatrix(small(), folder / "out.gguf");
  for (const std::string& whole : {contents(folder / "out.gguf"), older_file()}) {
    for (std::size_t length = 0; length < whole.size(); ++length) {
      if (length == older_entries().size() && whole == older_file()) continue;  // as the first writers had it
      EXPECT_THROW(parse(whole.substr(0, length)), Error) << length;
    }
  }
}

TEST(Imatrix, WhatFollowsTheEndIsRefused) { EXPECT_ERROR(parse(older_file() + "x"), ErrorCode::format, "bytes after the end"); }

TEST(Imatrix, ErrorsOfTheOlderFormNameFileEntryAndOffset) {
  const auto one = [](const std::string& name, std::int32_t count, std::vector<float> values) {
    std::string bytes;
    append(bytes, std::int32_t{1});
    append_entry(bytes, name, count, values);
    return bytes;
  };
  const float nan = std::numeric_limits<float>::quiet_NaN();
  EXPECT_ERROR(parse(one("a.weight", 1, {1, nan})), ErrorCode::format, "x.imatrix: 'a.weight': offset 28: not a sum");
  EXPECT_ERROR(parse(one("a.weight", 1, {-1})), ErrorCode::format, "offset 24");
  EXPECT_ERROR(parse(one("a.weight", 0, {1})), ErrorCode::format, "chunks");
  EXPECT_ERROR(parse(one("a.weight", 1, {})), ErrorCode::format, "values");
  EXPECT_ERROR(parse(one("a\nb", 1, {1})), ErrorCode::format, "not a usable name");
  EXPECT_ERROR(parse(one("", 1, {1})), ErrorCode::format, "bytes of a name");
  std::string twice;
  append(twice, std::int32_t{2});
  for (int i = 0; i < 2; ++i) append_entry(twice, "a", 1, {1});
  EXPECT_ERROR(parse(twice), ErrorCode::format, "stands twice");
  std::string none;
  append(none, std::int32_t{0});
  EXPECT_ERROR(parse(none), ErrorCode::format, "entries");
  std::string huge;
  append(huge, std::int32_t{1});
  append_text(huge, "a");
  append(huge, std::int32_t{1});
  append(huge, std::int32_t{1} << 24);
  EXPECT_ERROR(parse(huge), ErrorCode::format, "truncated");
}

TEST(Imatrix, AGgufOfAnotherKindIsRefused) {
  GgufBuilder model;
  model.string("general.type", "model").tensor("a.in_sum2", {1}, 0, 4);
  EXPECT_ERROR(parse(model.build()), ErrorCode::format, "is not an importance matrix");
  GgufBuilder untyped;
  EXPECT_ERROR(parse(untyped.build()), ErrorCode::format, "is not an importance matrix");
}

TEST(Imatrix, ErrorsOfTheNewerFormNameTheEntry) {
  EXPECT_ERROR(parse(newer_header().build()), ErrorCode::format, "no entries");
  EXPECT_ERROR(parse(newer_header().tensor("a.in_sum2", {2}, 0, 8).build()), ErrorCode::format, "expected a.counts");
  EXPECT_ERROR(parse(newer_header().tensor("a.weight", {2}, 0, 8).build()), ErrorCode::format, "'a.weight'");
  EXPECT_ERROR(parse(newer_header().tensor("a.in_sum2", {2}, 1, 4).build()), ErrorCode::format, "expected F32, found F16");
  EXPECT_ERROR(parse(newer_header().tensor("a.in_sum2", {2, 2}, 0, 16).tensor("a.counts", {1, 2}, 0, 8).build()),
               ErrorCode::unsupported, "mixtures of experts");
  // A count of next to nothing is none.
  EXPECT_ERROR(parse(newer_header().tensor("a.in_sum2", {2}, 0, 8).tensor("a.counts", {1}, 0, 4).build()),
               ErrorCode::format, "not a number of tokens");
  GgufBuilder bare;
  bare.string("general.type", "imatrix").tensor("a.in_sum2", {2}, 0, 8);
  EXPECT_ERROR(parse(bare.build()), ErrorCode::format, "imatrix.datasets");
}

TEST(Imatrix, SizesOfTheTextThatNoProductHoldsAreRefused) {
  const auto with = [](std::int64_t chunks, std::int64_t chunk_size) {
    GgufBuilder builder;
    builder.string("general.type", "imatrix")
        .array("imatrix.datasets", test::kString, 1, GgufBuilder::text("wiki.txt"))
        .scalar("imatrix.chunk_count", test::kI64, chunks)
        .scalar("imatrix.chunk_size", test::kI64, chunk_size);
    return builder.build();
  };
  constexpr std::int64_t kMost = std::numeric_limits<std::int32_t>::max();
  EXPECT_ERROR(parse(with(std::int64_t{1} << 62, 4)), ErrorCode::format,
               "x.imatrix: 'imatrix.chunk_count': out of range (expected 0 to 2147483647, found 4611686018427387904)");
  EXPECT_ERROR(parse(with(-1, 4)), ErrorCode::format, "'imatrix.chunk_count'");
  EXPECT_ERROR(parse(with(3, kMost + 1)), ErrorCode::format, "'imatrix.chunk_size'");
  EXPECT_ERROR(parse(with(3, -512)), ErrorCode::format, "'imatrix.chunk_size'");
  EXPECT_ERROR(parse(with(kMost, kMost)), ErrorCode::format, "no entries");
}

TEST(Imatrix, ANameThatGgufHasNoRoomForIsRefused) {
  const test::TempFolder folder;
  ImportanceMatrix matrix = small();
  matrix.entries[std::string(60, 'n')] = {{1}, 1};
  EXPECT_ERROR(write_imatrix(matrix, folder / "out.gguf"), ErrorCode::argument, "63 bytes");
  EXPECT_FALSE(std::ifstream(folder / "out.gguf").good());
}

}  // namespace
}  // namespace neap
