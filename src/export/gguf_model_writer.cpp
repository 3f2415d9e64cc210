#include "export/gguf_model_writer.h"

#include <algorithm>
#include <cstring>
#include <filesystem>
#include <optional>
#include <set>

#include "codec/gguf_fp4.h"
#include "export/dense_tensors.h"
#include "export/gguf_metadata.h"
#include "export/rope_factors.h"
#include "export/source_identity.h"
#include "export/verify.h"
#include "io/gguf_writer.h"
#include "neap/error.h"

namespace neap {
namespace {

namespace fs = std::filesystem;

constexpr const char* kRopeFactors = "rope_freqs.weight";

// One tensor of the output, and where its values come from.
struct Entry {
  TensorSpec spec;         // under GGUF's name
  std::string source;      // Hugging Face's name, "model.layers.0.mlp.up_proj.weight"
  std::int64_t heads = 0;  // whose rows go in rotated pairs; 0: rows stay where they are
  std::optional<GgufLayout> layout;  // of a block type that is made here
  bool decided = false;              // ... by write(); else by rounding

  std::string module() const { return source.substr(0, source.rfind('.')); }
  std::size_t rows() const { return spec.shape.size() < 2 ? 1 : static_cast<std::size_t>(spec.shape[0]); }
};

// Hugging Face's row 'half t, pair j' of each head becomes row 2 j + t. A row is `width` values.
template <class T>
std::vector<T> interleaved(std::span<const T> from, std::size_t rows, std::int64_t heads) {
  const std::size_t width = from.size() / rows, head_dim = rows / static_cast<std::size_t>(heads);
  std::vector<T> to(from.size());
  for (std::size_t r = 0; r < rows; ++r) {
    const std::size_t head = r / head_dim, t = r % head_dim / (head_dim / 2), j = r % (head_dim / 2);
    std::copy_n(from.begin() + static_cast<std::ptrdiff_t>(r * width), width,
                to.begin() + static_cast<std::ptrdiff_t>((head * head_dim + 2 * j + t) * width));
  }
  return to;
}

DType type_of(const QuantizedWeight& weight) {
  if (const auto* floats = std::get_if<Fp4Tensor>(&weight)) return gguf_type_of(floats->layout);
  return std::get<GgufTensor>(weight).layout.type;
}

std::vector<std::byte> blocks_of(const QuantizedWeight& weight) {
  if (const auto* floats = std::get_if<Fp4Tensor>(&weight)) return encode_gguf_blocks(*floats);
  return encode_gguf_blocks(std::get<GgufTensor>(weight));
}

// The model's tensors in the order of a forward pass.
class Lister {
 public:
  Lister(const Weights& weights, const GgufContents& contents)
      : weights_(weights), contents_(contents), family_(*architecture_of_family(weights.config().family)) {}

  std::vector<Entry> list() {
    const ModelConfig& config = weights_.config();
    add_matrix(kEmbedding, "", "", 0);
    if (config.rope_scaling.kind == RopeScaling::Kind::llama3 || !config.rope_factors.empty()) add_rope_factors();
    for (std::int64_t layer = 0; layer < config.layers; ++layer) add_layer(layer);
    add_vector(kFinalNorm, "", "", config.hidden);
    if (!config.tied_head) add_matrix(kHead, "", "", 0);
    return std::move(entries_);
  }

 private:
  void add_layer(std::int64_t layer) {
    const ModelConfig& config = weights_.config();
    const std::string hf = "model.layers." + std::to_string(layer) + ".", gguf = "blk." + std::to_string(layer) + ".";
    add_vector(kInputNorm, hf, gguf, config.hidden);
    for (const Role role : {Role::q, Role::k, Role::v, Role::o, Role::gate, Role::up, Role::down}) {
      if (role == Role::gate) add_vector(kMlpNorm, hf, gguf, config.hidden);
      const bool turns = family_.gguf_interleaved_rope && (role == Role::q || role == Role::k);
      const std::int64_t heads = !turns ? 0 : role == Role::q ? config.heads : config.kv_heads;
      add_matrix(role_names(role), hf, gguf, heads);
      if (module_has_bias(config, role)) {
        add_vector(role_names(role), hf, gguf, module_shape(config, role)[0], ".bias", heads);
      }
      if (role != Role::k || !config.qk_norm) continue;
      add_vector(kQNorm, hf, gguf, config.head_dim);
      add_vector(kKNorm, hf, gguf, config.head_dim);
    }
  }

  Entry& add(const NamePair& pair, const std::string& hf, const std::string& gguf, const char* suffix) {
    Entry& entry = entries_.emplace_back();
    entry.source = hf + std::string(pair.huggingface) + suffix;
    entry.spec.name = gguf + std::string(pair.gguf) + suffix;
    return entry;
  }

