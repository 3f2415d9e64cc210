#include "model/architecture.h"

#include <array>
#include <string>

namespace neap {
namespace {

// Sources: transformers' configuration_*.py and modeling_*.py for the keys and defaults;
// llama.cpp's conversion scripts for the GGUF names and for who interleaves.
constexpr Architecture kTable[] = {
    {.family = "llama",
     .hf_class = "LlamaForCausalLM",
     .gguf = "llama",
     .qkv_bias = BiasRule::attention_bias_key,
     .output_bias = BiasRule::attention_bias_key,
     .mlp_bias = BiasRule::mlp_bias_key,
     .gguf_interleaved_rope = true,
     .gguf_biases = true,
     .gguf_scales = true},
    {.family = "mistral",
     .hf_class = "MistralForCausalLM",
     .gguf = "llama",  // as llama.cpp writes it: the family of such a file reads as llama
     .window = WindowRule::every_layer,
     .gguf_interleaved_rope = true,
     .gguf_biases = true,
     .gguf_scales = true,
     .default_kv_heads = 8,
     .default_window = 4096},
    {.family = "qwen2",
     .hf_class = "Qwen2ForCausalLM",
     .gguf = "qwen2",
     .qkv_bias = BiasRule::always,
     .window = WindowRule::from_max_window_layers,
     .window_needs_switch = true,
     .layer_types_rule = true,
     .default_kv_heads = 32,
     .default_window = 4096},
    {.family = "qwen3",
     .hf_class = "Qwen3ForCausalLM",
     .gguf = "qwen3",
     .qkv_bias = BiasRule::attention_bias_key,
     .output_bias = BiasRule::attention_bias_key,
     .qk_norm = true,
     .window = WindowRule::from_max_window_layers,
     .window_needs_switch = true,
     .layer_types_rule = true,
     .gguf_scales = true,
     .default_head_dim = 128,
     .default_kv_heads = 32,
     .default_window = 4096},
    {.family = "smollm3",
     .hf_class = "SmolLM3ForCausalLM",
     .gguf = "smollm3",
     .qkv_bias = BiasRule::attention_bias_key,
     .output_bias = BiasRule::attention_bias_key,
     .mlp_bias = BiasRule::mlp_bias_key,
     .window = WindowRule::layers_without_rope,
     .window_needs_switch = true,
     .layer_types_rule = true,
     .skips_rope = true,
     .gguf_interleaved_rope = true,
     .default_kv_heads = 4,
     .default_rope_theta = 2000000,
     .default_tied_head = true},
};

constexpr std::array<NamePair, kRoles> kRoleNames = {{{"self_attn.q_proj", "attn_q"},
                                                      {"self_attn.k_proj", "attn_k"},
                                                      {"self_attn.v_proj", "attn_v"},
                                                      {"self_attn.o_proj", "attn_output"},
                                                      {"mlp.gate_proj", "ffn_gate"},
                                                      {"mlp.up_proj", "ffn_up"},
                                                      {"mlp.down_proj", "ffn_down"}}};

}  // namespace

std::span<const Architecture> architectures() { return kTable; }

const Architecture* architecture_of_family(std::string_view family) {
  for (const Architecture& row : kTable)
    if (row.family == family) return &row;
  return nullptr;
}

const Architecture* architecture_of_gguf(std::string_view name) {
  for (const Architecture& row : kTable)
    if (row.gguf == name) return &row;
  return nullptr;
}

std::string supported_families() {
  std::string names;
  for (const Architecture& row : kTable) {
    if (!names.empty()) names += ", ";
    names += row.family;
  }
  return names;
}

NamePair role_names(Role role) { return kRoleNames[static_cast<std::size_t>(role)]; }

}  // namespace neap
