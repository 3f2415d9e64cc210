#include "export/export_record.h"

#include <algorithm>
#include <charconv>
#include <filesystem>

#include "export/verify.h"
#include "io/gguf.h"
#include "io/json.h"
#include "io/mapped_file.h"

namespace neap {
namespace {

constexpr const char* kReport = "quantization_report.json";

std::uint64_t from_hex(const JsonNode& node) {
  const std::string& text = node.string();
  std::uint64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value, 16);
  if (error != std::errc() || end != text.data() + text.size()) node.fail("not a hash", "16 hexadecimal digits");
  return value;
}

}  // namespace

std::string hex(std::uint64_t value) {
  static constexpr char kDigits[] = "0123456789abcdef";
  std::string text;
  for (int shift = 60; shift >= 0; shift -= 4) text += kDigits[(value >> shift) & 15];
  return text;
}

std::string report_path(const Checkpoint& output) {
  const std::string beside = output.path() + ".report.json";
  if (output.gguf() && std::filesystem::exists(beside)) return beside;
  return output.folder() + "/" + kReport;
}

std::uint64_t header_digest(const Checkpoint& checkpoint) {
  Digest digest;
  if (const GgufFile* gguf = checkpoint.gguf()) {
    const MappedFile file(gguf->path());
    std::uint64_t end = file.bytes().size();
    for (const TensorInfo& tensor : gguf->tensors()) end = std::min(end, tensor.offset);
    digest.add(file.bytes().data(), end);
  } else {
    digest.add(checkpoint.config_json().data(), checkpoint.config_json().size());
  }
  return digest.value();
}

nlohmann::ordered_json ExportRecord::to_json() const {
  nlohmann::ordered_json hashes = nlohmann::ordered_json::object();
  for (const auto& [name, digest] : tensors) hashes[name] = hex(digest);
  return {{"header", hex(header)}, {"moved_factors", moved_factors}, {"tensors", hashes}};
}

std::optional<ExportRecord> ExportRecord::read(const Checkpoint& output) {
  const std::string path = report_path(output);
  if (!std::filesystem::exists(path)) return {};
  const Json json = parse_json(read_text_file(path), path);
  const auto written = JsonNode(json, path).find("written");
  if (!written) return {};
  ExportRecord record;
  record.header = from_hex(written->at("header"));
  record.moved_factors = written->at("moved_factors").boolean();
  const JsonNode tensors = written->at("tensors");
  if (!tensors.value().is_object()) tensors.fail("has the wrong type", "an object");
  for (const auto& [name, hash] : tensors.value().items()) record.tensors[name] = from_hex(JsonNode(hash, path, "written.tensors." + name));
  return record;
}

}  // namespace neap
