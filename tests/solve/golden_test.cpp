#include <gtest/gtest.h>

#include <fstream>
#include <string>
#include <vector>

#include "solve/layer.h"

namespace neap {
namespace {

// tests/golden/make_solver_files.py says what is in it.
struct Golden {
  GroupLayout layout;
  double ridge = 0;
  Matrix<float> weight, gram, drift, codes;
  Grid grid;

  explicit Golden(const std::string& name)
      : in_(std::string(NEAP_GOLDEN_DIR) + "/solve/" + name + ".f32", std::ios::binary) {
    const Matrix<float> head = next(1, 5);
    const auto rows = static_cast<std::size_t>(head(0, 0)), cols = static_cast<std::size_t>(head(0, 1));
    layout = {static_cast<int>(head(0, 3)), static_cast<std::int64_t>(head(0, 2)), false, DType::bf16};
    ridge = head(0, 4);
    weight = next(rows, cols);
    gram = next(cols, cols);
    drift = next(cols, cols);
    const std::size_t groups = (cols + layout.group - 1) / layout.group;
    grid = {layout, cols, next(rows, groups), {}, GridForm::zero_points, {}};
    grid.zeros = next(rows, groups);
    codes = next(rows, cols);
    EXPECT_TRUE(in_.good());
  }

 private:
  Matrix<float> next(std::size_t rows, std::size_t cols) {
    Matrix<float> m(rows, cols);
    in_.read(reinterpret_cast<char*>(m.data()), static_cast<std::streamsize>(4 * rows * cols));
    return m;
  }
  std::ifstream in_;
};

void expect_codes(const Golden& golden, const QuantizedTensor& tensor) {
  ASSERT_EQ(tensor.codes.size(), golden.codes.rows() * golden.codes.cols());
  for (std::size_t i = 0; i < tensor.codes.size(); ++i) {
    ASSERT_EQ(tensor.codes[i], golden.codes.data()[i]) << "code " << i;
  }
}

TEST(Golden, GreedyWalkAtMixOneIsGptqCodeForCode) {
  const Golden golden("gptq");
  const LayerSystem system(golden.gram, {},
                           {.target_mix = 1, .ridge = golden.ridge, .order = Order::first_to_last});
  const SolveOptions gptq{.paths = 0, .descent_sweeps = 0};
  expect_codes(golden, solve_on_grid(system, golden.weight, golden.grid, gptq, 1).tensor);
}

TEST(Golden, MaskedTargetIsGptaqCodeForCode) {
  for (const char* name : {"gptaq", "gptaq-rows"}) {
    const Golden golden(name);
    const LayerSystem system(golden.gram, golden.drift,
                             {.target_mix = 1,
                              .ridge = golden.ridge,
                              .order = Order::first_to_last,
                              .masked_target = true});
    expect_codes(golden, solve_on_grid(system, golden.weight, golden.grid, {}, 1).tensor);
  }
}

TEST(Golden, WithoutTheCorrectionGptaqsLayerGivesOtherCodes) {
  const Golden golden("gptaq");
  const LayerSystem system(golden.gram, {},
                           {.target_mix = 1, .ridge = golden.ridge, .order = Order::first_to_last});
  const SolveOptions gptq{.paths = 0, .descent_sweeps = 0};
  const auto tensor = solve_on_grid(system, golden.weight, golden.grid, gptq, 1).tensor;
  std::size_t same = 0;
  for (std::size_t i = 0; i < tensor.codes.size(); ++i) {
    same += tensor.codes[i] == golden.codes.data()[i];
  }
  EXPECT_LT(same, tensor.codes.size());
}

}  // namespace
}  // namespace neap
