#include "quantize/awq.h"

#include <array>
#include <map>

#include "neap/error.h"
#include "quantize/fold.h"
#include "quantize/layer_decision.h"
#include "solve/awq.h"
#include "solve/layer.h"

namespace neap {
namespace {

// The gram of the inputs after they are divided by the scales.
void divide_gram(Matrix<float>& gram, std::span<const float> scales) {
  for (std::size_t r = 0; r < gram.rows(); ++r) {
    for (std::size_t c = 0; c < gram.cols(); ++c) gram(r, c) /= scales[r] * scales[c];
  }
}

class AwqBlock {
 public:
  AwqBlock(const Weights& weights, const Plan& plan, Streams& streams, std::int64_t layer, Precision precision)
      : weights_(weights), plan_(plan), full_(weights.block(layer, precision)) {
    for (const Stage stage : kStages) {
      const auto i = static_cast<std::size_t>(stage);
      grams_[i] = streams.statistics(stage, full_, full_).gram;
      magnitudes_[i] = streams.mean_magnitudes(stage, full_);
      streams.advance(stage, full_, full_);
    }
    for (std::size_t r = 0; r < kRoles; ++r) matrices_[r] = weights.weight(layer, static_cast<Role>(r));
  }

  void find_and_fold_scales(const LayerSink& sink) {
    fold_into_norm(Stage::attention_input, full_.input_norm, "input_layernorm", sink);
    const ModelConfig& config = weights_.config();
    if (config.heads == config.kv_heads) fold_into_layer(Stage::attention_output, Role::v, sink);
    fold_into_norm(Stage::mlp_input, full_.mlp_norm, "post_attention_layernorm", sink);
    fold_into_layer(Stage::mlp_hidden, Role::up, sink);
  }

  void round(const LayerSink& sink, PhaseClock& clock, std::vector<LayerRecord>& records) {
    for (const Stage stage : kStages) {
      for (const Role role : roles_of(stage)) {
        const GroupLayout* layout = layout_of(role);
        if (!layout) continue;
        const double start = seconds_now();
        const Matrix<float>& weight = matrix(role);
        // q and k are left unclipped, as published: their errors pass through the softmax.
        const bool clip = role != Role::q && role != Role::k;
        const Grid grid = clip ? search_awq_clip(grams_[static_cast<std::size_t>(stage)], weight, *layout)
                               : make_grid(weight, *layout, GridSearch::range);
        const std::string module = module_name(full_.index, role);
        const QuantizedTensor tensor = round_to_grid(weight, grid);
        LayerRecord record = plain_record(module, tensor);
        record.seconds = seconds_now() - start;
        clock.add("clipping and rounding", record.seconds);
        records.push_back(record);
        sink.quantized(module, {tensor, {}});
      }
    }
  }

 private:
  Matrix<float>& matrix(Role role) { return matrices_[static_cast<std::size_t>(role)]; }
  const GroupLayout* layout_of(Role role) const { 
    const WeightLayout* layout = plan_.find(module_name(full_.index, role));
    return layout ? &std::get<GroupLayout>(*layout) : nullptr;  // make_plan refuses other grids for AWQ
  }

  // Multiplies the stage's layers by the best scales; empty if one of its layers is not quantized.
  std::vector<float> scale_layers(Stage stage) {
    const auto i = static_cast<std::size_t>(stage);
    std::vector<AwqLayer> layers;
    for (const Role role : roles_of(stage)) {
      if (!layout_of(role)) return {};
      layers.push_back({matrix(role), *layout_of(role)});
    }
    const std::vector<float> scales = search_awq_scales(grams_[i], magnitudes_[i], layers).scales;
    for (const Role role : roles_of(stage)) scale_columns(matrix(role), scales);
    divide_gram(grams_[i], scales);
    return scales;
  }

  void fold_into_norm(Stage stage, std::vector<float> norm, const std::string& name, const LayerSink& sink) {
    const std::vector<float> scales = scale_layers(stage);
    if (scales.empty()) return;
    divide(norm, scales);
    sink.dense("model.layers." + std::to_string(full_.index) + "." + name + ".weight",
               MatrixView<const float>(norm.data(), 1, norm.size()));
  }

  void fold_into_layer(Stage stage, Role feeder, const LayerSink& sink) {
    if (!layout_of(feeder)) return;
    const std::vector<float> scales = scale_layers(stage);
    if (scales.empty()) return;
    divide_rows(matrix(feeder), scales);
    std::vector<float> bias = weights_.bias(full_.index, feeder);
    if (bias.empty()) return;
    divide(bias, scales);
    sink.dense(module_name(full_.index, feeder) + ".bias",
               MatrixView<const float>(bias.data(), 1, bias.size()));
  }

  const Weights& weights_;
  const Plan& plan_;
  Block full_;
  std::array<Matrix<float>, kStages.size()> grams_;
  std::array<std::vector<float>, kStages.size()> magnitudes_;
  std::array<Matrix<float>, kRoles> matrices_;
};

}  // namespace

std::vector<LayerRecord> walk_awq(const Weights& weights, const Plan& plan, const TokenWindows& windows,
                                  const WalkOptions& options, const LayerSink& sink, PhaseClock& clock) {
  Streams streams(weights, windows,
                  {.reference = false,
                   .precision = options.recipe.precision,
                   .memory = options.activation_memory,
                   .scratch = options.scratch});
  std::vector<LayerRecord> records;
  const std::int64_t layers = weights.config().layers;
  for (std::int64_t layer = 0; layer < layers; ++layer) {
    const std::string stage = "block " + std::to_string(layer + 1) + "/" + std::to_string(layers);
    if (options.progress && !options.progress({stage, layer, layers})) {
      throw Error(ErrorCode::cancelled, "cancelled");
    }
    AwqBlock block = timed(clock, "forward passes and statistics", 0, [&] {
      return AwqBlock(weights, plan, streams, layer, options.recipe.precision);
    });
    timed(clock, "scale search", 0, [&] { block.find_and_fold_scales(sink); });
    block.round(sink, clock, records);
  }
  if (plan.find("lm_head")) {
    const QuantizedTensor head = round_to_nearest(weights.head(), std::get<GroupLayout>(*plan.find("lm_head")));
    records.push_back(plain_record("lm_head", head));
    sink.quantized("lm_head", {head, {}});
  }
  return records;
}

}  // namespace neap
