#include "codec/pack_quantized.h"

#include <gtest/gtest.h>

#include <cstring>
#include <limits>

#include "base/half.h"
#include "codec/pack_bits.h"
#include "codec/random_tensor.h"
#include "neap/error.h"

namespace neap {
namespace {

// What a file's reader would hand over after encode_pack_quantized was written.
struct Stored {
  std::vector<PartInfo> parts;
  std::vector<std::vector<std::byte>> bytes;

  explicit Stored(const QuantizedTensor& tensor)
      : parts(pack_quantized_parts(tensor.layout, tensor.rows, tensor.cols)),
        bytes(encode_pack_quantized(tensor)) {}

  StoredTensor part(std::size_t i) const {
    TensorInfo info{"m" + parts[i].suffix, parts[i].type, parts[i].shape, "file", 0,
                    bytes[i].size()};
    return {info, bytes[i]};
  }
  PackQuantizedModule module() const {
    PackQuantizedModule result{part(0), part(1), part(parts.size() - 1), {}};
    if (parts.size() == 4) result.zero_point = part(2);
    return result;
  }
};

QuantizedTensor decode(const Stored& stored, const GroupLayout& layout) {
  return decode_pack_quantized(stored.module(), layout.bits, layout.group, layout.symmetric);
}

ErrorContext refusal(const PackQuantizedModule& module, const GroupLayout& layout) {
  try {
    decode_pack_quantized(module, layout.bits, layout.group, layout.symmetric);
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::format);
    return error.context();
  }
  ADD_FAILURE() << "accepted";
  return {};
}

TEST(PackQuantized, DecodeInvertsEncodeOnEveryLayout) {
  for (int bits = 1; bits <= 8; ++bits) {
    for (const std::int64_t group : {0, 16, 40}) {
      for (const bool symmetric : {true, false}) {
        for (const DType type : {DType::f16, DType::bf16, DType::f32}) {
          const GroupLayout layout{bits, group, symmetric, type};
          const auto tensor = random_tensor(layout, 35, 80, 5);
          ASSERT_EQ(decode(Stored(tensor), layout), tensor) << bits << " " << group;
        }
      }
    }
  }
}

// Computed by compressed-tensors 0.19's pack_to_int32 from the signed values i % 8 - 4 of a (2, 33)
// matrix (row 1 continues the count), and of its zero points -4, 3, 1 and 2 of (2, 2).
TEST(PackQuantized, MatchesTheReferencePackersWords) {
  QuantizedTensor tensor{{3, 32, false, DType::f32}, 2, 33, {}, {1, 2, 3, 4}, {0, 7, 5, 6}};
  for (int i = 0; i < 66; ++i) tensor.codes.push_back(static_cast<std::uint8_t>(i % 8));
  const Stored stored(tensor);
  const std::vector<std::uint32_t> packed = {0x88fac688u, 0xc688fac6u, 0xfac688fau, 0x00000000u,
                                             0xd11f58d1u, 0x58d11f58u, 0x1f58d11fu, 0x00000001u};
  ASSERT_EQ(stored.bytes[0].size(), 4 * packed.size());
  EXPECT_EQ(std::memcmp(stored.bytes[0].data(), packed.data(), 32), 0);
  const std::vector<std::uint32_t> zeros = {0x28u, 0x37u};
  EXPECT_EQ(stored.parts[2].shape, (Shape{1, 2}));
  EXPECT_EQ(std::memcmp(stored.bytes[2].data(), zeros.data(), 8), 0);
}

TEST(PackQuantized, TheOldSparsePackingIsRecognisedByItsWidth) {
  const GroupLayout layout{3, 32, true, DType::f16};
  const auto tensor = random_tensor(layout, 3, 64, 6);
  Stored stored(tensor);
  std::vector<std::uint32_t> words(3 * 7);
  for (std::size_t i = 0; i < tensor.codes.size(); ++i) {
    words[i / 64 * 7 + i % 64 / 10] |= static_cast<std::uint32_t>(tensor.codes[i])
                                       << (3 * (i % 64 % 10));
  }
  stored.parts[0].shape = {3, 7};
  stored.bytes[0].resize(4 * words.size());
  std::memcpy(stored.bytes[0].data(), words.data(), 4 * words.size());
  EXPECT_EQ(decode(stored, layout), tensor);
}

TEST(PackQuantized, EveryTruncationOfEveryPartIsRefused) {
  const GroupLayout layout{3, 32, false, DType::bf16};
  const Stored stored(random_tensor(layout, 20, 96, 7));
  for (std::size_t part = 0; part < stored.parts.size(); ++part) {
    for (std::size_t length = 0; length < stored.bytes[part].size(); ++length) {
      Stored cut = stored;
      cut.bytes[part].resize(length);
      EXPECT_EQ(refusal(cut.module(), layout).tensor, "m" + stored.parts[part].suffix);
    }
  }
}

TEST(PackQuantized, EveryPartOfAnotherShapeOrTypeIsRefusedByName) {
  const GroupLayout layout{4, 32, false, DType::bf16};
  const Stored stored(random_tensor(layout, 20, 96, 8));
  for (std::size_t part = 0; part < stored.parts.size(); ++part) {
    Stored bad = stored;
    bad.parts[part].shape.back() += 1;
    const auto context = refusal(bad.module(), layout);
    EXPECT_EQ(context.tensor, "m" + stored.parts[part].suffix);
    EXPECT_EQ(context.expected, to_string(stored.parts[part].shape));
    EXPECT_EQ(context.found, to_string(bad.parts[part].shape));
    EXPECT_EQ(context.file, "file");
    bad = stored, bad.parts[part].type = DType::u8;
    EXPECT_EQ(refusal(bad.module(), layout).found, "U8");
  }
}

TEST(PackQuantized, TheWordsOfTheConfigurationMustFitTheTensors) {
  const Stored stored(random_tensor({4, 32, false, DType::bf16}, 20, 96, 9));
  refusal(stored.module(), {3, 32, false, DType::bf16});
  refusal(stored.module(), {4, 16, false, DType::bf16});
  refusal(stored.module(), {4, 0, false, DType::bf16});
  refusal(stored.module(), {4, 32, true, DType::bf16});
  refusal(Stored(random_tensor({4, 32, true, DType::bf16}, 20, 96, 9)).module(),
          {4, 32, false, DType::bf16});
}

TEST(PackQuantized, HostileShapesAreRefusedBeforeAnythingIsAllocated) {
  const GroupLayout layout{4, 0, true, DType::f32};
  for (const auto& [rows, cols] : std::vector<std::pair<std::int64_t, std::int64_t>>{
           {-1, 32},
           {0, 32},
           {2, 0},
           {std::int64_t{1} << 40, std::int64_t{1} << 40},
           {std::numeric_limits<std::int64_t>::max(), 2},
           {2, std::numeric_limits<std::int64_t>::max()}}) {
    Stored stored(random_tensor(layout, 2, 32, 10));
    std::memcpy(stored.bytes[2].data(), &rows, 8);
    std::memcpy(stored.bytes[2].data() + 8, &cols, 8);
    refusal(stored.module(), layout);
  }
}

TEST(PackQuantized, BitsOutsideTheCodesAndUnusableScalesAreRefused) {
  const GroupLayout layout{3, 0, false, DType::f32};
  const Stored stored(random_tensor(layout, 20, 33, 11));
  Stored bad = stored;
  bad.bytes[0].back() = std::byte{0x80};
  EXPECT_EQ(refusal(bad.module(), layout).tensor, "m.weight_packed");
  bad = stored, bad.bytes[2].back() = std::byte{0x80};
  EXPECT_EQ(refusal(bad.module(), layout).tensor, "m.weight_zero_point");
  for (const float scale : {0.0f, -1.0f, std::numeric_limits<float>::infinity(),
                            std::numeric_limits<float>::quiet_NaN()}) {
    bad = stored;
    std::memcpy(bad.bytes[1].data() + 4, &scale, 4);
    EXPECT_EQ(refusal(bad.module(), layout).tensor, "m.weight_scale");
  }
}

}  // namespace
}  // namespace neap
