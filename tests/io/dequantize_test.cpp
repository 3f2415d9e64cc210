// Against gguf.quants.dequantize of the Python package: tests/golden/make_gguf_blocks.py.
#include "io/dequantize.h"

#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <map>
#include <vector>

#include "io/mapped_file.h"
#include "io/safetensors.h"

namespace neap {
namespace {

constexpr DType kTypes[] = {DType::f16,  DType::bf16, DType::q4_0, DType::q4_1,
                            DType::q5_0, DType::q5_1, DType::q8_0, DType::q2_k,
                            DType::q3_k, DType::q4_k, DType::q5_k, DType::q6_k, DType::iq4_nl, DType::mxfp4, DType::nvfp4};

// The committed blocks, or the larger set that `make_gguf_blocks.py --check` names.
std::string golden_path() {
  const char* larger = std::getenv("NEAP_GGUF_BLOCKS");
  return larger != nullptr ? larger : NEAP_GOLDEN_DIR "/io/gguf_blocks.safetensors";
}

class DequantizeTest : public testing::TestWithParam<DType> {
 protected:
  DequantizeTest() : file_(golden_path()) {
    for (const TensorInfo& tensor : parse_safetensors(file_.bytes(), file_.path()).tensors) {
      tensors_[tensor.name] = tensor;
    }
  }
  std::span<const std::byte> tensor(const std::string& name) const {
    const TensorInfo& info = tensors_.at(name);
    return file_.bytes().subspan(info.offset, info.bytes);
  }
  std::span<const std::byte> blocks() const {
    return tensor(std::string(name_of(GetParam())) + ".blocks");
  }
  std::vector<float> expected() const {
    const auto bytes = tensor(std::string(name_of(GetParam())) + ".values");
    std::vector<float> values(bytes.size() / sizeof(float));
    std::memcpy(values.data(), bytes.data(), bytes.size());
    return values;
  }

 private:
  MappedFile file_;
  std::map<std::string, TensorInfo> tensors_;
};

void expect_same_bits(const std::vector<float>& found, const std::vector<float>& expected) {
  ASSERT_EQ(found.size(), expected.size());
  for (std::size_t i = 0; i < found.size(); ++i) {
    const bool both_nan = std::isnan(found[i]) && std::isnan(expected[i]);
    ASSERT_TRUE(both_nan ||
                std::bit_cast<std::uint32_t>(found[i]) == std::bit_cast<std::uint32_t>(expected[i]))
        << "element " << i << ": " << found[i] << ", expected " << expected[i];
  }
}

TEST_P(DequantizeTest, EqualsTheReferenceBitForBit) {
  ASSERT_GE(blocks().size(), block_bytes(GetParam()));
  std::vector<float> values(blocks().size() / block_bytes(GetParam()) * block_elements(GetParam()));
  dequantize_blocks(GetParam(), blocks().data(), values.data(), values.size());
  expect_same_bits(values, expected());
}

TEST_P(DequantizeTest, ReadsFromAnyAddress) {
  std::vector<std::byte> shifted(blocks().size() + 1);
  std::memcpy(shifted.data() + 1, blocks().data(), blocks().size());
  std::vector<float> values(expected().size());
  dequantize_blocks(GetParam(), shifted.data() + 1, values.data(), values.size());
  expect_same_bits(values, expected());
}

TEST_P(DequantizeTest, AnyBlockStandsAlone) {
  const std::size_t elements = block_elements(GetParam()), bytes = block_bytes(GetParam());
  std::vector<float> values(expected().size());
  for (std::size_t b = 0; b < values.size() / elements; ++b) {
    dequantize_blocks(GetParam(), blocks().data() + b * bytes, values.data() + b * elements,
                      elements);
  }
  expect_same_bits(values, expected());
}

INSTANTIATE_TEST_SUITE_P(Types, DequantizeTest, testing::ValuesIn(kTypes),
                         [](const auto& test) { return std::string(name_of(test.param)); });

TEST(DequantizePlainTest, SinglesPassAndDoublesRoundToNearest) {
  const std::vector<float> singles = {1.5f, -0.0f, 1e-45f};
  std::vector<float> out(3);
  dequantize_blocks(DType::f32, reinterpret_cast<const std::byte*>(singles.data()), out.data(), 3);
  expect_same_bits(out, singles);
  const std::vector<double> doubles = {1.0 + 0x1p-24, 1.0 + 0x1.8p-23, 1e300};
  dequantize_blocks(DType::f64, reinterpret_cast<const std::byte*>(doubles.data()), out.data(), 3);
  expect_same_bits(out, {1.0f, 1.0f + 0x1p-22f, INFINITY});
}

TEST(DequantizePlainTest, KnowsWhatHasNoValueOfItsOwn) {
  EXPECT_TRUE(can_dequantize(DType::q6_k));
  EXPECT_TRUE(can_dequantize(DType::f64));
  for (const DType type : {DType::i64, DType::i32, DType::i16, DType::i8, DType::u8, DType::boolean,
                           DType::f8_e4m3, DType::f8_e5m2}) {
    EXPECT_FALSE(can_dequantize(type)) << name_of(type);
  }
}

}  // namespace
}  // namespace neap
