#include "codec/group_int.h"

#include <gtest/gtest.h>

#include <omp.h>

#include "base/parallel.h"
#include "codec/pack_quantized.h"
#include "codec/random_tensor.h"

namespace neap {
namespace {

TEST(GroupLayout, TheLastGroupMayBeShorterAndZeroMeansTheWholeRow) {
  EXPECT_EQ((GroupLayout{.group = 64}.groups(128)), 2);
  EXPECT_EQ((GroupLayout{.group = 64}.groups(129)), 3);
  EXPECT_EQ((GroupLayout{.group = 64}.groups(10)), 1);
  EXPECT_EQ((GroupLayout{.group = 0}.groups(129)), 1);
}

TEST(Dequantize, IsScaleTimesCodeMinusZeroOnEveryLayout) {
  for (const int bits : {1, 2, 3, 4, 5, 8}) {
    for (const std::int64_t group : {0, 7, 32}) {
      for (const bool symmetric : {true, false}) {
        const auto tensor = random_tensor({bits, group, symmetric, DType::f16}, 9, 50, 1);
        Matrix<float> found(9, 50);
        dequantize(tensor, 0, 9, found);
        const std::int64_t groups = tensor.layout.groups(50);
        for (std::int64_t r = 0; r < 9; ++r) {
          for (std::int64_t c = 0; c < 50; ++c) {
            const auto g = static_cast<std::size_t>(r * groups + (group == 0 ? 0 : c / group));
            const int zero = symmetric ? 1 << (bits - 1) : tensor.zeros[g];
            const int code = tensor.codes[static_cast<std::size_t>(r * 50 + c)];
            const double exact = static_cast<double>(tensor.scales[g]) * (code - zero);
            ASSERT_EQ(found(static_cast<std::size_t>(r), static_cast<std::size_t>(c)),
                      static_cast<float>(exact));
          }
        }
      }
    }
  }
}

TEST(Dequantize, ARangeOfRowsIsThoseRowsOfTheWholeAtAnyThreadCountAndStride) {
  const auto tensor = random_tensor({3, 64, false, DType::bf16}, 700, 576, 2);
  Matrix<float> whole(700, 576), wide(300, 600);
  dequantize(tensor, 0, 700, whole);
  for (const int threads : {1, 3}) {
    const ThreadScope scope(threads);
    const auto part = wide.view().block(0, 0, 300, 576);
    dequantize(tensor, 250, 300, part);
    for (std::size_t r = 0; r < 300; ++r) {
      for (std::size_t c = 0; c < 576; ++c) ASSERT_EQ(part(r, c), whole(250 + r, c));
      for (std::size_t c = 576; c < 600; ++c) ASSERT_EQ(wide(r, c), 0);
    }
  }
}

TEST(BitsPerWeight, IsTheSizeOfThePackedTensors) {
  for (const int bits : {2, 3, 4, 8}) {
    for (const bool symmetric : {true, false}) {
      for (const DType type : {DType::f16, DType::f32}) {
        const GroupLayout layout{bits, 64, symmetric, type};
        const auto parts = encode_pack_quantized(random_tensor(layout, 70, 200, 3));
        double size = -16;  // weight_shape is not counted
        for (const auto& part : parts) size += static_cast<double>(part.size());
        EXPECT_DOUBLE_EQ(bits_per_weight(layout, 70, 200), 8 * size / (70 * 200));
      }
    }
  }
  EXPECT_DOUBLE_EQ(bits_per_weight({3, 64, false, DType::f16}, 576, 576), 3 + 16.0 / 64 + 3.0 / 64);
}

TEST(CheckInvariantsDeathTest, ABrokenPromiseAborts) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  const auto good = random_tensor({3, 8, false, DType::f16}, 2, 16, 4);
  check_invariants(good);
  auto bad = good;
  bad.codes[5] = 8;
  EXPECT_DEATH(check_invariants(bad), "invariant");
  bad = good, bad.zeros[1] = 9;
  EXPECT_DEATH(check_invariants(bad), "invariant");
  bad = good, bad.scales[0] = 0.1f;  // not a half
  EXPECT_DEATH(check_invariants(bad), "invariant");
  bad = good, bad.scales.pop_back();
  EXPECT_DEATH(check_invariants(bad), "invariant");
}

}  // namespace
}  // namespace neap
