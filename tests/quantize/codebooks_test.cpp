#include "neap/codebooks.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <set>

#include "neap/error.h"
#include "quantize/array_reservoir.h"
#include "support/expect_error.h"
#include "support/random_matrix.h"
#include "support/tiny_model.h"

namespace neap {
namespace {

CodebookSet small_set() {
  CodebookSet set{{64, 8, 2}, {}, {}};
  for (int c = 0; c < 2; ++c) {
    Codebook codebook{};
    for (int i = 0; i < 16; ++i)
      codebook[static_cast<std::size_t>(i)] = static_cast<std::int8_t>((i - 8) * (c + 1) / 2);
    set.weights.push_back(codebook);
    set.activations.insert(set.activations.begin(), codebook);
  }
  return set;
}

class CodebookFile : public testing::Test {
 protected:
  std::string with(const std::string& what, const std::string& by) {
    std::string text = to_json(small_set());
    const std::size_t at = text.find(what);
    EXPECT_NE(at, std::string::npos) << what;
    return folder_.write("codebooks.json", text.replace(at, what.size(), by));
  }
  test::TempFolder folder_;
};

TEST_F(CodebookFile, IsReadBackAsItWas) {
  EXPECT_EQ(read_codebooks(folder_.write("codebooks.json", to_json(small_set()))), small_set());
}

TEST_F(CodebookFile, EveryMistakeIsOneErrorWithItsPlace) {
  const auto refuses = [&](const std::string& what, const std::string& by,
                           const std::string& words) {
    EXPECT_ERROR(read_codebooks(with(what, by)), ErrorCode::format, words);
  };
  refuses("neap-codebooks", "neap-codebook", "format");
  refuses("\"version\": 1", "\"version\": 2", "version");
  refuses("\"version\": 1", "\"version\": 1, \"extra\": 1", "extra");
  refuses("\"version\": 1,", "", "version");
  refuses("\"block_array\": 64", "\"block_array\": 48", "block_array");
  refuses("\"block\": 8", "\"block\": 16", "block");
  refuses("\"num_codebooks\": 2", "\"num_codebooks\": 4", "weights");
  refuses("\"num_codebooks\": 2", "\"num_codebooks\": 3", "num_codebooks");
  refuses("[-4, -3", "[-3, -4", "ascending");
  refuses("[-4, -3", "[-32, -3", "weights[0][0]");
  refuses("[-4, -3", "[-4.5, -3", "weights[0][0]");
  refuses("[-4, -3", "[-3", "16");
  refuses("\"activations\"", "\"activation\"", "activation");
  EXPECT_ERROR(read_codebooks(folder_ / "missing.json"), ErrorCode::io, "missing.json");
}

TEST_F(CodebookFile, EveryTruncationIsRefused) {
  const std::string whole = to_json(small_set());
  for (std::size_t size = 0; size + 2 < whole.size(); ++size) {
    EXPECT_ERROR(read_codebooks(folder_.write("codebooks.json", whole.substr(0, size))),
                 ErrorCode::format, "codebooks.json");
  }
}

TEST(UniversalCodebooks, KeepTheirPromisesAndAreDistinct) {
  for (const int count : {2, 4, 8, 16}) {
    for (const int array : {16, 32, 64, 128}) {
      const LobcqLayout layout{array, 8, count};
      const CodebookSet set = universal_codebooks(layout);
      EXPECT_EQ(set.layout, layout);
      for (const Codebooks* side : {&set.weights, &set.activations}) {
        EXPECT_EQ(std::set<Codebook>(side->begin(), side->end()).size(),
                  static_cast<std::size_t>(count));
        for (const Codebook& codebook : *side) {
          EXPECT_TRUE(std::is_sorted(codebook.begin(), codebook.end()));
          EXPECT_GE(codebook.front(), -31);
          EXPECT_LE(codebook.back(), 31);
        }
      }
    }
  }
  EXPECT_ERROR(universal_codebooks({64, 4, 8}), ErrorCode::argument, "blocks of 8");
  EXPECT_ERROR(universal_codebooks({64, 8, 5}), ErrorCode::argument, "16 codebooks");
}

TEST(ArrayReservoir, SampleDoesNotDependOnTheOrderOfMatrices) {
  const Matrix<float> a = random_matrix(40, 64, 1), b = random_matrix(30, 100, 2);
  ArrayReservoir forward(32, 50, 7), backward(32, 50, 7);
  forward.add("a", 0, a);
  forward.add("b", 0, b);
  backward.add("b", 0, b);
  backward.add("a", 20, a.view().row_range(20, 20));
  backward.add("a", 0, a.view().row_range(0, 20));
  const ArraySample one = forward.take(), other = backward.take();
  EXPECT_EQ(one.seen, 40 * 2 + 30 * 3);
  EXPECT_EQ(other.seen, one.seen);
  ASSERT_EQ(one.arrays.rows(), 50u);
  EXPECT_TRUE(std::equal(one.arrays.data(), one.arrays.data() + 50 * 32, other.arrays.data()));
  EXPECT_EQ(one.norms, other.norms);
  EXPECT_EQ(one.maxima, other.maxima);
}

// 2000 draws of 1 in 10: each array's chance is the same, so halves differ by little more than
// their deviation.
TEST(ArrayReservoir, IsUniform) {
  Matrix<float> values(20000, 16);
  for (std::size_t r = 0; r < values.rows(); ++r)
    std::fill_n(values.row(r), 16, static_cast<float>(r + 1));
  ArrayReservoir reservoir(16, 2000, 3);
  reservoir.add("rows", 0, values);
  const ArraySample sample = reservoir.take();
  int first_half = 0;
  std::set<float> distinct;
  for (std::size_t i = 0; i < 2000; ++i) {
    first_half += sample.arrays(i, 0) <= 10000;
    distinct.insert(sample.arrays(i, 0));
    EXPECT_FLOAT_EQ(sample.norms[i], sample.arrays(i, 0) * sample.arrays(i, 0));
  }
  EXPECT_EQ(distinct.size(), 2000u);
  EXPECT_NEAR(first_half, 1000, 5 * std::sqrt(2000 * 0.25));
}

TEST(ArrayReservoir, LeavesOutZerosAndTails) {
  Matrix<float> values(3, 40);
  values(1, 35) = 1;  // in the tail
  values(2, 20) = 1;
  ArrayReservoir reservoir(16, 10, 3);
  reservoir.add("rows", 0, values);
  const ArraySample sample = reservoir.take();
  EXPECT_EQ(sample.seen, 1);
  EXPECT_EQ(sample.arrays(0, 4), 1);
}

TEST(SyntheticArrays, HaveTheTailsOfTheirKinds) {
  const ArraySample sample = synthetic_arrays(64, 30000, 5);
  ASSERT_EQ(sample.arrays.rows(), 30000u);
  double squares = 0, fourths = 0;
  for (std::size_t i = 0; i < 30000 * 64; ++i) {
    const double square = std::pow(sample.arrays.data()[i], 2);
    squares += square / (30000 * 64);
    fourths += square * square / (30000 * 64);
  }
  // Variances 1, 2 and 5/3; fourth moments 3, 24 and 25 (nu = 5: 3 nu^2 / ((nu - 2)(nu - 4))).
  EXPECT_NEAR(squares, (1 + 2 + 5.0 / 3) / 3, 0.03);
  EXPECT_NEAR(fourths, (3 + 24 + 25) / 3.0, 4);
}

class MakeCodebooks : public testing::Test {
 protected:
  void SetUp() override {
    std::string text;
    for (int i = 0; i < 40; ++i) text += "Line " + std::to_string(i * i) + " of the text.\n";
    options_.calibration.files = {folder_.write("text.txt", text)};
    options_.layout = {16, 8, 2};
    options_.calibration.length = 64;
    options_.starts = 2;
    model_ = test::tiny_model(folder_, "llama2");
  }
  CodebookReport run() { return make_codebooks({Checkpoint::open(model_)}, options_); }

