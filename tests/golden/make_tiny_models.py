#!/usr/bin/env python3
"""Make tests/golden/models: a tiny random model per architecture variant, with the logits that transformers computes.

    tests/golden/make_tiny_models.py [--only NAME...] [--out DIR]

Each directory is what Hugging Face publishes, in small:

    config.json                 written by hand in the words of the published checkpoints (transformers 4 and before)
    config.transformers5.json   the same model as transformers 5 saves it (rope_parameters, dtype, layer_types, ...);
                                a reader must take both for the same architecture
    model.safetensors           bf16, f16 or f32; SHARDED models come as two shards and an index instead
    golden.safetensors          input_ids I64 (1, 72); logits F32 (1, 72, vocabulary)

The logits are those of the *stored* weights, upcast to float32, under eager attention. They are refused unless sdpa
attention agrees, unless both configurations give the same bytes, and unless the model is a fair test: attention that
is not uniform, and logits that depend on the trait that the variant is for. The table printed at the end says how far
float32 is from float64, which is the tolerance that a correct implementation may ask for.

Sizes are small and uneven on purpose (no dimension is a multiple of 16 where it need not be). Norm weights are not 1
and biases not 0, so that forgetting one shows.
"""
import argparse
import json
import shutil
import zlib
from pathlib import Path

import torch
from safetensors.torch import save_file
from transformers import AutoConfig, AutoModelForCausalLM

TOKENS = 72            # longer than WINDOW and than the context that the llama3 rope was "trained" on
WINDOW = 24
TOLERANCE = 2e-4       # between attention implementations, in float32, on logits of order 1 to 5


def llama(**changes):
    return {"architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_act": "silu", "hidden_size": 60,
            "intermediate_size": 84, "num_hidden_layers": 3, "num_attention_heads": 6, "vocab_size": 259,
            "max_position_embeddings": 512, "rms_norm_eps": 1e-5, "tie_word_embeddings": False, "bos_token_id": 1,
            "eos_token_id": 2, "torch_dtype": "bfloat16", **changes}


def like(architecture, model_type, **changes):
    return llama(architectures=[architecture], model_type=model_type, **changes)


