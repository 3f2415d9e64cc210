// Options that several subcommands share, and the notations of numbers.
#pragma once

#include <CLI/CLI.hpp>
#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>

#include "console.h"
#include "neap/generate.h"
#include "neap/model.h"
#include "neap/runtime.h"

namespace neap::cli {

// Ranges of counts (CLI11's own have messages of 300 digits).
inline const CLI::Range kPositive{std::int64_t{1}, std::int64_t{1} << 40};
inline const CLI::Range kNotNegative{std::int64_t{0}, std::int64_t{1} << 40};

struct CommonOptions {
  int threads = 0, verbosity = 0;
  bool quiet = false, json = false;

  void apply(Console& console) const { console.set_level(quiet, verbosity); }
};

// --threads, -v, -q.
void add_quiet_options(CLI::App& command, CommonOptions& options);
// The same, and --json. `json` says what the JSON object holds.
void add_common(CLI::App& command, CommonOptions& options, const std::string& json);
// MODEL, with what it may be.
CLI::Option* add_model(CLI::App& command, std::string& model);
// --int8, --head and --embedding: how quantized layers and the matrices of the vocabulary run.
void add_kernels(CLI::App& command, PackedOptions& options);
// --activation-scales: how layers that read LO-BCQ encode it.
void add_activation_scales(CLI::App& command, ScaleChoice& scales);
// How layers run, for the JSON of a command: "int8_inputs", "head", "embedding", "activation_scales".
nlohmann::ordered_json kernels_json(const PackedOptions& kernels, ScaleChoice activation_scales);
CLI::Option* add_precision(CLI::App& command, Precision& precision);
// --temperature, --top-k, --top-p, --min-p, --repetition-penalty, --seed.
void add_sampling(CLI::App& command, SampleOptions& options);
CLI::Option* add_kv_cache(CLI::App& command, std::optional<KvType>& type);
// --base-model: for the model card.
CLI::Option* add_base_model(CLI::App& command, std::string& base_model);
CLI::Option* add_max_memory(CLI::App& command, std::uint64_t& bytes);
CLI::Option* add_max_shard_size(CLI::App& command, std::optional<std::uint64_t>& bytes);

// A file that is about to be written is none of those that were read: Error(argument). Empty names are passed over.
void require_not_read(const std::string& output, const std::vector<std::string>& inputs);

// "98.4 MB", "1.2 GB": powers of 1000, as disks and downloads are sold.
std::string size_text(std::uint64_t bytes);
// "134,515,008"
std::string count_text(std::int64_t count);

// Half of the machine's memory, in bytes.
std::uint64_t half_of_memory();

}  // namespace neap::cli
