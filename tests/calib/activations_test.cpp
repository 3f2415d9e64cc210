#include "calib/activations.h"

#include <gtest/gtest.h>

#include <cstdlib>

#include "base/half.h"
#include "neap/error.h"

namespace neap {
namespace {

Matrix<float> numbered(std::size_t rows, std::size_t cols, float start) {
  Matrix<float> m(rows, cols);
  for (std::size_t i = 0; i < rows * cols; ++i) m.data()[i] = start + 0.37f * static_cast<float>(i);
  return m;
}

void stores_and_loads(Precision precision, std::uint64_t budget) {
  Activations activations({70, 1, 130}, 48, precision, budget, testing::TempDir());
  const std::size_t rows[] = {70, 1, 130}, cols[] = {48, 48, 17};
  for (const std::size_t w : {2, 0, 1}) {
    activations.store(w, numbered(rows[w], cols[w], static_cast<float>(w)));
  }
  for (const std::size_t w : {0, 1, 2}) {
    const Matrix<float> expected = numbered(rows[w], cols[w], static_cast<float>(w));
    Matrix<float> found(rows[w], cols[w]);
    activations.load(w, found);
    for (std::size_t i = 0; i < rows[w] * cols[w]; ++i) {
      const float value = expected.data()[i];
      const float kept = precision == Precision::f32 ? value : bf16_to_float(float_to_bf16(value));
      ASSERT_EQ(found.data()[i], kept) << "window " << w << " value " << i;
    }
  }
}

TEST(Activations, MemoryGivesBackWhatWasStored) {
  stores_and_loads(Precision::f32, 1 << 20);
  stores_and_loads(Precision::bf16, 1 << 20);
}

TEST(Activations, ScratchFileGivesBackWhatWasStored) {
  stores_and_loads(Precision::f32, 0);
  stores_and_loads(Precision::bf16, 0);
}

TEST(Activations, AScratchDirectoryThatDoesNotExistIsAnError) {
  EXPECT_THROW(Activations({10}, 10, Precision::f32, 0, "/no/such/directory"), Error);
}

}  // namespace
}  // namespace neap
