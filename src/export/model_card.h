// README.md beside an output: what it is, how it was made, who loads it and how, what was measured. In the form of
// the Hugging Face hub: YAML between fences, then Markdown.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "export/source_identity.h"
#include "neap/quantize.h"

namespace neap {

using CardRows = std::vector<std::pair<std::string, std::string>>;  // of a table: what, and its value

struct CardFacts {
  std::string output;     // the directory or file, as commands name it
  std::string gguf;       // the GGUF likewise, in its directory or alone; empty in other formats
  SourceIdentity source;  // a repository becomes base_model, of which this is the quantized form
  FileFormat format = FileFormat::compressed_tensors;
  std::string grid;                              // "4 bits, groups of 64, symmetric"
  std::vector<std::string> tags;                 // besides "neap" and the format's
  std::vector<QuantizeReport::Engine> engines;
  CardRows sizes, results, making;               // empty values are left out
  std::string command;                           // the line that made it; empty: not known
};

// Ends with a newline. Nothing is said that is not in `facts`.
std::string model_card(const CardFacts& facts);

// `output` without the folders before it, and the GGUF in it, of which `closed_path` is the name until it is committed.
void set_names(CardFacts& facts, const std::string& output, const std::string& closed_path);

// What verification measured.
CardRows verification_rows(const VerifyReport& report);

// "98.4 MB": powers of 1000.
std::string decimal_size(std::uint64_t bytes);
// `value` with as many decimals.
std::string decimal(double value, int decimals);

}  // namespace neap