  const TensorInfo& source_of(const Entry& entry) const {
    const Checkpoint& checkpoint = weights_.checkpoint();
    return checkpoint.info(checkpoint.gguf() ? entry.spec.name : entry.source);
  }

  void add_vector(const NamePair& pair, const std::string& hf, const std::string& gguf, std::int64_t length,
                  const char* suffix = ".weight", std::int64_t heads = 0) {
    Entry& entry = add(pair, hf, gguf, suffix);
    entry.heads = heads;
    entry.spec.shape = {length};
    entry.spec.type = weights_.checkpoint().gguf() ? source_of(entry).type : DType::f32;
  }

  void add_matrix(const NamePair& pair, const std::string& hf, const std::string& gguf, std::int64_t heads) {
    Entry& entry = add(pair, hf, gguf, ".weight");
    entry.heads = heads;
    const auto decided = contents_.modules.find(entry.module()), rounded = contents_.rounded.find(entry.module());
    entry.decided = decided != contents_.modules.end();
    if (!entry.decided) {
      const TensorInfo& info = source_of(entry);
      entry.spec.shape = info.shape;
      entry.spec.type = info.type;
      if (rounded == contents_.rounded.end()) return copy_scales(pair, hf, gguf);
    } else {
      entry.spec.shape = linear_shape(weights_.config(), entry.module());  // in a quantized source it has parts instead
    }
    entry.layout = entry.decided ? decided->second : rounded->second;
    entry.spec.type = entry.layout->type;
    check_blocks(entry);
    if (entry.spec.type == DType::nvfp4) add(pair, hf, gguf, kGgufScale).spec.shape = {1};
  }

  // Those that a GGUF has beside a matrix that stays as it is.
  void copy_scales(const NamePair& pair, const std::string& hf, const std::string& gguf) {
    if (!weights_.checkpoint().gguf()) return;
    for (const char* suffix : {kGgufScale, kGgufInputScale}) {
      if (weights_.checkpoint().find(gguf + std::string(pair.gguf) + suffix)) add(pair, hf, gguf, suffix).spec.shape = {1};
    }
  }

  static void check_blocks(const Entry& entry) {
    const std::size_t block = block_elements(entry.spec.type);
    if (entry.spec.shape[1] % static_cast<std::int64_t>(block) == 0) return;
    throw Error(ErrorCode::argument, std::string(name_of(entry.spec.type)) + " cannot hold rows of this length",
                {.tensor = entry.module(),
                 .expected = "a multiple of " + std::to_string(block),
                 .found = to_string(entry.spec.shape)});
  }

  void add_rope_factors() {
    Entry& entry = entries_.emplace_back();
    entry.spec = {kRopeFactors, DType::f32, {weights_.config().head_dim / 2}};
  }

  const Weights& weights_;
  const GgufContents& contents_;
  const Architecture& family_;
  std::vector<Entry> entries_;
};

void check_modules(const ModelConfig& config, const GgufContents& contents) {
  const std::vector<std::string> modules = linear_modules(config);
  for (const auto& [module, layout] : contents.modules) {
    const bool tied = module == "lm_head" && config.tied_head;
    if (!tied && std::find(modules.begin(), modules.end(), module) != modules.end()) continue;
    throw Error(ErrorCode::argument, "the model has no such linear module", {.tensor = module});
  }
}

// The directory's name, which the file gets too, or the file's own.
std::string file_name_for(const std::string& output) {
  const fs::path path = fs::path(output).lexically_normal();
  const fs::path name = path.has_filename() ? path.filename() : path.parent_path().filename();
  return name.extension() == ".gguf" ? name.string() : name.string() + ".gguf";
}

OutputKind kind_of(const std::string& output) {
  return fs::path(output).extension() == ".gguf" ? OutputKind::file : OutputKind::directory;
}

// What a directory's files are called beside a single file.
const std::map<std::string, std::string>& companion_suffixes() {
  static const std::map<std::string, std::string> kSuffixes = {{"README.md", ".md"}, {"quantization_report.json", ".report.json"}};
  return kSuffixes;
}

class GgufOutput final : public ModelOutput {
 public:
  GgufOutput(const Weights& weights, GgufContents contents, ExportOptions options, const std::string& name)
      : weights_(weights),
        contents_(std::move(contents)),
        options_(std::move(options)),
        entries_(Lister(weights, contents_).list()),
        metadata_(gguf_metadata(weights, contents_.mix, identify(weights.checkpoint()).name, notes_)),
        kind_(kind_of(options_.output)),
        directory_(options_.output, options_.overwrite, kind_),
        name_(name),
        writer_(directory_.folder() + "/" + fs::path(name).stem().string(), metadata_, specs(),
                options_.max_shard_bytes.value_or(GgufWriter::kOneFile)) {}

