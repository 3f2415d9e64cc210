// Random text that tokenizers trip over, the same for the same seed.
#pragma once

#include <cstdint>
#include <random>
#include <string>
#include <vector>

#include "model/utf8.h"

namespace neap {

// Valid UTF-8 of up to `most` code points or short texts.
inline std::string hostile_text(std::mt19937_64& random, std::size_t most) {
  static const std::vector<std::string> parts = {" ",
                                                 "  ",
                                                 "\t",
                                                 "\n",
                                                 "\r",
                                                 "\r\n",
                                                 "\xC2\x85",
                                                 "\xC2\xA0",
                                                 "\u3000",
                                                 "\u2028",
                                                 "\u180E",
                                                 "'s",
                                                 "'S",
                                                 "'\u017F",
                                                 "'ll",
                                                 "'lL",
                                                 "'rE",
                                                 "'vex",
                                                 "'",
                                                 "\u2019s",
                                                 "a",
                                                 "Zz",
                                                 "\u00DF",
                                                 "e\u0301",
                                                 "\u0301",
                                                 "1",
                                                 "23",
                                                 "\u0663",
                                                 "\u00BD",
                                                 "\u2167",
                                                 "!",
                                                 "...",
                                                 "_",
                                                 "\u2581",
                                                 "\u20AC",
                                                 "\uFFFD",
                                                 "\U0001F600",
                                                 "\U0001F468\u200D\U0001F469",
                                                 "\u4E2D\u6587",
                                                 "\uAC00",
                                                 "\u1C89",
                                                 "\U00010D41",
                                                 "\U000323AF",
                                                 std::string(1, '\0')};
  const auto below = [&](std::uint64_t n) { return random() % n; };
  std::string text;
  for (std::size_t n = below(most + 1); n > 0; --n) {
    if (below(8) != 0) {
      text += parts[below(parts.size())];
      continue;
    }
    static constexpr char32_t kPlanes[] = {0x80, 0x800, 0x3000, 0x10000, 0x30000, 0x110000};
    const auto c = static_cast<char32_t>(below(kPlanes[below(6)]));
    append_utf8(text, c >= 0xD800 && c < 0xE000 ? U'\uFFFD' : c);
  }
  return text;
}

}  // namespace neap
