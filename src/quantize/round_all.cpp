#include "quantize/round_all.h"

#include "neap/error.h"
#include "quantize/block_scaled.h"
#include "quantize/layer_decision.h"

namespace neap {

std::vector<LayerRecord> round_all(const Weights& weights, const Plan& plan, const WalkOptions& options,
                                   const LayerSink& sink, PhaseClock& clock) {
  std::vector<LayerRecord> records;
  const auto round_one = [&](const std::string& module, const Matrix<float>& weight, float global_scale) {
    LayerDecision decision = round_on(*plan.find(module), module, weight, options, global_scale, clock);
    records.push_back(std::move(decision.record));
    sink.quantized(module, {std::move(decision.weight), {}});
  };
  const ModelConfig& config = weights.config();
  for (std::int64_t layer = 0; layer < config.layers; ++layer) {
    const std::string place = "block " + std::to_string(layer + 1) + "/" + std::to_string(config.layers);
    if (options.progress && !options.progress({place, layer, config.layers})) {
      throw Error(ErrorCode::cancelled, "cancelled");
    }
    for (const Stage stage : kStages) {
      const float global_scale = shared_global_scale(plan, layer, stage, [&](Role role) { return weights.weight(layer, role); });
      for (const Role role : roles_of(stage)) {
        const std::string module = module_name(layer, role);
        if (plan.find(module)) round_one(module, weights.weight(layer, role), global_scale);
      }
    }
  }
  if (plan.find("lm_head")) round_one("lm_head", weights.head(), 1);
  return records;
}

}  // namespace neap
