// The GGUF container, versions 2 and 3 (the same bytes: 3 only added big-endian files, which are
// refused, as is version 1 with its 32-bit lengths). Source: ggml/docs/gguf.md and ggml's gguf.cpp.
//
//   "GGUF" | u32 version | u64 tensors | u64 pairs
//   pairs   x { string key; u32 type; value }          string = u64 length, bytes without NUL
//   tensors x { string name; u32 n; u64 dims[n], fastest first; u32 ggml type; u64 offset }
//   padding to general.alignment (default 32) | data: the tensors in listing order, each padded
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <variant>
#include <vector>

#include "neap/tensor.h"

namespace neap {

// Arrays are of one type and one dimension; nested ones are refused, as llama.cpp does.
using GgufValue =
    std::variant<std::uint8_t, std::int8_t, std::uint16_t, std::int16_t, std::uint32_t,
                 std::int32_t, std::uint64_t, std::int64_t, float, double, bool, std::string,
                 std::vector<std::uint8_t>, std::vector<std::int8_t>, std::vector<std::uint16_t>,
                 std::vector<std::int16_t>, std::vector<std::uint32_t>, std::vector<std::int32_t>,
                 std::vector<std::uint64_t>, std::vector<std::int64_t>, std::vector<float>,
                 std::vector<double>, std::vector<bool>, std::vector<std::string>>;

// What a value is, in the words of an error: "u32", "array of 49152 strings".
std::string describe(const GgufValue& value);

class GgufFile {
 public:
  // Reads and checks the header of a whole file. Throws Error(format), or Error(unsupported) for
  // other versions, big-endian files and tensor types that DType does not have. Afterwards every
  // tensor's bytes lie in the file, one after another with only padding between them, up to its
  // end.
  static GgufFile parse(std::span<const std::byte> file, const std::string& path);

  const std::string& path() const { return path_; }
  std::uint32_t version() const { return version_; }
  std::uint64_t alignment() const { return alignment_; }
  // Shapes turned to row-major, slowest dimension first; offsets from the start of the file.
  const std::vector<TensorInfo>& tensors() const { return tensors_; }
  // In file order.
  const std::vector<std::pair<std::string, GgufValue>>& metadata() const { return metadata_; }

  bool has(std::string_view key) const { return find(key) != nullptr; }
  const GgufValue* find(std::string_view key) const;  // null if absent

  // Typed metadata. Throw Error(format) naming file, key and what was found when the key is absent
  // or its value is of another kind. Any integer type of the file will do for an integer that fits,
  // any number for a number.
  std::int64_t integer(std::string_view key) const;
  double number(std::string_view key) const;
  bool boolean(std::string_view key) const;
  const std::string& string(std::string_view key) const;
  std::vector<std::int64_t> integers(std::string_view key) const;
  std::vector<float> floats(std::string_view key) const;  // an array of f32 or f64
  const std::vector<std::string>& strings(std::string_view key) const;

  // The same where absence has a meaning; a value of another kind still throws.
  std::int64_t integer(std::string_view key, std::int64_t otherwise) const;
  double number(std::string_view key, double otherwise) const;
  bool boolean(std::string_view key, bool otherwise) const;
  std::string string(std::string_view key, std::string_view otherwise) const;

 private:
  friend class GgufParser;
  GgufFile() = default;

  const GgufValue& at(std::string_view key, const char* expected) const;
  [[noreturn]] void wrong_type(std::string_view key, const char* expected) const;

  std::string path_;
  std::uint32_t version_ = 0;
  std::uint64_t alignment_ = 0;
  std::vector<TensorInfo> tensors_;
  std::vector<std::pair<std::string, GgufValue>> metadata_;
  std::unordered_map<std::string, std::size_t> index_;  // of metadata_
};

// ggml's number of a type that a GGUF can hold (NEAP_CHECK).
std::uint32_t ggml_type_of(DType type);

// Where a file stands in a split model, from split.no, split.count and split.tensors.count. A file
// without these keys is a whole model: {0, 1, its tensors}. Throws Error(format) if they contradict
// each other.
struct GgufSplit {
  std::int64_t number = 0, count = 1;  // 0 <= number < count <= 65535
  std::int64_t tensors = 0;            // of all files together
};
GgufSplit split_of(const GgufFile& file);

// "x", 0 of 3: "x-00001-of-00003.gguf".
std::string split_path(const std::string& stem, const GgufSplit& split);
// The path of another file of the same split model: "x-00001-of-00003.gguf" and 1 give
// "x-00002-of-00003.gguf". Throws Error(format) if `path` does not end in the numbers of `split`.
std::string split_path(const std::string& path, const GgufSplit& split, std::int64_t number);

}  // namespace neap
