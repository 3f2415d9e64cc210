// The model card of a quantized output.
#pragma once

#include <string>

#include "export/source_identity.h"
#include "neap/quantize.h"

namespace neap {

// From what is known at the end of a run; format: that of the output, closed_path: ModelOutput's.
std::string card_of(const QuantizeReport& report, const QuantizeOptions& options, FileFormat format, const SourceIdentity& source,
                    const std::string& closed_path);

}  // namespace neap
