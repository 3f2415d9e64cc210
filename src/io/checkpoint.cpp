#include "neap/checkpoint.h"

#include <algorithm>
#include <cstring>
#include <filesystem>
#include <optional>
#include <set>
#include <system_error>
#include <unordered_map>
#include <utility>

#include "base/parallel.h"
#include "io/dequantize.h"
#include "io/gguf.h"
#include "io/hub_cache.h"
#include "io/json.h"
#include "io/mapped_file.h"
#include "io/names.h"
#include "io/safetensors.h"
#include "neap/check.h"
#include "neap/error.h"

namespace neap {
namespace {

namespace fs = std::filesystem;

constexpr std::int64_t kTileElements = 1 << 16;  // of output, per tile of parallel_for

bool is_file(const fs::path& path) {
  std::error_code ignored;
  return fs::is_regular_file(path, ignored);
}

// The (rows, columns) that read_rows sees.
std::pair<std::int64_t, std::int64_t> as_matrix(const TensorInfo& tensor) {
  if (tensor.shape.empty()) return {1, 1};
  std::int64_t rows = 1;
  for (std::size_t i = 0; i + 1 < tensor.shape.size(); ++i) rows *= tensor.shape[i];
  return {rows, tensor.shape.back()};
}

// The GGUF in a folder that holds one model: one file, or the parts of a split one, of which the first.
std::optional<std::string> only_gguf(const fs::path& folder) {
  std::optional<std::string> found;
  std::error_code ignored;
  for (fs::directory_iterator it(folder, ignored), end; !ignored && it != end; it.increment(ignored)) {
    const std::string name = it->path().filename().string();
    static constexpr std::string_view kFirstPart = "-00001-of-";
    const std::size_t part = name.rfind("-of-");
    const bool later = part != name.npos && part >= 6 && name[part - 6] == '-' &&
                       name.compare(part - 6, kFirstPart.size(), kFirstPart) != 0;
    if (it->path().extension() != ".gguf" || later) continue;
    if (found) return {};
    found = it->path().string();
  }
  return found;
}

}  // namespace

struct Checkpoint::Impl {
  Kind kind = Kind::huggingface;
  std::string path, config_json;
  std::vector<MappedFile> files;
  std::vector<TensorInfo> tensors;
  std::vector<std::size_t> file_of;                           // index into files, per tensor
  std::unordered_map<std::string_view, std::size_t> by_name;  // into tensors
  std::optional<GgufFile> gguf;

  void add_tensors(const std::vector<TensorInfo>& listed, MappedFile file);
  void index_names();
  void open_folder(const std::string& folder);
  void open_shards(const fs::path& folder, const fs::path& index);
  void open_file(const std::string& file);

