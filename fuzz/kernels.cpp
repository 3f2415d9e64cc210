// Packed kernels: weights and activations of any layout, size and content. Judge: LO-BCQ's own
// multiply() for W4A4, the scalar level for activations of 8 bits and in bf16; every level has their
// bits.
//
// Input: layout | rows | cols | tokens, a byte each; then scales, selectors, codes and activations
// from the bytes that follow, over and over. The layout's highest bit: group integers, the one below
// it among those: 4-bit floats.
#include <algorithm>
#include <bit>
#include <cstdint>
#include <span>

#include "codec/group_int.h"
#include "kernels/bf16_matmul.h"
#include "kernels/fp4_matmul.h"
#include "kernels/group_matmul.h"
#include "kernels/lobcq_matmul.h"
#include "neap/check.h"

namespace {

constexpr std::size_t kHead = 4;

// The rest of the input, endlessly.
class Bytes {
 public:
  explicit Bytes(std::span<const std::uint8_t> bytes) : bytes_(bytes) {}
  std::uint8_t next() {
    const std::uint8_t byte = bytes_.empty() ? 0 : bytes_[at_ % bytes_.size()];
    // So that the same bytes say something else the next time.
    return static_cast<std::uint8_t>(byte + 37 * (at_++ / std::max<std::size_t>(1, bytes_.size())));
  }

