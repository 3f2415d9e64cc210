#include "io/json_lines.h"

#include <gtest/gtest.h>

#include <vector>

#include "support/expect_error.h"

namespace neap {
namespace {

std::vector<std::int64_t> numbers_of(std::string_view text) {
  std::vector<std::int64_t> numbers;
  for_each_json_line(text, "f.jsonl", [&](const JsonNode& line) { numbers.push_back(line.at("n").integer()); });
  return numbers;
}

TEST(JsonLines, EachLineIsAValueAndBlankOnesAreNone) {
  const std::vector<std::int64_t> expected = {1, 2};
  EXPECT_EQ(numbers_of("{\"n\": 1}\r\n\n \t\n{\"n\": 2}"), expected);
  EXPECT_EQ(numbers_of("{\"n\": 1}\n{\"n\": 2}\n"), expected);
  EXPECT_TRUE(numbers_of("").empty());
}

TEST(JsonLines, ErrorsNameFileAndLineAndAreStrict) {
  EXPECT_ERROR(numbers_of("{\"n\": 1}\n\n{\"n\": true}"), ErrorCode::format, "f.jsonl: line 3: 'n'");
  EXPECT_ERROR(numbers_of("{\"n\": 1}\n[}"), ErrorCode::format, "f.jsonl: line 2: offset 10: not valid JSON");
  EXPECT_ERROR(numbers_of("{\"n\": 1, \"n\": 2}"), ErrorCode::format, "line 1: 'n': the same key");
  EXPECT_ERROR(numbers_of(std::string(65, '[') + std::string(65, ']')), ErrorCode::format, "line 1: JSON is nested");
}

}  // namespace
}  // namespace neap
