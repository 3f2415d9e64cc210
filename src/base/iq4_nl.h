// The sixteen points of GGUF's IQ4_NL (ggml-common.h), which reader, writer and solver share.
#pragma once

#include <array>
#include <cstdint>

namespace neap {

inline constexpr std::array<std::int8_t, 16> kIq4NlTable = {-127, -104, -83, -65, -49, -35, -22, -10,
                                                            1,    13,   25,  38,  53,  69,  89,  113};

}  // namespace neap
