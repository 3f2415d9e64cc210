#include "io/safetensors.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>
#include <optional>
#include <tuple>

#include "io/json.h"
#include "io/names.h"
#include "io/tensor_bytes.h"
#include "neap/error.h"

namespace neap {
namespace {

static_assert(std::endian::native == std::endian::little, "files are read in place");

constexpr std::size_t kLengthBytes = 8;

std::optional<DType> dtype_named(std::string_view name) {
  constexpr std::array kTypes = {DType::f64,     DType::f32,     DType::f16, DType::bf16,
                                 DType::f8_e4m3, DType::f8_e5m2, DType::i64, DType::i32,
                                 DType::i16,     DType::i8,      DType::u8,  DType::boolean};
  const auto type = std::find_if(kTypes.begin(), kTypes.end(),
                                 [&](DType candidate) { return name_of(candidate) == name; });
  return type == kTypes.end() ? std::nullopt : std::optional(*type);
}

// The JSON text, after the checks that come before parsing it.
std::string_view header_text(std::span<const std::byte> file, const std::string& path) {
  if (file.size() < kLengthBytes) {
    throw Error(ErrorCode::format, "too short for a safetensors file",
                {.file = path,
                 .offset = file.size(),
                 .expected = "at least 8 bytes",
                 .found = std::to_string(file.size())});
  }
  std::uint64_t length = 0;
  std::memcpy(&length, file.data(), kLengthBytes);
  if (length > kMaxSafetensorsHeader) {
    throw Error(ErrorCode::format, "header length is absurd; not a safetensors file?",
                {.file = path,
                 .offset = 0,
                 .expected = "at most " + std::to_string(kMaxSafetensorsHeader),
                 .found = std::to_string(length)});
  }
  if (length > file.size() - kLengthBytes) {
    throw Error(ErrorCode::format, "truncated in its header",
                {.file = path,
                 .offset = file.size(),
                 .expected = std::to_string(kLengthBytes + length) + " bytes or more",
                 .found = std::to_string(file.size())});
  }
  const std::string_view text(reinterpret_cast<const char*>(file.data()) + kLengthBytes, length);
  if (!text.starts_with('{')) {
    throw Error(ErrorCode::format, "header does not begin with '{'; not a safetensors file?",
                {.file = path, .offset = kLengthBytes, .found = printable(text.substr(0, 1))});
  }
  return text;
}

std::map<std::string, std::string> read_metadata(const JsonNode& node) {
  if (!node.value().is_object()) node.fail("has the wrong type", "an object");
  std::map<std::string, std::string> metadata;
  for (const auto& [key, value] : node.value().items())
    metadata.emplace(key, node.at(key).string());
  return metadata;
}

// One entry of the header; offset and bytes are set relative to the data, and checked against each
// other, not yet against the file.
TensorInfo read_entry(const JsonNode& node, const std::string& name, const std::string& path) {
  const auto bad = [&](ErrorCode code, const std::string& message, std::string expected,
                       std::string found) -> Error {
    return {code,
            message,
            {.file = path, .tensor = printable(name), .expected = expected, .found = found}};
  };
  if (!is_plain_name(name)) throw bad(ErrorCode::format, "not a usable tensor name", "", "");
  if (!node.value().is_object()) node.fail("has the wrong type", "an object");
  for (const auto& [key, value] : node.value().items()) {
    if (key != "dtype" && key != "shape" && key != "data_offsets") {
      throw bad(ErrorCode::format, "unknown key in the tensor's entry",
                "dtype, shape, data_offsets", printable(key));
    }
  }
  const std::string& dtype = node.at("dtype").string();
  const auto type = dtype_named(dtype);
  if (!type)
    throw bad(ErrorCode::unsupported, "has a dtype that Neap does not read", "", printable(dtype));

  TensorInfo info{.name = name, .type = *type, .shape = {}, .file = path};
  const JsonNode shape = node.at("shape");
  for (std::size_t i = 0; i < shape.size(); ++i) info.shape.push_back(shape[i].integer(0));
  const auto bytes = checked_bytes(*type, info.shape);
  if (!bytes) {
    throw bad(ErrorCode::format, "is too large for any file", "", to_string(info.shape));
  }
  const JsonNode offsets = node.at("data_offsets");
  if (offsets.size() != 2) offsets.fail("must be [begin, end]");
  const auto begin = static_cast<std::uint64_t>(offsets[0].integer(0));
  const auto end = static_cast<std::uint64_t>(offsets[1].integer(0));
  if (end < begin || end - begin != *bytes) {
    throw bad(ErrorCode::format, "data_offsets do not agree with dtype and shape",
              std::to_string(*bytes) + " bytes for " + dtype + " " + to_string(info.shape),
              "[" + std::to_string(begin) + ", " + std::to_string(end) + "]");
  }
  info.offset = begin;
  info.bytes = *bytes;
  return info;
}

// Sorts by position, holds the tensors against the data's extent, and makes offsets those of the
// file.
void place(std::vector<TensorInfo>& tensors, std::uint64_t data_start, std::uint64_t file_size,
           const std::string& path) {
  std::sort(tensors.begin(), tensors.end(), [](const TensorInfo& a, const TensorInfo& b) {
    return std::tie(a.offset, a.bytes, a.name) < std::tie(b.offset, b.bytes, b.name);
  });
  const std::uint64_t data_bytes = file_size - data_start;
  std::uint64_t covered = 0;
  for (TensorInfo& tensor : tensors) {
    const ErrorContext where{.file = path,
                             .tensor = printable(tensor.name),
                             .offset = data_start + tensor.offset,
                             .expected = std::to_string(data_start + covered),
                             .found = std::to_string(data_start + tensor.offset)};
    if (tensor.offset < covered)
      throw Error(ErrorCode::format, "overlaps the tensor before it", where);
    if (tensor.offset > covered) throw Error(ErrorCode::format, "leaves a hole before it", where);
    if (tensor.bytes > data_bytes - covered) {
      throw Error(ErrorCode::format, "truncated in this tensor's data",
                  {.file = path,
                   .tensor = printable(tensor.name),
                   .offset = file_size,
                   .expected = std::to_string(tensor.bytes) + " bytes",
                   .found = std::to_string(data_bytes - covered)});
    }
    covered += tensor.bytes;
    tensor.offset += data_start;
  }
  if (covered != data_bytes) {
    throw Error(ErrorCode::format, "bytes after the last tensor",
                {.file = path,
                 .offset = data_start + covered,
                 .expected = std::to_string(data_start + covered) + " bytes",
                 .found = std::to_string(file_size)});
  }
}

}  // namespace

SafetensorsHeader parse_safetensors(std::span<const std::byte> file, const std::string& path) {
  const std::string_view text = header_text(file, path);
  const Json json = parse_json(text, path, kLengthBytes);
  SafetensorsHeader header;
  header.data_start = kLengthBytes + text.size();
  for (const auto& [name, value] : json.items()) {
    if (name == "__metadata__") {
      header.metadata = read_metadata(JsonNode(value, path, name));
    } else {
      header.tensors.push_back(read_entry(JsonNode(value, path, name), name, path));
    }
  }
  place(header.tensors, header.data_start, file.size(), path);
  return header;
}

ShardMap parse_safetensors_index(std::string_view text, const std::string& path) {
  const Json json = parse_json(text, path);
  const JsonNode map = JsonNode(json, path).at("weight_map");
  if (!map.value().is_object()) map.fail("has the wrong type", "an object");
  ShardMap shards;
  for (const auto& [tensor, value] : map.value().items()) {
    const JsonNode entry(value, path, tensor);
    const std::string& shard = entry.string();
    if (!is_plain_name(shard) || shard.find('/') != std::string::npos) {
      entry.fail("is not the name of a file in this folder");
    }
    shards[shard].push_back(tensor);
  }
  if (shards.empty()) map.fail("names no tensor");
  return shards;
}

}  // namespace neap
