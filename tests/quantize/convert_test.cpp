// neap export: whatever way a grid takes through the formats, not one value changes, and what has no way is told.
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>

#include "model/weights.h"
#include "neap/export.h"
#include "support/expect_error.h"
#include "support/tiny_model.h"

namespace neap {
namespace {

namespace fs = std::filesystem;

class ConvertTest : public testing::Test {
 protected:
  void SetUp() override { source_ = test::tiny_model(folder_, "llama2"); }

  // What all formats have room for: layers of 64 inputs and outputs in multiples of 32.
  Recipe recipe(int bits, bool symmetric, std::int64_t group = 32) {
    Recipe r;
    r.method = Method::rtn;
    r.bits = bits;
    r.symmetric = symmetric;
    r.group = group;
    r.ignore = {bits == 3 ? "re:.*(q|k|v|gate|up|down)_proj" : "re:.*(gate|up|down)_proj"};  // k has 16 outputs
    return r;
  }
  Recipe gguf(GgufMix mix) {
    Recipe r;
    r.method = Method::rtn;
    r.scheme = Scheme::gguf;
    r.gguf = {mix, false, true};
    r.ignore = {"re:.*(gate|up|down)_proj"};
    return r;
  }
  std::string make(const Recipe& r, const std::string& name, std::optional<FileFormat> format = {}) {
    QuantizeOptions o;
    o.recipe = r;
    o.output = folder_ / name;
    o.format = format;
    o.verify = false;
    quantize(Checkpoint::open(source_), o);
    return o.output;
  }
  ConvertReport run(const std::string& from, FileFormat format, const std::string& name, bool allow_dense = false) {
    return convert(Checkpoint::open(from), {.format = format, .output = folder_ / name, .overwrite = true, .allow_dense = allow_dense, .threads = 2});
  }
  // Every weight, of whatever format, in Hugging Face's order.
  static void expect_same_model(const std::string& a, const std::string& b) {
    const Checkpoint one = Checkpoint::open(a), other = Checkpoint::open(b);
    const Weights first(one, read_config(one)), second(other, read_config(other));
    for (std::int64_t layer = 0; layer < first.config().layers; ++layer) {
      for (std::size_t r = 0; r < kRoles; ++r) {
        const auto role = static_cast<Role>(r);
        const Matrix<float> x = first.weight(layer, role), y = second.weight(layer, role);
        ASSERT_EQ(x.rows() * x.cols(), y.rows() * y.cols());
        for (std::size_t i = 0; i < x.rows() * x.cols(); ++i) ASSERT_EQ(x.data()[i], y.data()[i]) << module_name(layer, role) << " " << i;
      }
    }
    const Matrix<float> x = first.head(), y = second.head();
    for (std::size_t i = 0; i < x.rows() * x.cols(); ++i) ASSERT_EQ(x.data()[i], y.data()[i]) << "head " << i;
  }
  bool left_behind(const std::string& name) {
    for (const auto& entry : fs::directory_iterator(folder_.path())) {
      if (entry.path().filename().string().starts_with(name)) return true;
    }
    return false;
  }

