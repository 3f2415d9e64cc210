#include "quantize/block_scaled.h"

#include <gtest/gtest.h>

#include <cmath>
#include <fstream>
#include <iterator>
#include <limits>

#include "codec/lobcq_encode.h"
#include "neap/error.h"
#include "neap/quantize.h"
#include "quantize/balance.h"
#include "support/expect_error.h"
#include "support/random_matrix.h"
#include "support/tiny_model.h"

namespace neap {
namespace {

constexpr Fp4Layout kNvfp4{BlockScaled::nvfp4}, kMxfp4{BlockScaled::mxfp4};

// tr((W^ - W) H (W^ - W)'), in fp64.
double output_error(const Fp4Tensor& tensor, const Matrix<float>& weight, const Matrix<float>& gram) {
  Matrix<float> found(weight.rows(), weight.cols());
  dequantize(tensor, 0, tensor.rows, found);
  double sum = 0;
  for (std::size_t r = 0; r < weight.rows(); ++r) {
    for (std::size_t i = 0; i < weight.cols(); ++i) {
      for (std::size_t j = 0; j < weight.cols(); ++j) {
        sum += static_cast<double>(found(r, i) - weight(r, i)) * gram(i, j) * (found(r, j) - weight(r, j));
      }
    }
  }
  return sum;
}

TEST(SolveFp4, KeepsTheFormatsPromisesAndBeatsRoundingByFar) {
  const std::size_t n = 96, rows = 30;
  Matrix<float> weight = random_matrix(rows, n, 1);
  std::fill_n(weight.row(3), n, 0.f);
  const Matrix<float> inputs = random_inputs(300, n, 2), gram = transposed_product(inputs, inputs);
  const LayerSystem system(gram, {}, {.target_mix = 1});
  for (const Fp4Layout& layout : {kNvfp4, kMxfp4}) {
    const float global = layout == kNvfp4 ? global_scale_of_maximum(largest_magnitude(weight)) : 1.0f;
    const Fp4Solution solution = solve_fp4(system, weight, layout, global, {});
    check_invariants(solution.tensor);
    EXPECT_EQ(solution.tensor.global_scale, global);
    EXPECT_LE(solution.report.objective_descent, solution.report.objective_greedy);
    EXPECT_LT(output_error(solution.tensor, weight, gram),
              0.6 * output_error(round_to_fp4(weight, layout, global), weight, gram));
  }
}

// What the solver says of its choice is true of the tensor that comes out of it.
TEST(SolveFp4, TheReportedErrorIsThatOfTheTensor) {
  const std::size_t n = 64, rows = 12;
  const Matrix<float> weight = random_matrix(rows, n, 4), inputs = random_inputs(200, n, 5);
  const Matrix<float> gram = transposed_product(inputs, inputs);
  const LayerSystem system(gram, {}, {.target_mix = 1});
  double energy = 0;
  for (std::size_t r = 0; r < rows; ++r)
    for (std::size_t i = 0; i < n; ++i)
      for (std::size_t j = 0; j < n; ++j) energy += static_cast<double>(weight(r, i)) * gram(i, j) * weight(r, j);
  for (const Fp4Layout& layout : {kNvfp4, kMxfp4}) {
    const Fp4Solution solution = solve_fp4(system, weight, layout, layout == kNvfp4 ? 500.f : 1.f, {});
    EXPECT_NEAR(solution.report.relative_error, output_error(solution.tensor, weight, gram) / energy,
                1e-3 * solution.report.relative_error);
  }
}

class QuantizeBlockScaled : public testing::Test {
 protected:
  QuantizeOptions options(const std::string& name, Scheme scheme, Method method) {
    QuantizeOptions o;
    o.recipe.scheme = scheme;
    o.recipe.method = method;
    o.recipe.length = 128;
    o.recipe.ignore = {"re:.*down_proj"};  // 44 inputs
    o.output = folder_ / name;
    o.calibration_files = {text_};
    return o;
  }
  QuantizeReport run(const QuantizeOptions& o) { return quantize(Checkpoint::open(model_), o); }
  Weights open(const std::string& path) {
    const Checkpoint checkpoint = Checkpoint::open(path);
    return Weights(checkpoint, read_config(checkpoint));
  }
  static std::string contents(const std::string& path) {
    std::ifstream in(path, std::ios::binary);
    return {std::istreambuf_iterator<char>(in), std::istreambuf_iterator<char>()};
  }
  static std::string long_text() {
    std::string text;
    for (int i = 0; i < 200; ++i) text += "Line " + std::to_string(i * i) + " of a text that says little.\n";
    return text;
  }

