#include "kernels/int8_inputs.h"

#include <algorithm>
#include <bit>
#include <string>

#include "base/multiversion.h"
#include "base/parallel.h"
#include "neap/error.h"

namespace neap {
namespace {

constexpr std::uint32_t kInfinity = 0x7f800000u;
constexpr float kLeast = 0x1p-100f;

// Bits of the largest magnitude; those of NaN are above infinity's.
NEAP_MULTIVERSION
std::uint32_t largest_bits(const float* x, std::size_t count) {
  std::uint32_t largest = 0;
  for (std::size_t i = 0; i < count; ++i)
    largest = std::max(largest, std::bit_cast<std::uint32_t>(x[i]) & 0x7fffffffu);
  return largest;
}

NEAP_MULTIVERSION
void round_block(const float* x, std::size_t count, float ratio, std::int8_t* q) {
  constexpr float kInteger = 0x1.8p23f;  // adding it leaves no room for a fraction: to nearest even
  for (std::size_t i = 0; i < count; ++i)
    q[i] =
        static_cast<std::int8_t>(static_cast<std::int32_t>((x[i] * ratio + kInteger) - kInteger));
}

// Returns d; false in *finite for a NaN or infinity.
float round_to_int8(const float* x, std::size_t count, std::int8_t* q, bool* finite) {
  const std::uint32_t bits = largest_bits(x, count);
  if (bits >= kInfinity) *finite = false;
  const auto largest = std::bit_cast<float>(bits);
  if (!(largest >= kLeast) || bits >= kInfinity) {
    std::fill(q, q + count, std::int8_t{0});
    return 0;
  }
  round_block(x, count, 127.0f / largest, q);
  return largest / 127.0f;
}

[[noreturn]] void refuse(MatrixView<const float> x, std::size_t token) {
  std::size_t c = 0;
  while (largest_bits(x.row(token) + c, 1) < kInfinity) ++c;
  throw Error(ErrorCode::data,
              "NaN or infinity in row " + std::to_string(token) + ", column " + std::to_string(c));
}

}  // namespace

IntegerTokens Int8Inputs::view(std::size_t first) const {
  const std::size_t stride = count_ * blocks_.block;
  return {reinterpret_cast<const std::int8_t*>(entries_.data()) + first * stride, stride,
          reinterpret_cast<const float*>(scales_.data()) + first * count_,
          reinterpret_cast<const std::int32_t*>(starts_.data()) + first * count_, nullptr};
}

void Int8Inputs::round(const Int8Blocks& blocks, MatrixView<const float> x, Isa isa) {
  blocks_ = blocks;
  tokens_ = x.rows;
  cols_ = x.cols;
  const std::size_t block = blocks.block, stride = (cols_ + block - 1) / block * block;
  count_ = stride / block;
  auto* entries = reinterpret_cast<std::int8_t*>(entries_.bytes(tokens_ * stride));
  auto* starts =
      reinterpret_cast<std::int32_t*>(starts_.bytes(tokens_ * count_ * sizeof(std::int32_t)));
  float* scales = scales_.floats(tokens_ * count_);
  constexpr std::size_t kRows = 16;
  parallel_for((tokens_ + kRows - 1) / kRows, [&](std::size_t tile) {
    for (std::size_t t = tile * kRows; t < std::min(tokens_, (tile + 1) * kRows); ++t) {
      std::int8_t* to = entries + t * stride;
      bool finite = true;
      for (std::size_t b = 0; b < count_; ++b) {
        const std::size_t first = b * block, count = std::min(block, cols_ - first);
        scales[t * count_ + b] = round_to_int8(x.row(t) + first, count, to + first, &finite);
      }
      if (!finite) refuse(x, t);
      std::fill(to + cols_, to + stride, std::int8_t{0});
      integer_kernels(isa).starts(to, count_, block, blocks_.offset, starts + t * count_);
    }
  });
}

}  // namespace neap
