#include "model/weights.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>

#include "base/parallel.h"
#include "codec/fp4_pack.h"
#include "codec/lobcq_pack.h"
#include "codec/pack_bits.h"
#include "codec/pack_quantized.h"
#include "neap/error.h"

namespace neap {
namespace {

constexpr std::array kAllRoles = {Role::q,    Role::k,  Role::v,   Role::o,
                                  Role::gate, Role::up, Role::down};

[[noreturn]] void wrong_tensor(const TensorInfo& tensor, const std::string& message,
                               std::string expected, std::string found) {
  throw Error(ErrorCode::format, message,
              {.file = tensor.file,
               .tensor = tensor.name,
               .expected = std::move(expected),
               .found = std::move(found)});
}

bool holds_floats(DType type) {
  switch (type) {
    case DType::f32:
    case DType::f16:
    case DType::bf16:
    case DType::q4_0:
    case DType::q4_1:
    case DType::q5_0:
    case DType::q5_1:
    case DType::q8_0:
    case DType::q2_k:
    case DType::q3_k:
    case DType::q4_k:
    case DType::q5_k:
    case DType::q6_k:
    case DType::iq4_nl:
    case DType::mxfp4:
    case DType::nvfp4:
      return true;
    default:
      return false;
  }
}

GroupLayout gptq_layout(const GptqGrid& gptq) {
  return {.bits = gptq.grid.bits, .group = gptq.grid.group, .symmetric = gptq.grid.symmetric, .scale_type = DType::f16};
}

// Buffers that old checkpoints carry and that follow from the config.
bool is_rotary_buffer(std::string_view name) { return name.ends_with("rotary_emb.inv_freq"); }

// GGUF's llama has row 2j + t of a head where Hugging Face has row t (head_dim / 2) + j: rope then
// turns neighbours instead of halves. Back to Hugging Face's order.
void undo_interleaving(MatrixView<float> rows, std::size_t head_dim) {
  const std::size_t heads = rows.rows / head_dim, half = head_dim / 2;
  parallel_for(heads, [&](std::size_t head) {
    const MatrixView<float> there = rows.row_range(head * head_dim, head_dim);
    Matrix<float> here(head_dim, rows.cols);
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

void Weights::check_all() {
  Names known;
  if (neap_) read_codebooks(known);
  check_tensor(file_name(kEmbedding) + ".weight", {config_.vocabulary, config_.hidden}, known);
  check_tensor(file_name(kFinalNorm) + ".weight", {config_.hidden}, known);
  for (std::int64_t layer = 0; layer < config_.layers; ++layer) {
    for (const NamePair& norm : {kInputNorm, kMlpNorm})
      check_tensor(file_name(layer, norm) + ".weight", {config_.hidden}, known);
    for (const NamePair& norm : {kQNorm, kKNorm})
      if (config_.qk_norm)
        check_tensor(file_name(layer, norm) + ".weight", {config_.head_dim}, known);
    for (const Role role : kAllRoles) {
      const std::string module = file_name(layer, role_names(role));
      const Shape shape = module_shape(config_, role);
      check_module(module, shape, known);
      if (module_has_bias(config_, role)) check_tensor(module + ".bias", {shape[0]}, known);
    }
  }
  const std::string head = file_name(kHead);
  if (!config_.tied_head) {
    check_module(head, {config_.vocabulary, config_.hidden}, known);
  } else if (checkpoint_.find(head + ".weight")) {
    check_tensor(head + ".weight", {config_.vocabulary, config_.hidden}, known);
    check_redundant_head();
  }
  if (!config_.rope_factors.empty()) known.insert("rope_freqs.weight");
  check_left_over(known);
}

void Weights::check_tensor(const std::string& name, const Shape& shape, Names& known) const {
  const TensorInfo& tensor = checkpoint_.info(name);
  if (tensor.shape != shape)
    wrong_tensor(tensor, "wrong shape", to_string(shape), to_string(tensor.shape));
  if (!holds_floats(tensor.type))
    throw Error(ErrorCode::unsupported, "weights of this type cannot be read",
                {.file = tensor.file, .tensor = name, .found = std::string(name_of(tensor.type))});
  known.insert(name);
}

void Weights::check_module(const std::string& module, const Shape& shape, Names& known) const {
  if (neap_ && neap_->packs(module))
    check_lobcq(module, shape, known);
  else if (const PackedModule* its = packed(module)) {
    if (const auto* grid = std::get_if<PackedGrid>(&its->weights))
      check_packed(module, shape, *grid, known);
    else if (const auto* gptq = std::get_if<GptqGrid>(&its->weights))
      check_gptq(module, shape, *gptq, known);
    else
      check_fp4(module, shape, std::get<Fp4Layout>(its->weights), known);
    if (its->inputs) check_inputs(module, shape, *its->inputs, known);
  } else {
    check_tensor(module + ".weight", shape, known);
    if (gguf_ && module != file_name(kHead)) check_gguf_scales(module, known);
  }
}

// What llama.cpp multiplies a matrix's outputs by, and the scale of its inputs where those have 4 bits: NVFP4's alone.
void Weights::check_gguf_scales(const std::string& module, Names& known) const {
  for (const std::string& name : {module + kGgufScale, module + kGgufInputScale}) {
    const TensorInfo* tensor = checkpoint_.find(name);
    if (!tensor || checkpoint_.info(module + ".weight").type != DType::nvfp4) continue;  // left over, then
    if (tensor->type != DType::f32 || tensor->shape != Shape{1})
      wrong_tensor(*tensor, "not one number", "F32 [1]", std::string(name_of(tensor->type)) + " " + to_string(tensor->shape));
    const float scale = checkpoint_.read(*tensor)[0];
    if (!std::isfinite(scale) || scale <= 0) wrong_tensor(*tensor, "the scale cannot be used", "a positive number", std::to_string(scale));
    known.insert(name);
  }
}

float Weights::gguf_scale(const std::string& module) const {
  const TensorInfo* tensor = gguf_ ? checkpoint_.find(module + kGgufScale) : nullptr;
  return tensor ? checkpoint_.read(*tensor)[0] : 1;
}

void Weights::check_divides(const std::string& module, const Shape& shape, std::int64_t group) const {
  if (shape[1] % group == 0) return;
  throw Error(ErrorCode::format, "groups that do not divide a module's inputs",
              {.file = checkpoint_.path(),
               .tensor = module,
               .expected = "a divisor of " + std::to_string(shape[1]),
               .found = std::to_string(group)});
}

void Weights::check_fp4(const std::string& module, const Shape& shape, const Fp4Layout& layout, Names& known) const {
  check_divides(module, shape, layout.group());
  check_parts(module, fp4_parts(layout, shape[0], shape[1]), known);
}

void Weights::check_gptq(const std::string& module, const Shape& shape, const GptqGrid& gptq, Names& known) const {
  const std::string objection = gptq_objection(gptq_layout(gptq), gptq.version, shape[0], shape[1]);
  if (!objection.empty())
    throw Error(ErrorCode::unsupported, "the GPTQ format " + objection,
                {.file = checkpoint_.path(), .tensor = module, .found = to_string(shape)});
  check_parts(module, gptq_parts(gptq_layout(gptq), shape[0], shape[1]), known);
}

void Weights::check_inputs(const std::string& module, const Shape& shape, const BlockScaledInputs& inputs,
                           Names& known) const {
  if (module == file_name(kHead))
    throw Error(ErrorCode::unsupported, "the head's inputs are never rounded", {.file = checkpoint_.path(), .tensor = module});
  check_divides(module, shape, inputs.group);
  if (inputs.format != BlockScaled::nvfp4) return;
  const std::string name = module + std::string(kInputScale);
  read_global_scale(stored(name));
  known.insert(name);
}

// Parts whose types and shapes leave no choice.
void Weights::check_parts(const std::string& module, const std::vector<PartInfo>& parts, Names& known) const {
  for (const PartInfo& part : parts) {
    const StoredTensor tensor = stored(module + part.suffix);
    require_type(tensor, part.type);
    require_shape(tensor, part.shape);
    known.insert(tensor.info.name);
  }
}

// The parts' presence and shapes; their contents are checked when they are decoded.
void Weights::check_packed(const std::string& module, const Shape& shape, const PackedGrid& grid,
                           Names& known) const {
  const GroupLayout layout{.bits = grid.bits, .group = grid.group, .symmetric = grid.symmetric};
  for (const PartInfo& part : pack_quantized_parts(layout, shape[0], shape[1])) {
    const TensorInfo& tensor = checkpoint_.info(module + part.suffix);
    Shape sparse = part.shape;  // as it was before 2026: fewer codes per word
    if (part.suffix == ".weight_packed")
      sparse[1] = packed_words(shape[1], grid.bits, Packing::sparse);
    if (part.suffix == ".weight_zero_point")
      sparse[0] = packed_words(shape[0], grid.bits, Packing::sparse);
    if (tensor.shape != part.shape && tensor.shape != sparse)
      wrong_tensor(tensor, "wrong shape", to_string(part.shape), to_string(tensor.shape));
    known.insert(tensor.name);
  }
  check_stored_shape(module, shape);
}

void Weights::check_stored_shape(const std::string& module, const Shape& shape) const {
  const TensorInfo& tensor = checkpoint_.info(module + ".weight_shape");
  Shape written(2);
  const auto bytes = checkpoint_.bytes(tensor);
  if (tensor.type != DType::i64 || bytes.size() != sizeof(std::int64_t) * 2)
    wrong_tensor(tensor, "not two 64-bit integers", "I64", std::string(name_of(tensor.type)));
  std::memcpy(written.data(), bytes.data(), bytes.size());
  if (written != shape) wrong_tensor(tensor, "wrong shape", to_string(shape), to_string(written));
}

void Weights::check_lobcq(const std::string& module, const Shape& shape, Names& known) const {
  std::vector<PartInfo> parts = lobcq_parts(neap_->layout, shape[0], shape[1]);
  if (neap_->inputs == InputScales::fixed)
    parts.push_back({std::string(kInputScale), DType::f32, {1}});
  check_parts(module, parts, known);
  check_stored_shape(module, shape);
  if (neap_->inputs == InputScales::fixed) input_scale(module);
}

// The model-wide tensors of Neap's own container.
void Weights::read_codebooks(Names& known) {
  const auto read = [&](std::string_view name) {
    known.insert(std::string(name));
    return decode_codebooks(stored(std::string(name)), neap_->layout);
  };
  weight_codebooks_ = read(kWeightCodebooks);
  if (neap_->inputs == InputScales::none) return;
  activation_codebooks_ = read(kActivationCodebooks);
  input_encoder_ = std::make_shared<LobcqEncoder>(neap_->layout, activation_codebooks_);
}

// Tying ignores the head's own tensor: harmless only if that says the same.
void Weights::check_redundant_head() const {
  const TensorInfo& head = checkpoint_.info(file_name(kHead) + ".weight");
  const TensorInfo& embedding = checkpoint_.info(file_name(kEmbedding) + ".weight");
  const auto a = checkpoint_.bytes(head), b = checkpoint_.bytes(embedding);
  const bool equal = head.type == embedding.type && std::ranges::equal(a, b);
  checkpoint_.release(head);
  checkpoint_.release(embedding);
  if (!equal)
    wrong_tensor(head, "differs from the embedding, to which the config ties it",
                 embedding.name + " again, or no tensor", "other values");
}

void Weights::check_left_over(const Names& known) const {
  for (const TensorInfo& tensor : checkpoint_.tensors())
    if (!known.contains(tensor.name) && !is_rotary_buffer(tensor.name))
      throw Error(ErrorCode::format, "a tensor that " + config_.family + " has no place for",
                  {.file = tensor.file, .tensor = tensor.name});
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
  QuantizedTensor tensor = decode_gptq(parts, gptq_layout(gptq), gptq.version, rows, cols);
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
  if (gguf_ && family_->gguf_interleaved_rope && (role == Role::q || role == Role::k))
    undo_interleaving(weight, static_cast<std::size_t>(config_.head_dim));
  return weight;
}

std::vector<float> Weights::bias(std::int64_t layer, Role role) const {
  if (!module_has_bias(config_, role)) return {};
  std::vector<float> bias = vector(file_name(layer, role_names(role)) + ".bias");
  if (gguf_ && family_->gguf_interleaved_rope && (role == Role::q || role == Role::k))
    undo_interleaving({bias.data(), bias.size(), 1}, static_cast<std::size_t>(config_.head_dim));
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
  if (packed && !coding) {
    if (auto made = plain_linear(module, bias(layer, role), precision, *packed)) return made;
  }
  auto dense = make_dense_linear(weight(layer, role), bias(layer, role), precision);
  return coding ? make_input_coding_linear(std::move(dense), *std::move(coding)) : std::move(dense);
}

// Null where the module is dense or kernels do not take it.
std::unique_ptr<const Linear> Weights::plain_linear(const std::string& module,
                                                    std::span<const float> bias, Precision precision,
                                                    const PackedLinears& packed) const {
  const std::optional<QuantizedWeight> weight = packed_weight(module);
  if (!weight) return nullptr;
  if (const auto* lobcq = std::get_if<LobcqTensor>(&*weight))
    return packed.plain(*lobcq, weight_codebooks_, bias, precision);
  if (const auto* groups = std::get_if<QuantizedTensor>(&*weight)) return packed.plain(*groups, bias, precision);
  if (const auto* fp4 = std::get_if<Fp4Tensor>(&*weight)) return packed.plain(*fp4, bias, precision);
  return nullptr;
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
