#include "neap/text_stream.h"

#include <algorithm>
#include <utility>

#include "model/utf8.h"

namespace neap {
namespace {

constexpr std::size_t kContext = 4;
constexpr std::size_t kLongestPending = 8;  // ids; more than any character takes

// Whether `text` ends inside a character that further bytes may complete.
bool ends_inside_a_character(std::string_view text) {
  for (std::size_t back = 1; back <= std::min<std::size_t>(3, text.size()); ++back) {
    const auto byte = static_cast<unsigned char>(text[text.size() - back]);
    if ((byte & 0xC0) == 0x80) continue;
    const std::size_t length = byte >= 0xF0 ? 4 : byte >= 0xE0 ? 3 : byte >= 0xC0 ? 2 : 1;
    return length > back;
  }
  return false;
}

// Length of the longest end of `text` that `stop` begins with, all of `stop` excepted.
std::size_t overlap(std::string_view text, std::string_view stop) {
  std::size_t length = std::min(text.size(), stop.size() - 1);
  while (!text.ends_with(stop.substr(0, length))) --length;
  return length;
}

}  // namespace

TextStream::TextStream(const Tokenizer& tokenizer, std::span<const TokenId> before,
                       std::vector<std::string> stops)
    : tokenizer_(tokenizer),
      window_(before.end() - static_cast<std::ptrdiff_t>(std::min(kContext, before.size())),
              before.end()),
      shown_(window_.size()),
      stops_(std::move(stops)) {
  std::erase_if(stops_, [](const std::string& stop) { return stop.empty(); });
}

std::string TextStream::pending() const {
  const std::string all = tokenizer_.decode(window_);
  const std::string before = tokenizer_.decode(std::span(window_).first(shown_));
  return all.substr(std::min(before.size(), all.size()));
}

std::string TextStream::release(std::string_view text) {
  std::string storage;
  held_ += make_valid_utf8(text, storage);
  std::size_t complete = held_.npos, begin = 0, kept = 0;
  for (const std::string& stop : stops_) {
    kept = std::max(kept, overlap(held_, stop));
    const std::size_t at = held_.find(stop);
    if (at == held_.npos || std::pair(complete, begin) < std::pair(at + stop.size(), at)) continue;
    complete = at + stop.size();
    begin = at;
  }
  stopped_ = complete != held_.npos;
  const std::size_t shown = stopped_ ? begin : held_.size() - kept;
  std::string result = held_.substr(0, shown);
  held_.erase(0, stopped_ ? held_.size() : shown);
  return result;
}

std::string TextStream::add(TokenId id) {
  if (stopped_) return "";
  window_.push_back(id);
  const std::string text = pending();
  if (ends_inside_a_character(text) && window_.size() - shown_ < kLongestPending) return "";
  const std::size_t drop = shown_ > kContext ? shown_ - kContext : 0;
  window_.erase(window_.begin(), window_.begin() + static_cast<std::ptrdiff_t>(drop));
  shown_ = window_.size();
  return release(text);
}

std::string TextStream::rest() {
  if (stopped_) return "";
  const std::string text = pending();
  shown_ = window_.size();
  std::string result = release(text);
  result += held_;
  held_.clear();
  return result;
}

}  // namespace neap
