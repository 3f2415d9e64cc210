#include "export/model_writer.h"

#include <algorithm>
#include <filesystem>
#include <set>

#include "export/dense_tensors.h"
#include "export/hf_config.h"
#include "export/tokenizer_files.h"
#include "export/verify.h"
#include "io/json.h"
#include "io/safetensors_writer.h"
#include "io/writer.h"
#include "neap/error.h"

namespace neap {
namespace {

namespace fs = std::filesystem;

constexpr std::uint64_t kUsualShard = std::uint64_t{5} << 30;

void check_layers(const ModelConfig& config, const WeightLayouts& layers,
                  const OutputFormat& format) {
  const auto modules = linear_modules(config);
  const std::set<std::string> known(modules.begin(), modules.end());
  for (const auto& [module, layout] : layers) {
    if (!known.contains(module)) {
      throw Error(ErrorCode::argument, "the model has no such linear module", {.tensor = module});
    }
    format.check(module, layout, linear_shape(config, module));
  }
}

std::set<std::string> names_of(const WeightLayouts& layers) {
  std::set<std::string> names;
  for (const auto& layer : layers) names.insert(layer.first);
  return names;
}

// A vector is one row.
std::int64_t elements(const Shape& shape) {
  std::int64_t product = 1;
  for (const std::int64_t n : shape) product *= n;
  return product;
}

}  // namespace

void check_source(const Weights& weights) {
  const Checkpoint& checkpoint = weights.checkpoint();
  if (checkpoint.gguf() != nullptr) return;
  const std::string file = checkpoint.folder() + "/config.json";
  if (JsonNode(parse_json(checkpoint.config_json(), file), file).find("quantization_config")) {
    throw Error(ErrorCode::unsupported, "is quantized already; start from the original model",
                {.file = file, .tensor = "quantization_config"});
  }
}

// Replacing what is being read would end badly.
void check_output(const Checkpoint& checkpoint, const std::string& output) {
  std::error_code error;
  const fs::path target = fs::weakly_canonical(fs::absolute(output), error);
  for (const std::string& path : {checkpoint.path(), checkpoint.folder()}) {
    const fs::path source = fs::weakly_canonical(fs::absolute(path), error);
    for (fs::path above = source;; above = above.parent_path()) {
      if (above == target) {
        throw Error(ErrorCode::argument, "is the model that is being read, or holds it",
                    {.file = output});
      }
      if (above == above.parent_path()) break;
    }
  }
}

struct ModelWriter::Impl {
  Impl(const Weights& source, WeightLayouts modules, std::unique_ptr<const OutputFormat> its,
       ExportOptions how)
      : weights(source),
        layers(std::move(modules)),
        format(std::move(its)),
        options(std::move(how)),
        items(list_output(weights, names_of(layers), options.from_quantized ? DType::f32 : DType::f16)),
        small_files(tokenizer_files(weights.checkpoint())),
        output(options.output, options.overwrite),
        tensors(output.folder(), specs(), options.max_shard_bytes.value_or(kUsualShard), {{"format", "pt"}}) {
    for (const OutputFormat::Tensor& tensor : format->shared()) put(tensor.spec.name, tensor.bytes);
    note_rounding();
    if (small_files.empty()) notes.push_back("the source has no tokenizer, so the output has none");
  }

  std::vector<TensorSpec> specs() const {
    std::vector<TensorSpec> list;
    for (const OutputItem& item : items) {
      if (!item.is_module()) {
        list.push_back(item.tensor.spec);
        continue;
      }
      const Shape shape = linear_shape(weights.config(), item.module);
      for (const PartInfo& part : format->parts(layers.at(item.module), shape)) {
        list.push_back({item.module + part.suffix, part.type, part.shape});
      }
    }
    for (const OutputFormat::Tensor& tensor : format->shared()) list.push_back(tensor.spec);
    return list;
  }

  void note_rounding() {
    std::map<std::pair<DType, DType>, std::vector<std::string>> rounded;
    for (const OutputItem& item : items) {
      if (item.is_module() || block_elements(item.tensor.source_type) == 1 || item.tensor.spec.type == DType::f32) continue;
      rounded[{item.tensor.source_type, item.tensor.spec.type}].push_back(item.tensor.spec.name);
    }
    for (const auto& [types, names] : rounded) {
      notes.push_back(
          names[0] +
          (names.size() > 1 ? " and " + std::to_string(names.size() - 1) + " more" : "") + ": " +
          std::string(name_of(types.first)) + " in the source, stored as " +
          std::string(name_of(types.second)) + ", which rounds");
    }
  }

  void report(const char* stage, std::int64_t done, std::int64_t total) const {
    if (!options.progress) return;
    if (!options.progress({.stage = stage, .done = done, .total = total})) {
      throw Error(ErrorCode::cancelled, "stopped");
    }
  }

  void put(const std::string& name, std::span<const std::byte> bytes) {
    tensors.write(name, bytes);
    Digest digest;
    digest.add(bytes.data(), bytes.size());
    const bool first = expected.tensors.emplace(name, digest.value()).second;
    NEAP_CHECK(first);
  }

  void copy(const DenseTensor& tensor) {
    Digest digest;
    std::uint64_t offset = 0;
    tensor.stream([&](std::span<const std::byte> bytes) {
      tensors.write(tensor.spec.name, bytes, offset);
      digest.add(bytes.data(), bytes.size());
      offset += bytes.size();
    });
    expected.tensors.emplace(tensor.spec.name, digest.value());
  }

