// neap verify on outputs of every format, whole and spoiled in every way that a disk or a hand may spoil them.
#include "neap/verify.h"

#include <gtest/gtest.h>

#include <cstring>
#include <filesystem>
#include <fstream>
#include <functional>
#include <nlohmann/json.hpp>

#include "model/editable_model.h"
#include "neap/quantize.h"
#include "support/expect_error.h"
#include "support/tiny_model.h"

namespace neap {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::json;

std::string read(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), std::istreambuf_iterator<char>()};
}

void write(const std::string& path, const std::string& contents) {
  std::ofstream(path, std::ios::binary | std::ios::trunc) << contents;
}

struct Made {
  std::string name;
  Scheme scheme = Scheme::integer;
  std::optional<FileFormat> format = {};
  bool symmetric = true;
};

void PrintTo(const Made& made, std::ostream* out) { *out << made.name; }

class VerifyTest : public testing::TestWithParam<Made> {
 protected:
  void SetUp() override { source_ = test::tiny_model(folder_, "llama2"); }

  std::string make(const Made& made, const std::string& name) {
    QuantizeOptions o;
    o.recipe.method = Method::rtn;
    o.recipe.scheme = made.scheme;
    o.recipe.symmetric = made.symmetric;
    o.recipe.group = made.format ? 0 : 4;
    o.recipe.gguf = {GgufMix::q4_0, false, true};
    if (made.scheme == Scheme::mxfp4) o.recipe.ignore = {"re:.*down_proj"};
    if (made.format == FileFormat::gptq || made.format == FileFormat::gptq_v2) o.recipe.ignore = {"re:.*(down|gate|up)_proj"};
    o.format = made.format;
    o.output = folder_ / name;
    const QuantizeReport report = quantize(Checkpoint::open(source_), o);
    EXPECT_TRUE(report.verification && report.verification->divergence);
    return o.output;
  }
  static std::string weights_file(const std::string& output) {
    for (const auto& entry : fs::directory_iterator(output)) {
      if (entry.path().extension() == ".gguf" || entry.path().extension() == ".safetensors") return entry.path().string();
    }
    return {};
  }
  VerifyReport check(const std::string& output, bool against = false, std::int64_t tokens = 0) {
    const Checkpoint source = Checkpoint::open(source_);
    return verify(Checkpoint::open(output), against ? &source : nullptr, {.tokens = tokens});
  }
  // Changes a JSON file, and back after `look`.
  void with_change(const std::string& path, const std::function<void(Json&)>& change, const std::function<void()>& look) {
    const std::string before = read(path);
    Json json = Json::parse(before);
    change(json);
    write(path, json.dump());
    look();
    write(path, before);
  }

  test::TempFolder folder_;
  std::string source_;
};

INSTANTIATE_TEST_SUITE_P(Formats, VerifyTest,
                         testing::Values(Made{"compressed"}, Made{"asymmetric", Scheme::integer, {}, false},
                                         Made{"gptq", Scheme::integer, FileFormat::gptq},
                                         Made{"gptq_v2", Scheme::integer, FileFormat::gptq_v2, false}, Made{"gguf", Scheme::gguf},
                                         Made{"lobcq", Scheme::lobcq}, Made{"mxfp4", Scheme::mxfp4}));

TEST_P(VerifyTest, WhatWasExportedIsWholeAndNearItsSource) {
  const std::string output = make(GetParam(), "out");
  const VerifyReport report = check(output, true, 64);
  EXPECT_TRUE(report.hashes);
  EXPECT_EQ(report.tensors, static_cast<std::int64_t>(Checkpoint::open(output).tensors().size()));
  EXPECT_GT(report.quantized, 0);
  ASSERT_TRUE(report.divergence);
  EXPECT_EQ(report.predicted, 63);
  EXPECT_GT(report.divergence->kl.mean, 0);
  std::int64_t matrices = 0;
  for (const auto& kind : report.kinds) {
    EXPECT_GT(kind.mean, 0) << kind.name;
    EXPECT_LT(kind.worst.error, 0.1) << kind.name;
    EXPECT_GE(kind.worst.error, kind.mean) << kind.name;
    matrices += kind.tensors;
  }
  EXPECT_EQ(matrices, report.quantized);
  EXPECT_EQ(report.worst.size(), 5u);
}

TEST(Verify, BiasesThatOneOfTheModelsLacksAreNoticed) {
  test::EditableModel with("llama-bias"), without("llama-bias");
  without.config["attention_bias"] = false;
  without.config["mlp_bias"] = false;
  std::erase_if(without.tensors, [](const auto& tensor) { return tensor.first.ends_with("_proj.bias"); });
  const Checkpoint one = with.open(), other = without.open();
  EXPECT_ERROR(verify(one, &other, {.tokens = 0}), ErrorCode::data, "biases of q, k and v");
  EXPECT_ERROR(verify(other, &one, {.tokens = 0}), ErrorCode::data, "biases of q, k and v");
  EXPECT_NO_THROW(verify(one, &one, {.tokens = 0}));
}

