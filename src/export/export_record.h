// What an export wrote, tensor by tensor, in the report beside the output: how `neap verify` knows later, without the
// source, that not a bit has changed.
#pragma once

#include <cstdint>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>

#include "neap/checkpoint.h"
#include "neap/verify.h"

namespace neap {

struct ExportRecord {
  std::map<std::string, std::uint64_t> tensors;  // XXH3-64 of each one's bytes
  std::uint64_t header = 0;                      // header_digest
  // Weights are not the source's, rounded: factors moved between the layers of a block (AWQ, balancing).
  bool moved_factors = false;

  nlohmann::ordered_json to_json() const;
  // The value of "written" in the report beside `output`, or nothing where there is no report or none of that kind.
  // Throws Error(format).
  static std::optional<ExportRecord> read(const Checkpoint& output);
};

// As verify() of neap/verify.h, for an output that has just been compared with what was written.
VerifyReport verify_written(const Checkpoint& output, const Checkpoint* source, const VerifyOptions& options, ExportRecord record);

// XXH3-64 of what says how the tensors are to be read: config.json, or all of a GGUF (its first file, if split)
// that stands before its tensors.
std::uint64_t header_digest(const Checkpoint& checkpoint);

// 16 hexadecimal digits.
std::string hex(std::uint64_t value);

}  // namespace neap
