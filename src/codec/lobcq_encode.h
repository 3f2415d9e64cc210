// Numbers to LO-BCQ's format by rounding: weights once, activations on the fly. The arithmetic is
// the format's (docs/formats/lobcq.md), so that every level of instructions gives the same bytes:
//
//   d = tensor_scale * scale                    signed, fp32, rounded once
//   n = rint(clamp(x * (64 / d), -4095, 4095))  one fp32 division per array; to nearest even
//   code: the entry nearest to n / 64           in integers; of equally near ones the lowest
//   selector: least sum of (n - 64 entry)^2     in integers; of equal ones the lowest
//
// An array in which every n is 0 is stored as an array of zeros.
#pragma once

#include <cstdint>
#include <span>

#include "codec/lobcq.h"
#include "codec/lobcq_array.h"

namespace neap {

// The smallest power of two (in [2^-60, 2^60]) for which max_abs is no larger than 31 * 448 times
// it; 1 for 0. With a power of two every product of the format is exact, and a decoded weight has
// at most 9 significant bits. headroom: powers of two above that, for maxima that were measured on
// other data.
float tensor_scale_for(float max_abs, int headroom = 0);

// Largest |x|. Throws Error(data) naming row and column of the first NaN or infinity.
float largest_magnitude(MatrixView<const float> values);

// The E4M3 number nearest to max |x| / (31 tensor_scale), saturating, and never 0 unless every x
// is. It has the sign of the x of largest magnitude (the first of equal ones), so that n is
// positive there: codebooks need not come in mirrored pairs to serve both tails.
E4m3 scale_of_maximum(std::span<const float> x, float tensor_scale);

// n of every x, as above. unit: d, not 0. points: as many as x.
void to_fixed_point(std::span<const float> x, float unit, std::int16_t* points);

class LobcqEncoder {
 public:
  // The codebooks must fit the layout (NEAP_CHECK). All levels give the same bytes.
  LobcqEncoder(const LobcqLayout& layout, const Codebooks& codebooks,
               Isa isa = default_isa());

  const LobcqLayout& layout() const { return layout_; }

  // values: (rows, cols), neither empty; tensor_scale in [2^-60, 2^60]. Throws Error(data) naming
  // row and column of a NaN or infinity. Same result at any thread count.
  LobcqTensor encode(MatrixView<const float> values, float tensor_scale, ScaleChoice choice) const;

  // The scale that encode would give this one array, before it finds that every n is 0. At most
  // block_array finite values.
  E4m3 choose_scale(std::span<const float> x, float tensor_scale, ScaleChoice choice) const;

  // What dequantize would give for encode's result, without keeping that. `out` may be `values`.
  void round(MatrixView<const float> values, float tensor_scale, ScaleChoice choice,
             MatrixView<float> out) const;

  // encode's result as what products are made of: the entries, and the arrays' scales without the
  // tensor's. entries: (rows, cols), scales: (rows, arrays); both 0 in arrays of zeros. Runs on the
  // calling thread.
  void entries(MatrixView<const float> values, float tensor_scale, ScaleChoice choice,
               MatrixView<std::int8_t> entries, MatrixView<float> scales) const;

 private:
  LobcqLayout layout_;
  LobcqTables tables_;
  const LobcqLevel& level_;
};

}  // namespace neap
