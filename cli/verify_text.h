// What verification found, in words.
#pragma once

#include <string>

#include "neap/verify.h"

namespace neap::cli {

// Lines of a name and a value, as `neap quantize` prints them.
std::string describe(const VerifyReport& report);

}  // namespace neap::cli