 private:
  std::span<const std::uint8_t> bytes_;
  std::size_t at_ = 0;
};

neap::Codebooks make_codebooks(const neap::LobcqLayout& layout, Bytes& bytes) {
  neap::Codebooks books(static_cast<std::size_t>(layout.codebooks));
  for (neap::Codebook& book : books) {
    for (std::int8_t& entry : book) entry = static_cast<std::int8_t>(bytes.next() % 63 - 31);
    std::sort(book.begin(), book.end());
  }
  return books;
}

neap::LobcqTensor make_weights(const neap::LobcqLayout& layout, std::int64_t rows,
                               std::int64_t cols, Bytes& bytes) {
  neap::LobcqTensor tensor{.layout = layout,
                           .rows = rows,
                           .cols = cols,
                           .codes = {},
                           .selectors = {},
                           .scales = {},
                           .tensor_scale = 0.5f};
  for (std::int64_t i = 0; i < rows * layout.arrays(cols); ++i) {
    const std::uint8_t scale = bytes.next();
    tensor.scales.push_back(scale % 128 == 127 || scale == 128 ? 0 : scale);
  }
  const auto usable = [&](std::int64_t row, std::int64_t col) {
    const std::int64_t array = row * layout.arrays(cols) + col / layout.block_array;
    return tensor.scales[static_cast<std::size_t>(array)] != 0;
  };
  for (std::int64_t r = 0; r < rows; ++r) {
    for (std::int64_t b = 0; b < layout.blocks(cols); ++b) {
      const int selector = bytes.next() % layout.codebooks;
      tensor.selectors.push_back(
          static_cast<std::uint8_t>(usable(r, b * layout.block) ? selector : 0));
    }
    for (std::int64_t c = 0; c < cols; ++c)
      tensor.codes.push_back(static_cast<std::uint8_t>(usable(r, c) ? bytes.next() % 16 : 0));
  }
  neap::check_invariants(tensor);
  return tensor;
}

neap::QuantizedTensor make_groups(std::uint8_t layout, std::int64_t rows, std::int64_t cols,
                                  Bytes& bytes) {
  constexpr int kBits[] = {2, 3, 4, 8};
  constexpr std::int64_t kGroups[] = {0, 32, 64, 96, 128, 160, 192, 256};
  constexpr neap::DType kTypes[] = {neap::DType::bf16, neap::DType::f16, neap::DType::f32};
  const bool symmetric = layout >> 5 & 1;
  const neap::GroupLayout grid{kBits[layout & 3], kGroups[layout >> 2 & 7], symmetric,
                               kTypes[static_cast<std::size_t>(rows + cols) % 3]};
  neap::QuantizedTensor tensor{grid, rows, cols, {}, {}, {}};
  const auto code = [&] { return static_cast<std::uint8_t>(bytes.next() >> (8 - grid.bits)); };
  for (std::int64_t i = 0; i < rows * cols; ++i) tensor.codes.push_back(code());
  for (std::int64_t i = 0; i < rows * grid.groups(cols); ++i) {
    tensor.scales.push_back(static_cast<float>(1 + bytes.next()) / 64);
    if (!symmetric) tensor.zeros.push_back(code());
  }
  neap::check_invariants(tensor);
  return tensor;
}

neap::Fp4Tensor make_floats(std::uint8_t layout, std::int64_t rows, std::int64_t groups, Bytes& bytes) {
  const neap::Fp4Layout format{(layout & 1) != 0 ? neap::BlockScaled::nvfp4 : neap::BlockScaled::mxfp4};
  neap::Fp4Tensor tensor{.layout = format, .rows = rows, .cols = groups * format.group(), .codes = {}, .scales = {}};
  if (format.format == neap::BlockScaled::nvfp4)
    tensor.global_scale = static_cast<float>(1 + bytes.next()) / 16;
  for (std::int64_t i = 0; i < rows * tensor.cols; ++i) {
    const auto code = static_cast<neap::E2m1>(bytes.next() >> 4);
    tensor.codes.push_back(code == neap::kE2m1Sign ? neap::E2m1{0} : code);
  }
  for (std::int64_t i = 0; i < rows * groups; ++i) {
    const std::uint8_t scale = bytes.next();
    tensor.scales.push_back(neap::usable_scale(format, scale) ? scale : std::uint8_t{1});
  }
  neap::check_invariants(tensor);
  return tensor;
}

neap::Matrix<float> make_inputs(std::size_t tokens, std::size_t cols, Bytes& bytes) {
  neap::Matrix<float> x(tokens, cols);
  for (std::size_t i = 0; i < tokens * cols; ++i)
    x.data()[i] = static_cast<float>(static_cast<std::int8_t>(bytes.next())) *
                  static_cast<float>(bytes.next() % 16);
  return x;
}

void expect_equal(const neap::Matrix<float>& found, const neap::Matrix<float>& want) {
  for (std::size_t i = 0; i < want.rows() * want.cols(); ++i) {
    NEAP_CHECK(std::bit_cast<std::uint32_t>(found.data()[i]) ==
               std::bit_cast<std::uint32_t>(want.data()[i]));
  }
}

// Activations of 8 bits, and in bf16.
template <class Packed>
void compare_levels(const Packed& packed, const neap::Matrix<float>& x) {
  const neap::Matrix<float> none(x.rows(), packed.rows());
  neap::Matrix<float> int8 = none, bf16 = none, found = none;
  for (const neap::Isa isa : neap::supported_isas()) {
    const bool judge = isa == neap::Isa::scalar;
    neap::Int8Inputs rounded;
    rounded.round(packed.int8_blocks(), x, isa);
    neap::multiply(packed, rounded, {}, judge ? int8 : found, isa);
    if (!judge) expect_equal(found, int8);
    neap::Bf16Inputs halves;
    halves.round(packed.bf16_block(), x, isa);
    neap::multiply(packed, halves, {}, judge ? bf16 : found);
    if (!judge) expect_equal(found, bf16);
  }
}

void compare_w4a4(const neap::LobcqTensor& weights, const neap::Codebooks& books,
                  const neap::PackedLobcq& packed, const neap::Codebooks& input_books,
                  const neap::Matrix<float>& x) {
  neap::Matrix<float> want(x.rows(), packed.rows()), found(x.rows(), packed.rows());
  neap::multiply(neap::LobcqEncoder(weights.layout, input_books, neap::Isa::scalar)
                     .encode(x, 0.25f, neap::ScaleChoice::maximum),
                 input_books, weights, books, want);
  for (const neap::Isa isa : neap::supported_isas()) {
    neap::LobcqInputs inputs;
    inputs.encode(neap::LobcqEncoder(weights.layout, input_books, isa), 0.25f, x, isa);
    neap::multiply(packed, inputs, {}, found, isa);
    expect_equal(found, want);
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size < kHead) return 0;
  const std::int64_t rows = 1 + data[1] % 40, cols = 1 + data[2];
  const std::size_t tokens = 1 + data[3] % 16;
  Bytes bytes({data + kHead, size - kHead});
  if (data[0] >> 6 == 3) {
    const neap::PackedFp4 packed(make_floats(data[0], rows, 1 + data[2] % 16, bytes));
    compare_levels(packed, make_inputs(tokens, packed.cols(), bytes));
    return 0;
  }
  if (data[0] >> 7 != 0) {
    const neap::QuantizedTensor weights = make_groups(data[0], rows, cols, bytes);
    const neap::Matrix<float> x = make_inputs(tokens, static_cast<std::size_t>(cols), bytes);
    compare_levels(neap::PackedGroupInt(weights), x);
    return 0;
  }
  const neap::LobcqLayout layout{16 << (data[0] & 3), 2 << ((data[0] >> 2) % 3),
                                 2 << ((data[0] >> 4) & 3)};
  const neap::Codebooks books = make_codebooks(layout, bytes);
  const neap::Codebooks input_books = make_codebooks(layout, bytes);
  const neap::LobcqTensor weights = make_weights(layout, rows, cols, bytes);
  const neap::Matrix<float> x = make_inputs(tokens, static_cast<std::size_t>(cols), bytes);
  const neap::PackedLobcq packed(weights, books);
  compare_w4a4(weights, books, packed, input_books, x);
  compare_levels(packed, x);
  return 0;
}