  void copy_rest() {
    const auto total = static_cast<std::int64_t>(items.size());
    for (std::int64_t i = 0; i < total; ++i) {
      report("writing", i, total);
      const OutputItem& item = items[static_cast<std::size_t>(i)];
      if (!item.is_module() && !expected.tensors.contains(item.tensor.spec.name)) copy(item.tensor);
    }
    report("writing", total, total);
  }

  void verify() const {
    const auto total = static_cast<std::int64_t>(tensors.tensor_bytes());
    std::int64_t done = 0;
    verify_output(output.folder(), expected, [&](std::uint64_t bytes) {
      done += static_cast<std::int64_t>(bytes);
      report("verifying", done, total);
    });
  }

  const Weights& weights;
  WeightLayouts layers;
  std::unique_ptr<const OutputFormat> format;
  ExportOptions options;
  std::vector<OutputItem> items;
  std::vector<SmallFile> small_files;  // read first: what they lack must not show at the end
  OutputDirectory output;              // before tensors, which lies in it
  SafetensorsWriter tensors;
  Expectation expected;
  std::vector<std::string> notes;
};

ModelWriter::ModelWriter(const Weights& weights, WeightLayouts layers,
                         std::unique_ptr<const OutputFormat> format, ExportOptions options) {
  if (!options.from_quantized) check_source(weights);
  if (fs::path(options.output).extension() == ".gguf") {
    throw Error(ErrorCode::argument, "this format is a directory", {.file = options.output, .expected = "a name without .gguf, or GGUF as scheme or format"});
  }
  check_layers(weights.config(), layers, *format);
  check_output(weights.checkpoint(), options.output);
  output_config(weights.checkpoint(), weights.config(), *format,
                layers);  // throws what it would throw later
  impl_ = std::make_unique<Impl>(weights, std::move(layers), std::move(format), std::move(options));
}

ModelWriter::~ModelWriter() = default;

void ModelWriter::write(const std::string& module, const DecidedLayer& decided) {
  const auto layer = impl_->layers.find(module);
  const WeightLayout layout = layout_of(decided.weight);
  NEAP_CHECK(layer != impl_->layers.end() && layer->second == layout);
  const Shape shape = linear_shape(impl_->weights.config(), module);
  NEAP_CHECK(shape == (Shape{rows_of(decided.weight), cols_of(decided.weight)}));
  const auto infos = impl_->format->parts(layout, shape);
  const auto parts = impl_->format->encode(decided);
  NEAP_CHECK(parts.size() == infos.size());
  for (std::size_t i = 0; i < parts.size(); ++i) impl_->put(module + infos[i].suffix, parts[i]);
  impl_->expected.modules.emplace(module, Expectation::Module{layout, digest_of(decided.weight)});
}

void ModelWriter::write_dense(const std::string& tensor, MatrixView<const float> values) {
  const auto item = std::find_if(
      impl_->items.begin(), impl_->items.end(),
      [&](const OutputItem& i) { return !i.is_module() && i.tensor.spec.name == tensor; });
  NEAP_CHECK(item != impl_->items.end());
  const TensorSpec& spec = item->tensor.spec;
  NEAP_CHECK(elements(spec.shape) == static_cast<std::int64_t>(values.rows * values.cols) &&
             static_cast<std::int64_t>(values.cols) == spec.shape.back());
  std::vector<std::byte> bytes;
  for (std::size_t r = 0; r < values.rows; ++r) {
    const auto row = to_bytes(values.row(r), values.cols, spec.type, tensor);
    bytes.insert(bytes.end(), row.begin(), row.end());
  }
  impl_->put(tensor, bytes);
}

void ModelWriter::write_file(const std::string& name, const std::string& contents) {
  impl_->output.write(name, contents);
}

std::uint64_t ModelWriter::tensor_bytes() const { return impl_->tensors.tensor_bytes(); }

double ModelWriter::bits_per_weight() const {
  const ModelConfig& config = impl_->weights.config();
  std::int64_t weights = 0;
  for (const OutputItem& item : impl_->items) {
    weights +=
        elements(item.is_module() ? linear_shape(config, item.module) : item.tensor.spec.shape);
  }
  return 8 * static_cast<double>(tensor_bytes()) / static_cast<double>(weights);
}

void ModelWriter::close() {
  Impl& impl = *impl_;
  for (const auto& layer : impl.layers) NEAP_CHECK(impl.expected.modules.contains(layer.first));
  impl.copy_rest();
  impl.tensors.finish();
  for (const SmallFile& file : impl.small_files) impl.output.write(file.name, file.contents);
  impl.output.write("config.json", output_config(impl.weights.checkpoint(), impl.weights.config(),
                                                 *impl.format, impl.layers));
  if (const std::string name = impl.format->config_file(); !name.empty()) {
    impl.output.write(name, impl.format->quantization_config(impl.weights.config(), impl.layers).dump(2) + "\n");
  }
  impl.verify();
}

std::string ModelWriter::closed_path() const { return impl_->output.folder(); }
const std::map<std::string, std::uint64_t>& ModelWriter::tensor_digests() const { return impl_->expected.tensors; }
void ModelWriter::commit() { impl_->output.commit(); }

const std::vector<std::string>& ModelWriter::notes() const { return impl_->notes; }

}  // namespace neap
