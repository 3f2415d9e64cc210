// Which instructions kernels may use. Where arithmetic is integer, all levels give the same bits.
#pragma once

#include <string>
#include <vector>

namespace neap {

// The levels that processor and operating system can run, ascending, of "scalar", "avx2", "avx512" and "avx512bf16". The last
// one is used, or what the environment's NEAP_ISA names when the first kernel is chosen; Error(argument) or Error(unsupported) then,
// if it is none of these.
std::vector<std::string> supported_isa_names();

}  // namespace neap
