// UTF-8 repair, classes, splits and BPE, each against an independent judge.
#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <random>

#include "model/bpe.h"
#include "model/hostile_text.h"
#include "model/pretokenize.h"
#include "model/tokenizer_added.h"
#include "model/utf8.h"
#include "model/utf8_classes.h"
#include "neap/error.h"

namespace neap {
namespace {

std::string repaired(std::string_view text) {
  std::string storage;
  return std::string(make_valid_utf8(text, storage));
}

// What Python's bytes.decode("utf8", "replace") gives.
TEST(Utf8, EveryMaximalIllFormedPartBecomesOneReplacement) {
  const std::string r = "\uFFFD";
  const std::vector<std::pair<std::string, std::string>> cases = {
      {"plain", "plain"},
      {"\xC0\x80", r + r},
      {"\xE2\x82", r},
      {"\xE2\x82x", r + "x"},
      {"\xF0\x9F\x98", r},
      {"\xF0\x9F\x98\xF0\x9F\x98\x80", r + "\U0001F600"},
      {"\xED\xA0\x80", r + r + r},          // a surrogate
      {"\xF4\x90\x80\x80", r + r + r + r},  // beyond U+10FFFF
      {"\xF4\x8F\xBF\xBF", "\U0010FFFF"},
      {"\xE0\x9F\x80", r + r + r},  // overlong
      {"\xF0\x8F\x80\x80", r + r + r + r},
      {"\xC3(", r + "("},
      {"\xFE\xFF\x80z", r + r + r + "z"},
      {std::string("a\0b\xFF", 4), std::string("a\0b", 3) + r}};
  for (const auto& [bytes, text] : cases) {
    EXPECT_EQ(repaired(bytes), text);
    EXPECT_EQ(is_valid_utf8(bytes), bytes == text);
  }
}

TEST(Utf8, RepairOfAnyBytesIsValidAndKeepsWhatWasValid) {
  std::mt19937_64 random(1);
  for (int round = 0; round < 2000; ++round) {
    std::string bytes = hostile_text(random, 20);
    EXPECT_EQ(repaired(bytes), bytes);
    for (std::size_t n = random() % 4; n > 0 && !bytes.empty(); --n) {
      bytes[random() % bytes.size()] = static_cast<char>(random());
    }
    EXPECT_TRUE(is_valid_utf8(repaired(bytes)));
  }
}

TEST(Utf8, CodePointsGoOutAndComeBack) {
  for (char32_t c = 0; c < 0x110000; ++c) {
    if (c >= 0xD800 && c < 0xE000) continue;
    std::string text = "a";
    append_utf8(text, c);
    ASSERT_TRUE(is_valid_utf8(text));
    ASSERT_EQ(code_point_at(text, 1).value, c);
    ASSERT_EQ(code_point_before(text, text.size()).value, c);
    ASSERT_EQ(code_point_at(text, 1).bytes, text.size() - 1);
  }
}

std::vector<Span> matches_of(const Pattern& pattern, std::string_view text) {
  std::vector<Span> matches;
  pattern.find(text, matches);
  return matches;
}

// PCRE2 and utf8proc come with different versions of Unicode; ours are the same sets from both.
TEST(Classes, AgreeWithTheRegularExpressionsOnEveryCodePoint) {
  std::string all;  // each between bars, so that no match holds two
  for (char32_t c = 0; c < 0x110000; ++c) {
    if (c >= 0xD800 && c < 0xE000) continue;
    append_utf8(all, c);
    all += '|';
  }
  const auto matched = [&](const char* regex) {
    std::vector<char32_t> found;
    for (const Span& span : matches_of(*make_regex_pattern(regex, "", ""), all)) {
      found.push_back(code_point_at(all, span.begin).value);
    }
    return found;
  };
  const auto wanted = [](bool (*is)(char32_t)) {
    std::vector<char32_t> found;
    for (char32_t c = 0; c < 0x110000; ++c) {
      if ((c < 0xD800 || c >= 0xE000) && is(c)) found.push_back(c);
    }
    return found;
  };
  EXPECT_EQ(matched("\\p{L}"), wanted(is_letter));
  EXPECT_EQ(matched("\\p{N}"), wanted(is_number));
  EXPECT_EQ(matched("\\s"), wanted(is_space));
  EXPECT_EQ(matched("(?!\\S)[^|]"), wanted(is_space));
}

TEST(Split, ScannersCutAsTheirRegularExpressionsDo) {
  const std::pair<std::string_view, std::unique_ptr<Pattern>> scanners[] = {
      {kGpt2Regex, make_gpt2_pattern()},
      {kLlama3Regex, make_llama3_pattern(3)},
      {kQwen2Regex, make_llama3_pattern(1)}};
  std::mt19937_64 random(2);
  for (const auto& [regex, scanner] : scanners) {
    const auto judge = make_regex_pattern(std::string(regex), "", "");
    for (int round = 0; round < 20000; ++round) {
      const std::string text = hostile_text(random, 12);
      ASSERT_EQ(matches_of(*scanner, text), matches_of(*judge, text)) << regex << ": " << text;
    }
    std::string all;
    for (char32_t c = 0; c < 0x30000; ++c) {
      if (c < 0xD800 || c >= 0xE000) append_utf8(all, c);
    }
    ASSERT_EQ(matches_of(*scanner, all), matches_of(*judge, all));
  }
}

std::vector<std::string> parts_of(std::string_view text, const Pattern& pattern,
                                  SplitBehavior behavior, bool invert = false) {
  std::vector<Span> spans = {{0, text.size()}};
  split_spans(text, pattern, behavior, invert, spans);
  std::vector<std::string> parts;
  for (const Span& span : spans) parts.emplace_back(text.substr(span.begin, span.end - span.begin));
  return parts;
}

// The example of the `tokenizers` documentation.
TEST(Split, BehavioursAreThoseOfTheReference) {
  using Parts = std::vector<std::string>;
  const auto dash = make_literal_pattern("-");
  const std::string text = "The-final--countdown";
  EXPECT_EQ(parts_of(text, *dash, SplitBehavior::removed), (Parts{"The", "final", "countdown"}));
  EXPECT_EQ(parts_of(text, *dash, SplitBehavior::isolated),
            (Parts{"The", "-", "final", "-", "-", "countdown"}));
  EXPECT_EQ(parts_of(text, *dash, SplitBehavior::merged_with_previous),
            (Parts{"The-", "final-", "-", "countdown"}));
  EXPECT_EQ(parts_of(text, *dash, SplitBehavior::merged_with_next),
            (Parts{"The", "-final", "-", "-countdown"}));
  EXPECT_EQ(parts_of(text, *dash, SplitBehavior::contiguous),
            (Parts{"The", "-", "final", "--", "countdown"}));
  EXPECT_EQ(parts_of(text, *dash, SplitBehavior::removed, /*invert=*/true), (Parts{"-", "-", "-"}));
}

TEST(Split, ALongMatchWithBacktrackingDoesNotExhaustTheStack) {
  const std::string text(200'000, 'a');
  EXPECT_EQ(matches_of(*make_regex_pattern("(?:a|ab)+", "", ""), text),
            (std::vector<Span>{{0, text.size()}}));
}

TEST(Split, RefusesExpressionsThatTheTwoEnginesReadDifferently) {
  for (const char* regex :
       {"^a",         "a$",          "\\w+",      "\\ba",    "[[:alpha:]]", "[a-z&&[^b]]",
        "\\p{Alpha}", "\\p{^L}",     "\\pL",      "\\h",     "(?m:a.)",     "(?i)a",
        "(?i:st)",    "(?i:\u00E9)", "(?<n>a)",   "a{2}?",   "a{1,2}+",     "a{,2}",
        "a{x}",       "a**",         "[\\S]",     "[a",      "[]",          "\\x4",
        "a*",         "\\1",         "(a)\\k<1>", "[a-\\d]", "[\\d-z]",     "(*UCP)a"}) {
    try {
      make_regex_pattern(regex, "file", "place");
      ADD_FAILURE() << regex;
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::unsupported) << regex << ": " << error.what();
      EXPECT_EQ(error.context().tensor, "place");
    }
  }
  for (const char* regex : {"(a", "a)", "+a"}) {
    EXPECT_THROW(make_regex_pattern(regex, "", ""), Error) << regex;
  }
}

// A merge at a time: the least rank, then the leftmost, looked for anew.
std::vector<TokenId> naive_bpe(std::vector<TokenId> ids, const std::vector<Merge>& merges) {
  while (true) {
    std::size_t best = merges.size(), at = 0;
    for (std::size_t i = 0; i + 1 < ids.size(); ++i) {
      for (std::size_t rank = 0; rank < best; ++rank) {
        if (merges[rank].left == ids[i] && merges[rank].right == ids[i + 1]) best = rank, at = i;
      }
    }
    if (best == merges.size()) return ids;
    ids[at] = merges[best].result;
    ids.erase(ids.begin() + static_cast<std::ptrdiff_t>(at) + 1);
  }
}

struct RandomBpe {
  std::shared_ptr<Vocabulary> vocabulary = std::make_shared<Vocabulary>();
  std::vector<Merge> merges;

