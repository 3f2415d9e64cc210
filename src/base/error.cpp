#include "neap/error.h"

namespace neap {
namespace {

std::string one_line(const std::string& message, const ErrorContext& context) {
  std::string line;
  if (!context.file.empty()) line += context.file + ": ";
  if (!context.tensor.empty()) line += "'" + context.tensor + "': ";
  if (context.offset) line += "offset " + std::to_string(*context.offset) + ": ";
  line += message;
  if (!context.expected.empty() && !context.found.empty()) {
    line += " (expected " + context.expected + ", found " + context.found + ")";
  } else if (!context.expected.empty()) {
    line += " (expected " + context.expected + ")";
  } else if (!context.found.empty()) {
    line += " (found " + context.found + ")";
  }
  return line;
}

}  // namespace

Error::Error(ErrorCode code, const std::string& message, ErrorContext context)
    : std::runtime_error(one_line(message, context)), code_(code), context_(std::move(context)) {}

}  // namespace neap
