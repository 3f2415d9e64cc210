#include "neap/imatrix.h"

#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <random>

#include "calib/streams.h"
#include "io/imatrix.h"
#include "model/weights.h"
#include "neap/quantize.h"
#include "quantize/plan.h"
#include "support/expect_error.h"
#include "support/tiny_model.h"

namespace neap {
namespace {

std::string contents(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), std::istreambuf_iterator<char>()};
}

class ImatrixTest : public testing::Test {
 protected:
  void SetUp() override {
    std::string text;
    for (int i = 0; i < 40; ++i) text += "Line " + std::to_string(i * i) + " of the calibration text.\n";
    text_ = folder_.write("text.txt", text);
    model_ = test::tiny_model(folder_, "llama2");
  }

  ImatrixOptions measuring(const std::string& file) {
    return {.calibration = {.files = {text_}, .length = 50}, .output = folder_ / file, .precision = Precision::f32,
            .threads = 2, .max_memory = 0, .progress = {}};
  }

  // 3 bits, groups of 4: what divides the tiny model's inputs.
  QuantizeOptions weighing(const std::string& file, const std::string& output) {
    QuantizeOptions o;
    o.recipe.method = Method::rtn;
    o.recipe.bits = 3;
    o.recipe.group = 4;
    o.recipe.imatrix = true;
    o.imatrix = file;
    o.output = folder_ / output;
    o.threads = 2;
    return o;
  }

  Weights weights(const std::string& path) {
    const Checkpoint checkpoint = Checkpoint::open(path);
    return Weights(checkpoint, read_config(checkpoint));
  }

  // Entries for every layer, each of a few large inputs among small ones.
  ImportanceMatrix uneven() {
    ImportanceMatrix matrix{.entries = {}, .datasets = {"made up"}, .chunks = 1, .chunk_size = 100};
    std::mt19937 generator(1);
    for (std::int64_t layer = 0; layer < 2; ++layer) {
      for (std::size_t r = 0; r < kRoles; ++r) {
        const auto role = static_cast<Role>(r);
        auto& entry = matrix.entries[gguf_weight_name(layer, role)];
        entry.count = 100;
        for (std::int64_t i = 0; i < module_shape(weights(model_).config(), role)[1]; ++i) {
          entry.sums.push_back(generator() % 4 == 0 ? 100.0f : 1.0f);
        }
      }
    }
    return matrix;
  }
  std::string written(const ImportanceMatrix& matrix, const std::string& name) {
    write_imatrix(matrix, folder_ / name);
    return folder_ / name;
  }

  test::TempFolder folder_;
  std::string text_, model_;
};

TEST_F(ImatrixTest, SumsAreTheDiagonalOfTheFullPrecisionModelsGrams) {
  const ImatrixReport report = make_imatrix(Checkpoint::open(model_), measuring("out.gguf"));
  const ImportanceMatrix found = read_imatrix(folder_ / "out.gguf");
  const Weights source = weights(model_);
  const TokenWindows windows = read_windows({text_}, Tokenizer::open(source.checkpoint()), 0, 50);
  EXPECT_EQ(report.tokens, windows.tokens());
  EXPECT_EQ(found.entries.size(), 7u * 2);
  EXPECT_EQ(found.chunks, static_cast<std::int64_t>(windows.windows.size()));
  Streams streams(source, windows, {.reference = false, .precision = Precision::f32, .memory = 1 << 24, .scratch = folder_.path()});
  for (std::int64_t layer = 0; layer < 2; ++layer) {
    const Block block = source.block(layer, Precision::f32);
    for (const Stage stage : kStages) {
      const Matrix<float> gram = streams.statistics(stage, block, block).gram;
      for (const Role role : roles_of(stage)) {
        const auto& entry = found.entries.at(gguf_weight_name(layer, role));
        ASSERT_EQ(entry.sums.size(), gram.rows());
        EXPECT_EQ(entry.count, windows.tokens());
        for (std::size_t i = 0; i < gram.rows(); ++i) EXPECT_NEAR(entry.sums[i], gram(i, i), 1e-5 * gram(i, i));
      }
      streams.advance(stage, block, block);
    }
  }
}

TEST_F(ImatrixTest, NeitherThreadsNorMemoryChangeTheBytes) {
  ImatrixOptions one = measuring("one.gguf"), three = measuring("three.gguf");
  one.threads = 1;
  three.threads = 3;
  three.max_memory = 1;
  make_imatrix(Checkpoint::open(model_), one);
  make_imatrix(Checkpoint::open(model_), three);
  EXPECT_EQ(contents(folder_ / "one.gguf"), contents(folder_ / "three.gguf"));
}

TEST_F(ImatrixTest, CancellingKeepsWhatWasThere) {
  folder_.write("out.gguf", "before");
  ImatrixOptions options = measuring("out.gguf");
  options.progress = [](const Progress&) { return false; };
  EXPECT_ERROR(make_imatrix(Checkpoint::open(model_), options), ErrorCode::cancelled, "");
  EXPECT_EQ(contents(folder_ / "out.gguf"), "before");
}