TEST_P(VerifyTest, FlippedBitsAreNoticedAnywhere) {
  const std::string output = make(GetParam(), "out"), file = weights_file(output), before = read(file);
  std::uint64_t state = 1;
  for (int i = 0; i < 60; ++i) {
    state = state * 6364136223846793005u + 1442695040888963407u;
    const std::size_t at = i < 10 ? static_cast<std::size_t>(i) * 37 : (state >> 20) % before.size();
    std::string spoiled = before;
    spoiled[at] = static_cast<char>(spoiled[at] ^ (1 << (state >> 61)));
    write(file, spoiled);
    // Padding between tensors means nothing; all of GGUF's header and every tensor does.
    EXPECT_THROW(check(output), Error) << at << " of " << before.size();
  }
  write(file, before);
  check(output);
}

TEST_P(VerifyTest, TruncationsAreNoticed) {
  const std::string output = make(GetParam(), "out"), file = weights_file(output);
  for (auto size = fs::file_size(file); size > 1000; size -= 1 + size / 7) {
    fs::resize_file(file, size - 1);
    EXPECT_THROW(check(output), Error) << size;
  }
}

class VerifyFolder : public VerifyTest {};
INSTANTIATE_TEST_SUITE_P(Folders, VerifyFolder, testing::Values(Made{"compressed"}));

TEST_P(VerifyFolder, AnAlteredConfigurationIsNoticedWithAndWithoutTheReport) {
  const std::string output = make(GetParam(), "out"), config = output + "/config.json";
  const std::vector<std::pair<const char*, std::function<void(Json&)>>> seen_by_all = {
      {"layers", [](Json& j) { j["num_hidden_layers"] = 1; }},
      {"width", [](Json& j) { j["hidden_size"] = 32; }},
      {"bits", [](Json& j) { j["quantization_config"]["config_groups"]["group_0"]["weights"]["num_bits"] = 8; }},
      {"group", [](Json& j) { j["quantization_config"]["config_groups"]["group_0"]["weights"]["group_size"] = 2; }},
      {"symmetry", [](Json& j) { j["quantization_config"]["config_groups"]["group_0"]["weights"]["symmetric"] = false; }},
      {"ignored", [](Json& j) { j["quantization_config"]["ignore"].push_back("model.layers.0.mlp.up_proj"); }},
      {"not quantized", [](Json& j) { j.erase("quantization_config"); }}};
  const auto quiet = [](Json& j) { j["rope_theta"] = 12345.0; };
  with_change(config, quiet, [&] { EXPECT_ERROR(check(output), ErrorCode::data, "config.json"); });
  fs::remove(output + "/quantization_report.json");
  EXPECT_FALSE(check(output).hashes);
  for (const auto& [name, change] : seen_by_all) {
    with_change(config, change, [&, what = name] { EXPECT_THROW(check(output), Error) << what; });
  }
  with_change(config, quiet, [&] {
    check(output);
    EXPECT_ERROR(check(output, true), ErrorCode::data, "rope theta");
  });
}

// Rewrites the tensors of an output's safetensors file: a new list of names for the same bytes.
void rename_tensors(const std::string& file, const std::function<void(Json&)>& change) {
  const std::string before = read(file);
  std::uint64_t length = 0;
  std::memcpy(&length, before.data(), sizeof length);
  Json header = Json::parse(before.substr(8, length));
  change(header);
  const std::string text = header.dump(), data = before.substr(8 + length);
  length = text.size();
  write(file, std::string(reinterpret_cast<const char*>(&length), sizeof length) + text + data);
}

TEST_P(VerifyFolder, MissingSurplusAndExchangedTensorsAreNoticed) {
  const std::string output = make(GetParam(), "out"), file = weights_file(output), before = read(file);
  const std::string scale = "model.layers.0.self_attn.o_proj.weight_scale", one = "model.layers.0.self_attn.q_proj.weight_packed",
                    other = "model.layers.1.self_attn.q_proj.weight_packed";
  for (const bool report : {true, false}) {
    if (!report) fs::remove(output + "/quantization_report.json");
    rename_tensors(file, [&](Json& j) {
      j["left_over"] = j[scale];
      j.erase(scale);
    });
    EXPECT_ERROR(check(output), ErrorCode::format, scale);
    write(file, before);
    rename_tensors(file, [&](Json& j) { std::swap(j[one], j[other]); });
    if (report) EXPECT_ERROR(check(output), ErrorCode::io, "not those that were written");
    if (!report) EXPECT_ERROR(check(output, true), ErrorCode::data, "further from the source's weights");
    write(file, before);
  }
}