  test::TempFolder folder_;
  std::string source_;
};

TEST_F(ConvertTest, IntegerGridsGoRoundThroughEveryFormat) {
  for (const int bits : {2, 3, 4, 8}) {
    for (const bool symmetric : {true, false}) {
      const std::string from = make(recipe(bits, symmetric), "from" + std::to_string(bits) + (symmetric ? "s" : "a"));
      const FileFormat gptq = symmetric ? FileFormat::gptq : FileFormat::gptq_v2;
      const std::string there = run(from, gptq, "gptq").output, back = run(there, FileFormat::compressed_tensors, "back").output;
      expect_same_model(from, there);
      expect_same_model(from, back);
      if (bits == 8 && !symmetric) continue;  // a block counts from its middle
      const ConvertReport blocks = run(from, FileFormat::gguf, "blocks.gguf");
      expect_same_model(from, blocks.output);
      EXPECT_EQ(blocks.verification.worst.at(0).error, 0);
      expect_same_model(from, run(blocks.output, FileFormat::compressed_tensors, "again", true).output);
    }
  }
}

TEST_F(ConvertTest, CodesAndScalesOfGptqAreThoseThatQuantizeWrites) {
  const std::string direct = make(recipe(4, true), "direct", FileFormat::gptq);
  const std::string through = run(make(recipe(4, true), "from"), FileFormat::gptq, "through").output;
  const auto bytes = [](const std::string& path) {
    std::ifstream in(path, std::ios::binary);
    return std::string(std::istreambuf_iterator<char>(in), {});
  };
  EXPECT_EQ(bytes(direct + "/model.safetensors"), bytes(through + "/model.safetensors"));
  EXPECT_EQ(bytes(direct + "/config.json"), bytes(through + "/config.json"));
  EXPECT_EQ(bytes(direct + "/quantize_config.json"), bytes(through + "/quantize_config.json"));
  EXPECT_EQ(bytes(direct + "/tokenizer.json"), bytes(through + "/tokenizer.json"));
}

TEST_F(ConvertTest, BlocksBecomeGroupsOf32) {
  for (const GgufMix mix : {GgufMix::q4_0, GgufMix::q5_0, GgufMix::q8_0, GgufMix::iq4_nl}) {
    const std::string from = make(gguf(mix), name_of(mix));
    const bool mixed = mix == GgufMix::iq4_nl;  // v_proj is Q5_1
    const std::string to = run(from, FileFormat::compressed_tensors, "to", mixed).output;
    expect_same_model(from, to);
    EXPECT_EQ(Checkpoint::open(to).find("model.layers.0.self_attn.v_proj.weight") != nullptr, mixed);
    EXPECT_NE(Checkpoint::open(to).find("model.layers.0.self_attn.q_proj.weight_packed"), nullptr);
  }
}

TEST_F(ConvertTest, LobcqsWeightsAreIntegersOfSixBits) {
  Recipe r;
  r.method = Method::rtn;
  r.scheme = Scheme::lobcq;
  r.ignore = {"re:.*down_proj"};
  const std::string from = make(r, "from");
  const ConvertReport report = run(from, FileFormat::compressed_tensors, "to");
  expect_same_model(from, report.output);
  EXPECT_EQ(report.grids.at(0).first, "6 bits, whole rows, symmetric");  // rows of one array
  EXPECT_NE(report.notes.at(report.notes.size() - 1).find("activations"), std::string::npos);
  expect_same_model(from, run(from, FileFormat::gguf, "to.gguf").output);
}

TEST_F(ConvertTest, Mxfp4IsABlockTypeOfGgufAndIntegersOfFiveBits) {
  Recipe r;
  r.method = Method::rtn;
  r.scheme = Scheme::mxfp4;
  r.ignore = {"re:.*down_proj"};
  const std::string from = make(r, "from");
  const ConvertReport report = run(from, FileFormat::compressed_tensors, "to");
  expect_same_model(from, report.output);
  EXPECT_EQ(report.grids.at(0).first, "5 bits, groups of 32, symmetric");
  const ConvertReport blocks = run(from, FileFormat::gguf, "to.gguf");
  EXPECT_EQ(blocks.grids.at(0).first, "GGUF MXFP4");
  expect_same_model(from, blocks.output);
  expect_same_model(from, run(blocks.output, FileFormat::compressed_tensors, "back").output);
}

TEST_F(ConvertTest, APackedHeadGoesAlong) {
  Recipe r = recipe(4, true);
  r.lm_head_bits = 4;
  const std::string from = make(r, "from");
  expect_same_model(from, run(from, FileFormat::gguf, "to.gguf").output);
  EXPECT_ERROR(run(from, FileFormat::gptq, "to"), ErrorCode::argument, "head");
}

TEST_F(ConvertTest, WhatHoldsNoSuchGridSaysWhyAndWhatWouldDo) {
  const std::string groups = make(recipe(4, true, 16), "groups"), zeros = make(recipe(4, false), "zeros");
  EXPECT_ERROR(run(groups, FileFormat::gguf, "to"), ErrorCode::argument, "multiple of 32");
  EXPECT_ERROR(run(zeros, FileFormat::gptq, "to"), ErrorCode::argument, "gptq_v2");
  EXPECT_ERROR(run(make(gguf(GgufMix::q4_1), "q4_1"), FileFormat::compressed_tensors, "to"), ErrorCode::argument, "--allow-dense");
  EXPECT_ERROR(run(folder_ / "q4_1", FileFormat::gguf, "to"), ErrorCode::argument, "is a GGUF already");
  EXPECT_ERROR(run(source_, FileFormat::gptq, "to"), ErrorCode::argument, "nothing in it is quantized");
  EXPECT_ERROR(run(groups, FileFormat::neap, "to"), ErrorCode::argument, "LOBCQ");
  Recipe nvfp4;
  nvfp4.method = Method::rtn;
  nvfp4.scheme = Scheme::nvfp4;
  nvfp4.block_scaled.weights_only = true;
  nvfp4.ignore = {"re:.*down_proj"};
  EXPECT_ERROR(run(make(nvfp4, "nvfp4"), FileFormat::gptq, "to"), ErrorCode::argument, "NVFP4");
  EXPECT_FALSE(left_behind("to"));
}

TEST_F(ConvertTest, LayersWithoutAGridBecomeDenseWhereAllowed) {
  const std::string none = make(gguf(GgufMix::q4_1), "none"), some = make(gguf(GgufMix::iq4_nl), "some");
  EXPECT_ERROR(run(none, FileFormat::compressed_tensors, "to", true), ErrorCode::argument, "nothing in it");
  EXPECT_ERROR(run(some, FileFormat::compressed_tensors, "to"), ErrorCode::argument, "v_proj");
  const ConvertReport report = run(some, FileFormat::compressed_tensors, "to", true);
  expect_same_model(some, report.output);
  EXPECT_NE(report.notes.back().find("stored as F32"), std::string::npos);
}

TEST_F(ConvertTest, OutputsAreCutIntoFilesOfTheSizeAskedFor) {
  const std::string from = make(recipe(4, true), "from");
  for (const FileFormat format : {FileFormat::gptq, FileFormat::gguf}) {
    const ConvertReport report = convert(Checkpoint::open(from), {.format = format, .output = folder_ / "to", .overwrite = true, .max_shard_bytes = 20000, .threads = 2});
    std::size_t files = 0;
    for (const auto& entry : fs::directory_iterator(report.output)) files += entry.path().filename().string().find("-00001-of-0000") != std::string::npos;
    EXPECT_EQ(files, 1u);
    expect_same_model(from, report.output);
  }
}

TEST_F(ConvertTest, AnOutputIsVerifiedDescribedAndAModelLikeAnyOther) {
  const std::string from = make(recipe(4, true), "from");
  const ConvertReport report = run(from, FileFormat::gguf, "one.gguf");
  EXPECT_TRUE(fs::is_regular_file(folder_ / "one.gguf"));
  EXPECT_TRUE(fs::is_regular_file(folder_ / "one.gguf.md"));
  EXPECT_TRUE(verify(Checkpoint::open(folder_ / "one.gguf"), nullptr, {.tokens = 0}).hashes);
  ASSERT_TRUE(report.verification.divergence);
  EXPECT_LT(report.verification.divergence->kl.mean, 1e-6);
  EXPECT_TRUE(nlohmann::json::accept(report.to_json()));
}

}  // namespace
}  // namespace neap
