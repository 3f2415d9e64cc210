// Weights in NVFP4 and MXFP4, and their packed form.
#include "codec/fp4.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <limits>

#include "codec/fp4_pack.h"
#include "codec/fp4_support.h"
#include "neap/error.h"
#include "support/golden_file.h"

namespace neap {
namespace {

using test::GoldenFile;

constexpr Fp4Layout kNvfp4{BlockScaled::nvfp4}, kMxfp4{BlockScaled::mxfp4};

GoldenFile golden(const std::string& kind) {
  return GoldenFile(std::string(NEAP_GOLDEN_DIR) + "/block_scaled/" + kind + ".safetensors");
}

TEST(Fp4, ScalesOfExtremeMaximaCanBeUsed) {
  const float largest = std::numeric_limits<float>::max();
  for (const float maximum : {0.0f, 0x1p-149f, 1e-36f, 1.0f, largest}) {
    const float global = global_scale_of_maximum(maximum);
    EXPECT_TRUE(usable_global_scale(kNvfp4, global)) << maximum;
    for (const Fp4Layout& layout : {kNvfp4, kMxfp4}) {
      const float scale_of_tensor = layout == kNvfp4 ? global : 1.0f;
      for (const float of_group : {0.0f, maximum}) {
        const std::uint8_t bits = fp4_scale_of_maximum(layout, of_group, scale_of_tensor);
        EXPECT_TRUE(usable_scale(layout, bits));
        const float scale = fp4_scale(layout, bits, scale_of_tensor);
        EXPECT_GT(scale, 0);
        EXPECT_TRUE(std::isfinite(kE2m1Max * scale)) << maximum;
      }
    }
  }
}

// tests/golden/make_block_scaled_files.py: compressed-tensors' own bytes and numbers. Its -0 is our +0.
TEST(Fp4, RoundingGivesTheBytesOfCompressedTensors) {
  for (const char* kind : {"usual", "ties", "wide", "tiny"}) {
    const GoldenFile file = golden(kind);
    auto values = file.values<float>("values");
    const MatrixView<const float> weight(values.data(), values.size() / 128, 128);
    for (const Fp4Layout& layout : {kNvfp4, kMxfp4}) {
      const std::string name = layout == kNvfp4 ? "nvfp4" : "mxfp4";
      SCOPED_TRACE(std::string(kind) + " " + name);
      const float global = layout == kNvfp4 ? file.values<float>("nvfp4.global_scale")[0] : 1.0f;
      if (layout == kNvfp4) {
        float largest = 0;
        for (const float v : values) largest = std::max(largest, std::abs(v));
        EXPECT_EQ(global_scale_of_maximum(largest), global);
      }
      const Fp4Tensor tensor = round_to_fp4(weight, layout, global);
      EXPECT_EQ(tensor.scales, file.values<std::uint8_t>(name + ".scale"));
      auto packed = file.values<std::uint8_t>(name + ".packed");
      for (auto& pair : packed) {
        if ((pair & 0x0f) == 0x08) pair &= 0xf0;
        if ((pair & 0xf0) == 0x80) pair &= 0x0f;
      }
      const auto ours = encode_fp4_parts(tensor)[0];
      EXPECT_TRUE(std::equal(ours.begin(), ours.end(), reinterpret_cast<const std::byte*>(packed.data())));
      Matrix<float> decoded(weight.rows, weight.cols);
      dequantize(tensor, 0, tensor.rows, decoded);
      const auto expected = file.values<float>(name + ".weights");
      for (std::size_t i = 0; i < expected.size(); ++i) ASSERT_EQ(decoded.data()[i], expected[i]) << i;
    }
  }
}

TEST(Fp4, PartOfTheRowsIsDequantizedAlike) {
  const Fp4Tensor tensor = random_fp4(kNvfp4, 9, 48, 1);
  Matrix<float> whole(9, 48), part(3, 48);
  dequantize(tensor, 0, 9, whole);
  dequantize(tensor, 4, 3, part);
  EXPECT_TRUE(std::equal(part.data(), part.data() + 3 * 48, whole.row(4)));
}

TEST(Fp4, BitsPerWeightFollowFromTheParts) {
  for (const auto& [layout, bits] : {std::pair(kNvfp4, 4.5), std::pair(kMxfp4, 4.25)}) {
    const auto parts = encode_fp4_parts(random_fp4(layout, 6, 96, 1));
    EXPECT_EQ(bits_per_weight(layout, 6, 96), bits);
    EXPECT_EQ(static_cast<double>(8 * (parts[0].size() + parts[1].size())) / (6 * 96), bits);
  }
}

class Fp4Pack : public testing::TestWithParam<Fp4Layout> {
 protected:
  Fp4Pack() : tensor_(random_fp4(GetParam(), 5, 64, 7)), parts_(fp4_parts(GetParam(), 5, 64)), bytes_(encode_fp4_parts(tensor_)) {}

