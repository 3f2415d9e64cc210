#include "calib/streams.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <limits>

#include "base/parallel.h"
#include "neap/error.h"
#include "support/tiny_model.h"

namespace neap {
namespace {

constexpr Precision kExact = Precision::f32;

TokenWindows some_windows() {
  TokenWindows result;
  for (std::size_t w = 0; w < 5; ++w) {
    std::vector<TokenId> ids(w == 4 ? 7 : 20);  // the last one is short
    for (std::size_t i = 0; i < ids.size(); ++i) ids[i] = static_cast<TokenId>((31 * w + 7 * i * i) % 259);
    result.windows.push_back(ids);
  }
  return result;
}

class StreamsTest : public testing::Test {
 protected:
  Weights load(const std::string& name) {
    const Checkpoint checkpoint = Checkpoint::open(test::tiny_model(folder_, name));
    return Weights(checkpoint, read_config(checkpoint));
  }
  StreamOptions options(bool reference, std::uint64_t memory = 1 << 24) {
    return {.reference = reference, .precision = kExact, .memory = memory, .scratch = folder_.path()};
  }
  test::TempFolder folder_;
};

// A block whose layers are its own, each weight off by a fixed relative amount.
Block disturbed(const Weights& weights, std::int64_t layer) {
  Block block = weights.block(layer, kExact);
  for (std::size_t r = 0; r < kRoles; ++r) {
    Matrix<float> w = weights.weight(layer, static_cast<Role>(r));
    for (std::size_t i = 0; i < w.rows() * w.cols(); ++i) w.data()[i] *= 1 + 0.1f * static_cast<float>(i % 7);
    block.linears[r] = make_dense_linear(w, weights.bias(layer, static_cast<Role>(r)), kExact);
  }
  return block;
}

double largest(const Matrix<float>& m) {
  double value = 0;
  for (std::size_t i = 0; i < m.rows() * m.cols(); ++i) value = std::max<double>(value, std::abs(m.data()[i]));
  return value;
}

TEST_F(StreamsTest, PassingEveryStageIsTheForwardPass) {
  const Weights weights = load("qwen3");
  const TokenWindows windows = some_windows();
  Streams streams(weights, windows, options(false));
  const std::int64_t layers = weights.config().layers;
  for (std::int64_t layer = 0; layer + 1 < layers; ++layer) {
    const Block block = weights.block(layer, kExact);
    for (const Stage stage : kStages) streams.advance(stage, block, block);
  }
  const Block last = weights.block(layers - 1, kExact);
  const Matrix<float> found = streams.statistics(Stage::attention_input, last, last).gram;

  const RopeTable rope = make_rope_table(weights.config(), 20);
  const auto hidden = static_cast<std::size_t>(weights.config().hidden);
  Matrix<double> expected(hidden, hidden);
  for (const auto& ids : windows.windows) {
    Matrix<float> x(ids.size(), hidden), h(ids.size(), hidden);
    weights.embed(ids, x);
    for (std::int64_t layer = 0; layer + 1 < layers; ++layer) {
      forward_block(weights.config(), weights.block(layer, kExact), rope, kExact, ids.size(), x);
    }
    attention_input(weights.config(), last, x, h);
    for (std::size_t t = 0; t < ids.size(); ++t) {
      for (std::size_t i = 0; i < hidden; ++i) {
        for (std::size_t j = 0; j < hidden; ++j) expected(i, j) += double{h(t, i)} * h(t, j);
      }
    }
  }
  const double scale = largest(found);
  for (std::size_t i = 0; i < hidden; ++i) {
    for (std::size_t j = 0; j < hidden; ++j) ASSERT_NEAR(found(i, j), expected(i, j), 1e-5 * scale);
  }
}

TEST_F(StreamsTest, UndecidedLayersDoNotDrift) {
  const Weights weights = load("llama2");
  const TokenWindows windows = some_windows();
  Streams streams(weights, windows, options(true));
  const Block block = weights.block(0, kExact);
  for (const Stage stage : kStages) {
    EXPECT_EQ(largest(streams.statistics(stage, block, block).drift), 0);
    streams.advance(stage, block, block);
  }
}

TEST_F(StreamsTest, DecidedLayersMakeWhatComesAfterThemDrift) {
  const Weights weights = load("llama2");
  const TokenWindows windows = some_windows();
  Streams streams(weights, windows, options(true));
  const Block block = weights.block(0, kExact), changed = disturbed(weights, 0);
  EXPECT_EQ(largest(streams.statistics(Stage::attention_input, block, changed).drift), 0);
  streams.advance(Stage::attention_input, block, changed);
  EXPECT_GT(largest(streams.statistics(Stage::attention_output, block, changed).drift), 0);
}

TEST_F(StreamsTest, TheResidualStreamsLagIsSummedWhereLayersWriteIt) {
  const Weights weights = load("llama2");
  const TokenWindows windows = some_windows();
  StreamOptions with = options(true);
  with.residual = true;
  Streams streams(weights, windows, with);
  const Block block = weights.block(0, kExact), changed = disturbed(weights, 0);
  const std::size_t hidden = static_cast<std::size_t>(weights.config().hidden);
  for (const Stage stage : kStages) {
    const GramPair sums = streams.statistics(stage, block, changed);
    const std::size_t inputs = sums.gram.rows();
    const bool writes = stage == Stage::attention_output || stage == Stage::mlp_hidden;
    ASSERT_EQ(sums.drift.cols(), writes ? inputs + hidden : inputs);
    float lag = 0;  // there is none before o_proj of the first block has written
    for (std::size_t i = 0; writes && i < inputs; ++i) {
      for (std::size_t c = 0; c < hidden; ++c) lag = std::max(lag, std::abs(sums.drift(i, inputs + c)));
    }
    EXPECT_EQ(lag > 0, stage == Stage::mlp_hidden);
    streams.advance(stage, block, changed);
  }
}

TEST_F(StreamsTest, RelativeStatisticsWeighATokenByTheStreamThatItsLayerLeaves) {
  const Weights weights = load("llama2");
  const TokenWindows windows = some_windows();
  StreamOptions with = options(true);
  with.relative = true;
  Streams streams(weights, windows, with), plain(weights, windows, options(true));
  const Block block = weights.block(0, kExact);
  const RopeTable rope = make_rope_table(weights.config(), 20);
  const auto hidden = static_cast<std::size_t>(weights.config().hidden);
  const Matrix<float> unweighted = plain.statistics(Stage::attention_input, block, block).gram;
  EXPECT_EQ(std::memcmp(streams.statistics(Stage::attention_input, block, block).gram.data(), unweighted.data(),
                        hidden * hidden * sizeof(float)), 0);
  streams.advance(Stage::attention_input, block, block);
  const Matrix<float> found = streams.statistics(Stage::attention_output, block, block).gram;
  Matrix<double> expected(found.rows(), found.cols());
  for (const auto& ids : windows.windows) {
    Matrix<float> x(ids.size(), hidden), h(ids.size(), hidden), a(ids.size(), found.rows());
    weights.embed(ids, x);
    attention_input(weights.config(), block, x, h);
    attention(weights.config(), block, rope, kExact, ids.size(), h, a);
    add_attention(block, a, x);
    for (std::size_t t = 0; t < ids.size(); ++t) {
      double energy = 0;
      for (std::size_t c = 0; c < hidden; ++c) energy += double{x(t, c)} * x(t, c) / static_cast<double>(hidden);
      for (std::size_t i = 0; i < a.cols(); ++i) {
        for (std::size_t j = 0; j < a.cols(); ++j) expected(i, j) += double{a(t, i)} * a(t, j) / energy;
      }
    }
  }
  const double scale = largest(found);
  ASSERT_GT(scale, 0);
  for (std::size_t i = 0; i < found.rows(); ++i) {
    for (std::size_t j = 0; j < found.cols(); ++j) ASSERT_NEAR(found(i, j), expected(i, j), 1e-5 * scale);
  }
}

TEST_F(StreamsTest, ScratchFileAndThreadsDoNotChangeTheBits) {
  const Weights weights = load("llama2");
  const TokenWindows windows = some_windows();
  const Block block = weights.block(0, kExact), changed = disturbed(weights, 0);
  const auto sums = [&](std::uint64_t memory, int threads) {
    const ThreadScope scope(threads);
    Streams streams(weights, windows, options(true, memory));
    for (const Stage stage : kStages) streams.advance(stage, block, changed);
    return streams.statistics(Stage::mlp_hidden, block, changed);
  };
  const GramPair expected = sums(1 << 24, 1);
  for (const GramPair& found : {sums(0, 1), sums(0, 3), sums(1 << 24, 2)}) {
    const std::size_t bytes = expected.gram.rows() * expected.gram.cols() * sizeof(float);
    EXPECT_EQ(std::memcmp(found.gram.data(), expected.gram.data(), bytes), 0);
    EXPECT_EQ(std::memcmp(found.drift.data(), expected.drift.data(), bytes), 0);
  }
}

TEST_F(StreamsTest, ANanIsAnErrorThatNamesBlockWindowAndToken) {
  const Weights weights = load("llama2");
  const TokenWindows windows = some_windows();
  Streams streams(weights, windows, options(false));
  Block block = weights.block(0, kExact);
  block.input_norm.at(3) = std::numeric_limits<float>::quiet_NaN();
  try {
    streams.statistics(Stage::attention_input, block, block);
    FAIL() << "no error";
  } catch (const Error& e) {
    const std::string message = e.what();
    EXPECT_EQ(e.code(), ErrorCode::data);
    EXPECT_NE(message.find("block 0, calibration window 0, token 0"), std::string::npos) << message;
    EXPECT_NE(message.find("model.layers.0.self_attn.q_proj"), std::string::npos) << message;
  }
}

}  // namespace
}  // namespace neap
