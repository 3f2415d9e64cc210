#include "base/isa.h"

#include <algorithm>
#include <array>
#include <cstdlib>
#include <string>
#include <vector>

#include "neap/check.h"
#include "neap/error.h"
#include "neap/isa.h"

namespace neap {
namespace {

constexpr std::array kAll = {Isa::scalar, Isa::avx2, Isa::avx512, Isa::avx512bf16};

// The compiler's run time asks CPUID for the instructions and XGETBV whether the operating system
// keeps their registers.
bool supports(Isa isa) {
#if defined(__x86_64__)
  switch (isa) {
    case Isa::scalar:
      return true;
    case Isa::avx2:
      // No processor has AVX2 without F16C, for which clang 14 cannot ask.
      return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
    case Isa::avx512:
      return supports(Isa::avx2) && __builtin_cpu_supports("avx512f") &&
             __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
             __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512vbmi") &&
             __builtin_cpu_supports("avx512vnni");
    case Isa::avx512bf16:
      return supports(Isa::avx512) && __builtin_cpu_supports("avx512bf16");
  }
#endif
  return isa == Isa::scalar;
}

std::string names_of(std::span<const Isa> isas) {
  std::string names;
  for (const Isa isa : isas) names.append(names.empty() ? "" : ", ").append(name_of(isa));
  return names;
}

}  // namespace

std::string_view name_of(Isa isa) {
  switch (isa) {
    case Isa::scalar:
      return "scalar";
    case Isa::avx2:
      return "avx2";
    case Isa::avx512:
      return "avx512";
    case Isa::avx512bf16:
      return "avx512bf16";
  }
  NEAP_CHECK(!"a level");
  return {};
}

Isa isa_from_name(std::string_view name) {
  const auto* found = std::ranges::find(kAll, name, [](Isa isa) { return name_of(isa); });
  if (found == kAll.end())
    throw Error(ErrorCode::argument, "no such level of instructions",
                {.expected = names_of(kAll), .found = std::string(name)});
  if (!supports(*found))
    throw Error(ErrorCode::unsupported, "this machine cannot run that level of instructions",
                {.expected = names_of(supported_isas()), .found = std::string(name)});
  return *found;
}

std::span<const Isa> supported_isas() {
  static const std::vector<Isa> kSupported = [] {
    std::vector<Isa> isas;
    std::ranges::copy_if(kAll, std::back_inserter(isas), supports);
    return isas;
  }();
  return kSupported;
}

Isa default_isa() {
  static const Isa kDefault = [] {
    const char* forced = std::getenv("NEAP_ISA");
    return forced ? isa_from_name(forced) : supported_isas().back();
  }();
  return kDefault;
}

std::vector<std::string> supported_isa_names() {
  std::vector<std::string> names;
  for (const Isa isa : supported_isas()) names.emplace_back(name_of(isa));
  return names;
}

}  // namespace neap
