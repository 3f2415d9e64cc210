#include "model/tokenizer_added.h"

#include <algorithm>

#include "model/utf8.h"
#include "model/utf8_classes.h"

namespace neap {
namespace {

bool inside_word(std::string_view text, std::size_t begin, std::size_t end) {
  return (begin > 0 && is_word(code_point_before(text, begin).value)) ||
         (end < text.size() && is_word(code_point_at(text, end).value));
}

std::size_t skip_space_left(std::string_view text, std::size_t at) {
  while (at > 0) {
    const CodePoint c = code_point_before(text, at);
    if (!is_space(c.value)) break;
    at -= c.bytes;
  }
  return at;
}

std::size_t skip_space_right(std::string_view text, std::size_t at) {
  while (at < text.size()) {
    const CodePoint c = code_point_at(text, at);
    if (!is_space(c.value)) break;
    at += c.bytes;
  }
  return at;
}

}  // namespace

AddedTokenMatcher::AddedTokenMatcher(std::vector<std::pair<std::string, AddedToken>> tokens)
    : tokens_(std::move(tokens)) {
  std::erase_if(tokens_, [](const auto& token) { return token.first.empty(); });
  std::stable_sort(tokens_.begin(), tokens_.end(),
                   [](const auto& a, const auto& b) { return a.first < b.first; });
  for (const auto& token : tokens_) first_bytes_[static_cast<unsigned char>(token.first[0])] = true;
}

// Tokens that share the first n bytes with the text are neighbours: the range shrinks byte by byte,
// and where one of them ends, it stands first.
const std::pair<std::string, AddedToken>* AddedTokenMatcher::longest_at(std::string_view text,
                                                                        std::size_t at) const {
  const std::pair<std::string, AddedToken>* longest = nullptr;
  auto begin = tokens_.begin(), end = tokens_.end();
  for (std::size_t n = 0; at + n < text.size() && begin != end; ++n) {
    const auto byte = static_cast<unsigned char>(text[at + n]);
    const auto byte_of = [n](const auto& token) {
      return n < token.first.size() ? static_cast<unsigned char>(token.first[n]) : -1;
    };
    begin =
        std::partition_point(begin, end, [&](const auto& token) { return byte_of(token) < byte; });
    end =
        std::partition_point(begin, end, [&](const auto& token) { return byte_of(token) <= byte; });
    if (begin != end && begin->first.size() == n + 1) longest = &*begin;
  }
  return longest;
}

void AddedTokenMatcher::split(std::string_view text, std::vector<Piece>& pieces) const {
  pieces.clear();
  std::size_t done = 0;
  for (std::size_t at = 0; at < text.size() && !tokens_.empty();) {
    const auto* found =
        first_bytes_[static_cast<unsigned char>(text[at])] ? longest_at(text, at) : nullptr;
    if (found == nullptr) {
      ++at;
      continue;
    }
    const AddedToken& token = found->second;
    std::size_t begin = at, end = at + found->first.size();
    at = end;  // the search goes on behind the match even where it is not taken
    if (token.single_word && inside_word(text, begin, end)) continue;
    if (token.left_strip) begin = std::max(skip_space_left(text, begin), done);
    if (token.right_strip) end = skip_space_right(text, end);
    if (begin >= end) continue;  // the token before has stripped it away
    if (done < begin) pieces.push_back({{done, begin}, Piece::kText});
    pieces.push_back({{begin, end}, token.id});
    done = end;
  }
  if (done != text.size()) pieces.push_back({{done, text.size()}, Piece::kText});
}

}  // namespace neap
