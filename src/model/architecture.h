// The families of models that Neap runs, as data: what each one calls things and where it departs
// from plain Llama. All of them are the same block (pre-norm, grouped-query attention with rotary
// positions, SwiGLU), so the next Llama-like family is one more row of the table in
// architecture.cpp.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include "model/block.h"

namespace neap {

// Whether layers of a kind have biases.
enum class BiasRule { never, always, attention_bias_key, mlp_bias_key };

// Which layers attend to a sliding window, where config.json does not list them in `layer_types`.
enum class WindowRule { never, every_layer, from_max_window_layers, layers_without_rope };

struct Architecture {
  std::string_view family;    // ModelConfig::family and config.json's `model_type`
  std::string_view hf_class;  // config.json's `architectures`
  std::string_view gguf;      // general.architecture; the first row that has a name owns it
  BiasRule qkv_bias = BiasRule::never;
  BiasRule output_bias = BiasRule::never;
  BiasRule mlp_bias = BiasRule::never;
  bool qk_norm = false;  // q and k are normalized per head, before rope
  WindowRule window = WindowRule::never;
  bool window_needs_switch = false;  // `sliding_window` means nothing unless `use_sliding_window`
  bool layer_types_rule = false;     // `layer_types`, where given, overrides `window`
  bool skips_rope = false;           // `no_rope_layers`, or every `no_rope_layer_interval`-th layer
  bool gguf_interleaved_rope =
      false;  // GGUF has the rows of q and k in rotated pairs (see weights.h)
  bool gguf_biases = false;  // llama.cpp has biases for the outputs of attention and in the MLP
  bool gguf_scales = false;  // llama.cpp multiplies every layer's products by the ".scale" of their matrix (NVFP4)

  // What transformers takes for a key that config.json leaves out. 0: see the comment.
  std::int64_t default_head_dim = 0;  // 0: hidden / heads
  std::int64_t default_kv_heads = 0;  // 0: as many as heads
  std::int64_t default_window = 0;    // 0: none
  double default_rope_theta = 10000;
  bool default_tied_head = false;
};

std::span<const Architecture> architectures();
// Null if no row has it.
const Architecture* architecture_of_family(std::string_view family);
const Architecture* architecture_of_gguf(std::string_view name);
// "llama, mistral, ...", for messages.
std::string supported_families();

// One name in Hugging Face's words and in GGUF's, without ".weight"; those of a layer come after
// "model.layers.N." and "blk.N.".
struct NamePair {
  std::string_view huggingface, gguf;
};

NamePair role_names(Role role);
inline constexpr NamePair kInputNorm{"input_layernorm", "attn_norm"};
inline constexpr NamePair kMlpNorm{"post_attention_layernorm", "ffn_norm"};
inline constexpr NamePair kQNorm{"self_attn.q_norm", "attn_q_norm"};
inline constexpr NamePair kKNorm{"self_attn.k_norm", "attn_k_norm"};
inline constexpr NamePair kEmbedding{"model.embed_tokens", "token_embd"};
inline constexpr NamePair kFinalNorm{"model.norm", "output_norm"};
inline constexpr NamePair kHead{"lm_head", "output"};

}  // namespace neap
