// What a rendering may cost: a template is a program from outside, and may not hang or fill the
// machine.
#pragma once

#include <cstddef>
#include <cstdint>

#include "model/chat_value.h"

namespace neap {

// Counted in units of about a nanosecond. What is made is paid for, too, so that the same number
// bounds the memory: a unit is a byte of text.
class ChatWork {
 public:
  static constexpr std::size_t kNode = 256;  // of the syntax, each time it is evaluated
  static constexpr std::size_t kItem = 64;   // of a list or mapping, copied or compared

  void spend(std::size_t units) {
    if (units > left_) chat_unsupported("rendering this long");
    left_ -= units;
  }
  void spend_items(std::size_t count) { spend(count * kItem); }

 private:
  std::uint64_t left_ = 3'000'000 * std::uint64_t{kNode};
};

}  // namespace neap
