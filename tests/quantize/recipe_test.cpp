#include <gtest/gtest.h>

#include <limits>

#include "neap/error.h"
#include "neap/quantize.h"
#include "support/expect_error.h"

namespace neap {
namespace {

template <class Call>
std::string error_of(Call&& call) {
  try {
    call();
  } catch (const Error& e) {
    return e.what();
  }
  return "no error";
}

TEST(Recipe, JsonHoldsEverySetting) {
  Recipe r;
  r.method = Method::gptaq;
  r.bits = 3;
  r.group = 0;
  r.symmetric = false;
  r.overrides = {parse_override("re:.*down_proj=bits:4,group:32"), parse_override("Linear=asym")};
  r.ignore = {"model.layers.0.mlp.up_proj"};
  r.lm_head_bits = 8;
  r.samples = 7;
  r.length = 512;
  r.seed = 9;
  r.precision = Precision::f32;
  r.target = SolveTarget::layer;
  r.target_mix = 0.25;
  r.ridge = 0.05;
  r.paths = 2;
  r.order = SolveOrder::forward;
  r.descent_sweeps = 3;
  r.refits = 1;
  r.balance = true;
  const std::string json = r.to_json();
  EXPECT_EQ(Recipe::from_json(json, "r.json").to_json(), json);
  EXPECT_NE(json, Recipe{}.to_json());
}

TEST(Recipe, JsonHoldsEverySettingOfGguf) {
  Recipe r;
  r.scheme = Scheme::gguf;
  r.gguf = {GgufMix::q5_k_s, true, true};
  const std::string json = r.to_json();
  EXPECT_EQ(Recipe::from_json(json, "r.json").to_json(), json);
  EXPECT_EQ(Recipe::from_json(json, "r.json").gguf.mix, GgufMix::q5_k_s);
  EXPECT_TRUE(Recipe::from_json(json, "r.json").gguf.pure);
  EXPECT_EQ(gguf_mix_from_name("q4_k"), GgufMix::q4_k_m);
  EXPECT_NE(error_of([&] { gguf_mix_from_name("Q4_X"); }).find("Q4_0, Q4_1"), std::string::npos);
}

TEST(Recipe, BalancesWhereLatticeDecodingMeetsRoundedActivations) {
  Recipe r;
  EXPECT_FALSE(balances(r));
  for (const Scheme scheme : {Scheme::lobcq, Scheme::nvfp4, Scheme::mxfp4, Scheme::int4}) {
    r = Recipe{};
    r.scheme = scheme;
    EXPECT_TRUE(balances(r));
    r.method = Method::rtn;
    EXPECT_FALSE(balances(r));
    r.method = Method::ojbkq;
    r.lobcq.weights_only = r.block_scaled.weights_only = true;
    EXPECT_FALSE(balances(r));
    r.balance = true;
    EXPECT_TRUE(balances(r));
  }
}

TEST(Recipe, JsonHoldsEverySettingOfLobcq) {
  Recipe r;
  r.scheme = Scheme::lobcq;
  r.lobcq = {.layout = {128, 4, 16}, .codebooks = "books.json", .weights_only = true, .scales = ScaleChoice::maximum};
  r.method = Method::gptq;
  const std::string json = r.to_json();
  EXPECT_EQ(Recipe::from_json(json, "r.json").to_json(), json);
  Recipe plain;
  plain.scheme = Scheme::lobcq;
  EXPECT_NE(json, plain.to_json());
}

TEST(Recipe, JsonHoldsEverySettingOfBlockScaledFormats) {
  for (const Scheme scheme : {Scheme::nvfp4, Scheme::mxfp4, Scheme::int4}) {
    Recipe r, plain;
    r.scheme = plain.scheme = scheme;
    r.block_scaled.weights_only = true;
    if (scheme == Scheme::int4) r.block_scaled.group = 128;
    const std::string json = r.to_json();
    const Recipe again = Recipe::from_json(json, "r.json");
    EXPECT_EQ(again.to_json(), json);
    EXPECT_EQ(again.scheme, scheme);
    EXPECT_EQ(again.block_scaled.group, r.block_scaled.group);
    EXPECT_NE(json, plain.to_json());
  }
}

TEST(Recipe, KeysOfTheOtherSchemeAreUnknown) {
  const auto refused = [](const char* text, const char* key) {
    const std::string found = error_of([&] { Recipe::from_json(text, "r.json"); });
    EXPECT_NE(found.find(std::string("r.json: '") + key), std::string::npos) << found;
  };
  refused(R"({"scheme": "lobcq", "bits": 4})", "bits");
  refused(R"({"scheme": "lobcq", "overrides": []})", "overrides");
  refused(R"({"block_array": 64})", "block_array");
  refused(R"({"scheme": "integer", "weights_only": true})", "weights_only");
  refused(R"({"scheme": "nvfp4", "group_size": 16})", "group_size");
  refused(R"({"scheme": "int4", "bits": 4})", "bits");
  refused(R"({"scheme": "mxfp4", "block": 8})", "block");
  const std::string found = error_of([] { Recipe::from_json(R"({"scheme": "fp4"})", "r.json"); });
  EXPECT_NE(found.find("integer, lobcq, nvfp4, mxfp4, int4"), std::string::npos) << found;
}

TEST(Recipe, AMisspeltKeyIsAnErrorThatNamesIt) {
  const std::string found = error_of([] { Recipe::from_json(R"({"bit": 3})", "r.json"); });
  EXPECT_NE(found.find("r.json: 'bit'"), std::string::npos) << found;
}

TEST(Recipe, AValueOfTheWrongTypeIsAnErrorThatNamesIt) {
  const std::string found = error_of([] { Recipe::from_json(R"({"bits": "three"})", "r.json"); });
  EXPECT_NE(found.find("'bits'"), std::string::npos) << found;
}

TEST(Recipe, NoValueIsConvertedToAnother) {
  for (const auto& [text, key] : std::vector<std::pair<std::string, std::string>>{
           {R"({"bits": 3.9})", "bits"},
           {R"({"bits": 4294967299})", "bits"},
           {R"({"bits": true})", "bits"},
           {R"({"paths": 1e300})", "paths"},
           {R"({"samples": 1e3})", "samples"},
           {R"({"seqlen": 9223372036854775808})", "seqlen"},
           {R"({"seed": -1})", "seed"},
           {R"({"seed": 1.0})", "seed"},
           {R"({"seed": 18446744073709551616})", "seed"},
           {R"({"symmetric": 1})", "symmetric"},
           {R"({"ridge": true})", "ridge"},
           {R"({"ignore": ["a", 1]})", "ignore[1]"},
           {R"({"ignore": "a"})", "ignore"},
           {R"({"overrides": [{"pattern": "a", "bits": 3.5}]})", "overrides[0].bits"},
           {R"({"overrides": [{"pattern": "a", "bit": 3}]})", "overrides[0].bit"},
           {R"({"overrides": [{"bits": 3}]})", "overrides[0].pattern"},
           {R"({"overrides": {"pattern": "a"}})", "overrides"},
           {R"({"recipe": {"bits": 3.9}})", "recipe.bits"},
           {R"({"scheme": "lobcq", "block": 8.5})", "block"},
           {R"({"scheme": "int4", "group_size": 64.5})", "group_size"}}) {
    EXPECT_ERROR(Recipe::from_json(text, "r.json"), ErrorCode::format, "r.json: '" + key + "'");
  }
}

TEST(Recipe, JsonIsReadAsStrictlyAsElsewhere) {
  EXPECT_ERROR(Recipe::from_json(R"({"bits": 3, "bits": 4})", "r.json"), ErrorCode::format, "'bits': the same key");
  EXPECT_ERROR(Recipe::from_json("[1]", "r.json"), ErrorCode::format, "r.json: has the wrong type");
  EXPECT_ERROR(Recipe::from_json("{", "r.json"), ErrorCode::format, "r.json: offset");
  for (const std::string key : {"bits", "recipe"}) {
    const std::string deep = "{\"" + key + "\": " + std::string(400'000, '[') + std::string(400'000, ']') + "}";
    EXPECT_ERROR(Recipe::from_json(deep, "r.json"), ErrorCode::format, "nested too deeply");
  }
}

TEST(Recipe, JsonHoldsTheLargestSeed) {
  Recipe r;
  r.seed = std::numeric_limits<std::uint64_t>::max();
  EXPECT_EQ(Recipe::from_json(r.to_json(), "r.json").seed, r.seed);
}

TEST(Recipe, NullLeavesASettingAsItIs) {
  EXPECT_EQ(Recipe::from_json(R"({"group_size": null, "balance": null, "bits": null})", "r.json").to_json(),
            Recipe{}.to_json());
}

TEST(Recipe, AnUnknownMethodIsAnErrorThatListsTheKnown) {
  const std::string found = error_of([] { method_from_name("gtpq"); });
  EXPECT_NE(found.find("rtn, gptq, gptaq, awq, ojbkq"), std::string::npos) << found;
}

TEST(Override, ReadsBitsGroupAndSymmetry) {
  const Override o = parse_override("re:.*a=b.*=bits:4,group:-1,asym");
  EXPECT_EQ(o.pattern, "re:.*a=b.*");
  EXPECT_EQ(o.bits, 4);
  EXPECT_EQ(o.group, 0);
  EXPECT_EQ(o.symmetric, false);
}

TEST(Override, RefusesWhatItDoesNotUnderstand) {
  for (const char* text : {"re:.*", "=bits:4", "x=", "x=bits:", "x=bits:4x", "x=width:4", "x=bits:4,,sym"}) {
    EXPECT_THROW(parse_override(text), Error) << text;
  }
}

}  // namespace
}  // namespace neap
