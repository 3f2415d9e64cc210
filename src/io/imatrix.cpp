#include "io/imatrix.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

#include "io/gguf.h"
#include "io/gguf_writer.h"
#include "io/mapped_file.h"
#include "io/names.h"
#include "io/writer.h"
#include "neap/error.h"

namespace neap {
namespace {

constexpr const char* kType = "general.type";
constexpr const char* kDatasets = "imatrix.datasets";
constexpr const char* kChunks = "imatrix.chunk_count";
constexpr const char* kChunkSize = "imatrix.chunk_size";
constexpr std::string_view kSums = ".in_sum2", kCounts = ".counts";
constexpr std::int64_t kMaxInputs = std::int64_t{1} << 24;  // hundreds of times the widest layer
constexpr std::int32_t kMaxNameBytes = 63, kMaxDatasetBytes = 1 << 16;

void check_sums(std::span<const float> sums, const std::string& path, const std::string& name, std::uint64_t offset) {
  const auto bad = std::find_if(sums.begin(), sums.end(), [](float v) { return !std::isfinite(v) || v < 0; });
  if (bad == sums.end()) return;
  throw Error(ErrorCode::format, "not a sum of squares",
              {.file = path,
               .tensor = printable(name),
               .offset = offset + 4 * static_cast<std::uint64_t>(bad - sums.begin()),
               .expected = "a finite number of at least 0",
               .found = std::to_string(*bad)});
}

// The form from before GGUF: i32 entries | entries x { i32 length; name; i32 count; i32 values; f32 values } |
// perhaps { i32 chunks; i32 length; dataset }.
class OlderParser {
 public:
  OlderParser(std::span<const std::byte> file, const std::string& path) : bytes_(file), path_(path) {}

  ImportanceMatrix parse() {
    const auto entries = read_number("entries", 1, std::numeric_limits<std::int32_t>::max());
    for (std::int32_t i = 0; i < entries; ++i) read_entry();
    subject_.clear();
    if (position_ < bytes_.size()) read_end();
    if (position_ < bytes_.size()) fail("bytes after the end", "", std::to_string(bytes_.size() - position_));
    return std::move(result_);
  }

 private:
  [[noreturn]] void fail(const std::string& message, std::string expected = {}, std::string found = {},
                         std::uint64_t back = 0) const {
    throw Error(ErrorCode::format, message,
                {.file = path_,
                 .tensor = printable(subject_),
                 .offset = position_ - back,
                 .expected = std::move(expected),
                 .found = std::move(found)});
  }

  void need(std::uint64_t count) const {
    const std::uint64_t left = bytes_.size() - position_;
    if (count > left) fail("truncated", std::to_string(count) + " more bytes", std::to_string(left));
  }

  std::int32_t read_number(const char* what, std::int64_t least, std::int64_t most) {
    std::int32_t value = 0;
    need(sizeof value);
    std::memcpy(&value, bytes_.data() + position_, sizeof value);
    position_ += sizeof value;
    if (value < least || value > most) {
      fail(std::string("not an importance matrix: this is no number of ") + what,
           std::to_string(least) + " to " + std::to_string(most), std::to_string(value), sizeof value);
    }
    return value;
  }

  std::string read_text(std::int32_t length) {
    need(static_cast<std::uint64_t>(length));
    std::string text(reinterpret_cast<const char*>(bytes_.data()) + position_, static_cast<std::size_t>(length));
    position_ += text.size();
    return text;
  }

  void read_entry() {
    const std::uint64_t start = position_;
    const std::string name = read_text(read_number("bytes of a name", 1, kMaxNameBytes));
    subject_ = name;
    if (!is_plain_name(name)) fail("not a usable name", "", "", position_ - start);
    ImportanceMatrix::Entry entry;
    entry.count = read_number("chunks", 1, std::numeric_limits<std::int32_t>::max());
    const auto values = static_cast<std::size_t>(read_number("values", 1, kMaxInputs));
    need(values * sizeof(float));
    entry.sums.resize(values);
    std::memcpy(entry.sums.data(), bytes_.data() + position_, values * sizeof(float));
    check_sums(entry.sums, path_, name, position_);
    position_ += values * sizeof(float);
    if (!result_.entries.emplace(name, std::move(entry)).second) {
      fail("the same name stands twice", "", "", position_ - start);
    }
  }

  void read_end() {
    result_.chunks = read_number("chunks", 0, std::numeric_limits<std::int32_t>::max());
    const std::string dataset = read_text(read_number("bytes of a dataset's name", 0, kMaxDatasetBytes));
    if (!dataset.empty()) result_.datasets.push_back(dataset);
  }

  std::span<const std::byte> bytes_;
  const std::string& path_;
  std::string subject_;
  std::uint64_t position_ = 0;
  ImportanceMatrix result_;
};

class NewerParser {
 public:
  NewerParser(std::span<const std::byte> bytes, const std::string& path)
      : bytes_(bytes), file_(GgufFile::parse(bytes, path)) {}

