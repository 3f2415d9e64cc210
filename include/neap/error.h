// The one exception of Neap. Bad input (a file, an option, a tensor) throws Error; a broken invariant
// aborts (base/check.h); numerical trouble is a field of the result, never an exception.
#pragma once

#include <cstdint>
#include <optional>
#include <stdexcept>
#include <string>

namespace neap {

enum class ErrorCode {
  io,           // the operating system said no: missing, unreadable, disk full
  format,       // a file is not what its format says
  unsupported,  // valid, but nothing here can handle it
  argument,     // an option or a combination of options that makes no sense
  data,         // the numbers are unusable: NaN in an activation, too little calibration text
  cancelled,    // a progress callback asked to stop
};

// Where the trouble is and what it is. Empty fields are left out of the message.
struct ErrorContext {
  std::string file = {};
  std::string tensor = {};                        // or the JSON or metadata key
  std::optional<std::uint64_t> offset = {};  // bytes from the start of the file
  std::string expected = {};
  std::string found = {};
};

class Error : public std::runtime_error {
 public:
  // what() is one line:
  //   "model.safetensors: tensor 'a.weight': offset 123: <message> (expected X, found Y)".
  Error(ErrorCode code, const std::string& message, ErrorContext context = {});

  ErrorCode code() const { return code_; }
  const ErrorContext& context() const { return context_; }

 private:
  ErrorCode code_;
  ErrorContext context_;
};

}  // namespace neap
