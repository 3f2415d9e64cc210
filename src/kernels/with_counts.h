// From numbers known at run time to template arguments: body.template operator()<n>(). Static: every
// level's file has its own.
#pragma once

#include <cstddef>

namespace neap {

// bits: 2, 3, 4 or 8.
template <class Body>
static inline __attribute__((always_inline)) void with_bits(int bits, const Body& body) {
  switch (bits) {
    case 2:
      return body.template operator()<2>();
    case 3:
      return body.template operator()<3>();
    case 4:
      return body.template operator()<4>();
    default:
      return body.template operator()<8>();
  }
}

// tokens: 1 to 4.
template <class Body>
static inline __attribute__((always_inline)) void with_tokens(std::size_t tokens, const Body& body) {
  switch (tokens) {
    case 1:
      return body.template operator()<1>();
    case 2:
      return body.template operator()<2>();
    case 3:
      return body.template operator()<3>();
    default:
      return body.template operator()<4>();
  }
}

}  // namespace neap
