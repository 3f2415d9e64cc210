// Added tokens: texts that are recognised in the input before anything else happens to it.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "model/pretokenize.h"
#include "neap/tokenizer.h"

namespace neap {

struct AddedToken {
  std::string content;
  TokenId id = 0;
  bool single_word = false;  // not inside a word
  bool left_strip = false;   // takes the white space before it
  bool right_strip = false;  // takes the white space after it
  bool normalized = true;    // looked for in normalized text, itself normalized
  bool special = false;
};

// Finds a set of added tokens in a text: leftmost first, the longest of those that begin there.
class AddedTokenMatcher {
 public:
  AddedTokenMatcher() = default;
  // Each token with the text to look for; empty texts never match.
  explicit AddedTokenMatcher(std::vector<std::pair<std::string, AddedToken>> tokens);

  bool empty() const { return tokens_.empty(); }

  struct Piece {
    static constexpr TokenId kText = -1;
    Span span;
    TokenId id = kText;
  };
  // Replaces `pieces` by text and tokens in turn; no piece of text is empty.
  void split(std::string_view text, std::vector<Piece>& pieces) const;

 private:
  // The longest token at text[at], or null.
  const std::pair<std::string, AddedToken>* longest_at(std::string_view text, std::size_t at) const;

  std::vector<std::pair<std::string, AddedToken>> tokens_;  // sorted by text
  std::vector<bool> first_bytes_ = std::vector<bool>(256);
};

}  // namespace neap
