#include "utf8_stream.h"

#include <algorithm>

namespace neap::cli {
namespace {

constexpr std::size_t kContext = 4;
constexpr std::size_t kLongestPending = 8;  // ids; more than any character takes

}  // namespace

std::size_t whole_characters(std::string_view text) {
  for (std::size_t back = 1; back <= std::min<std::size_t>(3, text.size()); ++back) {
    const auto byte = static_cast<unsigned char>(text[text.size() - back]);
    if ((byte & 0xC0) == 0x80) continue;
    const std::size_t length = byte >= 0xF0 ? 4 : byte >= 0xE0 ? 3 : byte >= 0xC0 ? 2 : 1;
    return length > back ? text.size() - back : text.size();
  }
  return text.size();
}

Utf8Stream::Utf8Stream(const Tokenizer& tokenizer, std::span<const TokenId> before)
    : tokenizer_(tokenizer),
      window_(before.end() - static_cast<std::ptrdiff_t>(std::min(kContext, before.size())),
              before.end()),
      shown_(window_.size()) {}

std::string Utf8Stream::pending() const {
  const std::string all = tokenizer_.decode(window_);
  const std::string before = tokenizer_.decode(std::span(window_).first(shown_));
  return all.substr(std::min(before.size(), all.size()));
}

std::string Utf8Stream::add(TokenId id) {
  window_.push_back(id);
  const std::string text = pending();
  if (whole_characters(text) < text.size() && window_.size() - shown_ < kLongestPending) return "";
  const std::size_t drop = shown_ > kContext ? shown_ - kContext : 0;
  window_.erase(window_.begin(), window_.begin() + static_cast<std::ptrdiff_t>(drop));
  shown_ = window_.size();
  return text;
}

std::string Utf8Stream::rest() {
  const std::string text = pending();
  const std::size_t whole = whole_characters(text);
  shown_ = window_.size();
  return whole < text.size() ? text.substr(0, whole) + "\xEF\xBF\xBD" : text;
}

}  // namespace neap::cli
