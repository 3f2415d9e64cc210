// Products over the rows of two matrices, C += A'B, in tiles of C: what second moments are made of.
#pragma once

#include <cstddef>

#include "base/half.h"
#include "neap/matrix.h"

namespace neap {

// Whether the CPU multiplies bf16 by itself; otherwise a bf16 product is slower than an fp32 one.
bool has_bf16_products();

// c += a' b. a: (rows, c.rows), b: (rows, c.cols). fp32 sums. Runs on the calling thread, inside a parallel
// region or not. The bits depend on the shapes alone.
void add_transposed_product(MatrixView<const float> a, MatrixView<const float> b,
                            MatrixView<float> c);
void add_transposed_product(MatrixView<const Bf16> a, MatrixView<const Bf16> b,
                            MatrixView<float> c);

}  // namespace neap
