#include "codec/gptq_pack.h"

#include <gtest/gtest.h>

#include <cstring>

#include "codec/random_tensor.h"
#include "neap/error.h"

namespace neap {
namespace {

// Version 1 has no 0 to take one from.
QuantizedTensor random_gptq(const GroupLayout& layout, std::int64_t rows, std::int64_t cols) {
  QuantizedTensor tensor = random_tensor(layout, rows, cols, 7);
  for (std::uint8_t& zero : tensor.zeros) zero = std::max<std::uint8_t>(zero, 1);
  return tensor;
}

struct Stored {
  std::vector<PartInfo> parts;
  std::vector<std::vector<std::byte>> bytes;

  Stored(const QuantizedTensor& tensor, GptqVersion version)
      : parts(gptq_parts(tensor.layout, tensor.rows, tensor.cols)), bytes(encode_gptq(tensor, version)) {}

  StoredTensor part(std::size_t i) const {
    return {{"m" + parts[i].suffix, parts[i].type, parts[i].shape, "file", 0, bytes[i].size()}, bytes[i]};
  }
  GptqModule module() const { return {part(0), part(1), part(2), part(3)}; }

  std::uint32_t word(std::size_t tensor, std::size_t at) const {
    std::uint32_t value;
    std::memcpy(&value, bytes[tensor].data() + 4 * at, 4);
    return value;
  }
};

TEST(Gptq, DecodeInvertsEncodeOnEveryLayout) {
  for (const int bits : {2, 3, 4, 8}) {
    for (const std::int64_t group : {0, 16, 48}) {
      for (const GptqVersion version : {GptqVersion::v1, GptqVersion::v2}) {
        for (const bool symmetric : {true, false}) {
          if (!symmetric && version == GptqVersion::v1) continue;
          const GroupLayout layout{bits, group, symmetric, DType::f16};
          const QuantizedTensor tensor = random_gptq(layout, 64, 96);
          EXPECT_EQ(decode_gptq(Stored(tensor, version).module(), layout, version, 64, 96), tensor) << bits << " " << group;
        }
      }
    }
  }
}

// The definition, bit by bit: 32 codes of an output are one stream of bits down the words of its column.
TEST(Gptq, CodesStandWhereTheFormatSays) {
  for (const int bits : {2, 3, 4, 8}) {
    const QuantizedTensor tensor = random_gptq({bits, 16, false, DType::f16}, 32, 64);
    const Stored stored(tensor, GptqVersion::v2);
    for (std::size_t n = 0; n < 32; ++n) {
      for (std::size_t k = 0; k < 64; ++k) {
        unsigned code = 0, zero = 0;
        for (std::size_t b = 0; b < static_cast<std::size_t>(bits); ++b) {
          const std::size_t bit = k * bits + b, zero_bit = n * bits + b;
          code |= (stored.word(0, bit / 32 * 32 + n) >> bit % 32 & 1) << b;
          zero |= (stored.word(1, k / 16 * static_cast<std::size_t>(bits) + zero_bit / 32) >> zero_bit % 32 & 1) << b;
        }
        ASSERT_EQ(code, tensor.codes[n * 64 + k]);
        ASSERT_EQ(zero, tensor.zeros[n * 4 + k / 16]);
      }
    }
  }
}

TEST(Gptq, SymmetricZerosAreTheKnownWords) {
  const QuantizedTensor four = random_gptq({4, 32, true, DType::f16}, 32, 64), eight = random_gptq({8, 32, true, DType::f16}, 32, 64);
  EXPECT_EQ(Stored(four, GptqVersion::v1).word(1, 3), 0x77777777u);
  EXPECT_EQ(Stored(four, GptqVersion::v2).word(1, 3), 0x88888888u);
  EXPECT_EQ(Stored(eight, GptqVersion::v1).word(1, 0), 0x7f7f7f7fu);
}

TEST(Gptq, DamageIsRefused) {
  const GroupLayout layout{4, 32, true, DType::f16};
  const QuantizedTensor tensor = random_gptq(layout, 32, 64);
  const Stored sound(tensor, GptqVersion::v1);
  const auto decode = [&](const Stored& stored) { decode_gptq(stored.module(), layout, GptqVersion::v1, 32, 64); };
  decode(sound);
  for (std::size_t part = 0; part < 4; ++part) {
    Stored type = sound, shape = sound, length = sound;
    type.parts[part].type = DType::f32;
    shape.parts[part].shape.back() += 1;
    length.bytes[part].pop_back();
    for (const Stored& stored : {type, shape, length}) EXPECT_THROW(decode(stored), Error) << part;
  }
  Stored zero = sound, scattered = sound, scale = sound;
  zero.bytes[1][5] = std::byte{0x78};
  scattered.bytes[3][0] = std::byte{1};
  scale.bytes[2][0] = scale.bytes[2][1] = std::byte{0};
  for (const Stored& stored : {zero, scattered, scale}) EXPECT_THROW(decode(stored), Error);
}

TEST(Gptq, ObjectsToWhatItCannotHold) {
  const auto objection = [](int bits, std::int64_t group, bool symmetric, GptqVersion version, std::int64_t rows, std::int64_t cols) {
    return gptq_objection({bits, group, symmetric, DType::f16}, version, rows, cols);
  };
  EXPECT_EQ(objection(4, 32, true, GptqVersion::v1, 32, 64), "");
  EXPECT_EQ(objection(4, 32, false, GptqVersion::v2, 32, 64), "");
  EXPECT_NE(objection(4, 32, false, GptqVersion::v1, 32, 64), "");
  EXPECT_NE(objection(5, 32, true, GptqVersion::v1, 32, 64), "");
  EXPECT_NE(objection(4, 32, true, GptqVersion::v1, 32, 80), "");
  EXPECT_NE(objection(3, 8, true, GptqVersion::v1, 32, 72), "");
  EXPECT_NE(objection(4, 32, true, GptqVersion::v1, 36, 64), "");
}

}  // namespace
}  // namespace neap
