// Cholesky factorization and its triangular solves in fixed tiles: the same bits at any thread count.
#pragma once

#include <cstddef>

#include "neap/matrix.h"

namespace neap {

// A = R'R. Reads the upper triangle of `a` (n, n) and replaces it, diagonal included, by R; what lies
// below the diagonal is neither read nor written. Returns n, or the position of the first pivot that is not
// positive, the upper triangle then being unspecified. n^3 / 3 flops, parallel.
std::size_t cholesky_upper(MatrixView<float> a);

// x becomes N^-1 x, or N^-T x, where N (n, n) is unit upper triangular: only what lies above its diagonal is
// read. x: (n, columns), columns few. In blocks, so that the work is matrix products (OpenBLAS' own strsm
// reaches half their speed at such widths). On the calling thread.
void solve_unit_upper(MatrixView<const float> n, MatrixView<float> x);
void solve_unit_upper_transposed(MatrixView<const float> n, MatrixView<float> x);

}  // namespace neap
