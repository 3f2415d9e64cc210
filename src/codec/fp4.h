// Weights in 4-bit floats and their arithmetic, which is that of compressed-tensors 0.19 in fp32: its
// calculate_qparams, generate_gparam, quantize and dequantize give the same numbers.
//
//   NVFP4   value = e2m1 * (scale / global_scale)     groups of 16, scale: E4M3
//   MXFP4   value = e2m1 * scale                      groups of 32, scale: E8M0
//
// The quotient is rounded to fp32, then the product is. What stands in files: codec/fp4_pack.h.
#pragma once

#include <cstdint>
#include <vector>

#include "codec/minifloat.h"
#include "neap/codec.h"
#include "neap/matrix.h"

namespace neap {

struct Fp4Tensor {
  Fp4Layout layout;
  std::int64_t rows = 0, cols = 0;   // the group divides cols
  std::vector<E2m1> codes;           // (rows, cols), never -0
  std::vector<std::uint8_t> scales;  // (rows, groups), usable (below)
  float global_scale = 1;            // usable; 1 for MXFP4

  bool operator==(const Fp4Tensor&) const = default;
};

// Whether no value under them is infinite: an E4M3 scale is neither negative nor NaN, an E8M0 scale at
// most 252; 6 * 448 / global_scale is finite and the quotient of no two of them 0.
bool usable_scale(const Fp4Layout& layout, std::uint8_t bits);
bool usable_global_scale(const Fp4Layout& layout, float global_scale);

// NEAP_CHECKs every promise of Fp4Tensor.
void check_invariants(const Fp4Tensor& tensor);

// NVFP4's: 1 / max_abs times 6 * 448, which takes the largest value to the largest number; 1 where that
// is infinite. (From 2^126 on, values saturate.) max_abs: finite, >= 0.
float global_scale_of_maximum(float max_abs);

// The scale of a group whose largest magnitude is max_abs. NVFP4: the E4M3 number nearest to
// global_scale (max_abs / 6), saturating, and 0.125 for one that rounds to 0. MXFP4: two binary orders
// below max_abs rounded to a power of two, up from 1.75 times the one below.
std::uint8_t fp4_scale_of_maximum(const Fp4Layout& layout, float max_abs, float global_scale);

// What a stored scale multiplies by.
float fp4_scale(const Fp4Layout& layout, std::uint8_t bits, float global_scale);

// Every value to the nearest E2M1 number (ties to even) under its group's scale of the maximum.
// weight: (rows, cols), finite. global_scale: 1 for MXFP4. Same result at any thread count.
Fp4Tensor round_to_fp4(MatrixView<const float> weight, const Fp4Layout& layout, float global_scale);

// Rows [first, first + count). out: (count, cols).
void dequantize(const Fp4Tensor& tensor, std::int64_t first, std::int64_t count, MatrixView<float> out);

// Bits that codes and group scales take in a file, per value: 4.5 and 4.25.
double bits_per_weight(const Fp4Layout& layout, std::int64_t rows, std::int64_t cols);

}  // namespace neap
