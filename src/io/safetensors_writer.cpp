#include "io/safetensors_writer.h"

#include <algorithm>
#include <bit>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "neap/check.h"

namespace neap {
namespace {

static_assert(std::endian::native == std::endian::little,
              "tensors are written as they lie in memory");

using OrderedJson = nlohmann::ordered_json;

std::uint64_t bytes_of(const TensorSpec& tensor) {
  NEAP_CHECK(block_elements(tensor.type) == 1);
  return stored_bytes(tensor);
}

// The largest elements first: then each tensor is aligned to its elements, as readers that map the
// file want it. Otherwise in the order given.
void sort_for_alignment(std::vector<TensorSpec>& tensors) {
  std::stable_sort(tensors.begin(), tensors.end(), [](const TensorSpec& a, const TensorSpec& b) {
    return block_bytes(a.type) > block_bytes(b.type);
  });
}

// Length and JSON, padded with spaces so that the data begins at a multiple of 8.
std::string header_of(const std::vector<TensorSpec>& tensors,
                      const std::map<std::string, std::string>& metadata) {
  OrderedJson json = OrderedJson::object();
  json["__metadata__"] = metadata;
  std::uint64_t offset = 0;
  for (const TensorSpec& tensor : tensors) {
    const std::uint64_t end = offset + bytes_of(tensor);
    json[tensor.name] = {
        {"dtype", name_of(tensor.type)}, {"shape", tensor.shape}, {"data_offsets", {offset, end}}};
    offset = end;
  }
  std::string text = json.dump();
  text.resize((text.size() + 7) / 8 * 8, ' ');
  const std::uint64_t length = text.size();
  std::string header(8, '\0');
  std::memcpy(header.data(), &length, 8);
  return header + text;
}

std::string shard_name(std::size_t number, std::size_t count) {
  if (count == 1) return "model.safetensors";
  char name[64];
  std::snprintf(name, sizeof name, "model-%05zu-of-%05zu.safetensors", number + 1, count);
  return name;
}

}  // namespace

SafetensorsWriter::SafetensorsWriter(std::string folder, const std::vector<TensorSpec>& tensors,
                                     std::uint64_t max_shard_bytes,
                                     const std::map<std::string, std::string>& metadata)
    : folder_(std::move(folder)) {
  const auto shards = cut_into_shards(tensors, max_shard_bytes);
  for (std::size_t i = 0; i < shards.size(); ++i) {
    create_shard(folder_ + "/" + shard_name(i, shards.size()), shards[i], metadata);
  }
}

void SafetensorsWriter::create_shard(const std::string& file, std::vector<TensorSpec> tensors,
                                     const std::map<std::string, std::string>& metadata) {
  sort_for_alignment(tensors);
  const std::string header = header_of(tensors, metadata);
  std::uint64_t offset = header.size();
  for (const TensorSpec& tensor : tensors) {
    const std::uint64_t bytes = bytes_of(tensor);
    const bool is_new = places_.emplace(tensor.name, Place{files_.size(), offset, bytes}).second;
    NEAP_CHECK(is_new);
    offset += bytes;
    tensor_bytes_ += bytes;
  }
  files_.emplace_back(file, offset);
  files_.back().write(0, std::as_bytes(std::span(header)));
}

void SafetensorsWriter::write(const std::string& name, std::span<const std::byte> bytes,
                              std::uint64_t offset) {
  const auto found = places_.find(name);
  NEAP_CHECK(found != places_.end());
  Place& place = found->second;
  NEAP_CHECK(offset <= place.bytes && bytes.size() <= place.bytes - offset);
  files_[place.shard].write(place.offset + offset, bytes);
  place.written += bytes.size();
}

void SafetensorsWriter::finish() {
  OrderedJson index = {{"metadata", {{"total_size", tensor_bytes_}}},
                       {"weight_map", OrderedJson::object()}};
  for (const auto& [name, place] : places_) {
    NEAP_CHECK(place.written == place.bytes);
    index["weight_map"][name] =
        std::filesystem::path(files_[place.shard].path()).filename().string();
  }
  for (OutputFile& file : files_) file.close();
  if (files_.size() > 1) {
    write_file_atomically(folder_ + "/model.safetensors.index.json", index.dump(2) + "\n");
  }
}

}  // namespace neap
