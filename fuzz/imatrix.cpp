// An importance matrix, of either form.
#include "io/imatrix.h"

#include <cmath>
#include <cstdint>
#include <span>

#include "neap/check.h"
#include "neap/error.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  try {
    const neap::ImportanceMatrix matrix = neap::parse_imatrix(std::as_bytes(std::span(data, size)), "fuzz");
    NEAP_CHECK(!matrix.entries.empty());
    for (const auto& [name, entry] : matrix.entries) {
      NEAP_CHECK(entry.count > 0 && !entry.sums.empty());
      for (const float sum : entry.sums) NEAP_CHECK(std::isfinite(sum) && sum >= 0);
    }
  } catch (const neap::Error&) {
  }
  return 0;
}
