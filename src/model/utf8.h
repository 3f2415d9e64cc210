// UTF-8 as text arrives: made valid once, at the door, so that everything behind it may assume it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace neap {

// `text` itself if it is valid UTF-8, else a repaired copy in `storage`: every maximal ill-formed
// part (Unicode 15, section 3.9, table 3-8; what Python's errors="replace" and WHATWG do) becomes
// one U+FFFD.
std::string_view make_valid_utf8(std::string_view text, std::string& storage);

bool is_valid_utf8(std::string_view text);

struct CodePoint {
  char32_t value;
  std::size_t bytes;  // 1 .. 4
};

// The code point at text[at]. text: valid UTF-8, at: the first byte of a code point.
inline CodePoint code_point_at(std::string_view text, std::size_t at) {
  const auto byte = [&](std::size_t i) {
    return static_cast<char32_t>(static_cast<unsigned char>(text[at + i]));
  };
  const char32_t lead = byte(0);
  if (lead < 0x80) return {lead, 1};
  if (lead < 0xE0) return {(lead & 0x1F) << 6 | (byte(1) & 0x3F), 2};
  if (lead < 0xF0) return {(lead & 0x0F) << 12 | (byte(1) & 0x3F) << 6 | (byte(2) & 0x3F), 3};
  return {(lead & 0x07) << 18 | (byte(1) & 0x3F) << 12 | (byte(2) & 0x3F) << 6 | (byte(3) & 0x3F),
          4};
}

// The code point that ends at text[end - 1]; end > 0.
CodePoint code_point_before(std::string_view text, std::size_t end);

// value: not a surrogate, at most 0x10FFFF.
void append_utf8(std::string& text, char32_t value);

std::size_t count_code_points(std::string_view valid_text);

}  // namespace neap
