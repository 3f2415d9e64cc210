#include "export/dense_tensors.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <optional>
#include <unordered_set>

#include "base/half.h"
#include "neap/error.h"

namespace neap {
namespace {

constexpr std::array kRoleOrder = {Role::q,    Role::k,  Role::v,   Role::o,
                                   Role::gate, Role::up, Role::down};
constexpr std::int64_t kChunkValues = 1 << 20;
constexpr std::string_view kCodebooks = "lobcq.";  // of a source in Neap's own container
constexpr std::uint64_t kRunBytes = std::uint64_t{4} << 20;

using Sink = std::function<void(std::span<const std::byte>)>;

void release_rows(const Checkpoint& checkpoint, const TensorInfo& tensor, std::int64_t rows,
                  std::int64_t first, std::int64_t count) {
  const std::uint64_t row_bytes = tensor.bytes / static_cast<std::uint64_t>(rows);
  TensorInfo part = tensor;
  part.offset += static_cast<std::uint64_t>(first) * row_bytes;
  part.bytes = static_cast<std::uint64_t>(count) * row_bytes;
  checkpoint.release(part);
}

class Lister {
 public:
  Lister(const Weights& weights, const std::set<std::string>& quantized, DType block_type)
      : weights_(weights), quantized_(quantized), block_type_(block_type), gguf_(weights.checkpoint().gguf() != nullptr) {}

  std::vector<OutputItem> list() {
    const ModelConfig& config = weights_.config();
    add_plain(kEmbedding, std::nullopt);
    for (std::int64_t layer = 0; layer < config.layers; ++layer) {
      add_plain(kInputNorm, layer);
      for (const Role role : kRoleOrder) {
        if (role == Role::gate) add_plain(kMlpNorm, layer);
        add_module(layer, role);
        if (role == Role::k && config.qk_norm) add_plain(kQNorm, layer), add_plain(kKNorm, layer);
      }
    }
    add_plain(kFinalNorm, std::nullopt);
    if (quantized_.contains("lm_head")) {
      items_.emplace_back().module = "lm_head";
    } else if (!config.tied_head) {
      add_plain(kHead, std::nullopt);
    }
    if (!gguf_) add_others();
    return std::move(items_);
  }

 private:
  using Stream = decltype(DenseTensor::stream);

  void add(const std::string& name, DType type, const TensorInfo& source, Stream stream) {
    DenseTensor& tensor = items_.emplace_back().tensor;
    tensor.spec.name = name;
    tensor.spec.type = type;
    tensor.spec.shape = source.shape;
    tensor.source_type = source.type;
    tensor.stream = std::move(stream);
  }

  void add_verbatim(const TensorInfo& info) {
    const Checkpoint& checkpoint = weights_.checkpoint();
    listed_.insert(info.name);
    add(info.name, info.type, info,
        [&checkpoint, info](const Sink& sink) { visit_bytes(checkpoint, info, sink); });
  }

  DType output_type(const TensorInfo& info) const {
    if (info.shape.size() < 2) return DType::f32;
    return block_elements(info.type) == 1 ? info.type : block_type_;
  }

  // A tensor whose rows a GGUF has in Hugging Face's order.
  void add_plain(const NamePair& pair, std::optional<std::int64_t> layer) {
    const auto full = [&](std::string_view base, std::string_view prefix) {
      const std::string front = layer ? std::string(prefix) + std::to_string(*layer) + "." : "";
      return front + std::string(base) + ".weight";
    };
    const std::string name = full(pair.huggingface, "model.layers.");
    const Checkpoint& checkpoint = weights_.checkpoint();
    if (!gguf_) return add_verbatim(checkpoint.info(name));
    const TensorInfo& info = checkpoint.info(full(pair.gguf, "blk."));
    const DType type = output_type(info);
    add(name, type, info, [&checkpoint, info, type, name](const Sink& sink) {
      const std::int64_t cols = info.shape.back();
      const std::int64_t rows = info.shape.size() < 2 ? 1 : info.shape[0];
      const std::int64_t step = std::max<std::int64_t>(1, kChunkValues / cols);
      std::vector<float> values;
      for (std::int64_t first = 0; first < rows; first += step) {
        const std::int64_t count = std::min(step, rows - first);
        values.resize(static_cast<std::size_t>(count * cols));
        checkpoint.read_rows(info, first, count, values.data());
        release_rows(checkpoint, info, rows, first, count);
        sink(to_bytes(values.data(), values.size(), type, name));
      }
    });
  }

