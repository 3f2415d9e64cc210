#include "quantize/lobcq.h"

#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>
#include <fstream>
#include <iterator>

#include "codec/lobcq_encode.h"
#include "codec/lobcq_support.h"
#include "model/weights.h"
#include "neap/error.h"
#include "neap/quantize.h"
#include "support/random_matrix.h"
#include "support/tiny_model.h"

namespace neap {
namespace {

// Of evenly spread entries, each a little narrower than the one before.
CodebookSet plain_set(const LobcqLayout& layout) {
  CodebookSet set{layout, {}, {}};
  for (int c = 0; c < layout.codebooks; ++c) {
    Codebook book;
    for (int i = 0; i < kCodebookEntries; ++i) {
      book[static_cast<std::size_t>(i)] =
          static_cast<std::int8_t>((2 * i - 15) * (31 - 24 * c / layout.codebooks) / 15);
    }
    set.weights.push_back(book);
    set.activations.push_back(book);
  }
  return set;
}

double squared_error(const LobcqTensor& tensor, const Codebooks& codebooks,
                     const Matrix<float>& weight) {
  Matrix<float> found(weight.rows(), weight.cols());
  dequantize(tensor, codebooks, 0, tensor.rows, found);
  double sum = 0;
  for (std::size_t i = 0; i < weight.rows() * weight.cols(); ++i)
    sum += std::pow(found.data()[i] - weight.data()[i], 2);
  return sum;
}

TEST(Lobcq, DecodedTensorsKeepTheFormatsPromisesAndWeighAsTheReportSays) {
  const std::size_t n = 84, rows = 30;  // neither arrays nor blocks divide it
  const LobcqLayout layout{.block_array = 32, .block = 8, .codebooks = 8};
  const CodebookSet set = plain_set(layout);
  Matrix<float> weight = random_matrix(rows, n, 1);
  std::fill_n(weight.row(3), n, 0.f);
  const Matrix<float> inputs = random_inputs(300, n, 2), gram = transposed_product(inputs, inputs);
  const LayerSystem system(gram, {}, {.target_mix = 1, .block = 8});
  const LobcqSolution solution = solve_lobcq(system, weight, set, {});
  check_invariants(solution.tensor);
  EXPECT_LE(solution.report.objective_descent, solution.report.objective_greedy);

  Matrix<float> found(rows, n);
  dequantize(solution.tensor, set.weights, 0, rows, found);
  double error = 0;
  const MatrixView<const float> metric = system.metric();
  for (std::size_t r = 0; r < rows; ++r) {
    for (std::size_t p = 0; p < n; ++p) {
      for (std::size_t q = 0; q < n; ++q) {
        const auto d = [&](std::size_t at) {
          const std::uint32_t c = system.input_at()[at];
          return static_cast<double>(found(r, c)) - static_cast<double>(weight(r, c));
        };
        error += d(p) * static_cast<double>(metric(p, q)) * d(q);
      }
    }
  }
  EXPECT_NEAR(error, solution.report.objective_descent, 1e-3 * error);
  for (std::size_t c = 0; c < n; ++c) EXPECT_EQ(found(3, c), 0.f);
}

TEST(Lobcq, RoundingIsNearerThanDecodingInWeights) {
  const CodebookSet set = plain_set({});
  const Matrix<float> weight = random_matrix(40, 200, 3);
  const LobcqTensor rounded = round_to_lobcq(weight, set);
  check_invariants(rounded);
  const LobcqTensor by_maximum = LobcqEncoder(set.layout, set.weights)
                                     .encode(weight, rounded.tensor_scale, ScaleChoice::maximum);
  EXPECT_LT(squared_error(rounded, set.weights, weight),
            squared_error(by_maximum, set.weights, weight));
}

namespace fs = std::filesystem;

std::string contents(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), std::istreambuf_iterator<char>()};
}

class QuantizeLobcq : public testing::Test {
 protected:
  void SetUp() override {
    std::string text;
    for (int i = 0; i < 60; ++i)
      text += "Line " + std::to_string(i * i) + " of the calibration text.\n";
    text_ = folder_.write("text.txt", text);
    books_ = folder_.write("books.json", to_json(plain_set({})));
    model_ = test::tiny_model(folder_, "llama31");
  }

  QuantizeOptions options(const std::string& output, Method method) {
    QuantizeOptions o;
    o.recipe.scheme = Scheme::lobcq;
    o.recipe.lobcq.codebooks = books_;
    o.recipe.method = method;
    o.recipe.length = 64;
    if (method != Method::rtn) o.calibration_files = {text_};
    o.output = folder_ / output;
    o.threads = 2;
    return o;
  }
  QuantizeReport run(const QuantizeOptions& o) { return quantize(Checkpoint::open(model_), o); }
  Weights open(const std::string& path) {
    const Checkpoint checkpoint = Checkpoint::open(path);
    return Weights(checkpoint, read_config(checkpoint));
  }

  test::TempFolder folder_;
  std::string text_, books_, model_;
};

