#include "io/names.h"

#include <algorithm>

namespace neap {
namespace {

constexpr std::size_t kMaxShown = 120;

bool is_control(char c) {
  const auto u = static_cast<unsigned char>(c);
  return u < 0x20 || u == 0x7f;
}

}  // namespace

bool is_plain_name(std::string_view name) {
  return !name.empty() && std::none_of(name.begin(), name.end(), is_control);
}

std::string printable(std::string_view text) {
  constexpr std::string_view kHex = "0123456789abcdef";
  std::string out;
  for (const char c : text.substr(0, kMaxShown)) {
    const auto u = static_cast<unsigned char>(c);
    if (u >= 0x20 && u < 0x7f) {
      out += c;
    } else {
      out += {'\\', 'x', kHex[u >> 4], kHex[u & 15]};
    }
  }
  return text.size() > kMaxShown ? out + "..." : out;
}

}  // namespace neap
