#include "options.h"

#include <fmt/format.h>
#include <unistd.h>

#include <cctype>
#include <charconv>
#include <cstdlib>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <optional>
#include <string_view>
#include <vector>

#include "neap/error.h"
#include "neap/isa.h"

namespace neap::cli {
namespace {

// "512M", "1.5 GiB", "8000000000" as bytes, powers of 1024; empty if it is no size.
std::optional<std::uint64_t> parse_size(std::string text) {
  for (char& c : text) c = static_cast<char>(std::toupper(static_cast<unsigned char>(c)));
  double number = 0;
  const auto [stop, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error != std::errc() || !(number >= 0)) return std::nullopt;
  std::string unit = text.substr(static_cast<std::size_t>(stop - text.data()));
  unit.erase(0, unit.find_first_not_of(' '));
  constexpr std::string_view kUnits = "KMGT";
  double factor = 1;
  if (const auto place = unit.empty() ? std::string_view::npos : kUnits.find(unit[0]);
      place != std::string_view::npos) {
    for (std::size_t i = 0; i <= place; ++i) factor *= 1024;
    unit.erase(0, 1);
    if (unit.starts_with("I")) unit.erase(0, 1);
  }
  if (!unit.empty() && unit != "B") return std::nullopt;
  const double bytes = number * factor;
  if (bytes >= 0x1p63) return std::nullopt;
  return static_cast<std::uint64_t>(bytes);
}

template <class Bytes>
CLI::Option* add_size(CLI::App& command, const char* name, Bytes& bytes, const char* help) {
  const auto set = [&bytes, name](const std::string& text) {
    const auto size = parse_size(text);
    if (!size) throw CLI::ValidationError(name, "not a size: " + text);
    bytes = *size;
  };
  return command.add_option_function<std::string>(name, set, help)->type_name("SIZE");
}

// The environment is where the library looks, when it first chooses a kernel.
void add_isa(CLI::App& command) {
  const std::vector<std::string> here = supported_isa_names();
  std::string help = "instructions that kernels may use, of those that run here:\n";
  for (const std::string& name : here) help.append(name == here.front() ? "" : ", ").append(name);
  command
      .add_option_function<std::string>(
          "--isa", [](const std::string& name) { setenv("NEAP_ISA", name.c_str(), 1); },
          help)
      ->check(CLI::IsMember(here))
      ->type_name("LEVEL")
      ->default_str(here.back());
}

void add_vocabulary_weights(CLI::App& command, const char* name, VocabularyWeights& weights,
                            const char* help) {
  command
      .add_option_function<std::string>(
          name, [&weights](const std::string& kind) { weights = vocabulary_weights_from_name(kind); }, help)
      ->check(CLI::IsMember({"stored", "int8", "lobcq"}))
      ->type_name("KIND")
      ->default_str("stored");
}

}  // namespace

void add_quiet_options(CLI::App& command, CommonOptions& options) {
  add_isa(command);
  command.add_option("-t,--threads", options.threads, "threads to use; 0: all cores")
      ->envname("NEAP_THREADS")
      ->check(CLI::Range(0, 4096))
      ->type_name("T")
      ->capture_default_str();
  command.add_flag("-v,--verbose", options.verbosity, "say more; -vv: all there is to say");
  command.add_flag("-q,--quiet", options.quiet, "no progress; warnings, errors and the result only");
}

void add_common(CLI::App& command, CommonOptions& options, const std::string& json) {
  add_quiet_options(command, options);
  command.add_flag("--json", options.json, json);
}

CLI::Option* add_model(CLI::App& command, std::string& model) {
  return command
      .add_option("MODEL", model,
                  "a Hugging Face directory, a .gguf file, ORG/NAME[@REVISION] in the\n"
                  "local hub cache (nothing is downloaded), or an output of Neap")
      ->required()
      ->type_name("");
}

void add_kernels(CLI::App& command, PackedOptions& options) {
  command.add_flag("--int8", options.int8_inputs,
                   "round the inputs of quantized layers to 8 bits, a scale per group, and run\n"
                   "them in integers: fast. Without, they run on inputs in bf16, from packed\n"
                   "bytes too. LO-BCQ layers on LO-BCQ inputs are always in integers, which\n"
                   "costs no exactness");
  add_vocabulary_weights(command, "--head", options.head,
                         "weights of the head: stored, or rounded when loaded to int8 or lobcq\n"
                         "(4.5 bits), read from packed bytes on inputs of 8 bits");
  add_vocabulary_weights(command, "--embedding", options.embedding,
                         "rows of the embedding: as stored, or rounded when loaded to int8 or\n"
                         "lobcq. Tied to a head of the same kind it is one table with it\n");
}

void add_activation_scales(CLI::App& command, ScaleChoice& scales) {
  command
      .add_option_function<std::string>(
          "--activation-scales",
          [&scales](const std::string& name) { scales = scale_choice_from_name(name); },
          "of activations in LO-BCQ: maximum, from the largest value, in one pass, or\n"
          "search, by error: loses less, prompts take longer")
      ->check(CLI::IsMember({"maximum", "search"}))
      ->type_name("WAY")
      ->default_str("maximum");
}

nlohmann::ordered_json kernels_json(const PackedOptions& kernels, ScaleChoice activation_scales) {
  return {{"int8_inputs", kernels.int8_inputs},
          {"head", name_of(kernels.head)},
          {"embedding", name_of(kernels.embedding)},
          {"activation_scales", name_of(activation_scales)}};
}

CLI::Option* add_precision(CLI::App& command, Precision& precision) {
  return command
      .add_option_function<std::string>(
          "--precision",
          [&precision](const std::string& name) {
            precision = name == "f32" ? Precision::f32 : Precision::bf16;
          },
          "arithmetic of the matrix products: bf16 or f32 (slower)")
      ->check(CLI::IsMember({"bf16", "f32"}))
      ->type_name("P")
      ->default_str(precision == Precision::bf16 ? "bf16" : "f32");
}

void add_sampling(CLI::App& command, SampleOptions& options) {
  command.add_option("--temperature", options.temperature, "0: always the likeliest token")
      ->check(CLI::Range(0.0, 100.0))
      ->type_name("T")
      ->capture_default_str();
  command.add_option("--top-k", options.top_k, "draw from the K likeliest tokens; 0: all")
      ->check(kNotNegative)
      ->type_name("K")
      ->capture_default_str();
  command
      .add_option("--top-p", options.top_p,
                  "draw from the likeliest tokens that make up this probability")
      ->check(CLI::Range(0.0, 1.0))
      ->type_name("P")
      ->capture_default_str();
  command
      .add_option("--min-p", options.min_p,
                  "draw from tokens with this share of the likeliest's\nprobability")
      ->check(CLI::Range(0.0, 1.0))
      ->type_name("P")
      ->capture_default_str();
  command
      .add_option("--repetition-penalty", options.repetition_penalty,
                  "above 1: tokens that prompt or text hold become less likely")
      ->check(CLI::Range(0.01, 100.0))
      ->type_name("R")
      ->capture_default_str();
  command.add_option("--seed", options.seed, "of the random numbers")
      ->type_name("S")
      ->capture_default_str();
}

CLI::Option* add_kv_cache(CLI::App& command, std::optional<KvType>& type) {
  return command
      .add_option_function<std::string>(
          "--kv-cache", [&type](const std::string& name) { type = kv_type_from_name(name); },
          "what keys and values are kept in: f32, bf16 or int8 (half of the\nmemory of bf16)")
      ->check(CLI::IsMember({"f32", "bf16", "int8"}))
      ->type_name("TYPE")
      ->default_str("as --precision");
}

CLI::Option* add_base_model(CLI::App& command, std::string& base_model) {
  return command.add_option("--base-model", base_model, "ORG/NAME of the original on the Hugging Face hub, for the model card\n")
      ->type_name("ORG/NAME")
      ->default_str("what lies beside the model says");
}

CLI::Option* add_max_memory(CLI::App& command, std::uint64_t& bytes) {
  return add_size(command, "--max-memory", bytes,
                  "memory to plan for, such as 8G; what is larger is read anew when\n"
                  "its turn comes")
      ->default_str("half of the machine's");
}

CLI::Option* add_max_shard_size(CLI::App& command, std::optional<std::uint64_t>& bytes) {
  return add_size(command, "--max-shard-size", bytes,
                  "tensors' bytes in a file at most, such as 2G; what does not fit\n"
                  "goes to further files, numbered as the engines expect it\n")
      ->default_str("5G; a GGUF is one file");
}

void require_not_read(const std::string& output, const std::vector<std::string>& inputs) {
  for (const std::string& input : inputs) {
    std::error_code neither;
    if (output.empty() || input.empty() || !std::filesystem::equivalent(output, input, neither)) continue;
    throw Error(ErrorCode::argument, "would be written over what is read", {.file = output, .found = input});
  }
}

std::string size_text(std::uint64_t bytes) {
  const auto value = static_cast<double>(bytes);
  if (bytes < 1000) return fmt::format("{} B", bytes);
  if (bytes < 1000000) return fmt::format("{:.1f} kB", value / 1e3);
  if (bytes < 1000000000) return fmt::format("{:.1f} MB", value / 1e6);
  return fmt::format("{:.2f} GB", value / 1e9);
}

std::string count_text(std::int64_t count) {
  std::string digits = std::to_string(count);
  for (std::size_t i = digits.size(); i > 3 + (count < 0 ? 1u : 0u);) digits.insert(i -= 3, 1, ',');
  return digits;
}

std::uint64_t half_of_memory() {
  return static_cast<std::uint64_t>(sysconf(_SC_PHYS_PAGES)) *
         static_cast<std::uint64_t>(sysconf(_SC_PAGE_SIZE)) / 2;
}

}  // namespace neap::cli