  ImportanceMatrix parse() {
    if (file_.string(kType, "") != "imatrix") {
      throw Error(ErrorCode::format, "is not an importance matrix",
                  {.file = file_.path(), .tensor = kType, .expected = "imatrix", .found = printable(file_.string(kType, ""))});
    }
    result_.datasets = file_.strings(kDatasets);
    result_.chunks = size_of(kChunks);
    result_.chunk_size = size_of(kChunkSize);
    for (const TensorInfo& tensor : file_.tensors()) read(tensor);
    for (const auto& [name, entry] : result_.entries) {
      if (entry.sums.empty() || entry.count == 0) {
        const auto missing = entry.count == 0 ? kCounts : kSums;
        throw Error(ErrorCode::format, "half of an entry is missing",
                    {.file = file_.path(), .tensor = printable(name), .expected = name + std::string(missing)});
      }
    }
    if (result_.entries.empty()) throw Error(ErrorCode::format, "has no entries", {.file = file_.path()});
    return std::move(result_);
  }

 private:
  // As far as the older form goes, so that the product of two is an integer still.
  std::int64_t size_of(const char* key) const {
    constexpr std::int64_t kMost = std::numeric_limits<std::int32_t>::max();
    const std::int64_t value = file_.integer(key);
    if (value < 0 || value > kMost) {
      throw Error(ErrorCode::format, "out of range",
                  {.file = file_.path(),
                   .tensor = key,
                   .expected = "0 to " + std::to_string(kMost),
                   .found = std::to_string(value)});
    }
    return value;
  }

  [[noreturn]] void fail(const TensorInfo& tensor, const std::string& message, std::string expected, std::string found,
                         ErrorCode code = ErrorCode::format) const {
    throw Error(code, message,
                {.file = file_.path(),
                 .tensor = printable(tensor.name),
                 .offset = tensor.offset,
                 .expected = std::move(expected),
                 .found = std::move(found)});
  }

  std::vector<float> values(const TensorInfo& tensor) const {
    if (tensor.type != DType::f32) fail(tensor, "of another type", "F32", std::string(name_of(tensor.type)));
    std::vector<float> values(tensor.bytes / sizeof(float));
    std::memcpy(values.data(), bytes_.data() + tensor.offset, tensor.bytes);
    return values;
  }

  void read(const TensorInfo& tensor) {
    const std::string_view name = tensor.name;
    if (name.ends_with(kSums)) return read_sums(tensor, std::string(name.substr(0, name.size() - kSums.size())));
    if (name.ends_with(kCounts)) return read_count(tensor, std::string(name.substr(0, name.size() - kCounts.size())));
    fail(tensor, "nothing that an importance matrix holds", "a name that ends in .in_sum2 or .counts", "");
  }

  void read_sums(const TensorInfo& tensor, const std::string& name) {
    std::vector<float> sums = values(tensor);
    if (sums.empty()) fail(tensor, "no inputs", "at least 1", "0");
    check_sums(sums, file_.path(), tensor.name, tensor.offset);
    result_.entries[name].sums = std::move(sums);
  }

  void read_count(const TensorInfo& tensor, const std::string& name) {
    const std::vector<float> counts = values(tensor);
    if (counts.size() != 1) {
      fail(tensor, "of several matrices, as mixtures of experts have them", "1 count", std::to_string(counts.size()),
           ErrorCode::unsupported);
    }
    if (!(counts[0] >= 0.5f && counts[0] <= 0x1p62f)) {
      fail(tensor, "not a number of tokens", "at least 1", std::to_string(counts[0]));
    }
    result_.entries[name].count = std::llround(counts[0]);
  }

  std::span<const std::byte> bytes_;
  GgufFile file_;
  ImportanceMatrix result_;
};

}  // namespace

ImportanceMatrix parse_imatrix(std::span<const std::byte> file, const std::string& path) {
  const bool newer = file.size() >= 4 && std::memcmp(file.data(), "GGUF", 4) == 0;
  return newer ? NewerParser(file, path).parse() : OlderParser(file, path).parse();
}

ImportanceMatrix read_imatrix(const std::string& path) {
  const MappedFile file(path);
  return parse_imatrix(file.bytes(), path);
}

void write_imatrix(const ImportanceMatrix& matrix, const std::string& path) {
  const GgufMetadata metadata = {{kType, std::string("imatrix")},
                                 {kDatasets, matrix.datasets},
                                 {kChunks, static_cast<std::uint32_t>(matrix.chunks)},
                                 {kChunkSize, static_cast<std::uint32_t>(matrix.chunk_size)}};
  std::vector<TensorSpec> tensors;
  std::vector<float> data;  // of one tensor after another, each from a multiple of the alignment on
  const auto add = [&](const std::string& name, std::span<const float> values) {
    tensors.push_back({name, DType::f32, {static_cast<std::int64_t>(values.size())}});
    data.insert(data.end(), values.begin(), values.end());
    while (data.size() * sizeof(float) % kGgufAlignment != 0) data.push_back(0);
  };
  for (const auto& [name, entry] : matrix.entries) {
    const auto count = static_cast<float>(entry.count);
    add(name + std::string(kSums), entry.sums);
    add(name + std::string(kCounts), {&count, 1});
  }
  std::string bytes = gguf_header(metadata, tensors);
  bytes.append(reinterpret_cast<const char*>(data.data()), data.size() * sizeof(float));
  write_file_atomically(path, bytes);
}

}  // namespace neap