// Sum over a layer of importance_i (w_i - w^_i)^2.
double weighted_error(const Matrix<float>& a, const Matrix<float>& b, const std::vector<float>& importance) {
  double sum = 0;
  for (std::size_t r = 0; r < a.rows(); ++r) {
    for (std::size_t c = 0; c < a.cols(); ++c) sum += importance[c] * std::pow(double{a(r, c)} - b(r, c), 2);
  }
  return sum;
}

TEST_F(ImatrixTest, ScalesServeTheInputsThatCount) {
  const ImportanceMatrix matrix = uneven();
  QuantizeOptions with = weighing(written(matrix, "uneven.gguf"), "with"), without = weighing("", "without");
  without.recipe.imatrix = false;
  const QuantizeReport report = quantize(Checkpoint::open(model_), with);
  quantize(Checkpoint::open(model_), without);
  EXPECT_EQ(report.calibration.at(0).name, with.imatrix);
  EXPECT_EQ(report.calibration_tokens, 100);
  const Weights source = weights(model_), weighed = weights(with.output), plain = weights(without.output);
  for (std::int64_t layer = 0; layer < 2; ++layer) {
    for (std::size_t r = 0; r < kRoles; ++r) {
      const auto role = static_cast<Role>(r);
      const auto& sums = matrix.entries.at(gguf_weight_name(layer, role)).sums;
      const Matrix<float> meant = source.weight(layer, role);
      EXPECT_LT(weighted_error(meant, weighed.weight(layer, role), sums),
                0.9 * weighted_error(meant, plain.weight(layer, role), sums));
    }
  }
}

TEST_F(ImatrixTest, InputsOfNoImportanceAreStillRoundedToTheirNearestNeighbours) {
  ImportanceMatrix zeros = uneven();
  for (auto& [name, entry] : zeros.entries) entry.sums.assign(entry.sums.size(), 0.0f);
  QuantizeOptions with = weighing(written(zeros, "zeros.gguf"), "with"), without = weighing("", "without");
  without.recipe.imatrix = false;
  quantize(Checkpoint::open(model_), with);
  quantize(Checkpoint::open(model_), without);
  EXPECT_EQ(contents(with.output + "/model.safetensors"), contents(without.output + "/model.safetensors"));
}

TEST_F(ImatrixTest, AFileThatDoesNotFitIsRefusedAndNothingIsWritten) {
  const auto refuses = [&](const ImportanceMatrix& matrix, const std::string& words) {
    const std::string file = written(matrix, "bad.gguf");
    EXPECT_ERROR(quantize(Checkpoint::open(model_), weighing(file, "out")), ErrorCode::format, words);
    EXPECT_FALSE(std::filesystem::exists(folder_ / "out"));
  };
  ImportanceMatrix matrix = uneven();
  matrix.entries.erase("blk.1.ffn_up.weight");
  refuses(matrix, "bad.gguf: 'blk.1.ffn_up.weight': the importance matrix has no entry");
  matrix = uneven();
  matrix.entries["blk.1.ffn_up.weight"].sums.pop_back();
  refuses(matrix, "expected 64, found 63");
  matrix = uneven();
  matrix.entries["blk.2.ffn_up.weight"] = {{1}, 1};
  refuses(matrix, "of another model");
  matrix = uneven();
  matrix.entries["output.weight"] = {std::vector<float>(64, 1.0f), 1};  // llama-imatrix --process-output
  quantize(Checkpoint::open(model_), weighing(written(matrix, "head.gguf"), "out"));
}

TEST_F(ImatrixTest, WhatDoesNotGoTogetherIsRefused) {
  const std::string file = written(uneven(), "uneven.gguf");
  const auto refuses = [&](auto change, const std::string& words) {
    QuantizeOptions o = weighing(file, "out");
    change(o);
    EXPECT_ERROR(quantize(Checkpoint::open(model_), o), ErrorCode::argument, words);
  };
  refuses([](QuantizeOptions& o) { o.recipe.method = Method::ojbkq; }, "rtn with an imatrix");
  refuses([](QuantizeOptions& o) { o.recipe.scheme = Scheme::nvfp4; }, "an integer grid or GGUF");
  refuses([](QuantizeOptions& o) { o.recipe.balance = true; }, "calibration text");
  refuses([](QuantizeOptions& o) { o.imatrix.clear(); }, "none is given");
  refuses([](QuantizeOptions& o) { o.recipe.imatrix = false; }, "does not ask for it");
  refuses([&](QuantizeOptions& o) { o.calibration_files = {text_}; }, "one of them");
}

TEST(ImatrixPlan, LlamaCppsMixIsThatOfACalibratedFile) {
  ModelConfig config;
  config.layers = 8;
  config.hidden = config.intermediate = 256;
  config.heads = config.kv_heads = 4;
  config.head_dim = 64;
  config.vocabulary = 10;
  config.tied_head = true;
  Recipe recipe;
  recipe.method = Method::rtn;
  recipe.scheme = Scheme::gguf;
  const auto down = [&] { return std::get<GgufLayout>(*make_plan(recipe, config).find("model.layers.0.mlp.down_proj")).type; };
  EXPECT_EQ(down(), DType::q4_0);
  recipe.imatrix = true;
  EXPECT_EQ(down(), DType::q4_1);
}

}  // namespace
}  // namespace neap
