#include <gtest/gtest.h>

#include <functional>

#include "neap/calibration.h"
#include "neap/error.h"
#include "support/byte_tokenizer.h"
#include "support/temp_folder.h"

namespace neap {
namespace {

using test::TempFolder;

TokenWindows read(const std::vector<std::string>& files, std::int64_t samples, std::int64_t length,
                  bool add_bos = true) {
  return read_windows(files, test::byte_tokenizer(add_bos), samples, length);
}

std::string message_of(const std::function<void()>& call) {
  try {
    call();
  } catch (const Error& e) {
    return e.what();
  }
  return "no error";
}

TEST(ReadWindows, DropsNoToken) {
  const TempFolder folder;
  const auto file = folder.write("a.txt", std::string(95, 'x'));
  const TokenWindows found = read({file}, 0, 10);
  EXPECT_EQ(found.windows.size(), 10u);  // 95 bytes and the start token
  EXPECT_EQ(found.windows.back().size(), 6u);
  EXPECT_EQ(found.tokens(), 96);
  EXPECT_EQ(found.sources.at(0).tokens, 96);
}

TEST(ReadWindows, PacksDocumentsOneAfterAnother) {
  const TempFolder folder;
  const auto file = folder.write("a.jsonl", "{\"text\": \"ab\"}\n\n{\"text\": \"c\"}\n");
  const TokenWindows found = read({file}, 0, 4);
  // <s> a b <s> | c: bytes follow the three special tokens.
  const std::vector<std::vector<TokenId>> expected = {{1, 3 + 'a', 3 + 'b', 1}, {3 + 'c'}};
  EXPECT_EQ(found.windows, expected);
}

TEST(ReadWindows, TakesIdsAsWindowsOfTheirOwn) {
  const TempFolder folder;
  const auto file = folder.write("a.jsonl", "{\"ids\": [5, 6, 7]}\n{\"ids\": [8]}\n");
  const std::vector<std::vector<TokenId>> expected = {{5, 6, 7}, {8}};
  EXPECT_EQ(read({file}, 0, 2).windows, expected);
}

TEST(ReadWindows, GivesBackWhatWasSaved) {
  const TempFolder folder;
  TokenWindows windows;
  windows.windows = {{1, 2, 3}, {4, 5}};
  save_windows(windows, folder / "saved.jsonl");
  EXPECT_EQ(read({folder / "saved.jsonl"}, 0, 100).windows, windows.windows);
}

TEST(ReadWindows, TakesAsManyWindowsAsAskedFor) {
  const TempFolder folder;
  const auto file = folder.write("a.txt", std::string(95, 'x'));
  EXPECT_EQ(read({file}, 9, 10).windows.size(), 9u);
}

TEST(ReadWindows, TooLittleTextIsAnErrorThatCounts) {
  const TempFolder folder;
  const auto file = folder.write("a.txt", std::string(95, 'x'));
  // Ten windows would count the last one, which is short.
  EXPECT_NE(message_of([&] { read({file}, 10, 10); }).find("found 96 tokens"), std::string::npos);
  const auto empty = folder.write("b.txt", "");
  EXPECT_THROW(read({empty}, 0, 10, /*add_bos=*/false), Error);
}

TEST(ReadWindows, AWrongLineIsAnErrorThatNamesFileAndLine) {
  const TempFolder folder;
  for (const char* line : {"not json", "[1]", "{\"words\": 1}", "{\"text\": 3}", "{\"ids\": [1, 259]}",
                           "{\"ids\": []}", "{\"messages\": [{\"role\": \"user\"}]}", "{\"messages\": []}",
                           "{\"text\": \"a\", \"text\": \"b\"}", "{\"ids\": [1]}\\0"}) {
    std::string second = line;
    if (const auto nul = second.find("\\0"); nul != second.npos) second.replace(nul, 2, 1, '\0');
    const auto file = folder.write("a.jsonl", "{\"text\": \"fine\"}\n" + second + "\n");
    const std::string message = message_of([&] { read({file}, 0, 10); });
    EXPECT_NE(message.find("a.jsonl"), std::string::npos) << message;
    EXPECT_NE(message.find("line 2"), std::string::npos) << message;
  }
}

TEST(ReadWindows, ALineNestedDeeplyIsAnErrorThatNamesIt) {
  const TempFolder folder;
  const auto file = folder.write(
      "a.jsonl", "{\"ids\": " + std::string(400'000, '[') + std::string(400'000, ']') + "}\n");
  const std::string message = message_of([&] { read({file}, 0, 10); });
  EXPECT_NE(message.find("a.jsonl: line 1: JSON is nested too deeply"), std::string::npos) << message;
}

TEST(ReadWindows, AMissingFileIsAnErrorThatNamesIt) {
  EXPECT_NE(message_of([] { read({"/no/such/file"}, 0, 10); }).find("/no/such/file"), std::string::npos);
}

}  // namespace
}  // namespace neap