  // Over the letters "abc", which makes repeats and overlaps the rule.
  explicit RandomBpe(std::mt19937_64& random) {
    for (const char* letter : {"a", "b", "c"}) vocabulary->add(letter, vocabulary->size());
    for (int n = 0; n < 40; ++n) {
      const auto pick = [&] {
        return static_cast<TokenId>(random() % static_cast<unsigned>(vocabulary->size()));
      };
      const Merge merge{pick(), pick(), vocabulary->size()};
      const std::string text = vocabulary->text(merge.left) + vocabulary->text(merge.right);
      const bool there = std::any_of(merges.begin(), merges.end(), [&](const Merge& m) {
        return m.left == merge.left && m.right == merge.right;
      });
      if (there || text.size() > 12) continue;
      if (!vocabulary->find(text)) vocabulary->add(text, merge.result);
      merges.push_back({merge.left, merge.right, *vocabulary->find(text)});
    }
    std::shuffle(merges.begin(), merges.end(), random);
  }
};

TEST(Bpe, EqualsMergingOnePairAfterAnother) {
  std::mt19937_64 random(3);
  for (int round = 0; round < 300; ++round) {
    const RandomBpe setup(random);
    const Bpe bpe(setup.vocabulary, setup.merges, {});
    WordCache cache;
    for (std::size_t length :
         {0, 1, 2, 3, 7, 31, 32, 33, 34, 90}) {  // around the limit of the short way
      std::string word;
      std::vector<TokenId> letters;
      for (std::size_t i = 0; i < length; ++i) {
        letters.push_back(static_cast<TokenId>(random() % 3));
        word += static_cast<char>('a' + letters.back());
      }
      const std::vector<TokenId> expected = naive_bpe(letters, setup.merges);
      for (int again = 0; again < 2; ++again) {
        std::vector<TokenId> ids = {-7}, cached = {-7};  // appends
        bpe.encode(word, ids, nullptr);
        bpe.encode(word, cached, &cache);
        ASSERT_EQ(std::vector<TokenId>(ids.begin() + 1, ids.end()), expected) << word;
        ASSERT_EQ(cached, ids);
      }
    }
  }
}

TEST(Bpe, CacheGivesBackWhatWasPutIn) {
  std::mt19937_64 random(4);
  WordCache cache;
  std::map<std::string, std::vector<TokenId>> words;
  for (int n = 0; n < 20000; ++n) {
    std::string word = hostile_text(random, 4);
    if (word.empty() || words.count(word) != 0) continue;
    std::vector<TokenId> ids(1 + random() % 5, static_cast<TokenId>(random() % 1000));
    EXPECT_EQ(cache.find(word).ids, nullptr);
    cache.insert(word, ids);
    words[word] = ids;
  }
  for (const auto& [word, ids] : words) {
    const WordCache::Found found = cache.find(word);
    ASSERT_NE(found.ids, nullptr);
    EXPECT_EQ(std::vector<TokenId>(found.ids, found.ids + found.count), ids);
  }
}

TEST(Bpe, SeparableUnlessAMergeReachesAcrossWords) {
  auto vocabulary = std::make_shared<Vocabulary>();
  for (const char* text : {"\u2581", "a", "\u2581a", "a\u2581", "\u2581\u2581", "a\u2581a"}) {
    vocabulary->add(text, vocabulary->size());
  }
  const Merge inside{0, 1, 2}, run{0, 0, 4}, across{1, 0, 3}, across_words{1, 2, 5};
  EXPECT_TRUE(Bpe(vocabulary, {inside, run}, {}).separable());
  EXPECT_FALSE(Bpe(vocabulary, {inside, across}, {}).separable());
  EXPECT_FALSE(Bpe(vocabulary, {inside, across_words}, {}).separable());
}

TEST(AddedTokens, LeftmostThenLongest) {
  std::vector<std::pair<std::string, AddedToken>> tokens;
  for (const char* text : {"ab", "abcd", "bcde", "b", "<x>", "<x>y"}) {
    AddedToken token;
    token.id = static_cast<TokenId>(tokens.size());
    tokens.emplace_back(text, token);
  }
  const AddedTokenMatcher matcher(tokens);
  std::vector<AddedTokenMatcher::Piece> pieces;
  const auto ids = [&](std::string_view text) {
    matcher.split(text, pieces);
    std::vector<TokenId> found;
    std::size_t end = 0;
    for (const auto& piece : pieces) {
      EXPECT_EQ(piece.span.begin, end);  // nothing is lost
      end = piece.span.end;
      found.push_back(piece.id);
    }
    EXPECT_EQ(end, text.size());
    return found;
  };
  EXPECT_EQ(ids("abcde"), (std::vector<TokenId>{1, -1}));
  EXPECT_EQ(ids("abce"), (std::vector<TokenId>{0, -1}));
  EXPECT_EQ(ids("xbcdex"), (std::vector<TokenId>{-1, 2, -1}));
  EXPECT_EQ(ids("<x><x>y<x"), (std::vector<TokenId>{4, 5, -1}));
  EXPECT_EQ(ids(""), (std::vector<TokenId>{}));
}

}  // namespace
}  // namespace neap