  test::TempFolder folder_;
  std::string model_ = test::tiny_model(folder_, "llama2"), text_ = folder_.write("text.txt", long_text());
};

TEST_F(QuantizeBlockScaled, SameBytesAtAnyNumberOfThreads) {
  for (const Scheme scheme : {Scheme::nvfp4, Scheme::mxfp4, Scheme::int4}) {
    for (const Method method : {Method::rtn, Method::gptq, Method::ojbkq}) {
      const std::string name = name_of(scheme) + name_of(method);
      std::string first;
      for (const int threads : {1, 3}) {
        QuantizeOptions o = options(name + std::to_string(threads), scheme, method);
        o.threads = threads;
        run(o);
        const std::string bytes = contents(o.output + "/model.safetensors");
        EXPECT_TRUE(first.empty() || bytes == first) << name;
        first = bytes;
      }
    }
  }
}

TEST_F(QuantizeBlockScaled, JoinedLayersShareTheirGlobalScales) {
  for (const Method method : {Method::rtn, Method::ojbkq}) {
    QuantizeOptions o = options(name_of(method), Scheme::nvfp4, method);
    o.recipe.balance = false;
    run(o);
    const Weights output = open(o.output), source = open(model_);
    const auto weight_scale = [&](Role role) {
      return std::get<Fp4Tensor>(*output.packed_weight(module_name(1, role))).global_scale;
    };
    const auto input_scale = [&](Role role) {
      return *std::get<BlockScaledInputs>(*output.stored_inputs(module_name(1, role))).global_scale;
    };
    float largest = 0;
    for (const Role role : {Role::q, Role::k, Role::v}) {
      largest = std::max(largest, largest_magnitude(source.weight(1, role)));
      EXPECT_EQ(weight_scale(role), weight_scale(Role::q));
      EXPECT_EQ(input_scale(role), input_scale(Role::q));
    }
    EXPECT_EQ(weight_scale(Role::q), global_scale_of_maximum(largest));
    EXPECT_EQ(weight_scale(Role::gate), weight_scale(Role::up));
    EXPECT_EQ(weight_scale(Role::o), global_scale_of_maximum(largest_magnitude(source.weight(1, Role::o))));
  }
}

TEST_F(QuantizeBlockScaled, GlobalScalesAreThoseOfTheBalancedWeights) {
  QuantizeOptions o = options("balanced", Scheme::nvfp4, Method::rtn);
  o.recipe.balance = true;
  run(o);
  const Weights output = open(o.output), source = open(model_);
  const TokenWindows windows = read_windows({text_}, Tokenizer::open(source.checkpoint()), o.recipe.samples, o.recipe.length);
  const Streams streams(source, windows,
                        {.reference = false, .precision = o.recipe.precision, .memory = 1 << 24, .scratch = folder_.path()});
  const Balance balance(source, make_plan(o.recipe, source.config()), streams, source.block(0, o.recipe.precision));
  for (const Stage stage : {Stage::attention_input, Stage::attention_output, Stage::mlp_input}) {
    float largest = 0;
    for (const Role role : roles_of(stage)) largest = std::max(largest, largest_magnitude(balance.weight(role)));
    for (const Role role : roles_of(stage)) {
      const auto stored = *output.packed_weight(module_name(0, role));
      EXPECT_EQ(std::get<Fp4Tensor>(stored).global_scale, global_scale_of_maximum(largest));
    }
  }
}

TEST_F(QuantizeBlockScaled, OnlyNvfp4InputsNeedCalibration) {
  for (const Scheme scheme : {Scheme::nvfp4, Scheme::mxfp4, Scheme::int4}) {
    QuantizeOptions o = options(name_of(scheme), scheme, Method::rtn);
    EXPECT_EQ(run(o).calibration_windows > 0, scheme == Scheme::nvfp4);
    o.recipe.block_scaled.weights_only = true;
    o.output += "-weights";
    EXPECT_EQ(run(o).calibration_windows, 0);
    EXPECT_FALSE(open(o.output).stored_inputs("model.layers.0.mlp.up_proj").has_value());
  }
}

TEST_F(QuantizeBlockScaled, ReportsSayWhatTheGridIs) {
  const QuantizeReport nvfp4 = run(options("a", Scheme::nvfp4, Method::rtn));
  EXPECT_EQ(nvfp4.bits_per_weight, 4.5);
  EXPECT_EQ(nvfp4.activations, "NVFP4 in groups of 16, a global scale per layer from calibration");
  EXPECT_NE(nvfp4.to_json().find("\"format\": \"NVFP4\""), std::string::npos);
  EXPECT_EQ(run(options("b", Scheme::mxfp4, Method::rtn)).bits_per_weight, 4.25);
  const QuantizeReport int4 = run(options("c", Scheme::int4, Method::rtn));
  EXPECT_EQ(int4.bits_per_weight, 4.25);  // 16-bit scales
  EXPECT_EQ(int4.activations, "INT4 in groups of 64");
}

TEST_F(QuantizeBlockScaled, OneFormatHoldsThem) {
  QuantizeOptions o = options("out", Scheme::mxfp4, Method::rtn);
  o.format = FileFormat::neap;
  EXPECT_ERROR(run(o), ErrorCode::argument, "compressed-tensors");
}

}  // namespace
}  // namespace neap
