#include "model/config.h"

#include <cmath>
#include <string>

#include "model/architecture.h"
#include "neap/error.h"

namespace neap {
namespace {

[[noreturn]] void wrong(const std::string& file, const char* what, const char* expected,
                        double found) {
  throw Error(ErrorCode::format, "the model's sizes make no sense",
              {.file = file, .tensor = what, .expected = expected, .found = std::to_string(found)});
}

void check_rope(const ModelConfig& config, const std::string& file) {
  const auto positive = [&](const char* what, double value) {
    if (!(value > 0 && std::isfinite(value))) wrong(file, what, "a positive number", value);
  };
  const RopeScaling& scaling = config.rope_scaling;
  positive("rope theta", config.rope_theta);
  positive("rope scaling factor", scaling.factor);
  if (scaling.kind != RopeScaling::Kind::llama3) return;
  positive("rope scaling low frequency", scaling.low_frequency);
  positive("rope scaling original positions", static_cast<double>(scaling.original_positions));
  if (!(scaling.high_frequency > scaling.low_frequency && std::isfinite(scaling.high_frequency)))
    wrong(file, "rope scaling high frequency", "above the low one", scaling.high_frequency);
}

// The embedding's, which is never packed. GGUF's blocks have fp16 scales, so f16 is nearest to
// those.
DType matrix_type(const Checkpoint& checkpoint) {
  const bool gguf = checkpoint.kind() == Checkpoint::Kind::gguf;
  const NamePair name = kEmbedding;
  const DType type =
      checkpoint.info(std::string(gguf ? name.gguf : name.huggingface) + ".weight").type;
  return type == DType::f32 || type == DType::bf16 ? type : DType::f16;
}

}  // namespace

void check_config(const ModelConfig& config, const std::string& file) {
  const auto in_range = [&](const char* what, std::int64_t value, std::int64_t most) {
    if (value < 1 || value > most)
      wrong(file, what, ("1 to " + std::to_string(most)).c_str(), static_cast<double>(value));
  };
  // Far above any model, and low enough that no product of two of them overflows.
  in_range("layers", config.layers, 1 << 16);
  in_range("hidden size", config.hidden, 1 << 24);
  in_range("intermediate size", config.intermediate, 1 << 24);
  in_range("vocabulary", config.vocabulary, 1 << 28);
  in_range("attention heads", config.heads, 1 << 16);
  in_range("key-value heads", config.kv_heads, config.heads);
  in_range("head size", config.head_dim, 1 << 16);
  in_range("positions", config.max_positions, std::int64_t{1} << 40);
  if (config.heads % config.kv_heads != 0)
    wrong(file, "key-value heads", "a divisor of the heads", static_cast<double>(config.kv_heads));
  if (config.head_dim % 2 != 0)
    wrong(file, "head size", "an even number", static_cast<double>(config.head_dim));
  if (!(config.norm_epsilon >= 0 && std::isfinite(config.norm_epsilon)))
    wrong(file, "norm epsilon", "a positive number", config.norm_epsilon);
  check_rope(config, file);
}

ModelConfig read_config(const Checkpoint& checkpoint) {
  ModelConfig config =
      checkpoint.kind() == Checkpoint::Kind::gguf
          ? config_from_gguf(checkpoint)
          : config_from_json(checkpoint.config_json(), checkpoint.folder() + "/config.json");
  config.dtype = matrix_type(checkpoint);
  return config;
}

}  // namespace neap
