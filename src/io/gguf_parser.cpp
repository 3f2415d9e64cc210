// Bytes to GgufFile. Every length is held against what is left of the file before anything is
// allocated for it.
#include <algorithm>
#include <array>
#include <bit>
#include <cstring>
#include <optional>
#include <type_traits>
#include <unordered_set>

#include "io/gguf.h"
#include "io/names.h"
#include "io/tensor_bytes.h"
#include "neap/check.h"
#include "neap/error.h"

namespace neap {
namespace {

static_assert(std::endian::native == std::endian::little, "files are read in place");

constexpr std::uint64_t kDefaultAlignment = 32;
constexpr std::uint64_t kMaxNameBytes = 63;    // ggml's GGML_MAX_NAME with its NUL
constexpr std::uint64_t kMaxKeyBytes = 65535;  // gguf.md
constexpr std::uint64_t kMaxStringBytes = std::uint64_t{1} << 28;
constexpr std::uint64_t kMaxArrayElements = std::uint64_t{1}
                                            << 24;  // 64 times the largest vocabulary
constexpr std::uint32_t kMaxDims = 4;
constexpr std::uint64_t kMinPairBytes = 8 + 1 + 4 + 1;  // key of one byte, type, value of one byte
constexpr std::uint64_t kMinTensorBytes = 8 + 1 + 4 + 4 + 8;  // name of one byte, no dimension

// By ggml's numbers; those without a DType are named for the error that refuses them.
struct GgmlType {
  std::uint32_t id;
  std::string_view name;
  std::optional<DType> type;
};
constexpr std::array kGgmlTypes = {
    GgmlType{0, "F32", DType::f32},    GgmlType{1, "F16", DType::f16},
    GgmlType{2, "Q4_0", DType::q4_0},  GgmlType{3, "Q4_1", DType::q4_1},
    GgmlType{6, "Q5_0", DType::q5_0},  GgmlType{7, "Q5_1", DType::q5_1},
    GgmlType{8, "Q8_0", DType::q8_0},  GgmlType{9, "Q8_1", {}},
    GgmlType{10, "Q2_K", DType::q2_k}, GgmlType{11, "Q3_K", DType::q3_k},
    GgmlType{12, "Q4_K", DType::q4_k}, GgmlType{13, "Q5_K", DType::q5_k},
    GgmlType{14, "Q6_K", DType::q6_k}, GgmlType{15, "Q8_K", {}},
    GgmlType{16, "IQ2_XXS", {}},       GgmlType{17, "IQ2_XS", {}},
    GgmlType{18, "IQ3_XXS", {}},       GgmlType{19, "IQ1_S", {}},
    GgmlType{20, "IQ4_NL", DType::iq4_nl},        GgmlType{21, "IQ3_S", {}},
    GgmlType{22, "IQ2_S", {}},         GgmlType{23, "IQ4_XS", {}},
    GgmlType{24, "I8", DType::i8},     GgmlType{25, "I16", DType::i16},
    GgmlType{26, "I32", DType::i32},   GgmlType{27, "I64", DType::i64},
    GgmlType{28, "F64", DType::f64},   GgmlType{29, "IQ1_M", {}},
    GgmlType{30, "BF16", DType::bf16}, GgmlType{34, "TQ1_0", {}},
    GgmlType{35, "TQ2_0", {}},         GgmlType{39, "MXFP4", DType::mxfp4},
    GgmlType{40, "NVFP4", DType::nvfp4}, GgmlType{41, "Q1_0", {}},
};

}  // namespace

std::uint32_t ggml_type_of(DType type) {
  const auto found = std::find_if(kGgmlTypes.begin(), kGgmlTypes.end(),
                                  [&](const GgmlType& known) { return known.type == type; });
  NEAP_CHECK(found != kGgmlTypes.end());
  return found->id;
}

class GgufParser {
 public:
  GgufParser(std::span<const std::byte> file, const std::string& path)
      : bytes_(file), path_(path) {}

  GgufFile parse() {
    result_.path_ = path_;
    read_version();
    const std::uint64_t tensors = read_count(kMinTensorBytes, "tensors");
    const std::uint64_t pairs = read_count(kMinPairBytes, "metadata pairs");
    for (std::uint64_t i = 0; i < pairs; ++i) read_pair();
    read_alignment();
    for (std::uint64_t i = 0; i < tensors; ++i) read_tensor();
    place_tensors();
    return std::move(result_);
  }

 private:
  [[noreturn]] void fail(const std::string& message, std::string expected = {},
                         std::string found = {}, ErrorCode code = ErrorCode::format) const {
    throw Error(code, message,
                {.file = path_,
                 .tensor = subject_,
                 .offset = position_,
                 .expected = std::move(expected),
                 .found = std::move(found)});
  }

  std::uint64_t left() const { return bytes_.size() - position_; }

