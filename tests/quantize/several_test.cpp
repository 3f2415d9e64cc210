// Several outputs from one calibration: each what it would be alone, whatever becomes of the others.
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

#include "neap/quantize.h"
#include "support/expect_error.h"
#include "support/tiny_model.h"

namespace neap {
namespace {

namespace fs = std::filesystem;

class SeveralTest : public testing::Test {
 protected:
  void SetUp() override {
    source_ = test::tiny_model(folder_, "llama2");
    std::string text;
    for (int i = 0; i < 60; ++i) text += "Line " + std::to_string(i * i) + " of the calibration text.\n";
    text_ = folder_.write("text.txt", text);
  }
  QuantizeOptions options(const std::string& output, Method method = Method::ojbkq) {
    QuantizeOptions o;
    o.recipe.method = method;
    o.recipe.bits = 3;
    o.recipe.group = 4;
    o.recipe.length = 64;
    o.recipe.gguf = {GgufMix::q4_0, false, true};
    o.calibration_files = {text_};
    o.output = folder_ / output;
    o.verify = false;
    o.threads = 2;
    return o;
  }
  OtherOutput other(const QuantizeOptions& first, const std::string& output, Scheme scheme, int bits = 4) {
    OtherOutput o{.recipe = first.recipe, .output = folder_ / output, .format = {}};
    o.recipe.scheme = scheme;
    o.recipe.bits = bits;
    if (scheme == Scheme::nvfp4) o.recipe.ignore = {"re:.*down_proj"};
    return o;
  }
  void alone(const QuantizeOptions& first, const OtherOutput& o, const std::string& output) {
    QuantizeOptions its = first;
    its.recipe = o.recipe;
    its.format = o.format;
    its.output = folder_ / output;
    quantize(Checkpoint::open(source_), its);
  }
  static std::string weights(const std::string& output) {
    std::string path = output;
    if (fs::is_directory(output)) {
      for (const auto& entry : fs::directory_iterator(output)) {
        if (entry.path().extension() == ".gguf" || entry.path().extension() == ".safetensors") path = entry.path().string();
      }
    }
    std::ifstream in(path, std::ios::binary);
    return {std::istreambuf_iterator<char>(in), {}};
  }
  bool left_behind(const std::string& name) {
    for (const auto& entry : fs::directory_iterator(folder_.path())) {
      if (entry.path().filename().string().starts_with(name)) return true;
    }
    return false;
  }

