#include <gtest/gtest.h>

#include "neap/error.h"
#include "neap/quantize.h"

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
