// What was written and what verification found, in words.
#pragma once

#include <string>
#include <string_view>

#include "neap/verify.h"

namespace neap::cli {

// One result a line, names in a column: of `neap quantize`, `export` and `verify`.
std::string line(std::string_view name, const std::string& value);
std::string describe(const VerifyReport& report);

}  // namespace neap::cli
