// Token ids in, text out, never a part of a character: tokens may cut one in two.
#pragma once

#include <span>
#include <string>
#include <vector>

#include "neap/tokenizer.h"

namespace neap::cli {

// Length of the longest prefix of `text` that does not end inside a UTF-8 character.
std::size_t whole_characters(std::string_view text);

class Utf8Stream {
 public:
  // The new text goes on from `before`. Keeps a reference to the tokenizer.
  Utf8Stream(const Tokenizer& tokenizer, std::span<const TokenId> before);

  // What can be shown now that `id` has come; empty while a character is incomplete.
  std::string add(TokenId id);
  // What is left at the end, with U+FFFD for what never became a character.
  std::string rest();

 private:
  // Text after the first shown_ ids of window_.
  std::string pending() const;

  const Tokenizer& tokenizer_;
  std::vector<TokenId> window_;  // a few ids before what is pending: some tokenizers look at them
  std::size_t shown_;
};

}  // namespace neap::cli
