#include "eval/logit_file.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>

#include "small_model.h"
#include "support/expect_error.h"
#include "support/temp_folder.h"

namespace neap {
namespace {

constexpr std::size_t kLength = 9;

std::vector<EvalWindow> some_windows(std::int64_t vocabulary) {
  std::vector<EvalWindow> windows;
  for (unsigned w = 0; w < 3; ++w) windows.push_back({testing::random_tokens(kLength, vocabulary, w), kLength / 2 + 1});
  return windows;
}

std::string contents(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), std::istreambuf_iterator<char>()};
}

template <class T>
T take(const std::string& bytes, std::size_t& position) {
  T value;
  std::memcpy(&value, bytes.data() + position, sizeof value);
  position += sizeof value;
  return value;
}

// Read as llama.cpp reads it; logits far apart, so that some lie below the range.
TEST(LogitFile, HoldsEveryLogProbabilityWithinHalfAStep) {
  for (const std::int64_t vocabulary : {6, 7}) {  // rows are of an even number of steps
    const test::TempFolder folder;
    testing::SmallModel model(vocabulary, 5, 1, 3.0f);
    const auto windows = some_windows(vocabulary);
    const std::string path = folder / "base.kld";
    evaluate(model, nullptr, windows, {.batch_tokens = 2 * kLength, .logit_file = path, .progress = {}});

    const std::string bytes = contents(path);
    ASSERT_EQ(bytes.substr(0, 8), "_logits_");
    std::size_t position = 8, below = 0;
    EXPECT_EQ(take<std::uint32_t>(bytes, position), kLength);
    EXPECT_EQ(take<std::int32_t>(bytes, position), vocabulary);
    EXPECT_EQ(take<std::int32_t>(bytes, position), 3);
    for (const auto& window : windows) {
      for (const TokenId token : window.tokens) EXPECT_EQ(take<std::int32_t>(bytes, position), token);
    }
    for (const auto& window : windows) {
      const Matrix<float> logits = model.logits(window.tokens);
      for (std::size_t p = kLength / 2; p + 1 < kLength; ++p) {
        const auto scale = take<float>(bytes, position), least = take<float>(bytes, position);
        double sum = 0, peak = -INFINITY;
        for (std::size_t v = 0; v < logits.cols(); ++v) {
          sum += std::exp(double{logits(p, v)});
          peak = std::max(peak, double{logits(p, v)});
        }
        for (std::size_t v = 0; v < logits.cols(); ++v) {
          const double found = least + double{scale} * take<std::uint16_t>(bytes, position);
          below += logits(p, v) < peak - 16;
          EXPECT_NEAR(found, std::max(double{logits(p, v)}, peak - 16) - std::log(sum), 0.51 * scale + 1e-5);
        }
        position += logits.cols() % 2 * sizeof(std::uint16_t);
      }
    }
    EXPECT_EQ(position, bytes.size());
    EXPECT_GT(below, 0u);
  }
}

TEST(LogitFile, ACancelledRunLeavesNothing) {
  const test::TempFolder folder;
  testing::SmallModel model(6, 5, 1);
  int calls = 0;
  const EvalOptions options{.batch_tokens = kLength, .logit_file = folder / "base.kld",
                            .progress = [&](const Progress&) { return ++calls < 4; }};
  EXPECT_ERROR(evaluate(model, nullptr, some_windows(6), options), ErrorCode::cancelled, "");
  EXPECT_TRUE(std::filesystem::is_empty(folder / ""));
}

TEST(LogitFile, OtherWindowsAreRefused) {
  const test::TempFolder folder;
  auto windows = some_windows(6);
  windows[1].first = 1;
  EXPECT_ERROR(LogitFile(folder / "base.kld", windows, 6), ErrorCode::argument, "llamacpp");
}

}  // namespace
}  // namespace neap