  void write(const std::string& module, const DecidedLayer& layer) override {
    const Entry& entry = find(module + ".weight");
    const std::int64_t rows = rows_of(layer.weight), cols = cols_of(layer.weight);
    NEAP_CHECK(entry.decided && type_of(layer.weight) == entry.layout->type && entry.spec.shape == (Shape{rows, cols}));
    put(entry, placed(entry, blocks_of(layer.weight)));
    if (entry.layout->type == DType::nvfp4) put_scale(module, gguf_matrix_scale(std::get<Fp4Tensor>(layer.weight)));
    Matrix<float> values(static_cast<std::size_t>(rows), static_cast<std::size_t>(cols));
    dequantize(layer.weight, {}, 0, rows, values);
    modules_[module] = digest_of_values(values);
  }

  void write_dense(const std::string& tensor, MatrixView<const float> values) override {
    const Entry& entry = find(tensor);
    NEAP_CHECK(!entry.layout && values.contiguous());
    put(entry, placed(entry, to_bytes(values.data, values.rows * values.cols, entry.spec.type, tensor)));
  }

  // Beside a single file the report, which holds the recipe, does for that.
  void write_file(const std::string& name, const std::string& contents) override {
    if (kind_ == OutputKind::directory) return directory_.write(name, contents);
    const auto suffix = companion_suffixes().find(name);
    if (suffix != companion_suffixes().end()) directory_.write(name_ + suffix->second, contents);
  }
  std::uint64_t tensor_bytes() const override { return writer_.tensor_bytes(); }
  const std::vector<std::string>& notes() const override { return notes_; }

  double bits_per_weight() const override {
    double weights = 0;
    for (const Entry& entry : entries_) {
      double count = 1;
      for (const std::int64_t extent : entry.spec.shape) count *= static_cast<double>(extent);
      weights += count;
    }
    return 8 * static_cast<double>(tensor_bytes()) / weights;
  }

  void close() override {
    for (const auto& module : contents_.modules) NEAP_CHECK(modules_.contains(module.first));
    const auto total = static_cast<std::int64_t>(entries_.size());
    for (std::int64_t i = 0; i < total; ++i) {
      report("writing", i, total);
      const Entry& entry = entries_[static_cast<std::size_t>(i)];
      if (!written_.contains(entry.spec.name)) copy(entry);
    }
    report("writing", total, total);
    writer_.finish();
    verify();
  }

  std::string closed_path() const override { return writer_.first_file(); }
  const std::map<std::string, std::uint64_t>& tensor_digests() const override { return written_; }
  void commit() override { directory_.commit(); }

 private:
  std::vector<TensorSpec> specs() const {
    std::vector<TensorSpec> list;
    for (const Entry& entry : entries_) list.push_back(entry.spec);
    return list;
  }

  const Entry& find(const std::string& source) const {
    const auto entry = std::find_if(entries_.begin(), entries_.end(), [&](const Entry& e) { return e.source == source; });
    NEAP_CHECK(entry != entries_.end());
    return *entry;
  }

  void report(const char* stage, std::int64_t done, std::int64_t total) const {
    if (options_.progress && !options_.progress({.stage = stage, .done = done, .total = total})) {
      throw Error(ErrorCode::cancelled, "stopped");
    }
  }

  void put(const Entry& entry, std::span<const std::byte> bytes) {
    writer_.write(entry.spec.name, bytes);
    Digest digest;
    digest.add(bytes.data(), bytes.size());
    NEAP_CHECK(written_.emplace(entry.spec.name, digest.value()).second);
  }

  void put_scale(const std::string& module, float scale) {
    put(find(module + kGgufScale), std::as_bytes(std::span(&scale, 1)));
  }

  // Bytes in Hugging Face's order of rows, in GGUF's.
  static std::vector<std::byte> placed(const Entry& entry, std::vector<std::byte> bytes) {
    if (entry.heads == 0) return bytes;
    const std::size_t rows = entry.spec.shape.size() < 2 ? static_cast<std::size_t>(entry.spec.shape[0]) : entry.rows();
    return interleaved<std::byte>(bytes, rows, entry.heads);
  }