  StoredTensor part(std::size_t i) const {
    return {{parts_[i].suffix, parts_[i].type, parts_[i].shape, "file", 0, bytes_[i].size()}, bytes_[i]};
  }
  Fp4Module module() const {
    Fp4Module module{part(0), part(1), {}};
    if (parts_.size() > 2) module.global_scale = part(2);
    return module;
  }
  StoredTensor& part_of(Fp4Module& module, std::size_t i) { return i == 0 ? module.packed : i == 1 ? module.scale : *module.global_scale; }
  Fp4Tensor decode(const Fp4Module& module) const { return decode_fp4(module, GetParam(), 5, 64); }
  void expect_refused(const Fp4Module& module, const std::string& suffix) const {
    try {
      decode(module);
      ADD_FAILURE() << suffix << ": accepted";
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::format);
      EXPECT_EQ(error.context().tensor, suffix);
    }
  }

  Fp4Tensor tensor_;
  std::vector<PartInfo> parts_;
  std::vector<std::vector<std::byte>> bytes_;
};

TEST_P(Fp4Pack, DecodesWhatItEncoded) { EXPECT_EQ(decode(module()), tensor_); }

TEST_P(Fp4Pack, RefusesEveryTruncationOfEveryPart) {
  for (std::size_t i = 0; i < parts_.size(); ++i) {
    for (std::size_t size = 0; size < bytes_[i].size(); ++size) {
      Fp4Module cut = module();
      part_of(cut, i).bytes = part_of(cut, i).bytes.first(size);
      expect_refused(cut, parts_[i].suffix);
    }
  }
}

TEST_P(Fp4Pack, RefusesOtherTypesAndShapes) {
  for (std::size_t i = 0; i < parts_.size(); ++i) {
    Fp4Module other = module();
    part_of(other, i).info.type = DType::i8;
    expect_refused(other, parts_[i].suffix);
    for (std::size_t d = 0; d < parts_[i].shape.size(); ++d) {
      other = module();
      ++part_of(other, i).info.shape[d];
      expect_refused(other, parts_[i].suffix);
    }
  }
}

TEST_P(Fp4Pack, EveryScaleIsUsableOrRefused) {
  for (unsigned bits = 0; bits < 256; ++bits) {
    bytes_[1][3] = static_cast<std::byte>(bits);
    if (!usable_scale(GetParam(), static_cast<std::uint8_t>(bits))) {
      expect_refused(module(), ".weight_scale");
      continue;
    }
    Matrix<float> values(5, 64);
    dequantize(decode(module()), 0, 5, values);
    for (std::size_t c = 0; c < 5 * 64; ++c) ASSERT_TRUE(std::isfinite(values.data()[c])) << bits;
  }
}

TEST_P(Fp4Pack, GlobalScalesThatGiveNoNumbersAreRefused) {
  if (parts_.size() < 3) GTEST_SKIP() << "MXFP4 has none";
  const float infinity = std::numeric_limits<float>::infinity();
  for (const float bad : {0.0f, -1.0f, infinity, -infinity, std::nanf(""), 1e-38f}) {
    std::memcpy(bytes_[2].data(), &bad, sizeof bad);
    expect_refused(module(), ".weight_global_scale");
  }
}

TEST_P(Fp4Pack, MinusZeroOfOtherProgramsIsZero) {
  bytes_[0][0] = std::byte{0x88};
  const Fp4Tensor tensor = decode(module());
  EXPECT_EQ(tensor.codes[0], 0);
  EXPECT_EQ(tensor.codes[1], 0);
  bytes_[0][0] = std::byte{0xa1};  // the lower nibble comes first
  EXPECT_EQ(decode(module()).codes[0], 1);
  EXPECT_EQ(decode(module()).codes[1], 10);
}

INSTANTIATE_TEST_SUITE_P(Formats, Fp4Pack, testing::Values(kNvfp4, kMxfp4),
                         [](const auto& layout) { return name_of(layout.param.format); });

}  // namespace
}  // namespace neap