  test::TempFolder folder_;
  CodebookOptions options_;
  std::string model_;
};

TEST_F(MakeCodebooks, ThreadsDoNotMatterAndErrorsFall) {
  options_.threads = 1;
  const CodebookReport alone = run();
  options_.threads = 4;
  const CodebookReport together = run();
  EXPECT_EQ(together.set, alone.set);
  EXPECT_EQ(together.weights.error, alone.weights.error);
  for (const auto* side : {&alone.weights, &alone.activations}) {
    EXPECT_LE(side->integer_error, side->rounded_error);
    EXPECT_LE(side->error, side->integer_error);
    EXPECT_LE(side->error, side->maximum_error);
    EXPECT_GT(side->error, 0);
  }
}

TEST_F(MakeCodebooks, SeesEveryWholeBlockArray) {
  // Two blocks of q, k, v, o (64 in), gate, up (64 in) and down (44 in: 2 arrays of 16 and a tail).
  const std::int64_t out_of_64 = 64 + 16 + 16 + 64 + 44 + 44, arrays = 2 * (out_of_64 * 4 + 64 * 2);
  EXPECT_EQ(run().weights.arrays_seen, arrays);
  options_.layers = CodebookOptions::Layers::odd;
  EXPECT_EQ(run().weights.arrays_seen, arrays / 2);
  options_.reservoir = 100;  // blocks: 50 arrays
  EXPECT_EQ(run().weights.arrays_kept, 50);
}

TEST_F(MakeCodebooks, ComparingWithItselfGivesItsOwnError) {
  const CodebookReport first = run();
  options_.compare = {first.set};
  const CodebookReport again = run();
  EXPECT_EQ(again.weights.compared, std::vector<double>{again.weights.error});
  EXPECT_EQ(again.activations.compared, std::vector<double>{again.activations.error});
  options_.compare[0].layout.codebooks = 4;
  EXPECT_ERROR(run(), ErrorCode::argument, "compare");
}

TEST_F(MakeCodebooks, CancellingIsAnError) {
  options_.progress = [](const Progress&) { return false; };
  EXPECT_ERROR(run(), ErrorCode::cancelled, "cancelled");
}

}  // namespace
}  // namespace neap