  void add_module(std::int64_t layer, Role role) {
    const std::string module = module_name(layer, role);
    const bool quantized = quantized_.contains(module),
               biased = module_has_bias(weights_.config(), role);
    const Checkpoint& checkpoint = weights_.checkpoint();
    if (quantized) items_.emplace_back().module = module;
    if (gguf_) {
      const std::string base =
          "blk." + std::to_string(layer) + "." + std::string(role_names(role).gguf);
      if (!quantized) add_from_weights(layer, role, checkpoint.info(base + ".weight"));
      if (biased) add_bias_from_weights(layer, role, checkpoint.info(base + ".bias"));
    } else {
      if (!quantized) add_verbatim(checkpoint.info(module + ".weight"));
      if (biased) add_verbatim(checkpoint.info(module + ".bias"));
    }
  }

  // Through Weights, which knows whose rows are permuted.
  void add_from_weights(std::int64_t layer, Role role, const TensorInfo& info) {
    const std::string name = module_name(layer, role) + ".weight";
    const DType type = output_type(info);
    add(name, type, info, [&weights = weights_, layer, role, type, name](const Sink& sink) {
      const Matrix<float> weight = weights.weight(layer, role);
      sink(to_bytes(weight.data(), weight.rows() * weight.cols(), type, name));
    });
  }

  void add_bias_from_weights(std::int64_t layer, Role role, const TensorInfo& info) {
    const std::string name = module_name(layer, role) + ".bias";
    add(name, DType::f32, info, [&weights = weights_, layer, role, name](const Sink& sink) {
      const std::vector<float> bias = weights.bias(layer, role);
      sink(to_bytes(bias.data(), bias.size(), DType::f32, name));
    });
  }

  // Rotary buffers, a tied head spelled out: harmless, and the source's business.
  void add_others() {
    for (const TensorInfo& info : weights_.checkpoint().tensors()) {
      const bool replaced = quantized_.contains(info.name.substr(0, info.name.rfind('.'))) || info.name.starts_with(kCodebooks);
      if (!replaced && !listed_.contains(info.name)) add_verbatim(info);
    }
  }

  const Weights& weights_;
  const std::set<std::string>& quantized_;
  DType block_type_;
  bool gguf_;
  std::vector<OutputItem> items_;
  std::unordered_set<std::string> listed_;
};

}  // namespace

std::vector<OutputItem> list_output(const Weights& weights,
                                    const std::set<std::string>& quantized, DType block_type) {
  return Lister(weights, quantized, block_type).list();
}

std::vector<std::string> linear_modules(const ModelConfig& config) {
  std::vector<std::string> names;
  for (std::int64_t layer = 0; layer < config.layers; ++layer) {
    for (const Role role : kRoleOrder) names.push_back(module_name(layer, role));
  }
  names.push_back("lm_head");
  return names;
}

Shape linear_shape(const ModelConfig& config, const std::string& module) {
  if (module == "lm_head") return {config.vocabulary, config.hidden};
  for (const Role role : kRoleOrder) {
    if (module.ends_with(role_names(role).huggingface)) return module_shape(config, role);
  }
  NEAP_CHECK(!"a linear module");
  return {};
}

void visit_bytes(const Checkpoint& checkpoint, const TensorInfo& tensor,
                 const std::function<void(std::span<const std::byte>)>& visit) {
  for (std::uint64_t at = 0; at < tensor.bytes; at += kRunBytes) {
    TensorInfo run = tensor;
    run.offset += at;
    run.bytes = std::min(kRunBytes, tensor.bytes - at);
    visit(checkpoint.bytes(run));
    checkpoint.release(run);
  }
}

std::vector<std::byte> to_bytes(const float* values, std::size_t count, DType type,
                                const std::string& tensor) {
  std::vector<std::byte> bytes(count * block_bytes(type));
  if (type == DType::f32) {
    std::memcpy(bytes.data(), values, bytes.size());
    return bytes;
  }
  NEAP_CHECK(type == DType::f16 || type == DType::bf16);
  std::vector<std::uint16_t> halves(count);
  type == DType::f16 ? float_to_fp16(values, halves.data(), count)
                     : float_to_bf16(values, halves.data(), count);
  const std::uint16_t infinity = type == DType::f16 ? 0x7c00 : 0x7f80;
  for (std::size_t i = 0; i < count; ++i) {
    if ((halves[i] & 0x7fff) != infinity || !std::isfinite(values[i])) continue;
    throw Error(ErrorCode::data, "too large for " + std::string(name_of(type)),
                {.tensor = tensor, .found = std::to_string(values[i])});
  }
  std::memcpy(bytes.data(), halves.data(), bytes.size());
  return bytes;
}

}  // namespace neap
