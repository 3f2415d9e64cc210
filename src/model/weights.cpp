#include "model/weights.h"

#include <algorithm>
#include <cstring>

#include "base/parallel.h"
#include "codec/fp4_pack.h"
#include "codec/gguf_fp4.h"
#include "codec/lobcq_pack.h"
#include "codec/pack_quantized.h"
#include "neap/error.h"

namespace neap {
namespace {

// GGUF's llama has row 2j + t of a head where Hugging Face has row t (head_dim / 2) + j: rope then
// turns neighbours instead of halves. Back to Hugging Face's order.
template <class T>
void undo_interleaving(MatrixView<T> rows, std::size_t head_dim) {
  const std::size_t heads = rows.rows / head_dim, half = head_dim / 2;
  parallel_for(heads, [&](std::size_t head) {
    const MatrixView<T> there = rows.row_range(head * head_dim, head_dim);
    Matrix<T> here(head_dim, rows.cols);
    for (std::size_t j = 0; j < half; ++j)
      for (std::size_t t = 0; t < 2; ++t)
        std::copy_n(there.row(2 * j + t), rows.cols, here.row(t * half + j));
    for (std::size_t r = 0; r < head_dim; ++r) std::copy_n(here.row(r), rows.cols, there.row(r));
  });
}

}  // namespace

std::string module_name(std::int64_t layer, Role role) {
  return "model.layers." + std::to_string(layer) + "." + std::string(role_names(role).huggingface);
}

std::string gguf_weight_name(std::int64_t layer, Role role) {
  return "blk." + std::to_string(layer) + "." + std::string(role_names(role).gguf) + ".weight";
}

Shape module_shape(const ModelConfig& config, Role role) {
  const std::int64_t attention = config.heads * config.head_dim;
  switch (role) {
    case Role::q:
      return {attention, config.hidden};
    case Role::k:
    case Role::v:
      return {config.kv_heads * config.head_dim, config.hidden};
    case Role::o:
      return {config.hidden, attention};
    case Role::gate:
    case Role::up:
      return {config.intermediate, config.hidden};
    case Role::down:
      return {config.hidden, config.intermediate};
  }
  NEAP_CHECK(!"a role");
  return {};
}

bool module_has_bias(const ModelConfig& config, Role role) {
  switch (role) {
    case Role::q:
    case Role::k:
    case Role::v:
      return config.qkv_bias;
    case Role::o:
      return config.output_bias;
    default:
      return config.mlp_bias;
  }
}

Weights::Weights(Checkpoint checkpoint, ModelConfig config)
    : checkpoint_(std::move(checkpoint)),
      config_(std::move(config)),
      family_(architecture_of_family(config_.family)),
      gguf_(checkpoint_.kind() == Checkpoint::Kind::gguf) {
  NEAP_CHECK(family_ != nullptr);
  if (!gguf_) {
    const std::string file = checkpoint_.folder() + "/config.json";
    neap_ = NeapConfig::from_config(checkpoint_.config_json(), file);
    if (!neap_) packed_ = PackedModules::from_config(checkpoint_.config_json(), file);
  }
  check_all();
}

std::string Weights::file_name(const NamePair& pair) const {
  return std::string(gguf_ ? pair.gguf : pair.huggingface);
}

std::string Weights::file_name(std::int64_t layer, const NamePair& pair) const {
  return (gguf_ ? "blk." : "model.layers.") + std::to_string(layer) + "." + file_name(pair);
}

float Weights::gguf_scale(const std::string& module) const {
  const TensorInfo* tensor = gguf_ ? checkpoint_.find(module + kGgufScale) : nullptr;
  return tensor ? checkpoint_.read(*tensor)[0] : 1;
}

const PackedModule* Weights::packed(const std::string& module) const { return packed_.find(module); }

StoredTensor Weights::stored(const std::string& name) const {
  const TensorInfo& info = checkpoint_.info(name);
  return {info, checkpoint_.bytes(info)};
}

QuantizedTensor Weights::decode(const std::string& module, const PackedGrid& grid) const {
  PackQuantizedModule parts{.packed = stored(module + ".weight_packed"),
                            .scale = stored(module + ".weight_scale"),
                            .shape = stored(module + ".weight_shape"),
                            .zero_point = {}};
  if (!grid.symmetric) parts.zero_point = stored(module + ".weight_zero_point");
  QuantizedTensor tensor = decode_pack_quantized(parts, grid.bits, grid.group, grid.symmetric);
  checkpoint_.release(parts.packed.info);
  return tensor;
}

QuantizedTensor Weights::decode(const std::string& module, const GptqGrid& gptq) const {
  const GptqModule parts{.qweight = stored(module + ".qweight"), .qzeros = stored(module + ".qzeros"),
                         .scales = stored(module + ".scales"), .g_idx = stored(module + ".g_idx")};
  const std::int64_t rows = parts.qweight.info.shape[1], cols = parts.g_idx.info.shape[0];
  QuantizedTensor tensor = decode_gptq(parts, gptq.layout(), gptq.version, rows, cols);
  checkpoint_.release(parts.qweight.info);
  return tensor;
}

Fp4Tensor Weights::decode(const std::string& module, const Fp4Layout& layout) const {
  Fp4Module parts{.packed = stored(module + ".weight_packed"), .scale = stored(module + ".weight_scale"), .global_scale = {}};
  if (layout.format == BlockScaled::nvfp4) parts.global_scale = stored(module + ".weight_global_scale");
  const Shape& packed = parts.packed.info.shape;  // checked when the model was opened
  Fp4Tensor tensor = decode_fp4(parts, layout, packed[0], 2 * packed[1]);
  checkpoint_.release(parts.packed.info);
  return tensor;
}

LobcqTensor Weights::decode_lobcq(const std::string& module) const {
  const LobcqModule parts{.packed = stored(module + ".weight_packed"),
                          .selector = stored(module + ".weight_selector"),
                          .scale = stored(module + ".weight_scale"),
                          .global_scale = stored(module + ".weight_global_scale"),
                          .shape = stored(module + ".weight_shape")};
  LobcqTensor tensor = neap::decode_lobcq(parts, neap_->layout);
  checkpoint_.release(parts.packed.info);
  return tensor;
}

float Weights::input_scale(const std::string& module) const {
  const StoredTensor tensor = stored(module + std::string(kInputScale));
  float scale = 0;
  std::memcpy(&scale, tensor.bytes.data(), sizeof scale);
  if (!(scale >= kSmallestTensorScale && scale <= kLargestTensorScale))
    refuse(tensor, "the inputs' scale cannot be used", "a number in [2^-60, 2^60]",
           std::to_string(scale));
  return scale;
}

std::optional<InputEncoding> Weights::stored_inputs(const std::string& module) const {
  if (const PackedModule* its = packed(module)) {
    if (!its->inputs) return {};
    BlockScaledInputs inputs = *its->inputs;
    if (inputs.format == BlockScaled::nvfp4)
      inputs.global_scale = read_global_scale(stored(module + std::string(kInputScale)));
    return inputs;
  }
  if (!input_encoder_ || !neap_->packs(module)) return {};
  InputEncoder inputs{input_encoder_, activation_codebooks_, {}};
  if (neap_->inputs == InputScales::fixed) inputs.tensor_scale = input_scale(module);
  return inputs;
}

std::optional<CodebookSet> Weights::codebooks() const {
  if (!input_encoder_) return {};
  return CodebookSet{neap_->layout, weight_codebooks_, activation_codebooks_};
}

std::optional<QuantizedWeight> Weights::packed_weight(const std::string& module) const {
  if (neap_)
    return neap_->packs(module) ? std::optional<QuantizedWeight>(decode_lobcq(module))
                                : std::nullopt;
  const PackedModule* its = packed(module);
  if (!its) return {};
  return std::visit([&](const auto& layout) { return QuantizedWeight(decode(module, layout)); }, its->weights);
}

bool Weights::interleaved(Role role) const {
  return gguf_ && family_->gguf_interleaved_rope && (role == Role::q || role == Role::k);
}

// A copy of a tensor's blocks: rows move whole.
std::vector<std::byte> Weights::without_interleaving(const StoredTensor& tensor) const {
  std::vector<std::byte> bytes(tensor.bytes.begin(), tensor.bytes.end());
  const auto rows = static_cast<std::size_t>(tensor.info.shape[0]);
  undo_interleaving(MatrixView(bytes.data(), rows, bytes.size() / rows), static_cast<std::size_t>(config_.head_dim));
  return bytes;
}

std::optional<QuantizedWeight> Weights::gguf_weight(std::int64_t layer, Role role) const {
  const std::string module = file_name(layer, role_names(role));
  const StoredTensor tensor = stored(module + ".weight");
  const auto decode = [&](const auto& layout, auto... scale) -> std::optional<QuantizedWeight> {
    const auto moved = interleaved(role) ? without_interleaving(tensor) : std::vector<std::byte>();
    auto weight = decode_gguf_blocks(layout, moved.empty() ? tensor.bytes : moved, tensor.info.shape[0], tensor.info.shape[1], scale...);
    checkpoint_.release(tensor.info);
    return weight;
  };
  switch (tensor.info.type) {
    case DType::q4_0:
    case DType::q8_0: return decode(GgufLayout{tensor.info.type});
    case DType::mxfp4: return decode(Fp4Layout{BlockScaled::mxfp4}, 1.0f);
    case DType::nvfp4: return decode(Fp4Layout{BlockScaled::nvfp4}, gguf_scale(module));
    default: return {};
  }
}

Matrix<float> Weights::weight(std::int64_t layer, Role role) const {
  const std::string module = file_name(layer, role_names(role));
  const Shape shape = module_shape(config_, role);
  Matrix<float> weight(static_cast<std::size_t>(shape[0]), static_cast<std::size_t>(shape[1]));
  if (const auto packed = packed_weight(module)) {
    dequantize(*packed, weight_codebooks_, 0, shape[0], weight);
    return weight;
  }
  const TensorInfo& tensor = checkpoint_.info(module + ".weight");
  checkpoint_.read_rows(tensor, 0, shape[0], weight.data());
  checkpoint_.release(tensor);
  if (const float scale = gguf_scale(module); scale != 1)
    std::for_each_n(weight.data(), weight.rows() * weight.cols(), [scale](float& value) { value *= scale; });
  if (interleaved(role)) undo_interleaving(weight.view(), static_cast<std::size_t>(config_.head_dim));
  return weight;
}

std::vector<float> Weights::bias(std::int64_t layer, Role role) const {
  if (!module_has_bias(config_, role)) return {};
  std::vector<float> bias = vector(file_name(layer, role_names(role)) + ".bias");
  if (interleaved(role)) undo_interleaving(MatrixView(bias.data(), bias.size(), 1), static_cast<std::size_t>(config_.head_dim));
  return bias;
}

std::vector<float> Weights::vector(const std::string& name) const {
  return checkpoint_.read(checkpoint_.info(name));
}

// The format's own arithmetic where both sides are in it; else dense, on inputs that were coded or
// not.
std::unique_ptr<const Linear> Weights::linear(std::int64_t layer, Role role, Precision precision,
                                              const InputCoder& inputs,
                                              const PackedLinears* packed) const {
  const std::string module = file_name(layer, role_names(role));
  std::optional<InputEncoding> coding = inputs ? inputs(module) : std::nullopt;
  auto* encoder = coding ? std::get_if<InputEncoder>(&*coding) : nullptr;
  const bool lobcq = neap_ && neap_->packs(module);
  if (encoder && lobcq && encoder->encoder->layout().block_array == neap_->layout.block_array) {
    const LobcqTensor codes = decode_lobcq(module);
    const std::vector<float> added = bias(layer, role);
    return packed ? packed->coded(codes, weight_codebooks_, added, *encoder)
                  : make_coded_linear(codes, weight_codebooks_, added, std::move(*encoder));
  }
  if (packed && !coding && packed->takes(precision)) {
    if (auto made = plain_linear(layer, role, precision, *packed)) return made;
  }
  auto dense = make_dense_linear(weight(layer, role), bias(layer, role), precision);
  return coding ? make_input_coding_linear(std::move(dense), *std::move(coding)) : std::move(dense);
}

// Null where the module is dense or kernels do not take it.
std::unique_ptr<const Linear> Weights::plain_linear(std::int64_t layer, Role role, Precision precision,
                                                    const PackedLinears& packed) const {
  const std::optional<QuantizedWeight> weight = gguf_ ? gguf_weight(layer, role) : packed_weight(module_name(layer, role));
  if (!weight) return nullptr;
  const std::vector<float> added = bias(layer, role);
  if (const auto* lobcq = std::get_if<LobcqTensor>(&*weight))
    return packed.plain(*lobcq, weight_codebooks_, added, precision);
  if (const auto* groups = std::get_if<QuantizedTensor>(&*weight)) return packed.plain(*groups, added, precision);
  if (const auto* fp4 = std::get_if<Fp4Tensor>(&*weight)) return packed.plain(*fp4, added, precision);
  return packed.plain(std::get<GgufTensor>(*weight), added, precision);
}

Block Weights::block(std::int64_t layer, Precision precision, const InputCoder& inputs,
                     const PackedLinears* packed) const {
  Block block;
  block.index = layer;
  block.switches = config_.switches[static_cast<std::size_t>(layer)];
  block.input_norm = vector(file_name(layer, kInputNorm) + ".weight");
  block.mlp_norm = vector(file_name(layer, kMlpNorm) + ".weight");
  if (config_.qk_norm) {
    block.q_norm = vector(file_name(layer, kQNorm) + ".weight");
    block.k_norm = vector(file_name(layer, kKNorm) + ".weight");
  }
  for (const Role role : kAllRoles)
    block.linears[static_cast<std::size_t>(role)] = linear(layer, role, precision, inputs, packed);
  return block;
}

std::vector<float> Weights::final_norm() const { return vector(file_name(kFinalNorm) + ".weight"); }

void Weights::require_in_vocabulary(std::span<const TokenId> ids) const {
  for (const TokenId id : ids)
    if (id < 0 || id >= config_.vocabulary)
      throw Error(ErrorCode::argument, "a token id outside of the vocabulary",
                  {.file = checkpoint_.path(),
                   .expected = "0 to " + std::to_string(config_.vocabulary - 1),
                   .found = std::to_string(id)});
}

void Weights::embed(std::span<const TokenId> ids, MatrixView<float> out) const {
  NEAP_CHECK(out.rows == ids.size() && out.cols == static_cast<std::size_t>(config_.hidden));
  require_in_vocabulary(ids);
  const TensorInfo& tensor = checkpoint_.info(file_name(kEmbedding) + ".weight");
  constexpr std::size_t kTile = 64;
  parallel_for((ids.size() + kTile - 1) / kTile, [&](std::size_t tile) {
    for (std::size_t i = tile * kTile; i < std::min(ids.size(), (tile + 1) * kTile); ++i)
      checkpoint_.read_rows(tensor, ids[i], 1, out.row(i));
  });
}

void Weights::visit_embedding(const VisitRows& visit) const { visit_rows(file_name(kEmbedding), {}, visit); }

void Weights::visit_head(const VisitRows& visit) const {
  if (config_.tied_head) return visit_embedding(visit);
  const std::string head = file_name(kHead);
  visit_rows(head, packed_weight(head), visit);
}

void Weights::visit_rows(const std::string& module, const std::optional<QuantizedWeight>& codes,
                         const VisitRows& visit) const {
  const TensorInfo* dense = codes ? nullptr : &checkpoint_.info(module + ".weight");
  Matrix<float> part(static_cast<std::size_t>(std::min(kHeadPart, config_.vocabulary)),
                     static_cast<std::size_t>(config_.hidden));
  for (std::int64_t first = 0; first < config_.vocabulary; first += kHeadPart) {
    const std::int64_t count = std::min(kHeadPart, config_.vocabulary - first);
    const MatrixView<float> rows = part.view().row_range(0, static_cast<std::size_t>(count));
    if (codes)
      dequantize(*codes, weight_codebooks_, first, count, rows);
    else
      checkpoint_.read_rows(*dense, first, count, rows.data);
    if (dense) checkpoint_.release(*dense);
    visit(first, rows);
  }
}

Matrix<float> Weights::head() const {
  Matrix<float> head(static_cast<std::size_t>(config_.vocabulary),
                     static_cast<std::size_t>(config_.hidden));
  visit_head([&](std::int64_t first, MatrixView<const float> rows) {
    for (std::size_t r = 0; r < rows.rows; ++r)
      std::copy_n(rows.row(r), rows.cols, head.row(static_cast<std::size_t>(first) + r));
  });
  return head;
}

}  // namespace neap
