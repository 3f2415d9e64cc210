// Judge: the formula in fp64 on the keys and values as the cache holds them.
#include "model/attention_step.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <vector>

#include "base/half.h"
#include "support/random_matrix.h"

namespace neap {
namespace {

// One kv head's rows in a cache of its own.
struct Rows {
  std::vector<std::byte> data;
  std::vector<float> scales;
  KvRows view;

  Rows(KvType type, const Matrix<float>& from) : data(from.rows() * from.cols() * 4), scales(from.rows()) {
    view = {type, data.data(), type == KvType::int8 ? scales.data() : nullptr, from.cols()};
    for (std::size_t r = 0; r < from.rows(); ++r) view.store(r, from.row(r));
  }

  double at(std::size_t row, std::size_t i) const {
    const std::size_t index = row * view.head_dim + i;
    if (view.type == KvType::int8) {
      const std::int8_t code = reinterpret_cast<const std::int8_t*>(view.data)[index];
      return static_cast<double>(code) * static_cast<double>(scales[row]);
    }
    if (view.type == KvType::bf16) return bf16_to_float(reinterpret_cast<const Bf16*>(view.data)[index]);
    return reinterpret_cast<const float*>(view.data)[index];
  }
};

std::vector<double> formula(const Rows& keys, const Rows& values, std::size_t row, std::size_t positions,
                            const float* query) {
  const std::size_t size = keys.view.head_dim;
  std::vector<double> scores(positions), out(size);
  double most = -1e300, sum = 0;
  for (std::size_t p = 0; p < positions; ++p) {
    for (std::size_t i = 0; i < size; ++i) scores[p] += static_cast<double>(query[i]) * keys.at(row + p, i);
    most = std::max(most, scores[p]);
  }
  for (double& score : scores) sum += score = std::exp2(score - most);
  for (std::size_t p = 0; p < positions; ++p) {
    for (std::size_t i = 0; i < size; ++i) out[i] += scores[p] / sum * values.at(row + p, i);
  }
  return out;
}

// The norm of the error over that of the result.
double error_of(KvType type, Operand operand, std::size_t size, std::size_t group, std::size_t positions) {
  constexpr std::size_t kFirst = 3;
  Matrix<float> k = random_matrix(kFirst + positions, size, 1), v = random_matrix(kFirst + positions, size, 2);
  for (std::size_t r = 0; r < k.rows(); ++r) {
    for (std::size_t i = 0; i < size; ++i) v(r, i) *= static_cast<float>(1 + r % 7);
  }
  const Rows keys(type, k), values(type, v);
  Matrix<float> queries = random_matrix(group, size, 3);
  for (std::size_t i = 0; i < group * size; ++i) queries.data()[i] /= std::sqrt(static_cast<float>(size));
  std::vector<SoftmaxState> states(group);
  std::vector<float> out(group * size);
  attend_step({keys.view, values.view, 1, kFirst + positions}, operand, kFirst, positions, queries, states.data(),
              out.data());
  double error = 0, norm = 0;
  for (std::size_t g = 0; g < group; ++g) {
    const std::vector<double> want = formula(keys, values, kFirst, positions, queries.row(g));
    for (std::size_t i = 0; i < size; ++i) {
      error += std::pow(static_cast<double>(out[g * size + i]) - want[i], 2);
      norm += want[i] * want[i];
    }
  }
  return std::sqrt(error / norm);
}

TEST(AttentionStep, IsTheFormulaOnInt8RowsFarBeyondTheirOwnPrecision) {
  for (const std::size_t size : {2, 16, 48, 64, 80, 128, 256}) {
    for (const std::size_t group : {1, 2, 3, 4, 7}) {
      for (const std::size_t positions : {1, 2, 3, 15, 16, 17, 66, 129}) {
        EXPECT_LT(error_of(KvType::int8, bf16_operand(), size, group, positions), 2e-4)
            << size << " " << group << " " << positions;
      }
    }
  }
}

TEST(AttentionStep, IsTheFormulaInEveryType) {
  for (const std::size_t size : {16, 64, 80, 300}) {
    for (const std::size_t positions : {1, 17, 129}) {
      EXPECT_LT(error_of(KvType::f32, Operand::f32, size, 3, positions), 1e-5) << size << " " << positions;
      EXPECT_LT(error_of(KvType::int8, Operand::f32, size, 3, positions), 1e-5) << size << " " << positions;
      EXPECT_LT(error_of(KvType::bf16, bf16_operand(), size, 3, positions), 1e-2) << size << " " << positions;
      EXPECT_LT(error_of(KvType::int8, bf16_operand(), size, 3, positions), 1e-2) << size << " " << positions;
    }
  }
}

TEST(AttentionStep, NaNInAKeyOrAQueryComesThrough) {
  Matrix<float> k = random_matrix(20, 64, 1), v = random_matrix(20, 64, 2), queries = random_matrix(2, 64, 3);
  const float nan = std::numeric_limits<float>::quiet_NaN();
  const auto run = [&] {
    const Rows keys(KvType::int8, k), values(KvType::int8, v);
    std::vector<SoftmaxState> states(2);
    std::vector<float> out(128);
    attend_step({keys.view, values.view, 1, 20}, bf16_operand(), 0, 20, queries, states.data(), out.data());
    return out;
  };
  queries(1, 5) = nan;
  EXPECT_FALSE(std::isnan(run()[0]));
  EXPECT_TRUE(std::isnan(run()[64]));
  k(7, 3) = nan;
  EXPECT_TRUE(std::isnan(run()[0]));
  k(7, 3) = 1;
  v(7, 3) = nan;
  EXPECT_TRUE(std::isnan(run()[0]));
}

}  // namespace
}  // namespace neap