TEST_P(VerifyFolder, AnotherModelIsNoSource) {
  const std::string output = make(GetParam(), "out");
  const Checkpoint other = Checkpoint::open(test::tiny_model(folder_, "llama31"));
  EXPECT_THROW(verify(Checkpoint::open(output), &other, {.tokens = 0}), Error);
}

TEST_P(VerifyFolder, DenseTensorsMustBeTheSources) {
  const std::string output = make(GetParam(), "out"), file = weights_file(output);
  fs::remove(output + "/quantization_report.json");
  const TensorInfo embedding = Checkpoint::open(output).info("model.embed_tokens.weight");
  std::string bytes = read(file);
  for (std::size_t i = 0; i < 256; ++i) bytes[embedding.offset + i] = 0;
  write(file, bytes);
  check(output);
  EXPECT_ERROR(check(output, true), ErrorCode::data, "model.embed_tokens");
}

TEST_P(VerifyFolder, NumbersThatAreNoneAreNoticed) {
  const std::string output = make(GetParam(), "out"), file = weights_file(output);
  fs::remove(output + "/quantization_report.json");
  const TensorInfo norm = Checkpoint::open(output).info("model.layers.1.input_layernorm.weight");
  std::string bytes = read(file);
  for (std::size_t i = 0; i < 4; ++i) bytes[norm.offset + i] = static_cast<char>(0xff);
  write(file, bytes);
  EXPECT_ERROR(check(output), ErrorCode::data, "is not finite");
}

TEST_P(VerifyFolder, TooMuchDivergenceIsAnErrorWhereToldSo) {
  const std::string output = make(GetParam(), "out");
  const Checkpoint source = Checkpoint::open(source_);
  const double kl = check(output, true, 64).divergence->kl.mean;
  EXPECT_NO_THROW(verify(Checkpoint::open(output), &source, {.tokens = 64, .max_kl = 1.01 * kl}));
  EXPECT_ERROR(verify(Checkpoint::open(output), &source, {.tokens = 64, .max_kl = 0.99 * kl}), ErrorCode::data, "KL divergence");
}

TEST_P(VerifyFolder, WithoutATokenizerThatCanBeReadNothingIsPredicted) {
  const std::string output = make(GetParam(), "out");
  for (const char* contents : {R"({"model": {"type": "Unigram"}})", ""}) {
    if (*contents == 0) fs::remove(output + "/tokenizer.json");
    if (*contents != 0) write(output + "/tokenizer.json", contents);
    const VerifyReport report = check(output, false, 64);
    EXPECT_EQ(report.predicted, 0);
    EXPECT_NE(report.notes.at(0).find("tokenizer"), std::string::npos);
  }
}

// Rounding a large model takes no longer than predicting with it, so that is left out and said; any run can ask for it.
TEST_P(VerifyFolder, PredictionsCanBeLeftOutAndThatIsTold) {
  const auto made = [&](std::optional<bool> predict) {
    QuantizeOptions o;
    o.recipe.method = Method::rtn;
    o.recipe.group = 4;
    o.output = folder_ / "out";
    o.overwrite = true;
    o.predict = predict;
    return *quantize(Checkpoint::open(source_), o).verification;
  };
  for (const std::optional<bool> predict : {std::optional<bool>(), std::optional(true)}) {
    EXPECT_GT(made(predict).predicted, 0);
    EXPECT_TRUE(made(predict).notes.empty());
  }
  const VerifyReport without = made(false);
  EXPECT_EQ(without.predicted, 0);
  EXPECT_FALSE(without.divergence);
  EXPECT_FALSE(without.kinds.empty());
  EXPECT_NE(without.notes.at(0).find("predictions were not compared"), std::string::npos);
}

// Balanced layers are not the source's, rounded: only predictions compare.
TEST_P(VerifyFolder, MovedFactorsAreNoErrors) {
  QuantizeOptions o;
  o.recipe.method = Method::ojbkq;
  o.recipe.group = 4;
  o.recipe.length = 64;
  o.recipe.balance = true;
  std::string text;
  for (int i = 0; i < 60; ++i) text += "Line " + std::to_string(i * i) + " of the calibration text.\n";
  o.calibration_files = {folder_.write("text.txt", text)};
  o.output = folder_ / "balanced";
  const VerifyReport made = *quantize(Checkpoint::open(source_), o).verification;
  for (const bool report : {true, false}) {
    if (!report) fs::remove(o.output + "/quantization_report.json");
    const VerifyReport found = check(o.output, true, 64);
    EXPECT_TRUE(found.kinds.empty());
    EXPECT_TRUE(made.kinds.empty());
    EXPECT_FALSE(found.notes.empty());
    EXPECT_LT(found.divergence->kl.mean, 1);
  }
}

}  // namespace
}  // namespace neap