TEST_F(QuantizeLobcq, EveryMethodWritesAModelThatRuns) {
  for (const Method method : {Method::rtn, Method::gptq, Method::ojbkq}) {
    const auto report = run(options("out-" + name_of(method), method));
    const auto model = load_model(Checkpoint::open(report.output));
    const std::vector<TokenId> tokens(12, 70);
    Matrix<float> states(12, static_cast<std::size_t>(model->config().hidden));
    model->forward(tokens, 12, states);
    for (std::size_t i = 0; i < states.rows() * states.cols(); ++i)
      ASSERT_TRUE(std::isfinite(states.data()[i]));
    EXPECT_EQ(report.layers.size(), 7u * static_cast<std::size_t>(model->config().layers));
    for (const LayerRecord& layer : report.layers)
      EXPECT_EQ(std::get<LobcqLayout>(layer.layout), LobcqLayout());
  }
}

TEST_F(QuantizeLobcq, ThreadCountDoesNotChangeTheBytes) {
  for (const Method method : {Method::rtn, Method::ojbkq}) {
    QuantizeOptions one = options("one-" + name_of(method), method),
                    three = options("three-" + name_of(method), method);
    one.threads = 1;
    three.threads = 3;
    const std::string a = run(one).output, b = run(three).output;
    EXPECT_EQ(contents(a + "/model.safetensors"), contents(b + "/model.safetensors"))
        << name_of(method);
    EXPECT_EQ(contents(a + "/config.json"), contents(b + "/config.json"));
  }
}

TEST_F(QuantizeLobcq, InputScalesComeFromCalibrationWhereThereIsOne) {
  const std::string module = "model.layers.0.mlp.down_proj";
  const auto inputs_of = [&](const QuantizeOptions& o) {
    return open(run(o).output).stored_inputs(module);
  };
  const auto scale_of = [](const auto& inputs) { return std::get<InputEncoder>(*inputs).tensor_scale; };
  const auto calibrated = inputs_of(options("ojbkq", Method::ojbkq));
  ASSERT_TRUE(calibrated.has_value());
  EXPECT_TRUE(scale_of(calibrated).has_value());
  QuantizeOptions rounded = options("rtn", Method::rtn);
  EXPECT_FALSE(scale_of(inputs_of(rounded)).has_value());  // without text: a scale per token
  rounded.calibration_files = {text_};
  rounded.output = folder_ / "rtn-calibrated";
  EXPECT_TRUE(scale_of(inputs_of(rounded)).has_value());
  EXPECT_EQ(open(folder_ / "rtn").packed_weight(module),
            open(folder_ / "rtn-calibrated").packed_weight(module));
  QuantizeOptions weights_only = options("weights", Method::rtn);
  weights_only.recipe.lobcq.weights_only = true;
  EXPECT_FALSE(inputs_of(weights_only).has_value());
  EXPECT_EQ(Checkpoint::open(folder_ / "weights").find("lobcq.activation_codebooks"), nullptr);
}

TEST_F(QuantizeLobcq, SearchedScalesAreNearerThanThoseOfTheMaximum) {
  QuantizeOptions searched = options("searched", Method::rtn), published = options("published", Method::rtn);
  published.recipe.lobcq.scales = ScaleChoice::maximum;
  const Weights exact = open(model_), near = open(run(searched).output), far = open(run(published).output);
  const auto error = [&](const Weights& weights) {
    const Matrix<float> w = weights.weight(0, Role::up), t = exact.weight(0, Role::up);
    double sum = 0;
    for (std::size_t i = 0; i < w.rows() * w.cols(); ++i) sum += std::pow(w.data()[i] - t.data()[i], 2);
    return sum;
  };
  EXPECT_LT(error(near), error(far));
}

TEST_F(QuantizeLobcq, OneFormatHoldsEachScheme) {
  QuantizeOptions o = options("out", Method::rtn);
  o.format = FileFormat::neap;
  run(o);
  o.overwrite = true;
  o.format = FileFormat::compressed_tensors;
  EXPECT_THROW(run(o), Error);
  o.recipe.scheme = Scheme::integer;
  o.recipe.group = 4;
  run(o);
  o.format = FileFormat::neap;
  EXPECT_THROW(run(o), Error);
}

TEST_F(QuantizeLobcq, CodebooksForAnotherLayoutAreRefused) {
  QuantizeOptions o = options("out", Method::rtn);
  o.recipe.lobcq.layout.codebooks = 4;
  EXPECT_THROW(run(o), Error);
  EXPECT_FALSE(fs::exists(o.output));
}

TEST_F(QuantizeLobcq, AWeightThatIsNotANumberIsNamed) {
  std::fstream file(model_ + "/model.safetensors", std::ios::in | std::ios::out | std::ios::binary);
  const Checkpoint source = Checkpoint::open(model_);
  const TensorInfo& tensor = source.info("model.layers.1.mlp.up_proj.weight");
  file.seekp(static_cast<std::streamoff>(tensor.offset));
  const std::string nan(block_bytes(tensor.type) * 4, '\xff');
  file.write(nan.data(), static_cast<std::streamsize>(nan.size()));
  file.close();
  try {
    run(options("out", Method::rtn));
    FAIL() << "accepted";
  } catch (const Error& error) {
    EXPECT_NE(std::string(error.what()).find("model.layers.1.mlp.up_proj.weight"),
              std::string::npos)
        << error.what();
  }
  EXPECT_FALSE(fs::exists(folder_ / "out"));
}

}  // namespace
}  // namespace neap
