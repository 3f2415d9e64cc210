#include "quantize/calibration_text.h"

#include <unistd.h>

namespace neap {

TokenWindows calibration_windows(const Checkpoint& checkpoint, const CalibrationOptions& text, const SelfWriting& writing) {
  const Tokenizer tokenizer = Tokenizer::open(checkpoint);
  if (!text.files.empty()) return read_windows(text.files, tokenizer, text.samples, text.length);
  const auto model = load_model(checkpoint, {writing.precision, memory_limit(writing.max_memory)});
  return write_windows(*model, tokenizer, SelfTextPart::calibration, text.samples > 0 ? text.samples : writing.windows, text.length,
                       text.seed, writing.progress);
}

std::uint64_t memory_limit(std::uint64_t asked) {
  if (asked > 0) return asked;
  return static_cast<std::uint64_t>(::sysconf(_SC_PHYS_PAGES)) * static_cast<std::uint64_t>(::sysconf(_SC_PAGE_SIZE)) / 2;
}

}  // namespace neap
