#include "io/gguf_writer.h"

#include <array>
#include <cstring>
#include <set>
#include <type_traits>

#include "neap/check.h"
#include "neap/error.h"

namespace neap {
namespace {

constexpr std::size_t kMaxNameBytes = 63;
constexpr std::size_t kMostFiles = 65535;  // split.count is 16 bits wide
constexpr std::uint32_t kMagic = 0x46554747;  // "GGUF"
constexpr std::uint32_t kVersion = 3, kArray = 9;

std::uint64_t padded(std::uint64_t value) {
  return (value + kGgufAlignment - 1) / kGgufAlignment * kGgufAlignment;
}

// gguf.md's numbers of the types, in the order in which GgufValue has the scalars.
constexpr std::array<std::uint32_t, 12> kTypeIds = {0, 1, 2, 3, 4, 5, 10, 11, 6, 12, 7, 8};

class Header {
 public:
  const std::string& bytes() const { return bytes_; }

  template <class T>
  void number(T value) {
    static_assert(std::is_arithmetic_v<T>);
    const auto* at = reinterpret_cast<const char*>(&value);
    bytes_.append(at, sizeof value);
  }
  void text(const std::string& value) {
    number(std::uint64_t{value.size()});
    bytes_ += value;
  }
  void boolean(bool value) { bytes_ += static_cast<char>(value); }

  void pair(const std::string& key, const GgufValue& value) {
    text(key);
    const std::size_t kind = value.index();
    if (kind < kTypeIds.size()) {
      number(kTypeIds[kind]);
    } else {
      number(kArray);
      number(kTypeIds[kind - kTypeIds.size()]);
    }
    std::visit([&](const auto& its) { put(its); }, value);
  }

 private:
  template <class T>
  void put(const T& value) {
    if constexpr (std::is_same_v<T, bool>) {
      boolean(value);
    } else {
      number(value);
    }
  }
  void put(const std::string& value) { text(value); }
  template <class T>
  void put(const std::vector<T>& values) {
    number(std::uint64_t{values.size()});
    for (const T& value : values) put(value);
  }

  std::string bytes_;
};

void check_name(const TensorSpec& tensor) {
  if (tensor.name.size() <= kMaxNameBytes) return;
  throw Error(ErrorCode::argument, "GGUF has no room for the name of this tensor",
              {.tensor = tensor.name,
               .expected = std::to_string(kMaxNameBytes) + " bytes at most",
               .found = std::to_string(tensor.name.size())});
}

void put_tensor(const TensorSpec& tensor, std::uint64_t offset, Header& header) {
  header.text(tensor.name);
  header.number(static_cast<std::uint32_t>(tensor.shape.size()));
  for (auto extent = tensor.shape.rbegin(); extent != tensor.shape.rend(); ++extent) {
    header.number(static_cast<std::uint64_t>(*extent));
  }
  header.number(ggml_type_of(tensor.type));
  header.number(offset);
}

// In the types that gguf-split gives them.
GgufMetadata split_metadata(const GgufSplit& split) {
  return {{"split.no", static_cast<std::uint16_t>(split.number)},
          {"split.count", static_cast<std::uint16_t>(split.count)},
          {"split.tensors.count", static_cast<std::int32_t>(split.tensors)}};
}

}  // namespace

std::string gguf_header(const GgufMetadata& metadata, const std::vector<TensorSpec>& tensors) {
  Header header;
  header.number(kMagic);
  header.number(kVersion);
  header.number(std::uint64_t{tensors.size()});
  header.number(std::uint64_t{metadata.size()});
  std::set<std::string> keys;
  for (const auto& [key, value] : metadata) {
    NEAP_CHECK(keys.insert(key).second);
    header.pair(key, value);
  }
  std::uint64_t offset = 0;
  for (const TensorSpec& tensor : tensors) {
    check_name(tensor);
    put_tensor(tensor, offset, header);
    offset += padded(stored_bytes(tensor));
  }
  std::string bytes = header.bytes();
  bytes.resize(padded(bytes.size()), '\0');
  return bytes;
}

GgufWriter::GgufWriter(const std::string& stem, const GgufMetadata& metadata, const std::vector<TensorSpec>& tensors,
                       std::uint64_t max_file_bytes) {
  const auto shards = cut_into_shards(tensors, max_file_bytes);
  if (shards.size() > kMostFiles) {
    throw Error(ErrorCode::argument, "a split GGUF has no numbers for so many files",
                {.file = stem,
                 .expected = std::to_string(kMostFiles) + " at most",
                 .found = std::to_string(shards.size())});
  }
  GgufSplit split{.number = 0,
                  .count = static_cast<std::int64_t>(shards.size()),
                  .tensors = static_cast<std::int64_t>(tensors.size())};
  const bool whole = split.count == 1;
  for (const auto& shard : shards) {
    GgufMetadata pairs = split.number == 0 ? metadata : GgufMetadata();
    for (const auto& pair : whole ? GgufMetadata() : split_metadata(split)) pairs.push_back(pair);
    create_file(whole ? stem + ".gguf" : split_path(stem, split), pairs, shard);
    ++split.number;
  }
}

void GgufWriter::create_file(const std::string& path, const GgufMetadata& metadata,
                             const std::vector<TensorSpec>& tensors) {
  const std::string header = gguf_header(metadata, tensors);
  std::uint64_t end = header.size();
  for (const TensorSpec& tensor : tensors) {
    const std::uint64_t bytes = stored_bytes(tensor);
    NEAP_CHECK(places_.emplace(tensor.name, Place{files_.size(), end, bytes}).second);
    end += padded(bytes);
    tensor_bytes_ += bytes;
  }
  files_.emplace_back(path, end);
  files_.back().write(0, std::as_bytes(std::span(header)));
}

void GgufWriter::write(const std::string& name, std::span<const std::byte> bytes, std::uint64_t offset) {
  const auto found = places_.find(name);
  NEAP_CHECK(found != places_.end());
  Place& place = found->second;
  NEAP_CHECK(offset <= place.bytes && bytes.size() <= place.bytes - offset);
  files_[place.file].write(place.offset + offset, bytes);
  place.written += bytes.size();
}

void GgufWriter::finish() {
  for (const auto& place : places_) NEAP_CHECK(place.second.written == place.second.bytes);
  for (OutputFile& file : files_) file.close();
}

}  // namespace neap
