#include "neap/text_stream.h"

#include <gtest/gtest.h>

#include <random>

#include "model/utf8.h"

namespace neap {
namespace {

// One token a byte and, beside them, some of several bytes.
class TextStreamTest : public testing::Test {
 protected:
  // GPT-2's printable stand-in for a byte.
  static std::string symbol_of(unsigned byte) {
    const auto printable = [](unsigned b) {
      return (b >= 0x21 && b <= 0x7E) || (b >= 0xA1 && b <= 0xAC) || b >= 0xAE;
    };
    unsigned value = byte;
    if (!printable(byte)) {
      value = 0x100;
      for (unsigned b = 0; b < byte; ++b) value += printable(b) ? 0 : 1;
    }
    std::string symbol;
    append_utf8(symbol, value);
    return symbol == "\"" || symbol == "\\" ? "\\" + symbol : symbol;
  }

  static Tokenizer byte_tokenizer() {
    std::string vocabulary;
    const auto add = [&](const std::string& token, std::size_t id) {
      vocabulary += (vocabulary.empty() ? "\"" : ",\"") + token + "\":" + std::to_string(id);
    };
    for (unsigned byte = 0; byte < 256; ++byte) add(symbol_of(byte), byte);
    add("END\u0120of", 256);  // U+0120 stands for a space
    add("\u0120text", 257);
    const std::string level =
        R"({"type":"ByteLevel","add_prefix_space":false,"trim_offsets":true,"use_regex":true})";
    return Tokenizer::from_json(
        R"({"version":"1.0","added_tokens":[],"normalizer":null,"pre_tokenizer":)" + level +
            R"(,"post_processor":null,"decoder":)" + level +
            R"(,"model":{"type":"BPE","merges":[],"vocab":{)" + vocabulary + "}}}",
        "test");
  }

  static std::vector<TokenId> bytes_of(std::string_view text) {
    std::vector<TokenId> ids;
    for (const char c : text) ids.push_back(static_cast<unsigned char>(c));
    return ids;
  }

  // Pieces as they come, the rest last; each must be valid by itself.
  std::vector<std::string> pieces(std::span<const TokenId> ids, std::vector<std::string> stops = {}) {
    TextStream stream(tokenizer_, {}, std::move(stops));
    std::vector<std::string> shown;
    for (const TokenId id : ids) shown.push_back(stream.add(id));
    shown.push_back(stream.rest());
    stopped_ = stream.stopped();
    for (const std::string& piece : shown) EXPECT_TRUE(is_valid_utf8(piece));
    return shown;
  }
  std::string text(std::span<const TokenId> ids, std::vector<std::string> stops = {}) {
    std::string all;
    for (const std::string& piece : pieces(ids, std::move(stops))) all += piece;
    return all;
  }

  Tokenizer tokenizer_ = byte_tokenizer();
  bool stopped_ = false;
};

TEST_F(TextStreamTest, ShowsACharacterWhenItIsWhole) {
  const auto shown = pieces(bytes_of("a\u00e9\u20ac\U0001F600"));
  EXPECT_EQ(shown, (std::vector<std::string>{"a", "", "\u00e9", "", "", "\u20ac", "", "", "",
                                             "\U0001F600", ""}));
}

TEST_F(TextStreamTest, ACutCharacterIsReplacedAtTheEnd) {
  EXPECT_EQ(text(bytes_of("a\xE2\x82")), "a\uFFFD");
  EXPECT_EQ(text(bytes_of("\xF0\x9F")), "\uFFFD");
}

TEST_F(TextStreamTest, AnyBytesGiveValidTextAndLoseNothingThatIsValid) {
  std::mt19937 random(1);
  for (int round = 0; round < 300; ++round) {
    std::string bytes;
    for (int i = 0; i < 40; ++i) {
      const char* kParts[] = {"\xE2", "\x82", "\xAC", "a", "\xF0\x9F\x98\x80", "\xFF", "\u00e9", "END"};
      bytes += kParts[random() % 8];
    }
    std::string storage;
    EXPECT_EQ(text(bytes_of(bytes)), make_valid_utf8(bytes, storage));
  }
}

TEST_F(TextStreamTest, StopsWhereverTheStringBeginsAndEnds) {
  const std::vector<std::string> stops = {"STOP", "END of text"};
  EXPECT_EQ(text(bytes_of("one STOP two"), stops), "one ");
  EXPECT_TRUE(stopped_);
  EXPECT_EQ(text(std::vector<TokenId>{'x', 256, 257, 'y'}, stops), "x");
  EXPECT_TRUE(stopped_);
  EXPECT_EQ(text(bytes_of("STSTOP"), stops), "ST");
  EXPECT_EQ(text(bytes_of("STSTO"), stops), "STSTO");
  EXPECT_FALSE(stopped_);
  EXPECT_EQ(text(std::vector<TokenId>{256, ' ', 't'}, stops), "END of t");
  EXPECT_FALSE(stopped_);
}

TEST_F(TextStreamTest, TheFirstOfSeveralStopsCounts) {
  EXPECT_EQ(text(std::vector<TokenId>{'a', 256}, {"of", "ND"}), "aE");
  EXPECT_EQ(text(bytes_of("xaby"), {"b", "ab"}), "x");
  EXPECT_EQ(text(bytes_of("xabc"), {"xabc", "ab"}), "x");
}

TEST_F(TextStreamTest, HoldsBackNoMoreThanItMust) {
  const auto shown = pieces(bytes_of("aSTbST"), {"STOP"});
  EXPECT_EQ(shown, (std::vector<std::string>{"a", "", "", "STb", "", "", "ST"}));
}

// Against a search in the whole text.
TEST_F(TextStreamTest, EqualsASearchForAnyTextAndStops) {
  std::mt19937 random(2);
  const auto letters = [&](std::size_t count) {
    std::string result;
    for (std::size_t i = 0; i < count; ++i) result += "ab\u00e9"[random() % 2];
    return result;
  };
  for (int round = 0; round < 2000; ++round) {
    const std::string whole = letters(1 + random() % 20);
    const std::vector<std::string> stops = {letters(1 + random() % 5), letters(1 + random() % 5)};
    std::string expected = whole;
    for (std::size_t length = whole.size(); length > 0; --length) {
      for (const std::string& stop : {stops[0], stops[1]}) {
        if (!whole.substr(0, length).ends_with(stop)) continue;
        const std::size_t begin = length - stop.size();
        // The first to be complete, and of two that end together the longer one.
        const bool together = whole.substr(0, length).ends_with(stops[0]) &&
                              whole.substr(0, length).ends_with(stops[1]);
        const std::size_t other = length - std::max(stops[0].size(), stops[1].size());
        expected = whole.substr(0, together ? other : begin);
      }
    }
    EXPECT_EQ(text(bytes_of(whole), stops), expected);
    EXPECT_EQ(stopped_, expected != whole);
  }
}

TEST_F(TextStreamTest, EmptyStopsCountForNothing) { EXPECT_EQ(text(bytes_of("ab"), {""}), "ab"); }

}  // namespace
}  // namespace neap
