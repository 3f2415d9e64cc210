#!/usr/bin/env python3
"""Make tests/golden/packed: the tiny llama2 as the compressed-tensors package quantizes and packs it.

    tests/golden/make_tiny_packed.py [--out DIR]

Three schemes at once, so that targets are matched by name and by class: attention in 4 bits, symmetric, groups of 32; the
MLP in 3 bits, asymmetric, groups of 4; the last layer's down_proj in 8 bits, whole rows. k_proj is ignored.

    config.json, model.safetensors    what `save_pretrained` of such a model holds
    golden.safetensors                input_ids I64 (1, 72); logits F32 (1, 72, vocabulary) of the unpacked weights
"""
import argparse
import json
import shutil
from pathlib import Path

import torch
from compressed_tensors.compressors import ModelCompressor
from compressed_tensors.quantization import QuantizationConfig, apply_quantization_config
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoModelForCausalLM

HERE = Path(__file__).resolve().parent
SOURCE = HERE / "models" / "llama2"


def scheme(targets, bits, group, symmetric):
    weights = {"num_bits": bits, "type": "int", "symmetric": symmetric, "dynamic": False,
               "strategy": "group" if group else "channel", "group_size": group}
    return {"targets": targets, "weights": weights, "format": "pack-quantized"}


CONFIG = {
    "quant_method": "compressed-tensors", "format": "pack-quantized", "quantization_status": "initialized",
    "config_groups": {"group_0": scheme(["re:.*self_attn.*"], 4, 32, True), "group_1": scheme(["Linear"], 3, 4, False),
                      "group_2": scheme(["model.layers.1.mlp.down_proj"], 8, None, True)},
    "ignore": ["lm_head", "re:.*k_proj"],
}


def choose_scales(linear):
    """Plain min-max scales, exact in bfloat16, and zero points."""
    arguments = linear.quantization_scheme.weights
    rows, inputs = linear.weight.shape
    size = arguments.group_size or inputs
    padded = torch.nn.functional.pad(linear.weight.data, (0, -inputs % size))
    groups = padded.view(rows, -1, size)
    low, high = groups.amin(-1).clamp(max=0), groups.amax(-1).clamp(min=0)
    levels = 2 ** arguments.num_bits - 1
    span = 2 * torch.maximum(-low, high) if arguments.symmetric else high - low
    scale = (span / levels).to(torch.bfloat16).to(linear.weight.dtype)
    linear.weight_scale.data.copy_(scale)
    if not arguments.symmetric:
        zero = torch.round(-low / scale) - 2 ** (arguments.num_bits - 1)
        linear.weight_zero_point.data.copy_(zero.clamp(-2 ** (arguments.num_bits - 1), 2 ** (arguments.num_bits - 1) - 1))


@torch.no_grad()
def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=HERE / "packed", help="where the files go")
    out = parser.parse_args().out
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    torch.set_num_threads(1)  # sums in one order
    model = AutoModelForCausalLM.from_pretrained(SOURCE, dtype=torch.float32, attn_implementation="eager").eval()
    apply_quantization_config(model, QuantizationConfig(**CONFIG))
    for module in model.modules():
        if getattr(module, "quantization_scheme", None):
            choose_scales(module)
    compressor = ModelCompressor.from_pretrained_model(model)
    compressor.compress_model(model)
    save_file({key: value.contiguous() for key, value in model.state_dict().items()}, out / "model.safetensors",
              metadata={"format": "pt"})
    words = json.loads((SOURCE / "config.json").read_text())
    (out / "config.json").write_text(json.dumps(words, indent=2) + "\n")
    compressor.update_config(out)

    judge = AutoModelForCausalLM.from_pretrained(out, dtype=torch.float32, attn_implementation="eager").eval()
    ids = load_file(SOURCE / "golden.safetensors")["input_ids"]
    save_file({"input_ids": ids, "logits": judge(ids).logits}, out / "golden.safetensors")
    for path in out.iterdir():
        path.chmod(0o644)


if __name__ == "__main__":
    main()
