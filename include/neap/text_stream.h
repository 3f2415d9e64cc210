// Token ids in, text out as it comes.
#pragma once

#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "neap/tokenizer.h"

namespace neap {

// Whole characters only, though tokens may cut one in two, and valid UTF-8 whatever the tokens say
// (U+FFFD for what is none). Ends before the one of some stop strings that is complete first (of several
// the longest), wherever in a token it begins and ends: what may yet become one is held back.
class TextStream {
 public:
  // The new text goes on from `before`, in which no stop string is looked for. Empty stop strings
  // count for nothing. Keeps a reference to the tokenizer.
  TextStream(const Tokenizer& tokenizer, std::span<const TokenId> before,
             std::vector<std::string> stops = {});

  // What can be shown now that `id` has come. Nothing once stopped.
  std::string add(TokenId id);
  // Whether a stop string has come.
  bool stopped() const { return stopped_; }
  // What was held back, when no more tokens come.
  std::string rest();

 private:
  // What the last id of window_ adds, byte by byte.
  std::string latest() const;
  // Appends whole characters to what is held back, and takes out what cannot belong to a stop string.
  std::string release(std::string_view text);

  const Tokenizer& tokenizer_;
  std::vector<TokenId> window_;  // the latest few ids: some tokenizers look at those before
  std::string bytes_;            // of a character that is not whole yet
  std::vector<std::string> stops_;
  std::string held_;
  bool stopped_ = false;
};

}  // namespace neap
