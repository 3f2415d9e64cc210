#include "export/model_card.h"

#include <algorithm>
#include <array>
#include <cctype>
#include <cmath>
#include <cstdio>
#include <filesystem>

namespace neap {
namespace {

// A YAML scalar: quoted unless it can be nothing but a word.
std::string scalar(const std::string& text) {
  const bool plain = !text.empty() && std::isalpha(static_cast<unsigned char>(text[0])) && text.size() > 3 &&
                     std::all_of(text.begin(), text.end(), [](unsigned char c) { return std::isalnum(c) || c == '-' || c == '_' || c == '.' || c == '/'; });
  if (plain && text != "true" && text != "false" && text != "null") return text;
  std::string quoted = "\"";
  for (const char c : text) {
    if (c == '"' || c == '\\') quoted += '\\';
    quoted += c;
  }
  return quoted + "\"";
}

void put(std::string& yaml, const char* key, const std::string& value) {
  if (!value.empty()) yaml += std::string(key) + ": " + scalar(value) + "\n";
}

void put(std::string& yaml, const char* key, const std::vector<std::string>& values) {
  if (values.empty()) return;
  yaml += std::string(key) + ":\n";
  for (const std::string& value : values) yaml += "- " + scalar(value) + "\n";
}

// The hub's name of the library that loads the format first of all, and the format's tag.
struct FormatWords {
  const char *library, *tag;
};
FormatWords words_of(FileFormat format) {
  switch (format) {
    case FileFormat::compressed_tensors: return {"transformers", "compressed-tensors"};
    case FileFormat::gptq:
    case FileFormat::gptq_v2: return {"transformers", "gptq"};
    case FileFormat::gguf: return {"gguf", "gguf"};
    case FileFormat::neap: return {"neap", "lo-bcq"};
  }
  return {"", ""};
}

std::string front_matter(const CardFacts& facts) {
  const FormatWords words = words_of(facts.format);
  std::string yaml = "---\n";
  put(yaml, "base_model", facts.source.repository);
  if (!facts.source.repository.empty()) put(yaml, "base_model_relation", "quantized");
  put(yaml, "library_name", words.library);
  put(yaml, "license", facts.source.license);
  put(yaml, "license_name", facts.source.license_name);
  put(yaml, "license_link", facts.source.license_link);
  put(yaml, "language", facts.source.languages);
  put(yaml, "pipeline_tag", "text-generation");
  std::vector<std::string> tags = {"neap", words.tag};
  tags.insert(tags.end(), facts.tags.begin(), facts.tags.end());
  put(yaml, "tags", tags);
  return yaml + "---\n";
}

std::string code(const char* language, const std::string& text) { return std::string("```") + language + "\n" + text + "\n```\n"; }

// A word of a shell's command line.
std::string shell_word(const std::string& text) {
  const bool plain = !text.empty() && std::all_of(text.begin(), text.end(), [](unsigned char c) { return std::isalnum(c) || std::string_view("-_./=:,+@").find(static_cast<char>(c)) != std::string_view::npos; });
  if (plain) return text;
  std::string quoted = "'";
  for (const char c : text) quoted += c == '\'' ? std::string("'\\''") : std::string(1, c);
  return quoted + "'";
}

// How an engine that loads the output is told to; empty: nothing to say.
std::string loading(const std::string& engine, const CardFacts& facts) {
  const FileFormat format = facts.format;
  const std::string& output = facts.output;
  const std::string word = shell_word(output);
  if (engine == "Neap") return code("sh", "neap generate " + word + " -p \"Once upon a time\"");
  if (engine == "vLLM") return code("sh", "vllm serve " + word);
  if (engine == "SGLang") return code("sh", "python3 -m sglang.launch_server --model-path " + word);
  if (engine == "transformers") {
    const bool gptq = format == FileFormat::gptq || format == FileFormat::gptq_v2;
    return code("python", std::string("# pip install transformers accelerate ") + (gptq ? "optimum gptqmodel" : "compressed-tensors") +
                              "\nfrom transformers import AutoModelForCausalLM, AutoTokenizer\n\nmodel = AutoModelForCausalLM.from_pretrained(\"" + output +
                              "\")\ntokenizer = AutoTokenizer.from_pretrained(\"" + output + "\")");
  }
  if (!engine.starts_with("llama.cpp")) return {};
  if (format == FileFormat::gguf) return code("sh", "llama-cli -m " + shell_word(facts.gguf));
  return code("sh", "python3 convert_hf_to_gguf.py " + word + " --outfile model.gguf");
}

std::string table(const std::string& what, const CardRows& rows) {
  std::string text;
  for (const auto& [name, value] : rows) {
    if (!value.empty()) text += "| " + name + " | " + value + " |\n";
  }
  return text.empty() ? text : "| " + what + " | |\n|---|---|\n" + text;
}

std::string loading_section(const CardFacts& facts) {
  std::string text = "\n## How to load it\n";
  std::string others;
  for (const auto& engine : facts.engines) {
    if (!engine.loads) {
      others += "- " + engine.name + (engine.reason.empty() ? "" : ": " + engine.reason) + "\n";
      continue;
    }
    text += "\n**" + engine.name + "**" + (engine.reason.empty() ? "" : " (" + engine.reason + ")") + "\n\n" + loading(engine.name, facts);
  }
  return text + (others.empty() ? "" : "\nNot loaded by\n\n" + others);
}

}  // namespace

void set_names(CardFacts& facts, const std::string& output, const std::string& closed_path) {
  const std::filesystem::path path = std::filesystem::path(output).lexically_normal();
  facts.output = (path.has_filename() ? path.filename() : path.parent_path().filename()).string();
  if (facts.format != FileFormat::gguf) return;
  const std::string file = std::filesystem::path(closed_path).filename().string();
  facts.gguf = path.extension() == ".gguf" ? file : facts.output + "/" + file;
}

std::string decimal(double value, int decimals) {
  std::array<char, 64> text{};
  std::snprintf(text.data(), text.size(), "%.*f", decimals, value);
  return text.data();
}

std::string decimal_size(std::uint64_t bytes) {
  const auto value = static_cast<double>(bytes);
  if (bytes < 1000000) return decimal(value / 1e3, 1) + " kB";
  return bytes < 1000000000 ? decimal(value / 1e6, 1) + " MB" : decimal(value / 1e9, 2) + " GB";
}

CardRows verification_rows(const VerifyReport& report) {
  CardRows rows;
  if (const auto& d = report.divergence) {
    rows.emplace_back("KL divergence from the source, mean", decimal(d->kl.mean, 4) + " +/- " + decimal(d->kl.error, 4) + " nats");
    rows.emplace_back("same likeliest token", decimal(100 * d->same_top.mean, 1) + " %");
    rows.emplace_back("perplexity", decimal(report.perplexity, 2) + " (source: " + decimal(d->reference.value, 2) + ")");
  } else if (report.predicted > 0) {
    rows.emplace_back("perplexity", decimal(report.perplexity, 2));
  }
  if (report.predicted > 0) rows.emplace_back("on", std::to_string(report.predicted) + " tokens of a page of plain prose: a glance, no benchmark");
  for (const auto& kind : report.kinds) {
    rows.emplace_back("`" + kind.name + "`, \\|W^ - W\\| / \\|W\\|", decimal(100 * std::sqrt(kind.mean), 2) + " %, worst " +
                                                                       decimal(100 * std::sqrt(kind.worst.error), 2) + " % (`" + kind.worst.module + "`)");
  }
  return rows;
}

std::string model_card(const CardFacts& facts) {
  const std::string& name = facts.source.repository.empty() ? facts.source.name : facts.source.repository;
  const std::string linked = facts.source.repository.empty() ? "`" + name + "`" : "[" + name + "](https://huggingface.co/" + name + ")";
  std::string text = front_matter(facts) + "\n# " + facts.source.name + ", " + facts.grid + "\n\n" + linked + ", quantized by Neap to " + facts.grid + ".\n";
  if (facts.source.repository.empty()) {
    text += "Its place on the hub is not known to the files that it was made from: before publishing, add `base_model` and `base_model_relation: quantized` above.\n";
  }
  if (facts.source.license.empty()) text += "No licence is stated beside the source; the source's own applies.\n";
  text += '\n';
  text += table("what is in it", facts.sizes) + loading_section(facts);
  if (const std::string results = table("measured when it was made", facts.results); !results.empty()) text += "\n## What it costs\n\n" + results;
  text += "\n## How it was made\n\n";
  if (!facts.command.empty()) text += code("sh", facts.command) + "\n";
  return text + table("made", facts.making);
}

}  // namespace neap
