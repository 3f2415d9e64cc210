#include "io/gguf_writer.h"

#include <array>
#include <cstring>
#include <set>
#include <type_traits>

#include "neap/check.h"
#include "neap/error.h"

namespace neap {
namespace {

constexpr std::uint64_t kAlignment = 32;
constexpr std::size_t kMaxNameBytes = 63;
constexpr std::uint32_t kMagic = 0x46554747;  // "GGUF"
constexpr std::uint32_t kVersion = 3, kArray = 9;

std::uint64_t padded(std::uint64_t value) { return (value + kAlignment - 1) / kAlignment * kAlignment; }

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

}  // namespace

std::uint64_t stored_bytes(const TensorSpec& tensor) {
  std::uint64_t elements = 1;
  for (const std::int64_t extent : tensor.shape) elements *= static_cast<std::uint64_t>(extent);
  const std::size_t block = block_elements(tensor.type);
  NEAP_CHECK(!tensor.shape.empty() && tensor.shape.back() % static_cast<std::int64_t>(block) == 0);
  return elements / block * block_bytes(tensor.type);
}

GgufWriter::GgufWriter(const std::string& path, const GgufMetadata& metadata,
                       const std::vector<TensorSpec>& tensors) {
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
  std::uint64_t end = 0;
  for (const TensorSpec& tensor : tensors) {
    check_name(tensor);
    const std::uint64_t bytes = stored_bytes(tensor);
    put_tensor(tensor, end, header);
    NEAP_CHECK(places_.emplace(tensor.name, Place{end, bytes}).second);
    end += padded(bytes);
    tensor_bytes_ += bytes;
  }
  const std::uint64_t data = padded(header.bytes().size());
  for (auto& place : places_) place.second.offset += data;
  file_bytes_ = data + end;
  file_.emplace(path, file_bytes_);
  file_->write(0, std::as_bytes(std::span(header.bytes())));
}

void GgufWriter::write(const std::string& name, std::span<const std::byte> bytes, std::uint64_t offset) {
  const auto found = places_.find(name);
  NEAP_CHECK(found != places_.end());
  Place& place = found->second;
  NEAP_CHECK(offset <= place.bytes && bytes.size() <= place.bytes - offset);
  file_->write(place.offset + offset, bytes);
  place.written += bytes.size();
}

void GgufWriter::finish() {
  for (const auto& place : places_) NEAP_CHECK(place.second.written == place.second.bytes);
  file_->close();
}

}  // namespace neap
