// How many operations (two per product) this processor's dot product instructions do when nothing
// else stands in the way: all operands in registers. AVX-512 alone.
#pragma once

#include <cstdint>

namespace neap {

// Operations done by `rounds` rounds on the calling thread. The caller keeps the time.
double run_int8_dot_products(std::int64_t rounds);  // vpdpbusd, Isa::avx512
double run_bf16_dot_products(std::int64_t rounds);  // vdpbf16ps, Isa::avx512bf16

}  // namespace neap
