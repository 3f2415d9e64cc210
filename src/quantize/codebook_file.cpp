// Codebooks as a JSON file.
#include <algorithm>
#include <array>
#include <string_view>

#include "io/json.h"
#include "io/writer.h"
#include "neap/codebooks.h"

namespace neap {
namespace {

constexpr std::string_view kFormat = "neap-codebooks";
constexpr char kFormatText[] = "\"neap-codebooks\"";
constexpr std::int64_t kVersion = 1;
constexpr std::array<std::string_view, 7> kKeys = {
    "format", "version", "block_array", "block", "num_codebooks", "weights", "activations"};
constexpr std::uint64_t kMaxBytes = 1 << 20;

Codebook read_codebook(const JsonNode& node) {
  if (node.size() != kCodebookEntries) node.fail("wrong number of entries", "16");
  Codebook codebook{};
  for (std::size_t i = 0; i < codebook.size(); ++i) {
    codebook[i] = static_cast<std::int8_t>(node[i].integer(-kLargestEntry, kLargestEntry));
    if (i > 0 && codebook[i] < codebook[i - 1])
      node[i].fail("smaller than the entry before it", "ascending entries");
  }
  return codebook;
}

Codebooks read_side(const JsonNode& node, int count) {
  if (node.size() != static_cast<std::size_t>(count))
    node.fail("wrong number of codebooks", std::to_string(count));
  Codebooks codebooks;
  for (std::size_t c = 0; c < node.size(); ++c) codebooks.push_back(read_codebook(node[c]));
  return codebooks;
}

int read_size(const JsonNode& root, std::string_view key, std::initializer_list<int> allowed) {
  const JsonNode node = root.at(key);
  const auto value = static_cast<int>(node.integer(0, 1 << 20));
  std::string list;
  for (const int a : allowed) {
    if (value == a) return value;
    list += list.empty() ? "" : ", ";
    list += std::to_string(a);
  }
  node.fail("not a size that the format has", "one of " + list);
}

std::string rows_text(const Codebooks& codebooks) {
  std::string text = "[";
  for (std::size_t c = 0; c < codebooks.size(); ++c) {
    text += c == 0 ? "\n    [" : ",\n    [";
    for (std::size_t i = 0; i < codebooks[c].size(); ++i) {
      text += i == 0 ? "" : ", ";
      text += std::to_string(codebooks[c][i]);
    }
    text += "]";
  }
  return text + "\n  ]";
}

}  // namespace

std::string to_json(const CodebookSet& set) {
  std::string text = "{\n";
  const auto line = [&](std::string_view key, const std::string& value) {
    text += text.size() > 2 ? ",\n  \"" : "  \"";
    text += key;
    text += "\": ";
    text += value;
  };
  line("format", kFormatText);
  line("version", std::to_string(kVersion));
  line("block_array", std::to_string(set.layout.block_array));
  line("block", std::to_string(set.layout.block));
  line("num_codebooks", std::to_string(set.layout.codebooks));
  line("weights", rows_text(set.weights));
  line("activations", rows_text(set.activations));
  return text + "\n}\n";
}

void save_codebooks(const CodebookSet& set, const std::string& path) {
  write_file_atomically(path, to_json(set));
}

CodebookSet read_codebooks(const std::string& path) {
  const Json json = parse_json(read_text_file(path, kMaxBytes), path);
  const JsonNode root(json, path);
  const JsonNode format = root.at("format");
  if (format.string() != kFormat) format.fail("not a file of codebooks", kFormatText);
  const JsonNode version = root.at("version");
  if (version.integer() != kVersion)
    version.fail("written by another version", std::to_string(kVersion));
  for (const auto& [key, value] : json.items()) {
    if (std::find(kKeys.begin(), kKeys.end(), key) == kKeys.end())
      JsonNode(value, path, key).fail("unknown key");
  }
  CodebookSet set;
  set.layout.block_array = read_size(root, "block_array", {16, 32, 64, 128});
  set.layout.block = read_size(root, "block", {2, 4, 8});
  set.layout.codebooks = read_size(root, "num_codebooks", {2, 4, 8, 16});
  set.weights = read_side(root.at("weights"), set.layout.codebooks);
  set.activations = read_side(root.at("activations"), set.layout.codebooks);
  return set;
}

}  // namespace neap