  void copy(const Entry& entry) {
    const Checkpoint& checkpoint = weights_.checkpoint();
    if (entry.layout) return round(entry);
    if (entry.spec.name == kRopeFactors) return put_rope_factors(entry);
    if (checkpoint.gguf()) return stream(entry, checkpoint.info(entry.spec.name));
    const TensorInfo& info = checkpoint.info(entry.source);
    if (entry.spec.shape.size() < 2) {
      const std::vector<float> values = checkpoint.read(info);
      return put(entry, placed(entry, to_bytes(values.data(), values.size(), DType::f32, entry.source)));
    }
    if (entry.heads == 0) return stream(entry, info);
    const auto bytes = checkpoint.bytes(info);
    put(entry, placed(entry, {bytes.begin(), bytes.end()}));
    checkpoint.release(info);
  }

  void stream(const Entry& entry, const TensorInfo& info) {
    Digest digest;
    std::uint64_t offset = 0;
    visit_bytes(weights_.checkpoint(), info, [&](std::span<const std::byte> bytes) {
      writer_.write(entry.spec.name, bytes, offset);
      digest.add(bytes.data(), bytes.size());
      offset += bytes.size();
    });
    written_.emplace(entry.spec.name, digest.value());
  }

  void put_rope_factors(const Entry& entry) {
    const ModelConfig& config = weights_.config();
    std::vector<float> factors = config.rope_factors;  // of a GGUF
    for (std::size_t i = factors.size(); i < static_cast<std::size_t>(entry.spec.shape[0]); ++i) {
      factors.push_back(static_cast<float>(llama3_divisor(config, config.rope_scaling, i)));
    }
    put(entry, std::as_bytes(std::span(factors)));
  }

  void round(const Entry& entry) {
    const Checkpoint& checkpoint = weights_.checkpoint();
    const TensorInfo& info = checkpoint.info(checkpoint.gguf() ? entry.spec.name : entry.source);
    const auto rows = entry.spec.shape[0], cols = entry.spec.shape[1];
    Digest digest;
    std::uint64_t offset = 0;
    for (std::int64_t first = 0; first < rows; first += Weights::kHeadPart) {
      const std::int64_t count = std::min(Weights::kHeadPart, rows - first);
      Matrix<float> part(static_cast<std::size_t>(count), static_cast<std::size_t>(cols));
      checkpoint.read_rows(info, first, count, part.data());
      const auto bytes = blocks_of(contents_.round(part, *entry.layout));
      writer_.write(entry.spec.name, bytes, offset);
      digest.add(bytes.data(), bytes.size());
      offset += bytes.size();
    }
    checkpoint.release(info);
    written_.emplace(entry.spec.name, digest.value());
  }

  static std::uint64_t digest_of_values(const Matrix<float>& values) {
    Digest digest;
    digest.add(values.data(), values.rows() * values.cols() * sizeof(float));
    return digest.value();
  }

  // Any reader's view: bytes as written, modules as meant, in Hugging Face's order of rows.
  void verify() const {
    const Checkpoint checkpoint = Checkpoint::open(writer_.first_file());
    const Weights complete(checkpoint, read_config(checkpoint));
    std::int64_t done = 0;
    verify_tensors(checkpoint, written_, [&](std::uint64_t bytes) {
      done += static_cast<std::int64_t>(bytes);
      report("verifying", done, static_cast<std::int64_t>(writer_.tensor_bytes()));
    });
    for (std::int64_t layer = 0; layer < complete.config().layers; ++layer) {
      for (const Role role : {Role::q, Role::k, Role::v, Role::o, Role::gate, Role::up, Role::down}) {
        const auto module = modules_.find(module_name(layer, role));
        if (module == modules_.end() || digest_of_values(complete.weight(layer, role)) == module->second) continue;
        throw Error(ErrorCode::io, "read back, it decodes to something else than was written",
                    {.file = writer_.first_file(), .tensor = module->first});
      }
    }
  }

  const Weights& weights_;
  GgufContents contents_;
  ExportOptions options_;
  std::vector<std::string> notes_;
  std::vector<Entry> entries_;
  GgufMetadata metadata_;
  OutputKind kind_;
  OutputDirectory directory_;  // before the writer, whose file lies in it
  std::string name_;
  GgufWriter writer_;
  std::map<std::string, std::uint64_t> written_, modules_;  // digests of bytes and of values
};

}  // namespace

std::unique_ptr<ModelOutput> make_gguf_output(const Weights& weights, GgufContents contents, ExportOptions options) {
  if (!options.from_quantized) check_source(weights);
  check_modules(weights.config(), contents);
  check_output(weights.checkpoint(), options.output);
  if (options.max_shard_bytes && kind_of(options.output) == OutputKind::file) {
    throw Error(ErrorCode::argument, "one file is not several", {.file = options.output, .expected = "a directory, for files of a limited size"});
  }
  const std::string name = file_name_for(options.output);
  return std::make_unique<GgufOutput>(weights, std::move(contents), std::move(options), name);
}

}  // namespace neap
