#include "quantize/plan.h"

#include <algorithm>
#include <array>
#include <set>

#include "export/gguf_mix.h"
#include "model/architecture.h"
#include "model/weights.h"
#include "neap/error.h"
#include "quantize/pattern.h"

namespace neap {
namespace {

constexpr const char* kHeadModule = "lm_head";

struct Module {
  std::string name;
  std::int64_t cols;
};

std::vector<Module> modules_of(const ModelConfig& config) {
  std::vector<Module> modules;
  for (std::int64_t layer = 0; layer < config.layers; ++layer) {
    for (std::size_t r = 0; r < kRoles; ++r) {
      const auto role = static_cast<Role>(r);
      modules.push_back({module_name(layer, role), module_shape(config, role)[1]});
    }
  }
  return modules;
}

[[noreturn]] void refuse(const std::string& why, const std::string& expected, const std::string& found) {
  throw Error(ErrorCode::argument, why, {.expected = expected, .found = found});
}

void check_range(const char* name, double value, double low, double high) {
  if (value >= low && value <= high) return;
  refuse(std::string(name) + " is out of range", std::to_string(low) + " to " + std::to_string(high),
         std::to_string(value));
}

// What formats with a grid of their own have no room for.
void check_format(const Recipe& recipe) {
  const auto block_scaled = block_scaled_of(recipe.scheme);
  const bool gguf = recipe.scheme == Scheme::gguf;
  const std::string format = block_scaled ? name_of(*block_scaled) : gguf ? "GGUF" : "LO-BCQ";
  if (recipe.scheme == Scheme::lobcq) require_valid(recipe.lobcq.layout);
  if (block_scaled == BlockScaled::int4 && recipe.block_scaled.group != 64 && recipe.block_scaled.group != 128) {
    refuse("INT4 has no such groups", "64 or 128", std::to_string(recipe.block_scaled.group));
  }
  if (recipe.method == Method::awq || (recipe.method == Method::gptaq && !gguf)) {
    refuse("this method is for integer grids", std::string(gguf ? "rtn, gptq, gptaq" : "rtn, gptq") + " or ojbkq with " + format,
           name_of(recipe.method));
  }
  if (recipe.scheme == Scheme::lobcq && recipe.lobcq.scales == ScaleChoice::maximum && recipe.method != Method::rtn) {
    refuse("scales from the maximum are for rounding", "rtn", name_of(recipe.method));
  }
  if (!recipe.overrides.empty()) refuse("overrides are for integer grids", "none with " + format, recipe.overrides[0].pattern);
  if (recipe.lm_head_bits != 0) refuse(format + " keeps the head as it is", "lm_head kept", std::to_string(recipe.lm_head_bits) + " bits");
}

// NVFP4's scale of a matrix, which lies beside its blocks, is for layers alone, and not of all architectures.
void check_matrix_scales(const Recipe& recipe, const ModelConfig& config) {
  if (recipe.scheme != Scheme::gguf || recipe.gguf.mix != GgufMix::nvfp4) return;
  if (recipe.gguf.pure) refuse("llama.cpp has no place for the scale of an embedding in NVFP4", "no --pure", "--pure");
  const Architecture* family = architecture_of_family(config.family);
  NEAP_CHECK(family);
  if (!family->gguf_scales) refuse("llama.cpp leaves out NVFP4's scales of matrices in this architecture", "GGUF:MXFP4, or a model of llama's or qwen3's", config.family);
  if (config.mlp_bias) refuse("llama.cpp refuses NVFP4's scales of matrices beside biases", "GGUF:MXFP4", "mlp_bias");
}

void check_imatrix(const Recipe& recipe) {
  if (recipe.method != Method::rtn) refuse("weighing by an importance matrix leaves nothing to solve", "rtn with an imatrix", name_of(recipe.method));
  if (recipe.scheme != Scheme::integer && recipe.scheme != Scheme::gguf) {
    refuse("scales that an importance matrix could weigh are not searched here", "an integer grid or GGUF", name_of(recipe.scheme));
  }
  if (balances(recipe)) refuse("balancing needs calibration text", "no balancing with an imatrix", "balance");
}

void check_settings(const Recipe& recipe) {
  check_range("bits", recipe.bits, 2, 8);
  check_range("target_mix", recipe.target_mix, 0, 1);
  check_range("ridge", recipe.ridge, 0, 100);
  check_range("paths", recipe.paths, 0, 1000);
  check_range("descent_sweeps", recipe.descent_sweeps, 0, 10000);
  check_range("refits", recipe.refits, 0, 1000);
  check_range("samples", static_cast<double>(recipe.samples), 0, 1e9);
  check_range("seqlen", static_cast<double>(recipe.length), 2, 1e7);
  if (recipe.lm_head_bits != 0) check_range("lm_head bits", recipe.lm_head_bits, 2, 8);
  if (recipe.scheme != Scheme::integer) check_format(recipe);
  if (recipe.imatrix) check_imatrix(recipe);
  if (recipe.method == Method::awq && balances(recipe)) refuse("AWQ has factors of its own", "no balancing with awq", "balance");
}

std::int64_t largest_dividing_group(const std::vector<Module>& modules, std::string& reason) {
  for (const std::int64_t group : {128, 64, 32}) {
    const bool divides = std::all_of(modules.begin(), modules.end(),
                                     [&](const Module& m) { return m.cols % group == 0; });
    if (!divides) continue;
    reason = group == 128 ? "the usual group of 128 divides every layer's inputs"
                          : "the largest of 128, 64 and 32 that divides every layer's inputs";
    return group;
  }
  reason = "neither 128, 64 nor 32 divides every layer's inputs: one scale a row";
  return 0;
}

// What every engine reads best: the type that the model itself is stored in.
DType scale_type_of(const ModelConfig& config) { return config.dtype == DType::f16 ? DType::f16 : DType::bf16; }

GroupLayout common_layout(const Recipe& recipe, const ModelConfig& config, const std::vector<Module>& modules,
                          std::string& reason) {
  const std::int64_t group = recipe.group ? *recipe.group : largest_dividing_group(modules, reason);
  return {.bits = recipe.bits, .group = group, .symmetric = recipe.symmetric, .scale_type = scale_type_of(config)};
}

// Of a scheme that has one layout for all layers.
WeightLayout format_layout(const Recipe& recipe, const ModelConfig& config) {
  if (recipe.scheme == Scheme::gguf) return GgufLayout{base_type(recipe.gguf.mix)};
  const auto format = block_scaled_of(recipe.scheme);
  if (!format) return recipe.lobcq.layout;
  if (*format != BlockScaled::int4) return Fp4Layout{*format};
  return GroupLayout{.bits = 4, .group = recipe.block_scaled.group, .symmetric = true, .scale_type = scale_type_of(config)};
}

GroupLayout overridden(GroupLayout layout, const Override& o) {
  if (o.bits) layout.bits = *o.bits;
  if (o.group) layout.group = *o.group;
  if (o.symmetric) layout.symmetric = *o.symmetric;
  return layout;
}

void check_group(const Module& module, std::int64_t group, const char* otherwise) {
  if (group == 0 || (group > 0 && module.cols % group == 0)) return;
  refuse(module.name + ": no reader of this format takes a group that does not divide the inputs",
         "a divisor of " + std::to_string(module.cols) + otherwise, "group size " + std::to_string(group));
}

void check_layout(const Module& module, const GroupLayout& layout) {
  if (layout.bits < 2 || layout.bits > 8) {
    refuse(module.name + ": bits are out of range", "2 to 8", std::to_string(layout.bits));
  }
  check_group(module, layout.group, ", or -1 for whole rows");
}

void check_layout(const Module& module, const WeightLayout& layout) {
  if (const auto* fp4 = std::get_if<Fp4Layout>(&layout)) check_group(module, fp4->group(), ": --ignore it");
  if (const auto* grid = std::get_if<GroupLayout>(&layout)) check_group(module, grid->group, ": --ignore it");
}

// "self_attn.q_proj" of a layer's.
std::string kind_of(const std::string& module) {
  constexpr std::string_view kLayers = "model.layers.";
  return module.starts_with(kLayers) ? module.substr(module.find('.', kLayers.size()) + 1) : module;
}

// What llama.cpp's quantizer gives a matrix, or what its shape leaves of that, which the plan then tells; nothing: it
// stays as it is.
std::optional<GgufLayout> gguf_layout(const Recipe& recipe, const ModelConfig& config, const Module& module, Plan& plan) {
  const bool calibrated = recipe.method != Method::rtn || recipe.imatrix;
  const DType wanted = recipe.gguf.pure ? base_type(recipe.gguf.mix) : mixed_type(recipe.gguf.mix, module.name, config, calibrated);
  const auto type = module.cols % static_cast<std::int64_t>(block_elements(wanted)) == 0
                        ? wanted : fallback_type(wanted, module.cols);
  if (type == wanted) return GgufLayout{wanted};
  const auto words = [&](const std::string& name) {
    return std::string(name_of(wanted)) + " holds blocks of " + std::to_string(block_elements(wanted)) + ", and rows of " + name + " have " + std::to_string(module.cols);
  };
  const std::string instead = type ? std::string(name_of(*type)) : "the source's own type";
  if (!recipe.gguf.allow_fallback) {
    const std::string why = wanted == base_type(recipe.gguf.mix) ? "" : " (which llama.cpp gives it in " + std::string(name_of(recipe.gguf.mix)) + ")";
    refuse(words(module.name) + why, "--allow-fallback, which gives it " + instead + ", or --ignore", "neither");
  }
  ++plan.fallbacks[words(kind_of(module.name)) + ": " + instead];
  return type ? std::optional(GgufLayout{*type}) : std::nullopt;
}

// The pattern that leaves a module as it is, if one does.
const Pattern* ignored_by(const std::vector<Pattern>& ignore, const std::string& module) {
  const auto found = std::find_if(ignore.begin(), ignore.end(), [&](const Pattern& p) { return p.matches(module); });
  return found == ignore.end() ? nullptr : &*found;
}

void plan_rounding(const Recipe& recipe, const ModelConfig& config, const std::vector<Pattern>& ignore,
                   std::set<std::string>& used, Plan& plan) {
  std::vector<std::string> matrices = {"model.embed_tokens"};
  if (!config.tied_head) matrices.emplace_back(kHeadModule);
  for (const std::string& name : matrices) {
    if (const Pattern* skip = ignored_by(ignore, name)) {
      used.insert(skip->text());
      continue;
    }
    if (const auto layout = gguf_layout(recipe, config, {name, config.hidden}, plan)) plan.rounded[name] = *layout;
  }
}

// Engines run q, k, v and gate, up as one matrix: a mixture in there loads nowhere.
void check_fused(const Plan& plan, const ModelConfig& config) {
  const std::array<std::vector<Role>, 2> kFused = {std::vector{Role::q, Role::k, Role::v},
                                                   std::vector{Role::gate, Role::up}};
  for (std::int64_t layer = 0; layer < config.layers; ++layer) {
    for (const auto& roles : kFused) {
      const WeightLayout* first = plan.find(module_name(layer, roles.front()));
      for (const Role role : roles) {
        const std::string name = module_name(layer, role);
        const WeightLayout* other = plan.find(name);
        if ((first == nullptr) == (other == nullptr) && (!first || *first == *other)) continue;
        refuse(name + ": engines fuse it with " + module_name(layer, roles.front()),
               "one grid for both (or both ignored)", "two");
      }
    }
  }
}

}  // namespace

const WeightLayout* Plan::find(const std::string& module) const {
  const auto it = layers.find(module);
  return it == layers.end() ? nullptr : &it->second;
}

Plan make_plan(const Recipe& recipe, const ModelConfig& config) {
  check_settings(recipe);
  check_matrix_scales(recipe, config);
  std::vector<Module> modules = modules_of(config);
  Plan plan;
  GroupLayout common;
  if (recipe.scheme != Scheme::integer) {
    plan.layout = format_layout(recipe, config);
  } else {
    plan.layout = common = common_layout(recipe, config, modules, plan.layout_reason);
  }

  std::vector<Pattern> ignore(recipe.ignore.begin(), recipe.ignore.end());
  std::vector<Pattern> patterns;
  for (const auto& o : recipe.overrides) patterns.emplace_back(o.pattern);
  std::set<std::string> used;
  if (recipe.lm_head_bits != 0) modules.push_back({kHeadModule, config.hidden});
  for (const Module& module : modules) {
    if (const Pattern* skip = ignored_by(ignore, module.name)) {
      used.insert(skip->text());
      continue;
    }
    if (recipe.scheme == Scheme::gguf) {
      if (const auto layout = gguf_layout(recipe, config, module, plan)) plan.layers[module.name] = *layout;
      continue;
    }
    if (recipe.scheme != Scheme::integer) {
      check_layout(module, plan.layout);
      plan.layers[module.name] = plan.layout;
      continue;
    }
    GroupLayout layout = common;
    if (module.name == kHeadModule) layout.bits = recipe.lm_head_bits;
    for (std::size_t i = 0; i < patterns.size(); ++i) {
      if (!patterns[i].matches(module.name)) continue;
      used.insert(patterns[i].text());
      layout = overridden(layout, recipe.overrides[i]);
      break;
    }
    check_layout(module, layout);
    plan.layers[module.name] = layout;
  }
  if (recipe.scheme == Scheme::gguf) plan_rounding(recipe, config, ignore, used, plan);
  for (const auto* list : {&ignore, &patterns}) {
    for (const Pattern& p : *list) {
      if (!used.contains(p.text()) && p.text() != kHeadModule) {
        refuse("'" + p.text() + "' decides for no layer", "a pattern that matches, e.g. " + modules.front().name,
               "no match, or another pattern before it");
      }
    }
  }
  if (plan.layers.empty()) refuse("every layer is ignored", "at least one to quantize", "none");
  // Neap's own container is read by Neap alone, which fuses nothing; nor does llama.cpp.
  if (recipe.scheme != Scheme::lobcq && recipe.scheme != Scheme::gguf) check_fused(plan, config);
  return plan;
}

}  // namespace neap
