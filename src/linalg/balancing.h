// One change of basis that makes two quadratic forms equal, as balanced truncation has it (Moore 1981).
#pragma once

#include "neap/matrix.h"

namespace neap {

struct BasisChange {
  Matrix<double> forward, backward;  // T and T^-1, (n, n) each
};

// T such that T C T' = T^-T G T^-1 = a diagonal matrix, descending, where C is `c` and G is `g`, each with `ridge` times the
// mean of its diagonal added to that. For vectors x with second moments C that meet as G what multiplies them: Tx and its
// partner then have the same energy in every coordinate, and sum sqrt(C_jj G_jj) is as small as a basis can make it.
// c, g: (n, n) symmetric, positive semidefinite; ridge > 0. The identity where one of them is zero, or where rounding
// leaves no factorization. On the calling thread if that is inside of a parallel region, as LAPACK is then.
BasisChange balance_forms(MatrixView<const double> c, MatrixView<const double> g, double ridge);

}  // namespace neap
