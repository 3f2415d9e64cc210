#include "codec/lobcq_pack.h"

#include <gtest/gtest.h>

#include <cstring>

#include "codec/lobcq_support.h"
#include "support/expect_error.h"

namespace neap {
namespace {

// What a file's reader would hand over after encode_lobcq_parts was written.
struct Stored {
  std::vector<PartInfo> parts;
  std::vector<std::vector<std::byte>> bytes;

  explicit Stored(const LobcqTensor& tensor)
      : parts(lobcq_parts(tensor.layout, tensor.rows, tensor.cols)),
        bytes(encode_lobcq_parts(tensor)) {}

  StoredTensor part(std::size_t i) const {
    return {{"m" + parts[i].suffix, parts[i].type, parts[i].shape, "file", 0, bytes[i].size()},
            bytes[i]};
  }
  LobcqModule module() const { return {part(0), part(1), part(2), part(3), part(4)}; }
};

std::string hex(const std::vector<std::byte>& bytes) {
  std::string text;
  for (const std::byte b : bytes) {
    constexpr char kDigits[] = "0123456789abcdef";
    text += kDigits[std::to_integer<int>(b) >> 4];
    text += kDigits[std::to_integer<int>(b) & 15];
  }
  return text;
}

TEST(LobcqPack, DecodeInvertsEncodeOnEveryLayout) {
  for (const LobcqLayout& layout : every_layout()) {
    for (const std::int64_t cols : {1, 7, 64, 275}) {
      const LobcqTensor tensor = random_lobcq(layout, 9, cols, 1);
      const Stored stored(tensor);
      for (std::size_t i = 0; i < stored.parts.size(); ++i) {
        std::size_t size = block_bytes(stored.parts[i].type);
        for (const std::int64_t n : stored.parts[i].shape) size *= static_cast<std::size_t>(n);
        ASSERT_EQ(stored.bytes[i].size(), size) << stored.parts[i].suffix;
      }
      ASSERT_EQ(decode_lobcq(stored.module(), layout), tensor);
    }
  }
}

// Version 1, byte by byte: what docs/formats/lobcq.md shows.
TEST(LobcqPack, BytesOfVersion1AreThese) {
  const LobcqLayout layout{16, 4, 8};
  const LobcqTensor tensor{.layout = layout,
                           .rows = 2,
                           .cols = 18,
                           .codes = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 5, 9,
                                     0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,  0,  0,  0,  0,  0,  7, 1},
                           .selectors = {1, 2, 3, 4, 5, 0, 0, 0, 0, 7},
                           .scales = {0x38, 0xb9, 0x00, 0x01},
                           .tensor_scale = 0.25f};
  const Stored stored(tensor);
  EXPECT_EQ(hex(stored.bytes[0]),
            "1032547698badcfe9500"
            "00000000000000001700");
  EXPECT_EQ(hex(stored.bytes[1]),
            "d158"
            "0070");
  EXPECT_EQ(hex(stored.bytes[2]),
            "38b9"
            "0001");
  EXPECT_EQ(hex(stored.bytes[3]), "0000803e");
  EXPECT_EQ(hex(stored.bytes[4]),
            "0200000000000000"
            "1200000000000000");
}

TEST(LobcqPack, EveryTruncationIsRefused) {
  for (const LobcqLayout& layout : {LobcqLayout{64, 8, 8}, LobcqLayout{16, 2, 2}}) {
    const Stored whole(random_lobcq(layout, 3, 75, 2));
    for (std::size_t i = 0; i < whole.bytes.size(); ++i) {
      for (std::size_t size = 0; size < whole.bytes[i].size(); ++size) {
        Stored cut = whole;
        cut.bytes[i].resize(size);
        EXPECT_ERROR(decode_lobcq(cut.module(), layout), ErrorCode::format, "wrong length");
      }
    }
  }
}

TEST(LobcqPack, WrongTypesAndShapesAreRefusedByName) {
  const LobcqLayout layout{64, 8, 8};
  const Stored whole(random_lobcq(layout, 3, 100, 3));
  for (std::size_t i = 0; i < whole.parts.size(); ++i) {
    Stored wrong = whole;
    wrong.parts[i].type = DType::f64;
    EXPECT_ERROR(decode_lobcq(wrong.module(), layout), ErrorCode::format,
                 "m" + whole.parts[i].suffix);
    for (std::size_t d = 0; d < whole.parts[i].shape.size(); ++d) {
      wrong = whole;
      ++wrong.parts[i].shape[d];
      EXPECT_ERROR(decode_lobcq(wrong.module(), layout), ErrorCode::format,
                   "m" + whole.parts[i].suffix);
    }
  }
}

TEST(LobcqPack, ShapesOfNoMatrixAreRefused) {
  const LobcqLayout layout{64, 8, 8};
  for (const std::int64_t bad : {std::int64_t{0}, std::int64_t{-1}, std::int64_t{1} << 41}) {
    Stored stored(random_lobcq(layout, 3, 100, 4));
    std::memcpy(stored.bytes[4].data() + 8, &bad, 8);
    EXPECT_ERROR(decode_lobcq(stored.module(), layout), ErrorCode::format, "shape");
  }
}

// Everything that would be a second encoding of the same tensor, or none of any.
TEST(LobcqPack, OtherFormsOfATensorAreRefused) {
  const LobcqLayout layout{16, 8, 8};
  LobcqTensor tensor = random_lobcq(layout, 1, 37, 5);  // 5 blocks: 3 padded codes, 1 padded bit
  tensor.scales = {0x38, 0x00, 0x3a};
  std::fill(tensor.codes.begin() + 16, tensor.codes.begin() + 32, std::uint8_t{0});
  tensor.selectors[2] = tensor.selectors[3] = 0;
  const Stored whole(tensor);
  ASSERT_EQ(decode_lobcq(whole.module(), layout), tensor);
  const auto refuses = [&](std::size_t part, std::size_t at, int bits, const std::string& words) {
    Stored stored = whole;
    stored.bytes[part][at] |= static_cast<std::byte>(bits);
    EXPECT_ERROR(decode_lobcq(stored.module(), layout), ErrorCode::format, words);
  };
  refuses(0, 18, 0x10, "bits outside");  // code 37
  refuses(0, 19, 0x80, "bits outside");  // code 39
  refuses(1, 1, 0x80, "bits outside");   // bit 15
  refuses(0, 8, 0x01, "has scale 0");    // code 16
  refuses(1, 1, 0x04, "has scale 0");    // bit 10, of selector 3
  refuses(2, 0, 0x7f, "NaN");
  refuses(2, 1, 0x80, "-0");
}

TEST(LobcqPack, TensorScalesOutOfRangeAreRefused) {
  const LobcqLayout layout{64, 8, 8};
  for (const float bad : {0.0f, -1.0f, 0x1p-61f, 0x1p61f, std::nanf("")}) {
    Stored stored(random_lobcq(layout, 3, 100, 6));
    std::memcpy(stored.bytes[3].data(), &bad, 4);
    EXPECT_ERROR(decode_lobcq(stored.module(), layout), ErrorCode::format, "global_scale");
  }
}

TEST(LobcqPack, CodebooksRoundTripAndBadOnesAreRefused) {
  for (const LobcqLayout& layout : every_layout()) {
    const Codebooks codebooks = random_codebooks(layout, 7);
    std::vector<std::byte> bytes = encode_codebooks(codebooks);
    const auto stored = [&] {
      return StoredTensor{{"books", DType::i8, {layout.codebooks, 16}, "file", 0, bytes.size()},
                          bytes};
    };
    EXPECT_EQ(decode_codebooks(stored(), layout), codebooks);
    bytes[16 + 15] = std::byte{32};
    EXPECT_ERROR(decode_codebooks(stored(), layout), ErrorCode::format, "codebook 1");
    bytes[16 + 15] = std::byte{0xe0};  // -32
    EXPECT_ERROR(decode_codebooks(stored(), layout), ErrorCode::format, "ascending");
    bytes.pop_back();
    EXPECT_ERROR(decode_codebooks(stored(), layout), ErrorCode::format, "wrong length");
  }
}

}  // namespace
}  // namespace neap
