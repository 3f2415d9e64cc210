// What a checkpoint has to hold, tensor by tensor.
#include <algorithm>
#include <cmath>
#include <cstring>

#include "codec/fp4_pack.h"
#include "codec/lobcq_pack.h"
#include "codec/pack_bits.h"
#include "codec/pack_quantized.h"
#include "model/weights.h"
#include "neap/error.h"

namespace neap {
namespace {

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

// Buffers that old checkpoints carry and that follow from the config.
bool is_rotary_buffer(std::string_view name) { return name.ends_with("rotary_emb.inv_freq"); }

}  // namespace

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
  if (!holds_floats(tensor.type) || (shape.size() < 2 && block_elements(tensor.type) > 1))
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
  const std::string objection = gptq_objection(gptq.layout(), gptq.version, shape[0], shape[1]);
  if (!objection.empty())
    throw Error(ErrorCode::unsupported, "the GPTQ format " + objection,
                {.file = checkpoint_.path(), .tensor = module, .found = to_string(shape)});
  check_parts(module, gptq_parts(gptq.layout(), shape[0], shape[1]), known);
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

}  // namespace neap