  test::TempFolder folder_;
  std::string source_, text_;
};

TEST_F(SeveralTest, EachHasTheBytesThatItWouldHaveAlone) {
  for (const Method method : {Method::ojbkq, Method::gptq, Method::rtn}) {
    const std::string m = name_of(method);
    const QuantizeOptions first = options("a" + m, method);
    std::vector<OtherOutput> others = {other(first, "b" + m, Scheme::integer, 4), other(first, "c" + m + ".gguf", Scheme::gguf),
                                       other(first, "d" + m, Scheme::nvfp4)};
    const auto outcomes = quantize_all(Checkpoint::open(source_), first, others);
    ASSERT_EQ(outcomes.size(), 4u);
    quantize(Checkpoint::open(source_), [&] { auto o = first; o.output = folder_ / ("alone-a" + m); return o; }());
    EXPECT_EQ(weights(folder_ / ("a" + m)), weights(folder_ / ("alone-a" + m))) << m;
    for (const OtherOutput& o : others) {
      const std::string name = fs::path(o.output).filename().string();
      alone(first, o, "alone-" + name);
      EXPECT_EQ(weights(o.output), weights(folder_ / ("alone-" + name))) << name;
    }
    for (const auto& outcome : outcomes) EXPECT_TRUE(outcome.report && !outcome.failure) << outcome.output;
  }
}

// Without a full-precision stream each output has a residual stream of its own alone.
TEST_F(SeveralTest, EachHasTheBytesThatItWouldHaveAloneWithoutAReference) {
  QuantizeOptions first = options("a");
  first.recipe.target_mix = 1;
  const OtherOutput o = other(first, "b", Scheme::integer, 5);
  quantize_all(Checkpoint::open(source_), first, {o});
  alone(first, o, "alone-b");
  first.output = folder_ / "alone-a";
  quantize(Checkpoint::open(source_), first);
  EXPECT_EQ(weights(folder_ / "a"), weights(folder_ / "alone-a"));
  EXPECT_EQ(weights(o.output), weights(folder_ / "alone-b"));
}

TEST_F(SeveralTest, OneGridInTwoFormatsIsDecidedOnce) {
  QuantizeOptions first = options("plain");
  first.recipe.ignore = {"re:.*(gate|up|down)_proj"};
  first.recipe.bits = 4;
  OtherOutput gptq{.recipe = first.recipe, .output = folder_ / "gptq", .format = FileFormat::gptq};
  int stages = 0;
  first.progress = [&](const Progress& p) {
    stages += p.stage.starts_with("block") ? 1 : 0;
    return true;
  };
  const auto outcomes = quantize_all(Checkpoint::open(source_), first, {gptq});
  EXPECT_EQ(stages, 8);  // of two blocks
  ASSERT_TRUE(outcomes[0].report && outcomes[1].report);
  alone(first, gptq, "alone");
  EXPECT_EQ(weights(folder_ / "gptq"), weights(folder_ / "alone"));
  EXPECT_EQ(outcomes[1].report->layers.size(), outcomes[0].report->layers.size());
  EXPECT_NE(outcomes[1].report->notes.back().find("plain"), std::string::npos);
}

TEST_F(SeveralTest, WhatFailsOnTheWayFailsAlone) {
  const QuantizeOptions first = options("good");
  const OtherOutput bad = other(first, "bad/out", Scheme::integer, 4), also = other(first, "also", Scheme::integer, 5);
  // Somebody takes the output's name while it is in the making.
  QuantizeOptions watched = first;
  watched.progress = [&](const Progress&) {
    fs::create_directories(folder_ / "bad/out");
    folder_.write("bad/out/precious.txt", "keep me");
    return true;
  };
  const auto outcomes = quantize_all(Checkpoint::open(source_), watched, {bad, also});
  EXPECT_TRUE(outcomes[0].report);
  EXPECT_TRUE(outcomes[2].report);
  ASSERT_TRUE(outcomes[1].failure);
  EXPECT_EQ(outcomes[1].failure->code(), ErrorCode::argument);
  EXPECT_NO_THROW(Checkpoint::open(folder_ / "also"));
  EXPECT_TRUE(fs::exists(folder_ / "bad/out/precious.txt"));
}

TEST_F(SeveralTest, WhatIsRefusedFromTheStartLeavesNothing) {
  const QuantizeOptions first = options("one");
  EXPECT_ERROR(quantize_all(Checkpoint::open(source_), first, {other(first, "two", Scheme::integer, 9)}), ErrorCode::argument, "bits");
  EXPECT_ERROR(quantize_all(Checkpoint::open(source_), first, {other(first, "one", Scheme::integer, 4)}), ErrorCode::argument, "two outputs");
  EXPECT_ERROR(quantize_all(Checkpoint::open(source_), first, {other(first, "one/sub", Scheme::integer, 4)}), ErrorCode::argument, "within another");
  OtherOutput longer = other(first, "two", Scheme::integer);
  longer.recipe.length = 32;
  EXPECT_ERROR(quantize_all(Checkpoint::open(source_), first, {longer}), ErrorCode::argument, "share their calibration text");
  EXPECT_FALSE(left_behind("one"));
  EXPECT_FALSE(left_behind("two"));
}

TEST_F(SeveralTest, CancellingLeavesNothingOfAny) {
  for (int after : {0, 3, 9}) {
    QuantizeOptions first = options("one");
    first.progress = [&](const Progress&) { return after-- > 0; };
    EXPECT_ERROR(quantize_all(Checkpoint::open(source_), first, {other(first, "two", Scheme::gguf)}), ErrorCode::cancelled, "");
    EXPECT_FALSE(left_behind("one"));
    EXPECT_FALSE(left_behind("two"));
  }
}

}  // namespace
}  // namespace neap