# name -> (config.json, what the variant is for: changes of the configuration, each of which must change the logits)
VARIANTS = {
    # Llama 1 says neither num_key_value_heads nor rope_theta: the reader's defaults are part of the test.
    "llama1": (llama(torch_dtype="float16", rms_norm_eps=1e-3), [{"rms_norm_eps": 1e-6}]),
    # Llama 2 70B: grouped queries; "rope_scaling": null is spelled out.
    "llama2": (llama(hidden_size=64, intermediate_size=44, num_attention_heads=8, num_key_value_heads=2,
                     rope_scaling=None, rope_theta=10000.0, pretraining_tp=1, torch_dtype="float32",
                     num_hidden_layers=2), [{"rope_theta": 500000.0}]),
    # Llama 3.1: the original context of 32 puts its three frequency bands inside 72 tokens.
    "llama31": (llama(num_attention_heads=3, num_key_value_heads=1, head_dim=20, rope_theta=500000.0,
                      attention_bias=False, mlp_bias=False, eos_token_id=[2, 8, 9],
                      rope_scaling={"factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
                                    "original_max_position_embeddings": 32, "rope_type": "llama3"}),
                [{"rope_scaling": None}]),
    # The old word "type"; transformers 4.45 renamed it to "rope_type".
    "llama-linear": (llama(num_key_value_heads=3, rope_scaling={"type": "linear", "factor": 4.0}, rope_theta=10000.0),
                     [{"rope_scaling": None}]),
    "llama-bias": (llama(num_key_value_heads=6, attention_bias=True, mlp_bias=True, rope_theta=10000.0,
                         torch_dtype="float16"), [{"attention_bias": False}, {"mlp_bias": False}]),
    # Every layer slides; the heads together are wider than the hidden size, as in Mistral Nemo.
    "mistral": (like("MistralForCausalLM", "mistral", num_key_value_heads=2, head_dim=14, sliding_window=WINDOW,
                     rope_theta=10000.0), [{"sliding_window": None}, {"sliding_window": WINDOW + 1}]),
    # Qwen2 never says that q, k and v have biases; its sliding_window means nothing while use_sliding_window is false.
    "qwen2": (like("Qwen2ForCausalLM", "qwen2", num_key_value_heads=2, tie_word_embeddings=True, rope_theta=1000000.0,
                   sliding_window=WINDOW, use_sliding_window=False, max_window_layers=2, rms_norm_eps=1e-6),
              [{"rope_theta": 10000.0}]),
    # Layers from max_window_layers on slide, the ones before do not.
    "qwen2-sliding": (like("Qwen2ForCausalLM", "qwen2", num_hidden_layers=4, hidden_size=48,
                           num_attention_heads=6, num_key_value_heads=3, rope_theta=1000000.0, sliding_window=WINDOW,
                           use_sliding_window=True, max_window_layers=2, rms_norm_eps=1e-6),
                      [{"max_window_layers": 1}, {"use_sliding_window": False}]),
    # q and k are normalized per head; heads x head_dim is not the hidden size.
    "qwen3": (like("Qwen3ForCausalLM", "qwen3", num_attention_heads=4, num_key_value_heads=2, head_dim=22,
                   attention_bias=False, tie_word_embeddings=True, rope_theta=1000000.0, rope_scaling=None,
                   sliding_window=None, use_sliding_window=False, max_window_layers=3, rms_norm_eps=1e-6),
              [{"rope_theta": 10000.0}]),
    "smollm2": (llama(hidden_size=72, num_attention_heads=9, num_key_value_heads=3, tie_word_embeddings=True,
                      rope_theta=100000.0, is_llama_config=True, rope_interleaved=False, pad_token_id=2),
                [{"rope_theta": 10000.0}]),
    # 1 means "with rope": the third of four layers goes without. The interval would say the fourth.
    "smollm3": (like("SmolLM3ForCausalLM", "smollm3", num_hidden_layers=4, num_key_value_heads=2, hidden_size=48,
                     pad_token_id=2, tie_word_embeddings=True, rope_theta=5000000.0, no_rope_layers=[1, 1, 0, 1],
                     no_rope_layer_interval=4, use_sliding_window=False, sliding_window=None, attention_bias=False,
                     mlp_bias=False, layer_types=["full_attention"] * 4), [{"no_rope_layers": [1, 1, 1, 0]}]),
}
SHARDED = {"qwen2-sliding-sharded": "qwen2-sliding", "qwen3-sharded": "qwen3"}  # the same weights, in two files


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "models", help="where the directories go")
    names = [*VARIANTS, *SHARDED]
    parser.add_argument("--only", nargs="+", default=names, choices=names, metavar="NAME",
                        help=f"make only these (of {', '.join(names)})")
    return parser.parse_args()


def load_config(config, folder):
    """The configuration as transformers reads it from a published config.json."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n")
    return AutoConfig.from_pretrained(folder)


def build(config, state=None, dtype=torch.float32, attention="eager"):
    model = AutoModelForCausalLM.from_config(config, dtype=dtype, attn_implementation=attention).eval()
    if state is not None:
        tied = config.tie_word_embeddings
        missing, unexpected = model.load_state_dict(state, strict=False)
        assert not unexpected and set(missing) <= ({"lm_head.weight"} if tied else set()), (missing, unexpected)
        model.tie_weights()
    return model


@torch.no_grad()
def random_weights(config, name, dtype):
    """Weights that make every part of the model count, rounded to `dtype`; seeded by the variant's name."""
    generator = torch.Generator().manual_seed(zlib.crc32(name.encode()))
    draw = lambda shape, mean, deviation: torch.randn(shape, generator=generator) * deviation + mean
    state = {}
    for key, tensor in build(config).state_dict().items():
        if key == "lm_head.weight" and config.tie_word_embeddings:
            continue
        if "norm" in key:
            value = draw(tensor.shape, 1.0, 0.25)
        elif key.endswith("bias"):
            value = draw(tensor.shape, 0.1, 0.3)
        else:
            value = draw(tensor.shape, 0.0, 0.15)
        state[key] = value.to(dtype)
    return state


@torch.no_grad()
def logits_of(config, state, ids, dtype=torch.float32, attention="eager"):
    return build(config, {key: value.to(dtype) for key, value in state.items()}, dtype, attention)(ids).logits


