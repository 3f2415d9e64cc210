// Levels of instructions. An operation that has kernels of several levels gives each a file of its
// own, compiled for that level alone, and chooses one outside of its loops; where it has none of a
// level, the next lower one is meant. The scalar kernel is the specification.
#pragma once

#include <span>
#include <string_view>

namespace neap {

enum class Isa {
  scalar,
  avx2,        // AVX2, FMA, F16C
  avx512,      // AVX-512 F, BW, DQ, VL, VBMI, VNNI: Ice Lake, Zen 4 and later
  avx512bf16,  // and BF16: Zen 4, Sapphire Rapids and later
};

// "scalar", "avx2", "avx512", "avx512bf16".
std::string_view name_of(Isa isa);
// Throws Error(argument) listing the names, or Error(unsupported) where processor or operating
// system cannot run that level.
Isa isa_from_name(std::string_view name);

// What processor and operating system can run, ascending; scalar always.
std::span<const Isa> supported_isas();

// The level that kernels use unless told otherwise: the highest supported one, or what the
// environment's NEAP_ISA names. Read once; throws as isa_from_name, at every call.
Isa default_isa();

}  // namespace neap