  // The mapping that holds a tensor of this checkpoint.
  const MappedFile& file_with(const TensorInfo& tensor) const;
};

void Checkpoint::Impl::add_tensors(const std::vector<TensorInfo>& listed, MappedFile file) {
  tensors.insert(tensors.end(), listed.begin(), listed.end());
  file_of.resize(tensors.size(), files.size());
  files.push_back(std::move(file));
}

void Checkpoint::Impl::index_names() {
  for (std::size_t i = 0; i < tensors.size(); ++i) {
    const auto [place, inserted] = by_name.emplace(tensors[i].name, i);
    if (!inserted) {
      throw Error(ErrorCode::format, "stands in two files of one model",
                  {.file = tensors[i].file,
                   .tensor = printable(tensors[i].name),
                   .found = tensors[place->second].file});
    }
  }
}

void Checkpoint::Impl::open_folder(const std::string& folder) {
  kind = Kind::huggingface;
  path = folder;
  const fs::path root(folder), config = root / "config.json", whole = root / "model.safetensors",
                               index = root / "model.safetensors.index.json";
  if (!is_file(config)) {
    if (const auto file = only_gguf(root)) return open_file(*file);
    throw Error(ErrorCode::io, "is not a model: it has no config.json, nor is there one GGUF alone (of several, name the file)",
                {.file = folder});
  }
  config_json = read_text_file(config.string());
  if (is_file(whole)) {  // before the index, as transformers does
    MappedFile file(whole.string());
    const auto header = parse_safetensors(file.bytes(), file.path());
    add_tensors(header.tensors, std::move(file));
  } else if (is_file(index)) {
    open_shards(root, index);
  } else {
    throw Error(ErrorCode::io, "has config.json but no safetensors weights",
                {.file = folder, .expected = "model.safetensors or model.safetensors.index.json"});
  }
}

void Checkpoint::Impl::open_shards(const fs::path& folder, const fs::path& index) {
  const ShardMap shards = parse_safetensors_index(read_text_file(index.string()), index.string());
  for (const auto& [name, claimed] : shards) {
    const std::string shard = (folder / name).string();
    if (!is_file(shard)) {
      throw Error(ErrorCode::io, "missing, although model.safetensors.index.json names it",
                  {.file = shard});
    }
    MappedFile file(shard);
    const auto header = parse_safetensors(file.bytes(), shard);
    std::set<std::string> promised(claimed.begin(), claimed.end());
    for (const TensorInfo& tensor : header.tensors) {
      if (promised.erase(tensor.name) == 1) continue;
      throw Error(ErrorCode::format, "is in this shard, but the index does not say so",
                  {.file = shard, .tensor = printable(tensor.name)});
    }
    if (!promised.empty()) {
      throw Error(ErrorCode::format, "is not in the shard that the index names",
                  {.file = shard, .tensor = printable(*promised.begin())});
    }
    add_tensors(header.tensors, std::move(file));
  }
}

// A GGUF, by its first bytes rather than its name; further files of a split model are joined to it.
void Checkpoint::Impl::open_file(const std::string& name) {
  kind = Kind::gguf;
  path = name;
  if (name.ends_with(".safetensors")) {
    throw Error(ErrorCode::unsupported,
                "is not a whole model: name the folder that holds it and config.json",
                {.file = name});
  }
  MappedFile file(name);
  gguf = GgufFile::parse(file.bytes(), name);
  const GgufSplit split = split_of(*gguf);
  if (split.number != 0) {
    throw Error(ErrorCode::unsupported, "not the first file of a split model",
                {.file = name, .expected = split_path(name, split, 0)});
  }
  add_tensors(gguf->tensors(), std::move(file));
  for (std::int64_t i = 1; i < split.count; ++i) {
    MappedFile next(split_path(name, split, i));
    const GgufFile part = GgufFile::parse(next.bytes(), next.path());
    const GgufSplit own = split_of(part);
    if (own.number != i || own.count != split.count || own.tensors != split.tensors) {
      throw Error(ErrorCode::format, "is not the part of this split model that its name says",
                  {.file = next.path(),
                   .expected = std::to_string(i) + " of " + std::to_string(split.count),
                   .found = std::to_string(own.number) + " of " + std::to_string(own.count)});
    }
    add_tensors(part.tensors(), std::move(next));
  }
  if (static_cast<std::int64_t>(tensors.size()) != split.tensors) {
    throw Error(ErrorCode::format, "the files of this split model do not add up",
                {.file = name,
                 .tensor = "split.tensors.count",
                 .expected = std::to_string(split.tensors),
                 .found = std::to_string(tensors.size())});
  }
}

const MappedFile& Checkpoint::Impl::file_with(const TensorInfo& tensor) const {
  const auto place = by_name.find(tensor.name);
  NEAP_CHECK(place != by_name.end());
  const TensorInfo& own = tensors[place->second];
  NEAP_CHECK(tensor.offset >= own.offset && tensor.offset + tensor.bytes <= own.offset + own.bytes);
  return files[file_of[place->second]];
}

Checkpoint::Checkpoint(std::shared_ptr<const Impl> impl) : impl_(std::move(impl)) {}

Checkpoint Checkpoint::open(const std::string& model) {
  auto impl = std::make_shared<Impl>();
  std::error_code ignored;
  const fs::file_status status = fs::status(model, ignored);
  if (fs::is_directory(status)) {
    impl->open_folder(model);
  } else if (fs::exists(status)) {
    impl->open_file(model);
  } else if (const auto name = parse_hub_name(model)) {
    impl->open_folder(find_in_hub_cache(*name, hub_cache_folder()));
  } else {
    throw Error(ErrorCode::io, "no such file or folder", {.file = model});
  }
  impl->index_names();
  return Checkpoint(std::move(impl));
}

Checkpoint::Kind Checkpoint::kind() const { return impl_->kind; }
const std::string& Checkpoint::path() const { return impl_->path; }

std::string Checkpoint::folder() const {
  if (kind() == Kind::huggingface) return path();
  const std::string parent = fs::path(path()).parent_path().string();
  return parent.empty() ? "." : parent;
}

const std::vector<TensorInfo>& Checkpoint::tensors() const { return impl_->tensors; }

const TensorInfo* Checkpoint::find(std::string_view name) const {
  const auto place = impl_->by_name.find(name);
  return place == impl_->by_name.end() ? nullptr : &impl_->tensors[place->second];
}

const TensorInfo& Checkpoint::info(std::string_view name) const {
  if (const TensorInfo* tensor = find(name)) return *tensor;
  throw Error(ErrorCode::format, "the model has no such tensor",
              {.file = path(), .tensor = printable(name)});
}

std::span<const std::byte> Checkpoint::bytes(const TensorInfo& tensor) const {
  return impl_->file_with(tensor).bytes().subspan(tensor.offset, tensor.bytes);
}

void Checkpoint::read_rows(const TensorInfo& tensor, std::int64_t first, std::int64_t count,
                           float* out) const {
  if (!can_dequantize(tensor.type)) {
    throw Error(ErrorCode::unsupported, "does not hold plain or block-quantized floats",
                {.file = tensor.file,
                 .tensor = printable(tensor.name),
                 .found = std::string(name_of(tensor.type))});
  }
  const auto [rows, cols] = as_matrix(tensor);
  NEAP_CHECK(first >= 0 && count >= 0 && first <= rows && count <= rows - first);
  if (count == 0 || cols == 0) return;
  const auto row_bytes = static_cast<std::int64_t>(tensor.bytes) / rows;
  const MappedFile& file = impl_->file_with(tensor);
  file.will_need(tensor.offset + static_cast<std::uint64_t>(first * row_bytes),
                 static_cast<std::uint64_t>(count * row_bytes));
  const std::byte* from = file.bytes().data() + tensor.offset + first * row_bytes;

  // All rows together are one run of blocks; a tile is a piece of it, even within a long row.
  const auto block = static_cast<std::int64_t>(block_elements(tensor.type));
  const auto block_size = static_cast<std::int64_t>(block_bytes(tensor.type));
  const std::int64_t elements = count * cols;
  const std::int64_t tiles = (elements + kTileElements - 1) / kTileElements;
  parallel_for(static_cast<std::size_t>(tiles), [&](std::size_t tile) {
    const std::int64_t begin = static_cast<std::int64_t>(tile) * kTileElements;
    const std::int64_t length = std::min(kTileElements, elements - begin);
    dequantize_blocks(tensor.type, from + begin / block * block_size, out + begin,
                      static_cast<std::size_t>(length));
  });
}

std::vector<float> Checkpoint::read(const TensorInfo& tensor) const {
  const auto [rows, cols] = as_matrix(tensor);
  std::vector<float> values(static_cast<std::size_t>(rows * cols));
  read_rows(tensor, 0, rows, values.data());
  return values;
}

const std::string& Checkpoint::config_json() const { return impl_->config_json; }
const GgufFile* Checkpoint::gguf() const { return impl_->gguf ? &*impl_->gguf : nullptr; }

void Checkpoint::release(const TensorInfo& tensor) const {
  impl_->file_with(tensor).release(tensor.offset, tensor.bytes);
}

}  // namespace neap
