// Bytes of small model files, written piece by piece so that each piece can be wrong.
#pragma once

#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

namespace neap::test {

template <class T>
void append(std::string& bytes, T value) {
  static_assert(std::is_arithmetic_v<T>);
  const std::size_t size = bytes.size();
  bytes.resize(size + sizeof value);
  std::memcpy(bytes.data() + size, &value, sizeof value);
}

// A safetensors file of this header, verbatim, and `data_bytes` bytes of data counting up from 0.
inline std::string safetensors_bytes(std::string_view header, std::size_t data_bytes) {
  std::string bytes;
  append(bytes, std::uint64_t{header.size()});
  bytes += header;
  for (std::size_t i = 0; i < data_bytes; ++i) bytes += static_cast<char>(i);
  return bytes;
}

// Metadata types by GGUF's numbers.
enum GgufType : std::uint32_t {
  kU8,
  kI8,
  kU16,
  kI16,
  kU32,
  kI32,
  kF32,
  kBool,
  kString,
  kArray,
  kU64,
  kI64,
  kF64
};

class GgufBuilder {
 public:
  std::uint32_t version = 3;
  std::uint64_t alignment = 32;  // of the data; the key general.alignment is the caller's affair
  // Written in place of the true counts when set.
  std::int64_t tensor_count = -1, pair_count = -1;
  std::string magic = "GGUF";

  static std::string text(std::string_view s) {
    std::string bytes;
    append(bytes, std::uint64_t{s.size()});
    return bytes += s;
  }

  // A pair whose value's bytes are given.
  GgufBuilder& raw(std::string_view key, std::uint32_t type, std::string_view value) {
    pairs_ += text(key);
    append(pairs_, type);
    pairs_ += value;
    ++pairs_written_;
    return *this;
  }
  template <class T>
  GgufBuilder& scalar(std::string_view key, GgufType type, T value) {
    std::string bytes;
    append(bytes, value);
    return raw(key, type, bytes);
  }
  GgufBuilder& string(std::string_view key, std::string_view value) {
    return raw(key, kString, text(value));
  }
  // `elements`: the bytes of `count` elements.
  GgufBuilder& array(std::string_view key, std::uint32_t type, std::uint64_t count,
                     std::string_view elements) {
    std::string bytes;
    append(bytes, type);
    append(bytes, count);
    bytes += elements;
    return raw(key, kArray, bytes);
  }

  // dims: fastest first, as in the file. Data: `bytes` bytes of value 1, placed after the tensor
  // before it; `shift` is added to the offset that the header gives.
  GgufBuilder& tensor(std::string_view name, const std::vector<std::int64_t>& dims,
                      std::uint32_t type, std::size_t bytes, std::int64_t shift = 0) {
    infos_ += text(name);
    append(infos_, static_cast<std::uint32_t>(dims.size()));
    for (const std::int64_t dim : dims) append(infos_, dim);
    append(infos_, type);
    append(infos_, static_cast<std::uint64_t>(static_cast<std::int64_t>(data_.size()) + shift));
    data_.append(bytes, '\1');
    pad(data_);
    ++tensors_written_;
    return *this;
  }

  std::string build() const {
    std::string bytes = magic;
    append(bytes, version);
    append(bytes, tensor_count >= 0 ? tensor_count : tensors_written_);
    append(bytes, pair_count >= 0 ? pair_count : pairs_written_);
    bytes += pairs_ + infos_;
    pad(bytes);
    return bytes + data_;
  }

 private:
  void pad(std::string& bytes) const {
    bytes.append((alignment - bytes.size() % alignment) % alignment, '\0');
  }

  std::string pairs_, infos_, data_;
  std::int64_t pairs_written_ = 0, tensors_written_ = 0;
};

}  // namespace neap::test
