// Judge: the codecs' dequantize.
#include "kernels/read_row.h"

#include <gtest/gtest.h>

#include <cstring>

#include "codec/lobcq_support.h"
#include "codec/random_tensor.h"

namespace neap {
namespace {

template <class Packed>
void expect_rows(const Packed& packed, const Matrix<float>& want) {
  std::vector<float> row(want.cols());
  for (const Isa isa : supported_isas()) {
    for (std::size_t r = 0; r < want.rows(); ++r) {
      read_row(packed, r, row.data(), isa);
      ASSERT_EQ(std::memcmp(row.data(), want.row(r), want.cols() * sizeof(float)), 0)
          << name_of(isa) << ", row " << r << " of " << want.rows() << " x " << want.cols();
    }
  }
}

TEST(ReadRow, IntegersHaveTheBitsOfDequantize) {
  for (const int bits : {2, 3, 4, 8}) {
    for (const std::int64_t group : {0, 32, 64, 128, 192}) {
      for (const bool symmetric : {true, false}) {
        for (const DType type : {DType::bf16, DType::f16, DType::f32}) {
          for (const std::int64_t cols : {1, 63, 576}) {
            const QuantizedTensor tensor = random_tensor({bits, group, symmetric, type}, 37, cols, 1);
            Matrix<float> want(37, static_cast<std::size_t>(cols));
            dequantize(tensor, 0, 37, want);
            expect_rows(PackedGroupInt(tensor), want);
          }
        }
      }
    }
  }
}

TEST(ReadRow, CodebooksHaveTheBitsOfDequantize) {
  for (const LobcqLayout& layout : every_layout()) {
    const Codebooks codebooks = random_codebooks(layout, 3);
    for (const std::int64_t cols : {1, 63, 200}) {
      const LobcqTensor tensor = random_lobcq(layout, 21, cols, 2);
      Matrix<float> want(21, static_cast<std::size_t>(cols));
      dequantize(tensor, codebooks, 0, 21, want);
      expect_rows(PackedLobcq(tensor, codebooks), want);
    }
  }
}

}  // namespace
}  // namespace neap