  void need(std::uint64_t count) const {
    if (count > left()) {
      fail("truncated", std::to_string(count) + " more bytes", std::to_string(left()));
    }
  }

  template <class T>
  T read() {
    static_assert(std::is_arithmetic_v<T> && !std::is_same_v<T, bool>);
    need(sizeof(T));
    T value;
    std::memcpy(&value, bytes_.data() + position_, sizeof(T));
    position_ += sizeof(T);
    return value;
  }

  std::string read_string(std::uint64_t max_bytes) {
    const std::uint64_t start = position_;
    const auto length = read<std::uint64_t>();
    const std::uint64_t room = std::min(max_bytes, left());
    if (length > room) {
      const bool cut = room < max_bytes;
      position_ = start;
      fail(cut ? "string runs past the end of the file" : "string is too long",
           "at most " + std::to_string(room) + " bytes", std::to_string(length));
    }
    std::string text(reinterpret_cast<const char*>(bytes_.data()) + position_, length);
    position_ += length;
    return text;
  }

  void read_version() {
    if (left() < 4 || std::memcmp(bytes_.data(), "GGUF", 4) != 0) {
      const std::string_view start(reinterpret_cast<const char*>(bytes_.data()),
                                   std::min<std::size_t>(bytes_.size(), 4));
      fail("not a GGUF file", "it to begin with GGUF", printable(start));
    }
    position_ = 4;
    const auto version = read<std::uint32_t>();
    position_ = 4;
    if (version != 0 && (version & 0xffff) == 0) {
      fail("big-endian GGUF is not supported", "", "", ErrorCode::unsupported);
    }
    if (version != 2 && version != 3) {
      fail("this version of GGUF is not supported", "2 or 3", std::to_string(version),
           ErrorCode::unsupported);
    }
    position_ = 8;
    result_.version_ = version;
  }

  std::uint64_t read_count(std::uint64_t min_bytes_each, const char* what) {
    const std::uint64_t start = position_;
    const auto count = read<std::uint64_t>();
    if (count > left() / min_bytes_each) {
      position_ = start;
      fail(std::string("more ") + what + " than the file has room for",
           "at most " + std::to_string((left() - 8) / min_bytes_each), std::to_string(count));
    }
    return count;
  }

  void read_pair() {
    subject_.clear();
    const std::uint64_t start = position_;
    std::string key = read_string(kMaxKeyBytes);
    subject_ = printable(key);
    if (!is_plain_name(key)) fail_at(start, "not a usable metadata key");
    if (!result_.index_.emplace(key, result_.metadata_.size()).second) {
      fail_at(start, "the same metadata key stands twice");
    }
    const auto type = read<std::uint32_t>();
    GgufValue value = type == kArrayType ? read_array() : read_scalar(type);
    result_.metadata_.emplace_back(std::move(key), std::move(value));
    subject_.clear();
  }

  [[noreturn]] void fail_at(std::uint64_t offset, const std::string& message,
                            std::string expected = {}, std::string found = {},
                            ErrorCode code = ErrorCode::format) {
    position_ = offset;
    fail(message, std::move(expected), std::move(found), code);
  }

  // Calls visit(T{}) with the C++ type of a metadata type.
  template <class Visit>
  auto dispatch(std::uint32_t type, const Visit& visit) {
    // clang-format off
    switch (type) {
      case 0: return visit(std::uint8_t{});
      case 1: return visit(std::int8_t{});
      case 2: return visit(std::uint16_t{});
      case 3: return visit(std::int16_t{});
      case 4: return visit(std::uint32_t{});
      case 5: return visit(std::int32_t{});
      case 6: return visit(float{});
      case 7: return visit(bool{});
      case 8: return visit(std::string{});
      case 10: return visit(std::uint64_t{});
      case 11: return visit(std::int64_t{});
      case 12: return visit(double{});
      default: fail_at(position_ - 4, "not a metadata type", "0 to 12", std::to_string(type));
    }
    // clang-format on
  }

  template <class T>
  T read_value() {
    if constexpr (std::is_same_v<T, std::string>) {
      return read_string(kMaxStringBytes);
    } else if constexpr (std::is_same_v<T, bool>) {
      const auto byte = read<std::uint8_t>();
      if (byte > 1) fail_at(position_ - 1, "not a boolean", "0 or 1", std::to_string(byte));
      return byte == 1;
    } else {
      return read<T>();
    }
  }

  GgufValue read_scalar(std::uint32_t type) {
    return dispatch(type, [&](auto tag) { return GgufValue(read_value<decltype(tag)>()); });
  }

