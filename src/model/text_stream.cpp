#include "neap/text_stream.h"

#include <algorithm>
#include <utility>

#include "model/utf8.h"

namespace neap {
namespace {

constexpr std::size_t kContext = 4;

// Length of `text` without a character at its end that further bytes may complete.
std::size_t whole_characters(std::string_view text) {
  for (std::size_t back = 1; back <= std::min<std::size_t>(3, text.size()); ++back) {
    const auto byte = static_cast<unsigned char>(text[text.size() - back]);
    if ((byte & 0xC0) == 0x80) continue;
    const std::size_t length = byte >= 0xF0 ? 4 : byte >= 0xE0 ? 3 : byte >= 0xC0 ? 2 : 1;
    return length > back ? text.size() - back : text.size();
  }
  return text.size();
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
      stops_(std::move(stops)) {
  std::erase_if(stops_, [](const std::string& stop) { return stop.empty(); });
}

std::string TextStream::latest() const {
  const std::string all = tokenizer_.decode(window_);
  const std::string before = tokenizer_.decode(std::span(window_).first(window_.size() - 1));
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
  bytes_ += latest();
  if (window_.size() > kContext) window_.erase(window_.begin());
  const std::size_t whole = whole_characters(bytes_);
  const std::string text = bytes_.substr(0, whole);
  bytes_.erase(0, whole);
  return release(text);
}

std::string TextStream::rest() {
  if (stopped_) return "";
  std::string result = release(bytes_);
  bytes_.clear();
  result += held_;
  held_.clear();
  return result;
}

}  // namespace neap
