#include "export/source_grid.h"

#include <cmath>
#include <cstring>

#include "base/half.h"
#include "codec/fp4.h"
#include "codec/lobcq.h"
#include "model/architecture.h"

namespace neap {
namespace {

constexpr int kLobcqBits = 6;  // entries up to 31 of either sign
constexpr int kFp4Bits = 5;    // halves up to 6 of either sign

SourceGrid empty_grid(const QuantizedWeight& weight, std::int64_t group, int bits, DType scale_type) {
  const auto rows = static_cast<std::size_t>(rows_of(weight)), cols = static_cast<std::size_t>(cols_of(weight));
  SourceGrid grid{.multiples = {Matrix<float>(rows, cols), {}, group}, .bits = bits, .scale_type = scale_type, .words = words_for(layout_of(weight))};
  if (cols_of(weight) % group == 0) grid.multiples.scales = Matrix<float>(rows, cols / static_cast<std::size_t>(group));
  return grid;
}

// scale(row, group) of the weights' own format.
template <class Scale>
void fill(SourceGrid& grid, Scale&& scale) {
  Matrix<float>& scales = grid.multiples.scales;
  for (std::size_t r = 0; r < scales.rows(); ++r) {
    for (std::size_t g = 0; g < scales.cols(); ++g) scales(r, g) = scale(static_cast<std::int64_t>(r), static_cast<std::int64_t>(g));
  }
  if (scales.empty()) grid.multiples = {};
}

SourceGrid grid_of(const QuantizedWeight& weight, const Codebooks& codebooks, DType model_type) {
  SourceGrid grid;
  if (const auto* groups = std::get_if<QuantizedTensor>(&weight)) {
    grid = empty_grid(weight, groups->layout.group == 0 ? groups->cols : groups->layout.group, groups->layout.bits, groups->layout.scale_type);
    const std::int64_t count = groups->layout.groups(groups->cols);
    fill(grid, [&](std::int64_t r, std::int64_t g) { return groups->scales[static_cast<std::size_t>(r * count + g)]; });
  } else if (const auto* lobcq = std::get_if<LobcqTensor>(&weight)) {
    grid = empty_grid(weight, lobcq->layout.block_array, kLobcqBits, model_type);
    fill(grid, [&](std::int64_t r, std::int64_t a) { return lobcq->scale(r, a); });
  } else {
    const auto& fp4 = std::get<Fp4Tensor>(weight);
    grid = empty_grid(weight, fp4.layout.group(), kFp4Bits, model_type);
    const std::int64_t count = fp4.layout.groups(fp4.cols);
    fill(grid, [&](std::int64_t r, std::int64_t g) { return fp4_scale(fp4.layout, fp4.scales[static_cast<std::size_t>(r * count + g)], fp4.global_scale) / 2; });
    if (fp4.layout.format == BlockScaled::mxfp4) grid.mxfp4 = fp4;
  }
  if (!grid.multiples.values.empty()) dequantize(weight, codebooks, 0, rows_of(weight), grid.multiples.values);
  return grid;
}

// Bits of the integers that stand before the one scale of a block, with which it begins; 0 for other types.
int bits_of(DType type) {
  switch (type) {
    case DType::q4_0:
    case DType::q4_1: return 4;
    case DType::q5_0:
    case DType::q5_1: return 5;
    case DType::mxfp4: return kFp4Bits;
    case DType::q8_0:
    case DType::iq4_nl: return 8;
    default: return 0;
  }
}

// GGUF's row of Hugging Face's: rotated pairs stand side by side (docs/formats/gguf.md).
std::size_t stored_row(std::size_t row, std::size_t head_dim, bool interleaved) {
  if (!interleaved) return row;
  const std::size_t in_head = row % head_dim;
  return row - in_head + 2 * (in_head % (head_dim / 2)) + in_head / (head_dim / 2);
}

// Of MXFP4 half of it: its values are halves.
float scale_of_block(DType type, const std::byte* block) {
  if (type == DType::mxfp4) return e8m0_to_float(std::to_integer<E8m0>(block[0])) / 2;
  Fp16 bits;
  std::memcpy(&bits, block, sizeof bits);
  return fp16_to_float(bits);
}

Matrix<float> scales_of_blocks(const Checkpoint& checkpoint, const TensorInfo& tensor, std::size_t head_dim, bool interleaved) {
  const std::size_t block = block_elements(tensor.type), size = block_bytes(tensor.type);
  const auto rows = static_cast<std::size_t>(tensor.shape[0]), blocks = static_cast<std::size_t>(tensor.shape[1]) / block;
  const std::byte* bytes = checkpoint.bytes(tensor).data();
  Matrix<float> scales(rows, blocks);
  for (std::size_t r = 0; r < rows; ++r) {
    const std::byte* row = bytes + stored_row(r, head_dim, interleaved) * blocks * size;
    for (std::size_t b = 0; b < blocks; ++b) scales(r, b) = scale_of_block(tensor.type, row + b * size);
  }
  return scales;
}

}  // namespace

std::optional<SourceGrid> source_grid(const Weights& weights, std::int64_t layer, Role role) {
  const Checkpoint& checkpoint = weights.checkpoint();
  const ModelConfig& config = weights.config();
  if (!checkpoint.gguf()) {
    const auto packed = weights.packed_weight(module_name(layer, role));
    if (!packed) return {};
    return grid_of(*packed, weights.weight_codebooks(), config.dtype == DType::f16 ? DType::f16 : DType::bf16);
  }
  const TensorInfo& tensor = checkpoint.info("blk." + std::to_string(layer) + "." + std::string(role_names(role).gguf) + ".weight");
  if (block_elements(tensor.type) == 1) return {};
  SourceGrid grid{.multiples = {}, .bits = bits_of(tensor.type), .scale_type = DType::f16, .words = "GGUF " + std::string(name_of(tensor.type))};
  if (grid.bits == 0) return grid;
  const bool interleaved = architecture_of_family(config.family)->gguf_interleaved_rope && (role == Role::q || role == Role::k);
  grid.multiples = {weights.weight(layer, role), scales_of_blocks(checkpoint, tensor, static_cast<std::size_t>(config.head_dim), interleaved),
                    static_cast<std::int64_t>(block_elements(tensor.type))};
  return grid;
}

std::optional<SourceGrid> source_grid_of_head(const Weights& weights) {
  if (weights.checkpoint().gguf() || weights.config().tied_head) return {};
  const auto packed = weights.packed_weight("lm_head");
  if (!packed) return {};
  return grid_of(*packed, weights.weight_codebooks(), weights.config().dtype == DType::f16 ? DType::f16 : DType::bf16);
}

}  // namespace neap
