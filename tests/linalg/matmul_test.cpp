#include "linalg/matmul.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <vector>

#include "base/half.h"
#include "base/parallel.h"
#include "base/random.h"

namespace neap {
namespace {

Matrix<float> random_matrix(std::size_t rows, std::size_t cols, std::uint32_t seed) {
  Matrix<float> m(rows, cols);
  for (std::size_t i = 0; i < rows * cols; ++i) {
    m.data()[i] = uniform_float(philox({static_cast<std::uint32_t>(i), seed, 0, 0}, 1)[0]) - 0.5f;
  }
  return m;
}

float rounded(Operand type, float value) {
  return type == Operand::f32 ? value : bf16_to_float(float_to_bf16(value));
}

// Sum of products of operands, and of their magnitudes, in double.
struct Dot {
  double value = 0, magnitude = 0;
};
Dot dot(Operand type, const float* a, const float* b, std::size_t count) {
  Dot d;
  for (std::size_t i = 0; i < count; ++i) {
    const double product = static_cast<double>(rounded(type, a[i])) * rounded(type, b[i]);
    d.value += product;
    d.magnitude += std::abs(product);
  }
  return d;
}

// |fp32 sum - sum| <= count * eps * sum of magnitudes, however it is ordered (Higham, 4.2); far
// less in practice.
double bound(const Dot& d, std::size_t count) {
  return static_cast<double>(count) * 0x1p-24 * d.magnitude + 1e-30;
}

std::vector<Operand> operands() {
  std::vector<Operand> types{Operand::f32, Operand::bf16_in_f32};
  if (bf16_operand() == Operand::bf16) types.push_back(Operand::bf16);
  return types;
}

struct Shape2 {
  std::size_t in, out;
};
const std::vector<Shape2> kShapes{{1, 1},     {16, 16},   {33, 17},  {64, 192},
                                  {100, 193}, {576, 500}, {1537, 70}};

TEST(PackedWeights, MultipliesAsTheSumOfProducts) {
  for (const Operand type : operands()) {
    for (const Shape2 shape : kShapes) {
      const Matrix<float> w = random_matrix(shape.out, shape.in, 1),
                          bias = random_matrix(1, shape.out, 2);
      const PackedWeights packed(w, type);
      for (const std::size_t rows : {1, 5, 96, 97, 130}) {
        const Matrix<float> x = random_matrix(rows, shape.in, 3);
        Matrix<float> y(rows, shape.out);
        packed.multiply(x, {bias.data(), shape.out}, y);
        for (std::size_t r = 0; r < rows; ++r) {
          for (std::size_t c = 0; c < shape.out; ++c) {
            const Dot d = dot(type, x.row(r), w.row(c), shape.in);
            ASSERT_NEAR(y(r, c), d.value + static_cast<double>(bias(0, c)),
                        bound(d, shape.in + 1) + 1e-7)
                << "in " << shape.in << " out " << shape.out << " at " << r << ", " << c;
          }
        }
      }
    }
  }
}

TEST(PackedWeights, ReadsAndWritesStridedViews) {
  const Matrix<float> w = random_matrix(40, 24, 1), wide = random_matrix(7, 30, 2);
  const PackedWeights packed(w.view(), Operand::f32);
  Matrix<float> x(7, 24), y(7, 40), framed(7, 50);
  for (std::size_t r = 0; r < 7; ++r) std::memcpy(x.row(r), wide.row(r) + 3, 24 * sizeof(float));
  packed.multiply(x, {}, y);
  packed.multiply(wide.view().block(0, 3, 7, 24), {}, framed.view().block(0, 5, 7, 40));
  for (std::size_t r = 0; r < 7; ++r) {
    EXPECT_EQ(std::memcmp(framed.row(r) + 5, y.row(r), 40 * sizeof(float)), 0);
    EXPECT_EQ(framed(r, 4), 0.f);
    EXPECT_EQ(framed(r, 45), 0.f);
  }
}

TEST(PackedWeights, ThreadCountDoesNotChangeTheBits) {
  for (const Operand type : operands()) {
    for (const std::size_t rows : {3, 200}) {
      const PackedWeights packed(random_matrix(700, 300, 1).view(), type);
      const Matrix<float> x = random_matrix(rows, 300, 2);
      Matrix<float> one(rows, 700), many(rows, 700);
      {
        const ThreadScope scope(1);
        packed.multiply(x, {}, one);
      }
      for (const int threads : {2, 3, 8}) {
        const ThreadScope scope(threads);
        packed.multiply(x, {}, many);
        EXPECT_EQ(std::memcmp(one.data(), many.data(), rows * 700 * sizeof(float)), 0);
      }
    }
  }
}

TEST(PackedWeights, ARowDoesNotDependOnTheOthersOrItsPlace) {
  for (const Operand type : operands()) {
    for (const Shape2 shape : {Shape2{33, 17}, {64, 192}, {576, 500}, {5000, 200}}) {
      const PackedWeights packed(random_matrix(shape.out, shape.in, 1).view(), type);
      const Matrix<float> x = random_matrix(200, shape.in, 2);
      Matrix<float> all(200, shape.out), few(200, shape.out);
      packed.multiply(x, {}, all);
      for (const std::size_t rows : {1, 2, 3, 4, 7, 8, 13, 16, 23, 31, 48, 64, 96, 100}) {
        for (const std::size_t first :
             {std::size_t{0}, std::size_t{1}, 95 - rows / 2, 200 - rows}) {
          packed.multiply(x.view().row_range(first, rows), {}, few.view().row_range(0, rows));
          ASSERT_EQ(std::memcmp(few.data(), all.row(first), rows * shape.out * sizeof(float)), 0)
              << "in " << shape.in << " rows " << rows << " from " << first;
        }
      }
    }
  }
}

TEST(MultiplyTile, MultipliesBothWaysRound) {
  for (const Operand type : operands()) {
    const std::size_t size = operand_bytes(type);
    for (const TileProduct shape : {TileProduct{32, 64, 16, true},
                                    {192, 64, 64, false},
                                    {7, 5, 3, true},
                                    {64, 80, 320, false},
                                    {192, 512, 64, true}}) {
      const Matrix<float> x = random_matrix(shape.m, shape.k, 1);
      const Matrix<float> b =
          random_matrix(shape.n, shape.k, 2);  // (n, k); turned for the other way
      Matrix<float> turned(shape.k, shape.n);
      for (std::size_t j = 0; j < shape.n; ++j) {
        for (std::size_t i = 0; i < shape.k; ++i) turned(i, j) = b(j, i);
      }
      std::vector<std::byte> xs(shape.m * shape.k * size), bs(shape.n * shape.k * size);
      to_operand(type, x.data(), xs.data(), shape.m * shape.k);
      to_operand(type, shape.b_transposed ? b.data() : turned.data(), bs.data(), shape.n * shape.k);
      Matrix<float> y(shape.m, shape.n);
      multiply_tile(type, shape, xs.data(), bs.data(), y.data());
      for (std::size_t r = 0; r < shape.m; ++r) {
        for (std::size_t c = 0; c < shape.n; ++c) {
          const Dot d = dot(type, x.row(r), b.row(c), shape.k);
          ASSERT_NEAR(y(r, c), d.value, bound(d, shape.k));
        }
      }
    }
  }
}

}  // namespace
}  // namespace neap
