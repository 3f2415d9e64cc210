// Cholesky factorization in fixed tiles: the same bits at any thread count.
#pragma once

#include <cstddef>

#include "neap/matrix.h"

namespace neap {

// A = R'R. Reads the upper triangle of `a` (n, n) and replaces it, diagonal included, by R; what lies
// below the diagonal is neither read nor written. Returns n, or the position of the first pivot that is not
// positive, the upper triangle then being unspecified. n^3 / 3 flops, parallel.
std::size_t cholesky_upper(MatrixView<float> a);

}  // namespace neap
