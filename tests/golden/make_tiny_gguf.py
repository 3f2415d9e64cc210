#!/usr/bin/env python3
"""Make tests/golden/gguf: tiny models of tests/golden/models as GGUF files, written with the `gguf` package.

    tests/golden/make_tiny_gguf.py [--out DIR]

The values of the weights are those of models/NAME/model.safetensors, so models/NAME/golden.safetensors holds for
NAME.gguf too. Names, metadata and the order of rows are what llama.cpp's converter writes: Llama's and SmolLM3's
q and k have row 2j + t of each head where Hugging Face has row t * (head_dim / 2) + j; Llama 3's rope scaling is the
tensor rope_freqs.weight. llama.cpp always leaves rope out of every fourth layer of a SmolLM3, so smollm3 has a
golden file of its own, of the same weights with that setting (this needs torch and transformers).
"""
import argparse
import json
import math
from pathlib import Path

import gguf
import numpy as np
import torch
from safetensors.torch import load_file, save_file

import make_tiny_models as tiny

HERE = Path(__file__).resolve().parent
# name -> type of the matrices; F16 only where the weights are F16 already.
VARIANTS = {"llama2": "F32", "llama31": "BF16", "llama-linear": "BF16", "llama-bias": "F16", "qwen2": "BF16",
            "qwen3": "BF16", "smollm2": "BF16", "smollm3": "BF16"}
ARCHITECTURE = {"llama": "llama", "qwen2": "qwen2", "qwen3": "qwen3", "smollm3": "smollm3"}
INTERLEAVED = {"llama", "smollm3"}
NAMES = {"self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v",
         "self_attn.o_proj": "attn_output", "self_attn.q_norm": "attn_q_norm", "self_attn.k_norm": "attn_k_norm",
         "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up", "mlp.down_proj": "ffn_down",
         "input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm"}
OUTSIDE = {"model.embed_tokens.weight": "token_embd.weight", "model.norm.weight": "output_norm.weight",
           "lm_head.weight": "output.weight"}


def gguf_name(name):
    if name in OUTSIDE:
        return OUTSIDE[name]
    _, _, layer, *module, kind = name.split(".")
    return f"blk.{layer}.{NAMES['.'.join(module)]}.{kind}"


def interleave(rows, heads):
    """Halves to neighbours, head by head: row 2j + t from row t * (head_dim / 2) + j."""
    head_dim = rows.shape[0] // heads
    order = [h * head_dim + t * head_dim // 2 + j for h in range(heads) for j in range(head_dim // 2) for t in range(2)]
    return rows[order]


def rope_factors(config, head_dim):
    """What Llama 3 divides each frequency by."""
    scaling = config["rope_scaling"]
    factor, low, high = (scaling[key] for key in ("factor", "low_freq_factor", "high_freq_factor"))
    context = scaling["original_max_position_embeddings"]
    factors = []
    for i in range(head_dim // 2):
        wavelength = 2 * math.pi * config["rope_theta"] ** (2 * i / head_dim)
        smooth = min(max((context / wavelength - low) / (high - low), 0), 1)
        factors.append(1 / (smooth + (1 - smooth) / factor))
    return np.array(factors, dtype=np.float32)


def write_settings(writer, config, head_dim):
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(config["num_attention_heads"])
    writer.add_head_count_kv(config.get("num_key_value_heads", config["num_attention_heads"]))
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    writer.add_rope_freq_base(config["rope_theta"])
    writer.add_vocab_size(config["vocab_size"])
    if "head_dim" in config:
        writer.add_key_length(head_dim)
        writer.add_value_length(head_dim)
    scaling = config.get("rope_scaling") or {}
    if scaling.get("type") == "linear":
        writer.add_rope_scaling_type(gguf.RopeScalingType.LINEAR)
        writer.add_rope_scaling_factor(scaling["factor"])


def write_model(name, matrix_type, path):
    folder = HERE / "models" / name
    config = json.loads((folder / "config.json").read_text())
    head_dim = config.get("head_dim", config["hidden_size"] // config["num_attention_heads"])
    writer = gguf.GGUFWriter(path, ARCHITECTURE[config["model_type"]])
    write_settings(writer, config, head_dim)
    if config["model_type"] == "llama":
        writer.add_rope_dimension_count(head_dim)
    if (config.get("rope_scaling") or {}).get("rope_type") == "llama3":
        writer.add_tensor("rope_freqs.weight", rope_factors(config, head_dim))
    heads = {"q_proj": config["num_attention_heads"],
             "k_proj": config.get("num_key_value_heads", config["num_attention_heads"])}
    for key, tensor in sorted(load_file(folder / "model.safetensors").items()):
        values = tensor.float().numpy()
        module = key.split(".")[-2]
        if config["model_type"] in INTERLEAVED and module in heads:
            values = interleave(values, heads[module])
        kind = gguf.GGMLQuantizationType[matrix_type if values.ndim == 2 else "F32"]
        stored = gguf.quants.quantize(values, kind)
        assert np.array_equal(gguf.quants.dequantize(stored, kind), values), f"{key} is not exact in {matrix_type}"
        writer.add_tensor(gguf_name(key), stored, raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def write_smollm3_golden(out):
    folder = HERE / "models" / "smollm3"
    words = {**json.loads((folder / "config.json").read_text()), "no_rope_layers": [1, 1, 1, 0]}
    config = tiny.load_config(words, out / ".scratch")
    ids = load_file(folder / "golden.safetensors")["input_ids"]
    logits = tiny.logits_of(config, load_file(folder / "model.safetensors"), ids)
    save_file({"input_ids": ids, "logits": logits}, out / "smollm3.golden.safetensors")
    (out / ".scratch" / "config.json").unlink()
    (out / ".scratch").rmdir()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=HERE / "gguf", help="where the files go")
    out = parser.parse_args().out
    out.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)  # sums in one order
    for name, matrix_type in VARIANTS.items():
        write_model(name, matrix_type, out / f"{name}.gguf")
        print(f"{name:14} {matrix_type}")
    write_smollm3_golden(out)


if __name__ == "__main__":
    main()