def only_known(state, config):
    """The part of the weights that a model of this configuration has (another one may have no biases)."""
    known = build(config).state_dict()
    return {key: value for key, value in state.items() if key in known}


@torch.no_grad()
def attention_entropy(config, state, ids):
    """Entropy of the last token's attention over its maximum, the mean over layers and heads: 1 would be uniform."""
    maps = build(config, {k: v.float() for k, v in state.items()})(ids, output_attentions=True).attentions
    rows = torch.stack([layer[0, :, -1] for layer in maps])
    seen = (rows > 0).sum(-1).float()
    return (-(rows * rows.clamp(min=1e-30).log()).sum(-1) / seen.log()).mean().item()


def save_weights(folder, state, shards):
    """One model.safetensors, or model-0000i-of-0000n.safetensors with an index."""
    if shards == 1:
        save_file(state, folder / "model.safetensors", metadata={"format": "pt"})
        return
    keys, names = sorted(state), [f"model-{i + 1:05}-of-{shards:05}.safetensors" for i in range(shards)]
    place = {key: names[i * shards // len(keys)] for i, key in enumerate(keys)}
    for name in names:
        save_file({key: state[key] for key in keys if place[key] == name}, folder / name, metadata={"format": "pt"})
    total = sum(tensor.numel() * tensor.element_size() for tensor in state.values())
    index = {"metadata": {"total_size": total}, "weight_map": place}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index, indent=2) + "\n")


def save_transformers5_config(config, dtype, folder, scratch):
    """What transformers 5 writes for this model; it must read back as the same one."""
    config.dtype = dtype
    config.save_pretrained(scratch)
    saved = json.loads((scratch / "config.json").read_text())
    for key in ("_name_or_path", "_attn_implementation"):
        saved.pop(key, None)
    (folder / "config.transformers5.json").write_text(json.dumps(saved, indent=2) + "\n")
    return load_config(saved, scratch)


def make(name, out):
    """Write one variant; returns the figures for the table."""
    folder, scratch, source = out / name, out / ".scratch", SHARDED.get(name, name)
    words, traits = VARIANTS[source]
    shutil.rmtree(folder, ignore_errors=True)
    dtype = getattr(torch, words["torch_dtype"])
    config = load_config(words, folder)
    state = random_weights(config, source, dtype)
    generator = torch.Generator().manual_seed(zlib.crc32(b"tokens"))
    ids = torch.randint(3, words["vocab_size"], (1, TOKENS), generator=generator)

    logits = logits_of(config, state, ids)
    away = lambda other: (other - logits).abs().max().item()
    sdpa = away(logits_of(config, state, ids, attention="sdpa"))
    double = away(logits_of(config, state, ids, dtype=torch.float64).float())
    entropy = attention_entropy(config, state, ids)
    without = (load_config({**words, **trait}, scratch) for trait in traits)
    matters = min(away(logits_of(other, only_known(state, other), ids)) for other in without)
    config5 = save_transformers5_config(config, dtype, folder, scratch)
    assert away(logits_of(config5, state, ids)) == 0, f"{name}: the two configurations differ"
    assert sdpa < TOLERANCE, f"{name}: eager and sdpa differ by {sdpa}"
    assert entropy < 0.95 and matters > 0.05, f"{name}: not a fair test (entropy {entropy}, trait {matters})"

    save_weights(folder, state, 2 if name in SHARDED else 1)
    save_file({"input_ids": ids, "logits": logits}, folder / "golden.safetensors")
    shutil.rmtree(scratch)
    return logits.std().item(), entropy, matters, sdpa, double


def main():
    arguments = parse_arguments()
    torch.set_num_threads(1)  # sums in one order
    print(f"{'variant':22} {'logit std':>9} {'entropy':>8} {'trait':>8} {'sdpa':>9} {'float64':>9}")
    for name in arguments.only:
        std, entropy, matters, sdpa, double = make(name, arguments.out)
        print(f"{name:22} {std:9.3f} {entropy:8.3f} {matters:8.3f} {sdpa:9.1e} {double:9.1e}")


if __name__ == "__main__":
    main()
