#include "io/json.h"

#include <gtest/gtest.h>

#include "support/expect_error.h"
#include "support/temp_folder.h"

namespace neap {
namespace {

Json parse(std::string_view text) { return parse_json(text, "f.json"); }

TEST(JsonTest, BuildsTheSameDocumentAsThePlainParser) {
  constexpr std::string_view kText =
      R"({"a": [1, -2, 3.5, true, false, null, "x\u00e9\n", [], {}, [[0]]], "b": {"c": {"d": 18446744073709551615}}, "": 0})";
  EXPECT_EQ(parse(kText), nlohmann::json::parse(kText));
  EXPECT_EQ(parse(" 7 "), Json(7));
}

TEST(JsonTest, NamesFileAndOffsetOfASyntaxError) {
  EXPECT_ERROR(parse("{\"a\": }"), ErrorCode::format,
               "f.json: offset 6: not valid JSON: syntax error");
  EXPECT_ERROR(parse_json("{\"a\": }", "f", 8), ErrorCode::format, "offset 14:");
  EXPECT_ERROR(parse(""), ErrorCode::format, "not valid JSON");
  EXPECT_ERROR(parse("[1] 2"), ErrorCode::format, "not valid JSON");
  EXPECT_ERROR(parse("[1e999]"), ErrorCode::format, "not valid JSON");
  EXPECT_ERROR(parse("[NaN]"), ErrorCode::format, "not valid JSON");
  EXPECT_ERROR(parse(std::string_view("[1]\0[2]", 7)), ErrorCode::format,
               "offset 3: not valid JSON: a NUL");
}

TEST(JsonTest, RefusesIllFormedUtf8WithoutRepeatingIt) {
  try {
    parse("[\"\xff\x1b[31m\"]");
    FAIL();
  } catch (const Error& error) {
    const std::string line = error.what();
    EXPECT_EQ(line.find('\xff'), line.npos);
    EXPECT_EQ(line.find('\x1b'), line.npos);
  }
}

TEST(JsonTest, RefusesAKeyThatStandsTwiceInOneObjectOnly) {
  EXPECT_ERROR(parse(R"({"x": {"a": 1, "b": 2, "a": 1}})"), ErrorCode::format, "'a': the same key");
  EXPECT_NO_THROW(parse(R"({"a": {"a": 1}, "b": {"a": 1}})"));
}

TEST(JsonTest, RefusesNestingBeyondTheLimitAndNothingShallower) {
  const JsonLimits limits{.depth = 3};
  EXPECT_NO_THROW(parse_json("[[[1]]]", "f", 0, limits));
  EXPECT_ERROR(parse_json("[[[[1]]]]", "f", 0, limits), ErrorCode::format, "nested too deeply");
  EXPECT_ERROR(parse(std::string(1 << 20, '[')), ErrorCode::format, "nested too deeply");
}

TEST(JsonTest, RefusesTextBeyondTheLimit) {
  EXPECT_ERROR(parse_json("[1, 2]", "f", 0, {.bytes = 5}), ErrorCode::format, "too large");
  const test::TempFolder folder;
  const std::string file = folder.write("f", "123456");
  EXPECT_EQ(read_text_file(file), "123456");
  EXPECT_ERROR(read_text_file(file, 5), ErrorCode::format, "too large");
}

class JsonNodeTest : public testing::Test {
 protected:
  const Json json_ = parse(
      R"({"int": 7, "big": 18446744073709551615, "real": 1.5, "text": "t", "flag": true, "none": null,
          "list": [1, "two"], "deep": {"er": {"x": "y"}}})");
  const JsonNode root_{json_, "f.json"};
};

TEST_F(JsonNodeTest, GivesValuesOfTheRightType) {
  EXPECT_EQ(root_.at("int").integer(), 7);
  EXPECT_EQ(root_.at("int").number(), 7.0);
  EXPECT_EQ(root_.at("real").number(), 1.5);
  EXPECT_EQ(root_.at("text").string(), "t");
  EXPECT_TRUE(root_.at("flag").boolean());
  EXPECT_EQ(root_.at("list").size(), 2u);
  EXPECT_EQ(root_.at("list")[1].string(), "two");
  EXPECT_EQ(root_.at("deep").at("er").at("x").path(), "deep.er.x");
}

TEST_F(JsonNodeTest, TakesNullForAbsent) {
  EXPECT_FALSE(root_.find("none"));
  EXPECT_FALSE(root_.find("nothing"));
  EXPECT_TRUE(root_.find("int"));
  EXPECT_ERROR(root_.at("none"), ErrorCode::format, "f.json: 'none': missing");
  EXPECT_ERROR(root_.at("deep").at("er").at("z"), ErrorCode::format, "'deep.er.z': missing");
}

TEST_F(JsonNodeTest, NamesFileKeyAndBothTypesOfAWrongValue) {
  EXPECT_ERROR(root_.at("text").integer(), ErrorCode::format,
               "f.json: 'text': has the wrong type (expected an integer, found \"t\")");
  EXPECT_ERROR(root_.at("real").integer(), ErrorCode::format, "expected an integer, found 1.5");
  EXPECT_ERROR(root_.at("flag").integer(), ErrorCode::format, "expected an integer");
  EXPECT_ERROR(root_.at("text").number(), ErrorCode::format, "expected a number");
  EXPECT_ERROR(root_.at("int").boolean(), ErrorCode::format, "expected true or false");
  EXPECT_ERROR(root_.at("list").string(), ErrorCode::format, "expected a string, found array");
  EXPECT_ERROR(root_.at("text").size(), ErrorCode::format, "expected an array");
  EXPECT_ERROR(root_.at("text").find("x"), ErrorCode::format, "expected an object");
  EXPECT_ERROR(root_.at("list")[2], ErrorCode::format, "too few elements");
  EXPECT_ERROR(root_.at("list")[1].integer(), ErrorCode::format, "'list[1]'");
}

TEST_F(JsonNodeTest, HoldsIntegersToTheirRange) {
  EXPECT_EQ(root_.at("int").integer(7, 7), 7);
  EXPECT_ERROR(root_.at("int").integer(8), ErrorCode::format, "out of range");
  EXPECT_ERROR(root_.at("int").integer(0, 6), ErrorCode::format,
               "out of range (expected 0 to 6, found 7)");
  EXPECT_ERROR(root_.at("big").integer(), ErrorCode::format, "out of range");
}

}  // namespace
}  // namespace neap