  GgufValue read_array() {
    const auto type = read<std::uint32_t>();
    if (type == kArrayType) {
      fail_at(position_ - 4, "arrays of arrays are not supported", "", "", ErrorCode::unsupported);
    }
    return dispatch(type, [&](auto tag) {
      using T = decltype(tag);
      constexpr std::uint64_t kEach = std::is_same_v<T, std::string> ? 8 : sizeof(T);
      const std::uint64_t count = read_count(kEach, "array elements");
      if (count > kMaxArrayElements) {
        fail_at(position_ - 8, "array is too long", "at most " + std::to_string(kMaxArrayElements),
                std::to_string(count));
      }
      std::vector<T> values;
      values.reserve(count);
      for (std::uint64_t i = 0; i < count; ++i) values.push_back(read_value<T>());
      return GgufValue(std::move(values));
    });
  }

  void read_alignment() {
    constexpr const char* kKey = "general.alignment";
    subject_ = kKey;
    result_.alignment_ = kDefaultAlignment;
    if (const GgufValue* value = result_.find(kKey)) {
      const auto* alignment = std::get_if<std::uint32_t>(value);
      if (alignment == nullptr) fail("has the wrong type", "u32", describe(*value));
      if (!std::has_single_bit(*alignment)) {
        fail("is not a power of two", "", std::to_string(*alignment));
      }
      result_.alignment_ = *alignment;
    }
    subject_.clear();
  }

  void read_tensor() {
    subject_.clear();
    const std::uint64_t start = position_;
    TensorInfo info;
    info.name = read_string(kMaxNameBytes);
    subject_ = printable(info.name);
    if (!is_plain_name(info.name)) fail_at(start, "not a usable tensor name");
    if (!names_.insert(info.name).second) fail_at(start, "the same tensor name stands twice");
    const auto dims = read<std::uint32_t>();
    if (dims > kMaxDims) {
      fail_at(position_ - 4, "has too many dimensions", "at most 4", std::to_string(dims));
    }
    for (std::uint32_t i = 0; i < dims; ++i) {
      const auto dim = read<std::int64_t>();
      if (dim < 0) fail_at(position_ - 8, "has a negative dimension", "", std::to_string(dim));
      info.shape.push_back(dim);
    }
    std::reverse(info.shape.begin(), info.shape.end());
    info.type = read_type();
    const auto bytes = checked_bytes(info.type, info.shape);
    if (!bytes) {
      fail("dimensions overflow or do not divide into blocks",
           "rows of a multiple of " + std::to_string(block_elements(info.type)),
           to_string(info.shape));
    }
    info.bytes = *bytes;
    info.offset = read<std::uint64_t>();
    info.file = path_;
    result_.tensors_.push_back(std::move(info));
    subject_.clear();
  }

  DType read_type() {
    const auto id = read<std::uint32_t>();
    const auto type = std::find_if(kGgmlTypes.begin(), kGgmlTypes.end(),
                                   [&](const GgmlType& t) { return t.id == id; });
    if (type == kGgmlTypes.end()) fail_at(position_ - 4, "not a ggml type", "", std::to_string(id));
    if (!type->type) {
      fail_at(position_ - 4, "is of a type that Neap does not read", "", std::string(type->name),
              ErrorCode::unsupported);
    }
    return *type->type;
  }

  std::uint64_t padded(std::uint64_t value) const {  // value < 2^63 and alignment < 2^32
    return (value + result_.alignment_ - 1) / result_.alignment_ * result_.alignment_;
  }

  // Each tensor must begin where the one before it, padded, ends: a hole could hide data, an
  // overlap two names for one set of bytes. Positions stay below the file's size, so nothing
  // overflows.
  void place_tensors() {
    if (result_.tensors_.empty() && left() == 0) return;  // metadata alone may end unpadded
    const std::uint64_t data_start = padded(position_);
    std::uint64_t end = data_start;
    for (TensorInfo& tensor : result_.tensors_) {
      subject_ = printable(tensor.name);
      position_ = std::min<std::uint64_t>(end, bytes_.size());
      if (tensor.offset != end - data_start) {
        fail("data does not follow the tensor before it",
             "offset " + std::to_string(end - data_start) + " in the data",
             std::to_string(tensor.offset));
      }
      if (end > bytes_.size() || tensor.bytes > bytes_.size() - end) {
        fail("truncated in this tensor's data", std::to_string(tensor.bytes) + " bytes",
             std::to_string(left()));
      }
      tensor.offset = end;
      end = padded(end + tensor.bytes);
    }
    subject_.clear();
    if (end != bytes_.size()) {
      position_ = std::min<std::uint64_t>(end, bytes_.size());
      fail(end < bytes_.size() ? "bytes after the last tensor" : "truncated in its last padding",
           std::to_string(end) + " bytes", std::to_string(bytes_.size()));
    }
  }

  static constexpr std::uint32_t kArrayType = 9;

  std::span<const std::byte> bytes_;
  const std::string& path_;
  std::uint64_t position_ = 0;
  std::string subject_;  // key or tensor being read, for errors
  std::unordered_set<std::string> names_;
  GgufFile result_;
};

GgufFile GgufFile::parse(std::span<const std::byte> file, const std::string& path) {
  return GgufParser(file, path).parse();
}

}  // namespace neap
